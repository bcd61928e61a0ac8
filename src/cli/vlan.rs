//! `uswitch vlan`: shows and changes the VLANs of ports.

use clap_complete::ArgValueCompleter;

use serde::Serialize;

use crate::control::report::{
    NewVlan, NewVlanState, PortVlanStats, PortVlansReport, VlanReport, VlanState, VlanStats,
};
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
    Set(VlanSet),
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
    /// Show the counters of each VLAN, of all its ports together, from the start of the switch. With `start
    /// --vlan-stats-per-port` those of each port, from when it became a member
    #[arg(long, short)]
    statistics: bool,
    /// Print JSON, as `bridge -c -j vlan show` does, or with --statistics as `bridge -s -j vlan show`
    #[arg(long)]
    json: bool,
}

/// A port and some VLANs.
#[derive(Debug, clap::Args)]
struct PortVlanArgs {
    /// Port
    #[arg(value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    port: String,
    /// VLAN, 1 to 4094, or several as in 10-20
    #[arg(value_name = "VLAN")]
    vlan: VidRange,
}

/// Add a port to VLANs, or change its PVID and where its frames are untagged
#[derive(Debug, clap::Args)]
struct VlanAdd {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    membership: PortVlanArgs,
    /// Untagged frames that the port receives belong to this VLAN
    #[arg(long)]
    pvid: bool,
    /// Frames of this VLAN leave the port untagged
    #[arg(long)]
    untagged: bool,
}

/// Set the state of a port in VLANs of which it is a member
#[derive(Debug, clap::Args)]
struct VlanSet {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    membership: PortVlanArgs,
    /// State of the port in these VLANs, at ingress and egress
    #[arg(long)]
    state: VlanState,
}

/// Remove a port from VLANs
#[derive(Debug, clap::Args)]
struct VlanDel {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    membership: PortVlanArgs,
}

impl VlanCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            VlanAction::Show(show) => show.run(),
            VlanAction::Add(VlanAdd { target, membership: PortVlanArgs { port, vlan }, pvid, untagged }) => {
                Ok(target.client()?.post("/v1/vlans", &NewVlan { ifname: port, vlan, pvid, untagged })?)
            }
            VlanAction::Set(VlanSet { target, membership: PortVlanArgs { port, vlan }, state }) => {
                Ok(target.client()?.patch("/v1/vlans", &NewVlanState { ifname: port, vlan, state })?)
            }
            VlanAction::Del(VlanDel { target, membership: PortVlanArgs { port, vlan } }) => {
                let query = query([("ifname", Some(port)), ("vlan", Some(vlan.to_string()))]);
                Ok(target.client()?.delete(&format!("/v1/vlans{query}"))?)
            }
        }
    }
}

impl VlanShow {
    fn run(self) -> Result<(), CliError> {
        let (all, shown) = self.ports.list::<PortVlansReport>(&self.target, "/v1/vlans")?;
        let mut ports = all.clone();
        ports.retain(|port| shown.has(&port.ifname));
        if let Some(vid) = self.vid {
            ports.iter_mut().for_each(|port| port.vlans.retain(|vlan| vlan.contains(vid)));
            ports.retain(|port| !port.vlans.is_empty());
        }
        match (self.statistics, self.json) {
            (false, true) => output::json(&ports),
            (false, false) => output::print(&vlans_table(&ports)),
            (true, json) => {
                let client = self.target.client()?;
                let stats: Vec<VlanStats> = client.get("/v1/vlans/stats")?;
                // None, unless the switch counts them.
                let of_ports: Vec<PortVlanStats> = client.get("/v1/vlans/stats/ports")?;
                let stats_of = |name: &str| match of_ports.iter().find(|port| port.ifname == name) {
                    Some(port) => &port.vlans,
                    None => &stats,
                };
                if json {
                    let port = |port| MemberStats::of_port(port, stats_of(&port.ifname));
                    output::json(&ports.iter().map(port).collect::<Vec<_>>())
                } else if of_ports.is_empty() {
                    output::print(&stats_table(&stats, &ports, &all))
                } else {
                    output::print(&port_stats_table(&of_ports, &ports))
                }
            }
        }
    }
}

/// The VLANs of a port, as `bridge -s -j vlan show` lists them: each has the counters of the VLAN, which are those of
/// all its ports unless the bridge counts per port (`vlan_stats_per_port`).
#[derive(Debug, Serialize)]
struct PortMemberStats<'a> {
    ifname: &'a str,
    vlans: Vec<MemberStats<'a>>,
}

/// A VLAN of a port.
#[derive(Debug, Serialize)]
struct MemberStats<'a> {
    #[serde(flatten)]
    stats: VlanStats,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    flags: &'a [String],
}

impl MemberStats<'_> {
    fn of_port<'a>(port: &'a PortVlansReport, stats: &[VlanStats]) -> PortMemberStats<'a> {
        let of_vlan = |report: &'a VlanReport| {
            let stats = stats.iter().filter(move |stats| report.contains(stats.vid.get()));
            stats.map(|stats| MemberStats { stats: *stats, flags: &report.flags })
        };
        PortMemberStats { ifname: &port.ifname, vlans: port.vlans.iter().flat_map(of_vlan).collect() }
    }
}

