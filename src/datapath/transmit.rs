//! Executes outcomes: the second half of the frame path in a worker.
//!
//! Most frames go to [`Engine::send`] directly. A *detour* is taken while the writes of a batch are measured, and while
//! a port is slow (see [`super::throttle`] and [`super::background`]).

use std::io;
use std::time::{Duration, Instant};

use super::background::{BackgroundWriter, DetachReply};
use super::engine::{Arrival, Engine, Extent, Reads};
use super::forms::{Forms, edit_frame};
use super::throttle::cpu_time;
use super::worker::Worker;
use crate::switch::ipvlan::Head;
use crate::switch::segmentation::segments;
use crate::switch::{DropReason, Edit, Egress, Frame, InjectedFrame, PortId, Steps, SwitchReply};
use crate::wire::VnetHeader;
use crate::wire::segment::Segments;

impl<E: Engine> Worker<E> {
    /// Sends the current frame: the same buffer to all ports that take it as it is, segmented copies to the others.
    #[inline(always)]
    pub(super) fn dispatch(&mut self, mut arrival: Arrival<E::Buffer>) -> io::Result<()> {
        if self.outcome.is_rewritten() {
            self.rewrite(&mut arrival)?;
        }
        if arrival.vnet.is_none() {
            self.put_header(&mut arrival.buffer, arrival.extent);
        } else if !self.outcome.segmented().is_empty() {
            self.send_segmented(&arrival)?;
        }
        self.transmit(arrival)
    }

    /// Puts an empty virtio-net header before a complete frame.
    fn put_header(&mut self, buffer: &mut E::Buffer, extent: Extent) {
        let header = extent.start - VnetHeader::LEN..extent.start;
        self.engine.bytes_mut(buffer)[header].copy_from_slice(&VnetHeader::default().emit());
    }

    /// Sends the frame to the ports without offload, segmented and with its checksums.
    #[cold]
    #[inline(never)]
    fn send_segmented(&mut self, arrival: &Arrival<E::Buffer>) -> io::Result<()> {
        self.direct.clear();
        self.direct.extend(self.outcome.segmented());
        let first = self.direct[0].edit;
        // A frame has two forms at most.
        let other = self.direct.iter().map(|egress| egress.edit).find(|edit| *edit != first);
        self.segment_form(arrival, first, None)?;
        other.map_or(Ok(()), |other| self.segment_form(arrival, other, None))
    }

    /// Sends the segments of the frame with this edit, and perhaps with another head, to those of the ports in `direct`
    /// that get it.
    pub(super) fn segment_form(
        &mut self,
        arrival: &Arrival<E::Buffer>,
        edit: Edit,
        head: Option<&Head>,
    ) -> io::Result<()> {
        // Copied, because the engine cannot write while its buffer is borrowed.
        let mut super_frame = std::mem::take(&mut self.super_frame);
        let end = arrival.extent.start + arrival.extent.length;
        super_frame[..end].copy_from_slice(&self.engine.bytes(&arrival.buffer)[..end]);
        head.into_iter().for_each(|head| head.put(&mut super_frame[arrival.extent.start..end]));
        let extent = edit_frame(&mut super_frame, arrival.extent, edit, self.switch.vlans.tpid());
        let bytes = &super_frame[extent.start..extent.start + extent.length];
        let vnet = VnetHeader::parse(&super_frame[extent.start - VnetHeader::LEN..]).unwrap_or_default();
        let sent = match segments(&Frame { bytes, vnet }) {
            Ok(segments) => self.send_each(segments, edit),
            // The decision has found that it can be segmented, except for an uplink that takes it whole.
            Err(reason) => {
                let refused = self.direct.iter().filter(|egress| egress.edit == edit);
                refused.for_each(|egress| self.counters.port(egress.port).dropped(reason));
                Ok(())
            }
        };
        self.super_frame = super_frame;
        sent
    }

    fn send_each(&mut self, mut segments: Segments<'_>, edit: Edit) -> io::Result<()> {
        for egress in self.direct.iter().filter(|egress| egress.edit == edit) {
            let counters = self.counters.port(egress.port);
            counters.segmented.add(1);
            counters.segments.add(segments.remaining() as u64);
        }
        while let Some(length) = segments.next_into(&mut self.segment) {
            for at in 0..self.direct.len() {
                let egress = self.direct[at];
                if egress.edit == edit {
                    self.send_segment(egress.port, length)?;
                }
            }
        }
        Ok(())
    }

