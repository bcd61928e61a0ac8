//! Snapshots of the screen with fixed data, and the effects of keys.

mod keys;
mod screens;
mod updates;

use std::time::Duration;

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;

use super::app::{App, InputMode, KeyAction, Pane};
use super::capture::CaptureProgress;
use super::panes;
use super::rows::{FdbOrder, PortOrder};
use super::snapshot::Snapshot;
use super::theme::Theme;
use super::traffic::Activity;
use crate::control::config::Labels;
use crate::control::event::{Event, EventType};
use crate::control::report::{
    FdbReport, GatewayReport, PortBlock, PortReport, PortStats, Status, SwitchState, Throttled,
};
use crate::switch::DropReason;
use crate::wire::Mac;

pub(super) const NARROW: Size = Size::new(80, 24);
const WIDE: Size = Size::new(120, 40);

fn name(port: u8) -> String {
    if port == 0 { "host".to_owned() } else { format!("container{port}") }
}

fn mac(host: u8) -> Mac {
    Mac([0x02, 0xde, 0xa5, 0xad, 0x00, host])
}

fn port(number: u8) -> PortReport {
    PortReport { ifname: name(number), address: mac(number), ..PortReport::example(number) }
}

fn stats(number: u8) -> PortStats {
    PortStats {
        ifname: name(number),
        drops: DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), 0)).collect(),
        ..PortStats::default()
    }
}

fn entry(host: u8, updated: Option<u32>) -> FdbReport {
    let state = if updated.is_some() { "" } else { "permanent" };
    FdbReport {
        mac: mac(host),
        ifname: name(host),
        vlan: None,
        flags: Vec::new(),
        master: "uswitch0".into(),
        state: state.into(),
        updated,
    }
}

#[allow(clippy::too_many_lines, reason = "a line for each field")]
fn status() -> Status {
    Status {
        name: "uswitch0".into(),
        version: "0.1.0".into(),
        pid: 1,
        uptime: 192,
        vlan_filtering: false,
        vlan_stats_per_port: false,
        sandboxed: false,
        engine: "io_uring".into(),
        engine_note: None,
        fast_path: false,
        fast_path_note: None,
        workers: 1,
        cpus: vec![1],
        subnets: Vec::new(),
        gateway: GatewayReport { mac: mac(0), addresses: Vec::new() },
        vlan_gateways: Vec::new(),
        labels: Labels::new(),
        mac_prefix: "02:de:a5:ad".to_owned(),
        nat: false,
        internal: false,
        dhcp: None,
        dns: None,
        router_advertisements: None,
        guard: true,
        guard_off: 0,
        guard_off_ports: Vec::new(),
        loop_detection: true,
        mtu: 1500,
        ports: 4,
        ports_up: 4,
        fdb: 3,
        fdb_max: 8192,
        ageing_time: 300,
        rx_frames: 0,
        rx_bytes: 0,
        lost_notices: 0,
        state: SwitchState::Running,
        stalled_workers: Vec::new(),
        nat_fault: None,
        lost_events: 0,
    }
}

/// The host and `containers` containers at a time in milliseconds; the FDB has only the gateway.
fn quiet(containers: u8, millis: u64) -> Snapshot {
    Snapshot {
        taken: Duration::from_millis(millis),
        status: status(),
        ports: (0..=containers).map(port).collect(),
        stats: (0..=containers).map(stats).collect(),
        fdb: vec![entry(0, None)],
    }
}

fn app(snapshot: Snapshot, size: Size) -> App {
    let mut app = App::new(snapshot, Theme::Coloured, TimeZone::UTC);
    app.resize(size);
    app
}

fn event(kind: EventType, port: u8, host: Option<u8>) -> Event {
    let time = "2026-11-21T12:00:00.120Z".parse().unwrap();
    Event { ifname: Some(name(port)), mac: host.map(mac), ..Event::at(time, kind) }
}

/// Four ports: two containers exchange frames; the third is down, and its frames were dropped.
pub(super) fn busy(size: Size) -> App {
    let mut app = app(quiet(3, 0), size);
    let mut later = quiet(3, 1000);
    for (number, bytes) in [(1, 1_250_000_000), (2, 12_500)] {
        let (frames, other) = (bytes / 100, 3 - number);
        (later.stats[number].rx_frames, later.stats[number].rx_bytes) = (frames, bytes);
        (later.stats[other].tx_frames, later.stats[other].tx_bytes) = (frames, bytes);
        later.status.rx_frames += frames;
        later.status.rx_bytes += bytes;
    }
    later.ports[3].operstate = "DOWN".into();
    later.stats[3].drops.insert("spoofed_gateway".into(), 994);
    later.fdb.extend([entry(1, Some(0)), entry(2, Some(75)), entry(3, Some(280))]);
    app.on_snapshot(later);
    app.on_event(event(EventType::Learned, 1, Some(1)));
    let other = Some(name(1));
    app.on_event(Event { other, vlan: Some(7), ..event(EventType::Moved, 3, Some(3)) });
    let (reason, count) = (Some("spoofed_gateway".into()), Some(994));
    app.on_event(Event { reason, count, ..event(EventType::Dropped, 3, None) });
    app
}

fn press(app: &mut App, code: KeyCode) -> Option<KeyAction> {
    app.on_key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_in(app: &mut App, text: &str) {
    for c in text.chars() {
        assert_eq!(press(app, KeyCode::Char(c)), None);
    }
}

/// The text on the screen, without colours.
fn picture(app: &App) -> String {
    let mut terminal = Terminal::new(TestBackend::new(app.size.width, app.size.height)).unwrap();
    terminal.draw(|frame| panes::draw(frame, app)).unwrap();
    terminal.backend().to_string()
}
