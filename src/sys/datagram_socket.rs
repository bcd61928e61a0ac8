//! Datagram sockets of ports (`SOCK_DGRAM`, unix(7)): each datagram is a frame. A port creates a socket at one path,
//! and exchanges frames with the socket at another one, as `-netdev dgram` of QEMU does.
//!
//! The socket is connected, so only its peer can send to it. The kernel does not report that the peer has closed its
//! socket: sending fails then, and so does connecting again, with which the port checks whether its peer is there.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use caps::Capability;
use nix::sys::socket::{SockType, UnixAddr, connect};

use super::caps::Raised;
use super::datagram_relay::{self, DatagramRelay};
use super::frame_socket::{FrameSocketError, bind_private, enlarge_buffer};
use super::queue::{Framing, Queue, shared_queues};

/// The socket of a port. Its file is removed when it is dropped, unless another program has replaced it.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode number of the file.
    file: (u64, u64),
    peer: UnixAddr,
    relay: Option<DatagramRelay>,
}

impl DatagramSocket {
    /// Creates a socket at `path`, with mode 0600, whose peer has the one at `peer`. Replaces a socket that no program
    /// has open.
    ///
    /// # Errors
    /// See [`FrameSocketError`]. Nothing is changed then.
    pub fn bind(path: &Path, peer: &Path) -> Result<DatagramSocket, FrameSocketError> {
        let peer = UnixAddr::new(peer).map_err(|_| FrameSocketError::Path)?;
        let socket = bind_private(path, SockType::Datagram)?;
        enlarge_buffer(socket.as_fd());
        Ok(DatagramSocket { socket, path: path.to_owned(), file: file(path)?, peer, relay: None })
    }

    /// Connects to the socket that is at the path of the peer now.
    ///
    /// # Errors
    /// There is none.
    pub fn connect(&self) -> io::Result<()> {
        let _raised = Raised::new(&[Capability::CAP_DAC_OVERRIDE]);
        Ok(connect(self.socket.as_raw_fd(), &self.peer)?)
    }

    /// The queues for `count` workers. Only one of them reads, so frames stay in order.
    ///
    /// # Errors
    /// The process has all the files or threads that it may have.
    pub fn queues(&mut self, count: usize, reader: usize) -> io::Result<Vec<Queue>> {
        let (relay, queue) = datagram_relay::start(self.socket.try_clone()?)?;
        self.relay = Some(relay);
        enlarge_buffer(queue.as_fd());
        shared_queues(&queue, Framing::Plain, count, reader)
    }

    /// Ends the queues, which the workers report.
    pub fn disconnect(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.end();
        }
    }
}

impl Drop for DatagramSocket {
    fn drop(&mut self) {
        // The threads of the relay may have the socket open a while longer.
        if file(&self.path).is_ok_and(|found| found == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn file(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn finds_its_peer_and_notices_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let [path, peer] = ["port.sock", "peer.sock"].map(|name| directory.path().join(name));
        let socket = DatagramSocket::bind(&path, &peer).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        socket.connect().unwrap_err();
        for _ in 0..2 {
            let bound = UnixDatagram::bind(&peer).unwrap();
            socket.connect().unwrap();
            bound.send_to(&[1], &path).unwrap();
            let other = UnixDatagram::unbound().unwrap();
            assert!(other.send_to(&[2], &path).is_err(), "only its peer can send to it");
            drop(bound);
            socket.connect().unwrap_err();
            std::fs::remove_file(&peer).unwrap();
        }
        assert!(matches!(DatagramSocket::bind(&path, &peer), Err(FrameSocketError::InUse)));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn keeps_the_file_of_another_program() {
        let directory = tempfile::tempdir().unwrap();
        let [path, peer] = ["port.sock", "peer.sock"].map(|name| directory.path().join(name));
        let socket = DatagramSocket::bind(&path, &peer).unwrap();
        std::fs::rename(&path, &peer).unwrap();
        let _other = UnixDatagram::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