    /// Rewrites the frame into the gateway's answer and sends it to the ingress port.
    pub(super) fn answer(&mut self, mut arrival: Arrival<E::Buffer>, answer: SwitchReply) -> io::Result<()> {
        if self.outcome.is_mirrored() {
            self.copy_request(&arrival)?;
        }
        if self.outcome.is_sent() {
            self.flood_request(&arrival)?;
        }
        let Extent { start, length } = arrival.extent;
        let bytes = &mut self.engine.bytes_mut(&mut arrival.buffer)[start..];
        let length = answer.emit(self.switch.gateway_of(&self.outcome), bytes, length);
        arrival.extent = Extent { start, length };
        let frame = Frame { bytes: &bytes[..length], vnet: VnetHeader::default() };
        self.switch.send_answer(self.now, &frame, &mut self.outcome);
        self.put_header(&mut arrival.buffer, arrival.extent);
        self.counters.count_reply_in_vlan(&self.outcome, length);
        if !self.mirrors.is_empty() {
            self.mirror(&arrival, None, &Steps::default());
        }
        arrival.vnet = None;
        self.transmit(arrival)
    }

    /// Sends copies of a request that the switch answers for a neighbour, before its buffer has the answer.
    #[cold]
    #[inline(never)]
    fn flood_request(&mut self, arrival: &Arrival<E::Buffer>) -> io::Result<()> {
        let request = arrival.frame(self.engine.bytes(&arrival.buffer)).bytes.to_vec();
        self.send_to_uplinks(&request)?;
        self.send_edited(&request)
    }

    /// Sends the current frame to the ports that take it as it is.
    #[inline(always)]
    fn transmit(&mut self, arrival: Arrival<E::Buffer>) -> io::Result<()> {
        if self.detour || self.outcome.is_mirrored() {
            return self.take_detour(arrival);
        }
        let Arrival { mut buffer, extent, .. } = arrival;
        let (egress, tpid) = (self.outcome.egress(), self.switch.vlans.tpid());
        let forms = Forms::of(self.engine.bytes_mut(&mut buffer), extent, egress, tpid);
        self.engine.send(buffer, &forms, egress)
    }

    #[cold]
    #[inline(never)]
    fn take_detour(&mut self, arrival: Arrival<E::Buffer>) -> io::Result<()> {
        if self.outcome.is_mirrored() {
            self.send_copies(&arrival)?;
        }
        let Arrival { mut buffer, extent, .. } = arrival;
        let mut targets = std::mem::take(&mut self.direct);
        targets.clear();
        targets.extend(self.outcome.egress());
        targets.extend(self.outcome.whole_copies());
        let tpid = self.switch.vlans.tpid();
        let forms = &Forms::of(self.engine.bytes_mut(&mut buffer), extent, &targets, tpid);
        targets.retain(|egress| {
            !self.impair_egress(&buffer, forms, *egress) && !self.write_in_background(&buffer, forms, *egress)
        });
        self.direct = targets;
        if !self.direct.is_empty()
            && let Some(background) = &mut self.background
        {
            background.note_others();
        }
        if !self.throttle.measures_writes() {
            return self.engine.send(buffer, forms, &self.direct);
        }
        for at in 0..self.direct.len() {
            let egress = self.direct[at];
            let started = cpu_time();
            self.engine.send_now(&buffer, forms, egress)?;
            self.note_write(egress.port, forms.length(), started);
        }
        self.engine.discard(buffer);
        Ok(())
    }

    /// Queues the frame at the background writer if the port is slow; whether it was.
    fn write_in_background(&mut self, buffer: &E::Buffer, forms: &Forms, egress: Egress) -> bool {
        let Egress { port, edit } = egress;
        let Some(background) = &mut self.background else { return false };
        if !background.is_slow(port) || background.release_recovered(port) {
            return false;
        }
        let header = self.engine.queue(port).map_or(0, |queue| queue.framing.header());
        let pieces = forms.slices(self.engine.bytes(buffer), edit, header);
        if !background.write(port, pieces, header) {
            self.counters.port(port).dropped(DropReason::EgressThrottled);
            self.throttle.penalise(port);
        }
        true
    }

