//! The last rows: the running capture, and the keys, a prompt or a message.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};

use crate::tui::app::{App, InputMode};
use crate::tui::capture::CaptureProgress;
use crate::tui::theme::StyleRole;

/// Most rows of a message.
const ROWS: usize = 4;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    frame.render_widget(Text::from(lines(app, area.width)), area);
}

/// Number of rows.
pub(super) fn height(app: &App, width: u16) -> u16 {
    u16::try_from(lines(app, width).len()).unwrap_or(u16::MAX)
}

fn lines(app: &App, width: u16) -> Vec<Line<'static>> {
    let (ask, dim) = (app.theme.style(StyleRole::Warn), app.theme.style(StyleRole::Dim));
    let mut lines = app.capture.as_ref().map_or_else(Vec::new, |progress| capture(app, progress, width));
    match (app.mode, &app.message) {
        (InputMode::ConfirmFlush, _) => lines.push(Line::styled(" Delete all learned addresses? y/n", ask)),
        (InputMode::Filter, _) => lines.push(Line::from(vec![
            Span::styled(" filter: ", ask),
            Span::raw(format!("{}▏", app.filter)),
            Span::styled("   Enter applies it, Esc clears it", dim),
        ])),
        (_, Some(message)) => {
            lines.extend(rows(message, width).into_iter().map(|row| Line::styled(row, ask)));
        }
        _ => lines.push(keys(app, width)),
    }
    lines
}

/// The running capture: file and amount.
fn capture(app: &App, progress: &CaptureProgress, width: u16) -> Vec<Line<'static>> {
    let file = progress.path.as_ref().and_then(|path| path.file_name()).unwrap_or_default();
    let text = format!("capturing into {}:\n{}", file.display(), progress.amount());
    let mut rows = rows(&text, width.saturating_sub(2)).into_iter();
    let activity = Span::styled(" ●", app.theme.style(StyleRole::Bad));
    let first = Line::from(vec![activity, Span::raw(rows.next().unwrap_or_default())]);
    std::iter::once(first).chain(rows.map(|row| Line::raw(format!("  {row}")))).collect()
}

/// The lines of a text in one row if they fit, otherwise in up to [`ROWS`] rows.
fn rows(text: &str, width: u16) -> Vec<String> {
    let room = usize::from(width).saturating_sub(1).max(1);
    let together = text.replace('\n', " ");
    let lines =
        if together.chars().count() <= room { vec![together.as_str()] } else { text.lines().collect() };
    let mut rows = Vec::new();
    for line in lines {
        let chars: Vec<char> = line.chars().collect();
        rows.extend(chars.chunks(room).map(|row| format!(" {}", row.iter().collect::<String>())));
    }
    rows.truncate(ROWS);
    rows
}

/// As many keys as fit, the most important first.
fn keys(app: &App, width: u16) -> Line<'static> {
    let capture = match (&app.capture, app.port_to_capture()) {
        (Some(_), _) => "end capture".to_owned(),
        (None, port) => format!("capture {}", port.unwrap_or("all")),
    };
    let keys = [
        ("q", "quit"),
        ("?", "help"),
        ("c", capture.as_str()),
        ("/", "filter"),
        ("p", "pause"),
        ("Tab", "pane"),
        ("↑↓", "move"),
        ("s", "sort"),
        ("f", "flush"),
    ];
    let (key, what) = (app.theme.style(StyleRole::Title), app.theme.style(StyleRole::Dim));
    let mut line = Line::default();
    for (name, does) in keys {
        let hint = [Span::styled(format!(" {name} "), key), Span::styled(format!("{does} "), what)];
        if line.width() + hint.iter().map(Span::width).sum::<usize>() > width.into() {
            break;
        }
        line.extend(hint);
    }
    line
}
