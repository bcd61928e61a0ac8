//! Builds the frame to trace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv6Type, PacketBuilder};

use super::{EchoRequest, TraceRequest, TraceRoute};
use crate::control::topology::SenderRoute;
use crate::wire::arp::Arp;
use crate::wire::segment::SegmentError;
use crate::wire::{ETHERNET_HEADER, EtherType, Mac, VLAN_TAG, VlanTag};

/// Longest frame, in bytes: the longest that a TAP device takes, and a tag.
pub(crate) const LONGEST: usize = ETHERNET_HEADER + VLAN_TAG + 65535;

/// Why the request describes no frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("no frame given: set arp_for, icmp or hex, or only dst for an empty frame")]
    NoFrame,
    #[error("more than one frame given: set only one of arp_for, icmp and hex")]
    SeveralFrames,
    #[error("hex is a whole frame that has its own addresses and tag: omit src, dst and vlan")]
    WholeFrame,
    #[error("'{0}' is not a frame: write two hexadecimal digits for each byte")]
    BadHex(String),
    #[error("the frame has {0} bytes, but at most {LONGEST} are possible")]
    TooLong(usize),
    #[error("VLAN {0} is out of range: choose 1 to 4094")]
    BadVlan(u16),
    #[error("{0} is neither a port, a MAC, 'gateway' nor 'broadcast': `uswitch port show` lists the ports")]
    UnknownDestination(String),
    #[error("{port} has no address of the same family as {dst}: set the source too")]
    NoSource { port: String, dst: IpAddr },
    #[error("{port} has no route to {dst}: it sends nothing")]
    NoRoute { port: String, dst: IpAddr },
    #[error(
        "{port} sends packets to {dst} from its device {device}, not from its port: nothing reaches the switch"
    )]
    OtherDevice { port: String, dst: IpAddr, device: String },
    #[error("{dst} is an address of {port} itself: it sends nothing")]
    OwnAddress { port: String, dst: IpAddr },
    #[error("the routes of {0} are not visible to this switch: give the destination MAC address too")]
    RoutesNotVisible(String),
    #[error("the device of {0} is gone: it sends nothing")]
    NoDevice(String),
    #[error("the kernel does not say how {0} routes the packet: it did not answer in time")]
    RouteTimeout(String),
    #[error("gso_size needs a super-frame: {0}")]
    NoSuperFrame(#[from] SegmentError),
    #[error("{0} and {1} are of different address families: use two IPv4 or two IPv6 addresses")]
    TwoFamilies(IpAddr, IpAddr),
}

/// Defaults for what the request leaves out.
#[derive(Debug)]
pub(crate) struct FrameDefaults<'a> {
    /// The ingress port's name.
    pub(crate) port: &'a str,
    /// MAC address of its device.
    pub(crate) mac: Mac,
    /// Addresses of its device.
    pub(crate) addresses: Vec<IpAddr>,
}

impl TraceError {
    /// The request is valid, but the sender would not send such a frame now.
    pub(crate) const fn is_about_sender(&self) -> bool {
        matches!(
            self,
            TraceError::NoRoute { .. }
                | TraceError::OtherDevice { .. }
                | TraceError::OwnAddress { .. }
                | TraceError::RoutesNotVisible(_)
                | TraceError::NoDevice(_)
        )
    }
}

impl FrameDefaults<'_> {
    /// The first address of the family of `like`.
    fn address_like(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == like.is_ipv4())
    }

    /// The source address of a packet to `dst`, if there is one.
    fn source(&self, source: Option<IpAddr>, dst: IpAddr) -> Result<IpAddr, TraceError> {
        source.ok_or_else(|| TraceError::NoSource { port: self.port.to_owned(), dst })
    }
}

/// The frame that a sender would send.
#[derive(Debug)]
pub(crate) struct BuiltFrame {
    pub(crate) bytes: Vec<u8>,
    /// The route of the requested packet, if it was needed.
    pub(crate) route: Option<TraceRoute>,
}

