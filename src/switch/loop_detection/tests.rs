//! The detector on a virtual clock, and the switch with it.

use proptest::prelude::*;

use super::*;
use crate::switch::{Frame, Gateway, Identity, Port, SwitchConfig, Verdict};
use crate::wire::VnetHeader;

const HOME: PortId = PortId(1);
const LEFT: PortId = PortId(2);
const RIGHT: PortId = PortId(3);
const OWN: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);
const NESTED: Mac = Mac([2, 0, 0x5e, 0, 0x53, 0x77]);

/// Each port has an assigned MAC; that of [`HOME`] is [`OWN`].
fn detector() -> LoopDetector {
    let mut detector = LoopDetector::new(7);
    for port in [HOME, LEFT, RIGHT] {
        let [low, _] = port.0.to_le_bytes();
        detector.assign(port, Some(Mac([2, 0, 0x5e, 0, 0x53, low])));
    }
    detector
}

/// Moves an address along these ports. Returns the blocked port, if one is.
fn moves(detector: &mut LoopDetector, now: Tick, mac: Mac, along: &[PortId]) -> Option<PortId> {
    along
        .windows(2)
        .find_map(|pair| detector.note(now, pair[1], mac, Evidence::Moved { from: pair[0], in_use: false }))
}

/// A frame of [`HOME`], and its copies that come back on these ports, `times` times.
fn sent_back(times: usize, back: &[PortId]) -> Vec<PortId> {
    std::iter::repeat_n([&[HOME], back].concat(), times).flatten().chain([HOME]).collect()
}

#[test]
fn a_reflector_is_blocked_after_a_few_flaps() {
    for mac in [OWN, NESTED] {
        let mut detector = detector();
        let often = usize::from(FLAPS);
        assert_eq!(
            moves(&mut detector, Tick(50), mac, &sent_back(often, &[LEFT])),
            None,
            "the first is none"
        );
        assert_eq!(moves(&mut detector, Tick(51), mac, &[HOME, LEFT]), Some(LEFT));
        let block = Block { port: LEFT, mac, other: HOME, until: Tick(61), seconds: SHORTEST };
        assert_eq!(detector.take_new(), [block]);
        assert_eq!((detector.take_new(), detector.next_expiry()), (vec![], Some(Tick(61))));
        assert_eq!((detector.expire(Tick(60)), detector.expire(Tick(61))), (vec![], vec![block]));
        assert_eq!(detector.next_expiry(), None);
    }
}

#[test]
fn one_port_of_a_loop_is_blocked_also_if_the_sender_is_silent() {
    let mut detector = detector();
    let around: Vec<PortId> = [HOME].into_iter().chain([LEFT, RIGHT].repeat(20)).collect();
    let first = moves(&mut detector, Tick(50), OWN, &around);
    assert!([LEFT, RIGHT].map(Some).contains(&first), "{first:?}");
    assert_eq!(moves(&mut detector, Tick(54), OWN, &around), None, "frames on their way");
    assert_eq!(detector.take_new().len(), 1);
    assert!(moves(&mut detector, Tick(55), OWN, &sent_back(6, &[LEFT, RIGHT])).is_some(), "another loop");
}

#[test]
fn the_same_port_of_a_loop_is_blocked_again() {
    let mut detector = detector();
    let mut now = Tick(50);
    let first = moves(&mut detector, now, OWN, &[HOME, LEFT, RIGHT].repeat(10));
    for seconds in [SHORTEST, 2 * SHORTEST, 4 * SHORTEST] {
        now = detector.next_expiry().unwrap();
        assert_eq!(detector.expire(now)[0].seconds, seconds);
        assert_eq!(moves(&mut detector, now, NESTED, &[HOME, RIGHT, LEFT].repeat(10)), first);
    }
}

#[test]
fn flaps_count_only_if_they_are_fast_and_many() {
    for (interval, blocked) in [(FLAP, true), (FLAP + 1, false)] {
        let mut detector = detector();
        let at = |n: u32| Tick(50 + n * interval);
        // Two moves, there and back, each this long after the one before.
        let any = (0..100).any(|n| {
            moves(&mut detector, at(2 * n), NESTED, &[HOME, LEFT]).is_some()
                || moves(&mut detector, at(2 * n + 1), NESTED, &[LEFT, HOME]).is_some()
        });
        assert_eq!(any, blocked, "every {interval} ticks");
    }
    // Four within the window, again and again.
    let mut detector = detector();
    for n in 0..100 {
        let now = Tick(50 + n * (WINDOW + 1));
        let few = usize::from(FLAPS) - 1;
        assert_eq!(moves(&mut detector, now, NESTED, &sent_back(few + 1, &[LEFT])), None);
    }
}

