//! The outcome of a decision: everything that happens to a frame. Nothing about it is decided again elsewhere: workers,
//! counters, mirrors, captures and traces read it.

use super::fdb::{Learned, Share};
use super::ipvlan::{Head, UplinkCopy, Uplinks};
use super::mirror::{CopyForm, MirrorCopy};
use super::vlan::{Classified, VlanFault, Vlans};
use super::{DropReason, OffloadFault, PortId, PortMirrors, Ports, Verdict, Violation};
use crate::wire::VLAN_TAG;

/// The kind of a frame's destination. It decides which ports a frame may be flooded to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// One address whose port is known.
    #[default]
    Unicast,
    /// One address whose port is not known.
    UnknownUnicast,
    /// A group address.
    Multicast,
    /// A group address whose members are known: it is not flooded.
    Group,
    /// The broadcast address.
    Broadcast,
}

/// What the egress rules need to know about a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameClass {
    /// The port that received it.
    pub ingress: PortId,
    /// Its VLAN, if the switch filters VLANs.
    pub vlan: Option<Classified>,
    /// The kind of its destination.
    pub destination: Destination,
    /// Length of the longest frame on the wire, Ethernet header included, without the outermost tag; for a super-frame,
    /// of one segment.
    pub wire_length: usize,
    /// A message about neighbours that is not flooded to ports with [`super::PortFlag::NeighSuppress`].
    pub is_neigh_suppressed: bool,
}

impl FrameClass {
    /// The number of its VLAN; 0 without VLANs.
    pub fn vid(&self) -> u16 {
        self.vlan.map_or(0, |class| class.vid.get())
    }
}

/// A port that a frame is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Egress {
    /// The port.
    pub port: PortId,
    /// How its copy differs from the received frame.
    pub edit: Edit,
}

/// The frame as it was received.
impl From<PortId> for Egress {
    fn from(port: PortId) -> Egress {
        Egress { port, edit: Edit::None }
    }
}

/// A change of the outermost tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Edit {
    /// None: the frame as it was received.
    #[default]
    None,
    /// Insert a tag with this control information (802.1Q-2022 clause 9.6: PCP, DEI, VID).
    Push(u16),
    /// Remove it.
    Pop,
    /// Replace its control information.
    Rewrite(u16),
}

impl Edit {
    /// The length of a frame with this edit. One whose tag is removed has that tag.
    pub const fn length_of(self, frame: usize) -> usize {
        match self {
            Edit::None | Edit::Rewrite(_) => frame,
            Edit::Push(_) => frame + VLAN_TAG,
            Edit::Pop => frame - VLAN_TAG,
        }
    }
}

/// What exactly is wrong with a frame that is dropped on its ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its virtio-net header is invalid.
    Offload(OffloadFault),
    /// It uses an address that is not its port's, or cannot be checked.
    Violation(Violation),
    /// It belongs to no VLAN of its port.
    Vlan(VlanFault),
}

impl Fault {
    /// The reason that is counted.
    pub const fn reason(self) -> DropReason {
        match self {
            Fault::Offload(_) => DropReason::BadOffload,
            Fault::Violation(violation) => violation.reason(),
            Fault::Vlan(fault) => fault.reason(),
        }
    }
}

/// Why control gets a copy of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Punt {
    /// It is a BPDU.
    Bpdu,
    /// It is a message about multicast groups or routers.
    Membership,
    /// It is a router solicitation.
    RouterSolicitation,
    /// It is a message to DHCPv6 servers.
    Dhcpv6,
}

impl Punt {
    /// All variants, in their order.
    pub const ALL: [Punt; 4] = [Punt::Bpdu, Punt::Membership, Punt::RouterSolicitation, Punt::Dhcpv6];
    /// The number of variants.
    pub const COUNT: usize = Punt::ALL.len();
}

