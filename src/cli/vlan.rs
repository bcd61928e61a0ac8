//! `uswitch vlan`: shows and changes the VLANs of ports.

use clap_complete::ArgValueCompleter;

use crate::control::report::{NewVlan, PortVlansReport, VlanReport};
use crate::switch::vlan::VidRange;

use super::complete;
use super::error::CliError;
use super::fdb::query;
use super::output::{self, table};
use super::port::port_name;
use super::target::{PortList, Target};

/// Show or change the VLANs of ports
#[derive(Debug, clap::Args)]
pub(super) struct VlanCommand {
    #[command(subcommand)]
    action: VlanAction,
}

#[derive(Debug, clap::Subcommand)]
enum VlanAction {
    Show(VlanShow),
    Add(VlanAdd),
    Del(VlanDel),
}

/// Show the VLANs of the ports
#[derive(Debug, clap::Args)]
struct VlanShow {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ports: PortList,
    /// Show only ports of this VLAN, 1 to 4094
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..4095))]
    vid: Option<u16>,
    /// Print JSON, as `bridge -c -j vlan show` does
    #[arg(long)]
    json: bool,
}

/// A port and some VLANs.
#[derive(Debug, clap::Args)]
struct Membership {
    /// Port
    #[arg(value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    port: String,
    /// VLAN, 1 to 4094, or several as in 10-20
    #[arg(value_name = "VLAN")]
    vlan: VidRange,
}

/// Make a port a member of VLANs, or change how it is one
#[derive(Debug, clap::Args)]
struct VlanAdd {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    membership: Membership,
    /// Untagged frames that the port receives belong to this VLAN
    #[arg(long)]
    pvid: bool,
    /// Frames of this VLAN leave the port untagged
    #[arg(long)]
    untagged: bool,
}

/// End the membership of a port in VLANs
#[derive(Debug, clap::Args)]
struct VlanDel {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    membership: Membership,
}

impl VlanCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            VlanAction::Show(show) => show.run(),
            VlanAction::Add(VlanAdd { target, membership: Membership { port, vlan }, pvid, untagged }) => {
                Ok(target.client()?.post("/v1/vlans", &NewVlan { ifname: port, vlan, pvid, untagged })?)
            }
            VlanAction::Del(VlanDel { target, membership: Membership { port, vlan } }) => {
                let query = query([("ifname", Some(port)), ("vlan", Some(vlan.to_string()))]);
                Ok(target.client()?.delete(&format!("/v1/vlans{query}"))?)
            }
        }
    }
}

impl VlanShow {
    fn run(self) -> Result<(), CliError> {
        let (mut ports, shown) = self.ports.list::<PortVlansReport>(&self.target, "/v1/vlans")?;
        ports.retain(|port| shown.has(&port.ifname));
        if let Some(vid) = self.vid {
            ports.iter_mut().for_each(|port| port.vlans.retain(|vlan| vlan.contains(vid)));
            ports.retain(|port| !port.vlans.is_empty());
        }
        if self.json { output::json(&ports) } else { output::print(&vlans_table(&ports)) }
    }
}

/// One line for each VLAN, or for several in a row. The port is in its first line.
fn vlans_table(ports: &[PortVlansReport]) -> String {
    let line = |name: &str, vlan: &VlanReport| {
        let flag = |flag: &str| if vlan.flags.iter().any(|set| set == flag) { "yes" } else { "" }.to_owned();
        [name.to_owned(), vlan.range(), flag("PVID"), flag("Egress Untagged")]
    };
    let rows = ports.iter().flat_map(|port| {
        let names = [port.ifname.as_str()].into_iter().chain(std::iter::repeat(""));
        let none = port
            .vlans
            .is_empty()
            .then(|| [port.ifname.clone(), "none".to_owned(), String::new(), String::new()]);
        none.into_iter().chain(names.zip(&port.vlans).map(|(name, vlan)| line(name, vlan)))
    });
    table(["PORT", "VLAN", "PVID", "UNTAGGED"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_a_line_for_each_vlan() {
        let vlan = |vlan, vlan_end, flags: &[&str]| VlanReport {
            vlan,
            vlan_end,
            flags: flags.iter().map(ToString::to_string).collect(),
        };
        let ports = [
            PortVlansReport {
                ifname: "container1".into(),
                vlans: vec![vlan(1, None, &["PVID", "Egress Untagged"]), vlan(10, Some(20), &[])],
            },
            PortVlansReport { ifname: "container2".into(), vlans: Vec::new() },
        ];
        assert_eq!(
            vlans_table(&ports),
            "PORT        VLAN   PVID  UNTAGGED\n\
             container1  1      yes   yes\n            \
             10-20\n\
             container2  none\n"
        );
    }
}
