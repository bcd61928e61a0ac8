//! The first row: the switch, its uptime and its rates.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use crate::control::format::{counted, duration, scaled};
use crate::tui::app::App;
use crate::tui::theme::StyleRole;

/// Characters of the graph.
const BARS: [char; 6] = ['▁', '▂', '▃', '▄', '▅', '▆'];
/// Samples in the graph.
const COLUMNS: usize = 24;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let right = rates(app, area.width);
    let width = u16::try_from(right.width()).unwrap_or(u16::MAX);
    let [what, passes] = Layout::horizontal([Constraint::Min(0), Constraint::Length(width)]).areas(area);
    frame.render_widget(about(app), what);
    frame.render_widget(right, passes);
}

fn about(app: &App) -> Line<'static> {
    let status = &app.snapshot.status;
    let dim = app.theme.style(StyleRole::Dim);
    let spans = vec![
        Span::raw(" "),
        Span::styled(status.name.clone(), app.theme.style(StyleRole::Title)),
        Span::styled(if app.is_paused() { " paused  " } else { "  " }, app.theme.style(StyleRole::Warn)),
        Span::styled(format!("{} · {}", status.engine, counted(status.workers, "worker")), dim),
        Span::styled(format!(" · up {}", duration(status.uptime)), dim),
    ];
    Line::from(spans)
}

fn rates(app: &App, width: u16) -> Line<'static> {
    let total = app.traffic.total();
    let dim = app.theme.style(StyleRole::Dim);
    let graph = if width >= 100 { graph(app) } else { String::new() };
    let (frames, bits) = (scaled(total.frames), scaled(total.bits));
    Line::from(vec![
        Span::styled(graph, app.theme.style(StyleRole::Focus)),
        Span::raw(format!("  {frames:>6}")),
        Span::styled("frames/s", dim),
        Span::raw(format!("  {bits:>6}")),
        Span::styled("bit/s ", dim),
    ])
}

/// A graph of the last samples, relative to the highest.
fn graph(app: &App) -> String {
    let history = app.traffic.history();
    let highest = history.iter().max().copied().unwrap_or(0).max(1);
    let bar = |frames: u64| {
        let top = BARS.len() as u64 - 1;
        let height = u128::from(frames) * u128::from(top) / u128::from(highest);
        usize::try_from(height).ok().and_then(|height| BARS.get(height)).copied().unwrap_or(' ')
    };
    history.iter().skip(history.len().saturating_sub(COLUMNS)).map(|frames| bar(*frames)).collect()
}
