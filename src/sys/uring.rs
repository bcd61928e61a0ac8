//! io_uring for TAP queues, made safe.
//!
//! A [`Ring`] owns its buffers. At any time a buffer is
//!
//! - the kernel's, waiting to be filled: it is in the buffer ring;
//! - ours, as a [`Lease`]: a read has filled it, nobody else touches it;
//! - on its way out: `Ring::send` took the lease and queued writes of it; when the last one has
//!   completed it is the kernel's again.
//!
//! A lease cannot be copied and `send` consumes it, so no code outside this file can look at a buffer
//! that the kernel may write, or change one that the kernel may read. Files are named by their slot in
//! the ring's table, buffers by their lease: an address never crosses this border.
//!
//! Kernel: multishot read since 6.7, provided-buffer rings since 5.19, deferred task work since 6.1
//! (Linux `io_uring/rw.c`, `io_uring/kbuf.c`). [`probe`] asks, nothing is assumed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::arena::{Arena, BUFFER_SIZE, HEADROOM};

const BUFFER_GROUP: u16 = 0;
const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 4096;

/// Why io_uring cannot serve here.
#[derive(Debug, thiserror::Error)]
pub enum Unsupported {
    /// The kernel or a seccomp filter forbids it.
    #[error(
        "io_uring is forbidden here ({0}): see sysctl kernel.io_uring_disabled, or the container's seccomp filter"
    )]
    Forbidden(io::Error),
    /// No multishot read.
    #[error("this kernel's io_uring has no {0}")]
    Lacks(&'static str),
}

/// Whether this kernel has what [`Ring`] needs.
pub fn probe() -> Result<(), Unsupported> {
    let ring = IoUring::new(1).map_err(Unsupported::Forbidden)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|_| Unsupported::Lacks("probe (Linux 5.6)"))?;
    if !probe.is_supported(opcode::ReadMulti::CODE) {
        return Err(Unsupported::Lacks("multishot read (Linux 6.7)"));
    }
    builder().build(1).map_err(|_| Unsupported::Lacks("deferred task work (Linux 6.1)"))?;
    Ok(())
}

fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_cqsize(COMPLETIONS).setup_clamp();
    builder
}

/// A buffer that is ours: filled by a read, not yet sent or given back.
#[derive(Debug)]
pub struct Lease {
    ring: u32,
    id: u16,
}

/// Where in a buffer a write begins and how long it is, and to which slot it goes.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    /// Slot of the file table.
    pub slot: u16,
    /// First byte, counted from the start of the buffer.
    pub start: usize,
    /// How many bytes.
    pub length: usize,
}

/// Something that the kernel has finished.
#[derive(Debug)]
pub enum Completion {
    /// A read filled a buffer: this many bytes from [`HEADROOM`] on.
    Frame {
        /// Slot that it was read from.
        slot: u16,
        /// The buffer.
        lease: Lease,
        /// Bytes read.
        length: usize,
        /// The multishot read goes on; if not, it must be armed again.
        more: bool,
    },
    /// The multishot read of this slot has ended without a frame and must be armed again to go on.
    ReadEnded {
        /// Slot.
        slot: u16,
        /// Why.
        error: i32,
    },
    /// A write of one buffer to one slot.
    Written {
        /// Slot.
        slot: u16,
        /// Bytes written, or the negative error.
        result: i32,
    },
    /// The wake-up descriptor is readable.
    Woken,
}

/// How to enter the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enter {
    /// Submit, and sleep until something completes.
    Wait,
    /// Submit, and take what is there.
    Poll,
}

/// One worker's io_uring, file table and buffers. Must be made and used on one thread.
pub struct Ring {
    // Dropped in this order: the kernel lets go of the memory before it is unmapped.
    ring: IoUring,
    buffers: BufferRing,
    arena: Arena,
    /// Writes of each buffer that have not completed.
    writes: Box<[u16]>,
    id: u32,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("arena", &self.arena)
            .field("free", &self.buffers.published)
            .finish_non_exhaustive()
    }
}

