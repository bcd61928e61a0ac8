//! The echo service (RFC 862), in a process of its own: as between two programs, the scheduler changes address spaces.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use super::error::BenchError;
use crate::sys::fd_passing::{self, ReceivedLine};
use crate::sys::isolated;

/// The port of the service.
pub(super) const PORT: u16 = 7;
/// Size of a request in bytes.
pub(super) const REQUEST: usize = 32;

/// The process. It gets sockets, serves each on a thread, and ends with this value.
#[derive(Debug)]
pub(super) struct EchoProcess {
    sockets: UnixStream,
}

impl EchoProcess {
    /// Starts it. Call this while the process has one thread.
    pub(super) fn start() -> Result<EchoProcess, BenchError> {
        let (sockets, far) = UnixStream::pair().map_err(BenchError::io("make a socket pair"))?;
        isolated::fork_child(|| serve(&far)).map_err(BenchError::io("start the echo process"))?;
        Ok(EchoProcess { sockets })
    }

    /// Answers the requests that this socket receives.
    pub(super) fn udp(&self, socket: &UdpSocket) -> Result<(), BenchError> {
        self.pass(b"udp\n", socket)
    }

    /// Answers the requests of the first connection to this listener.
    pub(super) fn tcp(&self, listener: &TcpListener) -> Result<(), BenchError> {
        self.pass(b"tcp\n", listener)
    }

    fn pass(&self, line: &[u8], socket: &impl AsFd) -> Result<(), BenchError> {
        fd_passing::send(&self.sockets, line, &[socket]).map_err(BenchError::io("pass a socket on"))
    }
}

impl Drop for EchoProcess {
    /// The process has this end of the pair, too, so closing it here is not enough.
    fn drop(&mut self) {
        let _ = self.sockets.shutdown(Shutdown::Both);
    }
}

/// Serves the sockets that come, until the other end is closed.
fn serve(sockets: &UnixStream) {
    while let Ok((protocol, socket)) = next_socket(sockets) {
        let echo = move || match &protocol[..] {
            b"udp" => echo_udp(&UdpSocket::from(socket)),
            _ => echo_tcp(&TcpListener::from(socket)),
        };
        let _ = thread::Builder::new().name("echo".to_owned()).spawn(echo);
    }
}

fn next_socket(sockets: &UnixStream) -> io::Result<(Vec<u8>, OwnedFd)> {
    let mut line = ReceivedLine::default();
    while !line.receive(sockets)? {}
    let socket = line.files.pop().ok_or(io::ErrorKind::InvalidData)?;
    Ok((line.bytes, socket))
}

fn echo_udp(socket: &UdpSocket) {
    let mut request = [0; REQUEST];
    loop {
        // An error of one request does not affect the next.
        if let Ok((length, from)) = socket.recv_from(&mut request) {
            let _ = socket.send_to(&request[..length], from);
        }
    }
}

fn echo_tcp(listener: &TcpListener) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    let _ = stream.set_nodelay(true);
    let mut request = [0; REQUEST];
    while stream.read_exact(&mut request).and_then(|()| stream.write_all(&request)).is_ok() {}
}
