//! Reports the ports that the switch blocks because of a loop, and unblocks them in time.

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{HostNetwork, Running};
use crate::control::event::{Event, EventType};
use crate::control::report::PortBlock;
use crate::switch::loop_detection::Block;
use crate::switch::{PortId, Tick};

/// Control's record of why a port is blocked.
#[derive(Debug, Clone)]
pub(super) struct LoopRecord {
    block: Block,
    /// Name of the port whose address came in.
    other: String,
}

impl<M: HostNetwork> Running<M> {
    /// Reports new blocks, and ends those whose time is over.
    pub(super) fn update_loops(&mut self) {
        for block in self.switch.take_new_blocks() {
            self.report_blocked(block);
        }
        for block in self.switch.unblock_ports(self.datapath.now()) {
            self.report_unblocked(block.port);
        }
    }

    /// Waits until a block ends. Never returns while no port is blocked.
    pub(super) fn loops_due(&self) -> impl Future<Output = ()> + 'static {
        let next = self.switch.next_unblock().map(|tick| Instant::now() + self.until(tick));
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    fn report_blocked(&mut self, block: Block) {
        // The addresses of other ports would be looked for there, as on a port that is down.
        self.switch.fdb.flush(Some(block.port));
        let other = self.ports.get(&block.other).map_or_else(String::new, |port| port.name.clone());
        let Some(record) = self.ports.get_mut(&block.port) else { return };
        let (port, mac, seconds) = (&record.name, block.mac, block.seconds);
        warn!(port, %mac, of = other, seconds, "loop detected: port blocked");
        record.loop_record = Some(LoopRecord { block, other: other.clone() });
        let event = Event {
            ifname: Some(record.name.clone()),
            mac: Some(mac),
            other: Some(other),
            seconds: Some(seconds),
            ..Event::at(Timestamp::now(), EventType::LoopDetected)
        };
        self.drain_fdb_notifications();
        self.events.history.add(event);
    }

    fn report_unblocked(&mut self, id: PortId) {
        let Some(record) = self.ports.get_mut(&id) else { return };
        record.loop_record = None;
        info!(port = record.name, "port unblocked");
        self.emit_port_event(EventType::PortUnblocked, id);
        self.multicast_port_changed(id, true);
    }
}

impl LoopRecord {
    /// The report of a port that is blocked.
    pub(super) fn report(&self, now: Tick) -> PortBlock {
        let Block { mac, until, .. } = self.block;
        PortBlock {
            mac,
            other: self.other.clone(),
            remaining: until.since(now).div_ceil(Tick::PER_SECOND).max(1),
        }
    }
}
