//! The checked configuration of a switch: every [`Config`] is valid.

mod dhcp;
mod dns;
mod error;
mod labels;
mod mirrors;
mod mtu;
mod names;
mod port_settings;
mod published;
mod router_advertisements;
mod sockets;
pub(crate) mod spanning_tree;
mod subnets;
#[cfg(test)]
mod tests;
mod vlan_gateways;
mod workers;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::dhcp::{DhcpHost, DhcpHostClient};
pub use self::error::{ConfigError, InvalidValue};
pub(crate) use self::labels::{ALIAS_LABEL, LONGEST_VALUE};
pub use self::labels::{LabelChanges, Labels, changed_labels, check_labels, has_label, label};
pub use self::mirrors::mirror;
pub use self::mtu::{LARGEST_MTU, SMALLEST_MTU, SMALLEST_MTU_V6, mtu};
pub use self::names::{
    DEFAULT_NAME, HOST, container_name, device_name, is_host_port, vlan_host_port, vlan_of_host_port,
};
pub(crate) use self::port_settings::mcast_settings;
pub use self::port_settings::{port_settings, port_vlans};
pub use self::published::{NamedPublishedPort, published_port};
pub(crate) use self::router_advertisements::uses_advertisements;
pub use self::sockets::{NamedSocket, check_socket, name_of_socket};
pub use self::spanning_tree::StpMode;
pub use self::subnets::is_special;
pub use self::vlan_gateways::VlanGateway;

use self::mtu::smallest_mtu;
use self::subnets::address_plan;
use self::vlan_gateways::vlan_gateways;
use self::workers::{busy_poll, cpus, default_workers, placement};
use super::addressing::MacPrefix;
use super::log::LogLevel;
use super::options::{Options, OptionsFile};
use super::report::{NewMirror, NewPort, PortSettings};
use crate::datapath::{BusyPoll, Placement};
use crate::switch::stp::BridgeConfig;
use crate::switch::{Ports, Vid, VlanSettings};

/// Which engine to move frames with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// io_uring where the kernel has what it needs, else poll
    #[default]
    Auto,
    /// io_uring, or fail
    Uring,
    /// epoll with read and write
    Poll,
}

/// Whether the kernel forwards known unicast and floods itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FastPathChoice {
    /// The workers forward everything
    Off,
    /// Where the kernel has what it needs, and it saves something
    #[default]
    Auto,
    /// Yes, or fail
    On,
}

