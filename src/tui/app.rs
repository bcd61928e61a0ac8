//! The state of the screen, and what the keys change. Plain data: no terminal, no clock, no switch.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;

use super::capture::{CaptureProgress, CaptureRequest};
use super::panes;
use super::rows::{FdbOrder, PortOrder};
use super::snapshot::Snapshot;
use super::theme::{StyleRole, Theme};
use super::traffic::TrafficRates;
use crate::control::event::{Event, EventType};
use crate::wire::Mac;

/// Most events that are kept, and that are held back while paused.
const MAX_EVENTS: usize = 1000;
/// How long a new entry is highlighted, and highlighted brightly.
const RECENT: Duration = Duration::from_secs(3);
const NEW: Duration = Duration::from_secs(1);
/// Longest filter, in bytes.
const MAX_FILTER: usize = 40;

/// Requests of keys that other threads carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyAction {
    Quit,
    /// Flush the forwarding database.
    Flush,
    /// Start or stop the capture.
    Capture,
}

/// The parts of the screen that scroll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Switch,
    Ports,
    Fdb,
    Events,
}

impl Pane {
    pub(super) const ALL: [Pane; 4] = [Pane::Switch, Pane::Ports, Pane::Fdb, Pane::Events];

    /// The pane `steps` after this one, cyclically.
    fn after(self, steps: usize) -> Pane {
        Pane::ALL[(self as usize + steps) % Pane::ALL.len()]
    }
}

/// What the keys do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputMode {
    Normal,
    /// Typing the filter.
    Filter,
    /// Confirming the flush.
    ConfirmFlush,
    Help,
}

/// Key of a forwarding database entry: MAC address and VLAN.
pub(super) type FdbRowKey = (Mac, Option<u16>);

/// What arrived while the screen is paused.
#[derive(Debug, Default)]
struct Paused {
    snapshot: Option<Snapshot>,
    events: VecDeque<Event>,
}

/// The state of the screen.
#[derive(Debug)]
pub(super) struct App {
    pub(super) theme: Theme,
    pub(super) zone: TimeZone,
    /// Time since the start of the screen; stands still while paused.
    pub(super) now: Duration,
    pub(super) size: Size,
    pub(super) snapshot: Snapshot,
    pub(super) traffic: TrafficRates,
    pub(super) events: VecDeque<Event>,
    /// Why the stream of events ended.
    pub(super) events_ended: Option<String>,
    pub(super) mode: InputMode,
    pub(super) filter: String,
    pub(super) focus: Pane,
    /// The focused pane fills the screen.
    pub(super) zoomed: bool,
    pub(super) port_order: PortOrder,
    pub(super) fdb_order: FdbOrder,
    /// The running capture.
    pub(super) capture: Option<CaptureProgress>,
    /// The port selected in the ports pane.
    selected: Option<String>,
    /// A message, shown until the next key.
    pub(super) message: Option<String>,
    scroll: [usize; Pane::ALL.len()],
    fresh: BTreeMap<FdbRowKey, Duration>,
    held: Option<Paused>,
}

impl App {
    pub(super) fn new(snapshot: Snapshot, theme: Theme, zone: TimeZone) -> App {
        let mut traffic = TrafficRates::default();
        traffic.take(&snapshot);
        App {
            theme,
            zone,
            now: snapshot.taken,
            size: Size::default(),
            snapshot,
            traffic,
            events: VecDeque::new(),
            events_ended: None,
            mode: InputMode::Normal,
            filter: String::new(),
            focus: Pane::Ports,
            zoomed: false,
            port_order: PortOrder::default(),
            fdb_order: FdbOrder::default(),
            capture: None,
            selected: None,
            message: None,
            scroll: [0; Pane::ALL.len()],
            fresh: BTreeMap::new(),
            held: None,
        }
    }

