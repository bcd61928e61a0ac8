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
