//! The kernel fast path: known unicast between two ports never leaves the kernel, nor do frames for all ports, once the
//! workers have flooded one to the same address. Everything else goes to the workers, which decide as ever
//! ([`crate::switch::Switch::process`]).
//!
//! A port of the fast path has a veth pair and a TAP device. One end of the pair is in the container. The other one,
//! the host end, is in a namespace of the switch beside the TAP device, whose queues the workers have. The programs on
//! both (`program.rs`) pass frames on between them.
//!
//! The programs read a table of ports and one of stations ([`Stations`]), in memory that this process shares with the
//! kernel. The switch writes there what it decides ([`FastDatapath`]), so a change takes effect with the next frame.

mod assembler;
mod counts;
mod explain;
mod layout;
mod program;
mod suitable;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::iter;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::counts::FastCounts;
pub use self::explain::{NoFlood, Slow, WhySlow};
use self::layout::{DEVICES, FIRST_HOST_END, IPV4_SOURCES, IPV6_SOURCES, PORT_WORDS, counter, flag, word};
use self::program::Maps;
pub use self::suitable::Unsuitable;
use crate::switch::fdb::{
    BUCKET_WORDS, BucketHash, FLOOD, FdbKey, Stations, TICK_SHIFT, flood_device, station_key,
};
use crate::switch::{FastDatapath, FastState, Identity, Membership, PortId, Ports, Vid};
use crate::sys::bpf::{self, CpuArray, LoadError, Program, SharedArray};
use crate::wire::Mac;
use crate::wire::ip::by_version;

/// Why there is no fast path.
#[derive(Debug, thiserror::Error)]
pub enum FastPathError {
    /// A map cannot be made.
    #[error("cannot create a BPF map: {0}")]
    Map(#[from] io::Error),
    /// A program cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The two devices of a port, by their indexes in the namespace of the fast path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortDevices {
    /// The end of the veth pair that is not in the container.
    pub host_end: u32,
    /// The TAP device, whose queues the workers have.
    pub tap: u32,
}

impl PortDevices {
    /// The indexes of the devices with this number. 1 is the loopback device.
    pub fn numbered(number: u16) -> PortDevices {
        let host_end = FIRST_HOST_END + 2 * u32::from(number);
        PortDevices { host_end, tap: host_end + 1 }
    }
}

/// What the programs need to know of a port.
#[derive(Debug, Default)]
struct FastPort {
    devices: Option<PortDevices>,
    /// What the kernel had counted for these devices before they were this port's.
    earlier: FastCounts,
    /// The counts of earlier ports with this number.
    deleted: FastCounts,
    state: FastState,
    /// The MAC of the device in the container.
    mac: Mac,
    identity: Option<Identity>,
    /// The VLAN of the untagged frames that it receives and sends; 0: none, as without VLANs.
    vlan: u16,
    /// The VLANs in which it is otherwise.
    other_vlans: BTreeSet<u16>,
    /// What ports with this number had counted in each VLAN, before this one joined its VLAN.
    counted_in: BTreeMap<u16, FastCounts>,
    /// What this port had counted when it joined its VLAN.
    before_vlan: FastCounts,
    /// How many watch its frames.
    watches: usize,
}

/// The programs and their maps. They end with this value and the devices.
#[derive(Debug)]
pub struct FastPath {
    words: SharedArray,
    counters: CpuArray<{ counter::WORDS }>,
    stations: Stations,
    from_station: Program,
    from_switch: Program,
    /// The host end of each port; 0: it has none.
    host_ends: Box<[AtomicU64]>,
    /// Which a container may not use as a source: in each VLAN those of VLAN 0 and its own.
    gateways: BTreeMap<u16, Vec<IpAddr>>,
    changes: Mutex<Known>,
}

/// What the maps were last written for.
#[derive(Debug, Default)]
struct Known {
    ports: BTreeMap<PortId, FastPort>,
    /// How many watch the frames of all ports.
    watches: usize,
}

impl Known {
    /// The VLANs in which the programs forward.
    fn vlans(&self) -> BTreeSet<u16> {
        self.ports.values().map(|port| port.vlan).collect()
    }
}

/// The ports to which the programs flood.
#[derive(Debug, Clone, Copy)]
struct FloodPorts {
    /// A bit for each: see [`word::FLOOD_PORTS`].
    devices: u64,
    /// The longest frame that each of them takes.
    longest: u32,
    /// One of them is isolated.
    isolated: bool,
}

/// A device that changes from the workers to the programs, and its new state word.
#[derive(Debug, Clone, Copy)]
struct Promotion {
    device: u32,
    state: u64,
}

impl FastPath {
    /// Loads the programs, with a table of stations for a database of `max_entries`. The numbers of `seed` are secret.
    /// No container may use the addresses of `gateways`: in each VLAN those of VLAN 0 and its own.
    ///
    /// # Errors
    /// The kernel has no BPF, is too old, or does not let this process use it.
    pub fn new(
        max_entries: usize,
        seed: [u64; 2],
        gateways: BTreeMap<u16, Vec<IpAddr>>,
    ) -> Result<FastPath, FastPathError> {
        let buckets = max_entries.clamp(2, 1 << 20).next_power_of_two();
        let hash = BucketHash::new(buckets, seed);
        let words = SharedArray::new(PORT_WORDS, DEVICES)?;
        let counters = CpuArray::new(FLOOD)?;
        let stations = SharedArray::new(BUCKET_WORDS, u32::try_from(buckets).unwrap_or(u32::MAX))?;
        let maps = Maps { ports: &words, counters: &counters, stations: &stations, hash };
        let from_station = Program::load(&program::from_station(&maps).finish())?;
        let from_switch = Program::load(&program::from_switch(&maps).finish())?;
        Ok(FastPath {
            words,
            counters,
            stations: Stations::new(Box::new(stations), hash),
            from_station,
            from_switch,
            host_ends: (0..Ports::MAX).map(|_| AtomicU64::new(0)).collect(),
            gateways,
            changes: Mutex::default(),
        })
    }

