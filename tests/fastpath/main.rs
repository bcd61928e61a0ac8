//! The programs of the fast path, which the kernel runs here with single frames: what they forward, the switch would
//! forward to the same port. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

mod history;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uswitch::fastpath::{FastPath, PortDevices, WhySlow};
use uswitch::switch::fdb::{FdbKey, FdbState, flood_device};
use uswitch::switch::guard::link_local;
use uswitch::switch::vlan::Member;
use uswitch::switch::{
    FastDatapath, Frame, Gateway, Identity, Outcome, Port, PortFlag, PortFlags, PortId, PortState, Switch,
    SwitchConfig, Tick, Verdict, Vid, VlanSettings,
};
use uswitch::sys::netns::in_netns;
use uswitch::wire::{Mac, VnetHeader};

const NOW: Tick = Tick(100);
const PORTS: [PortId; 4] = [PortId(0), PortId(1), PortId(2), HOST];
/// The host port, whose device has the gateway's MAC and addresses.
const HOST: PortId = PortId(3);

/// Addresses whose frames the switch has flooded.
const FLOODED: [Mac; 3] = [Mac::BROADCAST, Mac([0x33, 0x33, 0, 0, 0, 1]), mac(16)];

/// The MAC of a port's device. With 8 added: another station behind it.
const fn mac(n: u8) -> Mac {
    Mac([2, 0, 0x5e, 0, 0x53, n])
}

fn key(vlan: u16, mac: Mac) -> FdbKey {
    FdbKey { vlan, mac }
}

/// The VLANs of a switch that filters VLANs.
const VLANS: [Vid; 2] = [Vid::DEFAULT, Vid::new(4094).unwrap()];

#[allow(clippy::cast_possible_truncation, reason = "four ports")]
fn number(port: PortId) -> u8 {
    port.0 as u8
}

fn ipv4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

fn ipv6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())
}

fn identity(port: PortId) -> Identity {
    let n = number(port);
    Identity { mac: mac(n), addresses: vec![ipv4(n).into(), ipv6(n).into()], ..Identity::default() }
}

fn devices(port: PortId) -> PortDevices {
    PortDevices::numbered(port.0)
}

/// The settings of a port.
#[derive(Debug, Clone, Copy)]
struct Settings {
    up: bool,
    guard: bool,
    mtu: u32,
    /// The flag that is not at its default.
    flag: Option<PortFlag>,
    /// How it is in each of [`VLANS`], if the switch filters VLANs.
    vlans: [Option<(Member, PortState)>; 2],
}

impl Settings {
    /// Only the workers know the flag.
    fn is_slow(&self) -> bool {
        matches!(self.flag, Some(PortFlag::Hub | PortFlag::Learning))
    }

    /// The VLAN of the untagged frames that it receives and sends.
    fn untagged_vlan(&self) -> Option<usize> {
        self.vlans.iter().position(|vlan| *vlan == Some((Member::ACCESS, PortState::Forwarding)))
    }

    /// Only the workers flood.
    fn keeps_floods(&self) -> bool {
        use PortFlag::{BcastFlood, Flood, Hairpin, McastFlood};
        self.up && (self.is_slow() || matches!(self.flag, Some(Flood | McastFlood | BcastFlood | Hairpin)))
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let mtu = prop_oneof![9 => Just(1500), 1 => Just(68_u32)];
    let any_flag = prop::sample::select(PortFlag::ALL);
    let flag = prop_oneof![
        8 => Just(None),
        2 => prop::sample::select(vec![PortFlag::Isolated, PortFlag::Locked]).prop_map(Some),
        1 => any_flag.prop_map(Some),
    ];
    (prop::bool::weighted(0.9), any::<bool>(), mtu, flag, vlans())
        .prop_map(|(up, guard, mtu, flag, vlans)| Settings { up, guard, mtu, flag, vlans })
}

/// A port in one or two VLANs. Most are access ports.
fn vlans() -> impl Strategy<Value = [Option<(Member, PortState)>; 2]> {
    let access = Some((Member::ACCESS, PortState::Forwarding));
    let state = prop_oneof![4 => Just(PortState::Forwarding), 1 => Just(PortState::Learning), 1 => Just(PortState::Blocking)];
    let member = || {
        prop_oneof![
            Just(None),
            Just(Some(Member::TAGGED)),
            any::<bool>().prop_map(|untagged| Some(Member { pvid: false, untagged }))
        ]
    };
    let trunk = (member(), member(), prop::option::of((0..2_usize, any::<bool>())), state);
    let trunk = trunk.prop_map(|(first, second, own, state)| {
        let mut vlans = [first, second].map(|member| member.map(|member| (member, state)));
        if let Some((at, untagged)) = own {
            vlans[at] = Some((Member { pvid: true, untagged }, state));
        }
        vlans
    });
    prop_oneof![8 => Just([access, None]), 4 => Just([None, access]), 2 => trunk]
}

/// A frame, by what the programs look at.
#[derive(Debug, Clone)]
struct Sent {
    ingress: PortId,
    source: Mac,
    destination: Mac,
    ethertype: u16,
    packet: Vec<u8>,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        [&self.destination.0[..], &self.source.0, &self.ethertype.to_be_bytes(), &self.packet].concat()
    }
}

