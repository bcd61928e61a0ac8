//! Packet filters: a subset of pcap-filter(7), the language of tcpdump.
//!
//! ```text
//! filter    = term (("and" | "&&" | "or" | "||") term)*     from left to right, neither binds closer
//! term      = ("not" | "!") term | "(" filter ")" | primitive
//! primitive = "arp" | "icmp" | "icmp6" | "ip" | "ip6" | "tcp" | "udp" | "vlan" [ID]
//!           | "ether" ["src" | "dst" | "host"] MAC
//!           | ["src" | "dst"] ["host"] ADDRESS | ["src" | "dst"] "net" PREFIX
//!           | ["tcp" | "udp"] ["src" | "dst"] "port" NUMBER
//! ```
//!
//! `host` and `net` match the addresses of IPv4, IPv6 and ARP. Unlike in tcpdump, all primitives look
//! behind VLAN tags, and `vlan` does not affect what follows it.

mod parse;
mod view;

use std::net::IpAddr;

use ipnet::IpNet;

use self::view::FilterFields;
use super::{EtherType, Mac};

/// Maximum length of an expression, in bytes.
pub const MAX_LENGTH: usize = 1024;
/// Maximum nesting of parentheses and `not`s.
const MAX_DEPTH: usize = 32;

/// A syntax error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the filter '{expression}': at {at}: {why}")]
pub struct FilterError {
    expression: String,
    /// The position of the error, in characters from 1.
    at: usize,
    why: String,
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Expression);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Is(Primitive),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Primitive {
    EtherType(EtherType),
    /// A protocol over IP, by number.
    Protocol(u8),
    Vlan(Option<u16>),
    Ether(DirQualifier, Mac),
    Host(DirQualifier, IpAddr),
    Net(DirQualifier, IpNet),
    Port(DirQualifier, u16),
}

/// The direction that a primitive is restricted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DirQualifier {
    Source,
    Destination,
    Either,
}

impl DirQualifier {
    fn of<T>(self, ends: Option<(T, T)>, is: impl Fn(T) -> bool) -> bool {
        ends.is_some_and(|(source, destination)| match self {
            DirQualifier::Source => is(source),
            DirQualifier::Destination => is(destination),
            DirQualifier::Either => is(source) || is(destination),
        })
    }
}

impl Filter {
    /// Parses an expression.
    pub fn parse(expression: &str) -> Result<Filter, FilterError> {
        parse::parse(expression).map(Filter)
    }

    /// Whether the filter matches a frame, which starts with the destination address. Fields that are
    /// truncated do not match.
    pub fn matches(&self, frame: &[u8]) -> bool {
        FilterFields::of(frame).is_some_and(|view| self.0.matches(&view))
    }
}

impl Expression {
    fn matches(&self, view: &FilterFields) -> bool {
        match self {
            Expression::Not(term) => !term.matches(view),
            Expression::And(one, other) => one.matches(view) && other.matches(view),
            Expression::Or(one, other) => one.matches(view) || other.matches(view),
            Expression::Is(primitive) => primitive.matches(view),
        }
    }
}

