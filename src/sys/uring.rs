//! A safe interface to io_uring for the queues of ports.
//!
//! A [`Ring`] owns its buffers. At any time a buffer is in one of four states:
//!
//! - free;
//! - being read into: [`Ring::read`] or [`Ring::receive`] queued a read, which has not completed;
//! - leased: a read has filled it, and the holder of the [`BufferLease`] has exclusive access;
//! - being written: [`Ring::send`] consumed the lease and queued writes. The buffer is free after the last
//!   one completes.
//!
//! A lease cannot be copied and `send` consumes it, so no code outside this file can read a buffer that the
//! kernel may write, or change one that the kernel may read. Callers name files by their slot in the ring's
//! table and buffers by their lease; no address crosses this interface.
//!
//! Reads and writes do not block (`RWF_NOWAIT`, which a TAP supports since Linux 6.4): each has completed
//! when [`Ring::enter`] returns. A busy port is polled as a network driver polls its device (NAPI), so the
//! *sender* of a frame does not pay for a wake-up. [`Ring::arm_poll`] is for a port whose queue is empty.
//! `docs/experiments.md` compares this with multishot reads.

mod token;
mod vectors;

use std::cell::UnsafeCell;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::types::{CancelBuilder, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use self::vectors::Vectors;
use super::arena::{Arena, BUFFER_SIZE, HEADROOM};
use super::limits;
use super::packet_message::{MessageHeader, Received};
use super::tap::reads_without_waiting;

#[allow(clippy::cast_sign_loss, reason = "a bit")]
const READABLE: u32 = libc::POLLIN as u32;
/// What a [`Ring`] uses of `io_uring_register` after its set-up: `IORING_REGISTER_FILES_UPDATE` and
/// `IORING_REGISTER_SYNC_CANCEL`.
pub(super) const REGISTERED_LATER: [u8; 2] = [6, 24];
/// The operations of a [`Ring`].
const OPERATIONS: [u8; 8] = [
    opcode::Read::CODE,
    opcode::ReadFixed::CODE,
    opcode::Write::CODE,
    opcode::WriteFixed::CODE,
    opcode::Writev::CODE,
    opcode::PollAdd::CODE,
    opcode::AsyncCancel::CODE,
    opcode::RecvMsg::CODE,
];
/// `IOSQE_FIXED_FILE`.
const FIXED_FILE: u8 = 1;
const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 4096;
/// Bytes of the queues of a ring, which count as locked memory on some kernels: an entry has 64 bytes and an index of
/// 4, a completion 16. Each queue has a header.
pub const QUEUE_BYTES: u64 = SUBMISSIONS as u64 * 68 + COMPLETIONS as u64 * 16 + (8 << 10);

/// Why io_uring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unsupported {
    /// The kernel or a seccomp filter forbids it.
    #[error(
        "io_uring is forbidden here ({0}): see sysctl kernel.io_uring_disabled, or the container's seccomp filter"
    )]
    Forbidden(io::Error),
    /// The limit of locked memory (`RLIMIT_MEMLOCK`) is too low for its queues.
    #[error("io_uring needs more locked memory than the limit of {0} KiB allows: raise it (`ulimit -l`)")]
    LockedMemory(u64),
    /// The kernel cannot create a ring.
    #[error("io_uring cannot be set up: {0}")]
    Setup(io::Error),
    /// The kernel does not support an operation that [`Ring`] needs.
    #[error("this kernel's io_uring has no {0}")]
    Lacks(&'static str),
}

impl Unsupported {
    /// The reason for an error of io_uring_setup(2).
    fn from_setup(error: io::Error) -> Unsupported {
        match (error.raw_os_error(), limits::locked_memory()) {
            (Some(libc::EPERM | libc::EACCES | libc::ENOSYS), _) => Unsupported::Forbidden(error),
            (Some(libc::ENOMEM), Ok(limit)) if limit != libc::RLIM_INFINITY => {
                Unsupported::LockedMemory(limit >> 10)
            }
            _ => Unsupported::Setup(error),
        }
    }
}

