//! Plans a new port from the request and the existing ports. Creates nothing.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::ports::{Assigned, PortRecord};
use super::{HOST, InvalidValue, PortTable, RunError, UplinkError, guard, vlans};
use crate::control::config::{Labels, VlanGateway};
use crate::control::report::{NewPort, NewSocket, PortVlans, SocketType, UplinkMode};
use crate::control::topology::{self, Attachment, PortNetns, PortSpec, SocketRole, SocketSpec, TapPortSpec};
use crate::control::{Config, addressing, config};
use crate::switch::Vid;
use crate::sys::frame_socket::FrameSocketType;
use crate::sys::netns;
use crate::wire::Mac;

/// A port to create.
#[derive(Debug)]
pub(super) struct PortPlan {
    pub(super) name: String,
    pub(super) labels: Labels,
    /// Whether the guard is on.
    pub(super) guard: bool,
    /// Its VLANs; `None`: the default.
    pub(super) vlans: Option<PortVlans>,
    /// Its number in the switch's address plan, if it has one.
    pub(super) number: Option<u16>,
    /// What it leads to.
    pub(super) attachment: Attachment,
    pub(super) offload: bool,
    /// With which MAC addresses hosts appear behind it.
    pub(super) uplink_mode: UplinkMode,
    /// The addresses that the host behind it should have. `None`: those of its TAP device.
    pub(super) assigned: Option<Assigned>,
    /// Names of the ports that it replaces.
    pub(super) replaced: Vec<String>,
}

/// Default name of a port's device.
const DEFAULT_DEVICE: &str = "eth0";
/// Most addresses of a port.
pub(super) const MAX_ADDRESSES: usize = 16;

impl PortPlan {
    /// Container `n` of a starting switch.
    pub(super) fn container(config: &Config, ports: &PortTable, n: u16) -> Result<PortPlan, RunError> {
        let name = config.container(n);
        let vlans = file_vlans(config, &name);
        let others: Vec<&PortRecord> = ports.values().collect();
        let addresses = next_addresses(config, &others, n, own_vlan(config, vlans.as_ref()))?;
        let spec = PortSpec {
            netns: PortNetns::New(name.clone()),
            ifname: DEFAULT_DEVICE.to_owned(),
            mac: Some(config.mac_prefix.mac(n)),
            gateways: gateways(config, &addresses),
            accept_ra: config::uses_advertisements(config, &addresses),
            addresses,
            mtu: config.mtu,
            txqueuelen: config.txqueuelen,
            offload: config.offload,
            queues: config.workers,
            unmanaged: false,
        };
        let guard = guard::is_on(config, &name, None, false);
        Ok(PortPlan::tap(name, n, spec, (guard, vlans)))
    }

    /// The host port, which has no guard.
    pub(super) fn host(config: &Config, gateway: Mac) -> PortPlan {
        let spec = topology::host_port(config, gateway);
        PortPlan::tap(HOST.to_owned(), 0, spec, (false, file_vlans(config, HOST)))
    }

    /// The host port of a VLAN's gateway, which has no guard either.
    pub(super) fn vlan_host(config: &Config, vlan: &VlanGateway, gateway: Mac) -> (PortPlan, PortSpec) {
        let spec = topology::vlan_host_port(config, vlan, gateway);
        let vlans = PortVlans { access: Some(vlan.vid), ..PortVlans::default() };
        (PortPlan::tap(vlan.port_name(), 0, spec.clone(), (false, Some(vlans))), spec)
    }

    /// A port with a new TAP device, which replaces no other.
    fn tap(name: String, number: u16, spec: PortSpec, (guard, vlans): (bool, Option<PortVlans>)) -> PortPlan {
        let offload = spec.offload;
        let (spec, assigned) = if spec.unmanaged { without_addresses(spec) } else { (spec, None) };
        PortPlan {
            name,
            labels: Labels::new(),
            guard,
            vlans,
            number: Some(number),
            attachment: Attachment::Tap(spec),
            offload,
            uplink_mode: UplinkMode::Bridge,
            assigned,
            replaced: Vec::new(),
        }
    }

