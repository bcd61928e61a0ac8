//! Snapshots of the screen with fixed data, and the effects of keys.

use std::time::Duration;

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;

use super::app::{Action, App, Mode, Pane};
use super::capture::CaptureProgress;
use super::panes;
use super::rows::{FdbOrder, PortOrder};
use super::snapshot::Snapshot;
use super::theme::Theme;
use super::traffic::Activity;
use crate::control::event::{Event, EventType};
use crate::control::report::{
    BridgePort, FdbReport, GatewayReport, PortReport, PortStats, Status, SwitchState,
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
    PortReport {
        ifindex: u32::from(number) + 1,
        link: "eth0".into(),
        ifname: name(number),
        flags: Vec::new(),
        mtu: 1500,
        fault: None,
        master: "uswitch0".into(),
        state: "forwarding".into(),
        bridge: BridgePort::default(),
        operstate: "UP".into(),
        address: mac(number),
        addresses: vec![format!("172.16.0.{}/24", number + 1).parse().unwrap()],
        device_ifindex: 2,
        netns: None,
        netns_ino: None,
        offload: true,
        source_guard: true,
        throttled: Vec::new(),
    }
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

fn status() -> Status {
    Status {
        name: "uswitch0".into(),
        version: "0.1.0".into(),
        pid: 1,
        uptime: 192,
        sandboxed: false,
        engine: "io_uring".into(),
        engine_note: None,
        workers: 1,
        cpus: vec![1],
        subnets: Vec::new(),
        gateway: GatewayReport { mac: mac(0), addresses: Vec::new() },
        nat: false,
        internal: false,
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

fn press(app: &mut App, code: KeyCode) -> Option<Action> {
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

#[test]
fn draws_80x24() {
    insta::assert_snapshot!(picture(&busy(NARROW)));
}

#[test]
fn draws_120x40() {
    insta::assert_snapshot!(picture(&busy(WIDE)));
}

#[test]
fn draws_help() {
    let mut app = busy(NARROW);
    type_in(&mut app, "?");
    insta::assert_snapshot!(picture(&app));
    assert_eq!(press(&mut app, KeyCode::Char('?')), None);
    assert_eq!(app.mode, Mode::Normal, "closed");
}

#[test]
fn draws_filtered() {
    let mut app = busy(NARROW);
    type_in(&mut app, "/Container3");
    insta::assert_snapshot!(picture(&app));
    press(&mut app, KeyCode::Backspace);
    press(&mut app, KeyCode::Enter);
    assert_eq!((app.filter.as_str(), app.mode), ("container", Mode::Normal));
    assert_eq!((app.count(Pane::Ports), app.count(Pane::Fdb), app.count(Pane::Events)), (3, 3, 3));
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.count(Pane::Ports), 4);
}

#[test]
fn draws_switch_without_containers() {
    let nothing = Snapshot { ports: Vec::new(), stats: Vec::new(), fdb: Vec::new(), ..quiet(0, 0) };
    insta::assert_snapshot!(picture(&app(nothing, NARROW)));
}

#[test]
fn draws_many_ports() {
    let mut app = app(quiet(200, 0), WIDE);
    press(&mut app, KeyCode::PageDown);
    press(&mut app, KeyCode::PageDown);
    insta::assert_snapshot!(picture(&app));
}

#[test]
fn draws_every_size() {
    for (width, height) in [(1, 1), (20, 5), (59, 40), (60, 16), (60, 200), (118, 16), (300, 20)] {
        for zoomed in [false, true] {
            let mut app = busy(Size::new(width, height));
            app.zoomed = zoomed;
            let picture = picture(&app);
            let too_small = width < 60 || height < 16;
            assert_eq!(picture.contains("uswitch0"), !too_small, "{width} x {height}: {picture}");
        }
    }
    assert!(picture(&busy(Size::new(50, 10))).contains("too small"));
}

#[test]
fn monochrome_draws_the_same_text() {
    let mut monochrome = busy(WIDE);
    monochrome.theme = Theme::Monochrome;
    assert_eq!(picture(&monochrome), picture(&busy(WIDE)));
}

#[test]
fn flood_marks_all_ports_and_unicast_marks_two() {
    let mut app = app(quiet(3, 0), NARROW);
    let activities = |app: &App| app.port_rows().iter().map(|row| row.activity).collect::<Vec<_>>();
    let mut now = quiet(3, 500);
    (now.stats[1].rx_frames, now.stats[2].tx_frames) = (1, 1);
    app.on_snapshot(now.clone());
    assert_eq!(activities(&app), [Activity::Idle, Activity::Unicast, Activity::Unicast, Activity::Idle]);
    now.taken = Duration::from_millis(2000);
    (now.stats[3].rx_frames, now.stats[3].flooded) = (1, 1);
    for other in [0, 1, 2] {
        now.stats[other].tx_frames += 1;
    }
    app.on_snapshot(now);
    assert_eq!(activities(&app), [Activity::Flood; 4]);
    app.tick(Duration::from_secs(4));
    assert_eq!(activities(&app), [Activity::Idle; 4]);
}

#[test]
fn averages_rates_over_two_seconds() {
    let mut app = app(quiet(1, 0), NARROW);
    for step in 1..=10 {
        let mut now = quiet(1, step * 500);
        // 1000 frames of 100 bytes a second for three seconds.
        (now.stats[1].rx_frames, now.stats[1].rx_bytes) = (500 * step.min(6), 50_000 * step.min(6));
        app.on_snapshot(now);
        let rate = app.traffic.of_port("container1").rx;
        let expected =
            [1000, 1000, 1000, 1000, 1000, 1000, 750, 500, 250, 0][usize::try_from(step).unwrap() - 1];
        assert_eq!((rate.frames, rate.bits), (expected, expected * 800), "after {} ms", step * 500);
    }
}

#[test]
fn highlights_new_entries_for_three_seconds() {
    let mut app = app(quiet(3, 0), NARROW);
    let mut now = quiet(3, 500);
    now.fdb.push(entry(1, Some(0)));
    app.on_snapshot(now.clone());
    let new = app.freshness((mac(1), None));
    assert!(new.is_some() && app.freshness((mac(0), None)).is_none(), "the gateway was there");
    app.tick(Duration::from_millis(2000));
    let recent = app.freshness((mac(1), None));
    assert!(recent.is_some() && recent != new);
    app.tick(Duration::from_millis(4000));
    assert_eq!(app.freshness((mac(1), None)), None);
    now.taken = Duration::from_millis(4500);
    now.fdb[1].ifname = name(2);
    app.on_snapshot(now);
    assert_eq!(app.freshness((mac(1), None)), new, "it moved");
}

#[test]
fn keys_select_pane_and_sort_order() {
    let mut app = busy(NARROW);
    let mut visited = vec![app.focus];
    for _ in 0..4 {
        press(&mut app, KeyCode::Tab);
        visited.push(app.focus);
    }
    assert_eq!(visited, [Pane::Ports, Pane::Fdb, Pane::Events, Pane::Switch, Pane::Ports]);
    press(&mut app, KeyCode::Char('s'));
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(app.port_order, PortOrder::Received);
    let names: Vec<&str> = app.port_rows().iter().map(|row| row.port.ifname.as_str()).collect();
    assert_eq!(names, ["container1", "container2", "host", "container3"]);
    press(&mut app, KeyCode::Right);
    press(&mut app, KeyCode::Char('s'));
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(app.fdb_order, FdbOrder::Age);
    let ages: Vec<_> = app.fdb_rows().iter().map(|entry| entry.updated).collect();
    assert_eq!(ages, [Some(0), Some(75), Some(280), None]);
    press(&mut app, KeyCode::Left);
    assert_eq!(app.focus, Pane::Ports);
    press(&mut app, KeyCode::Enter);
    assert!(app.zoomed && !picture(&app).contains("events"));
    press(&mut app, KeyCode::Esc);
    assert!(!app.zoomed);
}

#[test]
fn scrolling_stops_at_both_ends() {
    let mut app = app(quiet(100, 0), NARROW);
    app.focus = Pane::Switch;
    let first = |app: &App| app.scrolled(app.focus, 51, panes::page(app, app.focus));
    press(&mut app, KeyCode::Up);
    assert_eq!(first(&app), 0);
    press(&mut app, KeyCode::Down);
    assert_eq!(first(&app), 1);
    press(&mut app, KeyCode::End);
    press(&mut app, KeyCode::Down);
    let last = 51 - panes::page(&app, Pane::Switch);
    assert_eq!(first(&app), last);
    assert!(picture(&app).contains("51 of 51"));
    press(&mut app, KeyCode::Up);
    assert_eq!(first(&app), last - 1);
    press(&mut app, KeyCode::Home);
    assert_eq!(first(&app), 0);
}

#[test]
fn selected_port_stays_visible() {
    let mut app = app(quiet(100, 0), NARROW);
    assert_eq!(app.selected(), None);
    let mut after = |key| {
        press(&mut app, key);
        let selected = app.selected().unwrap().to_owned();
        assert!(picture(&app).contains(&format!("· {selected} ")), "{}", picture(&app));
        selected
    };
    assert_eq!(
        [KeyCode::Down, KeyCode::Down, KeyCode::Up, KeyCode::Up].map(&mut after)[1..],
        [name(1), name(0), name(0)]
    );
    assert_eq!([KeyCode::End, KeyCode::Down].map(&mut after), [name(100), name(100)]);
    assert_eq!(
        [KeyCode::Char('s'), KeyCode::Char('s')].map(&mut after),
        [name(100), name(100)],
        "wherever it goes"
    );
    assert_eq!(after(KeyCode::Home), name(0));
    type_in(&mut app, "/container7");
    assert_eq!(app.selected(), None, "it is not shown");
    for _ in 0..2 {
        press(&mut app, KeyCode::Esc);
    }
    assert_eq!(app.selected(), None, "none is chosen");
}

#[test]
fn draws_capture() {
    let mut app = busy(NARROW);
    assert!(picture(&app).contains(" c capture all "));
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Down);
    assert!(picture(&app).contains(" c capture container1 "));
    let now = "2026-11-21T15:45:00Z".parse().unwrap();
    let request = app.request(now);
    assert_eq!((request.switch.as_str(), request.port.as_deref()), ("uswitch0", Some("container1")));
    assert_eq!(press(&mut app, KeyCode::Char('c')), Some(Action::Capture));
    let path = "/root/uswitch0-container1-20261121-154500.pcapng";
    app.capture = Some(CaptureProgress { path: Some(path.into()), frames: 1234, bytes: 1_234_567, lost: 5 });
    insta::assert_snapshot!(picture(&app));
    app.capture = None;
    app.show_message(format!("captured 1234 frames, 1.23 MB, 5 lost\n{path}"));
    assert!(picture(&app).contains(path));
    press(&mut app, KeyCode::Tab);
    assert!(!picture(&app).contains(path), "a key, and it is gone");
    assert!(picture(&app).contains(" c capture all "), "the forwarding database has no ports to choose");
    assert_eq!(app.request(now).port, None);
}

#[test]
fn narrow_footer_shows_most_important_keys() {
    for (width, last) in [(60, "/ filter"), (80, "s sort"), (120, "f flush")] {
        let picture = picture(&busy(Size::new(width, 24)));
        let keys = picture.lines().last().unwrap().to_owned();
        assert!(keys.contains("q quit  ? help  c capture all") && keys.contains(last), "{keys}");
    }
}

#[test]
fn flush_asks_for_confirmation() {
    let mut app = busy(NARROW);
    type_in(&mut app, "f");
    assert!(picture(&app).contains("y/n"));
    assert_eq!(press(&mut app, KeyCode::Char('n')), None);
    type_in(&mut app, "f");
    assert_eq!(press(&mut app, KeyCode::Char('y')), Some(Action::Flush));
    assert_eq!(app.mode, Mode::Normal);
    app.show_message("3 entries deleted".to_owned());
    assert!(picture(&app).contains("3 entries deleted"));
    press(&mut app, KeyCode::Tab);
    assert!(!picture(&app).contains("deleted"), "a key, and it is gone");
}

#[test]
fn prompts_pass_on_other_keys() {
    let mut app = busy(NARROW);
    type_in(&mut app, "f");
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(Action::Quit), "from the prompt");
    type_in(&mut app, "f");
    press(&mut app, KeyCode::Tab);
    assert_eq!((app.mode, app.focus), (Mode::Normal, Pane::Fdb), "no flush, and the next pane");
    type_in(&mut app, "f");
    assert_eq!(press(&mut app, KeyCode::Esc), None);
    assert_eq!(app.mode, Mode::Normal);
    type_in(&mut app, "?p");
    assert!(app.is_paused() && app.mode == Mode::Normal, "from the help");
    type_in(&mut app, "?");
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(Action::Quit));
    app.focus = Pane::Ports;
    type_in(&mut app, "/container");
    press(&mut app, KeyCode::Down);
    assert_eq!(app.selected(), Some("container1"), "a port is selected while the filter is typed");
    assert_eq!((app.mode, app.filter.as_str()), (Mode::Filter, "container"));
    type_in(&mut app, "q");
    assert_eq!(app.filter, "containerq", "letters are part of the filter");
}

