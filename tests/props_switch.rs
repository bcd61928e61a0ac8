//! Random histories of a switch, compared with a learning bridge written for clarity: lists, and loops over
//! them.

#[path = "props_switch/mirrors.rs"]
mod mirrors;
#[path = "props_switch/uplinks.rs"]
mod uplinks;
#[path = "props_switch/vlans.rs"]
mod vlans;

use std::collections::BTreeMap;

use proptest::prelude::*;
use uswitch::switch::fdb::{FdbKey, FdbKind, FdbState, Learned};
use uswitch::switch::{
    DropReason, Frame, Gateway, Outcome, Port, PortFlag, PortFlags, PortId, Switch, SwitchConfig,
    SwitchReply, Tick, Verdict,
};
use uswitch::wire::{Mac, VnetHeader};

use mirrors::{Mirror, Mirrors, mirror};

const AGEING: u32 = 20;
/// Refreshed entries that an eviction skips.
const SECOND_CHANCES: usize = 4;
const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);
const GATEWAY4: [u8; 4] = [192, 0, 2, 1];
const PORTS: u16 = 5;

/// The payload of a frame.
#[derive(Debug, Clone, Copy)]
enum Payload {
    Bytes(usize),
    /// Operation, sender and target address.
    Arp(u8, [u8; 4], [u8; 4]),
}

/// One event of a history.
#[derive(Debug, Clone)]
enum Event {
    Frame {
        ingress: u16,
        destination: Mac,
        source: Mac,
        payload: Payload,
    },
    Pass(u32),
    SetPort(u16, Port),
    SetFlag(u16, PortFlag, bool),
    RemovePort(u16),
    AddPort(Port),
    Flush(Option<u16>),
    Age,
    /// Static, and sticky or not.
    AddStatic(Mac, u16, bool),
    /// The most addresses that a port learns.
    Limit(u16, Option<u32>),
    Remove(Mac),
    Mirror(Mirror),
    Unmirror(u16),
}

fn frame_bytes(destination: Mac, source: Mac, payload: Payload) -> Vec<u8> {
    let mut bytes = [destination.0, source.0].concat();
    match payload {
        Payload::Bytes(length) => {
            bytes.extend([0x88, 0xb5]);
            bytes.resize(length, 0);
        }
        Payload::Arp(operation, sender, target) => {
            bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
            bytes.extend([&source.0[..], &sender, &[0; 6], &target].concat());
        }
    }
    bytes
}

fn mac_at(bytes: &[u8], at: usize) -> Mac {
    Mac(std::array::from_fn(|n| bytes[at + n]))
}

// ---- the reference model -------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    mac: Mac,
    port: u16,
    seen: u32,
    state: FdbState,
    sticky: bool,
    refreshed: bool,
}

/// A learning bridge. The entries of a port are ordered by age, oldest first.
#[derive(Debug, Default)]
struct Bridge {
    now: u32,
    max: usize,
    ports: BTreeMap<u16, Port>,
    flags: BTreeMap<u16, PortFlags>,
    entries: Vec<Entry>,
    limits: BTreeMap<u16, u32>,
    mirrors: Mirrors,
}

impl Bridge {
    fn position(&self, mac: Mac) -> Option<usize> {
        self.entries.iter().position(|entry| entry.mac == mac)
    }

    fn count(&self, port: u16) -> usize {
        self.entries.iter().filter(|entry| entry.port == port && entry.state == FdbState::Dynamic).count()
    }

    fn is_at_limit(&self, port: u16) -> bool {
        self.limits.get(&port).is_some_and(|limit| self.count(port) >= *limit as usize)
    }

    fn has_aged(&self, entry: &Entry) -> bool {
        entry.state == FdbState::Dynamic && self.now.saturating_sub(entry.seen) >= AGEING
    }

    /// The oldest learned entry of a port.
    fn oldest(&self, port: u16) -> usize {
        let is_it = |entry: &Entry| entry.port == port && entry.state == FdbState::Dynamic;
        self.entries.iter().position(is_it).expect("it holds some")
    }

