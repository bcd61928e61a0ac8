//! The API of a switch on the fake network, for tests of its clients.

use std::path::PathBuf;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::ApiSocket;
use crate::control::Config;
use crate::control::log::{Log, LogDestination, LogLevel};
use crate::control::running::fake::{FakeControl, running};
use crate::control::service::{Endpoints, ServiceOutcome, serve};

/// Runs a switch, and `test` on a second thread with the directory of its socket. Stops the switch when `test` returns.
pub(crate) fn with_switch(
    config: Config,
    test: impl FnOnce(FakeControl, PathBuf) + Send + 'static,
) -> ServiceOutcome {
    let directory = tempfile::tempdir().unwrap();
    let runtime = directory.path().join("uswitch");
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let path = runtime.join(format!("{}.sock", config.name));
        let (fake, running) = running(config).await;
        let socket = ApiSocket::bind(&path).unwrap();
        let log = Log::start(LogLevel::Off, LogDestination::Stderr).unwrap();
        let (finished, finish) = oneshot::channel::<()>();
        let tester = std::thread::Builder::new().spawn(move || {
            test(fake, runtime);
            drop(finished);
        });
        let outcome =
            serve(running, Endpoints { socket, metrics: None, log }, finish.map(drop), |_| Ok(())).await;
        if let Err(panic) = tester.unwrap().join() {
            std::panic::resume_unwind(panic);
        }
        outcome
    })
}
