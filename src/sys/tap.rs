//! TAP devices (Linux `Documentation/networking/tuntap.rst`, `drivers/net/tun.c`).
//!
//! A device is created in the network namespace in which `/dev/net/tun` was *opened*. The open file keeps
//! that namespace alive, even if the device is moved to another: see [`super::netns`] for the consequences.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};

use super::existing_tap::TapDevice;
use super::queue::{Access, Framing, Queue};

const CLONE_DEVICE: &str = "/dev/net/tun";

/// Bytes of the virtio-net header before each frame: `struct virtio_net_hdr_v1`.
pub const VNET_HEADER: u8 = 12;

/// How long a device exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until its last queue is closed. That close takes some 20 ms (RCU grace periods).
    Queues,
    /// Until its namespace is removed (`TUNSETPERSIST`). Closing is quick, and the kernel removes many
    /// namespaces at once.
    Netns,
}

/// The device to create.
#[derive(Debug, Clone, Copy)]
pub struct TapConfig<'a> {
    /// The new device's name.
    pub name: &'a str,
    /// Its index in its namespace (`TUNSETIFINDEX`); `None`: the next free one.
    pub ifindex: Option<u32>,
    /// How many queues it has: 1 to 256.
    pub queues: usize,
    /// Whether frames carry a virtio-net header, and the kernel may leave checksums and segmentation to the
    /// reader.
    pub offload: bool,
    /// How long it exists.
    pub lifetime: Lifetime,
}

/// A new device, which is down.
#[derive(Debug)]
pub struct Tap {
    /// All its queues.
    pub queues: Vec<Queue>,
    /// Whether UDP segmentation offload is on too (Linux 6.2). Always true without offload.
    pub uso: bool,
}

/// Why a device cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// See [`is_device_name`].
    #[error("'{0}' is not a device name: use 1 to 15 bytes without '/', ':', '%' or blanks")]
    Name(String),
    /// The driver is not available.
    #[error(
        "there is no /dev/net/tun: load the driver with `modprobe tun`, or give the device to this container"
    )]
    NoDriver,
    /// The file may not be opened.
    #[error("no permission to open /dev/net/tun: it needs mode 0666, or use sudo")]
    NoPermission,
    /// The file cannot be opened.
    #[error("cannot open /dev/net/tun: {0}")]
    Open(io::Error),
    /// TUNSETIFF: the name is in use.
    #[error("the device '{0}' exists already: choose another name, or remove it")]
    Exists(String),
    /// TUNSETIFF: `CAP_NET_ADMIN` is missing.
    #[error("no permission to create the TAP device '{0}': use sudo")]
    NotAdministrator(String),
    /// TUNSETIFF on an existing device.
    #[error("no permission to open the TAP device '{0}': only its owner and root may")]
    NotOwner(String),
    /// TUNSETIFF on an existing device.
    #[error("cannot open the TAP device '{name}': {source}")]
    OpenExisting {
        /** Its name. */
        name: String,
        /** The kernel's error. */
        source: io::Error,
    },
    /// TUNSETIFF.
    #[error("cannot create the TAP device '{name}': {source}")]
    Make {
        /** Its name. */
        name: String,
        /** The kernel's error. */
        source: io::Error,
    },
    /// TUNSETVNETHDRSZ.
    #[error("the TAP driver refused a virtio-net header of 12 bytes: {0}")]
    HeaderSize(io::Error),
    /// TUNSETOWNER or TUNSETGROUP.
    #[error("the TAP driver refused to set the device's owner: {0}")]
    Owner(io::Error),
    /// TUNSETPERSIST.
    #[error("the TAP driver refused to make a device persistent: {0}")]
    Persist(io::Error),
    /// TUNSETOFFLOAD.
    #[error("the TAP driver refused checksum and TCP offload: {0}")]
    Offload(io::Error),
}

/// Whether the kernel accepts the name for a device (`dev_valid_name` in `net/core/dev.c`). '%' is refused
/// too: the kernel would replace `%d` by a number.
pub fn is_device_name(name: &str) -> bool {
    (1..libc::IFNAMSIZ).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte))
}

