//! Reports changes that others make to the devices.
//!
//! A notification ([`crate::sys::link_monitor`], [`crate::sys::netns_name_monitor`]) only names the
//! device that may have changed.
//! The device is then queried, so the order of notifications does not matter, a lost one does no harm, and our own
//! changes are not reported. A device is identified by its index and by its namespace's nsid, the number by which
//! the host's namespace refers to that namespace.
//!
//! A namespace that we created counts as gone when its name is: our queues keep it alive until they are closed.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rtnetlink::LinkUnspec;
use tokio::time::Instant;

use super::link::{self, Link};
use super::nat_watcher::until;
use super::polled_device::PolledDevice;
use super::{DeviceId, LinkChange, TopologyError};
use crate::sys::ethtool;
use crate::sys::existing_tap::ExistingTap;
use crate::sys::link_monitor::{LinkMonitor, LinkNotification, Nsid};
use crate::sys::netlink::{Netlink, NetlinkError};
use crate::sys::netns::{self, Netns, NetnsIdentity};
use crate::sys::netns_name_monitor::NetnsNameMonitor;
use crate::sys::packet_port::PacketHandle;
use crate::sys::tap::{Owner, Tap};
use crate::sys::tap_handle::TapHandle;
use crate::wire::Mac;

/// Identifies a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DeviceKey {
    pub(super) nsid: Nsid,
    pub(super) ifindex: u32,
}

/// Control's descriptors of a watched device.
#[derive(Debug)]
pub(super) enum DeviceHandle {
    /// A TAP device that we created.
    Tap(TapHandle),
    /// An existing device. It has its own settings and addresses, and is not followed to another namespace: the kernel
    /// unbinds its sockets there.
    Packet(PacketHandle),
    /// An existing TAP device whose queues we have. It is like the others.
    ExistingTap {
        /// Dropped, it restores the settings of the device.
        _tap: ExistingTap,
        /// Frames that it had dropped before.
        dropped_before: u64,
    },
    /// The end of a veth pair, in the namespace with this path.
    Veth {
        /// `None`: the host's, or that of no process.
        path: Option<PathBuf>,
        /// The other end, which is ours.
        other: DeviceKey,
    },
}

impl DeviceHandle {
    /// Of a new TAP device, and the namespace that was created for it.
    pub(super) fn of_tap(tap: &Tap, created: Option<NetnsIdentity>) -> Result<DeviceHandle, TopologyError> {
        let failed = |source| TopologyError::Kernel { what: "duplicate a queue's descriptor", source };
        let queue = tap.queues.first().ok_or(TopologyError::NoSuchDevice)?;
        Ok(DeviceHandle::Tap(TapHandle::new(queue, created).map_err(failed)?))
    }

    fn tap(&self) -> Option<&TapHandle> {
        match self {
            DeviceHandle::Tap(tap) => Some(tap),
            DeviceHandle::Packet(_) | DeviceHandle::ExistingTap { .. } | DeviceHandle::Veth { .. } => None,
        }
    }

    fn tap_mut(&mut self) -> Option<&mut TapHandle> {
        match self {
            DeviceHandle::Tap(tap) => Some(tap),
            DeviceHandle::Packet(_) | DeviceHandle::ExistingTap { .. } | DeviceHandle::Veth { .. } => None,
        }
    }

    /// We created it and chose its settings.
    fn is_ours(&self) -> bool {
        matches!(self, DeviceHandle::Tap(_) | DeviceHandle::Veth { .. })
    }
}

/// A device and its last reported state.
#[derive(Debug)]
pub(super) struct WatchedLink {
    pub(super) id: DeviceId,
    pub(super) handle: DeviceHandle,
    /// Its namespace; `None`: the host's.
    pub(super) netns: Option<NetnsIdentity>,
    up: bool,
    carrier: bool,
    mtu: u32,
    mac: Mac,
    name: String,
    pub(super) addresses: Vec<IpNet>,
    /// Its queues that are ours; 0: it is not known who has its queues.
    queues: u32,
    /// Its queues that are not.
    foreign: u32,
    offloads: Vec<&'static str>,
    /// The offloads may be others now.
    offloads_stale: bool,
    /// The offloads are not read before.
    offloads_due: Instant,
}

