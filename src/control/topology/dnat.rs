//! The rules of published ports in the table of the routing ([`super::nat`]).
//!
//! A packet to a local address and a published port gets the address and the port of the container, whether it comes
//! from outside or from the host itself. The container sees the client's own address, but for two kinds of clients:
//!
//! - 127.0.0.1, to which a container cannot reply. The host port routes from and to it (`route_localnet` in Linux
//!   `Documentation/networking/ip-sysctl.rst`), and the loopback chain drops what containers send from and to it.
//! - A host in the subnet of the container, which would get the reply directly and not through the host.
//!
//! Both are masqueraded. From ::1 the kernel routes nothing.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::expr::{
    CT, Expression, Fib, FibFlag, FibResult, Map, MetaKey, NamedExpression, Range, SetItem,
};
use nftables::schema::{Chain, NfListObject};
use nftables::stmt::{JumpTarget, Match, NAT, NATFamily, Operator, Statement};
use nftables::types::{NfChainType, NfFamily, NfHook};

use super::nat::{chain, field, host_ports, prefix, rule};
use super::routing::Routing;
use crate::control::report::PublishedPort;

/// The standard chain priorities `raw` and `dstnat` of nft(8). Of the hook output, `dstnat` has only this number.
const RAW_PRIORITY: i32 = -300;
const DSTNAT_PRIORITY: i32 = -100;

/// The chain that translates the destination.
const PUBLISHED: &str = "published";
const LOOPBACK: &str = "loopback";

/// Drops what containers send from and to 127.0.0.0/8. The chain is always there, so that none of it gets through while
/// `route_localnet` changes.
pub(super) fn add_loopback_rules<'a>(batch: &mut Batch<'a>, table: &'a str, routing: &'a Routing) {
    batch.add(chain(table, LOOPBACK, (NfChainType::Filter, NfHook::Prerouting, RAW_PRIORITY)));
    for end in ["saddr", "daddr"] {
        let from_containers = host_ports(MetaKey::Iifname, Operator::EQ, routing);
        batch.add(rule(table, LOOPBACK, vec![from_containers, is_loopback4(end), Statement::Drop(None)]));
    }
}

/// Adds the chains, and the rules of all but the forward chain.
pub(super) fn add_rules<'a>(batch: &mut Batch<'a>, table: &'a str, routing: &'a Routing) {
    batch.add(NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: table.into(),
        name: PUBLISHED.into(),
        ..Chain::default()
    }));
    batch.add(chain(table, "prerouting", (NfChainType::NAT, NfHook::Prerouting, DSTNAT_PRIORITY)));
    batch.add(chain(table, "output", (NfChainType::NAT, NfHook::Output, DSTNAT_PRIORITY)));
    let mut add = |chain, statements| batch.add(rule(table, chain, statements));
    // Packets of the host itself to 127.0.0.1 do not pass here.
    add("prerouting", vec![is_loopback4("daddr"), Statement::Return(None)]);
    add("prerouting", vec![to_this_host(), translate()]);
    add("output", vec![equal(field("ip6", "daddr"), text("::1")), Statement::Return(None)]);
    add("output", vec![to_this_host(), translate()]);
    for published in &routing.published {
        published.targets.iter().for_each(|target| add(PUBLISHED, translation(&published.port, *target)));
    }
    let to_containers = || host_ports(MetaKey::Oifname, Operator::EQ, routing);
    add("postrouting", vec![is_loopback4("saddr"), to_containers(), Statement::Masquerade(None)]);
    for subnet in routing.subnets() {
        let within = ["saddr", "daddr"].map(|end| equal(field(family(subnet.addr()), end), prefix(subnet)));
        let [from, to] = within;
        let masquerade = Statement::Masquerade(None);
        add("postrouting", vec![from, to, to_containers(), is_published(), masquerade]);
    }
}

/// The rules of the forward chain: packets to published ports, and the replies.
pub(super) fn forward_rules(routing: &Routing) -> [Vec<Statement<'_>>; 2] {
    let accept = || Statement::Accept(None);
    let to_containers = host_ports(MetaKey::Oifname, Operator::EQ, routing);
    let from_containers = host_ports(MetaKey::Iifname, Operator::EQ, routing);
    let is_reply = Statement::Match(Match { left: ct("direction"), right: text("reply"), op: Operator::EQ });
    [vec![to_containers, is_published(), accept()], vec![from_containers, is_reply, is_published(), accept()]]
}