/// A switch to start. [`Config::new`] has checked every value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the switch and of its host port's device (an interface name: at most 15 bytes).
    pub name: String,
    /// Number of containers to create.
    pub ports: u16,
    /// Containers are `<prefix>1`, `<prefix>2`, ...
    pub prefix: String,
    /// Labels of the switch.
    pub labels: Labels,
    /// Existing devices that become ports, with their own names.
    pub devices: Vec<String>,
    /// Sockets that become ports.
    pub sockets: Vec<NamedSocket>,
    /// In each subnet the first address is the gateway's by default, and container N has the (N+1)th.
    pub subnets: Vec<IpNet>,
    /// The gateway's address in each subnet that has one.
    pub gateways: Vec<IpNet>,
    /// The first octets of the MAC addresses.
    pub mac_prefix: MacPrefix,
    /// What the switch chooses itself when it starts.
    pub choose: Choose,
    /// Masquerade packets to other networks.
    pub nat: bool,
    /// How long a DHCP client has its address, in seconds; `None`: DHCP is not served.
    pub dhcp_lease: Option<u32>,
    /// The addresses that are reserved for DHCP clients.
    pub dhcp_hosts: Vec<DhcpHost>,
    /// First and last address for DHCP clients, in each subnet that has such a range.
    pub dhcp_ranges: Vec<(IpAddr, IpAddr)>,
    /// Whether the gateways send router advertisements.
    pub ra: bool,
    /// Whether DNS is served at the gateway.
    pub dns: bool,
    /// The domain of the containers' names.
    pub domain: String,
    /// The ports that are published when the switch starts.
    pub publish: Vec<NamedPublishedPort>,
    /// No host port.
    pub internal: bool,
    /// Whether frames of containers are dropped if their addresses are not the port's.
    pub guard: bool,
    /// Whether ports on which frames of other ports come back are blocked.
    pub loop_detection: bool,
    /// Whether the ports of containers are those of a hub.
    pub hub: bool,
    /// Send frames to a group only to its members, where there is a querier.
    pub mcast_snooping: bool,
    /// Be the multicast querier while there is no other.
    pub mcast_querier: bool,
    /// MTU of every device, 68 (IPv4; 1280 with IPv6 subnets) to 65521 (the kernel's limit for a TAP).
    pub mtu: u32,
    /// Worker threads.
    pub workers: usize,
    /// Engine to use.
    pub engine: EngineChoice,
    /// Whether there is a kernel fast path.
    pub fast_path: FastPathChoice,
    /// Use checksum and segmentation offload.
    pub offload: bool,
    /// CPUs of the workers.
    pub placement: Placement,
    /// How long a worker polls for frames before it sleeps.
    pub busy_poll: BusyPoll,
    /// Lifetime of a learned address without a frame from it.
    pub ageing_time: Duration,
    /// Maximum number of entries in the forwarding database.
    pub fdb_max: usize,
    /// The reserved group addresses 01:80:C2:00:00:0X to forward: bit X. BPDUs (bit 0) always are.
    pub group_fwd_mask: u16,
    /// The spanning tree, if there is one. Its MAC address is known when the switch starts.
    pub stp: Option<BridgeConfig>,
    /// VLANs.
    pub vlans: VlanSettings,
    /// The VLANs with a gateway of their own.
    pub vlan_gateways: Vec<VlanGateway>,
    /// Transmit queue length of the devices; none for the kernel's default.
    pub txqueuelen: Option<u32>,
    /// The longest super-frame of the devices of the fast path; none for the kernel's default.
    pub gso_max_size: Option<u32>,
    /// Loopback address of the metrics, which the API serves too.
    pub metrics: Option<SocketAddr>,
    /// Log level at the start.
    pub log: LogLevel,
    /// Settings of the ports with these names, from when they are added.
    pub port_settings: BTreeMap<String, PortSettings>,
    /// The port mirrors, once the ports exist.
    pub mirrors: Vec<NewMirror>,
}

/// Values that the switch chooses itself when it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choose {
    /// The prefix of the containers' names, if the default is in use and the switch is not the default one.
    pub prefix: bool,
    /// The subnets, if one of the default ones is in use and the switch is not the default one.
    pub subnets: bool,
    /// The first octets of the MAC addresses.
    pub mac_prefix: bool,
}

impl Choose {
    /// A switch with another name than the default is likely the second one.
    fn new(name: &str, options: &Options) -> Choose {
        let second = name != DEFAULT_NAME;
        Choose {
            prefix: second && options.prefix.is_none(),
            subnets: second && options.subnet.is_empty(),
            mac_prefix: options.mac_prefix.is_none(),
        }
    }
}

impl Config {
    /// Checks the options: those of the command line, then those of the file, then the defaults.
    pub fn new(flags: Options, file: Option<OptionsFile>) -> Result<Config, ConfigError> {
        let typed = flags.clone();
        let words = flags.or(file.as_ref().map(|file| file.options.clone()).unwrap_or_default());
        check(words).map_err(|(key, why)| {
            let in_file = file.filter(|_| !typed.sets(key)).and_then(|file| file.place_of(key));
            ConfigError::Invalid { place: in_file.unwrap_or_else(|| format!("--{key}")), why }
        })
    }

    /// The gateway's address in each subnet.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.gateways.iter().map(IpNet::addr)
    }

    /// The gateway of a VLAN that has one of its own.
    pub fn vlan_gateway(&self, vid: Vid) -> Option<&VlanGateway> {
        self.vlan_gateways.iter().find(|gateway| gateway.vid == vid)
    }

    /// The addresses of the gateways by the VLAN (0: those of the switch, whose VLAN is that of its host port).
    pub fn gateways_by_vlan(&self) -> BTreeMap<u16, Vec<IpAddr>> {
        let of = |addresses: &[IpNet]| addresses.iter().map(IpNet::addr).collect();
        let of_vlans = self.vlan_gateways.iter().map(|own| (own.vid.get(), of(&own.addresses)));
        of_vlans.chain([(0, of(&self.gateways))]).collect()
    }

    /// The addresses of all gateways.
    pub fn all_gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let of_vlans = self.vlan_gateways.iter().flat_map(|gateway| &gateway.addresses);
        self.gateways.iter().chain(of_vlans).map(IpNet::addr)
    }

    /// The subnets of the switch, and those of its VLANs.
    pub fn all_subnets(&self) -> impl Iterator<Item = IpNet> + '_ {
        let of_vlans = self.vlan_gateways.iter().flat_map(VlanGateway::subnets);
        self.subnets.iter().copied().chain(of_vlans)
    }

    /// The name of container `n`, from 1.
    pub fn container(&self, n: u16) -> String {
        format!("{}{n}", self.prefix)
    }

    /// The ports on existing devices and on sockets.
    pub fn attached_ports(&self) -> Vec<NewPort> {
        let device = |device: &String| NewPort { device: Some(device.clone()), ..NewPort::default() };
        let socket = |NamedSocket { port, socket }: &NamedSocket| NewPort {
            name: Some(port.clone()),
            socket: Some(socket.clone()),
            ..NewPort::default()
        };
        self.devices.iter().map(device).chain(self.sockets.iter().map(socket)).collect()
    }

    /// The smallest MTU that the subnets allow.
    pub fn smallest_mtu(&self) -> u32 {
        smallest_mtu(&self.all_subnets().collect::<Vec<_>>())
    }
}

