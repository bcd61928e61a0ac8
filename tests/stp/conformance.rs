//! What one bridge sends and does, in the manner of the UNH-IOL test suites STP.op, STP.io and RSTP.op.

use std::time::Duration;

use uswitch::switch::stp::{
    Action, BridgeConfig, Edge, PortConfig, PortLink, PortRole, SpanningTree, State, StpConfigError,
    StpEvent, Version,
};
use uswitch::switch::{PortId, Ports, Tick};
use uswitch::wire::Bpdu;
use uswitch::wire::bpdu::{BpduRole, BridgeId, ConfigBpdu, PortIdentifier, PriorityVector, RstBpdu, Times};

use super::network::{Network, bridge, mac, stp_bridge};

const SECOND: Duration = Duration::from_secs(1);
const TIMES: Times = Times { message_age: 0, max_age: 20, hello_time: 2, forward_delay: 15 };
/// The number of the bridge under test.
const TESTED: u16 = 100;

/// The bridge under test with two ports, and nothing at their other ends.
fn tested(config: BridgeConfig) -> (Network, [PortId; 2]) {
    let mut network = Network::new(3);
    let bridge = network.add_bridge(config);
    let ports = [PortConfig::default(); 2].map(|config| network.add_port(bridge, config));
    ports.iter().for_each(|port| network.link_up(bridge, *port));
    (network, ports)
}

fn id(number: u16) -> BridgeId {
    BridgeId { priority: 32768, mac: mac(number) }
}

/// What bridge `number` says when it sees `root` at `cost`.
fn vector(root: u16, cost: u32, number: u16) -> PriorityVector {
    PriorityVector { root: id(root), cost, bridge: id(number), port: PortIdentifier::new(128, 1) }
}

fn config_bpdu(priority: PriorityVector) -> Bpdu {
    Bpdu::Config(ConfigBpdu { priority, times: TIMES, topology_change: false, topology_change_ack: false })
}

fn rst(priority: PriorityVector, role: BpduRole) -> RstBpdu {
    RstBpdu {
        priority,
        times: TIMES,
        role,
        topology_change: false,
        proposal: false,
        learning: false,
        forwarding: false,
        agreement: false,
    }
}

/// The agreement of the root port of bridge `number` to what the bridge under test says of `root`, at `cost` from
/// itself.
fn agreement(root: u16, cost: u32, number: u16) -> RstBpdu {
    let bpdu = rst(vector(root, cost + 5, number), BpduRole::Root);
    let message_age = if root == TESTED { 1 } else { 2 };
    RstBpdu { agreement: true, times: Times { message_age, ..TIMES }, ..bpdu }
}

/// A proposal from a designated port.
fn proposal(priority: PriorityVector) -> Bpdu {
    Bpdu::Rst(RstBpdu { proposal: true, ..rst(priority, BpduRole::Designated) })
}

/// The last BPDU that was sent on a port.
fn last_sent(network: &mut Network, port: PortId) -> Option<Bpdu> {
    network.take_sent().into_iter().rev().find(|(_, at, _)| *at == port).map(|(.., bpdu)| bpdu)
}

fn last_config(network: &mut Network, port: PortId) -> ConfigBpdu {
    match last_sent(network, port) {
        Some(Bpdu::Config(config)) => config,
        other => panic!("no configuration BPDU: {other:?}"),
    }
}

fn last_rst(network: &mut Network, port: PortId) -> RstBpdu {
    match last_sent(network, port) {
        Some(Bpdu::Rst(rst)) => rst,
        other => panic!("no RST BPDU: {other:?}"),
    }
}

/// STP.op group 1: every port is designated, this bridge is root, no flag is set.
#[test]
fn initial_configuration_bpdu() {
    let (mut network, ports) = tested(stp_bridge(TESTED));
    assert_eq!(network.roles(0), [PortRole::Designated; 2]);
    for (port, number) in ports.into_iter().zip(1..) {
        let priority = PriorityVector { port: PortIdentifier::new(128, number), ..vector(TESTED, 0, TESTED) };
        network.run_for(2 * SECOND);
        assert_eq!(Bpdu::Config(last_config(&mut network, port)), config_bpdu(priority));
    }
}