    /// Whether its container has no address from the start.
    pub(super) fn has_no_address(&self) -> bool {
        matches!(&self.attachment, Attachment::Tap(spec) if spec.addresses.is_empty())
    }

    /// Checks the request against the existing ports, and fills in defaults.
    pub(super) fn new(
        config: &Config,
        ports: &PortTable,
        mut request: NewPort,
    ) -> Result<PortPlan, RunError> {
        let labels = std::mem::take(&mut request.labels);
        config::check_labels(&labels)?;
        let plan = PortPlan::without_labels(config, ports, request)?;
        let former = ports.values().find(|port| port.name == plan.name && labels.is_empty());
        Ok(PortPlan { labels: former.map_or(labels, |former| former.labels.clone()), ..plan })
    }

    fn without_labels(config: &Config, ports: &PortTable, request: NewPort) -> Result<PortPlan, RunError> {
        match (&request.device, &request.tap, &request.socket) {
            (Some(device), ..) => {
                config::device_name(device)?;
                refuse_others(&request, "device")?;
                let attachment = Attachment::Device { ifname: device.clone(), queues: config.workers };
                PortPlan::without_tap(config, ports, &request, (device.clone(), attachment))
            }
            (None, Some(tap), _) => {
                config::device_name(tap)?;
                refuse_others(&request, "tap")?;
                let netns = request.netns.as_deref().map(netns_path).transpose()?;
                let name = netns.as_deref().map_or_else(|| tap.clone(), default_name);
                let spec = TapPortSpec {
                    ifname: tap.clone(),
                    netns,
                    offload: request.offload.unwrap_or(config.offload),
                    queues: config.workers,
                };
                PortPlan::without_tap(config, ports, &request, (name, Attachment::ExistingTap(spec)))
            }
            (None, None, Some(socket)) => {
                refuse_others(&request, "socket")?;
                let spec = socket_spec(config, socket, request.mtu)?;
                let name = request.name.clone().or_else(|| config::name_of_socket(&spec.path));
                let name = name.ok_or(RunError::NoNameOfSocket)?;
                PortPlan::without_tap(config, ports, &request, (name, Attachment::Socket(spec)))
            }
            (None, None, None) if request.uplink_mode == Some(UplinkMode::Ipvlan) => {
                Err(UplinkError::NoDevice(request.name.unwrap_or_else(|| "a container".to_owned())).into())
            }
            (None, None, None) => PortPlan::with_tap(config, ports, &request),
        }
    }

    /// A port on an existing device or on a socket, whose hosts have their own addresses. The request can bind the port
    /// to the addresses of one host.
    fn without_tap(
        config: &Config,
        ports: &PortTable,
        request: &NewPort,
        (default_name, attachment): (String, Attachment),
    ) -> Result<PortPlan, RunError> {
        let name = request.name.clone().unwrap_or(default_name);
        config::container_name(&name)?;
        let (replaced, others) = split_replaced(ports, &name, request);
        check_name_is_free(&name, &others)?;
        let addresses = check_addresses(config, &others, request.ip.as_deref().unwrap_or_default())?;
        let mac = request.mac.map(|mac| check_mac(config, &others, mac)).transpose()?;
        let guard = guard::is_on(config, &name, request.guard, true);
        if guard && mac.is_none() {
            return Err(RunError::NoGuardAddresses(name));
        }
        Ok(PortPlan {
            labels: Labels::new(),
            guard,
            vlans: vlans_of(config, &name, request.vlan.as_ref())?,
            number: None,
            offload: takes_offload(&attachment) && request.offload.unwrap_or(config.offload),
            uplink_mode: request.uplink_mode.or(file_uplink_mode(config, &name)).unwrap_or_default(),
            attachment,
            assigned: Some(Assigned { mac, addresses }),
            name,
            replaced: replaced.iter().map(|port| port.name.clone()).collect(),
        })
    }

