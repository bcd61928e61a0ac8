//! Explains forwarding decisions: their steps, with the names of the ports.

use std::net::IpAddr;
use std::time::SystemTime;

use super::link_state::LinkState;
use super::ports::PortRecord;
use super::{HostNetwork, RunError, Running};
use crate::control::topology::{RouteLookup, RoutedPacket, SenderRoute};
use crate::control::trace::{
    BuiltFrame, FloodClass, FrameDefaults, LearnOutcome, TagEdit, Trace, TraceEgress, TraceError,
    TraceRequest, TraceStep, TraceVerdict, frame,
};
use crate::switch::fdb::Learned;
use crate::switch::ipvlan::Head;
use crate::switch::mdb::Class;
use crate::switch::vlan::VlanFault;
use crate::switch::{
    Claim, CopyForm, Destination, DropReason, Egress, Fault, Frame, MirrorCopy, Observer, OffloadFault,
    Outcome, PortId, Side, Step, Steps, SwitchReply, Verdict, Violation,
};
use crate::wire::segment::super_frame_header;
use crate::wire::{EthernetFrame, Mac, Pretty};

/// A forwarding decision and its frame.
pub(super) struct TracedDecision<'a> {
    pub(super) time: SystemTime,
    pub(super) frame: Frame<'a>,
    pub(super) steps: Steps,
    pub(super) outcome: &'a Outcome,
    /// In a dry run: the ports that are not part of the flood.
    pub(super) not_flooded: &'a [(PortId, DropReason)],
}

/// Records the steps of a dry run.
#[derive(Default)]
struct DryRunSteps {
    steps: Steps,
    not_flooded: Vec<(PortId, DropReason)>,
}

impl Observer for DryRunSteps {
    fn note(&mut self, step: Step) {
        self.steps.note(step);
        if let Step::NotFlooded(port, reason) = step
            && reason != DropReason::Filtered
        {
            self.not_flooded.push((port, reason));
        }
    }
}

impl<M: HostNetwork> Running<M> {
    /// The lookup of the route that the traced packet takes, if that decides which frame the sender sends. A device
    /// that is gone has none.
    pub(crate) fn route_lookup(&self, request: &TraceRequest) -> Result<Option<RouteLookup>, RunError> {
        let ingress = self.port_named(&request.ifname)?;
        let TraceRequest { icmp: Some(echo), dst: None, .. } = request else { return Ok(None) };
        if let Some(source) = echo.src.filter(|source| source.is_ipv4() != echo.dst.is_ipv4()) {
            return Err(TraceError::TwoFamilies(source, echo.dst).into());
        }
        let PortRecord { device, link, .. } = &self.ports[&ingress];
        if device.polled && *link != LinkState::Gone {
            return Err(TraceError::RoutesNotVisible(request.ifname.clone()).into());
        }
        let packet = RoutedPacket { source: echo.src, destination: echo.dst };
        Ok(self.network.route_lookup(device.id, packet))
    }

    /// Explains how the switch would handle a frame now. Changes nothing. `route` is the result of
    /// [`Running::route_lookup`].
    pub(crate) fn trace(
        &self,
        request: &TraceRequest,
        route: Option<SenderRoute>,
    ) -> Result<Trace, RunError> {
        let ingress = self.port_named(&request.ifname)?;
        let device = &self.ports[&ingress].device;
        let addresses = device.addresses.iter().map(ipnet::IpNet::addr).collect();
        let defaults = FrameDefaults { port: &request.ifname, mac: device.mac, addresses };
        let BuiltFrame { bytes, route } = frame(request, &defaults, |name| self.mac_of(name), route)?;
        let vnet = request.gso_size.map(|size| super_frame_header(&bytes, size).map_err(TraceError::from));
        let frame = Frame { bytes: &bytes, vnet: vnet.transpose()?.unwrap_or_default() };
        let mut seen = DryRunSteps::default();
        let outcome = &self.switch.trace(self.datapath.clock(), ingress, &frame, &mut seen);
        let DryRunSteps { steps, not_flooded } = &seen;
        let trace = self.explain(&TracedDecision {
            time: SystemTime::now(),
            frame,
            steps: *steps,
            outcome,
            not_flooded,
        });
        Ok(Trace { route, datapath: self.datapath_of(outcome, &bytes), ..trace })
    }

