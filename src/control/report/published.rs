//! Published ports: ports of the host that lead to a container.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use crate::control::config::InvalidValue;
use crate::wire::ip::protocol;

/// The protocol of a published port.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TransportProtocol {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
}

impl TransportProtocol {
    /// The name in JSON, in options and for nft.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            TransportProtocol::Tcp => "tcp",
            TransportProtocol::Udp => "udp",
        }
    }

    /// The number in a packet.
    pub(crate) const fn number(self) -> u8 {
        match self {
            TransportProtocol::Tcp => protocol::TCP,
            TransportProtocol::Udp => protocol::UDP,
        }
    }
}

/// TCP or UDP port numbers: one, or a range of them as in `8080-8090`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortNumbers {
    first: u16,
    last: u16,
}

impl PortNumbers {
    /// The lowest.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest.
    pub fn last(self) -> u16 {
        self.last
    }

    /// All of them.
    pub fn iter(self) -> std::ops::RangeInclusive<u16> {
        self.first..=self.last
    }

    /// How many.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// The lowest that both have.
    fn overlap(self, other: PortNumbers) -> Option<u16> {
        let first = self.first.max(other.first);
        (first <= self.last.min(other.last)).then_some(first)
    }
}

impl fmt::Display for PortNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for PortNumbers {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<PortNumbers, InvalidValue> {
        let number = |text: &str| text.parse().ok().filter(|number| *number != 0 && !text.starts_with('+'));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(PortNumbers { first, last }),
            _ => Err(InvalidValue::PortNumbers(text.to_owned())),
        }
    }
}

impl Serialize for PortNumbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortNumbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PortNumbers, D::Error> {
        deserializer.deserialize_any(PortNumbersVisitor)
    }
}

/// Accepts a single port as a number, too.
struct PortNumbersVisitor;

impl Visitor<'_> for PortNumbersVisitor {
    type Value = PortNumbers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port number, or a range like \"8080-8090\"")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<PortNumbers, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PortNumbers, E> {
        text.parse().map_err(E::custom)
    }
}

/// Ports of the host whose packets go to a container. As text `[ADDRESS:]PORT[-PORT]:PORT[-PORT][/PROTOCOL]`, the
/// host's ports first, as `docker run --publish` has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PublishedPort {
    /// An address of the host; 0.0.0.0 and :: are all of a version [default: all].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    pub host_address: Option<IpAddr>,
    /// Ports of the host, as in `8080` or `8080-8090`.
    #[schema(value_type = String)]
    #[param(value_type = String)]
    pub host_ports: PortNumbers,
    /// As many ports of the container.
    #[schema(value_type = String)]
    #[param(value_type = String)]
    pub container_ports: PortNumbers,
    /// The protocol [default: tcp].
    #[serde(default)]
    pub protocol: TransportProtocol,
}

impl PublishedPort {
    /// A port of the host that both publish, if there is one.
    pub(crate) fn conflict(&self, other: &PublishedPort) -> Option<u16> {
        let same_address = match (self.host_address, other.host_address) {
            (Some(a), Some(b)) => {
                a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())
            }
            _ => true,
        };
        let may_conflict = self.protocol == other.protocol && same_address;
        self.host_ports.overlap(other.host_ports).filter(|_| may_conflict)
    }

    /// The query of the request that withdraws it.
    pub(crate) fn query(&self) -> String {
        let PublishedPort { host_address, host_ports, container_ports, protocol } = self;
        let address = host_address.map(|address| format!("host_address={address}&")).unwrap_or_default();
        let protocol = protocol.name();
        format!("?{address}host_ports={host_ports}&container_ports={container_ports}&protocol={protocol}")
    }

    /// Whether packets to addresses of this version are published.
    pub(crate) fn has_version_of(&self, address: &IpAddr) -> bool {
        self.host_address.is_none_or(|host| host.is_ipv4() == address.is_ipv4())
    }

    /// Whether connections of the host to 127.0.0.1 are.
    pub(crate) fn is_on_loopback(&self) -> bool {
        self.host_address.is_none_or(|host| host.is_ipv4() && (host.is_loopback() || host.is_unspecified()))
    }

    /// Whether packets to this address of the host are published.
    pub(crate) fn is_at(&self, host: SocketAddr) -> bool {
        let has_address = |own: IpAddr| own.is_unspecified() || own == host.ip();
        self.has_version_of(&host.ip())
            && self.host_address.is_none_or(has_address)
            && self.host_ports.iter().contains(&host.port())
    }

    /// Each port of the host with its port of the container.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (u16, u16)> {
        self.host_ports.iter().zip(self.container_ports.iter())
    }

    /// The host's part of the text.
    fn host(&self) -> String {
        match self.host_address {
            None => self.host_ports.to_string(),
            Some(IpAddr::V4(address)) => format!("{address}:{}", self.host_ports),
            Some(IpAddr::V6(address)) => format!("[{address}]:{}", self.host_ports),
        }
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host(), self.container_ports, self.protocol.name())
    }
}