/// `ip daddr ADDRESS tcp dport PORTS dnat ip to TARGET:PORTS`
fn translation(port: &PublishedPort, target: IpAddr) -> Vec<Statement<'static>> {
    let address = port.host_address.filter(|address| !address.is_unspecified());
    let at_address =
        address.map(|address| equal(field(family(address), "daddr"), text(&address.to_string())));
    let dport = || field(port.protocol.name(), "dport");
    let number = |number: u16| Expression::Number(number.into());
    let host_ports = match port.host_ports.count() {
        1 => number(port.host_ports.first()),
        _ => {
            let range = [number(port.host_ports.first()), number(port.host_ports.last())];
            Expression::Range(Box::new(Range { range }))
        }
    };
    let container_ports = match (port.host_ports == port.container_ports, port.host_ports.count()) {
        // They stay as they are.
        (true, _) => None,
        (false, 1) => Some(number(port.container_ports.first())),
        // nft can give a range, from which the kernel would choose.
        (false, _) => {
            let pairs =
                port.pairs().map(|(host, container)| SetItem::Mapping(number(host), number(container)));
            let data = Expression::Named(NamedExpression::Set(pairs.collect()));
            Some(Expression::Named(NamedExpression::Map(Box::new(Map { key: dport(), data }))))
        }
    };
    let to = NAT {
        family: Some(if target.is_ipv4() { NATFamily::IP } else { NATFamily::IP6 }),
        addr: Some(text(&target.to_string())),
        port: container_ports,
        flags: None,
    };
    at_address.into_iter().chain([equal(dport(), host_ports), Statement::DNAT(Some(to))]).collect()
}

/// `fib daddr type local`
fn to_this_host() -> Statement<'static> {
    let fib = Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr]) };
    equal(Expression::Named(NamedExpression::Fib(fib)), text("local"))
}

fn translate() -> Statement<'static> {
    Statement::Jump(JumpTarget { target: PUBLISHED.into() })
}

/// `ip END 127.0.0.0/8`
fn is_loopback4(end: &str) -> Statement<'static> {
    let network = IpNet::V4(ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8));
    equal(field("ip", end), prefix(&network))
}

/// `ct status dnat`: the connection of the packet is one to a published port, of this switch or of another program.
fn is_published() -> Statement<'static> {
    Statement::Match(Match { left: ct("status"), right: text("dnat"), op: Operator::IN })
}

fn ct(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))
}

fn equal<'a>(left: Expression<'a>, right: Expression<'a>) -> Statement<'a> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn text(text: &str) -> Expression<'static> {
    Expression::String(text.to_owned().into())
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule_of(port: &str, target: &str) -> Value {
        let port = port.parse().unwrap();
        serde_json::to_value(translation(&port, target.parse().unwrap())).unwrap()
    }

    fn matched(protocol: &str, field: &str, right: &Value) -> Value {
        let left = json!({"payload": {"protocol": protocol, "field": field}});
        json!({"match": {"left": left, "op": "==", "right": right}})
    }

    #[test]
    fn translates_one_port() {
        let expected = json!([
            matched("tcp", "dport", &json!(8080)),
            {"dnat": {"addr": "172.16.0.2", "family": "ip", "port": 80}},
        ]);
        assert_eq!(rule_of("8080:80", "172.16.0.2"), expected);
        assert_eq!(rule_of("0.0.0.0:8080:80", "172.16.0.2"), expected);
    }

    #[test]
    fn translates_at_one_address() {
        let expected = json!([
            matched("ip6", "daddr", &json!("2001:db8::1")),
            matched("udp", "dport", &json!(53)),
            {"dnat": {"addr": "fd00::2", "family": "ip6"}},
        ]);
        assert_eq!(rule_of("[2001:db8::1]:53:53/udp", "fd00::2"), expected, "the port stays");
    }

    #[test]
    fn translates_each_port_of_a_range_to_its_own() {
        let map = json!({"map": {
            "key": {"payload": {"protocol": "tcp", "field": "dport"}},
            "data": {"set": [[8080, 80], [8081, 81]]},
        }});
        let expected = json!([
            matched("tcp", "dport", &json!({"range": [8080, 8081]})),
            {"dnat": {"addr": "172.16.0.2", "family": "ip", "port": map}},
        ]);
        assert_eq!(rule_of("8080-8081:80-81", "172.16.0.2"), expected);
    }
}
