//! In any network there is never a loop, and every network converges.

use std::time::Duration;

use proptest::prelude::*;
use uswitch::switch::stp::{BridgeConfig, PortConfig, Version};

use super::network::{Network, Random, mac};

/// The time in which everything is decided, also with STP: information expires, and ports listen and learn.
const SETTLED: Duration = Duration::from_secs(150);

#[derive(Debug, Clone, Copy)]
enum Shape {
    Ring,
    /// A tree with this many links more.
    Mesh(usize),
    Tree,
}

#[derive(Debug, Clone)]
struct Scenario {
    seed: u64,
    shape: Shape,
    bridges: usize,
    /// How many of 100 bridges speak only STP.
    stp: usize,
    /// How many of 100 BPDUs are lost.
    loss: usize,
    /// The longest delay of a LAN in milliseconds.
    delay: usize,
    /// How often a LAN is cut or restored.
    changes: usize,
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![Just(Shape::Ring), (1usize..60).prop_map(Shape::Mesh), Just(Shape::Tree)]
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let numbers = (2usize..=50, 0usize..=50, 0usize..=20, 0usize..=300, 0usize..12);
    (any::<u64>(), shape(), numbers, any::<[bool; 2]>()).prop_map(|(seed, shape, numbers, [stp, loss])| {
        let (bridges, stp_share, loss_share, delay, changes) = numbers;
        let (stp, loss) = (if stp { stp_share } else { 0 }, if loss { loss_share } else { 0 });
        // A cut makes a chain of a ring. Information does not reach the ends of one that is longer than max age.
        let changes = if matches!(shape, Shape::Ring) && bridges > 40 { 0 } else { changes };
        Scenario { seed, shape, bridges, stp, loss, delay, changes }
    })
}

impl Scenario {
    fn build(&self, random: &mut Random) -> Network {
        let mut network = Network::new(self.seed);
        for number in 0..self.bridges {
            let version = if random.below(100) < self.stp { Version::Stp } else { Version::Rstp };
            let number = u16::try_from(number).expect("valid");
            let priority = 4096 * u16::try_from(random.below(16)).expect("valid");
            // The longest possible path of information.
            let config = BridgeConfig {
                max_age: 40,
                forward_delay: 21,
                priority,
                version,
                ..BridgeConfig::new(mac(number))
            };
            network.add_bridge(config);
        }
        for (a, b) in self.links(random) {
            let mut end = |bridge| (bridge, network.add_port(bridge, PortConfig::default()));
            let ends = vec![end(a), end(b)];
            let delay = Duration::from_millis(random.below(self.delay + 1) as u64);
            network.add_lan(ends, delay);
        }
        network
    }

    fn links(&self, random: &mut Random) -> Vec<(usize, usize)> {
        let tree = |random: &mut Random| (1..self.bridges).map(|b| (random.below(b), b)).collect::<Vec<_>>();
        match self.shape {
            Shape::Ring => (0..self.bridges).map(|b| (b, (b + 1) % self.bridges)).collect(),
            Shape::Tree => tree(random),
            Shape::Mesh(more) => {
                let mut links = tree(random);
                links.extend((0..more).map(|_| {
                    let a = random.below(self.bridges);
                    (a, (a + 1 + random.below(self.bridges - 1)) % self.bridges)
                }));
                links
            }
        }
    }

    fn run(&self) {
        let mut random = Random(self.seed);
        let mut network = self.build(&mut random);
        network.set_loss(self.loss);
        for lan in 0..network.lans.len() {
            network.restore(lan);
            network.run_for(Duration::from_millis(random.below(200) as u64));
        }
        for _ in 0..self.changes {
            network.run_for(Duration::from_millis(random.below(15_000) as u64));
            let lan = random.below(network.lans.len());
            if random.below(2) == 0 { network.cut(lan) } else { network.restore(lan) }
        }
        network.run_for(SETTLED);
        network.set_loss(0);
        network.run_for(SETTLED);
        assert!(network.is_converged(), "not converged");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_a_loop_and_always_converges(scenario in scenario()) {
        scenario.run();
    }
}
