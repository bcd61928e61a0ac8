//! The forwarding database pane: addresses, ports and ages.

use std::net::IpAddr;

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Row, Table};

use super::{FRAME, TABLE, VisibleRows, block, fit, name_width};
use crate::control::report::FdbReport;
use crate::tui::app::{App, Pane};
use crate::tui::rows::FdbOrder;
use crate::tui::theme::StyleRole;

/// Columns of MAC address, least for the port, IP address (IPv4, and IPv6 too on a wide pane), VLAN and age. The age
/// bar has the rest.
const MAC: u16 = 17;
const PORT: usize = 10;
const IP: u16 = 15;
const IP_WIDE: u16 = 34;
const WIDE_PANE: u16 = 100;
const VLAN: u16 = 4;
const AGE: u16 = 6;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let entries = app.fdb_rows();
    let window = VisibleRows::of(app, Pane::Fdb, entries.len(), area.height.saturating_sub(TABLE));
    let shown: Vec<&FdbReport> = entries.into_iter().skip(window.first).take(window.visible).collect();
    let has_vlans = app.snapshot.status.vlan_filtering;
    let columns = Columns::of(&shown, area.width, has_vlans);
    let widths = columns.widths().map(Constraint::Length);
    let rows: Vec<Row<'_>> = shown.iter().map(|entry| row(app, entry, columns)).collect();
    let title = format!("fdb {} of {}", app.snapshot.status.fdb, app.snapshot.status.fdb_max);
    let block = block(app, Pane::Fdb, &title, window);
    frame.render_widget(Table::new(rows, widths).header(heading(app, columns)).block(block), area);
}

/// Widths that depend on the pane and on its entries.
#[derive(Debug, Clone, Copy)]
struct Columns {
    port: u16,
    ip: u16,
    /// Without VLANs there is no column.
    vlan: Option<u16>,
    bar: u16,
}

impl Columns {
    fn of(entries: &[&FdbReport], width: u16, has_vlans: bool) -> Columns {
        let port = name_width(entries.iter().map(|entry| entry.ifname.as_str()), PORT, width);
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        let ip = if width >= WIDE_PANE { IP_WIDE } else { IP };
        let vlan = has_vlans.then_some(VLAN);
        // A blank between two columns.
        let with_vlan = vlan.map_or(0, |width| width + 1);
        let others = [FRAME, MAC, port, ip, with_vlan, AGE].into_iter().fold(4, u16::saturating_add);
        Columns { port, ip, vlan, bar: width.saturating_sub(others) }
    }

    fn widths(self) -> impl Iterator<Item = u16> {
        [Some(MAC), Some(self.port), Some(self.ip), self.vlan, Some(self.bar), Some(AGE)]
            .into_iter()
            .flatten()
    }
}

fn heading(app: &App, columns: Columns) -> Row<'static> {
    let mark = |order, name: &str| {
        if app.fdb_order == order { format!("{name}▾") } else { name.to_owned() }
    };
    let cells = [
        Some(Text::from(mark(FdbOrder::Mac, "MAC"))),
        Some(Text::from(mark(FdbOrder::Port, "PORT"))),
        Some(Text::from("IP ADDRESS")),
        columns.vlan.map(|_| Text::from("VLAN").right_aligned()),
        Some(Text::from(mark(FdbOrder::Age, "AGE"))),
        Some(Text::from(format!("{} s", app.snapshot.status.ageing_time)).right_aligned()),
    ];
    Row::new(cells.into_iter().flatten()).style(app.theme.style(StyleRole::Dim))
}

fn row<'a>(app: &App, entry: &'a FdbReport, columns: Columns) -> Row<'a> {
    let width = usize::from(columns.bar);
    let fresh = app.freshness((entry.mac, entry.vlan));
    let style = fresh.map_or_else(Style::new, |role| app.theme.style(role));
    let vlan = entry.vlan.map_or_else(String::new, |vlan| vlan.to_string());
    let dim = app.theme.style(StyleRole::Dim);
    let (bar, age) = match entry.updated {
        Some(seconds) => (bar(app, seconds, width), format!("{seconds} s")),
        None => (Line::styled(entry.state.as_str(), dim), String::new()),
    };
    let cells = [
        Some(Text::styled(entry.mac.to_string(), style)),
        Some(Text::from(fit(&entry.ifname, columns.port.into()))),
        Some(Text::from(fit(&addresses(app, entry), columns.ip.into()))),
        columns.vlan.map(|_| Text::from(vlan).right_aligned()),
        Some(Text::from(bar)),
        Some(Text::styled(age, dim).right_aligned()),
    ];
    Row::new(cells.into_iter().flatten())
}

/// The IP addresses, IPv4 first.
fn addresses(app: &App, entry: &FdbReport) -> String {
    let mut addresses = app.addresses_of(entry);
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The part of the ageing time since the last frame.
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
