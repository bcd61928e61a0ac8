//! The VLAN of a received frame, and its tag when it leaves.

use std::sync::atomic::Ordering;

use super::{Vid, Vlans};
use crate::switch::{DropReason, Edit, PortId};
use crate::wire::{ADDRESSES, EtherType, EthernetFrame, VLAN_TAG};

/// A frame whose VLAN is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classified {
    /// Its VLAN.
    pub vid: Vid,
    /// The TPID of tags of the switch.
    pub tpid: EtherType,
    /// How it was received.
    received: ReceivedTag,
    /// The control information of its tag in this VLAN (802.1Q-2022 clause 9.6). Priority and DEI are those of the
    /// received tag.
    tci: u16,
}

impl Classified {
    /// The frame without the tag of its VLAN.
    pub fn untagged<'a>(&self, frame: EthernetFrame<'a>) -> EthernetFrame<'a> {
        if self.is_untagged() { frame } else { frame.without_tag() }
    }

    /// Whether it was received without a tag of the switch.
    pub fn is_untagged(&self) -> bool {
        self.received == ReceivedTag::Untagged
    }

    /// The length in bytes of the received frame without the tag of its VLAN.
    pub(super) fn untagged_length(&self, frame: usize) -> u64 {
        frame.saturating_sub(self.tag_length()) as u64
    }

    /// The length of that tag in the received frame.
    fn tag_length(&self) -> usize {
        if self.is_untagged() { 0 } else { VLAN_TAG }
    }

    /// A copy of the received bytes without the tag of its VLAN.
    pub fn untagged_bytes(&self, frame: &[u8]) -> Box<[u8]> {
        let (addresses, rest) = frame.split_at(ADDRESSES.min(frame.len()));
        [addresses, rest.get(self.tag_length()..).unwrap_or_default()].concat().into()
    }
}

/// The tag with which a frame was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReceivedTag {
    Untagged,
    /// VID 0.
    PriorityTagged,
    Tagged,
}

/// Why a frame does not belong to a VLAN of its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VlanFault {
    /// The port is not a member of the VLAN in the tag.
    NotMember(u16),
    /// The frame has no VLAN identifier, and the port no PVID.
    NoPvid,
}

impl VlanFault {
    /// The reason that is counted.
    pub const fn reason(self) -> DropReason {
        match self {
            VlanFault::NotMember(_) => DropReason::VlanNotMember,
            VlanFault::NoPvid => DropReason::NoPvid,
        }
    }
}

impl Vlans {
    /// The VLAN of a frame received on `port` (`__allowed_ingress` in `net/bridge/br_vlan.c`); `None` if the switch
    /// does not filter VLANs.
    ///
    /// # Errors
    /// The frame is not admitted.
    #[inline]
    pub fn classify(&self, port: PortId, frame: &EthernetFrame<'_>) -> Result<Option<Classified>, VlanFault> {
        if self.settings.filtering { self.classify_filtered(port, frame).map(Some) } else { Ok(None) }
    }

    fn classify_filtered(&self, port: PortId, frame: &EthernetFrame<'_>) -> Result<Classified, VlanFault> {
        let tag = frame.vlan_tag().filter(|tag| tag.tpid == self.tpid());
        let (received, tci) = match tag {
            None => (ReceivedTag::Untagged, self.pvid(port).ok_or(VlanFault::NoPvid)?.get()),
            Some(tag) if tag.vid() == 0 => {
                (ReceivedTag::PriorityTagged, tag.tci | self.pvid(port).ok_or(VlanFault::NoPvid)?.get())
            }
            Some(tag) => (ReceivedTag::Tagged, tag.tci),
        };
        let number = tci & Self::VID_MASK;
        match Vid::new(number) {
            Some(vid) if self.is_member(port, vid) => {
                Ok(Classified { vid, tpid: self.tpid(), received, tci })
            }
            _ => Err(VlanFault::NotMember(number)),
        }
    }

    /// The VID in a tag's control information.
    const VID_MASK: u16 = 0x0fff;

    /// The VLAN of untagged frames of a port.
    #[inline]
    pub fn pvid(&self, port: PortId) -> Option<Vid> {
        Vid::new(self.pvids.get(port.index())?.load(Ordering::Acquire))
    }

    /// The VLAN of the untagged frames of the host port, where the addresses of the switch's gateway are.
    #[inline]
    pub fn host_vid(&self) -> Option<Vid> {
        self.pvid(PortId(self.host.load(Ordering::Acquire)))
    }

    /// How a frame's copy for a member of its VLAN differs from the received frame (`br_handle_vlan`).
    #[inline]
    pub fn edit(&self, frame: Classified, egress: PortId) -> Edit {
        match (frame.received, self.is_untagged(egress, frame.vid)) {
            (ReceivedTag::Untagged, true) | (ReceivedTag::Tagged, false) => Edit::None,
            (ReceivedTag::Untagged, false) => Edit::Push(frame.tci),
            (ReceivedTag::PriorityTagged, false) => Edit::Rewrite(frame.tci),
            (ReceivedTag::PriorityTagged | ReceivedTag::Tagged, true) => Edit::Pop,
        }
    }
}
