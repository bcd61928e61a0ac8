//! Routing: a separate nftables table, with masquerading for NAT, and IP forwarding ([`super::forwarding`]).
//!
//! With forwarding, hosts outside could also open connections to the containers. The table drops those, except to
//! published ports ([`super::dnat`]), and without NAT also packets to other networks. The program `nft` makes the
//! changes. It reads and writes JSON and acts on the caller's network namespace.

use std::borrow::Cow;
use std::path::PathBuf;

use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::expr::{
    CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, SetItem,
};
use nftables::helper::{NftablesError, apply_ruleset_with_args, get_current_ruleset_raw};
use nftables::schema::{Chain, NfListObject, Nftables, Rule, Table};
use nftables::stmt::{Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde_json::Value;

use super::ledger::{Ledger, LedgerEntry};
use super::nat_watcher::NatWatcher;
use super::routing::Routing;
use super::{TopologyError, dnat, firewall, forwarding};

/// The standard chain priorities `srcnat` and `filter` of nft(8).
const SRCNAT_PRIORITY: i32 = 100;
const FILTER_PRIORITY: i32 = 0;

/// Name of a switch's table.
pub(super) fn table_name(switch: &str) -> String {
    format!("uswitch_{switch}")
}

/// Lets the host route between the devices of its ports, of which that of the host port exists, and with NAT
/// masquerades packets that leave through its other interfaces.
pub(super) fn enable(ledger: &mut Ledger, routing: &Routing) -> Result<NatWatcher, TopologyError> {
    ledger.record(LedgerEntry::Table { name: table_name(&routing.switch) })?;
    let watcher = NatWatcher::install(routing.clone())?;
    forward(ledger, routing, None)?;
    Ok(watcher)
}

/// Lets the host forward what `routing` needs and `before`, which is in force, did not.
pub(super) fn forward(
    ledger: &mut Ledger,
    routing: &Routing,
    before: Option<&Routing>,
) -> Result<(), TopologyError> {
    let is_new = |needs: fn(&Routing) -> bool| needs(routing) && !before.is_some_and(needs);
    if is_new(Routing::routes_ipv4) {
        forwarding::enable_v4_from(&routing.switch)?;
    }
    if is_new(Routing::connects_ipv4) {
        forward_v4(ledger, routing)?;
    }
    if is_new(Routing::routes_ipv6) {
        forwarding::enable_v6(ledger)?;
    }
    if routing.routes_loopback() != before.is_some_and(Routing::routes_loopback) {
        route_loopback(routing, routing.routes_loopback())?;
    }
    Ok(())
}

/// Lets the devices of the host ports route from and to 127.0.0.0/8, or not. After an error none of them does.
pub(super) fn route_loopback(routing: &Routing, on: bool) -> Result<(), TopologyError> {
    let set = |on| routing.ifnames().into_iter().map(move |ifname| forwarding::route_loopback(ifname, on));
    set(on).collect::<Result<(), _>>().inspect_err(|_| set(false).for_each(drop))
}

/// Creates a switch's table, or replaces it.
pub(super) fn install_table(routing: &Routing) -> Result<(), TopologyError> {
    apply(&ruleset(&table_name(&routing.switch), routing))
}

/// A switch's table, in a form that is the same for the same rules.
pub(super) fn list_table(switch: &str) -> Result<Value, TopologyError> {
    let program = program().ok_or(TopologyError::NoNft)?;
    let name = table_name(switch);
    let listed = get_current_ruleset_raw(Some(&program), ["list", "table", "inet", &name])?;
    let mut table = serde_json::from_str(&listed).map_err(NftablesError::NftInvalidJson)?;
    remove_handles(&mut table);
    Ok(table)
}

/// The kernel gives each object a new number when it is created.
fn remove_handles(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(remove_handles),
        Value::Object(fields) => {
            fields.remove("handle");
            fields.values_mut().for_each(remove_handles);
        }
        _ => {}
    }
}

/// Enables IPv4 forwarding on the interfaces that have an address by now.
pub(super) fn forward_v4(ledger: &mut Ledger, routing: &Routing) -> Result<(), TopologyError> {
    forwarding::enable_v4(ledger, &routing.ifnames())
}

/// Removes a switch's table if it exists.
pub(super) fn remove_table(name: &str) -> Result<(), TopologyError> {
    let mut batch = Batch::new();
    // nft has no "delete if exists" in older versions. Adding an existing table changes nothing.
    batch.add(table(name));
    batch.delete(table(name));
    apply(&batch.to_nftables())
}

