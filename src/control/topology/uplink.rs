//! Connects the containers to other networks: NAT, the host's interfaces, and the firewalls in between.

use tracing::warn;

use super::firewall::{Hook, Tool};
use super::routing::Routing;
use super::{Topology, TopologyError, firewall, nat};

impl Topology {
    /// Lets the host route, and reports what prevents that from working.
    ///
    /// # Errors
    /// On an error nothing is left behind.
    pub(super) fn enable_routing(&mut self, routing: Routing) -> Result<(), TopologyError> {
        let before = self.ledger.next_id();
        match nat::enable(&mut self.ledger, &routing) {
            Ok(watcher) => self.nat = Some(watcher),
            Err(error) => {
                self.roll_back(before);
                return Err(error);
            }
        }
        if self.sandboxed && routing.nat {
            self.notices.add(
                "without root, --nat has no effect: the switch's sandbox has no uplink; use sudo".to_owned(),
            );
        }
        routing.ifnames().into_iter().for_each(|ifname| self.report_dropping_chains(ifname));
        self.routing = Some(routing);
        Ok(())
    }

    fn report_dropping_chains(&mut self, ifname: &str) {
        // If the ruleset cannot be read, there is nothing to report.
        for chain in firewall::dropping_chains(ifname).unwrap_or_default() {
            let docker = match (chain.tool, chain.hook) {
                (Tool::Nft, Hook::Forward) => {
                    format!(
                        ", with Docker by `iptables -I DOCKER-USER -i {ifname} -j ACCEPT` and the same with -o"
                    )
                }
                _ => format!(" with `{}`", chain.fixes(ifname).join("; ")),
            };
            self.notices.add(format!("the firewall {}: accept '{ifname}' there{docker}", chain.describe()));
        }
    }

    /// Lets the replies to containers in on an interface that gets its address later.
    pub(super) fn forward_on_new_interfaces(&mut self) {
        if let Some(routing) = &self.routing
            && routing.nat
            && let Err(error) = nat::forward_v4(&mut self.ledger, routing)
        {
            warn!("{error}");
        }
    }
}
