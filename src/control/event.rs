//! Events of a switch.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use super::format::{counted, duration};
use crate::control::report::{NewFdbState, Throttled};
use crate::wire::Mac;

/// Defines the types of events: variant, name in JSON and on the command line, description.
macro_rules! event_types {
    ($($variant:ident, $name:tt, $text:tt;)*) => {
        /// All types of events.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub enum EventType {
            $(#[doc = $text] #[serde(rename = $name)] $variant,)*
        }

        impl EventType {
            /// All types, in the order of the documents.
            pub const ALL: &[EventType] = &[$(EventType::$variant),*];

            /// Its name in JSON and on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(EventType::$variant => $name,)*
                }
            }

            /// What happened.
            pub const fn text(self) -> &'static str {
                match self {
                    $(EventType::$variant => $text,)*
                }
            }
        }
    };
}

event_types! {
    Learned, "learned", "A MAC address was learned on a port.";
    Moved, "moved", "A MAC address moved to another port.";
    Returned, "returned", "A MAC address sent a frame after a silence of a third of the ageing time or more.";
    Aged, "aged", "An entry expired after the ageing time.";
    Evicted, "evicted", "An entry was evicted for a new one, because the forwarding database was full.";
    Refused, "refused", "A MAC address was not learned: the forwarding database is full and no entry can be evicted, or the port has the addresses that it may learn.";
    Flooded, "flooded", "A unicast frame to an unknown MAC address was flooded.";
    Dropped, "dropped", "Frames were dropped.";
    Throttled, "throttled", "The switch has begun to throttle a port that takes too much time from the others.";
    LoopDetected, "loop_detected", "Frames of other ports came back on a port: a loop, a host that sends frames back, or a MAC address that is used twice. The port was blocked.";
    PortUnblocked, "port_unblocked", "The time for which a port was blocked is over.";
    FdbAdded, "fdb_added", "A user added or replaced an entry of the forwarding database.";
    FdbRemoved, "fdb_removed", "A user deleted an entry.";
    MdbAdded, "mdb_added", "A port has joined a multicast group.";
    MdbRemoved, "mdb_removed", "A port has left a multicast group.";
    MdbRouterAdded, "mdb_router_added", "A multicast router was found behind a port.";
    MdbRouterRemoved, "mdb_router_removed", "A multicast router was forgotten.";
    MdbQuerier, "mdb_querier", "Another multicast querier was elected, or the last one is silent.";
    MdbFull, "mdb_full", "The multicast database is full: all groups are flooded.";
    UplinkLearned, "uplink_learned", "An uplink in mode ipvlan has learned the IP address of a host.";
    UplinkMoved, "uplink_moved", "Another host has an IP address that an uplink in mode ipvlan knows.";
    UplinkForgotten, "uplink_forgotten", "An uplink in mode ipvlan has forgotten the IP address of a host.";
    FdbFlushed, "fdb_flushed", "A user flushed entries of the forwarding database.";
    StpState, "stp_state", "The spanning tree changed the state of a port.";
    StpRoot, "stp_root", "The spanning tree has another root bridge, or another way to it.";
    TopologyChange, "topology_change", "The topology of the network changed: learned addresses were deleted.";
    BpduGuard, "bpdu_guard", "A BPDU came in on a port with BPDU guard. The port was disabled until its link was down.";
    RootBlock, "root_block", "A port with root guard would have become the root port, and is blocked, or is not any more.";
    PortAdded, "port_added", "A port was added.";
    PortUp, "port_up", "A port's link came up.";
    PortDown, "port_down", "A port's link went down.";
    PortChanged, "port_changed", "A port's device has another MAC address, name, network namespace, IP addresses or offloads.";
    PortGone, "port_gone", "A port's device was deleted by another program.";
    PortRemoved, "port_removed", "A port was deleted.";
    WorkerStalled, "worker_stalled", "A worker does not respond: the switch is degraded.";
    WorkerRecovered, "worker_recovered", "A stalled worker responds again.";
    DhcpLeased, "dhcp_leased", "The DHCP server gave an address to a client.";
    DhcpRenewed, "dhcp_renewed", "A DHCP client keeps its address for longer.";
    DhcpEnded, "dhcp_ended", "The lease of a DHCP client has ended.";
    NatRestored, "nat_restored", "Another program changed the nftables table of the switch, and the switch has restored it.";
    NatFailed, "nat_failed", "The nftables table of the switch is not as the switch installed it: the switch is degraded.";
    Lost, "lost", "Events were suppressed or missed.";
}

