//! The messages of DHCPv6 (RFC 8415): what a client asks, and how an answer is written. Pure.

use std::net::Ipv6Addr;

use dhcproto::Name;
use dhcproto::v6::{
    DhcpOption, DhcpOptions, Encodable, IAAddr, IANA, Message, MessageType, OptionCode, Status, StatusCode,
};

use crate::wire::Mac;

/// Most associations of a message that are answered, and most addresses of one.
const MOST_ASSOCIATIONS: usize = 8;
const MOST_ADDRESSES: usize = 8;
/// Length of a DUID (§11.1).
const DUID_LENGTHS: std::ops::RangeInclusive<usize> = 3..=130;
/// There is no better server (§18.2.1): clients do not wait for another one.
const HIGHEST_PREFERENCE: u8 = 255;

/// What a client asks (§7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind6 {
    /// Which addresses are there?
    Solicit,
    /// These addresses, please.
    Request,
    /// Are these addresses right for the link?
    Confirm,
    /// It needs its addresses for longer, from the server that it has.
    Renew,
    /// It needs its addresses for longer, from any server.
    Rebind,
    /// It does not need its addresses any more.
    Release,
    /// Other hosts use the addresses.
    Decline,
    /// It needs the other settings only.
    Inform,
}

/// An association of a client (IA_NA, §12): it gets one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Association {
    /// Its identifier.
    pub(crate) iaid: u32,
    /// The addresses that the client has, or asks for.
    pub(crate) addresses: Vec<Ipv6Addr>,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request6 {
    pub(crate) kind: RequestKind6,
    /// The client's DUID. Only a request for settings may have none.
    pub(crate) client: Option<Vec<u8>>,
    /// It takes addresses without asking again (§18.3.1).
    pub(crate) rapid_commit: bool,
    pub(crate) associations: Vec<Association>,
    xid: [u8; 3],
}

impl Request6 {
    /// Reads a message to the server with this DUID; `None` if it is malformed, to another server, or not of a client
    /// (§16).
    ///
    /// The options are read one by one: [`dhcproto::v6::Message`] decodes all of them, and panics at some.
    pub(crate) fn parse(bytes: &[u8], server: &[u8]) -> Option<Request6> {
        let (&[kind, a, b, c], rest) = bytes.split_first_chunk()?;
        let kind = kind_of(kind.into())?;
        let options = options(rest)?;
        let option = |code| options.iter().find(|(other, _)| *other == code).map(|(_, data)| *data);
        let client = option(OptionCode::ClientId).filter(|duid| DUID_LENGTHS.contains(&duid.len()));
        let has_ids = match (kind, option(OptionCode::ServerId)) {
            (RequestKind6::Solicit | RequestKind6::Confirm | RequestKind6::Rebind, to) => {
                to.is_none() && client.is_some()
            }
            (RequestKind6::Inform, to) => to.is_none_or(|to| to == server),
            (_, to) => to == Some(server) && client.is_some(),
        };
        let all = options.iter().filter(|(code, _)| *code == OptionCode::IANA);
        let associations =
            all.take(MOST_ASSOCIATIONS).map(|(_, data)| association(data)).collect::<Option<_>>()?;
        has_ids.then(|| Request6 {
            kind,
            client: client.map(<[u8]>::to_vec),
            rapid_commit: option(OptionCode::RapidCommit).is_some(),
            associations,
            xid: [a, b, c],
        })
    }
}

fn kind_of(kind: MessageType) -> Option<RequestKind6> {
    Some(match kind {
        MessageType::Solicit => RequestKind6::Solicit,
        MessageType::Request => RequestKind6::Request,
        MessageType::Confirm => RequestKind6::Confirm,
        MessageType::Renew => RequestKind6::Renew,
        MessageType::Rebind => RequestKind6::Rebind,
        MessageType::Release => RequestKind6::Release,
        MessageType::Decline => RequestKind6::Decline,
        MessageType::InformationRequest => RequestKind6::Inform,
        _ => return None,
    })
}

/// The options of a message, or of an option; `None` if one is truncated.
fn options(mut bytes: &[u8]) -> Option<Vec<(OptionCode, &[u8])>> {
    let mut options = Vec::new();
    while !bytes.is_empty() {
        let (&[a, b, c, d], rest) = bytes.split_first_chunk()?;
        let [code, length] = [[a, b], [c, d]].map(u16::from_be_bytes);
        let (data, rest) = rest.split_at_checked(length.into())?;
        options.push((code.into(), data));
        bytes = rest;
    }
    Some(options)
}