impl WatchedLink {
    /// The namespace of a device that we created, if it exists.
    fn open_netns(&self) -> Option<Netns> {
        match &self.handle {
            DeviceHandle::Tap(tap) => tap.netns(),
            DeviceHandle::Packet(_) | DeviceHandle::ExistingTap { .. } => None,
            DeviceHandle::Veth { path, .. } => {
                let Some(there) = &self.netns else { return Netns::current().ok() };
                let netns = Netns::open(path.as_ref()?).ok()?;
                netns.identity().ok()?.is(there).then_some(netns)
            }
        }
    }
}

/// A device to watch.
#[derive(Debug)]
pub(super) struct WatchedDevice<'a> {
    pub(super) id: DeviceId,
    pub(super) link: &'a Link,
    pub(super) addresses: &'a [IpNet],
    pub(super) handle: DeviceHandle,
    pub(super) queues: u32,
    pub(super) offloads: &'a [&'static str],
}

/// What [`LinkWatcher::next`] returns.
#[derive(Debug)]
pub(super) enum Observation {
    /// A watched device changed.
    Device(DeviceId, LinkChange),
    /// An interface of the host that is not a port has a new IPv4 address.
    HostAddress,
}

#[derive(Debug)]
pub(super) struct LinkWatcher {
    monitor: LinkMonitor,
    /// A socket in the host's namespace, which is the monitor's too.
    pub(super) host: Netlink,
    pub(super) host_identity: NetnsIdentity,
    /// The device whose number of queues was queried last.
    queried: DeviceId,
    pub(super) devices: HashMap<DeviceKey, WatchedLink>,
    polled: Vec<PolledDevice>,
    pub(super) changes: VecDeque<(DeviceId, LinkChange)>,
    /// An interface of the host that is not a port has a new IPv4 address.
    host_has_new_address: bool,
    names: NetnsNameMonitor,
    pub(super) named: HashMap<OsString, WatchedNetns>,
}

/// Most addresses of a device that are kept.
const MAX_ADDRESSES: usize = 64;

fn add_address(addresses: &mut Vec<IpNet>, address: IpNet) {
    if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
        addresses.push(address);
    }
}

fn remove_address(addresses: &mut Vec<IpNet>, address: IpNet) {
    addresses.retain(|other| *other != address);
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn offloads_of(watched: &WatchedLink) -> Option<Vec<&'static str>> {
    let netns = watched.open_netns()?;
    let name = watched.handle.tap().map_or_else(|| Some(watched.name.clone()), TapHandle::name)?;
    let read = netns::in_netns(|thread| {
        thread.enter(&netns).ok()?;
        ethtool::offloads(&name).ok()
    });
    read.ok()?
}

/// A namespace that we created.
#[derive(Debug)]
pub(super) struct WatchedNetns {
    pub(super) id: DeviceId,
    pub(super) identity: NetnsIdentity,
}

impl LinkWatcher {
    /// Starts to listen. Call this within a Tokio runtime.
    pub(super) fn start() -> Result<LinkWatcher, TopologyError> {
        let failed = |what| move |source| TopologyError::Kernel { what, source };
        Ok(LinkWatcher {
            monitor: LinkMonitor::open().map_err(failed("listen for changes of devices"))?,
            names: NetnsNameMonitor::open().map_err(failed("listen for changes of namespaces"))?,
            named: HashMap::new(),
            host: Netlink::open()?,
            host_identity: Netns::current()?.identity()?,
            queried: DeviceId(0),
            devices: HashMap::new(),
            polled: Vec::new(),
            changes: VecDeque::new(),
            host_has_new_address: false,
        })
    }

