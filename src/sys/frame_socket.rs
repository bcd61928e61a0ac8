//! Unix sockets that carry Ethernet frames (unix(7)).
//!
//! A `SOCK_SEQPACKET` socket carries a virtio-net header and a frame in each message, so GSO packets cross it whole. A
//! `SOCK_STREAM` socket has the framing of QEMU and passt ([`super::stream_relay`]). Datagrams have no connections:
//! [`super::datagram_socket`] has them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::task::{Context, Poll};

use caps::Capability;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect as connect_socket,
    listen as listen_at, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::caps::Raised;
use super::queue::{Framing, Queue, shared_queues};
use super::stream_relay;

/// Bytes of frames that may wait in each direction.
pub const SOCKET_BUFFER: usize = 4 << 20;

/// What a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameSocketType {
    /// Messages: a virtio-net header and a frame.
    Seqpacket,
    /// Frames, each with its length before it.
    Stream,
}

/// Why there is no socket at a path.
#[derive(Debug, thiserror::Error)]
pub enum FrameSocketError {
    /// `sun_path` has 108 bytes.
    #[error("the path of a socket has at most 107 bytes")]
    Path,
    /// There is another file.
    #[error("there is a file that is not a socket")]
    NotSocket,
    /// Another program has the socket open.
    #[error("another program has it open")]
    InUse,
    /// Another operation.
    #[error(transparent)]
    Kernel(#[from] io::Error),
}

impl From<FrameSocketType> for SockType {
    fn from(kind: FrameSocketType) -> SockType {
        match kind {
            FrameSocketType::Seqpacket => SockType::SeqPacket,
            FrameSocketType::Stream => SockType::Stream,
        }
    }
}

fn new_socket(kind: SockType) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

/// A socket at which a port waits for its peer. Its file is not removed when it is dropped: see [`remove_stale`].
#[derive(Debug)]
pub struct FrameListener(AsyncFd<OwnedFd>);

impl FrameListener {
    /// Listens at `path`, with mode 0600. Replaces a socket at which no process listens. Call this in a Tokio runtime.
    ///
    /// # Errors
    /// See [`FrameSocketError`]. Nothing is changed then.
    pub fn bind(path: &Path, kind: FrameSocketType) -> Result<FrameListener, FrameSocketError> {
        let socket = listen(path, kind)?;
        // SAFETY: the registered value owns the descriptor, and keeps it open and the same until it is dropped.
        let listener = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(FrameListener(listener.map_err(io::Error::from)?))
    }

    /// The next peer. After an error the listener is polled again when something else happens.
    ///
    /// # Errors
    /// The peer has gone again, or the process has all the files that it may open.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        loop {
            let mut ready = std::task::ready!(self.0.poll_read_ready(context))?;
            if let Ok(accepted) = ready.try_io(|listener| accept(listener.as_fd())) {
                return Poll::Ready(accepted);
            }
        }
    }
}

fn listen(path: &Path, kind: FrameSocketType) -> Result<OwnedFd, FrameSocketError> {
    let socket = bind_private(path, kind.into())?;
    listen_at(&socket, Backlog::new(1).unwrap_or(Backlog::MAXCONN)).map_err(io::Error::from)?;
    Ok(socket)
}

/// Creates a socket at `path`, with mode 0600. Replaces one that no program has open.
pub(super) fn bind_private(path: &Path, kind: SockType) -> Result<OwnedFd, FrameSocketError> {
    let address = UnixAddr::new(path).map_err(|_| FrameSocketError::Path)?;
    remove_stale(path)?;
    let socket = new_socket(kind).map_err(io::Error::from)?;
    // The file gets the mode of the socket (`unix_bind_bsd` in Linux `net/unix/af_unix.c`).
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(io::Error::from)?;
    bind(socket.as_raw_fd(), &address).map_err(io::Error::from)?;
    Ok(socket)
}

/// Removes a socket that no program has open.
///
/// # Errors
/// There is another file, or a program has the socket open.
pub fn remove_stale(path: &Path) -> Result<(), FrameSocketError> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(FrameSocketError::NotSocket);
    }
    match connect(path, FrameSocketType::Stream) {
        Err(Errno::ECONNREFUSED) => Ok(std::fs::remove_file(path)?),
        Err(Errno::ENOENT) => Ok(()),
        // EPROTOTYPE: a socket of another type that is open.
        _ => Err(FrameSocketError::InUse),
    }
}

/// The next peer of a listening socket; `EAGAIN`: there is none.
fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let accepted = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel created this descriptor for this call: it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(accepted) })
}

/// Connects to the socket at `path`, which may belong to another user. Does not wait.
///
/// # Errors
/// No process listens there.
pub fn connect(path: &Path, kind: FrameSocketType) -> nix::Result<OwnedFd> {
    let _raised = Raised::new(&[Capability::CAP_DAC_OVERRIDE]);
    let socket = new_socket(kind.into())?;
    connect_socket(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// The queues of a connected socket, one for each of `count` workers. Only one of them reads, so frames stay in order.
///
/// # Errors
/// The process has all the files or threads that it may have.
pub fn queues(
    connection: OwnedFd,
    kind: FrameSocketType,
    count: usize,
    reader: usize,
) -> io::Result<Vec<Queue>> {
    let (fd, framing) = match kind {
        FrameSocketType::Seqpacket => (connection, Framing::Vnet),
        FrameSocketType::Stream => {
            fcntl(&connection, FcntlArg::F_SETFL(OFlag::empty()))?;
            enlarge_buffer(connection.as_fd());
            (stream_relay::start(connection)?, Framing::Plain)
        }
    };
    enlarge_buffer(fd.as_fd());
    shared_queues(&fd, framing, count, reader)
}

/// Without `CAP_NET_ADMIN` in the initial user namespace, net.core.wmem_max limits it.
pub(super) fn enlarge_buffer(socket: BorrowedFd<'_>) {
    let _ = setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER)
        .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const TYPES: [FrameSocketType; 2] = [FrameSocketType::Seqpacket, FrameSocketType::Stream];

    #[test]
    fn listens_for_its_owner_only_and_replaces_a_stale_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("port.sock");
        for kind in TYPES {
            let listener = listen(&path, kind).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(matches!(listen(&path, kind), Err(FrameSocketError::InUse)));
            let peer = connect(&path, kind).unwrap();
            // To look whether somebody listens at a stream, one has to connect.
            let others = usize::from(kind == FrameSocketType::Stream);
            let accepted = std::iter::from_fn(|| accept(listener.as_fd()).ok()).count();
            assert_eq!(accepted, 1 + others, "{kind:?}");
            assert_eq!(accept(listener.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            drop((listener, peer));
        }
        remove_stale(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn refuses_other_files_and_long_paths() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "kept").unwrap();
        assert!(matches!(listen(&path, FrameSocketType::Stream), Err(FrameSocketError::NotSocket)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
        let long = directory.path().join("x".repeat(108));
        assert!(matches!(listen(&long, FrameSocketType::Stream), Err(FrameSocketError::Path)));
    }
}
