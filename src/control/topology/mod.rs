//! Creates what a switch needs on the machine: namespaces, TAP devices, addresses, routes, NAT, sysctls.
//!
//! Each object is recorded in a ledger before it is created. A start that fails half-way, a stop, and the next start
//! after a kill undo the ledger's entries in reverse order.
//!
//! Devices are not in the ledger: the kernel removes them when their queues are closed, or with the namespace that was
//! created for them. Creating a port takes a few milliseconds in the kernel, for which the calls block.

mod announce;
mod build;
pub(crate) mod choose;
mod claim;
mod classifier;
pub(crate) mod container_device;
mod device;
mod dnat;
mod environment;
mod error;
mod existing_device;
mod existing_tap;
mod fast_wiring;
pub(crate) mod firewall;
mod follow;
mod forwarding;
pub(crate) mod handover;
mod host_port;
pub(crate) mod inspect;
mod ledger;
mod link;
mod link_watcher;
mod mac_prefix;
mod nat;
mod nat_watcher;
pub(crate) mod neighbours;
mod notices;
mod polled_device;
pub(crate) mod preflight;
mod publish;
mod route;
mod routing;
mod socket_port;
mod sysctl;
mod undo;
mod uplink;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::device::{Attachment, Device, DeviceId, LinkChange, PortNetns, PortSpec};
pub use self::environment::Environment;
pub use self::error::TopologyError;
pub use self::existing_tap::TapPortSpec;
pub(crate) use self::existing_tap::open_for_switch;
pub(crate) use self::host_port::{host_port, vlan_host_port};
pub use self::ledger::LedgerHolder;
pub use self::nat_watcher::NatChange;
pub use self::publish::DnatTarget;
pub use self::route::{RouteLookup, RoutedPacket, SenderRoute};
pub use self::socket_port::{SocketRole, SocketSpec};

use self::announce::{Announcer, Origin};
use self::build::{BuiltDevice, StagingNetns};
use self::claim::{claim_name, close, open_kernel_interfaces};
use self::fast_wiring::{FastWiring, Wire};
use self::ledger::{EntryId, Ledger, LedgerEntry, LedgerOwner};
use self::link_watcher::{DeviceHandle, DeviceKey, LinkWatcher, Observation, WatchedDevice};
use self::nat_watcher::NatWatcher;
use self::notices::Notices;
use self::publish::ReservedPorts;
use self::routing::Routing;
use self::socket_port::SocketPorts;
use super::Config;
use crate::fastpath::{FastPath, PortDevices};
use crate::sys::netlink::Netlink;
use crate::sys::netns::{self, Netns, NetnsIdentity};
use crate::wire::ndp::Advertiser;

/// What the topology knows of a device.
#[derive(Debug)]
struct DeviceRecord {
    /// What is undone when the port is removed: its namespace, its socket, or the changed settings of an existing TAP
    /// device.
    created: Option<(EntryId, LedgerEntry)>,
    /// The existing namespace in which it is.
    netns: Option<NetnsIdentity>,
}

/// A change by another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkChange {
    /// Of a port's device.
    Device(DeviceId, LinkChange),
    /// A port on a socket has a peer: see [`Topology::socket_queues`].
    Connected(DeviceId),
    /// Of the nftables table.
    Nat(NatChange),
}

/// Everything that was created for one switch. Dropping it removes nothing; [`Topology::teardown`] does.
#[derive(Debug)]
pub struct Topology {
    config: Config,
    sandboxed: bool,
    ledger: Ledger,
    host: Netlink,
    host_identity: NetnsIdentity,
    staging: StagingNetns,
    watcher: LinkWatcher,
    sockets: SocketPorts,
    /// Where the ports of the kernel fast path are wired, with one.
    fast: Option<FastWiring>,
    wires: HashMap<DeviceId, Wire>,
    /// What the host routes, once it does.
    routing: Option<Routing>,
    /// With routing.
    nat: Option<NatWatcher>,
    reserved: ReservedPorts,
    devices: HashMap<DeviceId, DeviceRecord>,
    announcer: Announcer,
    /// The devices of the host ports, which are announced as a router.
    host_devices: HashSet<DeviceId>,
    next: u64,
    notices: Notices,
    /// The file of the MAC prefix, locked.
    _mac_prefix: Option<mac_prefix::KeptMacPrefix>,
}

