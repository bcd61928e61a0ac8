//! `uswitch port set`: changes settings of a port.

use clap_complete::ArgValueCompleter;

use crate::control::report::{AdminState, EdgeSetting, PortReport, PortSettings, UplinkMode};
use crate::switch::{PortFlag, with_port_flags};

use super::complete;
use super::error::CliError;
use super::impair::ImpairArgs;
use super::labels::LabelArgs;
use super::limit::LimitArgs;
use super::output;
use super::port::{port_name, ports_table};
use super::target::Target;
use super::values::{OnOff, describe_on_off, mask, on_off};
use super::vlan_args::VlanArgs;

/// The options of which one is needed, without the flags.
const SETTINGS: [&str; 32] = [
    "up",
    "down",
    "guard",
    "fdb_max_learned",
    "group_fwd_mask",
    "mcast_router",
    "mcast_fast_leave",
    "mcast_max_groups",
    "cost",
    "priority",
    "edge",
    "bpdu_guard",
    "root_block",
    "access",
    "trunk",
    "native",
    "uplink_mode",
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
    "label",
    "no_label",
];

/// Change settings of a port
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("settings").required(true).multiple(true)
        .args(SETTINGS).args(PortFlag::ALL.iter().map(|flag| flag.name())),
    mut_args = describe_on_off
)]
pub(super) struct PortSetArgs {
    #[command(flatten)]
    target: Target,
    /// Name of the port
    #[arg(value_name = "PORT", value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    port: String,
    /// Set the port up again
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// Set the port down: the device loses its carrier, and keeps its addresses and routes
    #[arg(long)]
    down: bool,
    /// Drop frames whose addresses are not the port's
    #[arg(long, value_parser = OnOff)]
    guard: Option<bool>,
    /// Learn at most this many addresses on the port, up to 1048576; 0 removes the limit
    #[arg(long, value_name = "N")]
    fdb_max_learned: Option<u64>,
    #[command(flatten)]
    flags: FlagArgs,
    /// Reserved group addresses 01:80:C2:00:00:0X to forward from the port, as a mask with bit X, besides those of
    /// `start --group-fwd-mask`. Bit 0: forward its BPDUs past the spanning tree [default: 0]
    #[arg(long, value_name = "MASK", value_parser = mask)]
    group_fwd_mask: Option<u64>,
    /// Whether there is a multicast router behind the port: 0 never, 1 learned from its messages, 2 always [default: 1]
    #[arg(long, value_name = "0|1|2")]
    mcast_router: Option<u8>,
    /// End the membership of a multicast group with the first leave, without a query: for a port with one host
    /// [default: off]
    #[arg(long, value_parser = OnOff)]
    mcast_fast_leave: Option<bool>,
    /// Join at most this many multicast groups on the port, up to 4096; 0 removes the limit [default: 1024]
    #[arg(long, value_name = "N")]
    mcast_max_groups: Option<u64>,
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
    #[arg(long, value_parser = OnOff)]
    bpdu_guard: Option<bool>,
    /// Never let the port become the root port of the spanning tree (root guard)
    #[arg(long, value_parser = OnOff)]
    root_block: Option<bool>,
    #[command(flatten)]
    vlans: VlanArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    impairment: ImpairArgs,
    #[command(flatten)]
    labels: LabelArgs,
    /// MAC addresses that the network behind an existing device sees: with ipvlan one for all hosts of the switch
    #[arg(long, value_name = "MODE")]
    uplink_mode: Option<UplinkMode>,
    /// Print JSON, as `uswitch port show --json` does
    #[arg(long)]
    json: bool,
}

macro_rules! flag_options {
    ($($flag:ident, $name:ident, $default:literal, $text:literal;)+) => {
        /// The settings of `bridge link set` that are on or off.
        #[derive(Debug, clap::Args)]
        struct FlagArgs {
            $(#[arg(long, value_parser = OnOff, help = format!("{} [default: {}]", $text, on_off($default)))]
            $name: Option<bool>,)+
        }

        impl FlagArgs {
            fn put_into(self, settings: &mut PortSettings) {
                $(settings.$name = self.$name;)+
            }
        }
    };
}
with_port_flags!(flag_options);

impl PortSetArgs {
    fn settings(self) -> PortSettings {
        let admin_state = match (self.up, self.down) {
            (true, _) => Some(AdminState::Up),
            (_, true) => Some(AdminState::Down),
            _ => None,
        };
        let mut settings = PortSettings {
            guard: self.guard,
            fdb_max_learned: self.fdb_max_learned,
            admin_state,
            group_fwd_mask: self.group_fwd_mask,
            mcast_router: self.mcast_router,
            mcast_fast_leave: self.mcast_fast_leave,
            mcast_max_groups: self.mcast_max_groups,
            cost: self.cost,
            priority: self.priority,
            edge: self.edge,
            bpdu_guard: self.bpdu_guard,
            root_block: self.root_block,
            vlan: self.vlans.into(),
            uplink_mode: self.uplink_mode,
            labels: self.labels.into(),
            limits: (&self.limits).into(),
            impairment: (&self.impairment).into(),
            ..PortSettings::default()
        };
        self.flags.put_into(&mut settings);
        settings
    }

    pub(super) fn run(self) -> Result<(), CliError> {
        let (client, path, as_json) = (self.target.client()?, format!("/v1/ports/{}", self.port), self.json);
        let port: PortReport = client.patch(&path, &self.settings())?;
        if as_json { output::json(&port) } else { output::print(&ports_table(&[port])) }
    }
}
