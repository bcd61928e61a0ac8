//! Reports that names of namespaces were removed (inotify(7) on [`DIRECTORY`]).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netns::DIRECTORY;

/// The inotify instance.
#[derive(Debug)]
pub struct NetnsNameMonitor {
    inotify: AsyncFd<Registered>,
}

/// Implements the trait that `AsyncFd` needs.
#[derive(Debug)]
struct Registered(Inotify);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl NetnsNameMonitor {
    /// Starts to watch the directory, which must exist. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The user has reached `fs.inotify.max_user_instances`.
    pub fn open() -> io::Result<NetnsNameMonitor> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(DIRECTORY, AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM)?;
        // SAFETY: `Inotify` owns its descriptor, always returns the same one, and closes it only when it is
        // dropped. It moves into the private `AsyncFd`, which no caller gets by value or mutably.
        let inotify = unsafe { AsyncFd::register_with_interest(Registered(inotify), Interest::READABLE) };
        Ok(NetnsNameMonitor { inotify: inotify.map_err(io::Error::from)? })
    }

    /// Waits for the next names that were removed; `None` means that any may have been. Cancel-safe.
    ///
    /// # Errors
    /// The inotify instance failed permanently.
    pub async fn next(&self) -> io::Result<Vec<Option<OsString>>> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let events = ready.try_io(|inotify| match inotify.get_ref().0.read_events() {
                Err(Errno::EINTR) => Ok(Vec::new()),
                events => Ok(events?),
            });
            match events {
                // An event without a name: events were lost, or the directory itself was removed.
                Ok(Ok(events)) if !events.is_empty() => {
                    return Ok(events.into_iter().map(|event| event.name).collect());
                }
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}