impl Topology {
    /// Claims the switch's name on this machine, cleans up after a killed switch of that name, and checks for
    /// conflicts with `config`. Changes nothing else. Call this within a Tokio runtime.
    ///
    /// # Errors
    /// The switch is running, or there is a conflict.
    pub fn claim(config: &Config, environment: &Environment) -> Result<Topology, TopologyError> {
        let host_identity = Netns::current()?.identity()?;
        let (mut ledger, notice) = claim_name(&config.name, &environment.runtime, &host_identity)?;
        let mut config = config.clone();
        let claimed = choose::replace_used_defaults(&mut config).and_then(|choices| {
            let parts = open_kernel_interfaces(&config)?;
            ledger.start(LedgerOwner::this_process(host_identity, environment.sandboxed))?;
            let (mac_prefix, not_kept) = mac_prefix::choose(&mut config, environment.state.as_deref());
            Ok((parts, mac_prefix, choices.into_iter().chain(not_kept)))
        });
        match claimed {
            Ok(((host, staging, watcher), mac_prefix, choices)) => Ok(Topology {
                config,
                sandboxed: environment.sandboxed,
                ledger,
                host,
                host_identity,
                staging,
                watcher,
                sockets: SocketPorts::default(),
                fast: None,
                wires: HashMap::new(),
                routing: None,
                nat: None,
                reserved: ReservedPorts::default(),
                devices: HashMap::new(),
                announcer: Announcer::default(),
                host_devices: HashSet::new(),
                next: 0,
                notices: Notices::new(notice.into_iter().chain(choices)),
                _mac_prefix: mac_prefix,
            }),
            Err(error) => {
                // Report why the start failed, not that the ledger file was left.
                let _ = close(ledger);
                Err(match notice {
                    Some(notice) => TopologyError::AfterCleanUp { why: Box::new(error), notice },
                    None => error,
                })
            }
        }
    }

    /// Wires new ports to this fast path from now on.
    ///
    /// # Errors
    /// Its namespace cannot be created, or the kernel attaches no programs.
    pub fn use_fast_path(&mut self, fast: Arc<FastPath>) -> Result<(), TopologyError> {
        self.fast = Some(FastWiring::new(fast, self.config.gso_max_size)?);
        Ok(())
    }

    /// The configuration, with the prefixes and the subnets that were chosen.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Removes what a killed switch of this name left behind. Returns a sentence that lists it.
    ///
    /// # Errors
    /// The switch is running, or something could not be removed.
    pub fn clean_up_after(name: &str, environment: &Environment) -> Result<Option<String>, TopologyError> {
        let host = Netns::current()?.identity()?;
        let (ledger, notice) = claim_name(name, &environment.runtime, &host)?;
        close(ledger)?;
        Ok(notice)
    }

    /// Creates or opens the device of a port.
    ///
    /// # Errors
    /// On an error nothing is left behind.
    pub fn add_port(&mut self, attachment: &Attachment) -> Result<Device, TopologyError> {
        match attachment {
            Attachment::Tap(spec) => self.create_tap(spec),
            Attachment::Device { ifname, queues } => self.open_device(ifname, *queues),
            Attachment::ExistingTap(spec) => self.open_tap(spec),
            Attachment::Socket(spec) => self.open_socket(spec),
        }
    }

    fn create_tap(&mut self, spec: &PortSpec) -> Result<Device, TopologyError> {
        let before = self.ledger.next_id();
        let added = self.build_device(spec).and_then(|built| self.register(built, spec));
        if added.is_err() {
            self.roll_back(before);
        }
        added
    }

