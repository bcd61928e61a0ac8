//! Loop detection: finds ports through which frames of other ports come back, and blocks them for a while.
//!
//! A loop (two ports of the switch joined by a cable or another bridge) and a reflector (a host that sends frames
//! back) have the same sign: a MAC address that is in use on one port is the source of frames from another port. The
//! evidence, all of it from paths that are slow anyway:
//!
//! - a *move*: the forwarding database moves a learned address to another port. One move is a host that was plugged in
//!   elsewhere, a migrated virtual machine, a bond that failed over. A *flap* is a move of an address that has moved
//!   less than a second ago. [`FLAPS`] flaps to one port within [`WINDOW`] are a loop (RFC 7432 §15.1 has 5 moves in
//!   180 s).
//! - a *claim*: a frame was accepted whose source is an address that the switch assigned to another port, and that
//!   port is guarded or used the address just now. [`CLAIMS`] within [`WINDOW`] are a loop. They may be of different
//!   addresses: a host that sends a broadcast back now and then takes the address of one host after the other.
//! - a *refusal*: the guard dropped a frame whose source was used on another port just now. Such frames do no harm, so
//!   it takes more of them. (Frames with the gateway's MAC are always dropped, and do not count: there is no record
//!   of when the host used it.)
//!
//! Which port is blocked? A container can forge any MAC, so it must not be able to have the port of that MAC blocked:
//!
//! - Only a port that sent such frames is ever blamed. To harm another port, an attacker would need that port to send
//!   them.
//! - A port is not blamed for the MAC that the switch assigned to it. So whoever forges that MAC is blamed, also where
//!   the guard is off and whoever came first.
//! - A guarded port sends no MAC except its own: a forged one is refused and blamed on the port that forges. A claim
//!   counts only for a MAC that the switch assigned to its owner, so no host can obtain the MAC of another one and
//!   then blame that host.
//! - Any other address has a *home*: where it was before it began to flap. A move to its home is not counted, so of a
//!   host and its forger the newer claim is blamed. A container without a guard that uses such an address before the
//!   host does is at home there. Only the guard helps against that.
//! - The host port is not blamed. It would cut all containers off, and the other side of the loop is a container.
//!
//! A loop has two ports, and it is enough to block one of them: the one that was blocked before, if any. After a
//! detection nothing is counted for [`SETTLING`], because frames that are on their way may still arrive at the other.
//!
//! The port is blocked for a second, and twice as long each time, up to [`LONGEST`]. Until [`QUIET`] without a
//! detection has passed, one claim is enough to block it again: the addresses that it took must not wait for more.
//! After that it starts again at a second.
//!
//! All memory is allocated at creation. An address that finds no room in the table is not watched.

mod flaps;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use self::flaps::{FlapCounter, Flapping, Move};
use super::fdb::{FdbKey, FdbState, Learned};
use super::{Fault, Outcome, PortId, Ports, Switch, Tick, Violation};
use crate::wire::Mac;

/// Flaps of an address to a port within [`WINDOW`] that are a loop.
pub const FLAPS: u8 = 5;
/// A move is a flap if the address has moved at most this long ago, in ticks.
pub const FLAP: u32 = Tick::PER_SECOND;
/// Frames with an address of another port, all accepted or all refused, within [`WINDOW`] that are a loop.
pub const CLAIMS: u8 = 5;
/// As [`CLAIMS`], of refused frames.
pub const REFUSALS: u8 = 20;
/// Time in which evidence is counted, in ticks.
pub const WINDOW: u32 = 10 * Tick::PER_SECOND;
/// How long a port is blocked the first time, in seconds.
pub const SHORTEST: u32 = 1;
/// The longest time that a port is blocked, in seconds.
pub const LONGEST: u32 = 300;
/// After this time without a detection, a port is blocked as briefly as the first time. In ticks.
pub const QUIET: u32 = 300 * Tick::PER_SECOND;
/// Time after a detection in which nothing is counted, in ticks.
pub const SETTLING: u32 = Tick::PER_SECOND / 2;

/// An address that was used on another port in this time is in use, in ticks. A copy comes back within milliseconds,
/// unless it has waited for a slow port.
const IN_USE: u32 = Tick::PER_SECOND / 2;
/// Why a frame may be one that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Its source moved here from another port.
    Moved {
        /** The other port. */
        from: PortId,
        /** Whether it was used there just now. */
        in_use: bool,
    },
    /// It was accepted, and its source is the guarded address of another port.
    Claimed {
        /** The other port. */
        owner: PortId,
    },
    /// It was refused, and its source is in use on another port.
    Refused {
        /** The other port. */
        owner: PortId,
    },
}

