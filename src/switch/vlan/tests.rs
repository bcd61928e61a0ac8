use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::switch::Edit;
use crate::wire::EthernetFrame;

const P0: PortId = PortId(0);
const P1: PortId = PortId(1);
const P2: PortId = PortId(2);

fn vid(number: u16) -> Vid {
    Vid::new(number).unwrap()
}

fn filtering() -> Vlans {
    Vlans::new(VlanSettings { filtering: true, ..VlanSettings::default() })
}

/// P0 is an access port of VLAN 10, P1 a trunk of 10 to 12, P2 a trunk whose native VLAN is 10.
fn lab() -> Vlans {
    let vlans = filtering();
    vlans.add(P0, vid(10), Member::ACCESS);
    for number in 10..=12 {
        vlans.add(P1, vid(number), Member::TAGGED);
        vlans.add(P2, vid(number), Member::TAGGED);
    }
    vlans.add(P2, vid(10), Member::ACCESS);
    vlans
}

/// A frame with these tags (TPID, control information), outermost first.
fn frame(tags: &[(u16, u16)]) -> Vec<u8> {
    let tags = tags.iter().flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()]);
    [&[2; 12][..], &tags.collect::<Vec<_>>().concat(), &[0x08, 0x00], &[0; 46]].concat()
}

fn classify(vlans: &Vlans, port: PortId, tags: &[(u16, u16)]) -> Result<Option<Classified>, VlanFault> {
    vlans.classify(port, &EthernetFrame::new_checked(&frame(tags)).unwrap())
}

/// The VLAN, and the edits towards P0, P1 and P2.
fn decision(vlans: &Vlans, port: PortId, tags: &[(u16, u16)]) -> (u16, [Edit; 3]) {
    let class = classify(vlans, port, tags).unwrap().unwrap();
    (class.vid.get(), [P0, P1, P2].map(|egress| vlans.edit(class, egress)))
}

#[test]
fn untagged_frames_belong_to_the_pvid() {
    let expected = (10, [Edit::None, Edit::Push(10), Edit::None]);
    assert_eq!(decision(&lab(), P0, &[]), expected);
    assert_eq!(decision(&lab(), P2, &[]), expected);
    assert_eq!(classify(&lab(), P1, &[]), Err(VlanFault::NoPvid));
    assert_eq!(classify(&lab(), PortId(4095), &[]), Err(VlanFault::NoPvid));
    assert_eq!(classify(&lab(), PortId(u16::MAX), &[]), Err(VlanFault::NoPvid));
}

#[test]
fn tagged_frames_belong_to_the_vlan_of_their_tag() {
    assert_eq!(decision(&lab(), P1, &[(0x8100, 0xb00a)]), (10, [Edit::Pop, Edit::None, Edit::Pop]));
    assert_eq!(decision(&lab(), P1, &[(0x8100, 11)]), (11, [Edit::None; 3]));
    // An access port accepts tagged frames of its VLAN, as in the Linux bridge.
    assert_eq!(decision(&lab(), P0, &[(0x8100, 10)]).0, 10);
    assert_eq!(classify(&lab(), P0, &[(0x8100, 11)]), Err(VlanFault::NotMember(11)));
    assert_eq!(classify(&lab(), P1, &[(0x8100, 0xffff)]), Err(VlanFault::NotMember(4095)));
}

#[test]
fn copies_lose_only_the_tag_of_their_vlan() {
    let untagged = |port, tags: &[_]| {
        classify(&lab(), port, tags).unwrap().unwrap().untagged_bytes(&frame(tags)).into_vec()
    };
    assert_eq!(untagged(P1, &[(0x8100, 10), (0x8100, 11)]), frame(&[(0x8100, 11)]));
    assert_eq!(untagged(P0, &[(0x8100, 0)]), frame(&[]));
    assert_eq!(untagged(P0, &[]), frame(&[]));
    assert_eq!(untagged(P0, &[(0x88a8, 11)]), frame(&[(0x88a8, 11)]));
}

#[test]
fn priority_tags_select_no_vlan_and_keep_their_priority() {
    let edits = [Edit::Pop, Edit::Rewrite(0xf00a), Edit::Pop];
    assert_eq!(decision(&lab(), P0, &[(0x8100, 0xf000)]), (10, edits));
    assert_eq!(classify(&lab(), P1, &[(0x8100, 0xf000)]), Err(VlanFault::NoPvid));
}

#[test]
fn tags_of_another_protocol_are_payload() {
    let expected = (10, [Edit::None, Edit::Push(10), Edit::None]);
    assert_eq!(decision(&lab(), P0, &[(0x88a8, 11)]), expected);
    let settings = VlanSettings {
        filtering: true,
        protocol: VlanProtocol::Dot1ad,
        default_pvid: None,
        stats_per_port: false,
    };
    let provider = Vlans::new(settings);
    provider.add(P0, vid(10), Member::ACCESS);
    provider.add(P1, vid(10), Member::TAGGED);
    assert_eq!(decision(&provider, P0, &[(0x8100, 77)]).1[1], Edit::Push(10));
    assert_eq!(
        decision(&provider, P1, &[(0x88a8, 10), (0x8100, 77)]),
        (10, [Edit::Pop, Edit::None, Edit::None])
    );
}