/// Builds the frame. `resolve` looks up a named destination; `route` is how the sender routes an echo request.
pub(crate) fn frame(
    request: &TraceRequest,
    defaults: &FrameDefaults<'_>,
    resolve: impl Fn(&str) -> Option<Mac>,
    route: Option<SenderRoute>,
) -> Result<BuiltFrame, TraceError> {
    if let TraceRequest { hex: Some(hex), arp_for: None, icmp: None, .. } = request {
        return match request {
            TraceRequest { src: None, dst: None, vlan: None, .. } => {
                Ok(BuiltFrame { bytes: bytes_of(hex)?, route: None })
            }
            _ => Err(TraceError::WholeFrame),
        };
    }
    let src = request.src.unwrap_or(defaults.mac);
    let named = request.dst.as_ref().map(|name| {
        let mac = name.parse().ok().or_else(|| resolve(name));
        mac.ok_or_else(|| TraceError::UnknownDestination(name.clone()))
    });
    let named = named.transpose()?;
    let (frame, route) = match (request.arp_for, &request.icmp, &request.hex) {
        (None, None, None) => (plain(src, named.ok_or(TraceError::NoFrame)?), None),
        (Some(target), None, None) => {
            (address_request(src, named, target, defaults.address_like(target)), None)
        }
        (None, Some(packet), None) => match named {
            Some(dst) => {
                let from = packet.src.or_else(|| defaults.address_like(packet.dst));
                (echo_request(src, dst, defaults.source(from, packet.dst)?, packet.dst)?, None)
            }
            None => {
                let (bytes, route) = routed_echo_request(src, packet, defaults, route)?;
                (bytes, Some(route))
            }
        },
        _ => return Err(TraceError::SeveralFrames),
    };
    let bytes = match request.vlan {
        None => frame,
        Some(vid @ 1..4095) => VlanTag { tpid: EtherType::C_TAG, tci: vid }.insert_into(&frame),
        Some(vid) => return Err(TraceError::BadVlan(vid)),
    };
    Ok(BuiltFrame { bytes, route })
}

/// What the sender sends first for an echo request: the request, or the question for the MAC address of the next hop.
fn routed_echo_request(
    src: Mac,
    packet: &EchoRequest,
    defaults: &FrameDefaults<'_>,
    route: Option<SenderRoute>,
) -> Result<(Vec<u8>, TraceRoute), TraceError> {
    let (port, dst) = (|| defaults.port.to_owned(), packet.dst);
    let (source, next_hop, mac) = match route {
        Some(SenderRoute::Port { source, next_hop, mac }) => (source, next_hop, mac),
        Some(SenderRoute::OtherDevice(device)) => {
            return Err(TraceError::OtherDevice { port: port(), dst, device });
        }
        Some(SenderRoute::Own) => return Err(TraceError::OwnAddress { port: port(), dst }),
        Some(SenderRoute::Missing) => return Err(TraceError::NoRoute { port: port(), dst }),
        None => return Err(TraceError::NoDevice(port())),
    };
    let bytes = match mac {
        Some(mac) => echo_request(src, mac, defaults.source(packet.src.or(source), dst)?, dst)?,
        None => {
            // The kernel asks with an address of its own (`arp_solicit`, `ndisc_solicit`).
            let own = packet.src.filter(|src| defaults.addresses.contains(src)).or(source);
            address_request(src, None, next_hop, own)
        }
    };
    Ok((bytes, TraceRoute { next_hop, mac }))
}

/// Asks for the MAC address of `target`. A sender without an address (`own`) probes.
fn address_request(src: Mac, dst: Option<Mac>, target: IpAddr, own: Option<IpAddr>) -> Vec<u8> {
    match target {
        IpAddr::V4(target) => arp(src, dst.unwrap_or(Mac::BROADCAST), target, own),
        IpAddr::V6(target) => solicitation(src, dst, target, own),
    }
}