/// Everything that happens to one frame. [`super::Switch::process`] fills it in, again for each frame: it allocates
/// only when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub(super) class: FrameClass,
    pub(super) learned: Option<Learned>,
    pub(super) fault: Option<Fault>,
    pub(super) punt: Option<Punt>,
    pub(super) share: Option<Share>,
    pub(super) verdict: Verdict,
    pub(super) egress: Vec<Egress>,
    pub(super) segmented: Vec<Egress>,
    pub(super) segments: usize,
    pub(super) refused: Vec<(PortId, DropReason)>,
    pub(super) copies: Vec<MirrorCopy>,
    pub(super) entered: Option<Head>,
    pub(super) uplinks: Vec<UplinkCopy>,
    /// One of these two is there.
    pub(super) rewritten: bool,
}

impl Default for Outcome {
    fn default() -> Outcome {
        Outcome {
            class: FrameClass::default(),
            learned: None,
            fault: None,
            punt: None,
            share: None,
            verdict: Verdict::Drop(DropReason::IngressDown),
            egress: Vec::with_capacity(Ports::MAX),
            segmented: Vec::with_capacity(Ports::MAX),
            segments: 0,
            refused: Vec::with_capacity(Ports::MAX),
            copies: Vec::with_capacity(PortMirrors::MAX),
            entered: None,
            uplinks: Vec::with_capacity(Uplinks::MAX),
            rewritten: false,
        }
    }
}

impl Outcome {
    /// Forgets the frame before.
    #[inline]
    pub(super) fn begin(&mut self, ingress: PortId) {
        self.class = FrameClass { ingress, ..FrameClass::default() };
        (self.learned, self.fault, self.punt, self.segments) = (None, None, None, 0);
        self.share = None;
        self.egress.clear();
        self.segmented.clear();
        self.refused.clear();
        self.copies.clear();
        if self.rewritten {
            self.end_rewriting();
        }
    }

    /// Forgets the heads, once they are in the frames.
    #[cold]
    fn end_rewriting(&mut self) {
        (self.entered, self.rewritten) = (None, false);
        self.uplinks.clear();
    }

    /// Becomes the outcome of the gateway's answer, which leaves on the ingress port of the question, in its VLAN.
    pub(super) fn become_answer(&mut self, vlans: &Vlans) {
        let FrameClass { ingress: port, vlan, .. } = self.class;
        self.begin(port);
        self.class.vlan = vlan;
        self.verdict = Verdict::Forward(port);
        let edit = vlan.map(|class| vlans.edit(class, port)).unwrap_or_default();
        self.egress.push(Egress { port, edit });
    }

    /// The port that received the frame.
    pub fn ingress(&self) -> PortId {
        self.class.ingress
    }

    /// What the egress rules knew about it.
    pub fn class(&self) -> &FrameClass {
        &self.class
    }

    /// What learning its source did; `None` if it was not admitted.
    pub fn learned(&self) -> Option<Learned> {
        self.learned
    }

    /// What exactly is wrong with it, if the drop reason does not say all.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Why control gets a copy, if it does.
    pub fn punt(&self) -> Option<Punt> {
        self.punt
    }

    /// What a fast datapath may forward from now on. See [`super::Switch::share`].
    #[inline]
    pub fn share(&self) -> Option<Share> {
        self.share
    }

    /// In short.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The ports that get it as one frame.
    pub fn egress(&self) -> &[Egress] {
        &self.egress
    }

    /// The ports without offload that get it as complete frames.
    pub fn segmented(&self) -> &[Egress] {
        &self.segmented
    }

    /// How many complete frames these get.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// The ports that should get it and cannot take it. A port that is down is not part of a flood, and not here.
    pub fn refused(&self) -> &[(PortId, DropReason)] {
        &self.refused
    }

    /// Whether its addresses change on an uplink: [`Outcome::entered`], [`Outcome::uplinks`].
    #[inline]
    pub fn is_rewritten(&self) -> bool {
        self.rewritten
    }

