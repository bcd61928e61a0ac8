//! The route from a endpoint to the others, in the calling thread's namespace.

use std::net::Ipv4Addr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
};
use rtnetlink::RouteMessageBuilder;

use super::super::error::BenchError;
use super::SUBNET;
use crate::sys::netlink::{Netlink, NetlinkRequest};

/// Makes this end of new TCP connections over it begin with this congestion control (`congctl` of ip-route(8)).
///
/// `iperf3 -C` sets it only after it has connected, and a socket that began with BBR stays paced whatever comes then
/// (`sk_pacing_status`, set by `bbr_init` of Linux `net/ipv4/tcp_bbr.c`). A sysctl would not do: outside the first
/// namespace it takes only what anybody may use (`tcp_set_default_congestion_control`).
///
/// # Errors
/// The kernel knows no such control.
pub(super) fn set_congestion_control(congestion_control: &str) -> Result<(), BenchError> {
    let what = format!("make {congestion_control} the congestion control of the route to {SUBNET}");
    let mut netlink = Netlink::open()?;
    let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let routes = netlink.all("list the routes", RouteNetlinkMessage::GetRoute(every))?;
    let Some(mut route) = routes.into_iter().find_map(to_subnet) else {
        let fault = format!("there is no route to {SUBNET} in it");
        return Err(BenchError::InvalidOutput { program: "the kernel", fault });
    };
    // All else stays as the kernel made it. The flags tell of the moment, and the kernel refuses some.
    route.header.flags = RouteFlags::empty();
    route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Metrics(_)));
    let metric = RouteMetric::CcAlgo(congestion_control.to_owned());
    route.attributes.push(RouteAttribute::Metrics(vec![metric]));
    Ok(netlink.apply(&[NetlinkRequest::replace(what, RouteNetlinkMessage::NewRoute(route))])?)
}

/// The one that a device with an address in the subnet has.
fn to_subnet(message: RouteNetlinkMessage) -> Option<RouteMessage> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let network = RouteAttribute::Destination(RouteAddress::Inet(SUBNET.addr()));
    let leads_there = route.header.table == RouteHeader::RT_TABLE_MAIN
        && route.header.destination_prefix_length == SUBNET.prefix_len()
        && route.attributes.contains(&network);
    leads_there.then_some(route)
}
