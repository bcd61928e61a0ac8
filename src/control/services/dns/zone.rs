//! The names that the server knows, and its answers about them. Pure: a query goes in, a reply comes out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use ipnet::IpNet;

/// Seconds for which an answer may be cached. Containers come and go.
const TTL: u32 = 5;
/// Most addresses in an answer, so that it fits into a datagram.
const MOST_ADDRESSES: usize = 24;
/// Length of the header (RFC 1035 §4.1.1).
pub(super) const HEADER: usize = 12;
/// Longest UDP message that both sides send (DNS flag day 2020).
pub(super) const UDP_PAYLOAD: u16 = 1232;

/// Names of containers, each with its addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Zone {
    /// The domain in which the names are, too.
    domain: String,
    /// Names in lower case.
    hosts: BTreeMap<String, Vec<IpAddr>>,
    /// The first name of each address.
    names: BTreeMap<IpAddr, String>,
    subnets: Vec<IpNet>,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ZoneAction {
    /// Send this reply.
    Reply(Vec<u8>),
    /// Ask a server of the host.
    Forward,
    /// It is not a query.
    Ignore,
}

impl Zone {
    /// A zone without names.
    pub(crate) fn new(domain: &str, subnets: impl IntoIterator<Item = IpNet>) -> Zone {
        let subnets = subnets.into_iter().collect();
        Zone { domain: domain.to_ascii_lowercase(), subnets, ..Zone::default() }
    }

    /// Adds a name of a host, or an alias of several.
    pub(crate) fn add(&mut self, name: &str, addresses: &[IpAddr]) {
        let name = name.to_ascii_lowercase();
        for address in addresses {
            self.names.entry(*address).or_insert_with(|| name.clone());
        }
        self.hosts.entry(name).or_default().extend(addresses);
    }

    /// The addresses of a name, with or without the domain.
    fn find(&self, name: &str) -> Option<&Vec<IpAddr>> {
        self.hosts.get(name).or_else(|| self.hosts.get(self.in_domain(name)?))
    }

    /// The part before the domain.
    fn in_domain<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(&self.domain)?.strip_suffix('.')
    }

    /// Decides about a message of a client. Over UDP a reply has at most as many bytes as the client accepts.
    pub(super) fn action(&self, message: &[u8], udp: bool) -> ZoneAction {
        const RESPONSE: u8 = 0x80;
        if message.len() < HEADER || message[2] & RESPONSE != 0 {
            return ZoneAction::Ignore;
        }
        let Ok(query) = Message::from_vec(message) else {
            let id = u16::from_be_bytes([message[0], message[1]]);
            return reply(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr));
        };
        let refused = |code| reply(&response(&query, code, Vec::new()));
        let [question] = &query.queries[..] else { return refused(ResponseCode::FormErr) };
        if query.metadata.op_code != OpCode::Query {
            return refused(ResponseCode::NotImp);
        }
        match self.answer(question) {
            None => ZoneAction::Forward,
            Some((code, records)) => {
                let whole = response(&query, code, records);
                match reply(&whole) {
                    ZoneAction::Reply(bytes) if udp && bytes.len() > usize::from(query.max_payload()) => {
                        reply(&whole.truncate())
                    }
                    whole => whole,
                }
            }
        }
    }

    /// The answer to a question about a name of ours; `None`: it is another's.
    fn answer(&self, question: &Query) -> Option<(ResponseCode, Vec<Record>)> {
        if question.query_class != DNSClass::IN {
            return None;
        }
        let name = question.name.to_ascii().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        if name.ends_with(".arpa") {
            return self.reverse(question);
        }
        let Some(addresses) = self.find(name) else {
            let is_ours = self.in_domain(name).is_some();
            // No name of one label is for the servers of the internet.
            let is_plain = !name.is_empty()
                && !name.contains('.')
                && matches!(question.query_type, RecordType::A | RecordType::AAAA);
            let is_apex = name == self.domain;
            return match (is_ours || is_plain, is_apex) {
                (_, true) => Some((ResponseCode::NoError, Vec::new())),
                (true, _) => Some((ResponseCode::NXDomain, Vec::new())),
                (false, _) => None,
            };
        };
        let data = addresses.iter().filter_map(|address| match (address, question.query_type) {
            (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(*address))),
            (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(*address))),
            _ => None,
        });
        let records =
            data.take(MOST_ADDRESSES).map(|data| Record::from_rdata(question.name.clone(), TTL, data));
        Some((ResponseCode::NoError, records.collect()))
    }

    /// The name of an address in a subnet of the switch.
    fn reverse(&self, question: &Query) -> Option<(ResponseCode, Vec<Record>)> {
        let net = question.name.parse_arpa_name().ok()?;
        let address = net.addr();
        let is_address = net.prefix_len() == net.max_prefix_len();
        if !is_address || !self.subnets.iter().any(|subnet| subnet.contains(&address)) {
            return None;
        }
        let Some(name) = self.names.get(&address) else { return Some((ResponseCode::NXDomain, Vec::new())) };
        let full = Name::from_ascii(format!("{name}.{}.", self.domain)).ok()?;
        let record = Record::from_rdata(question.name.clone(), TTL, RData::PTR(PTR(full)));
        let records = if question.query_type == RecordType::PTR { vec![record] } else { Vec::new() };
        Some((ResponseCode::NoError, records))
    }
}

