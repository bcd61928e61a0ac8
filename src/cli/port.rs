//! `uswitch port`: shows, adds and deletes ports.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueHint;
use clap_complete::ArgValueCompleter;
use ipnet::IpNet;

use crate::control::config::{self, InvalidValue};
use crate::control::format::counted;
use crate::control::report::{
    AddedPort, NewPort, NewSocket, PortBlock, PortKind, PortReport, SocketType, UplinkHost, UplinkMode,
    UplinkReport,
};
use crate::switch::mdb;
use crate::sys::ethtool;
use crate::wire::Mac;

use super::complete;
use super::error::CliError;
use super::handover::ForeignNetns;
use super::labels::listed;
use super::output::{self, joined, table};
use super::port_set::PortSetArgs;
use super::publish::{PortPublish, PortUnpublish};
use super::target::{PortList, Target, check_ports};
use super::values::{OnOff, describe_on_off, on_off};
use super::vlan_args::VlanArgs;

/// Show, add or delete ports
#[derive(Debug, clap::Args)]
pub(super) struct PortCommand {
    #[command(subcommand)]
    action: PortAction,
}

#[derive(Debug, clap::Subcommand)]
enum PortAction {
    Show(PortShow),
    Add(Box<PortAdd>),
    Set(Box<PortSetArgs>),
    Publish(PortPublish),
    Unpublish(PortUnpublish),
    Del(PortDel),
}

/// Show the ports
#[derive(Debug, clap::Args)]
struct PortShow {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ports: PortList,
    /// Only ports with this label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Option<String>,
    /// Print JSON, as `bridge -j -d link show` does
    #[arg(long)]
    json: bool,
}

/// Add a port: a new container, an existing network namespace, an existing device, or a Unix socket
#[derive(Debug, clap::Args)]
#[command(mut_args = describe_on_off)]
struct PortAdd {
    #[command(flatten)]
    target: Target,
    /// Name of the port and of its container [default: the next free one, or that of the namespace, device or socket]
    #[arg(value_name = "PORT", value_parser = container_name)]
    port: Option<String>,
    /// Attach an existing network namespace: a name of `ip netns`, a path, or a process ID
    #[arg(long, value_name = "NAME|PATH|PID")]
    netns: Option<String>,
    /// Create the device for another program, such as a container runtime, which moves and configures it: down, without
    /// addresses and routes, in the namespace --netns [default: that of this command]. --ip is then what that program
    /// assigns, for --guard
    #[arg(long, conflicts_with_all = ["device", "tap", "socket", "shared_netns"])]
    unmanaged: bool,
    /// Attach an existing device of the switch's network namespace: a network card, the end of a veth pair, a macvtap.
    /// With it, --mac and --ip are those of the host behind it, for --guard
    #[arg(long, value_name = "NAME", conflicts_with_all = ["netns", "ifname", "mtu", "shared_netns"],
          add = ArgValueCompleter::new(complete::devices))]
    device: Option<String>,
    /// Attach an existing TAP device of the switch's network namespace, or of --netns: open it, or, in the former,
    /// exchange frames with the program that has it open. --mac and --ip are as with --device
    #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "ifname", "mtu", "shared_netns"],
          add = ArgValueCompleter::new(complete::devices))]
    tap: Option<String>,
    /// Attach a Unix socket: another switch, a virtual machine or passt. --mac and --ip are as with --device
    #[arg(long, value_name = "PATH", conflicts_with_all = ["netns", "device", "tap", "ifname", "shared_netns"],
          value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// What the socket carries [default: seqpacket]
    #[arg(long, value_name = "TYPE", requires = "socket")]
    socket_type: Option<SocketType>,
    /// Create the socket and wait for a peer, instead of connecting to it
    #[arg(long, requires = "socket")]
    listen: bool,
    /// With --socket-type dgram: path of the peer's socket
    #[arg(long, value_name = "PATH", requires = "socket", value_hint = ValueHint::FilePath)]
    remote: Option<PathBuf>,
    /// MAC addresses that the network behind the device sees: with ipvlan one for all hosts of the switch [default:
    /// bridge]
    #[arg(long, value_name = "MODE", requires = "device")]
    uplink_mode: Option<UplinkMode>,
    /// IP address with prefix length, or `none`; may be repeated [default: the next free one of each subnet]
    #[arg(long, value_name = "CIDR", value_parser = port_address)]
    ip: Vec<PortAddress>,
    /// MAC address of the device [default: the switch's MAC prefix and the port's number]
    #[arg(long)]
    mac: Option<Mac>,
    /// Name of the device in the container [default: eth0; of an unmanaged one `us` and the digits of its MAC address]
    #[arg(long)]
    ifname: Option<String>,
    /// Label of the port; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::label)]
    label: Vec<(String, String)>,
    /// Disable checksum and segmentation offload (TSO/USO)
    #[arg(long)]
    no_offload: bool,
    /// MTU of the device, 68 (1280 with IPv6) to 65521 [default: the switch's]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u64>,
    /// Replace a port of this name: keep its settings if its device is gone, or else only its addresses and labels
    #[arg(long)]
    replace: bool,
    /// Allow a second port in a namespace that already has one of this switch
    #[arg(long)]
    shared_netns: bool,
    /// Drop frames whose addresses are not the port's [default: as the switch; off with --netns, --unmanaged, --device,
    /// --tap, --socket]
    #[arg(long, value_parser = OnOff, num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    guard: Option<bool>,
    #[command(flatten)]
    vlans: VlanArgs,
    /// Print JSON, as `uswitch port show --json` does
    #[arg(long)]
    json: bool,
}