/// STP.op timers: listening and learning last a forward delay each, and a hello comes every hello time.
#[test]
fn stp_listens_and_learns_for_a_forward_delay_each() {
    let (mut network, ports) = tested(stp_bridge(TESTED));
    let state = |state: State| move |network: &Network| network.state(0, ports[0]) == state;
    // A port that was down waits max age in figure 17-20, and at most this long in the listening state.
    let listened = network.run_until_true(21 * SECOND, state(State::Learning));
    assert!(listened > 14 * SECOND, "{listened:?}");
    let learned = network.run_until_true(16 * SECOND, state(State::Forwarding));
    assert!(learned > 14 * SECOND, "{learned:?}");
    // Detecting the topology change has moved the hellos.
    network.run_for(3 * SECOND);
    network.take_sent();
    network.run_for(20 * SECOND);
    assert_eq!(network.take_sent().len(), 2 * 10);
}

/// STP.op group 3: root identifier, root path cost, bridge identifier and port identifier decide, in this order.
#[test]
fn root_port_by_each_component() {
    let with_port = |vector, port| PriorityVector { port: PortIdentifier::new(128, port), ..vector };
    for (worse, better) in [
        (vector(2, 0, 2), vector(1, 1000, 90)),
        (vector(1, 11, 2), vector(1, 10, 90)),
        (vector(1, 10, 3), vector(1, 10, 2)),
        (with_port(vector(1, 10, 2), 8), with_port(vector(1, 10, 2), 7)),
    ] {
        for swap in [false, true] {
            let (mut network, [a, b]) = tested(stp_bridge(TESTED));
            let (a, b) = if swap { (b, a) } else { (a, b) };
            network.inject(0, a, config_bpdu(worse));
            network.inject(0, b, config_bpdu(better));
            assert_eq!(network.tree(0).bridge().root_port, Some(b), "{better:?}");
            assert_eq!(network.tree(0).bridge().root, better.root);
            assert_eq!(network.tree(0).bridge().root_cost, better.cost + 5);
        }
    }
}

/// The receiving port decides last (17.6).
#[test]
fn root_port_by_receiving_port() {
    let (mut network, [a, b]) = tested(bridge(TESTED));
    let same = config_bpdu(vector(1, 10, 2));
    network.inject(0, b, same);
    network.inject(0, a, same);
    assert_eq!(network.tree(0).bridge().root_port, Some(a));
    network.change(0, |tree| {
        tree.set_port(b, PortConfig { priority: 112, ..PortConfig::default() }).unwrap();
    });
    assert_eq!(network.tree(0).bridge().root_port, Some(b));
}

/// STP.op group 4: a bridge that is not root notifies until it is acknowledged.
#[test]
fn stp_notifies_the_root_of_a_topology_change() {
    let (mut network, [root, other]) = tested(stp_bridge(TESTED));
    let hello = config_bpdu(vector(1, 0, 1));
    for _ in 0..30 {
        network.inject(0, root, hello);
        network.run_for(2 * SECOND);
    }
    assert_eq!([network.state(0, root), network.state(0, other)], [State::Forwarding; 2]);
    let tcns = |network: &mut Network| {
        let sent = network.take_sent();
        sent.iter().filter(|(_, port, bpdu)| *port == root && *bpdu == Bpdu::Tcn).count()
    };
    assert!(tcns(&mut network) > 5, "not acknowledged");
    let Bpdu::Config(config) = hello else { unreachable!() };
    network.inject(0, root, Bpdu::Config(ConfigBpdu { topology_change_ack: true, ..config }));
    tcns(&mut network);
    network.run_for(5 * SECOND);
    assert_eq!(tcns(&mut network), 0, "acknowledged");
}

