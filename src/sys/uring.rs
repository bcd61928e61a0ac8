//! io_uring for TAP queues, made safe.
//!
//! A [`Ring`] owns its buffers. At any time a buffer is
//!
//! - free;
//! - being filled: [`Ring::read`] took it, and the kernel says when a frame is in it or none was there;
//! - ours, as a [`Lease`]: a read has filled it, nobody else touches it;
//! - on its way out: [`Ring::send`] took the lease and queued writes of it; when the last one has
//!   completed it is free again.
//!
//! A lease cannot be copied and `send` consumes it, so no code outside this file can look at a buffer
//! that the kernel may write, or change one that the kernel may read. Files are named by their slot in
//! the ring's table, buffers by their lease: an address never crosses this border.
//!
//! Reads and writes never wait (`RWF_NOWAIT`, which a TAP honours since Linux 6.4): each has completed when
//! [`Ring::enter`] returns. So a busy port is read as a network driver polls its device, without the wake-ups that a read
//! which waits costs the *sender* of every frame; [`Ring::arm_poll`] is for a port that has run dry. Why that is faster
//! than a multishot read: `docs/experiments.md`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::arena::{Arena, BUFFER_SIZE, HEADROOM};
use super::tap::reads_without_waiting;

#[allow(clippy::cast_sign_loss, reason = "a bit")]
const READABLE: u32 = libc::POLLIN as u32;
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
    /// Something that [`Ring`] needs is not there.
    #[error("this kernel's io_uring has no {0}")]
    Lacks(&'static str),
}

/// Whether this kernel has what [`Ring`] needs.
pub fn probe() -> Result<(), Unsupported> {
    let ring = build(1).map_err(Unsupported::Forbidden)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|_| Unsupported::Lacks("probe (Linux 5.6)"))?;
    let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::PollAdd::CODE, opcode::AsyncCancel::CODE];
    if !needed.iter().all(|operation| probe.is_supported(*operation)) {
        return Err(Unsupported::Lacks("read and write (Linux 5.6)"));
    }
    if reads_without_waiting() {
        Ok(())
    } else {
        Err(Unsupported::Lacks("TAP reads that never wait (Linux 6.4)"))
    }
}

/// A ring whose deferred work runs when its one thread enters the kernel (Linux 6.1), or, on older kernels, when it suits
/// them.
fn build(entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETIONS).setup_clamp();
    let plain = builder.clone();
    builder.setup_single_issuer().setup_defer_taskrun();
    match builder.build(entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => plain.build(entries),
        outcome => outcome,
    }
}

/// A buffer that is ours: filled by a read, not yet sent or given back.
#[derive(Debug)]
pub struct Lease {
    ring: u32,
    id: u16,
}

/// Where in a buffer a write begins and how long it is, and to which slot it goes.
#[derive(Debug, Clone, Copy)]
pub struct SlotWrite {
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
    },
    /// A read brought no frame.
    NoFrame {
        /// Slot.
        slot: u16,
        /// Why: `EAGAIN` if there was none.
        error: i32,
    },
    /// [`Ring::arm_poll`] has ended: there is something to read, or it was cancelled.
    Ready {
        /// Slot.
        slot: u16,
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
    arena: Arena,
    /// The buffer used last is used next: the cache still has it.
    free: Vec<u16>,
    /// Writes of each buffer that have not completed.
    writes: Box<[u16]>,
    /// The kernel has the buffers mapped and pinned; saves looking them up at each read and write.
    registered: bool,
    id: u32,
    enters: u64,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("arena", &self.arena)
            .field("free", &self.free.len())
            .field("registered", &self.registered)
            .finish_non_exhaustive()
    }
}

mod token {
    //! What comes back with a completion: kind, slot, buffer.

    const READ: u64 = 0;
    const WRITE: u64 = 1 << 32;
    const WAKE: u64 = 2 << 32;
    const CANCEL: u64 = 3 << 32;
    const POLL: u64 = 4 << 32;

    pub(super) enum Token {
        Read { slot: u16, buffer: u16 },
        Write { slot: u16, buffer: u16 },
        Poll(u16),
        Wake,
        Cancel,
    }