/// One line for each VLAN, or for several in a row. The port is in its first line.
fn vlans_table(ports: &[PortVlansReport]) -> String {
    let line = |name: &str, vlan: &VlanReport| {
        let flag = |flag: &str| if vlan.flags.iter().any(|set| set == flag) { "yes" } else { "" }.to_owned();
        let state = Some(vlan.state).filter(|state| *state != VlanState::Forwarding);
        let state = state.map_or_else(String::new, |state| state.name().to_owned());
        [name.to_owned(), vlan.range(), flag("PVID"), flag("Egress Untagged"), state]
    };
    let rows: Vec<_> = ports
        .iter()
        .flat_map(|port| {
            let names = [port.ifname.as_str()].into_iter().chain(std::iter::repeat(""));
            let none = port.vlans.is_empty().then(|| [&port.ifname, "none", "", "", ""].map(str::to_owned));
            none.into_iter().chain(names.zip(&port.vlans).map(|(name, vlan)| line(name, vlan)))
        })
        .collect();
    // Most switches have no such state.
    if rows.iter().all(|[.., state]| state.is_empty()) {
        let rows = rows.into_iter().map(|[port, vlan, pvid, untagged, _]| [port, vlan, pvid, untagged]);
        return table(["PORT", "VLAN", "PVID", "UNTAGGED"], rows);
    }
    table(["PORT", "VLAN", "PVID", "UNTAGGED", "STATE"], rows)
}

/// One line for each VLAN of the shown ports, with the number of its members.
fn stats_table(stats: &[VlanStats], shown: &[PortVlansReport], all: &[PortVlansReport]) -> String {
    let members = |ports: &[PortVlansReport], vid| {
        ports.iter().filter(|port| port.vlans.iter().any(|vlan| vlan.contains(vid))).count()
    };
    let rows = stats.iter().filter_map(|vlan| {
        let ports = members(all, vlan.vid.get());
        let row = || {
            let VlanStats { vid, rx_bytes, rx_packets, tx_bytes, tx_packets } = *vlan;
            [vid.get().into(), ports as u64, rx_packets, rx_bytes, tx_packets, tx_bytes]
                .map(|n| n.to_string())
        };
        (members(shown, vlan.vid.get()) > 0).then(row)
    });
    table(["VLAN", "PORTS", "RX FRAMES", "RX BYTES", "TX FRAMES", "TX BYTES"], rows)
}

/// One line for each VLAN of each shown port.
fn port_stats_table(stats: &[PortVlanStats], shown: &[PortVlansReport]) -> String {
    let rows = shown.iter().flat_map(|port| {
        let of_port = stats.iter().filter(|stats| stats.ifname == port.ifname).flat_map(|port| &port.vlans);
        let of_port = of_port.filter(|stats| port.vlans.iter().any(|vlan| vlan.contains(stats.vid.get())));
        of_port.map(|stats| {
            let VlanStats { vid, rx_bytes, rx_packets, tx_bytes, tx_packets } = *stats;
            let counts = [rx_packets, rx_bytes, tx_packets, tx_bytes].map(|n| n.to_string());
            let [rx_packets, rx_bytes, tx_packets, tx_bytes] = counts;
            [port.ifname.clone(), vid.to_string(), rx_packets, rx_bytes, tx_packets, tx_bytes]
        })
    });
    table(["PORT", "VLAN", "RX FRAMES", "RX BYTES", "TX FRAMES", "TX BYTES"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::switch::vlan::{Vid, VlanCounts};

    #[test]
    fn table_has_a_line_for_each_vlan() {
        let vlan = |vlan, vlan_end, flags: &[&str]| VlanReport {
            vlan,
            vlan_end,
            flags: flags.iter().map(ToString::to_string).collect(),
            state: VlanState::Forwarding,
        };
        let mut ports = [
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
        ports[0].vlans[1].state = VlanState::Blocking;
        assert_eq!(
            vlans_table(&ports),
            "PORT        VLAN   PVID  UNTAGGED  STATE\n\
             container1  1      yes   yes\n            \
             10-20                  blocking\n\
             container2  none\n"
        );
    }

    #[test]
    fn statistics_have_a_line_for_each_vlan_and_the_json_of_bridge() {
        let vlans = vec![VlanReport {
            vlan: 10,
            vlan_end: Some(11),
            flags: vec!["PVID".into()],
            state: VlanState::Forwarding,
        }];
        let ports = [PortVlansReport { ifname: "container1".into(), vlans }];
        let stats = [9, 10, 11].map(|number| {
            let counts = VlanCounts { rx_bytes: 60, rx_packets: 1, tx_bytes: 120, tx_packets: 2 };
            VlanStats::new(Vid::new(number).unwrap(), counts)
        });
        assert_eq!(
            stats_table(&stats, &ports, &ports),
            "VLAN  PORTS  RX FRAMES  RX BYTES  TX FRAMES  TX BYTES\n\
             10    1      1          60        2          120\n\
             11    1      1          60        2          120\n"
        );
        let vlan = |vid: u16| json!({"vid": vid, "flags": ["PVID"], "rx_bytes": 60, "rx_packets": 1, "tx_bytes": 120, "tx_packets": 2});
        assert_eq!(
            serde_json::to_value(MemberStats::of_port(&ports[0], &stats)).unwrap(),
            json!({"ifname": "container1", "vlans": [vlan(10), vlan(11)]})
        );
        let of_ports = [PortVlanStats { ifname: "container1".into(), vlans: stats.to_vec() }];
        assert_eq!(
            port_stats_table(&of_ports, &ports),
            "PORT        VLAN  RX FRAMES  RX BYTES  TX FRAMES  TX BYTES\n\
             container1  10    1          60        2          120\n\
             container1  11    1          60        2          120\n"
        );
    }
}
