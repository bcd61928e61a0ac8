//! Flows that a fast datapath may forward once the worker has sent the earlier frames, to keep their order.

use crate::switch::Now;
use crate::switch::fdb::Share;

/// At most [`Shares::MAX`]. One that does not fit is offered again by its next frame.
#[derive(Debug)]
pub(super) struct Shares {
    waiting: Vec<Share>,
    /// When the oldest one was added, in nanoseconds.
    since: u64,
}

impl Shares {
    const MAX: usize = 64;
    /// Nanoseconds after which they are shared under constant load, although frames may then be reordered.
    const LIMIT: u64 = 100_000_000;

    pub(super) fn new() -> Shares {
        Shares { waiting: Vec::with_capacity(Shares::MAX), since: 0 }
    }

    /// Adds one, unless it waits already.
    #[cold]
    pub(super) fn add(&mut self, now: Now, share: Share) {
        if self.waiting.is_empty() {
            self.since = now.nanos;
        }
        if self.waiting.len() < Shares::MAX && !self.waiting.contains(&share) {
            self.waiting.push(share);
        }
    }

    /// Whether some wait, so that the worker must not sleep.
    #[inline]
    pub(super) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes those that are due: all, if the last turn has found no frame.
    pub(super) fn take_due(&mut self, now: Now, found_frames: bool) -> impl Iterator<Item = Share> + '_ {
        let due = !found_frames || now.nanos.saturating_sub(self.since) >= Shares::LIMIT;
        self.waiting.drain(..if due { self.waiting.len() } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use crate::datapath::worker_tests::{H1, H2, OFFLOAD, WorkerFixture, ethernet};
    use crate::switch::fdb::{BUCKET_WORDS, BucketHash, FLOOD, FdbKey, Stations};
    use crate::switch::{FastDatapath, FastState, Identity, Membership, PortId, Tick, Vid};
    use crate::wire::{Mac, VnetHeader};

    /// Knows all ports, port N as device 10 + N.
    #[derive(Debug)]
    struct Fast(Stations);

    impl FastDatapath for Fast {
        fn stations(&self) -> &Stations {
            &self.0
        }
        fn ticks_since(&self, _: u32) -> u32 {
            0
        }
        fn device(&self, port: PortId) -> Option<u32> {
            Some(10 + u32::from(port.0))
        }
        fn set_state(&self, _: PortId, _: FastState) {}
        fn set_vlan(&self, _: PortId, _: Vid, _: Membership) {}
        fn set_identity(&self, _: PortId, _: Option<&Identity>) {}
        fn watch(&self, _: Option<&[PortId]>, _: bool) {}
    }

    fn fixture() -> (WorkerFixture, Arc<Fast>) {
        let words: Vec<AtomicU64> = (0..64 * BUCKET_WORDS).map(|_| AtomicU64::new(0)).collect();
        let fast = Arc::new(Fast(Stations::new(Box::new(words), BucketHash::new(64, [7, 9]))));
        let fixture = WorkerFixture::new(&[OFFLOAD; 3]);
        let shared: Arc<dyn FastDatapath> = fast.clone();
        fixture.switch.add_fast_datapath(&shared);
        (fixture, fast)
    }

    fn device(fast: &Fast, mac: [u8; 6]) -> Option<u32> {
        fast.stations().device(FdbKey { vlan: 0, mac: Mac(mac) })
    }

    #[test]
    fn shares_when_no_frame_waits() {
        let (mut fixture, fast) = fixture();
        for (port, frame) in [(1, ethernet(H1, H2)), (0, ethernet(H2, H1)), (0, ethernet(H2, H1))] {
            fixture.send(port, VnetHeader::default(), &frame);
            assert_eq!([H1, H2].map(|mac| device(&fast, mac)), [None; 2]);
        }
        assert!(fixture.worker.turn_at(Tick(1)).unwrap().is_continue());
        assert_eq!([H1, H2].map(|mac| device(&fast, mac)), [Some(10), Some(11)]);
        assert_eq!(device(&fast, [0xff; 6]), None);
        fixture.send(0, VnetHeader::default(), &ethernet([0xff; 6], H1));
        assert!(fixture.worker.turn_at(Tick(1)).unwrap().is_continue());
        assert_eq!(device(&fast, [0xff; 6]), Some(FLOOD));
    }

    #[test]
    fn shares_after_a_while_though_frames_wait() {
        let (mut fixture, fast) = fixture();
        fixture.send(1, VnetHeader::default(), &ethernet(H1, H2));
        for tick in [1, 1, 1, 2] {
            assert_eq!(device(&fast, H1), None);
            fixture.send_at(Tick(tick), 0, VnetHeader::default(), &ethernet(H2, H1));
        }
        assert_eq!(device(&fast, H1), Some(10));
    }
}
