//! The fields of a frame that filters compare.

use std::net::IpAddr;

use etherparse::{LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, TransportSlice};

use crate::wire::{EtherType, EthernetFrame, Mac};

/// Most tags that are skipped.
const TAGS: usize = 3;

/// The fields of a frame that primitives compare. In a pair, the source is first.
#[derive(Debug)]
pub(super) struct FilterFields {
    pub(super) macs: (Mac, Mac),
    tags: [Option<u16>; TAGS],
    /// Behind the tags.
    pub(super) ethertype: EtherType,
    /// The protocol over IP, behind extension headers.
    pub(super) protocol: Option<u8>,
    /// Of IP or ARP.
    pub(super) addresses: Option<(IpAddr, IpAddr)>,
    /// Of TCP or UDP; not in later fragments.
    pub(super) ports: Option<(u16, u16)>,
}

impl FilterFields {
    /// `None` if `bytes` are shorter than an Ethernet header.
    pub(super) fn of(bytes: &[u8]) -> Option<FilterFields> {
        let frame = EthernetFrame::new_checked(bytes)?;
        let packet = LaxSlicedPacket::from_ethernet(bytes).ok()?;
        let mut tags = [None; TAGS];
        let found = packet.link_exts.iter().filter_map(|extension| match extension {
            LaxLinkExtSlice::Vlan(tag) => Some(tag.vlan_identifier().value()),
            LaxLinkExtSlice::Macsec(_) => None,
        });
        for (place, tag) in tags.iter_mut().zip(found) {
            *place = Some(tag);
        }
        let (protocol, addresses) = packet.net.as_ref().map_or((None, None), network);
        Some(FilterFields {
            macs: (frame.src(), frame.dst()),
            tags,
            ethertype: frame.innermost().0,
            protocol,
            addresses,
            ports: match &packet.transport {
                Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
                Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
                _ => None,
            },
        })
    }

    /// The VLANs of its tags.
    pub(super) fn tags(&self) -> impl Iterator<Item = u16> + '_ {
        self.tags.iter().flatten().copied()
    }
}

type NetworkLayer = (Option<u8>, Option<(IpAddr, IpAddr)>);

fn network(net: &LaxNetSlice<'_>) -> NetworkLayer {
    match net {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let ends = (header.source_addr().into(), header.destination_addr().into());
            (Some(ip.payload().ip_number.0), Some(ends))
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let ends = (header.source_addr().into(), header.destination_addr().into());
            (Some(ip.payload().ip_number.0), Some(ends))
        }
        LaxNetSlice::Arp(arp) => {
            let arp = arp.to_packet().try_eth_ipv4().ok();
            (None, arp.map(|arp| (arp.sender_ipv4_addr().into(), arp.target_ipv4_addr().into())))
        }
    }
}