mod token {
    //! What comes back with a completion: kind, slot, buffer.

    const READ: u64 = 0;
    const WRITE: u64 = 1 << 32;
    const WAKE: u64 = 2 << 32;
    const CANCEL: u64 = 3 << 32;

    pub(super) enum Token {
        Read(u16),
        Write { slot: u16, buffer: u16 },
        Wake,
        Cancel,
    }

    pub(super) const fn read(slot: u16) -> u64 {
        READ | slot as u64
    }
    pub(super) const fn write(slot: u16, buffer: u16) -> u64 {
        WRITE | (buffer as u64) << 16 | slot as u64
    }
    pub(super) const fn wake() -> u64 {
        WAKE
    }
    pub(super) const fn cancel() -> u64 {
        CANCEL
    }

    #[allow(clippy::cast_possible_truncation, reason = "two 16-bit fields")]
    pub(super) const fn parse(token: u64) -> Token {
        match token & !0xffff_ffff {
            READ => Token::Read(token as u16),
            WRITE => Token::Write { slot: token as u16, buffer: (token >> 16) as u16 },
            WAKE => Token::Wake,
            _ => Token::Cancel,
        }
    }
}

impl Ring {
    /// A ring with this many buffers (a power of two, at most 32768) and a table of `slots` files.
    pub fn new(buffers: u16, slots: u16) -> io::Result<Ring> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let ring = builder().build(SUBMISSIONS)?;
        ring.submitter().register_files_sparse(slots.into())?;
        let arena = Arena::new(buffers)?;
        let mut provided = BufferRing::new(buffers)?;
        for id in 0..arena.count() {
            provided.push(&arena, id);
        }
        provided.publish();
        // SAFETY: the ring of entries lives in `self.buffers`, which is dropped after `self.ring`.
        unsafe {
            let address = provided.entries.as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(address, buffers, BUFFER_GROUP, 0)?;
        }
        let writes = vec![0; buffers.into()].into();
        Ok(Ring { ring, buffers: provided, arena, writes, id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Puts a file in a slot, or empties it. The table holds its own reference to the file.
    pub fn set_file(&mut self, slot: u16, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fd = file.map_or(-1, |file| file.as_raw_fd());
        self.ring.submitter().register_files_update(slot.into(), &[fd]).map(drop)
    }

    /// Arms a multishot read of the file in a slot: each frame fills one buffer, until [`Completion::ReadEnded`].
    ///
    /// The read names the file, not its slot. A read that names a slot pins the table: before Linux 6.13 a file that is
    /// taken out of it stays open while any older such read goes on, and that is for as long as another port is idle
    /// (`io_queue_rsrc_removal` in `io_uring/rsrc.c`).
    pub fn arm_read(&mut self, slot: u16, file: BorrowedFd<'_>) -> io::Result<()> {
        let read = opcode::ReadMulti::new(Fd(file.as_raw_fd()), 0, BUFFER_GROUP).build();
        // SAFETY: the kernel writes only into provided buffers, which are its own until it hands them over.
        unsafe { self.push(&read.user_data(token::read(slot))) }
    }

    /// Asks for the end of a slot's read; [`Completion::ReadEnded`] follows if it was armed.
    pub fn cancel_read(&mut self, slot: u16) -> io::Result<()> {
        let cancel = opcode::AsyncCancel::new(token::read(slot)).build();
        // SAFETY: a cancellation names no memory.
        unsafe { self.push(&cancel.user_data(token::cancel())) }
    }

    /// [`Completion::Woken`] follows once when `wake` is readable.
    pub fn arm_wake(&mut self, wake: BorrowedFd<'_>) -> io::Result<()> {
        let readable = u32::from(libc::POLLIN.unsigned_abs());
        let poll = opcode::PollAdd::new(Fd(wake.as_raw_fd()), readable).build();
        // SAFETY: a poll names no memory.
        unsafe { self.push(&poll.user_data(token::wake())) }
    }

    /// The buffer's bytes from its start.
    pub fn bytes(&self, lease: &Lease) -> &[u8] {
        let start = self.start(lease);
        // SAFETY: the buffer is inside the arena and initialised (mapped zero); the lease says that neither
        // the kernel nor anybody else writes to it, and `send` and `recycle`, which end that, take the lease.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), BUFFER_SIZE) }
    }

    /// The same, to change.
    pub fn bytes_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        let start = self.start(lease);
        // SAFETY: as for `bytes`; and the exclusive borrow of the only lease makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), BUFFER_SIZE) }
    }

    fn start(&self, lease: &Lease) -> NonNull<u8> {
        assert_eq!(lease.ring, self.id, "a lease of another ring");
        self.arena.start(lease.id)
    }

    /// Queues writes of one buffer; after the last of them has completed it is free again. A write that the kernel
    /// takes nothing of now is told to `refused`, and does not complete.
    #[allow(clippy::needless_pass_by_value, reason = "who sends or gives back a buffer has it no more")]
    pub fn send(
        &mut self,
        lease: Lease,
        writes: impl IntoIterator<Item = Write>,
        mut refused: impl FnMut(u16, io::Error),
    ) {
        let start = self.start(&lease);
        let Lease { id, .. } = lease;
        // One more than is queued, so that a submission on the way cannot free the buffer under the loop.
        self.writes[usize::from(id)] = 1;
        for Write { slot, start: from, length } in writes {
            assert!(from <= BUFFER_SIZE && length <= BUFFER_SIZE - from, "a write beyond its buffer");
            // SAFETY: `from` is inside the buffer.
            let address = unsafe { start.add(from) };
            #[allow(clippy::cast_possible_truncation, reason = "at most BUFFER_SIZE")]
            let write = opcode::Write::new(Fixed(slot.into()), address.as_ptr(), length as u32).build();
            // SAFETY: the lease is ours and goes no further; the buffer is neither lent nor provided to a
            // read again before `writes` says that the kernel has completed this write.
            match unsafe { self.push(&write.user_data(token::write(slot, id))) } {
                Ok(()) => self.writes[usize::from(id)] += 1,
                Err(error) => refused(slot, error),
            }
        }
        self.written(id);
    }

    /// Gives a buffer back to the kernel.
    #[allow(clippy::needless_pass_by_value, reason = "who sends or gives back a buffer has it no more")]
    pub fn recycle(&mut self, lease: Lease) {
        let Lease { ring, id } = lease;
        assert_eq!(ring, self.id, "a lease of another ring");
        self.buffers.push(&self.arena, id);
    }

    /// One write of buffer `id` is over (or was never queued).
    fn written(&mut self, id: u16) {
        let left = &mut self.writes[usize::from(id)];
        *left -= 1;
        if *left == 0 {
            self.buffers.push(&self.arena, id);
        }
    }

    /// Buffers that the kernel can fill from the next [`Ring::enter`] on.
    pub fn free_buffers(&self) -> usize {
        self.buffers.published + self.buffers.unpublished
    }

    /// One system call: gives back the free buffers, submits what is queued, waits as told.
    pub fn enter(&mut self, enter: Enter) -> io::Result<()> {
        const GETEVENTS: u32 = 1; // IORING_ENTER_GETEVENTS: also runs deferred task work
        self.buffers.publish();
        let want = u32::from(enter == Enter::Wait && self.ring.completion().is_empty());
        #[allow(clippy::cast_possible_truncation, reason = "at most SUBMISSIONS")]
        let queued = self.ring.submission().len() as u32;
        // SAFETY: no argument is passed; every queued entry was vouched for when it was pushed.
        match unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, want, GETEVENTS, None) } {
            // A signal came, or what has completed must be taken first: the caller does, and enters again.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }

    /// The next of what has completed, in order.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            if let Some(completion) = self.completion(&entry) {
                return Some(completion);
            }
        }
    }

    fn completion(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        match token::parse(entry.user_data()) {
            token::Token::Read(slot) => self.read_completion(slot, entry),
            token::Token::Write { slot, buffer } => {
                self.written(buffer);
                Some(Completion::Written { slot, result: entry.result() })
            }
            token::Token::Wake => Some(Completion::Woken),
            token::Token::Cancel => None,
        }
    }

    fn read_completion(&mut self, slot: u16, entry: &cqueue::Entry) -> Option<Completion> {
        let lease = cqueue::buffer_select(entry.flags()).map(|id| {
            self.buffers.published -= 1;
            Lease { ring: self.id, id }
        });
        let more = cqueue::more(entry.flags());
        match (lease, usize::try_from(entry.result())) {
            (Some(lease), Ok(length)) if length > 0 => Some(Completion::Frame { slot, lease, length, more }),
            (lease, _) => {
                if let Some(lease) = lease {
                    self.recycle(lease);
                }
                (!more).then(|| Completion::ReadEnded { slot, error: -entry.result().min(0) })
            }
        }
    }

    /// # Safety
    /// Memory that the entry names stays valid, and is not touched by us where the kernel writes,
    /// until the entry has completed.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the caller's promise.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
        }
    }

    /// Submits what is queued, if anything is, without waiting.
    pub fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        match self.ring.submit() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Reads are armed polls now, and their frames are copied in this thread's calls of `enter` alone (deferred task
        // work), of which there is none any more: nothing fills a buffer after the arena is unmapped. Cancelling
        // them here only lets the kernel close their files sooner.
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
    }
}

