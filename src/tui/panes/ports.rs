//! The ports pane: state, rates and drops.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Row, Table};

use super::{TABLE, VisibleRows, block, fit, name_width};
use crate::control::format::scaled;
use crate::tui::app::{App, Pane};
use crate::tui::rows::{PortOrder, PortRow};
use crate::tui::theme::StyleRole;
use crate::tui::traffic::{Activity, TrafficRate};

/// Columns of the activity symbol, of the state and of a number.
const LIGHT: u16 = 2;
const STATE: Constraint = Constraint::Length(4);
const NUMBER: Constraint = Constraint::Length(6);
/// Least columns for the names of ports.
const NAME: usize = 11;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let ports = app.port_rows();
    let window = VisibleRows::of(app, Pane::Ports, ports.len(), area.height.saturating_sub(TABLE));
    let names = name_width(ports.iter().map(|row| row.port.ifname.as_str()), NAME, area.width);
    let names = u16::try_from(names).unwrap_or(u16::MAX);
    let rows = ports.iter().skip(window.first).take(window.visible).map(|port| row(app, port, names));
    let first = Constraint::Length(LIGHT + names);
    let widths = [first, STATE, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, Constraint::Fill(1)];
    let table = Table::new(rows, widths).header(heading(app)).block(block(app, Pane::Ports, "ports", window));
    frame.render_widget(table, area);
}

/// Headings of the columns; the sort column is marked.
fn heading(app: &App) -> Row<'static> {
    let mark = |order, name: &str| {
        if app.port_order == order { format!("{name}▾") } else { name.to_owned() }
    };
    let right = |name: String| Text::from(name).right_aligned();
    let port = match app.port_order {
        PortOrder::Number => "  PORT".to_owned(),
        _ => mark(PortOrder::Name, "  PORT"),
    };
    Row::new([
        Text::from(port),
        Text::from("LINK"),
        right("RX f/s".to_owned()),
        right(mark(PortOrder::Received, "bit/s")),
        right("TX f/s".to_owned()),
        right(mark(PortOrder::Sent, "bit/s")),
        right(mark(PortOrder::Drops, "DROPS")),
        Text::from("MOSTLY"),
    ])
    .style(app.theme.style(StyleRole::Dim))
}

fn row<'a>(app: &App, row: &PortRow<'a>, names: u16) -> Row<'a> {
    let (state, style) = match row.port.operstate.as_str() {
        "UP" if row.port.blocked.is_some() => ("loop", StyleRole::Bad),
        "UP" if !row.port.throttled.is_empty() => ("slow", StyleRole::Warn),
        "UP" => ("up", StyleRole::Good),
        "DOWN" => ("down", StyleRole::Bad),
        _ => ("gone", StyleRole::Bad),
    };
    let activity = match row.activity {
        Activity::Idle => Span::styled("· ", app.theme.style(StyleRole::Dim)),
        Activity::Unicast => Span::styled("● ", app.theme.style(StyleRole::Good)),
        Activity::Flood => Span::styled("◉ ", app.theme.style(StyleRole::Warn)),
    };
    let drops = match (row.dropped, row.rates.drops) {
        (0, _) => app.theme.style(StyleRole::Dim),
        (_, 0) => Style::new(),
        _ => app.theme.style(StyleRole::Bad),
    };
    let selected = app.selected() == Some(row.port.ifname.as_str());
    let name = if selected { app.theme.style(StyleRole::Selected) } else { Style::new() };
    let dropped = Text::styled(aligned(row.dropped), drops).right_aligned();
    let [rx_frames, rx_bits] = numbers(app, row.rates.rx);
    let [tx_frames, tx_bits] = numbers(app, row.rates.tx);
    Row::new([
        Text::from(Line::from(vec![activity, Span::styled(fit(&row.port.ifname, names.into()), name)])),
        Text::styled(state, app.theme.style(style)),
        rx_frames,
        rx_bits,
        tx_frames,
        tx_bits,
        dropped,
        mostly(app, row, drops),
    ])
}

/// Why the port is blocked, throttled or impaired, what is mirrored, or the reason of most of its drops.
fn mostly<'a>(app: &App, row: &PortRow<'a>, drops: Style) -> Text<'a> {
    if let Some(block) = &row.port.blocked {
        return Text::styled(format!("blocked: {} s left", block.remaining), app.theme.style(StyleRole::Bad));
    }
    if let Some(reason) = row.port.down_reason() {
        return Text::styled(reason, app.theme.style(StyleRole::Bad));
    }
    let warning = match (row.port.throttled.first(), row.port.impairment.describe()) {
        (Some(why), _) => format!("throttled: {}", why.name()),
        (None, Some(impairment)) => format!("impaired: {impairment}"),
        (None, None) if !row.port.mirroring.is_none() => row.port.mirroring.describe().unwrap_or_default(),
        (None, None) => return Text::styled(row.reason.unwrap_or("-"), drops),
    };
    Text::styled(warning, app.theme.style(StyleRole::Warn))
}

fn numbers(app: &App, rate: TrafficRate) -> [Text<'static>; 2] {
    [rate.frames, rate.bits].map(|rate| {
        let style = if rate == 0 { app.theme.style(StyleRole::Dim) } else { Style::new() };
        Text::styled(aligned(rate), style).right_aligned()
    })
}

/// Aligned, with or without a unit prefix.
fn aligned(rate: u64) -> String {
    let text = scaled(rate);
    if text.ends_with(' ') { text + " " } else { text }
}
