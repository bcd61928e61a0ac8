//! Frames that enter or leave by an uplink with one MAC address for all hosts: their heads are rewritten.

use std::io;

use super::engine::{Arrival, Engine};
use super::forms::write_edited;
use super::worker::Worker;
use crate::switch::Egress;
use crate::switch::ipvlan::UplinkCopy;

impl<E: Engine> Worker<E> {
    /// Rewrites the current frame in its buffer, if it enters by an uplink, or leaves by one and nowhere else.
    /// Otherwise sends a rewritten copy to each uplink.
    #[cold]
    #[inline(never)]
    pub(super) fn rewrite(&mut self, arrival: &mut Arrival<E::Buffer>) -> io::Result<()> {
        let start = arrival.extent.start;
        if let Some(head) = self.outcome.entered() {
            head.put(&mut self.engine.bytes_mut(&mut arrival.buffer)[start..]);
        }
        if let Some(copy) = self.outcome.take_only_uplink() {
            copy.head.put(&mut self.engine.bytes_mut(&mut arrival.buffer)[start..]);
        }
        for at in 0..self.outcome.uplinks().len() {
            let UplinkCopy { egress, head, .. } = self.outcome.uplinks()[at];
            if arrival.vnet.unwrap_or_default().is_complete() {
                let frame = arrival.frame(self.engine.bytes(&arrival.buffer)).bytes;
                let length = frame.len();
                // Written into the other buffer, because the edit moves the head.
                self.super_frame[..length].copy_from_slice(frame);
                head.put(&mut self.super_frame[..length]);
                self.send_rewritten(egress, length)?;
            } else {
                self.direct.clear();
                self.direct.push(egress);
                self.segment_form(arrival, egress.edit, Some(&head))?;
            }
        }
        Ok(())
    }

    /// Sends the frame at the start of `super_frame` to an uplink.
    fn send_rewritten(&mut self, egress: Egress, length: usize) -> io::Result<()> {
        let edited = egress.edit.length_of(length);
        let tpid = self.switch.vlans.tpid();
        write_edited(&self.super_frame[..length], egress.edit, tpid, &mut self.segment[..edited]);
        self.send_segment(egress.port, edited)
    }

    /// Sends a complete frame to the uplinks by which it leaves.
    pub(super) fn send_to_uplinks(&mut self, frame: &[u8]) -> io::Result<()> {
        for at in 0..self.outcome.uplinks().len() {
            let UplinkCopy { egress, head, .. } = self.outcome.uplinks()[at];
            self.super_frame[..frame.len()].copy_from_slice(frame);
            head.put(&mut self.super_frame[..frame.len()]);
            self.send_rewritten(egress, frame.len())?;
        }
        Ok(())
    }
}