/// The ring in shared memory through which buffers are given to the kernel (`io_uring_buf_ring`).
struct BufferRing {
    entries: NonNull<BufRingEntry>,
    mask: u16,
    tail: u16,
    /// Buffers that the kernel may fill: pushed, published, not yet seen in a completion.
    published: usize,
    unpublished: usize,
}

impl BufferRing {
    fn new(entries: u16) -> io::Result<BufferRing> {
        if !entries.is_power_of_two() || entries > 1 << 15 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address that the kernel chooses aliases nothing.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), Self::bytes(entries), protection, flags, -1, 0) };
        match NonNull::new(base.cast::<BufRingEntry>()) {
            Some(entries_at) if base != libc::MAP_FAILED => Ok(BufferRing {
                entries: entries_at,
                mask: entries - 1,
                tail: 0,
                published: 0,
                unpublished: 0,
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn bytes(entries: u16) -> usize {
        usize::from(entries) * size_of::<BufRingEntry>()
    }

    /// Queues buffer `id` for the kernel, which sees it after [`BufferRing::publish`].
    #[allow(clippy::cast_possible_truncation, reason = "BUFFER_SIZE fits in 32 bits")]
    fn push(&mut self, arena: &Arena, id: u16) {
        let at = self.tail & self.mask;
        // SAFETY: `at` is below the number of entries, and the entry is ours: at most as many buffers as there
        // are entries exist, and the kernel reads an entry only between publication and completion.
        let entry = unsafe { self.entries.add(at.into()).as_mut() };
        entry.set_addr(arena.start(id).as_ptr() as u64 + HEADROOM as u64);
        entry.set_len((BUFFER_SIZE - HEADROOM) as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.unpublished += 1;
    }

    fn publish(&mut self) {
        if self.unpublished == 0 {
            return;
        }
        self.published += std::mem::take(&mut self.unpublished);
        // SAFETY: the tail lies in the first entry's reserved field (`io_uring_buf_ring` is a union), is 2-byte
        // aligned, and is shared with the kernel: hence the atomic store, which publishes the entries.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and the ring that it was registered with is gone (field order in `Ring`).
        unsafe { libc::munmap(self.entries.as_ptr().cast(), Self::bytes(self.mask + 1)) };
    }
}
