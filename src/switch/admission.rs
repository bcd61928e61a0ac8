//! Which received frames are admitted: checked before their source is learned.

use super::forward::Forwarding;
use super::gateway::Claim;
use super::offload::{OffloadFault, check_offload};
use super::outcome::Fault;
use super::port::IngressPort;
use super::vlan::{Classified, VlanFault};
use super::{DropReason, Frame, LimitKind, Observer, Port, PortFlags, PortId, Step, Switch, Violation};
use crate::wire::{EthernetFrame, Mac};

/// A frame that is admitted.
pub(super) struct Admitted<'a> {
    pub(super) ethernet: EthernetFrame<'a>,
    /// Received from the host port, which may use the gateway's addresses.
    pub(super) from_host: bool,
    /// Why it is dropped once its source is learned, because the ingress port only learns.
    pub(super) only_learned: Option<DropReason>,
    /// The flags of the ingress port.
    pub(super) flags: PortFlags,
    /// Its VLAN, if the switch filters VLANs.
    pub(super) vlan: Option<Classified>,
    /// It has entered by an uplink with one MAC address for all hosts.
    pub(super) by_uplink: bool,
    /// Its destination.
    pub(super) destination: Mac,
}

impl Admitted<'_> {
    /// The frame as hosts of its VLAN see it: without the tag of that VLAN.
    pub(super) fn untagged(&self) -> EthernetFrame<'_> {
        self.vlan.map_or(self.ethernet, |class| class.untagged(self.ethernet))
    }
}

/// Why a frame is not admitted.
pub(super) enum Refusal {
    Reason(DropReason),
    Fault(Fault),
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Refusal {
        Refusal::Reason(reason)
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Refusal {
        Refusal::Fault(Fault::Violation(violation))
    }
}

impl From<VlanFault> for Refusal {
    fn from(fault: VlanFault) -> Refusal {
        Refusal::Fault(Fault::Vlan(fault))
    }
}

impl From<OffloadFault> for Refusal {
    fn from(fault: OffloadFault) -> Refusal {
        Refusal::Fault(Fault::Offload(fault))
    }
}

/// Checks whether a frame is admitted. Learning comes later, so nothing is learned from a frame that is dropped here.
#[inline]
pub(super) fn admit<'a, const VLANS: bool, O: Observer>(
    forwarding: &Forwarding<'a, VLANS>,
    port: Option<IngressPort>,
    observer: &mut O,
) -> Result<Admitted<'a>, Refusal> {
    let &Forwarding { switch, ingress, frame, .. } = forwarding;
    let Some(IngressPort { port, flags, limited, uplink, .. }) = port else {
        return Err(DropReason::IngressDown.into());
    };
    let Port { up, host: from_host, .. } = port;
    if !up {
        admit_to_learn(switch, ingress, frame)?;
    }
    observer.note(Step::Ingress(port));
    let ethernet = EthernetFrame::new_checked(frame.bytes).ok_or(DropReason::Runt)?;
    let source = ethernet.src();
    if source.is_group() || source.is_zero() {
        return Err(DropReason::BadSource.into());
    }
    if !from_host && source == switch.gateway.mac.get() {
        return Err(claim_of_gateway(switch, ingress, &ethernet));
    }
    observer.note(Step::Source(source));
    if ethernet.dst().is_reserved() {
        admit_reserved(switch, ingress, ethernet.dst())?;
    }
    let vlan = if VLANS { switch.vlans.classify(ingress, &ethernet)? } else { None };
    if let Some(class) = vlan {
        observer.note(Step::Vlan(class));
    }
    let only_learned = match vlan {
        _ if !up => Some(DropReason::IngressBlocked),
        Some(class) => switch.vlans.check_ingress_state(ingress, class.vid)?,
        None => None,
    };
    check_offload(frame, &ethernet)?;
    if !from_host {
        check_identity(switch, ingress, vlan, &ethernet)?;
    }
    if limited {
        forwarding.check_rate(ingress, LimitKind::IngressRate)?;
    }
    let destination = ethernet.dst();
    Ok(Admitted { ethernet, from_host, only_learned, flags, vlan, by_uplink: uplink, destination })
}

/// The switch sends BPDUs with the gateway's MAC: one that comes back shows a loop.
#[cold]
fn claim_of_gateway(switch: &Switch, ingress: PortId, ethernet: &EthernetFrame<'_>) -> Refusal {
    if switch.is_own_bpdu(ingress, ethernet.dst()) {
        DropReason::Bpdu.into()
    } else {
        Violation::Gateway(Claim::SourceMac).into()
    }
}

/// Whether a frame is admitted to a port that does not forward: to learn its source.
#[cold]
fn admit_to_learn(switch: &Switch, ingress: PortId, frame: &Frame<'_>) -> Result<(), DropReason> {
    let ethernet = EthernetFrame::new_checked(frame.bytes);
    let is_own_bpdu = || ethernet.is_some_and(|frame| switch.is_own_bpdu(ingress, frame.dst()));
    if switch.ports.is_mirror_destination(ingress) {
        Err(DropReason::IngressMirror)
    } else if !switch.ports.is_blocked(ingress) {
        Err(DropReason::IngressDown)
    } else if is_own_bpdu() {
        Err(DropReason::Bpdu)
    } else if switch.ports.only_learns(ingress) {
        Ok(())
    } else {
        Err(DropReason::IngressBlocked)
    }
}

/// Whether a frame to a reserved group address is forwarded.
#[cold]
fn admit_reserved(switch: &Switch, ingress: PortId, group: Mac) -> Result<(), DropReason> {
    if switch.is_own_bpdu(ingress, group) {
        Err(DropReason::Bpdu)
    } else if switch.forwards_reserved(ingress, group) {
        Ok(())
    } else {
        Err(DropReason::ReservedAddress)
    }
}

/// Checks the addresses that a frame from a container uses. A guarded port's identity excludes the gateway's
/// addresses, so a violation is checked against the gateway only to choose between the two drop reasons.
///
/// A port's addresses are those in its own VLAN (PVID), and a gateway's those in the VLAN of its host port. In other
/// VLANs only the source MAC is checked, as behind a tag without VLAN filtering.
#[inline(always)]
fn check_identity(
    switch: &Switch,
    ingress: PortId,
    vlan: Option<Classified>,
    ethernet: &EthernetFrame<'_>,
) -> Result<(), Violation> {
    if let Some(class) = vlan {
        return check_identity_in_vlan(switch, ingress, class, ethernet);
    }
    match switch.guards.port(ingress) {
        None => switch.gateway.check(ethernet),
        Some(identity) => identity
            .check(ethernet)
            .map_err(|violation| switch.gateway.check(ethernet).err().unwrap_or(violation)),
    }
}

#[inline(never)]
fn check_identity_in_vlan(
    switch: &Switch,
    ingress: PortId,
    class: Classified,
    ethernet: &EthernetFrame<'_>,
) -> Result<(), Violation> {
    let untagged = class.untagged(*ethernet);
    let as_gateway = || match switch.gateway_in(class.vid) {
        Some(gateway) if ethernet.src() == gateway.mac.get() => Err(Violation::Gateway(Claim::SourceMac)),
        Some(gateway) => gateway.check(&untagged),
        None => Ok(()),
    };
    let Some(identity) = switch.guards.port(ingress) else { return as_gateway() };
    let is_own = switch.vlans.pvid(ingress) == Some(class.vid);
    let checked = identity.check(if is_own { &untagged } else { ethernet });
    checked.map_err(|violation| as_gateway().err().unwrap_or(violation))
}
