//! Sends the copies for mirrors that are not sent as the frame itself is.

use std::io;

use super::engine::{Arrival, Engine};
use super::forms::write_edited;
use super::worker::Worker;
use crate::switch::{CopyForm, MirrorCopy};

impl<E: Engine> Worker<E> {
    /// Sends the copies of the current frame, except [`whole_copies`](crate::switch::Outcome::whole_copies), and counts
    /// all.
    pub(super) fn send_copies(&mut self, arrival: &Arrival<E::Buffer>) -> io::Result<()> {
        self.counters.count_copies(&self.outcome);
        for at in 0..self.outcome.copies().len() {
            let MirrorCopy { egress, form } = self.outcome.copies()[at];
            match form {
                Ok(CopyForm::Whole) | Err(_) => {}
                Ok(CopyForm::Segmented) => {
                    self.direct.clear();
                    self.direct.push(egress);
                    self.segment_form(arrival, egress.edit, None)?;
                }
                Ok(CopyForm::Bytes { length }) => {
                    let frame = arrival.frame(self.engine.bytes(&arrival.buffer)).bytes;
                    let tpid = self.switch.vlans.tpid();
                    write_edited(frame, egress.edit, tpid, &mut self.segment[..length]);
                    self.send_segment(egress.port, length)?;
                }
            }
        }
        Ok(())
    }

    /// Sends all copies of a complete frame, each on its own, and counts them.
    pub(super) fn send_copies_of(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.outcome.is_mirrored() {
            self.counters.count_copies(&self.outcome);
        }
        for at in 0..self.outcome.copies().len() {
            let MirrorCopy { egress, form } = self.outcome.copies()[at];
            let length = match form {
                Err(_) => continue,
                Ok(CopyForm::Bytes { length }) => length,
                Ok(CopyForm::Whole | CopyForm::Segmented) => egress.edit.length_of(frame.len()),
            };
            let tpid = self.switch.vlans.tpid();
            write_edited(frame, egress.edit, tpid, &mut self.segment[..length]);
            self.send_segment(egress.port, length)?;
        }
        Ok(())
    }

    /// Sends the copies of a request, whose buffer becomes the answer.
    pub(super) fn copy_request(&mut self, arrival: &Arrival<E::Buffer>) -> io::Result<()> {
        // Copied, because the engine cannot write while its buffer is borrowed.
        let mut request = std::mem::take(&mut self.super_frame);
        let bytes = arrival.frame(self.engine.bytes(&arrival.buffer)).bytes;
        let length = bytes.len();
        request[..length].copy_from_slice(bytes);
        let sent = self.send_copies_of(&request[..length]);
        self.super_frame = request;
        sent
    }
}
