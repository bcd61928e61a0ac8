//! Relays between a datagram socket and the queue of a worker: one datagram is one frame, without a header.
//!
//! A datagram socket accepts only `net.unix.max_dgram_qlen` datagrams (10 by default) before it is read, fewer than the
//! segments of one GSO packet. So two threads relay between the socket and one end of a `SOCK_SEQPACKET` pair, as for a
//! stream ([`super::stream_relay`]): a sender waits for its peer, and does not lose frames.
//!
//! The socket is used again with the next peer, so unlike a stream it is not shut down. Only the queue is, and the
//! threads wait for that, too.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::{read, write};

use super::stream_relay::{LONGEST, queue_pair, spawn};

/// epoll data.
const SOCKET: u64 = 0;
const QUEUE: u64 = 1;

/// The threads between a socket and a queue.
#[derive(Debug)]
pub(super) struct DatagramRelay {
    queue: Arc<OwnedFd>,
}

/// Relays between `socket`, which does not block, and the returned queue, until the queue closes or a datagram cannot
/// be sent.
///
/// # Errors
/// The process has all the files or threads that it may have.
pub(super) fn start(socket: OwnedFd) -> io::Result<(DatagramRelay, OwnedFd)> {
    let (ours, queue) = queue_pair()?;
    let ours = Arc::new(ours);
    let relay = DatagramRelay { queue: Arc::clone(&ours) };
    let ends = Arc::new(Ends { socket, queue: ours });
    for (name, direction, interest) in [
        ("from-datagram", Ends::receive as DatagramRelayFn, EpollFlags::EPOLLIN),
        ("to-datagram", Ends::send, EpollFlags::EPOLLOUT),
    ] {
        let (ends, ready) = (Arc::clone(&ends), ends.watch(interest)?);
        let ended = Arc::clone(&ends.queue);
        // If the second one fails, the end of `queue` ends the first.
        spawn(name, move |buffer| direction(&ends, &ready, buffer), move || close(&ended))?;
    }
    Ok((relay, queue))
}

impl DatagramRelay {
    /// Ends both threads, and lets the worker know.
    pub(super) fn end(&self) {
        close(&self.queue);
    }
}

fn close(queue: &OwnedFd) {
    let _ = shutdown(queue.as_raw_fd(), Shutdown::Both);
}

struct Ends {
    socket: OwnedFd,
    queue: Arc<OwnedFd>,
}

type DatagramRelayFn = fn(&Ends, &Epoll, &mut [u8]) -> io::Result<()>;

impl Ends {
    /// Watches the socket, and the queue for its end.
    fn watch(&self, interest: EpollFlags) -> io::Result<Epoll> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(self.socket.as_fd(), EpollEvent::new(interest, SOCKET))?;
        epoll.add(self.queue.as_fd(), EpollEvent::new(EpollFlags::empty(), QUEUE))?;
        Ok(epoll)
    }

    /// Passes on the frames of the socket.
    fn receive(&self, ready: &Epoll, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let length = retry(ready, || read(&self.socket, buffer))?;
            // An empty message would be the end. A frame that fills the buffer may be longer, and cut off.
            if (1..=LONGEST).contains(&length) {
                write(&*self.queue, &buffer[..length])?;
            }
        }
    }

    /// Passes on the frames of the queue.
    fn send(&self, ready: &Epoll, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let length = read(&*self.queue, buffer)?;
            if length == 0 {
                return Ok(());
            }
            retry(ready, || write(&self.socket, &buffer[..length]))?;
        }
    }
}

/// Repeats an operation on the socket whenever that is ready, until the queue ends.
fn retry(ready: &Epoll, mut operation: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match operation() {
            Err(Errno::EAGAIN) => wait(ready)?,
            Err(Errno::EINTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

fn wait(ready: &Epoll) -> io::Result<()> {
    let mut events = [EpollEvent::empty(); 2];
    let count = match ready.wait(&mut events, EpollTimeout::NONE) {
        Err(Errno::EINTR) => 0,
        outcome => outcome?,
    };
    match events[..count].iter().any(|event| event.data() == QUEUE) {
        true => Err(io::ErrorKind::BrokenPipe.into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::*;
    use crate::sys::arena::BUFFER_SIZE;

    struct Relayed {
        peer: UnixDatagram,
        relay: DatagramRelay,
        queue: OwnedFd,
    }

    fn relay() -> Relayed {
        let (ours, peer) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (relay, queue) = start(ours.into()).unwrap();
        nix::fcntl::fcntl(&queue, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
        Relayed { peer, relay, queue }
    }

    fn message(queue: &OwnedFd) -> Vec<u8> {
        let mut buffer = vec![0; BUFFER_SIZE];
        let length = read(queue, &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn one_datagram_is_one_frame() {
        let Relayed { peer, queue, .. } = relay();
        // Neither an empty datagram nor one that is too long ends the connection.
        for sent in [vec![7, 8], vec![], vec![1; LONGEST + 1], vec![9], vec![5; LONGEST]] {
            peer.send(&sent).unwrap();
        }
        assert_eq!([(); 3].map(|()| message(&queue)), [vec![7, 8], vec![9], vec![5; LONGEST]]);
        write(&queue, &[1, 2, 3]).unwrap();
        let mut received = [0; 8];
        assert_eq!(peer.recv(&mut received).unwrap(), 3);
    }

    /// More frames than a datagram socket accepts at a time.
    #[test]
    fn waits_for_a_slow_peer() {
        let Relayed { peer, queue, .. } = relay();
        for number in 0..200 {
            write(&queue, &[number, 0]).unwrap();
        }
        let mut received = [0; 8];
        for number in 0..200 {
            assert_eq!((peer.recv(&mut received).unwrap(), received[0]), (2, number));
        }
    }

    #[test]
    fn ends_when_the_peer_is_gone_or_control_ends_it() {
        let Relayed { peer, queue, .. } = relay();
        drop(peer);
        write(&queue, &[1]).unwrap();
        assert_eq!(message(&queue), [0; 0]);
        let Relayed { relay, queue, .. } = relay();
        relay.end();
        assert_eq!(message(&queue), [0; 0]);
    }

    /// The socket has another owner, who can use it again.
    #[test]
    fn end_of_the_queue_leaves_the_socket_open() {
        let (ours, peer) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for _ in 0..2 {
            let (_, queue) = start(ours.try_clone().unwrap().into()).unwrap();
            write(&queue, &[1]).unwrap();
            assert_eq!(peer.recv(&mut [0]).unwrap(), 1);
        }
    }
}