    fn with_tap(config: &Config, ports: &PortTable, request: &NewPort) -> Result<PortPlan, RunError> {
        let netns = request.netns.as_deref().map(netns_path).transpose()?;
        let name = tap_name(config, ports, request, netns.as_deref());
        config::container_name(&name)?;
        let (replaced, others) = split_replaced(ports, &name, request);
        let former = replaced.iter().find(|port| port.name == name);
        let number = former.and_then(|former| former.number).unwrap_or_else(|| free_number(config, &others));
        check_name_is_free(&name, &others)?;
        request.ifname.as_deref().map_or(Ok(()), config::device_name)?;
        let vlans = vlans_of(config, &name, request.vlan.as_ref())?;
        let vlan = own_vlan(config, vlans.as_ref());
        let addresses = match (&request.ip, former) {
            (Some(requested), _) => check_addresses(config, &others, requested)?,
            (None, Some(former)) if former.number.is_some() && fits(config, vlan, former) => {
                former.configured_addresses().copied().collect()
            }
            (None, _) if request.unmanaged => Vec::new(),
            (None, _) => next_addresses(config, &others, number, vlan)?,
        };
        let mac = request.mac.or(former.and_then(|former| former.assigned.mac));
        let mac = check_mac(config, &others, mac.unwrap_or_else(|| config.mac_prefix.mac(number)))?;
        let guard =
            guard::is_on(config, &name, request.guard, may_use_others(config, request, &addresses, vlan));
        let spec = PortSpec {
            netns: planned_netns(netns, request.unmanaged, &name),
            ifname: device_name(request, mac),
            mac: Some(mac),
            gateways: gateways(config, &addresses),
            // Another program configures the device of an unmanaged port.
            accept_ra: request.unmanaged || config::uses_advertisements(config, &addresses),
            mtu: request.mtu.map_or(Ok(config.mtu), |mtu| config::mtu(mtu, &addresses))?,
            addresses,
            txqueuelen: config.txqueuelen,
            offload: request.offload.unwrap_or(config.offload),
            queues: config.workers,
            unmanaged: request.unmanaged,
        };
        let replaced = replaced.iter().map(|port| port.name.clone()).collect();
        Ok(PortPlan { replaced, ..PortPlan::tap(name, number, spec, (guard, vlans)) })
    }
}

/// The namespace of the port `name`.
fn planned_netns(existing: Option<PathBuf>, unmanaged: bool, name: &str) -> PortNetns {
    match existing {
        Some(path) => PortNetns::Existing(path),
        None if unmanaged => PortNetns::Host,
        None => PortNetns::New(name.to_owned()),
    }
}

/// Whether the container of a port with these addresses may use others, which the switch does not know: in an existing
/// namespace, or without any, unless the gateway of its VLAN tells it one (DHCP, router advertisements).
fn may_use_others(config: &Config, request: &NewPort, addresses: &[IpNet], vlan: Option<Vid>) -> bool {
    let is_default = vlan == config.vlans.default_pvid && !config.gateways.is_empty();
    let has_gateway = is_default || vlan.and_then(|vid| config.vlan_gateway(vid)).is_some();
    let is_told = has_gateway && (config.dhcp_lease.is_some() || config.ra);
    request.netns.is_some() || request.unmanaged || addresses.is_empty() && !is_told
}

/// The name of a port with a new device.
fn tap_name(config: &Config, ports: &PortTable, request: &NewPort, netns: Option<&Path>) -> String {
    match (&request.name, netns) {
        (Some(name), _) => name.clone(),
        // The namespace of a runtime is not that of a container.
        (None, Some(path)) if !request.unmanaged => default_name(path),
        (None, _) => config.container(free_number(config, &ports.values().collect::<Vec<_>>())),
    }
}