    /// Learns. `from` selects the port that lost an entry, if several have the same number.
    fn learn(&mut self, mac: Mac, port: u16, from: Option<u16>) -> Learned {
        let fresh =
            Entry { mac, port, seen: self.now, state: FdbState::Dynamic, sticky: false, refreshed: false };
        if let Some(at) = self.position(mac) {
            let entry = &mut self.entries[at];
            if entry.port == port {
                if entry.state != FdbState::Dynamic {
                    return Learned::Static;
                }
                if entry.seen < self.now {
                    let after = self.now - entry.seen;
                    (entry.seen, entry.refreshed) = (self.now, true);
                    if 3 * after >= AGEING {
                        return Learned::Returned { after };
                    }
                }
                return Learned::Known;
            }
            if entry.sticky {
                return Learned::Pinned { on: PortId(entry.port) };
            }
            if entry.state == FdbState::Dynamic && self.is_at_limit(port) {
                return Learned::LimitReached;
            }
            let left = self.entries.remove(at);
            self.entries.push(Entry { state: left.state, ..fresh });
            return Learned::Moved { from: PortId(left.port), after: self.now - left.seen };
        }
        if self.is_at_limit(port) {
            return Learned::LimitReached;
        }
        let learned = self.make_room(port, from);
        if learned != Learned::Refused {
            self.entries.push(fresh);
        }
        learned
    }

    fn make_room(&mut self, port: u16, from: Option<u16>) -> Learned {
        if self.entries.len() < self.max {
            return Learned::New;
        }
        let most = (0..=PORTS + 1).map(|port| self.count(port)).max().unwrap_or(0);
        if most == 0 {
            return Learned::Refused;
        }
        let eviction_port = if self.count(port) == most { port } else { from.expect("an entry was evicted") };
        assert_eq!(
            self.count(eviction_port),
            most,
            "evicted from port {eviction_port}, which does not have most entries"
        );
        for _ in 0..SECOND_CHANCES {
            let oldest = self.oldest(eviction_port);
            if !self.entries[oldest].refreshed {
                break;
            }
            let second_chance = self.entries.remove(oldest);
            self.entries.push(Entry { refreshed: false, ..second_chance });
        }
        let oldest = self.oldest(eviction_port);
        let gone = FdbKey { vlan: 0, mac: self.entries.remove(oldest).mac };
        Learned::Evicted { from: PortId(eviction_port), gone }
    }

    fn has(&self, port: u16, flag: PortFlag) -> bool {
        self.flags.get(&port).copied().unwrap_or_default().has(flag)
    }

    /// Learns, as far as the flags of the port permit.
    fn learn_from(&mut self, mac: Mac, port: u16, from: Option<u16>) -> Learned {
        if self.has(port, PortFlag::Hub) || !self.has(port, PortFlag::Learning) {
            return Learned::Off;
        }
        self.learn(mac, port, from)
    }

    /// Whether the port is locked and has no such address.
    fn locks_out(&self, port: u16, mac: Mac) -> bool {
        let is_here = |entry: &Entry| entry.mac == mac && entry.port == port && !self.has_aged(entry);
        self.has(port, PortFlag::Locked) && !self.entries.iter().any(is_here)
    }

    /// Why a frame is not admitted.
    fn refusal(&self, ingress: u16, bytes: &[u8]) -> Option<DropReason> {
        let Some(Port { up: true, host, .. }) = self.ports.get(&ingress) else {
            return Some(DropReason::IngressDown);
        };
        if self.mirrors.is_destination(ingress) {
            return Some(DropReason::IngressMirror);
        }
        if bytes.len() < 14 {
            return Some(DropReason::Runt);
        }
        let (destination, source) = (&bytes[..6], &bytes[6..12]);
        let claims = bytes[12..14] == [8, 6] && (bytes[28..32] == GATEWAY4 || bytes[22..28] == GATEWAY.0);
        if source[0] % 2 == 1 || source == [0; 6] {
            Some(DropReason::BadSource)
        } else if source == GATEWAY.0 && !host {
            Some(DropReason::SpoofedGateway)
        } else if destination[..5] == [1, 0x80, 0xc2, 0, 0] && (1..16).contains(&destination[5]) {
            Some(DropReason::ReservedAddress)
        } else if claims && !host {
            Some(DropReason::SpoofedGateway)
        } else {
            None
        }
    }

