//! The options of a switch as typed: the flags of `uswitch start`, and the keys of a configuration file.
//! [`super::Config`] is made of them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;

use super::config::{ConfigError, EngineChoice, FastPathChoice, StpMode};
use super::report::{NewMirror, PortSettings};
use crate::switch::vlan::VlanProtocol;

/// An option that was not given is `None` or empty. [`super::Config::new`] has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Name of the switch and of its device on the host.
    pub name: Option<String>,
    /// Number of containers to create, 0 to 4095.
    pub ports: Option<u64>,
    /// Name the containers PREFIX1, PREFIX2, ...
    pub prefix: Option<String>,
    /// Label of the switch, KEY=VALUE; may be repeated.
    pub label: Vec<String>,
    /// Existing device of this network namespace that becomes a port; may be repeated.
    pub device: Vec<String>,
    /// Unix socket that becomes a port: PATH, and then ,listen or ,type=TYPE or ,name=PORT or ,remote=PATH; may be
    /// repeated.
    pub socket: Vec<String>,
    /// IPv4 or IPv6 subnet; may be repeated. The gateway gets the first address, container N the Nth after it.
    pub subnet: Vec<String>,
    /// Masquerade packets from the containers to other networks (NAT).
    pub nat: Option<bool>,
    /// Serve DHCP and DHCPv6 at the gateway.
    pub dhcp: Option<bool>,
    /// How long a DHCP client has its address, in seconds, 10 to 31536000.
    pub dhcp_lease: Option<u64>,
    /// Addresses of a DHCP client, by its MAC address or its port, as in 02:00:5e:00:53:07,172.16.0.50; may be
    /// repeated.
    pub dhcp_host: Vec<String>,
    /// Addresses for DHCP clients in a subnet, first and last, as in 172.16.0.100-172.16.0.199; may be repeated.
    pub dhcp_range: Vec<String>,
    /// Send router advertisements, of which hosts without an assigned IPv6 address make theirs (SLAAC).
    pub ra: Option<bool>,
    /// Serve DNS at the gateway's addresses: answer for container names, forward other queries to the host's resolvers.
    pub dns: Option<bool>,
    /// Domain of the containers' names.
    pub domain: Option<String>,
    /// Publish ports of a container on the host, as in 8080:container1:80; may be repeated.
    pub publish: Vec<String>,
    /// Create no host port: the containers reach only each other.
    pub internal: Option<bool>,
    /// Drop frames of containers with a source address, ARP or neighbour discovery that is not theirs, and messages
    /// of DHCP servers and routers.
    pub guard: Option<bool>,
    /// Block a port on which frames of other ports come back, for 1 s and longer each time.
    pub loop_detection: Option<bool>,
    /// Be a hub: learn nothing, and flood every frame.
    pub hub: Option<bool>,
    /// Send frames to a multicast group only to ports that have joined it (IGMP and MLD snooping), where there is a
    /// querier.
    pub mcast_snooping: Option<bool>,
    /// Query the hosts for their groups while there is no other multicast querier.
    pub mcast_querier: Option<bool>,
    /// Omit the gateway: pure layer 2, without subnets unless --subnet is given.
    pub no_gateway: Option<bool>,
    /// Gateway address in its subnet, may be repeated.
    pub gateway: Vec<String>,
    /// First four octets of the MAC addresses, like 02:de:a5:ad; the other two are the port number.
    pub mac_prefix: Option<String>,
    /// MTU of the devices in bytes, 68 (1280 with IPv6) to 65521.
    pub mtu: Option<u64>,
    /// Number of worker threads, 1 to 64.
    pub workers: Option<u64>,
    /// I/O engine.
    pub engine: Option<EngineChoice>,
    /// Kernel fast path.
    pub fast_path: Option<FastPathChoice>,
    /// Disable checksum and segmentation offload (TSO/USO).
    pub no_offload: Option<bool>,
    /// Pin the workers to these CPUs, as in 1 or 2-5,8, or 'any' to let the scheduler move them.
    pub cpus: Option<String>,
    /// Busy-poll this many microseconds before sleeping, up to 1000000; as root, also keep idle CPUs out of deep
    /// sleep.
    pub busy_poll: Option<u64>,
    /// Remove a learned address after this many seconds without a frame from it, 1 to 1000000.
    pub ageing_time: Option<u64>,
    /// Maximum number of entries in the forwarding database, 16 to 1048576.
    pub fdb_max: Option<u64>,
    /// Reserved group addresses 01:80:C2:00:00:0X to forward, as a mask with bit X, like 0x4008 for LLDP and 802.1X.
    pub group_fwd_mask: Option<u64>,
    /// The spanning tree: RSTP, STP, or off.
    pub stp: Option<StpMode>,
    /// Bridge priority of the spanning tree, 0 to 61440 in steps of 4096.
    pub priority: Option<u64>,
    /// Hello time of the spanning tree in seconds, 1 to 10.
    pub hello_time: Option<u64>,
    /// Max age of the spanning tree in seconds, 6 to 40.
    pub max_age: Option<u64>,
    /// Forward delay of the spanning tree in seconds, 4 to 30.
    pub forward_delay: Option<u64>,
    /// Keep VLANs apart: classify frames by their 802.1Q tags, and send them only to ports of their VLAN.
    pub vlan_filtering: Option<bool>,
    /// The protocol of the VLAN tags: 802.1Q or 802.1ad.
    pub vlan_protocol: Option<VlanProtocol>,
    /// The VLAN of a new port, 1 to 4094, or 0 for none.
    pub vlan_default_pvid: Option<u64>,
    /// Count the frames of each port in each VLAN, and not only of each VLAN.
    pub vlan_stats_per_port: Option<bool>,
    /// Addresses of the gateway in a VLAN, as in 10=172.16.10.1/24; may be repeated. The host routes between these
    /// VLANs.
    pub vlan_gateway: Vec<String>,
    /// Transmit queue length of the containers' devices in frames, 1 to 1000000.
    pub txqueuelen: Option<u64>,
    /// The longest super-frame of a container or the host in bytes, 65536 to 524280 (BIG TCP).
    pub gso_max_size: Option<u64>,
    /// Serve Prometheus metrics at http://ADDRESS:PORT/metrics, on a loopback address.
    pub metrics: Option<String>,
    /// Log ports and links (-v), and API requests too (-vv).
    pub verbose: u8,
    /// Run in the background: return when the switch forwards.
    pub detach: Option<bool>,
    /// Settings of ports by name, as in `[port.container2]`; only in a file.
    pub port: BTreeMap<String, PortSettings>,
    /// Port mirrors, each in a table `[[mirror]]`; only in a file.
    pub mirror: Vec<NewMirror>,
}

