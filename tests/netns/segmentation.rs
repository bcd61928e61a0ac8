//! Super-frames to a port without offload are segmented as the kernel would do it.

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader};
use serde_json::json;
use uswitch::wire::{ETHERNET_HEADER, Mac, VnetHeader};

use crate::harness::{
    Frame, LinuxBridge, Shell, TestSwitch, Uswitch, end_marker, ethernet, frame, frames_seen, mac, on_both,
    sending_cpu, tagged, v4, wait_until,
};
use crate::traffic::send_file;

on_both!(passes_super_frames_to_a_port_with_offload);

const SENDER: Mac = mac(1);
const RECEIVER: Mac = mac(3);

/// A TCP segment far longer than the MTU, as the kernel passes it to a device with TSO: the checksum field
/// has only the pseudo-header's sum.
struct SuperFrame {
    bytes: Frame,
    vnet: VnetHeader,
}

impl SuperFrame {
    /// `payload` bytes from 192.0.2.1 to 192.0.2.3, with this `gso_size`; `edit` changes the TCP header.
    fn v4(payload: u16, gso_size: u16, edit: impl FnOnce(&mut TcpHeader)) -> SuperFrame {
        let segment = segment(payload, edit);
        let (source, destination) = ([192, 0, 2, 1], [192, 0, 2, 3]);
        let length = u16::try_from(segment.len()).expect("it fits");
        let mut header = Ipv4Header::new(length, 64, IpNumber::TCP, source, destination).expect("it fits");
        header.identification = 0xfffe;
        header.header_checksum = header.calc_header_checksum();
        let sum = pseudo_header(&[&source, &destination, &[0, 6], &length.to_be_bytes()]);
        let packet = [&header.to_bytes()[..], &segment].concat();
        SuperFrame::of(ethernet(RECEIVER, SENDER, 0x0800, &packet), Ipv4Header::MIN_LEN, (gso_size, sum))
    }

    /// The same from 2001:db8::1 to 2001:db8::3.
    fn v6(payload: u16, gso_size: u16, edit: impl FnOnce(&mut TcpHeader)) -> SuperFrame {
        let segment = segment(payload, edit);
        let address = |last| [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let length = u16::try_from(segment.len()).expect("it fits");
        let header = Ipv6Header {
            flow_label: Ipv6FlowLabel::try_new(0x12345).expect("20 bits"),
            payload_length: length,
            next_header: IpNumber::TCP,
            hop_limit: 64,
            source: address(1),
            destination: address(3),
            ..Ipv6Header::default()
        };
        let sum = pseudo_header(&[&address(1), &address(3), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 6]]);
        let packet = [&header.to_bytes()[..], &segment].concat();
        SuperFrame::of(ethernet(RECEIVER, SENDER, 0x86dd, &packet), Ipv6Header::LEN, (gso_size, sum))
    }

    fn of(mut bytes: Frame, ip_header: usize, (gso_size, sum): (u16, u16)) -> SuperFrame {
        const CHECKSUM_AT: u16 = 16;
        const WITH_OPTIONS: u16 = 32;
        let tcp = ETHERNET_HEADER + ip_header;
        let field = tcp + usize::from(CHECKSUM_AT);
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        let csum_start = u16::try_from(tcp).expect("it fits");
        let gso_type =
            if ip_header == Ipv6Header::LEN { VnetHeader::GSO_TCPV6 } else { VnetHeader::GSO_TCPV4 };
        let vnet = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: if gso_size == 0 { VnetHeader::GSO_NONE } else { gso_type },
            hdr_len: csum_start + WITH_OPTIONS,
            gso_size,
            csum_start,
            csum_offset: CHECKSUM_AT,
        };
        SuperFrame { bytes, vnet }
    }

    /// The same with an additional 802.1Q tag.
    fn tagged(self, vid: u16) -> SuperFrame {
        let vnet =
            VnetHeader { csum_start: self.vnet.csum_start + 4, hdr_len: self.vnet.hdr_len + 4, ..self.vnet };
        SuperFrame { bytes: tagged(&self.bytes, vid), vnet }
    }

    /// The same from a sender that uses ECN: the first segment has CWR set (RFC 3168 §6.1.2).
    fn with_ecn(mut self) -> SuperFrame {
        self.vnet.gso_type |= VnetHeader::GSO_ECN;
        self
    }

    /// The format of a packet socket with `PACKET_VNET_HDR` (packet(7)): the first 10 bytes of the header,
    /// then the frame.
    fn with_header(&self) -> Vec<u8> {
        [&self.vnet.emit()[..10], &self.bytes].concat()
    }
}

