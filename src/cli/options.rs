//! The options of `uswitch start`, as clap reads them.

use std::collections::BTreeMap;

use clap::ValueHint;
use clap_complete::ArgValueCompleter;

use super::complete;
use super::values::{OnOff, mask, on_without_value};
use crate::control::{EngineChoice, FastPathChoice, Options, StpMode};
use crate::switch::vlan::VlanProtocol;

/// The flags that describe a switch. A configuration file has them as keys.
#[derive(Debug, clap::Args)]
#[command(mut_args = on_without_value)]
pub(super) struct StartOptions {
    /// Name of the switch and of its device on the host [default: uswitch0]
    #[arg(long)]
    name: Option<String>,
    /// Number of containers to create, 0 to 4095 [default: 2]
    #[arg(long, value_name = "N")]
    ports: Option<u64>,
    /// Name the containers PREFIX1, PREFIX2, ... [default: container]
    #[arg(long)]
    prefix: Option<String>,
    /// Label of the switch; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Existing device of this network namespace that becomes a port; may be repeated
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::devices))]
    device: Vec<String>,
    /// Unix socket that becomes a port, as with `port add --socket`; may be repeated. Options: listen, type=TYPE,
    /// name=PORT, remote=PATH
    #[arg(long, value_name = "PATH[,OPTION]...", value_hint = ValueHint::FilePath)]
    socket: Vec<String>,
    /// IPv4 or IPv6 subnet; may be repeated. The gateway gets the first address, container N the Nth after it
    /// [default: 172.16.0.0/24 (wider for more than 253 ports) and fd00:172:16::/64]
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// Masquerade packets from the containers to other networks (NAT) [default: off]
    #[arg(long, value_parser = OnOff)]
    nat: Option<bool>,
    /// Serve DHCP and DHCPv6 at the gateway: each container gets the address of its port, or a free one [default: off]
    #[arg(long, value_parser = OnOff)]
    dhcp: Option<bool>,
    /// Lease time in seconds, 10 to 31536000, with --dhcp [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    dhcp_lease: Option<u64>,
    /// Reserve addresses for a DHCP client (static leases), by its MAC address or its port, with --dhcp; may be
    /// repeated
    #[arg(long, value_name = "MAC|PORT,ADDRESS[,ADDRESS]...")]
    dhcp_host: Vec<String>,
    /// First and last address in a subnet for DHCP clients without a port's or a reserved address, as in
    /// 172.16.0.100-172.16.0.199, with --dhcp; may be repeated [default: all]
    #[arg(long, value_name = "ADDRESS-ADDRESS")]
    dhcp_range: Vec<String>,
    /// Send router advertisements, so that hosts without an assigned IPv6 address configure one (SLAAC) [default: off]
    #[arg(long, value_parser = OnOff)]
    ra: Option<bool>,
    /// Serve DNS at the gateway's addresses: answer for container names, forward other queries to the host's resolvers
    /// [default: off]
    #[arg(long, value_parser = OnOff)]
    dns: Option<bool>,
    /// Domain of the containers' names, with --dns [default: the name of the switch]
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Publish ports of a container on the host, as in 8080:container1:80, 127.0.0.1:8080:container1:80 or
    /// 5000-5009:container1:5000-5009/udp; may be repeated
    #[arg(long, value_name = "[ADDRESS:]PORT:CONTAINER:PORT[/PROTOCOL]")]
    publish: Vec<String>,
    /// Create no host port: the containers reach only each other [default: off]
    #[arg(long, value_parser = OnOff)]
    internal: Option<bool>,
    /// Drop frames of containers with a source address, ARP or neighbour discovery that is not theirs, and messages of
    /// DHCP servers and routers [default: on]
    #[arg(long, value_parser = OnOff)]
    guard: Option<bool>,
    /// Block a port on which frames of other ports come back, for 1 s and longer each time
    /// [default: on; off with --stp]
    #[arg(long, value_parser = OnOff)]
    loop_detection: Option<bool>,
    /// Be a hub: learn nothing, and flood every frame [default: off]
    #[arg(long, value_parser = OnOff)]
    hub: Option<bool>,
    /// Send frames to a multicast group only to ports that have joined it (IGMP and MLD snooping), where there is a
    /// querier [default: on]
    #[arg(long, value_parser = OnOff)]
    mcast_snooping: Option<bool>,
    /// Query the hosts for their groups while there is no other multicast querier [default: off]
    #[arg(long, value_parser = OnOff)]
    mcast_querier: Option<bool>,
    /// Omit the gateway: pure layer 2, without subnets unless --subnet is given [default: off]
    #[arg(long, value_parser = OnOff)]
    no_gateway: Option<bool>,
    /// Gateway address in its subnet, may be repeated [default: the first address of each subnet]
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// First four octets of the MAC addresses, like 02:de:a5:ad; the other two are the port number [default: random,
    /// and the same at the next start]
    #[arg(long, value_name = "OCTETS")]
    mac_prefix: Option<String>,
    /// MTU of the devices in bytes, 68 (1280 with IPv6) to 65521 [default: 1500]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u64>,
    /// Number of worker threads, 1 to 64 [default: 1 on up to 3 CPUs, else half the CPUs, at most 4]
    #[arg(long, value_name = "N")]
    workers: Option<u64>,
    /// I/O engine [default: auto]
    #[arg(long)]
    engine: Option<EngineChoice>,
    /// Let the kernel forward known unicast and floods itself (fast path) [default: auto]
    #[arg(long)]
    fast_path: Option<FastPathChoice>,
    /// Disable checksum and segmentation offload (TSO/USO) [default: off]
    #[arg(long, value_parser = OnOff)]
    no_offload: Option<bool>,
    /// Pin the workers to these CPUs, as in 1 or 2-5,8, or 'any' to let the scheduler move them
    /// [default: each worker stays on the CPU where it starts]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Busy-poll this many microseconds before sleeping, up to 1000000; as root, also keep idle CPUs out of deep sleep
    /// [default: adaptive: 50 for request-response traffic, else 0]
    #[arg(long, value_name = "MICROSECONDS")]
    busy_poll: Option<u64>,
    /// Remove a learned address after this many seconds without a frame from it, 1 to 1000000 [default: 300]
    #[arg(long, value_name = "SECONDS")]
    ageing_time: Option<u64>,
    /// Maximum number of entries in the forwarding database, 16 to 1048576 [default: 8192]
    #[arg(long, value_name = "N")]
    fdb_max: Option<u64>,
    /// Reserved group addresses 01:80:C2:00:00:0X to forward, as a mask with bit X, like 0x4008 for LLDP and 802.1X
    /// [default: 0; BPDUs are always forwarded]
    #[arg(long, value_name = "MASK", value_parser = mask)]
    group_fwd_mask: Option<u64>,
    /// Run a spanning tree (IEEE 802.1D-2004), which blocks redundant links: RSTP, or only STP [default: off]
    #[arg(long, value_name = "rstp|stp|off", num_args = 0..=1, default_missing_value = "rstp",
          hide_possible_values = true)]
    stp: Option<StpMode>,
    /// Bridge priority of the spanning tree, 0 to 61440 in steps of 4096: the lowest is the root [default: 32768]
    #[arg(long, value_name = "N")]
    priority: Option<u64>,
    /// Hello time of the spanning tree in seconds, 1 to 10 [default: 2]
    #[arg(long, value_name = "SECONDS")]
    hello_time: Option<u64>,
    /// Max age of the spanning tree in seconds, 6 to 40 [default: 20]
    #[arg(long, value_name = "SECONDS")]
    max_age: Option<u64>,
    /// Forward delay of the spanning tree in seconds, 4 to 30 [default: 15]
    #[arg(long, value_name = "SECONDS")]
    forward_delay: Option<u64>,
    /// Keep VLANs apart: classify frames by their tags, and send them only to ports of their VLAN
    #[arg(long, value_parser = OnOff)]
    vlan_filtering: Option<bool>,
    /// Protocol of the VLAN tags [default: 802.1Q]
    #[arg(long)]
    vlan_protocol: Option<VlanProtocol>,
    /// VLAN of a new port, 1 to 4094, or 0 for none [default: 1]
    #[arg(long, value_name = "VLAN")]
    vlan_default_pvid: Option<u64>,
    /// Count the frames of each port in each VLAN, for `vlan show --statistics`
    #[arg(long, value_parser = OnOff)]
    vlan_stats_per_port: Option<bool>,
    /// Addresses of the gateway in a VLAN, as in 10=172.16.10.1/24; may be repeated. The host routes between these
    /// VLANs
    #[arg(long, value_name = "VLAN=CIDR[,CIDR]...")]
    vlan_gateway: Vec<String>,
    /// Transmit queue length of the containers' devices in frames, 1 to 1000000 [default: the kernel's]
    #[arg(long, value_name = "N")]
    txqueuelen: Option<u64>,
    /// Longest super-frame (GSO packet) of the fast-path devices in bytes, 65536 to 524280. More than 65536 is BIG TCP
    /// [default: 65536]
    #[arg(long, value_name = "BYTES")]
    gso_max_size: Option<u64>,
    /// Serve Prometheus metrics at http://ADDRESS:PORT/metrics, on a loopback address
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<String>,
    /// Log ports and links (-v), and API requests too (-vv)
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Run in the background: return when the switch forwards
    #[arg(long, value_parser = OnOff)]
    detach: Option<bool>,
}

