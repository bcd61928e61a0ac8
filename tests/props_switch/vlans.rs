//! Random histories of a switch that filters VLANs, compared with lists of memberships and of addresses.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uswitch::switch::fdb::Learned;
use uswitch::switch::vlan::{Member, Vid, VlanCounters, VlanCounts, VlanFault, VlanSettings};
use uswitch::switch::{
    Counters, DropReason, Edit, Fault, Frame, Gateway, Outcome, Port, PortId, PortState, Switch,
    SwitchConfig, Tick, Verdict,
};
use uswitch::wire::{Mac, VnetHeader};

const PORTS: u16 = 4;

/// A tag of a frame: none, or its control information.
type Tag = Option<u16>;

#[derive(Debug, Clone)]
enum Event {
    Add(u16, u16, Member),
    Remove(u16, u16),
    SetState(u16, u16, PortState),
    Frame { ingress: u16, destination: Mac, source: Mac, tag: Tag },
}

fn vid(number: u16) -> Vid {
    Vid::new(number).expect("a VLAN")
}

fn frame_bytes(destination: Mac, source: Mac, tag: Tag) -> Vec<u8> {
    let tag = tag.map(|tci| [[0x81, 0], tci.to_be_bytes()].concat()).unwrap_or_default();
    let mut bytes = [&destination.0[..], &source.0, &tag, &[0x88, 0xb5]].concat();
    bytes.resize(60, 0);
    bytes
}

// ---- the reference model -------------------------------------------------------------------------------

/// The memberships (port, VLAN), the states of those that are not forwarding, the ports behind which addresses are, by
/// VLAN, the counters of each VLAN, and those of each port in it.
#[derive(Debug, Default)]
struct Model {
    members: BTreeMap<(u16, u16), Member>,
    states: BTreeMap<(u16, u16), PortState>,
    addresses: BTreeMap<(u16, Mac), u16>,
    counts: BTreeMap<u16, VlanCounts>,
    port_counts: BTreeMap<(u16, u16), VlanCounts>,
}

impl Model {
    fn pvid(&self, port: u16) -> Option<u16> {
        self.members.iter().find(|((of, _), member)| *of == port && member.pvid).map(|((_, vid), _)| *vid)
    }

    fn add(&mut self, port: u16, vid: u16, member: Member) {
        if member.pvid {
            self.members
                .iter_mut()
                .filter(|((of, _), _)| *of == port)
                .for_each(|(_, other)| other.pvid = false);
        }
        self.members.insert((port, vid), member);
    }

    /// The VLAN and the control information of the tag, or why it is dropped.
    fn classify(&self, port: u16, tag: Tag) -> Result<u16, VlanFault> {
        let tci = match tag {
            Some(tci) if tci & 0xfff != 0 => tci,
            tag => tag.unwrap_or(0) | self.pvid(port).ok_or(VlanFault::NoPvid)?,
        };
        let is_member = self.members.contains_key(&(port, tci & 0xfff));
        if is_member { Ok(tci) } else { Err(VlanFault::NotMember(tci & 0xfff)) }
    }

    /// How the copy for a member differs.
    fn edit(&self, egress: u16, tag: Tag, tci: u16) -> Edit {
        match (tag, self.members[&(egress, tci & 0xfff)].untagged) {
            (None, true) => Edit::None,
            (None, false) => Edit::Push(tci),
            (Some(_), true) => Edit::Pop,
            (Some(received), false) if received == tci => Edit::None,
            (Some(_), false) => Edit::Rewrite(tci),
        }
    }

    fn learn(&mut self, vlan: u16, source: Mac, ingress: u16) -> Learned {
        match self.addresses.insert((vlan, source), ingress) {
            None => Learned::New,
            Some(port) if port == ingress => Learned::Known,
            Some(port) => Learned::Moved { from: PortId(port), after: 0 },
        }
    }

    /// Counts a frame of this length without tag, and its copies.
    fn count(&mut self, ingress: u16, vlan: u16, length: usize, copies: &[(u16, Edit)]) {
        let bytes = length as u64;
        for counts in
            [self.counts.entry(vlan).or_default(), self.port_counts.entry((ingress, vlan)).or_default()]
        {
            counts.rx_packets += 1;
            counts.rx_bytes += bytes;
        }
        for (egress, _) in copies {
            for counts in
                [self.counts.entry(vlan).or_default(), self.port_counts.entry((*egress, vlan)).or_default()]
            {
                counts.tx_packets += 1;
                counts.tx_bytes += bytes;
            }
        }
    }

    fn state(&self, port: u16, vlan: u16) -> PortState {
        self.states.get(&(port, vlan)).copied().unwrap_or_default()
    }

    fn forwards(&self, port: u16, vlan: u16) -> bool {
        self.members.contains_key(&(port, vlan)) && self.state(port, vlan) == PortState::Forwarding
    }

    /// The copies, and the drop reason if there is none.
    fn decide(
        &self,
        ingress: u16,
        destination: Mac,
        tag: Tag,
        tci: u16,
    ) -> (Vec<(u16, Edit)>, Option<DropReason>) {
        let vlan = tci & 0xfff;
        let copy = |port: u16| (port, self.edit(port, tag, tci));
        if !self.forwards(ingress, vlan) {
            return (Vec::new(), Some(DropReason::IngressVlanState));
        }
        match self.addresses.get(&(vlan, destination)) {
            Some(port) if *port == ingress => (Vec::new(), Some(DropReason::Filtered)),
            Some(port) if !self.members.contains_key(&(*port, vlan)) => {
                (Vec::new(), Some(DropReason::EgressVlan))
            }
            Some(port) if !self.forwards(*port, vlan) => (Vec::new(), Some(DropReason::EgressVlanState)),
            Some(port) => (vec![copy(*port)], None),
            None => {
                let ports = (0..PORTS).filter(|port| *port != ingress && self.forwards(*port, vlan));
                let copies: Vec<_> = ports.map(copy).collect();
                let reason = copies.is_empty().then_some(DropReason::NoEgress);
                (copies, reason)
            }
        }
    }
}

