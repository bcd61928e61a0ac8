//! BPF programs and maps, by bpf(2) (Linux `include/uapi/linux/bpf.h`, `Documentation/bpf/`). A program and a map exist
//! as long as a descriptor of them, or as what they are attached to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::time::TimeSpec;

// `enum bpf_cmd`
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
// `enum bpf_map_type`
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
/// `BPF_F_MMAPABLE`
const MMAPABLE: u32 = 1 << 10;
/// `BPF_PROG_TYPE_SCHED_CLS`
const SCHED_CLS: u32 = 3;
/// Bytes of the verifier's log.
const LOG_SIZE: u32 = 64 << 10;

/// An instruction: `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Class, size or operation, and source.
    pub code: u8,
    /// The destination register in the low half, the source in the high one.
    pub regs: u8,
    /// Offset of a load, store or jump.
    pub off: i16,
    /// A constant.
    pub imm: i32,
}

/// Why a program was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refuses the BPF program: {source}{log}")]
pub struct LoadError {
    source: io::Error,
    /// What the verifier says, after a line feed; empty if it was not asked.
    log: String,
}

/// `union bpf_attr` of the commands here, as bytes at the offsets of that union.
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Attr {
    fn new() -> Attr {
        Attr([0; 128])
    }

    fn u32(mut self, at: usize, value: u32) -> Attr {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn pointer<T>(mut self, at: usize, value: *const T) -> Attr {
        self.0[at..at + 8].copy_from_slice(&(value as u64).to_ne_bytes());
        self
    }

    fn descriptor(self, at: usize, fd: &OwnedFd) -> Attr {
        self.u32(at, fd.as_raw_fd().cast_unsigned())
    }
}

/// Runs a command.
///
/// # Safety
/// The pointers in `attr` are valid for what the command reads and writes there.
unsafe fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: `attr` outlives the call and is larger than what the command uses; the caller vouches for its pointers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.0.as_mut_ptr(), attr.0.len()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(0)) }
}

/// A command that returns a new descriptor.
///
/// # Safety
/// As of [`bpf`].
unsafe fn bpf_open(command: libc::c_int, attr: &mut Attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd: RawFd = unsafe { bpf(command, attr) }?;
    // SAFETY: the command returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn create_map(kind: u32, value_size: usize, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    let value_size = u32::try_from(value_size).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut attr = Attr::new().u32(0, kind).u32(4, 4).u32(8, value_size).u32(12, entries).u32(16, flags);
    // SAFETY: the command has no pointers.
    unsafe { bpf_open(MAP_CREATE, &mut attr) }
}

/// A map that programs can refer to.
pub trait Map {
    /// Its descriptor.
    fn fd(&self) -> RawFd;
}

/// An array (`BPF_MAP_TYPE_ARRAY`) whose memory this process and the programs share: both see what the other writes at
/// once.
#[derive(Debug)]
pub struct SharedArray {
    fd: OwnedFd,
    memory: NonNull<AtomicU64>,
    /// Number of words.
    words: usize,
}

// SAFETY: the memory is mapped until the drop, and is only accessed as atomics.
unsafe impl Send for SharedArray {}
// SAFETY: as above.
unsafe impl Sync for SharedArray {}

impl SharedArray {
    /// An array of zeros, with `entries` values of `value_words` 64-bit words each.
    ///
    /// # Errors
    /// No `CAP_BPF`, too little memory, or an array without elements.
    pub fn new(value_words: usize, entries: u32) -> io::Result<SharedArray> {
        let fd = create_map(ARRAY, value_words * 8, entries, MMAPABLE)?;
        let words = value_words * entries as usize;
        let length = (words * 8).try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let memory = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &fd, 0) }?;
        Ok(SharedArray { fd, memory: memory.cast(), words })
    }

    /// All words, value after value.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: mapped, aligned to a page, and this long until the drop; programs write whole aligned words or
        // halves.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.words) }
    }
}

impl Map for SharedArray {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsRef<[AtomicU64]> for SharedArray {
    fn as_ref(&self) -> &[AtomicU64] {
        self.words()
    }
}

impl Drop for SharedArray {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nothing borrows it any more.
        let _ = unsafe { munmap(self.memory.cast(), self.words * 8) };
    }
}

/// An array with a value for each CPU (`BPF_MAP_TYPE_PERCPU_ARRAY`), of `N` 64-bit words.
#[derive(Debug)]
pub struct CpuArray<const N: usize> {
    fd: OwnedFd,
    /// CPUs that may ever be there.
    cpus: usize,
}

