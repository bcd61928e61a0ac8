//! VLAN identifiers and ranges of them.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A VLAN identifier, 1 to 4094. (802.1Q-2022 table 9-2: 0 is the priority tag, 4095 is reserved.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vid(NonZeroU16);

impl Vid {
    /// The largest one.
    pub const MAX: u16 = 4094;
    /// The PVID of a new port, unless the switch has another default.
    pub const DEFAULT: Vid = Vid(NonZeroU16::MIN);

    /// The identifier; `None` of 0, 4095 and larger numbers.
    pub const fn new(number: u16) -> Option<Vid> {
        match NonZeroU16::new(number) {
            Some(vid) if number <= Vid::MAX => Some(Vid(vid)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// Every identifier.
    pub fn all() -> impl Iterator<Item = Vid> {
        (1..=Vid::MAX).filter_map(Vid::new)
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Text is not a VLAN or a range of VLANs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseVidError {
    /// Not a number.
    #[error("'{0}' is not a VLAN: use a number from 1 to 4094, or a range such as 10-20")]
    NotANumber(String),
    /// 0, 4095, or larger.
    #[error("VLAN {0} does not exist: use a number from 1 to 4094")]
    OutOfRange(u64),
    /// A range whose end is below its start.
    #[error("the VLAN range {0}-{1} is inverted: use {1}-{0}")]
    Inverted(Vid, Vid),
}

impl FromStr for Vid {
    type Err = ParseVidError;

    fn from_str(text: &str) -> Result<Vid, ParseVidError> {
        let number: u64 = match text.parse() {
            Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => return Err(ParseVidError::NotANumber(text.to_owned())),
        };
        let vid = u16::try_from(number).ok().and_then(Vid::new);
        vid.ok_or(ParseVidError::OutOfRange(number))
    }
}

impl Serialize for Vid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.get())
    }
}

impl<'de> Deserialize<'de> for Vid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Vid, D::Error> {
        let number = u64::deserialize(deserializer)?;
        let vid = u16::try_from(number).ok().and_then(Vid::new);
        vid.ok_or_else(|| D::Error::custom(ParseVidError::OutOfRange(number)))
    }
}

/// VLANs with consecutive identifiers, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VidRange {
    first: Vid,
    last: Vid,
}

impl VidRange {
    /// The range from `first` to `last`.
    ///
    /// # Errors
    /// It is inverted.
    pub fn new(first: Vid, last: Vid) -> Result<VidRange, ParseVidError> {
        if first <= last { Ok(VidRange { first, last }) } else { Err(ParseVidError::Inverted(first, last)) }
    }

    /// The first identifier.
    pub const fn first(self) -> Vid {
        self.first
    }

    /// The last identifier.
    pub const fn last(self) -> Vid {
        self.last
    }

    /// The only identifier, if it is one.
    pub fn single(self) -> Option<Vid> {
        (self.first == self.last).then_some(self.first)
    }

    /// Whether an identifier is one of these.
    pub fn contains(self, vid: Vid) -> bool {
        (self.first..=self.last).contains(&vid)
    }

    /// Its identifiers, in order.
    pub fn iter(self) -> impl Iterator<Item = Vid> {
        let range: RangeInclusive<u16> = self.first.get()..=self.last.get();
        range.filter_map(Vid::new)
    }
}

impl From<Vid> for VidRange {
    fn from(vid: Vid) -> VidRange {
        VidRange { first: vid, last: vid }
    }
}

impl Serialize for VidRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VidRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VidRange, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// `10` or `10-20`, as in `bridge vlan`.
impl FromStr for VidRange {
    type Err = ParseVidError;

    fn from_str(text: &str) -> Result<VidRange, ParseVidError> {
        match text.split_once('-') {
            Some((first, last)) if !first.is_empty() && !last.is_empty() => {
                VidRange::new(first.parse()?, last.parse()?)
            }
            Some(_) => Err(ParseVidError::NotANumber(text.to_owned())),
            None => Ok(text.parse::<Vid>()?.into()),
        }
    }
}

impl fmt::Display for VidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(vid) => vid.fmt(f),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<VidRange>().unwrap_err().to_string()
    }

    #[test]
    fn reads_numbers_and_ranges() {
        for text in ["1", "4094", "10-20", "1-4094"] {
            assert_eq!(text.parse::<VidRange>().unwrap().to_string(), text);
        }
        assert_eq!("7-7".parse::<VidRange>().unwrap().to_string(), "7");
        let vids: Vec<_> = "10-12".parse::<VidRange>().unwrap().iter().map(Vid::get).collect();
        assert_eq!(vids, [10, 11, 12]);
        assert_eq!(Vid::all().count(), 4094);
    }

    #[test]
    fn explains_what_it_refuses() {
        for text in ["0", "4095", "65536", "99999999999", "1-4095"] {
            assert!(refusal(text).ends_with("does not exist: use a number from 1 to 4094"), "{text}");
        }
        for text in ["", "ten", "-", "1-", "-2", "1-2-3", "+5", "5 ", "99999999999999999999"] {
            assert!(refusal(text).contains("is not a VLAN: use a number from 1 to 4094"), "{text}");
        }
        assert_eq!(refusal("20-10"), "the VLAN range 20-10 is inverted: use 10-20");
    }
}
