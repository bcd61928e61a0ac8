//! Moves frames: workers, buffer pools, two engines. I/O in safe Rust over `sys`.

use std::sync::Arc;
use std::time::Duration;

use crate::switch::{Counters, PortId, Switch};
use crate::sys::tap::Queue;

/// The engines there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// io_uring: multishot reads into provided buffers, batched writes.
    Uring,
    /// epoll, read and write.
    Poll,
}

/// What a datapath is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads; every port has a queue for each.
    pub workers: usize,
    /// Engine.
    pub engine: EngineKind,
    /// How long a worker polls after the last frame before it sleeps.
    pub busy_poll: Duration,
}

/// A datapath could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A worker is gone: it panicked or its engine failed.
    #[error("a worker stopped: {0}")]
    WorkerStopped(String),
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /** What was tried. */
        what: &'static str,
        /** Its error. */
        source: std::io::Error,
    },
}

/// What the engine `auto` would be on this machine, and why not io_uring, if not.
pub fn probe() -> (EngineKind, Option<String>) {
    (EngineKind::Poll, Some("not written yet".to_owned()))
}

/// The running workers.
#[derive(Debug)]
pub struct Datapath {}

#[allow(unused_variables, reason = "to be written")]
impl Datapath {
    /// Starts the workers; they forward for `switch` until [`Datapath::stop`].
    pub fn start(switch: Arc<Switch>, settings: &Settings) -> Result<Datapath, DatapathError> {
        Ok(Datapath {})
    }
    /// Gives each worker its queue of a port. Returns when all of them read it.
    pub fn attach(&self, port: PortId, queues: Vec<Queue>) -> Result<(), DatapathError> {
        Ok(())
    }
    /// Takes a port from all workers. Returns when none will touch it again and its queues are closed.
    /// The caller has marked the port down, so that no new frame is sent to it.
    pub fn detach(&self, port: PortId) -> Result<(), DatapathError> {
        Ok(())
    }
    /// Each worker's counters.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &[]
    }
    /// A worker that stopped by itself, if one did: why. Checked by control now and then.
    pub fn failure(&self) -> Option<String> {
        None
    }
    /// Stops and joins the workers, and closes all queues.
    pub fn stop(self) {}
}
