//! The checked configuration of a switch: every [`Config`] is valid.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::addressing;
use super::format::counted;
use super::log::LogLevel;
use super::options::{Options, OptionsFile};
use crate::datapath::{BusyPoll, Placement, allowed_cpus};
use crate::switch::Ports;

/// Which engine to move frames with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
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

/// A switch to start. [`Config::new`] has checked every value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the switch and of its host port's device (an interface name: at most 15 bytes).
    pub name: String,
    /// Number of containers to create.
    pub ports: u16,
    /// Containers are `<prefix>1`, `<prefix>2`, ...
    pub prefix: String,
    /// In each subnet the first address is the gateway's by default, and container N has the (N+1)th.
    pub subnets: Vec<IpNet>,
    /// The gateway's address in each subnet that has one.
    pub gateways: Vec<IpNet>,
    /// What the switch chooses itself if its default is in use.
    pub choose: Choose,
    /// Masquerade packets to other networks.
    pub nat: bool,
    /// No host port.
    pub internal: bool,
    /// Whether frames of containers are dropped if their addresses are not the port's.
    pub guard: bool,
    /// MTU of every device, 68 (IPv4; 1280 with IPv6 subnets) to 65521 (the kernel's limit for a TAP).
    pub mtu: u32,
    /// Worker threads.
    pub workers: usize,
    /// Engine to use.
    pub engine: EngineChoice,
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
    /// Transmit queue length of the devices; none for the kernel's default.
    pub txqueuelen: Option<u32>,
    /// Loopback address of the metrics, which the API serves too.
    pub metrics: Option<SocketAddr>,
    /// Log level at the start.
    pub log: LogLevel,
}

/// Values that a switch with another name than the default chooses itself if their defaults are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choose {
    /// The prefix of the containers' names.
    pub prefix: bool,
    /// The subnets.
    pub subnets: bool,
}

impl Choose {
    /// A switch with another name than the default is likely the second one.
    fn new(name: &str, options: &Options) -> Choose {
        let second = name != DEFAULT_NAME;
        Choose { prefix: second && options.prefix.is_none(), subnets: second && options.subnet.is_empty() }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /** Which file. */
        path: PathBuf,
        /** The kernel's error. */
        source: std::io::Error,
    },
    /// The file is not TOML, has an unknown key, or a value of the wrong type.
    #[error("{}:{line}: {key}{message}", path.display())]
    Syntax {
        /** Which file. */
        path: PathBuf,
        /** Which line, from 1. */
        line: usize,
        /** The key and a colon, or nothing. */
        key: String,
        /** What is wrong. */
        message: String,
    },
    /// An invalid value.
    #[error("{place}: {why}")]
    Invalid {
        /** The flag, or the file, line and key. */
        place: String,
        /** What is wrong, and what to do. */
        why: InvalidValue,
    },
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// Not a name for a device.
    #[error(
        "'{0}' cannot name a network device: use 1 to 15 letters, digits, '.', '_' or '-', and start with a letter or digit"
    )]
    DeviceName(String),
    /// Not a name for a container.
    #[error(
        "'{0}' cannot name a container: use 1 to 63 letters, digits, '.', '_' or '-', start with a letter or digit, and \
         do not use 'host'"
    )]
    ContainerName(String),
    /// Out of range.
    #[error("{value} is out of range: choose {from} to {to}{because}")]
    Range {
        /** As typed. */
        value: u64,
        /** Lowest. */
        from: u64,
        /** Highest. */
        to: u64,
        /** Source of the limit. */
        because: &'static str,
    },
    /// Not a subnet.
    #[error("'{0}' is not a subnet: write one like 10.1.0.0/24 or fd00:10:1::/64")]
    SubnetSyntax(String),
    /// Bits are set after the prefix.
    #[error("{0} is an address: write its subnet, {1}")]
    HostBits(IpNet, IpNet),
    /// Hosts cannot have addresses in it.
    #[error(
        "{0} has addresses that hosts cannot have: choose a private subnet like 10.1.0.0/24 or fd00:10:1::/64"
    )]
    SpecialSubnet(IpNet),
    /// Two of the subnets have addresses in common.
    #[error("{0} and {1} overlap: choose subnets that have no address in common")]
    Overlap(IpNet, IpNet),
    /// More than the limit.
    #[error("{0} subnets are too many: give at most {MOST_SUBNETS}")]
    TooManySubnets(usize),
    /// The subnet has no room for the containers.
    #[error("{subnet} has {} besides the gateway's, for {ports} containers: {advice}", addresses(*fits))]
    TooSmall {
        /** The subnet. */
        subnet: IpNet,
        /** Containers that fit. */
        fits: u64,
        /** Requested containers. */
        ports: u16,
        /** A subnet that is large enough, or fewer ports. */
        advice: String,
    },
    /// Not a loopback address.
    #[error("'{0}' is not a loopback address with a port: write one like 127.0.0.1:9477 or [::1]:9477")]
    NotLoopback(String),
    /// Not CPUs.
    #[error("'{0}' is not a list of CPUs: write one like 1 or 2-5,8, or 'any'")]
    CpuListSyntax(String),
    /// A CPU that does not exist, or that this process may not use.
    #[error("CPU {0} is not available: this process may use {1:?}")]
    CpuNotAllowed(usize, Vec<usize>),
    /// Not an address.
    #[error("'{0}' is not an IP address: use an address of a subnet, without a prefix length")]
    GatewaySyntax(String),
    /// Not a host address of a subnet.
    #[error("{0} is not a host address in any subnet of the switch: choose one that is, or add its --subnet")]
    GatewayOutside(IpAddr),
    /// A container has the address.
    #[error("{0} is the address of container {1}: choose the first address or one after the containers'")]
    GatewayOfContainer(IpAddr, u16),
    /// Options that need a gateway.
    #[error("'no-gateway' excludes 'gateway' and 'nat': give only one of them")]
    NoGateway,
    /// `--nat` with `--internal`.
    #[error("NAT needs the host port, which 'internal' omits: give only one of them")]
    NatWithoutHostPort,
}

