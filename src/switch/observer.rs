//! Who hears how a decision was made: a counter or nobody on the hot path, a recorder for an explanation.

use super::fdb::Learned;
use super::forward::OffloadFault;
use super::gateway::Claim;
use super::{GatewayReply, Port, PortId, Verdict};
use crate::wire::Mac;

/// One step of a decision, in the order in which they are taken. A check that a frame does not pass is no step: the
/// verdict names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The frame came in on a port that is up.
    Ingress(Port),
    /// Its source can be a station's, and is not the gateway's.
    Source(Mac),
    /// The virtio-net header cannot be true; the frame is dropped.
    OffloadFault(OffloadFault),
    /// The frame claims what is the gateway's; it is dropped.
    Claimed(Claim),
    /// The frame may come in.
    Admitted,
    /// What became of its source address.
    Learned(Learned),
    /// The frame may be a question to the gateway (to its address, or to a group): what the switch itself
    /// answers, if it does.
    Asked(Option<GatewayReply>),
    /// Where the destination is, if it is known.
    LookedUp(Option<PortId>),
    /// The outcome.
    Verdict(Verdict),
}

/// Hears the steps of a decision.
pub trait Observer {
    /// One step was taken.
    fn note(&mut self, step: Step);
}

/// Nobody: compiles to nothing.
impl Observer for () {
    #[inline(always)]
    fn note(&mut self, _: Step) {}
}

/// Two, one after the other.
impl<A: Observer, B: Observer> Observer for (A, B) {
    #[inline(always)]
    fn note(&mut self, step: Step) {
        self.0.note(step);
        self.1.note(step);
    }
}

impl<O: Observer> Observer for &mut O {
    #[inline(always)]
    fn note(&mut self, step: Step) {
        (**self).note(step);
    }
}

/// Writes the steps down, in place: nothing is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps {
    taken: [Option<Step>; Steps::MAX],
}

impl Steps {
    /// No decision takes more.
    pub const MAX: usize = 12;

    /// The steps, in the order in which they were taken.
    pub fn iter(&self) -> impl Iterator<Item = Step> + '_ {
        self.taken.iter().flatten().copied()
    }
}

impl Observer for Steps {
    fn note(&mut self, step: Step) {
        if let Some(free) = self.taken.iter_mut().find(|taken| taken.is_none()) {
            *free = Some(step);
        }
    }
}