/// The name of the port's device. Another program moves an unmanaged one from a namespace that may have any devices, so
/// by default it is named after its MAC address.
fn device_name(request: &NewPort, mac: Mac) -> String {
    match &request.ifname {
        Some(ifname) => ifname.clone(),
        None if request.unmanaged => format!("us{}", mac.to_string().replace(':', "")),
        None => DEFAULT_DEVICE.to_owned(),
    }
}

/// The device without its addresses, and those that another program should assign to it.
fn without_addresses(spec: PortSpec) -> (PortSpec, Option<Assigned>) {
    let assigned = Assigned { mac: spec.mac, addresses: spec.addresses };
    (PortSpec { addresses: Vec::new(), gateways: Vec::new(), ..spec }, Some(assigned))
}

/// The VLANs of a new port: those of the request, or of the configuration file.
fn vlans_of(config: &Config, name: &str, asked: Option<&PortVlans>) -> Result<Option<PortVlans>, RunError> {
    let Some(vlans) = asked else { return Ok(file_vlans(config, name)) };
    vlans::check(config, vlans)?;
    Ok(Some(vlans.clone()))
}

/// The mode of an uplink that the configuration file has for a port.
fn file_uplink_mode(config: &Config, name: &str) -> Option<UplinkMode> {
    config.port_settings.get(name)?.uplink_mode
}

/// The VLANs that the configuration file has for a port.
fn file_vlans(config: &Config, name: &str) -> Option<PortVlans> {
    config.port_settings.get(name)?.vlan.clone()
}

/// Refuses the settings that a port with `chosen` does not have.
fn refuse_others(request: &NewPort, chosen: &'static str) -> Result<(), RunError> {
    let NewPort { netns, ifname, mtu, shared_netns, unmanaged, tap, socket, .. } = request;
    let given = [
        ("netns", netns.is_some() && chosen != "tap"),
        ("ifname", ifname.is_some()),
        ("shared_netns", *shared_netns),
        ("unmanaged", *unmanaged),
        // An existing device has its own MTU.
        ("mtu", mtu.is_some() && chosen != "socket"),
        ("tap", tap.is_some() && chosen != "tap"),
        ("socket", socket.is_some() && chosen != "socket"),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((other, _)) => Err(RunError::Excludes(chosen, other)),
        None => Ok(()),
    }
}

fn socket_spec(config: &Config, socket: &NewSocket, mtu: Option<u64>) -> Result<SocketSpec, RunError> {
    config::check_socket(socket)?;
    let connection = if socket.listen { SocketRole::Listen } else { SocketRole::Connect };
    Ok(SocketSpec {
        path: socket.path.clone(),
        role: match (socket.kind, &socket.remote) {
            (SocketType::Seqpacket, _) => connection(FrameSocketType::Seqpacket),
            (SocketType::Stream, _) => connection(FrameSocketType::Stream),
            (SocketType::Dgram, Some(remote)) => SocketRole::Datagram(remote.clone()),
            (SocketType::Dgram, None) => return Err(InvalidValue::NoRemote.into()),
        },
        mtu: mtu.map_or(Ok(config.mtu), |mtu| config::mtu(mtu, &[]))?,
        queues: config.workers,
    })
}

/// Whether a port can take GSO packets: there is a virtio-net header before each frame.
fn takes_offload(attachment: &Attachment) -> bool {
    !matches!(attachment, Attachment::Socket(spec) if !spec.role.has_headers())
}

/// The ports that a new port called `name` replaces, and the others.
fn split_replaced<'a>(
    ports: &'a PortTable,
    name: &str,
    request: &NewPort,
) -> (Vec<&'a PortRecord>, Vec<&'a PortRecord>) {
    ports.values().partition(|port| request.replace && is_replaced(port, name, request))
}