/// Parses hexadecimal digits, which may be separated by colons, dots, dashes or blanks.
fn bytes_of(hex: &str) -> Result<Vec<u8>, TraceError> {
    let bad = || TraceError::BadHex(hex.chars().take(40).collect());
    let digits = hex.chars().filter(|c| !matches!(c, ':' | '.' | '-') && !c.is_whitespace());
    let digits: Vec<u8> = digits
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(bad))
        .collect::<Result<_, _>>()?;
    match digits.as_chunks() {
        ([], _) | (_, [_]) => Err(bad()),
        (pairs, _) if pairs.len() > LONGEST => Err(TraceError::TooLong(pairs.len())),
        (pairs, _) => Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect()),
    }
}

/// An empty frame of minimum length (802.3 clause 3.2.8).
fn plain(src: Mac, dst: Mac) -> Vec<u8> {
    /// EtherType for local experiments (IEEE 802-2014 §9.2.3).
    const EXPERIMENT: EtherType = EtherType(0x88b5);
    let mut frame = ethernet(src, dst, EXPERIMENT, &[]);
    frame.resize(60, 0);
    frame
}

fn ethernet(src: Mac, dst: Mac, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    [&dst.0, &src.0, &ethertype.0.to_be_bytes()[..], payload].concat()
}

/// An ARP request. From a port without an address it is a probe (RFC 5227 §2.1.1).
fn arp(src: Mac, dst: Mac, target: Ipv4Addr, own: Option<IpAddr>) -> Vec<u8> {
    let sender_ip = match own {
        Some(IpAddr::V4(own)) => own,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let request =
        Arp { operation: Arp::REQUEST, sender_mac: src, sender_ip, target_mac: Mac::ZERO, target_ip: target };
    ethernet(src, dst, EtherType::ARP, &request.emit())
}

/// A neighbour solicitation to the target's solicited-node group (RFC 4861 §4.3). From a port without
/// an address it is one of duplicate address detection, which has no option (RFC 4862 §5.4.2).
fn solicitation(src: Mac, dst: Option<Mac>, target: Ipv6Addr, own: Option<IpAddr>) -> Vec<u8> {
    const SOURCE_LINK_LAYER_ADDRESS: [u8; 2] = [1, 1];
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let dst = dst.unwrap_or(Mac([0x33, 0x33, 0xff, a, b, c]));
    let mut message = target.octets().to_vec();
    let own = match own {
        Some(IpAddr::V6(own)) => {
            message.extend(SOURCE_LINK_LAYER_ADDRESS);
            message.extend(src.0);
            own
        }
        _ => Ipv6Addr::UNSPECIFIED,
    };
    let packet = PacketBuilder::ethernet2(src.0, dst.0).ipv6(own.octets(), group.octets(), 255);
    let mut frame = Vec::new();
    let written = packet.icmpv6(Icmpv6Type::NeighborSolicitation).write_to_vec(&mut frame, &message);
    debug_assert!(written.is_ok(), "a solicitation is short");
    frame
}

/// An echo request like that of `ping`, with 56 bytes of data.
fn echo_request(src: Mac, dst: Mac, from: IpAddr, to: IpAddr) -> Result<Vec<u8>, TraceError> {
    const HOPS: u8 = 64;
    const DATA: [u8; 56] = [0; 56];
    let packet = PacketBuilder::ethernet2(src.0, dst.0);
    let mut frame = Vec::new();
    let written = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let packet = packet.ipv4(from.octets(), to.octets(), HOPS);
            packet.icmpv4_echo_request(1, 1).write_to_vec(&mut frame, &DATA)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let packet = packet.ipv6(from.octets(), to.octets(), HOPS);
            packet.icmpv6_echo_request(1, 1).write_to_vec(&mut frame, &DATA)
        }
        _ => return Err(TraceError::TwoFamilies(from, to)),
    };
    debug_assert!(written.is_ok(), "a ping is short");
    Ok(frame)
}