/// The path of nft if it is installed.
pub(super) fn program() -> Option<PathBuf> {
    firewall::installed("nft")
}

fn apply(rules: &Nftables) -> Result<(), TopologyError> {
    let program = program().ok_or(TopologyError::NoNft)?;
    let no_arguments: [&str; 0] = [];
    Ok(apply_ruleset_with_args(rules, Some(&program), no_arguments)?)
}

fn ruleset<'a>(name: &'a str, routing: &'a Routing) -> Nftables<'a> {
    let mut batch = Batch::new();
    // A table of this name is left over from a killed switch.
    batch.add(table(name));
    batch.delete(table(name));
    batch.add(table(name));
    let publishes = !routing.published.is_empty();
    if routing.nat || publishes {
        batch.add(chain(name, "postrouting", (NfChainType::NAT, NfHook::Postrouting, SRCNAT_PRIORITY)));
    }
    batch.add(chain(name, "forward", (NfChainType::Filter, NfHook::Forward, FILTER_PRIORITY)));
    for subnet in routing.subnets().filter(|_| routing.nat) {
        let outbound = [
            source_in(subnet),
            host_ports(MetaKey::Oifname, Operator::NEQ, routing),
            Statement::Masquerade(None),
        ];
        batch.add(rule(name, "postrouting", outbound.to_vec()));
    }
    dnat::add_loopback_rules(&mut batch, name, routing);
    if publishes {
        dnat::add_rules(&mut batch, name, routing);
    }
    forward_rules(routing).into_iter().for_each(|statements| batch.add(rule(name, "forward", statements)));
    batch.to_nftables()
}

/// Packets from a host port have an address of its networks. Packets from elsewhere to a host port are replies, or for
/// a published port. Without NAT no other packet passes between a host port and elsewhere.
fn forward_rules(routing: &Routing) -> Vec<Vec<Statement<'_>>> {
    let from_containers = |op| host_ports(MetaKey::Iifname, op, routing);
    let to_containers = |op| host_ports(MetaKey::Oifname, op, routing);
    let drop = || Statement::Drop(None);
    let mut rules = Vec::new();
    for device in &routing.devices {
        for family in ["ip", "ip6"] {
            let from_device = interface(MetaKey::Iifname, Operator::EQ, &device.ifname);
            rules.push(vec![from_device, foreign_source(family, &device.subnets), drop()]);
        }
    }
    if !routing.published.is_empty() {
        rules.extend(dnat::forward_rules(routing));
    }
    if routing.nat {
        rules.push(vec![to_containers(Operator::EQ), is_established(), Statement::Accept(None)]);
    } else {
        rules.push(vec![from_containers(Operator::EQ), to_containers(Operator::NEQ), drop()]);
    }
    rules.push(vec![to_containers(Operator::EQ), from_containers(Operator::NEQ), drop()]);
    rules
}

/// `oifname { "NAME", "NAME.10" }`: the devices of the host ports.
pub(super) fn host_ports(key: MetaKey, op: Operator, routing: &Routing) -> Statement<'_> {
    let names = routing.ifnames();
    if let [name] = names[..] {
        return interface(key, op, name);
    }
    let names = names.into_iter().map(|name| SetItem::Element(Expression::String(name.into()))).collect();
    let names = Expression::Named(NamedExpression::Set(names));
    Statement::Match(Match { left: Expression::Named(NamedExpression::Meta(Meta { key })), right: names, op })
}

fn table(name: &str) -> NfListObject<'_> {
    NfListObject::Table(Table { family: NfFamily::INet, name: name.into(), handle: None })
}

pub(super) fn chain<'a>(
    table: &'a str,
    name: &'a str,
    (kind, hook, priority): (NfChainType, NfHook, i32),
) -> NfListObject<'a> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: table.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })
}

pub(super) fn rule<'a>(table: &'a str, chain: &'a str, statements: Vec<Statement<'a>>) -> NfListObject<'a> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: table.into(),
        chain: chain.into(),
        expr: Cow::Owned(statements),
        ..Rule::default()
    })
}

/// `ip saddr SUBNET`
fn source_in(subnet: &IpNet) -> Statement<'static> {
    Statement::Match(Match { left: source(family(subnet)), right: prefix(subnet), op: Operator::EQ })
}