/// What of a port's device another program can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceAspect {
    /// The MAC address.
    Mac,
    /// The name.
    Name,
    /// The network namespace.
    Netns,
    /// The IP addresses.
    Addresses,
    /// The offloads that it uses for the frames that it sends.
    Offloads,
    /// A setting of the TAP driver, which was restored.
    Restored,
    /// The number of its queues that belong to other processes.
    ForeignQueues,
    /// The VLANs of the port.
    Vlans,
    /// The mirror whose destination the port is.
    Mirror,
    /// The ports of the host that lead to it.
    Published,
}

impl DeviceAspect {
    fn describe(self) -> &'static str {
        match self {
            DeviceAspect::Mac => "MAC",
            DeviceAspect::Name => "name",
            DeviceAspect::Netns => "namespace",
            DeviceAspect::Addresses => "addresses",
            DeviceAspect::Offloads => "offloads",
            DeviceAspect::Restored => "restored",
            DeviceAspect::ForeignQueues => "queues of other processes",
            DeviceAspect::Vlans => "VLANs",
            DeviceAspect::Mirror => "mirror",
            DeviceAspect::Published => "published ports",
        }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Time, to the millisecond (RFC 3339).
    #[serde(serialize_with = "to_the_millisecond")]
    #[schema(value_type = String, format = "date-time")]
    pub time: Timestamp,
    /// Type.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Port. Absent when the event concerns all ports, or the reader of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub mac: Option<Mac>,
    /// VLAN ID, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Multicast group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub group: Option<IpAddr>,
    /// The source in the group, or the address of the querier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub source: Option<IpAddr>,
    /// The other port: the previous port of a moved address, the port of the address that an entry was evicted for, or
    /// the port of the address that came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// Seconds of silence before `returned`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<u32>,
    /// Seconds for which a port is blocked, or for which a DHCP client has its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// Drop reason, or why a port is down (`admin_down`, `no_carrier`, `link_down`), or the limit for which an address
    /// was refused (`fdb_max`, `fdb_max_learned`), or why NAT may not work, or why a lease has ended (`released`,
    /// `declined`, `expired`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// State of an added entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<NewFdbState>,
    /// What of a port's device was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<DeviceAspect>,
    /// What it is now. `inet` or `inet6` with multicast routers and queriers. With `nat_restored` the program that
    /// changed the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Number of frames dropped within a second, of entries flushed, or of events lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Number of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<usize>,
}

impl Event {
    /// An event without details.
    pub(crate) fn at(time: Timestamp, kind: EventType) -> Event {
        Event {
            time,
            kind,
            ifname: None,
            mac: None,
            vlan: None,
            group: None,
            source: None,
            other: None,
            silent: None,
            seconds: None,
            reason: None,
            state: None,
            change: None,
            value: None,
            count: None,
            worker: None,
        }
    }

    /// The details that are specific to this type, as text.
    #[allow(clippy::too_many_lines, reason = "an arm for each type")]
    pub(crate) fn detail(&self) -> Option<String> {
        let other = self.other.as_deref().unwrap_or("-");
        let count = |one| counted(self.count.and_then(|count| count.try_into().ok()).unwrap_or(0), one);
        let time = |seconds: Option<u32>| duration(seconds.unwrap_or(0).into());
        match self.kind {
            EventType::Moved => Some(format!("from {other}")),
            EventType::Evicted => Some(format!("for an address on {other}")),
            EventType::Returned => Some(format!("after {} of silence", time(self.silent))),
            EventType::MdbAdded | EventType::MdbRemoved | EventType::MdbQuerier => {
                Some(self.multicast_detail())
            }
            EventType::Refused => self.reason.as_deref().map(refused_detail),
            EventType::Flooded => Some("unknown destination".to_owned()),
            EventType::Dropped => {
                Some(format!("{} in 1 s: {}", count("frame"), self.reason.as_deref().unwrap_or("-")))
            }
            EventType::PortChanged => self.change_detail(),
            EventType::PortDown => self.reason.as_deref().map(down_detail),
            EventType::Throttled => self.reason.as_deref().map(throttled_detail),
            EventType::LoopDetected => {
                Some(format!("the address of {other} came in here: blocked for {}", time(self.seconds)))
            }
            EventType::StpState | EventType::StpRoot | EventType::TopologyChange | EventType::RootBlock => {
                self.value.clone()
            }
            EventType::UplinkLearned | EventType::UplinkMoved | EventType::UplinkForgotten => {
                self.uplink_detail()
            }
            EventType::FdbAdded => Some(format!("{} entry", self.state.unwrap_or_default().name())),
            EventType::FdbFlushed => Some(format!("{} deleted", count("address"))),
            EventType::WorkerStalled | EventType::WorkerRecovered => {
                Some(format!("worker {}", self.worker.unwrap_or_default()))
            }
            EventType::DhcpLeased | EventType::DhcpRenewed | EventType::DhcpEnded => self.dhcp_detail(),
            EventType::NatRestored => Some(self.restored_detail()),
            EventType::NatFailed => self.reason.clone(),
            EventType::Lost if self.ifname.is_none() => {
                Some(format!("{} missed: the reader is too slow", count("event")))
            }
            EventType::Lost => Some(format!("{} suppressed by the rate limit", count("event"))),
            _ => None,
        }
    }

