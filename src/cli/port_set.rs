//! `uswitch port set`: changes settings of a port.

use clap_complete::ArgValueCompleter;

use crate::control::report::{AdminState, EdgeSetting, PortReport, PortSettings};

use super::complete;
use super::error::CliError;
use super::impair::ImpairArgs;
use super::limit::LimitArgs;
use super::output;
use super::port::{port_name, ports_table};
use super::target::Target;
use super::vlan_args::VlanArgs;

/// The options of which one is needed.
const SETTINGS: [&str; 33] = [
    "up",
    "down",
    "guard",
    "fdb_max_learned",
    "learning",
    "flood",
    "mcast_flood",
    "bcast_flood",
    "isolated",
    "hairpin",
    "locked",
    "hub",
    "cost",
    "priority",
    "edge",
    "bpdu_guard",
    "root_block",
    "access",
    "trunk",
    "native",
    "storm_broadcast",
    "storm_unknown_unicast",
    "storm_multicast",
    "ingress_rate",
    "egress_rate",
    "delay",
    "jitter",
    "loss",
    "duplicate",
    "reorder",
    "corrupt",
    "rate",
    "no_impairment",
];

/// Change settings of a port
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("settings").required(true).multiple(true).args(SETTINGS))]
pub(super) struct PortSet {
    #[command(flatten)]
    target: Target,
    /// Name of the port
    #[arg(value_name = "NAME", value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    port: String,
    /// Set the port up again
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// Set the port down: the device loses its carrier, and keeps its addresses and routes
    #[arg(long)]
    down: bool,
    /// Drop frames whose addresses are not the port's
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    guard: Option<bool>,
    /// Learn at most this many addresses on the port, up to 1048576; 0 ends the limit
    #[arg(long, value_name = "N")]
    fdb_max_learned: Option<u64>,
    #[command(flatten)]
    flags: Flags,
    /// Path cost in the spanning tree, 1 to 200000000 [default: 100]
    #[arg(long, value_name = "N")]
    cost: Option<u32>,
    /// Port priority in the spanning tree, 0 to 60 in steps of 4 [default: 32]
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// Only hosts are behind the port, so that it forwards at once [default: auto]
    #[arg(long, value_name = "auto|on|off", hide_possible_values = true)]
    edge: Option<EdgeSetting>,
    /// Disable the port when a BPDU comes in, until its link was down (BPDU guard)
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    bpdu_guard: Option<bool>,
    /// Never let the port become the root port of the spanning tree (root guard)
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    root_block: Option<bool>,
    #[command(flatten)]
    vlans: VlanArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    impairment: ImpairArgs,
    /// Print JSON, as `uswitch port show --json` does
    #[arg(long)]
    json: bool,
}

/// The settings of `bridge link set` that are on or off.
#[derive(Debug, clap::Args)]
struct Flags {
    /// Learn source addresses [default: on]
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    learning: Option<bool>,
    /// Flood unknown unicast to the port [default: on]
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    flood: Option<bool>,
    /// Flood multicast to the port [default: on]
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    mcast_flood: Option<bool>,
    /// Flood broadcast to the port [default: on]
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    bcast_flood: Option<bool>,
    /// Exchange no frames with other isolated ports [default: off]
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    isolated: Option<bool>,
    /// Let frames leave on the port that they came in on [default: off]
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    hairpin: Option<bool>,
    /// Accept only frames from addresses that `uswitch fdb` has on this port [default: off]
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    locked: Option<bool>,
    /// Be a hub for this port: learn nothing from it, and flood its frames [default: off]
    #[arg(long, value_name = "on|off",
          value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    hub: Option<bool>,
}

impl PortSet {
    fn settings(self) -> PortSettings {
        let admin_state = match (self.up, self.down) {
            (true, _) => Some(AdminState::Up),
            (_, true) => Some(AdminState::Down),
            _ => None,
        };
        let Flags { learning, flood, mcast_flood, bcast_flood, isolated, hairpin, locked, hub } = self.flags;
        PortSettings {
            guard: self.guard,
            fdb_max_learned: self.fdb_max_learned,
            admin_state,
            learning,
            flood,
            mcast_flood,
            bcast_flood,
            isolated,
            hairpin,
            locked,
            hub,
            cost: self.cost,
            priority: self.priority,
            edge: self.edge,
            bpdu_guard: self.bpdu_guard,
            root_block: self.root_block,
            vlan: self.vlans.into(),
            limits: (&self.limits).into(),
            impairment: (&self.impairment).into(),
        }
    }

    pub(super) fn run(self) -> Result<(), CliError> {
        let (client, path, as_json) = (self.target.client()?, format!("/v1/ports/{}", self.port), self.json);
        let port: PortReport = client.patch(&path, &self.settings())?;
        if as_json { output::json(&port) } else { output::print(&ports_table(&[port])) }
    }
}
