//! The messages of DHCP (RFC 2131): what a client asks, and how an answer is written. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{
    CLIENT_PORT, DhcpOption, Encodable, Flags, HType, MIN_PACKET_SIZE, Message, MessageType, Opcode,
    OptionCode, borrowed,
};
use ipnet::Ipv4Net;

use crate::wire::Mac;

/// Length of an Ethernet address in `chaddr`.
const MAC_LENGTH: u8 = 6;

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// Which addresses are there?
    Discover,
    /// This address, please.
    Request,
    /// It does not need its address any more.
    Release,
    /// Another host uses the address.
    Decline,
    /// It has an address and needs the other settings.
    Inform,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: RequestKind,
    /// Its MAC address, as it says.
    pub(crate) mac: Mac,
    /// The address that it uses, or 0.0.0.0.
    pub(crate) ciaddr: Ipv4Addr,
    /// The address that it asks for.
    pub(crate) requested: Option<Ipv4Addr>,
    /// The server that it has chosen.
    pub(crate) server: Option<Ipv4Addr>,
    xid: u32,
    flags: u16,
    client_id: Option<Vec<u8>>,
}

impl Request {
    /// The address that it asks for, or uses already.
    pub(crate) fn wanted(&self) -> Option<Ipv4Addr> {
        self.requested.or(Some(self.ciaddr).filter(|address| !address.is_unspecified()))
    }

    /// Reads a message; `None` if it is malformed, not from an Ethernet client, or from a relay agent.
    ///
    /// The fields are read one by one: [`dhcproto::v4::Message`] decodes all options, and panics at some of them.
    pub(super) fn parse(bytes: &[u8]) -> Option<Request> {
        let message = borrowed::Message::new(bytes).ok()?;
        let is_of_client = message.opcode() == Opcode::BootRequest && message.giaddr().is_unspecified();
        if !is_of_client || message.htype() != HType::Eth || message.hlen() != MAC_LENGTH {
            return None;
        }
        let option = |code| message.opts().find(|option| option.code() == code);
        let address = |code| {
            let bytes: [u8; 4] = option(code)?.data().try_into().ok()?;
            Some(Ipv4Addr::from(bytes))
        };
        let &[kind] = option(OptionCode::MessageType)?.data() else { return None };
        let kind = match MessageType::from(kind) {
            MessageType::Discover => RequestKind::Discover,
            MessageType::Request => RequestKind::Request,
            MessageType::Release => RequestKind::Release,
            MessageType::Decline => RequestKind::Decline,
            MessageType::Inform => RequestKind::Inform,
            _ => return None,
        };
        Some(Request {
            kind,
            mac: Mac(message.chaddr().try_into().ok()?),
            ciaddr: message.ciaddr(),
            requested: address(OptionCode::RequestedIpAddress),
            server: address(OptionCode::ServerIdentifier),
            xid: message.xid(),
            flags: message.flags().into(),
            client_id: option(OptionCode::ClientIdentifier).map(|id| id.data().to_vec()),
        })
    }
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DhcpAnswer {
    /// This address is free for the client, whose device has this MTU.
    Offer(Ipv4Addr, u32),
    /// It has the address from now on.
    Ack(Ipv4Addr, u32),
    /// The settings beside the address.
    Inform(u32),
    /// It must not use the address that it asks for.
    Nak,
    /// No answer, because it gets no address.
    NoAddress,
    /// No answer.
    None,
}

/// What all clients of a gateway are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// The address of the gateway in its subnet. It is the server, too.
    pub(super) gateway: Ipv4Net,
    /// The DNS servers.
    pub(super) dns: Vec<Ipv4Addr>,
    /// The domain of the containers' names, if they are served.
    pub(super) domain: Option<String>,
    /// How long a client has its address, in seconds.
    pub(super) lease_time: u32,
}