impl Options {
    /// These options. An option that is not given is taken from `other`.
    #[must_use]
    #[allow(clippy::too_many_lines, reason = "a line for each option")]
    pub fn or(self, other: Options) -> Options {
        Options {
            name: self.name.or(other.name),
            ports: self.ports.or(other.ports),
            prefix: self.prefix.or(other.prefix),
            label: if self.label.is_empty() { other.label } else { self.label },
            device: if self.device.is_empty() { other.device } else { self.device },
            socket: if self.socket.is_empty() { other.socket } else { self.socket },
            subnet: if self.subnet.is_empty() { other.subnet } else { self.subnet },
            nat: self.nat.or(other.nat),
            dhcp: self.dhcp.or(other.dhcp),
            dhcp_lease: self.dhcp_lease.or(other.dhcp_lease),
            dhcp_host: if self.dhcp_host.is_empty() { other.dhcp_host } else { self.dhcp_host },
            dhcp_range: if self.dhcp_range.is_empty() { other.dhcp_range } else { self.dhcp_range },
            ra: self.ra.or(other.ra),
            dns: self.dns.or(other.dns),
            domain: self.domain.or(other.domain),
            publish: if self.publish.is_empty() { other.publish } else { self.publish },
            internal: self.internal.or(other.internal),
            guard: self.guard.or(other.guard),
            loop_detection: self.loop_detection.or(other.loop_detection),
            hub: self.hub.or(other.hub),
            mcast_snooping: self.mcast_snooping.or(other.mcast_snooping),
            mcast_querier: self.mcast_querier.or(other.mcast_querier),
            no_gateway: self.no_gateway.or(other.no_gateway),
            gateway: if self.gateway.is_empty() { other.gateway } else { self.gateway },
            mac_prefix: self.mac_prefix.or(other.mac_prefix),
            mtu: self.mtu.or(other.mtu),
            workers: self.workers.or(other.workers),
            engine: self.engine.or(other.engine),
            fast_path: self.fast_path.or(other.fast_path),
            no_offload: self.no_offload.or(other.no_offload),
            cpus: self.cpus.or(other.cpus),
            busy_poll: self.busy_poll.or(other.busy_poll),
            ageing_time: self.ageing_time.or(other.ageing_time),
            fdb_max: self.fdb_max.or(other.fdb_max),
            group_fwd_mask: self.group_fwd_mask.or(other.group_fwd_mask),
            stp: self.stp.or(other.stp),
            priority: self.priority.or(other.priority),
            hello_time: self.hello_time.or(other.hello_time),
            max_age: self.max_age.or(other.max_age),
            forward_delay: self.forward_delay.or(other.forward_delay),
            vlan_filtering: self.vlan_filtering.or(other.vlan_filtering),
            vlan_protocol: self.vlan_protocol.or(other.vlan_protocol),
            vlan_default_pvid: self.vlan_default_pvid.or(other.vlan_default_pvid),
            vlan_stats_per_port: self.vlan_stats_per_port.or(other.vlan_stats_per_port),
            vlan_gateway: if self.vlan_gateway.is_empty() { other.vlan_gateway } else { self.vlan_gateway },
            txqueuelen: self.txqueuelen.or(other.txqueuelen),
            gso_max_size: self.gso_max_size.or(other.gso_max_size),
            metrics: self.metrics.or(other.metrics),
            verbose: if self.verbose > 0 { self.verbose } else { other.verbose },
            detach: self.detach.or(other.detach),
            port: if self.port.is_empty() { other.port } else { self.port },
            mirror: if self.mirror.is_empty() { other.mirror } else { self.mirror },
        }
    }
}

