//! Round-trip times of requests, one at a time: UDP and TCP, as netperf's UDP_RR and TCP_RR, and pings.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::cpu::precise;
use super::echo::{EchoProcess, PORT, REQUEST};
use super::error::BenchError;
use super::lab::LabEndpoint;
use crate::wire::checksum::checksum;

/// Length of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// Length of the header of an echo message.
const ECHO_HEADER: usize = 8;
/// Limit of recorded round trips.
const MAX_SAMPLES: usize = 1 << 20;
/// After this time a request counts as lost.
const TIMEOUT: Duration = Duration::from_millis(100);

/// Percentiles of a distribution, ascending.
const PERCENTILES: [f64; 13] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0];

/// Sends requests.
#[derive(Debug)]
pub(super) struct RttClient {
    socket: Socket,
    number: u64,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Icmp(UdpSocket),
}

/// Measured round-trip times.
#[derive(Debug, Default)]
pub(super) struct RoundTripTimes {
    /// Nanoseconds, ascending.
    sorted: Vec<u64>,
    /// Requests without a reply.
    pub(super) lost: u64,
}

impl RttClient {
    /// A client at one endpoint, whose requests the echo service answers at the other.
    pub(super) fn udp(
        from: &LabEndpoint,
        to: &LabEndpoint,
        echo: &EchoProcess,
    ) -> Result<RttClient, BenchError> {
        echo.udp(&to.udp(PORT)?)?;
        let socket = from.udp(0)?;
        let ready = socket.connect((to.address, PORT)).and_then(|()| socket.set_read_timeout(Some(TIMEOUT)));
        ready.map_err(BenchError::io("prepare a UDP socket"))?;
        Ok(RttClient { socket: Socket::Udp(socket), number: 0 })
    }

