//! Why the workers decide about a frame, and not the programs.

use std::net::IpAddr;

use super::layout::{IPV4_SOURCES, IPV6_SOURCES};
use super::suitable::{self, Suitable, Unsuitable};
use super::{FastPath, FastPort};
use crate::switch::fdb::{FdbKey, flood_device};
use crate::switch::{FastDatapath, FastState, PortId, SlowPort};
use crate::wire::ip::by_version;
use crate::wire::{EthernetFrame, Mac};

/// Why the workers decide about all frames from and to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slow {
    /// Its device is a TAP device, another's, or a socket.
    NotWired,
    /// A setting.
    Setting(SlowPort),
    /// Frames are captured, mirrored or traced.
    Watched,
    /// No VLAN of its frames is without tags, or it does not forward in that VLAN.
    Vlans,
    /// It has more addresses than the programs compare, or its device not the MAC that the guard knows.
    Identity,
}

impl Slow {
    /// A description for users.
    pub const fn text(self) -> &'static str {
        match self {
            Slow::NotWired => "its device is not an end of the switch's own veth pair",
            Slow::Setting(setting) => setting.text(),
            Slow::Vlans => "it forwards in no VLAN of which it is an untagged member with PVID",
            Slow::Watched => "frames are captured, mirrored or traced",
            Slow::Identity => "the guard knows more addresses of it than the kernel compares, or another MAC",
        }
    }
}

/// Why the workers send floods to a port, and therefore to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoFlood {
    /// They decide about all its frames.
    Slow(Slow),
    /// Not each flood goes to it, or its own do too.
    Flags,
    /// It is in the VLAN, but not with untagged frames only.
    Tagged,
    /// The programs flood to the first 64 ports only.
    TooMany,
}

impl NoFlood {
    /// A description for users.
    pub const fn text(self) -> &'static str {
        match self {
            NoFlood::Slow(why) => why.text(),
            NoFlood::Flags => "flood, mcast_flood or bcast_flood is off, or hairpin is on",
            NoFlood::Tagged => "it is a tagged member of this VLAN, or does not forward in it",
            NoFlood::TooMany => "the kernel floods to 64 ports at most",
        }
    }
}

/// Why the workers decide about a frame between two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhySlow {
    /// Because of one of its ports.
    Port(PortId, Slow),
    /// It is a flood, and this port keeps it from the programs.
    FloodPort(PortId, NoFlood),
    /// It is a flood from or to an isolated port.
    Isolated,
    /// It is a flood that is too long for some port, perhaps that where it came in.
    Length,
    /// The port where it leaves sends or receives the frames of its VLAN with tags.
    Vlan(PortId),
    /// It leaves on the port that it came in on.
    Hairpin,
    /// Because of what it is.
    Frame(Unsuitable),
    /// It is from an address of a gateway, perhaps that of another VLAN.
    FromGateway,
    /// It is an echo request to the host or to all, which the gateway may answer.
    EchoToHost,
    /// The workers have not told the programs of this station: it has not exchanged frames with a known one yet.
    Station(Mac),
}

impl FastPath {
    /// Why the workers decide about a port's frames; `None`: about those that the programs cannot decide about.
    pub fn why_port_is_slow(&self, port: PortId) -> Option<Slow> {
        let known = self.lock();
        match known.ports.get(&port).filter(|port| port.devices.is_some()) {
            Some(port) => self.why_slow(port, known.watches > 0),
            None => Some(Slow::NotWired),
        }
    }

    pub(super) fn why_slow(&self, port: &FastPort, all_watched: bool) -> Option<Slow> {
        let checked = match &port.identity {
            Some(identity) => fits(identity.sources()) && identity.mac == port.mac,
            None => port.state.host || fits(self.gateways_in(port.vlan)),
        };
        match port.state.slow {
            Some(setting) => Some(Slow::Setting(setting)),
            None if port.vlan == 0 && !port.other_vlans.is_empty() => Some(Slow::Vlans),
            None if all_watched || port.watches > 0 => Some(Slow::Watched),
            None => (!checked).then_some(Slow::Identity),
        }
    }