/// `FAMILY saddr != { SUBNETS }`: packets of this family from other addresses; all of them if no subnet is of it.
fn foreign_source(of: &str, subnets: &[IpNet]) -> Statement<'static> {
    let ours = subnets.iter().filter(|subnet| family(subnet) == of);
    let ours: Vec<SetItem> = ours.map(|subnet| SetItem::Element(prefix(subnet))).collect();
    if ours.is_empty() {
        let version = if of == "ip" { "ipv4" } else { "ipv6" };
        return Statement::Match(Match {
            left: Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Nfproto })),
            right: Expression::String(version.into()),
            op: Operator::EQ,
        });
    }
    let ours = Expression::Named(NamedExpression::Set(ours));
    Statement::Match(Match { left: source(of), right: ours, op: Operator::NEQ })
}

fn family(subnet: &IpNet) -> &'static str {
    if subnet.addr().is_ipv4() { "ip" } else { "ip6" }
}

fn source(family: &str) -> Expression<'static> {
    field(family, "saddr")
}

/// `PROTOCOL FIELD`, of a header.
pub(super) fn field(protocol: &str, name: &str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.to_owned().into(), field: name.to_owned().into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

pub(super) fn prefix(subnet: &IpNet) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(Expression::String(subnet.network().to_string().into())),
        len: subnet.prefix_len().into(),
    }))
}

/// `oifname "NAME"`: by name, not by index, because the table is made before the device.
pub(super) fn interface(key: MetaKey, op: Operator, name: &str) -> Statement<'_> {
    Statement::Match(Match {
        left: Expression::Named(NamedExpression::Meta(Meta { key })),
        right: Expression::String(name.into()),
        op,
    })
}