/// Delete ports, and the containers that the switch created for them
#[derive(Debug, clap::Args)]
struct PortDel {
    #[command(flatten)]
    target: Target,
    /// Ports, separated by blanks or commas
    #[arg(value_name = "PORT", required = true, value_delimiter = ',', value_parser = port_name,
        add = ArgValueCompleter::new(complete::ports))]
    ports: Vec<String>,
    /// Keep the TAP devices, with their addresses: `port add --tap` attaches one again, also to another switch
    #[arg(long)]
    keep_device: bool,
}

/// Checks that a port can have this name.
pub(super) fn port_name(name: &str) -> Result<String, InvalidValue> {
    if config::is_host_port(name) { Ok(name.to_owned()) } else { container_name(name) }
}

fn container_name(name: &str) -> Result<String, InvalidValue> {
    config::container_name(name).map(|()| name.to_owned())
}

fn cidr(text: &str) -> Result<IpNet, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not an address with prefix length: write one like 172.16.0.9/24"))
}

impl PortCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            PortAction::Show(show) => show.run(),
            PortAction::Add(add) => add.check_name().and_then(|()| add.run()),
            PortAction::Set(set) => set.run(),
            PortAction::Publish(publish) => publish.run(),
            PortAction::Unpublish(unpublish) => unpublish.run(),
            PortAction::Del(del) => {
                let client = del.target.client()?;
                // All or none of them, as far as names go.
                check_ports(&client, &del.ports)?;
                let query = if del.keep_device { "?keep_device=true" } else { "" };
                del.ports.iter().try_for_each(|port| Ok(client.delete(&format!("/v1/ports/{port}{query}"))?))
            }
        }
    }
}

/// A value of `--ip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortAddress {
    None,
    Net(IpNet),
}

/// The addresses to ask for; `None` leaves the choice to the switch.
fn addresses(values: &[PortAddress]) -> Result<Option<Vec<IpNet>>, CliError> {
    if values.len() > 1 && values.contains(&PortAddress::None) {
        return Err(CliError::Usage("--ip: 'none' excludes addresses: give only one of them".to_owned()));
    }
    let net = |value: &PortAddress| match value {
        PortAddress::None => None,
        PortAddress::Net(net) => Some(*net),
    };
    Ok((!values.is_empty()).then(|| values.iter().filter_map(net).collect()))
}

fn port_address(text: &str) -> Result<PortAddress, String> {
    if text == "none" { Ok(PortAddress::None) } else { cidr(text).map(PortAddress::Net) }
}

impl PortShow {
    fn run(self) -> Result<(), CliError> {
        let (mut ports, shown) = self.ports.list::<PortReport>(&self.target, "/v1/ports")?;
        let is_selected = |port: &PortReport| {
            self.label.as_ref().is_none_or(|label| config::has_label(&port.labels, label))
        };
        ports.retain(|port| shown.has(&port.ifname) && is_selected(port));
        if self.json { output::json(&ports) } else { output::print(&ports_table(&ports)) }
    }
}

