//! Explains forwarding decisions: their steps, with the names of the ports.

use std::time::SystemTime;

use super::ports::{LinkState, PortRecord};
use super::{HostNetwork, RunError, Running};
use crate::control::topology::{Packet, RouteLookup, SenderRoute};
use crate::control::trace::{
    BuiltFrame, FloodClass, FrameDefaults, LearnOutcome, Trace, TraceEgress, TraceError, TraceRequest,
    TraceStep, TraceVerdict, frame,
};
use crate::switch::fdb::Learned;
use crate::switch::segmentation::segments;
use crate::switch::{
    Claim, DropReason, Frame, GatewayReply, OffloadFault, PortId, Step, Steps, Verdict, Violation,
};
use crate::wire::segment::{super_frame_header, wire_length};
use crate::wire::{EthernetFrame, Mac, Pretty};

/// A forwarding decision and its frame.
pub(super) struct Decision<'a> {
    pub(super) time: SystemTime,
    pub(super) frame: Frame<'a>,
    pub(super) ingress: PortId,
    pub(super) steps: Steps,
    pub(super) verdict: Verdict,
    /// The egress ports, and those that do not get the frame, with the reason.
    pub(super) egress: Vec<(PortId, Result<(), DropReason>)>,
}

/// What an egress port gets: the frame as it is (`None`), or a number of segments, or nothing for a
/// reason.
type EgressOutcome = Result<Option<usize>, DropReason>;

impl<M: HostNetwork> Running<M> {
    /// The lookup of the route that the traced packet takes, if that decides which frame the sender sends. A device that
    /// is gone has none.
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
        let packet = Packet { source: echo.src, destination: echo.dst };
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
        let mut steps = Steps::default();
        let verdict = self.switch.trace(self.datapath.now(), ingress, &frame, &mut steps);
        let egress = match verdict {
            Verdict::Flood => {
                let length = wire_length(frame.bytes, &frame.vnet);
                self.switch
                    .flood_decisions(ingress, length)
                    .filter(|(egress, _)| *egress != ingress)
                    .collect()
            }
            Verdict::Forward(egress) => vec![(egress, Ok(()))],
            Verdict::Refused { egress, reason } => vec![(egress, Err(reason))],
            Verdict::Answer(_) | Verdict::Drop(_) => Vec::new(),
        };
        let trace =
            self.explain(&Decision { time: SystemTime::now(), frame, ingress, steps, verdict, egress });
        Ok(Trace { route, ..trace })
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
    pub(super) fn explain(&self, decision: &Decision<'_>) -> Trace {
        let Decision { time, frame, ingress, .. } = decision;
        let name = |port: PortId| self.port_name(port, *time);
        let ethernet = EthernetFrame::new_checked(frame.bytes);
        let destination = ethernet.map(|ethernet| ethernet.dst());
        let mut steps: Vec<TraceStep> =
            decision.steps.iter().filter_map(|step| self.step(step, ethernet.as_ref(), &name)).collect();
        if decision.verdict == Verdict::Flood {
            steps.extend(destination.map(|mac| TraceStep::Flood { class: class(mac) }));
        }
        let egress: Vec<(PortId, EgressOutcome)> = decision
            .egress
            .iter()
            .map(|(port, ruling)| (*port, self.egress_outcome(frame, *port, *ruling)))
            .collect();
        let report = |(port, made): &(PortId, EgressOutcome)| TraceEgress {
            ifname: name(*port),
            reason: made.err().map(|reason| reason.name().to_owned()),
            why: made.err().map(|reason| match (decision.verdict, reason) {
                (Verdict::Flood, DropReason::EgressDown) => {
                    "the port is down, so not part of the flood".to_owned()
                }
                (Verdict::Flood, DropReason::EgressBlocked) => {
                    "the port is blocked, so not part of the flood".to_owned()
                }
                _ => reason.text().to_owned(),
            }),
            segments: made.ok().flatten(),
        };
        Trace {
            time: None,
            ifname: name(*ingress),
            frame: Pretty(frame.bytes).to_string(),
            length: frame.bytes.len(),
            route: None,
            gso_size: frame.vnet.is_super_frame().then_some(frame.vnet.gso_size),
            steps,
            egress: egress.iter().map(report).collect(),
            verdict: self.verdict(decision, &egress),
        }
    }

