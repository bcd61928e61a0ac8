//! The forwarding decision: admit the frame, learn its source, choose the egress. It fills in the [`Outcome`]; the
//! observer receives each step.

use super::admission::{Admitted, Refusal, admit};
use super::fdb::{Database, FdbKey, Learned, Share, ShareTo};
use super::ipvlan::uplinks::Entered;
use super::ipvlan::{Head, Uplink, UplinkCopy};
use super::meter::{MeterTime, Metering};
use super::outcome::{Destination, Edit, Egress, FrameClass, Outcome, Punt};
use super::port::EgressPort;
use super::segmentation::segments;
use super::{DropReason, Frame, LimitKind, Observer, PortFlag, PortFlags, PortId, Step, Switch, Verdict};
use crate::wire::ip::has_loopback4;
use crate::wire::segment::wire_length;
use crate::wire::{EtherType, EthernetFrame, Mac};

/// A frame and everything that its outcome depends on. `VLANS`: the switch filters VLANs. Without them the decision is
/// compiled apart, so that it does not pay for them.
pub(super) struct Forwarding<'a, const VLANS: bool> {
    pub(super) switch: &'a Switch,
    /// The time, and whether limits count the frame.
    pub(super) at: MeterTime,
    pub(super) ingress: PortId,
    pub(super) frame: &'a Frame<'a>,
}

impl<const VLANS: bool> Forwarding<'_, VLANS> {
    /// The key of an address in the VLAN of a frame.
    #[inline]
    pub(super) fn key(admitted: &Admitted<'_>, mac: Mac) -> FdbKey {
        let vlan = admitted.vlan.filter(|_| VLANS);
        FdbKey { vlan: vlan.map_or(0, |class| class.vid.get()), mac }
    }

    /// Decides. The side effects are learning in `fdb`, which is the real database or a dry run, and the tokens of
    /// limits.
    #[inline]
    pub(super) fn decide<D: Database, O: Observer>(
        &self,
        mut fdb: D,
        outcome: &mut Outcome,
        observer: &mut O,
    ) {
        outcome.begin(self.ingress);
        let ingress = self.switch.ports.ingress(self.ingress);
        if ingress.as_ref().is_some_and(|ingress| ingress.mirrored) {
            self.switch.mirror_received(self.at, self.ingress, self.frame, outcome);
        }
        outcome.verdict = match admit(self, ingress, observer) {
            Ok(mut admitted) => {
                observer.note(Step::Admitted);
                if VLANS {
                    outcome.class.vlan = admitted.vlan;
                }
                let entered = if admitted.by_uplink { self.enter(&mut admitted, outcome) } else { Ok(None) };
                match entered.and_then(|host| Ok((host, self.learn(&admitted, &mut fdb)?))) {
                    Ok((host, learned)) => {
                        observer.note(Step::Learned(learned));
                        outcome.learned = Some(learned);
                        match (admitted.only_learned, host) {
                            (Some(reason), _) => Verdict::Drop(reason),
                            (None, None) => self.choose_and_share(&admitted, &fdb, outcome, observer),
                            (None, Some(port)) => {
                                observer.note(Step::LookedUp(Some(port)));
                                self.deliver(port, outcome)
                            }
                        }
                    }
                    Err(reason) => Verdict::Drop(reason),
                }
            }
            Err(Refusal::Reason(reason)) => {
                outcome.punt = (reason == DropReason::Bpdu).then_some(Punt::Bpdu);
                Verdict::Drop(reason)
            }
            Err(Refusal::Fault(fault)) => {
                outcome.fault = Some(fault);
                Verdict::Drop(fault.reason())
            }
        };
    }

    /// Learns the source, unless the port's flags say otherwise.
    #[inline]
    fn learn<D: Database>(&self, admitted: &Admitted<'_>, fdb: &mut D) -> Result<Learned, DropReason> {
        let source = Self::key(admitted, admitted.ethernet.src());
        if admitted.flags.changes(PortFlags::INGRESS) {
            return self.learn_as_flags_say(admitted.flags, source, fdb);
        }
        Ok(fdb.learn(self.at.now.tick, source, self.ingress))
    }

    /// A locked port learns no new address: one is there if it was added, or learned before (`br_handle_frame_finish`
    /// in Linux `net/bridge/br_input.c`).
    #[cold]
    fn learn_as_flags_say<D: Database>(
        &self,
        flags: PortFlags,
        source: FdbKey,
        fdb: &mut D,
    ) -> Result<Learned, DropReason> {
        let locked = flags.has(PortFlag::Locked);
        let is_here = || fdb.lookup(self.at.now.tick, source) == Some(self.ingress);
        if locked && !is_here() {
            return Err(DropReason::Locked);
        }
        let learns = flags.has(PortFlag::Learning) && !flags.has(PortFlag::Hub);
        if learns { Ok(fdb.learn(self.at.now.tick, source, self.ingress)) } else { Ok(Learned::Off) }
    }
}

