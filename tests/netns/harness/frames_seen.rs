//! Which hosts receive which frames: what most tests of a switch check.

use std::sync::atomic::{AtomicU64, Ordering};

use uswitch::wire::Mac;

use super::frame::{Frame, frame};
use super::host::TestNetns;
use super::shell::Shell;

/// The capture filter for frames that the tests build, tagged or not. It excludes what kernels send on their
/// own.
pub const TEST_FRAMES: &str = "ether proto 0x88b5 or (vlan and ether proto 0x88b5)";

/// A broadcast that arrives after all that its port sent before, by way of the workers too: its source is new each
/// time, so the kernel does not flood it.
pub fn end_marker() -> Frame {
    static SOURCES: AtomicU64 = AtomicU64::new(0x0200_0000_0000);
    let source = Mac::from_u64(SOURCES.fetch_add(1, Ordering::Relaxed));
    frame(Mac::BROADCAST, source, "last")
}

/// Sends `frames` from one container, in order, and returns what each of `receivers` received of them.
///
/// A broadcast follows the frames, so the test does not have to wait to know that a frame does not arrive: a
/// receiver that has received the broadcast has received all that it will. The sender does not receive its
/// own broadcast. If it is one of the receivers, another container sends a second broadcast, after all
/// others have received the first.
pub fn frames_seen<const N: usize>(
    sender: &TestNetns,
    frames: &[Frame],
    receivers: [&TestNetns; N],
) -> [Vec<Frame>; N] {
    let captures = receivers.map(|receiver| receiver.capture("eth0", TEST_FRAMES));
    let is_sender = receivers.map(|receiver| receiver.name() == sender.name());
    let last = end_marker();
    sender.send(&[frames, std::slice::from_ref(&last)].concat());
    let mut lists = std::array::from_fn(|_| Vec::new());
    for i in (0..N).filter(|&i| !is_sender[i]) {
        lists[i] = captures[i].until(&last);
    }
    for i in (0..N).filter(|&i| is_sender[i]) {
        let other = (0..N).find(|&other| !is_sender[other]).expect("a receiver other than the sender");
        let echo = end_marker();
        receivers[other].send(std::slice::from_ref(&echo));
        lists[i] = captures[i].until(&echo);
    }
    lists
}