    /// Removes a port's device, with the namespace or the socket that was created for it, or restores the settings of an
    /// existing TAP device. The kernel frees a namespace when the device's queues are closed.
    ///
    /// # Errors
    /// There is no such device, or its namespace could not be deleted.
    pub fn remove_port(&mut self, device: DeviceId) -> Result<(), TopologyError> {
        let created = self.devices.get(&device).ok_or(TopologyError::NoSuchDevice)?.created.clone();
        // A socket is only removed when no process listens on it.
        self.sockets.remove(device);
        if let Some((entry, LedgerEntry::Tap { .. })) = created {
            // The device's handle restores the settings when it is dropped.
            self.unregister(device);
            self.ledger.remove(entry);
            return Ok(());
        }
        let errors = undo::undo(&mut self.ledger, created.into_iter().collect(), &self.host_identity);
        self.unregister(device);
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    /// Whether a device can be created when this one was removed.
    ///
    /// # Errors
    /// Its namespace ends with this one.
    pub fn check_replaceable(&self, device: DeviceId, by: &Attachment) -> Result<(), TopologyError> {
        let Attachment::Tap(PortSpec { netns: PortNetns::Existing(path), .. }) = by else { return Ok(()) };
        // A namespace that cannot be opened here is refused later, or is that of the command line.
        let Ok(planned) = Netns::open(path).and_then(|netns| netns.identity()) else { return Ok(()) };
        match self.devices.get(&device).and_then(|record| record.created.as_ref()) {
            Some((_, LedgerEntry::Netns { name, identity })) if *identity == planned => {
                Err(TopologyError::EndsWithPort(name.clone()))
            }
            _ => Ok(()),
        }
    }

    /// As [`Topology::remove_port`], of a device that is gone. If `by` is in the namespace that was created for it, that
    /// one is now created for `by`.
    ///
    /// # Errors
    /// As of [`Topology::remove_port`].
    pub fn remove_replaced_port(&mut self, gone: DeviceId, by: DeviceId) -> Result<(), TopologyError> {
        let created = self.devices.get(&gone).and_then(|record| record.created.clone());
        let inherits = |by: &&mut DeviceRecord| match &created {
            Some((_, LedgerEntry::Netns { identity, .. })) => {
                by.created.is_none() && by.netns == Some(*identity)
            }
            _ => false,
        };
        let Some(heir) = self.devices.get_mut(&by).filter(inherits) else { return self.remove_port(gone) };
        heir.created.clone_from(&created);
        self.unregister(gone);
        if let Some((_, LedgerEntry::Netns { name, identity })) = created {
            self.watcher.watch_netns_name(by, &name, identity);
        }
        Ok(())
    }

    /// Checks the settings of devices that others can change without a notification. What was changed is restored, and
    /// becomes a change of the device.
    pub fn check_settings(&mut self) {
        self.watcher.check_settings();
    }

    /// Turns the carrier of a device on or off: the cable to the container.
    ///
    /// # Errors
    /// The device was deleted.
    pub fn set_carrier(&mut self, device: DeviceId, on: bool) -> Result<(), TopologyError> {
        if let (Some(fast), Some(wire)) = (&mut self.fast, self.wires.get(&device)) {
            fast.set_carrier(wire, on)?;
        }
        let what = "change the carrier of a device";
        self.watcher.set_carrier(device, on).map_err(|source| TopologyError::Kernel { what, source })
    }

    /// Announces the addresses of a device, now and once again, to hosts that knew one of them at another MAC address.
    pub fn announce(&mut self, device: DeviceId, addresses: &[IpNet]) {
        self.announcer.schedule(device, addresses.iter().map(IpNet::addr).collect());
    }

    fn send_announcements(&mut self) {
        let due = self.announcer.take_due();
        let batch = due.into_iter().filter_map(|(device, addresses)| {
            let (netns, ifindex, mac) = self.watcher.location(device)?;
            let of_host = self.host_devices.contains(&device);
            let advertiser = if of_host { Advertiser::Router } else { Advertiser::Host };
            Some((Origin { netns, ifindex, mac, advertiser }, addresses))
        });
        let batch = batch.collect();
        self.announcer.send(batch);
    }

    /// The lookup of a packet's route in the namespace of a device; `None` if the device is gone.
    pub fn route_lookup(&self, device: DeviceId, packet: RoutedPacket) -> Option<RouteLookup> {
        let (netns, ifindex, _) = self.watcher.location(device)?;
        Some(RouteLookup::new(move || route::look_up(&netns, ifindex, packet)))
    }

    /// The devices in an existing namespace.
    ///
    /// # Errors
    /// The path is not that of a network namespace, or is that of the host's.
    pub fn devices_in(&self, path: &Path) -> Result<Vec<DeviceId>, TopologyError> {
        let netns = Netns::open(path)?;
        self.refuse_host(&netns, path)?;
        self.devices_sharing(&netns)
    }

    /// The devices in a namespace.
    ///
    /// # Errors
    /// The namespace cannot be identified.
    pub fn devices_sharing(&self, netns: &Netns) -> Result<Vec<DeviceId>, TopologyError> {
        let wanted = netns.identity()?;
        let there = |record: &DeviceRecord| record.netns.is_some_and(|netns| netns.is(&wanted));
        Ok(self.devices.iter().filter(|(_, record)| there(record)).map(|(id, _)| *id).collect())
    }

    fn refuse_host(&self, netns: &Netns, path: &Path) -> Result<(), TopologyError> {
        match netns.identity()?.is(&self.host_identity) {
            true => Err(TopologyError::HostNetns(path.to_owned())),
            false => Ok(()),
        }
    }

    /// The notices for the user since the last call.
    pub fn take_notices(&mut self) -> Vec<String> {
        self.notices.take()
    }

    /// The next change by another program to one of the devices or to the nftables table. Cancel-safe.
    pub async fn next_change(&mut self) -> NetworkChange {
        let nat_changed = async |nat: &mut Option<NatWatcher>| match nat {
            Some(nat) => nat.next().await,
            None => std::future::pending().await,
        };
        let (device, change) = loop {
            tokio::select! {
                observed = self.watcher.next() => match observed {
                    Observation::Device(device, change) => break (device, change),
                    Observation::HostAddress => self.forward_on_new_interfaces(),
                },
                device = self.sockets.next() => return NetworkChange::Connected(device),
                change = nat_changed(&mut self.nat) => return NetworkChange::Nat(change),
                () = self.announcer.due() => self.send_announcements(),
            }
        };
        if let Some(record) = self.devices.get_mut(&device) {
            match &change {
                LinkChange::Netns { .. } => record.netns = self.watcher.netns(device),
                // The kernel reuses the inode number of a namespace that ended.
                LinkChange::Gone => record.netns = None,
                _ => {}
            }
        }
        NetworkChange::Device(device, change)
    }

    /// For each existing device: the frames that the kernel dropped because the device's queue to the switch was
    /// full (`tx_dropped` in its statistics; `tun_net_xmit` in Linux `drivers/net/tun.c`).
    pub fn queue_dropped(&mut self) -> HashMap<DeviceId, u64> {
        let mut dropped = self.watcher.queue_dropped();
        if let Some(fast) = &mut self.fast {
            let of_wires = self.wires.iter().filter_map(|(id, wire)| Some((*id, fast.queue_dropped(wire)?)));
            dropped.extend(of_wires);
        }
        dropped
    }

    /// Removes everything and returns all errors. Close the devices' queues first: they keep the devices that are
    /// outside our own namespaces.
    pub fn teardown(mut self) -> Vec<TopologyError> {
        self.watcher.clear();
        self.sockets.clear();
        // In the namespaces that we created, the devices end with them.
        let existing = self.devices.iter().filter(|(_, record)| record.created.is_none());
        let existing: Vec<DeviceId> = existing.map(|(id, _)| *id).collect();
        existing.into_iter().for_each(|id| self.unwire(id));
        let mut errors = self.undo_since(EntryId::FIRST);
        // The next start needs the ledger if anything is left.
        if errors.is_empty() {
            errors.extend(close(self.ledger).err());
        }
        errors
    }

    fn build_device(&mut self, spec: &PortSpec) -> Result<BuiltDevice, TopologyError> {
        match &spec.netns {
            PortNetns::Host => self.staging.in_host_netns(&mut self.host, spec, self.fast.as_mut()),
            PortNetns::New(name) => match self.own_netns(name) {
                Some(netns) => {
                    let path = netns::path(name);
                    self.staging.in_existing_netns(netns, &path, spec, self.fast.as_mut())
                }
                None => build::in_new_netns(name, spec, &mut self.ledger, self.fast.as_mut()),
            },
            PortNetns::Existing(path) => {
                let netns = Netns::open(path)?;
                if spec.unmanaged && netns.identity()?.is(&self.host_identity) {
                    let on_host = PortSpec { netns: PortNetns::Host, ..spec.clone() };
                    return self.staging.in_host_netns(&mut self.host, &on_host, self.fast.as_mut());
                }
                self.refuse_host(&netns, path)?;
                self.staging.in_existing_netns(netns, path, spec, self.fast.as_mut())
            }
        }
    }

    /// The namespace that was created for a device of this name, which is to be replaced.
    fn own_netns(&self, name: &str) -> Option<Netns> {
        let netns = Netns::open(&netns::path(name)).ok()?;
        let found = netns.identity().ok()?;
        let is_own = |record: &DeviceRecord| match &record.created {
            Some((_, LedgerEntry::Netns { name: own, identity })) => own == name && *identity == found,
            _ => false,
        };
        self.devices.values().any(is_own).then_some(netns)
    }

    /// Starts to watch a device, and gives it an identifier.
    fn register(&mut self, mut built: BuiltDevice, spec: &PortSpec) -> Result<Device, TopologyError> {
        let id = self.next_id();
        let fast = built.wire.as_ref().map(|wire| wire.devices);
        if let Some(wire) = built.wire.take() {
            self.wires.insert(id, wire);
        }
        self.watch(id, built, spec, fast).inspect_err(|_| self.unwire(id))
    }

    fn watch(
        &mut self,
        id: DeviceId,
        built: BuiltDevice,
        spec: &PortSpec,
        fast: Option<PortDevices>,
    ) -> Result<Device, TopologyError> {
        let netns = built.netns.as_ref().map(Netns::identity).transpose()?;
        let path = netns.and(spec.netns.path());
        let created = built.made.is_some().then_some(netns).flatten();
        let handle = match self.other_end(fast)? {
            Some(other) => DeviceHandle::Veth { path: path.clone(), other },
            None => DeviceHandle::of_tap(&built.tap, created)?,
        };
        let queues = u32::try_from(built.tap.queues.len()).unwrap_or(u32::MAX);
        let watched = WatchedDevice {
            id,
            link: &built.link,
            addresses: &built.addresses,
            handle,
            queues,
            offloads: &built.offloads,
        };
        self.watcher.add(watched, built.netns.as_ref())?;
        if let Some((_, LedgerEntry::Netns { name, identity })) = &built.made {
            self.watcher.watch_netns_name(id, name, *identity);
        }
        self.devices.insert(id, DeviceRecord { created: built.made, netns });
        built.notices.into_iter().for_each(|notice| self.notices.add(notice));
        if !built.tap.uso {
            self.notices.report_no_uso();
        }
        let containers = (self.devices.len() - self.host_devices.len()) as u64;
        self.notices.check_neighbour_tables(containers.max(self.config.ports.into()));
        Ok(Device {
            id,
            ifname: built.link.name,
            ifindex: built.link.ifindex,
            mac: built.link.mac,
            mtu: built.link.mtu,
            netns: path,
            addresses: built.addresses,
            offloads: built.offloads,
            queues: built.tap.queues,
            polled: false,
            fast,
        })
    }

    /// The end of a port's veth pair that is ours.
    fn other_end(&mut self, fast: Option<PortDevices>) -> Result<Option<DeviceKey>, TopologyError> {
        let (Some(devices), Some(wiring)) = (fast, &self.fast) else { return Ok(None) };
        let nsid = self.watcher.nsid(wiring.netns())?;
        Ok(Some(DeviceKey { nsid: Some(nsid), ifindex: devices.host_end }))
    }

    fn unwire(&mut self, device: DeviceId) {
        if let (Some(fast), Some(wire)) = (&mut self.fast, self.wires.remove(&device)) {
            fast.unwire(&wire);
        }
    }

    fn next_id(&mut self) -> DeviceId {
        self.next += 1;
        DeviceId(self.next - 1)
    }

    fn unregister(&mut self, device: DeviceId) {
        self.unwire(device);
        self.watcher.remove(device);
        self.sockets.remove(device);
        self.announcer.cancel(device);
        self.devices.remove(&device);
        self.host_devices.remove(&device);
    }

    /// Undoes the entries since `since` after a failure, which is the error that is returned. What cannot be removed
    /// now becomes a notice, and is removed by the teardown or by the next start.
    fn roll_back(&mut self, since: EntryId) {
        let errors = self.undo_since(since);
        errors.iter().for_each(|error| self.notices.add(error.to_string()));
    }

    fn undo_since(&mut self, since: EntryId) -> Vec<TopologyError> {
        match self.ledger.contents() {
            Ok(contents) => {
                let made = contents.entries.into_iter().filter(|(id, _)| *id >= since).collect();
                undo::undo(&mut self.ledger, made, &self.host_identity)
            }
            Err(error) => vec![error],
        }
    }
}
