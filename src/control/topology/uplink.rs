//! Connects the containers to other networks: NAT, published ports, the host's interfaces, and the firewalls in
//! between.

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
                "--nat needs slirp4netns or pasta to connect the switch's namespace to other networks; or use sudo".to_owned(),
            );
        }
        routing.ifnames().into_iter().for_each(|ifname| self.report_dropping_chains(ifname));
        self.routing = Some(routing);
        Ok(())
    }

    /// Changes what the host routes.
    ///
    /// # Errors
    /// On an error everything is as before.
    pub(super) fn change_routing(&mut self, routing: &Routing) -> Result<(), TopologyError> {
        let (Some(watcher), Some(before)) = (&mut self.nat, &self.routing) else { return Ok(()) };
        let first = self.ledger.next_id();
        // The table first: it drops what would be forwarded without permission.
        watcher.replace(routing.clone())?;
        if let Err(error) = nat::forward(&mut self.ledger, routing, Some(before)) {
            // Report why the change failed. What another program does to the table is restored.
            let _ = watcher.replace(before.clone());
            self.roll_back(first);
            return Err(error);
        }
        self.routing = Some(routing.clone());
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
            && routing.connects_ipv4()
            && let Err(error) = nat::forward_v4(&mut self.ledger, routing)
        {
            warn!("{error}");
        }
    }
}