// ---- comparison ----------------------------------------------------------------------------------------

fn switch() -> Switch {
    let gateway = Gateway { mac: Mac([2, 0, 0, 0, 0, 0xfe]).into(), ipv4: Vec::new(), ipv6: Vec::new() };
    let switch = Switch::new(SwitchConfig { ageing: 3000, fdb_max: 1000, seed: 7, gateway })
        .with_vlans(VlanSettings { filtering: true, ..VlanSettings::default() });
    for _ in 0..PORTS {
        switch.ports.add(Port { up: true, host: false, offload: true, mtu: 1500 }).expect("a free number");
    }
    switch
}

fn check_frame(switch: &Switch, counters: &Counters, model: &mut Model, event: &Event) {
    let &Event::Frame { ingress, destination, source, tag } = event else { return };
    let bytes = frame_bytes(destination, source, tag);
    let mut outcome = Outcome::default();
    let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
    switch.process(Tick(0), PortId(ingress), &frame, &mut outcome, &mut ());
    let tci = match model.classify(ingress, tag) {
        Ok(tci) => tci,
        Err(fault) => {
            assert_eq!((outcome.fault(), outcome.learned()), (Some(Fault::Vlan(fault)), None));
            assert_eq!(outcome.verdict(), Verdict::Drop(fault.reason()));
            return;
        }
    };
    if matches!(
        model.state(ingress, tci & 0xfff),
        PortState::Disabled | PortState::Listening | PortState::Blocking
    ) {
        let verdict = Verdict::Drop(DropReason::IngressVlanState);
        assert_eq!((outcome.verdict(), outcome.learned()), (verdict, None));
        return;
    }
    assert_eq!(outcome.class().vid(), tci & 0xfff);
    counters.count_in_vlan(outcome.class().vlan.expect("its VLAN"), &outcome, bytes.len());
    assert_eq!(outcome.learned(), Some(model.learn(tci & 0xfff, source, ingress)));
    let (copies, reason) = model.decide(ingress, destination, tag, tci);
    let sent: Vec<_> = outcome.egress().iter().map(|egress| (egress.port.0, egress.edit)).collect();
    model.count(ingress, tci & 0xfff, bytes.len() - tag.map_or(0, |_| 4), &copies);
    assert_eq!((sent, outcome.drop_reason()), (copies, reason));
    let counts = counters.vlan(vid(tci & 0xfff)).map(VlanCounters::read);
    assert_eq!(counts.as_ref(), model.counts.get(&(tci & 0xfff)));
    for port in 0..PORTS {
        let counts = counters.vlan_of_port(PortId(port), vid(tci & 0xfff)).map(VlanCounters::read);
        let expected = model.port_counts.get(&(port, tci & 0xfff)).copied();
        assert_eq!(counts.unwrap_or_default(), expected.unwrap_or_default());
    }
}

// ---- random histories ----------------------------------------------------------------------------------

fn event() -> impl Strategy<Value = Event> {
    let place = || (0..PORTS, prop_oneof![4 => 1..4u16, 1 => Just(4094)]);
    let member = (any::<bool>(), any::<bool>()).prop_map(|(pvid, untagged)| Member { pvid, untagged });
    let mac = || (1..6u8).prop_map(|last| Mac([2, 0, 0, 0, 0, last]));
    let destination = prop_oneof![4 => mac(), 1 => Just(Mac::BROADCAST)];
    let vlan = prop_oneof![2 => Just(0), 4 => 1..5u16, 1 => Just(4094), 1 => Just(4095)];
    let tag =
        prop_oneof![2 => Just(None), 3 => (vlan, 0..16u16).prop_map(|(vlan, high)| Some(high << 12 | vlan))];
    prop_oneof![
        2 => (place(), member).prop_map(|((port, vlan), member)| Event::Add(port, vlan, member)),
        1 => place().prop_map(|(port, vlan)| Event::Remove(port, vlan)),
        1 => (place(), proptest::sample::select(&PortState::ALL))
            .prop_map(|((port, vlan), state)| Event::SetState(port, vlan, state)),
        8 => (0..PORTS, destination, mac(), tag)
            .prop_map(|(ingress, destination, source, tag)| Event::Frame { ingress, destination, source, tag }),
    ]
}

proptest! {
    #[test]
    fn vlans_match_reference_model(events in proptest::collection::vec(event(), 0..80)) {
        let (switch, mut model) = (switch(), Model::default());
        let counters = Counters::new(&VlanSettings { stats_per_port: true, ..*switch.vlans.settings() });
        for event in events {
            match event {
                Event::Add(port, vlan, member) => {
                    switch.vlans.add(PortId(port), vid(vlan), member);
                    assert!(counters.count_in(PortId(port), vid(vlan)));
                    model.add(port, vlan, member);
                }
                Event::Remove(port, vlan) => {
                    switch.vlans.remove(PortId(port), vid(vlan));
                    model.members.remove(&(port, vlan));
                    model.states.remove(&(port, vlan));
                }
                // Control refuses a state of a port that is not a member.
                Event::SetState(port, vlan, _) if !model.members.contains_key(&(port, vlan)) => {}
                Event::SetState(port, vlan, state) => {
                    switch.vlans.set_state(PortId(port), vid(vlan), state);
                    model.states.insert((port, vlan), state);
                }
                Event::Frame { .. } => check_frame(&switch, &counters, &mut model, &event),
            }
        }
    }
}