#[test]
fn ordinary_moves_are_not_a_loop() {
    let mut detector = detector();
    // A trunk or a hypervisor with many hosts fails over, at once, and back after two seconds.
    for now in [50, 70, 90, 110, 130, 150] {
        for host in 0..200 {
            let mac = Mac([2, 0, 0x5e, 1, 0, host]);
            let pair = if now % 40 == 10 { [HOME, LEFT] } else { [LEFT, HOME] };
            assert_eq!(moves(&mut detector, Tick(now), mac, &pair), None);
        }
    }
    // A host moves on through many ports: each is somewhere new.
    let ports: Vec<PortId> = (10..200).map(PortId).collect();
    assert_eq!(moves(&mut detector, Tick(500), NESTED, &ports), None);
}

/// The attacker forges the MAC of a silent host, which then sends too.
#[test]
fn the_port_of_an_assigned_mac_is_never_blamed_for_it() {
    let mut detector = detector();
    let contest = [LEFT, HOME].repeat(20);
    assert_eq!(moves(&mut detector, Tick(50), OWN, &contest), Some(LEFT), "although it was there first");
    let mut detector = self::detector();
    for _ in 0..100 {
        assert_eq!(detector.note(Tick(50), HOME, OWN, Evidence::Refused { owner: LEFT }), None);
        assert_eq!(detector.note(Tick(50), HOME, OWN, Evidence::Claimed { owner: LEFT }), None);
    }
}

/// Of an address that the switch did not assign, the port where it was has the older claim.
#[test]
fn the_newer_claim_is_blamed() {
    let mut detector = detector();
    assert_eq!(moves(&mut detector, Tick(50), NESTED, &[HOME, LEFT].repeat(20)), Some(LEFT));
    // Two attackers do not make the owner the newer one.
    let mut detector = self::detector();
    let contest = [HOME, LEFT, RIGHT].repeat(20);
    assert_ne!(moves(&mut detector, Tick(50), NESTED, &contest), Some(HOME));
}

#[test]
fn claims_and_refusals_have_limits() {
    let frames = |evidence: Evidence, interval: u32| {
        let mut detector = detector();
        (1..1000).find(|n| detector.note(Tick(50 + n * interval), LEFT, OWN, evidence).is_some())
    };
    assert_eq!(frames(Evidence::Claimed { owner: HOME }, 0), Some(CLAIMS.into()));
    assert_eq!(frames(Evidence::Refused { owner: HOME }, 0), Some(REFUSALS.into()));
    assert_eq!(frames(Evidence::Refused { owner: HOME }, 10), None, "one a second");
    assert_eq!(frames(Evidence::Claimed { owner: HOME }, 30), None, "one in three seconds");
    assert_eq!(frames(Evidence::Claimed { owner: RIGHT }, 0), None, "it was not assigned to that port");
}