    /// Resolves a destination given by name.
    fn mac_of(&self, name: &str) -> Option<Mac> {
        match name {
            "broadcast" => Some(Mac::BROADCAST),
            "gateway" => Some(self.switch.gateway.mac.get()),
            name => self.ports.values().find(|port| port.name == name).map(|port| port.device.mac),
        }
    }

    /// The name of a port at the time of a decision: it may have been deleted meanwhile, and its number reused.
    fn port_name(&self, id: PortId, at: SystemTime) -> String {
        self.names.of(id, at)
    }

    /// Describes a decision.
    pub(super) fn explain(&self, decision: &TracedDecision<'_>) -> Trace {
        let TracedDecision { time, frame, outcome, .. } = decision;
        let name = |port: PortId| self.port_name(port, *time);
        let bytes = outcome.entered().map_or(frame.bytes, Head::bytes);
        let ethernet = EthernetFrame::new_checked(bytes);
        let step = |step| self.step(step, outcome.ingress(), ethernet.as_ref(), &name);
        let mut steps: Vec<TraceStep> = decision.steps.iter().filter_map(step).collect();
        if let Some(uplink) = uplink_step(outcome) {
            let admitted = steps.iter().position(|step| *step == TraceStep::Admitted);
            steps.insert(admitted.map_or(0, |at| at + 1), uplink);
        }
        steps.extend(flood_class(outcome).map(|class| TraceStep::Flood { class }));
        Trace {
            time: None,
            ifname: name(outcome.ingress()),
            frame: Pretty(frame.bytes).to_string(),
            length: frame.bytes.len(),
            route: None,
            gso_size: frame.vnet.is_super_frame().then_some(frame.vnet.gso_size),
            steps,
            egress: egress(decision, name, |port| self.impairment(port, Side::Egress)),
            datapath: None,
            verdict: self.verdict(decision),
        }
    }

    fn step(
        &self,
        step: Step,
        ingress: PortId,
        ethernet: Option<&EthernetFrame<'_>>,
        name: &impl Fn(PortId) -> String,
    ) -> Option<TraceStep> {
        Some(match step {
            Step::Ingress(port) => {
                let impairment = self.impairment(ingress, Side::Ingress);
                TraceStep::Ingress { host: port.host, impairment }
            }
            Step::Source(mac) => TraceStep::Source { mac },
            Step::Vlan(class) => TraceStep::Vlan { vlan: class.vid.get() },
            Step::Admitted => TraceStep::Admitted,
            Step::Learned(learned) => learn_step(learned, name),
            Step::Asked(answer) => TraceStep::Gateway { answer: answer.map(|answer| self.answer(answer)) },
            Step::LookedUp(found) => TraceStep::Lookup { mac: ethernet?.dst(), ifname: found.map(name) },
            Step::NeighSuppressed(answer) => {
                TraceStep::NeighSuppressed { answer: answer.map(|answer| self.answer(answer)) }
            }
            Step::Snooped(class) => snooped(class)?,
            // The egress ports have it.
            Step::NotFlooded(..) => return None,
        })
    }

    /// The impairment of a port, if it has one.
    fn impairment(&self, port: PortId, of: Side) -> Option<String> {
        let mut given = self.ports.get(&port)?.impairment.given();
        given.find(|(side, _)| *side == of).map(|(_, impairment)| impairment.describe())
    }

    fn answer(&self, answer: SwitchReply) -> String {
        let mac = answer.source(&self.switch.gateway);
        match answer {
            SwitchReply::Arp { address } | SwitchReply::Proxy { address: IpAddr::V4(address), .. } => {
                format!("ARP reply, {address} is-at {mac}")
            }
            SwitchReply::Neighbour { address } | SwitchReply::Proxy { address: IpAddr::V6(address), .. } => {
                format!("neighbor advertisement, {address} is at {mac}")
            }
            SwitchReply::Echo => "ICMP echo reply".to_owned(),
            SwitchReply::Echo6 => "ICMP6 echo reply".to_owned(),
        }
    }