/// STP.op group 4: the root acknowledges a TCN once, and sets the topology change flag for max age and forward delay.
#[test]
fn stp_root_acknowledges_and_announces_a_topology_change() {
    let (mut network, [a, b]) = tested(stp_bridge(TESTED));
    network.run_for(90 * SECOND);
    assert!(!last_config(&mut network, b).topology_change, "the changes of the start are over");
    network.inject(0, a, Bpdu::Tcn);
    network.run_for(2 * SECOND);
    let on_a = network.take_sent().into_iter().filter(|(_, port, _)| *port == a);
    let acks: Vec<_> =
        on_a.map(|(.., bpdu)| matches!(bpdu, Bpdu::Config(c) if c.topology_change_ack)).collect();
    assert_eq!(acks.iter().filter(|ack| **ack).count(), 1);
    network.run_for(30 * SECOND);
    assert!(last_config(&mut network, b).topology_change);
    network.run_for(6 * SECOND);
    assert!(!last_config(&mut network, b).topology_change);
}

/// Information that is too old when it arrives is not kept (17.21.23).
#[test]
fn discards_information_at_max_age() {
    let (mut network, [a, _]) = tested(bridge(TESTED));
    let aged = |message_age| {
        let bpdu = rst(vector(1, 10, 2), BpduRole::Designated);
        Bpdu::Rst(RstBpdu { times: Times { message_age, ..TIMES }, ..bpdu })
    };
    network.inject(0, a, aged(20));
    assert_eq!(network.tree(0).bridge().root, id(TESTED));
    network.inject(0, a, aged(19));
    assert_eq!(network.tree(0).bridge().root, id(1));
    assert_eq!(network.tree(0).bridge().times.message_age, 20);
}

/// Three hello times without a BPDU, and the information is gone (17.21.23).
#[test]
fn information_expires_after_three_hello_times() {
    let (mut network, [a, _]) = tested(bridge(TESTED));
    network.inject(0, a, proposal(vector(1, 10, 2)));
    network.run_for(5 * SECOND);
    assert_eq!(network.roles(0)[0], PortRole::Root);
    network.run_for(2 * SECOND);
    assert_eq!(network.roles(0)[0], PortRole::Designated);
    assert_eq!(network.tree(0).bridge().root, id(TESTED));
}

/// 17.10: a proposal is agreed to at once, but not before the other ports are in step with it.
#[test]
fn agrees_to_a_proposal_after_its_ports_discard() {
    let (mut network, [a, b]) = tested(bridge(TESTED));
    network.run_for(2 * SECOND);
    network.inject(0, a, proposal(vector(1, 0, 10)));
    network.inject(0, b, Bpdu::Rst(agreement(1, 5, 200)));
    assert_eq!([network.state(0, a), network.state(0, b)], [State::Forwarding; 2]);
    network.run_for(SECOND);
    network.take_sent();
    // The same bridge now has worse information, to which the bridge at b has not agreed.
    network.inject(0, a, proposal(vector(10, 0, 10)));
    assert_eq!([network.state(0, a), network.state(0, b)], [State::Forwarding, State::Discarding]);
    let sent = network.take_sent();
    let sent_on = |port: PortId| match sent.iter().find(|(_, at, _)| *at == port) {
        Some((.., Bpdu::Rst(rst))) => *rst,
        _ => panic!("no RST BPDU on {port:?}: {sent:?}"),
    };
    assert!(sent_on(a).agreement && sent_on(a).role == BpduRole::Root && !sent_on(a).proposal);
    assert!(sent_on(b).proposal && !sent_on(b).learning);
    assert_eq!(sent_on(b).priority.root, id(10));
}