/// Writes an answer. Returns it with its destination, or `None` if there is none.
pub(super) fn write(request: &Request, answer: DhcpAnswer, terms: &Terms) -> Option<(Vec<u8>, SocketAddrV4)> {
    let (kind, address, mtu) = match answer {
        DhcpAnswer::Offer(address, mtu) => (MessageType::Offer, Some(address), Some(mtu)),
        DhcpAnswer::Ack(address, mtu) => (MessageType::Ack, Some(address), Some(mtu)),
        DhcpAnswer::Inform(mtu) => (MessageType::Ack, None, Some(mtu)),
        DhcpAnswer::Nak => (MessageType::Nak, None, None),
        DhcpAnswer::NoAddress | DhcpAnswer::None => return None,
    };
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootReply)
        .set_xid(request.xid)
        .set_flags(Flags::new(request.flags))
        .set_chaddr(&request.mac.0)
        .set_yiaddr(address.unwrap_or(Ipv4Addr::UNSPECIFIED));
    if answer != DhcpAnswer::Nak {
        message.set_ciaddr(request.ciaddr);
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(terms.gateway.addr()));
    // RFC 6842.
    if let Some(id) = &request.client_id {
        options.insert(DhcpOption::ClientIdentifier(id.clone()));
    }
    if address.is_some() {
        options.insert(DhcpOption::AddressLeaseTime(terms.lease_time));
    }
    if let Some(mtu) = mtu {
        settings(terms, mtu).for_each(|option| _ = options.insert(option));
    }
    let mut bytes = message.to_vec().ok()?;
    bytes.resize(bytes.len().max(MIN_PACKET_SIZE), 0);
    Some((bytes, SocketAddrV4::new(destination(request, answer), CLIENT_PORT)))
}

/// Without an address a client has to be reached by broadcast: the socket cannot send to a MAC address. So are
/// refusals, because the client may not have the address that it uses (RFC 2131 §4.1).
fn destination(request: &Request, answer: DhcpAnswer) -> Ipv4Addr {
    match request.ciaddr {
        Ipv4Addr::UNSPECIFIED => Ipv4Addr::BROADCAST,
        _ if answer == DhcpAnswer::Nak => Ipv4Addr::BROADCAST,
        address => address,
    }
}

