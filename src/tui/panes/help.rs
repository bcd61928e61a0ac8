//! What the keys do and what the signs mean, over everything else.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use crate::tui::app::App;
use crate::tui::theme::StyleRole;

const KEYS: [(&str, &str); 9] = [
    ("q Ctrl-C", "quit"),
    ("Tab ← →", "next pane, the one before"),
    ("↑ ↓ PgUp PgDn", "scroll the pane, choose a port; Home and End too"),
    ("Enter", "the pane alone, and back"),
    ("s", "sort ports or fdb by the next column"),
    ("/ Esc", "show only what has a text, show all, choose none"),
    ("p Space", "pause, go on"),
    ("c", "capture the chosen port, or all, into a file; end it"),
    ("f", "flush: forget all learned addresses"),
];
const SIGNS: [(&str, &str); 6] = [
    ("", ""),
    ("○ ● ◉ ✕", "port idle, active, in a flood, down"),
    ("━━────", "time since the last frame, of the ageing time"),
    ("", "Rates are of the last 2 s. A light says that a port"),
    ("", "moved frames since the last reading (0.5 s), not"),
    ("", "which frame went where: uswitch events tells more."),
];
/// Columns of the box, and of its left half.
const WIDTH: u16 = 72;
const KEY: usize = 15;

/// The keys, for who asks before there is a screen.
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
        .title_top(Line::styled(" help: any key closes it ", app.theme.style(StyleRole::Title)));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