    fn step(
        &self,
        step: Step,
        ethernet: Option<&EthernetFrame<'_>>,
        name: &impl Fn(PortId) -> String,
    ) -> Option<TraceStep> {
        Some(match step {
            Step::Ingress(port) => TraceStep::Ingress { host: port.host },
            Step::Source(mac) => TraceStep::Source { mac },
            Step::Admitted => TraceStep::Admitted,
            Step::Learned(learned) => learn_step(learned, name),
            Step::Asked(answer) => TraceStep::Gateway { answer: answer.map(|answer| self.answer(answer)) },
            Step::LookedUp(found) => TraceStep::Lookup { mac: ethernet?.dst(), ifname: found.map(name) },
            // A failed check is reported by the verdict.
            Step::OffloadFault(_) | Step::Violation(_) | Step::Verdict(_) => return None,
        })
    }

    fn answer(&self, answer: GatewayReply) -> String {
        let mac = self.switch.gateway.mac.get();
        match answer {
            GatewayReply::Arp { address } => format!("ARP reply, {address} is-at {mac}"),
            GatewayReply::Neighbour { address } => format!("neighbor advertisement, {address} is at {mac}"),
            GatewayReply::Echo => "ICMP echo reply".to_owned(),
            GatewayReply::Echo6 => "ICMP6 echo reply".to_owned(),
        }
    }

    /// What the egress port gets.
    fn egress_outcome(
        &self,
        frame: &Frame<'_>,
        port: PortId,
        ruling: Result<(), DropReason>,
    ) -> EgressOutcome {
        ruling?;
        if frame.vnet.is_complete() || self.switch.ports.port(port).is_some_and(|port| port.offload) {
            return Ok(None);
        }
        Ok(Some(segments(frame)?.remaining()))
    }

    fn verdict(&self, decision: &Decision<'_>, egress: &[(PortId, EgressOutcome)]) -> TraceVerdict {
        let drop = |reason: DropReason, on: PortId| TraceVerdict::Drop {
            reason: reason.name().to_owned(),
            ifname: self.port_name(on, decision.time),
            why: why(reason, &decision.steps),
        };
        let sent = egress.iter().filter(|(_, made)| made.is_ok()).count();
        let refusal = egress.iter().find_map(|(port, made)| match made {
            Err(reason) if reason.is_counted_in_flood() || decision.verdict != Verdict::Flood => {
                Some((*reason, *port))
            }
            _ => None,
        });
        match decision.verdict {
            Verdict::Answer(answer) => TraceVerdict::Answer { answer: self.answer(answer) },
            Verdict::Drop(reason) => drop(reason, decision.ingress),
            Verdict::Refused { egress, reason } => drop(reason, egress),
            Verdict::Forward(port) if sent > 0 => {
                TraceVerdict::Forward { ifname: self.port_name(port, decision.time) }
            }
            Verdict::Flood if sent > 0 => TraceVerdict::Flood { ports: sent },
            Verdict::Forward(_) | Verdict::Flood => {
                let (reason, on) = refusal.unwrap_or((DropReason::NoEgress, decision.ingress));
                drop(reason, on)
            }
        }
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
        Learned::Off => (LearnOutcome::Off, None, None),
    };
    TraceStep::Learned { outcome, from: from.map(name), gone }
}

const fn class(destination: Mac) -> FloodClass {
    match destination {
        Mac::BROADCAST => FloodClass::Broadcast,
        group if group.is_group() => FloodClass::Multicast,
        _ => FloodClass::UnknownUnicast,
    }
}

/// The text of a drop reason, with the detail from the steps if there is any.
fn why(reason: DropReason, steps: &Steps) -> String {
    let exactly = steps.iter().find_map(|step| match step {
        Step::Violation(violation) => Some(violated(violation)),
        Step::OffloadFault(fault) => Some(faulty(fault).to_owned()),
        _ => None,
    });
    exactly.unwrap_or_else(|| reason.text().to_owned())
}

fn violated(violation: Violation) -> String {
    match violation {
        Violation::Gateway(claim) => claimed(claim),
        Violation::SourceMac(mac) => format!("guard: its source MAC {mac} is not the port's"),
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
