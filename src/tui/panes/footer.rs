//! The last row: the keys, a question, or what became of an order.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::tui::app::{App, Mode};
use crate::tui::theme::Role;

const KEYS: [(&str, &str); 8] = [
    ("q", "quit"),
    ("Tab", "pane"),
    ("↑↓", "scroll"),
    ("s", "sort"),
    ("/", "filter"),
    ("p", "pause"),
    ("f", "flush"),
    ("?", "help"),
];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let (ask, dim) = (app.theme.style(Role::Warn), app.theme.style(Role::Dim));
    let line = match (app.mode, app.said()) {
        (Mode::AskFlush, _) => Line::styled(" Forget all learned addresses? y/n", ask),
        (Mode::Filter, _) => Line::from(vec![
            Span::styled(" filter: ", ask),
            Span::raw(format!("{}▏", app.filter)),
            Span::styled("   Enter keeps it, Esc clears it", dim),
        ]),
        (_, Some(said)) => Line::styled(format!(" {said}"), ask),
        _ => keys(app),
    };
    frame.render_widget(line, area);
}

fn keys(app: &App) -> Line<'static> {
    let (key, what) = (app.theme.style(Role::Title), app.theme.style(Role::Dim));
    let hint = |(name, does): (&'static str, &'static str)| {
        [Span::raw(" "), Span::styled(name, key), Span::raw(" "), Span::styled(does, what), Span::raw(" ")]
    };
    Line::from(KEYS.into_iter().flat_map(hint).collect::<Vec<_>>())
}