    /// Whether ports with neigh_suppress need not see an ARP message: a probe or an announcement.
    fn is_neigh_suppressed(&self, ingress: u16, bytes: &[u8]) -> bool {
        let is_announcement = || bytes[28] == 0 || bytes[28..32] == bytes[38..42];
        bytes[12..14] == [8, 6] && !self.has(ingress, PortFlag::NeighSuppress) && is_announcement()
    }

    fn choose(&self, ingress: u16, bytes: &[u8]) -> Verdict {
        let destination = mac_at(bytes, 0);
        let asks = bytes[12..14] == [8, 6] && bytes[20..22] == [0, 1] && bytes[38..42] == GATEWAY4;
        let for_gateway = destination == GATEWAY || destination.is_group();
        if asks && for_gateway && !self.ports[&ingress].host {
            return Verdict::Answer(SwitchReply::Arp { address: GATEWAY4.into() });
        }
        let hub = self.has(ingress, PortFlag::Hub);
        let known = self.entries.iter().find(|entry| entry.mac == destination && !self.has_aged(entry));
        let Some(entry) = known.filter(|_| !destination.is_group() && !hub) else {
            if destination == GATEWAY && !hub {
                return Verdict::Drop(DropReason::NoHostPort);
            }
            let (sent, refused) = self.flood(ingress, bytes);
            let alone = sent.is_empty() && refused.is_empty();
            return if alone { Verdict::Drop(DropReason::NoEgress) } else { Verdict::Flood };
        };
        match self.refuses(ingress, entry.port, bytes.len()) {
            Some(DropReason::Filtered) => Verdict::Drop(DropReason::Filtered),
            Some(reason) => Verdict::Refused { egress: PortId(entry.port), reason },
            None => Verdict::Forward(PortId(entry.port)),
        }
    }

    /// Why a port cannot take a frame that it should have.
    fn refuses(&self, ingress: u16, egress: u16, length: usize) -> Option<DropReason> {
        let isolated = |port| self.has(port, PortFlag::Isolated);
        if egress == ingress && !self.has(egress, PortFlag::Hairpin) {
            return Some(DropReason::Filtered);
        }
        match self.ports.get(&egress) {
            Some(port) if port.up && self.mirrors.is_destination(egress) => Some(DropReason::EgressMirror),
            Some(port) if port.up => {
                let too_long = length > port.mtu as usize + 18;
                if isolated(ingress) && isolated(egress) {
                    Some(DropReason::Isolated)
                } else {
                    too_long.then_some(DropReason::Oversize)
                }
            }
            _ => Some(DropReason::EgressDown),
        }
    }

    /// The ports that get a flooded frame, and those that cannot take it.
    fn flood(&self, ingress: u16, bytes: &[u8]) -> (Vec<PortId>, Vec<(PortId, DropReason)>) {
        let destination = mac_at(bytes, 0);
        let flag = match destination {
            Mac::BROADCAST => PortFlag::BcastFlood,
            group if group.is_group() => PortFlag::McastFlood,
            _ => PortFlag::Flood,
        };
        let is_suppressed = destination.is_group() && self.is_neigh_suppressed(ingress, bytes);
        let (mut sent, mut refused) = (Vec::new(), Vec::new());
        for &port in self.ports.keys() {
            match self.refuses(ingress, port, bytes.len()) {
                Some(
                    DropReason::Filtered
                    | DropReason::EgressDown
                    | DropReason::EgressMirror
                    | DropReason::Isolated,
                ) => {}
                _ if !self.has(port, flag) => refused.push((PortId(port), DropReason::FloodOff)),
                _ if is_suppressed && self.has(port, PortFlag::NeighSuppress) => {
                    refused.push((PortId(port), DropReason::NeighSuppress));
                }
                Some(reason) => refused.push((PortId(port), reason)),
                None => sent.push(PortId(port)),
            }
        }
        (sent, refused)
    }

