//! What was seen, judged.

use super::facts::{Facts, TunState, UsernsState};
use super::network::{firewall, forwarding, names, nft, rp_filter, subnets};
use super::{Blocks, Finding, State};
use crate::control::topology::preflight::files_needed;
use crate::datapath::BUFFERS;
use crate::switch::Ports;
use crate::sys::arena::BUFFER_SIZE;
use crate::sys::sandbox::Restriction;

/// All checks in order; the last says whether a start works.
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
    ];
    let mut findings: Vec<Finding> = checks.iter().map(|check| check(facts)).collect();
    let root = facts.missing_capabilities.is_empty();
    for finding in &mut findings {
        let blocks = if root { finding.blocks.root() } else { finding.blocks.others() };
        if blocks {
            finding.state = State::Problem;
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
    Finding::new("start", if works { State::Ok } else { State::Problem }, format!("`{}` {whom}", facts.start))
}

/// README.md, "Kernels".
pub(super) fn kernel(facts: &Facts) -> Finding {
    let release = &facts.release;
    let says = |what: &str| Finding::note("kernel", format!("Linux {release}: {what}"));
    match version(release) {
        None => says("a version that says nothing of what it can do"),
        Some(version) if version < (5, 15) => says("older than 5.15, from which on all is promised"),
        Some(version) if version < (6, 2) => says("large UDP frames go one by one (6.2), no io_uring (6.4)"),
        Some(version) if version < (6, 4) => says("no io_uring: a TAP's reads may wait (6.4)"),
        Some(_) => Finding::ok("kernel", format!("Linux {release}")),
    }
}

/// The first two numbers.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

pub(super) fn engine(facts: &Facts) -> Finding {
    let Some(why) = &facts.no_uring else { return Finding::ok("engine", "io_uring") };
    let found = Finding::note("engine", format!("poll, which is slower: {why}"));
    match facts.io_uring_disabled {
        Some(1 | 2) => found.fix("sudo sysctl kernel.io_uring_disabled=0"),
        _ => found,
    }
}

pub(super) fn tun(facts: &Facts) -> Finding {
    const CHECK: &str = "tun";
    match &facts.tun {
        TunState::Missing => {
            Finding::blocker(CHECK, Blocks::Everybody, "there is no /dev/net/tun").fix("sudo modprobe tun")
        }
        TunState::Broken(why) => Finding::blocker(CHECK, Blocks::Everybody, why).fix("sudo modprobe tun"),
        TunState::NoPermission => {
            Finding::blocker(CHECK, Blocks::Others, "/dev/net/tun is not open to this user")
                .fix("sudo chmod 0666 /dev/net/tun")
        }
        TunState::Open { to_all: false } if facts.missing_capabilities.is_empty() => Finding::blocker(
            CHECK,
            Blocks::Others,
            "/dev/net/tun is not open to all, as a start without root needs it",
        )
        .fix("sudo chmod 0666 /dev/net/tun"),
        TunState::Open { .. } => Finding::ok(CHECK, "/dev/net/tun can be opened"),
    }
}

pub(super) fn capabilities(facts: &Facts) -> Finding {
    const CHECK: &str = "capabilities";
    match &facts.missing_capabilities[..] {
        [] if !facts.owns_network => Finding::blocker(
            CHECK,
            Blocks::Root,
            "root's, of a user namespace that does not own this network",
        ),
        [] => Finding::ok(CHECK, "root's: containers are made on this machine itself"),
        missing => Finding::note(
            CHECK,
            format!("not root's ({} missing): containers are made in a sandbox", missing.join(", ")),
        ),
    }
}

pub(super) fn userns(facts: &Facts) -> Finding {
    const CHECK: &str = "user namespaces";
    match &facts.userns {
        UsernsState::Allowed => Finding::ok(CHECK, "users may make them, as a start without root does"),
        UsernsState::Restricted(Restriction { sysctl, value, lifted, meaning }) => {
            let what = format!("for a start without root: {meaning} ({sysctl} is {value})");
            Finding::blocker(CHECK, Blocks::Others, what).fix(format!("sudo sysctl {sysctl}={lifted}"))
        }
        UsernsState::Forbidden(why) => {
            Finding::blocker(CHECK, Blocks::Others, why).fix(format!("sudo {}", facts.start))
        }
    }
}

/// Of the name that a start takes when it is given none, a second one cannot run.
pub(super) fn switches(facts: &Facts) -> Finding {
    const CHECK: &str = "switches";
    let default = facts.switch(crate::control::config::DEFAULT_NAME);
    if let Some(pid) = default.and_then(|found| found.pid) {
        let whose = if facts.missing_capabilities.is_empty() { Blocks::Root } else { Blocks::Others };
        let what = format!("uswitch0 is running already (process {pid})");
        return Finding::blocker(CHECK, whose, what).fix("uswitch stop");
    }
    if let Some(killed) = facts.switches.iter().find(|found| found.pid.is_none()) {
        let what = format!("{} was killed, and may have left something behind", killed.name);
        return Finding::note(CHECK, what).fix(format!("uswitch stop {}", killed.name));
    }
    let running = facts.switches.iter().map(|found| found.name.as_str()).collect::<Vec<_>>();
    match &running[..] {
        [] => Finding::ok(CHECK, "none of yours is running, nothing is left of any"),
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
        return Finding::ok(CHECK, format!("{limit} allow all {most} ports"));
    }
    if !enough(3) {
        return Finding::blocker(CHECK, Blocks::Everybody, format!("{limit} are too few for 3 ports"))
            .fix(fix(3));
    }
    let ports = (limit - needed(0)) / (needed(1) - needed(0));
    Finding::note(CHECK, format!("{limit} allow {ports} ports")).fix(fix(most))
}

/// What a worker's registered buffers take, in bytes.
pub(super) const WORKER_LOCKED_BYTES: u64 = BUFFERS as u64 * BUFFER_SIZE as u64;

pub(super) fn locked_memory(facts: &Facts) -> Finding {
    const CHECK: &str = "locked memory";
    match facts.locked_memory {
        None => Finding::ok(CHECK, "no limit to io_uring's buffers"),
        Some(limit) if limit >= WORKER_LOCKED_BYTES => Finding::ok(
            CHECK,
            format!(
                "{} KiB hold the buffers of io_uring, workers: {}",
                limit >> 10,
                limit / WORKER_LOCKED_BYTES
            ),
        ),
        Some(limit) => {
            let what = format!(
                "{} KiB, less than a worker's buffers: io_uring looks them up each time",
                limit >> 10
            );
            Finding::note(CHECK, what).fix(raise("memlock", WORKER_LOCKED_BYTES))
        }
    }
}

/// The command that raises a limit of the shell in which it is typed: a user's own `ulimit` cannot.
fn raise(limit: &str, to: u64) -> String {
    format!("sudo prlimit --pid $$ --{limit}={to}")
}
