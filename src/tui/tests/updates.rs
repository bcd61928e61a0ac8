//! Effects of snapshots, events and time.

use super::*;

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