fn addresses(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "address")
}

/// Maximum number of subnets.
const MOST_SUBNETS: usize = 16;
/// Longest container name: also a host name (RFC 1123 §2.1, one label).
const LONGEST_CONTAINER_NAME: usize = 63;
/// Longest interface name: `IFNAMSIZ` less the final zero.
const LONGEST_DEVICE_NAME: usize = 15;
/// The largest MTU of a TAP: 65535 less the Ethernet header (`drivers/net/tun.c`, `MAX_MTU`).
pub const LARGEST_MTU: u32 = 65521;
/// The smallest IPv4 MTU (RFC 791).
pub const SMALLEST_MTU: u32 = 68;
/// The smallest IPv6 MTU (RFC 8200 §5).
pub const SMALLEST_MTU_V6: u32 = 1280;

/// The default name of a switch.
pub const DEFAULT_NAME: &str = "uswitch0";

/// Name of the host port; no container has it.
pub const HOST: &str = "host";

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

    /// The name of container `n`, from 1.
    pub fn container(&self, n: u16) -> String {
        format!("{}{n}", self.prefix)
    }

    /// The smallest MTU that the subnets allow.
    pub fn smallest_mtu(&self) -> u32 {
        smallest_mtu(&self.subnets)
    }
}

impl Options {
    /// Whether the option `key` is given; only for options that can be invalid.
    fn sets(&self, key: &str) -> bool {
        match key {
            "name" => self.name.is_some(),
            "ports" => self.ports.is_some(),
            "prefix" => self.prefix.is_some(),
            "subnet" => !self.subnet.is_empty(),
            "nat" => self.nat.is_some(),
            "gateway" => !self.gateway.is_empty(),
            "mtu" => self.mtu.is_some(),
            "workers" => self.workers.is_some(),
            "cpus" => self.cpus.is_some(),
            "busy-poll" => self.busy_poll.is_some(),
            "ageing-time" => self.ageing_time.is_some(),
            "fdb-max" => self.fdb_max.is_some(),
            "group-fwd-mask" => self.group_fwd_mask.is_some(),
            "metrics" => self.metrics.is_some(),
            "txqueuelen" => self.txqueuelen.is_some(),
            _ => false,
        }
    }
}

