//! The frames that a trace builds: as the sender would, or as they are given.

use super::*;

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
    ] {
        let error = trace(&running, &request).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// The addresses are those that the sender's kernel chooses.
#[tokio::test]
async fn builds_frames_as_the_sender_would() {
    let (fake, running) = switch().await;
    route(&fake, "192.0.2.9", "172.16.0.77", "172.16.0.1", Some("02:de:a5:ad:00:00"));
    route(&fake, "172.16.0.4", "172.16.0.2", "172.16.0.4", Some("02:00:5e:00:53:04"));
    let line = |edit: &dyn Fn(&mut TraceRequest)| {
        let trace: Trace = trace(&running, &from("container1", edit)).unwrap();
        trace.frame
    };
    let echo = |src: Option<&str>, dst: &str| {
        Some(EchoRequest { src: src.map(|src| src.parse().unwrap()), dst: dst.parse().unwrap() })
    };
    for (made, expected) in [
        (
            line(&|request| request.icmp = echo(None, "192.0.2.9")),
            "02:de:a5:ad:00:01 > 02:de:a5:ad:00:00, IP 172.16.0.77 > 192.0.2.9: ICMP echo request, id 1, seq 1, length 64",
        ),
        (
            line(&|request| request.icmp = echo(Some("192.0.2.1"), "172.16.0.4")),
            "02:de:a5:ad:00:01 > 02:00:5e:00:53:04, IP 192.0.2.1 > 172.16.0.4: ICMP echo request, id 1, seq 1, length 64",
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

/// A sender asks for the MAC address of the next hop if its neighbour table does not have it.
#[tokio::test]
async fn unresolved_next_hop_is_asked_for() {
    let (fake, mut running) = switch().await;
    let ping = |src: Option<&str>, dst: &str| {
        let echo = EchoRequest { src: src.map(|src| src.parse().unwrap()), dst: dst.parse().unwrap() };
        from("container1", |request| request.icmp = Some(echo))
    };
    route(&fake, "172.16.0.200", "172.16.0.2", "172.16.0.200", None);
    route(&fake, "192.0.2.9", "172.16.0.2", "172.16.0.7", None);
    route(&fake, "fd00:172:16::c8", "fd00:172:16::2", "fd00:172:16::c8", None);
    let arp = |target: &str| {
        format!("02:de:a5:ad:00:01 > ff:ff:ff:ff:ff:ff, ARP, who-has {target} tell 172.16.0.2")
    };
    let solicitation = "02:de:a5:ad:00:01 > 33:33:ff:00:00:c8, IP6 fd00:172:16::2 > ff02::1:ff00:c8: ICMP6, \
                        neighbor solicitation, who has fd00:172:16::c8, length 32";
    for (src, dst, next_hop, frame) in [
        (None, "172.16.0.200", "172.16.0.200", arp("172.16.0.200")),
        (None, "192.0.2.9", "172.16.0.7", arp("172.16.0.7")),
        // It never asks with an address that is not its own.
        (Some("192.0.2.1"), "192.0.2.9", "172.16.0.7", arp("172.16.0.7")),
        (None, "fd00:172:16::c8", "fd00:172:16::c8", solicitation.to_owned()),
    ] {
        let request = ping(src, dst);
        let trace = trace(&running, &request).unwrap();
        let route = TraceRoute { next_hop: next_hop.parse().unwrap(), mac: None };
        assert_eq!((trace.frame, trace.route), (frame, Some(route)));
        let line = format!("├─ route: next hop {next_hop}, whose MAC address container1 asks for first");
        assert_line(&mut running, &request, &line);
        assert!(matches!(trace.verdict, TraceVerdict::Flood { .. }), "{:?}", trace.verdict);
    }
}

#[tokio::test]
async fn explains_why_the_sender_sends_nothing() {
    let (fake, running) = switch().await;
    let dst = "10.1.2.3".parse().unwrap();
    let request = from("container1", |request| request.icmp = Some(EchoRequest { src: None, dst }));
    let refusal = || trace(&running, &request).unwrap_err().to_string();
    assert_eq!(refusal(), "the device of container1 is gone: it sends nothing");
    for (route, why) in [
        (SenderRoute::Missing, "container1 has no route to 10.1.2.3: it sends nothing"),
        (SenderRoute::Own, "10.1.2.3 is an address of container1 itself: it sends nothing"),
        (
            SenderRoute::OtherDevice("wg0".into()),
            "container1 sends packets to 10.1.2.3 from its device wg0, not from its port: nothing reaches the switch",
        ),
    ] {
        fake.set_route(dst, route);
        assert_eq!(refusal(), why);
    }
    let no_source = SenderRoute::Port { source: None, next_hop: dst, mac: Some(Mac::ZERO) };
    fake.set_route(dst, no_source);
    assert_eq!(refusal(), "container1 has no address of the same family as 10.1.2.3: set the source too");
    // With the MAC address of the destination, no source address is needed.
    let named = TraceRequest { dst: Some("container2".into()), ..request.clone() };
    assert!(trace(&running, &named).is_ok());
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
        trace(&running, &request).unwrap().to_string()
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
    let refused = trace(&running, &arp).unwrap_err().to_string();
    assert_eq!(refused, "gso_size needs a super-frame: a super-frame has to be IPv4 or IPv6, not ARP");
}
