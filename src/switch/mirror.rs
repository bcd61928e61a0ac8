//! Port mirroring (SPAN): copies of the frames of some ports for another port, where an analyser listens.
//!
//! As with the mirrors of Open vSwitch and the SPAN sessions of Cisco switches, the destination is reserved: it gets
//! only copies, and its own frames are dropped. A mirror copies a frame once, whatever number of its ports the frame
//! crosses: as it was received, if the ingress port is one of them, or else as it leaves on the first egress port that
//! is one.
//!
//! Received frames are copied before they are checked, so that the analyser sees those that are dropped, too. Sent
//! frames are copied if they pass the egress rules. A mirror of VLANs copies frames that belong to one of them, and a
//! frame that belongs to none is not copied. Copies are not mirrored again.
//!
//! Two bits of a port's word in the port table say whether its frames are mirrored, so the frames of other ports pay
//! nothing. There are at most [`PortMirrors::MAX`] mirrors, and a destination has one.

use std::ops::RangeInclusive;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::meter::{MeterTime, Metering};
use super::offload::check_offload;
use super::outcome::{Edit, Egress, Outcome};
use super::port::MirrorRole;
use super::segmentation::segments;
use super::vlan::{Vid, VidRange};
use super::{DropReason, Frame, InjectedFrame, LimitKind, Now, PortId, PortSet, Switch};
use crate::wire::segment::wire_length;
use crate::wire::{ETHERNET_HEADER, EthernetFrame, VlanTag, VnetHeader};

/// The direction in which a frame crosses a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crossing {
    Rx,
    Tx,
}

/// Which frames of its ports a mirror copies, with the words of SPAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorDirection {
    /// Those that the switch receives from them.
    Rx,
    /// Those that the switch sends to them.
    Tx,
    /// Both.
    #[default]
    Both,
}

impl MirrorDirection {
    /// All of them.
    pub const ALL: [MirrorDirection; 3] = [MirrorDirection::Rx, MirrorDirection::Tx, MirrorDirection::Both];

    /// The name in JSON and in options.
    pub const fn name(self) -> &'static str {
        match self {
            MirrorDirection::Rx => "rx",
            MirrorDirection::Tx => "tx",
            MirrorDirection::Both => "both",
        }
    }

    const fn includes(self, crossing: Crossing) -> bool {
        !matches!((self, crossing), (MirrorDirection::Rx, Crossing::Tx) | (MirrorDirection::Tx, Crossing::Rx))
    }
}

/// A mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMirror {
    /// The destination.
    pub to: PortId,
    /// The ports whose frames are copied; `None`: all, also those that are added later.
    pub from: Option<PortSet>,
    /// Which of their frames.
    pub direction: MirrorDirection,
    /// Only frames of these VLANs; empty: all frames.
    pub vlans: Vec<VidRange>,
    /// Most bytes of a copy; `None`: the whole frame.
    pub snaplen: Option<u16>,
}

impl PortMirror {
    /// The values that [`PortMirror::snaplen`] may have: an Ethernet header to the longest frame (`snaplen` of Open
    /// vSwitch).
    #[allow(clippy::cast_possible_truncation, reason = "14")]
    pub const SNAPLEN: RangeInclusive<u16> = ETHERNET_HEADER as u16..=u16::MAX;

    /// Whether it copies frames of a port.
    pub fn has_source(&self, port: PortId) -> bool {
        self.from.as_ref().is_none_or(|from| from.contains(port))
    }

    fn wants(&self, port: PortId, crossing: Crossing, vid: Option<Vid>) -> bool {
        let in_vlans = |vid: Vid| self.vlans.iter().any(|vlans| vlans.contains(vid));
        self.has_source(port)
            && self.direction.includes(crossing)
            && (self.vlans.is_empty() || vid.is_some_and(in_vlans))
    }
}

/// Why a mirror cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorConflict {
    /// There are [`PortMirrors::MAX`].
    TooMany,
    /// Its destination has a mirror.
    Taken,
    /// Its destination is one of its own sources.
    ToItself,
    /// This source is the destination of a mirror.
    SourceIsDestination(PortId),
    /// Its destination is a source of the mirror to this port.
    DestinationIsSource(PortId),
}

/// The mirrors of a switch.
#[derive(Debug, Default)]
pub struct PortMirrors(ArcSwap<Vec<PortMirror>>);

impl PortMirrors {
    /// Most mirrors at a time.
    pub const MAX: usize = 8;

    /// All mirrors, in the order in which they were added.
    pub fn list(&self) -> Vec<PortMirror> {
        self.0.load().to_vec()
    }

