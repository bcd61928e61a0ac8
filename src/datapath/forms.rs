//! The forms in which one buffer is sent: tagged with its VLAN, and untagged. The payload is not copied.
//!
//! If all ports get the same form, the frame is edited in its buffer, and each write takes one piece, as without an
//! edit. Else it becomes the tagged form, and the untagged form is written in two pieces: a copy of its header, in the
//! headroom, and what follows the tag.

use std::ops::Range;

use super::engine::Extent;
use crate::switch::{Edit, Egress};
use crate::sys::arena::HEADROOM;
use crate::wire::{ADDRESSES, EtherType, VLAN_TAG, VlanTag, VnetHeader};

/// What an edit moves or copies: the virtio-net header and the addresses.
const HEAD: usize = VnetHeader::LEN + ADDRESSES;

/// Room for both forms, also where the frame was received without a virtio-net header.
const _: () = assert!(VnetHeader::LEN + VLAN_TAG + HEAD <= HEADROOM);

/// The forms of the frame in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forms {
    /// The frame as it is in the buffer, its virtio-net header before it.
    whole: Extent,
    /// The untagged form next to a tagged one.
    split: Option<Split>,
}

/// A form in two pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// The edit that it stands for.
    edit: Edit,
    /// Offset of the virtio-net header, which the addresses follow.
    head: usize,
    /// The rest of the frame.
    rest: Extent,
}

impl From<Extent> for Forms {
    /// The frame as it is, for all ports.
    fn from(whole: Extent) -> Forms {
        Forms { whole, split: None }
    }
}

impl Forms {
    /// Edits the frame at `extent` of a buffer, whose virtio-net header is before it, for all `egress`. Tags get this
    /// TPID.
    #[inline]
    pub fn of(bytes: &mut [u8], extent: Extent, egress: &[Egress], tpid: EtherType) -> Forms {
        if egress.iter().all(|egress| egress.edit == Edit::None) {
            return extent.into();
        }
        Forms::edited(bytes, extent, egress, tpid)
    }

    #[cold]
    fn edited(bytes: &mut [u8], extent: Extent, egress: &[Egress], tpid: EtherType) -> Forms {
        let edits = || egress.iter().map(|egress| egress.edit);
        let first = egress.first().map(|egress| egress.edit).unwrap_or_default();
        if edits().all(|edit| edit == first) {
            return edit_frame(bytes, extent, first, tpid).into();
        }
        // Of two forms, one is tagged: by its edit, or because it is the received frame and the other form is without.
        let tagging = edits().find(|edit| matches!(edit, Edit::Push(_) | Edit::Rewrite(_)));
        let whole = edit_frame(bytes, extent, tagging.unwrap_or_default(), tpid);
        let edit = if matches!(tagging, Some(Edit::Push(_))) { Edit::None } else { Edit::Pop };
        let head = whole.start - VnetHeader::LEN - HEAD;
        bytes.copy_within(whole.start - VnetHeader::LEN..whole.start + ADDRESSES, head);
        move_offsets(&mut bytes[head..], -TAG);
        let rest = ADDRESSES + VLAN_TAG;
        let rest = Extent { start: whole.start + rest, length: whole.length - rest };
        Forms { whole, split: Some(Split { edit, head, rest }) }
    }

    /// Length of the frame in bytes; of the tagged form if there are two.
    pub(super) fn length(&self) -> usize {
        self.whole.length
    }

    /// The form of a copy with this edit, after `header` bytes of its virtio-net header: one piece of the buffer, or
    /// two.
    #[inline]
    pub(super) fn pieces(&self, edit: Edit, header: usize) -> [Range<usize>; 2] {
        match &self.split {
            Some(split) if split.edit == edit => split.pieces(header),
            _ => {
                let Extent { start, length } = self.whole;
                [start - header..start + length, 0..0]
            }
        }
    }

    /// The same as slices of the buffer.
    pub(super) fn slices<'a>(&self, bytes: &'a [u8], edit: Edit, header: usize) -> [&'a [u8]; 2] {
        self.pieces(edit, header).map(|piece| &bytes[piece])
    }
}

impl Split {
    fn pieces(&self, header: usize) -> [Range<usize>; 2] {
        let Extent { start, length } = self.rest;
        [self.head + VnetHeader::LEN - header..self.head + HEAD, start..start + length]
    }
}

