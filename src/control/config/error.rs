//! Why a configuration is refused.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::labels::{LONGEST_KEY, LONGEST_VALUE, MOST_LABELS};
use super::subnets::MOST_SUBNETS;
use super::vlan_gateways::MOST_VLAN_GATEWAYS;
use crate::control::addressing::ParseMacPrefixError;
use crate::control::format::counted;
use crate::control::report::SocketType;
use crate::switch::vlan::{ParseVidError, Vid};

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
    /// A device is given twice.
    #[error("'{0}' is given twice: a device can be one port only")]
    DeviceTwice(String),
    /// A socket is given twice.
    #[error("the socket {0} is given twice: it can be one port only")]
    SocketTwice(String),
    /// Two ports have the same name.
    #[error("two ports would have the name '{0}': add ,name=PORT to the socket")]
    PortTwice(String),
    /// An option of a socket.
    #[error(
        "'{0}' is not an option of a socket: write PATH, and then ,listen or ,type=TYPE or ,name=PORT or ,remote=PATH"
    )]
    SocketOption(String),
    /// Not a type of socket.
    #[error("'{0}' is not a type of socket: choose one of {types}", types = socket_types())]
    SocketType(String),
    /// The path of a socket has no name for its port.
    #[error("{0} has no name that a port can have: add ,name=PORT")]
    SocketName(String),
    /// A datagram socket without a peer.
    #[error("a socket of type dgram needs 'remote', the path of its peer's socket")]
    NoRemote,
    /// `remote` of another type than dgram.
    #[error("'remote' is for sockets of type dgram only")]
    RemoteOfConnection,
    /// `remote` is the socket itself.
    #[error("'remote' is the path of the socket itself: give that of its peer's socket")]
    RemoteIsLocal,
    /// `listen` with type dgram.
    #[error(
        "'listen' is for sockets of type seqpacket and stream only: the switch always creates one of type dgram"
    )]
    ListenOnDatagrams,
    /// A path that depends on the current directory.
    #[error("'{0}' is not an absolute path")]
    RelativePath(String),
    /// Not a name for a container.
    #[error(
        "'{0}' cannot name a container: use 1 to 63 letters, digits, '.', '_' or '-', start with a letter or digit, and \
         do not use 'host' or 'host.VLAN'"
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
    /// Not a prefix of MAC addresses.
    #[error(transparent)]
    MacPrefix(#[from] ParseMacPrefixError),
    /// Not a label.
    #[error(
        "'{0}' is not a label: write KEY=VALUE, with a key of at most {LONGEST_KEY} bytes without blanks, and a value of at \
         most {LONGEST_VALUE} bytes"
    )]
    LabelSyntax(String),
    /// More than the limit.
    #[error("{0} labels are too many: give at most {MOST_LABELS}")]
    TooManyLabels(usize),
    /// Options that need a gateway.
    #[error("'no-gateway' excludes 'gateway' and 'nat': give only one of them")]
    NoGateway,
    /// The host port has no guard.
    #[error("the host port has no guard: it is the host, which may use any address")]
    HostPortGuard,
    /// Of a port's settings in a configuration file.
    #[error("{name}: {why}")]
    OfPort {
        /** The port. */
        name: String,
        /** What is wrong. */
        why: Box<InvalidValue>,
    },
    /// A parameter of the spanning tree that is out of range.
    #[error(transparent)]
    Stp(#[from] crate::switch::stp::StpConfigError),
    /// Not a port priority.
    #[error(
        "port priority {0} is not a multiple of {step} from 0 to {max}",
        step = super::spanning_tree::PORT_PRIORITY.1, max = super::spanning_tree::PORT_PRIORITY.0
    )]
    PortPriority(u8),
    /// A parameter of the spanning tree, which is off.
    #[error("it has no effect without the spanning tree: turn 'stp' on")]
    WithoutStp,
    /// Not a VLAN with addresses.
    #[error(
        "'{0}' is not a VLAN with its gateway: write one like 10=172.16.10.1/24 or 10=172.16.10.1/24,2001:db8:10::1/64"
    )]
    VlanGatewaySyntax(String),
    /// Not a VLAN.
    #[error(transparent)]
    Vlan(#[from] ParseVidError),
    /// The network or broadcast address of a subnet. A host address of it.
    #[error("{0} is not the address of a host: use one like {1}")]
    NotHostAddress(IpNet, IpAddr),
    /// Two gateways of one VLAN.
    #[error("VLAN {0} is given twice: list its addresses, separated by commas")]
    VlanGatewayTwice(Vid),
    /// More than the limit.
    #[error("{0} gateways of VLANs are too many: give at most {MOST_VLAN_GATEWAYS}")]
    TooManyVlanGateways(usize),
    /// The host port is a member of the VLAN.
    #[error(
        "the host port is in VLAN {0}: give that gateway with 'subnet' and 'gateway', or put the host port into another \
         VLAN ([port.host])"
    )]
    VlanOfHostPort(Vid),
    /// Options that a gateway of a VLAN excludes.
    #[error("'internal' and 'no-gateway' exclude 'vlan-gateway': give only one of them")]
    NoVlanGateway,
    /// VLANs of the host port of a VLAN's gateway.
    #[error("the host port of a VLAN's gateway stays in its VLAN")]
    FixedVlan,
    /// A setting of the devices of the fast path.
    #[error("it needs the fast path: omit it, or do not set 'fast-path' to off")]
    NoFastPath,
    /// VLANs of a port without VLAN filtering.
    #[error("VLANs need vlan-filtering: turn it on, or omit the VLANs")]
    NoVlanFiltering,
    /// Both kinds of ports at once.
    #[error("a port is an access port or a trunk: give 'access', or 'trunk' and 'native'")]
    AccessAndTrunk,
    /// A port without VLANs.
    #[error("a port needs a VLAN: give 'access', 'trunk' or 'native'")]
    EmptyVlans,
    /// A state in a VLAN of which the port is not a member.
    #[error("the port is not a member of VLAN {0}: omit its state there")]
    StateOfOtherVlan(Vid),
    /// States of a port in VLANs with a spanning tree.
    #[error("the spanning tree sets the states of ports: omit 'state', or turn 'stp' off")]
    StateWithStp,
    /// `--nat` with `--internal`.
    #[error("NAT needs the host port, which 'internal' omits: give only one of them")]
    NatWithoutHostPort,
    /// `--dhcp` without a gateway.
    #[error("DHCP is served at the gateway, which 'internal' and 'no-gateway' omit: give only one of them")]
    DhcpWithoutGateway,
    /// `--dhcp-host` without `--dhcp`.
    #[error("reserved addresses need the DHCP server: give --dhcp, too")]
    DhcpHostWithoutDhcp,
    /// Not a client with its reserved addresses.
    #[error(
        "'{0}' is not a DHCP host: write one like 02:00:5e:00:53:07,172.16.0.50 or container3,172.16.0.50,fd00:172:16::50"
    )]
    DhcpHostSyntax(String),
    /// An address that no client can have.
    #[error(
        "{0} cannot be reserved: use the address of a host in a subnet of the switch, and not a gateway's"
    )]
    DhcpHostAddress(IpAddr),
    /// A client or an address that has a reservation already.
    #[error(
        "'{0}' is a second reservation: give all addresses of a client at once, and an address to one client"
    )]
    DhcpHostTwice(String),
    /// `--dhcp-range` without `--dhcp`.
    #[error("the range is that of the DHCP server: give --dhcp, too")]
    DhcpRangeWithoutDhcp,
    /// Not two addresses.
    #[error("'{0}' is not a range of addresses: write one like 172.16.0.100-172.16.0.199")]
    DhcpRangeSyntax(String),
    /// No host of one subnet can have an address of it.
    #[error("{0} has no address of a host: use a range within a subnet of the switch")]
    DhcpRange(String),
    /// There is a range in this subnet already.
    #[error("{0} is a second range in {1}: give one for each subnet")]
    DhcpRangeTwice(String, IpNet),
    /// Too many clients with reserved addresses, and how many are allowed.
    #[error("{0} DHCP hosts are too many: give at most {1}")]
    TooManyDhcpHosts(usize, usize),
    /// `--ra` without a gateway.
    #[error(
        "router advertisements are sent by the gateway, which 'internal' and 'no-gateway' omit: give only one of them"
    )]
    RaWithoutGateway,
    /// `--ra` without an IPv6 subnet.
    #[error("router advertisements need an IPv6 subnet: give one like fd00:172:16::/64")]
    RaWithoutIpv6,
    /// `--dns` without a gateway.
    #[error("DNS is served at the gateway, which 'internal' and 'no-gateway' omit: give only one of them")]
    DnsWithoutGateway,
    /// Not a domain.
    #[error("'{0}' is not a domain: use letters, digits, '-', '_' and '.', at most 63 between two dots")]
    Domain(String),
    /// Not TCP or UDP ports.
    #[error("'{0}' is neither a port number nor a range of them: write one like 80 or 8080-8090")]
    PortNumbers(String),
    /// Not a published port.
    #[error(
        "'{0}' is not a published port: write one like 8080:80, 8080-8090:80-90/udp, 127.0.0.1:8080:80 or [2001:db8::1]:8080:80"
    )]
    PublishedPortSyntax(String),
    /// Not a published port with the name of its container.
    #[error(
        "'{0}' is not a published port with its container: write one like 8080:container1:80, 8080-8090:container1:80-90/udp, \
         127.0.0.1:8080:container1:80 or [2001:db8::1]:8080:container1:80"
    )]
    PublishSyntax(String),
    /// Numbers of ports that differ.
    #[error(
        "{0} ports of the host cannot be forwarded to {1} of the container: give ranges of the same length"
    )]
    PublishedRanges(usize, usize),
    /// A published port at `::1`.
    #[error(
        "::1 cannot be published, because the kernel routes no packets from ::1 to a container: use 127.0.0.1"
    )]
    PublishedLoopback6,
    /// An address at which no ports can be published, and what it is.
    #[error(
        "{0} is {1}, where ports cannot be published: give an address that `ip address` lists, or none for all"
    )]
    PublishedAddress(IpAddr, &'static str),
    /// A published port at a multicast address.
    #[error("{0} is a multicast address: use an address of the host")]
    PublishedMulticast(IpAddr),
    /// `--publish` without a gateway.
    #[error(
        "published ports need the gateway, which 'internal' and 'no-gateway' omit: give only one of them"
    )]
    PublishWithoutGateway,
    /// `--mcast-querier` with `--mcast-snooping off`.
    #[error("a querier needs multicast snooping, which 'mcast-snooping' turns off: give only one of them")]
    QuerierWithoutSnooping,
}

fn socket_types() -> String {
    SocketType::ALL.map(SocketType::name).join(", ")
}

fn addresses(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "address")
}