/// Whether a new port called `name` replaces `port`: the port of its name, or one whose device is gone and that still
/// holds one of its addresses.
fn is_replaced(port: &PortRecord, name: &str, request: &NewPort) -> bool {
    let holds = |address: &IpNet| port.assigned.addresses.iter().any(|own| own.addr() == address.addr());
    let same_mac = request.mac.is_some() && request.mac == port.assigned.mac;
    let holds_any = same_mac || request.ip.iter().flatten().any(holds);
    port.name == name || port.is_gone() && holds_any
}

fn check_name_is_free(name: &str, ports: &[&PortRecord]) -> Result<(), RunError> {
    match ports.iter().find(|port| port.name == name) {
        Some(port) if port.is_gone() => Err(RunError::GonePortExists(name.to_owned())),
        Some(_) => Err(RunError::PortExists(name.to_owned())),
        None => Ok(()),
    }
}

/// The error that `address` belongs to another port.
fn taken(address: String, holder: &PortRecord) -> RunError {
    let holder_name = holder.name.clone();
    match holder.is_gone() {
        true => RunError::AddressOfGonePort(address, holder_name),
        false => RunError::AddressTaken(address, holder_name),
    }
}

/// Resolves a namespace: an absolute path, a name that `ip netns` knows, or a process ID. An existing
/// name takes precedence over a process ID, as in ip-link(8).
pub(super) fn netns_path(netns: &str) -> Result<PathBuf, RunError> {
    let path = Path::new(netns);
    if ["/proc/self", "/proc/thread-self"].iter().any(|own| path.starts_with(own)) {
        return Err(RunError::OwnNetns(netns.to_owned()));
    }
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let named = config::container_name(netns).is_ok().then(|| netns::path(netns));
    match (named, netns.parse::<u32>()) {
        (Some(named), Ok(_)) if named.exists() => Ok(named),
        (_, Ok(pid)) => Ok(PathBuf::from(format!("/proc/{pid}/ns/net"))),
        (Some(named), Err(_)) => Ok(named),
        (None, Err(_)) => Err(RunError::BadNetns(netns.to_owned())),
    }
}

/// Default port name: `web` for `/run/netns/web`, `pid7` for `/proc/7/ns/net`.
fn default_name(path: &Path) -> String {
    let words: Vec<_> = path.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        ["/", "proc", pid, "ns", "net"] => format!("pid{pid}"),
        [.., last] => (*last).to_owned(),
        [] => String::new(),
    }
}

/// The lowest number whose name, MAC and IP addresses are free.
fn free_number(config: &Config, ports: &[&PortRecord]) -> u16 {
    let taken: HashSet<u16> = ports.iter().filter_map(|port| port.number).collect();
    let names: HashSet<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let macs: HashSet<Mac> = ports.iter().filter_map(|port| port.assigned.mac).collect();
    let given: HashSet<IpAddr> = ports
        .iter()
        .flat_map(|port| port.assigned.addresses.iter().map(IpNet::addr))
        .chain(config.all_gateways())
        .collect();
    let is_free = |n: &u16| {
        let mut addresses =
            config.subnets.iter().filter_map(|subnet| addressing::host_address(*subnet, u64::from(*n)));
        !taken.contains(n)
            && !names.contains(config.container(*n).as_str())
            && !macs.contains(&config.mac_prefix.mac(*n))
            && addresses.all(|address| !given.contains(&address.addr()))
    };
    // Each port blocks one number, one name, one MAC and at most MAX_ADDRESSES addresses. If all numbers are
    // blocked, the conflict of the last one is reported.
    (1..u16::MAX).find(is_free).unwrap_or(u16::MAX)
}

