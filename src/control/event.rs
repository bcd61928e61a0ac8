//! What happens at a switch, as it is told.

use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use super::format::{counted, duration};
use crate::control::report::NewFdbState;
use crate::wire::Mac;

/// The complete list of what is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum EventType {
    /// A station is new behind a port.
    Learned,
    /// A station is behind another port now.
    Moved,
    /// A station spoke again after a silence of a third of the ageing time or more.
    Returned,
    /// A station was silent for the ageing time and is forgotten.
    Aged,
    /// A station was forgotten for a newcomer, because the forwarding database was full.
    Evicted,
    /// A station was not learned, because nothing in a full forwarding database could give way.
    Refused,
    /// A frame for a station that nobody knows went to all ports.
    Flooded,
    /// Frames were not delivered.
    Dropped,
    /// Somebody added an entry to the forwarding database.
    FdbAdded,
    /// Somebody deleted one.
    FdbRemoved,
    /// Somebody deleted all learned ones, or those of one port.
    FdbFlushed,
    /// A port is new.
    PortAdded,
    /// A port's link came up.
    PortUp,
    /// A port's link went down.
    PortDown,
    /// Somebody deleted a port's device.
    PortGone,
    /// A port was deleted.
    PortRemoved,
    /// There were more events than are told.
    Lost,
}

impl EventType {
    /// Its name, as it is typed and in JSON.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When, to the millisecond (RFC 3339).
    #[serde(serialize_with = "to_the_millisecond")]
    #[schema(value_type = String, format = "date-time")]
    pub time: Timestamp,
    /// What.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// At which port; none where it is of the reader of this stream, or of all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// Of which station.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub mac: Option<Mac>,
    /// In which VLAN, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The other port: behind which a station that moved was before, or whose newcomer one gave way to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// Seconds that a station that returned was silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<u32>,
    /// Why frames were dropped, in the words of the counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of what kind an added entry is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<NewFdbState>,
    /// How many frames were dropped in a second, entries were flushed, or events were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Event {
    /// At a time, of this type.
    pub(crate) fn at(time: Timestamp, kind: EventType) -> Event {
        Event {
            time,
            kind,
            ifname: None,
            mac: None,
            vlan: None,
            other: None,
            silent: None,
            reason: None,
            state: None,
            count: None,
        }
    }

    /// What only events of this type have, in words.
    pub(crate) fn detail(&self) -> Option<String> {
        let other = self.other.as_deref().unwrap_or("-");
        let count = |one| counted(self.count.and_then(|count| count.try_into().ok()).unwrap_or(0), one);
        match self.kind {
            EventType::Moved => Some(format!("from {other}")),
            EventType::Evicted => Some(format!("for a station of {other}")),
            EventType::Returned => {
                Some(format!("after {} of silence", duration(self.silent.unwrap_or(0).into())))
            }
            EventType::Refused => Some("the forwarding database is full".to_owned()),
            EventType::Flooded => Some("nobody knows where it is".to_owned()),
            EventType::Dropped => {
                Some(format!("{} in 1 s: {}", count("frame"), self.reason.as_deref().unwrap_or("-")))
            }
            EventType::FdbAdded => Some(format!("{} entry", self.state.unwrap_or_default().name())),
            EventType::FdbFlushed => Some(format!("{} forgotten", count("station"))),
            EventType::Lost if self.ifname.is_none() => Some(format!("{}: read too slowly", count("event"))),
            EventType::Lost => Some(format!("{}: too many to be told", count("event"))),
            _ => None,
        }
    }

    /// That a reader was too slow for so many events.
    pub(crate) fn missed(count: u64) -> Event {
        Event { count: Some(count), ..Event::at(Timestamp::now(), EventType::Lost) }
    }
}

/// Which events to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only those that a port has to do with, or all of them.
    pub ifname: Option<String>,
    /// Only those of these types, separated by commas. What was lost is told all the same.
    #[serde(rename = "type", deserialize_with = "separated_by_commas")]
    #[param(value_type = Option<String>)]
    pub types: Vec<EventType>,
    /// At most so many of those that have happened, the latest [default: all that are kept].
    pub last: Option<usize>,
    /// Whether to go on with what happens from now on, as NDJSON.
    pub follow: Option<bool>,
}

impl EventFilter {
    /// Whether to show an event.
    pub(crate) fn passes(&self, event: &Event) -> bool {
        let concerns =
            |port: &String| [&event.ifname, &event.other].into_iter().flatten().any(|it| it == port);
        let lost = event.kind == EventType::Lost;
        let everywhere = event.ifname.is_none();
        (everywhere || self.ifname.as_ref().is_none_or(concerns))
            && (lost || self.types.is_empty() || self.types.contains(&event.kind))
    }
}

fn to_the_millisecond<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

fn separated_by_commas<'de, D: Deserializer<'de>>(words: D) -> Result<Vec<EventType>, D::Error> {
    use serde::de::IntoDeserializer;
    let words = String::deserialize(words)?;
    words.split(',').map(|word| EventType::deserialize(word.into_deserializer())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved() -> Event {
        Event {
            ifname: Some("container2".into()),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            other: Some("container1".into()),
            ..Event::at("2026-11-21T12:00:00.12Z".parse().unwrap(), EventType::Moved)
        }
    }

    #[test]
    fn event_json_omits_absent_fields() {
        let json = serde_json::to_string(&moved()).unwrap();
        assert_eq!(
            json,
            r#"{"time":"2026-11-21T12:00:00.120Z","type":"moved","ifname":"container2","mac":"02:00:00:00:00:01","#
                .to_owned()
                + r#""other":"container1"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), moved());
    }

    #[test]
    fn filters_by_port_and_type() {
        let passes = |edit: fn(&mut EventFilter), event: &Event| {
            let mut filter = EventFilter::default();
            edit(&mut filter);
            filter.passes(event)
        };
        let event = moved();
        assert!(passes(|_| {}, &event));
        assert!(passes(|filter| filter.ifname = Some("container2".into()), &event));
        assert!(passes(|filter| filter.ifname = Some("container1".into()), &event), "it came from there");
        assert!(!passes(|filter| filter.ifname = Some("host".into()), &event));
        let everywhere = Event { ifname: None, ..event.clone() };
        assert!(passes(|filter| filter.ifname = Some("host".into()), &everywhere));
        assert!(passes(|filter| filter.types = vec![EventType::Aged, EventType::Moved], &event));
        assert!(!passes(|filter| filter.types = vec![EventType::Aged], &event));
        assert!(passes(|filter| filter.types = vec![EventType::Aged], &Event::missed(1)), "always told");
    }
}