    fn verdict(&self, decision: &TracedDecision<'_>) -> TraceVerdict {
        let outcome = decision.outcome;
        let drop = |reason: DropReason, on: PortId| TraceVerdict::Drop {
            reason: reason.name().to_owned(),
            ifname: self.port_name(on, decision.time),
            why: why(reason, outcome),
        };
        match (outcome.verdict(), outcome.refused()) {
            (Verdict::Answer(answer), _) => TraceVerdict::Answer { answer: self.answer(answer) },
            (Verdict::Drop(reason), _) => drop(reason, outcome.ingress()),
            (Verdict::Refused { egress, reason }, _) => drop(reason, egress),
            (Verdict::Forward(port), _) => {
                TraceVerdict::Forward { ifname: self.port_name(port, decision.time) }
            }
            (Verdict::Flood, [(port, reason), ..]) if !outcome.is_sent() => drop(*reason, *port),
            (Verdict::Flood, _) => TraceVerdict::Flood { ports: outcome.egress_ports().count() },
        }
    }
}

/// The ports that get the frame and those that do not, in the order of their numbers.
fn egress(
    decision: &TracedDecision<'_>,
    name: impl Fn(PortId) -> String,
    impairment: impl Fn(PortId) -> Option<String>,
) -> Vec<TraceEgress> {
    let outcome = decision.outcome;
    let sent = |egress: &Egress, segments| {
        let (ifname, tag) = (name(egress.port), TagEdit::of(egress.edit));
        let impairment = impairment(egress.port);
        let sent = TraceEgress { ifname, segments, tag, impairment, ..TraceEgress::default() };
        (egress.port, sent)
    };
    let not_sent = |port, reason: DropReason, why: &str| {
        let (reason, why) = (Some(reason.name().to_owned()), Some(why.to_owned()));
        let ifname = name(port);
        (port, TraceEgress { ifname, reason, why, ..TraceEgress::default() })
    };
    let whole = outcome.egress().iter().map(|egress| sent(egress, None));
    let segmented = outcome.segmented().iter().map(|egress| sent(egress, Some(outcome.segments())));
    let uplinks = outcome.uplinks().iter().map(|copy| {
        let (port, sent) = sent(&copy.egress, (!copy.whole).then_some(outcome.segments()));
        (port, TraceEgress { uplink_mac: source(&copy.head), ..sent })
    });
    let refused = outcome.refused().iter().map(|(port, reason)| not_sent(*port, *reason, reason.text()));
    let not_flooded =
        decision.not_flooded.iter().map(|(port, reason)| not_sent(*port, *reason, &outside_flood(*reason)));
    let length = decision.frame.bytes.len();
    let copies = outcome.copies().iter().map(|MirrorCopy { egress, form }| {
        let (port, copy) = match form {
            Ok(CopyForm::Segmented) => sent(egress, Some(outcome.segments())),
            Ok(_) => sent(egress, None),
            Err(reason) => not_sent(egress.port, *reason, reason.text()),
        };
        let truncated = match form {
            Ok(CopyForm::Bytes { length: copied }) if *copied < egress.edit.length_of(length) => {
                Some(*copied)
            }
            _ => None,
        };
        (port, TraceEgress { mirrored: true, truncated, ..copy })
    });
    let sent = whole.chain(segmented).chain(uplinks);
    let mut all: Vec<_> = sent.chain(refused).chain(not_flooded).chain(copies).collect();
    all.sort_by_key(|(port, _)| *port);
    all.into_iter().map(|(_, egress)| egress).collect()
}

/// The source address of a frame with this head.
fn source(head: &Head) -> Option<Mac> {
    Some(EthernetFrame::new_checked(head.bytes())?.src())
}

/// For whom a frame has entered by an uplink, if it is not as usual.
fn uplink_step(outcome: &Outcome) -> Option<TraceStep> {
    let entered = EthernetFrame::new_checked(outcome.entered()?.bytes())?;
    Some(TraceStep::Uplink { mac: entered.dst() })
}

/// Why a port is not part of a flood.
fn outside_flood(reason: DropReason) -> String {
    let text = reason.text().split_once(',').map_or(reason.text(), |(text, _)| text);
    format!("{text}, so not part of the flood")
}

/// Why the frame is flooded; `None` if it is not.
fn flood_class(outcome: &Outcome) -> Option<FloodClass> {
    match outcome.class().destination {
        Destination::Unicast | Destination::Group => None,
        Destination::Broadcast => Some(FloodClass::Broadcast),
        Destination::Multicast => Some(FloodClass::Multicast),
        Destination::UnknownUnicast => Some(FloodClass::UnknownUnicast),
    }
}

