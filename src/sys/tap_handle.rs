//! Control's descriptor of a TAP device, beside the queues that the workers have.
//!
//! It finds the namespace and the name of the device after others have moved or renamed it, and restores the settings
//! that every process with a queue can change for the whole device.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::existing_tap::VnetSettings;
use super::netns::{Netns, NetnsIdentity};
use super::queue::{Access, Framing, Queue};
use super::tap::{self, Lifetime, Owner, TapError, VNET_HEADER};
use crate::wire::Mac;

/// A descriptor of a device. Dropped, it leaves a device with [`Lifetime::Netns`] to its namespace, or, if others moved
/// the device to another namespace, to its queues.
#[derive(Debug)]
pub struct TapHandle {
    fd: OwnedFd,
    /// Frames have a virtio-net header before them.
    vnet: bool,
    /// The namespace with which the device ends, for [`Lifetime::Netns`].
    home: Option<NetnsIdentity>,
    /// It has, or should have, [`Lifetime::Netns`].
    persistent: bool,
    /// It is left to its namespace, wherever that is.
    kept: bool,
}

impl TapHandle {
    /// For the device of `queue`. `home`: the namespace with which it ends; `None`: [`Lifetime::Queues`].
    ///
    /// # Errors
    /// The process has all the files that it may open, or the device was deleted.
    pub fn new(queue: &Queue, home: Option<NetnsIdentity>) -> io::Result<TapHandle> {
        let fd = queue.fd.try_clone()?;
        let vnet = queue.framing == Framing::Vnet;
        Ok(TapHandle { fd, vnet, home, persistent: home.is_some(), kept: false })
    }

    /// The device's name. `None`: it was deleted.
    pub fn name(&self) -> Option<String> {
        interface(&self.fd).ok().map(|(name, _)| name)
    }

    /// The device's MAC address. `None`: it was deleted.
    pub fn mac(&self) -> Option<Mac> {
        mac(&self.fd)
    }

    /// The device's namespace. `None`: the device was deleted, the namespace is not ours to see, or the kernel is
    /// older than 5.7.
    pub fn netns(&self) -> Option<Netns> {
        // SAFETY: `fd` is an open TAP queue, and this ioctl has no argument.
        let opened = unsafe { ioctl::tungetdevnetns(self.fd.as_raw_fd()) }.ok()?;
        // SAFETY: the kernel created this descriptor for this call (`open_related_ns` in `fs/nsfs.c`): it has no other
        // owner.
        Some(Netns::from(File::from(unsafe { OwnedFd::from_raw_fd(opened) })))
    }

    /// The lifetime that the device should have where it is now.
    fn lifetime(&self) -> Lifetime {
        let home = self.home.as_ref();
        let at_home = home.is_some_and(|home| {
            self.netns().and_then(|netns| netns.identity().ok()).is_some_and(|netns| netns.is(home))
        });
        if self.kept || at_home { Lifetime::Netns } else { Lifetime::Queues }
    }

    /// Leaves the device to its namespace when this value is dropped, with the settings of a new one, so that another
    /// program can open it.
    pub fn keep(&mut self) {
        self.kept = true;
        self.update_lifetime();
    }

    /// Makes the device end with its queues if it is not in its first namespace, the end of which would not remove it.
    pub fn update_lifetime(&mut self) {
        self.persistent = self.lifetime() == Lifetime::Netns;
        self.restore_lifetime();
    }

    fn restore_lifetime(&self) {
        // Fails when the device was deleted.
        let _ = tap::set_persist(self.fd.as_fd(), libc::c_int::from(self.persistent));
    }

    /// Makes this process's user the owner again.
    ///
    /// # Errors
    /// The device was deleted.
    pub fn restore_owner(&self) -> Result<(), TapError> {
        tap::set_owner(self.fd.as_fd(), Owner::this_process())
    }

    /// Turns the device's carrier on or off: the end of the cable, as its namespace sees it. Addresses and routes stay.
    ///
    /// # Errors
    /// The device was deleted, or, for a carrier, has no queue (`tun_net_change_carrier` in `drivers/net/tun.c`).
    pub fn set_carrier(&self, on: bool) -> io::Result<()> {
        let carrier = libc::c_int::from(on);
        // SAFETY: `fd` is an open TAP queue; the kernel reads one int through the pointer, which outlives the call.
        unsafe { ioctl::tunsetcarrier(self.fd.as_raw_fd(), &raw const carrier) }?;
        Ok(())
    }

    /// Enables the offloads again that a process with a queue may have disabled for the whole device.
    ///
    /// # Errors
    /// The device was deleted.
    pub fn restore_offloads(&self) -> Result<(), TapError> {
        if self.vnet { tap::set_offload(self.fd.as_fd()).map(drop) } else { Ok(()) }
    }

    /// Restores the settings that others changed, and returns what they are.
    ///
    /// # Errors
    /// A setting cannot be restored.
    pub fn repair(&self) -> io::Result<Vec<&'static str>> {
        let Ok((_, flags)) = interface(&self.fd) else { return Ok(Vec::new()) };
        let mut repaired = Vec::new();
        if self.vnet && header_size(&self.fd)? != libc::c_int::from(VNET_HEADER) {
            tap::set_header_size(self.fd.as_fd()).map_err(io::Error::other)?;
            // The same program may have changed the offload flags, which cannot be read.
            self.restore_offloads().map_err(io::Error::other)?;
            repaired.push("virtio-net header size");
        }
        if (flags & libc::IFF_PERSIST != 0) != self.persistent {
            self.restore_lifetime();
            repaired.push("persistence");
        }
        Ok(repaired)
    }
}