/// A blocked port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The port.
    pub port: PortId,
    /// The address of another port that came in here.
    pub mac: Mac,
    /// The other port.
    pub other: PortId,
    /// When it is unblocked.
    pub until: Tick,
    /// How long it is blocked, in seconds.
    pub seconds: u32,
}

/// What is known of a port.
#[derive(Debug, Clone, Copy, Default)]
struct PortHistory {
    /// The MAC that the switch assigned to it; zero for none.
    assigned: Mac,
    claims: u8,
    refusals: u8,
    /// When these were first counted.
    since: Tick,
    blocked: bool,
    /// How often it was blocked in a row.
    times: u32,
    /// The end of the last time.
    until: Tick,
}

impl PortHistory {
    /// How often it was blocked without a quiet time since.
    fn times_in_a_row(&self, now: Tick) -> u32 {
        if now.since(self.until) > QUIET { 0 } else { self.times }
    }
}

/// Counts the evidence, and decides which port is blocked for how long.
#[derive(Debug)]
pub struct LoopDetector {
    flaps: FlapCounter,
    ports: Box<[PortHistory]>,
    blocked: Vec<Block>,
    /// Those of `blocked` that [`LoopDetector::take_new`] has not returned.
    new: Vec<Block>,
    /// Nothing is counted until then.
    settled: Tick,
}

impl LoopDetector {
    /// A detector that has seen nothing. `seed` is secret, against chosen collisions.
    pub fn new(seed: u64) -> LoopDetector {
        LoopDetector {
            flaps: FlapCounter::new(seed),
            ports: vec![PortHistory::default(); Ports::MAX].into(),
            blocked: Vec::with_capacity(Ports::MAX),
            new: Vec::with_capacity(Ports::MAX),
            settled: Tick(0),
        }
    }

    /// Sets the MAC that the switch assigned to a port, and forgets what was there before.
    pub fn assign(&mut self, port: PortId, mac: Option<Mac>) {
        self.ports[port.index()] =
            PortHistory { assigned: mac.unwrap_or_default(), ..PortHistory::default() };
        self.blocked.retain(|block| block.port != port);
        self.new.retain(|block| block.port != port);
    }

    /// Notes evidence about a frame from `mac` on `port`. Returns the port to block now.
    pub fn note(&mut self, now: Tick, port: PortId, mac: Mac, evidence: Evidence) -> Option<PortId> {
        let (blamed, other) = match evidence {
            Evidence::Moved { from, in_use } => {
                let assigned_to = [port, from].into_iter().find(|port| self.is_assigned(mac, *port));
                let counts = self.counts(now, port);
                let flapping = self.flaps.note(Move { now, mac, from, to: port, assigned_to }, counts);
                match flapping {
                    Some(flapping) => (self.blamed(now, port, &flapping), flapping.home),
                    None if in_use && assigned_to == Some(from) => (self.claim(now, port, mac)?, from),
                    None => return None,
                }
            }
            Evidence::Claimed { owner } if !self.is_assigned(mac, owner) => return None,
            Evidence::Claimed { owner } => (self.claim(now, port, mac)?, owner),
            Evidence::Refused { owner } => {
                let record = self.foreign(now, port, mac)?;
                (count(&mut record.refusals, REFUSALS).then_some(port)?, owner)
            }
        };
        self.block(now, blamed, mac, other);
        Some(blamed)
    }

    /// The port to block of those to which an address flaps: `port`, or one that was blocked before. So of the two
    /// ports of a loop the same one is blocked each time, and the other one works.
    fn blamed(&self, now: Tick, port: PortId, flapping: &Flapping) -> PortId {
        let times = |port: &PortId| self.ports[port.index()].times_in_a_row(now);
        let free = flapping.suspects().filter(|port| !self.ports[port.index()].blocked);
        free.max_by_key(times).filter(|other| times(other) > times(&port)).unwrap_or(port)
    }

    /// Counts a claim. Returns the port if they are too many.
    fn claim(&mut self, now: Tick, port: PortId, mac: Mac) -> Option<PortId> {
        let record = self.foreign(now, port, mac)?;
        let limit = if record.times_in_a_row(now) > 0 { 1 } else { CLAIMS };
        count(&mut record.claims, limit).then_some(port)
    }

    /// The record of a port on which a foreign address came in, if that counts.
    fn foreign(&mut self, now: Tick, port: PortId, mac: Mac) -> Option<&mut PortHistory> {
        if !self.counts(now, port) || self.is_assigned(mac, port) {
            return None;
        }
        let record = &mut self.ports[port.index()];
        if now.since(record.since) > WINDOW {
            (record.since, record.claims, record.refusals) = (now, 0, 0);
        }
        Some(record)
    }

    fn is_assigned(&self, mac: Mac, port: PortId) -> bool {
        self.ports[port.index()].assigned == mac
    }

