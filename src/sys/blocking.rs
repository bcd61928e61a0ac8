//! Work that blocks, on a thread of its own, for a task of an event loop.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// Runs `work` on a new thread of this name. Its result arrives at the receiver, unless it panics.
///
/// `tokio::task::spawn_blocking` panics if no thread can be started, so a process limit would end the whole switch.
///
/// # Errors
/// No thread can be started (`RLIMIT_NPROC`, `pids.max`).
pub fn run_blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // The task may have been dropped.
        let _ = sender.send(work());
    };
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_result_from_another_thread() {
        let name = || thread::current().name().map(str::to_owned);
        let result = run_blocking("lookup", name).unwrap().await;
        assert_eq!(result, Ok(Some("lookup".to_owned())));
    }

    #[tokio::test]
    async fn a_panic_ends_only_the_thread() {
        assert!(run_blocking::<()>("lookup", || panic!("a test panic")).unwrap().await.is_err());
    }
}
