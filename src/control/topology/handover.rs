//! Ports in network namespaces that the switch may not enter.
//!
//! A switch without root has capabilities in its own user namespace only, not in that of another container of the same
//! user. The user has: the owner of a user namespace has all capabilities in it (user_namespaces(7)). So the command
//! line, run by the user, enters the container's user namespace, creates the device as the switch would, and hands its
//! queues over ([`crate::control::server`] has the protocol). It does the same with an existing TAP device of its own
//! namespace, which a user who owns the device can open ([`super::existing_tap`]). Nothing else of the namespace is
//! accessible to the switch: it cannot receive or query changes of the device there. What a queue tells is polled: the
//! name and the MAC address.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::announce::{self, Origin};
use super::build::{StagingNetns, tap_request};
use super::existing_tap::{OpenedTapDescription, TapPortSpec};
use super::polled_device::{PolledDevice, PolledHandle};
use super::{Attachment, Device, DeviceRecord, PortSpec, Topology, TopologyError};
use crate::sys::ethtool;
use crate::sys::netns::Netns;
use crate::sys::tap::{Lifetime, Tap};
use crate::sys::tap_handle::{self, TapHandle};
use crate::sys::userns::UserNs;
use crate::wire::Mac;
use crate::wire::ndp::Advertiser;

/// A device as the process that created it describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceDescription {
    pub(crate) ifindex: u32,
    pub(crate) mac: Mac,
    pub(crate) mtu: u32,
    pub(crate) addresses: Vec<IpNet>,
    /// The offloads that it uses.
    pub(crate) offloads: Vec<String>,
    /// Whether UDP segmentation offload is on.
    pub(crate) uso: bool,
    /// For the user.
    pub(crate) notices: Vec<String>,
}

/// A device that this process has created and can hand over.
#[derive(Debug)]
pub(crate) struct BuiltForSwitch {
    pub(crate) description: DeviceDescription,
    netns: Netns,
    tap: Tap,
}

impl BuiltForSwitch {
    /// The files to hand over: the queues.
    pub(crate) fn files(&self) -> Vec<BorrowedFd<'_>> {
        self.tap.queues.iter().map(|queue| queue.fd.as_fd()).collect()
    }

    /// Announces the addresses of the device, when the switch forwards its frames. The switch itself cannot.
    pub(crate) fn announce(self) {
        let DeviceDescription { ifindex, mac, addresses, .. } = self.description;
        let addresses: Vec<_> = addresses.iter().map(IpNet::addr).collect();
        let origin = Origin { netns: self.netns, ifindex, mac, advertiser: Advertiser::Host };
        announce::send_all(&[(origin, addresses)]);
    }
}

/// Creates the device of a port in `netns`, whose user namespace is `owner`. This process enters `owner` for good,
/// unless it is there. It must have one thread.
pub(crate) fn build_for_switch(
    netns: Netns,
    owner: &UserNs,
    spec: &PortSpec,
) -> Result<BuiltForSwitch, TopologyError> {
    let failed = |source| TopologyError::Kernel { what: "enter the user namespace of the container", source };
    if !UserNs::current().and_then(|own| own.is(owner)).map_err(failed)? {
        owner.enter().map_err(failed)?;
    }
    let path = spec.netns.path().unwrap_or_default();
    let mut staging = StagingNetns::create()?;
    let built = staging.in_existing_netns(netns, &path, spec, None)?;
    let netns = built.netns.ok_or(TopologyError::NoSuchDevice)?;
    let description = DeviceDescription {
        ifindex: built.link.ifindex,
        mac: built.link.mac,
        mtu: built.link.mtu,
        addresses: built.addresses,
        offloads: built.offloads.iter().map(ToString::to_string).collect(),
        uso: built.tap.uso,
        notices: built.notices,
    };
    Ok(BuiltForSwitch { description, netns, tap: built.tap })
}

/// What the process that hands a device over has to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DeviceToHandOver {
    /// Create it.
    Tap(PortSpec),
    /// Open it: it exists.
    ExistingTap(TapPortSpec),
}

/// What that process says about the device.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum HandedDevice {
    /// It has created it.
    Tap(DeviceDescription),
    /// It has opened it.
    ExistingTap(OpenedTapDescription),
}

/// A device that another process has handed over. Its queues were not checked.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) device: HandedDevice,
    pub(crate) netns: Netns,
    pub(crate) queues: Vec<OwnedFd>,
}

impl Topology {
    /// Adopts the device of a port that another process of this user has created or opened.
    ///
    /// # Errors
    /// It is not the device that the port needs, or a new one is in the host's namespace.
    pub(crate) fn adopt_port(
        &mut self,
        attachment: &Attachment,
        handed: HandedOver,
    ) -> Result<Device, TopologyError> {
        let HandedOver { device, netns, queues } = handed;
        match (attachment, device) {
            (Attachment::Tap(spec), HandedDevice::Tap(description)) => {
                self.adopt_new_tap(spec, description, (netns, queues))
            }
            (Attachment::ExistingTap(spec), HandedDevice::ExistingTap(description)) => {
                self.adopt_tap(spec, description, queues)
            }
            _ => Err(TopologyError::NoSuchDevice),
        }
    }

    fn adopt_new_tap(
        &mut self,
        spec: &PortSpec,
        description: DeviceDescription,
        (netns, queues): (Netns, Vec<OwnedFd>),
    ) -> Result<Device, TopologyError> {
        self.refuse_host(&netns, &spec.netns.path().unwrap_or_default())?;
        let netns = netns.identity()?;
        let queues = tap_handle::adopt(queues, &tap_request(spec, Lifetime::Queues))?;
        let failed = |source| TopologyError::Kernel { what: "duplicate a queue's descriptor", source };
        let handle =
            TapHandle::new(queues.first().ok_or(TopologyError::NoSuchDevice)?, None).map_err(failed)?;
        let mac = handle.mac().ok_or(TopologyError::NoSuchDevice)?;
        let id = self.next_id();
        let (handle, name) = (PolledHandle::Tap(handle), spec.ifname.clone());
        self.watcher.poll_device(PolledDevice { id, handle, name, mac });
        self.devices.insert(id, DeviceRecord { created: None, netns: Some(netns) });
        description.notices.into_iter().for_each(|notice| self.notices.add(notice));
        if !description.uso {
            self.notices.report_no_uso();
        }
        Ok(Device {
            id,
            ifname: spec.ifname.clone(),
            ifindex: description.ifindex,
            mac,
            mtu: description.mtu,
            netns: spec.netns.path(),
            addresses: description.addresses,
            offloads: ethtool::names()
                .filter(|name| description.offloads.iter().any(|used| used == name))
                .collect(),
            queues,
            polled: true,
            fast: None,
        })
    }
}
