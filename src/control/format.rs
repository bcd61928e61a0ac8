//! Formats counts, times and rates for people.

/// A count with its noun: "1 port", "3 ports".
pub(crate) fn counted(count: usize, one: &str) -> String {
    let plural = match (one.strip_suffix('y'), one.ends_with('s')) {
        (Some(stem), _) => format!("{stem}ies"),
        (None, true) => format!("{one}es"),
        (None, false) => format!("{one}s"),
    };
    format!("{count} {}", if count == 1 { one } else { &plural })
}

/// Seconds as days, hours and minutes: the two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// A rate with an SI prefix, three digits: `1.25 G`.
pub(crate) fn scaled(rate: u64) -> String {
    const PREFIXES: [(&str, u64); 4] =
        [("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1000)];
    let Some((prefix, unit)) = PREFIXES.into_iter().find(|(_, unit)| rate >= *unit) else {
        return format!("{rate} ");
    };
    let hundredths = rate / (unit / 100);
    match hundredths {
        0..1000 => format!("{}.{:02} {prefix}", hundredths / 100, hundredths % 100),
        1000..10_000 => format!("{}.{} {prefix}", hundredths / 100, hundredths / 10 % 10),
        _ => format!("{} {prefix}", hundredths / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "port")), ["0 ports", "1 port", "2 ports"]);
        assert_eq!(counted(3, "address"), "3 addresses");
        assert_eq!([1, 2].map(|n| counted(n, "entry")), ["1 entry", "2 entries"]);
        assert_eq!([5, 65, 3700, 90_061].map(duration), ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn rates() {
        let rates = [0, 999, 1000, 12_340, 123_456, 1_254_000_000].map(scaled);
        assert_eq!(rates, ["0 ", "999 ", "1.00 k", "12.3 k", "123 k", "1.25 G"]);
    }
}
