//! Existing persistent TAP devices (`ip tuntap add`) that no program has open. Their queues are opened with the flags
//! that the device has, and closed with the port: the device outlives it.
//!
//! A device with `vnet_hdr` is for programs that use the virtio-net header, so the switch uses it and the offloads. It
//! needs a header of another size than the kernel's default, and the kernel keeps both settings when the queues are
//! closed. So they are restored then.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::queue::{Access, Framing, Queue, shared_queues};
use super::tap::{self, TapError};
use super::tap_handle::AdoptError;
use super::{ethtool, tap_handle};
use crate::wire::Mac;

/// A device, with the flags that it was created with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapDevice {
    /// Its name.
    pub name: String,
    /// Its index. Another device may have the name now.
    pub ifindex: u32,
    /// It can have several queues.
    pub multi_queue: bool,
    /// There is a virtio-net header before each frame.
    pub vnet: bool,
}

/// The settings that the kernel keeps when the queues of a device are closed. UDP segmentation offload, which is not
/// read, is off after they were restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VnetSettings {
    header: libc::c_int,
    checksum: bool,
    segmentation: bool,
}

/// An open queue of a device. Dropped, it restores the settings of the device.
#[derive(Debug)]
pub struct ExistingTap {
    device: TapDevice,
    queue: OwnedFd,
    changed: Option<VnetSettings>,
}

impl ExistingTap {
    /// Opens a queue of the device in the calling thread's namespace, and changes nothing else. `None`: another program
    /// has it open, or it does not exist any more.
    ///
    /// # Errors
    /// The user may not open it, or it does not have these flags.
    pub fn open(device: TapDevice) -> Result<Option<ExistingTap>, TapError> {
        let Some(queue) = open_queue(&device)? else { return Ok(None) };
        Ok(Some(ExistingTap { device, queue, changed: None }))
    }

    /// The device.
    pub fn device(&self) -> &TapDevice {
        &self.device
    }

    /// The settings that [`ExistingTap::enable_offloads`] changes, and that [`restore`] needs after a kill. `None`: it
    /// changes none.
    ///
    /// # Errors
    /// The device was deleted.
    pub fn settings(&self) -> io::Result<Option<VnetSettings>> {
        if !self.device.vnet {
            return Ok(None);
        }
        let used = ethtool::offloads(&self.device.name)?;
        Ok(Some(VnetSettings {
            header: tap_handle::header_size(&self.queue)?,
            checksum: used.contains(&"tx-checksumming"),
            segmentation: used.contains(&"tcp-segmentation-offload"),
        }))
    }

    /// Makes the device, whose settings are `before`, use the virtio-net header of the switch and, with `offload`, its
    /// offloads.
    ///
    /// # Errors
    /// The device was deleted.
    pub fn enable_offloads(&mut self, before: VnetSettings, offload: bool) -> Result<(), TapError> {
        self.changed = Some(before);
        tap::set_header_size(self.queue.as_fd())?;
        if offload { tap::set_offload(self.queue.as_fd()).map(drop) } else { Ok(()) }
    }

    /// The queues for `count` workers: a queue for each, or one that `reader` reads and that all write to.
    ///
    /// # Errors
    /// Another program has opened a queue meanwhile, or the process has all the files that it may open.
    pub fn queues(&self, count: usize, reader: usize) -> Result<Vec<Queue>, TapError> {
        let framing = if self.device.vnet { Framing::Vnet } else { Framing::Plain };
        if !self.device.multi_queue {
            return shared_queues(&self.queue, framing, count, reader).map_err(TapError::Open);
        }
        let first = self.queue.try_clone().map_err(TapError::Open)?;
        let more = (1..count).map(|_| open_queue(&self.device)?.ok_or_else(|| in_use(&self.device)));
        [Ok(first)]
            .into_iter()
            .chain(more)
            .map(|fd| Ok(Queue { fd: fd?, framing, access: Access::ReadWrite }))
            .collect()
    }
}

/// A device that another process has opened, and how to restore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedTap {
    device: TapDevice,
    before: Option<VnetSettings>,
}

impl ExistingTap {
    /// What another process needs to [adopt](ExistingTap::adopt) the device, apart from its queues.
    pub fn opened(&self) -> OpenedTap {
        OpenedTap { device: self.device.clone(), before: self.changed }
    }

