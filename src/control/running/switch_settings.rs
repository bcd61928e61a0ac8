//! Changes settings of the running switch: all of a request, or none.

use std::time::Duration;

use tracing::info;

use super::{HostNetwork, RunError, Running, ticks};
use crate::control::config;
use crate::control::report::{Status, SwitchSettings};

impl<M: HostNetwork> Running<M> {
    /// Changes settings of the switch. After an error nothing is changed.
    pub(super) fn set_switch(&mut self, settings: &SwitchSettings) -> Result<Status, RunError> {
        let ageing_time = settings.ageing_time.map(config::ageing_time).transpose()?;
        self.config.labels = config::changed_labels(&self.config.labels, &settings.labels)?;
        if let Some(ageing_time) = ageing_time {
            self.set_ageing_time(ageing_time);
        }
        Ok(self.status())
    }

    /// Entries that are older than the new time expire now.
    fn set_ageing_time(&mut self, ageing_time: Duration) {
        self.config.ageing_time = ageing_time;
        self.switch.fdb.set_ageing(ticks(ageing_time));
        info!(seconds = ageing_time.as_secs(), "ageing_time changed");
        self.age();
    }
}