impl Drop for TapHandle {
    fn drop(&mut self) {
        if self.home.is_some() && self.lifetime() == Lifetime::Queues {
            self.update_lifetime();
        }
        if self.kept && self.vnet {
            VnetSettings::NEW.apply(self.fd.as_fd());
        }
    }
}

/// Why a descriptor that another process has handed over is not a queue of the expected device.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The wrong number.
    #[error("{0} queues were handed over instead of {1}")]
    Count(usize, usize),
    /// It is not a queue, or the device was deleted.
    #[error("a file that was handed over is not a queue of a TAP device: {0}")]
    NotQueue(io::Error),
    /// Another device, or one with other settings.
    #[error("a queue that was handed over has the wrong {0}")]
    Mismatch(&'static str),
}

/// Checks that `files` are the queues of the device that `expected` describes, and makes them non-blocking.
///
/// # Errors
/// See [`AdoptError`].
pub fn adopt(files: Vec<OwnedFd>, expected: &tap::TapConfig) -> Result<Vec<Queue>, AdoptError> {
    if files.len() != expected.queues {
        return Err(AdoptError::Count(files.len(), expected.queues));
    }
    let adopt = |fd: OwnedFd| {
        check_queue(&fd, expected.name, tap::flags(expected))?;
        if expected.offload && header_size(&fd).ok() != Some(libc::c_int::from(VNET_HEADER)) {
            return Err(AdoptError::Mismatch("header size"));
        }
        Ok(Queue { fd, framing: tap::framing(expected), access: Access::ReadWrite })
    };
    files.into_iter().map(adopt).collect()
}

/// Checks that a file is a queue of the device with this name and these flags, and makes it non-blocking.
pub(super) fn check_queue(fd: &OwnedFd, device: &str, wanted: libc::c_int) -> Result<(), AdoptError> {
    let kinds = libc::IFF_TUN
        | libc::IFF_TAP
        | libc::IFF_NO_PI
        | libc::IFF_VNET_HDR
        | libc::IFF_MULTI_QUEUE
        | libc::IFF_PERSIST;
    let (name, flags) = interface(fd).map_err(AdoptError::NotQueue)?;
    if name != device {
        return Err(AdoptError::Mismatch("device"));
    }
    if flags & kinds != wanted {
        return Err(AdoptError::Mismatch("kind"));
    }
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| AdoptError::NotQueue(error.into()))?;
    Ok(())
}

/// The MAC address of a queue's device. `None`: it was deleted.
pub(super) fn mac(fd: &OwnedFd) -> Option<Mac> {
    let mut ifreq = tap::interface_request("", 0);
    // SAFETY: `fd` is an open TAP queue; the kernel writes `sizeof(struct ifreq)` bytes to `ifreq`, which is whole,
    // ours alone, and outlives the call. Any bytes are valid in it.
    unsafe { ioctl::siocgifhwaddr(fd.as_raw_fd(), &raw mut ifreq) }.ok()?;
    // SAFETY: SIOCGIFHWADDR sets the address (`__tun_chr_ioctl` in `drivers/net/tun.c`).
    let address = unsafe { ifreq.ifr_ifru.ifru_hwaddr }.sa_data;
    let octets = address.first_chunk::<6>()?;
    Some(Mac(octets.map(libc::c_char::cast_unsigned)))
}

/// The name and flags of a queue's device.
pub(super) fn interface(fd: &OwnedFd) -> io::Result<(String, libc::c_int)> {
    let mut ifreq = tap::interface_request("", 0);
    // SAFETY: `fd` is an open TAP queue; the kernel writes `sizeof(struct ifreq)` bytes to `ifreq`, which is whole,
    // ours alone, and outlives the call. Any bytes are valid in it.
    unsafe { ioctl::tungetiff(fd.as_raw_fd(), &raw mut ifreq) }?;
    let name = ifreq.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| byte.cast_unsigned());
    // SAFETY: TUNGETIFF sets the flags (`tun_get_iff` in `drivers/net/tun.c`).
    let flags = unsafe { ifreq.ifr_ifru.ifru_flags };
    Ok((String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned(), libc::c_int::from(flags)))
}

pub(super) fn header_size(fd: &OwnedFd) -> io::Result<libc::c_int> {
    let mut size = 0;
    // SAFETY: `fd` is an open TAP queue; the kernel writes one int through the pointer, which outlives the call.
    unsafe { ioctl::tungetvnethdrsz(fd.as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

mod ioctl {
    nix::ioctl_read_bad!(tungetiff, libc::TUNGETIFF, libc::ifreq);
    nix::ioctl_read_bad!(tungetvnethdrsz, libc::TUNGETVNETHDRSZ, libc::c_int);
    nix::ioctl_read_bad!(siocgifhwaddr, libc::SIOCGIFHWADDR, libc::ifreq);
    nix::ioctl_write_ptr_bad!(
        tunsetcarrier,
        nix::request_code_write!(b'T', 226, size_of::<libc::c_int>()),
        libc::c_int
    );
    nix::ioctl_none!(tungetdevnetns, b'T', 227); // TUNGETDEVNETNS, which libc lacks
}
