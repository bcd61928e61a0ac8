//! Devices and addresses in the namespace of the calling thread.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::super::error::BenchError;
use super::super::plan::{MTU, TXQUEUELEN};
use super::SUBNET;
use crate::sys::netlink::{Netlink, NetlinkError, NetlinkRequest};
use crate::sys::netns::Netns;
use crate::wire::Mac;

/// Turns IPv6 off, so that counters include only test traffic: no neighbour discovery, no multicast
/// reports.
pub(super) fn disable_ipv6() -> Result<(), BenchError> {
    let interfaces = ["all", "default"].iter();
    interfaces.map(|which| format!("ipv6/conf/{which}/disable_ipv6")).try_for_each(|it| set(&it, "1"))
}

/// Lets bridged frames bypass the firewall, as without the module br_netfilter.
pub(super) fn disable_bridge_netfilter() -> Result<(), BenchError> {
    let families = ["iptables", "ip6tables", "arptables"].iter();
    families.map(|family| format!("bridge/bridge-nf-call-{family}")).try_for_each(|it| set(&it, "0"))
}

/// Sets a sysctl in the namespace of the calling thread. A kernel without it needs no change.
fn set(sysctl: &str, value: &str) -> Result<(), BenchError> {
    match fs::write(Path::new("/proc/sys/net").join(sysctl), value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BenchError::io(format!("set the sysctl {sysctl}"))(error))
        }
        _ => Ok(()),
    }
}

/// Creates a veth pair.
pub(super) fn veth(name: &str, peer: &str) -> Result<(), BenchError> {
    let message = RouteNetlinkMessage::NewLink(LinkVeth::new(name, peer).build());
    Ok(Netlink::open()?.apply(&[NetlinkRequest::create(format!("create the veth pair {name}"), message)])?)
}

/// Creates a bridge with these ports, and sets the ports up.
pub(super) fn bridge(name: &str, ports: [&str; 2]) -> Result<(), BenchError> {
    let mut netlink = Netlink::open()?;
    let message = RouteNetlinkMessage::NewLink(LinkBridge::new(name).build());
    netlink.apply(&[NetlinkRequest::create(format!("create the bridge {name}"), message)])?;
    let (controller, _) = index_and_mac(name)?;
    let join = |port: &str| {
        let settings = LinkUnspec::new_with_name(port).controller(controller).mtu(MTU).txqueuelen(TXQUEUELEN);
        change(&format!("add {port} to {name}"), settings.up())
    };
    Ok(netlink.apply(&ports.map(join))?)
}

/// Sets a device and `lo` up. The device gets the MTU and queue length that all switches use, and an
/// address if it has none.
pub(super) fn set_up(device: &str, address: Option<Ipv4Addr>) -> Result<(), BenchError> {
    let (ifindex, _) = index_and_mac(device)?;
    let settings = LinkUnspec::new_with_index(ifindex).mtu(MTU).txqueuelen(TXQUEUELEN).up();
    let mut requests = vec![
        change(&format!("set {device} up"), settings),
        change("set lo up", LinkUnspec::new_with_name("lo").up()),
    ];
    if let Some(address) = address {
        let message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(ifindex)
            .address(address, SUBNET.prefix_len())
            .build();
        let what = format!("add the address {address} to {device}");
        requests.push(NetlinkRequest::create(what, RouteNetlinkMessage::NewAddress(message)));
    }
    Ok(Netlink::open()?.apply(&requests)?)
}

/// Moves a device to another namespace.
pub(super) fn move_to(device: &str, netns: &Netns) -> Result<(), BenchError> {
    let link = LinkUnspec::new_with_name(device).setns_by_fd(netns.as_fd().as_raw_fd());
    Ok(Netlink::open()?.apply(&[change(&format!("move {device} into a container"), link)])?)
}

/// Index and MAC address of a device.
pub(super) fn index_and_mac(device: &str) -> Result<(u32, Mac), BenchError> {
    let message = find(device)?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    });
    Ok((message.header.index, mac.unwrap_or(Mac::ZERO)))
}

/// Waits for devices that another process creates.
pub(super) fn wait_for(devices: [&str; 2]) -> Result<(), BenchError> {
    const STEP: Duration = Duration::from_millis(20);
    const STEPS: u32 = 250;
    for _ in 0..STEPS {
        if devices.iter().all(|device| find(device).is_ok()) {
            return Ok(());
        }
        sleep(STEP);
    }
    devices.iter().try_for_each(|device| find(device).map(drop).map_err(BenchError::from))
}

/// Frames that a device has received.
pub(super) fn received_frames(device: &str) -> Result<u64, BenchError> {
    let counters = find(device)?.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(counters) => Some(counters.rx_packets),
        _ => None,
    });
    counters.ok_or_else(|| BenchError::InvalidOutput {
        program: "the kernel",
        fault: format!("no counters of {device}"),
    })
}

fn find(device: &str) -> Result<LinkMessage, NetlinkError> {
    let what = format!("find the device {device}");
    let which = RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(device).build());
    match Netlink::open()?.one(&what, which)? {
        RouteNetlinkMessage::NewLink(link) => Ok(link),
        _ => Err(NetlinkError::Malformed { what, fault: "not a link".to_owned() }),
    }
}

fn change(what: &str, link: LinkMessageBuilder<LinkUnspec>) -> NetlinkRequest {
    NetlinkRequest::change(what, RouteNetlinkMessage::SetLink(link.build()))
}
