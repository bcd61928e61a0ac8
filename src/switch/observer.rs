//! Who hears how a decision was made: nobody on the hot path, a recorder for an explanation.

use super::fdb::Learned;
use super::{PortId, Verdict};

/// One step of a decision, in the order in which they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The frame may come in.
    Admitted,
    /// What became of its source address.
    Learned(Learned),
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