impl<const VLANS: bool> Forwarding<'_, VLANS> {
    /// Chooses the egress of an admitted frame, and whether a fast datapath may forward the next ones.
    #[inline]
    fn choose_and_share<D: Database, O: Observer>(
        &self,
        admitted: &Admitted<'_>,
        fdb: &D,
        outcome: &mut Outcome,
        observer: &mut O,
    ) -> Verdict {
        let verdict = self.choose(admitted, fdb, outcome, observer);
        if fdb.is_shared() {
            outcome.share = self.share(admitted, verdict, outcome);
        }
        verdict
    }

    /// Chooses the egress of an admitted frame.
    #[inline]
    fn choose<D: Database, O: Observer>(
        &self,
        admitted: &Admitted<'_>,
        fdb: &D,
        outcome: &mut Outcome,
        observer: &mut O,
    ) -> Verdict {
        let destination = admitted.destination;
        let to_gateway = destination == self.gateway_mac(admitted);
        if !admitted.from_host && (to_gateway || destination.is_group()) {
            let answer = self.answer(admitted);
            observer.note(Step::Asked(answer));
            if let Some(answer) = answer {
                return Verdict::Answer(answer);
            }
        }
        if destination.is_group() {
            return self.choose_for_group(admitted, fdb, outcome, observer);
        }
        let hub = admitted.flags.has(PortFlag::Hub);
        let found = if hub { None } else { fdb.lookup(self.at.now.tick, Self::key(admitted, destination)) };
        observer.note(Step::LookedUp(found));
        match found {
            Some(egress) => self.deliver(egress, outcome),
            None if to_gateway && !hub => Verdict::Drop(DropReason::NoHostPort),
            None => self.flood(Destination::UnknownUnicast, outcome, observer),
        }
    }

    /// A frame from a known station to another one, or to all, without tags: a fast datapath may forward the next ones.
    #[cold]
    fn share(&self, admitted: &Admitted<'_>, verdict: Verdict, outcome: &Outcome) -> Option<Share> {
        let is_known =
            matches!(outcome.learned, Some(Learned::Known | Learned::Static | Learned::Returned { .. }));
        let [source, destination] =
            [admitted.ethernet.src(), admitted.ethernet.dst()].map(|mac| Self::key(admitted, mac));
        let to = match (verdict, outcome.class.destination) {
            _ if !is_known || !outcome.is_sent() || destination.mac.is_zero() => return None,
            _ if admitted.vlan.is_some_and(|class| !class.is_untagged()) => return None,
            (Verdict::Forward(egress), _) => ShareTo::Station(egress),
            (Verdict::Flood, Destination::Group) => return None,
            // Who may send to a reserved group depends on the port.
            (Verdict::Flood, _) if !destination.mac.is_reserved() => ShareTo::All,
            _ => return None,
        };
        let share = Share { source: (source, self.ingress), destination: (destination, to) };
        self.switch.fdb.would_share(&share, || self.switch.mdb.floods_all()).then_some(share)
    }

    /// The gateway's reply. There is none to a frame with a partial checksum, because no request may have one
    /// ([`super::offload`]), none in a VLAN without a gateway, and none to the network behind an uplink, which would
    /// have the gateway's MAC address.
    #[inline]
    fn answer(&self, admitted: &Admitted<'_>) -> Option<super::SwitchReply> {
        let Admitted { ethernet, vlan, .. } = admitted;
        if !self.frame.vnet.is_complete() || admitted.by_uplink {
            return None;
        }
        match vlan {
            None => self.switch.gateway.answer(ethernet),
            Some(class) => self.switch.gateway_in(class.vid)?.answer(&class.untagged(*ethernet)),
        }
    }

    /// The MAC address of the gateway in the frame's VLAN. In a VLAN without one it is that of the switch's gateway,
    /// which no host can have.
    #[inline]
    fn gateway_mac(&self, admitted: &Admitted<'_>) -> Mac {
        let in_vlan = admitted.vlan.filter(|_| VLANS).and_then(|class| self.switch.gateway_in(class.vid));
        in_vlan.unwrap_or(&self.switch.gateway).mac.get()
    }

    /// Sends unicast to one port.
    #[inline]
    fn deliver(&self, egress: PortId, outcome: &mut Outcome) -> Verdict {
        self.classify(Destination::Unicast, outcome);
        match self.send(egress, outcome) {
            Ok(()) => Verdict::Forward(egress),
            Err(DropReason::Filtered) => Verdict::Drop(DropReason::Filtered),
            Err(reason) => {
                outcome.refused.push((egress, reason));
                Verdict::Refused { egress, reason }
            }
        }
    }

    /// Sends the frame to each port that may have it.
    pub(super) fn flood<O: Observer>(
        &self,
        kind: Destination,
        outcome: &mut Outcome,
        observer: &mut O,
    ) -> Verdict {
        match outcome.class.vlan.filter(|_| VLANS) {
            None => self.send_each(self.switch.ports.iter(), kind, outcome, observer),
            Some(class) => self.send_each(self.switch.vlans.members(class.vid), kind, outcome, observer),
        }
    }

    /// Sends the frame to each of these ports that may have it.
    pub(super) fn send_each<O: Observer>(
        &self,
        ports: impl Iterator<Item = PortId>,
        kind: Destination,
        outcome: &mut Outcome,
        observer: &mut O,
    ) -> Verdict {
        if let Err(reason) = self.check_storm(kind) {
            return Verdict::Drop(reason);
        }
        self.classify(kind, outcome);
        for egress in ports {
            match self.send(egress, outcome) {
                Ok(()) => {}
                Err(reason) if reason.is_counted_in_flood() => outcome.refused.push((egress, reason)),
                Err(reason) => observer.note(Step::NotFlooded(egress, reason)),
            }
        }
        if outcome.is_sent() || !outcome.refused.is_empty() {
            Verdict::Flood
        } else {
            Verdict::Drop(DropReason::NoEgress)
        }
    }

    /// Completes what the egress rules need to know.
    #[inline]
    fn classify(&self, destination: Destination, outcome: &mut Outcome) {
        outcome.class.destination = destination;
        outcome.class.wire_length = wire_length(self.frame.bytes, &self.frame.vnet);
    }

    /// The one egress rule: that of the ports, and that of the VLANs. Returns the port, and the edit of its copy.
    #[inline]
    fn may_deliver(&self, class: &FrameClass, egress: PortId) -> Result<(EgressPort, Edit), DropReason> {
        let port = self.switch.ports.may_deliver(class, egress)?;
        let vlans = &self.switch.vlans;
        match class.vlan.filter(|_| VLANS) {
            None => Ok((port, Edit::None)),
            Some(vlan) => {
                vlans.check_egress(egress, vlan.vid)?;
                Ok((port, vlans.edit(vlan, egress)))
            }
        }
    }

    /// Sends the frame to a port, in the form that the port takes, if it may have it. Inlined in the loop of a flood,
    /// so that a port of it does not pay for a call.
    #[inline(always)]
    fn send(&self, egress: PortId, outcome: &mut Outcome) -> Result<(), DropReason> {
        let (port, edit) = self.may_deliver(&outcome.class, egress)?;
        if port.is_host() && self.is_martian(outcome) {
            return Err(DropReason::Martian);
        }
        let whole = port.has_offload() || self.frame.vnet.is_complete();
        if !whole {
            self.segment(outcome)?;
        }
        let copy = Egress { port: egress, edit };
        if port.is_special() {
            return self.send_specially(port, copy, whole, outcome);
        }
        if whole {
            outcome.egress.push(copy);
        } else {
            outcome.segmented.push(copy);
        }
        Ok(())
    }

    /// Sends the frame to a port with a rate limit, to one that is mirrored, or to an uplink.
    #[cold]
    fn send_specially(
        &self,
        port: EgressPort,
        egress: Egress,
        whole: bool,
        outcome: &mut Outcome,
    ) -> Result<(), DropReason> {
        let head = if port.is_uplink() { Some(self.leave(egress.port, outcome)?) } else { None };
        if port.is_limited() {
            self.check_rate(egress.port, LimitKind::EgressRate)?;
        }
        if port.is_mirrored() {
            self.switch.mirror_sent(self.at, egress, self.frame, outcome);
        }
        match head {
            Some(head) => {
                outcome.uplinks.push(UplinkCopy { egress, whole, head });
                outcome.rewritten = true;
            }
            None if whole => outcome.egress.push(egress),
            None => outcome.segmented.push(egress),
        }
        Ok(())
    }

    /// Whether a packet is from or to 127.0.0.0/8. The kernel of a host that publishes ports at 127.0.0.1 does not drop
    /// it (`route_localnet`), and the firewall that does may be flushed.
    #[inline]
    fn is_martian(&self, outcome: &Outcome) -> bool {
        let Some(ethernet) = EthernetFrame::new_checked(self.frame.bytes) else { return false };
        let untagged =
            outcome.class.vlan.filter(|_| VLANS).map_or(ethernet, |class| class.untagged(ethernet));
        matches!(untagged.network(), Some((EtherType::IPV4, packet)) if has_loopback4(packet))
    }

    /// The head of the frame when it leaves by an uplink, which learns where its sender is.
    fn leave(&self, port: PortId, outcome: &Outcome) -> Result<Head, DropReason> {
        let leave = |uplink: &Uplink| {
            let head = outcome.entered.unwrap_or_else(|| Head::of(self.frame.bytes));
            let head = uplink.leave(self.frame, head)?;
            if self.at.metering == Metering::Take
                && let Some(ethernet) = EthernetFrame::new_checked(self.frame.bytes)
            {
                uplink.learn(self.at.now.tick, &ethernet, self.ingress);
            }
            Ok(head)
        };
        self.switch.uplinks.with(port, leave).unwrap_or(Err(DropReason::EgressDown))
    }

    /// Finds out for whom a frame is that has entered by an uplink. Returns the port of the host, if it is for one.
    #[cold]
    fn enter(
        &self,
        admitted: &mut Admitted<'_>,
        outcome: &mut Outcome,
    ) -> Result<Option<PortId>, DropReason> {
        let enter = |uplink: &Uplink| uplink.enter(&admitted.ethernet, self.frame.bytes);
        let entered = self.switch.uplinks.with(self.ingress, enter).unwrap_or(Ok(Entered::AsUsual))?;
        let (port, head) = match entered {
            Entered::AsUsual => return Ok(None),
            Entered::ToGroup(group, head) => {
                admitted.destination = group;
                (None, head)
            }
            Entered::ToHost(port, head) => (Some(port), head),
        };
        (outcome.entered, outcome.rewritten) = (Some(head), true);
        Ok(port)
    }

    /// Checks the storm control of the ingress port.
    #[inline]
    fn check_storm(&self, destination: Destination) -> Result<(), DropReason> {
        let &Forwarding { switch, at, ingress, .. } = self;
        match LimitKind::of_storm(destination) {
            Some(kind) if switch.ports.is_limited(ingress) => switch.limits.check(ingress, kind, 1, at),
            _ => Ok(()),
        }
    }

    /// Checks a rate limit. A super-frame counts with its whole length.
    #[cold]
    pub(super) fn check_rate(&self, port: PortId, kind: LimitKind) -> Result<(), DropReason> {
        let bits = self.frame.bytes.len() as u64 * 8;
        self.switch.limits.check(port, kind, bits, self.at)
    }

    /// Counts the segments, the first time that a port needs them.
    #[cold]
    fn segment(&self, outcome: &mut Outcome) -> Result<(), DropReason> {
        if outcome.segments == 0 {
            outcome.segments = segments(self.frame)?.remaining();
        }
        Ok(())
    }
}