    pub(super) const fn read(slot: u16, buffer: u16) -> u64 {
        READ | (buffer as u64) << 16 | slot as u64
    }
    pub(super) const fn write(slot: u16, buffer: u16) -> u64 {
        WRITE | (buffer as u64) << 16 | slot as u64
    }
    pub(super) const fn poll(slot: u16) -> u64 {
        POLL | slot as u64
    }
    pub(super) const fn wake() -> u64 {
        WAKE
    }
    pub(super) const fn cancel() -> u64 {
        CANCEL
    }

    #[allow(clippy::cast_possible_truncation, reason = "two 16-bit fields")]
    pub(super) const fn parse(token: u64) -> Token {
        let (slot, buffer) = (token as u16, (token >> 16) as u16);
        match token & !0xffff_ffff {
            READ => Token::Read { slot, buffer },
            WRITE => Token::Write { slot, buffer },
            POLL => Token::Poll(slot),
            WAKE => Token::Wake,
            _ => Token::Cancel,
        }
    }
}

impl Ring {
    /// A ring with this many buffers and a table of `slots` files.
    pub fn new(buffers: u16, slots: u16) -> io::Result<Ring> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let ring = build(SUBMISSIONS)?;
        // Empty slots; a table that is sparse from the start takes Linux 5.19.
        ring.submitter().register_files(&vec![-1; slots.into()])?;
        let arena = Arena::new(buffers)?;
        let all = libc::iovec { iov_base: arena.start(0).as_ptr().cast(), iov_len: arena.size() };
        // SAFETY: the memory is mapped until after the ring is gone (field order). Refused where more memory would be
        // locked than the user may (RLIMIT_MEMLOCK).
        let registered = unsafe { ring.submitter().register_buffers(&[all]) }.is_ok();
        let free = (0..buffers).rev().collect();
        let writes = vec![0; buffers.into()].into();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Ring { ring, arena, free, writes, registered, id, enters: 0 })
    }

    /// Puts a file in a slot, or empties it. The table holds its own reference to the file.
    pub fn set_file(&mut self, slot: u16, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fd = file.map_or(-1, |file| file.as_raw_fd());
        self.ring.submitter().register_files_update(slot.into(), &[fd]).map(drop)
    }

    /// Queues a read of one frame from a slot; [`Completion::Frame`] or [`Completion::NoFrame`] follows at the next
    /// [`Ring::enter`]. Not queued if no buffer is free.
    #[allow(clippy::cast_possible_truncation, reason = "BUFFER_SIZE fits in 32 bits")]
    pub fn read(&mut self, slot: u16) -> io::Result<()> {
        let Some(id) = self.free.pop() else { return Ok(()) };
        // SAFETY: the headroom is inside the buffer.
        let address = unsafe { self.arena.start(id).add(HEADROOM) }.as_ptr();
        let (file, length) = (Fixed(slot.into()), (BUFFER_SIZE - HEADROOM) as u32);
        let read = if self.registered {
            opcode::ReadFixed::new(file, address, length, 0).rw_flags(libc::RWF_NOWAIT).build()
        } else {
            opcode::Read::new(file, address, length).rw_flags(libc::RWF_NOWAIT).build()
        };
        // SAFETY: the buffer is not free any more, nor lent; it is lent or free again when the read has completed.
        unsafe { self.push(&read.user_data(token::read(slot, id))) }
    }

    /// [`Completion::Ready`] follows once when the file in a slot has something to read.
    ///
    /// The poll names the file, not its slot. A request that names a slot pins the table: before Linux 6.13 a file that
    /// is taken out of it stays open while any older such request goes on, and that is for as long as another port is
    /// idle (`io_queue_rsrc_removal` in `io_uring/rsrc.c`).
    pub fn arm_poll(&mut self, slot: u16, file: BorrowedFd<'_>) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(file.as_raw_fd()), READABLE).build();
        // SAFETY: a poll names no memory.
        unsafe { self.push(&poll.user_data(token::poll(slot))) }
    }

    /// Asks for the end of a slot's poll; [`Completion::Ready`] follows if it was armed.
    pub fn cancel_poll(&mut self, slot: u16) -> io::Result<()> {
        let cancel = opcode::AsyncCancel::new(token::poll(slot)).build();
        // SAFETY: a cancellation names no memory.
        unsafe { self.push(&cancel.user_data(token::cancel())) }
    }

    /// [`Completion::Woken`] follows once when `wake` is readable.
    pub fn arm_wake(&mut self, wake: BorrowedFd<'_>) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(wake.as_raw_fd()), READABLE).build();
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
        writes: impl IntoIterator<Item = SlotWrite>,
        mut refused: impl FnMut(u16, io::Error),
    ) {
        let start = self.start(&lease);
        let Lease { id, .. } = lease;
        // One more than is queued, so that a submission on the way cannot free the buffer under the loop.
        self.writes[usize::from(id)] = 1;
        for SlotWrite { slot, start: from, length } in writes {
            assert!(from <= BUFFER_SIZE && length <= BUFFER_SIZE - from, "a write beyond its buffer");
            // SAFETY: `from` is inside the buffer.
            let address = unsafe { start.add(from) };
            let write = self.write(slot, address, length).user_data(token::write(slot, id));
            // SAFETY: the lease is ours and goes no further; the buffer is neither lent nor free again before
            // `writes` says that the kernel has completed this write.
            match unsafe { self.push(&write) } {
                Ok(()) => self.writes[usize::from(id)] += 1,
                Err(error) => refused(slot, error),
            }
        }
        self.written(id);
    }

    #[allow(clippy::cast_possible_truncation, reason = "at most BUFFER_SIZE")]
    fn write(&self, slot: u16, address: NonNull<u8>, length: usize) -> squeue::Entry {
        let (file, address, length) = (Fixed(slot.into()), address.as_ptr(), length as u32);
        if self.registered {
            opcode::WriteFixed::new(file, address, length, 0).rw_flags(libc::RWF_NOWAIT).build()
        } else {
            opcode::Write::new(file, address, length).rw_flags(libc::RWF_NOWAIT).build()
        }
    }

    /// Frees a buffer.
    #[allow(clippy::needless_pass_by_value, reason = "who sends or gives back a buffer has it no more")]
    pub fn recycle(&mut self, lease: Lease) {
        let Lease { ring, id } = lease;
        assert_eq!(ring, self.id, "a lease of another ring");
        self.free.push(id);
    }

    /// One write of buffer `id` is over (or was never queued).
    fn written(&mut self, id: u16) {
        let left = &mut self.writes[usize::from(id)];
        *left -= 1;
        if *left == 0 {
            self.free.push(id);
        }
    }

    /// Buffers that can be filled.
    pub fn free_buffers(&self) -> usize {
        self.free.len()
    }

    /// How often the kernel was entered so far.
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// One system call: submits what is queued, waits as told.
    pub fn enter(&mut self, enter: Enter) -> io::Result<()> {
        const GETEVENTS: u32 = 1; // IORING_ENTER_GETEVENTS: also runs deferred task work
        self.enters += 1;
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
            token::Token::Read { slot, buffer } => Some(self.read_completion(slot, buffer, entry.result())),
            token::Token::Write { slot, buffer } => {
                self.written(buffer);
                Some(Completion::Written { slot, result: entry.result() })
            }
            token::Token::Poll(slot) => Some(Completion::Ready { slot }),
            token::Token::Wake => Some(Completion::Woken),
            token::Token::Cancel => None,
        }
    }

    fn read_completion(&mut self, slot: u16, id: u16, result: i32) -> Completion {
        let lease = Lease { ring: self.id, id };
        match usize::try_from(result) {
            Ok(length) if length > 0 => Completion::Frame { slot, lease, length },
            _ => {
                self.recycle(lease);
                Completion::NoFrame { slot, error: -result }
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
        self.enters += 1;
        match self.ring.submit() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // No read or write outlives the call of `enter` that submitted it, and polls name no memory. Cancelling them here
        // only lets the kernel close their files sooner.
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
    }
}
