//! The checks of the kernel, the privileges and the limits.

use super::facts::{Facts, TunState, UsernsState};
use super::network::{firewall, forwarding, names, nft, rp_filter, subnets};
use super::{Blocks, CheckState, Finding};
use crate::control::topology::neighbours;
use crate::control::topology::preflight::files_needed;
use crate::datapath::BUFFERS;
use crate::switch::Ports;
use crate::sys::arena::BUFFER_SIZE;
use crate::sys::frame_socket::SOCKET_BUFFER;
use crate::sys::sandbox::Restriction;
use crate::sys::uring::QUEUE_BYTES;

/// Runs all checks in order. The last finding says whether a start works.
pub(crate) fn run_checks(facts: &Facts) -> Vec<Finding> {
    let checks = [
        kernel,
        engine,
        tun,
        capabilities,
        userns,
        switches,
        names,
        subnets,
        nft,
        forwarding,
        firewall,
        rp_filter,
        open_files,
        locked_memory,
        device_ports,
        socket_ports,
        landlock,
        fast_path,
        neighbour_tables,
    ];
    let mut findings: Vec<Finding> = checks.iter().map(|check| check(facts)).collect();
    let root = facts.missing_capabilities.is_empty();
    for finding in &mut findings {
        let blocks = if root { finding.blocks.root() } else { finding.blocks.others() };
        if blocks {
            finding.state = CheckState::Problem;
        }
    }
    let start = start(facts, &findings);
    findings.push(start);
    findings
}

fn start(facts: &Facts, findings: &[Finding]) -> Finding {
    let for_root = !findings.iter().any(|finding| finding.blocks.root());
    let for_others = !findings.iter().any(|finding| finding.blocks.others());
    let whom = match (for_root, for_others) {
        (true, true) => "works here, as root and without root",
        (true, false) => "works here as root, not without root",
        (false, true) => "works here without root, not as root",
        (false, false) => "does not work here",
    };
    let works = if facts.missing_capabilities.is_empty() { for_root } else { for_others };
    Finding::new(
        "start",
        if works { CheckState::Ok } else { CheckState::Problem },
        format!("`{}` {whom}", facts.start),
    )
}

/// See "Kernels" in README.md.
pub(super) fn kernel(facts: &Facts) -> Finding {
    let release = &facts.release;
    let note = |what: &str| Finding::note("kernel", format!("Linux {release}: {what}"));
    match version(release) {
        None => note("unknown version"),
        Some(version) if version < (5, 15) => {
            note("older than 5.15, the oldest version that is fully supported")
        }
        Some(version) if version < (6, 2) => note(
            "no UDP segmentation offload (needs 6.2), no io_uring engine and no ports on existing devices (need 6.4)",
        ),
        Some(version) if version < (6, 4) => {
            note("no io_uring engine and no ports on existing devices (need 6.4)")
        }
        Some(_) => Finding::ok("kernel", format!("Linux {release}")),
    }
}

/// The first two numbers of the release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

pub(super) fn engine(facts: &Facts) -> Finding {
    let Some(why) = &facts.no_uring else { return Finding::ok("engine", "io_uring") };
    let found = Finding::note("engine", format!("poll, which is slower than io_uring: {why}"));
    match facts.io_uring_disabled {
        Some(1 | 2) => found.fix("sudo sysctl kernel.io_uring_disabled=0"),
        _ => found,
    }
}

pub(super) fn tun(facts: &Facts) -> Finding {
    const CHECK: &str = "tun";
    match &facts.tun {
        TunState::Missing => {
            Finding::blocker(CHECK, Blocks::Everybody, "/dev/net/tun does not exist").fix("sudo modprobe tun")
        }
        TunState::Broken(why) => Finding::blocker(CHECK, Blocks::Everybody, why).fix("sudo modprobe tun"),
        TunState::NoPermission => {
            Finding::blocker(CHECK, Blocks::Others, "this user may not open /dev/net/tun")
                .fix("sudo chmod 0666 /dev/net/tun")
        }
        TunState::Open { to_all: false } if facts.missing_capabilities.is_empty() => Finding::blocker(
            CHECK,
            Blocks::Others,
            "users other than root may not open /dev/net/tun, which a start without root needs",
        )
        .fix("sudo chmod 0666 /dev/net/tun"),
        TunState::Open { .. } => Finding::ok(CHECK, "/dev/net/tun is accessible"),
    }
}