    /// The same with one TCP connection.
    pub(super) fn tcp(
        from: &LabEndpoint,
        to: &LabEndpoint,
        echo: &EchoProcess,
    ) -> Result<RttClient, BenchError> {
        echo.tcp(&to.tcp_listener(PORT)?)?;
        let stream = from.tcp(to.address, PORT)?;
        let ready = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(TIMEOUT)));
        ready.map_err(BenchError::io("prepare a TCP socket"))?;
        Ok(RttClient { socket: Socket::Tcp(stream), number: 0 })
    }

    /// A client whose requests are ICMP echo messages.
    pub(super) fn ping(from: &LabEndpoint, to: &LabEndpoint) -> Result<RttClient, BenchError> {
        let socket = from.icmp()?;
        let ready = socket.connect((to.address, 0)).and_then(|()| socket.set_read_timeout(Some(TIMEOUT)));
        ready.map_err(BenchError::io("prepare an ICMP socket"))?;
        Ok(RttClient { socket: Socket::Icmp(socket), number: 0 })
    }

    /// Waits until a request is answered.
    ///
    /// # Errors
    /// [`BenchError::NoTraffic`].
    pub(super) fn wait_for_reply(&mut self) -> Result<(), BenchError> {
        const LIMIT: Duration = Duration::from_secs(5);
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if self.exchange()?.is_some() {
                return Ok(());
            }
        }
        Err(BenchError::NoTraffic(LIMIT.as_secs()))
    }

    /// Sends requests one after the other for this time.
    pub(super) fn measure(&mut self, time: Duration) -> Result<RoundTripTimes, BenchError> {
        let mut times = RoundTripTimes::default();
        let start = Instant::now();
        while start.elapsed() < time && times.sorted.len() < MAX_SAMPLES {
            match self.exchange()? {
                Some(took) => times.sorted.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
                None => times.lost += 1,
            }
        }
        times.sorted.sort_unstable();
        Ok(times)
    }

    /// Sends one request. Returns its round-trip time, or `None` if it was lost.
    fn exchange(&mut self) -> Result<Option<Duration>, BenchError> {
        let failed = BenchError::io("send a round-trip request");
        self.number += 1;
        let mut message = [0; REQUEST];
        message[..8].copy_from_slice(&self.number.to_be_bytes());
        let start = Instant::now();
        if let Err(error) = self.socket.send(&message) {
            // ARP has no reply yet, or this is an ICMP error for an earlier request.
            return if is_temporary(&error) { Ok(None) } else { Err(failed(error)) };
        }
        loop {
            match self.socket.receive() {
                Ok(reply) if reply == message => return Ok(Some(start.elapsed())),
                // A late reply to an earlier request.
                Ok(_) => {}
                Err(error) if is_temporary(&error) => return Ok(None),
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl Socket {
    fn send(&mut self, message: &[u8; REQUEST]) -> io::Result<()> {
        match self {
            Socket::Udp(socket) => socket.send(message).map(drop),
            Socket::Tcp(stream) => stream.write_all(message),
            Socket::Icmp(socket) => socket.send(&echo_request(message)).map(drop),
        }
    }

    fn receive(&mut self) -> io::Result<[u8; REQUEST]> {
        let mut reply = [0; REQUEST];
        match self {
            Socket::Udp(socket) => socket.recv(&mut reply).map(drop)?,
            Socket::Tcp(stream) => stream.read_exact(&mut reply)?,
            Socket::Icmp(socket) => {
                let mut packet = [0; IPV4_HEADER + ECHO_HEADER + REQUEST];
                socket.recv(&mut packet)?;
                reply.copy_from_slice(&packet[IPV4_HEADER + ECHO_HEADER..]);
            }
        }
        Ok(reply)
    }
}

/// An echo request (RFC 792) with this payload.
fn echo_request(payload: &[u8; REQUEST]) -> [u8; ECHO_HEADER + REQUEST] {
    const ECHO_REQUEST: u8 = 8;
    let mut request = [0; ECHO_HEADER + REQUEST];
    request[0] = ECHO_REQUEST;
    request[ECHO_HEADER..].copy_from_slice(payload);
    let sum = checksum(&request).to_be_bytes();
    request[2..4].copy_from_slice(&sum);
    request
}

fn is_temporary(error: &std::io::Error) -> bool {
    use ErrorKind::{
        ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable, TimedOut, WouldBlock,
    };
    let passing = [WouldBlock, TimedOut, Interrupted, ConnectionRefused, HostUnreachable, NetworkUnreachable];
    passing.contains(&error.kind())
}

impl RoundTripTimes {
    /// The time in microseconds that `percent` of the round trips took at most (nearest rank). `None`
    /// without samples.
    pub(super) fn percentile(&self, percent: f64) -> Option<f64> {
        let last = self.sorted.len().checked_sub(1)?;
        let rank = (precise(self.sorted.len() as u64) * percent / 100.0).ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the length")]
        let index = (rank as usize).saturating_sub(1).min(last);
        Some(precise(self.sorted[index]) / 1000.0)
    }

    /// Percent and microseconds, ascending.
    pub(super) fn distribution(&self) -> Vec<(f64, f64)> {
        PERCENTILES.iter().filter_map(|&percent| Some((percent, self.percentile(percent)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_times() {
        let times = RoundTripTimes { sorted: (1..=1000).map(|us| us * 1000).collect(), lost: 0 };
        let percentiles = [0.0, 50.0, 99.0, 99.9, 100.0].map(|percent| times.percentile(percent));
        assert_eq!(percentiles, [1.0, 500.0, 990.0, 999.0, 1000.0].map(Some));
        assert_eq!(times.distribution().len(), PERCENTILES.len());
        assert!(times.distribution().is_sorted_by(|a, b| a.1 <= b.1));
    }

    #[test]
    fn no_samples_have_no_percentile() {
        assert_eq!(RoundTripTimes::default().percentile(50.0), None);
        assert!(RoundTripTimes::default().distribution().is_empty());
    }
}