    /// The programs for the ingress of the devices of a port, whose indexes are in one network namespace. Until the
    /// port is added, its frames wait in the queues of the TAP device.
    pub fn programs(&self, devices: PortDevices) -> [(u32, &Program); 2] {
        self.write_devices(devices);
        [(devices.host_end, &self.from_station), (devices.tap, &self.from_switch)]
    }

    /// The program at the host end of a port.
    pub fn from_station(&self) -> &Program {
        &self.from_station
    }

    /// Runs the program of a host end once with a frame, as the kernel would.
    ///
    /// # Errors
    /// The device does not exist in the current network namespace.
    pub fn run(&self, devices: PortDevices, frame: &[u8]) -> io::Result<u32> {
        self.from_station.run(devices.host_end, frame)
    }

    /// The devices of a port, and the MAC of the one in the container.
    pub fn add_port(&self, port: PortId, devices: PortDevices, mac: Mac) {
        let counted = self.counted(devices);
        self.change(port, |known| {
            (known.devices, known.mac) = (Some(devices), mac);
            known.earlier = counted;
        });
        self.host_ends[port.index()].store(devices.host_end.into(), Ordering::Release);
    }

    /// The device in the container has another MAC.
    pub fn set_mac(&self, port: PortId, mac: Mac) {
        self.change(port, |known| known.mac = mac);
    }

    /// Removes a port, whose entries were removed. Its frames are dropped from now on.
    pub fn remove_port(&self, port: PortId) {
        self.detach(port, |port| {
            let (deleted, watches) = (port.deleted, port.watches);
            let counted_in = mem::take(&mut port.counted_in);
            *port = FastPort { deleted, watches, counted_in, ..FastPort::default() };
        });
    }

    /// Removes the devices of a port, which gets others.
    pub fn remove_devices(&self, port: PortId) {
        self.detach(port, |_| {});
    }

    /// Ends the devices of a port, if it has some, and then changes what is known of it.
    fn detach(&self, port: PortId, then: impl FnOnce(&mut FastPort)) {
        self.host_ends[port.index()].store(0, Ordering::Release);
        let mut known = self.lock();
        let Some(port) = known.ports.get_mut(&port) else { return };
        let Some(devices) = port.devices else { return };
        port.deleted = port.deleted.plus(self.current(port));
        let vlan = port.vlan;
        self.leave_vlan(port);
        (port.devices, port.vlan, port.before_vlan) = (None, vlan, FastCounts::default());
        then(port);
        for device in [devices.host_end, devices.tap] {
            self.write(device, word::STATE, pair(flag::PUNT, 0));
            self.write(device, word::DEVICES, 0);
        }
        self.promote(&self.write_flood_ports(&known, vlan).into_iter().collect::<Vec<_>>());
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, port: PortId, change: impl FnOnce(&mut FastPort)) {
        let mut known = self.lock();
        let all_watched = known.watches > 0;
        let port = known.ports.entry(port).or_default();
        change(port);
        let promotion = self.write_port(port, all_watched);
        let (own, others) = (port.vlan, port.other_vlans.clone());
        // Without VLANs there are no others, and those of all ports need not be collected.
        let others = if others.is_empty() { others } else { &others & &known.vlans() };
        let vlans = iter::once(own).chain(others);
        let promotions = vlans.filter_map(|vlan| self.write_flood_ports(&known, vlan)).chain(promotion);
        self.promote(&promotions.collect::<Vec<_>>());
    }

