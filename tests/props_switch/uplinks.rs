//! Random histories of a switch with an uplink in mode ipvlan, compared with lists of addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use uswitch::switch::ipvlan::{Head, Uplink};
use uswitch::switch::{
    DropReason, Frame, Gateway, Outcome, Port, PortId, Switch, SwitchConfig, Tick, Verdict,
};
use uswitch::wire::{Mac, VnetHeader};

/// The ports of hosts are below it.
const UPLINK: u16 = 3;
const UPLINK_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xee]);
/// Ticks for which an address is not written again.
const FRESH: u32 = 10;
const AGEING: u32 = 30;

#[derive(Debug, Clone)]
enum Event {
    /// The last octets of the addresses.
    Frame {
        ingress: u16,
        macs: [Mac; 2],
        addresses: [u8; 2],
    },
    Pass(u32),
    Age,
    /// The addresses of the uplink's device.
    SetAddresses(Vec<u8>),
    /// A port of hosts is removed, and added again.
    RemovePort(u16),
}

fn address(last: u8) -> Ipv4Addr {
    [192, 0, 2, last].into()
}

fn frame_bytes([destination, source]: [Mac; 2], [from, to]: [u8; 2]) -> Vec<u8> {
    let header = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 253, 0, 0];
    let addresses = [address(from).octets(), address(to).octets()].concat();
    [&destination.0[..], &source.0, &[8, 0], &header, &addresses, &[0; 20]].concat()
}

// ---- the reference model -------------------------------------------------------------------------------

/// An address of a host: its port, its MAC address, and when it was last noted.
type Host = (u16, Mac, u32);

#[derive(Debug, Default)]
struct Model {
    now: u32,
    /// The port behind which a MAC address is.
    macs: BTreeMap<Mac, u16>,
    hosts: BTreeMap<u8, Host>,
    of_device: Vec<u8>,
}

/// What happens to a frame: the verdict, the ports that get it as received, whether it leaves by the uplink, and the
/// MAC address of the host for which it enters.
type Decision = (Verdict, Vec<u16>, bool, Option<Mac>);

impl Model {
    fn note_host(&mut self, last: u8, port: u16, mac: Mac) {
        let is_fresh = self
            .hosts
            .get(&last)
            .is_some_and(|(of, its, seen)| (*of, *its) == (port, mac) && self.now - seen < FRESH);
        if !is_fresh && !self.of_device.contains(&last) {
            self.hosts.insert(last, (port, mac, self.now));
        }
    }

    fn dropped(reason: DropReason) -> Decision {
        (Verdict::Drop(reason), Vec::new(), false, None)
    }

    fn decide(&mut self, ingress: u16, [destination, source]: [Mac; 2], [from, to]: [u8; 2]) -> Decision {
        let mut host = None;
        if ingress == UPLINK {
            host = match self.hosts.get(&to) {
                _ if source == UPLINK_MAC => return Self::dropped(DropReason::UplinkReflected),
                _ if destination.is_group() => None,
                Some((port, mac, _)) if destination == UPLINK_MAC => Some((*port, *mac)),
                _ => return Self::dropped(DropReason::UplinkOther),
            };
        }
        self.macs.insert(source, ingress);
        if let Some((port, mac)) = host {
            return (Verdict::Forward(PortId(port)), vec![port], false, Some(mac));
        }
        let known = self.macs.get(&destination).copied().filter(|_| !destination.is_group());
        let leaves = ingress != UPLINK && known.is_none_or(|port| port == UPLINK);
        if leaves {
            self.note_host(from, ingress, source);
        }
        match known {
            Some(port) if port == ingress => Self::dropped(DropReason::Filtered),
            Some(UPLINK) => (Verdict::Forward(PortId(UPLINK)), Vec::new(), true, None),
            Some(port) => (Verdict::Forward(PortId(port)), vec![port], false, None),
            None => (Verdict::Flood, (0..UPLINK).filter(|port| *port != ingress).collect(), leaves, None),
        }
    }
}

// ---- comparison ----------------------------------------------------------------------------------------

const PORT: Port = Port { up: true, host: false, offload: true, mtu: 1500 };