pub(super) fn capabilities(facts: &Facts) -> Finding {
    const CHECK: &str = "capabilities";
    match &facts.missing_capabilities[..] {
        [] if !facts.owns_network => Finding::blocker(
            CHECK,
            Blocks::Root,
            "root of a user namespace that does not own this network namespace",
        ),
        [] => Finding::ok(CHECK, "root: containers are made on the host itself"),
        missing => Finding::note(
            CHECK,
            format!("not root ({} missing): containers are made in a sandbox", missing.join(", ")),
        ),
    }
}

pub(super) fn userns(facts: &Facts) -> Finding {
    const CHECK: &str = "user namespaces";
    match &facts.userns {
        UsernsState::Allowed => Finding::ok(CHECK, "users may make them, which a start without root needs"),
        UsernsState::Restricted(Restriction { sysctl, value, allowing, meaning }) => {
            let what = format!("needed for a start without root: {meaning} ({sysctl} is {value})");
            Finding::blocker(CHECK, Blocks::Others, what).fix(format!("sudo sysctl {sysctl}={allowing}"))
        }
        UsernsState::Forbidden(why) => {
            Finding::blocker(CHECK, Blocks::Others, why).fix(format!("sudo {}", facts.start))
        }
    }
}

/// A second switch with the default name cannot run.
pub(super) fn switches(facts: &Facts) -> Finding {
    const CHECK: &str = "switches";
    let default = facts.switch(crate::control::config::DEFAULT_NAME);
    if let Some(holder) = default.and_then(|found| found.holder) {
        let blocks = if facts.missing_capabilities.is_empty() { Blocks::Root } else { Blocks::Others };
        let what = format!("uswitch0 is already {holder}");
        return Finding::blocker(CHECK, blocks, what).fix("uswitch stop");
    }
    if let Some(killed) = facts.switches.iter().find(|found| found.holder.is_none()) {
        let what = format!("{} was killed and may have left namespaces or settings behind", killed.name);
        return Finding::note(CHECK, what).fix(format!("uswitch stop --name {}", killed.name));
    }
    let running = facts.switches.iter().map(|found| found.name.as_str()).collect::<Vec<_>>();
    match &running[..] {
        [] => Finding::ok(CHECK, "none is running, and none has left anything behind"),
        running => Finding::ok(CHECK, format!("running: {}", running.join(", "))),
    }
}

pub(super) fn open_files(facts: &Facts) -> Finding {
    const CHECK: &str = "open files";
    let (limit, most) = (facts.open_files, Ports::MAX as u64 - 1);
    let needed = |ports| files_needed(ports, facts.workers);
    let enough = |ports| needed(ports) <= limit;
    let fix = |ports| raise("nofile", needed(ports));
    if enough(most) {
        return Finding::ok(CHECK, format!("the limit of {limit} is enough for all {most} ports"));
    }
    if !enough(3) {
        return Finding::blocker(
            CHECK,
            Blocks::Everybody,
            format!("the limit of {limit} is too low for 3 ports"),
        )
        .fix(fix(3));
    }
    let ports = (limit - needed(0)) / (needed(1) - needed(0));
    Finding::note(CHECK, format!("the limit of {limit} is enough for {ports} ports")).fix(fix(most))
}

/// Size of a worker's registered buffers and io_uring queues in bytes. Twice the queues, because the kernel frees those
/// of the probe some time after it.
pub(super) const WORKER_LOCKED_BYTES: u64 = BUFFERS as u64 * BUFFER_SIZE as u64 + 2 * QUEUE_BYTES;

