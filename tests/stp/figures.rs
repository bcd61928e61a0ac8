//! Topologies after the examples of 17.4 (figures 17-4 to 17-7): structured wiring with two core bridges, LANs that
//! several bridges share, and the roles and costs that follow from them.

use std::time::Duration;

use uswitch::switch::PortId;
use uswitch::switch::stp::{BridgeConfig, PortConfig, PortRole, State};

use super::network::{Network, bridge};

const SECOND: Duration = Duration::from_secs(1);
const COST: PortConfig = PortConfig {
    cost: Some(10),
    priority: 128,
    edge: uswitch::switch::stp::Edge::Auto,
    point_to_point: true,
    guard: false,
    root_block: false,
};
const SHARED: PortConfig = PortConfig { point_to_point: false, ..COST };

/// Bridges of these numbers, and LANs between the bridges at these positions. Ports of a bridge are in the order of the
/// LANs.
fn network(bridges: &[u16], lans: &[&[usize]]) -> Network {
    let mut network = Network::new(7);
    bridges.iter().for_each(|number| {
        network.add_bridge(bridge(*number));
    });
    for members in lans {
        let config = if members.len() == 2 { COST } else { SHARED };
        let ends = members.iter().map(|bridge| (*bridge, network.add_port(*bridge, config))).collect();
        network.add_lan(ends, Duration::from_millis(2));
    }
    (0..lans.len()).for_each(|lan| network.restore(lan));
    network
}

/// The roles of the ports of every bridge: one letter a port, as in the figures.
fn roles(network: &Network, bridges: usize) -> Vec<String> {
    let letter = |role| match role {
        PortRole::Root => 'R',
        PortRole::Designated => 'D',
        PortRole::Alternate => 'A',
        PortRole::Backup => 'B',
        PortRole::Disabled => '-',
    };
    (0..bridges).map(|bridge| network.roles(bridge).into_iter().map(letter).collect()).collect()
}

fn costs(network: &Network, bridges: usize) -> Vec<u32> {
    (0..bridges).map(|i| network.tree(i).bridge().root_cost).collect()
}

/// Two core bridges, each access bridge connected to both: every access bridge has one root and one alternate port.
const CORES: [u16; 6] = [111, 222, 333, 444, 555, 666];
const WIRING: [&[usize]; 9] =
    [&[0, 1], &[0, 2], &[0, 3], &[0, 4], &[0, 5], &[1, 2], &[1, 3], &[1, 4], &[1, 5]];

#[test]
fn structured_wiring() {
    let mut network = network(&CORES, &WIRING);
    network.run_for(10 * SECOND);
    assert!(network.is_converged());
    assert_eq!(roles(&network, 6), ["DDDDD", "RDDDD", "RA", "RA", "RA", "RA"]);
    assert_eq!(costs(&network, 6), [0, 10, 10, 10, 10, 10]);
    assert!((1..6).all(|i| network.tree(i).bridge().root.mac == super::network::mac(111)));
}

/// The root fails: the other core bridge is root, and the alternate ports become root ports at once.
#[test]
fn structured_wiring_without_its_root() {
    let mut network = network(&CORES, &WIRING);
    network.run_for(10 * SECOND);
    (0..5).for_each(|lan| network.cut(lan));
    let time = network.run_until_true(SECOND, Network::is_converged);
    assert!(time <= Duration::from_millis(10), "{time:?}");
    network.run_for(20 * SECOND);
    assert_eq!(roles(&network, 6), ["-----", "-DDDD", "-R", "-R", "-R", "-R"]);
    assert!((1..6).all(|i| network.tree(i).bridge().root.mac == super::network::mac(222)));
}

/// One uplink fails: only its bridge moves to the other core bridge.
#[test]
fn structured_wiring_without_one_uplink() {
    let mut network = network(&CORES, &WIRING);
    network.run_for(10 * SECOND);
    network.cut(1);
    let time = network.run_until_true(SECOND, Network::is_converged);
    assert!(time <= Duration::from_millis(10), "{time:?}");
    assert_eq!(roles(&network, 6), ["D-DDD", "RDDDD", "-R", "RA", "RA", "RA"]);
    network.restore(1);
    network.run_for(10 * SECOND);
    assert_eq!(roles(&network, 6), ["DDDDD", "RDDDD", "RA", "RA", "RA", "RA"]);
}

/// A LAN with three bridges, one of them with two ports. The worse of these is a backup port. No port of a shared LAN
/// gets an agreement, so the timers decide.
#[test]
fn shared_lan_with_backup_port() {
    let mut network = network(&[111, 222, 333], &[&[0, 1], &[0, 2], &[1, 2, 1]]);
    network.run_for(60 * SECOND);
    assert!(network.is_converged());
    assert_eq!(roles(&network, 3), ["DD", "RDB", "RA"]);
    assert_eq!(network.state(1, PortId(1)), State::Forwarding);
    assert_eq!(network.port(1, PortId(2)).designated.port, network.port(1, PortId(1)).port_id);
}

/// The designated bridge of the shared LAN loses its way to the root: another bridge of the LAN takes over.
#[test]
fn shared_lan_without_its_designated_bridge() {
    let mut network = network(&[111, 222, 333], &[&[0, 1], &[0, 2], &[1, 2, 1]]);
    network.run_for(60 * SECOND);
    network.cut(0);
    network.run_for(60 * SECOND);
    assert!(network.is_converged());
    assert_eq!(roles(&network, 3), ["-D", "-RA", "RD"]);
}

/// Two links between two bridges: the port identifier of the better bridge decides.
#[test]
fn parallel_links() {
    let mut network = network(&[111, 222], &[&[0, 1], &[0, 1], &[0, 1]]);
    network.run_for(10 * SECOND);
    assert_eq!(roles(&network, 2), ["DDD", "RAA"]);
    network.change(0, |tree| tree.set_port(PortId(1), PortConfig { priority: 112, ..COST }).unwrap());
    network.run_for(10 * SECOND);
    assert!(network.is_converged());
    assert_eq!(roles(&network, 2), ["DDD", "ARA"]);
}

/// Costs decide before identifiers: the long way of low cost is better than the short one.
#[test]
fn path_costs() {
    let mut network = network(&[111, 222, 333, 444], &[&[0, 1], &[1, 2], &[2, 3], &[3, 0]]);
    network.run_for(10 * SECOND);
    assert_eq!(roles(&network, 4), ["DD", "RD", "RA", "DR"]);
    assert_eq!(costs(&network, 4), [0, 10, 20, 10]);
    network.change(3, |tree| tree.set_port(PortId(1), PortConfig { cost: Some(100), ..COST }).unwrap());
    network.run_for(10 * SECOND);
    assert!(network.is_converged());
    assert_eq!(roles(&network, 4), ["DD", "RD", "RD", "RA"]);
    assert_eq!(costs(&network, 4), [0, 10, 20, 30]);
}

/// A lower priority makes another bridge the root, wherever it is.
#[test]
fn bridge_priority_chooses_the_root() {
    let mut network = network(&CORES, &WIRING);
    network.run_for(10 * SECOND);
    network.change(5, |tree| tree.set_config(BridgeConfig { priority: 4096, ..bridge(666) }).unwrap());
    network.run_for(10 * SECOND);
    assert!(network.is_converged());
    assert_eq!(roles(&network, 6), ["DDDDR", "ADDDR", "RA", "RA", "RA", "DD"]);
}
