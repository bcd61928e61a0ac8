//! Tables for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::error::CliError;

/// Prints as it is.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    bytes(text.as_bytes())
}

/// Writes as they are.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
        _ => CliError::io("write the output")(error),
    })
}

/// Says something beside the output.
pub(super) fn note(text: &str) {
    // Nowhere to say it if there is no standard error.
    let _ = writeln!(io::stderr(), "uswitch: {text}");
}

/// Prints on one line, as `bridge -j` does.
pub(super) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::io("make JSON")(error.into()))?;
    print(&(text + "\n"))
}

/// Columns under a heading, without lines or colours.
pub(super) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// One thing a line, or none.
pub(super) fn joined<T: ToString>(things: &[T]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// `count` things: "1 port", "3 ports".
pub(super) fn counted(count: usize, one: &str) -> String {
    let plural = match one.strip_suffix('s') {
        Some(_) => format!("{one}es"),
        None => format!("{one}s"),
    };
    format!("{count} {}", if count == 1 { one } else { &plural })
}

/// Seconds as days, hours, minutes: the two largest that matter.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// A rate with an SI prefix, three digits: `1.25 G`.
pub(super) fn scaled(rate: u64) -> String {
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
    fn tables_are_columns_without_trailing_blanks() {
        let rows = [["container1".to_owned(), "up".to_owned()], ["host".to_owned(), "down".to_owned()]];
        assert_eq!(table(["PORT", "STATE"], rows), "PORT        STATE\ncontainer1  up\nhost        down\n");
    }

    #[test]
    fn words() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "port")), ["0 ports", "1 port", "2 ports"]);
        assert_eq!(counted(3, "address"), "3 addresses");
        assert_eq!([5, 65, 3700, 90_061].map(duration), ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn rates() {
        let rates = [0, 999, 1000, 12_340, 123_456, 1_254_000_000].map(scaled);
        assert_eq!(rates, ["0 ", "999 ", "1.00 k", "12.3 k", "123 k", "1.25 G"]);
    }
}