/// Better information needs no new agreement: who agreed to worse information is in step with it.
#[test]
fn better_information_does_not_interrupt_forwarding() {
    let (mut network, [a, b]) = tested(bridge(TESTED));
    network.run_for(2 * SECOND);
    network.inject(0, a, proposal(vector(10, 0, 10)));
    network.inject(0, b, Bpdu::Rst(agreement(10, 5, 200)));
    network.inject(0, a, proposal(vector(1, 0, 10)));
    assert_eq!([network.state(0, a), network.state(0, b)], [State::Forwarding; 2]);
    assert_eq!(network.port(0, b).counts.transition_blk, 0);
}

/// 17.10: a designated port forwards when the other bridge agrees, and otherwise in time.
#[test]
fn agreement_makes_a_designated_port_forward() {
    let (mut network, [a, _]) = tested(bridge(TESTED));
    assert!(last_rst(&mut network, a).proposal);
    network.inject(0, a, Bpdu::Rst(agreement(TESTED, 0, 200)));
    assert_eq!(network.state(0, a), State::Forwarding);
    network.run_for(2 * SECOND);
    let hello = last_rst(&mut network, a);
    assert!(hello.forwarding && hello.learning && !hello.proposal);
}

/// An agreement to earlier information is passed over, until it can no longer be on its way.
#[test]
fn passes_over_an_agreement_to_something_else() {
    let (mut network, [a, b]) = tested(bridge(TESTED));
    network.inject(0, a, proposal(vector(10, 0, 10)));
    let old = [agreement(TESTED, 0, 200), RstBpdu { role: BpduRole::Alternate, ..agreement(10, 5, 200) }];
    let far = RstBpdu { times: Times { message_age: 3, ..TIMES }, ..agreement(10, 5, 200) };
    for stale in old.into_iter().chain([far]) {
        network.inject(0, b, Bpdu::Rst(stale));
        assert_eq!(network.state(0, b), State::Discarding, "{stale:?}");
    }
    network.run_for(2 * SECOND);
    network.inject(0, b, Bpdu::Rst(old[1]));
    assert_eq!(network.state(0, b), State::Forwarding);
}

/// 17.21.9: on a shared LAN one bridge cannot agree for all.
#[test]
fn no_agreement_on_a_shared_lan() {
    let (mut network, [a, _]) = tested(bridge(TESTED));
    let shared = PortConfig { point_to_point: false, ..PortConfig::default() };
    network.change(0, |tree| tree.set_port(a, shared).unwrap());
    network.inject(0, a, Bpdu::Rst(agreement(TESTED, 0, 200)));
    assert_eq!(network.state(0, a), State::Discarding);
}

/// 17.25: a port on which no bridge answers is an edge port after three seconds, until a BPDU arrives.
#[test]
fn detects_edge_ports() {
    let (mut network, [a, b]) = tested(bridge(TESTED));
    network
        .change(0, |tree| tree.set_port(b, PortConfig { edge: Edge::Off, ..PortConfig::default() }).unwrap());
    let time = network.run_until_true(5 * SECOND, |network| network.state(0, a) == State::Forwarding);
    assert!(time > 2 * SECOND && time <= 3 * SECOND, "{time:?}");
    assert!(network.port(0, a).oper_edge);
    assert_eq!(network.state(0, b), State::Discarding);
    network.inject(0, a, Bpdu::Rst(rst(vector(TESTED, 5, 200), BpduRole::Root)));
    assert!(!network.port(0, a).oper_edge);
}

#[test]
fn forwards_at_once_on_configured_edge_ports() {
    let mut network = Network::new(3);
    network.add_bridge(bridge(TESTED));
    let port = network.add_port(0, PortConfig { edge: Edge::On, ..PortConfig::default() });
    network.link_up(0, port);
    assert_eq!(network.state(0, port), State::Forwarding);
    network.inject(0, port, proposal(vector(1, 0, 1)));
    network.inject(0, port, Bpdu::Rst(rst(vector(200, 0, 200), BpduRole::Designated)));
    assert!(!network.port(0, port).oper_edge);
}

