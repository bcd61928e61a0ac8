//! ARP for IPv4 over Ethernet (RFC 826; probes and announcements RFC 5227).

use std::net::Ipv4Addr;

use super::Mac;

/// Where the fields are.
mod field {
    use std::ops::Range;

    pub(super) const HARDWARE_TYPE: Range<usize> = 0..2;
    pub(super) const PROTOCOL_TYPE: Range<usize> = 2..4;
    pub(super) const LENGTHS: Range<usize> = 4..6;
    pub(super) const OPERATION: Range<usize> = 6..8;
    pub(super) const SENDER_MAC: Range<usize> = 8..14;
    pub(super) const SENDER_IP: Range<usize> = 14..18;
    pub(super) const TARGET_MAC: Range<usize> = 18..24;
    pub(super) const TARGET_IP: Range<usize> = 24..28;
}

const ETHERNET: [u8; 2] = 1u16.to_be_bytes();
const IPV4: [u8; 2] = super::EtherType::IPV4.0.to_be_bytes();
/// Bytes of a MAC and of an IPv4 address.
const LENGTHS: [u8; 2] = [6, 4];

/// An ARP message, after the Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// [`Arp::REQUEST`], [`Arp::REPLY`] or another.
    pub operation: u16,
    /// The sender's MAC.
    pub sender_mac: Mac,
    /// The sender's address; unspecified in a probe (RFC 5227 §1.1).
    pub sender_ip: Ipv4Addr,
    /// The target's MAC; ignored in a request.
    pub target_mac: Mac,
    /// The target's address.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// Bytes of a message.
    pub const LEN: usize = 28;
    /// "Who has the target address?"
    pub const REQUEST: u16 = 1;
    /// "I, the sender, have the sender address."
    pub const REPLY: u16 = 2;
    /// The request of RARP (RFC 903).
    pub const REVERSE_REQUEST: u16 = 3;
    /// The reply of RARP.
    pub const REVERSE_REPLY: u16 = 4;

    /// The message at the start of `bytes`; `None` if it is truncated, or not about six-byte hardware and IPv4
    /// addresses. The hardware type is not checked: receivers accept different ones (Linux: 1 and 6),
    /// and a check must not see less than a receiver.
    pub fn parse(bytes: &[u8]) -> Option<Arp> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk()?;
        if bytes[field::PROTOCOL_TYPE] != IPV4 || bytes[field::LENGTHS] != LENGTHS {
            return None;
        }
        Some(Arp {
            operation: u16::from_be_bytes(array(&bytes[field::OPERATION])),
            sender_mac: Mac(array(&bytes[field::SENDER_MAC])),
            sender_ip: array::<4>(&bytes[field::SENDER_IP]).into(),
            target_mac: Mac(array(&bytes[field::TARGET_MAC])),
            target_ip: array::<4>(&bytes[field::TARGET_IP]).into(),
        })
    }

    /// The message's bytes.
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[field::HARDWARE_TYPE].copy_from_slice(&ETHERNET);
        bytes[field::PROTOCOL_TYPE].copy_from_slice(&IPV4);
        bytes[field::LENGTHS].copy_from_slice(&LENGTHS);
        bytes[field::OPERATION].copy_from_slice(&self.operation.to_be_bytes());
        bytes[field::SENDER_MAC].copy_from_slice(&self.sender_mac.0);
        bytes[field::SENDER_IP].copy_from_slice(&self.sender_ip.octets());
        bytes[field::TARGET_MAC].copy_from_slice(&self.target_mac.0);
        bytes[field::TARGET_IP].copy_from_slice(&self.target_ip.octets());
        bytes
    }
}

/// Copies `bytes`, which are `N`.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Arp = Arp {
        operation: Arp::REQUEST,
        sender_mac: Mac([2, 0, 0, 0, 0, 1]),
        sender_ip: Ipv4Addr::UNSPECIFIED,
        target_mac: Mac::ZERO,
        target_ip: Ipv4Addr::new(192, 0, 2, 1),
    };

    #[test]
    fn round_trip() {
        let other = Arp { operation: 0xabcd, sender_ip: Ipv4Addr::BROADCAST, ..PROBE };
        for arp in [PROBE, other] {
            assert_eq!(Arp::parse(&arp.emit()), Some(arp));
        }
    }

    #[test]
    fn rejects_non_ipv4_arp() {
        let good = PROBE.emit();
        assert_eq!(Arp::parse(&good[..Arp::LEN - 1]), None);
        for at in 2..6 {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(Arp::parse(&bad), None, "byte {at}");
        }
        let mut token_ring = good;
        token_ring[1] = 6;
        assert_eq!(Arp::parse(&token_ring), Some(PROBE));
    }
}