    /// Whether a mirror can be added.
    ///
    /// # Errors
    /// The conflict with the others, or within itself.
    pub fn check(&self, new: &PortMirror) -> Result<(), MirrorConflict> {
        let mirrors = self.0.load();
        let named = |mirror: &PortMirror, port| mirror.from.is_some() && mirror.has_source(port);
        let source = mirrors.iter().map(|mirror| mirror.to).find(|to| named(new, *to));
        let other = mirrors.iter().find(|mirror| named(mirror, new.to));
        if mirrors.iter().any(|mirror| mirror.to == new.to) {
            Err(MirrorConflict::Taken)
        } else if named(new, new.to) {
            Err(MirrorConflict::ToItself)
        } else if let Some(source) = source {
            Err(MirrorConflict::SourceIsDestination(source))
        } else if let Some(other) = other {
            Err(MirrorConflict::DestinationIsSource(other.to))
        } else if mirrors.len() >= Self::MAX {
            Err(MirrorConflict::TooMany)
        } else {
            Ok(())
        }
    }

    fn role(&self, port: PortId) -> MirrorRole {
        let mirrors = self.0.load();
        let destination = mirrors.iter().any(|mirror| mirror.to == port);
        let is_source = |crossing| {
            let copies = |mirror: &PortMirror| mirror.has_source(port) && mirror.direction.includes(crossing);
            !destination && mirrors.iter().any(copies)
        };
        MirrorRole { rx: is_source(Crossing::Rx), tx: is_source(Crossing::Tx), destination }
    }
}

/// What the destination of a mirror gets of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MirrorCopy {
    /// The destination, and how the tag of the copy differs from that of the received frame.
    pub egress: Egress,
    /// How it is sent, or why it is not.
    pub form: Result<CopyForm, DropReason>,
}

/// How a copy is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyForm {
    /// As one frame with its offloads, like [`Outcome::egress`].
    Whole,
    /// As complete frames, like [`Outcome::segmented`].
    Segmented,
    /// A copy of its first bytes, as a frame without offloads. If it is truncated, neither can a checksum be completed
    /// nor a super-frame be segmented: that becomes one frame.
    Bytes {
        /** How many. */
        length: usize,
    },
}

/// A frame on its way through a port that is mirrored.
struct Mirroring<'a> {
    switch: &'a Switch,
    at: MeterTime,
    frame: &'a Frame<'a>,
    vid: Option<Vid>,
    /// Its virtio-net header contradicts it.
    bad_offload: bool,
    /// It was received with a tag that neither copies with a VLAN tag nor copies without one have.
    priority_tagged: bool,
}

impl<'a> Mirroring<'a> {
    fn sent(switch: &'a Switch, at: MeterTime, frame: &'a Frame<'a>, vid: Option<Vid>) -> Mirroring<'a> {
        Mirroring { switch, at, frame, vid, bad_offload: false, priority_tagged: false }
    }

    /// Copies the frame to each mirror that wants it on this port and does not have it yet.
    fn copy(&self, Egress { port, edit }: Egress, crossing: Crossing, outcome: &mut Outcome) {
        for mirror in &**self.switch.mirrors.0.load() {
            let is_new = outcome.copies.iter().all(|copy| copy.egress.port != mirror.to);
            if is_new && outcome.copies.len() < PortMirrors::MAX && mirror.wants(port, crossing, self.vid) {
                let form = self.form(mirror, edit, outcome);
                outcome.copies.push(MirrorCopy { egress: Egress { port: mirror.to, edit }, form });
            }
        }
    }

    fn form(&self, mirror: &PortMirror, edit: Edit, outcome: &mut Outcome) -> Result<CopyForm, DropReason> {
        let Mirroring { switch, at, frame, .. } = self;
        let port = switch.ports.mirror_destination(mirror.to).ok_or(DropReason::EgressDown)?;
        let length = edit.length_of(frame.bytes.len());
        let complete = frame.vnet.is_complete();
        let snaplen = mirror.snaplen.map_or(usize::MAX, usize::from);
        let as_bytes = length > snaplen || self.bad_offload || self.priority_tagged && complete;
        let bytes = as_bytes.then(|| length.min(snaplen));
        if !port.fits(bytes.unwrap_or_else(|| wire_length(frame.bytes, &frame.vnet))) {
            return Err(DropReason::Oversize);
        }
        let is_whole = complete || port.has_offload() && !self.priority_tagged;
        if bytes.is_none() && !is_whole && outcome.segments == 0 {
            outcome.segments = segments(frame)?.remaining();
        }
        if port.is_limited() {
            let bits = bytes.unwrap_or(length) as u64 * 8;
            switch.limits.check(mirror.to, LimitKind::EgressRate, bits, *at)?;
        }
        Ok(match bytes {
            Some(length) => CopyForm::Bytes { length },
            None if is_whole => CopyForm::Whole,
            None => CopyForm::Segmented,
        })
    }
}

impl Switch {
    /// Adds a mirror that [`PortMirrors::check`] accepts, and forgets the addresses that its destination has learned.
    /// Only one thread may change mirrors at a time.
    ///
    /// # Errors
    /// As there.
    pub fn add_mirror(&self, new: PortMirror) -> Result<(), MirrorConflict> {
        self.mirrors.check(&new)?;
        let to = new.to;
        let mut mirrors = self.mirrors.list();
        mirrors.push(new);
        self.set_mirrors(mirrors);
        self.fdb.flush(Some(to));
        Ok(())
    }

