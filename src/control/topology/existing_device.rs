//! Ports on existing devices of the host's namespace: a network card, the end of a veth pair, a macvtap.
//!
//! The switch opens the device and changes none of its settings, so nothing has to be undone
//! ([`crate::sys::packet_port`]). The ledger does not know such a port.

use rtnetlink::LinkUnspec;

use super::link::{self, Link};
use super::link_watcher::{DeviceHandle, WatchedDevice};
use super::{Device, DeviceRecord, Topology, TopologyError};
use crate::sys::packet_port::{self, PacketHandle};

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
        let id = self.next_id();
        let watched = WatchedDevice { id, link: &link, addresses: &[], handle, queues: 0, offloads: &[] };
        self.watcher.add(watched, None)?;
        self.devices.insert(id, DeviceRecord { created: None, netns: None });
        if !link.up {
            self.notices.add(format!("{ifname} is down: set it up with `ip link set {ifname} up`"));
        }
        Ok(Device {
            id,
            ifname: link.name,
            ifindex: link.ifindex,
            mac: link.mac,
            mtu: link.mtu,
            netns: None,
            addresses: Vec::new(),
            offloads: Vec::new(),
            queues,
            polled: false,
        })
    }

    /// Finds the device, and checks that it can be a port.
    fn find_device(&mut self, ifname: &str) -> Result<Link, TopologyError> {
        let name = || ifname.to_owned();
        let link = link::find(&mut self.host, ifname).map_err(|error| match error.errno() {
            Some(libc::ENODEV) => TopologyError::NoDevice(name()),
            _ => error.into(),
        })?;
        if !link.is_ethernet {
            return Err(TopologyError::NotEthernet(name()));
        }
        match self.watcher.device_on_host(link.ifindex) {
            Some(device) if self.host_device == Some(device) => return Err(TopologyError::OwnDevice(name())),
            Some(_) => return Err(TopologyError::IsPort(name())),
            None => {}
        }
        match link.controller {
            Some(ifindex) => {
                let which = LinkUnspec::new_with_index(ifindex);
                let controller = link::query(&mut self.host, "find the bridge of a device", which)?.name;
                Err(TopologyError::HasController { device: name(), controller })
            }
            None => Ok(link),
        }
    }
}