impl<const N: usize> CpuArray<N> {
    /// An array of zeros.
    ///
    /// # Errors
    /// No `CAP_BPF`, or too little memory.
    pub fn new(entries: u32) -> io::Result<CpuArray<N>> {
        Ok(CpuArray { fd: create_map(PERCPU_ARRAY, N * 8, entries, 0)?, cpus: possible_cpus()? })
    }

    /// The sums over all CPUs of one value.
    ///
    /// # Errors
    /// There is no such value.
    pub fn sum(&self, index: u32) -> io::Result<[u64; N]> {
        let mut values = vec![[0_u64; N]; self.cpus];
        let attr = Attr::new().descriptor(0, &self.fd);
        let mut attr = attr.pointer(8, &raw const index).pointer(16, values.as_mut_ptr());
        // SAFETY: the kernel reads the index, and writes `N` words for each possible CPU.
        unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) }?;
        Ok(std::array::from_fn(|word| values.iter().map(|value| value[word]).sum()))
    }
}

impl<const N: usize> Map for CpuArray<N> {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The number of CPUs that may ever be there: `0-3` in `/sys/devices/system/cpu/possible` are four.
fn possible_cpus() -> io::Result<usize> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = list.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A program for the ingress of a device (`BPF_PROG_TYPE_SCHED_CLS`).
#[derive(Debug)]
pub struct Program(OwnedFd);

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Program {
    /// Loads a program. The kernel verifies that it ends and that it reads and writes only what it may.
    ///
    /// # Errors
    /// The kernel refuses it, or there is no `CAP_BPF` or `CAP_NET_ADMIN`.
    pub fn load(code: &[Insn]) -> Result<Program, LoadError> {
        match load(code, None) {
            Ok(program) => Ok(program),
            // Only a program that was refused is worth a log.
            Err(source) if source.raw_os_error() == Some(libc::EPERM) => {
                Err(LoadError { source, log: String::new() })
            }
            Err(_) => {
                let mut log = vec![0; LOG_SIZE as usize];
                load(code, Some(&mut log)).map_err(|source| {
                    let text = String::from_utf8_lossy(&log);
                    let text = text.trim_end_matches('\0').trim_end();
                    LoadError {
                        source,
                        log: if text.is_empty() { String::new() } else { format!("\n{text}") },
                    }
                })
            }
        }
    }

    /// Runs the program once with a frame, as if it came in on the device with this index of the current network
    /// namespace. Returns what the program returned (`BPF_PROG_TEST_RUN`). Its effects on maps are real.
    ///
    /// # Errors
    /// The frame is shorter than an Ethernet header, or there is no such device.
    pub fn run(&self, ifindex: u32, frame: &[u8]) -> io::Result<u32> {
        // `struct __sk_buff`: only the ingress device is given.
        let mut context = [0_u32; CONTEXT_WORDS];
        context[CONTEXT_IFINDEX] = ifindex;
        let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let attr = Attr::new().descriptor(0, &self.0).u32(8, length).pointer(16, frame.as_ptr());
        let mut attr =
            attr.u32(40, u32::try_from(size_of_val(&context)).unwrap_or(0)).pointer(48, context.as_ptr());
        // SAFETY: the kernel reads the frame and the context.
        unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
        Ok(u32::from_ne_bytes([attr.0[4], attr.0[5], attr.0[6], attr.0[7]]))
    }
}

/// 32-bit words of `struct __sk_buff`.
const CONTEXT_WORDS: usize = 48;
/// The word of `ifindex` in `struct __sk_buff`.
const CONTEXT_IFINDEX: usize = 10;

fn load(code: &[Insn], log: Option<&mut Vec<u8>>) -> io::Result<Program> {
    let count = u32::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let attr = Attr::new().u32(0, SCHED_CLS).u32(4, count).pointer(8, code.as_ptr());
    let mut attr = attr.pointer(16, c"MIT".as_ptr());
    if let Some(log) = log {
        attr = attr.u32(24, 1).u32(28, LOG_SIZE).pointer(32, log.as_mut_ptr());
    }
    // SAFETY: the kernel reads the instructions and the licence, and writes at most `LOG_SIZE` bytes, with the
    // terminator.
    unsafe { bpf_open(PROG_LOAD, &mut attr) }.map(Program)
}

/// The low half of `bpf_ktime_get_coarse_ns() >> shift`, as a program sees it now.
#[allow(clippy::cast_possible_truncation, reason = "the low half")]
pub fn coarse_tick(shift: u32) -> u32 {
    let now =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).unwrap_or(TimeSpec::new(0, 0));
    let nanoseconds = now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned();
    (nanoseconds >> shift) as u32
}
