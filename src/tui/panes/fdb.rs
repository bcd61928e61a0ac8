//! The forwarding database: who is where, and how near to being forgotten.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Row, Table};

use super::{FRAME, TABLE, VisibleRows, block, fit};
use crate::control::report::FdbReport;
use crate::tui::app::{App, Pane};
use crate::tui::rows::FdbOrder;
use crate::tui::theme::StyleRole;

/// Columns of MAC, port, VLAN and age; the bar takes what is left.
const MAC: u16 = 17;
const PORT: u16 = 10;
const VLAN: u16 = 4;
const AGE: u16 = 6;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let entries = app.fdb_rows();
    let window = VisibleRows::of(app, Pane::Fdb, entries.len(), area.height.saturating_sub(TABLE));
    let bar = area.width.saturating_sub(FRAME + MAC + PORT + VLAN + AGE + 4);
    let widths = [MAC, PORT, VLAN, bar, AGE].map(Constraint::Length);
    let shown = entries.iter().skip(window.first).take(window.visible);
    let rows = shown.map(|entry| row(app, entry, bar.into()));
    let title = format!("fdb {} of {}", app.snapshot.status.fdb, app.snapshot.status.fdb_max);
    let block = block(app, Pane::Fdb, &title, window);
    frame.render_widget(Table::new(rows, widths).header(heading(app)).block(block), area);
}

fn heading(app: &App) -> Row<'static> {
    let mark = |order, name: &str| {
        if app.fdb_order == order { format!("{name}▾") } else { name.to_owned() }
    };
    Row::new([
        Text::from(mark(FdbOrder::Mac, "MAC")),
        Text::from(mark(FdbOrder::Port, "PORT")),
        Text::from("VLAN").right_aligned(),
        Text::from(mark(FdbOrder::Age, "AGE")),
        Text::from(format!("{} s", app.snapshot.status.ageing_time)).right_aligned(),
    ])
    .style(app.theme.style(StyleRole::Dim))
}

fn row<'a>(app: &App, entry: &'a FdbReport, width: usize) -> Row<'a> {
    let fresh = app.freshness((entry.mac, entry.vlan));
    let style = fresh.map_or_else(Style::new, |role| app.theme.style(role));
    let vlan = entry.vlan.map_or_else(String::new, |vlan| vlan.to_string());
    let dim = app.theme.style(StyleRole::Dim);
    let (bar, age) = match entry.updated {
        Some(seconds) => (bar(app, seconds, width), format!("{seconds} s")),
        None => (Line::styled(entry.state.as_str(), dim), String::new()),
    };
    Row::new([
        Text::styled(entry.mac.to_string(), style),
        Text::from(fit(&entry.ifname, PORT.into())),
        Text::from(vlan).right_aligned(),
        Text::from(bar),
        Text::styled(age, dim).right_aligned(),
    ])
}

/// The part of the ageing time that has passed since a frame came.
fn bar(app: &App, seconds: u32, width: usize) -> Line<'static> {
    let ageing_time = usize::try_from(app.snapshot.status.ageing_time).unwrap_or(usize::MAX).max(1);
    let age = usize::try_from(seconds).unwrap_or(usize::MAX).min(ageing_time);
    let passed = (age * width).div_ceil(ageing_time);
    let role = match age * 4 / ageing_time {
        0..2 => StyleRole::Good,
        2 => StyleRole::Warn,
        _ => StyleRole::Bad,
    };
    Line::from(vec![
        Span::styled("━".repeat(passed), app.theme.style(role)),
        Span::styled("─".repeat(width - passed), app.theme.style(StyleRole::Border)),
    ])
}