    /// The ports that get the frame, and those that cannot take it.
    fn egress(
        &self,
        verdict: Verdict,
        ingress: u16,
        bytes: &[u8],
    ) -> (Vec<PortId>, Vec<(PortId, DropReason)>) {
        match verdict {
            Verdict::Forward(egress) => (vec![egress], Vec::new()),
            Verdict::Refused { egress, reason } => (Vec::new(), vec![(egress, reason)]),
            Verdict::Flood => self.flood(ingress, bytes),
            Verdict::Answer(_) | Verdict::Drop(_) => (Vec::new(), Vec::new()),
        }
    }
}

// ---- comparison ----------------------------------------------------------------------------------------

/// Checks that [`Switch::trace`] predicts the outcome and changes nothing. Returns the outcome.
fn process(switch: &Switch, now: Tick, ingress: PortId, frame: &Frame<'_>) -> Outcome {
    let before = switch.fdb.entries();
    let predicted = switch.trace(now, ingress, frame, &mut ());
    assert_eq!(switch.fdb.entries(), before, "a trace changed something");
    let mut outcome = Outcome::default();
    switch.process(now, ingress, frame, &mut outcome, &mut ());
    assert_eq!(predicted, outcome, "not what the dry run predicted");
    outcome
}

/// A switch, one with another seed that must behave in the same way, and the reference model.
struct Comparison {
    switches: [Switch; 2],
    bridge: Bridge,
}