impl PortAdd {
    fn run(self) -> Result<(), CliError> {
        let client = self.target.client()?;
        let netns = match self.netns {
            None if self.unmanaged => client.caller_netns()?,
            named => named.map(netns).transpose()?,
        };
        let asked = NewPort {
            name: self.port,
            netns,
            unmanaged: self.unmanaged,
            device: self.device,
            tap: self.tap,
            socket: self
                .socket
                .map(|path| socket(&path, self.socket_type, self.listen, self.remote.as_deref()))
                .transpose()?,
            ip: addresses(&self.ip)?,
            mac: self.mac,
            ifname: self.ifname,
            labels: self.label.into_iter().collect(),
            offload: self.no_offload.then_some(false),
            mtu: self.mtu,
            replace: self.replace,
            shared_netns: self.shared_netns,
            guard: self.guard,
            vlan: self.vlans.into(),
            uplink_mode: self.uplink_mode,
        };
        let foreign = match (&asked.netns, &asked.tap) {
            (Some(netns), _) => ForeignNetns::find(netns, &client)?,
            (None, Some(_)) => ForeignNetns::of_this_process(&client)?,
            (None, None) => None,
        };
        let made: AddedPort = match foreign {
            Some(foreign) => foreign.attach(&client, &asked)?,
            None => client.post("/v1/ports", &asked)?,
        };
        for notice in &made.notices {
            let _ = writeln!(io::stderr(), "uswitch: {notice}");
        }
        if self.json { output::json(&made.port) } else { output::print(&ports_table(&[made.port])) }
    }

    /// `--guard on`: the word after an option without a value is the name.
    fn check_name(&self) -> Result<(), CliError> {
        match (self.guard, self.port.as_deref()) {
            (Some(_), Some(value @ ("on" | "off"))) => {
                Err(CliError::Usage(format!("--guard {value}: write --guard={value}")))
            }
            _ => Ok(()),
        }
    }
}

fn socket(
    path: &Path,
    kind: Option<SocketType>,
    listen: bool,
    remote: Option<&Path>,
) -> Result<NewSocket, CliError> {
    let remote = remote.map(absolute).transpose()?;
    Ok(NewSocket { path: absolute(path)?, kind: kind.unwrap_or_default(), listen, remote })
}

fn netns(named: String) -> Result<String, CliError> {
    if !named.contains('/') {
        return Ok(named);
    }
    Ok(absolute(Path::new(&named))?.display().to_string())
}

/// Makes a path absolute: the switch has another working directory than this process.
fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(CliError::io(format!("find {}", path.display())))
}

pub(super) fn ports_table(ports: &[PortReport]) -> String {
    let has_kinds = ports.iter().any(|port| port.kind != PortKind::Tap);
    let rows = ports.iter().map(|port| {
        [
            port.ifname.clone(),
            state(port),
            device(port, has_kinds),
            port.mtu.to_string(),
            on_off(port.source_guard).to_owned(),
            port.address.to_string(),
            joined(&port.addresses),
            port.netns.clone().unwrap_or_default(),
        ]
    });
    table(["PORT", "STATE", "DEVICE", "MTU", "GUARD", "MAC", "ADDRESSES", "NAMESPACE"], rows)
        + &remarks(ports)
}

fn state(port: &PortReport) -> String {
    if port.operstate == "NOTPRESENT" {
        return "gone".to_owned();
    }
    if let Some(PortBlock { remaining, .. }) = &port.blocked {
        return format!("blocked (loop, {remaining} s left)");
    }
    if let Some(reason) = port.down_reason() {
        return format!("down ({reason})");
    }
    if port.operstate == "UP" && port.state != "forwarding" {
        return port.state.clone();
    }
    let throttled = port.throttled.iter().map(|why| format!(", throttled ({})", why.name()));
    port.operstate.to_lowercase() + &throttled.collect::<String>()
}