impl FromStr for PublishedPort {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<PublishedPort, InvalidValue> {
        let syntax = || InvalidValue::PublishedPortSyntax(text.to_owned());
        let (ports, protocol) = match text.split_once('/') {
            None => (text, TransportProtocol::Tcp),
            Some((ports, "tcp")) => (ports, TransportProtocol::Tcp),
            Some((ports, "udp")) => (ports, TransportProtocol::Udp),
            Some(_) => return Err(syntax()),
        };
        let (host, container) = ports.rsplit_once(':').ok_or_else(syntax)?;
        let (host_address, host) = match host.rsplit_once(':') {
            None => (None, host),
            Some((address, host)) => (Some(host_address(address).ok_or_else(syntax)?), host),
        };
        Ok(PublishedPort {
            host_address,
            host_ports: host.parse()?,
            container_ports: container.parse()?,
            protocol,
        })
    }
}

/// An IPv6 address is in brackets.
fn host_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => address.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(text: &str) -> PublishedPort {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn text_is_that_of_docker() {
        for text in [
            "8080:80/tcp",
            "127.0.0.1:8080:80/udp",
            "8080-8090:80-90/tcp",
            "[2001:db8::1]:53:53/udp",
            "0.0.0.0:1:65535/tcp",
        ] {
            assert_eq!(published(text).to_string(), text);
        }
        assert_eq!(published("8080:80"), published("8080:80/tcp"));
    }

    #[test]
    fn addresses_of_the_host_are_those_of_the_version() {
        let is_at = |text: &str, address: &str| published(text).is_at(address.parse().unwrap());
        for address in ["127.0.0.1:8080", "203.0.113.1:8081", "[2001:db8::1]:8080"] {
            assert!(is_at("8080-8081:80-81", address), "{address}");
        }
        assert!(!is_at("8080-8081:80-81", "203.0.113.1:8082"));
        assert!(is_at("0.0.0.0:8080:80", "203.0.113.1:8080") && !is_at("0.0.0.0:8080:80", "[::1]:8080"));
        assert!(is_at("203.0.113.1:8080:80", "203.0.113.1:8080"));
        assert!(!is_at("203.0.113.1:8080:80", "203.0.113.2:8080"));
    }

    #[test]
    fn rejects_other_texts() {
        for text in [
            "",
            "80",
            ":80",
            "80:",
            "0:80",
            "8080:65536",
            "8080:80/sctp",
            "8090-8080:80-90",
            "+80:80",
            "2001:db8::1:80:80",
            "[127.0.0.1]:80:80",
            "localhost:80:80",
        ] {
            assert!(text.parse::<PublishedPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn json_has_numbers_or_ranges() {
        let range =
            r#"{"host_address":"127.0.0.1","host_ports":"80-81","container_ports":"1-2","protocol":"udp"}"#;
        assert_eq!(serde_json::to_string(&published("127.0.0.1:80-81:1-2/udp")).unwrap(), range);
        let read = |json: &str| serde_json::from_str::<PublishedPort>(json);
        assert_eq!(read(range).unwrap(), published("127.0.0.1:80-81:1-2/udp"));
        assert_eq!(read(r#"{"host_ports":8080,"container_ports":80}"#).unwrap(), published("8080:80"));
        for bad in ["0", "70000", "-1", "\"x\"", "\"2-1\"", "[]", "1.5"] {
            let json = format!("{{\"host_ports\":{bad},\"container_ports\":80}}");
            assert!(read(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn conflicts_need_port_protocol_and_address() {
        let conflict = |a: &str, b: &str| {
            let (a, b) = (published(a), published(b));
            assert_eq!(a.conflict(&b), b.conflict(&a));
            a.conflict(&b)
        };
        assert_eq!(conflict("8080:80", "8080:81"), Some(8080));
        assert_eq!(conflict("8080-8090:80-90", "8085-8099:1-15"), Some(8085));
        assert_eq!(conflict("127.0.0.1:8080:80", "8080:80"), Some(8080));
        assert_eq!(conflict("127.0.0.1:8080:80", "0.0.0.0:8080:80"), Some(8080));
        assert_eq!(conflict("127.0.0.1:8080:80", "[::]:8080:80"), None);
        assert_eq!(conflict("127.0.0.1:8080:80", "203.0.113.1:8080:80"), None);
        assert_eq!(conflict("8080:80/udp", "8080:80/tcp"), None);
        assert_eq!(conflict("8080:80", "8081:80"), None);
    }
}
