//! Observers of a decision: none on the hot path, a recorder for `uswitch trace`.

use super::fdb::Learned;
use super::mdb::Class;
use super::vlan::Classified;
use super::{DropReason, Port, PortId, SwitchReply};
use crate::wire::Mac;

/// One step of a decision. A failed check is not a step: the outcome has the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The frame was received on a port that is up.
    Ingress(Port),
    /// The source is a unicast address, and not the gateway's.
    Source(Mac),
    /// The VLAN of the frame, if the switch filters VLANs.
    Vlan(Classified),
    /// The frame is admitted.
    Admitted,
    /// The outcome of learning its source address.
    Learned(Learned),
    /// The frame is addressed to the gateway or to a group: the gateway's reply, if there is one.
    Asked(Option<SwitchReply>),
    /// The port of the destination, if it is known.
    LookedUp(Option<PortId>),
    /// Ports suppress messages about neighbours, and the frame is one that they do not need: the switch's reply for the
    /// neighbour, if it replies.
    NeighSuppressed(Option<SwitchReply>),
    /// The frame goes to the members of its group and to routers, not to all ports.
    Snooped(Class),
    /// A port that is not part of the flood, and why. There may be one for each port.
    NotFlooded(PortId, DropReason),
}

/// Receives the steps of a decision.
pub trait Observer {
    /// Receives one step.
    fn note(&mut self, step: Step);
}

/// No observer: compiles to nothing.
impl Observer for () {
    #[inline(always)]
    fn note(&mut self, _: Step) {}
}

/// Two observers, called in order.
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

/// Records the steps in place, without allocation. [`Step::NotFlooded`] is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps {
    taken: [Option<Step>; Steps::MAX],
}

impl Steps {
    /// The largest number of steps that a decision has.
    pub const MAX: usize = 8;

    /// The steps, in order.
    pub fn iter(&self) -> impl Iterator<Item = Step> + '_ {
        self.taken.iter().flatten().copied()
    }
}

impl Observer for Steps {
    fn note(&mut self, step: Step) {
        if !matches!(step, Step::NotFlooded(..))
            && let Some(free) = self.taken.iter_mut().find(|taken| taken.is_none())
        {
            *free = Some(step);
        }
    }
}
