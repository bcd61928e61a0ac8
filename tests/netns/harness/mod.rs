//! A private machine for each test, commands that run on it, and the two switches under test.
//!
//! [`Host`] is a process in new network, mount and PID namespaces with an empty `/run` and `/var/lib`. To a switch it
//! is a whole machine. A test cannot reach or change the real machine, and the kernel removes the host when the test
//! ends, even if the test run is killed. Commands run on the host or in one of its containers ([`Shell`]). A
//! [`TestSwitch`] is a switch with containers. There are two, so that behaviour tests also run against the Linux
//! bridge, as a control.

mod frame;
mod frames_seen;
mod host;
mod loss_check;
mod process;
mod rootless;
mod shell;
mod snapshot;
mod tcpdump;
mod test_switch;
mod threads;

use std::thread::sleep;
use std::time::Duration;

pub use frame::{Frame, GROUP, ethernet, frame, mac, tagged};
pub use frames_seen::{TEST_FRAMES, end_marker, frames_seen};
pub use host::{Host, TestNetns};
pub use loss_check::LossCheck;
pub use process::Process;
pub use rootless::{AS_USER, host_with_public_tun, run_as_user, user_command};
pub use shell::{CommandOutput, Shell, sending_cpu};
pub use snapshot::HostSnapshot;
pub use tcpdump::Tcpdump;
pub use test_switch::{GATEWAY_V4, GATEWAY_V6, LinuxBridge, TestSwitch, Uswitch, v4, v6};
pub use threads::{FrozenThread, thread_status};

/// The longest wait of a test. It is far longer than a busy machine needs, so only a hang reaches it.
pub const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// Waits until `condition` is true, for conditions that have no event to wait for. Panics with `what` after
/// [`WAIT_LIMIT`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 0..WAIT_LIMIT.as_millis() / PAUSE.as_millis() {
        if condition() {
            return;
        }
        sleep(PAUSE);
    }
    panic!("timed out waiting until {what}");
}

/// Defines two tests for each generic test: one with uswitch, one with the Linux bridge as a control.
macro_rules! on_both {
    ($($(#[$attribute:meta])* $test:ident),+ $(,)?) => {
        mod on_uswitch {
            $($(#[$attribute])* #[test] fn $test() { super::$test::<crate::harness::Uswitch>(); })+
        }
        mod on_linux_bridge {
            $($(#[$attribute])* #[test] fn $test() { super::$test::<crate::harness::LinuxBridge>(); })+
        }
    };
}
pub(crate) use on_both;
