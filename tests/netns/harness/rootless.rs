//! A user without root on a host.

use super::host::Host;
use super::shell::{CommandOutput, Shell};

/// A machine on which nobody (65534) has what every user has: a runtime directory, and the TUN device as
/// udev makes it for all.
pub fn host_with_public_tun() -> Host {
    let host = Host::new();
    host.sh("mount -t tmpfs -o mode=755 none /dev/net
        mknod -m 666 /dev/net/tun c 10 200
        install -d /run/user
        install -d -m 700 -o 65534 -g 65534 /run/user/65534")
        .ok();
    host
}

/// What makes a command that user's.
pub const AS_USER: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all \
     env HOME=/run/user/65534 XDG_RUNTIME_DIR=/run/user/65534";

/// A command as that user runs it.
pub fn user_command(command: &str) -> String {
    format!("{AS_USER} {command}")
}

/// Runs a command as that user.
pub fn run_as_user(host: &Host, command: &str) -> CommandOutput {
    host.run(&user_command(command))
}
