//! The memory of a worker's buffers: one anonymous mapping, divided into buffers of equal size.

use std::io;
use std::ptr::NonNull;

/// Bytes of one buffer: the largest frame that a TAP delivers (a 64 KiB GSO packet with its virtio-net,
/// Ethernet and VLAN headers), [`HEADROOM`] before it, and 320 bytes so that the starts of buffers do not
/// share cache sets.
pub const BUFFER_SIZE: usize = (66 << 10) + 320;

/// Free bytes before the frame, for a virtio-net header that the egress port needs and the ingress port does
/// not have.
pub const HEADROOM: usize = 64;

/// A mapping of `count` buffers. It returns addresses, not references: its owner tracks which buffers may be
/// accessed.
#[derive(Debug)]
pub(super) struct Arena {
    base: NonNull<u8>,
    count: u16,
}

impl Arena {
    /// Maps the memory and populates it, so that no frame causes a page fault.
    pub(super) fn new(count: u16) -> io::Result<Arena> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address that the kernel chooses aliases nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), Self::bytes(count), protection, flags, -1, 0) };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => Ok(Arena { base, count }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    const fn bytes(count: u16) -> usize {
        count as usize * BUFFER_SIZE
    }

    /// Bytes of all buffers together.
    pub(super) const fn size(&self) -> usize {
        Self::bytes(self.count)
    }

    /// The address of buffer `id`; [`BUFFER_SIZE`] bytes from there are in the mapping.
    pub(super) fn start(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count, "buffer {id} of {}", self.count);
        // SAFETY: `id` is below `count`, so the offset is inside the mapping.
        unsafe { self.base.add(usize::from(id) * BUFFER_SIZE) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping of this length. Its owner no longer uses any buffer, and
        // neither does the kernel (see `Ring::drop`).
        unsafe { libc::munmap(self.base.as_ptr().cast(), Self::bytes(self.count)) };
    }
}