fn check_addresses(
    config: &Config,
    ports: &[&PortRecord],
    request: &[IpNet],
) -> Result<Vec<IpNet>, RunError> {
    if request.len() > MAX_ADDRESSES {
        return Err(RunError::TooManyAddresses(request.len()));
    }
    for (n, address) in request.iter().enumerate() {
        let ip = address.addr();
        let own = config.all_subnets().find(|subnet| subnet.contains(&ip));
        if config::is_special(IpNet::from(ip))
            || own.is_some_and(|own| !addressing::is_host_address(own, ip))
            || config.all_gateways().any(|gateway| gateway == ip)
        {
            return Err(RunError::InvalidAddress(ip));
        }
        let holder = ports.iter().find(|port| port.may_have(ip));
        if let Some(holder) = holder {
            return Err(taken(ip.to_string(), holder));
        }
        if request[..n].iter().any(|other| other.addr() == ip) {
            return Err(RunError::AddressTaken(ip.to_string(), "this port".to_owned()));
        }
    }
    Ok(request.to_vec())
}

/// The VLAN of a port's untagged frames, in which it has its addresses.
fn own_vlan(config: &Config, vlans: Option<&PortVlans>) -> Option<Vid> {
    vlans.map_or(config.vlans.default_pvid, |vlans| vlans.access.or(vlans.native))
}

/// Whether the addresses of a port are of the VLAN's subnets, if it has a gateway of its own.
fn fits(config: &Config, vlan: Option<Vid>, former: &PortRecord) -> bool {
    let Some(gateway) = vlan.and_then(|vid| config.vlan_gateway(vid)) else { return true };
    let is_inside = |address: &IpNet| gateway.subnets().any(|subnet| subnet.contains(&address.addr()));
    former.configured_addresses().all(is_inside)
}

/// The addresses of port `number`, one in each subnet: the Nth of the switch's subnets, and a free one, if possible the
/// Nth, of the subnets of a VLAN with a gateway of its own.
fn next_addresses(
    config: &Config,
    ports: &[&PortRecord],
    number: u16,
    vlan: Option<Vid>,
) -> Result<Vec<IpNet>, RunError> {
    if let Some(gateway) = vlan.and_then(|vid| config.vlan_gateway(vid)) {
        let assigned = ports.iter().flat_map(|port| port.assigned.addresses.iter().map(IpNet::addr));
        let taken: HashSet<IpAddr> = assigned.chain(config.all_gateways()).collect();
        return gateway.subnets().map(|subnet| free_address(subnet, number, &taken)).collect();
    }
    let next = |subnet: &IpNet| {
        addressing::host_address(*subnet, number.into()).ok_or(RunError::SubnetFull(*subnet))
    };
    config.subnets.iter().map(next).collect()
}

fn free_address(subnet: IpNet, number: u16, taken: &HashSet<IpAddr>) -> Result<IpNet, RunError> {
    let numbers = std::iter::once(number.into()).chain(1..=addressing::max_hosts(subnet));
    let mut addresses = numbers.filter_map(|n| addressing::host_address(subnet, n));
    addresses.find(|address| !taken.contains(&address.addr())).ok_or(RunError::SubnetFull(subnet))
}

/// The gateway of each address family that `addresses` reach without a router.
fn gateways(config: &Config, addresses: &[IpNet]) -> Vec<IpAddr> {
    let reachable = |gateway: &IpAddr| addresses.iter().any(|address| address.contains(gateway));
    let v4 = config.all_gateways().filter(IpAddr::is_ipv4).find(reachable);
    let v6 = config.all_gateways().filter(IpAddr::is_ipv6).find(reachable);
    v4.into_iter().chain(v6).collect()
}

fn check_mac(config: &Config, ports: &[&PortRecord], mac: Mac) -> Result<Mac, RunError> {
    if mac.is_group() || mac.is_zero() {
        return Err(RunError::InvalidMac(mac));
    }
    if mac == config.mac_prefix.mac(0) {
        return Err(RunError::AddressTaken(mac.to_string(), "the gateway".to_owned()));
    }
    match ports.iter().find(|port| port.assigned.mac == Some(mac)) {
        Some(holder) => Err(taken(mac.to_string(), holder)),
        None => Ok(mac),
    }
}
