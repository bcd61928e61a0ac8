//! Tests of traces: each kind of step, and that a trace changes nothing.

use futures_util::FutureExt;

use super::fake::{FakeControl, FakeNetwork, config, fdb_reports, running};
use super::trace::Decision;
use super::*;
use crate::control::report::{FdbFilter, FdbReport, NewFdbEntry, NewFdbState, NewPort, PortStats};
use crate::control::subscription::{Delivery, Subscription};
use crate::control::trace::{EchoRequest, LiveTraceLine, Trace, TraceFilter, TraceRequest, TraceVerdict};
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

/// The tree without its first line. Checks that the trace changed nothing.
fn tree(running: &mut Running<FakeNetwork>, request: &TraceRequest) -> String {
    let before = state(running);
    let text = running.trace(request).unwrap().to_string();
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

#[tokio::test]
async fn explains_each_step_of_the_decision() {
    let (_bench, mut running) = switch().await;
    let request = from("container1", |request| request.arp_for = Some("172.16.0.3".parse().unwrap()));
    set(&running, "container3", |port| port.up = false);
    assert_eq!(
        running.trace(&request).unwrap().to_string(),
        "container1: 02:de:a5:ad:00:01 > ff:ff:ff:ff:ff:ff, ARP, who-has 172.16.0.3 tell 172.16.0.2 (42 bytes)\n\
         ├─ ingress container1: up\n\
         ├─ source 02:de:a5:ad:00:01: valid, not the gateway's MAC\n\
         ├─ admitted: destination not reserved, no gateway spoofing\n\
         ├─ learning: new, would be learned on container1\n\
         ├─ gateway: no reply\n\
         ├─ flood: broadcast\n\
         │  ├─ host: sent\n\
         │  ├─ container2: sent\n\
         │  └─ container3: refused: the port is down, so not part of the flood (egress_down)\n\
         └─ verdict: flooded to 2 ports\n"
    );
    let echo = EchoRequest { src: None, dst: "fd00:172:16::3".parse().unwrap() };
    let request = from("container1", |request| request.icmp = Some(echo));
    learn(&running, "02:de:a5:ad:00:02", "container2");
    assert_eq!(
        running.trace(&request).unwrap().to_string(),
        "container1: 02:de:a5:ad:00:01 > 02:de:a5:ad:00:02, IP6 fd00:172:16::2 > fd00:172:16::3: ICMP6, echo request, \
         id 1, seq 1, length 64 (118 bytes)\n\
         ├─ ingress container1: up\n\
         ├─ source 02:de:a5:ad:00:01: valid, not the gateway's MAC\n\
         ├─ admitted: destination not reserved, no gateway spoofing\n\
         ├─ learning: new, would be learned on container1\n\
         ├─ destination 02:de:a5:ad:00:02: behind container2\n\
         │  └─ container2: sent\n\
         └─ verdict: forwarded to container2\n"
    );
    let _ = tree(&mut running, &request);
}

#[tokio::test]
async fn explains_source_learning() {
    let (_bench, mut running) = switch().await;
    let from_host_mac = |ifname: &str| {
        from(ifname, |request| (request.src, request.dst) = (HOST_MAC.parse().ok(), Some("broadcast".into())))
    };
    assert_line(
        &mut running,
        &from_host_mac("container1"),
        "├─ learning: new, would be learned on container1",
    );
    learn(&running, HOST_MAC, "container1");
    assert_line(
        &mut running,
        &from_host_mac("container1"),
        "├─ learning: known on container1, would be refreshed",
    );
    assert_line(
        &mut running,
        &from_host_mac("container2"),
        "├─ learning: known on container1, would move to container2",
    );
    let (mac, ifname) = (HOST_MAC.parse().unwrap(), "container1".to_owned());
    running.add_fdb_entry(&NewFdbEntry { mac, ifname, vlan: None, state: NewFdbState::Static }).unwrap();
    assert_line(
        &mut running,
        &from_host_mac("container1"),
        "├─ learning: static entry on container1, unchanged",
    );
    assert_line(
        &mut running,
        &from_host_mac("container2"),
        "├─ learning: static entry on container1, not moved",
    );
    assert_line(
        &mut running,
        &from("host", |request| request.dst = Some("broadcast".into())),
        "├─ ingress host: up, is the host port",
    );
}

#[tokio::test]
async fn explains_learning_in_a_full_fdb() {
    let (_bench, mut running) = running(config(|options| options.fdb_max = Some(16))).await;
    learn(&running, HOST_MAC, "container2");
    // The sixteenth entry is the gateway's.
    (0..14).for_each(|n| learn(&running, &format!("02:00:5e:00:53:1{n:x}"), "container2"));
    let request = to("broadcast");
    let line = format!(
        "├─ learning: new, would be learned on container1 replacing {HOST_MAC} on container2: the database is full"
    );
    assert_line(&mut running, &request, &line);
    let entries =
        fdb_reports(&mut running, &FdbFilter { ifname: Some("container2".into()), ..FdbFilter::default() });
    for FdbReport { mac, ifname, .. } in entries {
        running.add_fdb_entry(&NewFdbEntry { mac, ifname, vlan: None, state: NewFdbState::Static }).unwrap();
    }
    assert_line(
        &mut running,
        &request,
        "├─ learning: refused: the database is full and no entry can be evicted",
    );
}

#[tokio::test]
async fn explains_the_destination() {
    let (_bench, mut running) = switch().await;
    for (dst, line) in [
        ("01:00:5e:00:00:01", "├─ flood: multicast"),
        ("container2", "├─ flood: unknown unicast"),
        ("container2", "├─ destination 02:de:a5:ad:00:02: unknown"),
        ("container2", "└─ verdict: flooded to 3 ports"),
        ("gateway", "│  └─ host: sent"),
        ("gateway", "└─ verdict: forwarded to host"),
        (
            "container1",
            "└─ verdict: dropped: the destination is behind the port that it came from (filtered, counted on container1)",
        ),
        (
            "01:80:c2:00:00:0e",
            "└─ verdict: dropped: to 01:80:C2:00:00:01 to 0F, which a bridge does not forward unless its group forward mask says so (reserved_address, counted on container1)",
        ),
    ] {
        assert_line(&mut running, &to(dst), line);
    }
    let ask = |ip: &str| from("container1", |request| request.arp_for = Some(ip.parse().unwrap()));
    assert_line(
        &mut running,
        &ask("172.16.0.1"),
        "├─ gateway: replies: ARP reply, 172.16.0.1 is-at 02:de:a5:ad:00:00",
    );
    assert_line(&mut running, &ask("172.16.0.1"), "└─ verdict: answered by the switch");
    let line = "├─ gateway: replies: neighbor advertisement, fd00:172:16::1 is at 02:de:a5:ad:00:00";
    assert_line(&mut running, &ask("fd00:172:16::1"), line);
    for ip in ["172.16.0.1", "fd00:172:16::1"] {
        let echo = EchoRequest { src: None, dst: ip.parse().unwrap() };
        assert_line(
            &mut running,
            &from("container1", |request| request.icmp = Some(echo)),
            "└─ verdict: answered by the switch",
        );
    }
}

#[tokio::test]
async fn explains_ingress_drops() {
    let (_bench, mut running) = switch().await;
    let ends = "ffffffffffff 02:00:5e:00:53:01";
    for (hex, why) in [
        ("0102".to_owned(), "shorter than an Ethernet header (runt, counted on container1)"),
        (
            "ffffffffffff 0300.5e00.5301 88b5".to_owned(),
            "the source is a group address or zero (bad_source, counted on container1)",
        ),
        (
            "ffffffffffff 02dea5ad0000 88b5".to_owned(),
            "its source MAC is the gateway's (spoofed_gateway, counted on container1)",
        ),
        (
            format!("{ends} 0806 0001 0800 06 04 0002 02005e005301 ac100001 000000000000 ac100003"),
            "its ARP sender address is the gateway's 172.16.0.1 (spoofed_gateway, counted on container1)",
        ),
    ] {
        assert_line(&mut running, &whole(&hex), &format!("└─ verdict: dropped: {why}"));
    }
    set(&running, "container1", |port| port.up = false);
    assert_eq!(
        tree(&mut running, &to("broadcast")),
        "└─ verdict: dropped: the port is down, or on its way out (ingress_down, counted on container1)\n"
    );
}

#[tokio::test]
async fn explains_egress_drops() {
    let (_bench, mut running) = switch().await;
    learn(&running, "02:de:a5:ad:00:02", "container2");
    let long = |dst: &str| whole(&format!("{dst} 02dea5ad0001 88b5 {}", "00".repeat(1505)));
    let refused = "│  └─ container2: refused: longer than the port's MTU (oversize)";
    assert_line(&mut running, &long("02dea5ad0002"), refused);
    let verdict = "└─ verdict: dropped: longer than the port's MTU (oversize, counted on container2)";
    assert_line(&mut running, &long("02dea5ad0002"), verdict);
    let verdict = "└─ verdict: dropped: longer than the port's MTU (oversize, counted on host)";
    assert_line(&mut running, &long("ffffffffffff"), verdict);
    set(&running, "container2", |port| port.up = false);
    assert_line(&mut running, &to("container2"), "│  └─ container2: refused: the port is down (egress_down)");
    set(&running, "host", |port| port.up = false);
    set(&running, "container3", |port| port.up = false);
    let verdict = "└─ verdict: dropped: a flood, and no other port is up (no_egress, counted on container1)";
    assert_line(&mut running, &to("broadcast"), verdict);
}

#[tokio::test]
async fn lists_at_most_16_egress_ports() {
    let (_bench, mut running) = running(config(|options| options.ports = Some(20))).await;
    let text = tree(&mut running, &to("broadcast"));
    assert!(text.contains("│  ├─ container16: sent\n│  └─ and 4 more\n"), "{text}");
    assert_eq!(running.trace(&to("broadcast")).unwrap().egress.len(), 20);
    // A refused port is always listed.
    let id = running.ports.values().find(|port| port.name == "container20").unwrap().device.id;
    running.device_changed(id, &LinkChange::State { up: false, mtu: 1500 });
    let text = tree(&mut running, &to("broadcast"));
    assert!(text.contains("│  ├─ container20: refused"), "{text}");
    assert!(text.contains("│  ├─ container15: sent\n│  └─ and 4 more\n"), "{text}");
}

#[tokio::test]
async fn rejects_invalid_frames() {
    let (_bench, running) = switch().await;
    let ip = |text: &str| text.parse().ok();
    for (request, why) in [
        (from("container9", |request| request.dst = Some("gateway".into())), "no port named container9"),
        (from("container1", |_| {}), "no frame given: "),
        (to("container9"), "container9 is neither a port"),
        (whole(""), "'' is not a frame"),
        (whole("012"), "'012' is not a frame"),
        (whole("0g"), "'0g' is not a frame"),
        (whole(&"00".repeat(70_000)), "the frame has 70000 bytes"),
        (
            from("container1", |request| (request.hex, request.vlan) = (Some("00".into()), Some(1))),
            "has its own addresses",
        ),
        (
            from("container1", |request| {
                (request.hex, request.arp_for) = (Some("00".into()), ip("10.0.0.1"));
            }),
            "more than one",
        ),
        (
            from("container1", |request| (request.arp_for, request.vlan) = (ip("10.0.0.1"), Some(4095))),
            "VLAN 4095",
        ),
        (
            from("container1", |request| {
                request.icmp = Some(EchoRequest { src: ip("10.0.0.1"), dst: "fd00::1".parse().unwrap() });
            }),
            "are of different address families",
        ),
        (
            from("host", |request| {
                request.icmp = Some(EchoRequest { src: None, dst: "10.0.0.1".parse().unwrap() });
            }),
            "host has no address of the same family as 10.0.0.1",
        ),
    ] {
        let error = running.trace(&request).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// The destination MAC is that of the host with the address, or the gateway's for other subnets.
#[tokio::test]
async fn builds_frames_as_the_sender_would() {
    let (_bench, running) = switch().await;
    let line = |edit: &dyn Fn(&mut TraceRequest)| {
        let trace: Trace = running.trace(&from("container1", edit)).unwrap();
        trace.frame
    };
    let echo = |src: Option<&str>, dst: &str| {
        Some(EchoRequest { src: src.map(|src| src.parse().unwrap()), dst: dst.parse().unwrap() })
    };
    for (made, expected) in [
        (
            line(&|request| request.icmp = echo(None, "192.0.2.9")),
            "02:de:a5:ad:00:01 > 02:de:a5:ad:00:00, IP 172.16.0.2 > 192.0.2.9: ICMP echo request, id 1, seq 1, length 64",
        ),
        (
            line(&|request| request.icmp = echo(Some("192.0.2.1"), "172.16.0.4")),
            "02:de:a5:ad:00:01 > 02:de:a5:ad:00:03, IP 192.0.2.1 > 172.16.0.4: ICMP echo request, id 1, seq 1, length 64",
        ),
        (
            line(&|request| (request.dst, request.vlan) = (Some("broadcast".into()), Some(7))),
            "02:de:a5:ad:00:01 > ff:ff:ff:ff:ff:ff, vlan 7, p 0, ethertype 0x88b5, length 64",
        ),
        (
            line(&|request| request.arp_for = "fd00:172:16::3".parse().ok()),
            "02:de:a5:ad:00:01 > 33:33:ff:00:00:03, IP6 fd00:172:16::2 > ff02::1:ff00:3: ICMP6, neighbor solicitation, who has fd00:172:16::3, length 32",
        ),
    ] {
        assert_eq!(made, expected);
    }
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

/// A sender asks for the MAC address of an on-link destination that no port has. It knows that of a group.
#[tokio::test]
async fn unresolved_destination_is_asked_for() {
    let (_bench, mut running) = switch().await;
    let ping = |dst: &str| {
        let echo = EchoRequest { src: None, dst: dst.parse().unwrap() };
        from("container1", |request| request.icmp = Some(echo))
    };
    for (dst, frame) in [
        ("172.16.0.200", "02:de:a5:ad:00:01 > ff:ff:ff:ff:ff:ff, ARP, who-has 172.16.0.200 tell 172.16.0.2"),
        (
            "fd00:172:16::c8",
            "02:de:a5:ad:00:01 > 33:33:ff:00:00:c8, IP6 fd00:172:16::2 > ff02::1:ff00:c8: ICMP6, neighbor solicitation, who has fd00:172:16::c8, length 32",
        ),
    ] {
        let trace = running.trace(&ping(dst)).unwrap();
        assert_eq!((trace.frame.as_str(), trace.unresolved), (frame, dst.parse().ok()));
        let line = format!("├─ next hop {dst}: no port has it, so the sender asks for its MAC address first");
        assert_line(&mut running, &ping(dst), &line);
        assert!(matches!(trace.verdict, TraceVerdict::Flood { .. }), "{:?}", trace.verdict);
    }
    for (dst, mac) in [
        ("224.0.1.2", "01:00:5e:00:01:02"),
        ("ff02::2", "33:33:00:00:00:02"),
        ("172.16.0.255", "ff:ff:ff:ff:ff:ff"),
        ("172.16.0.1", "02:de:a5:ad:00:00"),
    ] {
        let trace = running.trace(&ping(dst)).unwrap();
        assert!(
            trace.frame.contains(&format!("> {mac}, IP")) && trace.unresolved.is_none(),
            "{}",
            trace.frame
        );
    }
}

#[tokio::test]
async fn explains_software_segmentation() {
    let (_bench, running) = switch().await;
    set(&running, "container3", |port| port.offload = false);
    let (bytes, vnet) = super_frame();
    let ingress = running.port_named("container1").unwrap();
    let explain = |bytes: &[u8], vnet: VnetHeader| {
        let (frame, mut steps) = (Frame { bytes, vnet }, Steps::default());
        let verdict = running.switch.trace(running.datapath.now(), ingress, &frame, &mut steps);
        let egress = running.switch.flood_set(ingress, 1514).collect();
        running.explain(&Decision { frame, ingress, steps, verdict, egress }).to_string()
    };
    let cut = explain(&bytes, vnet);
    assert!(cut.lines().next().unwrap().ends_with(" (4054 bytes, segment size 1460)"), "{cut}");
    assert!(cut.contains("│  ├─ container2: sent\n"), "{cut}");
    assert!(cut.contains("│  └─ container3: sent as 3 segments, made by the switch (no offload)\n"), "{cut}");
    let summed = explain(&bytes[..1054], VnetHeader { gso_type: VnetHeader::GSO_NONE, gso_size: 0, ..vnet });
    assert!(summed.contains("container3: sent, checksum completed by the switch (no offload)\n"), "{summed}");
    let inconsistent = explain(&bytes, VnetHeader { gso_type: VnetHeader::GSO_TCPV6, ..vnet });
    let refused = "container3: refused: the port takes no offload, and the frame cannot be segmented as its header asks (unsegmentable)\n";
    assert!(
        inconsistent.contains(refused) && inconsistent.ends_with("└─ verdict: flooded to 2 ports\n"),
        "{inconsistent}"
    );
}

/// A frame of a file has no virtio-net header.
#[tokio::test]
async fn gso_size_marks_a_super_frame() {
    let (_bench, running) = switch().await;
    let (bytes, vnet) = super_frame();
    assert_eq!(super_frame_header(&bytes, 1460), Ok(VnetHeader { hdr_len: 0, ..vnet }));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let ask = |gso_size| {
        let request = TraceRequest {
            ifname: "container1".into(),
            hex: Some(hex.clone()),
            gso_size,
            ..TraceRequest::default()
        };
        running.trace(&request).unwrap().to_string()
    };
    let whole = ask(Some(1460));
    assert!(whole.contains(" (4054 bytes, segment size 1460)\n"), "{whole}");
    assert!(whole.ends_with("└─ verdict: flooded to 3 ports\n"), "{whole}");
    assert!(ask(None).contains("(oversize"), "{}", ask(None));
    assert!(ask(Some(1465)).contains("(oversize"), "a segment is longer than the MTU");
    let arp = TraceRequest {
        ifname: "container1".into(),
        arp_for: Some("172.16.0.1".parse().unwrap()),
        gso_size: Some(1460),
        ..TraceRequest::default()
    };
    let refused = running.trace(&arp).unwrap_err().to_string();
    assert_eq!(refused, "gso_size needs a super-frame: a super-frame has to be IPv4 or IPv6, not ARP");
}

// ---- live frames ---------------------------------------------------------------------------------------

/// The next delivery, if one is queued.
fn next(subscription: &mut Subscription<LiveTraceLine>) -> Option<Delivery<LiveTraceLine>> {
    let next = std::future::poll_fn(|context| subscription.poll_next(context));
    tokio::task::unconstrained(next).now_or_never().flatten()
}

/// The trace of the next live frame, without its timestamp.
async fn next_frame(
    running: &mut Running<FakeNetwork>,
    subscription: &mut Subscription<LiveTraceLine>,
) -> Trace {
    let found = async {
        loop {
            running.drain_live_traces();
            match next(subscription) {
                Some(Delivery::Item(LiveTraceLine::Frame(trace))) => break *trace,
                Some(other) => panic!("{other:?}"),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let trace = tokio::time::timeout(Duration::from_secs(30), found).await.expect("a frame is traced");
    assert!(trace.time.is_some());
    Trace { time: None, ..trace }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// Each frame is traced first, then sent through a real worker.
#[tokio::test]
async fn trace_predicts_what_then_happens() {
    let (fake, mut running) = switch().await;
    set(&running, "container3", |port| port.mtu = 100);
    let mut subscription = running.follow_frames(&TraceFilter::default()).unwrap();
    let arp = |operation: &str, sender: &str, target: &str| {
        format!(
            "ffffffffffff 02dea5ad0001 0806 0001 0800 0604 {operation} 02dea5ad0001 {sender} 000000000000 {target}"
        )
    };
    for hex in [
        "02dea5ad0002 02dea5ad0001 88b5 00".to_owned(),
        "02dea5ad0001 02dea5ad0001 88b5 00".to_owned(),
        "02dea5ad0000 02dea5ad0001 88b5 00".to_owned(),
        "ffffffffffff 02dea5ad0001 88b5 00".to_owned(),
        format!("ffffffffffff 02dea5ad0001 88b5 {}", "00".repeat(101)),
        "0180c2000001 02dea5ad0001 88b5 00".to_owned(),
        "ffffffffffff 02dea5ad0000 88b5 00".to_owned(),
        "ffffffffffff 03dea5ad0000 88b5 00".to_owned(),
        "02dea5ad0009 02dea5ad0008 88b5 00".to_owned(),
        "02dea5ad0009 02dea5ad0009 88b5 00".to_owned(),
        "0102".to_owned(),
        arp("0001", "ac100002", "ac100001"),
        arp("0001", "ac100002", "ac100003"),
        arp("0002", "ac100001", "ac100003"),
    ] {
        let predicted = running.trace(&whole(&hex)).unwrap();
        fake.peer("container1").send(&bytes(&hex)).unwrap();
        assert_eq!(next_frame(&mut running, &mut subscription).await, predicted, "{hex}");
    }
}

#[tokio::test]
async fn follow_filters_by_port_drops_and_limit() {
    let (fake, mut running) = switch().await;
    let all = bytes("ffffffffffff 02dea5ad0001 88b5");
    let filter = TraceFilter { ifname: Some("container1".into()), drops: true, limit: Some(1) };
    let mut subscription = running.follow_frames(&filter).unwrap();
    fake.peer("container2").send(&[0; 9]).unwrap();
    fake.peer("container1").send(&all).unwrap();
    fake.peer("container1").send(&[0; 8]).unwrap();
    let trace = next_frame(&mut running, &mut subscription).await;
    assert_eq!((trace.ifname.as_str(), trace.length), ("container1", 8));
    assert!(matches!(trace.verdict, TraceVerdict::Drop { reason, .. } if reason == "runt"));
    let end = std::future::poll_fn(|context| subscription.poll_next(context)).await;
    assert_eq!((end, running.live_traces.due().now_or_never()), (None, None), "it has all");
    assert!(running.follow_frames(&TraceFilter { ifname: Some("container9".into()), ..filter }).is_err());
}

/// Sends `count` runts from container1 and waits until all are read.
async fn send_runts(fake: &FakeControl, running: &Running<FakeNetwork>, count: u64) {
    for _ in 0..count {
        fake.peer("container1").send(&[0; 8]).unwrap();
    }
    let all_read = async {
        while running.status().rx_frames < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_read).await.expect("the frames are read");
}

#[tokio::test]
async fn follow_ends_when_port_is_deleted_and_counts_missed() {
    let (fake, mut running) = switch().await;
    let filter = TraceFilter { ifname: Some("container1".into()), ..TraceFilter::default() };
    let mut of_one = running.follow_frames(&filter).unwrap();
    let mut of_all = running.follow_frames(&TraceFilter::default()).unwrap();
    let sent = crate::datapath::RECORDS as u64 + 1;
    send_runts(&fake, &running, sent).await;
    running.remove_port("container1").unwrap();
    running.drain_live_traces();
    for subscription in [&mut of_one, &mut of_all] {
        let deliveries: Vec<_> = std::iter::from_fn(|| next(subscription)).collect();
        assert_eq!((deliveries.len() as u64, deliveries.last()), (sent, Some(&Delivery::Missed(1))));
    }
    let is_at_end = |subscription: &mut Subscription<LiveTraceLine>| {
        let next = std::future::poll_fn(|context| subscription.poll_next(context));
        tokio::task::unconstrained(next).now_or_never().is_some()
    };
    assert_eq!([&mut of_one, &mut of_all].map(is_at_end), [true, false]);
}

#[tokio::test]
async fn closed_follower_frees_its_mirror() {
    let (_bench, mut running) = switch().await;
    let subscriptions: Vec<_> =
        std::iter::from_fn(|| running.follow_frames(&TraceFilter::default()).ok()).take(100).collect();
    assert_eq!(subscriptions.len(), crate::datapath::MIRRORS);
    drop(subscriptions);
    running.drain_live_traces();
    running.follow_frames(&TraceFilter::default()).unwrap();
}

/// One pass reads at most what a mirror's queue holds. The rest is counted.
#[tokio::test]
async fn counts_frames_beyond_the_mirror_queue() {
    const MORE: u64 = 100;
    let (fake, mut running) = switch().await;
    let mut subscription = running.follow_frames(&TraceFilter::default()).unwrap();
    let sent = crate::datapath::RECORDS as u64 + MORE;
    send_runts(&fake, &running, sent).await;
    // Workers attach a port between two turns, so the last frame's turn is over.
    running.add_port(NewPort::default()).unwrap();
    running.drain_live_traces();
    let deliveries: Vec<_> = std::iter::from_fn(|| next(&mut subscription)).collect();
    assert_eq!(deliveries.len(), crate::datapath::RECORDS + 1);
    assert_eq!(deliveries.last(), Some(&Delivery::Missed(MORE)));
}
