//! Ethernet (EUI-48) addresses, IEEE 802-2014 clause 8.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 48-bit MAC address, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff, all hosts.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// 00:00:00:00:00:00, which is not valid as a source.
    pub const ZERO: Mac = Mac([0; 6]);

    /// The address of an IP group, which needs no resolution (RFC 1112 §6.4, RFC 2464 §7); `None` for a unicast
    /// address.
    pub const fn of_group(address: IpAddr) -> Option<Mac> {
        match address {
            IpAddr::V4(address) if address.is_broadcast() => Some(Mac::BROADCAST),
            IpAddr::V4(address) if address.is_multicast() => {
                let [_, b, c, d] = address.octets();
                Some(Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
            }
            IpAddr::V6(address) if address.is_multicast() => {
                let [.., a, b, c, d] = address.octets();
                Some(Mac([0x33, 0x33, a, b, c, d]))
            }
            _ => None,
        }
    }

    /// Individual/Group bit: broadcast and multicast (IEEE 802-2014 §8.2.2).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// All zeros.
    pub const fn is_zero(self) -> bool {
        self.in_memory() == 0
    }

    /// 01-80-C2-00-00-00 to -0F: reserved for protocols between neighbours (IEEE 802.1Q-2022 table 8-1).
    pub const fn is_reserved(self) -> bool {
        self.is_within(Mac([0x01, 0x80, 0xc2, 0, 0, 0]), Mac([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]))
    }

    /// Whether the octets are those of `block` where `mask` has ones. Compared in the order of memory, which saves
    /// turning them around.
    const fn is_within(self, block: Mac, mask: Mac) -> bool {
        self.in_memory() & mask.in_memory() == block.in_memory()
    }

    const fn in_memory(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// The address as a number, first octet most significant; the upper 16 bits are zero.
    pub const fn as_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The low 48 bits of `value`, first octet most significant; the inverse of [`Mac::as_u64`].
    pub const fn from_u64(value: u64) -> Mac {
        let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
        Mac([a, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six hexadecimal octets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a MAC address: write six octets like 02:00:00:00:00:01")]
pub struct ParseMacError(String);

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Mac, ParseMacError> {
        let error = || ParseMacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Mac(octets)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_addresses_of_their_own() {
        for (group, mac) in [
            ("224.0.1.2", "01:00:5e:00:01:02"),
            ("239.255.1.2", "01:00:5e:7f:01:02"),
            ("ff02::2", "33:33:00:00:00:02"),
            ("255.255.255.255", "ff:ff:ff:ff:ff:ff"),
        ] {
            assert_eq!(Mac::of_group(group.parse().unwrap()), mac.parse().ok(), "{group}");
        }
        for address in ["172.16.0.1", "fd00::1"] {
            assert_eq!(Mac::of_group(address.parse().unwrap()), None);
        }
    }

    #[test]
    fn text_round_trip() {
        let mac: Mac = "02:00:5e:00:53:ff".parse().unwrap();
        assert_eq!(mac, Mac([0x02, 0x00, 0x5e, 0x00, 0x53, 0xff]));
        assert_eq!(mac.to_string(), "02:00:5e:00:53:ff");
        assert_eq!("02-00-5E-00-53-FF".parse(), Ok(mac));
        assert_eq!(Mac::from_u64(mac.as_u64()), mac);
    }

    #[test]
    fn rejects_malformed_addresses() {
        for text in [
            "",
            "02:00:5e:00:53",
            "02:00:5e:00:53:ff:00",
            "2:0:5e:0:53:ff",
            "02:00:5e:00:53:fg",
            "+2:00:5e:00:53:ff",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn classifies_addresses() {
        assert!(Mac::BROADCAST.is_group() && !Mac::ZERO.is_group() && Mac::ZERO.is_zero());
        assert!(Mac([1, 0x80, 0xc2, 0, 0, 0]).is_reserved() && Mac([1, 0x80, 0xc2, 0, 0, 0xf]).is_reserved());
        assert!(!Mac([1, 0x80, 0xc2, 0, 0, 0x10]).is_reserved());
    }
}