    /// Its head, if that changed when it entered by an uplink.
    pub fn entered(&self) -> Option<&Head> {
        self.entered.as_ref()
    }

    /// The uplinks by which it leaves.
    pub fn uplinks(&self) -> &[UplinkCopy] {
        &self.uplinks
    }

    /// The uplink, if it leaves nowhere else. The frame then leaves like others, with the head in its place.
    pub fn take_only_uplink(&mut self) -> Option<UplinkCopy> {
        let alone = self.egress.is_empty() && self.segmented.is_empty() && self.copies.is_empty();
        let [copy] = self.uplinks[..] else { return None };
        if !alone {
            return None;
        }
        self.uplinks.clear();
        let list = if copy.whole { &mut self.egress } else { &mut self.segmented };
        list.push(copy.egress);
        Some(copy)
    }

    /// Whether mirrors copy it.
    #[inline]
    pub fn is_mirrored(&self) -> bool {
        !self.copies.is_empty()
    }

    /// The copies for mirrors.
    pub fn copies(&self) -> &[MirrorCopy] {
        &self.copies
    }

    /// The copies for mirrors that are sent as the frame itself is.
    pub fn whole_copies(&self) -> impl Iterator<Item = Egress> + '_ {
        self.copies.iter().filter(|copy| copy.form == Ok(CopyForm::Whole)).map(|copy| copy.egress)
    }

    /// The copy for the destination of a mirror, if it gets one.
    pub fn copy_for(&self, port: PortId) -> Option<&MirrorCopy> {
        self.copies.iter().find(|copy| copy.egress.port == port && copy.form.is_ok())
    }

    /// How the frame for a port differs from the received frame.
    pub fn edit_for(&self, port: PortId) -> Edit {
        let mirrored = self.copies.iter().map(|copy| &copy.egress);
        let uplinks = self.uplinks.iter().map(|copy| &copy.egress);
        let mut copies = self.egress.iter().chain(&self.segmented).chain(mirrored).chain(uplinks);
        // Without VLANs no copy differs, so no search is needed.
        let copy = self.class.vlan.and_then(|_| copies.find(|egress| egress.port == port));
        copy.map(|egress| egress.edit).unwrap_or_default()
    }

    /// All ports that get it.
    pub fn egress_ports(&self) -> impl Iterator<Item = PortId> + '_ {
        let uplinks = self.uplinks.iter().map(|copy| copy.egress.port);
        self.egress.iter().chain(&self.segmented).map(|egress| egress.port).chain(uplinks)
    }

    /// Whether a port gets it.
    pub fn is_sent(&self) -> bool {
        !self.egress.is_empty() || !self.segmented.is_empty() || !self.uplinks.is_empty()
    }

    /// Why no port gets it; `None` if one does, or if it is answered.
    pub fn drop_reason(&self) -> Option<DropReason> {
        match (self.verdict, self.refused.first()) {
            (Verdict::Drop(reason), _) => Some(reason),
            (Verdict::Answer(_), _) => None,
            (_, Some((_, reason))) if !self.is_sent() => Some(*reason),
            _ => None,
        }
    }

    /// Whether at least one port that should get it does not.
    pub fn is_drop(&self) -> bool {
        matches!(self.verdict, Verdict::Drop(_)) || !self.refused.is_empty()
    }

    /// Whether more than its way is to be counted, reported or checked: a new or moved source, an address of another
    /// port, an unknown destination, a fault, a port that cannot take it, a copy for control.
    #[inline]
    pub fn is_notable(&self) -> bool {
        let source_is =
            |learned: Learned| learned.is_notable() || matches!(learned, Learned::Reserved { .. });
        self.fault.is_some()
            || self.punt.is_some()
            || !self.refused.is_empty()
            || self.class.destination == Destination::UnknownUnicast
            || self.learned.is_some_and(source_is)
    }
}