    /// Watches a device in a namespace (`None`: the host's).
    pub(super) fn add(
        &mut self,
        device: WatchedDevice<'_>,
        netns: Option<&Netns>,
    ) -> Result<(), TopologyError> {
        let nsid = netns.map(|netns| self.nsid(netns)).transpose()?;
        let WatchedDevice { id, link, addresses, handle, queues, offloads } = device;
        let key = DeviceKey { nsid, ifindex: link.ifindex };
        let watched = WatchedLink {
            id,
            handle,
            netns: netns.map(Netns::identity).transpose()?,
            up: true,
            carrier: true,
            mtu: link.mtu,
            mac: link.mac,
            name: link.name.clone(),
            addresses: addresses.to_vec(),
            queues,
            foreign: 0,
            offloads: offloads.to_vec(),
            offloads_stale: false,
            offloads_due: Instant::now(),
        };
        // The kernel reuses nsids and device indexes: the device that had them before is gone.
        if let Some(before) = self.devices.insert(key, watched) {
            self.changes.push_back((before.id, LinkChange::Gone));
        }
        // Changes before the device was watched were not reported.
        self.refresh(key);
        Ok(())
    }

    /// Polls a device that cannot be watched, in [`LinkWatcher::check_settings`].
    pub(super) fn poll_device(&mut self, device: PolledDevice) {
        self.polled.push(device);
    }

    /// Watches the name of the namespace that was created for a device.
    pub(super) fn watch_netns_name(&mut self, id: DeviceId, name: &str, identity: NetnsIdentity) {
        self.named.insert(name.into(), WatchedNetns { id, identity });
        // The name may have been removed before it was watched.
        self.check_netns_name(name.as_ref());
    }

    /// Stops watching a device.
    pub(super) fn remove(&mut self, id: DeviceId) {
        self.named.retain(|_, named| named.id != id);
        self.devices.retain(|_, watched| watched.id != id);
        self.polled.retain(|polled| polled.id != id);
        self.changes.retain(|(of, _)| *of != id);
    }

    /// See [`super::Topology::check_settings`]. The number of queues takes a netlink request, so only some devices are
    /// queried at a time.
    pub(super) fn check_settings(&mut self) {
        const QUERIES: usize = 16;
        for polled in &mut self.polled {
            self.changes.extend(polled.poll().into_iter().map(|change| (polled.id, change)));
        }
        for watched in self.devices.values() {
            // What cannot be restored now is tried again the next time.
            let restored = watched.handle.tap().and_then(|tap| tap.repair().ok()).unwrap_or_default();
            self.changes.extend(restored.into_iter().map(|what| (watched.id, LinkChange::Restored(what))));
        }
        let mut keys: Vec<(DeviceId, DeviceKey)> =
            self.devices.iter().map(|(key, watched)| (watched.id, *key)).collect();
        keys.sort_unstable_by_key(|(id, _)| (*id <= self.queried, *id));
        for (id, key) in keys.into_iter().take(QUERIES) {
            self.queried = id;
            self.refresh(key);
        }
    }

    /// Whether a device is watched or polled: it is not gone.
    pub(super) fn has(&self, id: DeviceId) -> bool {
        self.devices.values().any(|watched| watched.id == id)
            || self.polled.iter().any(|polled| polled.id == id)
    }

    /// Keeps a TAP device of ours when it is not watched any more.
    pub(super) fn keep(&mut self, id: DeviceId) {
        let watched = self.devices.values_mut().filter(|watched| watched.id == id);
        let polled = self.polled.iter_mut().filter(|polled| polled.id == id);
        let watched = watched.filter_map(|watched| watched.handle.tap_mut());
        watched.chain(polled.filter_map(PolledDevice::tap_mut)).for_each(TapHandle::keep);
    }

    /// Turns the carrier of a device on or off. The change is not reported: the kernel notifies of it up to a second
    /// later (`net/core/link_watch.c`).
    pub(super) fn set_carrier(&mut self, id: DeviceId, on: bool) -> io::Result<()> {
        if let Some(polled) = self.polled.iter().find(|polled| polled.id == id) {
            return polled.set_carrier(on);
        }
        let watched = self.devices.values_mut().find(|watched| watched.id == id);
        let watched = watched.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        match &watched.handle {
            DeviceHandle::Tap(tap) => tap.set_carrier(on)?,
            DeviceHandle::Packet(_) | DeviceHandle::ExistingTap { .. } => {
                return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
            }
            // The host end has been set, and the kernel notifies of its carrier.
            DeviceHandle::Veth { .. } => {}
        }
        watched.carrier = on;
        for (_, change) in self.changes.iter_mut().filter(|(device, _)| *device == id) {
            if let LinkChange::State { carrier, .. } = change {
                *carrier = on;
            }
        }
        Ok(())
    }