/// `ct state established,related`
fn is_established() -> Statement<'static> {
    let answers = ["established", "related"].map(|state| Expression::String(state.into()));
    Statement::Match(Match {
        left: Expression::Named(NamedExpression::CT(CT { key: "state".into(), family: None, dir: None })),
        right: Expression::List(answers.to_vec()),
        op: Operator::IN,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::routing::RoutedDevice;
    use super::*;

    fn added_rule(chain: &str, expr: &Value) -> Value {
        json!({"add": {"rule": {"family": "inet", "table": "uswitch_u0", "chain": chain, "expr": expr}}})
    }

    /// Drops what containers send with an address of 127.0.0.0/8.
    fn loopback(field: &str) -> Value {
        let left = json!({"payload": {"protocol": "ip", "field": field}});
        let right = json!({"prefix": {"addr": "127.0.0.0", "len": 8}});
        let address = json!({"match": {"left": left, "op": "==", "right": right}});
        added_rule("loopback", &json!([host_port("==", "iifname"), address, {"drop": null}]))
    }

    /// `DIRECTION OP "u0"`
    fn host_port(op: &str, direction: &str) -> Value {
        json!({"match": {"left": {"meta": {"key": direction}}, "op": op, "right": "u0"}})
    }

    fn saddr(protocol: &str, op: &str, right: &Value) -> Value {
        let left = json!({"payload": {"protocol": protocol, "field": "saddr"}});
        json!({"match": {"left": left, "op": op, "right": right}})
    }

    /// NAT for a switch with these subnets, and a VLAN with each of the others.
    fn routing(subnets: &[IpNet], of_vlans: &[IpNet]) -> Routing {
        let device = |ifname: String, subnets: &[IpNet]| RoutedDevice { ifname, subnets: subnets.to_vec() };
        let of_vlans = of_vlans.iter().zip(10..).map(|(subnet, vid)| device(format!("u0.{vid}"), &[*subnet]));
        let devices = std::iter::once(device("u0".to_owned(), subnets)).chain(of_vlans).collect();
        Routing { switch: "u0".to_owned(), devices, nat: true, published: Vec::new() }
    }

    #[test]
    fn one_network_needs_nat_to_be_routed() {
        let (v4, v6) = ("172.16.0.0/24".parse().unwrap(), "fd00:172:16::/64".parse().unwrap());
        let with_nat = routing(&[v4, v6], &["172.16.10.0/24".parse().unwrap()]);
        assert!(with_nat.routes_ipv4() && with_nat.routes_ipv6());
        let without = Routing { nat: false, ..with_nat };
        assert!(without.routes_ipv4() && !without.routes_ipv6());
    }

    /// Packets pass between the VLANs, and no others.
    #[test]
    fn rules_without_nat() {
        let subnet = |text: &str| text.parse::<IpNet>().unwrap();
        let routing =
            Routing { nat: false, ..routing(&[subnet("172.16.0.0/24")], &[subnet("172.16.10.0/24")]) };
        let rules = serde_json::to_value(ruleset("uswitch_u0", &routing)).unwrap();
        let devices = |op: &str, direction: &str| {
            let names = json!({"set": ["u0", "u0.10"]});
            json!({"match": {"left": {"meta": {"key": direction}}, "op": op, "right": names}})
        };
        let rules = rules["nftables"].as_array().unwrap();
        let drops = |conditions: [Value; 2]| {
            let [one, two] = conditions;
            rules.contains(&added_rule("forward", &json!([one, two, {"drop": null}])))
        };
        assert!(drops([devices("==", "iifname"), devices("!=", "oifname")]), "{rules:#?}");
        assert!(drops([devices("==", "oifname"), devices("!=", "iifname")]), "{rules:#?}");
        let v4 = json!({"prefix": {"addr": "172.16.10.0", "len": 24}});
        let of_vlan = json!({"match": {"left": {"meta": {"key": "iifname"}}, "op": "==", "right": "u0.10"}});
        assert!(drops([of_vlan, saddr("ip", "!=", &json!({"set": [v4]}))]), "{rules:#?}");
        assert!(!rules.iter().any(|rule| rule.to_string().contains("masquerade")), "{rules:#?}");
    }

    #[test]
    fn rules() {
        let subnets = ["172.16.0.0/24".parse().unwrap(), "fd00:172:16::/64".parse().unwrap()];
        let rules = serde_json::to_value(ruleset("uswitch_u0", &routing(&subnets, &[]))).unwrap();
        let table = json!({"table": {"family": "inet", "name": "uswitch_u0"}});
        let chain = |(name, hook): (&str, &str), kind: &str, priority: i32| {
            json!({"add": {"chain": {
                "family": "inet", "table": "uswitch_u0", "name": name,
                "type": kind, "hook": hook, "prio": priority, "policy": "accept",
            }}})
        };
        let v4 = json!({"prefix": {"addr": "172.16.0.0", "len": 24}});
        let v6 = json!({"prefix": {"addr": "fd00:172:16::", "len": 64}});
        let masquerade = |protocol: &str, subnet: &Value| {
            let expr =
                json!([saddr(protocol, "==", subnet), host_port("!=", "oifname"), {"masquerade": null}]);
            added_rule("postrouting", &expr)
        };
        let foreign = |protocol: &str, subnet: &Value| {
            let source = saddr(protocol, "!=", &json!({"set": [subnet]}));
            added_rule("forward", &json!([host_port("==", "iifname"), source, {"drop": null}]))
        };
        let answers = json!({"match": {
            "left": {"ct": {"key": "state"}}, "op": "in", "right": ["established", "related"],
        }});
        let inbound = json!([host_port("==", "oifname"), host_port("!=", "iifname"), {"drop": null}]);
        let expected = json!([
            {"add": table}, {"delete": table}, {"add": table},
            chain(("postrouting", "postrouting"), "nat", 100),
            chain(("forward", "forward"), "filter", 0),
            masquerade("ip", &v4),
            masquerade("ip6", &v6),
            chain(("loopback", "prerouting"), "filter", -300),
            loopback("saddr"),
            loopback("daddr"),
            foreign("ip", &v4),
            foreign("ip6", &v6),
            added_rule("forward", &json!([host_port("==", "oifname"), answers, {"accept": null}])),
            added_rule("forward", &inbound),
        ]);
        assert_eq!(rules["nftables"], expected, "{rules:#}");
    }

    #[test]
    fn drops_all_packets_of_a_family_without_subnet() {
        let routing = routing(&["172.16.0.0/24".parse().unwrap()], &[]);
        let rules = serde_json::to_value(ruleset("uswitch_u0", &routing)).unwrap();
        let ipv6 = json!({"match": {"left": {"meta": {"key": "nfproto"}}, "op": "==", "right": "ipv6"}});
        let expected = added_rule("forward", &json!([host_port("==", "iifname"), ipv6, {"drop": null}]));
        assert!(rules["nftables"].as_array().unwrap().contains(&expected), "{rules:#}");
    }
}
