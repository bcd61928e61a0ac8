//! The offloads of a device (`SIOCETHTOOL` in Linux `include/uapi/linux/ethtool.h`).

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::tap;

/// The offloads that are read: the request (`ETHTOOL_GTXCSUM`, `ETHTOOL_GTSO`, `ETHTOOL_GGSO`), and the name that
/// `ethtool -k` prints.
const OFFLOADS: [(u32, &str); 3] =
    [(0x16, "tx-checksumming"), (0x1e, "tcp-segmentation-offload"), (0x23, "generic-segmentation-offload")];

/// The names of all offloads that [`offloads`] can return.
pub fn names() -> impl Iterator<Item = &'static str> {
    OFFLOADS.iter().map(|(_, name)| *name)
}

/// The offloads that a device in this thread's namespace uses for the frames that it sends, by the names of `ethtool
/// -k`.
///
/// # Errors
/// There is no such device.
pub fn offloads(device: &str) -> io::Result<Vec<&'static str>> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut used = Vec::new();
    for (request, name) in OFFLOADS {
        if value(socket.as_raw_fd(), device, request)? != 0 {
            used.push(name);
        }
    }
    Ok(used)
}

/// `struct ethtool_value`
#[repr(C)]
struct EthtoolValue {
    request: u32,
    data: u32,
}

fn value(socket: libc::c_int, device: &str, request: u32) -> io::Result<u32> {
    let mut value = EthtoolValue { request, data: 0 };
    let mut ifreq = tap::interface_request(device, 0);
    ifreq.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: `ifreq` is a whole `struct ifreq` whose data points to a `struct ethtool_value`. The kernel writes only
    // to these two, which outlive the call and which nothing else accesses.
    let done = unsafe { libc::ioctl(socket, libc::SIOCETHTOOL as libc::Ioctl, &raw mut ifreq) };
    match Errno::result(done) {
        Ok(_) => Ok(value.data),
        // The device has no such offload.
        Err(Errno::EOPNOTSUPP) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_offloads_of_a_device() {
        let used = offloads("lo").unwrap();
        assert!(used.contains(&"tx-checksumming"), "{used:?}");
        assert!(used.iter().all(|name| names().any(|known| known == *name)));
        assert_eq!(offloads("missing").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