/// Creates the device in the calling thread's namespace and opens all its queues.
///
/// # Errors
/// See [`TapError`]; then no device is left.
pub fn open(request: &TapConfig) -> Result<Tap, TapError> {
    if !is_device_name(request.name) {
        return Err(TapError::Name(request.name.to_owned()));
    }
    let mut queues = Vec::with_capacity(request.queues);
    for number in 0..request.queues {
        // The first queue creates the device. It must not attach to a device of another program.
        let exclusive = if number == 0 { libc::IFF_TUN_EXCL } else { 0 };
        let fd = open_clone_device()?;
        if let (0, Some(ifindex)) = (number, request.ifindex) {
            set_ifindex(&fd, ifindex)
                .map_err(|error| TapError::Make { name: request.name.to_owned(), source: error.into() })?;
        }
        attach(&fd, request, exclusive)?;
        if number == 0 {
            set_owner(fd.as_fd(), Owner::this_process())?;
        }
        queues.push(Queue { fd: fd.into(), framing: framing(request), access: Access::ReadWrite });
    }
    let uso = match queues.first() {
        Some(queue) if request.offload => {
            for queue in &queues {
                set_header_size(queue.fd.as_fd())?;
            }
            set_offload(queue.fd.as_fd())?
        }
        _ => true,
    };
    if let (Lifetime::Netns, Some(queue)) = (request.lifetime, queues.first()) {
        set_persist(queue.fd.as_fd(), 1).map_err(|error| TapError::Persist(error.into()))?;
    }
    Ok(Tap { queues, uso })
}

/// Checks that the driver is available and may be used.
///
/// # Errors
/// [`TapError::NoDriver`], [`TapError::NoPermission`] or [`TapError::Open`].
pub fn check_driver() -> Result<(), TapError> {
    open_clone_device().map(drop)
}

/// Whether a queue can be read with `RWF_NOWAIT` (`FMODE_NOWAIT` in `tun_chr_open`, Linux 6.4). True without
/// `/dev/net/tun`, because the missing driver is reported elsewhere.
pub(super) fn reads_without_waiting() -> bool {
    let Ok(file) = open_clone_device() else { return true };
    let mut byte = 0u8;
    let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: one part of one byte, which outlives the call. The file has no device yet, so nothing is read.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    read >= 0 || Errno::last() != Errno::EOPNOTSUPP
}

/// Opens the clone device: a queue without a device yet.
fn open_clone_device() -> Result<File, TapError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(CLONE_DEVICE);
    file.map_err(|error| match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        // ENODEV, ENXIO: the device node exists, but the module is not loaded.
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => TapError::NoDriver,
        Errno::EACCES | Errno::EPERM => TapError::NoPermission,
        _ => TapError::Open(error),
    })
}

fn attach(fd: &File, request: &TapConfig, exclusive: libc::c_int) -> Result<(), TapError> {
    let mut ifreq = interface_request(request.name, flags(request) | exclusive);
    let made = set_interface(fd, &mut ifreq);
    let name = || request.name.to_owned();
    made.map_err(|error| match error {
        Errno::EBUSY => TapError::Exists(name()),
        Errno::EPERM => TapError::NotAdministrator(name()),
        _ => TapError::Make { name: name(), source: error.into() },
    })
}

/// Opens a queue of an existing device, with the flags that it has.
pub(super) fn open_existing(device: &TapDevice) -> Result<nix::Result<OwnedFd>, TapError> {
    let fd = open_clone_device()?;
    let mut ifreq = interface_request(&device.name, existing_flags(device));
    Ok(set_interface(&fd, &mut ifreq).map(|()| fd.into()))
}

/// The flags of a queue of an existing device.
pub(super) fn existing_flags(device: &TapDevice) -> libc::c_int {
    let vnet = if device.vnet { libc::IFF_VNET_HDR } else { 0 };
    let multi_queue = if device.multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
    libc::IFF_TAP | libc::IFF_NO_PI | vnet | multi_queue
}

/// What is before each frame of the device.
pub(super) fn framing(request: &TapConfig) -> Framing {
    if request.offload { Framing::Vnet } else { Framing::Plain }
}

/// The flags of a queue of the device.
pub(super) fn flags(request: &TapConfig) -> libc::c_int {
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if request.offload {
        flags |= libc::IFF_VNET_HDR;
    }
    if request.queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    flags
}

/// The index of the device that the next `TUNSETIFF` creates.
fn set_ifindex(fd: &File, ifindex: u32) -> nix::Result<()> {
    // SAFETY: `fd` is an open file, and the kernel reads one `unsigned int` through the pointer, which outlives the
    // call.
    unsafe { ioctl::tunsetifindex(fd.as_raw_fd(), &raw const ifindex) }.map(drop)
}

fn set_interface(fd: &File, ifreq: &mut libc::ifreq) -> nix::Result<()> {
    // SAFETY: `fd` is an open file. The kernel copies `sizeof(struct ifreq)` bytes in and, on success, out: `ifreq` is
    // an initialized one, which this call borrows exclusively. Any bytes are valid in it.
    unsafe { ioctl::tunsetiff(fd.as_raw_fd(), &raw mut *ifreq) }.map(drop)
}

/// The user and the group who may attach queues to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

impl Owner {
    /// This process's user and group, which own each device that [`open`] creates.
    pub fn this_process() -> Owner {
        Owner { user: geteuid().as_raw(), group: getegid().as_raw() }
    }
}