/// 17.24: STP with an STP bridge, RSTP again when RST BPDUs arrive, each after the migration delay.
#[test]
fn speaks_the_protocol_of_the_other_bridge() {
    let (mut network, [a, b]) = tested(bridge(TESTED));
    network.run_for(4 * SECOND);
    let other = vector(200, 0, 200);
    network.inject(0, a, config_bpdu(other));
    network.run_for(2 * SECOND);
    assert!(matches!(last_sent(&mut network, a), Some(Bpdu::Config(_))));
    network.run_for(2 * SECOND);
    assert!(matches!(last_sent(&mut network, b), Some(Bpdu::Rst(_))), "other ports are not affected");
    network.inject(0, a, proposal(other));
    network.run_for(2 * SECOND);
    assert!(network.port(0, a).rstp);
    network.inject(0, a, config_bpdu(other));
    assert!(network.port(0, a).rstp, "it does not change back within the migration delay");
    network.run_for(4 * SECOND);
    network.inject(0, a, config_bpdu(other));
    assert!(!network.port(0, a).rstp);
    network.change(0, |tree| tree.check_migration(a));
    network.run_for(4 * SECOND);
    assert!(network.port(0, a).rstp);
}

#[test]
fn forced_stp_ignores_what_the_other_bridge_speaks() {
    let (mut network, [a, _]) = tested(stp_bridge(TESTED));
    network.run_for(4 * SECOND);
    network.inject(0, a, proposal(vector(200, 0, 200)));
    network.run_for(4 * SECOND);
    assert!(matches!(last_sent(&mut network, a), Some(Bpdu::Config(_))));
    network.change(0, |tree| tree.set_config(bridge(TESTED)).unwrap());
    assert!(matches!(last_sent(&mut network, a), Some(Bpdu::Rst(_))), "another version begins anew");
    assert_eq!(network.state(0, a), State::Discarding);
}

/// 17.21.10: a bridge with worse information that learns does not hear us.
#[test]
fn disputes_a_worse_bridge_that_learns() {
    let (mut network, [a, _]) = tested(bridge(TESTED));
    network.run_for(10 * SECOND);
    assert_eq!(network.state(0, a), State::Forwarding);
    let worse =
        RstBpdu { learning: true, forwarding: true, ..rst(vector(200, 0, 200), BpduRole::Designated) };
    for _ in 0..10 {
        network.inject(0, a, Bpdu::Rst(worse));
        assert_eq!(network.state(0, a), State::Discarding);
        network.run_for(2 * SECOND);
        assert_ne!(network.state(0, a), State::Forwarding);
    }
}

/// A cable from a port to itself: its own BPDUs come back.
#[test]
fn never_forwards_on_a_port_that_hears_itself() {
    for config in [bridge(TESTED), stp_bridge(TESTED)] {
        let mut network = Network::new(3);
        network.add_bridge(config);
        let port = network.add_port(0, PortConfig { edge: Edge::Off, ..PortConfig::default() });
        network.link_up(0, port);
        for _ in 0..600 {
            for (_, port, bpdu) in network.take_sent() {
                network.inject(0, port, bpdu);
            }
            network.run_for(SECOND / 10);
            let is_rstp = config.version == Version::Rstp;
            assert!(!is_rstp || network.state(0, port) != State::Forwarding, "{:?}", network.now);
        }
    }
}

/// Table 17-1: no more than the hold count in a second, whatever happens.
#[test]
fn sends_no_more_than_the_hold_count_in_a_second() {
    let (mut network, [a, _]) = tested(BridgeConfig { tx_hold_count: 3, ..bridge(TESTED) });
    for n in 0..1000 {
        network.inject(0, a, proposal(vector(90 - n % 80, 0, 1)));
        network.run_for(SECOND / 100);
    }
    let sent = network.take_sent().iter().filter(|(_, port, _)| *port == a).count();
    assert!((10..=3 + 10).contains(&sent), "{sent}");
}

