//! An unprivileged user on a host.

use super::host::Host;
use super::shell::{CommandOutput, Shell};

/// A machine with what an unprivileged user (nobody, 65534) has on most systems: a home, a runtime directory, and a
/// TUN device with mode 0666, as udev creates it.
pub fn host_with_public_tun() -> Host {
    let host = Host::new();
    host.sh("mount -t tmpfs -o mode=755 none /dev/net
        mknod -m 666 /dev/net/tun c 10 200
        install -d /run/user
        install -d -m 700 -o 65534 -g 65534 /run/user/65534 /var/lib/nobody")
        .ok();
    host
}

/// The prefix that runs a command as that user.
pub const AS_USER: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all \
     env HOME=/var/lib/nobody XDG_RUNTIME_DIR=/run/user/65534";

/// The command with [`AS_USER`] before it.
pub fn user_command(command: &str) -> String {
    format!("{AS_USER} {command}")
}

/// Runs a command as that user.
pub fn run_as_user(host: &Host, command: &str) -> CommandOutput {
    host.run(&user_command(command))
}