    /// Stops watching all devices.
    pub(super) fn clear(&mut self) {
        self.named.clear();
        self.devices.clear();
        self.polled.clear();
    }

    /// The namespace of a device, its index there, and its MAC. `None`: it is gone, or the kernel is older than 5.7.
    pub(super) fn location(&self, id: DeviceId) -> Option<(Netns, u32, Mac)> {
        let (key, watched) = self.devices.iter().find(|(_, watched)| watched.id == id)?;
        Some((watched.open_netns()?, key.ifindex, watched.mac))
    }

    /// The device with this index in the host's namespace.
    pub(super) fn device_on_host(&self, ifindex: u32) -> Option<DeviceId> {
        self.devices.get(&DeviceKey { nsid: None, ifindex }).map(|watched| watched.id)
    }

    /// The namespace in which a device is; `None`: the host's.
    pub(super) fn netns(&self, id: DeviceId) -> Option<NetnsIdentity> {
        self.devices.values().find(|watched| watched.id == id).and_then(|watched| watched.netns)
    }

    /// The next change. Cancel-safe: a change leaves the queue only when it is returned.
    pub(super) async fn next(&mut self) -> Observation {
        loop {
            if let Some((device, change)) = self.changes.pop_front() {
                return Observation::Device(device, change);
            }
            if std::mem::take(&mut self.host_has_new_address) {
                return Observation::HostAddress;
            }
            tokio::select! {
                news = self.monitor.next() => match news {
                    Ok(news) => news.into_iter().for_each(|news| self.on_link_event(news)),
                    // Overruns are reported as events. After any other error a retry would spin.
                    Err(_) => std::future::pending().await,
                },
                () = until(self.next_offloads()) => self.refresh_stale_offloads(),
                names = self.names.next() => match names {
                    Ok(names) => names.into_iter().for_each(|name| self.on_name_event(name)),
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }

    fn on_link_event(&mut self, news: LinkNotification) {
        let affected: Vec<DeviceKey> = match news {
            LinkNotification::Link { nsid, ifindex } => {
                let key = DeviceKey { nsid, ifindex };
                if let Some(watched) = self.devices.get_mut(&key) {
                    watched.offloads_stale = true;
                }
                self.devices.contains_key(&key).then_some(key).into_iter().collect()
            }
            LinkNotification::AddressAdded { nsid, ifindex, address } => {
                let is_ours = |watched: &WatchedLink| watched.handle.is_ours();
                let of_host =
                    nsid.is_none() && !self.devices.get(&DeviceKey { nsid, ifindex }).is_some_and(is_ours);
                self.host_has_new_address |= of_host && address.addr().is_ipv4();
                return self.on_address(DeviceKey { nsid, ifindex }, address, add_address);
            }
            LinkNotification::AddressRemoved { nsid, ifindex, address } => {
                return self.on_address(DeviceKey { nsid, ifindex }, address, remove_address);
            }
            LinkNotification::NetnsRemoved(nsid) => {
                self.devices.keys().copied().filter(|at| at.nsid == Some(nsid)).collect()
            }
            LinkNotification::Overrun => self.devices.keys().copied().collect(),
        };
        for key in affected {
            self.refresh(key);
        }
    }

    fn on_name_event(&mut self, name: Option<OsString>) {
        let affected = match name {
            Some(name) => vec![name],
            None => self.named.keys().cloned().collect(),
        };
        for name in affected {
            self.check_netns_name(&name);
        }
    }

    /// Queries a device's state, and reports it if it changed.
    fn refresh(&mut self, key: DeviceKey) {
        match self.query(key) {
            Ok(link) => self.report(key, &link),
            // ENODEV: no such device. EINVAL: no such namespace.
            Err(error) if matches!(error.errno(), Some(libc::ENODEV | libc::EINVAL)) => self.follow(key),
            // The query itself failed (ENOMEM, ENOBUFS): keep the last known state.
            Err(_) => {}
        }
    }

    /// Reports what is different from the last reported state.
    pub(super) fn report(&mut self, key: DeviceKey, link: &Link) {
        let Some(watched) = self.devices.get_mut(&key) else { return };
        let mut report = |change| self.changes.push_back((watched.id, change));
        if watched.name != link.name {
            watched.name.clone_from(&link.name);
            report(LinkChange::Name(link.name.clone()));
        }
        if watched.mac != link.mac {
            watched.mac = link.mac;
            report(LinkChange::Mac(link.mac));
        }
        let queues = link.tap.and_then(|tap| tap.queues).unwrap_or(0);
        let foreign = if watched.queues > 0 { queues.saturating_sub(watched.queues) } else { 0 };
        if watched.foreign != foreign {
            watched.foreign = foreign;
            report(LinkChange::ForeignQueues(foreign));
            // What the other processes did to the offloads outlasts their queues. Fails if the device was deleted.
            let _ = watched.handle.tap().map(TapHandle::restore_offloads);
        }
        if let (Some(tap), Some(handle)) = (link.tap, watched.handle.tap()) {
            let Owner { user, group } = Owner::this_process();
            if (tap.user, tap.group) != (Some(user), Some(group)) && handle.restore_owner().is_ok() {
                report(LinkChange::Restored("owner"));
            }
        }
        let &Link { up, carrier, mtu, .. } = link;
        if (watched.up, watched.carrier, watched.mtu) != (up, carrier, mtu) {
            (watched.up, watched.carrier, watched.mtu) = (up, carrier, mtu);
            report(LinkChange::State { up, carrier, mtu });
        }
    }

    /// When offloads are read next.
    fn next_offloads(&self) -> Option<Instant> {
        let stale = self.devices.values().filter(|watched| watched.offloads_stale);
        stale.map(|watched| watched.offloads_due).min()
    }

    /// Reads the offloads of the devices that may have others, and reports those that have. A container can change them
    /// all the time, and reading takes a thread in its namespace, so each device has to wait.
    fn refresh_stale_offloads(&mut self) {
        const INTERVAL: Duration = Duration::from_secs(1);
        let now = Instant::now();
        for watched in self.devices.values_mut() {
            if !watched.offloads_stale || now < watched.offloads_due {
                continue;
            }
            (watched.offloads_stale, watched.offloads_due) = (false, now + INTERVAL);
            // A device that was moved or renamed meanwhile causes another notification.
            let Some(offloads) = offloads_of(watched) else { continue };
            if watched.offloads != offloads {
                watched.offloads.clone_from(&offloads);
                self.changes.push_back((watched.id, LinkChange::Offloads(offloads)));
            }
        }
    }

    /// Notes an address of a device of ours that was added or removed, and reports the addresses.
    fn on_address(&mut self, key: DeviceKey, address: IpNet, edit: impl FnOnce(&mut Vec<IpNet>, IpNet)) {
        let ours = self.devices.get_mut(&key).filter(|watched| watched.handle.is_ours());
        let Some(watched) = ours.filter(|_| !is_link_local(address.addr())) else { return };
        let before = watched.addresses.clone();
        edit(&mut watched.addresses, address);
        if watched.addresses != before {
            self.changes.push_back((watched.id, LinkChange::Addresses(watched.addresses.clone())));
        }
    }

    /// Queries a device.
    pub(super) fn query(&mut self, key: DeviceKey) -> Result<Link, NetlinkError> {
        let which = link::in_nsid(LinkUnspec::new_with_index(key.ifindex), key.nsid);
        link::query(&mut self.host, "query a device", which)
    }

    /// See [`super::Topology::queue_dropped`].
    pub(super) fn queue_dropped(&mut self) -> HashMap<DeviceId, u64> {
        let devices: Vec<(DeviceKey, DeviceId)> =
            self.devices.iter().map(|(key, watched)| (*key, watched.id)).collect();
        let dropped = |(key, id)| {
            let before = match &self.devices.get(&key)?.handle {
                DeviceHandle::Packet(handle) => return Some((id, handle.dropped())),
                DeviceHandle::Tap(_) => 0,
                DeviceHandle::ExistingTap { dropped_before, .. } => *dropped_before,
                // Counted at the TAP device beside it.
                DeviceHandle::Veth { .. } => return None,
            };
            let dropped = self.query(key).ok()?.tx_dropped.saturating_sub(before);
            Some((id, dropped))
        };
        devices.into_iter().filter_map(dropped).collect()
    }
}