/// A TCP header with a timestamp option, and some payload.
fn segment(payload: u16, edit: impl FnOnce(&mut TcpHeader)) -> Vec<u8> {
    let mut header = TcpHeader::new(40_000, 5001, 0xffff_f000, 8192);
    (header.acknowledgment_number, header.ack) = (77, true);
    header.set_options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).expect("a multiple of 4");
    edit(&mut header);
    let payload = (0..payload).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]);
    header.to_bytes().iter().copied().chain(payload).collect()
}

/// The sum of 16-bit words, not complemented (RFC 1071).
fn pseudo_header(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded twice")
}

/// One super-frame of each kind.
fn super_frames() -> Vec<SuperFrame> {
    let plain = |_: &mut TcpHeader| {};
    let set_psh_and_fin = |tcp: &mut TcpHeader| (tcp.psh, tcp.fin) = (true, true);
    let congested = |tcp: &mut TcpHeader| (tcp.cwr, tcp.psh) = (true, true);
    vec![
        SuperFrame::v4(40_000, 1448, plain),
        SuperFrame::v6(40_000, 1428, plain),
        SuperFrame::v4(4001, 1000, set_psh_and_fin),
        SuperFrame::v6(4001, 999, set_psh_and_fin),
        SuperFrame::v4(2896, 1448, plain),
        SuperFrame::v4(5000, 1448, congested).with_ecn(),
        SuperFrame::v4(20_000, 1448, plain).tagged(10),
        SuperFrame::v6(20_000, 1428, set_psh_and_fin).tagged(4094),
        SuperFrame::v4(501, 0, plain),
        SuperFrame::v6(500, 0, plain).tagged(10),
    ]
}

/// What arrives of [`super_frames`] at container 3, whose device has no offload.
fn arriving(s: &impl TestSwitch) -> Vec<Frame> {
    /// A packet socket that sends each file with `PACKET_VNET_HDR` (15) of `SOL_PACKET` (263).
    const SEND: &str = "import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((\"eth0\", 0))
s.setsockopt(263, 15, 1)
for name in sys.argv[1:]: s.send(open(name, \"rb\").read())";
    let [h1, h2, h3] = s.containers();
    frames_seen(&h3, &[frame(Mac::BROADCAST, RECEIVER, "I am here")], [&h1, &h2]);
    let last = end_marker();
    let end = SuperFrame { bytes: last.clone(), vnet: VnetHeader::default() };
    let mut names = String::new();
    for (i, super_frame) in super_frames().iter().chain([&end]).enumerate() {
        let name = format!("/run/frame{i}");
        std::fs::write(s.host().path(&name), super_frame.with_header())
            .expect("the host's /run can be written");
        names = format!("{names} {name}");
    }
    let capture = h3.capture("eth0", &format!("ether src {SENDER} or ether proto 0x88b5"));
    h1.sh(&format!("taskset --cpu-list {} python3 -c '{SEND}' {names}", sending_cpu())).ok();
    capture.until(&last)
}

/// The bytes are those that the kernel sends on a device without offload.
#[test]
fn segments_match_the_kernel() {
    let bridge = LinuxBridge::start();
    bridge.host().run("ethtool -K container3 tx off sg off tso off").ok();
    let expected = arriving(&bridge);
    assert!(expected.len() > 100, "the kernel cut {} frames", expected.len());
    assert_eq!(expected.iter().map(Vec::len).max(), Some(1518));
    drop(bridge);

    let s = Uswitch::with("--ports 2 --guard off");
    s.host().run("uswitch port add container3 --no-offload").ok();
    let made = arriving(&s);
    for (i, (made, expected)) in made.iter().zip(&expected).enumerate() {
        let differs = made.iter().zip(expected).position(|(ours, theirs)| ours != theirs);
        assert_eq!(
            (made.len(), differs),
            (expected.len(), None),
            "length and first different byte of frame {i}"
        );
    }
    assert_eq!(made.len(), expected.len());
}

/// A device with offload receives super-frames unsegmented.
fn passes_super_frames_to_a_port_with_offload<S: TestSwitch>() {
    let s = S::start();
    let sent: Vec<Frame> = super_frames().into_iter().map(|super_frame| super_frame.bytes).collect();
    let lengths = |frames: &[Frame]| frames.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&arriving(&s)), lengths(&sent));
}

