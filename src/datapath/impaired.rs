//! Impaired ports of a worker: their frames are copied, wait in a bounded queue, and are sent or handled when they are
//! due.
//!
//! A super-frame is segmented first, so that a lost packet is a packet, and an unfinished checksum is completed. Frames
//! for an impaired port go through its queue when the decision is made. Frames from an impaired port go through its
//! queue before the decision, and are received when they are due. Each worker has queues of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::engine::{Arrival, Engine};
use super::forms::{Forms, edited_copy};
use super::impairment::{Fate, ImpairedLink, LinkSetup};
use super::worker::Worker;
use crate::switch::segmentation::segments;
use crate::switch::{DropReason, Egress, Frame, PortCounters, PortId, Side, Steps, Verdict};
use crate::wire::VnetHeader;

/// Most frames of one queue that are sent in a turn.
const PER_TURN: usize = 64;

/// A port in one direction: [`Side::Ingress`] are the frames that it sends into the switch.
type PortDirection = (PortId, bool);

fn direction(port: PortId, side: Side) -> PortDirection {
    (port, side == Side::Ingress)
}

/// The impaired ports of one worker.
#[derive(Debug, Default)]
pub(super) struct ImpairedPorts {
    links: BTreeMap<PortDirection, ImpairedLink>,
}

