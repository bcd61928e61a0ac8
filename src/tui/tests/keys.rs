//! Effects of keys.

use super::*;

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
fn flush_asks_for_confirmation() {
    let mut app = busy(NARROW);
    type_in(&mut app, "f");
    assert!(picture(&app).contains("y/n"));
    assert_eq!(press(&mut app, KeyCode::Char('n')), None);
    type_in(&mut app, "f");
    assert_eq!(press(&mut app, KeyCode::Char('y')), Some(KeyAction::Flush));
    assert_eq!(app.mode, InputMode::Normal);
    app.show_message("3 entries deleted".to_owned());
    assert!(picture(&app).contains("3 entries deleted"));
    press(&mut app, KeyCode::Tab);
    assert!(!picture(&app).contains("deleted"), "a key, and it is gone");
}

#[test]
fn prompts_pass_on_other_keys() {
    let mut app = busy(NARROW);
    type_in(&mut app, "f");
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(KeyAction::Quit), "from the prompt");
    type_in(&mut app, "f");
    press(&mut app, KeyCode::Tab);
    assert_eq!((app.mode, app.focus), (InputMode::Normal, Pane::Fdb), "no flush, and the next pane");
    type_in(&mut app, "f");
    assert_eq!(press(&mut app, KeyCode::Esc), None);
    assert_eq!(app.mode, InputMode::Normal);
    type_in(&mut app, "?p");
    assert!(app.is_paused() && app.mode == InputMode::Normal, "from the help");
    type_in(&mut app, "?");
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(KeyAction::Quit));
    app.focus = Pane::Ports;
    type_in(&mut app, "/container");
    press(&mut app, KeyCode::Down);
    assert_eq!(app.selected(), Some("container1"), "a port is selected while the filter is typed");
    assert_eq!((app.mode, app.filter.as_str()), (InputMode::Filter, "container"));
    type_in(&mut app, "q");
    assert_eq!(app.filter, "containerq", "letters are part of the filter");
}

#[test]
fn quits_on_q_and_ctrl_c() {
    let mut app = busy(NARROW);
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(KeyAction::Quit));
    type_in(&mut app, "/q");
    assert_eq!(app.filter, "q");
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.on_key(ctrl_c), Some(KeyAction::Quit), "whatever is asked or typed");
}