/// Sets the device's owner. A device without owner can be opened by every user who may open `/dev/net/tun`
/// (`tun_not_capable` in `drivers/net/tun.c`). With one, others need `CAP_NET_ADMIN` in its namespace.
pub(super) fn set_owner(fd: BorrowedFd, owner: Owner) -> Result<(), TapError> {
    // SAFETY: `fd` is an open TAP queue, and the argument of this ioctl is a plain number.
    let owned = unsafe { ioctl::tunsetowner(fd.as_raw_fd(), owner.user.cast_signed()) };
    // SAFETY: as above.
    let grouped =
        owned.and_then(|_| unsafe { ioctl::tunsetgroup(fd.as_raw_fd(), owner.group.cast_signed()) });
    grouped.map(drop).map_err(|error| TapError::Owner(error.into()))
}

/// A `struct ifreq` with this name, whose length was checked, and these flags.
#[allow(clippy::cast_possible_truncation, reason = "ifr_flags has 16 bits, and so have the flags")]
pub(super) fn interface_request(name: &str, flags: libc::c_int) -> libc::ifreq {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short } }
}

pub(super) fn set_header_size(fd: BorrowedFd) -> Result<(), TapError> {
    set_header_size_to(fd, VNET_HEADER.into())
}

pub(super) fn set_header_size_to(fd: BorrowedFd, size: libc::c_int) -> Result<(), TapError> {
    // SAFETY: `fd` is an open TAP queue; the kernel reads one int through the pointer, which outlives the
    // call.
    let set = unsafe { ioctl::tunsetvnethdrsz(fd.as_raw_fd(), &raw const size) };
    set.map(drop).map_err(|error| TapError::HeaderSize(error.into()))
}

pub(super) fn set_persist(fd: BorrowedFd, persist: libc::c_int) -> nix::Result<()> {
    // SAFETY: `fd` is an open TAP queue, and this ioctl's argument is a number.
    unsafe { ioctl::tunsetpersist(fd.as_raw_fd(), persist) }.map(drop)
}

/// Turns on checksum and TCP segmentation offload, and UDP segmentation offload if the kernel has it.
/// Returns whether it has.
pub(super) fn set_offload(fd: BorrowedFd) -> Result<bool, TapError> {
    const TCP: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    const UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let refused = |error: Errno| TapError::Offload(error.into());
    match set_offload_flags(fd, TCP | UDP) {
        Ok(()) => Ok(true),
        // A kernel before 6.2 refuses the whole set because of the unknown bits.
        Err(Errno::EINVAL) => set_offload_flags(fd, TCP).map(|()| false).map_err(refused),
        Err(error) => Err(refused(error)),
    }
}

/// Turns on the offloads with these flags (`TUN_F_CSUM` and so on), and the others off.
pub(super) fn set_offload_flags(fd: BorrowedFd, flags: libc::c_uint) -> nix::Result<()> {
    // SAFETY: `fd` is an open TAP queue, and this ioctl's argument is a number.
    unsafe { ioctl::tunsetoffload(fd.as_raw_fd(), flags.cast_signed()) }.map(drop)
}

mod ioctl {
    nix::ioctl_readwrite_bad!(tunsetiff, libc::TUNSETIFF, libc::ifreq);
    nix::ioctl_write_ptr_bad!(tunsetvnethdrsz, libc::TUNSETVNETHDRSZ, libc::c_int);
    nix::ioctl_write_ptr_bad!(tunsetifindex, libc::TUNSETIFINDEX, libc::c_uint);
    nix::ioctl_write_int_bad!(tunsetowner, libc::TUNSETOWNER);
    nix::ioctl_write_int_bad!(tunsetgroup, libc::TUNSETGROUP);
    nix::ioctl_write_int_bad!(tunsetpersist, libc::TUNSETPERSIST);
    nix::ioctl_write_int_bad!(tunsetoffload, libc::TUNSETOFFLOAD);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_length_matches_wire() {
        assert_eq!(usize::from(VNET_HEADER), crate::wire::VnetHeader::LEN);
    }

    #[test]
    fn checks_device_names() {
        for name in ["eth0", "a", "abcdefghijklmno", "v.1-x_y"] {
            assert!(is_device_name(name), "{name}");
        }
        for name in ["", ".", "..", "abcdefghijklmnop", "a/b", "a:1", "eth%d", "a b", "a\n", "ü"] {
            assert!(!is_device_name(name), "{name}");
        }
    }

    #[test]
    fn interface_request_is_terminated() {
        let ifreq = interface_request("abcdefghijklmno", libc::IFF_TAP);
        assert_eq!(ifreq.ifr_name[15], 0);
        assert_eq!(ifreq.ifr_name[0].cast_unsigned(), b'a');
    }
}
