//! ICMP echo (RFC 792), also of ICMPv6 (RFC 4443 §4).

use super::checksum::update;

/// Bytes of an echo message before its data.
pub const ECHO_HEADER: usize = 8;

/// The types of one version's echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    request: u8,
    reply: u8,
}

/// Echo of ICMP.
pub const ECHO: Echo = Echo { request: 8, reply: 0 };
/// Echo of ICMPv6.
pub const ECHO6: Echo = Echo { request: 128, reply: 129 };

impl Echo {
    /// A message is a request: its type, code 0, and a whole header.
    pub fn is_request(self, message: &[u8]) -> bool {
        message.len() >= ECHO_HEADER && message[..2] == [self.request, 0]
    }

    /// Turns a request into its reply, in place. The checksum is updated incrementally (RFC 1624). So data that
    /// was damaged before it arrived still has a wrong checksum in the reply. ICMPv6's also covers the addresses, but
    /// exchanging them does not change the sum. Returns `None`, and changes nothing, if the message is not a
    /// request.
    pub fn reply(self, message: &mut [u8]) -> Option<()> {
        if !self.is_request(message) {
            return None;
        }
        let sum = u16::from_be_bytes([message[2], message[3]]);
        let words = [u16::from_be_bytes([self.request, 0]), u16::from_be_bytes([self.reply, 0])];
        message[0] = self.reply;
        message[2..4].copy_from_slice(&update(sum, words[0], words[1]).to_be_bytes());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::checksum::checksum;
    use super::*;

    fn request(data: &[u8]) -> Vec<u8> {
        let mut message = [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], data].concat();
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    #[test]
    fn reply_keeps_checksum_validity() {
        for data in [&b""[..], b"\xff\xff", b"\xf7\xff\xed\xca", b"odd"] {
            let mut message = request(data);
            ECHO.reply(&mut message).unwrap();
            assert_eq!((message[0], checksum(&message)), (0, 0), "{data:?}");
            assert_eq!(message[4..], request(data)[4..]);
            let mut damaged = request(data);
            damaged[7] ^= 1;
            ECHO.reply(&mut damaged).unwrap();
            assert_ne!(checksum(&damaged), 0);
        }
    }

    #[test]
    fn rejects_non_requests() {
        let whole = request(b"");
        assert!(ECHO.is_request(&whole));
        assert!(!ECHO.is_request(&whole[..7]) && !ECHO6.is_request(&whole));
        for (at, value) in [(0, 0), (0, 3), (1, 1)] {
            let mut other = whole.clone();
            other[at] = value;
            let before = other.clone();
            assert_eq!((ECHO.reply(&mut other), &other), (None, &before));
        }
    }
}