impl From<StartOptions> for Options {
    #[allow(clippy::too_many_lines, reason = "a line for each option")]
    fn from(typed: StartOptions) -> Options {
        Options {
            name: typed.name,
            ports: typed.ports,
            prefix: typed.prefix,
            subnet: typed.subnet,
            nat: typed.nat,
            dhcp: typed.dhcp,
            dhcp_lease: typed.dhcp_lease,
            dhcp_host: typed.dhcp_host,
            dhcp_range: typed.dhcp_range,
            ra: typed.ra,
            dns: typed.dns,
            domain: typed.domain,
            publish: typed.publish,
            internal: typed.internal,
            guard: typed.guard,
            loop_detection: typed.loop_detection,
            hub: typed.hub,
            label: typed.label,
            device: typed.device,
            socket: typed.socket,
            mcast_snooping: typed.mcast_snooping,
            mcast_querier: typed.mcast_querier,
            no_gateway: typed.no_gateway,
            gateway: typed.gateway,
            mac_prefix: typed.mac_prefix,
            mtu: typed.mtu,
            workers: typed.workers,
            engine: typed.engine,
            fast_path: typed.fast_path,
            no_offload: typed.no_offload,
            cpus: typed.cpus,
            busy_poll: typed.busy_poll,
            ageing_time: typed.ageing_time,
            fdb_max: typed.fdb_max,
            group_fwd_mask: typed.group_fwd_mask,
            stp: typed.stp,
            priority: typed.priority,
            hello_time: typed.hello_time,
            max_age: typed.max_age,
            forward_delay: typed.forward_delay,
            vlan_filtering: typed.vlan_filtering,
            vlan_protocol: typed.vlan_protocol,
            vlan_default_pvid: typed.vlan_default_pvid,
            vlan_stats_per_port: typed.vlan_stats_per_port,
            vlan_gateway: typed.vlan_gateway,
            txqueuelen: typed.txqueuelen,
            gso_max_size: typed.gso_max_size,
            metrics: typed.metrics,
            verbose: typed.verbose,
            detach: typed.detach,
            port: BTreeMap::new(),
            mirror: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::control::OptionsFile;

    #[test]
    fn flags_and_file_keys_are_the_same() {
        let command = <StartOptions as clap::Args>::augment_args(clap::Command::new("start"));
        let mut flags: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let refusal = OptionsFile::parse(Path::new("lab.toml"), "no-such-key = 1").unwrap_err().to_string();
        let (_, listed) = refusal.split_once("the options are ").unwrap();
        // Only a file has settings of ports, and mirrors.
        let of_file = |key: &&str| ["port", "mirror"].contains(key);
        let mut keys: Vec<_> = listed.split(", ").filter(|key| !of_file(key)).collect();
        flags.sort_unstable();
        keys.sort_unstable();
        assert_eq!(flags, keys);
    }
}