/// A configuration file that was read and has only known keys.
#[derive(Debug, Clone)]
pub struct OptionsFile {
    /// The options in the file.
    pub options: Options,
    path: PathBuf,
    /// The keys, each with its line.
    lines: Vec<(String, usize)>,
}

/// Longest configuration file that is read, in bytes.
const LONGEST_FILE: u64 = 64 * 1024;

impl OptionsFile {
    /// Reads a TOML file.
    pub fn read(path: &Path) -> Result<OptionsFile, ConfigError> {
        let refused = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(refused)?;
        let size = file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(refused)?;
        if size as u64 > LONGEST_FILE {
            return Err(refused(std::io::Error::other(
                "it is longer than 64 KiB, so it is not a configuration file",
            )));
        }
        OptionsFile::parse(path, &text)
    }

    /// Parses `text`, the contents of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<OptionsFile, ConfigError> {
        let at_line = |error: &toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let (number, line) = line_at(text, start);
            let key = line.split_once('=').map_or("", |(key, _)| key.trim());
            let message = plain(error.message());
            let names_key = key.is_empty() || message.starts_with(&format!("'{key}'"));
            ConfigError::Syntax {
                path: path.to_owned(),
                line: number,
                key: if names_key { String::new() } else { format!("{key}: ") },
                message,
            }
        };
        let options = toml::from_str(text).map_err(|error| at_line(&error))?;
        let table = DeTable::parse(text).map_err(|error| at_line(&error))?;
        let lines = table
            .get_ref()
            .keys()
            .map(|key| (key.get_ref().to_string(), line_at(text, key.span().start).0))
            .collect();
        Ok(OptionsFile { options, path: path.to_owned(), lines })
    }

    /// Where the file sets `key`, as `FILE:LINE: key`.
    pub(super) fn place_of(&self, key: &str) -> Option<String> {
        let (_, line) = self.lines.iter().find(|(name, _)| name == key)?;
        Some(format!("{}:{line}: {key}", self.path.display()))
    }
}

/// A message of the TOML reader in the words of the command line's errors.
fn plain(message: &str) -> String {
    let message = message.replace('\n', " ");
    let listed = |list: &str| -> Vec<String> {
        list.split(", ").map(|word| word.trim_matches('`').to_owned()).collect()
    };
    let quoted = |prefix: &str| {
        let (typed, words) = message.strip_prefix(prefix)?.split_once("`, expected ")?;
        // Two words are joined by "or".
        Some((typed, words.trim_start_matches("one of ").replace(" or ", ", ")))
    };
    if let Some((typed, keys)) = quoted("unknown field `") {
        let nearest = listed(&keys).into_iter().min_by_key(|key| strsim::damerau_levenshtein(typed, key));
        let nearest = nearest.filter(|key| strsim::jaro(typed, key) > SIMILAR);
        let advice = nearest.map_or_else(
            || format!("the options are {}", listed(&keys).join(", ")),
            |key| format!("did you mean '{key}'?"),
        );
        return format!("'{typed}' is not an option, {advice}");
    }
    if let Some((typed, values)) = quoted("unknown variant `") {
        return format!("'{typed}' is not one of {}", listed(&values).join(", "));
    }
    match message.strip_prefix("invalid type: ").and_then(|types| types.split_once(", expected ")) {
        Some((found, wanted)) => wrong_type(found, wanted),
        None => match message.strip_prefix("invalid value: integer `-").and_then(|rest| rest.split_once('`'))
        {
            Some((digits, _)) => format!("-{digits} is out of range: it must not be negative"),
            None => message,
        },
    }
}

