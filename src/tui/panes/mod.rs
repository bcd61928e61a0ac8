//! Layout of the panes. Each pane is drawn by a pure function of the state, in a separate file.

mod events;
mod fdb;
mod footer;
mod header;
mod help;
mod ports;
mod switch;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect, Size};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Wrap};

use super::app::{App, InputMode, Pane};
use super::theme::StyleRole;

/// Smallest terminal on which the panes are useful.
const SMALLEST: Size = Size::new(60, 16);
/// From this width on, the ports and the forwarding database are side by side.
const WIDE: u16 = 134;
/// Columns of the forwarding database beside the ports.
const FDB: u16 = 70;
/// Rows of a pane's border, and of its border and heading.
const FRAME: u16 = 2;
const TABLE: u16 = 3;

pub(super) use help::keys;

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    if area.width < SMALLEST.width || area.height < SMALLEST.height {
        let text = format!(
            "{} x {} is too small: needs {} x {}. q quits.",
            area.width, area.height, SMALLEST.width, SMALLEST.height
        );
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let [top, body, bottom] = parts(app, area);
    header::draw(frame, top, app);
    for (pane, area) in places(app, body) {
        match pane {
            Pane::Switch => switch::draw(frame, area, app),
            Pane::Ports => ports::draw(frame, area, app),
            Pane::Fdb => fdb::draw(frame, area, app),
            Pane::Events => events::draw(frame, area, app),
        }
    }
    footer::draw(frame, bottom, app);
    if app.mode == InputMode::Help {
        help::draw(frame, body, app);
    }
}

/// Areas of the header, the panes and the footer.
fn parts(app: &App, area: Rect) -> [Rect; 3] {
    let footer = Constraint::Length(footer::height(app, area.width));
    Layout::vertical([Constraint::Length(1), Constraint::Min(0), footer]).areas(area)
}

/// Number of rows that a pane shows at a time.
pub(super) fn page(app: &App, pane: Pane) -> usize {
    let [_, body, _] = parts(app, Rect::new(0, 0, app.size.width, app.size.height));
    let found = places(app, body).into_iter().find(|(there, _)| *there == pane);
    let around = if matches!(pane, Pane::Ports | Pane::Fdb) { TABLE } else { FRAME };
    found.map_or(1, |(_, area)| usize::from(area.height.saturating_sub(around).max(1)))
}

/// The visible panes and their areas.
fn places(app: &App, body: Rect) -> Vec<(Pane, Rect)> {
    if app.zoomed {
        return vec![(app.focus, body)];
    }
    let rows = |pane| u16::try_from(app.count(pane)).unwrap_or(u16::MAX);
    let wish = |pane, around: u16| rows(pane).max(1).saturating_add(around);
    let (drawing, ports, fdb) = (wish(Pane::Switch, FRAME), wish(Pane::Ports, TABLE), wish(Pane::Fdb, TABLE));
    if body.width < WIDE {
        let heights = share(body.height, &[(3, drawing), (4, ports), (4, fdb), (3, u16::MAX)]);
        return Pane::ALL.into_iter().zip(rows_of(body, &heights)).collect();
    }
    let heights = share(body.height, &[(3, drawing), (4, ports.max(fdb)), (4, u16::MAX)]);
    let [top, middle, bottom] = [0, 1, 2].map(|i| rows_of(body, &heights)[i]);
    let [left, right] = Layout::horizontal([Constraint::Fill(4), Constraint::Length(FDB)]).areas(middle);
    vec![(Pane::Switch, top), (Pane::Ports, left), (Pane::Fdb, right), (Pane::Events, bottom)]
}

/// Gives each pane its minimum, and the remaining rows one by one to the panes that need more.
fn share(height: u16, wanted: &[(u16, u16)]) -> Vec<u16> {
    let mut given: Vec<u16> = wanted.iter().map(|(least, _)| *least).collect();
    let mut left = height.saturating_sub(given.iter().sum());
    while left > 0 {
        let before = left;
        for (given, (_, wish)) in given.iter_mut().zip(wanted) {
            if left > 0 && *given < *wish {
                (*given, left) = (*given + 1, left - 1);
            }
        }
        if left == before {
            break;
        }
    }
    given
}

fn rows_of(body: Rect, heights: &[u16]) -> Vec<Rect> {
    let mut y = body.y;
    let mut rows = Vec::new();
    for height in heights {
        rows.push(Rect { y, height: *height, ..body }.intersection(body));
        y = y.saturating_add(*height);
    }
    rows
}

/// The border of a pane: its name, and the visible range of its rows if not all fit.
fn block<'a>(app: &App, pane: Pane, title: &'a str, at: VisibleRows) -> Block<'a> {
    let focused = app.focus == pane;
    let border = app.theme.style(if focused { StyleRole::Focus } else { StyleRole::Border });
    let mut name =
        vec![Span::raw(" "), Span::styled(title, app.theme.style(StyleRole::Title)), Span::raw(" ")];
    if !app.filter.is_empty() {
        name.push(Span::styled(format!("/{} ", app.filter), app.theme.style(StyleRole::Warn)));
    }
    let block = Block::bordered()
        .border_type(if focused { BorderType::Thick } else { BorderType::Rounded })
        .border_style(border)
        .title_top(Line::from(name));
    if at.rows <= at.visible {
        return block;
    }
    let last = (at.first + at.visible).min(at.rows);
    let text = format!(" {}-{last} of {} ", at.first + 1, at.rows);
    block.title_bottom(Line::styled(text, app.theme.style(StyleRole::Dim)).right_aligned())
}

/// The visible rows of a pane.
#[derive(Debug, Clone, Copy)]
struct VisibleRows {
    first: usize,
    visible: usize,
    rows: usize,
}

impl VisibleRows {
    /// Visible rows of a pane that is `height` rows high.
    fn of(app: &App, pane: Pane, rows: usize, height: u16) -> VisibleRows {
        let visible = usize::from(height);
        VisibleRows { first: app.scrolled(pane, rows, visible), visible, rows }
    }
}

/// Columns for the names of ports: as many as the longest needs, but at most a quarter of the pane.
fn name_width<'a>(names: impl Iterator<Item = &'a str>, least: usize, pane: u16) -> usize {
    let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    longest.clamp(least, least.max(usize::from(pane) / 4))
}

/// A text in at most `width` columns.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributes_rows_to_panes_that_need_them() {
        assert_eq!(share(22, &[(3, 4), (4, 7), (4, 7), (3, u16::MAX)]), [4, 7, 6, 5]);
        assert_eq!(share(40, &[(3, 4), (4, 7), (4, 7), (3, u16::MAX)]), [4, 7, 7, 22]);
        assert_eq!(share(14, &[(3, 150), (4, 300), (4, 300), (3, u16::MAX)]), [3, 4, 4, 3]);
        assert_eq!(share(20, &[(3, 5)]), [5]);
    }

    #[test]
    fn truncates_long_text() {
        assert_eq!([fit("container1", 10), fit("container10", 10)], ["container1", "container…"]);
        assert_eq!(name_width(["container10", "host"].into_iter(), 10, 80), 11, "names are shown in full");
        assert_eq!(name_width(["a"; 2].into_iter(), 10, 80), 10);
        assert_eq!(name_width(["x".repeat(63).as_str()].into_iter(), 10, 80), 20);
    }
}
