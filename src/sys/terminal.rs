//! Runs a program that must not write into the input of the caller's terminal.
//!
//! A process can push characters into its controlling terminal (`TIOCSTI`, ioctl_tty(2)), where the shell reads them
//! as commands after the process has ended. So a program gets a new session (setsid(2)), and a
//! pseudoterminal (pty(7)) instead of each standard descriptor that is a terminal; this process relays the bytes,
//! the size of the window and the signals. `sudo` with `use_pty`, `docker exec -it` and `su --pty` do the same. Handing
//! over the terminal itself (`TIOCSCTTY`) would take it from the caller's shell. Without a terminal, the program
//! replaces this process (execve(2)).

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, getppid, setsid, tcgetpgrp};

use super::process::open_descriptors;

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// The program could not be executed.
    #[error("{0}")]
    Execute(#[source] io::Error),
    /// Its surroundings could not be set up, or the relay failed.
    #[error("cannot {what}: {source}")]
    Setup {
        /** What was tried. */
        what: &'static str,
        /** The error. */
        source: io::Error,
    },
}

fn setup<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> TerminalError {
    move |error| TerminalError::Setup { what, source: error.into() }
}

/// Signals that are passed on to the program.
const FORWARDED: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];
/// Bytes that are relayed at a time.
const CHUNK: usize = 4096;

/// Runs the program, which inherits the standard descriptors and no others. Where there is a terminal, it runs in a
/// new session and its status is returned; otherwise it replaces this process. The process must have one
/// thread.
///
/// # Errors
/// The program cannot be executed, or there is no pseudoterminal for it.
pub fn run(mut command: Command) -> Result<ExitStatus, TerminalError> {
    keep_descriptors_from_children().map_err(setup("keep open files from the program"))?;
    let mut is_terminal = [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    if is_terminal == [false; 3] && File::open("/dev/tty").is_err() {
        return Err(TerminalError::Execute(command.exec()));
    }
    if is_terminal[0] && is_pipe(&io::stdout()) {
        // The keys are for what reads the pipe: a pager, for example.
        command.stdin(Stdio::null());
        is_terminal[0] = false;
    }
    let mask = SigSet::thread_get_mask().map_err(setup("wait for signals"))?;
    let signals = signals().map_err(setup("wait for signals"))?;
    let has_keys = is_terminal[0];
    let terminal = terminal(is_terminal).map(|user| Pseudoterminal::open(user, has_keys)).transpose();
    let terminal = terminal.map_err(setup("open a pseudoterminal"))?;
    let child = spawn(command, terminal.as_ref(), is_terminal, mask)?;
    relay(child, terminal, &signals).map_err(setup("pass on what the program reads and writes"))
}

/// Marks every descriptor beyond the standard three to be closed by `execve`. (close_range(2) does so from Linux 5.11
/// on.)
fn keep_descriptors_from_children() -> io::Result<()> {
    for number in open_descriptors()? {
        // SAFETY: sets a flag of a descriptor; none is closed, so every owner of one still has it.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// The standard descriptor that stands for the terminal: one that can be written, if there is any.
fn terminal([stdin, stdout, stderr]: [bool; 3]) -> Option<OwnedFd> {
    let clone = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().ok();
    match (stdout, stderr, stdin) {
        (true, ..) => clone(io::stdout().as_fd()),
        (_, true, _) => clone(io::stderr().as_fd()),
        (.., true) => clone(io::stdin().as_fd()),
        _ => None,
    }
}

/// Receives the forwarded signals, the end of the program and changes of the window.
fn signals() -> nix::Result<SignalFd> {
    let mut set: SigSet = FORWARDED.into_iter().collect();
    for signal in [Signal::SIGCHLD, Signal::SIGWINCH, Signal::SIGCONT] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn spawn(
    mut command: Command,
    terminal: Option<&Pseudoterminal>,
    is_terminal: [bool; 3],
    mask: SigSet,
) -> Result<Child, TerminalError> {
    if let Some(terminal) = terminal {
        let slave =
            || terminal.slave.try_clone().map(Stdio::from).map_err(setup("give the program a terminal"));
        let [stdin, stdout, stderr] = is_terminal;
        if stdin {
            command.stdin(slave()?);
        }
        if stdout {
            command.stdout(slave()?);
        }
        if stderr {
            command.stderr(slave()?);
        }
    }
    let session = Session {
        mask,
        parent: Pid::this(),
        terminal: (0..).zip(is_terminal).find(|(_, is)| *is).map(|(fd, _)| fd),
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || session.begin()) };
    command.spawn().map_err(TerminalError::Execute)
}

/// The session that the program leads.
#[derive(Debug, Clone, Copy)]
struct Session {
    /// Signals that were blocked before this process blocked those that it relays.
    mask: SigSet,
    parent: Pid,
    /// The standard descriptor that is its controlling terminal.
    terminal: Option<libc::c_int>,
}

impl Session {
    /// Makes the calling process the leader of the session, and lets it end with its parent.
    fn begin(self) -> io::Result<()> {
        setsid()?;
        if let Some(terminal) = self.terminal {
            // SAFETY: the argument is a number: 0 takes no terminal from another session.
            Errno::result(unsafe { libc::ioctl(terminal, libc::TIOCSCTTY, 0) })?;
        }
        self.mask.thread_set_mask()?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended before the call above.
        if getppid() == self.parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    }
}

fn is_pipe(file: &impl AsFd) -> bool {
    let mode = fstat(file).map(|found| SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT);
    mode.is_ok_and(|kind| kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK)
}

/// A pseudoterminal that stands in for the user's terminal.
#[derive(Debug)]
struct Pseudoterminal {
    user: File,
    /// Standard input is the terminal, and its keys are for the program.
    has_keys: bool,
    master: File,
    slave: OwnedFd,
}

impl Pseudoterminal {
    fn open(user: OwnedFd, has_keys: bool) -> io::Result<Pseudoterminal> {
        let mut termios = tcgetattr(&user)?;
        if !has_keys {
            // The user's terminal stays as it is, and makes the ends of lines itself.
            termios.output_flags.remove(OutputFlags::OPOST);
        }
        let size = window_size(&user)?;
        let OpenptyResult { master, slave } = openpty(&size, &termios)?;
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        for end in [&master, &slave] {
            fcntl(end, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        }
        Ok(Pseudoterminal { user: user.into(), has_keys, master: master.into(), slave })
    }

    /// What is typed is for the program: the shell has this process in its foreground.
    fn is_attended(&self) -> bool {
        self.has_keys && tcgetpgrp(&self.user).is_ok_and(|group| group == getpgrp())
    }

    fn resize(&self) -> io::Result<()> {
        let size = window_size(&self.user)?;
        // SAFETY: the kernel reads a `winsize`, which `size` is and outlives the call.
        Errno::result(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) })?;
        Ok(())
    }
}

fn window_size(terminal: &impl AsRawFd) -> io::Result<Winsize> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes a `winsize`, which `size` is and outlives the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &mut size) })?;
    Ok(size)
}