    /// Sets the time since the start of the screen.
    pub(super) fn tick(&mut self, now: Duration) {
        if self.held.is_none() {
            self.now = now;
        }
    }

    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
    }

    pub(super) fn on_snapshot(&mut self, snapshot: Snapshot) {
        if let Some(held) = &mut self.held {
            held.snapshot = Some(snapshot);
            return;
        }
        let entries = |snapshot: &Snapshot| -> BTreeMap<FdbRowKey, String> {
            snapshot.fdb.iter().map(|entry| ((entry.mac, entry.vlan), entry.ifname.clone())).collect()
        };
        let (before, now) = (entries(&self.snapshot), entries(&snapshot));
        self.fresh.retain(|_, since| snapshot.taken.saturating_sub(*since) < RECENT);
        for (key, port) in now {
            if before.get(&key) != Some(&port) {
                self.fresh.entry(key).or_insert(snapshot.taken);
            }
        }
        self.now = self.now.max(snapshot.taken);
        self.traffic.take(&snapshot);
        self.snapshot = snapshot;
    }

    pub(super) fn on_event(&mut self, event: Event) {
        if let Some(held) = &mut self.held {
            keep(&mut held.events, event);
            return;
        }
        // Past events come first: their entries are not new.
        let lately = self.now > Duration::from_millis(500);
        if let (EventType::Moved, Some(mac), true) = (event.kind, event.mac, lately) {
            self.fresh.insert((mac, event.vlan), self.now);
        }
        keep(&mut self.events, event);
    }

    pub(super) fn on_events_ended(&mut self, why: String) {
        self.events_ended = Some(why);
    }

    /// Shows a message until the next key. Its second line is the path of a file.
    pub(super) fn show_message(&mut self, text: String) {
        self.message = Some(text);
    }

    /// The selected port, if the filter shows it.
    pub(super) fn selected(&self) -> Option<&str> {
        let selected = self.selected.as_deref()?;
        self.shown_ports().map(|port| port.ifname.as_str()).find(|name| *name == selected)
    }

    /// The port that a capture would be limited to.
    pub(super) fn port_to_capture(&self) -> Option<&str> {
        if self.focus == Pane::Ports { self.selected() } else { None }
    }

    /// The request for a capture that starts now.
    pub(super) fn request(&self, now: Timestamp) -> CaptureRequest {
        CaptureRequest {
            switch: self.snapshot.status.name.clone(),
            port: self.port_to_capture().map(str::to_owned),
            time: now.to_zoned(self.zone.clone()),
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.held.is_some()
    }

    /// How to highlight an entry that is new at its port.
    pub(super) fn freshness(&self, key: FdbRowKey) -> Option<StyleRole> {
        let age = self.now.saturating_sub(*self.fresh.get(&key)?);
        match age {
            _ if age < NEW => Some(StyleRole::New),
            _ if age < RECENT => Some(StyleRole::Recent),
            _ => None,
        }
    }

    /// The first visible row of a pane that shows `visible` rows.
    pub(super) fn scrolled(&self, pane: Pane, rows: usize, visible: usize) -> usize {
        let place = self.scroll[pane as usize].min(rows.saturating_sub(visible));
        match self.selected_row() {
            Some(row) if pane == Pane::Ports => place.clamp((row + 1).saturating_sub(visible), row),
            _ => place,
        }
    }

    fn selected_row(&self) -> Option<usize> {
        let selected = self.selected.as_deref()?;
        self.port_rows().iter().position(|row| row.port.ifname == selected)
    }

    /// Handles a key.
    pub(super) fn on_key(&mut self, key: KeyEvent) -> Option<KeyAction> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(KeyAction::Quit);
        }
        match self.mode {
            InputMode::Normal => {
                self.message = None;
                self.on_normal_key(key.code)
            }
            InputMode::Filter => {
                self.on_filter_key(key.code);
                None
            }
            InputMode::Help => {
                self.mode = InputMode::Normal;
                let closes = matches!(key.code, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('?' | 'h'));
                if closes { None } else { self.on_normal_key(key.code) }
            }
            InputMode::ConfirmFlush => {
                self.mode = InputMode::Normal;
                match key.code {
                    KeyCode::Char('y' | 'Y') => Some(KeyAction::Flush),
                    KeyCode::Char('n' | 'N') | KeyCode::Esc => None,
                    // Any other key has its normal function.
                    code => self.on_normal_key(code),
                }
            }
        }
    }

    fn on_normal_key(&mut self, code: KeyCode) -> Option<KeyAction> {
        match code {
            KeyCode::Char('q') => return Some(KeyAction::Quit),
            KeyCode::Char('?' | 'h') => self.mode = InputMode::Help,
            KeyCode::Char('/') => self.mode = InputMode::Filter,
            KeyCode::Char('f') => self.mode = InputMode::ConfirmFlush,
            KeyCode::Char('c') => return Some(KeyAction::Capture),
            KeyCode::Char('p' | ' ') => self.toggle_pause(),
            KeyCode::Char('s') => self.sort(),
            KeyCode::Enter => self.zoomed = !self.zoomed,
            KeyCode::Esc if self.zoomed => self.zoomed = false,
            KeyCode::Esc if self.filter.is_empty() => self.selected = None,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab | KeyCode::Right => self.focus = self.focus.after(1),
            KeyCode::BackTab | KeyCode::Left => self.focus = self.focus.after(Pane::ALL.len() - 1),
            _ => self.on_scroll_key(code),
        }
        None
    }

    fn on_filter_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.mode = InputMode::Normal,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = InputMode::Normal;
            }
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Char(c) if self.filter.len() < MAX_FILTER => self.filter.extend(c.to_lowercase()),
            KeyCode::Char(_) => {}
            // The other keys are not part of a text, and do what they always do.
            code => _ = self.on_normal_key(code),
        }
    }

    /// Events scroll from their end, where the latest are. In the ports pane the selection moves.
    fn on_scroll_key(&mut self, code: KeyCode) {
        let (rows, page) = (self.count(self.focus), panes::page(self, self.focus));
        let steps = |rows: usize| isize::try_from(rows).unwrap_or(isize::MAX);
        let down = match code {
            KeyCode::Up | KeyCode::Char('k') => -1,
            KeyCode::Down | KeyCode::Char('j') => 1,
            KeyCode::PageUp => -steps(page),
            KeyCode::PageDown => steps(page),
            KeyCode::Home => -steps(rows),
            KeyCode::End => steps(rows),
            _ => return,
        };
        if self.focus == Pane::Ports {
            return self.select_port(down);
        }
        let last = rows.saturating_sub(page);
        let on = if self.focus == Pane::Events { -down } else { down };
        let place = &mut self.scroll[self.focus as usize];
        *place = (*place).min(last).saturating_add_signed(on).min(last);
    }

    /// Selects the port `down` rows below the selected one, or from the top.
    fn select_port(&mut self, down: isize) {
        let row = match self.selected_row() {
            Some(row) => row.saturating_add_signed(down),
            None => 0usize.saturating_add_signed(down - 1),
        };
        let rows = self.port_rows();
        let last = rows.len().saturating_sub(1);
        let name = rows.get(row.min(last)).map(|row| row.port.ifname.clone());
        self.selected = name;
        let page = panes::page(self, Pane::Ports);
        self.scroll[Pane::Ports as usize] = self.scrolled(Pane::Ports, last + 1, page);
    }

    fn sort(&mut self) {
        match self.focus {
            Pane::Ports | Pane::Switch => self.port_order = self.port_order.next(),
            Pane::Fdb => self.fdb_order = self.fdb_order.next(),
            Pane::Events => {}
        }
    }

    fn toggle_pause(&mut self) {
        let Some(held) = self.held.take() else {
            self.held = Some(Paused::default());
            return;
        };
        if let Some(snapshot) = held.snapshot {
            self.on_snapshot(snapshot);
        }
        for event in held.events {
            self.on_event(event);
        }
    }
}

/// Appends an event, and removes the oldest beyond the limit.
fn keep(events: &mut VecDeque<Event>, event: Event) {
    if events.len() == MAX_EVENTS {
        events.pop_front();
    }
    events.push_back(event);
}