/// A host sends a broadcast back now and then, of one host after the other.
#[test]
fn few_claims_of_many_addresses_have_a_limit_too() {
    let mut detector = detector();
    let mut now = Tick(50);
    let mut steal = |detector: &mut LoopDetector, owner: PortId, in_use| {
        now.0 += Tick::PER_SECOND + 5;
        detector.expire(now);
        let mac = detector.ports[owner.index()].assigned;
        let stolen = detector.note(now, LEFT, mac, Evidence::Moved { from: owner, in_use });
        assert_eq!(detector.note(now, owner, mac, Evidence::Moved { from: LEFT, in_use: true }), None);
        stolen
    };
    assert!((0..100).all(|_| steal(&mut detector, HOME, false).is_none()), "it was silent");
    let owners = [HOME, RIGHT, HOME, RIGHT, HOME];
    let blocked = owners.map(|owner| steal(&mut detector, owner, true));
    assert_eq!(blocked, [None, None, None, None, Some(LEFT)]);
    assert_eq!(steal(&mut detector, RIGHT, true), Some(LEFT), "one is enough then");
    assert_eq!(detector.take_new().iter().map(|block| block.seconds).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn the_time_doubles_up_to_a_limit_and_starts_again_after_a_quiet_time() {
    let mut detector = detector();
    let mut now = Tick(50);
    let block = |detector: &mut LoopDetector, now: &mut Tick| {
        let contest = sent_back(usize::from(FLAPS) + 1, &[LEFT]);
        assert_eq!(moves(detector, *now, OWN, &contest), Some(LEFT));
        assert_eq!(moves(detector, *now, OWN, &contest), None, "it is blocked");
        *now = detector.next_expiry().unwrap();
        let [block] = detector.expire(*now)[..] else { panic!("not one") };
        block.seconds
    };
    for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300] {
        assert_eq!(block(&mut detector, &mut now), seconds);
    }
    for _ in 0..100 {
        assert_eq!(block(&mut detector, &mut now), LONGEST);
    }
    now = Tick(now.0 + QUIET);
    assert_eq!(block(&mut detector, &mut now), LONGEST, "not quiet for long enough");
    now = Tick(now.0 + QUIET + 1);
    assert_eq!(block(&mut detector, &mut now), SHORTEST);
    assert_eq!(block(&mut detector, &mut now), 2 * SHORTEST);
}

#[test]
fn a_new_port_with_the_number_of_a_blocked_one_starts_clean() {
    let mut detector = detector();
    assert!(moves(&mut detector, Tick(50), OWN, &sent_back(6, &[LEFT])).is_some());
    detector.assign(LEFT, None);
    assert_eq!((detector.take_new(), detector.next_expiry()), (vec![], None));
    assert_eq!(detector.expire(Tick(u32::MAX)), []);
    assert!(moves(&mut detector, Tick(60), OWN, &sent_back(6, &[LEFT])).is_some());
    assert_eq!(detector.take_new()[0].seconds, SHORTEST);
}

/// With a full table, fewer addresses are watched, and no port is blamed without evidence.
#[test]
fn a_full_table_blocks_no_port() {
    let mut detector = detector();
    for n in 0..100_000u64 {
        let mac = Mac::from_u64(0x0200_5e00_0000 + n);
        assert_eq!(moves(&mut detector, Tick(50), mac, &[HOME, LEFT]), None);
    }
    assert_eq!(moves(&mut detector, Tick(50 + WINDOW + 1), OWN, &sent_back(6, &[LEFT])), Some(LEFT));
}

// ---- the switch ----------------------------------------------------------------------------------------

const HOST: PortId = PortId(0);
const GATEWAY: Mac = Mac([2, 0, 0x5e, 0, 0x53, 0]);
const PORT: Port = Port { up: true, host: false, offload: true, mtu: 1500 };

/// A host port and three ports with assigned MACs, some of them guarded.
fn switch(guarded: &[PortId]) -> Switch {
    let gateway = Gateway { mac: GATEWAY.into(), ..Gateway::default() };
    let switch = Switch::new(SwitchConfig { ageing: 3000, fdb_max: 64, seed: 7, gateway });
    let switch = switch.with_loop_detection(7);
    switch.ports.add(Port { host: true, ..PORT });
    switch.fdb.add(Tick(0), FdbKey { vlan: 0, mac: GATEWAY }, HOST, FdbState::Permanent).unwrap();
    for port in [HOME, LEFT, RIGHT] {
        assert_eq!(switch.ports.add(PORT), Some(port));
        let [low, _] = port.0.to_le_bytes();
        let mac = Mac([2, 0, 0x5e, 0, 0x53, low]);
        switch.assign_mac(port, Some(mac));
        let identity = Identity { mac, addresses: Vec::new(), ..Identity::default() };
        switch.set_guard(port, guarded.contains(&port).then_some(&identity));
    }
    switch
}

/// Broadcasts from `source` on a port; whether it is blocked then.
fn broadcast(switch: &Switch, now: Tick, ingress: PortId, source: Mac) -> bool {
    let mut bytes = [Mac::BROADCAST.0, source.0].concat();
    bytes.extend([0x88, 0xb5]);
    bytes.resize(60, 0);
    let mut outcome = Outcome::default();
    let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
    switch.process(now, ingress, &frame, &mut outcome, &mut ());
    if outcome.is_notable() {
        switch.check_loop(now, source, &outcome);
    }
    let is_blocked = switch.ports.is_blocked(ingress);
    assert!(outcome.verdict() != Verdict::Flood || switch.ports.port(ingress).unwrap().up || is_blocked);
    is_blocked
}

#[test]
fn a_blocked_port_neither_receives_nor_sends_until_its_time_is_over() {
    let switch = switch(&[]);
    let now = Tick(50);
    let sent_back = |now| {
        broadcast(&switch, now, HOME, OWN);
        broadcast(&switch, now, LEFT, OWN)
    };
    assert!((0..10).any(|_| sent_back(now)));
    let reached = || {
        let bytes = [&Mac::BROADCAST.0[..], &OWN.0, &[0x88, 0xb5], &[0; 46]].concat();
        let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
        switch.trace(now, HOME, &frame, &mut ()).egress_ports().collect::<Vec<_>>()
    };
    assert_eq!(reached(), [HOST, RIGHT]);
    switch.ports.set(LEFT, PORT);
    assert_eq!(reached(), [HOST, RIGHT], "a change of the link does not unblock it");
    let [block] = switch.take_new_blocks()[..] else { panic!("one") };
    assert_eq!((block.port, block.other, block.mac), (LEFT, HOME, OWN));
    assert_eq!(switch.next_unblock(), Some(block.until));
    assert_eq!(switch.unblock_ports(block.until), [block]);
    assert_eq!(reached(), [HOST, LEFT, RIGHT]);
}

/// All that an attacker can send does not block the port of a guarded container.
#[test]
fn a_guarded_victim_cannot_be_blocked() {
    for attacker_is_guarded in [false, true] {
        let guarded = if attacker_is_guarded { &[HOME, LEFT][..] } else { &[HOME] };
        let switch = switch(guarded);
        for n in 0..1000 {
            let now = Tick(50 + n);
            for forged in [OWN, GATEWAY, NESTED] {
                broadcast(&switch, now, LEFT, forged);
                assert!(!broadcast(&switch, now, HOME, OWN));
            }
            switch.unblock_ports(now);
        }
        assert!(!switch.take_new_blocks().is_empty(), "the attacker was");
    }
}

#[test]
fn copies_with_the_mac_of_a_guarded_port_are_evidence() {
    for (guarded, source, frames) in [
        (&[HOME][..], OWN, Some(CLAIMS)),
        (&[HOME, LEFT], OWN, Some(REFUSALS)),
        (&[HOME, LEFT], NESTED, None),
        (&[HOME, LEFT], GATEWAY, None),
    ] {
        let switch = switch(guarded);
        broadcast(&switch, Tick(50), HOME, OWN);
        let blocked = (1..=100).find(|_| broadcast(&switch, Tick(50), LEFT, source));
        assert_eq!(blocked, frames, "{guarded:?} {source}");
    }
    // No host has used that address for a while.
    let switch = switch(&[HOME, LEFT]);
    broadcast(&switch, Tick(50), HOME, OWN);
    assert!((0..100).all(|_| !broadcast(&switch, Tick(50 + IN_USE + 1), LEFT, OWN)));
}

#[test]
fn the_host_port_is_never_blocked() {
    let switch = switch(&[]);
    for _ in 0..100 {
        broadcast(&switch, Tick(50), HOME, NESTED);
        assert!(!broadcast(&switch, Tick(50), HOST, NESTED));
    }
}

#[test]
fn ignores_moves_of_a_static_entry() {
    let switch = switch(&[]);
    switch.fdb.add(Tick(0), FdbKey { vlan: 0, mac: NESTED }, HOME, FdbState::Static).unwrap();
    assert!((0..100).all(|_| !broadcast(&switch, Tick(50), LEFT, NESTED)));
}

#[test]
fn without_loop_detection_nothing_is_blocked() {
    let switch = Switch { loops: None, ..switch(&[]) };
    assert!((0..100).all(|_| {
        broadcast(&switch, Tick(50), HOME, OWN);
        !broadcast(&switch, Tick(50), LEFT, OWN)
    }));
    assert_eq!((switch.take_new_blocks(), switch.next_unblock()), (vec![], None));
}

/// What the other ports can send, and when.
#[derive(Debug, Clone, Copy)]
struct Forgery {
    port: PortId,
    source: Mac,
    /// Ticks after the frame before.
    pause: u32,
    /// Whether the port HOME sends a frame of its own after it.
    answered: bool,
}

prop_compose! {
    fn forgery()(port in 2u16..4, last in prop::sample::select(vec![0, 1, 2, 3, 0x77]), pause in 0u32..4, answered: bool)
        -> Forgery {
        Forgery { port: PortId(port), source: Mac([2, 0, 0x5e, 0, 0x53, last]), pause, answered }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A port that sends only with its assigned MAC is never blocked, whatever the others send, with the guard and
    /// without. Blocked ports are always unblocked in time.
    #[test]
    fn an_innocent_port_is_never_blocked(
        guarded in prop::sample::subsequence(vec![HOME, LEFT, RIGHT], 0..=3),
        frames in prop::collection::vec(forgery(), 0..300),
    ) {
        let switch = switch(&guarded);
        let mut now = Tick(50);
        for Forgery { port, source, pause, answered } in frames {
            now.0 += pause;
            broadcast(&switch, now, port, source);
            prop_assert!(!(answered && broadcast(&switch, now, HOME, OWN)));
            switch.unblock_ports(now);
            let blocked = [LEFT, RIGHT].into_iter().filter(|port| switch.ports.is_blocked(*port));
            prop_assert_eq!(switch.next_unblock().is_some(), blocked.count() > 0);
            prop_assert!(switch.next_unblock().is_none_or(|until| until > now));
        }
        prop_assert!(switch.take_new_blocks().iter().all(|block| block.port != HOME));
        switch.unblock_ports(Tick(now.0 + LONGEST * Tick::PER_SECOND));
        prop_assert!([LEFT, RIGHT].iter().all(|port| !switch.ports.is_blocked(*port)));
    }
}