pub(super) fn locked_memory(facts: &Facts) -> Finding {
    const CHECK: &str = "locked memory";
    match facts.locked_memory {
        None => Finding::ok(CHECK, "unlimited for the buffers of io_uring"),
        Some(limit) if limit >= WORKER_LOCKED_BYTES => Finding::ok(
            CHECK,
            format!(
                "{} KiB are enough for the buffers of io_uring, workers: {}",
                limit >> 10,
                limit / WORKER_LOCKED_BYTES
            ),
        ),
        Some(limit) => {
            let what = format!(
                "{} KiB are less than a worker's buffers: io_uring cannot register them, which is slower",
                limit >> 10
            );
            Finding::note(CHECK, what).fix(raise("memlock", WORKER_LOCKED_BYTES))
        }
    }
}

/// What `port add --device` needs.
pub(super) fn device_ports(facts: &Facts) -> Finding {
    const CHECK: &str = "device ports";
    match &facts.no_packet_ports {
        Some(why) => Finding::note(CHECK, format!("existing devices cannot be ports: {why}")),
        None if facts.missing_capabilities.is_empty() && !facts.wireless.is_empty() => {
            let devices = facts.wireless.join(", ");
            let what = format!("existing devices can be ports, and {devices} with --uplink-mode ipvlan");
            Finding::ok(CHECK, format!("{what}: a Wi-Fi network accepts one MAC address"))
        }
        None if facts.missing_capabilities.is_empty() => Finding::ok(CHECK, "existing devices can be ports"),
        None => Finding::ok(CHECK, "existing devices of the sandbox can be ports"),
    }
}

/// What `port add --socket` needs. Root can exceed the limit.
pub(super) fn socket_ports(facts: &Facts) -> Finding {
    const CHECK: &str = "socket ports";
    let wanted = SOCKET_BUFFER as u64;
    let limit = if facts.missing_capabilities.is_empty() { None } else { facts.wmem_max };
    match limit.filter(|limit| *limit < wanted) {
        None => Finding::ok(CHECK, format!("{} KiB of frames can wait in each direction", wanted >> 10)),
        Some(limit) => {
            let what = format!("only {} KiB of frames can wait in each direction", limit >> 10);
            Finding::note(CHECK, what).fix(format!("sudo sysctl net.core.wmem_max={wanted}"))
        }
    }
}

pub(super) fn fast_path(facts: &Facts) -> Finding {
    const CHECK: &str = "fast path";
    match &facts.no_fast_path {
        None => Finding::ok(CHECK, "the kernel forwards known unicast and floods itself"),
        Some(why) => {
            // The verifier's log follows.
            let why = why.lines().next().unwrap_or_default();
            Finding::note(CHECK, format!("not here, so all frames cross user space: {why}"))
        }
    }
}

pub(super) fn landlock(facts: &Facts) -> Finding {
    const CHECK: &str = "landlock";
    match facts.landlock {
        true => Finding::ok(CHECK, "confines the workers, as seccomp does"),
        false => Finding::note(
            CHECK,
            "not in this kernel (Linux 5.13, LSM landlock): only seccomp confines the workers",
        ),
    }
}

pub(super) fn neighbour_tables(facts: &Facts) -> Finding {
    const CHECK: &str = "neighbour tables";
    let max = Ports::MAX as u64 - 1;
    let limit = facts.neighbours;
    if neighbours::needed(max) <= limit {
        return Finding::ok(CHECK, format!("the limit of {limit} entries is enough for all {max} ports"));
    }
    let ports = neighbours::ports(limit);
    let what = format!("{limit} entries on the whole machine are enough for {ports} active ports");
    Finding::note(CHECK, what).fix(format!("sudo {}", neighbours::raise(max)))
}

/// The command that raises a limit of the current shell above the hard limit, which `ulimit` cannot do.
fn raise(limit: &str, to: u64) -> String {
    format!("sudo prlimit --pid $$ --{limit}={to}")
}
