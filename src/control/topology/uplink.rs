//! Connects the containers to other networks: NAT, the host's interfaces, and the firewalls in between.

use ipnet::IpNet;
use tracing::warn;

use super::firewall::{Hook, Tool};
use super::{Topology, TopologyError, firewall, nat};

impl Topology {
    /// Enables NAT, and reports what prevents it from working.
    ///
    /// # Errors
    /// On an error nothing is left behind.
    pub(super) fn enable_nat(&mut self, subnets: &[IpNet]) -> Result<(), TopologyError> {
        let before = self.ledger.next_id();
        match nat::enable(&mut self.ledger, &self.config.name, subnets) {
            Ok(watcher) => self.nat = Some(watcher),
            Err(error) => {
                self.roll_back(before);
                return Err(error);
            }
        }
        if self.sandboxed {
            self.notices.add(
                "without root, --nat has no effect: the switch's sandbox has no uplink; use sudo".to_owned(),
            );
        }
        // If the ruleset cannot be read, there is nothing to report.
        for chain in firewall::dropping_chains(&self.config.name).unwrap_or_default() {
            let name = &self.config.name;
            let docker = match (chain.tool, chain.hook) {
                (Tool::Nft, Hook::Forward) => {
                    format!(
                        ", with Docker by `iptables -I DOCKER-USER -i {name} -j ACCEPT` and the same with -o"
                    )
                }
                _ => format!(" with `{}`", chain.fixes(name).join("; ")),
            };
            self.notices.add(format!("the firewall {}: accept '{name}' there{docker}", chain.describe()));
        }
        Ok(())
    }

    /// Lets the replies to containers in on an interface that gets its address later.
    pub(super) fn forward_on_new_interfaces(&mut self) {
        if self.config.nat
            && let Err(error) = nat::forward_v4(&mut self.ledger, &self.config.name, &self.config.subnets)
        {
            warn!("{error}");
        }
    }
}