/// The user's terminal in raw mode: every key goes to the program. Restored on drop.
#[derive(Debug)]
struct RawMode {
    before: Termios,
}

impl RawMode {
    fn enter() -> io::Result<RawMode> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(RawMode { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // If this fails, the terminal is gone.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// What passes between the user's terminal and the program's.
#[derive(Debug)]
struct Relay {
    terminal: Option<Pseudoterminal>,
    raw_mode: Option<RawMode>,
    /// Typed, and not yet taken by the program's terminal.
    typed: Vec<u8>,
    /// No program has the program's terminal open any more.
    is_closed: bool,
}

fn relay(mut child: Child, terminal: Option<Pseudoterminal>, signals: &SignalFd) -> io::Result<ExitStatus> {
    let mut relay = Relay { terminal, raw_mode: None, typed: Vec::new(), is_closed: false };
    relay.attend()?;
    loop {
        let [has_signal, can_read, can_write, is_typed] = relay.wait(signals)?;
        if can_read {
            relay.show()?;
        }
        if can_write {
            relay.send()?;
        }
        if is_typed {
            relay.read_keys()?;
        }
        if has_signal && let Some(status) = relay.on_signals(&mut child, signals)? {
            // What the program wrote last may still be in its terminal.
            while relay.show()? {}
            return Ok(status);
        }
    }
}

impl Relay {
    /// Takes the keyboard if this process is in the foreground, which may have changed (SIGCONT).
    fn attend(&mut self) -> io::Result<()> {
        if let Some(terminal) = &self.terminal {
            match terminal.is_attended() {
                // A shell restores its own modes when it continues a job.
                true => self.raw_mode = Some(RawMode::enter()?),
                false => self.raw_mode = None,
            }
        }
        Ok(())
    }

    /// Waits for a signal, output of the program, room for its input, a key.
    fn wait(&self, signals: &SignalFd) -> io::Result<[bool; 4]> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(terminal) = self.terminal.as_ref().filter(|_| !self.is_closed) {
            let room = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            fds.push(PollFd::new(terminal.master.as_fd(), PollFlags::POLLIN | room));
            if self.raw_mode.is_some() && self.typed.is_empty() {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok([false; 4]),
            ready => ready?,
        };
        let ready = |at: usize, wanted: PollFlags| {
            fds.get(at).and_then(PollFd::revents).is_some_and(|found| found.intersects(wanted))
        };
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        Ok([ready(0, readable), ready(1, readable), ready(1, PollFlags::POLLOUT), ready(2, readable)])
    }

    /// Copies some output of the program to the terminal. Returns whether there was any.
    fn show(&mut self) -> io::Result<bool> {
        let Some(terminal) = &mut self.terminal else { return Ok(false) };
        let mut chunk = [0; CHUNK];
        match terminal.master.read(&mut chunk) {
            Ok(0) => self.is_closed = true,
            Ok(length) => {
                terminal.user.write_all(&chunk[..length])?;
                return Ok(true);
            }
            // EIO: the other end is closed.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => self.is_closed = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    fn read_keys(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        match nix::unistd::read(io::stdin(), &mut chunk) {
            // The terminal was hung up, which SIGHUP reports too.
            Ok(0) | Err(Errno::EIO) => self.raw_mode = None,
            Ok(length) => self.typed.extend_from_slice(&chunk[..length]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        let Some(terminal) = self.terminal.as_mut().filter(|_| !self.typed.is_empty()) else { return Ok(()) };
        match terminal.master.write(&self.typed) {
            Ok(length) => _ = self.typed.drain(..length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.raw_os_error() == Some(libc::EIO) => self.typed.clear(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Handles the signals that have come; returns the status of the program if it has ended.
    fn on_signals(&mut self, child: &mut Child, signals: &SignalFd) -> io::Result<Option<ExitStatus>> {
        while let Some(info) = signals.read_signal()? {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            match signal {
                Some(Signal::SIGCHLD) | None => {}
                Some(Signal::SIGWINCH) => self.terminal.as_ref().map_or(Ok(()), Pseudoterminal::resize)?,
                Some(Signal::SIGCONT) => {
                    self.attend()?;
                    self.terminal.as_ref().map_or(Ok(()), Pseudoterminal::resize)?;
                }
                // The program leads its process group. One that has ended is reaped below.
                Some(signal) => _ = killpg(Pid::from_raw(child.id().cast_signed()), signal),
            }
        }
        child.try_wait()
    }
}
