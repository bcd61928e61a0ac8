//! The events pane, the latest event last.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{FRAME, VisibleRows, block, fit, name_width};
use crate::control::event::{Event, EventType};
use crate::tui::app::{App, Pane};
use crate::tui::theme::StyleRole;

/// Least columns for the name of a port.
const NAME: usize = 10;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let events = app.shown_events();
    let from_end = VisibleRows::of(app, Pane::Events, events.len(), area.height.saturating_sub(FRAME));
    let end = events.len() - from_end.first;
    let window = VisibleRows { first: end.saturating_sub(from_end.visible), ..from_end };
    let shown = &events[window.first..end];
    let names = shown.iter().filter_map(|event| event.ifname.as_deref());
    let width = name_width(names, NAME, area.width);
    let mut lines: Vec<Line<'_>> = shown.iter().map(|event| line(app, event, width)).collect();
    if let Some(why) = &app.events_ended {
        lines.push(Line::styled(format!(" no more events: {why}"), app.theme.style(StyleRole::Warn)));
        lines.drain(..lines.len().saturating_sub(window.visible));
    } else if lines.is_empty() {
        lines.push(Line::styled(" no events yet", app.theme.style(StyleRole::Dim)));
    }
    frame.render_widget(Paragraph::new(lines).block(block(app, Pane::Events, "events", window)), area);
}

fn line(app: &App, event: &Event, width: usize) -> Line<'static> {
    let time = event.time.to_zoned(app.zone.clone()).strftime("%T").to_string();
    let port = fit(event.ifname.as_deref().unwrap_or("-"), width);
    let mac = event.mac.map(|mac| mac.to_string());
    let vlan = event.vlan.map(|vlan| format!("vlan {vlan}"));
    let rest = [mac, vlan, event.detail()].into_iter().flatten().collect::<Vec<_>>().join("  ");
    Line::from(vec![
        Span::styled(format!(" {time}  "), app.theme.style(StyleRole::Dim)),
        Span::styled(format!("{:<12}  ", event.kind.name()), app.theme.style(role(event.kind))),
        Span::raw(format!("{port:<width$}  {rest}")),
    ])
}

#[allow(clippy::too_many_lines, reason = "a line for each type")]
fn role(kind: EventType) -> StyleRole {
    match kind {
        EventType::Learned
        | EventType::Returned
        | EventType::FdbAdded
        | EventType::PortAdded
        | EventType::PortUp
        | EventType::StpState
        | EventType::PortUnblocked
        | EventType::MdbAdded
        | EventType::MdbRouterAdded
        | EventType::UplinkLearned
        | EventType::MdbQuerier
        | EventType::DhcpLeased
        | EventType::WorkerRecovered => StyleRole::Good,
        EventType::Aged
        | EventType::MdbRemoved
        | EventType::MdbRouterRemoved
        | EventType::DhcpRenewed
        | EventType::DhcpEnded
        | EventType::UplinkForgotten => StyleRole::Dim,
        EventType::Moved
        | EventType::UplinkMoved
        | EventType::Flooded
        | EventType::Throttled
        | EventType::FdbRemoved
        | EventType::FdbFlushed
        | EventType::PortRemoved
        | EventType::PortChanged
        | EventType::NatRestored
        | EventType::MdbFull
        | EventType::StpRoot
        | EventType::TopologyChange
        | EventType::RootBlock
        | EventType::Lost => StyleRole::Warn,
        EventType::Evicted
        | EventType::Refused
        | EventType::Dropped
        | EventType::PortDown
        | EventType::LoopDetected
        | EventType::PortGone
        | EventType::WorkerStalled
        | EventType::BpduGuard
        | EventType::NatFailed => StyleRole::Bad,
    }
}
