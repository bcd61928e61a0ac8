//! The thread of a service.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::sync::Notify;
use tracing::warn;

use crate::sys::confine;

/// A thread without capabilities that serves, so that neither frames nor control wait for it. It ends when this is
/// dropped.
#[derive(Debug)]
pub(super) struct ServiceThread {
    stop: Arc<Notify>,
}

impl ServiceThread {
    /// Starts the thread `name` of the server of a protocol, which serves until it fails.
    ///
    /// # Errors
    /// The thread or its event loop cannot be started.
    pub(super) fn start<F>(name: &str, protocol: &'static str, serve: F) -> io::Result<ServiceThread>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = confine::drop_capabilities() {
                return warn!(%error, "no {protocol} server");
            }
            runtime.block_on(async {
                tokio::select! {
                    () = stopped.notified() => {}
                    served = serve => {
                        if let Err(error) = served {
                            warn!(%error, "the {protocol} server has ended");
                        }
                    }
                }
            });
        })?;
        Ok(ServiceThread { stop })
    }
}

impl Drop for ServiceThread {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}
