//! Ports on existing TAP devices. If no program has a persistent device open, the switch opens it, so whatever has the
//! network device is behind the port: the host, a bridge, a container. If a program has it open, the program is behind
//! the port ([`super::existing_device`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::existing_device::OpenedDevice;
use super::ledger::LedgerEntry;
use super::link::{self, Link, TapSettings};
use super::link_watcher::DeviceHandle;
use super::polled_device::{PolledDevice, PolledHandle};
use super::{Device, DeviceId, DeviceRecord, Topology, TopologyError};
use crate::sys::existing_tap::{ExistingTap, OpenedTap, TapDevice};
use crate::sys::netlink::Netlink;
use crate::sys::netns::{self, Netns, in_netns};
use crate::sys::queue::Queue;
use crate::wire::Mac;

/// An existing TAP device, and how to open it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TapPortSpec {
    /// Its name.
    pub ifname: String,
    /// The path of its namespace; `None`: the host's.
    pub netns: Option<PathBuf>,
    /// Whether to use its offloads, if it was created for that.
    pub offload: bool,
    /// Number of queues: one for each worker.
    pub queues: usize,
}

impl Topology {
    /// Opens an existing TAP device for a port.
    ///
    /// # Errors
    /// It cannot be a port. Nothing is changed then.
    pub(super) fn open_tap(&mut self, spec: &TapPortSpec) -> Result<Device, TopologyError> {
        if let Some(path) = &spec.netns {
            let netns = Netns::open(path)?;
            self.refuse_host(&netns, path)?;
            return self.open_tap_in(&netns, path, spec);
        }
        let TapPortSpec { ifname, queues, .. } = spec;
        let link = self.find_link(ifname)?;
        self.refuse_own(&link)?;
        let Some(tap) = open(&link)? else {
            let device = self.open_device(ifname, *queues)?;
            let notice = "another program has the device open, and is behind the port, as with --device";
            self.notices.add(format!("{ifname}: {notice}"));
            return Ok(device);
        };
        let before = self.ledger.next_id();
        let added = self.add_tap(spec, link, tap);
        if added.is_err() {
            self.roll_back(before);
        }
        added
    }

    fn add_tap(
        &mut self,
        spec: &TapPortSpec,
        link: Link,
        mut tap: ExistingTap,
    ) -> Result<Device, TopologyError> {
        let mut created = None;
        if let Some(settings) = tap.settings().map_err(unreadable)? {
            let entry = LedgerEntry::Tap { device: tap.device().clone(), settings };
            created = Some((self.ledger.record(entry.clone())?, entry));
            tap.enable_offloads(settings, spec.offload)?;
        }
        let reader = self.reader(spec);
        let queues = tap.queues(spec.queues, reader)?;
        let handle = DeviceHandle::ExistingTap { _tap: tap, dropped_before: link.tx_dropped };
        self.add_existing(OpenedDevice { link, handle, queues, created, netns: None })
    }

    /// Which worker reads a device with a single queue.
    fn reader(&self, spec: &TapPortSpec) -> usize {
        usize::try_from(self.next).unwrap_or(0) % spec.queues
    }

    /// Opens a device of a container. It is not in the ledger: what finds it after a kill is the next port on it.
    fn open_tap_in(
        &mut self,
        netns: &Netns,
        path: &Path,
        spec: &TapPortSpec,
    ) -> Result<Device, TopologyError> {
        let reader = self.reader(spec);
        let (link, tap, queues) = in_netns(|thread| {
            thread.enter(netns)?;
            open_here(spec, reader)
        })??;
        let handle = DeviceHandle::ExistingTap { _tap: tap, dropped_before: link.tx_dropped };
        let identity = netns.identity()?;
        let device = self.add_existing(OpenedDevice {
            link,
            handle,
            queues,
            created: None,
            netns: Some((netns, path)),
        })?;
        // The queues keep the namespace alive, so its end is that of its name.
        if let Some(name) = netns::name_of(path) {
            self.watcher.watch_netns_name(device.id, name, identity);
        }
        Ok(device)
    }
}

impl Topology {
    /// Checks that a device can stay when its port is removed.
    ///
    /// # Errors
    /// There is no such device, it is a socket, was deleted, ends with a namespace that we created, or is the end of a
    /// veth pair.
    pub fn check_keepable(&self, device: DeviceId) -> Result<(), TopologyError> {
        let record = self.devices.get(&device).ok_or(TopologyError::NoSuchDevice)?;
        match record.created {
            Some((_, LedgerEntry::Netns { .. })) => Err(TopologyError::KeptInOwnNetns),
            _ if self.wires.contains_key(&device) => Err(TopologyError::KeptVeth),
            _ if self.watcher.has(device) => Ok(()),
            _ => Err(TopologyError::NoDeviceToKeep),
        }
    }

