//! The terminal, taken and given back.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::terminal::disable_raw_mode;

use super::app::App;
use super::panes;

/// The terminal's other screen, in raw mode. It is given back on drop; a panic gives it back before it is printed.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Screen> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen { terminal }),
            Err(error) => {
                ratatui::restore();
                Err(error)
            }
        }
    }

    /// Draws what differs from the last picture.
    pub(super) fn draw(&mut self, app: &mut App) -> io::Result<()> {
        app.resize(self.terminal.size()?);
        self.terminal.draw(|frame| panes::draw(frame, app)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What can be given back while a terminal takes no more output: how it treats keys.
pub(super) fn give_back_keys() {
    // Then it is no terminal any more.
    let _ = disable_raw_mode();
}
