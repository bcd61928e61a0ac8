//! The state of the switch at one time.

use std::time::Duration;

use crate::control::client::{ApiClient, ClientError};
use crate::control::report::{FdbReport, PortReport, PortStats, Status};

/// The state of the switch at one time, as the API reported it.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// Time since the start of the screen.
    pub(super) taken: Duration,
    pub(super) status: Status,
    pub(super) ports: Vec<PortReport>,
    pub(super) stats: Vec<PortStats>,
    pub(super) fdb: Vec<FdbReport>,
}

impl Snapshot {
    pub(super) fn read(client: &ApiClient, taken: Duration) -> Result<Snapshot, ClientError> {
        Ok(Snapshot {
            taken,
            status: client.get("/v1/status")?,
            ports: client.get("/v1/ports")?,
            stats: client.get("/v1/stats")?,
            fdb: client.get("/v1/fdb")?,
        })
    }
}