impl Options {
    /// Whether the option `key` is given; only for options that can be invalid.
    #[allow(clippy::too_many_lines, reason = "a line for each option")]
    fn sets(&self, key: &str) -> bool {
        match key {
            "name" => self.name.is_some(),
            "ports" => self.ports.is_some(),
            "prefix" => self.prefix.is_some(),
            "label" => !self.label.is_empty(),
            "device" => !self.device.is_empty(),
            "socket" => !self.socket.is_empty(),
            "subnet" => !self.subnet.is_empty(),
            "nat" => self.nat.is_some(),
            "dhcp" => self.dhcp.is_some(),
            "dhcp-lease" => self.dhcp_lease.is_some(),
            "dhcp-host" => !self.dhcp_host.is_empty(),
            "dhcp-range" => !self.dhcp_range.is_empty(),
            "ra" => self.ra.is_some(),
            "dns" => self.dns.is_some(),
            "domain" => self.domain.is_some(),
            "publish" => !self.publish.is_empty(),
            "mcast-querier" => self.mcast_querier.is_some(),
            "gateway" => !self.gateway.is_empty(),
            "mac-prefix" => self.mac_prefix.is_some(),
            "mtu" => self.mtu.is_some(),
            "workers" => self.workers.is_some(),
            "cpus" => self.cpus.is_some(),
            "busy-poll" => self.busy_poll.is_some(),
            "ageing-time" => self.ageing_time.is_some(),
            "fdb-max" => self.fdb_max.is_some(),
            "group-fwd-mask" => self.group_fwd_mask.is_some(),
            "vlan-default-pvid" => self.vlan_default_pvid.is_some(),
            "vlan-stats-per-port" => self.vlan_stats_per_port.is_some(),
            "vlan-gateway" => !self.vlan_gateway.is_empty(),
            "metrics" => self.metrics.is_some(),
            "port" => !self.port.is_empty(),
            "mirror" => !self.mirror.is_empty(),
            "stp" => self.stp.is_some(),
            "priority" => self.priority.is_some(),
            "hello-time" => self.hello_time.is_some(),
            "max-age" => self.max_age.is_some(),
            "forward-delay" => self.forward_delay.is_some(),
            "txqueuelen" => self.txqueuelen.is_some(),
            "gso-max-size" => self.gso_max_size.is_some(),
            _ => false,
        }
    }
}

/// Stands for the MAC prefix that the switch chooses when it starts.
const PLACEHOLDER_MAC_PREFIX: &str = "02:00:00:00";