#[test]
fn bpdu_guard_disables_the_port_until_its_link_was_down() {
    let (mut network, [a, _]) = tested(bridge(TESTED));
    let guarded = PortConfig { guard: true, ..PortConfig::default() };
    network.change(0, |tree| tree.set_port(a, guarded).unwrap());
    network.run_for(5 * SECOND);
    assert_eq!(network.state(0, a), State::Forwarding);
    for _ in 0..2 {
        network.inject(0, a, proposal(vector(1, 0, 1)));
        assert_eq!((network.roles(0)[0], network.state(0, a)), (PortRole::Disabled, State::Discarding));
    }
    assert_eq!(network.events.iter().filter(|(_, event)| *event == StpEvent::Guard { port: a }).count(), 1);
    assert_eq!(network.tree(0).bridge().root, id(TESTED));
    network.run_for(60 * SECOND);
    assert!(network.port(0, a).guard_tripped);
    let now = Tick::at(network.now);
    network.change(0, |tree| tree.set_link(now, a, None));
    network.link_up(0, a);
    assert!(!network.port(0, a).guard_tripped);
    network.inject(0, a, Bpdu::Tcn);
    assert!(network.port(0, a).guard_tripped);
    network.change(0, |tree| tree.set_port(a, PortConfig::default()).unwrap());
    assert_eq!(network.roles(0)[0], PortRole::Designated);
}

#[test]
fn root_guard_keeps_a_port_from_becoming_root_port() {
    let (mut network, [a, b]) = tested(bridge(TESTED));
    let blocked = PortConfig { root_block: true, ..PortConfig::default() };
    network.change(0, |tree| tree.set_port(a, blocked).unwrap());
    network.inject(0, a, proposal(vector(1, 0, 1)));
    assert_eq!(network.tree(0).bridge().root, id(TESTED));
    assert_eq!((network.roles(0)[0], network.state(0, a)), (PortRole::Alternate, State::Discarding));
    assert!(network.port(0, a).root_blocked);
    network.inject(0, b, proposal(vector(2, 0, 2)));
    assert_eq!(network.tree(0).bridge().root, id(2));
    network.run_for(10 * SECOND);
    let of_a: Vec<_> = network.events.iter().map(|(_, event)| *event).collect();
    let [block, unblock] = [true, false].map(|blocked| StpEvent::RootBlock { port: a, blocked });
    assert_eq!(
        of_a.iter().filter(|event| [block, unblock].contains(event)).collect::<Vec<_>>(),
        [&block, &unblock]
    );
    assert_eq!(network.roles(0)[0], PortRole::Designated);
}

/// 17.31: addresses are flushed on all ports but the one where the change was noticed, and not on edge ports.
#[test]
fn topology_change_flushes_the_other_ports() {
    let mut network = Network::new(3);
    network.add_bridge(bridge(TESTED));
    let ports = [(); 3].map(|()| network.add_port(0, PortConfig::default()));
    let edge = network.add_port(0, PortConfig { edge: Edge::On, ..PortConfig::default() });
    ports.iter().chain([&edge]).for_each(|port| network.link_up(0, *port));
    ports
        .iter()
        .zip(1..)
        .for_each(|(port, n)| network.inject(0, *port, Bpdu::Rst(agreement(TESTED, 0, 200 + n))));
    network.run_for(10 * SECOND);
    network.take_flushes(0);
    network.events.clear();
    let change = RstBpdu { topology_change: true, ..agreement(TESTED, 0, 201) };
    network.inject(0, ports[0], Bpdu::Rst(change));
    assert_eq!(network.take_flushes(0), ports[1..]);
    assert_eq!(network.events, [(0, StpEvent::TopologyChange { port: ports[0], is_received: true })]);
    assert!(last_rst(&mut network, ports[1]).topology_change);
    network.inject(0, ports[0], Bpdu::Rst(change));
    assert_eq!(network.events.len(), 1, "it is still the same change");
    assert_eq!(network.tree(0).bridge().topology_changes, 2);
}

