//! The Ethernet header and its VLAN tags (IEEE 802.3-2022 §3.2, IEEE 802.1Q-2022 §9).

use std::fmt;

use super::{ADDRESSES, ETHERNET_HEADER, MAX_TAGS, Mac, VLAN_TAG};

/// Offsets of the fields in the header.
mod field {
    use std::ops::Range;

    pub(super) const DESTINATION: Range<usize> = 0..6;
    pub(super) const SOURCE: Range<usize> = 6..12;
}

/// An EtherType: the two octets after the addresses, or after a tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: EtherType = EtherType(0x0800);
    /// ARP (RFC 826).
    pub const ARP: EtherType = EtherType(0x0806);
    /// IPv6 (RFC 2464).
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// A customer VLAN tag (802.1Q-2022 table 9-1).
    pub const C_TAG: EtherType = EtherType(0x8100);
    /// A service VLAN tag (802.1Q-2022 table 9-1; formerly 802.1ad).
    pub const S_TAG: EtherType = EtherType(0x88a8);

    /// Lower values are the length of an LLC frame, not a type (802.3-2022 §3.2.6).
    pub const FIRST: u16 = 0x0600;

    /// It is the TPID of a VLAN tag.
    #[inline]
    pub const fn is_vlan(self) -> bool {
        matches!(self, EtherType::C_TAG | EtherType::S_TAG)
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EtherType::IPV4 => f.write_str("IPv4"),
            EtherType::ARP => f.write_str("ARP"),
            EtherType::IPV6 => f.write_str("IPv6"),
            EtherType::C_TAG => f.write_str("802.1Q"),
            EtherType::S_TAG => f.write_str("802.1ad"),
            EtherType(value) => write!(f, "0x{value:04x}"),
        }
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtherType(0x{:04x})", self.0)
    }
}

/// A VLAN tag (802.1Q-2022 §9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// C-TAG or S-TAG.
    pub tpid: EtherType,
    /// Priority (3 bits), drop eligible (1 bit), VLAN identifier (12 bits).
    pub tci: u16,
}

impl VlanTag {
    /// VLAN identifier; zero in a priority tag, which does not select a VLAN.
    #[inline]
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    /// Priority code point, 0 to 7.
    #[inline]
    pub const fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }

    /// Drop eligible indicator (DEI).
    #[inline]
    pub const fn is_drop_eligible(self) -> bool {
        self.tci & 0x1000 != 0
    }

    /// The bytes on the wire.
    pub const fn emit(self) -> [u8; VLAN_TAG] {
        let ([a, b], [c, d]) = (self.tpid.0.to_be_bytes(), self.tci.to_be_bytes());
        [a, b, c, d]
    }

    /// A copy of a frame, with this tag as its outermost one.
    pub fn insert_into(self, frame: &[u8]) -> Vec<u8> {
        let (addresses, rest) = frame.split_at(ADDRESSES.min(frame.len()));
        [addresses, &self.emit(), rest].concat()
    }
}

/// A frame with a whole Ethernet header.
#[derive(Debug, Clone, Copy)]
pub struct EthernetFrame<'a> {
    header: &'a [u8; ETHERNET_HEADER],
    ethertype: EtherType,
    payload: &'a [u8],
}

