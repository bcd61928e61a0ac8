//! The memory of a worker's buffers: one anonymous mapping, cut into equal pieces.

use std::io;
use std::ptr::NonNull;

/// Bytes of one buffer: the largest frame that a TAP gives (a 64 KiB super-frame with its virtio-net,
/// Ethernet and VLAN headers), [`HEADROOM`] before it, and 320 bytes so that buffer starts do not
/// share cache sets.
pub const BUFFER_SIZE: usize = (66 << 10) + 320;

/// Bytes before the place that a read fills, for a header that the egress needs and the ingress had not.
pub const HEADROOM: usize = 64;

/// A mapping of `count` buffers. It hands out addresses, not references: who may touch which buffer
/// is the business of its owner.
#[derive(Debug)]
pub(super) struct Arena {
    base: NonNull<u8>,
    count: u16,
}

impl Arena {
    /// Maps the memory, all of it touched now so that no frame pays for a page fault.
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

    /// Where buffer `id` starts; [`BUFFER_SIZE`] bytes from there are in the mapping.
    pub(super) fn start(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count, "buffer {id} of {}", self.count);
        // SAFETY: `id` is below `count`, so the offset is inside the mapping.
        unsafe { self.base.add(usize::from(id) * BUFFER_SIZE) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this length, and whoever owns the arena has let go of every
        // buffer (see `Ring::drop` for the kernel's part).
        unsafe { libc::munmap(self.base.as_ptr().cast(), Self::bytes(self.count)) };
    }
}