/// 17.12: an alternate port takes over at once, and the topology change follows.
#[test]
fn alternate_port_takes_over_without_delay() {
    let mut network = Network::new(1);
    let bridges: Vec<_> = (1..=3).map(|n| network.add_bridge(bridge(n))).collect();
    let lans = [(0, 1), (1, 2), (2, 0)].map(|(a, b)| network.connect(bridges[a], bridges[b]));
    network.run_for(10 * SECOND);
    assert_eq!(network.roles(2), [PortRole::Alternate, PortRole::Root]);
    network.take_flushes(0);
    network.cut(lans[2]);
    assert_eq!(network.state(2, PortId(0)), State::Forwarding, "before any BPDU");
    network.run_for(SECOND / 10);
    assert!(network.is_converged());
    assert_eq!(network.take_flushes(0), [PortId(1)], "the port that is down; nothing was learned elsewhere");
}

/// The machine was asleep: what has arrived meanwhile comes first.
#[test]
fn late_calls_count_one_second() {
    let mut tree = SpanningTree::new(bridge(TESTED)).unwrap();
    let port = PortId(0);
    tree.add_port(port, PortConfig::default()).unwrap();
    assert_eq!(tree.next_deadline(), None);
    tree.set_link(Tick(5), port, Some(PortLink { speed: None }));
    tree.receive(port, proposal(vector(1, 0, 1)));
    assert_eq!(tree.next_deadline(), Some(Tick(15)));
    tree.advance(Tick(14));
    assert_eq!(tree.next_deadline(), Some(Tick(15)));
    tree.advance(Tick(17));
    assert_eq!(tree.next_deadline(), Some(Tick(25)), "the pace is kept");
    tree.advance(Tick(10_000));
    assert_eq!(tree.bridge().root, id(1), "not expired");
    assert_eq!(tree.next_deadline(), Some(Tick(10_010)));
    tree.set_link(Tick(10_002), port, None);
    tree.advance(Tick(10_010));
    assert_eq!(tree.next_deadline(), None, "no clock without a link");
}

#[test]
fn removed_port_leaves_no_trace() {
    let (mut network, [a, b]) = tested(bridge(TESTED));
    network.inject(0, a, proposal(vector(1, 0, 1)));
    assert_eq!(network.state(0, a), State::Forwarding);
    network.change(0, |tree| tree.remove_port(a));
    assert_eq!(network.state(0, a), State::Discarding);
    assert_eq!(network.tree(0).bridge().root, id(TESTED));
    assert_eq!(network.tree(0).ports().map(|port| port.id).collect::<Vec<_>>(), [b]);
}

#[test]
fn counts_what_is_received_and_sent() {
    let (mut network, [a, _]) = tested(bridge(TESTED));
    network.inject(0, a, Bpdu::Tcn);
    network.inject(0, a, proposal(vector(1, 0, 1)));
    network.inject(0, a, proposal(vector(1, 0, 1)));
    let counts = network.port(0, a).counts;
    assert_eq!((counts.rx_tcn, counts.rx_bpdu, counts.transition_fwd), (1, 2, 1));
    let sent = network.take_sent().iter().filter(|(_, port, _)| *port == a).count() as u64;
    assert_eq!(counts.tx_bpdu + counts.tx_tcn, sent);
}

#[test]
fn accepts_as_many_ports_as_fit_into_identifiers() {
    let mut tree = SpanningTree::new(bridge(TESTED)).unwrap();
    let mut ports: Vec<_> = PortId::all().collect();
    assert_eq!(ports.len(), Ports::MAX);
    let last = ports.pop().unwrap();
    assert_eq!(tree.add_port(last, PortConfig::default()), Err(StpConfigError::TooManyPorts));
    let most = *ports.last().unwrap();
    assert_eq!(tree.add_port(most, PortConfig::default()), Ok(()));
    assert_eq!(tree.ports().next().unwrap().port_id, PortIdentifier(0x8fff));
    assert!(tree.take_actions().all(|action| !matches!(action, Action::Send { .. })));
}