    /// Sends a complete frame that control has made.
    pub(super) fn inject(&mut self, injected: &InjectedFrame) -> io::Result<()> {
        let InjectedFrame { ports, bytes, .. } = injected;
        let Some(buffer) = self.segment.get_mut(..bytes.len()) else { return Ok(()) };
        buffer.copy_from_slice(bytes);
        for port in ports {
            self.counters.port(*port).injected.add(1);
            self.send_segment(*port, bytes.len())?;
        }
        self.switch.mirror_injected(self.now, injected, &mut self.outcome);
        self.send_copies_of(bytes)
    }

    /// Sends one segment, perhaps through the queue of an impaired port.
    pub(super) fn send_segment(&mut self, port: PortId, length: usize) -> io::Result<()> {
        if self.detour && self.impair_segment(port, length) {
            return Ok(());
        }
        self.write_segment(port, length)
    }

    /// Writes one segment.
    pub(super) fn write_segment(&mut self, port: PortId, length: usize) -> io::Result<()> {
        let segment = &self.segment[..length];
        if !self.detour {
            return self.engine.send_copy(port, segment);
        }
        if let Some(background) = self.background.as_ref().filter(|background| background.is_slow(port)) {
            let header = self.engine.queue(port).map_or(0, |queue| queue.framing.header());
            let bytes = &self.segment[..length];
            if !background.write_complete(port, bytes, header) {
                self.counters.port(port).dropped(DropReason::EgressThrottled);
            }
            return Ok(());
        }
        let started = cpu_time();
        self.engine.send_copy(port, segment)?;
        if self.throttle.measures_writes() {
            self.note_write(port, length, started);
        }
        Ok(())
    }

    /// Notes a write that began at this CPU time, and moves a slow port to the background writer.
    fn note_write(&mut self, port: PortId, length: usize, started: Option<Duration>) {
        let (Some(started), Some(now)) = (started, cpu_time()) else { return };
        let spent = now.saturating_sub(started);
        if self.throttle.note_write(port, length, spent)
            && let Some(background) = &mut self.background
            && let Some(queue) = self.engine.queue(port)
        {
            background.attach(port, queue);
            self.update_detour();
        }
    }

    pub(super) fn update_detour(&mut self) {
        let slow = self.background.as_ref().is_some_and(BackgroundWriter::has_ports);
        self.detour = slow || self.throttle.measures_writes() || !self.impaired.is_empty();
    }

    /// Adds a frame to the batch of its ingress port, and ends that of the port before it.
    pub(super) fn measure(&mut self, arrival: &Arrival<E::Buffer>) -> io::Result<()> {
        let length = arrival.extent.length;
        if !self.throttle.add(arrival.port, length) {
            self.finish_batch()?;
            self.throttle.start(arrival.port, length);
            self.update_detour();
        }
        Ok(())
    }

    /// Ends the batch that is being measured: executes its writes, and decides how its port is read next.
    pub(super) fn finish_batch(&mut self) -> io::Result<()> {
        if !self.throttle.is_measuring() {
            return Ok(());
        }
        self.engine.flush()?;
        let peer = if let [peer] = self.outcome.egress() { Some(peer.port) } else { None };
        if let Some((port, reads)) = self.throttle.finish(peer) {
            self.engine.set_reads(port, reads);
        }
        self.update_detour();
        Ok(())
    }

    /// Reads the ports again whose pause is over.
    pub(super) fn resume_paused(&mut self, now: Instant) {
        while let Some((port, paused)) = self.throttle.resume(now) {
            self.engine.set_reads(port, Reads::AtMost(1));
            let paused = u64::try_from(paused.as_micros()).unwrap_or(u64::MAX);
            self.counters.port(port).throttled_us.add(paused);
        }
    }

    /// Forgets a port that is being detached.
    pub(super) fn stop_throttling(&mut self, port: PortId) {
        self.throttle.forget(port);
        if let Some(background) = &mut self.background {
            background.close(port);
        }
    }

    /// Reports to control that a port is detached: now, or when its last frame has been written in the background.
    pub(super) fn reply_detached(&mut self, port: PortId, reply: DetachReply) {
        match &mut self.background {
            Some(background) => background.detach(port, Some(reply)),
            None => reply.send(),
        }
        self.update_detour();
    }
}
