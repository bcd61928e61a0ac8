//! Announces the addresses of a port, so that hosts that knew one of them at another MAC address update their neighbour
//! caches: gratuitous ARP (RFC 5227 §3) and unsolicited neighbour advertisements (RFC 4861 §7.2.6), repeated once.
//!
//! The frames are sent from the device, by a packet socket in its namespace. So they are switched, learned and filtered
//! as all frames of the port, and workers need no way to inject frames.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::DeviceId;
use crate::sys::blocking::run_blocking;
use crate::sys::netns::{Netns, NetnsThread, spawn_in_netns};
use crate::sys::packet::PacketSocket;
use crate::wire::arp::Arp;
use crate::wire::ndp::{self, ALL_NODES_MAC, Advertiser};
use crate::wire::{EtherType, Mac};

/// Time between the two announcements.
const INTERVAL: Duration = Duration::from_secs(1);
/// Most devices that are announced at once. Each needs a thread and an open namespace, for as long as the kernel takes
/// to close a packet socket (`synchronize_net` in `packet_release`): some 20 ms, in which many can be closed.
const BATCH: usize = 32;

/// Announcements to send. There is at most one entry for each device, so a container that changes its MAC address in a
/// loop causes no more than one announcement in an [`INTERVAL`].
#[derive(Debug, Default)]
pub(super) struct Announcer {
    pending: BTreeMap<DeviceId, Announcement>,
    /// The batch that is being sent.
    sending: Option<oneshot::Receiver<()>>,
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
        if addresses.is_empty() {
            return;
        }
        let at = self.pending.get(&device).map_or_else(Instant::now, |pending| pending.at);
        self.pending.insert(device, Announcement { addresses, at, repeats: 1 });
    }

    pub(super) fn cancel(&mut self, device: DeviceId) {
        self.pending.remove(&device);
    }

    /// Resolves when announcements are due and the batch before them has been sent: never, while there are none.
    /// Cancel-safe.
    pub(super) async fn due(&mut self) {
        if let Some(sending) = &mut self.sending {
            // A panic in it has been reported, and concerns only its announcements.
            let _ = sending.await;
            self.sending = None;
        }
        match self.pending.values().map(|pending| pending.at).min() {
            Some(next) => tokio::time::sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// The next announcements that are due, at most [`BATCH`]. Those to be repeated are scheduled again.
    pub(super) fn take_due(&mut self) -> Vec<(DeviceId, Vec<IpAddr>)> {
        let now = Instant::now();
        let due = self.pending.iter_mut().filter(|(_, pending)| pending.at <= now).take(BATCH);
        let due = due.map(|(device, pending)| {
            let repeat = pending.repeats > 0;
            (pending.at, pending.repeats) = (now + INTERVAL, pending.repeats.saturating_sub(1));
            (*device, pending.addresses.clone(), repeat)
        });
        let due: Vec<_> = due.collect();
        let taken = due.into_iter().map(|(device, addresses, repeat)| {
            if !repeat {
                self.pending.remove(&device);
            }
            (device, addresses)
        });
        taken.collect()
    }

    /// Sends announcements on other threads.
    pub(super) fn send(&mut self, batch: Vec<(Origin, Vec<IpAddr>)>) {
        match run_blocking("announce", move || send_all(&batch)) {
            Ok(sending) => self.sending = Some(sending),
            // Other hosts find the addresses when their neighbour caches expire.
            Err(error) => warn!(%error, "addresses of ports are not announced: no thread can be started"),
        }
    }
}

/// Sends the announcements of several devices at the same time.
pub(super) fn send_all(batch: &[(Origin, Vec<IpAddr>)]) {
    std::thread::scope(|scope| {
        for (origin, addresses) in batch {
            // The device may be down or gone: then there is nothing to announce.
            let _ = spawn_in_netns(scope, |thread| send(thread, origin, addresses));
        }
    });
}

/// Sends the announcements of `addresses`.
///
/// # Errors
/// The namespace cannot be entered, or the device is gone or down.
fn send(thread: &mut NetnsThread, origin: &Origin, addresses: &[IpAddr]) -> io::Result<()> {
    thread.enter(&origin.netns).map_err(io::Error::other)?;
    let socket = PacketSocket::open(origin.ifindex)?;
    for address in addresses {
        socket.send(&frame(origin.mac, *address, origin.advertiser), 1)?;
    }
    Ok(())
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
        assert_eq!(announcer.take_due(), [(device, addresses.clone())]);
        announcer.schedule(device, addresses.clone());
        assert_eq!(announcer.take_due(), []);
        let began = Instant::now();
        for _ in 0..2 {
            announcer.due().await;
            assert_eq!(announcer.take_due(), [(device, addresses.clone())]);
        }
        assert!(began.elapsed() >= 2 * INTERVAL);
        assert!(announcer.pending.is_empty());
    }
    /// All ports of a new switch are announced at once.
    #[tokio::test(start_paused = true)]
    async fn announces_many_devices_in_batches() {
        let mut announcer = Announcer::default();
        let devices = (BATCH + 1) as u64;
        (0..devices).for_each(|n| announcer.schedule(DeviceId(n), vec!["172.16.0.4".parse().unwrap()]));
        announcer.schedule(DeviceId(devices), Vec::new());
        let mut announced = BTreeMap::new();
        for batch in [BATCH, 1, BATCH, 1] {
            announcer.due().await;
            let due = announcer.take_due();
            assert_eq!(due.len(), batch);
            due.into_iter().for_each(|(device, _)| *announced.entry(device).or_insert(0) += 1);
        }
        assert_eq!(announced, (0..devices).map(|n| (DeviceId(n), 2)).collect());
        assert!(announcer.pending.is_empty());
    }
}
