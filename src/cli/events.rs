//! `uswitch events`: prints past and new events.

use std::ops::ControlFlow;

use crate::control::client::StreamEnd;
use crate::control::event::{Event, EventType};

use super::error::CliError;
use super::fdb::query;
use super::output;
use super::port::port_name;
use super::target::{PortList, Target};

/// Print events: addresses learned, moved and aged out, ports, links, drops
#[derive(Debug, clap::Args)]
pub(super) struct EventsCommand {
    #[command(flatten)]
    target: Target,
    /// Print new events until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Print at most this many past events [default: all that are kept; 10 with --follow]
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    #[command(flatten)]
    ports: PortList,
    /// Print only these types, separated by commas
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<EventType>,
    /// Print JSON, one event a line
    #[arg(long)]
    json: bool,
}

/// Past events with --follow, as of tail(1).
const LAST: usize = 10;

impl EventsCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        self.ports
            .names()
            .iter()
            .try_for_each(|name| port_name(name).map(drop))
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let client = self.target.client()?;
        match self.ports.checked(&client) {
            // A port that was deleted still has events.
            Err(error @ CliError::NoSuchPort { .. }) => output::note(&error.to_string()),
            checked => _ = checked?,
        }
        if !self.follow {
            let events: Vec<Event> = client.get(&self.path())?;
            return events.iter().try_for_each(|event| self.show(event));
        }
        let end = client.lines(&self.path(), output::unread(), |line| {
            let event =
                serde_json::from_slice(line).map_err(|error| CliError::io("read an event")(error.into()))?;
            self.show(&event).map(ControlFlow::Continue)
        })?;
        if end == StreamEnd::SwitchStopped {
            output::note("the switch has stopped");
        }
        Ok(())
    }

    fn path(&self) -> String {
        let last = self.last.or(self.follow.then_some(LAST)).map(|last| last.to_string());
        let types: Vec<String> = self.types.iter().map(|kind| kind.name().to_owned()).collect();
        let types = (!types.is_empty()).then(|| types.join(","));
        let follow = self.follow.then(|| "true".to_owned());
        let ports = self.ports.names();
        let ports = (!ports.is_empty()).then(|| ports.join(","));
        let words = [("follow", follow), ("last", last), ("ifname", ports), ("type", types)];
        format!("/v1/events{}", query(words))
    }

    fn show(&self, event: &Event) -> Result<(), CliError> {
        if self.json { output::json(event) } else { output::print(&line(event)) }
    }
}

/// Time, type, port, MAC address, and details.
fn line(event: &Event) -> String {
    let time = event.time.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %T%.3f");
    let port = event.ifname.as_deref().unwrap_or("-");
    let mac = event.mac.map(|mac| mac.to_string());
    let vlan = event.vlan.map(|vlan| format!("vlan {vlan}"));
    let rest = [mac, vlan, event.detail()].into_iter().flatten().collect::<Vec<_>>().join("  ");
    let text = format!("{time}  {:<12}  {port:<10}  {rest}", event.kind.name());
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::NewFdbState;
    use crate::wire::Mac;

    fn event(kind: EventType) -> Event {
        Event {
            ifname: Some("container1".into()),
            ..Event::at("2026-11-21T12:00:00.123Z".parse().unwrap(), kind)
        }
    }

    /// The line without its time, which is local.
    fn rest(event: &Event) -> String {
        line(event).split_once(".123  ").unwrap().1.to_owned()
    }

    #[test]
    fn prints_event_as_one_line() {
        let mac_event = |kind| Event { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..event(kind) };
        assert_eq!(rest(&mac_event(EventType::Learned)), "learned       container1  02:00:00:00:00:01\n");
        let moved = Event { other: Some("container2".into()), vlan: Some(7), ..mac_event(EventType::Moved) };
        let expected = "moved         container1  02:00:00:00:00:01  vlan 7  from container2\n";
        assert_eq!(rest(&moved), expected);
        let returned = Event { silent: Some(130), ..mac_event(EventType::Returned) };
        assert!(rest(&returned).ends_with("02:00:00:00:00:01  after 2 min 10 s of silence\n"));
        assert_eq!(rest(&event(EventType::PortGone)), "port_gone     container1\n");
        let dropped = Event { count: Some(1), reason: Some("runt".into()), ..event(EventType::Dropped) };
        assert_eq!(rest(&dropped), "dropped       container1  1 frame in 1 s: runt\n");
        let added = Event { state: Some(NewFdbState::Static), ..mac_event(EventType::FdbAdded) };
        assert_eq!(rest(&added), "fdb_added     container1  02:00:00:00:00:01  static entry\n");
        let flushed = Event { ifname: None, count: Some(2), ..event(EventType::FdbFlushed) };
        assert_eq!(rest(&flushed), "fdb_flushed   -           2 addresses deleted\n");
        let lost = Event { count: Some(3), ..event(EventType::Lost) };
        assert_eq!(rest(&lost), "lost          container1  3 events suppressed by the rate limit\n");
        let missed = Event { ifname: None, ..lost };
        assert_eq!(rest(&missed), "lost          -           3 events missed: the reader is too slow\n");
    }

    #[test]
    fn builds_query_from_arguments() {
        let path = |args: &[&str]| {
            let command = <EventsCommand as clap::Args>::augment_args(clap::Command::new("events"));
            let matches = command.try_get_matches_from([&["events"], args].concat()).unwrap();
            <EventsCommand as clap::FromArgMatches>::from_arg_matches(&matches).unwrap().path()
        };
        assert_eq!(path(&[]), "/v1/events");
        assert_eq!(path(&["-f"]), "/v1/events?follow=true&last=10");
        assert_eq!(path(&["--follow", "-n", "0"]), "/v1/events?follow=true&last=0");
        let types = ["container1,container2", "host", "--type", "moved,port_up"];
        assert_eq!(path(&types), "/v1/events?ifname=container1,container2,host&type=moved,port_up");
        assert_eq!(
            path(&["--port", "container1"]),
            "/v1/events?ifname=container1",
            "as releases before spelled it"
        );
    }
}