impl ImpairedPorts {
    /// Changes the impairment of a port. Without one, frames that wait are due at once.
    pub(super) fn set(&mut self, port: PortId, side: Side, setup: LinkSetup) {
        let at = direction(port, side);
        match self.links.get_mut(&at) {
            Some(link) => link.set(setup),
            None if setup.impairment.is_none() => {}
            None => _ = self.links.insert(at, ImpairedLink::new(setup)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    fn link(&mut self, port: PortId, side: Side) -> Option<&mut ImpairedLink> {
        self.links.get_mut(&direction(port, side))
    }

    /// Whether frames of a port in this direction wait in a queue.
    pub(super) fn is_impaired(&self, port: PortId, side: Side) -> bool {
        self.links.contains_key(&direction(port, side))
    }

    /// When the next frame is due, in nanoseconds of the workers' clock.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.links.values().filter_map(ImpairedLink::next_deadline).min()
    }
}

/// Counts what becomes of a frame for a port.
fn count_egress(counters: &PortCounters, fate: Fate) {
    if fate.lost {
        counters.dropped(DropReason::EgressLoss);
    }
    let copies = fate.queued + fate.refused;
    counters.duplicated.add(u64::from(copies.saturating_sub(1)));
    (0..fate.refused).for_each(|_| counters.dropped(DropReason::EgressDelayFull));
}

/// Counts a frame from a port that ends before the decision.
fn count_received(counters: &PortCounters, length: usize, reason: DropReason) {
    counters.rx_frames.add(1);
    counters.rx_bytes.add(length as u64);
    counters.dropped(reason);
}

impl<E: Engine> Worker<E> {
    /// Puts the current frame into the queue of an egress port that is impaired; whether it is.
    pub(super) fn impair_egress(&mut self, buffer: &E::Buffer, forms: &Forms, egress: Egress) -> bool {
        let Some(link) = self.impaired.link(egress.port, Side::Egress) else { return false };
        let counters = self.counters.port(egress.port);
        let pieces = forms.slices(self.engine.bytes(buffer), egress.edit, VnetHeader::LEN);
        let joined =
            if pieces[1].is_empty() { Cow::Borrowed(pieces[0]) } else { Cow::Owned(pieces.concat()) };
        let vnet = VnetHeader::parse(&joined).unwrap_or_default();
        let bytes = &joined[VnetHeader::LEN..];
        if vnet.is_complete() {
            count_egress(counters, link.take(self.now.nanos, bytes));
            return true;
        }
        match segments(&Frame { bytes, vnet }) {
            Ok(mut segments) => {
                counters.segmented.add(1);
                counters.segments.add(segments.remaining() as u64);
                while let Some(length) = segments.next_into(&mut self.segment) {
                    count_egress(counters, link.take(self.now.nanos, &self.segment[..length]));
                }
            }
            Err(reason) => counters.dropped(reason),
        }
        true
    }

    /// Puts the segment into the queue of an egress port that is impaired; whether it is.
    pub(super) fn impair_segment(&mut self, port: PortId, length: usize) -> bool {
        let Some(link) = self.impaired.link(port, Side::Egress) else { return false };
        count_egress(self.counters.port(port), link.take(self.now.nanos, &self.segment[..length]));
        true
    }

    /// Puts a frame from an impaired port into its queue.
    #[cold]
    pub(super) fn impair_ingress(&mut self, arrival: Arrival<E::Buffer>) {
        let counters = self.counters.port(arrival.port);
        let frame = arrival.frame(self.engine.bytes(&arrival.buffer));
        if let Some(link) = self.impaired.link(arrival.port, Side::Ingress) {
            let mut take = |bytes: &[u8]| {
                let fate = link.take(self.now.nanos, bytes);
                if fate.lost {
                    count_received(counters, bytes.len(), DropReason::IngressLoss);
                }
                for _ in 0..fate.refused {
                    count_received(counters, bytes.len(), DropReason::IngressDelayFull);
                }
            };
            if frame.vnet.is_complete() {
                take(frame.bytes);
            } else {
                match segments(&frame) {
                    Ok(mut segments) => {
                        while let Some(length) = segments.next_into(&mut self.segment) {
                            take(&self.segment[..length]);
                        }
                    }
                    Err(_) => count_received(counters, frame.bytes.len(), DropReason::BadOffload),
                }
            }
        }
        self.engine.discard(arrival.buffer);
    }

    /// Sends and receives the frames that are due.
    #[cold]
    pub(super) fn release_impaired(&mut self) -> io::Result<()> {
        let now = self.now.nanos;
        let due = |link: &ImpairedLink| link.next_deadline().is_some_and(|due| due <= now);
        let directions: Vec<PortDirection> =
            self.impaired.links.iter().filter(|(_, link)| due(link)).map(|(at, _)| *at).collect();
        for at in directions {
            for _ in 0..PER_TURN {
                let taken = self.impaired.links.get_mut(&at).and_then(|link| link.take_due(now));
                let Some(frame) = taken else { break };
                match at {
                    (port, true) => self.receive_copy(port, &frame)?,
                    (port, false) => self.send_copy(port, &frame)?,
                }
            }
        }
        self.impaired.links.retain(|_, link| !link.is_finished());
        self.update_detour();
        Ok(())
    }

    /// Sends a frame that has waited, unless the port has gone down. To a port that was blocked meanwhile it is sent,
    /// as a frame that is on the wire.
    fn send_copy(&mut self, port: PortId, frame: &[u8]) -> io::Result<()> {
        let ports = &self.switch.ports;
        if !ports.is_link_up(port) {
            self.counters.port(port).dropped(DropReason::EgressDown);
            return Ok(());
        }
        self.segment[..frame.len()].copy_from_slice(frame);
        self.write_segment(port, frame.len())
    }

    /// Decides and executes a complete frame from a port, which has waited.
    fn receive_copy(&mut self, port: PortId, bytes: &[u8]) -> io::Result<()> {
        let frame = Frame { bytes, vnet: VnetHeader::default() };
        let mut steps = Steps::default();
        self.split().1.decide(port, &frame, &mut steps);
        self.mirror_frame(&frame, Some(port), &steps);
        self.send_copies_of(bytes)?;
        if let Verdict::Answer(answer) = self.outcome.verdict() {
            self.send_to_uplinks(bytes)?;
            self.send_edited(bytes)?;
            self.segment[..bytes.len()].copy_from_slice(bytes);
            let length = answer.emit(self.switch.gateway_of(&self.outcome), &mut self.segment, bytes.len());
            let answered = self.segment[..length].to_vec();
            let frame = Frame { bytes: &answered, vnet: VnetHeader::default() };
            self.switch.send_answer(self.now, &frame, &mut self.outcome);
            self.counters.count_reply_in_vlan(&self.outcome, length);
            self.mirror_frame(&frame, None, &Steps::default());
            self.send_copies_of(&answered)?;
            return self.send_edited(&answered);
        }
        self.send_to_uplinks(bytes)?;
        match self.outcome.entered().copied() {
            None => self.send_edited(bytes),
            Some(head) => {
                let mut entered = bytes.to_vec();
                head.put(&mut entered);
                self.send_edited(&entered)
            }
        }
    }

    /// Sends a complete frame to its egress.
    pub(super) fn send_edited(&mut self, bytes: &[u8]) -> io::Result<()> {
        for at in 0..self.outcome.egress().len() {
            let Egress { port, edit } = self.outcome.egress()[at];
            let copy = edited_copy(bytes, edit, self.switch.vlans.tpid());
            self.segment[..copy.len()].copy_from_slice(&copy);
            self.send_segment(port, copy.len())?;
        }
        Ok(())
    }

    /// Drops the frames that wait for a port that is being detached, or from it. It stays impaired: the peer of a
    /// socket may return.
    pub(super) fn drop_waiting(&mut self, port: PortId) {
        let counters = self.counters.port(port);
        for side in [Side::Ingress, Side::Egress] {
            let Some(link) = self.impaired.link(port, side) else { continue };
            while let Some(frame) = link.take_due(u64::MAX) {
                match side {
                    Side::Ingress => count_received(counters, frame.len(), DropReason::IngressDown),
                    Side::Egress => counters.dropped(DropReason::EgressDown),
                }
            }
        }
    }

    /// The time until the next frame of an impaired port is due.
    pub(super) fn impaired_wait(&self) -> Option<Duration> {
        let due = self.impaired.next_deadline()?;
        Some(Duration::from_nanos(due.saturating_sub(self.now.nanos)))
    }
}