/// Checks that this kernel supports what [`Ring`] needs, and allows a ring of that size.
pub fn probe() -> Result<(), Unsupported> {
    let ring = build(SUBMISSIONS).map_err(Unsupported::from_setup)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|_| Unsupported::Lacks("probe (Linux 5.6)"))?;
    let needed = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Writev::CODE,
        opcode::PollAdd::CODE,
        opcode::AsyncCancel::CODE,
    ];
    if !needed.iter().all(|operation| probe.is_supported(*operation)) {
        return Err(Unsupported::Lacks("read and write (Linux 5.6)"));
    }
    if reads_without_waiting() {
        Ok(())
    } else {
        Err(Unsupported::Lacks("non-blocking TAP reads (Linux 6.4)"))
    }
}

/// Creates a ring whose task work is deferred until its one thread enters the kernel
/// (`IORING_SETUP_DEFER_TASKRUN`, Linux 6.1). Older kernels run it at any time. The ring is disabled until
/// [`restrict_and_enable`].
fn build(entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETIONS).setup_clamp().setup_r_disabled();
    let plain = builder.clone();
    builder.setup_single_issuer().setup_defer_taskrun();
    match builder.build(entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => plain.build(entries),
        outcome => outcome,
    }
}

/// Enables the ring for [`OPERATIONS`] only. Without this, a ring could open files and create sockets, past the
/// worker's seccomp filter.
fn restrict_and_enable(ring: &IoUring) -> io::Result<()> {
    let operations = OPERATIONS.into_iter().map(Restriction::sqe_op);
    let registers = REGISTERED_LATER.into_iter().map(Restriction::register_op);
    let mut allowed: Vec<Restriction> = operations.chain(registers).collect();
    allowed.push(Restriction::sqe_flags_allowed(FIXED_FILE));
    ring.submitter().register_restrictions(&mut allowed)?;
    ring.submitter().register_enable_rings()
}

/// Exclusive access to a buffer that a read has filled, until it is sent or recycled.
#[derive(Debug)]
pub struct BufferLease {
    ring: u32,
    id: u16,
}

/// One write: the parts of the buffer, and the file's slot.
#[derive(Debug, Clone)]
pub struct SlotWrite {
    /// The slot in the file table.
    pub slot: u16,
    /// The bytes of the buffer that are written together. The second piece may be empty.
    pub pieces: [Range<usize>; 2],
}

/// A completed operation.
#[derive(Debug)]
pub enum Completion {
    /// A read has filled a buffer.
    Frame {
        /// The slot that was read.
        slot: u16,
        /// The buffer.
        lease: BufferLease,
        /// Offset of the first byte.
        start: usize,
        /// Bytes read.
        length: usize,
    },
    /// A read returned no frame.
    NoFrame {
        /// The slot.
        slot: u16,
        /// The error: `EAGAIN` if the queue was empty.
        error: i32,
    },
    /// The poll of [`Ring::arm_poll`] has ended: the file is readable, or the poll was cancelled.
    Ready {
        /// The slot.
        slot: u16,
    },
    /// A write of a buffer to a slot has completed.
    Written {
        /// The slot.
        slot: u16,
        /// Bytes written, or the negative error.
        result: i32,
    },
    /// The eventfd of [`Ring::arm_wake`] is readable.
    Woken,
}

/// Whether [`Ring::enter`] may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enter {
    /// Submit, and sleep until an operation completes.
    Wait,
    /// The same, and at most this long.
    WaitAtMost(Duration),
    /// Submit, and return at once.
    Poll,
}