fn switch() -> Switch {
    let gateway = Gateway { mac: Mac([2, 0, 0, 0, 0, 0xfe]).into(), ipv4: Vec::new(), ipv6: Vec::new() };
    let switch = Switch::new(SwitchConfig { ageing: 1_000_000, fdb_max: 1000, seed: 7, gateway });
    (0..=UPLINK).for_each(|_| _ = switch.ports.add(PORT).expect("a free number"));
    assert!(switch.add_uplink(PortId(UPLINK), UPLINK_MAC, Vec::new()));
    switch
}

fn check_frame(switch: &Switch, model: &mut Model, ingress: u16, macs: [Mac; 2], addresses: [u8; 2]) {
    let bytes = frame_bytes(macs, addresses);
    let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
    let mut outcome = Outcome::default();
    switch.process(Tick(model.now), PortId(ingress), &frame, &mut outcome, &mut ());
    let (verdict, sent, leaves, entered) = model.decide(ingress, macs, addresses);
    let egress: Vec<u16> = outcome.egress().iter().map(|egress| egress.port.0).collect();
    assert_eq!((outcome.verdict(), egress), (verdict, sent));
    let left: Vec<Vec<u8>> = outcome.uplinks().iter().map(|copy| copy.head.bytes().to_vec()).collect();
    let rewritten = frame_bytes([macs[0], UPLINK_MAC], addresses);
    assert_eq!(left, if leaves { vec![rewritten] } else { Vec::new() });
    let expected = entered.map(|mac| frame_bytes([mac, macs[1]], addresses));
    assert_eq!(outcome.entered().map(Head::bytes), expected.as_deref());
}

fn check_hosts(switch: &Switch, model: &Model) {
    let hosts = switch.uplinks.with(PortId(UPLINK), Uplink::hosts).expect("it is an uplink");
    let expected: Vec<_> = model
        .hosts
        .iter()
        .map(|(last, (port, mac, _))| (IpAddr::V4(address(*last)), PortId(*port), *mac))
        .collect();
    assert_eq!(hosts, expected);
}

fn apply(switch: &Switch, model: &mut Model, event: Event) {
    match event {
        Event::Frame { ingress, macs, addresses } => check_frame(switch, model, ingress, macs, addresses),
        Event::Pass(ticks) => model.now += ticks,
        Event::Age => {
            switch.uplinks.age(Tick(model.now), AGEING);
            let now = model.now;
            model.hosts.retain(|_, (.., seen)| now - *seen < AGEING);
        }
        Event::SetAddresses(addresses) => {
            let of_device = addresses.iter().map(|last| IpAddr::V4(address(*last))).collect();
            switch.uplinks.set_addresses(PortId(UPLINK), of_device);
            model.hosts.retain(|last, _| !addresses.contains(last));
            model.of_device = addresses;
        }
        Event::RemovePort(port) => {
            switch.uplinks.remove_port(PortId(port));
            switch.fdb.flush(Some(PortId(port)));
            model.hosts.retain(|_, (of, ..)| *of != port);
            model.macs.retain(|_, of| *of != port);
        }
    }
}

// ---- random histories ----------------------------------------------------------------------------------

fn event() -> impl Strategy<Value = Event> {
    let host = || (1..5u8).prop_map(|last| Mac([2, 0, 0, 0, 0, last]));
    let source = prop_oneof![8 => host(), 1 => Just(UPLINK_MAC)];
    let destination = prop_oneof![3 => host(), 2 => Just(UPLINK_MAC), 1 => Just(Mac::BROADCAST)];
    let last = || 1..6u8;
    let frame = (0..=UPLINK, destination, source, last(), last());
    prop_oneof![
        12 => frame.prop_map(|(ingress, destination, source, from, to)| {
            // A host with the MAC address of the uplink is another fault.
            let source = if ingress == UPLINK || source != UPLINK_MAC { source } else { Mac([2, 0, 0, 0, 0, 1]) };
            Event::Frame { ingress, macs: [destination, source], addresses: [from, to] }
        }),
        3 => (0..FRESH * 2).prop_map(Event::Pass),
        1 => Just(Event::Age),
        1 => proptest::collection::vec(last(), 0..2).prop_map(Event::SetAddresses),
        1 => (0..UPLINK).prop_map(Event::RemovePort),
    ]
}

proptest! {
    #[test]
    fn uplinks_match_reference_model(events in proptest::collection::vec(event(), 0..120)) {
        let (switch, mut model) = (switch(), Model::default());
        for event in events {
            apply(&switch, &mut model, event);
            check_hosts(&switch, &model);
        }
    }
}