impl Comparison {
    fn new(max: usize) -> Comparison {
        let switches = [7, 1_000_003].map(|seed| {
            let gateway = Gateway { mac: GATEWAY.into(), ipv4: vec![GATEWAY4.into()], ipv6: Vec::new() };
            Switch::new(SwitchConfig { ageing: AGEING, fdb_max: max, seed, gateway })
        });
        let mut comparison = Comparison { switches, bridge: Bridge { max, ..Bridge::default() } };
        for n in 0..PORTS {
            comparison.apply(&Event::AddPort(Port { up: true, host: n == 0, offload: true, mtu: 1500 }));
        }
        comparison.apply(&Event::AddStatic(GATEWAY, 0, true));
        comparison
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Frame { ingress, destination, source, payload } => {
                self.frame(ingress, &frame_bytes(destination, source, payload));
            }
            Event::Pass(ticks) => self.bridge.now += ticks,
            Event::Age => self.age(),
            Event::AddPort(port) if self.bridge.ports.len() <= usize::from(PORTS) => {
                let free = (0..).find(|id| !self.bridge.ports.contains_key(id)).expect("a free number");
                self.bridge.ports.insert(free, port);
                for switch in &self.switches {
                    assert_eq!(switch.ports.add(port), Some(PortId(free)));
                    switch.mirror_new_port(PortId(free));
                }
            }
            Event::SetPort(id, port) if self.bridge.ports.contains_key(&id) => {
                self.bridge.ports.insert(id, port);
                self.switches.iter().for_each(|switch| switch.ports.set(PortId(id), port));
            }
            Event::SetFlag(id, flag, on) if self.bridge.ports.contains_key(&id) => {
                self.set_flag(id, flag, on);
            }
            Event::RemovePort(id) => self.remove_port(id),
            Event::Flush(port) => self.flush(port),
            Event::AddStatic(mac, port, sticky) if self.bridge.ports.contains_key(&port) => {
                self.add_static(mac, port, sticky);
            }
            Event::Limit(id, limit) if self.bridge.ports.contains_key(&id) => self.set_limit(id, limit),
            Event::Remove(mac) => self.remove(mac),
            Event::Mirror(ref mirror) => self.add_mirror(mirror),
            Event::Unmirror(to) => self.remove_mirror(to),
            Event::AddPort(_)
            | Event::SetPort(..)
            | Event::SetFlag(..)
            | Event::AddStatic(..)
            | Event::Limit(..) => {}
        }
        self.compare();
    }

    fn set_flag(&mut self, id: u16, flag: PortFlag, on: bool) {
        let flags = self.bridge.flags.entry(id).or_default();
        flags.set(flag, on);
        self.switches.iter().for_each(|switch| switch.ports.set_flags(PortId(id), *flags));
    }

    fn remove_port(&mut self, id: u16) {
        self.bridge.ports.remove(&id);
        self.bridge.flags.remove(&id);
        self.bridge.entries.retain(|entry| entry.port != id);
        self.bridge.limits.remove(&id);
        self.bridge.mirrors.remove_port(id);
        for switch in &self.switches {
            switch.unmirror_port(PortId(id));
            switch.ports.remove(PortId(id));
            switch.fdb.remove_port(PortId(id));
        }
    }

    fn add_mirror(&mut self, mirror: &Mirror) {
        if !mirror.ports().all(|port| self.bridge.ports.contains_key(&port)) {
            return;
        }
        let added = self.bridge.mirrors.add(mirror);
        for switch in &self.switches {
            assert_eq!(switch.add_mirror(mirror.for_switch()).is_ok(), added);
        }
        if added {
            let stays = |entry: &Entry| entry.state != FdbState::Dynamic || entry.port != mirror.to;
            self.bridge.entries.retain(stays);
        }
    }

    fn remove_mirror(&mut self, to: u16) {
        let removed = self.bridge.mirrors.remove(to);
        for switch in &self.switches {
            assert_eq!(switch.remove_mirror(PortId(to)), removed);
        }
    }

    fn remove(&mut self, mac: Mac) {
        let at = self.bridge.position(mac);
        at.map(|at| self.bridge.entries.remove(at));
        for switch in &self.switches {
            let gone = switch.fdb.remove(FdbKey { vlan: 0, mac });
            assert_eq!(gone.is_some(), at.is_some());
        }
    }

    fn set_limit(&mut self, id: u16, limit: Option<u32>) {
        match limit {
            Some(limit) => _ = self.bridge.limits.insert(id, limit),
            None => _ = self.bridge.limits.remove(&id),
        }
        self.switches.iter().for_each(|switch| switch.fdb.set_max_learned(PortId(id), limit));
    }

    fn frame(&mut self, ingress: u16, bytes: &[u8]) {
        let frame = Frame { bytes, vnet: VnetHeader::default() };
        let [outcome, other] = self
            .switches
            .each_ref()
            .map(|switch| process(switch, Tick(self.bridge.now), PortId(ingress), &frame));
        assert_eq!(outcome, other, "the seed decided");
        self.compare_copies(ingress, bytes, &outcome);
        let (verdict, learned) = (outcome.verdict(), outcome.learned());
        if let Some(reason) = self.bridge.refusal(ingress, bytes) {
            assert_eq!((verdict, learned), (Verdict::Drop(reason), None));
            return;
        }
        let from = match learned {
            Some(Learned::Evicted { from, .. }) => Some(from.0),
            _ => None,
        };
        let source = mac_at(bytes, 6);
        if self.bridge.locks_out(ingress, source) {
            assert_eq!((verdict, learned), (Verdict::Drop(DropReason::Locked), None));
            return;
        }
        assert_eq!(learned, Some(self.bridge.learn_from(source, ingress, from)));
        assert_eq!(verdict, self.bridge.choose(ingress, bytes));
        let egress = (outcome.egress_ports().collect(), outcome.refused().to_vec());
        assert_eq!(egress, self.bridge.egress(verdict, ingress, bytes));
    }

    fn compare_copies(&self, ingress: u16, bytes: &[u8], outcome: &Outcome) {
        let ports = &self.bridge.ports;
        let is_up = |port: &u16| ports.get(port).is_some_and(|port| port.up);
        let received = [ingress].into_iter().find(is_up).filter(|_| bytes.len() >= 14);
        let egress: Vec<PortId> = outcome.egress_ports().collect();
        let expected = self.bridge.mirrors.copies(|port| ports.get(&port), received, &egress, bytes.len());
        let mut copies: Vec<_> = outcome.copies().iter().map(|copy| (copy.egress.port, copy.form)).collect();
        copies.sort_by_key(|(port, _)| *port);
        assert_eq!(copies, expected);
    }

    fn age(&mut self) {
        let bridge = &mut self.bridge;
        let mut expected: Vec<Mac> =
            bridge.entries.iter().filter(|e| bridge.has_aged(e)).map(|e| e.mac).collect();
        expected.sort_unstable();
        bridge.entries.retain(|entry| !expected.contains(&entry.mac));
        for switch in &self.switches {
            let mut aged = Vec::new();
            let due = switch.fdb.age(Tick(bridge.now), &mut |entry| aged.push(entry.key.mac));
            aged.sort_unstable();
            assert_eq!(aged, expected);
            assert!(due.is_some_and(|due| bridge.now < due.0 && due.0 <= bridge.now + AGEING));
        }
    }

    fn flush(&mut self, port: Option<u16>) {
        let before = self.bridge.entries.len();
        let stays = |e: &Entry| e.state != FdbState::Dynamic || port.is_some_and(|port| port != e.port);
        self.bridge.entries.retain(stays);
        for switch in &self.switches {
            assert_eq!(switch.fdb.flush(port.map(PortId)), before - self.bridge.entries.len());
        }
    }

    /// Static entries do not report which entry they evict; so only if there is room, or the entry exists.
    fn add_static(&mut self, mac: Mac, port: u16, sticky: bool) {
        match self.bridge.position(mac) {
            Some(at) => drop(self.bridge.entries.remove(at)),
            None if self.bridge.entries.len() < self.bridge.max => {}
            None => return,
        }
        let (seen, state) = (self.bridge.now, FdbState::Static);
        self.bridge.entries.push(Entry { mac, port, seen, state, sticky, refreshed: false });
        for switch in &self.switches {
            let (key, kind) = (FdbKey { vlan: 0, mac }, FdbKind { state, sticky });
            switch.fdb.add(Tick(seen), key, PortId(port), kind).expect("there is room");
        }
    }

    fn compare(&self) {
        let mut expected: Vec<_> =
            self.bridge.entries.iter().map(|e| (e.mac, e.port, e.seen, e.state as u8, e.sticky)).collect();
        expected.sort_unstable();
        for switch in &self.switches {
            let mut entries: Vec<_> = switch
                .fdb
                .entries()
                .iter()
                .map(|e| (e.key.mac, e.port.0, e.seen.0, e.kind.state as u8, e.kind.sticky))
                .collect();
            entries.sort_unstable();
            assert_eq!(entries, expected);
            assert_eq!(switch.fdb.len(), expected.len());
        }
    }
}

