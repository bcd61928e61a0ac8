//! The uplinks of a switch that have one MAC address for all hosts, and how a frame leaves and enters by one.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;

use super::egress::{rewrite, sender};
use super::ingress::{Inbound, deliver};
use super::{HEAD, HostCounters, Hosts};
use crate::switch::gateway::SharedMac;
use crate::switch::{DropReason, Egress, Frame, PortId, Tick};
use crate::wire::{EthernetFrame, Mac};

/// The first bytes of a frame, which replace those that were received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; HEAD],
    length: usize,
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({:02x?})", self.bytes())
    }
}

impl Head {
    /// The head of a frame.
    pub fn of(frame: &[u8]) -> Head {
        let length = frame.len().min(HEAD);
        let mut bytes = [0; HEAD];
        bytes[..length].copy_from_slice(&frame[..length]);
        Head { bytes, length }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Replaces the first bytes of the frame, or of a part of it.
    pub fn put(&self, frame: &mut [u8]) {
        let length = self.length.min(frame.len());
        frame[..length].copy_from_slice(&self.bytes[..length]);
    }
}

/// A frame that leaves by an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UplinkCopy {
    /// The uplink, and the change of the tag.
    pub egress: Egress,
    /// Whether it leaves as one frame; otherwise as complete frames.
    pub whole: bool,
    /// Its first bytes, before the change of the tag.
    pub head: Head,
}

/// An uplink.
#[derive(Debug)]
pub struct Uplink {
    port: PortId,
    mac: SharedMac,
    /// Locked for writing once a second for each address that is used.
    hosts: RwLock<Hosts>,
}

/// For whom a frame is that has entered by an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) enum Entered {
    /// By the rules of the switch.
    AsUsual,
    /// The same, for this group. The head has it as the destination.
    ToGroup(Mac, Head),
    /// For a host behind this port. The head has its MAC address as the destination.
    ToHost(PortId, Head),
}

impl Uplink {
    fn new(port: PortId, mac: Mac, addresses: Vec<IpAddr>) -> Uplink {
        Uplink { port, mac: mac.into(), hosts: Hosts::new(Uplinks::HOSTS, addresses).into() }
    }

    fn read<T>(&self, of: impl FnOnce(&Hosts) -> T) -> T {
        of(&self.hosts.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Hosts) -> T) -> T {
        change(&mut self.hosts.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Learns which host has the source address of a frame.
    pub(in crate::switch) fn learn(&self, now: Tick, ethernet: &EthernetFrame<'_>, port: PortId) {
        let Some(address) = sender(ethernet) else { return };
        let host = (port, ethernet.src());
        if !self.read(|hosts| hosts.is_fresh(now, address, host)) {
            self.write(|hosts| _ = hosts.learn(now, address, host));
        }
    }

    /// The head of a frame as it leaves. `head` is its own.
    ///
    /// # Errors
    /// It cannot be rewritten.
    pub(in crate::switch) fn leave(&self, frame: &Frame<'_>, mut head: Head) -> Result<Head, DropReason> {
        match rewrite(&mut head.bytes[..head.length], &frame.vnet, self.mac.get()) {
            Ok(_) => Ok(head),
            Err(_) => Err(DropReason::UplinkTooLong),
        }
    }

    /// Finds the destination of a frame.
    ///
    /// # Errors
    /// The frame is not for a host behind the switch, or the network has sent it back.
    pub(in crate::switch) fn enter(
        &self,
        ethernet: &EthernetFrame<'_>,
        frame: &[u8],
    ) -> Result<Entered, DropReason> {
        let mac = self.mac.get();
        let head_to = |to: Mac| {
            let mut head = Head::of(frame);
            deliver(&mut head.bytes[..head.length], mac, to);
            head
        };
        match Inbound::of(ethernet, mac) {
            Inbound::Reflected => Err(DropReason::UplinkReflected),
            Inbound::Group => Ok(Entered::AsUsual),
            Inbound::GroupAsUnicast(group) => Ok(Entered::ToGroup(group, head_to(group))),
            Inbound::Host(address) => match self.read(|hosts| hosts.find(address)) {
                Some((port, host)) => Ok(Entered::ToHost(port, head_to(host))),
                None => Err(DropReason::UplinkOther),
            },
            Inbound::Other => Err(DropReason::UplinkOther),
        }
    }

    /// Its MAC address.
    pub fn mac(&self) -> Mac {
        self.mac.get()
    }

    /// The addresses, each with the port and the MAC address of its host, in order.
    pub fn hosts(&self) -> Vec<(IpAddr, PortId, Mac)> {
        self.read(|hosts| hosts.iter().collect())
    }

    /// What happened to the addresses.
    pub fn counters(&self) -> HostCounters {
        self.read(Hosts::counters)
    }
}

/// The uplinks of a switch.
#[derive(Debug, Default)]
pub struct Uplinks(ArcSwap<Vec<Arc<Uplink>>>);

impl Uplinks {
    /// Most uplinks.
    pub const MAX: usize = 8;
    /// Most addresses of hosts of each uplink.
    pub const HOSTS: usize = 4096;

    /// Whether a port is one.
    pub fn contains(&self, port: PortId) -> bool {
        self.with(port, |_| ()).is_some()
    }

    /// What `of` returns for the uplink on a port, if it is one. Counts no reference, which all workers would write to.
    pub fn with<T>(&self, port: PortId, of: impl FnOnce(&Uplink) -> T) -> Option<T> {
        self.0.load().iter().find(|uplink| uplink.port == port).map(|uplink| of(uplink))
    }

    /// Makes a port an uplink with the addresses of its device; false if there are [`Uplinks::MAX`]. Only one thread
    /// may change uplinks at a time.
    pub(in crate::switch) fn add(&self, port: PortId, mac: Mac, addresses: Vec<IpAddr>) -> bool {
        let mut uplinks = self.0.load().to_vec();
        if uplinks.len() >= Self::MAX {
            return false;
        }
        uplinks.push(Arc::new(Uplink::new(port, mac, addresses)));
        self.0.store(uplinks.into());
        true
    }

    /// The device of an uplink has another MAC address. Other ports are not uplinks.
    pub fn set_mac(&self, port: PortId, mac: Mac) {
        self.with(port, |uplink| uplink.mac.set(mac));
    }

    /// The device of an uplink has other addresses.
    pub fn set_addresses(&self, port: PortId, addresses: Vec<IpAddr>) {
        self.with(port, |uplink| uplink.write(|hosts| hosts.set_uplink(addresses)));
    }

    /// Removes the addresses that were not used for `ageing` ticks.
    pub fn age(&self, now: Tick, ageing: u32) {
        self.0.load().iter().for_each(|uplink| uplink.write(|hosts| hosts.age(now, ageing)));
    }

    /// A port is removed: it is not an uplink any more, and no host is behind it.
    pub fn remove_port(&self, port: PortId) {
        self.remove(port);
        self.0.load().iter().for_each(|uplink| uplink.write(|hosts| hosts.remove_port(port)));
    }

    pub(in crate::switch) fn remove(&self, port: PortId) {
        let mut uplinks = self.0.load().to_vec();
        uplinks.retain(|uplink| uplink.port != port);
        self.0.store(uplinks.into());
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.0.load().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
