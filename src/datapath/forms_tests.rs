//! Tests of the two forms of a frame, against copies.

use proptest::prelude::*;

use super::engine::Extent;
use super::forms::{Forms, edited_copy, edited_header};
use crate::switch::{Edit, Egress, PortId};
use crate::sys::arena::HEADROOM;
use crate::wire::{EtherType, VnetHeader};

const TCI: u16 = 0xb00a;

/// A buffer with the frame and its header, as a read leaves it, and the place of the frame.
fn buffer(vnet: VnetHeader, frame: &[u8], with_header: bool) -> (Vec<u8>, Extent) {
    let start = if with_header { HEADROOM + VnetHeader::LEN } else { HEADROOM };
    let mut bytes = vec![0xee; start];
    bytes[start - VnetHeader::LEN..].copy_from_slice(&vnet.emit());
    bytes.extend(frame);
    bytes.extend([0xee; 64]);
    (bytes, Extent { start, length: frame.len() })
}

fn vnet() -> impl Strategy<Value = VnetHeader> {
    (0..2u8, 0..6u8, 0..200u16, any::<u16>(), 18..60u16, 0..20u16).prop_map(
        |(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)| {
            let (hdr_len, csum_start) =
                (if hdr_len < 60 { 0 } else { hdr_len }, csum_start * u16::from(flags));
            VnetHeader { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset }
        },
    )
}

/// The two forms of a frame: received without a tag, with one, or with a priority tag.
fn forms() -> impl Strategy<Value = [Edit; 2]> {
    prop_oneof![
        Just([Edit::None, Edit::Push(TCI)]),
        Just([Edit::Pop, Edit::None]),
        Just([Edit::Pop, Edit::Rewrite(TCI)]),
    ]
}

proptest! {
    #[test]
    fn each_port_gets_its_form(
        vnet in vnet(),
        frame in proptest::collection::vec(any::<u8>(), 18..200),
        with_header: bool,
        forms in forms(),
        tagged in proptest::collection::vec(any::<bool>(), 1..6),
    ) {
        let (mut bytes, extent) = buffer(vnet, &frame, with_header);
        let egress: Vec<_> = (1..).zip(&tagged)
            .map(|(port, tagged)| Egress { port: PortId(port), edit: forms[usize::from(*tagged)] })
            .collect();
        let sent = Forms::of(&mut bytes, extent, &egress, EtherType::S_TAG);
        for Egress { edit, .. } in egress {
            let (vnet, frame) = (edited_header(vnet, edit), edited_copy(&frame, edit, EtherType::S_TAG));
            prop_assert_eq!(sent.slices(&bytes, edit, 0).concat(), frame.clone());
            let with_header = sent.slices(&bytes, edit, VnetHeader::LEN).concat();
            prop_assert_eq!(VnetHeader::parse(&with_header), Some(vnet));
            prop_assert_eq!(&with_header[VnetHeader::LEN..], frame);
        }
    }
}

#[test]
fn edits_insert_remove_and_replace_the_tag() {
    let copy = |frame: &[u8], edit| edited_copy(frame, edit, EtherType::C_TAG);
    let tagged = b"destinsource\x81\x00\xe0\x00\x08\x00payload";
    assert_eq!(copy(tagged, Edit::Pop), b"destinsource\x08\x00payload");
    assert_eq!(copy(tagged, Edit::Rewrite(0xe00a)), b"destinsource\x81\x00\xe0\x0a\x08\x00payload");
    assert_eq!(copy(b"destinsource\x08\x00", Edit::Push(0xe00a)), b"destinsource\x81\x00\xe0\x0a\x08\x00");
    for edit in [Edit::Push(TCI), Edit::Pop, Edit::Rewrite(TCI)] {
        assert_eq!(copy(b"destin", edit), b"destin", "a capture has only these bytes of it");
    }
    let vnet =
        VnetHeader { flags: VnetHeader::NEEDS_CSUM, hdr_len: 66, csum_start: 34, ..VnetHeader::default() };
    for (edit, moved) in [(Edit::Push(TCI), 4), (Edit::Pop, -4), (Edit::Rewrite(TCI), 0)] {
        let edited = edited_header(vnet, edit);
        assert_eq!(
            (edited.hdr_len, edited.csum_start),
            (66_u16.wrapping_add_signed(moved), 34_u16.wrapping_add_signed(moved))
        );
    }
}

#[test]
fn one_form_stays_in_one_piece() {
    for edit in [Edit::None, Edit::Push(TCI), Edit::Pop, Edit::Rewrite(TCI)] {
        let (mut bytes, extent) = buffer(VnetHeader::default(), &[7; 64], true);
        let egress = [1, 2].map(|port| Egress { port: PortId(port), edit });
        let forms = Forms::of(&mut bytes, extent, &egress, EtherType::C_TAG);
        assert!(forms.pieces(edit, VnetHeader::LEN)[1].is_empty(), "{edit:?}");
    }
}