impl Primitive {
    fn matches(&self, view: &FilterFields) -> bool {
        match *self {
            Primitive::EtherType(ethertype) => view.ethertype == ethertype,
            Primitive::Protocol(number) => view.protocol == Some(number),
            Primitive::Vlan(None) => view.tags().next().is_some(),
            Primitive::Vlan(Some(id)) => view.tags().any(|tag| tag == id),
            Primitive::Ether(end, mac) => end.of(Some(view.macs), |one| one == mac),
            Primitive::Host(end, address) => end.of(view.addresses, |one| one == address),
            Primitive::Net(end, net) => end.of(view.addresses, |one| net.contains(&one)),
            Primitive::Port(end, port) => end.of(view.ports, |one| one == port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket, PacketBuilder, VlanId};

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const V4: ([u8; 4], [u8; 4]) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    const V6: ([u8; 16], [u8; 16]) = ([0xfd; 16], [0xfe; 16]);

    /// One frame of each kind, by name.
    fn frames() -> Vec<(&'static str, Vec<u8>)> {
        let arp = ArpEthIpv4Packet {
            operation: ArpOperation::REQUEST,
            sender_mac: A,
            sender_ipv4: V4.0,
            target_mac: [0; 6],
            target_ipv4: V4.1,
        };
        let made = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = Vec::new();
            write(&mut bytes);
            bytes
        };
        let v4 = || PacketBuilder::ethernet2(A, B).ipv4(V4.0, V4.1, 64);
        let v6 = || PacketBuilder::ethernet2(B, A).ipv6(V6.0, V6.1, 64);
        let arp = ArpPacket::from(arp);
        let tag = VlanId::try_new(100).unwrap();
        vec![
            (
                "arp",
                made(&|out| {
                    PacketBuilder::ethernet2(A, [0xff; 6]).arp(arp.clone()).write_to_vec(out).unwrap();
                }),
            ),
            ("icmp", made(&|out| v4().icmpv4_echo_request(1, 2).write_to_vec(out, &[0; 56]).unwrap())),
            ("tcp", made(&|out| v4().tcp(40000, 80, 7, 100).syn().write_to_vec(out, &[]).unwrap())),
            ("udp", made(&|out| v4().udp(5000, 53).write_to_vec(out, b"abc").unwrap())),
            ("icmp6", made(&|out| v6().icmpv6_echo_request(1, 2).write_to_vec(out, &[0; 8]).unwrap())),
            ("tcp6", made(&|out| v6().tcp(80, 40000, 7, 100).ack(1).write_to_vec(out, b"hello").unwrap())),
            (
                "vlan",
                made(&|out| {
                    let tagged = PacketBuilder::ethernet2(A, B).single_vlan(tag).ipv4(V4.0, V4.1, 64);
                    tagged.udp(5000, 53).write_to_vec(out, b"abc").unwrap();
                }),
            ),
        ]
    }

    /// The names of the frames that an expression lets pass.
    fn passing(expression: &str) -> String {
        let filter = Filter::parse(expression).unwrap_or_else(|error| panic!("{error}"));
        let frames = frames();
        let passing = frames.iter().filter(|(_, frame)| filter.matches(frame)).map(|(name, _)| *name);
        passing.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn primitives_select_matching_frames() {
        for (expression, expected) in [
            ("arp", "arp"),
            ("icmp", "icmp"),
            ("icmp6", "icmp6"),
            ("ip", "icmp tcp udp vlan"),
            ("ip6", "icmp6 tcp6"),
            ("tcp", "tcp tcp6"),
            ("udp", "udp vlan"),
            ("vlan", "vlan"),
            ("vlan 100 and udp", "vlan"),
            ("vlan 7", ""),
            ("ether src 02:00:00:00:00:02", "icmp6 tcp6"),
            ("ether dst 02:00:00:00:00:01", "icmp6 tcp6"),
            ("ether host 02:00:00:00:00:02", "icmp tcp udp icmp6 tcp6 vlan"),
            ("ether ff:ff:ff:ff:ff:ff", "arp"),
            ("host 192.0.2.1", "arp icmp tcp udp vlan"),
            ("src host 192.0.2.2", ""),
            ("dst 192.0.2.2 and not arp", "icmp tcp udp vlan"),
            ("fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd", "icmp6 tcp6"),
            ("net 192.0.2.0/24", "arp icmp tcp udp vlan"),
            ("src net fd00::/8", "icmp6 tcp6"),
            ("dst net fd00::/8", ""),
            ("port 80", "tcp tcp6"),
            ("tcp dst port 80", "tcp"),
            ("udp port 80", ""),
            ("dst port 53", "udp vlan"),
            ("not (tcp or udp) and !vlan", "arp icmp icmp6"),
            ("arp or icmp && ip6", ""),
            ("arp || (icmp6 and ip6)", "arp icmp6"),
            ("not not arp", "arp"),
        ] {
            assert_eq!(passing(expression), expected, "{expression}");
        }
    }

    #[test]
    fn reports_syntax_errors_with_position() {
        for (expression, at, why) in [
            ("tcp prt 80", 5, "'prt' instead of 'and' or 'or'"),
            ("tcp $ udp", 5, "'$' instead of 'and' or 'or'"),
            ("hst 192.0.2.1", 1, "'hst' is not a primitive"),
            ("host localhost", 6, "'localhost' instead of an IP address"),
            ("ether src 1:2", 11, "'1:2' instead of a MAC address"),
            ("net 192.0.2.0/40", 5, "'192.0.2.0/40' instead of a prefix like 192.0.2.0/24"),
            ("net", 4, "the end instead of a prefix like 192.0.2.0/24"),
            ("port 99999", 6, "'99999' instead of a number up to 65535"),
            ("vlan 4095", 6, "'4095' instead of a VLAN up to 4094"),
            ("tcp and", 8, "the end is not a primitive"),
            ("(tcp", 5, "the end instead of ')'"),
            ("tcp)", 4, "')' instead of 'and' or 'or'"),
            ("", 1, "the end is not a primitive"),
        ] {
            let error = Filter::parse(expression).unwrap_err();
            assert_eq!((error.at, error.why.as_str()), (at, why), "{expression}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn rejects_long_or_deep_expressions() {
        let long = vec!["tcp"; MAX_LENGTH].join(" or ");
        assert_eq!(Filter::parse(&long).unwrap_err().why, "longer than 1024 bytes");
        let deep = |depth| format!("{}tcp{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Filter::parse(&deep(MAX_DEPTH)).is_ok());
        for expression in [deep(MAX_DEPTH + 1), "!".repeat(1000) + "tcp", "(".repeat(MAX_LENGTH)] {
            assert_eq!(Filter::parse(&expression).unwrap_err().why, "nested deeper than 32");
        }
    }
}
