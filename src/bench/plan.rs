//! What to measure, with which switches, in which order.

use std::time::Duration;

use clap::ValueEnum;

use super::peer::Peer;
use super::results::BenchSettings;
use crate::control::EngineChoice;

/// MTU of every device, in bytes: Ethernet's default.
pub(super) const MTU: u32 = 1500;
/// Queue length of every device, in frames: the kernel's default for Ethernet devices.
pub(super) const TXQUEUELEN: u32 = 1000;
/// Frame sizes with FCS (RFC 2544 section 9.1).
pub(super) const FRAME_SIZES: [u32; 7] = [64, 128, 256, 512, 1024, 1280, 1518];
/// The frame size of broadcasts.
pub(super) const BROADCAST_SIZE: u32 = 64;
/// Frame sizes with a search for the loss-free rate.
pub(super) const LOSS_FREE_SIZES: [u32; 2] = [64, 1518];
/// Trials of that search: its resolution is below 1% of the initial rate.
pub(super) const TRIALS: u32 = 8;
/// Duration of a trial. RFC 2544 section 24 requires 60 s, which would take hours.
pub(super) const TRIAL: Duration = Duration::from_millis(500);

/// A test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Test {
    /// Round-trip time of UDP requests on an idle switch
    Rtt,
    /// Round-trip time of requests in a TCP connection
    RttTcp,
    /// Round-trip time of pings
    Ping,
    /// TCP, one stream
    Tcp,
    /// TCP, four streams
    Tcp4,
    /// TCP, one stream in each direction
    Bidir,
    /// TCP from a container to the host
    Host,
    /// UDP at maximum rate
    Udp,
    /// Frames per second of small and large frames, and the highest rate without loss
    Pps,
    /// Broadcasts per second
    Broadcast,
    /// Round-trip time of UDP requests beside a TCP stream
    RttLoad,
}

impl Test {
    /// Whether the test runs iperf3.
    pub fn needs_iperf(self) -> bool {
        !matches!(self, Test::Rtt | Test::RttTcp | Test::Ping | Test::Pps | Test::Broadcast)
    }

    /// Approximate time, with this number of congestion controls.
    fn time(self, duration: Duration, controls: u32) -> Duration {
        match self {
            Test::Tcp | Test::Tcp4 | Test::Bidir | Test::Host => (duration + PAUSE) * controls,
            Test::Rtt | Test::RttTcp | Test::Ping | Test::Udp | Test::Broadcast => duration + PAUSE,
            // The stream begins before and ends after the measurement.
            Test::RttLoad => duration + Duration::from_secs(1),
            Test::Pps => {
                let searches = count(&LOSS_FREE_SIZES) * TRIALS;
                (duration + PAUSE) * count(&FRAME_SIZES) + (TRIAL + PAUSE) * searches
            }
        }
    }
}

/// Approximate time between two measurements.
const PAUSE: Duration = Duration::from_millis(100);

fn count(sizes: &[u32]) -> u32 {
    u32::try_from(sizes.len()).unwrap_or(u32::MAX)
}

/// A whole run.
#[derive(Debug, Clone)]
pub struct BenchPlan {
    /// The switches, in order.
    pub peers: Vec<Peer>,
    /// The tests, in order.
    pub tests: Vec<Test>,
    /// Number of repetitions.
    pub repeat: u32,
    /// Duration of one measurement.
    pub duration: Duration,
    /// Engine of uswitch.
    pub engine: EngineChoice,
    /// Busy-poll time of uswitch in microseconds. `None`: its default.
    pub busy_poll: Option<u32>,
    /// Congestion controls for TCP.
    pub controls: Vec<String>,
}

/// One switch in one repetition: it is created, measured and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerRun {
    /// Repetition, from 1.
    pub repetition: u32,
    /// The switch.
    pub peer: Peer,
}

impl BenchPlan {
    /// All runs, interleaved, so that a temporary slowdown of the machine affects all switches.
    pub fn peer_runs(&self) -> Vec<PeerRun> {
        let round = |repetition| self.peers.iter().map(move |&peer| PeerRun { repetition, peer });
        (1..=self.repeat).flat_map(round).collect()
    }

    /// Approximate time of one run.
    pub fn estimated_time(&self, peer: Peer) -> Duration {
        let controls = u32::try_from(self.controls.len()).unwrap_or(1);
        let tests = self.tests.iter().filter(|test| peer.has_host() || **test != Test::Host);
        let tests: Duration = tests.map(|test| test.time(self.duration, controls)).sum();
        tests + peer.set_up()
    }

    /// Settings for the results.
    pub fn settings(&self) -> BenchSettings {
        BenchSettings {
            peers: self.peers.iter().map(word).collect(),
            tests: self.tests.iter().map(word).collect(),
            repeat: self.repeat,
            duration: u32::try_from(self.duration.as_secs()).unwrap_or(u32::MAX),
            engine: self.engine.to_string(),
            busy_poll: self.busy_poll,
            mtu: MTU,
            txqueuelen: Some(TXQUEUELEN),
        }
    }
}

/// The name of a value on the command line.
pub fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(peers: &[Peer], tests: &[Test], repeat: u32) -> BenchPlan {
        BenchPlan {
            peers: peers.to_vec(),
            tests: tests.to_vec(),
            repeat,
            duration: Duration::from_secs(3),
            engine: EngineChoice::Auto,
            busy_poll: None,
            controls: vec!["cubic".to_owned(), "bbr".to_owned()],
        }
    }

    #[test]
    fn interleaves_peers() {
        let plan = plan(&[Peer::Uswitch, Peer::LinuxBridge], &[Test::Rtt], 3);
        let peer_runs: Vec<(u32, Peer)> =
            plan.peer_runs().iter().map(|peer_run| (peer_run.repetition, peer_run.peer)).collect();
        let (a, b) = (Peer::Uswitch, Peer::LinuxBridge);
        assert_eq!(peer_runs, [(1, a), (1, b), (2, a), (2, b), (3, a), (3, b)]);
    }

    #[test]
    fn estimates_time_of_tests() {
        let with = |tests: &[Test], peer| {
            plan(&[peer], tests, 1).estimated_time(peer) - plan(&[peer], &[], 1).estimated_time(peer)
        };
        assert_eq!(with(&[Test::Tcp], Peer::Veth), Duration::from_millis(6200));
        assert_eq!(with(&[Test::Host], Peer::LinuxBridge), Duration::from_millis(6200));
        assert_eq!(with(&[Test::Host], Peer::Veth), Duration::ZERO);
    }

    #[test]
    fn names_match_command_line() {
        assert_eq!([Test::RttLoad, Test::Tcp4].map(|test| word(&test)), ["rtt-load", "tcp4"]);
        assert_eq!([Peer::LinuxBridge, Peer::OvsTso].map(|peer| word(&peer)), ["linux-bridge", "ovs-tso"]);
    }
}
