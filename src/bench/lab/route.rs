//! The route from an endpoint to the others, in the namespace of the calling thread.

use std::net::Ipv4Addr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
};
use rtnetlink::RouteMessageBuilder;

use super::super::error::BenchError;
use super::SUBNET;
use crate::sys::netlink::{Netlink, NetlinkRequest};

/// Sets the congestion control that new TCP connections over this route begin with (`congctl` of
/// ip-route(8)).
///
/// `iperf3 -C` sets it only after connecting, and a socket that began with BBR stays paced
/// (`sk_pacing_status`, set by `bbr_init` of Linux `net/ipv4/tcp_bbr.c`). A sysctl does not help: outside
/// the initial namespace it accepts only unrestricted congestion controls
/// (`tcp_set_default_congestion_control`).
///
/// # Errors
/// The kernel does not know this congestion control.
pub(super) fn set_congestion_control(congestion_control: &str) -> Result<(), BenchError> {
    let what = format!("set the congestion control {congestion_control} on the route to {SUBNET}");
    let mut netlink = Netlink::open()?;
    let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let routes = netlink.all("list the routes", RouteNetlinkMessage::GetRoute(every))?;
    let Some(mut route) = routes.into_iter().find_map(to_subnet) else {
        let fault = format!("no route to {SUBNET}");
        return Err(BenchError::InvalidOutput { program: "the kernel", fault });
    };
    // Everything else stays as the kernel created it. Flags describe the current state, and the kernel
    // rejects some of them in a request.
    route.header.flags = RouteFlags::empty();
    route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Metrics(_)));
    let metric = RouteMetric::CcAlgo(congestion_control.to_owned());
    route.attributes.push(RouteAttribute::Metrics(vec![metric]));
    Ok(netlink.apply(&[NetlinkRequest::replace(what, RouteNetlinkMessage::NewRoute(route))])?)
}

/// The on-link route of the subnet.
fn to_subnet(message: RouteNetlinkMessage) -> Option<RouteMessage> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let network = RouteAttribute::Destination(RouteAddress::Inet(SUBNET.addr()));
    let is_subnet_route = route.header.table == RouteHeader::RT_TABLE_MAIN
        && route.header.destination_prefix_length == SUBNET.prefix_len()
        && route.attributes.contains(&network);
    is_subnet_route.then_some(route)
}
