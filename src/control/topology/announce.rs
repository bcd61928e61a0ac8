//! Announces the addresses of a port, so that hosts that knew one of them at another MAC address update their neighbour
//! caches: gratuitous ARP (RFC 5227 §3) and unsolicited neighbour advertisements (RFC 4861 §7.2.6), repeated once.
//!
//! The frames are sent from the device, by a packet socket in its namespace. So they are switched, learned and filtered as
//! all frames of the port, and workers need no way to inject frames.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::Instant;

use super::DeviceId;
use crate::sys::netns::{Netns, NetnsError, in_netns};
use crate::sys::packet::PacketSocket;
use crate::wire::arp::Arp;
use crate::wire::ndp::{self, ALL_NODES_MAC, Advertiser};
use crate::wire::{EtherType, Mac};

/// Time between the two announcements.
const INTERVAL: Duration = Duration::from_secs(1);

/// Announcements to send. There is at most one entry for each device, so a container that changes its MAC address in a
/// loop causes no more than one announcement in an [`INTERVAL`].
#[derive(Debug, Default)]
pub(super) struct Announcer {
    pending: BTreeMap<DeviceId, Announcement>,
}

#[derive(Debug)]
struct Announcement {
    addresses: Vec<IpAddr>,
    at: Instant,
    repeats: u8,
}

/// Where to send an announcement from.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) netns: Netns,
    pub(super) ifindex: u32,
    pub(super) mac: Mac,
    pub(super) advertiser: Advertiser,
}

impl Announcer {
    /// Schedules the announcements of a device's addresses.
    pub(super) fn schedule(&mut self, device: DeviceId, addresses: Vec<IpAddr>) {
        let at = self.pending.get(&device).map_or_else(Instant::now, |pending| pending.at);
        self.pending.insert(device, Announcement { addresses, at, repeats: 1 });
    }

    pub(super) fn cancel(&mut self, device: DeviceId) {
        self.pending.remove(&device);
    }

    /// Resolves when an announcement is due: never, while there is none.
    pub(super) fn due(&self) -> impl Future<Output = ()> + 'static {
        let next = self.pending.values().map(|pending| pending.at).min();
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The next announcement that is due. It is scheduled again if it is to be repeated.
    pub(super) fn take_due(&mut self) -> Option<(DeviceId, Vec<IpAddr>)> {
        let now = Instant::now();
        let (&device, due) = self.pending.iter_mut().find(|(_, pending)| pending.at <= now)?;
        let addresses = due.addresses.clone();
        (due.at, due.repeats) = match due.repeats.checked_sub(1) {
            Some(repeats) => (now + INTERVAL, repeats),
            None => {
                self.pending.remove(&device);
                return Some((device, addresses));
            }
        };
        Some((device, addresses))
    }
}

/// Sends the announcements of `addresses`.
///
/// # Errors
/// There is no thread for it, the namespace cannot be entered, or the device is gone or down.
pub(super) fn send(origin: &Origin, addresses: &[IpAddr]) -> io::Result<()> {
    let sent = in_netns(|thread| {
        thread.enter(&origin.netns)?;
        Ok::<_, NetnsError>(PacketSocket::open(origin.ifindex).and_then(|socket| {
            addresses.iter().try_for_each(|address| {
                socket.send(&frame(origin.mac, *address, origin.advertiser), 1).map(drop)
            })
        }))
    });
    sent.and_then(|sent| sent).map_err(io::Error::other)?
}

/// The frame that announces `address` at `mac`.
fn frame(mac: Mac, address: IpAddr, advertiser: Advertiser) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => ethernet(Mac::BROADCAST, mac, EtherType::ARP, &gratuitous_arp(mac, address)),
        IpAddr::V6(address) => ethernet(
            ALL_NODES_MAC,
            mac,
            EtherType::IPV6,
            &ndp::unsolicited_advertisement(address, mac, advertiser),
        ),
    }
}

fn gratuitous_arp(mac: Mac, address: Ipv4Addr) -> [u8; Arp::LEN] {
    let arp = Arp {
        operation: Arp::REQUEST,
        sender_mac: mac,
        sender_ip: address,
        target_mac: Mac::ZERO,
        target_ip: address,
    };
    arp.emit()
}

fn ethernet(destination: Mac, source: Mac, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, &ethertype.0.to_be_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);

    #[test]
    fn frames_name_the_address_and_its_mac() {
        let arp = frame(MAC, "172.16.0.4".parse().unwrap(), Advertiser::Host);
        assert_eq!((&arp[..6], &arp[6..12], &arp[12..14]), (&[0xff; 6][..], &MAC.0[..], &[8, 6][..]));
        let parsed = Arp::parse(&arp[14..]).unwrap();
        assert_eq!((parsed.sender_ip, parsed.target_ip), ([172, 16, 0, 4].into(), [172, 16, 0, 4].into()));
        let na = frame(MAC, "fd00::4".parse().unwrap(), Advertiser::Host);
        assert_eq!((&na[..6], &na[12..14]), (&ALL_NODES_MAC.0[..], &[0x86, 0xdd][..]));
        let etherparse = etherparse::PacketHeaders::from_ethernet_slice(&na).unwrap();
        assert!(matches!(etherparse.transport, Some(etherparse::TransportHeader::Icmpv6(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn announces_twice_and_no_more_often_than_once_an_interval() {
        let device = DeviceId(1);
        let mut announcer = Announcer::default();
        let addresses = vec!["172.16.0.4".parse().unwrap()];
        announcer.schedule(device, addresses.clone());
        assert_eq!(announcer.take_due(), Some((device, addresses.clone())));
        announcer.schedule(device, addresses.clone());
        assert_eq!(announcer.take_due(), None);
        let began = Instant::now();
        for _ in 0..2 {
            announcer.due().await;
            assert_eq!(announcer.take_due(), Some((device, addresses.clone())));
        }
        assert!(began.elapsed() >= 2 * INTERVAL);
        assert!(announcer.pending.is_empty());
    }
}
