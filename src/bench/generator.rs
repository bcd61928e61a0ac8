//! Sends frames of one size, at maximum speed or at a given rate, and counts how many arrive.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cpu::precise;
use super::error::BenchError;
use super::lab::LabEndpoint;
use super::rfc2544::Trial;
use crate::sys::packet::{BATCH, PacketSocket};
use crate::wire::Mac;

/// EtherType for local experiments (IEEE 802-2014 section 9.2.3). The receiver counts the frame and drops
/// it.
const EXPERIMENT: u16 = 0x88b5;
/// Frame check sequence. RFC 2544 counts it in the frame size, but virtual devices have none.
const FCS: u32 = 4;

/// Frames sent and received.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameCounts {
    /// Frames that the sending device accepted.
    offered: u64,
    /// Frames that the receiving device counted.
    delivered: u64,
    /// Time during which frames were sent.
    time: Duration,
}

impl FrameCounts {
    /// Sent frames per second.
    pub(super) fn offered_rate(&self) -> f64 {
        precise(self.offered) / self.time.as_secs_f64()
    }

    /// Received frames per second.
    pub(super) fn rate(&self) -> f64 {
        precise(self.delivered) / self.time.as_secs_f64()
    }

    /// These counts as a trial of RFC 2544.
    pub(super) fn trial(&self) -> Trial {
        Trial { rate: self.offered_rate(), lost: self.offered.saturating_sub(self.delivered) }
    }
}

/// Sends frames of one size from one endpoint to another.
#[derive(Debug)]
pub(super) struct Generator<'a> {
    sender: PacketSocket,
    frame: Vec<u8>,
    to: &'a LabEndpoint,
}

impl Generator<'_> {
    /// `size` includes the FCS, as in RFC 2544.
    pub(super) fn new<'a>(
        from: &LabEndpoint,
        to: &'a LabEndpoint,
        size: u32,
    ) -> Result<Generator<'a>, BenchError> {
        Generator::to_address(to.mac, from, to, size)
    }

    /// Sends broadcasts, and counts those that arrive at `to`.
    pub(super) fn of_broadcasts<'a>(
        from: &LabEndpoint,
        to: &'a LabEndpoint,
        size: u32,
    ) -> Result<Generator<'a>, BenchError> {
        Generator::to_address(Mac::BROADCAST, from, to, size)
    }

    fn to_address<'a>(
        destination: Mac,
        from: &LabEndpoint,
        to: &'a LabEndpoint,
        size: u32,
    ) -> Result<Generator<'a>, BenchError> {
        let mut frame = [&destination.0, &from.mac.0, &EXPERIMENT.to_be_bytes()[..]].concat();
        frame.resize((size - FCS) as usize, 0);
        Ok(Generator { sender: from.sender()?, frame, to })
    }

    /// Sends at maximum speed.
    pub(super) fn send_all(&self, time: Duration) -> Result<FrameCounts, BenchError> {
        self.send(time, |_| BATCH)
    }

    /// Sends `rate` frames per second, evenly spaced.
    pub(super) fn send_at_rate(&self, rate: f64, time: Duration) -> Result<FrameCounts, BenchError> {
        let mut due = Pacer { rate, sent: 0 };
        self.send(time, move |elapsed| due.frames_due(elapsed))
    }

    /// Sends as many frames as `due` returns at each moment, and counts them at both ends.
    fn send(
        &self,
        time: Duration,
        mut due: impl FnMut(Duration) -> usize,
    ) -> Result<FrameCounts, BenchError> {
        let before = self.to.received_frames()?;
        let start = Instant::now();
        let (mut offered, mut elapsed) = (0, Duration::ZERO);
        while elapsed < time {
            let mut left = due(elapsed);
            while left > 0 {
                // ENOBUFS is temporary. Frames that were not sent do not count as offered.
                let sent = self.sender.send(&self.frame, left).unwrap_or(0);
                offered += sent as u64;
                left = left.saturating_sub(sent.max(1));
            }
            elapsed = start.elapsed();
        }
        let delivered = self.final_count()?.saturating_sub(before);
        Ok(FrameCounts { offered, delivered, time: elapsed })
    }

    /// Waits until no more frames arrive, and returns the receiver's counter.
    fn final_count(&self) -> Result<u64, BenchError> {
        const STEP: Duration = Duration::from_millis(20);
        const STEPS: u32 = 50;
        let mut count = self.to.received_frames()?;
        for _ in 0..STEPS {
            sleep(STEP);
            let now = self.to.received_frames()?;
            if now == count {
                break;
            }
            count = now;
        }
        Ok(count)
    }
}

/// Computes how many frames are due.
#[derive(Debug)]
struct Pacer {
    rate: f64,
    sent: u64,
}

impl Pacer {
    /// Returns the frames due at `elapsed`, at most one batch. After a delay it catches up.
    fn frames_due(&mut self, elapsed: Duration) -> usize {
        let due = precise(self.sent);
        let behind = (elapsed.as_secs_f64() * self.rate - due).clamp(0.0, precise(BATCH as u64));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a batch")]
        let count = behind as usize;
        self.sent += count as u64;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_rate_and_catches_up() {
        let mut pacer = Pacer { rate: 1000.0, sent: 0 };
        assert_eq!(pacer.frames_due(Duration::from_micros(500)), 0);
        assert_eq!(pacer.frames_due(Duration::from_millis(1)), 1);
        assert_eq!(pacer.frames_due(Duration::from_millis(1)), 0);
        assert_eq!(pacer.frames_due(Duration::from_millis(11)), 10);
        assert_eq!(pacer.frames_due(Duration::from_millis(211)), BATCH);
        assert_eq!(pacer.frames_due(Duration::from_millis(211)), BATCH);
    }

    #[test]
    fn computes_rates_over_sending_time() {
        let counts = FrameCounts { offered: 1000, delivered: 900, time: Duration::from_millis(500) };
        assert_eq!((counts.offered_rate(), counts.rate()), (2000.0, 1800.0));
        assert_eq!(counts.trial(), Trial { rate: 2000.0, lost: 100 });
    }
}