    /// Removes the mirror to a port. Returns whether there was one.
    pub fn remove_mirror(&self, to: PortId) -> bool {
        let mut mirrors = self.mirrors.list();
        let before = mirrors.len();
        mirrors.retain(|mirror| mirror.to != to);
        let found = mirrors.len() < before;
        self.set_mirrors(mirrors);
        found
    }

    /// A port is added: mirrors of all ports copy its frames, too.
    pub fn mirror_new_port(&self, port: PortId) {
        self.ports.set_mirror_role(port, self.mirrors.role(port));
    }

    /// A port is removed: it is not a source any more. Returns the destinations of mirrors that end, because it is
    /// their destination or their only source.
    pub fn unmirror_port(&self, port: PortId) -> Vec<PortId> {
        let mut mirrors = self.mirrors.list();
        let ends = |mirror: &mut PortMirror| {
            let was_source = mirror.from.as_mut().is_some_and(|from| from.remove(port));
            let has_none = mirror.from.as_ref().is_some_and(PortSet::is_empty);
            mirror.to == port || was_source && has_none
        };
        let ended = mirrors.extract_if(.., |mirror| ends(mirror)).map(|mirror| mirror.to).collect();
        self.set_mirrors(mirrors);
        ended
    }

    fn set_mirrors(&self, mirrors: Vec<PortMirror>) {
        self.mirrors.0.store(mirrors.into());
        self.ports.iter().for_each(|port| self.mirror_new_port(port));
    }

    /// Copies a frame that a port has received.
    #[cold]
    pub(super) fn mirror_received(
        &self,
        at: MeterTime,
        port: PortId,
        frame: &Frame<'_>,
        outcome: &mut Outcome,
    ) {
        let Some(ethernet) = EthernetFrame::new_checked(frame.bytes) else { return };
        let filtered = |tag: &VlanTag| self.vlans.settings().filtering && tag.tpid == self.vlans.tpid();
        Mirroring {
            switch: self,
            at,
            frame,
            vid: self.vlans.classify(port, &ethernet).ok().flatten().map(|class| class.vid),
            bad_offload: check_offload(frame, &ethernet).is_err(),
            priority_tagged: ethernet.vlan_tag().filter(filtered).is_some_and(|tag| tag.vid() == 0),
        }
        .copy(port.into(), Crossing::Rx, outcome);
    }

    /// Copies a frame that is sent to a port.
    #[cold]
    pub(super) fn mirror_sent(
        &self,
        at: MeterTime,
        egress: Egress,
        frame: &Frame<'_>,
        outcome: &mut Outcome,
    ) {
        let vid = outcome.class.vlan.map(|class| class.vid);
        Mirroring::sent(self, at, frame, vid).copy(egress, Crossing::Tx, outcome);
    }

    /// The outcome of the gateway's answer, whose question had this outcome.
    pub fn send_answer(&self, now: Now, answer: &Frame<'_>, outcome: &mut Outcome) {
        outcome.become_answer(&self.vlans);
        let at = MeterTime { now, metering: Metering::Take };
        if self.ports.is_mirrored_tx(outcome.ingress())
            && let [egress] = outcome.egress[..]
        {
            self.mirror_sent(at, egress, answer, outcome);
        }
    }

    /// Fills in the copies of a frame that the switch itself has made.
    pub fn mirror_injected(&self, now: Now, injected: &InjectedFrame, outcome: &mut Outcome) {
        let InjectedFrame { ports, vid, bytes } = injected;
        let frame = &Frame { bytes, vnet: VnetHeader::default() };
        outcome.begin(PortId::default());
        let at = MeterTime { now, metering: Metering::Take };
        let mirroring = Mirroring::sent(self, at, frame, *vid);
        for port in ports.iter().filter(|port| self.ports.is_mirrored_tx(**port)) {
            mirroring.copy((*port).into(), Crossing::Tx, outcome);
        }
    }
}
