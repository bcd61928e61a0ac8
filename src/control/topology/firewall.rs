//! Finds chains of other firewalls that drop the packets of the containers by default. An accept in our table does not
//! override them (nft(8), "verdict statements"). Docker drops by the chain's policy, firewalld by the last rule.
//!
//! nft does not show the rules of iptables-legacy, which are in separate tables. They are read with its own
//! program, and only if the kernel has such tables: the program would create them.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nftables::expr::MetaKey;
use nftables::helper::get_current_ruleset_with_args;
use nftables::schema::{Chain, NfListObject, NfObject, Nftables, Rule};
use nftables::stmt::{Operator, Statement};
use nftables::types::{NfChainPolicy, NfHook};

use super::{TopologyError, nat};

/// Where a chain sees the packets of the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// On their way through the host.
    Forward,
    /// On their way to the host itself.
    Input,
}

/// The program that made a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Nft,
    IptablesLegacy,
    Ip6tablesLegacy,
}

/// A chain that drops by default and does not accept the packets of the host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DroppingChain {
    pub(crate) tool: Tool,
    pub(crate) hook: Hook,
    /// Family, table and name for nft; else the name.
    pub(crate) name: String,
}

impl DroppingChain {
    /// What it does.
    pub(crate) fn describe(&self) -> String {
        let packets = match self.hook {
            Hook::Forward => "forwarded packets",
            Hook::Input => "packets to the host",
        };
        let tool = match self.tool {
            Tool::Nft => "",
            Tool::IptablesLegacy => "iptables-legacy ",
            Tool::Ip6tablesLegacy => "ip6tables-legacy ",
        };
        format!("drops {packets} by default (chain {tool}{})", self.name)
    }

    /// The commands that make it accept the packets of `host_port`.
    pub(crate) fn fixes(&self, host_port: &str) -> Vec<String> {
        let name = &self.name;
        let both = |[to, from]: [String; 2]| match self.hook {
            Hook::Forward => vec![from, to],
            Hook::Input => vec![from],
        };
        let legacy = |tool: &str| {
            both(["-o", "-i"].map(|way| format!("{tool} -I {name} {way} {host_port} -j ACCEPT")))
        };
        match self.tool {
            Tool::Nft => both(
                ["oifname", "iifname"].map(|way| format!("nft insert rule {name} {way} {host_port} accept")),
            ),
            Tool::IptablesLegacy => legacy("iptables-legacy"),
            Tool::Ip6tablesLegacy => legacy("ip6tables-legacy"),
        }
    }
}

/// The chains that drop packets from or to `host_port`.
///
/// # Errors
/// nft is missing or fails.
pub(crate) fn dropping_chains(host_port: &str) -> Result<Vec<DroppingChain>, TopologyError> {
    let mut found = nft_chains(host_port)?;
    for (tool, tables, save) in [
        (Tool::IptablesLegacy, "ip_tables_names", "iptables-legacy-save"),
        (Tool::Ip6tablesLegacy, "ip6_tables_names", "ip6tables-legacy-save"),
    ] {
        let rules = legacy_rules(tables, save);
        found.extend(rules.iter().flat_map(|rules| legacy_chains(rules, tool, host_port)));
    }
    Ok(found)
}

fn nft_chains(host_port: &str) -> Result<Vec<DroppingChain>, TopologyError> {
    let nft = nat::program().ok_or(TopologyError::NoNft)?;
    let chains = get_current_ruleset_with_args(Some(&nft), ["list", "chains"])?;
    let hooked: Vec<(&Chain, Hook)> = chains.objects.iter().filter_map(hooked_chain).collect();
    // Without such chains the rules, which may be many, need not be read.
    if hooked.is_empty() {
        return Ok(Vec::new());
    }
    // nft cannot list every rule that other programs made as JSON. Then only the policies are known.
    let ruleset = get_current_ruleset_with_args(Some(&nft), ["list", "ruleset"]).ok();
    let rules: Vec<&Rule> = ruleset.iter().flat_map(rules_of).collect();
    let dropping = hooked.into_iter().filter(|(chain, hook)| {
        drops(&rules, chain) && !ways(*hook).iter().all(|way| accepts(&rules, chain, way, host_port))
    });
    let described = dropping.filter_map(|(chain, hook)| {
        let family = serde_json::to_value(chain.family).ok()?;
        let name = format!("{} {} {}", family.as_str()?, chain.table, chain.name);
        Some(DroppingChain { tool: Tool::Nft, hook, name })
    });
    Ok(described.collect())
}

fn hooked_chain<'a, 'b>(object: &'a NfObject<'b>) -> Option<(&'a Chain<'b>, Hook)> {
    let NfObject::ListObject(NfListObject::Chain(chain)) = object else { return None };
    match chain.hook? {
        NfHook::Forward => Some((chain, Hook::Forward)),
        NfHook::Input => Some((chain, Hook::Input)),
        _ => None,
    }
}