/// The association in an option: IAID, T1, T2, and options with addresses (§21.4, §21.6).
fn association(data: &[u8]) -> Option<Association> {
    const T1_AND_T2: usize = 8;
    let (iaid, rest) = data.split_first_chunk()?;
    let options = options(rest.get(T1_AND_T2..)?)?;
    let all = options.iter().filter(|(code, _)| *code == OptionCode::IAAddr).take(MOST_ADDRESSES);
    let address = |data: &[u8]| data.first_chunk().map(|octets: &[u8; 16]| Ipv6Addr::from(*octets));
    let addresses = all.map(|(_, data)| address(data)).collect::<Option<_>>()?;
    Some(Association { iaid: u32::from_be_bytes(*iaid), addresses })
}

/// What an association gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) iaid: u32,
    /// Its address, or why it has none; `None`: nothing is to say about it.
    pub(crate) address: Option<Result<Ipv6Addr, Status>>,
    /// Addresses that it must not use any more.
    pub(crate) withdrawn: Vec<Ipv6Addr>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer6 {
    /// These addresses are free for the client.
    Advertise(Vec<Grant>),
    /// It has these addresses from now on.
    Reply(Vec<Grant>),
    /// The result alone, and associations that the server does not know.
    Status(Status, Vec<Grant>),
    /// The settings beside addresses.
    Inform,
}

/// What all clients of a gateway are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms6 {
    /// The DUID of the server.
    pub(crate) server: Vec<u8>,
    /// The DNS servers.
    pub(crate) dns: Vec<Ipv6Addr>,
    /// The domain of the containers' names, if they are served.
    pub(crate) domain: Option<String>,
    /// How long a client has its addresses, in seconds.
    pub(crate) lease_time: u32,
}

/// The DUID of a server with this MAC address (DUID-LL, §11.4). It is the same after a restart, because the MAC address
/// is.
pub(crate) fn server_duid(mac: Mac) -> Vec<u8> {
    const LINK_LAYER: [u8; 2] = [0, 3];
    const ETHERNET: [u8; 2] = [0, 1];
    [&LINK_LAYER[..], &ETHERNET, &mac.0].concat()
}

/// Writes an answer; `None` if it is too long.
pub(crate) fn write(request: &Request6, answer: Answer6, terms: &Terms6) -> Option<Vec<u8>> {
    let kind =
        if matches!(answer, Answer6::Advertise(_)) { MessageType::Advertise } else { MessageType::Reply };
    let mut message = Message::new_with_id(kind, request.xid);
    let options = message.opts_mut();
    options.insert(DhcpOption::ServerId(terms.server.clone()));
    request.client.iter().for_each(|client| options.insert(DhcpOption::ClientId(client.clone())));
    if request.kind == RequestKind6::Solicit && matches!(answer, Answer6::Reply(_)) {
        options.insert(DhcpOption::RapidCommit);
    }
    if kind == MessageType::Advertise {
        options.insert(DhcpOption::Preference(HIGHEST_PREFERENCE));
    }
    let grants = match answer {
        Answer6::Status(status, grants) => {
            options.insert(status_code(status));
            grants
        }
        Answer6::Advertise(grants) | Answer6::Reply(grants) => {
            settings(terms).for_each(|option| options.insert(option));
            grants
        }
        Answer6::Inform => {
            settings(terms).for_each(|option| options.insert(option));
            Vec::new()
        }
    };
    grants.into_iter().for_each(|grant| options.insert(grant.option(terms.lease_time)));
    message.to_vec().ok()
}

impl Grant {
    /// The option. A client renews after half of the lifetime, and asks any server after 80 % of it (§14.2).
    fn option(self, lease_time: u32) -> DhcpOption {
        let address = |addr, lifetime| {
            let (preferred_life, valid_life) = (lifetime, lifetime);
            DhcpOption::IAAddr(IAAddr { addr, preferred_life, valid_life, opts: DhcpOptions::new() })
        };
        let mut opts = DhcpOptions::new();
        match self.address {
            Some(Ok(granted)) => opts.insert(address(granted, lease_time)),
            Some(Err(status)) => opts.insert(status_code(status)),
            None => {}
        }
        self.withdrawn.into_iter().for_each(|withdrawn| opts.insert(address(withdrawn, 0)));
        DhcpOption::IANA(IANA { id: self.iaid, t1: lease_time / 2, t2: lease_time / 5 * 4, opts })
    }
}

fn status_code(status: Status) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: String::new() })
}

/// The settings beside addresses.
fn settings(terms: &Terms6) -> impl Iterator<Item = DhcpOption> {
    let dns = (!terms.dns.is_empty()).then(|| DhcpOption::DomainNameServers(terms.dns.clone()));
    let name = terms.domain.as_ref().and_then(|domain| Name::from_ascii(format!("{domain}.")).ok());
    let domain = name.map(|name| DhcpOption::DomainSearchList(vec![name]));
    dns.into_iter().chain(domain)
}