#[test]
fn truncated_tags_select_no_vlan() {
    let bytes = &frame(&[(0x8100, 11)])[..17];
    let class = lab().classify(P0, &EthernetFrame::new_checked(bytes).unwrap());
    assert_eq!(class.unwrap().unwrap().vid, vid(10));
}

#[test]
fn without_filtering_nothing_is_classified() {
    let vlans = Vlans::default();
    for tags in [&[][..], &[(0x8100, 11)], &[(0x8100, 4095)]] {
        assert_eq!(classify(&vlans, P0, tags), Ok(None));
    }
}

#[test]
fn new_ports_are_in_the_default_vlan() {
    let vlans = filtering();
    vlans.add_port(P0);
    assert_eq!(vlans.of_port(P0).collect::<Vec<_>>(), [(vid(1), Member::ACCESS)]);
    vlans.add_port(P1);
    assert_eq!(vlans.members(vid(1)).collect::<Vec<_>>(), [P0, P1]);
    vlans.remove_port(P0);
    assert_eq!(vlans.of_port(P0).count(), 0);
    assert_eq!(vlans.members(vid(1)).collect::<Vec<_>>(), [P1]);
    let without = Vlans::new(VlanSettings { default_pvid: None, ..*vlans.settings() });
    without.add_port(P0);
    assert_eq!(without.of_port(P0).count(), 0);
}

#[test]
fn one_vlan_is_the_pvid() {
    let vlans = filtering();
    vlans.add_port(P0);
    vlans.add(P0, vid(20), Member::ACCESS);
    let untagged = Member { untagged: true, ..Member::TAGGED };
    assert_eq!(vlans.of_port(P0).collect::<Vec<_>>(), [(vid(1), untagged), (vid(20), Member::ACCESS)]);
    vlans.add(P0, vid(20), Member::TAGGED);
    assert_eq!(vlans.pvid(P0), None, "added again without `pvid`");
    vlans.add(P0, vid(20), Member::ACCESS);
    assert!(vlans.remove(P0, vid(20)) && !vlans.remove(P0, vid(20)));
    assert_eq!(vlans.pvid(P0), None);
}

#[test]
fn memory_is_used_with_the_first_member() {
    let vlans = lab();
    let made = || vlans.vlans.iter().filter(|vlan| vlan.get().is_some()).count();
    assert_eq!(made(), 3);
    Vid::all().for_each(|vid| vlans.add(PortId(4095), vid, Member::TAGGED));
    assert_eq!(made(), 4094);
    assert!(made() * std::mem::size_of::<Vlan>() < 5 << 20);
    assert_eq!(vlans.of_port(PortId(4095)).count(), 4094);
}

#[derive(Debug, Clone)]
enum Change {
    Add(u16, u16, Member),
    Remove(u16, u16),
    RemovePort(u16),
}

fn change() -> impl Strategy<Value = Change> {
    let place = || (0..4u16, prop_oneof![1..5u16, Just(4094)]);
    let member = (any::<bool>(), any::<bool>()).prop_map(|(pvid, untagged)| Member { pvid, untagged });
    prop_oneof![
        6 => (place(), member).prop_map(|((port, vid), member)| Change::Add(port, vid, member)),
        3 => place().prop_map(|(port, vid)| Change::Remove(port, vid)),
        1 => (0..4u16).prop_map(Change::RemovePort),
    ]
}

proptest! {
    /// Compared with a list of memberships.
    #[test]
    fn memberships_are_those_of_a_list(changes in proptest::collection::vec(change(), 0..60)) {
        let (vlans, mut model) = (filtering(), BTreeMap::<(u16, u16), Member>::new());
        for change in changes {
            match change {
                Change::Add(port, number, member) => {
                    vlans.add(PortId(port), vid(number), member);
                    if member.pvid {
                        model.iter_mut().filter(|(key, _)| key.0 == port).for_each(|(_, m)| m.pvid = false);
                    }
                    model.insert((port, number), member);
                }
                Change::Remove(port, number) => {
                    let removed = model.remove(&(port, number)).is_some();
                    prop_assert_eq!(vlans.remove(PortId(port), vid(number)), removed);
                }
                Change::RemovePort(port) => {
                    vlans.remove_port(PortId(port));
                    model.retain(|key, _| key.0 != port);
                }
            }
        }
        for port in 0..4 {
            let found: Vec<_> = vlans.of_port(PortId(port)).map(|(vid, m)| ((port, vid.get()), m)).collect();
            let expected: Vec<_> =
                model.iter().filter(|(key, _)| key.0 == port).map(|(key, m)| (*key, *m)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