    /// Leaves it to another process to restore the device.
    pub fn leave(mut self) {
        self.changed = None;
    }

    /// Adopts a device that another process has opened, with its queues for `count` workers, as [`ExistingTap::queues`]
    /// returns them.
    ///
    /// # Errors
    /// The files are not queues of this device.
    pub fn adopt(
        OpenedTap { device, before }: OpenedTap,
        files: Vec<OwnedFd>,
        (count, reader): (usize, usize),
    ) -> Result<(ExistingTap, Vec<Queue>), AdoptError> {
        let expected = if device.multi_queue { count } else { 1 };
        if files.len() != expected {
            return Err(AdoptError::Count(files.len(), expected));
        }
        let flags = tap::existing_flags(&device) | libc::IFF_PERSIST;
        files.iter().try_for_each(|fd| tap_handle::check_queue(fd, &device.name, flags))?;
        let first = files.first().ok_or(AdoptError::Count(0, expected))?;
        let queue = first.try_clone().map_err(AdoptError::NotQueue)?;
        let framing = if device.vnet { Framing::Vnet } else { Framing::Plain };
        let queues = if device.multi_queue {
            files.into_iter().map(|fd| Queue { fd, framing, access: Access::ReadWrite }).collect()
        } else {
            shared_queues(&queue, framing, count, reader).map_err(AdoptError::NotQueue)?
        };
        Ok((ExistingTap { device, queue, changed: before }, queues))
    }

    /// The device's name now. `None`: it was deleted.
    pub fn name(&self) -> Option<String> {
        tap_handle::interface(&self.queue).ok().map(|(name, _)| name)
    }

    /// The device's MAC address. `None`: it was deleted.
    pub fn mac(&self) -> Option<Mac> {
        tap_handle::mac(&self.queue)
    }
}

impl Drop for ExistingTap {
    fn drop(&mut self) {
        if let Some(before) = &self.changed {
            before.apply(self.queue.as_fd());
        }
    }
}

impl VnetSettings {
    /// Those of a new device: the header is `struct virtio_net_hdr`.
    pub(super) const NEW: VnetSettings = VnetSettings { header: 10, checksum: false, segmentation: false };

    /// Fails if the device was deleted.
    pub(super) fn apply(&self, queue: BorrowedFd<'_>) {
        const SEGMENTATION: libc::c_uint = libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        let checksum = if self.checksum { libc::TUN_F_CSUM } else { 0 };
        let segmentation = if self.checksum && self.segmentation { SEGMENTATION } else { 0 };
        let _ = tap::set_offload_flags(queue, checksum | segmentation);
        let _ = tap::set_header_size_to(queue, self.header);
    }
}

/// Restores the settings of a device after a kill, unless another program has it open, which sets its own. The kernel
/// closes the files of an io_uring some time after the process has ended (`io_ring_exit_work` in Linux
/// `io_uring/io_uring.c`).
///
/// # Errors
/// The user may not open it.
pub fn restore(device: &TapDevice, before: &VnetSettings) -> Result<(), TapError> {
    const STEP: Duration = Duration::from_millis(10);
    const STEPS: u32 = 100;
    for _ in 0..STEPS {
        if let Some(queue) = open_queue(device)? {
            before.apply(queue.as_fd());
            break;
        }
        if !exists(device) {
            break;
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// `None`: a program has the device open, or it does not exist. The kernel would create a device then.
fn open_queue(device: &TapDevice) -> Result<Option<OwnedFd>, TapError> {
    if !exists(device) {
        return Ok(None);
    }
    match tap::open_existing(device)? {
        Err(Errno::EBUSY) => Ok(None),
        Err(Errno::EPERM) => Err(TapError::NotOwner(device.name.clone())),
        Err(error) => Err(TapError::OpenExisting { name: device.name.clone(), source: error.into() }),
        Ok(queue) if exists(device) => Ok(Some(queue)),
        // It was deleted meanwhile, and another one was created, which ends with this queue.
        Ok(_) => Ok(None),
    }
}

fn in_use(device: &TapDevice) -> TapError {
    TapError::OpenExisting { name: device.name.clone(), source: Errno::EBUSY.into() }
}

fn exists(device: &TapDevice) -> bool {
    let Ok(name) = CString::new(device.name.as_str()) else { return false };
    nix::net::if_::if_nametoindex(name.as_c_str()).is_ok_and(|ifindex| ifindex == device.ifindex)
}