// ---- random histories ----------------------------------------------------------------------------------

fn host() -> impl Strategy<Value = Mac> {
    (1..12u8).prop_map(|n| Mac([2, 0, 0, 0, 0, n]))
}

fn address() -> impl Strategy<Value = Mac> {
    prop_oneof![
        12 => host(),
        1 => Just(GATEWAY),
        1 => Just(Mac::BROADCAST),
        1 => prop_oneof![Just(Mac::ZERO), Just(Mac([1, 0, 0x5e, 0, 0, 1])), Just(Mac([1, 0x80, 0xc2, 0, 0, 0xf])), Just(Mac([1, 0x80, 0xc2, 0, 0, 0]))],
    ]
}

fn payload() -> impl Strategy<Value = Payload> {
    let ip = || prop_oneof![Just(GATEWAY4), Just([192, 0, 2, 9]), Just([0; 4])];
    prop_oneof![
        4 => prop_oneof![Just(60), Just(118), Just(119), Just(1518), Just(1519), Just(13)].prop_map(Payload::Bytes),
        1 => (1..3u8, ip(), ip()).prop_map(|(operation, sender, target)| Payload::Arp(operation, sender, target)),
    ]
}

fn port() -> impl Strategy<Value = Port> {
    (prop::bool::weighted(0.8), prop_oneof![Just(1500), Just(100)]).prop_map(|(up, mtu)| Port {
        up,
        host: false,
        offload: true,
        mtu,
    })
}

