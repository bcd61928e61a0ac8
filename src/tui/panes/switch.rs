//! The drawing: the switch in the middle, its ports beside it, and the addresses behind each port.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{FRAME, VisibleRows, block, fit, name_width};
use crate::control::report::FdbReport;
use crate::tui::app::{App, Pane};
use crate::tui::rows::PortRow;
use crate::tui::theme::StyleRole;
use crate::tui::traffic::Activity;

/// Columns of the switch, and of an address with its blank.
const CHASSIS: usize = 12;
const ADDRESS: usize = 18;
/// Columns between a port's name and the switch: a blank, the activity symbol, the wire.
const WIRE: usize = 4;
/// Least columns for the names of ports.
const NAME: usize = 6;

/// Side of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DrawingSide {
    Left,
    Right,
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let ports = app.port_rows();
    let pairs: Vec<&[PortRow<'_>]> = ports.chunks(2).collect();
    let window = VisibleRows::of(app, Pane::Switch, pairs.len(), area.height.saturating_sub(FRAME));
    let half = usize::from(area.width.saturating_sub(FRAME)).saturating_sub(CHASSIS) / 2;
    let drawing = SwitchDrawing {
        app,
        names: name_width(ports.iter().map(|row| row.port.ifname.as_str()), NAME, area.width),
        half,
    };
    let shown = pairs.iter().skip(window.first).take(window.visible).enumerate();
    let middle = pairs.len().min(window.visible).saturating_sub(1) / 2;
    let lines: Vec<Line<'_>> = shown.map(|(i, pair)| drawing.line(pair, i == middle)).collect();
    let block = block(app, Pane::Switch, "switch", window);
    if lines.is_empty() {
        let nothing = Line::styled(" no ports", app.theme.style(StyleRole::Dim));
        frame.render_widget(Paragraph::new(nothing).block(block), area);
    } else {
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}

/// What the lines share.
struct SwitchDrawing<'a> {
    app: &'a App,
    names: usize,
    half: usize,
}

impl SwitchDrawing<'_> {
    fn line(&self, pair: &[PortRow<'_>], is_middle: bool) -> Line<'static> {
        let mut spans = match pair.first() {
            Some(port) => self.side(port, DrawingSide::Left),
            None => Vec::new(),
        };
        let name = if is_middle { fit(&self.app.snapshot.status.name, CHASSIS - 2) } else { String::new() };
        spans.push(Span::styled(format!("{name:^CHASSIS$}"), self.app.theme.style(StyleRole::Chassis)));
        if let Some(port) = pair.get(1) {
            spans.extend(self.side(port, DrawingSide::Right));
        }
        Line::from(spans)
    }

    /// From the edge of the screen to the switch; on the right side, the reverse.
    fn side(&self, row: &PortRow<'_>, side: DrawingSide) -> Vec<Span<'static>> {
        let theme = self.app.theme;
        let name = fit(&row.port.ifname, self.names);
        let mut spans = self.addresses(row, self.half.saturating_sub(self.names + 1 + WIRE));
        let used: usize = spans.iter().map(Span::width).sum();
        let blank = " ".repeat(self.half.saturating_sub(used + self.names + 1 + WIRE));
        let (activity, wire, style) = wire(row);
        let style = theme.style(style);
        let cable = match side {
            DrawingSide::Left => format!(" {activity}{wire}"),
            DrawingSide::Right => format!("{wire}{activity} "),
        };
        let name = match side {
            DrawingSide::Left => format!(" {name:>width$}", width = self.names),
            DrawingSide::Right => format!("{name:<width$} ", width = self.names),
        };
        match side {
            DrawingSide::Left => {
                spans.reverse();
                spans.insert(0, Span::raw(blank));
                spans.extend([Span::raw(name), Span::styled(cable, style)]);
                spans
            }
            DrawingSide::Right => {
                let mut from_switch = vec![Span::styled(cable, style), Span::raw(name)];
                from_switch.append(&mut spans);
                from_switch
            }
        }
    }

    /// As many addresses as fit, the newest next to the port.
    fn addresses(&self, row: &PortRow<'_>, width: usize) -> Vec<Span<'static>> {
        let mut behind: Vec<(Option<StyleRole>, &FdbReport)> = Vec::new();
        for entry in self.app.snapshot.fdb.iter().filter(|entry| entry.ifname == row.port.ifname) {
            behind.push((self.app.freshness((entry.mac, entry.vlan)), entry));
        }
        behind.sort_by_key(|(fresh, entry)| (fresh.is_none(), entry.mac.0, entry.vlan));
        let all_fit = behind.len() * ADDRESS <= width;
        let fitting = if all_fit { behind.len() } else { width.saturating_sub(7) / ADDRESS };
        let mut spans = Vec::new();
        for (fresh, entry) in behind.iter().take(fitting) {
            let style = fresh.map_or_else(Style::new, |role| self.app.theme.style(role));
            spans.extend([Span::styled(entry.mac.to_string(), style), Span::raw(" ")]);
        }
        if behind.len() > fitting {
            let more = fit(&format!("+{}", behind.len() - fitting), 6);
            spans.extend([Span::styled(more, self.app.theme.style(StyleRole::Dim)), Span::raw(" ")]);
        }
        spans
    }
}

/// The activity symbol, the wire and their style: readable without colours.
fn wire(row: &PortRow<'_>) -> (&'static str, &'static str, StyleRole) {
    match (row.port.operstate.as_str(), row.activity) {
        ("UP", Activity::Idle) => ("○", "──", StyleRole::Dim),
        ("UP", Activity::Unicast) => ("●", "━━", StyleRole::Good),
        ("UP", Activity::Flood) => ("◉", "══", StyleRole::Warn),
        _ => ("✕", "╌╌", StyleRole::Bad),
    }
}
