//! Hears of namespaces' names being taken away (inotify(7) on the directory of names).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netns::DIRECTORY;

/// The listening file.
#[derive(Debug)]
pub struct NetnsNameMonitor {
    inotify: AsyncFd<Registered>,
}

/// Inotify, as the runtime takes it.
#[derive(Debug)]
struct Registered(Inotify);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl NetnsNameMonitor {
    /// Listens from now on. The directory must be there; to be called within a Tokio runtime.
    ///
    /// # Errors
    /// The user has too many of these (`fs.inotify.max_user_instances`).
    pub fn open() -> io::Result<NetnsNameMonitor> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(DIRECTORY, AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM)?;
        // SAFETY: `Inotify` owns its descriptor, always returns that one, and closes it only when it is dropped. It
        // moves into the `AsyncFd`, which is private here and gives it to nobody by value or mutably.
        let inotify = unsafe { AsyncFd::register_with_interest(Registered(inotify), Interest::READABLE) };
        Ok(NetnsNameMonitor { inotify: inotify.map_err(io::Error::from)? })
    }

    /// The next names that were taken away; `None` stands for any. Cancel-safe.
    ///
    /// # Errors
    /// The file failed for good.
    pub async fn next(&self) -> io::Result<Vec<Option<OsString>>> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let events = ready.try_io(|inotify| match inotify.get_ref().0.read_events() {
                Err(Errno::EINTR) => Ok(Vec::new()),
                events => Ok(events?),
            });
            match events {
                // An event without a name says that some were lost, or that the directory itself went.
                Ok(Ok(events)) if !events.is_empty() => {
                    return Ok(events.into_iter().map(|event| event.name).collect());
                }
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}