/// Mostly of stations that are known.
fn station() -> impl Strategy<Value = Mac> {
    prop_oneof![
        12 => (0..4_u8).prop_map(mac),
        3 => (8..12_u8).prop_map(mac),
        1 => (0..20_u8).prop_map(mac),
        8 => prop::sample::select(FLOODED.to_vec()),
        1 => Just(Mac([0; 6])),
    ]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(6), 4 => Just(17), 2 => Just(1), 2 => Just(58), 1 => Just(0), 1 => Just(44), 1 => any::<u8>()]
}

/// A header of four bytes: ports, or type and code.
fn upper() -> impl Strategy<Value = Vec<u8>> {
    let port = || {
        prop_oneof![Just(67_u16), Just(68), Just(546), Just(547), Just(0x8000), Just(0x8700), any::<u16>()]
    };
    let ports = (port(), port()).prop_map(|(from, to)| [from.to_be_bytes(), to.to_be_bytes()].concat());
    (ports, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(ports, rest)| [ports, rest].concat())
}

fn ipv4_packet() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let first = prop_oneof![9 => Just(0x45_u8), 1 => any::<u8>()];
    let fragment = prop_oneof![6 => Just(0x4000_u16), 3 => Just(0), 1 => Just(0x2000), 1 => Just(0xb9), 1 => any::<u16>()];
    let source = prop_oneof![9 => (0..4_u8).prop_map(ipv4), 1 => Just(Ipv4Addr::UNSPECIFIED), 1 => Just(Ipv4Addr::BROADCAST), 1 => Just(Ipv4Addr::LOCALHOST)];
    let destination = prop_oneof![9 => Just(ipv4(2)), 1 => Just(Ipv4Addr::LOCALHOST)];
    let packet = (first, fragment, protocol(), source, destination, upper());
    packet.prop_map(|(first, fragment, protocol, source, destination, upper)| {
        let [high, low] = fragment.to_be_bytes();
        let header = [first, 0, 0, 60, 0, 0, high, low, 64, protocol, 0, 0];
        (0x0800, [&header[..], &source.octets(), &destination.octets(), &upper].concat())
    })
}

fn ipv6_packet() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let own = || (0..4_u8).prop_map(ipv6);
    let local = (0..4_u8).prop_map(|n| link_local(mac(n)));
    let source = prop_oneof![6 => own(), 3 => local, 1 => Just(Ipv6Addr::UNSPECIFIED), 1 => Just(Ipv6Addr::from_bits(u128::MAX))];
    let fragment = prop_oneof![2 => Just(1_u16), 1 => Just(0), 2 => Just(8), 1 => any::<u16>()];
    let fragment = prop::option::weighted(0.2, fragment);
    (protocol(), fragment, source, upper()).prop_map(|(upper, fragment, source, message)| {
        let of_fragment = |offset: u16| [&[upper, 0][..], &offset.to_be_bytes(), &[0, 0, 0, 7]].concat();
        let (next, fragment) = fragment.map_or((upper, vec![]), |offset| (44, of_fragment(offset)));
        let header = [0x60, 0, 0, 0, 0, 8, next, 64];
        (0x86dd, [&header[..], &source.octets(), &ipv6(2).octets(), &fragment, &message].concat())
    })
}