/// Words above this similarity are suggested, as clap does.
const SIMILAR: f64 = 0.7;

/// A value of another type than `wanted`, which is serde's name of it.
fn wrong_type(found: &str, wanted: &str) -> String {
    let value = found.split_once(' ').map_or(found, |(_, value)| value);
    let value = value.trim_end_matches(" as i128").trim_matches(['"', '`']);
    if wanted == "u64" && value.parse::<i128>().is_ok() && found.starts_with("integer") {
        return format!("{value} is out of range");
    }
    let wanted = match wanted {
        "u64" | "u8" | "u16" | "u32" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list, as in ['10.0.0.0/24']",
        "a string" => "a text in quotes",
        other => other,
    };
    format!("'{value}' is not {wanted}")
}

/// The number (from 1) and the text of the line that has the byte at `offset`.
fn line_at(text: &str, offset: usize) -> (usize, &str) {
    let before = text.get(..offset).unwrap_or(text);
    let number = before.matches('\n').count();
    (number + 1, text.lines().nth(number).unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<OptionsFile, String> {
        OptionsFile::parse(Path::new("lab.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn file_accepts_the_values_of_the_flags() {
        let file = parse("ports = 3\nsubnet = ['10.0.0.0/24']\nnat = true\nengine = 'poll'\nmtu = 9000\n");
        let options = file.unwrap().options;
        assert_eq!(options.ports, Some(3));
        assert_eq!(options.subnet, ["10.0.0.0/24"]);
        assert_eq!((options.nat, options.internal), (Some(true), None));
        assert_eq!(options.engine, Some(EngineChoice::Poll));
    }

    #[test]
    fn flags_override_file_options() {
        let flags = Options { ports: Some(5), nat: Some(false), ..Options::default() };
        let file = parse("ports = 3\nnat = true\nsubnet = ['10.0.0.0/24']").unwrap().options;
        let both = flags.or(file);
        assert_eq!((both.ports, both.nat), (Some(5), Some(false)));
        assert_eq!(both.subnet, ["10.0.0.0/24"]);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        assert_eq!(parse("ports = 3\nmtu = 'big'\n").unwrap_err(), "lab.toml:2: mtu: 'big' is not a number");
        let unknown = parse("# lab\n\nprots = 3\n").unwrap_err();
        assert_eq!(unknown, "lab.toml:3: 'prots' is not an option, did you mean 'ports'?");
        assert_eq!(parse("nat = 3").unwrap_err(), "lab.toml:1: nat: '3' is not true or false");
        let list = parse("subnet = '10.0.0.0/24'").unwrap_err();
        assert_eq!(list, "lab.toml:1: subnet: '10.0.0.0/24' is not a list, as in ['10.0.0.0/24']");
        let negative = parse("ports = -1").unwrap_err();
        assert_eq!(negative, "lab.toml:1: ports: -1 is out of range: it must not be negative");
        let huge = parse("ports = 99999999999999999999").unwrap_err();
        assert_eq!(huge, "lab.toml:1: ports: 99999999999999999999 is out of range");
        assert_eq!(parse("name = 3").unwrap_err(), "lab.toml:1: name: '3' is not a text in quotes");
        let engine = parse("engine = 'dpdk'").unwrap_err();
        assert!(engine.starts_with("lab.toml:1: engine: 'dpdk' is not one of auto, uring, poll"), "{engine}");
        let syntax = parse("ports = 3\nmtu = = 4\n").unwrap_err();
        assert!(syntax.starts_with("lab.toml:2: mtu: ") && !syntax.contains('\n'), "{syntax}");
        assert!(parse("ports 3").unwrap_err().starts_with("lab.toml:1: "));
    }

    #[test]
    fn rejects_unreadable_file() {
        let error = OptionsFile::read(Path::new("/nonexistent/lab.toml")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/lab.toml: "), "{error}");
        let endless = OptionsFile::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(endless.contains("64 KiB"), "{endless}");
    }

    #[test]
    fn places() {
        let file = parse("\n# the MTU\nmtu = 1\n").unwrap();
        assert_eq!(file.place_of("mtu").as_deref(), Some("lab.toml:3: mtu"));
        assert_eq!(file.place_of("ports"), None);
    }
}
