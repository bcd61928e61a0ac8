//! Frames that the tests build.

use uswitch::wire::Mac;

/// A whole frame without FCS.
pub type Frame = Vec<u8>;

/// A group address for documentation (RFC 9542 §2.1.2).
pub const GROUP: Mac = Mac([0x01, 0x00, 0x5e, 0x90, 0x10, 0x00]);

/// A unicast address for documentation (RFC 9542 §2.1.1).
pub const fn mac(last: u8) -> Mac {
    Mac([0x00, 0x00, 0x5e, 0x00, 0x53, last])
}

/// EtherType for local experiments (IEEE 802-2014 §9.2.3), which the kernel ignores.
pub const TEST_ETHERTYPE: u16 = 0x88b5;

/// A frame of at least the minimum length (802.3 clause 3.2.8) with [`TEST_ETHERTYPE`]; `text` distinguishes
/// it from others.
pub fn frame(destination: Mac, source: Mac, text: &str) -> Frame {
    let mut frame = ethernet(destination, source, TEST_ETHERTYPE, text.as_bytes());
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A frame with these fields, without padding.
pub fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Frame {
    [&destination.0, &source.0, &ethertype.to_be_bytes()[..], payload].concat()
}

/// The frame with an 802.1Q tag (priority 0) inserted.
pub fn tagged(frame: &Frame, vid: u16) -> Frame {
    const TPID: u16 = 0x8100;
    let (addresses, rest) = frame.split_at(12);
    [addresses, &TPID.to_be_bytes(), &vid.to_be_bytes(), rest].concat()
}
