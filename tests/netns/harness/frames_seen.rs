//! Who sees what: the question that most tests of a switch ask.

use uswitch::wire::Mac;

use super::frame::{Frame, frame, mac};
use super::host::TestNetns;
use super::shell::Shell;

/// What a witness records: frames made by hand, tagged or not, and nothing that a kernel sends by itself.
pub const TEST_FRAMES: &str = "ether proto 0x88b5 or (vlan and ether proto 0x88b5)";

/// The broadcast that follows the frames of [`seen`].
pub fn end_marker() -> Frame {
    frame(Mac::BROADCAST, mac(0xfe), "last")
}

/// Sends `frames` from one station, in order, and tells what each of `witnesses` saw of them.
///
/// "Saw nothing" is no matter of waiting: a broadcast follows the frames, and a witness has seen all of them
/// that it will ever see when it has seen the broadcast. The sender does not hear its own broadcast; if it
/// is among the witnesses, another station's, sent after the first was seen everywhere else, ends its list.
pub fn frames_seen<const N: usize>(
    sender: &TestNetns,
    frames: &[Frame],
    witnesses: [&TestNetns; N],
) -> [Vec<Frame>; N] {
    let captures = witnesses.map(|witness| witness.capture("eth0", TEST_FRAMES));
    let is_sender = witnesses.map(|witness| witness.name() == sender.name());
    let last = end_marker();
    sender.send(&[frames, std::slice::from_ref(&last)].concat());
    let mut lists = std::array::from_fn(|_| Vec::new());
    for i in (0..N).filter(|&i| !is_sender[i]) {
        lists[i] = captures[i].until(&last);
    }
    for i in (0..N).filter(|&i| is_sender[i]) {
        let other = (0..N).find(|&other| !is_sender[other]).expect("a witness beside the sender");
        let echo = frame(Mac::BROADCAST, mac(0xff), "echo");
        witnesses[other].send(std::slice::from_ref(&echo));
        lists[i] = captures[i].until(&echo);
    }
    lists
}
