//! A port's counters, summed over the workers.

use crate::control::report::PortStats;
use crate::switch::{DropReason, PortCounters, PortCounts};

/// The sum over all workers.
pub(super) fn sum<'a>(blocks: impl Iterator<Item = &'a PortCounters>) -> PortCounts {
    blocks.fold(PortCounts::default(), |sum, block| sum.plus(&block.read()))
}

/// Counters as the API shows them.
pub(super) fn port_stats(ifname: &str, counts: &PortCounts, queue_dropped: Option<u64>) -> PortStats {
    let named = |(reason, count): (&DropReason, &u64)| (reason.name().to_owned(), *count);
    PortStats {
        ifname: ifname.to_owned(),
        rx_frames: counts.rx_frames,
        rx_bytes: counts.rx_bytes,
        tx_frames: counts.tx_frames,
        tx_bytes: counts.tx_bytes,
        forwarded: counts.forwarded,
        fast: 0,
        flooded: counts.flooded,
        flood_copies: counts.flood_copies,
        answered: counts.answered,
        injected: counts.injected,
        segmented: counts.segmented,
        segments: counts.segments,
        duplicated: counts.duplicated,
        mirrored: counts.mirrored,
        throttled_us: counts.throttled_us,
        background: counts.background,
        loops: counts.loops,
        fdb_learned: counts.fdb_learned,
        fdb_moved: counts.fdb_moved,
        fdb_evictions: counts.fdb_evictions,
        fdb_refused: counts.fdb_refused,
        queue_dropped,
        drops: DropReason::ALL.iter().zip(&counts.drops).map(named).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_workers_and_subtracts_previous_port() {
        let workers = [PortCounters::default(), PortCounters::default()];
        workers[0].rx_frames.add(3);
        workers[1].dropped(DropReason::Runt);
        let earlier = sum(workers.iter());
        workers[1].rx_frames.add(4);
        workers[1].rx_bytes.add(400);
        workers[0].dropped(DropReason::Runt);
        workers[0].tx_bytes.add(7);
        let port = port_stats("container1", &sum(workers.iter()).since(&earlier), Some(5));
        assert_eq!((port.rx_frames, port.rx_bytes), (4, 400));
        assert_eq!((port.tx_frames, port.tx_bytes), (0, 7));
        assert_eq!((port.drops["runt"], port.queue_dropped), (1, Some(5)));
        assert_eq!(port.drops.len(), DropReason::COUNT);
    }
}