#[cfg(test)]
mod tests {
    use dhcproto::Decodable;
    use proptest::prelude::*;

    use super::*;

    const CLIENT: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

    fn server() -> Vec<u8> {
        server_duid(Mac([2, 0, 0, 0, 0, 9]))
    }

    fn terms() -> Terms6 {
        let dns = vec!["2001:db8::1".parse().unwrap()];
        Terms6 { server: server(), dns, domain: Some("lab.test".to_owned()), lease_time: 1000 }
    }

    fn ia(iaid: u32, addresses: &[Ipv6Addr]) -> DhcpOption {
        let address = |addr: &Ipv6Addr| {
            DhcpOption::IAAddr(IAAddr {
                addr: *addr,
                preferred_life: 0,
                valid_life: 0,
                opts: DhcpOptions::new(),
            })
        };
        let opts = addresses.iter().map(address).collect();
        DhcpOption::IANA(IANA { id: iaid, t1: 0, t2: 0, opts })
    }

    /// A message with these options, beside the client's DUID.
    fn message(kind: MessageType, options: Vec<DhcpOption>) -> Vec<u8> {
        let mut message = Message::new_with_id(kind, [1, 2, 3]);
        let client = DhcpOption::ClientId(CLIENT.to_vec());
        options.into_iter().chain([client]).for_each(|option| message.opts_mut().insert(option));
        message.to_vec().unwrap()
    }

    fn to_server() -> DhcpOption {
        DhcpOption::ServerId(server())
    }

    fn parse(bytes: &[u8]) -> Option<Request6> {
        Request6::parse(bytes, &server())
    }

    fn answered(kind: MessageType, options: Vec<DhcpOption>, answer: Answer6) -> Message {
        let request = parse(&message(kind, options)).unwrap();
        Message::from_bytes(&write(&request, answer, &terms()).unwrap()).unwrap()
    }

    fn granted(iaid: u32, address: Result<Ipv6Addr, Status>) -> Grant {
        Grant { iaid, address: Some(address), withdrawn: Vec::new() }
    }

    #[test]
    fn reads_associations_with_their_addresses() {
        let request =
            parse(&message(MessageType::Request, vec![to_server(), ia(7, &[ADDRESS]), ia(8, &[])])).unwrap();
        assert_eq!((request.kind, request.client.as_deref()), (RequestKind6::Request, Some(&CLIENT[..])));
        let mut associations = request.associations;
        associations.sort_by_key(|association| association.iaid);
        let association = |iaid, addresses| Association { iaid, addresses };
        assert_eq!(associations, [association(7, vec![ADDRESS]), association(8, vec![])]);
        assert!(!request.rapid_commit);
        let rapid = message(MessageType::Solicit, vec![DhcpOption::RapidCommit, ia(7, &[])]);
        assert!(parse(&rapid).unwrap().rapid_commit);
        let many = (0..20).map(|iaid| ia(iaid, &[ADDRESS; 20])).collect();
        let many = parse(&message(MessageType::Solicit, many)).unwrap().associations;
        assert_eq!((many.len(), many[0].addresses.len()), (MOST_ASSOCIATIONS, MOST_ADDRESSES));
    }

    #[test]
    fn advertisement_has_addresses_and_settings() {
        let grants = vec![granted(7, Ok(ADDRESS)), granted(8, Err(Status::NoAddrsAvail))];
        let reply = answered(MessageType::Solicit, vec![ia(7, &[]), ia(8, &[])], Answer6::Advertise(grants));
        assert_eq!((reply.msg_type(), reply.xid()), (MessageType::Advertise, [1, 2, 3]));
        for option in [
            to_server(),
            DhcpOption::ClientId(CLIENT.to_vec()),
            DhcpOption::Preference(255),
            DhcpOption::DomainNameServers(vec!["2001:db8::1".parse().unwrap()]),
            DhcpOption::DomainSearchList(vec![Name::from_ascii("lab.test.").unwrap()]),
        ] {
            assert_eq!(reply.opts().get(OptionCode::from(&option)), Some(&option));
        }
        let association = |iaid: u32| {
            let all = reply.opts().get_all(OptionCode::IANA).unwrap_or_default();
            all.iter().find_map(|option| match option {
                DhcpOption::IANA(association) if association.id == iaid => Some(association),
                _ => None,
            })
        };
        let (Some(first), Some(second)) = (association(7), association(8)) else { panic!("{reply:?}") };
        assert_eq!((first.id, first.t1, first.t2), (7, 500, 800));
        let Some(DhcpOption::IAAddr(address)) = first.opts.get(OptionCode::IAAddr) else {
            panic!("{first:?}")
        };
        assert_eq!((address.addr, address.preferred_life, address.valid_life), (ADDRESS, 1000, 1000));
        assert_eq!(second.opts.get(OptionCode::StatusCode), Some(&status_code(Status::NoAddrsAvail)));
    }