#[test]
fn shows_full_port_names_and_ip_addresses() {
    let mut app = app(quiet(12, 0), WIDE);
    let mut now = quiet(12, 500);
    now.fdb.push(entry(12, Some(3)));
    now.ports[12].addresses.insert(0, "fd00:172:16::d/64".parse().unwrap());
    now.status.gateway.addresses = vec!["172.16.0.1".parse().unwrap()];
    app.on_snapshot(now);
    app.on_event(event(EventType::Learned, 12, Some(12)));
    app.focus = Pane::Fdb;
    let picture = picture(&app);
    assert!(!picture.contains('…'), "{picture}");
    let line = |text: &str| picture.lines().find(|line| line.contains(text)).map(str::to_owned);
    let found = line("container12  172.16.0.13 fd00:172:16::d")
        .or_else(|| line("container12 172.16.0.13 fd00:172:16::d"));
    assert!(found.is_some(), "{picture}");
    assert!(picture.contains("172.16.0.1 "), "the gateway's: {picture}");
    assert!(line("learned ").is_some_and(|line| line.contains("container12  02:de")), "{picture}");
    type_in(&mut app, "/172.16.0.13");
    assert_eq!(app.fdb_rows().len(), 1, "the filter matches IP addresses");
}

#[test]
fn quits_on_q_and_ctrl_c() {
    let mut app = busy(NARROW);
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(Action::Quit));
    type_in(&mut app, "/q");
    assert_eq!(app.filter, "q");
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.on_key(ctrl_c), Some(Action::Quit), "whatever is asked or typed");
}