    /// Why the workers decide about a frame that the switch forwards from one port to another. `None`: a program
    /// forwards it.
    pub fn why_frame_is_slow(&self, from: PortId, to: PortId, frame: &[u8]) -> Option<WhySlow> {
        if let Some((port, why)) =
            [from, to].into_iter().find_map(|port| Some((port, self.why_port_is_slow(port)?)))
        {
            return Some(WhySlow::Port(port, why));
        }
        if from == to {
            return Some(WhySlow::Hairpin);
        }
        if self.vlan(from) != self.vlan(to) {
            return Some(WhySlow::Vlan(to));
        }
        let device = self.device(to);
        self.why_slow_between_fast(from, (device, self.state(to).host), frame)
    }

    /// Why the workers decide about a frame that the switch floods. `None`: a program floods it. `wire_length`:
    /// [`crate::switch::FrameClass::wire_length`].
    pub fn why_flood_is_slow(&self, from: PortId, frame: &[u8], wire_length: usize) -> Option<WhySlow> {
        if let Some(why) = self.why_port_is_slow(from) {
            return Some(WhySlow::Port(from, why));
        }
        let vlan = self.vlan(from);
        let ports = self.flood_ports(&self.lock(), vlan);
        match ports {
            Err((port, why)) => Some(WhySlow::FloodPort(port, why)),
            Ok(ports) if ports.isolated && self.state(from).isolated => Some(WhySlow::Isolated),
            Ok(ports) if wire_length > ports.longest as usize => Some(WhySlow::Length),
            Ok(_) => self.why_slow_between_fast(from, (Some(flood_device(vlan)), true), frame),
        }
    }

    /// `to`: the device, and whether the gateway may answer echo messages.
    fn why_slow_between_fast(
        &self,
        from: PortId,
        (to, answers): (Option<u32>, bool),
        frame: &[u8],
    ) -> Option<WhySlow> {
        let suitable = match suitable::check(frame) {
            Err(why) => return Some(WhySlow::Frame(why)),
            Ok(suitable) => suitable,
        };
        let ethernet = EthernetFrame::new_checked(frame)?;
        let vlan = self.vlan(from);
        if self.is_from_gateway(from, &ethernet) {
            return Some(WhySlow::FromGateway);
        }
        let unknown = |(mac, device)| self.stations.device(FdbKey { vlan, mac }) != device;
        let mut stations = [(ethernet.src(), self.device(from)), (ethernet.dst(), to)].into_iter();
        let station = stations.find(|station| unknown(*station)).map(|(mac, _)| WhySlow::Station(mac));
        station.or((answers && suitable == Suitable::EchoRequest).then_some(WhySlow::EchoToHost))
    }

    /// Whether the programs take a frame for one with a gateway's address.
    fn is_from_gateway(&self, from: PortId, frame: &EthernetFrame<'_>) -> bool {
        let known = self.lock();
        let Some(port) = known.ports.get(&from) else { return false };
        let is_free = port.identity.is_none() && !port.state.host;
        is_free
            && suitable::source(frame)
                .is_some_and(|source| self.gateways_in(port.vlan).any(|gateway| gateway == source))
    }

    /// The VLAN of a port's untagged frames.
    fn vlan(&self, port: PortId) -> u16 {
        self.lock().ports.get(&port).map(|port| port.vlan).unwrap_or_default()
    }

    fn state(&self, port: PortId) -> FastState {
        self.lock().ports.get(&port).map(|port| port.state).unwrap_or_default()
    }
}

/// Whether the list of a port has a place for all of these.
fn fits(addresses: impl Iterator<Item = IpAddr>) -> bool {
    let (ipv4, ipv6) = by_version(addresses);
    ipv4.len() <= IPV4_SOURCES && ipv6.len() <= IPV6_SOURCES
}