/// The reply that a query is not answered, such as for a client that asks too much.
pub(super) fn failure(message: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    match reply(&response(&Message::from_vec(message).ok()?, code, Vec::new())) {
        ZoneAction::Reply(bytes) => Some(bytes),
        _ => None,
    }
}

fn response(query: &Message, code: ResponseCode, answers: Vec<Record>) -> Message {
    let mut message = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    message.metadata.recursion_desired = query.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    message.metadata.response_code = code;
    message.queries.clone_from(&query.queries);
    message.answers = answers;
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        message.set_edns(edns);
    }
    message
}

fn reply(message: &Message) -> ZoneAction {
    message.to_vec().map_or(ZoneAction::Ignore, ZoneAction::Reply)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone() -> Zone {
        let mut zone =
            Zone::new("lab", ["172.16.0.0/24".parse().unwrap(), "fd00:172:16::/64".parse().unwrap()]);
        let addresses =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        zone.add("container1", &addresses(&["172.16.0.2", "fd00:172:16::2"]));
        zone.add("web.shop", &addresses(&["172.16.0.3"]));
        zone.add("db", &addresses(&["172.16.0.2", "fd00:172:16::2"]));
        zone.add("db", &addresses(&["172.16.0.3"]));
        zone
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut query = Message::new(0x1234, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        query
    }

    fn answered(name: &str, kind: RecordType) -> Option<(ResponseCode, Vec<String>)> {
        match zone().action(&query(name, kind).to_vec().unwrap(), true) {
            ZoneAction::Reply(bytes) => {
                let reply = Message::from_vec(&bytes).unwrap();
                assert_eq!((reply.metadata.id, reply.metadata.message_type), (0x1234, MessageType::Response));
                let answers = reply.answers.iter().map(|record| record.data.to_string()).collect();
                Some((reply.metadata.response_code, answers))
            }
            ZoneAction::Forward => None,
            ZoneAction::Ignore => panic!("ignored"),
        }
    }

    #[test]
    fn answers_names_with_and_without_domain() {
        let found = |texts: &[&str]| {
            Some((ResponseCode::NoError, texts.iter().map(ToString::to_string).collect::<Vec<_>>()))
        };
        for name in ["container1.", "CONTAINER1.", "container1.lab.", "Container1.Lab."] {
            assert_eq!(answered(name, RecordType::A), found(&["172.16.0.2"]), "{name}");
            assert_eq!(answered(name, RecordType::AAAA), found(&["fd00:172:16::2"]), "{name}");
            assert_eq!(answered(name, RecordType::MX), found(&[]), "{name}: the name exists");
        }
        assert_eq!(answered("web.shop.lab.", RecordType::A), found(&["172.16.0.3"]));
        assert_eq!(answered("db.", RecordType::A), found(&["172.16.0.2", "172.16.0.3"]));
        assert_eq!(answered("2.0.16.172.in-addr.arpa.", RecordType::PTR), found(&["container1.lab."]));
        assert_eq!(
            answered(
                "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.1.0.0.2.7.1.0.0.0.d.f.ip6.arpa.",
                RecordType::PTR
            ),
            found(&["container1.lab."])
        );
    }

    #[test]
    fn other_names_do_not_exist_or_are_forwarded() {
        let missing = Some((ResponseCode::NXDomain, Vec::new()));
        for name in ["nobody.", "nobody.lab.", "a.b.lab."] {
            assert_eq!(answered(name, RecordType::A), missing, "{name}");
        }
        assert_eq!(answered("9.0.16.172.in-addr.arpa.", RecordType::PTR), missing);
        for (name, kind) in [
            ("example.org.", RecordType::A),
            ("com.", RecordType::NS),
            (".", RecordType::NS),
            ("1.113.0.203.in-addr.arpa.", RecordType::PTR),
            ("notlab.", RecordType::TXT),
        ] {
            assert_eq!(answered(name, kind), None, "{name}");
        }
    }

    #[test]
    fn malformed_messages_get_an_error_or_nothing() {
        let zone = zone();
        let valid = query("container1.", RecordType::A).to_vec().unwrap();
        for length in 0..valid.len() {
            match zone.action(&valid[..length], true) {
                ZoneAction::Reply(bytes) => {
                    let reply = Message::from_vec(&bytes).unwrap();
                    assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{length}");
                }
                ZoneAction::Ignore => assert!(length < HEADER),
                ZoneAction::Forward => panic!("{length} bytes were forwarded"),
            }
        }
        let mut reply = valid.clone();
        reply[2] |= 0x80;
        assert_eq!(zone.action(&reply, true), ZoneAction::Ignore, "a reply is not answered");
        let mut two = query("container1.", RecordType::A);
        two.add_query(Query::query(Name::root(), RecordType::A));
        let ZoneAction::Reply(bytes) = zone.action(&two.to_vec().unwrap(), true) else { panic!("no reply") };
        assert_eq!(Message::from_vec(&bytes).unwrap().metadata.response_code, ResponseCode::FormErr);
    }

    #[test]
    fn long_answer_is_truncated_over_udp_only() {
        let mut zone = zone();
        let many: Vec<IpAddr> = (1..=40).map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])).collect();
        zone.add("many", &many);
        let query = query("many.", RecordType::AAAA).to_vec().unwrap();
        let reply = |udp| match zone.action(&query, udp) {
            ZoneAction::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        };
        assert!(reply(true).metadata.truncation);
        assert_eq!((reply(false).metadata.truncation, reply(false).answers.len()), (false, MOST_ADDRESSES));
    }

    proptest! {
        /// Any message, or a query with some bytes changed, gets a reply with its identifier, or none.
        #[test]
        fn any_message_is_handled(
            random in proptest::collection::vec(any::<u8>(), 0..600),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut changed = query("container1.lab.", RecordType::A).to_vec().unwrap();
            for (at, byte) in &changes {
                let at = at.index(changed.len());
                changed[at] = *byte;
            }
            for message in [random, changed] {
                if let ZoneAction::Reply(reply) = zone().action(&message, true) {
                    prop_assert_eq!(&reply[..2], &message[..2]);
                    prop_assert!(reply[2] & 0x80 != 0);
                }
            }
        }
    }
}
