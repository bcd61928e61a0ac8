//! Ports on existing devices of the host's namespace: a network card, the end of a veth pair, a macvtap.
//!
//! The switch opens the device and changes none of its settings, so nothing has to be undone
//! ([`crate::sys::packet_port`]). The ledger does not know such a port.

use std::path::Path;

use rtnetlink::LinkUnspec;

use super::ledger::{EntryId, LedgerEntry};
use super::link::{self, Link};
use super::link_watcher::{DeviceHandle, WatchedDevice};
use super::{Device, DeviceRecord, Topology, TopologyError};
use crate::sys::netns::Netns;
use crate::sys::packet_port::{self, PacketHandle};
use crate::sys::queue::Queue;

/// An existing device that was opened for a port.
#[derive(Debug)]
pub(super) struct OpenedDevice<'a> {
    pub(super) link: Link,
    pub(super) handle: DeviceHandle,
    pub(super) queues: Vec<Queue>,
    /// The ledger entry of its settings, if they were changed.
    pub(super) created: Option<(EntryId, LedgerEntry)>,
    /// Its namespace, with the path; `None`: the host's.
    pub(super) netns: Option<(&'a Netns, &'a Path)>,
}

impl Topology {
    /// Opens an existing device for a port, with one queue for each worker.
    ///
    /// # Errors
    /// It cannot be a port. Nothing is changed then.
    pub(super) fn open_device(&mut self, ifname: &str, queues: usize) -> Result<Device, TopologyError> {
        let link = self.find_device(ifname)?;
        let failed = |source| TopologyError::PacketPort { ifname: ifname.to_owned(), source };
        let queues = packet_port::open(link.ifindex, queues).map_err(failed)?;
        let duplicated = |source| TopologyError::Kernel { what: "duplicate a queue's descriptor", source };
        let handle = DeviceHandle::Packet(PacketHandle::new(&queues).map_err(duplicated)?);
        self.add_existing(OpenedDevice { link, handle, queues, created: None, netns: None })
    }

    /// Starts to watch an existing device, and gives it an identifier.
    pub(super) fn add_existing(&mut self, opened: OpenedDevice<'_>) -> Result<Device, TopologyError> {
        let OpenedDevice { link, handle, queues, created, netns } = opened;
        let id = self.next_id();
        let own = match &handle {
            DeviceHandle::ExistingTap { .. } => u32::try_from(queues.len()).unwrap_or(u32::MAX),
            _ => 0,
        };
        let watched = WatchedDevice { id, link: &link, addresses: &[], handle, queues: own, offloads: &[] };
        self.watcher.add(watched, netns.map(|(netns, _)| netns))?;
        let identity = netns.map(|(netns, _)| netns.identity()).transpose()?;
        self.devices.insert(id, DeviceRecord { created, netns: identity });
        self.notices.report_if_down(&link.name, netns.map(|(_, path)| path), link.up);
        Ok(Device {
            id,
            ifname: link.name,
            ifindex: link.ifindex,
            mac: link.mac,
            mtu: link.mtu,
            netns: netns.map(|(_, path)| path.to_owned()),
            addresses: Vec::new(),
            offloads: Vec::new(),
            queues,
            polled: false,
            fast: None,
        })
    }

    /// Finds the device, and checks that it can be a port.
    fn find_device(&mut self, ifname: &str) -> Result<Link, TopologyError> {
        let name = || ifname.to_owned();
        let link = self.find_link(ifname)?;
        if !link.is_ethernet {
            return Err(TopologyError::NotEthernet(name()));
        }
        self.refuse_own(&link)?;
        match link.controller {
            Some(ifindex) => {
                let which = LinkUnspec::new_with_index(ifindex);
                let controller = link::query(&mut self.host, "find the bridge of a device", which)?.name;
                Err(TopologyError::HasController { device: name(), controller })
            }
            None => Ok(link),
        }
    }

    pub(super) fn find_link(&mut self, ifname: &str) -> Result<Link, TopologyError> {
        link::find(&mut self.host, ifname).map_err(|error| match error.errno() {
            Some(libc::ENODEV) => TopologyError::NoDevice(ifname.to_owned()),
            _ => error.into(),
        })
    }

    /// Refuses the devices of this switch.
    pub(super) fn refuse_own(&self, link: &Link) -> Result<(), TopologyError> {
        match self.watcher.device_on_host(link.ifindex) {
            Some(device) if self.host_devices.contains(&device) => {
                Err(TopologyError::OwnDevice(link.name.clone()))
            }
            Some(_) => Err(TopologyError::IsPort(link.name.clone())),
            None => Ok(()),
        }
    }
}