    fn dhcp_detail(&self) -> Option<String> {
        let (address, reason) = (self.value.as_deref()?, self.reason.as_deref());
        let left = || duration(self.seconds.unwrap_or(0).into());
        Some(
            reason
                .map_or_else(|| format!("{address} for {}", left()), |reason| format!("{address} {reason}")),
        )
    }

    fn restored_detail(&self) -> String {
        let program = self.value.as_deref().unwrap_or("another program");
        format!("the nftables table was changed by {program} and has been restored")
    }

    fn uplink_detail(&self) -> Option<String> {
        let address = self.value.as_deref()?;
        let is_behind = self.other.as_deref().filter(|_| self.kind != EventType::UplinkForgotten);
        Some(is_behind.map_or_else(|| address.to_owned(), |port| format!("{address} is behind {port}")))
    }

    fn change_detail(&self) -> Option<String> {
        let value = self.value.as_deref().filter(|value| !value.is_empty()).unwrap_or("none");
        self.change.map(|aspect| format!("{}: {value}", aspect.describe()))
    }

    fn multicast_detail(&self) -> String {
        match (self.group, self.source) {
            (Some(group), Some(source)) => format!("{group} from {source}"),
            (Some(group), None) => group.to_string(),
            (None, Some(querier)) => format!("{querier} queries"),
            (None, None) => "the querier is silent".to_owned(),
        }
    }

    /// The event that tells a slow reader how many events it missed.
    pub(crate) fn missed(count: u64) -> Event {
        Event { count: Some(count), ..Event::at(Timestamp::now(), EventType::Lost) }
    }
}

fn refused_detail(limit: &str) -> String {
    match limit {
        "fdb_max_learned" => "the port has the addresses that it may learn",
        _ => "the forwarding database is full",
    }
    .to_owned()
}

fn down_detail(reason: &str) -> String {
    match reason {
        "admin_down" => "set down",
        "no_carrier" => "its device has no carrier",
        _ => "its device is down",
    }
    .to_owned()
}

fn throttled_detail(reason: &str) -> String {
    match reason == Throttled::Ingress.name() {
        true => "ingress: its frames take more than its share of the time",
        false => "egress: its receive path is slow",
    }
    .to_owned()
}

/// Filter of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only those that concern these ports, separated by commas, and those that concern the whole switch.
    pub ifname: Option<String>,
    /// Only these types, separated by commas. `lost` is always included.
    #[serde(rename = "type", deserialize_with = "separated_by_commas")]
    #[param(value_type = Option<String>)]
    pub types: Vec<EventType>,
    /// Most past events, the latest ones [default: all that are kept].
    pub last: Option<usize>,
    /// Whether to stream new events too, as NDJSON.
    pub follow: Option<bool>,
}

impl EventFilter {
    /// Whether an event matches.
    pub(crate) fn passes(&self, event: &Event) -> bool {
        let concerns = |ports: &String| {
            ports
                .split(',')
                .any(|port| event.ifname.as_deref() == Some(port) || event.other.as_deref() == Some(port))
        };
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
        assert!(passes(|filter| filter.types = vec![EventType::Aged], &Event::missed(1)), "always included");
    }
}
