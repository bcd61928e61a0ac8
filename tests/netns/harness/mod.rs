//! A machine of its own for every test, the programs that run on it, and the two switches under test.
//!
//! [`Host`] is a process in new network, mount and PID namespaces with an empty `/run`: to a switch it is a
//! whole machine, nothing of the real one can be reached or changed, and all of it dies with the test, also when the
//! test run itself is killed. A command runs on the host or in one of its containers ([`Shell`]).
//! A [`TestSwitch`] is a switch with containers; there are two, so that a test of behaviour is also run
//! against the Linux bridge, which tells whether the test is right.

mod frame;
mod frames_seen;
mod host;
mod process;
mod rootless;
mod shell;
mod snapshot;
mod tcpdump;
mod test_switch;

use std::thread::sleep;
use std::time::Duration;

pub use frame::{Frame, GROUP, ethernet, frame, mac, tagged};
pub use frames_seen::{TEST_FRAMES, end_marker, frames_seen};
pub use host::{Host, TestNetns};
pub use process::Process;
pub use rootless::{AS_USER, host_with_public_tun, run_as_user, user_command};
pub use shell::{CommandOutput, Shell, sending_cpu};
pub use snapshot::HostSnapshot;
pub use test_switch::{GATEWAY_V4, GATEWAY_V6, LinuxBridge, TestSwitch, Uswitch, v4, v6};

/// Longest that a test waits for anything: far beyond what a busy machine needs, so that only a hang meets it.
pub const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// Waits until `condition` holds, for what sends no event that could be awaited. Panics with `what` after
/// [`WAIT_LIMIT`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 0..WAIT_LIMIT.as_millis() / PAUSE.as_millis() {
        if condition() {
            return;
        }
        sleep(PAUSE);
    }
    panic!("waited in vain until {what}");
}

/// Makes of each generic test two: one against uswitch, one against the Linux bridge as control.
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