#[test]
fn pause_freezes_display_and_loses_nothing() {
    let mut app = busy(NARROW);
    type_in(&mut app, "p");
    let (still, events) = (app.port_rows().len(), app.events.len());
    app.on_snapshot(quiet(7, 1500));
    app.on_event(event(EventType::PortUp, 3, None));
    app.tick(Duration::from_secs(9));
    assert_eq!((app.port_rows().len(), app.events.len()), (still, events));
    assert!(picture(&app).contains("paused"));
    press(&mut app, KeyCode::Char(' '));
    assert_eq!((app.port_rows().len(), app.events.len()), (8, events + 1));
}

#[test]
fn bounds_events_and_follows_until_scrolled() {
    let mut app = app(quiet(3, 0), NARROW);
    for _ in 0..3 {
        for count in 0..1000 {
            app.on_event(Event { count: Some(count), ..event(EventType::Lost, 1, None) });
        }
    }
    assert_eq!(app.events.len(), 1000);
    assert!(picture(&app).contains("999 events suppressed"));
    app.focus = Pane::Events;
    press(&mut app, KeyCode::Home);
    let first = picture(&app);
    assert!(first.contains(" 0 events suppressed") && !first.contains("999 events"), "{first}");
    app.on_events_ended("16 already follow".to_owned());
    press(&mut app, KeyCode::End);
    assert!(picture(&app).contains("16 already follow"));
}