type Checked<T> = Result<T, (&'static str, InvalidValue)>;

fn check(options: Options) -> Checked<Config> {
    let name = options.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
    device_name(&name).map_err(|why| ("name", why))?;
    let ports = number("ports", options.ports, 2, 0..=MOST_PORTS)?;
    let choose = Choose::new(&name, &options);
    let (subnets, gateways) = address_plan(&options, ports)?;
    let prefix = options.prefix.unwrap_or_else(|| "container".to_owned());
    let longest = if prefix.is_empty() { String::new() } else { format!("{prefix}{MOST_PORTS}") };
    // Names of digits alone would be process IDs where a namespace is named.
    container_name(&longest).map_err(|_| ("prefix", InvalidValue::ContainerName(prefix.clone())))?;
    let (nat, internal) = (options.nat.unwrap_or(false), options.internal.unwrap_or(false));
    if nat && internal {
        return Err(("nat", InvalidValue::NatWithoutHostPort));
    }
    Ok(Config {
        gateways,
        name,
        ports,
        prefix,
        choose,
        nat,
        internal,
        // Without subnets the containers have no assigned addresses to which they could be bound.
        guard: options.guard.unwrap_or(!subnets.is_empty()),
        mtu: options.mtu.map_or(Ok(1500), |mtu| self::mtu(mtu, &subnets)).map_err(|why| ("mtu", why))?,
        workers: number("workers", options.workers, default_workers(cpus()), 1..=64)?,
        engine: options.engine.unwrap_or_default(),
        offload: !options.no_offload.unwrap_or(false),
        placement: options.cpus.map_or(Ok(Placement::default()), placement)?,
        busy_poll: busy_poll(options.busy_poll, cpus())?,
        ageing_time: Duration::from_secs(number("ageing-time", options.ageing_time, 300, 1..=1_000_000)?),
        fdb_max: number("fdb-max", options.fdb_max, 8192, 16..=1 << 20)?,
        group_fwd_mask: number("group-fwd-mask", options.group_fwd_mask, 0, 0..=0xffff)?,
        metrics: options.metrics.map(metrics).transpose()?,
        log: log_level(options.verbose),
        txqueuelen: match options.txqueuelen {
            Some(_) => Some(number("txqueuelen", options.txqueuelen, 1, 1..=1_000_000)?),
            None => None,
        },
        subnets,
    })
}

const fn log_level(verbose: u8) -> LogLevel {
    match verbose {
        0 => LogLevel::Off,
        1 => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// Metrics are served to this machine only. Others use a proxy or ssh.
fn metrics(text: String) -> Checked<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() && address.port() != 0 => Ok(address),
        _ => Err(("metrics", InvalidValue::NotLoopback(text))),
    }
}

/// Maximum number of containers: one port is the host's.
const MOST_PORTS: u64 = Ports::MAX as u64 - 1;

fn number<T: TryFrom<u64>>(
    key: &'static str,
    typed: Option<u64>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Checked<T> {
    let value = typed.unwrap_or(default);
    let refused = InvalidValue::Range { value, from: *range.start(), to: *range.end(), because: "" };
    match T::try_from(value) {
        Ok(number) if range.contains(&value) => Ok(number),
        _ => Err((key, refused)),
    }
}

/// An MTU for devices with addresses in `subnets`.
pub fn mtu(value: u64, subnets: &[IpNet]) -> Result<u32, InvalidValue> {
    let smallest = smallest_mtu(subnets);
    match u32::try_from(value) {
        Ok(mtu) if (smallest..=LARGEST_MTU).contains(&mtu) => Ok(mtu),
        _ => Err(InvalidValue::Range {
            value,
            from: smallest.into(),
            to: LARGEST_MTU.into(),
            because: match value < u64::from(smallest) {
                true if smallest == SMALLEST_MTU_V6 => " (the minimum of IPv6; 68 without IPv6)",
                true => " (the minimum of IPv4)",
                false => " (the kernel's maximum for a TAP device)",
            },
        }),
    }
}

fn smallest_mtu(subnets: &[IpNet]) -> u32 {
    if subnets.iter().any(|subnet| matches!(subnet, IpNet::V6(_))) { SMALLEST_MTU_V6 } else { SMALLEST_MTU }
}

/// The subnets and the gateway's address in each.
fn address_plan(options: &Options, ports: u16) -> Checked<(Vec<IpNet>, Vec<IpNet>)> {
    let subnets = subnets(options, ports).map_err(|why| ("subnet", why))?;
    let gateways = gateways(options, &subnets, ports).map_err(|why| ("gateway", why))?;
    Ok((subnets, gateways))
}

/// The gateway's address in each subnet: the given one, or the first.
fn gateways(options: &Options, subnets: &[IpNet], ports: u16) -> Result<Vec<IpNet>, InvalidValue> {
    let none = options.no_gateway.unwrap_or(false);
    if none && (!options.gateway.is_empty() || options.nat.unwrap_or(false)) {
        return Err(InvalidValue::NoGateway);
    }
    let parse = |text: &String| text.parse().map_err(|_| InvalidValue::GatewaySyntax(text.clone()));
    let given = options.gateway.iter().map(parse).collect::<Result<Vec<IpAddr>, _>>()?;
    if let Some(outside) = given.iter().find(|ip| !subnets.iter().any(|subnet| subnet.contains(*ip))) {
        return Err(InvalidValue::GatewayOutside(*outside));
    }
    // Without a host port nothing is behind a gateway.
    let served = subnets.iter().filter(|_| !none && !options.internal.unwrap_or(false));
    served.map(|subnet| gateway_in(*subnet, &given, ports)).collect()
}

fn gateway_in(subnet: IpNet, given: &[IpAddr], ports: u16) -> Result<IpNet, InvalidValue> {
    let first = addressing::gateway(subnet);
    let address = given.iter().find(|ip| subnet.contains(*ip)).copied().unwrap_or(first);
    let of = |n: u16| addressing::host_address(subnet, n.into()).map(|host| host.addr());
    if let Some(n) = (1..=ports).find(|n| of(*n) == Some(address)) {
        return Err(InvalidValue::GatewayOfContainer(address, n));
    }
    if !addressing::is_host_address(subnet, address) {
        return Err(InvalidValue::GatewayOutside(address));
    }
    IpNet::new(address, subnet.prefix_len()).map_err(|_| InvalidValue::GatewayOutside(address))
}

fn subnets(options: &Options, ports: u16) -> Result<Vec<IpNet>, InvalidValue> {
    let typed = &options.subnet;
    if typed.is_empty() {
        return Ok(if options.no_gateway.unwrap_or(false) { Vec::new() } else { default_subnets(ports) });
    }
    if typed.len() > MOST_SUBNETS {
        return Err(InvalidValue::TooManySubnets(typed.len()));
    }
    let mut subnets: Vec<IpNet> = Vec::with_capacity(typed.len());
    for text in typed {
        let subnet = subnet(text, ports)?;
        if let Some(other) = subnets.iter().find(|other| other.contains(&subnet) || subnet.contains(*other)) {
            return Err(InvalidValue::Overlap(*other, subnet));
        }
        subnets.push(subnet);
    }
    Ok(subnets)
}

/// 172.16.0.0/24, or wider if the ports need it, and fd00:172:16::/64.
fn default_subnets(ports: u16) -> Vec<IpNet> {
    let v4 = ipnet::Ipv4Net::new_assert([172, 16, 0, 0].into(), 24);
    let v6 = ipnet::Ipv6Net::new_assert([0xfd00, 0x172, 0x16, 0, 0, 0, 0, 0].into(), 64);
    let v4 = addressing::widened(v4.into(), ports.into()).unwrap_or(v4.into());
    vec![v4, v6.into()]
}

fn subnet(text: &str, ports: u16) -> Result<IpNet, InvalidValue> {
    let subnet: IpNet = text.parse().map_err(|_| InvalidValue::SubnetSyntax(text.to_owned()))?;
    if subnet.addr() != subnet.network() {
        return Err(InvalidValue::HostBits(subnet, subnet.trunc()));
    }
    if is_special(subnet) {
        return Err(InvalidValue::SpecialSubnet(subnet));
    }
    let fits = addressing::max_hosts(subnet);
    if fits < u64::from(ports) {
        let wider = addressing::widened(subnet, ports.into()).filter(|wider| !is_special(*wider));
        let advice = wider.map_or("create fewer".to_owned(), |wider| format!("use {wider}, or create fewer"));
        return Err(InvalidValue::TooSmall { subnet, fits, ports, advice });
    }
    Ok(subnet)
}

/// Has addresses that no host can have: "this network", loopback, multicast, class E, IPv6 link-local
/// (each IPv6 device makes its own; RFC 6890).
pub fn is_special(subnet: IpNet) -> bool {
    let touches = |special: &str| {
        special.parse::<IpNet>().is_ok_and(|special| special.contains(&subnet) || subnet.contains(&special))
    };
    ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"].into_iter().any(touches)
}

/// Measured on two CPUs: two workers lower the rate of small frames by a tenth, and help several TCP streams
/// in some runs only. More than four are idle.
fn default_workers(cpus: usize) -> u64 {
    if cpus <= 3 { 1 } else { (cpus as u64 / 2).min(4) }
}

/// CPUs that the process may use.
fn placement(text: String) -> Checked<Placement> {
    let Ok(placement) = text.parse() else { return Err(("cpus", InvalidValue::CpuListSyntax(text))) };
    let allowed = allowed_cpus();
    match &placement {
        Placement::On(cpus) => match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(other) => Err(("cpus", InvalidValue::CpuNotAllowed(*other, allowed))),
            None => Ok(placement),
        },
        Placement::Auto | Placement::Any => Ok(placement),
    }
}

/// On a single CPU, a polling worker would take the CPU from the senders.
fn busy_poll(typed: Option<u64>, cpus: usize) -> Checked<BusyPoll> {
    let for_so_long = |us| BusyPoll::For(Duration::from_micros(us));
    match typed {
        None if cpus > 1 => Ok(BusyPoll::Adaptive),
        typed => number("busy-poll", typed, 0, 0..=1_000_000).map(for_so_long),
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whether `name` can name a device (Linux `net/core/dev.c`, `dev_valid_name`, and no character that a shell, a path or
/// a URL would take for something else).
pub fn device_name(name: &str) -> Result<(), InvalidValue> {
    let fits = name.len() <= LONGEST_DEVICE_NAME && is_plain(name);
    if fits { Ok(()) } else { Err(InvalidValue::DeviceName(name.to_owned())) }
}

/// Whether `name` can name a container, its port and its namespace.
pub fn container_name(name: &str) -> Result<(), InvalidValue> {
    let fits = name.len() <= LONGEST_CONTAINER_NAME && is_plain(name) && name != HOST;
    if fits { Ok(()) } else { Err(InvalidValue::ContainerName(name.to_owned())) }
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(edit: impl FnOnce(&mut Options)) -> Result<Config, String> {
        let mut options = Options::default();
        edit(&mut options);
        Config::new(options, None).map_err(|error| error.to_string())
    }

    fn refusal(edit: impl FnOnce(&mut Options)) -> String {
        config(edit).unwrap_err()
    }

    fn subnets_of(subnets: &[&str], ports: u64) -> Result<Config, String> {
        config(|options| {
            options.subnet = subnets.iter().map(ToString::to_string).collect();
            options.ports = Some(ports);
        })
    }

    #[test]
    fn defaults() {
        let config = config(|_| {}).unwrap();
        assert_eq!(
            (config.name.as_str(), config.ports, config.prefix.as_str()),
            ("uswitch0", 2, "container")
        );
        assert_eq!(config.subnets, default_subnets(2));
        assert_eq!((config.mtu, config.fdb_max, config.txqueuelen), (1500, 8192, None));
        assert_eq!(config.ageing_time, Duration::from_secs(300));
        assert!(config.offload && !config.nat && !config.internal);
        assert_eq!(config.container(2), "container2");
        let gateways: Vec<_> = config.gateways().map(|gateway| gateway.to_string()).collect();
        assert_eq!(gateways, ["172.16.0.1", "fd00:172:16::1"]);
    }

    #[test]
    fn default_workers_by_cpu_count() {
        let by_cpus = [1, 2, 3, 4, 6, 8, 64].map(default_workers);
        assert_eq!(by_cpus, [1, 1, 1, 2, 3, 4, 4]);
    }

    #[test]
    fn busy_polls_adaptively_with_more_than_one_cpu() {
        let (never, adaptive) = (BusyPoll::For(Duration::ZERO), BusyPoll::Adaptive);
        assert_eq!([1, 2, 64].map(|cpus| busy_poll(None, cpus).unwrap()), [never, adaptive, adaptive]);
        assert_eq!(busy_poll(Some(0), 2).unwrap(), never);
        assert_eq!(busy_poll(Some(70), 1).unwrap(), BusyPoll::For(Duration::from_micros(70)));
    }

    #[test]
    fn rejects_invalid_names() {
        for name in ["", "a/b", "a b", "0123456789abcdef", "-x", ".", "..", "a:b", "é", "a\n"] {
            assert!(refusal(|o| o.name = Some(name.into())).starts_with("--name: "), "{name}");
        }
        assert!(config(|o| o.name = Some("0123456789.b_c-".into())).is_ok());
        assert!(refusal(|o| o.prefix = Some("x".repeat(60))).starts_with("--prefix: "));
        assert!(refusal(|o| o.prefix = Some("a/".into())).starts_with("--prefix: "));
        assert!(refusal(|o| o.prefix = Some(String::new())).starts_with("--prefix: '' cannot name"));
        assert!(refusal(|o| o.prefix = Some("-".into())).starts_with("--prefix: '-' cannot name"));
        assert!(container_name("host").is_err() && container_name("host1").is_ok());
    }

    #[test]
    fn rejects_values_out_of_range() {
        assert_eq!(refusal(|o| o.ports = Some(4096)), "--ports: 4096 is out of range: choose 0 to 4095");
        assert_eq!(refusal(|o| o.workers = Some(0)), "--workers: 0 is out of range: choose 1 to 64");
        assert!(refusal(|o| o.workers = Some(65)).starts_with("--workers: "));
        assert!(refusal(|o| o.cpus = Some("x".into())).starts_with("--cpus: 'x' is not a list of CPUs: "));
        assert!(refusal(|o| o.cpus = Some("1023".into())).starts_with("--cpus: CPU 1023 is not available"));
        assert!(refusal(|o| o.busy_poll = Some(1_000_001)).starts_with("--busy-poll: "));
        assert!(refusal(|o| o.ageing_time = Some(0)).starts_with("--ageing-time: "));
        assert!(refusal(|o| o.fdb_max = Some(15)).starts_with("--fdb-max: "));
        assert!(refusal(|o| o.fdb_max = Some((1 << 20) + 1)).starts_with("--fdb-max: "));
        assert_eq!(config(|o| o.fdb_max = Some(1 << 20)).unwrap().fdb_max, 1 << 20);
        assert!(refusal(|o| o.txqueuelen = Some(0)).starts_with("--txqueuelen: "));
        assert!(refusal(|o| o.ports = Some(u64::MAX)).starts_with("--ports: "));
    }

    #[test]
    fn mtu_range_depends_on_ipv6() {
        assert_eq!(
            refusal(|o| o.mtu = Some(65522)),
            "--mtu: 65522 is out of range: choose 1280 to 65521 (the kernel's maximum for a TAP device)"
        );
        assert!(refusal(|o| o.mtu = Some(1279)).contains("IPv6"));
        let v4 = |mtu| {
            config(|o| {
                o.subnet = vec!["10.0.0.0/24".into()];
                o.mtu = Some(mtu);
            })
        };
        assert!(v4(68).is_ok() && v4(65521).is_ok());
        assert!(v4(67).unwrap_err().contains("IPv4"));
    }

    #[test]
    fn small_subnet_error_suggests_one_that_fits() {
        assert_eq!(
            subnets_of(&["10.0.0.0/30"], 3).unwrap_err(),
            "--subnet: 10.0.0.0/30 has 1 address besides the gateway's, for 3 containers: \
             use 10.0.0.0/29, or create fewer"
        );
        assert!(subnets_of(&["10.0.0.0/29"], 3).is_ok());
        assert!(subnets_of(&["10.0.0.0/31"], 1).is_ok() && subnets_of(&["10.0.0.0/32"], 0).is_ok());
        assert!(subnets_of(&["10.0.0.0/32", "fd00::/64"], 1).is_err());
    }

    #[test]
    fn default_subnet_grows_with_ports() {
        let thousand = config(|o| o.ports = Some(1000)).unwrap();
        assert_eq!(thousand.subnets[0].to_string(), "172.16.0.0/22");
        assert_eq!(config(|o| o.ports = Some(4095)).unwrap().subnets[0].to_string(), "172.16.0.0/19");
    }

    #[test]
    fn rejects_invalid_subnets() {
        assert!(subnets_of(&["10.0.0.0/33"], 1).unwrap_err().contains("is not a subnet"));
        assert!(subnets_of(&["10.0.0.0"], 1).unwrap_err().contains("is not a subnet"));
        assert_eq!(
            subnets_of(&["10.0.0.5/24"], 1).unwrap_err(),
            "--subnet: 10.0.0.5/24 is an address: write its subnet, 10.0.0.0/24"
        );
        for special in
            ["127.0.0.0/8", "224.0.0.0/8", "0.0.0.0/0", "fe80::/64", "ff02::/64", "::/0", "240.0.0.0/24"]
        {
            assert!(
                subnets_of(&[special], 1).unwrap_err().contains("has addresses that hosts cannot have"),
                "{special}"
            );
        }
        for pair in
            [["10.0.0.0/24", "10.0.0.0/24"], ["10.0.0.0/16", "10.0.5.0/24"], ["fd00::/64", "fd00::/48"]]
        {
            assert!(subnets_of(&pair, 1).unwrap_err().contains("overlap"), "{pair:?}");
        }
        assert!(subnets_of(&["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"], 1).is_ok());
        let many: Vec<String> = (0..17).map(|n| format!("10.{n}.0.0/24")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(subnets_of(&many, 1).unwrap_err().contains("at most 16"));
    }

    #[test]
    fn rejects_metrics_address_off_loopback() {
        let on = |address: &str| config(|o| o.metrics = Some(address.into()));
        assert_eq!(on("127.0.0.1:9477").unwrap().metrics, "127.0.0.1:9477".parse().ok());
        assert!(on("[::1]:9477").is_ok() && on("127.9.9.9:1").is_ok());
        for address in ["0.0.0.0:9477", "[::]:9477", "192.0.2.1:9477", "127.0.0.1", "9477", "127.0.0.1:0", ""]
        {
            let refused = on(address).unwrap_err();
            assert!(refused.starts_with("--metrics: ") && refused.contains("127.0.0.1:9477"), "{refused}");
        }
    }

    #[test]
    fn rejects_nat_with_internal() {
        let both = refusal(|o| (o.nat, o.internal) = (Some(true), Some(true)));
        assert!(both.starts_with("--nat: "), "{both}");
        assert!(config(|o| (o.nat, o.internal) = (Some(false), Some(true))).is_ok());
    }

    #[test]
    fn invalid_value_error_names_its_source() {
        let file = || OptionsFile::parse(Path::new("lab.toml"), "# a lab\nmtu = 3\n").unwrap();
        let error = Config::new(Options::default(), Some(file())).unwrap_err().to_string();
        assert!(error.starts_with("lab.toml:2: mtu: 3 is out of range"), "{error}");
        let flags = Options { mtu: Some(4), ..Options::default() };
        let error = Config::new(flags, Some(file())).unwrap_err().to_string();
        assert!(error.starts_with("--mtu: 4 is out of range"), "{error}");
        let flags = Options { mtu: Some(9000), ..Options::default() };
        assert_eq!(Config::new(flags, Some(file())).unwrap().mtu, 9000);
    }
}