/// A port without offload receives complete segments of the super-frames that a port with offload sent.
#[test]
fn segments_tcp_for_a_port_without_offload() {
    let s = Uswitch::with("--ports 2");
    s.host().run("uswitch port add container3 --no-offload").ok();
    let [h1, _, h3] = s.containers();
    let capture = h3.capture("eth0", "tcp dst port 5001");
    send_file(&h1, &h3, &v4(3));
    let frames: Vec<Frame> = std::iter::from_fn(|| capture.next()).take(1000).collect();
    assert_eq!(frames.len(), 1000);
    assert_eq!(frames.iter().map(Vec::len).max(), Some(1514));
    send_file(&h3, &h1, &v4(1));
}

/// The same for UDP: 40 datagrams written as one (`UDP_SEGMENT`, udp(7)) arrive as 40.
fn udp_segments(s: &impl TestSwitch) {
    const UDP_SEGMENT_OF_1000: &str = "setsockopt-int=17:103:1000";
    let [h1, _, h3] = s.containers();
    let mut receiver = h3.spawn_sh("socat -d -d -u UDP-RECV:5002 STDOUT | head -c 40000 | sha256sum");
    receiver.line_with("starting data transfer");
    let sum = h1.sh("head -c 40000 /dev/urandom >/run/file; sha256sum </run/file").ok();
    h1.run(&format!("socat -u -b 40000 OPEN:/run/file UDP:{}:5002,{UDP_SEGMENT_OF_1000}", v4(3))).ok();
    receiver.line_with(sum.trim());
}

#[test]
fn udp_segments_through_the_linux_bridge() {
    udp_segments(&LinuxBridge::start());
}

#[test]
fn udp_segments_with_offload() {
    let s = Uswitch::with("--ports 3");
    let [.., h3] = s.containers();
    let capture = h3.capture("eth0", "udp dst port 5002");
    udp_segments(&s);
    let length = capture.next().expect("a frame").len();
    if devices_take_large_datagrams() {
        assert!(length > 1514, "the first of its frames has {length} bytes");
    } else {
        assert_eq!(length, 14 + 20 + 8 + 1000);
    }
}

/// TAP devices have USO from Linux 6.2 on (`TUN_F_USO4`).
fn devices_take_large_datagrams() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc(5)");
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|word| word.parse().ok()).collect();
    numbers >= vec![6, 2]
}

#[test]
fn segments_udp_for_a_port_without_offload() {
    let s = Uswitch::with("--ports 2");
    s.host().run("uswitch port add container3 --no-offload").ok();
    let [.., h3] = s.containers();
    let capture = h3.capture("eth0", "udp dst port 5002");
    udp_segments(&s);
    let lengths: Vec<usize> =
        std::iter::from_fn(|| capture.next().map(|frame| frame.len())).take(40).collect();
    assert_eq!(lengths, [14 + 20 + 8 + 1000; 40]);
}

/// A container may disable the offloads of its device. The port shows it, without traffic.
#[test]
fn port_shows_offloads_that_a_container_disables() {
    let s = Uswitch::with("--ports 2");
    let [h1, ..] = s.containers();
    let offloads = || s.row("port show", "container1")["offloads"].clone();
    let all = json!(["tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload"]);
    assert_eq!(offloads(), all);
    h1.run("ethtool -K eth0 tso off").ok();
    let remaining = json!(["tx-checksumming", "generic-segmentation-offload"]);
    wait_until("the port shows it", || offloads() == remaining);
    let table = s.host().run("uswitch port show").ok();
    assert!(table.contains("container1: the device has tcp-segmentation-offload off"), "{table}");
    let events = s.host().run("uswitch events --type port_changed").ok();
    assert!(events.contains("offloads: tx-checksumming, generic-segmentation-offload"), "{events}");
    h1.run("ethtool -K eth0 tso on").ok();
    wait_until("the port shows no difference any more", || offloads() == all);
    let table = s.host().run("uswitch port show").ok();
    assert!(!table.contains(" off\n"), "{table}");
}
