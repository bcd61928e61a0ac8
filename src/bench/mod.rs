//! Compares uswitch with other switches.
//!
//! A run consists of repetitions, and each measures every peer once ([`PeerRun`]), in a
//! [`crate::sys::isolated`] process: it has new namespaces, creates one switch with two containers and a
//! host (`lab`), measures, and writes each value to a pipe. At the end, after Ctrl-C or an error, the
//! parent kills this process, and the kernel removes everything in its namespaces.

mod cpu;
mod distance;
mod echo;
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
