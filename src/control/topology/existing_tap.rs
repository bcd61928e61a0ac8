//! Ports on existing TAP devices. If no program has a persistent device open, the switch opens it, so whatever has the network
//! device is behind the port: the host, a bridge, a container. If a program has it open, the program is behind the port
//! ([`super::existing_device`]).

use super::ledger::Entry;
use super::link::{Link, TapSettings};
use super::link_watcher::DeviceHandle;
use super::{Device, Topology, TopologyError};
use crate::sys::existing_tap::{ExistingTap, TapDevice};

/// An existing TAP device, and how to open it.
#[derive(Debug, Clone)]
pub struct TapPortSpec {
    /// Its name.
    pub ifname: String,
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
        let TapPortSpec { ifname, queues, .. } = spec;
        let link = self.find_link(ifname)?;
        self.refuse_own(&link)?;
        let settings = link.tap.filter(|settings| settings.is_tap);
        let settings = settings.ok_or_else(|| TopologyError::NotTap(ifname.clone()))?;
        let opened = match is_open(&settings) {
            true => None,
            false if settings.packet_info => return Err(TopologyError::PacketInfo(ifname.clone())),
            false => ExistingTap::open(TapDevice {
                name: ifname.clone(),
                ifindex: link.ifindex,
                multi_queue: settings.multi_queue,
                vnet: settings.vnet_header,
            })?,
        };
        let Some(tap) = opened else {
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
        let failed = |source| TopologyError::Kernel { what: "read the settings of a TAP device", source };
        let mut created = None;
        if let Some(settings) = tap.settings().map_err(failed)? {
            let entry = Entry::Tap { device: tap.device().clone(), settings };
            created = Some((self.ledger.record(entry.clone())?, entry));
            tap.enable_offloads(settings, spec.offload)?;
        }
        let reader = usize::try_from(self.next).unwrap_or(0) % spec.queues;
        let queues = tap.queues(spec.queues, reader)?;
        let handle = DeviceHandle::ExistingTap { _tap: tap, dropped_before: link.tx_dropped };
        self.add_existing(link, handle, queues, created)
    }
}

/// Whether a program has the device open. It exists only as long as that, unless it is persistent. Of a device with a single
/// queue, only the attempt to open that shows it.
fn is_open(settings: &TapSettings) -> bool {
    let queues = settings.queues.unwrap_or(0) + settings.disabled_queues.unwrap_or(0);
    !settings.persistent || queues > 0
}
