//! Sets up the terminal and restores it.

use std::io::{self, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{panic, process};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::app::App;
use super::panes;

/// Exit code of a Rust program after a panic.
const PANICKED: i32 = 101;

/// Whether the terminal is set up: a process has one terminal.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// The terminal's alternate screen, in raw mode. Restored on drop, and when any thread panics.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Screen> {
        exit_on_panic();
        IN_USE.store(true, Ordering::SeqCst);
        let enter = || {
            enable_raw_mode()?;
            execute!(io::stdout(), EnterAlternateScreen)?;
            Terminal::new(CrosstermBackend::new(io::stdout()))
        };
        enter().map(|terminal| Screen { terminal }).inspect_err(|_| restore())
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, app: &mut App) -> io::Result<()> {
        app.resize(self.terminal.size()?);
        self.terminal.draw(|frame| panes::draw(frame, app)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, once: leaving the alternate screen twice would move the cursor back over later output.
fn restore() {
    if IN_USE.swap(false, Ordering::SeqCst) {
        restore_input();
        // If this fails, the terminal is gone.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    }
}

/// Makes a panic of any thread end the process, after the terminal is restored and the message printed.
fn exit_on_panic() {
    let print_panic = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // The lock keeps others from drawing over the message.
        let _output = io::stdout().lock();
        restore();
        print_panic(panic);
        process::exit(PANICKED);
    }));
}

/// Restores the input modes only: a terminal that takes no output can do no more.
pub(super) fn restore_input() {
    // If this fails, the terminal is gone.
    let _ = disable_raw_mode();
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::process::Command;
    use std::rc::Rc;
    use std::{env, thread};

    use nix::pty::{OpenptyResult, Winsize, openpty};
    use nix::sys::termios::tcgetattr;
    use ratatui::layout::Rect;
    use ratatui::{TerminalOptions, Viewport};

    use super::super::tests::{NARROW, busy};
    use super::*;

    /// Set in the process that panics: names the thread.
    const WHO: &str = "USWITCH_TEST_WHO_PANICS";
    const NAME: &str = "tui::screen::tests::panic_restores_terminal";

    /// Counts the bytes that a terminal gets.
    #[derive(Default, Clone)]
    struct Written(Rc<Cell<usize>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.set(self.0.get() + bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn draws_only_changes() {
        let written = Written::default();
        let viewport = Viewport::Fixed(Rect::new(0, 0, NARROW.width, NARROW.height));
        let backend = CrosstermBackend::new(written.clone());
        let mut terminal = Terminal::with_options(backend, TerminalOptions { viewport }).unwrap();
        let mut app = busy(NARROW);
        let mut bytes = |app: &App| {
            terminal.draw(|frame| panes::draw(frame, app)).unwrap();
            written.0.take()
        };
        let (first, again) = (bytes(&app), bytes(&app));
        app.snapshot.status.uptime += 1;
        let later = bytes(&app);
        assert!(first > 2000 && again < 50 && later < 100, "{first}, {again}, {later} bytes");
    }

    /// Runs this test again on a pseudoterminal (pty(7)).
    #[test]
    fn panic_restores_terminal() {
        match env::var(WHO).as_deref() {
            Err(_) => ["who draws", "another"].into_iter().for_each(assert_panic_restores_terminal),
            Ok("who draws") => draw_until(|| panic!("a test panic\nof two lines")),
            Ok(_) => {
                let another = || thread::spawn(|| panic!("a test panic\nof two lines"));
                let mut begun = None;
                draw_until(|| _ = begun.get_or_insert_with(another));
            }
        }
    }

    fn draw_until(mut panics: impl FnMut()) {
        let mut screen = Screen::enter().expect("a terminal");
        let mut app = busy(NARROW);
        loop {
            screen.draw(&mut app).expect("a terminal");
            app.filter.push('x');
            panics();
        }
    }

    fn assert_panic_restores_terminal(who: &str) {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a terminal");
        let end = || slave.try_clone().expect("another descriptor");
        let before = tcgetattr(&slave).expect("a terminal");
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", NAME, "--nocapture"])
            .env(WHO, who)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("it runs again");
        let screen = thread::spawn(move || {
            let mut written = Vec::new();
            // Ends with EIO when the other end is closed.
            let _ = File::from(master).read_to_end(&mut written);
            String::from_utf8_lossy(&written).into_owned()
        });
        let status = child.wait().expect("it ends");
        assert_eq!(tcgetattr(&slave).expect("a terminal"), before, "{who}: keys, echo, lines");
        drop(slave);
        let written = screen.join().expect("no panic there");
        assert_eq!(status.code(), Some(PANICKED), "{who}: {written:?}");
        let (drawn, message) = written.split_once("\x1b[?1049l").expect("it has left the other screen");
        assert!(drawn.contains("\x1b[?1049h") && drawn.contains("uswitch0"), "{who}: {drawn:?}");
        assert!(drawn.rfind("\x1b[?25h") > drawn.rfind("\x1b[?25l"), "{who}: a cursor: {drawn:?}");
        assert!(message.contains("a test panic\r\nof two lines\r\n"), "{who}: {message:?}");
        assert!(!message.contains('\x1b'), "{who}: nothing is drawn over it: {message:?}");
    }
}
