//! The steps of a decision and its verdict.

use std::time::SystemTime;

use super::*;
use crate::control::topology::LinkChange;
use crate::switch::fdb::Learned;
use crate::switch::{Observer, Step};

#[tokio::test]
async fn explains_each_step_of_the_decision() {
    let (fake, mut running) = switch().await;
    let request = from("container1", |request| request.arp_for = Some("172.16.0.3".parse().unwrap()));
    set(&running, "container3", |port| port.up = false);
    assert_eq!(
        trace(&running, &request).unwrap().to_string(),
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
    route(&fake, "fd00:172:16::3", "fd00:172:16::2", "fd00:172:16::3", Some("02:de:a5:ad:00:02"));
    learn(&running, "02:de:a5:ad:00:02", "container2");
    assert_eq!(
        trace(&running, &request).unwrap().to_string(),
        "container1: 02:de:a5:ad:00:01 > 02:de:a5:ad:00:02, IP6 fd00:172:16::2 > fd00:172:16::3: ICMP6, echo request, \
         id 1, seq 1, length 64 (118 bytes)\n\
         ├─ route: next hop fd00:172:16::3 at 02:de:a5:ad:00:02\n\
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
    running
        .replace_fdb_entry(&NewFdbEntry { mac, ifname, vlan: None, state: NewFdbState::Static, sticky: true })
        .unwrap();
    assert_line(
        &mut running,
        &from_host_mac("container1"),
        "├─ learning: static entry on container1, unchanged",
    );
    assert_line(
        &mut running,
        &from_host_mac("container2"),
        "├─ learning: sticky or permanent entry on container1, not moved",
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
        running
            .replace_fdb_entry(&NewFdbEntry {
                mac,
                ifname,
                vlan: None,
                state: NewFdbState::Static,
                sticky: false,
            })
            .unwrap();
    }
    assert_line(
        &mut running,
        &request,
        "├─ learning: refused: the database is full and no entry can be evicted",
    );
}

#[tokio::test]
async fn explains_the_destination() {
    let (fake, mut running) = switch().await;
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
        let source = if ip.contains(':') { "fd00:172:16::2" } else { "172.16.0.2" };
        route(&fake, ip, source, ip, Some("02:de:a5:ad:00:00"));
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
    let verdict =
        "└─ verdict: dropped: a flood, and no other port may receive it (no_egress, counted on container1)";
    assert_line(&mut running, &to("broadcast"), verdict);
}

#[tokio::test]
async fn lists_at_most_16_egress_ports() {
    let (_bench, mut running) = running(config(|options| options.ports = Some(20))).await;
    let text = tree(&mut running, &to("broadcast"));
    assert!(text.contains("│  ├─ container16: sent\n│  └─ and 4 more\n"), "{text}");
    assert_eq!(trace(&running, &to("broadcast")).unwrap().egress.len(), 20);
    // A refused port is always listed.
    let id = running.ports.values().find(|port| port.name == "container20").unwrap().device.id;
    running.device_changed(id, &LinkChange::State { up: false, carrier: true, mtu: 1500 });
    let text = tree(&mut running, &to("broadcast"));
    assert!(text.contains("│  ├─ container20: refused"), "{text}");
    assert!(text.contains("│  ├─ container15: sent\n│  └─ and 4 more\n"), "{text}");
}

#[tokio::test]
async fn explains_software_segmentation() {
    let (_bench, running) = switch().await;
    set(&running, "container3", |port| port.offload = false);
    let (bytes, vnet) = super_frame();
    let ingress = running.port_named("container1").unwrap();
    let explain = |bytes: &[u8], vnet: VnetHeader| {
        let (frame, mut steps) = (Frame { bytes, vnet }, Steps::default());
        let outcome = &running.switch.trace(running.datapath.now(), ingress, &frame, &mut steps);
        let time = SystemTime::now();
        running.explain(&TracedDecision { time, frame, steps, outcome, not_flooded: &[] }).to_string()
    };
    let cut = explain(&bytes, vnet);
    assert!(cut.lines().next().unwrap().ends_with(" (4054 bytes, segment size 1460)"), "{cut}");
    assert!(cut.contains("│  ├─ container2: sent\n"), "{cut}");
    assert!(cut.contains("│  └─ container3: sent as 3 segments, made by the switch (no offload)\n"), "{cut}");
    let summed = explain(&bytes[..1054], VnetHeader { gso_type: VnetHeader::GSO_NONE, gso_size: 0, ..vnet });
    assert!(summed.contains("container3: sent, checksum completed by the switch (no offload)\n"), "{summed}");
    let small = explain(&bytes, VnetHeader { gso_size: 8, ..vnet });
    assert!(
        small.contains("container3: refused: the port takes no offload, and the frame would become too many"),
        "{small}"
    );
    let inconsistent = explain(&bytes, VnetHeader { gso_type: VnetHeader::GSO_TCPV6, ..vnet });
    let refused = "container3: refused: the port takes no offload, and the frame cannot be segmented as its header asks (unsegmentable)\n";
    assert!(
        inconsistent.contains(refused) && inconsistent.ends_with("└─ verdict: flooded to 2 ports\n"),
        "{inconsistent}"
    );
}

/// The entry may have changed, and the port may have been renamed, since the frame was forwarded.
#[tokio::test]
async fn explains_the_state_at_the_time_of_the_decision() {
    let (_bench, running) = switch().await;
    let [ingress, other] = ["container1", "container2"].map(|name| running.port_named(name).unwrap());
    let (bytes, time) = (bytes("ffffffffffff 02dea5ad0001 88b5"), SystemTime::now());
    let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
    let explain = |learned: Learned| {
        let mut steps = Steps::default();
        steps.note(Step::Learned(learned));
        let outcome = &running.switch.trace(running.datapath.now(), ingress, &frame, &mut ());
        running.explain(&TracedDecision { time, frame, steps, outcome, not_flooded: &[] }).to_string()
    };
    running.names.set(other, "renamed");
    let pinned = explain(Learned::Pinned { on: other });
    assert!(
        pinned.contains("learning: sticky or permanent entry on container2, not moved")
            && !pinned.contains("renamed"),
        "{pinned}"
    );
    assert!(
        explain(Learned::Static).contains("learning: static entry on container1, unchanged"),
        "no such entry now"
    );
    let reserved = explain(Learned::Reserved { owner: other });
    assert!(reserved.contains("learning: address of the guarded port container2, not learned"), "{reserved}");
}
