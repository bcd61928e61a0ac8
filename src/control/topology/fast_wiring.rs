//! The devices of the ports of the kernel fast path ([`crate::fastpath`]): a veth pair, whose host end is in a
//! namespace of the switch, and a TAP device beside it.
//!
//! The namespace has no name: it ends with the switch, also after a kill, and the devices with it.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{PortSpec, TopologyError};
use super::{classifier, link};
use crate::fastpath::{FastPath, PortDevices};
use crate::switch::Ports;
use crate::sys::netlink::{Netlink, NetlinkError, NetlinkRequest};
use crate::sys::netns::{Netns, in_netns};
use crate::sys::tap::{self, Lifetime, Tap, TapConfig};

/// MTU of the devices that no container sees: as much as a TAP device can have. The programs check that of the
/// container's.
const MTU: u32 = 65521;

/// Where the devices are.
#[derive(Debug)]
pub(super) struct FastWiring {
    fast: Arc<FastPath>,
    netns: Netns,
    netlink: Netlink,
    /// The longest super-frame of the devices, if not the kernel's default.
    gso_max_size: Option<u32>,
    /// The numbers of the ports here.
    used: BTreeSet<u16>,
}

/// The devices of a port.
#[derive(Debug)]
pub(super) struct Wire {
    number: u16,
    pub(super) devices: PortDevices,
}

impl FastWiring {
    /// A namespace for this fast path, in which programs can be attached.
    pub(super) fn new(fast: Arc<FastPath>, gso_max_size: Option<u32>) -> Result<FastWiring, TopologyError> {
        in_netns(|thread| {
            let netns = thread.create()?;
            // A kernel without IPv6 has no such setting.
            let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            let mut netlink = Netlink::open()?;
            // The loopback device is down, so a program there sees no frame.
            netlink.apply(&classifier::attach(link::LOOPBACK, fast.from_station()))?;
            Ok(FastWiring { fast, netns, netlink, gso_max_size, used: BTreeSet::new() })
        })?
    }

    /// Where they are.
    pub(super) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Creates the devices of a port. The one in the container is down.
    pub(super) fn wire(&mut self, spec: &PortSpec, container: &Netns) -> Result<(Tap, Wire), TopologyError> {
        let most = u16::try_from(Ports::MAX).unwrap_or(u16::MAX);
        let number = (0..most).find(|n| !self.used.contains(n)).ok_or(TopologyError::NoSuchDevice)?;
        let tap = self.open_tap(spec, number)?;
        self.connect(spec, number, container).inspect_err(|_| self.delete(number))?;
        self.used.insert(number);
        Ok((tap, Wire { number, devices: PortDevices::numbered(number) }))
    }

    /// Creates the veth pair beside the TAP device of a port, and attaches the programs.
    fn connect(&mut self, spec: &PortSpec, number: u16, container: &Netns) -> Result<(), NetlinkError> {
        let devices = PortDevices::numbered(number);
        let mut tap = LinkUnspec::new_with_index(devices.tap);
        if let Some(length) = spec.txqueuelen {
            tap = tap.txqueuelen(length);
        }
        // A kernel without traffic control has no queueing discipline to replace.
        let _ = self.netlink.apply(&[link::set_noqueue(devices.tap)]);
        let mut requests = vec![self.veth(number, &spec.ifname, container)];
        for (device, program) in self.fast.programs(devices) {
            requests.extend(classifier::attach(device, program));
        }
        requests.extend([up(LinkUnspec::new_with_index(devices.host_end)), up(tap)]);
        self.netlink.apply(&requests)
    }

    /// The request for a veth pair: the host end with this number, and `ifname` in the namespace of the container.
    fn veth(&self, number: u16, ifname: &str, container: &Netns) -> NetlinkRequest {
        // The default for both ends is 65536 bytes. The first one is that of IPv6, and a limit of the other.
        let longest: Vec<LinkAttribute> = self
            .gso_max_size
            .into_iter()
            .flat_map(|size| [LinkAttribute::GsoMaxSize(size), LinkAttribute::GsoIpv4MaxSize(size)])
            .collect();
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(ifname.to_owned()),
            LinkAttribute::NetNsFd(container.as_fd().as_raw_fd()),
        ];
        peer.attributes.extend(longest.clone());
        let mut pair = LinkMessage::default();
        pair.header.index = PortDevices::numbered(number).host_end;
        pair.attributes = vec![
            LinkAttribute::IfName(host_end(number)),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        pair.attributes.extend(longest);
        NetlinkRequest::create(
            format!("create the veth pair of {ifname}"),
            RouteNetlinkMessage::NewLink(pair),
        )
    }

    /// The TAP device of a port. It ends with the namespace, as all of them at once: one by one they take 20 ms each.
    fn open_tap(&self, spec: &PortSpec, number: u16) -> Result<Tap, TopologyError> {
        let name = tap_name(number);
        let request = TapConfig {
            name: &name,
            ifindex: Some(PortDevices::numbered(number).tap),
            queues: spec.queues,
            offload: spec.offload,
            lifetime: Lifetime::Netns,
        };
        in_netns(|thread| {
            thread.enter(&self.netns)?;
            Ok::<_, TopologyError>(tap::open(&request)?)
        })?
    }

    /// Deletes the devices of a port.
    pub(super) fn unwire(&mut self, wire: &Wire) {
        self.delete(wire.number);
        self.used.remove(&wire.number);
    }

    fn delete(&mut self, number: u16) {
        let delete = |ifindex| {
            let link = LinkUnspec::new_with_index(ifindex).build();
            NetlinkRequest::change("delete a device", RouteNetlinkMessage::DelLink(link))
        };
        let PortDevices { host_end, tap } = PortDevices::numbered(number);
        // The pair is gone if the container was.
        let _ = self.netlink.apply(&[host_end, tap].map(delete));
    }

    /// Plugs the cable of a port in, or out: the container's device has a carrier while the host end is up.
    pub(super) fn set_carrier(&mut self, wire: &Wire, on: bool) -> Result<(), NetlinkError> {
        let end = LinkUnspec::new_with_index(wire.devices.host_end);
        let end = if on { end.up() } else { end.down() };
        self.netlink.apply(&[NetlinkRequest::change("set the end of a veth pair", link::set_link(end))])
    }

    /// Frames that the TAP device of a port dropped because its queue was full.
    pub(super) fn queue_dropped(&mut self, wire: &Wire) -> Option<u64> {
        let which = LinkUnspec::new_with_index(wire.devices.tap);
        Some(link::query(&mut self.netlink, "query a device", which).ok()?.tx_dropped)
    }
}

fn host_end(number: u16) -> String {
    format!("veth{number}")
}

fn tap_name(number: u16) -> String {
    format!("tap{number}")
}

fn up(device: LinkMessageBuilder<LinkUnspec>) -> NetlinkRequest {
    NetlinkRequest::change("set a device of a port up", link::set_link(device.mtu(MTU).arp(false).up()))
}