fn other_packet() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let ethertype = prop_oneof![
        Just(0x0806_u16),
        Just(0x8100),
        Just(0x88a8),
        Just(0x88cc),
        Just(0x0800),
        Just(0x86dd),
        any::<u16>()
    ];
    (ethertype, prop::collection::vec(any::<u8>(), 40..80))
}

fn sent() -> impl Strategy<Value = Sent> {
    let packet = prop_oneof![4 => ipv4_packet(), 4 => ipv6_packet(), 1 => other_packet()];
    (0..4_u16, prop::bool::weighted(0.6), station(), station(), packet).prop_map(
        |(ingress, own, source, destination, (ethertype, mut packet))| {
            let ingress = PortId(ingress);
            let n = number(ingress);
            let source = if own { mac(n) } else { source };
            match ethertype {
                0x0800 if own => packet[12..16].copy_from_slice(&ipv4(n).octets()),
                0x86dd if own => packet[8..24].copy_from_slice(&ipv6(n).octets()),
                _ => {}
            }
            Sent { ingress, source, destination, ethertype, packet }
        },
    )
}

/// The devices of all ports. The namespace ends with the thread.
fn make_devices() {
    for port in PORTS {
        let PortDevices { host_end, tap } = devices(port);
        let line =
            format!("ip link add h{host_end} index {host_end} up type veth peer name t{tap} index {tap}");
        let output = Command::new("sh").args(["-euc", &line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn add_vlans(switch: &Switch, port: PortId, vlans: [Option<(Member, PortState)>; 2]) {
    for (vid, (member, state)) in VLANS.into_iter().zip(vlans).filter_map(|(vid, vlan)| Some((vid, vlan?))) {
        switch.vlans.add(port, vid, member);
        switch.vlans.set_state(port, vid, state);
    }
}

/// A switch in which each port's two stations are known, and shared with the fast path.
fn switch(fast: &Arc<FastPath>, filtering: bool, settings: &[Settings; 4]) -> Switch {
    let gateway = Gateway { mac: mac(number(HOST)).into(), ipv4: vec![ipv4(3)], ipv6: vec![ipv6(3)] };
    let switch = Switch::new(SwitchConfig { ageing: 3000, fdb_max: 64, seed: 1, gateway })
        .with_vlans(VlanSettings { filtering, ..VlanSettings::default() });
    PORTS.into_iter().for_each(|port| fast.remove_port(port));
    fast.stations().remove_all(|_| true);
    let shared: Arc<dyn FastDatapath> = fast.clone();
    switch.add_fast_datapath(&shared);
    switch.vlans.set_host(HOST);
    let vlans = || {
        Some(0)
            .filter(|_| !filtering)
            .into_iter()
            .chain(VLANS.map(Vid::get).into_iter().filter(|_| filtering))
    };
    for (port, &Settings { up, guard, mtu, flag, vlans: member_of }) in PORTS.into_iter().zip(settings) {
        let host = port == HOST;
        switch.ports.add(Port { up: false, host, offload: true, mtu }).unwrap();
        let n = number(port);
        fast.add_port(port, devices(port), mac(n));
        switch.set_guard(port, (guard && !host).then(|| identity(port)).as_ref());
        let mut flags = PortFlags::default();
        flag.into_iter().for_each(|flag| flags.set(flag, !flag.default()));
        switch.ports.set_flags(port, flags);
        switch.ports.set(port, Port { up, host, offload: true, mtu });
        if filtering {
            add_vlans(&switch, port, member_of);
        }
        for station in [n, n + 8] {
            let state = if station == number(HOST) { FdbState::Permanent } else { FdbState::Dynamic };
            for key in vlans().map(|vlan| key(vlan, mac(station))) {
                switch.fdb.add(NOW, key, port, state).unwrap();
                assert!(fast.stations().insert(key, devices(port).host_end));
            }
        }
    }
    for vlan in vlans() {
        assert!(FLOODED.into_iter().all(|mac| fast.stations().insert(key(vlan, mac), flood_device(vlan))));
    }
    switch
}

/// The ports to which the program sent the frame.
fn sent_to(fast: &FastPath, sent: &Sent) -> Vec<PortId> {
    const REDIRECTED: u32 = 7;
    let counts = || PORTS.map(|port| fast.counts(port).tx_frames);
    let before = counts();
    assert_eq!(fast.run(devices(sent.ingress), &sent.bytes()).unwrap(), REDIRECTED);
    let after = counts();
    PORTS.into_iter().filter(|port| after[port.index()] == before[port.index()] + 1).collect()
}

/// Why the workers decide about the frame, if the switch forwards or floods it.
fn explain(switch: &Switch, fast: &FastPath, sent: &Sent) -> Option<WhySlow> {
    let bytes = sent.bytes();
    let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
    let outcome = switch.trace(NOW, sent.ingress, &frame, &mut ());
    match outcome.verdict() {
        Verdict::Forward(to) => fast.why_frame_is_slow(sent.ingress, to, &bytes),
        Verdict::Flood => fast.why_flood_is_slow(sent.ingress, &bytes, outcome.class().wire_length),
        _ => None,
    }
}

fn decided(switch: &Switch, sent: &Sent) -> Outcome {
    let mut outcome = Outcome::default();
    let bytes = sent.bytes();
    let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
    switch.process(NOW, sent.ingress, &frame, &mut outcome, &mut ());
    outcome
}

/// The workers decide about an echo request for the host, which the gateway may answer.
fn is_echo_request(sent: &Sent) -> bool {
    match sent.ethertype {
        0x0800 => (sent.packet[9], sent.packet.get(20)) == (1, Some(&8)),
        0x86dd => (sent.packet[6], sent.packet.get(40)) == (58, Some(&128)),
        _ => false,
    }
}

/// Whether the fast path should take a frame that the switch forwards: plain TCP, UDP or echo, and fragments.
fn is_plain(Sent { packet, ethertype, .. }: &Sent) -> bool {
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == 0);
    let field = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    match ethertype {
        0x0800 => {
            let loopback = [packet[12], packet[16]].contains(&127);
            let plain = packet[0] == 0x45 && !is_zero(&packet[12..16]) && !loopback;
            plain && is_plain_upper(packet[9], packet.get(20..24), field(6) & 0x1fff != 0, (1, [0, 8]))
        }
        // The kernel leaves the addresses that start with zeros to user space.
        0x86dd if is_zero(&packet[8..16]) => false,
        0x86dd if packet[6] == 44 => {
            let later = packet.len() >= 48 && field(42) & 0xfff8 != 0;
            let icmp = (58, [128, 129]);
            packet.len() >= 48
                && (later || packet[40] != 58)
                && is_plain_upper(packet[40], packet.get(48..52), later, icmp)
        }
        0x86dd => is_plain_upper(packet[6], packet.get(40..44), false, (58, [128, 129])),
        0x0806 | 0x8100 | 0x88a8 | ..0x0600 => false,
        _ => true,
    }
}

/// `icmp`: the number of that protocol, and its types of echo messages.
fn is_plain_upper(protocol: u8, start: Option<&[u8]>, later: bool, icmp: (u8, [u8; 2])) -> bool {
    if later {
        return [6, 17].contains(&protocol);
    }
    let Some(&[a, b, c, d]) = start else { return false };
    let [from, to] = [[a, b], [c, d]].map(u16::from_be_bytes);
    match protocol {
        6 => true,
        17 => ![67, 547].contains(&from) && ![67, 68, 546, 547].contains(&to),
        number => number == icmp.0 && icmp.1.contains(&a),
    }
}

/// The source was behind another port.
fn moves(sent: &Sent) -> bool {
    let n = number(sent.ingress);
    ![mac(n), mac(n + 8)].contains(&sent.source)
}

/// From an address of the gateway, which may be that of another VLAN.
fn is_from_gateway(sent: &Sent) -> bool {
    let from = |range, ip: &[u8]| sent.packet.get::<std::ops::Range<usize>>(range) == Some(ip);
    from(12..16, &ipv4(3).octets()) || from(8..24, &ipv6(3).octets())
}

/// Whether the workers may decide about a plain frame that the switch sends to these ports.
fn may_be_slow(sent: &Sent, outcome: &Outcome, settings: &[Settings; 4]) -> bool {
    let of = |port: PortId| &settings[port.index()];
    let from = of(sent.ingress);
    let in_vlan = |port: &Settings| match (outcome.class().vlan, port.untagged_vlan()) {
        (Some(class), Some(own)) => class.vid == VLANS[own],
        (class, _) => class.is_none(),
    };
    let is_member = |port: &Settings| match outcome.class().vlan {
        Some(class) => {
            VLANS.into_iter().zip(port.vlans).any(|(vid, member)| vid == class.vid && member.is_some())
        }
        None => true,
    };
    if !in_vlan(from) || outcome.class().vlan.is_some() && is_from_gateway(sent) {
        return true;
    }
    match outcome.verdict() {
        Verdict::Forward(to) => {
            from.is_slow()
                || of(to).is_slow()
                || !in_vlan(of(to))
                || to == HOST && is_echo_request(sent)
                || to == sent.ingress
        }
        _ => {
            let settings = settings.iter().filter(|port| is_member(port)).collect::<Vec<_>>();
            let is_isolated = |port: &Settings| port.up && port.flag == Some(PortFlag::Isolated);
            let isolated = is_isolated(from) && settings.iter().any(|port| is_isolated(port));
            let kept = settings.iter().any(|port| port.keeps_floods() || port.up && !in_vlan(port));
            let known = FLOODED.contains(&sent.destination);
            let long = from.mtu < 1500 || !outcome.refused().is_empty();
            kept || isolated || !known || is_echo_request(sent) || long
        }
    }
}

/// What the program and the switch do with a frame. Returns the verdict if the program forwarded or flooded it.
fn compare(
    fast: &Arc<FastPath>,
    (filtering, settings): (bool, &[Settings; 4]),
    sent: &Sent,
) -> Result<Option<Verdict>, TestCaseError> {
    let switch = switch(fast, filtering, settings);
    let explained = explain(&switch, fast, sent);
    let (fast_to, outcome) = (sent_to(fast, sent), decided(&switch, sent));
    if fast_to.is_empty() {
        if outcome.is_sent() {
            let slow = !is_plain(sent) || moves(sent) || may_be_slow(sent, &outcome, settings);
            prop_assert!(slow, "slow without a reason");
            prop_assert!(explained.is_some());
        }
        return Ok(None);
    }
    prop_assert!(outcome.egress_ports().eq(fast_to.iter().copied()), "{:?} and {:?}", fast_to, outcome);
    prop_assert!(outcome.refused().is_empty());
    prop_assert_eq!(explained, None);
    Ok(Some(outcome.verdict()))
}

#[test]
fn the_fast_path_forwards_as_the_switch() {
    in_netns(|thread| {
        let _netns = thread.create().expect("this test needs root");
        make_devices();
        let fast = Arc::new(
            FastPath::new(
                64,
                [0x1234_5678_9abc_def0, 0x9e37_79b9_7f4a_7c15],
                BTreeMap::from([(0, vec![ipv4(3).into(), ipv6(3).into()])]),
            )
            .unwrap(),
        );
        let [forwarded, flooded, in_vlan, punted] = std::array::from_fn(|_| Cell::new(0));
        let mut runner =
            TestRunner::new(Config { cases: 5000, failure_persistence: None, ..Config::default() });
        let cases = (any::<bool>(), [settings(), settings(), settings(), settings()], sent());
        let result = runner.run(&cases, |(filtering, settings, sent)| {
            let count = match compare(&fast, (filtering, &settings), &sent)? {
                None => &punted,
                Some(_) if filtering => &in_vlan,
                Some(Verdict::Flood) => &flooded,
                Some(_) => &forwarded,
            };
            count.set(count.get() + 1);
            Ok(())
        });
        result.unwrap();
        let counts = [&forwarded, &flooded, &in_vlan, &punted].map(Cell::get);
        assert!(counts.iter().all(|count| *count > 50), "forwarded, flooded, in a VLAN, neither: {counts:?}");
    })
    .unwrap();
}