/// What the table has no column for, a line each.
fn remarks(ports: &[PortReport]) -> String {
    let settings = ports.iter().filter_map(|port| {
        let changed = changed_settings(port);
        (!changed.is_empty()).then(|| format!("{}: {}\n", port.ifname, changed.join(", ")))
    });
    let faults = ports.iter().filter_map(|port| Some(format!("{}: {}\n", port.ifname, port.fault.as_ref()?)));
    let offloads = ports.iter().filter_map(|port| {
        let disabled = disabled_offloads(port);
        (!disabled.is_empty())
            .then(|| format!("{}: the device has {} off\n", port.ifname, disabled.join(", ")))
    });
    let limits = ports.iter().filter(|port| port.fdb_max_learned > 0).map(|port| {
        let PortReport { ifname, fdb_n_learned, fdb_max_learned, .. } = port;
        format!("{ifname}: {fdb_n_learned} addresses learned, at most {fdb_max_learned}\n")
    });
    let rates = ports.iter().flat_map(|port| {
        port.limits.given().map(|(kind, limit)| format!("{}: {}\n", port.ifname, limit.describe(kind)))
    });
    let impairments = ports
        .iter()
        .filter_map(|port| Some(format!("{}: impaired: {}\n", port.ifname, port.impairment.describe()?)));
    let mirrors =
        ports.iter().filter_map(|port| Some(format!("{}: {}\n", port.ifname, port.mirroring.describe()?)));
    let uplinks = ports.iter().filter_map(|port| Some(uplink(&port.ifname, port.uplink.as_ref()?)));
    let polled = ports.iter().filter(|port| port.polled && port.operstate != "NOTPRESENT").map(|port| {
        format!(
            "{}: changes of its link state, MTU and IP addresses are not visible to this switch\n",
            port.ifname
        )
    });
    let settings = settings.chain(limits).chain(rates).chain(impairments).chain(mirrors).chain(uplinks);
    settings
        .chain(labels(ports))
        .chain(published(ports))
        .chain(unmanaged(ports))
        .chain(slow(ports))
        .chain(faults)
        .chain(offloads)
        .chain(polled)
        .collect()
}

/// Why ports are not in the fast path. Other devices never are.
fn slow(ports: &[PortReport]) -> impl Iterator<Item = String> {
    let own = ports.iter().filter(|port| port.kind == PortKind::Tap);
    own.filter_map(|port| Some(format!("{}: not in the fast path: {}\n", port.ifname, port.slow.as_ref()?)))
}

fn labels(ports: &[PortReport]) -> impl Iterator<Item = String> {
    let labelled = ports.iter().filter(|port| !port.labels.is_empty());
    labelled.map(|port| format!("{}: labels {}\n", port.ifname, listed(&port.labels)))
}

fn published(ports: &[PortReport]) -> impl Iterator<Item = String> {
    let publishing = ports.iter().filter(|port| !port.published.is_empty());
    publishing.map(|port| format!("{}: published {}\n", port.ifname, joined(&port.published)))
}

fn unmanaged(ports: &[PortReport]) -> impl Iterator<Item = String> {
    let unmanaged = ports.iter().filter(|port| port.unmanaged);
    unmanaged.map(|port| format!("{}: another program configures the device\n", port.ifname))
}

/// The hosts that the network behind an uplink knows.
fn uplink(name: &str, report: &UplinkReport) -> String {
    let hosts = report.hosts.iter().map(|host| {
        let UplinkHost { address, mac, ifname } = host;
        format!("{name}:   {address} is {mac} on {ifname}\n")
    });
    let count = counted(report.n_hosts, "address");
    format!("{name}: uplink in mode ipvlan, {count} of hosts\n{}", hosts.collect::<String>())
}

/// The settings of the Linux bridge that are not at their defaults, as `learning off`.
fn changed_settings(port: &PortReport) -> Vec<String> {
    let changed = port.bridge.flags().filter(|(flag, on)| *on != flag.default());
    let flags = changed.map(|(flag, on)| format!("{} {}", flag.name(), on_off(on)));
    let PortReport { bridge, group_fwd_mask, mcast_max_groups, .. } = port;
    let mdb::MdbPortSettings { router, fast_leave, max_groups } = mdb::MdbPortSettings::default();
    let others = [
        (*group_fwd_mask != 0).then(|| format!("group_fwd_mask {group_fwd_mask:#x}")),
        (bridge.mcast_router != router as u8).then(|| format!("mcast_router {}", bridge.mcast_router)),
        (bridge.fastleave != fast_leave).then(|| format!("fastleave {}", on_off(bridge.fastleave))),
        (*mcast_max_groups != max_groups).then(|| format!("mcast_max_groups {mcast_max_groups}")),
    ];
    flags.chain(others.into_iter().flatten()).collect()
}

/// The port's device, with the port's kind if the switch has several.
fn device(port: &PortReport, has_kinds: bool) -> String {
    if has_kinds { format!("{} ({})", port.link, port.kind.name()) } else { port.link.clone() }
}

/// The offloads that a port with offload has, and that its device does not use.
fn disabled_offloads(port: &PortReport) -> Vec<&'static str> {
    let used = |name: &&str| port.offloads.iter().any(|used| used == name);
    // A device that is gone has none.
    let known = port.kind == PortKind::Tap && port.offload && port.operstate != "NOTPRESENT";
    ethtool::names().filter(|name| known && !used(name)).collect()
}
