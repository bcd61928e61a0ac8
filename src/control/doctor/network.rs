//! The checks of the host's network. They concern a switch that runs as root; a sandbox has a private network.

use super::facts::{Facts, NftState};
use super::{Blocks, Finding};
use crate::control::config::DEFAULT_NAME;
use crate::control::topology::choose::free_subnets;
use crate::control::topology::inspect::KnownSwitch;
use crate::control::topology::preflight::{UsedNetwork, overlapping};

impl Facts {
    /// A switch of the current user.
    pub(super) fn switch(&self, name: &str) -> Option<&KnownSwitch> {
        self.switches.iter().find(|found| found.name == name)
    }

    fn runs(&self, name: &str) -> bool {
        self.switch(name).is_some_and(|found| found.holder.is_some())
    }
}

/// Names of the containers and of the host port. A start removes what a killed switch of the same name left.
pub(super) fn names(facts: &Facts) -> Finding {
    const CHECK: &str = "names";
    let owner =
        |name: &str| facts.switches.iter().find(|found| found.containers.iter().any(|own| own == name));
    let conflicting =
        |name: &&String| owner(name).is_none_or(|found| found.name != DEFAULT_NAME || found.holder.is_some());
    if let Some(name) = facts.used_names.iter().find(conflicting) {
        let what = format!("a network namespace named {name} already exists");
        let fix = owner(name).map_or_else(
            || format!("sudo ip netns del {name}"),
            |found| format!("uswitch stop --name {}", found.name),
        );
        return Finding::blocker(CHECK, Blocks::Root, what).fix(fix);
    }
    if facts.devices.iter().any(|device| device == DEFAULT_NAME) {
        let what = format!("a device named {DEFAULT_NAME} already exists");
        let fix = if facts.runs(DEFAULT_NAME) { "uswitch stop" } else { "sudo ip link del uswitch0" };
        return Finding::blocker(CHECK, Blocks::Root, what).fix(fix);
    }
    Finding::ok(CHECK, format!("{DEFAULT_NAME} and the container names are unused"))
}

pub(super) fn subnets(facts: &Facts) -> Finding {
    const CHECK: &str = "subnets";
    let mut overlaps = facts.subnets.iter().filter_map(|own| Some((own, overlapping(own, &facts.taken)?)));
    let Some((own, UsedNetwork { net, device })) = overlaps.next() else {
        let subnets: Vec<_> = facts.subnets.iter().map(ToString::to_string).collect();
        return Finding::ok(CHECK, format!("{} unused on this host", subnets.join(" ")));
    };
    let found =
        Finding::blocker(CHECK, Blocks::Root, format!("{own} overlaps {net} on this host (device {device})"));
    if device == DEFAULT_NAME && facts.runs(device) {
        return found.fix("uswitch stop");
    }
    let Some(free) = free_subnets(&facts.subnets, &facts.taken) else { return found };
    let free: Vec<String> = free.iter().map(ToString::to_string).collect();
    found.fix(format!("uswitch start --ports 3 --subnet {}", free.join(" --subnet ")))
}

pub(super) fn nft(facts: &Facts) -> Finding {
    match &facts.nft {
        NftState::Missing => {
            Finding::note("nft", "not installed: --nat does not work").fix("sudo apt install nftables")
        }
        NftState::Broken(why) => Finding::note("nft", format!("--nat does not work: {why}")),
        NftState::NotQueried | NftState::Works { .. } => Finding::ok("nft", "installed, for --nat"),
    }
}

pub(super) fn forwarding(facts: &Facts) -> Finding {
    let say = |value| match value {
        None => "not available",
        Some(0) => "off",
        Some(_) => "on",
    };
    let [v4, v6] = facts.forwarding.map(say);
    let what = format!("IPv4 {v4}, IPv6 {v6}; needed only beyond the host, and --nat enables it");
    Finding::ok("forwarding", what)
}

pub(super) fn firewall(facts: &Facts) -> Finding {
    let chains = match &facts.nft {
        NftState::Works { dropping } => dropping,
        NftState::Missing | NftState::NotQueried | NftState::Broken(_) => {
            return Finding::ok("firewall", "not checked: needs root and nft");
        }
    };
    if chains.is_empty() {
        return Finding::ok("firewall", "no chain drops packets of containers by default");
    }
    let what: Vec<String> = chains.iter().map(|chain| format!("it {}", chain.describe())).collect();
    let commands: Vec<String> = chains.iter().flat_map(|chain| chain.fixes(DEFAULT_NAME)).collect();
    Finding::note("firewall", what.join(", and ")).fix(format!("sudo sh -c '{}'", commands.join("; ")))
}

/// The kernel uses the larger of `all` and the device's own value (Linux `networking/ip-sysctl`): 1 is strict, 2 loose.
pub(super) fn rp_filter(facts: &Facts) -> Finding {
    match facts.rp_filter.into_iter().flatten().max() {
        Some(1) => Finding::note(
            "rp_filter",
            "strict: the host drops packets from container addresses outside the subnets",
        )
        .fix("sudo sysctl net.ipv4.conf.all.rp_filter=2"),
        _ => Finding::ok("rp_filter", "not strict"),
    }
}