    /// Lets the programs forward for these devices. Their stations are removed first: the workers share them again in
    /// order.
    fn promote(&self, promotions: &[Promotion]) {
        if promotions.is_empty() {
            return;
        }
        self.stations.remove_all(|device| promotions.iter().any(|of| of.device == device));
        promotions.iter().for_each(|&Promotion { device, state }| self.write(device, word::STATE, state));
    }

    /// Writes the state of a device, unless that is a promotion.
    fn set_state_word(&self, device: u32, before: u64, state: u64) -> Option<Promotion> {
        const SLOW: u64 = (flag::UP | flag::PUNT) as u64;
        if before & SLOW == SLOW && state & u64::from(flag::PUNT) == 0 {
            return Some(Promotion { device, state });
        }
        self.write(device, word::STATE, state);
        None
    }

    /// Writes the ports to which the programs flood in a VLAN: all that are up, or none if one of them cannot take
    /// floods. They do not flood while the state is written.
    fn write_flood_ports(&self, known: &Known, vlan: u16) -> Option<Promotion> {
        const SLOW: u32 = flag::UP | flag::PUNT;
        let flood = flood_device(vlan);
        let before = self.read(flood, word::STATE);
        let Some(ports) = self.flood_ports(known, vlan).ok().filter(|ports| ports.devices != 0) else {
            self.write(flood, word::STATE, pair(SLOW, 0));
            return None;
        };
        // The gateway answers an echo message to all.
        let isolated = if ports.isolated { flag::ISOLATED } else { 0 };
        let state = pair(flag::UP | flag::HOST | isolated, ports.longest);
        if state != before {
            self.write(flood, word::STATE, pair(SLOW, 0));
        }
        self.write(flood, word::VLAN, vlan_word(vlan));
        self.write(flood, word::FLOOD_PORTS, ports.devices);
        self.set_state_word(flood, before, state)
    }

    /// The ports that get each flood in a VLAN.
    fn flood_ports(&self, known: &Known, vlan: u16) -> Result<FloodPorts, (PortId, NoFlood)> {
        let mut ports = FloodPorts { devices: 0, longest: u32::MAX, isolated: false };
        for (&id, port) in known.ports.iter().filter(|(_, port)| port.state.up) {
            let no = |why| (id, why);
            if port.vlan != vlan {
                if port.other_vlans.contains(&vlan) {
                    return Err(no(NoFlood::Tagged));
                }
                continue;
            }
            let devices = port.devices.ok_or(no(NoFlood::Slow(Slow::NotWired)))?;
            if let Some(why) = self.why_slow(port, known.watches > 0) {
                return Err(no(NoFlood::Slow(why)));
            }
            if !port.state.flooded {
                return Err(no(NoFlood::Flags));
            }
            let number = (devices.host_end - FIRST_HOST_END) / 2;
            ports.devices |= 1_u64.checked_shl(number).ok_or(no(NoFlood::TooMany))?;
            ports.longest = ports.longest.min(port.state.longest);
            ports.isolated |= port.state.isolated;
        }
        Ok(ports)
    }

    /// Writes the entry of a port. The programs do not forward for it while other words than its state change.
    fn write_port(&self, port: &FastPort, all_watched: bool) -> Option<Promotion> {
        let devices = port.devices?;
        let host_end = devices.host_end;
        let FastState { up, host, isolated, longest, .. } = port.state;
        let flags = [
            (up, flag::UP),
            (host, flag::HOST),
            (isolated, flag::ISOLATED),
            (self.why_slow(port, all_watched).is_some(), flag::PUNT),
            (port.identity.is_some(), flag::GUARD),
        ];
        let flags = flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum();
        let mac = station_key(FdbKey { vlan: port.vlan, mac: port.mac });
        let addresses = match &port.identity {
            Some(identity) => address_words(identity.sources()),
            None if port.state.host => address_words([].into_iter()),
            None => address_words(self.gateways_in(port.vlan)),
        };
        let words = [
            (word::DEVICES, pair(devices.tap, host_end)),
            (word::MAC, mac),
            (word::VLAN, vlan_word(port.vlan)),
        ];
        let words = words.into_iter().chain(addresses);
        let changed = words.filter(|(word, value)| self.read(host_end, *word) != *value).collect::<Vec<_>>();
        let state = self.read(host_end, word::STATE);
        if !changed.is_empty() {
            self.write_devices(devices);
            changed.into_iter().for_each(|(word, value)| self.write(host_end, word, value));
        }
        self.set_state_word(host_end, state, pair(flags, longest))
    }