/// A frame, or its first bytes, with an edit: the parts of a copy.
struct EditedParts<'a> {
    addresses: &'a [u8],
    tag: Option<[u8; VLAN_TAG]>,
    rest: &'a [u8],
}

impl<'a> EditedParts<'a> {
    fn new(frame: &'a [u8], edit: Edit, tpid: EtherType) -> EditedParts<'a> {
        let tag = |tpid: EtherType, tci| Some(VlanTag { tpid, tci }.emit());
        let (addresses, tag, rest) = match (frame.split_at_checked(ADDRESSES), edit) {
            (Some((addresses, rest)), Edit::Push(tci)) => (addresses, tag(tpid, tci), rest),
            (Some((addresses, [_, _, _, _, rest @ ..])), Edit::Pop) => (addresses, None, rest),
            (Some((addresses, [a, b, _, _, rest @ ..])), Edit::Rewrite(tci)) => {
                (addresses, tag(EtherType(u16::from_be_bytes([*a, *b])), tci), rest)
            }
            _ => (frame, None, &[][..]),
        };
        EditedParts { addresses, tag, rest }
    }

    fn slices(&self) -> [&[u8]; 3] {
        [self.addresses, self.tag.as_ref().map_or(&[], <[u8; VLAN_TAG]>::as_slice), self.rest]
    }
}

/// A copy of a frame, or of its first bytes, with an edit.
pub(super) fn edited_copy(frame: &[u8], edit: Edit, tpid: EtherType) -> Vec<u8> {
    EditedParts::new(frame, edit, tpid).slices().concat()
}

/// Writes a frame with an edit `into` a buffer, as far as there is room.
pub(super) fn write_edited(frame: &[u8], edit: Edit, tpid: EtherType, mut into: &mut [u8]) {
    for part in EditedParts::new(frame, edit, tpid).slices() {
        let (copied, left) = into.split_at_mut(part.len().min(into.len()));
        copied.copy_from_slice(&part[..copied.len()]);
        into = left;
    }
}

/// Bytes by which an inserted tag moves what follows it.
#[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation, reason = "4")]
const TAG: i16 = VLAN_TAG as i16;

/// Edits the frame at `extent`, whose virtio-net header is before it, and returns where it is then.
pub(super) fn edit_frame(bytes: &mut [u8], extent: Extent, edit: Edit, tpid: EtherType) -> Extent {
    let Extent { start, length } = extent;
    let head = start - VnetHeader::LEN;
    match edit {
        Edit::None => extent,
        Edit::Rewrite(tci) => {
            bytes[start + ADDRESSES + 2..start + ADDRESSES + VLAN_TAG].copy_from_slice(&tci.to_be_bytes());
            extent
        }
        Edit::Push(tci) => {
            bytes.copy_within(head..head + HEAD, head - VLAN_TAG);
            move_offsets(&mut bytes[head - VLAN_TAG..], TAG);
            let tag = start + ADDRESSES - VLAN_TAG;
            bytes[tag..tag + VLAN_TAG].copy_from_slice(&VlanTag { tpid, tci }.emit());
            Extent { start: start - VLAN_TAG, length: length + VLAN_TAG }
        }
        Edit::Pop => {
            bytes.copy_within(head..head + HEAD, head + VLAN_TAG);
            move_offsets(&mut bytes[head + VLAN_TAG..], -TAG);
            Extent { start: start + VLAN_TAG, length: length - VLAN_TAG }
        }
    }
}

/// The virtio-net header of a frame with an edit.
pub(super) fn edited_header(vnet: VnetHeader, edit: Edit) -> VnetHeader {
    match edit {
        Edit::None | Edit::Rewrite(_) => vnet,
        Edit::Push(_) => vnet.moved(TAG),
        Edit::Pop => vnet.moved(-TAG),
    }
}

/// Adapts the virtio-net header at the start of `bytes` to a frame whose payload moved.
fn move_offsets(bytes: &mut [u8], by: i16) {
    if let (Some(vnet), Some(header)) = (VnetHeader::parse(bytes), bytes.first_chunk_mut()) {
        *header = vnet.moved(by).emit();
    }
}