    /// Whether evidence against a port counts now.
    fn counts(&self, now: Tick, port: PortId) -> bool {
        now >= self.settled && !self.ports[port.index()].blocked
    }

    fn block(&mut self, now: Tick, port: PortId, mac: Mac, other: PortId) {
        let record = &mut self.ports[port.index()];
        let times = record.times_in_a_row(now);
        let seconds = SHORTEST.checked_shl(times).map_or(LONGEST, |seconds| seconds.min(LONGEST));
        record.times = (times + 1).min(u32::BITS - 1);
        record.until = Tick(now.0.saturating_add(seconds * Tick::PER_SECOND));
        record.blocked = true;
        let block = Block { port, mac, other, until: record.until, seconds };
        self.blocked.push(block);
        self.new.push(block);
        self.settled = Tick(now.0.saturating_add(SETTLING));
        self.ports.iter_mut().for_each(|record| (record.claims, record.refusals) = (0, 0));
        self.flaps.reset();
    }

    /// The ports that were blocked since the last call.
    pub fn take_new(&mut self) -> Vec<Block> {
        self.new.drain(..).collect()
    }

    /// Ends the blocks that are over, and returns them.
    pub fn expire(&mut self, now: Tick) -> Vec<Block> {
        let ended: Vec<Block> = self.blocked.extract_if(.., |block| block.until <= now).collect();
        for block in &ended {
            self.ports[block.port.index()].blocked = false;
        }
        ended
    }

    /// When the next block ends.
    pub fn next_expiry(&self) -> Option<Tick> {
        self.blocked.iter().map(|block| block.until).min()
    }
}

/// Counts one more; whether the limit is reached.
fn count(counter: &mut u8, limit: u8) -> bool {
    *counter += 1;
    *counter >= limit
}

impl Switch {
    /// Whether loop detection is on.
    pub fn detects_loops(&self) -> bool {
        self.loops.is_some()
    }

    fn loops(&self) -> Option<MutexGuard<'_, LoopDetector>> {
        // Poisoning is ignored: no change can panic half-way.
        Some(self.loops.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a frame from `source` whose outcome may be a sign of a loop. Returns the port that was blocked, if one
    /// was.
    #[cold]
    #[inline(never)]
    pub fn check_loop(&self, now: Tick, source: Mac, outcome: &Outcome) -> Option<PortId> {
        let ingress = outcome.ingress();
        let is_host = self.ports.port(ingress).is_none_or(|port| port.host);
        if is_host || !self.detects_loops() {
            return None;
        }
        let evidence = self.evidence(now, source, outcome)?;
        let blamed = self.loops()?.note(now, ingress, source, evidence)?;
        self.ports.block(blamed);
        Some(blamed)
    }

    fn evidence(&self, now: Tick, source: Mac, outcome: &Outcome) -> Option<Evidence> {
        match (outcome.learned(), outcome.fault()) {
            (Some(Learned::Moved { from, after }), _) => {
                Some(Evidence::Moved { from, in_use: after <= IN_USE })
            }
            (Some(Learned::Reserved { owner }), _) => Some(Evidence::Claimed { owner }),
            (_, Some(Fault::Violation(Violation::SourceMac(_)))) => {
                let entry = self.fdb.entry(FdbKey { vlan: 0, mac: source })?;
                let is_in_use = entry.kind.state == FdbState::Dynamic
                    && now.since(self.fdb.last_seen(now, &entry)) <= IN_USE;
                let owner = entry.port;
                (is_in_use && owner != outcome.ingress()).then_some(Evidence::Refused { owner })
            }
            _ => None,
        }
    }

    /// Sets the MAC that the switch assigned to a new port. `None`: the port is being removed. Unblocks it.
    pub fn assign_mac(&self, port: PortId, mac: Option<Mac>) {
        if let Some(mut loops) = self.loops() {
            loops.assign(port, mac);
            self.ports.unblock(port);
        }
    }

    /// The ports that were blocked since the last call.
    pub fn take_new_blocks(&self) -> Vec<Block> {
        self.loops().map_or_else(Vec::new, |mut loops| loops.take_new())
    }

    /// Unblocks the ports whose time is over, and returns them.
    pub fn unblock_ports(&self, now: Tick) -> Vec<Block> {
        let ended = self.loops().map_or_else(Vec::new, |mut loops| loops.expire(now));
        ended.iter().for_each(|block| self.ports.unblock(block.port));
        ended
    }

    /// When [`Switch::unblock_ports`] has something to do.
    pub fn next_unblock(&self) -> Option<Tick> {
        self.loops()?.next_expiry()
    }
}

/// The detector of a switch.
pub(super) type SharedDetector = Mutex<LoopDetector>;
