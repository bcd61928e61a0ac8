//! The help box: keys and symbols.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use crate::tui::app::App;
use crate::tui::theme::StyleRole;

const KEYS: [(&str, &str); 9] = [
    ("q Ctrl-C", "quit"),
    ("Tab ← →", "next or previous pane"),
    ("↑ ↓ PgUp PgDn", "scroll the pane, or select a port (also Home, End)"),
    ("Enter", "maximize the pane, or restore it"),
    ("s", "sort ports or fdb by the next column"),
    ("/ Esc", "filter by a text; clear filter or selection"),
    ("p Space", "pause or resume"),
    ("c", "capture the selected port, or all, to a file; stop"),
    ("f", "flush: delete all learned addresses"),
];
const SIGNS: [(&str, &str); 6] = [
    ("", ""),
    ("○ ● ◉ ✕", "port idle, active, flooding, down"),
    ("━━────", "time since the last frame / ageing time"),
    ("", "Rates are averages of the last 2 s. Active means that"),
    ("", "a port received or sent frames in the last 0.5 s."),
    ("", "uswitch events and uswitch trace show single frames."),
];
/// Columns of the box, and of the keys.
const WIDTH: u16 = 72;
const KEY: usize = 15;

/// The keys, for the help of the subcommand.
pub(in crate::tui) fn keys() -> String {
    let line = |(key, what)| format!("  {key:<KEY$}{what}\n");
    KEYS.into_iter().map(line).collect()
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let height = u16::try_from(KEYS.len() + SIGNS.len() + 2).unwrap_or(u16::MAX);
    let place =
        area.centered(Constraint::Length(WIDTH.min(area.width)), Constraint::Length(height.min(area.height)));
    let line = |(key, what): (&'static str, &'static str)| {
        let key = Span::styled(format!(" {key:<KEY$}"), app.theme.style(StyleRole::Title));
        Line::from(vec![key, Span::raw(what)])
    };
    let lines: Vec<Line<'_>> = KEYS.into_iter().chain(SIGNS).map(line).collect();
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(app.theme.style(StyleRole::Focus))
        .title_top(Line::styled(" help: Esc closes it ", app.theme.style(StyleRole::Title)));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