    #[test]
    fn rapid_reply_says_that_it_is_one() {
        let options = vec![DhcpOption::RapidCommit, ia(7, &[])];
        let reply = answered(MessageType::Solicit, options, Answer6::Reply(vec![granted(7, Ok(ADDRESS))]));
        assert_eq!(reply.msg_type(), MessageType::Reply);
        assert!(reply.opts().get(OptionCode::RapidCommit).is_some());
        assert!(reply.opts().get(OptionCode::Preference).is_none());
        let renewal = vec![to_server(), ia(7, &[ADDRESS])];
        let reply = answered(MessageType::Renew, renewal, Answer6::Reply(vec![granted(7, Ok(ADDRESS))]));
        assert!(reply.opts().get(OptionCode::RapidCommit).is_none());
    }

    #[test]
    fn withdrawn_addresses_have_no_lifetime() {
        let grant = Grant { iaid: 7, address: None, withdrawn: vec![ADDRESS] };
        let reply = answered(MessageType::Rebind, vec![ia(7, &[ADDRESS])], Answer6::Reply(vec![grant]));
        let Some(DhcpOption::IANA(association)) = reply.opts().get(OptionCode::IANA) else {
            panic!("{reply:?}")
        };
        let Some(DhcpOption::IAAddr(address)) = association.opts.get(OptionCode::IAAddr) else {
            panic!("{reply:?}")
        };
        assert_eq!((address.addr, address.valid_life), (ADDRESS, 0));
    }

    #[test]
    fn result_alone_has_no_settings() {
        let answer = Answer6::Status(Status::Success, Vec::new());
        let reply = answered(MessageType::Release, vec![to_server(), ia(7, &[ADDRESS])], answer);
        assert_eq!(reply.opts().get(OptionCode::StatusCode), Some(&status_code(Status::Success)));
        assert!(reply.opts().get(OptionCode::DomainNameServers).is_none());
    }

    #[test]
    fn ignores_what_is_not_a_request_to_this_server() {
        let other = || DhcpOption::ServerId(vec![0, 3, 0, 1, 9]);
        for (kind, valid, invalid) in [
            (MessageType::Solicit, vec![], vec![to_server()]),
            (MessageType::Confirm, vec![], vec![to_server()]),
            (MessageType::Rebind, vec![], vec![to_server()]),
            (MessageType::Request, vec![to_server()], vec![]),
            (MessageType::Renew, vec![to_server()], vec![other()]),
            (MessageType::Release, vec![to_server()], vec![other()]),
            (MessageType::Decline, vec![to_server()], vec![]),
            (MessageType::InformationRequest, vec![to_server()], vec![other()]),
        ] {
            assert!(parse(&message(kind, valid)).is_some(), "{kind:?}");
            assert!(parse(&message(kind, invalid)).is_none(), "{kind:?}");
        }
        for kind in
            [MessageType::Reply, MessageType::Advertise, MessageType::RelayForw, MessageType::Unknown(99)]
        {
            assert!(parse(&message(kind, Vec::new())).is_none(), "{kind:?}");
        }
        assert!(parse(&[1, 0, 0, 0]).is_none(), "no DUID");
        assert!(parse(&[11, 0, 0, 0]).is_some(), "a request for settings needs none");
        assert!(parse(&[1, 0, 0, 0, 0, 1, 0, 2, 0, 3]).is_none(), "a DUID of two bytes");
    }

    proptest! {
        /// Any message, or a request with some bytes changed, is read or ignored.
        #[test]
        fn any_message_is_handled(
            random in proptest::collection::vec(any::<u8>(), 0..600),
            kind in 0u8..20,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut changed = message(MessageType::Request, vec![to_server(), ia(7, &[ADDRESS]), ia(8, &[])]);
            for (at, byte) in &changes {
                let at = at.index(changed.len());
                changed[at] = *byte;
            }
            let typed = [&[kind, 0, 0, 0][..], &random].concat();
            // Codes of options that dhcproto decodes, with any contents.
            let options = random.chunks(9).flat_map(|data| {
                let length = u8::try_from(data.len()).unwrap() - 1;
                [&[0, data[0] % 64, 0, length][..], &data[1..]].concat()
            });
            let with_options: Vec<u8> = [1, 0, 0, 0, 0, 1, 0, 3, 1, 2, 3].into_iter().chain(options).collect();
            for message in [random, typed, changed, with_options] {
                if let Some(request) = parse(&message) {
                    let grants = request.associations.iter().map(|ia| granted(ia.iaid, Ok(ADDRESS))).collect();
                    prop_assert!(write(&request, Answer6::Reply(grants), &terms()).is_some());
                }
            }
        }
    }
}