fn rules_of<'a, 'b>(ruleset: &'a Nftables<'b>) -> impl Iterator<Item = &'a Rule<'b>> {
    ruleset.objects.iter().filter_map(|object| match object {
        NfObject::ListObject(NfListObject::Rule(rule)) => Some(rule),
        _ => None,
    })
}

/// The ways in which a chain must accept the host port: from it, and to it.
fn ways(hook: Hook) -> &'static [MetaKey] {
    match hook {
        Hook::Forward => &[MetaKey::Iifname, MetaKey::Oifname],
        Hook::Input => &[MetaKey::Iifname],
    }
}

/// The chain drops by default: by its policy or by a rule without a condition.
fn drops(rules: &[&Rule<'_>], chain: &Chain<'_>) -> bool {
    use Statement::{Counter, Drop, Log, Reject};
    let unconditional = |rule: &&Rule| {
        (rule.family, &rule.table, &rule.chain) == (chain.family, &chain.table, &chain.name)
            && rule.expr.iter().all(|what| matches!(what, Counter(_) | Log(_) | Drop(_) | Reject(_)))
            && rule.expr.iter().any(|what| matches!(what, Drop(_) | Reject(_)))
    };
    chain.policy == Some(NfChainPolicy::Drop) || rules.iter().any(unconditional)
}

/// A rule in the chain's table accepts packets from `host_port`, or to it.
fn accepts(rules: &[&Rule<'_>], chain: &Chain<'_>, way: &MetaKey, host_port: &str) -> bool {
    let by_interface = nat::interface(*way, Operator::EQ, host_port);
    rules.iter().any(|rule| {
        (rule.family, &rule.table) == (chain.family, &chain.table)
            && rule.expr.contains(&by_interface)
            && rule.expr.contains(&Statement::Accept(None))
    })
}

/// The rules of the filter table as `iptables-save` prints them. `None` if there is no such table, or no such program.
fn legacy_rules(tables: &str, save: &str) -> Option<String> {
    let tables = fs::read_to_string(PathBuf::from("/proc/thread-self/net").join(tables)).ok()?;
    if !tables.lines().any(|table| table == "filter") {
        return None;
    }
    let mut command = Command::new(installed(save)?);
    let output = command.args(["-t", "filter"]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn legacy_chains(rules: &str, tool: Tool, host_port: &str) -> Vec<DroppingChain> {
    let chain = |(name, hook): (&str, Hook)| {
        let policy = format!(":{name} DROP ");
        let last = ["DROP", "REJECT"].map(|verdict| format!("-A {name} -j {verdict}"));
        let drops = |line: &str| line.starts_with(&policy) || last.iter().any(|last| line.starts_with(last));
        let accepted = |way: &str| {
            let interface = format!(" {way} {host_port} ");
            rules.lines().any(|line| line.contains(&interface) && line.ends_with("-j ACCEPT"))
        };
        let accepts = accepted("-i") && (hook == Hook::Input || accepted("-o"));
        let dropping = rules.lines().any(drops) && !accepts;
        dropping.then(|| DroppingChain { tool, hook, name: name.to_owned() })
    };
    [("FORWARD", Hook::Forward), ("INPUT", Hook::Input)].into_iter().filter_map(chain).collect()
}

/// The path of a program. The PATH of users other than root often lacks the directories of system programs.
pub(super) fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let standard = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(standard)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rules: &str) -> Vec<String> {
        let chains = legacy_chains(rules, Tool::IptablesLegacy, "u0");
        chains.into_iter().map(|chain| chain.name).collect()
    }

    #[test]
    fn finds_dropping_chains_of_iptables_legacy() {
        assert!(found("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n").is_empty());
        assert_eq!(found(":INPUT DROP [0:0]\n:FORWARD DROP [1:84]\n"), ["FORWARD", "INPUT"]);
        assert_eq!(found(":FORWARD ACCEPT [0:0]\n-A FORWARD -j REJECT --reject-with x\n"), ["FORWARD"]);
        assert!(found(":FORWARD ACCEPT [0:0]\n-A FORWARD -s 192.0.2.1/32 -j DROP\n").is_empty());
        let from = ":FORWARD DROP [0:0]\n-A FORWARD -i u0 -j ACCEPT\n";
        assert_eq!(found(from), ["FORWARD"], "one direction is not enough");
        assert!(found(&format!("{from}-A FORWARD -o u0 -j ACCEPT\n")).is_empty());
        assert!(found(":INPUT DROP [0:0]\n-A INPUT -i u0 -j ACCEPT\n").is_empty());
    }
}
