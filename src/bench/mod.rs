//! How fast the switch is beside others: what was measured, and what it says.
//!
//! A run is a row of turns, each in a [`crate::sys::isolated`] of its own: a process in new namespaces that makes one switch with
//! two containers and a host (`lab`), measures, and tells each value through a pipe as it comes. When the turn is over,
//! or Ctrl-C is pressed, or anything fails, the cell is killed, and the kernel takes away everything that was in it.

mod cpu;
mod distance;
mod error;
mod event;
mod generator;
mod iperf;
mod lab;
mod machine;
mod measurement;
pub mod metric;
mod peer;
mod plan;
pub mod report;
pub mod results;
mod rfc2544;
mod rtt;
mod runner;
pub mod summary;

pub use error::BenchError;
pub use machine::congestion_controls;
pub use peer::Peer;
pub use plan::{BenchPlan, PeerRun, Test, word};
pub use runner::{ProgressObserver, run};
