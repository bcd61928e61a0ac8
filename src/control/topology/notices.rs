//! Notices for the user: what was found on the machine that limits the switch.

use std::path::Path;

use super::neighbours;
use crate::sys::netns;

/// Limit of pending notices. The reply to `port add` takes them.
const MOST_NOTICES: usize = 64;

/// The notices that were not given yet.
#[derive(Debug)]
pub(super) struct Notices {
    pending: Vec<String>,
    /// The notice that the kernel lacks UDP segmentation offload was given.
    reported_no_uso: bool,
    /// The limit of the neighbour tables, until a notice about it was given.
    neighbour_limit: Option<u64>,
}

impl Notices {
    pub(super) fn new(pending: impl IntoIterator<Item = String>) -> Notices {
        Notices {
            pending: pending.into_iter().collect(),
            reported_no_uso: false,
            neighbour_limit: Some(neighbours::limit()),
        }
    }

    /// Keeps each notice once, and at most [`MOST_NOTICES`].
    pub(super) fn add(&mut self, notice: String) {
        if self.pending.len() < MOST_NOTICES && !self.pending.contains(&notice) {
            self.pending.push(notice);
        }
    }

    /// The notices since the last call.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.pending)
    }

    /// Reports that an existing device, in this namespace or that at a path, is down.
    pub(super) fn report_if_down(&mut self, ifname: &str, netns: Option<&Path>, up: bool) {
        if !up {
            let set_up = match netns.map(|path| (path, netns::name_of(path))) {
                None => format!("ip link set {ifname} up"),
                Some((_, Some(name))) => format!("ip -n {name} link set {ifname} up"),
                Some((path, None)) => format!("nsenter --net={} ip link set {ifname} up", path.display()),
            };
            self.add(format!("{ifname} is down: set it up with `{set_up}`"));
        }
    }

    /// Reports once that the kernel cannot segment UDP.
    pub(super) fn report_no_uso(&mut self) {
        if !self.reported_no_uso {
            self.reported_no_uso = true;
            self.add(
                "this kernel has no UDP segmentation offload for TAP devices (6.2 and later have): UDP is sent frame by frame"
                    .to_owned(),
            );
        }
    }

    /// Reports once that there are more ports than the neighbour tables can serve.
    pub(super) fn check_neighbour_tables(&mut self, ports: u64) {
        if let Some(limit) = self.neighbour_limit.take_if(|limit| neighbours::needed(ports) > *limit) {
            self.add(format!(
                "{ports} active ports can overflow the kernel's neighbour tables, which then lose packets \
                 (limit: {limit} entries on the whole machine): raise it with `{}`",
                neighbours::raise(ports)
            ));
        }
    }
}