fn snooped(class: Class) -> Option<TraceStep> {
    match class {
        Class::Message { group, is_report } => Some(TraceStep::Snooped { group, report: is_report }),
        Class::Data { group, .. } => Some(TraceStep::Snooped { group, report: false }),
        Class::Other => None,
    }
}

fn learn_step(learned: Learned, name: &impl Fn(PortId) -> String) -> TraceStep {
    let (outcome, from, gone) = match learned {
        Learned::Known | Learned::Returned { .. } => (LearnOutcome::Known, None, None),
        Learned::Static => (LearnOutcome::Static, None, None),
        Learned::New => (LearnOutcome::New, None, None),
        Learned::Evicted { from, gone } => (LearnOutcome::Evicted, Some(from), Some(gone.mac)),
        Learned::Moved { from, .. } => (LearnOutcome::Moved, Some(from), None),
        Learned::Pinned { on } => (LearnOutcome::Pinned, Some(on), None),
        Learned::Reserved { owner } => (LearnOutcome::Reserved, Some(owner), None),
        Learned::Refused => (LearnOutcome::Refused, None, None),
        Learned::LimitReached => (LearnOutcome::LimitReached, None, None),
        Learned::Off => (LearnOutcome::Off, None, None),
    };
    TraceStep::Learned { outcome, from: from.map(name), gone }
}

/// The text of a drop reason, with the detail if there is any.
fn why(reason: DropReason, outcome: &Outcome) -> String {
    match outcome.fault() {
        Some(Fault::Violation(violation)) => violated(violation),
        Some(Fault::Vlan(VlanFault::NotMember(vid))) => format!("the port is not a member of VLAN {vid}"),
        Some(Fault::Offload(fault)) => faulty(fault).to_owned(),
        Some(Fault::Vlan(VlanFault::NoPvid)) | None => reason.text().to_owned(),
    }
}

fn violated(violation: Violation) -> String {
    match violation {
        Violation::Gateway(claim) => claimed(claim),
        Violation::SourceMac(mac) => format!("guard: its source MAC {mac} is not the port's"),
        Violation::DhcpClient(mac) => format!("guard: the MAC {mac} of the DHCP client is not the port's"),
        Violation::SourceAddress(address) => format!("guard: its source address {address} is not the port's"),
        Violation::ArpSender { mac, address } => {
            format!("guard: its ARP sender, {address} at {mac}, is not the port")
        }
        Violation::NdTarget(address) => {
            format!("guard: its neighbour discovery target {address} is not the port's")
        }
        Violation::NdLinkAddress(mac) => {
            format!("guard: the MAC {mac} in its neighbour discovery is not the port's")
        }
        Violation::NdMalformed => "guard: its neighbour discovery is malformed".to_owned(),
        Violation::NdRedirect => "guard: it is a redirect, which only routers send".to_owned(),
        Violation::RouterAdvertisement
        | Violation::DhcpServer
        | Violation::FragmentedNd
        | Violation::TooManyHeaders => violation.reason().text().to_owned(),
    }
}

fn claimed(claim: Claim) -> String {
    match claim {
        Claim::SourceMac => "its source MAC is the gateway's".to_owned(),
        Claim::ArpMac => "its ARP sender MAC is the gateway's".to_owned(),
        Claim::ArpAddress(address) => format!("its ARP sender address is the gateway's {address}"),
        Claim::SourceAddress(address) => format!("its source address is the gateway's {address}"),
        Claim::NeighbourTarget(address) => {
            format!("its neighbour discovery target is the gateway's {address}")
        }
    }
}

fn faulty(fault: OffloadFault) -> &'static str {
    match fault {
        OffloadFault::ChecksumOutside => "the checksum to complete is outside the payload",
        OffloadFault::ChecksumInHeaders => "the checksum to complete would overwrite the headers",
        OffloadFault::UnknownType => "the segmentation type is unknown",
        OffloadFault::NoSegmentSize => "a super-frame without a segment size",
        OffloadFault::NoChecksum => "a super-frame must leave its checksum to be completed",
    }
}
