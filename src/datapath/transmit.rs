//! Executes verdicts: the second half of the frame path in a worker.
//!
//! Most frames go to [`Engine::send`] directly. A *detour* is taken while the writes of a batch are measured, and while a
//! port is slow (see [`super::throttle`] and [`super::background`]).

use std::io;
use std::time::{Duration, Instant};

use super::background::{BackgroundWriter, Reply, header_length};
use super::engine::{Arrival, Engine, Extent, Reads};
use super::mirror::FramePath;
use super::throttle::cpu_time;
use super::worker::Worker;
use crate::switch::segmentation::segments;
use crate::switch::{DropReason, Frame, GatewayReply, PortId, Steps, Verdict};
use crate::wire::VnetHeader;
use crate::wire::segment::Segments;

impl<E: Engine> Worker<E> {
    /// Sends the current frame to `self.egress`: the same buffer to all ports that can take it as it is, segmented
    /// copies to ports without offload.
    #[inline(always)]
    pub(super) fn dispatch(&mut self, mut arrival: Arrival<E::Buffer>) -> io::Result<()> {
        match arrival.vnet {
            Some(vnet) if vnet.is_complete() => {}
            Some(_) => self.send_segmented(&arrival)?,
            None => self.put_header(&mut arrival.buffer, arrival.extent),
        }
        self.transmit(arrival.buffer, arrival.extent)
    }

    /// Puts an empty virtio-net header before a complete frame.
    fn put_header(&mut self, buffer: &mut E::Buffer, extent: Extent) {
        let header = extent.start - VnetHeader::LEN..extent.start;
        self.engine.bytes_mut(buffer)[header].copy_from_slice(&VnetHeader::default().emit());
    }

    /// Removes the ports without offload from `self.egress` and sends them the frame segmented, with its checksums.
    fn send_segmented(&mut self, arrival: &Arrival<E::Buffer>) -> io::Result<()> {
        let ports = &self.switch.ports;
        let offload = |port: &PortId| ports.port(*port).is_some_and(|port| port.offload);
        self.no_offload_egress.clear();
        self.no_offload_egress.extend(self.egress.iter().filter(|port| !offload(port)));
        if self.no_offload_egress.is_empty() {
            return Ok(());
        }
        self.egress.retain(offload);
        // Copied, because the engine cannot write while its buffer is borrowed.
        let mut super_frame = std::mem::take(&mut self.super_frame);
        let frame = arrival.frame(self.engine.bytes(&arrival.buffer));
        let copy = &mut super_frame[..frame.bytes.len()];
        copy.copy_from_slice(frame.bytes);
        let outcome = self.send_segments(arrival.port, segments(&Frame { bytes: copy, vnet: frame.vnet }));
        self.super_frame = super_frame;
        outcome
    }

    fn send_segments(
        &mut self,
        ingress: PortId,
        segments: Result<Segments<'_>, DropReason>,
    ) -> io::Result<()> {
        let reason = match segments {
            Ok(segments) => return self.send_each(segments),
            Err(reason) => reason,
        };
        if reason == DropReason::TooManySegments {
            self.throttle.penalise(ingress);
        }
        for port in &self.no_offload_egress {
            self.counters.port(*port).dropped(reason);
        }
        Ok(())
    }

    fn send_each(&mut self, mut segments: Segments<'_>) -> io::Result<()> {
        for port in &self.no_offload_egress {
            let counters = self.counters.port(*port);
            counters.segmented.add(1);
            counters.segments.add(segments.remaining() as u64);
        }
        while let Some(length) = segments.next_into(&mut self.segment) {
            for at in 0..self.no_offload_egress.len() {
                self.send_segment(self.no_offload_egress[at], length)?;
            }
        }
        Ok(())
    }

    /// Rewrites the frame into the gateway's answer and sends it to the ingress port.
    pub(super) fn answer(&mut self, mut arrival: Arrival<E::Buffer>, answer: GatewayReply) -> io::Result<()> {
        let Extent { start, length } = arrival.extent;
        let bytes = &mut self.engine.bytes_mut(&mut arrival.buffer)[start..];
        let length = answer.emit(&self.switch.gateway, bytes, length);
        arrival.extent = Extent { start, length };
        self.put_header(&mut arrival.buffer, arrival.extent);
        let egress = [arrival.port];
        if !self.mirrors.is_empty() {
            let verdict = Verdict::Forward(arrival.port);
            let path = FramePath { ingress: None, verdict, egress: &egress, refused: &[] };
            self.mirror(&arrival, &Steps::default(), path);
        }
        self.egress.clear();
        self.egress.extend(egress);
        self.transmit(arrival.buffer, arrival.extent)
    }

    /// Sends a frame to `self.egress`.
    #[inline(always)]
    fn transmit(&mut self, buffer: E::Buffer, extent: Extent) -> io::Result<()> {
        if self.detour {
            self.take_detour(buffer, extent)
        } else {
            self.engine.send(buffer, extent, &self.egress)
        }
    }

    #[cold]
    #[inline(never)]
    fn take_detour(&mut self, buffer: E::Buffer, extent: Extent) -> io::Result<()> {
        self.write_in_background(&buffer, extent);
        if !self.throttle.measures_writes() {
            return self.engine.send(buffer, extent, &self.egress);
        }
        for at in 0..self.egress.len() {
            let port = self.egress[at];
            let started = cpu_time();
            self.engine.send_now(&buffer, extent, port)?;
            self.note_write(port, extent.length, started);
        }
        self.engine.discard(buffer);
        Ok(())
    }

    /// Queues the frame at the background writer for the slow ports of `self.egress`, and removes these.
    fn write_in_background(&mut self, buffer: &E::Buffer, extent: Extent) {
        let Some(background) = self.background.as_mut().filter(|background| background.has_ports()) else {
            return;
        };
        let (engine, counters, throttle) = (&self.engine, &self.counters, &mut self.throttle);
        let count = self.egress.len();
        self.egress.retain(|port| {
            if !background.is_slow(*port) || background.release_recovered(*port) {
                return true;
            }
            let header = engine.queue(*port).map_or(0, header_length);
            let bytes = &engine.bytes(buffer)[extent.start - header..extent.start + extent.length];
            if !background.write(*port, bytes, header) {
                counters.port(*port).dropped(DropReason::EgressThrottled);
                throttle.penalise(*port);
            }
            false
        });
        if self.egress.len() == count || !self.egress.is_empty() {
            background.note_others();
        }
    }

    /// Sends one segment.
    fn send_segment(&mut self, port: PortId, length: usize) -> io::Result<()> {
        let segment = &self.segment[..length];
        if !self.detour {
            return self.engine.send_copy(port, segment);
        }
        if let Some(background) = self.background.as_ref().filter(|background| background.is_slow(port)) {
            let header = self.engine.queue(port).map_or(0, header_length);
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

    fn update_detour(&mut self) {
        let slow = self.background.as_ref().is_some_and(BackgroundWriter::has_ports);
        self.detour = slow || self.throttle.measures_writes();
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
        let peer = if let [peer] = self.egress[..] { Some(peer) } else { None };
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
    pub(super) fn reply_detached(&mut self, port: PortId, reply: Reply) {
        match &mut self.background {
            Some(background) => background.detach(port, Some(reply)),
            None => reply.send(),
        }
        self.update_detour();
    }
}