    /// Removes a port as [`Topology::remove_port`] does, but leaves its device in its namespace, with its addresses, to
    /// another program or switch.
    ///
    /// # Errors
    /// As there.
    pub fn remove_port_and_keep_device(&mut self, device: DeviceId) -> Result<(), TopologyError> {
        self.watcher.keep(device);
        self.remove_port(device)
    }
}

fn unreadable(source: io::Error) -> TopologyError {
    TopologyError::Kernel { what: "read the settings of a TAP device", source }
}

/// Opens a device of the calling thread's namespace that no other program has open.
fn open_here(spec: &TapPortSpec, reader: usize) -> Result<(Link, ExistingTap, Vec<Queue>), TopologyError> {
    let name = || spec.ifname.clone();
    let link = link::find(&mut Netlink::open()?, &spec.ifname).map_err(|error| match error.errno() {
        Some(libc::ENODEV) => TopologyError::NoTap(name()),
        _ => error.into(),
    })?;
    let mut tap = open(&link)?.ok_or_else(|| TopologyError::TapInUse(name()))?;
    if let Some(settings) = tap.settings().map_err(unreadable)? {
        tap.enable_offloads(settings, spec.offload)?;
    }
    let queues = tap.queues(spec.queues, reader)?;
    Ok((link, tap, queues))
}

/// Opens a TAP device; `None`: another program has it open.
fn open(link: &Link) -> Result<Option<ExistingTap>, TopologyError> {
    let name = || link.name.clone();
    let settings = link.tap.filter(|settings| settings.is_tap);
    let settings = settings.ok_or_else(|| TopologyError::NotTap(name()))?;
    match is_open(&settings) {
        true => Ok(None),
        false if settings.packet_info => Err(TopologyError::PacketInfo(name())),
        false => Ok(ExistingTap::open(TapDevice {
            name: name(),
            ifindex: link.ifindex,
            multi_queue: settings.multi_queue,
            vnet: settings.vnet_header,
        })?),
    }
}

/// A device as the process that opened it describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenedTapDescription {
    opened: OpenedTap,
    ifindex: u32,
    mac: Mac,
    mtu: u32,
    up: bool,
}

/// A device that this process has opened for a switch without root. Dropped, it restores the settings of the device.
#[derive(Debug)]
pub(crate) struct OpenedForSwitch {
    pub(crate) description: OpenedTapDescription,
    tap: ExistingTap,
    queues: Vec<Queue>,
}

impl OpenedForSwitch {
    /// The files to hand over: the queues.
    pub(crate) fn files(&self) -> Vec<BorrowedFd<'_>> {
        let count = if self.tap.device().multi_queue { self.queues.len() } else { 1 };
        self.queues.iter().take(count).map(|queue| queue.fd.as_fd()).collect()
    }

    /// The switch has the device, and restores its settings.
    pub(crate) fn leave(self) {
        self.tap.leave();
    }
}

/// Opens a device of this process's namespace, in which a switch without root has no capabilities, for that switch. The
/// kernel needs none of a user who owns the device (`tun_not_capable` in Linux `drivers/net/tun.c`).
pub(crate) fn open_for_switch(spec: &TapPortSpec) -> Result<OpenedForSwitch, TopologyError> {
    let (link, tap, queues) = open_here(spec, 0)?;
    let Link { ifindex, mac, mtu, up, .. } = link;
    let description = OpenedTapDescription { opened: tap.opened(), ifindex, mac, mtu, up };
    Ok(OpenedForSwitch { description, tap, queues })
}

impl Topology {
    /// Adopts a TAP device that a process of this user has opened in its own namespace.
    pub(super) fn adopt_tap(
        &mut self,
        spec: &TapPortSpec,
        description: OpenedTapDescription,
        files: Vec<OwnedFd>,
    ) -> Result<Device, TopologyError> {
        let OpenedTapDescription { opened, ifindex, mac, mtu, up } = description;
        let reader = usize::try_from(self.next).unwrap_or(0) % spec.queues;
        let (tap, queues) = ExistingTap::adopt(opened, files, (spec.queues, reader))?;
        let id = self.next_id();
        let (handle, name) = (PolledHandle::ExistingTap(tap), spec.ifname.clone());
        self.watcher.poll_device(PolledDevice { id, handle, name, mac });
        self.devices.insert(id, DeviceRecord { created: None, netns: None });
        self.notices.report_if_down(&spec.ifname, None, up);
        Ok(Device {
            id,
            ifname: spec.ifname.clone(),
            ifindex,
            mac,
            mtu,
            netns: None,
            addresses: Vec::new(),
            offloads: Vec::new(),
            queues,
            polled: true,
            fast: None,
        })
    }
}

/// Whether a program has the device open. It exists only as long as that, unless it is persistent. Of a device with a
/// single queue, only the attempt to open that shows it.
fn is_open(settings: &TapSettings) -> bool {
    let queues = settings.queues.unwrap_or(0) + settings.disabled_queues.unwrap_or(0);
    !settings.persistent || queues > 0
}