/// A worker's io_uring, file table and buffers. Must be created and used on the same thread.
pub struct Ring {
    // Field order is drop order: the ring is closed before its memory is unmapped.
    ring: IoUring,
    arena: Arena,
    /// A stack: the buffer that was used last is still in the cache, so it is used next.
    free: Vec<u16>,
    /// For each buffer, the number of writes that have not completed.
    writes: Box<[u16]>,
    /// For each buffer, the memory of [`Ring::receive`].
    messages: Box<[UnsafeCell<MessageHeader>]>,
    /// For each buffer, what its writes of two pieces refer to.
    vectors: Box<[Vectors]>,
    /// Whether the buffers are registered, which saves the kernel a page lookup at each read and write.
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

impl Ring {
    /// Creates a ring with this many buffers and a table of `slots` files.
    pub fn new(buffers: u16, slots: u16) -> io::Result<Ring> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let refused = |error: io::Error| io::Error::new(error.kind(), Unsupported::from_setup(error));
        let ring = build(SUBMISSIONS).map_err(refused)?;
        // -1: an empty slot. IORING_RSRC_REGISTER_SPARSE would need Linux 5.19.
        ring.submitter().register_files(&vec![-1; slots.into()])?;
        let arena = Arena::new(buffers)?;
        let all = libc::iovec { iov_base: arena.start(0).as_ptr().cast(), iov_len: arena.size() };
        // SAFETY: the memory stays mapped until the ring is closed (field order). The kernel refuses if
        // RLIMIT_MEMLOCK is too small; then reads and writes use unregistered buffers.
        let registered = unsafe { ring.submitter().register_buffers(&[all]) }.is_ok();
        restrict_and_enable(&ring)?;
        let free = (0..buffers).rev().collect();
        let writes = vec![0; buffers.into()].into();
        let messages = (0..buffers).map(|_| MessageHeader::new()).collect();
        let vectors = vec![Vectors::new(); buffers.into()].into();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Ring { ring, arena, free, writes, messages, vectors, registered, id, enters: 0 })
    }

    /// Registers a file in a slot, or clears the slot. The table has its own reference to the file.
    pub fn set_file(&mut self, slot: u16, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fd = file.map_or(-1, |file| file.as_raw_fd());
        self.ring.submitter().register_files_update(slot.into(), &[fd]).map(drop)
    }

    /// Queues a read of one frame from a slot. The next [`Ring::enter`] completes it with
    /// [`Completion::Frame`] or [`Completion::NoFrame`]. Does nothing if no buffer is free.
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
        // SAFETY: the buffer is neither free nor leased until the read has completed.
        unsafe { self.push(&read.user_data(token::read(slot, id))) }
    }

    /// As [`Ring::read`], for a packet socket: see [`super::packet_message`].
    pub fn receive(&mut self, slot: u16) -> io::Result<()> {
        let Some(id) = self.free.pop() else { return Ok(()) };
        // SAFETY: the headroom is inside the buffer.
        let address = unsafe { self.arena.start(id).add(HEADROOM) }.as_ptr();
        let message = self.messages[usize::from(id)].get();
        // SAFETY: the message of a buffer is used only by the one read into that buffer. The buffer was free.
        let header = unsafe { MessageHeader::prepare(message, address, BUFFER_SIZE - HEADROOM) };
        let receive =
            opcode::RecvMsg::new(Fixed(slot.into()), header).flags(libc::MSG_DONTWAIT.cast_unsigned());
        // SAFETY: the buffer is neither free nor leased until the read has completed, and nothing accesses its message.
        // Both live as long as the ring.
        unsafe { self.push(&receive.build().user_data(token::receive(slot, id))) }
    }

    /// Queues a poll that completes once with [`Completion::Ready`] when the file in a slot is readable.
    ///
    /// The poll refers to the file, not to its slot. A request that refers to a slot pins the table: before
    /// Linux 6.13 a file that is removed from the table stays open until all older such requests have
    /// completed, which is as long as another port is idle (`io_queue_rsrc_removal` in `io_uring/rsrc.c`).
    pub fn arm_poll(&mut self, slot: u16, file: BorrowedFd<'_>) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(file.as_raw_fd()), READABLE).build();
        // SAFETY: a poll refers to no memory.
        unsafe { self.push(&poll.user_data(token::poll(slot))) }
    }

    /// Cancels a slot's poll, which then completes with [`Completion::Ready`].
    pub fn cancel_poll(&mut self, slot: u16) -> io::Result<()> {
        let cancel = opcode::AsyncCancel::new(token::poll(slot)).build();
        // SAFETY: a cancellation refers to no memory.
        unsafe { self.push(&cancel.user_data(token::cancel())) }
    }

    /// Queues a poll that completes once with [`Completion::Woken`] when `wake` is readable.
    pub fn arm_wake(&mut self, wake: BorrowedFd<'_>) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(wake.as_raw_fd()), READABLE).build();
        // SAFETY: a poll refers to no memory.
        unsafe { self.push(&poll.user_data(token::wake())) }
    }

    /// The buffer's bytes from its start.
    pub fn bytes(&self, lease: &BufferLease) -> &[u8] {
        let start = self.start(lease);
        // SAFETY: the buffer is inside the arena and initialized (mapped zero). While the lease exists,
        // neither the kernel nor other code writes to it: `send` and `recycle` consume the lease.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), BUFFER_SIZE) }
    }

    /// The buffer's bytes from its start, mutable.
    pub fn bytes_mut(&mut self, lease: &mut BufferLease) -> &mut [u8] {
        let start = self.start(lease);
        // SAFETY: as for `bytes`. The exclusive borrow of the only lease makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), BUFFER_SIZE) }
    }

    fn start(&self, lease: &BufferLease) -> NonNull<u8> {
        assert_eq!(lease.ring, self.id, "a lease of another ring");
        self.arena.start(lease.id)
    }

    /// Queues writes of one buffer, which is free after the last of them has completed. `refused` is called
    /// for a write that cannot be queued; it does not complete.
    #[allow(clippy::needless_pass_by_value, reason = "consuming the lease ends access to the buffer")]
    pub fn send(
        &mut self,
        lease: BufferLease,
        writes: impl IntoIterator<Item = SlotWrite>,
        mut refused: impl FnMut(u16, io::Error),
    ) {
        let start = self.start(&lease);
        let BufferLease { id, .. } = lease;
        // One more than is queued, so that a completion during the loop cannot free the buffer.
        self.writes[usize::from(id)] = 1;
        self.vectors[usize::from(id)].clear();
        for SlotWrite { slot, pieces } in writes {
            let inside = |piece: &Range<usize>| piece.start <= piece.end && piece.end <= BUFFER_SIZE;
            assert!(pieces.iter().all(inside), "a write beyond its buffer");
            let write = if pieces[1].is_empty() {
                // SAFETY: the piece is inside the buffer.
                let address = unsafe { start.add(pieces[0].start) };
                Some(self.write(slot, address, pieces[0].len()))
            } else {
                self.write_pieces(slot, id, &pieces)
            };
            let push = |write: squeue::Entry| {
                let write = write.user_data(token::write(slot, id));
                // SAFETY: the lease was consumed. The buffer and its vectors are neither used nor changed before this
                // write has completed, which `writes` counts.
                unsafe { self.push(&write) }
            };
            match write.map_or_else(|| Err(io::Error::from_raw_os_error(libc::E2BIG)), push) {
                Ok(()) => self.writes[usize::from(id)] += 1,
                Err(error) => refused(slot, error),
            }
        }
        self.written(id);
    }

    /// A write of two pieces of a buffer.
    #[cold]
    fn write_pieces(&mut self, slot: u16, id: u16, pieces: &[Range<usize>; 2]) -> Option<squeue::Entry> {
        let vectors = self.vectors[usize::from(id)].place(self.arena.start(id), pieces)?;
        Some(opcode::Writev::new(Fixed(slot.into()), vectors, 2).rw_flags(libc::RWF_NOWAIT).build())
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

    /// Frees a buffer that is not sent.
    #[allow(clippy::needless_pass_by_value, reason = "consuming the lease ends access to the buffer")]
    pub fn recycle(&mut self, lease: BufferLease) {
        let BufferLease { ring, id } = lease;
        assert_eq!(ring, self.id, "a lease of another ring");
        self.free.push(id);
    }

    /// Counts one write of buffer `id` as completed, or as not queued.
    fn written(&mut self, id: u16) {
        let left = &mut self.writes[usize::from(id)];
        *left -= 1;
        if *left == 0 {
            self.free.push(id);
        }
    }

    /// The number of free buffers.
    pub fn free_buffers(&self) -> usize {
        self.free.len()
    }

    /// The number of `io_uring_enter` calls so far.
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// Submits what is queued, and waits as `enter` says: one system call.
    pub fn enter(&mut self, enter: Enter) -> io::Result<()> {
        const GETEVENTS: u32 = 1; // IORING_ENTER_GETEVENTS: also runs deferred task work
        self.enters += 1;
        let is_empty = self.ring.completion().is_empty();
        let entered = match enter {
            Enter::WaitAtMost(time) if is_empty => {
                let time = Timespec::from(time);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
            _ => {
                let want = u32::from(enter == Enter::Wait && is_empty);
                #[allow(clippy::cast_possible_truncation, reason = "at most SUBMISSIONS")]
                let queued = self.ring.submission().len() as u32;
                // SAFETY: no argument is passed. The safety of each queued entry was shown where it was pushed.
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, want, GETEVENTS, None) }
            }
        };
        match entered {
            // Time is up; a signal; or completions must be consumed first: the caller does that, and enters again.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }

    /// The next completion, in order.
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
            token::Token::Receive { slot, buffer } => {
                Some(self.receive_completion(slot, buffer, entry.result()))
            }
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
        let lease = BufferLease { ring: self.id, id };
        match usize::try_from(result) {
            Ok(length) if length > 0 => Completion::Frame { slot, lease, start: HEADROOM, length },
            _ => {
                self.recycle(lease);
                Completion::NoFrame { slot, error: -result }
            }
        }
    }

    fn receive_completion(&mut self, slot: u16, id: u16, result: i32) -> Completion {
        let mut lease = BufferLease { ring: self.id, id };
        let received = usize::try_from(result).map_err(|_| -result).and_then(|length| {
            let message = self.messages[usize::from(id)].get();
            // SAFETY: the read has completed, so the kernel is done with the message, and nothing else refers to it.
            let message = unsafe { &*message };
            message.finish(self.bytes_mut(&mut lease), length).map_err(|error| error as i32)
        });
        match received {
            Ok(Received { start, length }) => Completion::Frame { slot, lease, start, length },
            Err(error) => {
                self.recycle(lease);
                Completion::NoFrame { slot, error }
            }
        }
    }

    /// # Safety
    /// Memory that the entry refers to must stay valid until the entry has completed. Memory that the kernel writes
    /// must not be accessed until then.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the caller guarantees it.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
        }
    }

    /// Submits what is queued, without waiting.
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
        // Each read and write completes within the `enter` call that submits it, and polls refer to no
        // memory. Cancelling the polls lets the kernel close their files sooner.
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The result of an operation on a new ring.
    fn result_of(operation: &squeue::Entry) -> i32 {
        let mut ring = Ring::new(1, 1).unwrap();
        // SAFETY: the operations of these tests refer to static memory only.
        unsafe { ring.push(operation) }.unwrap();
        ring.enter(Enter::Wait).unwrap();
        ring.ring.completion().next().unwrap().result()
    }

    /// Whether the machine forbids io_uring, which is then reported. Any other fault fails the tests.
    fn is_forbidden() -> bool {
        match probe() {
            Err(why @ Unsupported::Forbidden(_)) => {
                writeln!(io::stderr(), "not checked: {why}").unwrap();
                true
            }
            _ => false,
        }
    }

    #[test]
    fn ring_cannot_open_files_or_create_sockets() {
        if is_forbidden() {
            return;
        }
        let path = c"/dev/null".as_ptr();
        let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path).build();
        let socket = opcode::Socket::new(libc::AF_UNIX, libc::SOCK_STREAM, 0).build();
        for operation in [open, socket] {
            assert_eq!(result_of(&operation), -libc::EACCES);
        }
    }
}