fn event() -> impl Strategy<Value = Event> {
    let id = || 0..PORTS + 1;
    let frame =
        (id(), address(), address(), payload()).prop_map(|(ingress, destination, source, payload)| {
            Event::Frame { ingress, destination, source, payload }
        });
    prop_oneof![
        30 => frame,
        6 => (1..AGEING / 3).prop_map(Event::Pass),
        2 => Just(Event::Age),
        1 => (id(), port()).prop_map(|(id, port)| Event::SetPort(id, port)),
        2 => (id(), prop::sample::select(PortFlag::ALL), any::<bool>())
            .prop_map(|(id, flag, on)| Event::SetFlag(id, flag, on)),
        1 => id().prop_map(Event::RemovePort),
        1 => port().prop_map(Event::AddPort),
        1 => prop::option::of(id()).prop_map(Event::Flush),
        1 => (host(), id(), any::<bool>()).prop_map(|(mac, port, sticky)| Event::AddStatic(mac, port, sticky)),
        1 => (id(), prop::option::of(0..4u32)).prop_map(|(port, limit)| Event::Limit(port, limit)),
        1 => host().prop_map(Event::Remove),
        1 => mirror().prop_map(Event::Mirror),
        1 => (0..PORTS + 1).prop_map(Event::Unmirror),
    ]
}

/// A frame that some parser accepts, with some of its bytes changed.
fn mutated_frame() -> impl Strategy<Value = Vec<u8>> {
    let ethertype = prop_oneof![
        Just(vec![0x08, 0x06]),
        Just(vec![0x08, 0x00]),
        Just(vec![0x86, 0xdd]),
        Just(vec![0x81, 0, 0, 0, 0x86, 0xdd]),
        Just(vec![0x88, 0xa8, 0, 0, 0x81, 0, 0, 0, 0x08, 0x06]),
        prop::collection::vec(any::<u8>(), 2),
    ];
    let arp = Just([&[0, 1, 8, 0, 6, 4, 0, 1][..], &[9; 10], &[0; 6], &GATEWAY4].concat());
    let echo =
        Just([&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 9, 9, 9, 9][..], &GATEWAY4, &[8; 8]].concat());
    let ndp = prop_oneof![Just(0u8), Just(44), Just(58), Just(60)]
        .prop_map(|next| [&[0x60, 0, 0, 0, 0, 32, next, 255][..], &[9; 32], &[135], &[0; 31]].concat());
    let payload = prop_oneof![arp, echo, ndp, prop::collection::vec(any::<u8>(), 0..120)];
    let changes = prop::collection::vec((0..120usize, any::<u8>()), 0..6);
    (address(), address(), ethertype, payload, changes).prop_map(|(to, from, ethertype, payload, changes)| {
        let mut bytes = [&to.0[..], &from.0, &ethertype, &payload].concat();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes
    })
}

fn vnet() -> impl Strategy<Value = VnetHeader> {
    let arbitrary =
        any::<[u8; VnetHeader::LEN]>().prop_map(|bytes| VnetHeader::parse(&bytes).unwrap_or_default());
    prop_oneof![3 => Just(VnetHeader::default()), 1 => arbitrary]
}

proptest! {
    #[test]
    fn matches_reference_model(events in prop::collection::vec(event(), 1..300)) {
        let mut comparison = Comparison::new(1000);
        events.iter().for_each(|event| comparison.apply(event));
    }

    #[test]
    fn matches_reference_model_when_full(max in 1..8usize, events in prop::collection::vec(event(), 1..300)) {
        let mut comparison = Comparison::new(max);
        events.iter().for_each(|event| comparison.apply(event));
    }

    #[test]
    fn arbitrary_frames_do_not_panic(
        frames in prop::collection::vec((0..PORTS, mutated_frame(), vnet()), 1..50),
    ) {
        let comparison = Comparison::new(8);
        let switch = &comparison.switches[0];
        for (ingress, bytes, vnet) in frames {
            let frame = Frame { bytes: &bytes, vnet };
            let verdict = process(switch, Tick(0), PortId(ingress), &frame).verdict();
            let answer = match verdict {
                Verdict::Answer(answer) => answer,
                _ => SwitchReply::Echo,
            };
            let mut buffer = [&bytes[..], &[0; SwitchReply::GROWTH]].concat();
            let length = answer.emit(&switch.gateway, &mut buffer, bytes.len());
            prop_assert!(length <= buffer.len());
            prop_assert!(length > 0 || !matches!(verdict, Verdict::Answer(_)), "an answer of no bytes");
            if length > 0 {
                prop_assert_eq!(&buffer[6..12], &GATEWAY.0);
            }
        }
    }
}
