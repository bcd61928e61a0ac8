//! The framing of QEMU's `-netdev stream` and of passt: on a stream socket, each frame has its length before it, as
//! four bytes in network byte order.
//!
//! A stream is not a queue: a read can return a part of a frame or several, and a write may take a part. So two threads
//! relay between the stream and one end of a `SOCK_SEQPACKET` pair, whose other end is the queue of a worker: one
//! message is one frame. The calls block, so a peer that does not read fills the queue, which then refuses frames, and
//! a peer that sends too fast waits. (`datagram_relay.rs` relays datagrams.)

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use nix::unistd::{read, write};

use super::arena::{BUFFER_SIZE, HEADROOM};
use super::confine::restrict_worker;
use crate::wire::VLAN_TAG;

/// Bytes of the length.
const LENGTH: usize = 4;
/// Longest frame of the peer.
pub(super) const LONGEST: usize = BUFFER_SIZE - HEADROOM;
/// Longest frame to the peer: a tag can be inserted into one of another peer.
const LONGEST_SENT: usize = LONGEST + VLAN_TAG;
/// Bytes of a thread's stack. The frame is on the heap.
const STACK: usize = 128 << 10;

/// Relays between `stream`, which blocks, and the returned queue, until either side closes.
///
/// # Errors
/// The process has all the files or threads that it may have.
pub(super) fn start(stream: OwnedFd) -> io::Result<OwnedFd> {
    let (ours, queue) = queue_pair()?;
    let relay = Arc::new(StreamRelay { stream, queue: ours });
    for (name, direction) in
        [("from-stream", StreamRelay::receive as StreamRelayFn), ("to-stream", StreamRelay::send)]
    {
        let (relay, ended) = (Arc::clone(&relay), Arc::clone(&relay));
        // If the second one fails, the end of `queue` ends the first.
        spawn(name, move |buffer| direction(&relay, buffer), move || ended.close())?;
    }
    Ok(queue)
}

type StreamRelayFn = fn(&StreamRelay, &mut [u8]) -> io::Result<()>;

/// The relay's end of a queue, which blocks, and the worker's, which does not.
pub(super) fn queue_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, queue) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    nix::fcntl::fcntl(&queue, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok((ours, queue))
}

struct StreamRelay {
    stream: OwnedFd,
    queue: OwnedFd,
}

/// Runs `relay`, and then `end`, on a thread with the restrictions of a worker. The buffer is longer than the longest
/// frame.
pub(super) fn spawn(
    name: &str,
    relay: impl FnOnce(&mut [u8]) -> io::Result<()> + Send + 'static,
    end: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        if restrict_worker().is_ok() {
            // Every error is the end of the connection.
            let _ = relay(&mut vec![0; LENGTH + LONGEST_SENT]);
        }
        end();
    };
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run).map(drop)
}

impl StreamRelay {
    /// Ends both threads, and lets the peer and the worker know.
    fn close(&self) {
        for socket in [&self.stream, &self.queue] {
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }

    /// Passes on the frames of the stream.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let mut length = [0; LENGTH];
            read_exact(&self.stream, &mut length)?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            let frame = buffer.get_mut(..length).filter(|_| length <= LONGEST);
            let frame = frame.ok_or_else(|| io::Error::other("a frame is too long"))?;
            read_exact(&self.stream, frame)?;
            // An empty message would be the end.
            if !frame.is_empty() {
                write(&self.queue, frame)?;
            }
        }
    }

    /// Passes on the frames of the queue.
    fn send(&self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let (head, frame) = buffer.split_at_mut(LENGTH);
            let length = read(&self.queue, frame)?;
            if length == 0 {
                return Ok(());
            }
            head.copy_from_slice(&u32::try_from(length).unwrap_or(0).to_be_bytes());
            write_all(&self.stream, &buffer[..LENGTH + length])?;
        }
    }
}

fn read_exact(from: &impl AsFd, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match read(from, buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => buffer = &mut buffer[length..],
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write_all(to: &impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn relay() -> (UnixStream, OwnedFd) {
        let (ours, peer) = UnixStream::pair().unwrap();
        let queue = start(ours.into()).unwrap();
        nix::fcntl::fcntl(&queue, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
        (peer, queue)
    }

    fn message(queue: &OwnedFd) -> Vec<u8> {
        let mut buffer = vec![0; BUFFER_SIZE];
        let length = read(queue, &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn one_message_is_one_frame() {
        let (mut peer, queue) = relay();
        // Two frames in one write, with an empty one between them, and a frame in several writes.
        peer.write_all(&[0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1, 9]).unwrap();
        assert_eq!((message(&queue), message(&queue)), (vec![7, 8], vec![9]));
        let large = vec![5; LONGEST];
        peer.write_all(&u32::try_from(LONGEST).unwrap().to_be_bytes()).unwrap();
        peer.write_all(&large).unwrap();
        assert_eq!(message(&queue), large);
        write(&queue, &[1, 2, 3]).unwrap();
        let mut sent = [0; 7];
        peer.read_exact(&mut sent).unwrap();
        assert_eq!(sent, [0, 0, 0, 3, 1, 2, 3]);
    }

    #[test]
    fn frame_that_is_too_long_ends_the_connection() {
        let (mut peer, queue) = relay();
        peer.write_all(&u32::try_from(LONGEST + 1).unwrap().to_be_bytes()).unwrap();
        assert_eq!(message(&queue), [0; 0]);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn either_end_closes_the_other() {
        let (peer, queue) = relay();
        drop(peer);
        assert_eq!(message(&queue), [0; 0]);
        let (mut peer, queue) = relay();
        drop(queue);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }
}