/// The settings beside the address.
fn settings(terms: &Terms, mtu: u32) -> impl Iterator<Item = DhcpOption> {
    let dns = (!terms.dns.is_empty()).then(|| DhcpOption::DomainNameServer(terms.dns.clone()));
    [
        Some(DhcpOption::SubnetMask(terms.gateway.netmask())),
        Some(DhcpOption::BroadcastAddr(terms.gateway.broadcast())),
        Some(DhcpOption::Router(vec![terms.gateway.addr()])),
        dns,
        terms.domain.clone().map(DhcpOption::DomainName),
        u16::try_from(mtu).ok().map(DhcpOption::InterfaceMtu),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use dhcproto::Decodable;
    use proptest::prelude::*;

    use super::*;

    /// Where the options start, after the magic number (RFC 2131 §3).
    const OPTIONS: usize = 240;
    const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn terms() -> Terms {
        Terms {
            gateway: "172.16.0.1/24".parse().unwrap(),
            dns: vec![Ipv4Addr::new(172, 16, 0, 1)],
            domain: Some("lab".to_owned()),
            lease_time: 3600,
        }
    }

    fn message(kind: MessageType, edit: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::default();
        message.set_xid(7).set_chaddr(&CLIENT.0).opts_mut().insert(DhcpOption::MessageType(kind));
        edit(&mut message);
        message.to_vec().unwrap()
    }

    fn answered(bytes: &[u8], answer: DhcpAnswer) -> (Message, SocketAddrV4) {
        let (reply, to) = write(&Request::parse(bytes).unwrap(), answer, &terms()).unwrap();
        assert!(reply.len() >= MIN_PACKET_SIZE);
        (Message::from_bytes(&reply).unwrap(), to)
    }

    #[test]
    fn offer_has_address_and_settings() {
        let id = DhcpOption::ClientIdentifier(vec![1, 2, 3]);
        let discover = message(MessageType::Discover, |message| {
            message.opts_mut().insert(id.clone());
        });
        let address = Ipv4Addr::new(172, 16, 0, 2);
        let (reply, to) = answered(&discover, DhcpAnswer::Offer(address, 1400));
        assert_eq!((reply.yiaddr(), reply.xid(), reply.chaddr()), (address, 7, CLIENT.0.as_slice()));
        assert_eq!(to, "255.255.255.255:68".parse().unwrap());
        for option in [
            id,
            DhcpOption::MessageType(MessageType::Offer),
            DhcpOption::ServerIdentifier("172.16.0.1".parse().unwrap()),
            DhcpOption::SubnetMask("255.255.255.0".parse().unwrap()),
            DhcpOption::BroadcastAddr("172.16.0.255".parse().unwrap()),
            DhcpOption::Router(vec!["172.16.0.1".parse().unwrap()]),
            DhcpOption::DomainNameServer(vec!["172.16.0.1".parse().unwrap()]),
            DhcpOption::DomainName("lab".to_owned()),
            DhcpOption::InterfaceMtu(1400),
            DhcpOption::AddressLeaseTime(3600),
        ] {
            assert_eq!(reply.opts().get(OptionCode::from(&option)), Some(&option));
        }
    }

    #[test]
    fn renewal_is_answered_at_the_address_and_refusal_by_broadcast() {
        let address = Ipv4Addr::new(172, 16, 0, 2);
        let renewal = message(MessageType::Request, |message| _ = message.set_ciaddr(address));
        assert_eq!(answered(&renewal, DhcpAnswer::Ack(address, 1500)).1, SocketAddrV4::new(address, 68));
        let (refusal, to) = answered(&renewal, DhcpAnswer::Nak);
        assert_eq!((*to.ip(), refusal.yiaddr()), (Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED));
        assert!(refusal.opts().get(OptionCode::AddressLeaseTime).is_none());
    }

    #[test]
    fn settings_alone_have_no_address_and_no_lease_time() {
        let inform = message(MessageType::Inform, |message| _ = message.set_ciaddr([172, 16, 0, 9]));
        let (reply, to) = answered(&inform, DhcpAnswer::Inform(1500));
        assert_eq!((reply.yiaddr(), to.to_string().as_str()), (Ipv4Addr::UNSPECIFIED, "172.16.0.9:68"));
        assert!(reply.opts().get(OptionCode::AddressLeaseTime).is_none());
        assert!(reply.opts().get(OptionCode::Router).is_some());
    }

    #[test]
    fn ignores_what_is_not_a_request_of_a_client() {
        let valid = message(MessageType::Discover, |_| {});
        assert!(Request::parse(&valid).is_some());
        for length in 0..OPTIONS + 3 {
            assert_eq!(Request::parse(&valid[..length]), None, "{length} bytes");
        }
        for (at, byte) in [(0, 2), (1, 6), (2, 16), (2, 255), (24, 10), (236, 0), (242, 2), (242, 99)] {
            let mut changed = valid.clone();
            changed[at] = byte;
            assert_eq!(Request::parse(&changed), None, "byte {at} is {byte}");
        }
    }

    proptest! {
        /// Any message, or a request with some bytes changed, is read or ignored.
        #[test]
        fn any_message_is_handled(
            random in proptest::collection::vec(any::<u8>(), 0..600),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut changed = message(MessageType::Request, |message| {
                message.opts_mut().insert(DhcpOption::RequestedIpAddress(Ipv4Addr::new(172, 16, 0, 2)));
            });
            let mut options = changed.clone();
            for (at, byte) in &changes {
                let (any, option) = (at.index(changed.len()), OPTIONS + at.index(options.len() - OPTIONS));
                (changed[any], options[option]) = (*byte, *byte);
            }
            options.extend(&random);
            for message in [random, changed, options] {
                if let Some(request) = Request::parse(&message) {
                    prop_assert!(write(&request, DhcpAnswer::Ack(Ipv4Addr::LOCALHOST, 1500), &terms()).is_some());
                }
            }
        }
    }
}
