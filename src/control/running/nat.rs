//! Reports what other programs do to the nftables table of the switch.

use jiff::Timestamp;
use tracing::warn;

use super::{HostNetwork, Running};
use crate::control::event::{Event, EventType};
use crate::control::topology::NatChange;

impl<M: HostNetwork> Running<M> {
    /// Reports that the table was restored, or why it was not.
    pub(super) fn nat_changed(&mut self, change: NatChange) {
        let event = match change {
            NatChange::Restored { by } => {
                warn!(by, "another program changed the nftables table: it was restored");
                self.nat_fault = None;
                Event { value: by, ..Event::at(Timestamp::now(), EventType::NatRestored) }
            }
            NatChange::Failed { why } => {
                warn!("{why}");
                self.nat_fault = Some(why.clone());
                Event { reason: Some(why), ..Event::at(Timestamp::now(), EventType::NatFailed) }
            }
        };
        self.events.history.add(event);
    }
}
