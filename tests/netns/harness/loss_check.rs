//! A ping that runs while a test disturbs other ports, and the comparison of its losses with the counters.

use nix::sys::signal::Signal;

use super::host::TestNetns;
use super::process::Process;
use super::shell::Shell;
use super::test_switch::{TestSwitch, Uswitch, v4};

/// A ping from container1 to container2 that counts every lost frame.
pub struct LossCheck<'a> {
    switch: &'a Uswitch,
    ping: Process,
    /// [`LossCheck::queue_losses`] when the ping started.
    before: u64,
}

impl<'a> LossCheck<'a> {
    /// Starts the ping. The first answer has arrived when this returns.
    pub fn start(switch: &'a Uswitch) -> LossCheck<'a> {
        let before = LossCheck::queue_losses(switch);
        let sender: TestNetns = switch.host().netns("container1");
        let mut ping = sender.spawn(&format!("ping -n -i 0.01 {}", v4(2)));
        ping.line_with("bytes from");
        LossCheck { switch, ping, before }
    }

    /// Ends the ping and asserts that no frame was lost except in a full queue of the two ports, where a busy machine
    /// loses frames of any switch. Answers later than the last one that was received may be outstanding.
    #[track_caller]
    pub fn assert_nothing_lost(mut self) {
        self.ping.take_lines();
        self.ping.line_with("bytes from");
        self.ping.signal(Signal::SIGINT);
        let said = self.ping.ok();
        let answers: Vec<u64> = said.lines().filter_map(answered).collect();
        let asked = answers.iter().copied().max().unwrap_or_else(|| panic!("no answer in {said}"));
        let lost = asked - answers.len() as u64;
        let in_queues = LossCheck::queue_losses(self.switch) - self.before;
        assert!(lost <= in_queues, "{lost} of {asked} lost, and the queues lost only {in_queues}");
    }

    /// Frames that full queues of the two ports have lost, of any traffic: in the queue that the switch reads, and in
    /// the one that it writes.
    fn queue_losses(switch: &Uswitch) -> u64 {
        let of_port = |port| switch.count(port, "queue_dropped") + switch.drops(port, "egress_queue_full");
        ["container1", "container2"].into_iter().map(of_port).sum()
    }
}

/// The number of the request to which a line reports the answer: the first one is 1.
fn answered(line: &str) -> Option<u64> {
    let (_, after) = line.split_once("icmp_seq=")?;
    after.split(' ').next()?.parse().ok()
}
