//! A port's counters, summed over the workers.

use crate::control::report::PortStats;
use crate::switch::{DropReason, PortCounters};

/// A direction's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

/// The sum of a port's blocks. A slot of the port table is used again, and its counters go on (only their worker may
/// write them), so a port shows what came since it took the slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Totals {
    rx: Traffic,
    tx: Traffic,
    flooded: u64,
    answered: u64,
    fdb_evictions: u64,
    fdb_refused: u64,
    drops: [u64; DropReason::COUNT],
}

impl Totals {
    /// Sums blocks of one port.
    pub(super) fn sum<'a>(blocks: impl Iterator<Item = &'a PortCounters>) -> Totals {
        blocks.fold(Totals::default(), |sum, block| sum.combine(&Totals::of(block), u64::wrapping_add))
    }

    /// What was counted after `earlier`.
    pub(super) fn since(&self, earlier: &Totals) -> Totals {
        self.combine(earlier, u64::wrapping_sub)
    }

    /// What was received.
    pub(super) fn received(&self) -> Traffic {
        self.rx
    }

    /// As the API shows them.
    pub(super) fn report(&self, ifname: &str) -> PortStats {
        let named = |(reason, count): (&DropReason, &u64)| (reason.name().to_owned(), *count);
        PortStats {
            ifname: ifname.to_owned(),
            rx_frames: self.rx.frames,
            rx_bytes: self.rx.bytes,
            tx_frames: self.tx.frames,
            tx_bytes: self.tx.bytes,
            flooded: self.flooded,
            answered: self.answered,
            fdb_evictions: self.fdb_evictions,
            fdb_refused: self.fdb_refused,
            drops: DropReason::ALL.iter().zip(&self.drops).map(named).collect(),
        }
    }

    fn of(block: &PortCounters) -> Totals {
        Totals {
            rx: Traffic { frames: block.rx_frames.value(), bytes: block.rx_bytes.value() },
            tx: Traffic { frames: block.tx_frames.value(), bytes: block.tx_bytes.value() },
            flooded: block.flooded.value(),
            answered: block.answered.value(),
            fdb_evictions: block.fdb_evictions.value(),
            fdb_refused: block.fdb_refused.value(),
            drops: std::array::from_fn(|reason| block.drops[reason].value()),
        }
    }

    fn combine(&self, other: &Totals, with: fn(u64, u64) -> u64) -> Totals {
        let traffic = |a: Traffic, b: Traffic| Traffic {
            frames: with(a.frames, b.frames),
            bytes: with(a.bytes, b.bytes),
        };
        Totals {
            rx: traffic(self.rx, other.rx),
            tx: traffic(self.tx, other.tx),
            flooded: with(self.flooded, other.flooded),
            answered: with(self.answered, other.answered),
            fdb_evictions: with(self.fdb_evictions, other.fdb_evictions),
            fdb_refused: with(self.fdb_refused, other.fdb_refused),
            drops: std::array::from_fn(|reason| with(self.drops[reason], other.drops[reason])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_and_an_earlier_port_is_left_out() {
        let workers = [PortCounters::default(), PortCounters::default()];
        workers[0].rx_frames.add(3);
        workers[1].dropped(DropReason::Runt);
        let earlier = Totals::sum(workers.iter());
        workers[1].rx_frames.add(4);
        workers[1].rx_bytes.add(400);
        workers[0].dropped(DropReason::Runt);
        workers[0].tx_bytes.add(7);
        let port = Totals::sum(workers.iter()).since(&earlier).report("container1");
        assert_eq!((port.rx_frames, port.rx_bytes), (4, 400));
        assert_eq!((port.tx_frames, port.tx_bytes), (0, 7));
        assert_eq!(port.drops["runt"], 1);
        assert_eq!(port.drops.len(), DropReason::COUNT);
    }
}
