//! Tests of traces: each kind of step, and that a trace changes nothing.

mod frames;
mod live;
mod steps;

use std::net::IpAddr;

use super::fake::{FakeControl, FakeNetwork, config, fdb_reports, running};
use super::trace::TracedDecision;
use super::*;
use crate::control::report::{FdbFilter, FdbReport, NewFdbEntry, NewFdbState, NewPort, PortStats};
use crate::control::subscription::{Delivery, Subscription};
use crate::control::topology::{RouteLookup, SenderRoute};
use crate::control::trace::{
    EchoRequest, LiveTraceLine, Trace, TraceFilter, TraceRequest, TraceRoute, TraceVerdict,
};
use crate::switch::fdb::FdbKey;
use crate::switch::{Frame, Port, Steps};
use crate::wire::VnetHeader;
use crate::wire::segment::super_frame_header;

const HOST_MAC: &str = "02:00:5e:00:53:01";

/// A switch with a host port and three containers. The gateway's MAC is 02:de:a5:ad:00:00, that of
/// container N ends in :0N.
async fn switch() -> (FakeControl, Running<FakeNetwork>) {
    running(config(|options| options.ports = Some(3))).await
}

fn from(ifname: &str, edit: impl FnOnce(&mut TraceRequest)) -> TraceRequest {
    let mut request = TraceRequest { ifname: ifname.into(), ..TraceRequest::default() };
    edit(&mut request);
    request
}

fn to(dst: &str) -> TraceRequest {
    from("container1", |request| request.dst = Some(dst.into()))
}

fn whole(hex: &str) -> TraceRequest {
    from("container1", |request| request.hex = Some(hex.into()))
}

/// Everything that a trace must not change.
fn state(running: &mut Running<FakeNetwork>) -> (Vec<FdbReport>, Vec<PortStats>) {
    (fdb_reports(running, &FdbFilter::default()), running.stats())
}

/// Looks up the route, then traces.
fn trace(running: &Running<FakeNetwork>, request: &TraceRequest) -> Result<Trace, RunError> {
    let route = running.route_lookup(request)?.map(RouteLookup::run).transpose()?;
    running.trace(request, route)
}

/// Packets to this address leave from the port.
fn route(fake: &FakeControl, dst: &str, source: &str, next_hop: &str, mac: Option<&str>) {
    let parse = |text: &str| text.parse::<IpAddr>().unwrap();
    let (source, next_hop, mac) = (Some(parse(source)), parse(next_hop), mac.map(|mac| mac.parse().unwrap()));
    fake.set_route(parse(dst), SenderRoute::Port { source, next_hop, mac });
}

/// The tree without its first line. Checks that the trace changed nothing.
fn tree(running: &mut Running<FakeNetwork>, request: &TraceRequest) -> String {
    let before = state(running);
    let text = trace(running, request).unwrap().to_string();
    assert_eq!(state(running), before, "{request:?} changed something");
    text.split_once('\n').unwrap().1.to_owned()
}

/// Checks that the tree has `line`.
#[track_caller]
fn assert_line(running: &mut Running<FakeNetwork>, request: &TraceRequest, line: &str) {
    let text = tree(running, request);
    assert!(text.lines().any(|found| found == line), "no '{line}' in\n{text}");
}

fn set(running: &Running<FakeNetwork>, name: &str, edit: impl FnOnce(&mut Port)) {
    let id = running.port_named(name).unwrap();
    let mut port = running.switch.ports.port(id).unwrap();
    edit(&mut port);
    running.switch.ports.set(id, port);
}

fn learn(running: &Running<FakeNetwork>, mac: &str, ifname: &str) {
    let key = FdbKey { vlan: 0, mac: mac.parse().unwrap() };
    running.switch.fdb.learn(running.datapath.now(), key, running.port_named(ifname).unwrap());
}

/// A TCP super-frame (a GSO packet) from container1 to container3, with 4000 bytes of payload and
/// segments of 1460.
fn super_frame() -> (Vec<u8>, VnetHeader) {
    let headers = "02dea5ad0003 02dea5ad0001 0800 4500 0fc8 0000 4000 4006 0000 ac100002 ac100004 \
                   9c400050 00000001 00000001 5010 ffff 0000 0000";
    let vnet = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: VnetHeader::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1460,
        csum_start: 34,
        csum_offset: 16,
    };
    ([bytes(headers), vec![0; 4000]].concat(), vnet)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}