impl<'a> EthernetFrame<'a> {
    /// The view of `bytes`, from the destination address and without FCS; `None` for a runt, which is
    /// shorter than [`ETHERNET_HEADER`].
    #[inline]
    pub const fn new_checked(bytes: &'a [u8]) -> Option<EthernetFrame<'a>> {
        match bytes.split_first_chunk::<ETHERNET_HEADER>() {
            Some((header @ [.., a, b], payload)) => {
                Some(EthernetFrame { header, ethertype: EtherType(u16::from_be_bytes([*a, *b])), payload })
            }
            None => None,
        }
    }

    /// The same frame without its outermost tag. Offsets in it are those of a frame without it.
    #[inline]
    #[must_use]
    pub fn without_tag(self) -> EthernetFrame<'a> {
        match split_tag(self.ethertype, self.payload) {
            Some((_, ethertype, payload)) => EthernetFrame { ethertype, payload, ..self },
            None => self,
        }
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Mac {
        let mut octets = [0; 6];
        octets.copy_from_slice(&self.header[field::DESTINATION]);
        Mac(octets)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Mac {
        let mut octets = [0; 6];
        octets.copy_from_slice(&self.header[field::SOURCE]);
        Mac(octets)
    }

    /// The outermost EtherType: the TPID if the frame has a tag.
    #[inline]
    pub const fn ethertype(&self) -> EtherType {
        self.ethertype
    }

    /// The outermost VLAN tag, if it is not truncated.
    #[inline]
    pub fn vlan_tag(&self) -> Option<VlanTag> {
        split_tag(self.ethertype(), self.payload).map(|(tag, _, _)| tag)
    }

    /// Everything after the header, including tags.
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Length of the frame without its outermost VLAN tag, Ethernet header included: the length that is
    /// compared with an MTU (802.3-2022 §3.2.7 lets a tagged frame be four octets longer, and so does Linux).
    #[inline]
    pub fn untagged_length(&self) -> usize {
        let length = ETHERNET_HEADER + self.payload.len();
        if self.vlan_tag().is_some() { length - VLAN_TAG } else { length }
    }

    /// The EtherType behind all priority tags (VID 0), and the offset of its payload. A host that is in no
    /// VLAN removes any number of priority tags (802.1Q-2022 §6.9.1; Linux `__netif_receive_skb_core`), so every
    /// check must look behind them. At most [`MAX_TAGS`] are skipped here. A tag with a VLAN identifier, or a truncated
    /// one, ends the search: its TPID is returned.
    #[inline]
    pub fn l3(&self) -> (EtherType, usize) {
        self.skip_tags(|tag| tag.vid() == 0)
    }

    /// The EtherType behind all tags of any VLAN, and the offset of its payload.
    #[inline]
    pub fn innermost(&self) -> (EtherType, usize) {
        self.skip_tags(|_| true)
    }

    /// The network packet of a frame as any receiver that is in no VLAN may take it: behind priority tags
    /// as [`EthernetFrame::l3`], and behind a SNAP header (RFC 1042). `None` if there are more than
    /// [`MAX_TAGS`] priority tags.
    #[inline]
    pub fn network(&self) -> Option<(EtherType, &'a [u8])> {
        if !self.ethertype.is_vlan() && self.ethertype.0 >= EtherType::FIRST {
            return Some((self.ethertype, self.payload));
        }
        self.network_behind_tags()
    }

    fn network_behind_tags(&self) -> Option<(EtherType, &'a [u8])> {
        let (ethertype, at) = self.l3();
        let packet = &self.payload[at - ETHERNET_HEADER..];
        if ethertype.0 < EtherType::FIRST {
            return Some(split_snap(packet).unwrap_or((ethertype, packet)));
        }
        if ethertype.is_vlan() && split_tag(ethertype, packet).is_some_and(|(tag, _, _)| tag.vid() == 0) {
            return None;
        }
        Some((ethertype, packet))
    }

    /// Skips the tags for which `skips` returns true, but not more than [`MAX_TAGS`].
    #[inline]
    fn skip_tags(&self, skips: impl Fn(VlanTag) -> bool) -> (EtherType, usize) {
        let (mut ethertype, mut rest) = (self.ethertype(), self.payload);
        for _ in 0..MAX_TAGS {
            match split_tag(ethertype, rest) {
                Some((tag, inner, behind)) if skips(tag) => (ethertype, rest) = (inner, behind),
                _ => break,
            }
        }
        (ethertype, ETHERNET_HEADER + self.payload.len() - rest.len())
    }
}

/// The EtherType in an LLC and SNAP header with the OUI of RFC 1042 or 802.1H, and its payload.
fn split_snap(bytes: &[u8]) -> Option<(EtherType, &[u8])> {
    let (&[0xaa, 0xaa, 0x03, 0, 0, 0 | 0xf8, a, b], payload) = bytes.split_first_chunk()? else {
        return None;
    };
    Some((EtherType(u16::from_be_bytes([a, b])), payload))
}

/// The tag that `ethertype` announces at the start of `bytes`, the EtherType after it, and its payload;
/// `None` if the tag is missing or truncated.
#[inline]
fn split_tag(ethertype: EtherType, bytes: &[u8]) -> Option<(VlanTag, EtherType, &[u8])> {
    if !ethertype.is_vlan() {
        return None;
    }
    let (&[a, b, c, d], behind) = bytes.split_first_chunk::<VLAN_TAG>()?;
    let tag = VlanTag { tpid: ethertype, tci: u16::from_be_bytes([a, b]) };
    Some((tag, EtherType(u16::from_be_bytes([c, d])), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DST: [u8; 6] = [0xff; 6];
    const SRC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn frame(after_addresses: &[u8]) -> Vec<u8> {
        [&DST[..], &SRC, after_addresses].concat()
    }

    fn l3(after_addresses: &[u8]) -> (EtherType, usize) {
        EthernetFrame::new_checked(&frame(after_addresses)).unwrap().l3()
    }

    #[test]
    fn rejects_runts() {
        assert!(EthernetFrame::new_checked(&[]).is_none());
        assert!(EthernetFrame::new_checked(&[0; 13]).is_none());
        assert!(EthernetFrame::new_checked(&[0; 14]).unwrap().payload().is_empty());
    }

    #[test]
    fn reads_untagged_frame() {
        let bytes = frame(&[0x08, 0x06, 1, 2, 3]);
        let view = EthernetFrame::new_checked(&bytes).unwrap();
        assert_eq!(view.dst(), Mac::BROADCAST);
        assert_eq!(view.src(), Mac(SRC));
        assert_eq!(view.ethertype(), EtherType::ARP);
        assert_eq!(view.vlan_tag(), None);
        assert_eq!(view.payload(), [1, 2, 3]);
        assert_eq!(view.untagged_length(), 17);
        assert_eq!(view.l3(), (EtherType::ARP, 14));
    }

    #[test]
    fn reads_vlan_tag() {
        let bytes = frame(&[0x81, 0x00, 0xb0, 0x64, 0x08, 0x00, 9]);
        let view = EthernetFrame::new_checked(&bytes).unwrap();
        let tag = view.vlan_tag().unwrap();
        assert_eq!((tag.tpid, tag.vid(), tag.priority()), (EtherType::C_TAG, 100, 5));
        assert!(tag.is_drop_eligible());
        assert_eq!(view.ethertype(), EtherType::C_TAG);
        assert_eq!(view.untagged_length(), bytes.len() - 4);
    }

    #[test]
    fn excludes_first_tag_from_untagged_length() {
        let bytes = frame(&[0x88, 0xa8, 0, 1, 0x81, 0x00, 0, 2, 0x08, 0x00]);
        let view = EthernetFrame::new_checked(&bytes).unwrap();
        assert_eq!(view.untagged_length(), bytes.len() - 4);
        assert_eq!(view.innermost(), (EtherType::IPV4, 22));
    }

    #[test]
    fn skips_priority_tags() {
        assert_eq!(l3(&[0x81, 0x00, 0x00, 0x00, 0x08, 0x06]), (EtherType::ARP, 18));
        assert_eq!(l3(&[0x81, 0x00, 0xf0, 0x00, 0x08, 0x06]), (EtherType::ARP, 18), "priority, DEI");
        assert_eq!(l3(&[0x88, 0xa8, 0, 0, 0x81, 0x00, 0xe0, 0, 0x86, 0xdd]), (EtherType::IPV6, 22));
        let many = [[0x81, 0x00, 0, 0]; MAX_TAGS].concat();
        assert_eq!(l3(&[&many[..], &[0x08, 0x06]].concat()), (EtherType::ARP, 14 + 32));
    }

    #[test]
    fn network_limits_tags_and_skips_snap() {
        let network = |after_addresses: &[u8]| {
            let bytes = frame(after_addresses);
            let found = EthernetFrame::new_checked(&bytes).unwrap().network();
            found.map(|(ethertype, packet)| (ethertype, packet.to_vec()))
        };
        let tags = |count| [[0x81, 0x00, 0, 0].repeat(count), vec![0x08, 0x06, 9]].concat();
        assert_eq!(network(&tags(MAX_TAGS)), Some((EtherType::ARP, vec![9])));
        assert_eq!(network(&tags(MAX_TAGS + 1)), None);
        for oui in [0, 0xf8] {
            let snap = [0, 9, 0xaa, 0xaa, 3, 0, 0, oui, 0x08, 0x06, 9];
            assert_eq!(network(&snap), Some((EtherType::ARP, vec![9])));
            let tagged = [&[0x81, 0x00, 0, 0][..], &snap].concat();
            assert_eq!(network(&tagged), Some((EtherType::ARP, vec![9])));
        }
        let llc = [0, 3, 0x42, 0x42, 3];
        assert_eq!(network(&llc), Some((EtherType(3), vec![0x42, 0x42, 3])));
        let vlan = [0x81, 0x00, 0, 5, 0x08, 0x06];
        assert_eq!(network(&vlan), Some((EtherType::C_TAG, vec![0, 5, 0x08, 0x06])));
    }

    #[test]
    fn looks_behind_the_outermost_tag() {
        let bytes = frame(&[0x81, 0x00, 0, 5, 0x88, 0xa8, 0, 0, 0x08, 0x06, 9]);
        let view = EthernetFrame::new_checked(&bytes).unwrap();
        let inner = view.without_tag();
        assert_eq!((inner.dst(), inner.src()), (view.dst(), view.src()));
        assert_eq!((inner.ethertype(), inner.l3()), (EtherType::S_TAG, (EtherType::ARP, 18)));
        assert_eq!(inner.network(), Some((EtherType::ARP, &[9][..])));
        assert_eq!(inner.untagged_length(), bytes.len() - 8);
        let untagged = inner.without_tag();
        assert_eq!((untagged.ethertype(), untagged.payload()), (EtherType::ARP, &[9][..]));
        assert_eq!(untagged.without_tag().payload(), [9]);
    }

    #[test]
    fn stops_at_vlan_tags() {
        assert_eq!(l3(&[0x81, 0x00, 0x00, 0x01, 0x08, 0x06]), (EtherType::C_TAG, 14));
        assert_eq!(l3(&[0x81, 0x00, 0, 0, 0x88, 0xa8, 0, 5, 0x08, 0x06]), (EtherType::S_TAG, 18));
    }

    #[test]
    fn ignores_truncated_tags() {
        for cut in 0..4 {
            let bytes = frame(&[0x81, 0x00, 0, 0, 0x08, 0x06][..2 + cut]);
            let view = EthernetFrame::new_checked(&bytes).unwrap();
            assert_eq!(view.vlan_tag(), None);
            assert_eq!(view.l3(), (EtherType::C_TAG, 14));
            assert_eq!(view.untagged_length(), bytes.len());
        }
    }
}
