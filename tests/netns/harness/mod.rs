//! A machine of its own for every test, the programs that run on it, and the two switches under test.
//!
//! [`Host`] is a process in new network, mount and PID namespaces with an empty `/run`: to a switch it is a
//! whole machine, nothing of the real one can be reached or changed, and all of it dies with the test, also when the
//! test run itself is killed. A command runs on the host or in one of its containers ([`Shell`]).
//! A [`Subject`] is a switch with containers; there are two, so that a test of behaviour is also run
//! against the Linux bridge, which tells whether the test is right.

mod capture;
mod frame;
mod host;
mod process;
mod rootless;
mod seen;
mod shell;
mod snapshot;
mod subject;

use std::thread::sleep;
use std::time::Duration;

pub use frame::{Frame, GROUP, ethernet, frame, mac, tagged};
pub use host::{Host, Netns};
pub use process::Process;
pub use rootless::{AS_USER, as_user, by_user, with_tun_for_all};
pub use seen::{OURS, last, seen};
pub use shell::{Done, Shell, sending_cpu};
pub use snapshot::Snapshot;
pub use subject::{GATEWAY_V4, GATEWAY_V6, LinuxBridge, Subject, Uswitch, v4, v6};

/// Longest that a test waits for anything: far beyond what a busy machine needs, so that only a hang meets it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds, for what sends no event that could be awaited. Panics with `what` after
/// [`PATIENCE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
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