    /// The addresses that a container may not use in its VLAN.
    fn gateways_in(&self, vlan: u16) -> impl Iterator<Item = IpAddr> + '_ {
        let own = Some(vlan).filter(|vlan| *vlan != 0);
        [Some(0), own].into_iter().flatten().filter_map(|vlan| self.gateways.get(&vlan)).flatten().copied()
    }

    /// Writes how the devices of a port belong together. The workers decide about its frames.
    fn write_devices(&self, PortDevices { host_end, tap }: PortDevices) {
        self.write(host_end, word::STATE, pair(flag::PUNT, 0));
        self.write(host_end, word::DEVICES, pair(tap, host_end));
        self.write(tap, word::DEVICES, pair(tap, host_end));
    }

    fn read(&self, device: u32, word: usize) -> u64 {
        let place = self.words.words().get(device as usize * PORT_WORDS + word);
        place.map(|place| place.load(Ordering::Acquire)).unwrap_or_default()
    }

    fn write(&self, device: u32, word: usize, value: u64) {
        if let Some(place) = self.words.words().get(device as usize * PORT_WORDS + word) {
            place.store(value, Ordering::Release);
        }
    }
}

impl FastDatapath for FastPath {
    fn stations(&self) -> &Stations {
        &self.stations
    }

    /// Tenths of a second.
    fn ticks_since(&self, seen: u32) -> u32 {
        const NANOSECONDS: u64 = 100_000_000;
        let kernel_ticks = bpf::coarse_tick(TICK_SHIFT).wrapping_sub(seen);
        u32::try_from((u64::from(kernel_ticks) << TICK_SHIFT) / NANOSECONDS).unwrap_or(u32::MAX)
    }

    fn device(&self, port: PortId) -> Option<u32> {
        let device = self.host_ends.get(port.index())?.load(Ordering::Acquire);
        u32::try_from(device).ok().filter(|device| *device != 0)
    }

    fn set_state(&self, port: PortId, state: FastState) {
        self.change(port, |known| known.state = state);
    }

    fn set_vlan(&self, port: PortId, vid: Vid, membership: Membership) {
        let (vid, mut known) = (vid.get(), self.lock());
        let all_watched = known.watches > 0;
        let port = known.ports.entry(port).or_default();
        port.other_vlans.remove(&vid);
        let vlans = BTreeSet::from([port.vlan, vid]);
        if port.vlan == vid || membership == Membership::Untagged {
            self.leave_vlan(port);
        }
        match membership {
            Membership::None => {}
            Membership::Untagged => port.vlan = vid,
            Membership::Other => _ = port.other_vlans.insert(vid),
        }
        let promotion = self.write_port(port, all_watched);
        let promotions = vlans.into_iter().filter_map(|vlan| self.write_flood_ports(&known, vlan));
        self.promote(&promotions.chain(promotion).collect::<Vec<_>>());
    }

    fn set_identity(&self, port: PortId, identity: Option<&Identity>) {
        self.change(port, |known| known.identity = identity.cloned());
    }

    fn watch(&self, ports: Option<&[PortId]>, watched: bool) {
        let count = |watches: &mut usize| {
            *watches = if watched { *watches + 1 } else { watches.saturating_sub(1) };
        };
        let mut known = self.lock();
        match ports {
            None => count(&mut known.watches),
            Some(ports) => {
                for port in ports {
                    count(&mut known.ports.entry(*port).or_default().watches);
                }
            }
        }
        let all = known.watches > 0;
        let promotions = known.ports.values().filter_map(|port| self.write_port(port, all));
        let floods = known.vlans().into_iter().filter_map(|vlan| self.write_flood_ports(&known, vlan));
        let promotions = promotions.chain(floods);
        self.promote(&promotions.collect::<Vec<_>>());
    }
}

/// The words of a list of addresses, as far as they have a place.
fn address_words(addresses: impl Iterator<Item = IpAddr>) -> Vec<(usize, u64)> {
    let (mut ipv4, mut ipv6) = by_version(addresses);
    // The programs take no frame from the unspecified address.
    ipv4.resize(IPV4_SOURCES, Ipv4Addr::UNSPECIFIED);
    ipv6.resize(IPV6_SOURCES, Ipv6Addr::UNSPECIFIED);
    let [first, second] = [ipv4[0], ipv4[1]].map(|address| u32::from_ne_bytes(address.octets()));
    let halves = ipv6.iter().take(IPV6_SOURCES).flat_map(|address| {
        let bytes = address.octets();
        [0, 8].map(|at| u64::from_ne_bytes(std::array::from_fn(|n| bytes[at + n])))
    });
    let ipv6 = halves.enumerate().map(|(n, half)| (word::IPV6 + n, half));
    iter::once((word::IPV4, pair(first, second))).chain(ipv6).collect()
}

fn vlan_word(vlan: u16) -> u64 {
    u64::from(vlan) << 48
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