type Checked<T> = Result<T, (&'static str, InvalidValue)>;

#[allow(clippy::too_many_lines, reason = "a line for each setting")]
fn check(options: Options) -> Checked<Config> {
    let name = name(&options)?;
    let ports = number("ports", options.ports, 2, 0..=MOST_PORTS)?;
    let choose = Choose::new(&name, &options);
    let (subnets, gateways) = address_plan(&options, ports)?;
    let (nat, internal) = nat(&options)?;
    let publish = published::publish(&options)?;
    let dhcp_lease = dhcp::lease_time(&options)?;
    let (dns, domain) = (dns::is_on(&options)?, dns::domain(&options, &name)?);
    let (mcast_snooping, mcast_querier) = multicast(&options)?;
    let (stp, vlans) = (spanning_tree::bridge(&options)?, vlans(&options)?);
    let vlan_gateways = vlan_gateways(&options, &name, &vlans, &subnets)?;
    let all_subnets: Vec<IpNet> =
        subnets.iter().copied().chain(vlan_gateways.iter().flat_map(VlanGateway::subnets)).collect();
    let of_vlans = vlan_gateways.iter().flat_map(|gateway| &gateway.addresses);
    let all_gateways: Vec<IpAddr> = gateways.iter().chain(of_vlans).map(IpNet::addr).collect();
    let dhcp_hosts = dhcp::hosts(&options, &all_subnets, &all_gateways)?;
    let dhcp_ranges = dhcp::ranges(&options, &all_subnets)?;
    let ra = router_advertisements::are_sent(&options, &all_subnets)?;
    Ok(Config {
        gateways,
        mac_prefix: mac_prefix(options.mac_prefix.as_deref().unwrap_or(PLACEHOLDER_MAC_PREFIX))?,
        name,
        ports,
        prefix: prefix(options.prefix)?,
        choose,
        labels: labels(&options.label)?,
        sockets: sockets::sockets(&options.socket, &options.device)?,
        devices: devices(options.device)?,
        nat,
        dhcp_lease,
        dhcp_hosts,
        dhcp_ranges,
        ra,
        dns,
        domain,
        publish,
        internal,
        // Without subnets the containers have no assigned addresses to which they could be bound.
        guard: options.guard.unwrap_or(!subnets.is_empty()),
        loop_detection: options.loop_detection.unwrap_or(stp.is_none()),
        stp,
        hub: options.hub.unwrap_or(false),
        mcast_snooping,
        mcast_querier,
        mtu: options.mtu.map_or(Ok(1500), |mtu| self::mtu(mtu, &all_subnets)).map_err(|why| ("mtu", why))?,
        workers: number("workers", options.workers, default_workers(cpus()), 1..=64)?,
        engine: options.engine.unwrap_or_default(),
        fast_path: options.fast_path.unwrap_or_default(),
        offload: !options.no_offload.unwrap_or(false),
        placement: options.cpus.map_or(Ok(Placement::default()), placement)?,
        busy_poll: busy_poll(options.busy_poll, cpus())?,
        ageing_time: ageing_time(options.ageing_time.unwrap_or(300)).map_err(|why| ("ageing-time", why))?,
        fdb_max: number("fdb-max", options.fdb_max, 8192, 16..=FDB_MOST)?,
        group_fwd_mask: number("group-fwd-mask", options.group_fwd_mask, 0, 0..=0xffff)?,
        vlan_gateways,
        metrics: options.metrics.map(metrics).transpose()?,
        log: log_level(options.verbose),
        port_settings: port_settings::of_file(options.port)?,
        mirrors: mirrors::of_file(options.mirror, &vlans)?,
        txqueuelen: txqueuelen(options.txqueuelen)?,
        gso_max_size: gso_max_size(options.gso_max_size, options.fast_path)?,
        subnets,
        vlans,
    })
}

/// The name of the switch, which is that of the host port's device, too.
fn name(options: &Options) -> Checked<String> {
    let name = options.name.as_deref().unwrap_or(DEFAULT_NAME);
    device_name(name).map_err(|why| ("name", why))?;
    Ok(name.to_owned())
}

/// Each device becomes a port of its name.
fn devices(typed: Vec<String>) -> Checked<Vec<String>> {
    for (n, device) in typed.iter().enumerate() {
        device_name(device).and_then(|()| container_name(device)).map_err(|why| ("device", why))?;
        if typed[..n].contains(device) {
            return Err(("device", InvalidValue::DeviceTwice(device.clone())));
        }
    }
    Ok(typed)
}

fn prefix(typed: Option<String>) -> Checked<String> {
    let prefix = typed.unwrap_or_else(|| "container".to_owned());
    let longest = if prefix.is_empty() { String::new() } else { format!("{prefix}{MOST_PORTS}") };
    // Names of digits alone would be process IDs where a namespace is named.
    match container_name(&longest) {
        Ok(()) => Ok(prefix),
        Err(_) => Err(("prefix", InvalidValue::ContainerName(prefix))),
    }
}

fn nat(options: &Options) -> Checked<(bool, bool)> {
    let (nat, internal) = (options.nat.unwrap_or(false), options.internal.unwrap_or(false));
    if nat && internal { Err(("nat", InvalidValue::NatWithoutHostPort)) } else { Ok((nat, internal)) }
}

/// Whether to snoop, and whether to be the querier.
fn multicast(options: &Options) -> Checked<(bool, bool)> {
    let (snooping, querier) =
        (options.mcast_snooping.unwrap_or(true), options.mcast_querier.unwrap_or(false));
    match (snooping, querier) {
        (false, true) => Err(("mcast-querier", InvalidValue::QuerierWithoutSnooping)),
        both => Ok(both),
    }
}

fn vlans(options: &Options) -> Checked<VlanSettings> {
    let filtering = options.vlan_filtering.unwrap_or(false);
    let default_pvid = number("vlan-default-pvid", options.vlan_default_pvid, 1, 0..=Vid::MAX.into())?;
    let stats_per_port = options.vlan_stats_per_port.unwrap_or(false);
    if stats_per_port && !filtering {
        return Err(("vlan-stats-per-port", InvalidValue::NoVlanFiltering));
    }
    let stp = options.stp.is_some_and(|mode| mode != StpMode::Off);
    for (name, settings) in &options.port {
        let why = match &settings.vlan {
            Some(_) if !filtering => InvalidValue::NoVlanFiltering,
            Some(vlans) if stp && !vlans.state.is_empty() => InvalidValue::StateWithStp,
            _ => continue,
        };
        return Err(("port", InvalidValue::OfPort { name: name.clone(), why: Box::new(why) }));
    }
    Ok(VlanSettings {
        filtering,
        protocol: options.vlan_protocol.unwrap_or_default(),
        default_pvid: Vid::new(default_pvid),
        stats_per_port,
    })
}

fn labels(typed: &[String]) -> Checked<Labels> {
    let labels = typed.iter().map(|text| label(text)).collect::<Result<Labels, _>>();
    labels.and_then(|labels| check_labels(&labels).map(|()| labels)).map_err(|why| ("label", why))
}

fn txqueuelen(typed: Option<u64>) -> Checked<Option<u32>> {
    typed.map(|length| number("txqueuelen", Some(length), 1, 1..=1_000_000)).transpose()
}

/// More than 65536 bytes is BIG TCP (Linux `GSO_LEGACY_MAX_SIZE` and `GSO_MAX_SIZE`, `include/linux/netdevice.h`).
fn gso_max_size(typed: Option<u64>, fast_path: Option<FastPathChoice>) -> Checked<Option<u32>> {
    match typed {
        Some(_) if fast_path == Some(FastPathChoice::Off) => Err(("gso-max-size", InvalidValue::NoFastPath)),
        size => size.map(|size| number("gso-max-size", Some(size), 65_536, 65_536..=524_280)).transpose(),
    }
}

const fn log_level(verbose: u8) -> LogLevel {
    match verbose {
        0 => LogLevel::Off,
        1 => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

fn mac_prefix(text: &str) -> Checked<MacPrefix> {
    text.parse().map_err(|error| ("mac-prefix", InvalidValue::MacPrefix(error)))
}

/// Metrics are served to this machine only. Others use a proxy or ssh.
fn metrics(text: String) -> Checked<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() && address.port() != 0 => Ok(address),
        _ => Err(("metrics", InvalidValue::NotLoopback(text))),
    }
}

/// Largest forwarding database.
const FDB_MOST: u64 = 1 << 20;
/// Maximum number of containers: one port is the host's.
const MOST_PORTS: u64 = Ports::MAX as u64 - 1;

fn number<T: TryFrom<u64>>(
    key: &'static str,
    typed: Option<u64>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Checked<T> {
    let value = typed.unwrap_or(default);
    match T::try_from(value) {
        Ok(number) if range.contains(&value) => Ok(number),
        _ => Err((key, range_error(value, &range))),
    }
}

fn range_error(value: u64, range: &RangeInclusive<u64>) -> InvalidValue {
    InvalidValue::Range { value, from: *range.start(), to: *range.end(), because: "" }
}

/// Checks an ageing time in seconds.
///
/// # Errors
/// It is out of range.
pub fn ageing_time(seconds: u64) -> Result<Duration, InvalidValue> {
    let range = 1..=1_000_000;
    if range.contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(range_error(seconds, &range))
    }
}

impl Display for EngineChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Uring => "uring",
            EngineChoice::Poll => "poll",
        })
    }
}
