//! Snapshots of the screen.

use super::*;

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
    assert_eq!(app.mode, InputMode::Normal, "closed");
}

#[test]
fn draws_filtered() {
    let mut app = busy(NARROW);
    type_in(&mut app, "/Container3");
    insta::assert_snapshot!(picture(&app));
    press(&mut app, KeyCode::Backspace);
    press(&mut app, KeyCode::Enter);
    assert_eq!((app.filter.as_str(), app.mode), ("container", InputMode::Normal));
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
fn shows_why_a_port_is_blocked_throttled_or_reserved() {
    let mut snapshot = quiet(3, 0);
    snapshot.ports[1].blocked = Some(PortBlock { mac: mac(2), other: name(2), remaining: 4 });
    snapshot.ports[2].throttled = vec![Throttled::Egress];
    snapshot.ports[3].mirroring.destination = true;
    let picture = picture(&app(snapshot, WIDE));
    let shows = |port, words: [&str; 2]| {
        let mut rows = picture.lines().filter(|line| line.contains(&name(port)));
        assert!(rows.any(|row| words.iter().all(|word| row.contains(word))), "{picture}");
    };
    shows(1, ["loop", "blocked: 4 s left"]);
    shows(2, ["slow", "throttled: egress"]);
    shows(3, ["up", "destination of a mirror"]);
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
fn draws_capture() {
    let mut app = busy(NARROW);
    assert!(picture(&app).contains(" c capture all "));
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Down);
    assert!(picture(&app).contains(" c capture container1 "));
    let now = "2026-11-21T15:45:00Z".parse().unwrap();
    let request = app.request(now);
    assert_eq!((request.switch.as_str(), request.port.as_deref()), ("uswitch0", Some("container1")));
    assert_eq!(press(&mut app, KeyCode::Char('c')), Some(KeyAction::Capture));
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
