//! Compares output with a page, although times and rates differ between runs.
//!
//! - Spaces: any number of them equals one.
//! - A measurement (a number with a decimal point or followed by `ms`), a time of day or a date matches any other.
//! - `~7` matches any number.
//! - A MAC address matches any other, but always the same one, and no other matches that.
//! - `...` matches any text within a line. On a line of its own it matches any lines.

/// MAC addresses of a page, and the addresses seen in their place.
#[derive(Debug, Clone, Default)]
pub struct MacMapping(Vec<(String, String)>);

impl MacMapping {
    /// Whether `seen` matches `page`. If not, the addresses are in an undefined state.
    pub fn matches_page(&mut self, page: &[String], seen: &[String]) -> bool {
        let page: Vec<Line> = page.iter().map(|line| in_notation(&tokens(line))).collect();
        let seen: Vec<Line> = seen.iter().map(|line| tokens(line)).collect();
        matches(&page, &seen, self)
    }

    fn map(&mut self, page: &str, seen: &str) -> bool {
        match self.0.iter().find(|(known_page, known_seen)| known_page == page || known_seen == seen) {
            Some((known_page, known_seen)) => known_page == page && known_seen == seen,
            None => {
                self.0.push((page.to_owned(), seen.to_owned()));
                true
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// `...`
    Gap,
    /// `~7`
    AnyNumber,
    Mac(String),
    Measurement,
    /// A number, or several joined by punctuation: 7, 172.16.0.1.
    Number(String),
    Space,
    Other(char),
}

type Line = Vec<Token>;

/// A part of a page: a token of a line, or a line.
trait Part {
    fn is_gap(&self) -> bool;
    fn matches(&self, seen: &Self, macs: &mut MacMapping) -> bool;
}

impl Part for Token {
    fn is_gap(&self) -> bool {
        *self == Token::Gap
    }
    fn matches(&self, seen: &Token, macs: &mut MacMapping) -> bool {
        match (self, seen) {
            (Token::AnyNumber, Token::Number(_) | Token::Measurement) => true,
            (Token::Mac(page), Token::Mac(seen)) => macs.map(page, seen),
            _ => self == seen,
        }
    }
}

impl Part for Line {
    fn is_gap(&self) -> bool {
        *self == [Token::Gap]
    }
    fn matches(&self, seen: &Line, macs: &mut MacMapping) -> bool {
        matches(self, seen, macs)
    }
}

fn matches<P: Part>(page: &[P], seen: &[P], macs: &mut MacMapping) -> bool {
    match (page, seen) {
        ([], _) => seen.is_empty(),
        ([gap, page @ ..], _) if gap.is_gap() => (0..=seen.len()).any(|skipped| {
            let mut attempt = macs.clone();
            let matched = matches(page, &seen[skipped..], &mut attempt);
            if matched {
                *macs = attempt;
            }
            matched
        }),
        ([first, page @ ..], [seen_first, seen @ ..]) => {
            first.matches(seen_first, macs) && matches(page, seen, macs)
        }
        (_, []) => false,
    }
}

/// The tokens of a line.
fn tokens(line: &str) -> Line {
    let mut tokens = Vec::new();
    let mut rest = line.trim();
    let mut in_word = false;
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first.is_whitespace() {
            (Token::Space, rest.len() - rest.trim_start().len())
        } else if let Some(mac) = mac(rest).filter(|_| !in_word) {
            (Token::Mac(mac.to_owned()), mac.len())
        } else if first.is_ascii_digit() && !in_word {
            number(rest)
        } else {
            (Token::Other(first), first.len_utf8())
        };
        in_word = matches!(token, Token::Other(c) if c.is_alphanumeric());
        tokens.push(token);
        rest = &rest[length..];
    }
    tokens
}

/// The MAC address that the text begins with.
fn mac(text: &str) -> Option<&str> {
    let mac = text.get(..17)?;
    let octets = mac.split(':').filter(|octet| octet.len() == 2 && u8::from_str_radix(octet, 16).is_ok());
    let after = &text[17..];
    let goes_on = after.strip_prefix(':').unwrap_or(after).starts_with(|c: char| c.is_ascii_hexdigit());
    (octets.count() == 6 && !goes_on).then_some(mac)
}

/// The number or joined numbers that the text begins with, and their length.
fn number(text: &str) -> (Token, usize) {
    let joined = text.find(|c: char| !c.is_ascii_digit() && !".:-".contains(c)).unwrap_or(text.len());
    let number = text[..joined].trim_end_matches(['.', ':', '-']);
    let shape: String = number.chars().filter(|c| !c.is_ascii_digit()).collect();
    let in_ms = text[number.len()..].trim_start_matches(' ').starts_with("ms");
    let measured = matches!(&*shape, "." | "::." | "--") || shape.is_empty() && in_ms;
    let token = if measured { Token::Measurement } else { Token::Number(number.to_owned()) };
    (token, number.len())
}

/// Replaces the notation of a page by its tokens.
fn in_notation(line: &[Token]) -> Line {
    const DOT: Token = Token::Other('.');
    let mut rest = line;
    let mut read = Vec::new();
    while let [first, ..] = rest {
        let (token, length) = match rest {
            [DOT, DOT, DOT, ..] => (Token::Gap, 3),
            [Token::Other('~'), Token::Number(_) | Token::Measurement, ..] => (Token::AnyNumber, 2),
            _ => (first.clone(), 1),
        };
        read.push(token);
        rest = &rest[length..];
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(page: &str, seen: &str) -> bool {
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        MacMapping::default().matches_page(&lines(page), &lines(seen))
    }

    #[test]
    fn matches_differences_between_runs() {
        for (page, seen) in [
            ("time=0.118 ms, time 0ms", "time=12.5 ms, time 2025ms"),
            ("time=0.118 ms", "time=609 ms"),
            ("12:00:00.000001 ARP", "23:59:59.999999 ARP"),
            ("2026-11-21 12:00:00.001  learned", "2027-01-01 00:00:00.999 learned"),
            ("a  b ", "a b"),
            ("host  ~4  ~440", "host  15  1390"),
            ("4 frames...", "4 frames and more"),
            ("...", ""),
            ("one\n...\nfour", "one\ntwo\nthree\nfour"),
            ("source 02:00:5e:00:53:01: valid", "source 3a:00:5e:00:53:99: valid"),
            ("dev eth0 lladdr 02:00:5e:00:53:01 ... \n...", "dev eth0 lladdr 3a:00:5e:00:53:99 STALE"),
        ] {
            assert!(shown(page, seen), "{page:?} {seen:?}");
        }
    }

    #[test]
    fn rejects_other_differences() {
        for (page, seen) in [
            ("ttl=64", "ttl=63"),
            ("172.16.0.1", "172.16.0.2"),
            ("0.118 ms", "118 s"),
            ("0x0806", "0x0800"),
            ("a", "a\nb"),
            ("a\nb", "a"),
            ("~4 frames", "no frames"),
            ("fd00:172:16::1", "fd00:172:16::2"),
        ] {
            assert!(!shown(page, seen), "{page:?} {seen:?}");
        }
    }

    #[test]
    fn maps_mac_addresses_one_to_one() {
        let page = "02:00:5e:00:53:01 > 02:00:5e:00:53:02\n02:00:5e:00:53:02 > 02:00:5e:00:53:01";
        assert!(shown(page, "3a:00:00:00:00:01 > 3a:00:00:00:00:02\n3a:00:00:00:00:02 > 3a:00:00:00:00:01"));
        assert!(!shown(page, "3a:00:00:00:00:01 > 3a:00:00:00:00:02\n3a:00:00:00:00:03 > 3a:00:00:00:00:01"));
        assert!(!shown(page, "3a:00:00:00:00:01 > 3a:00:00:00:00:01\n3a:00:00:00:00:01 > 3a:00:00:00:00:01"));
    }
}
