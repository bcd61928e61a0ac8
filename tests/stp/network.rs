//! Simulated bridges and LANs. Every instant at which a port begins to forward is checked for a loop.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use uswitch::switch::stp::{
    Action, BridgeConfig, PortConfig, PortLink, PortRole, PortStatus, SpanningTree, State, StpEvent, Version,
};
use uswitch::switch::{PortId, Tick};
use uswitch::wire::{Bpdu, Mac};

/// The address of the bridge of this number.
pub(crate) fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac([2, 0, 0, 0, high, low])
}

/// A bridge with the default parameters.
pub(crate) fn bridge(number: u16) -> BridgeConfig {
    BridgeConfig::new(mac(number))
}

/// A bridge that speaks STP only.
pub(crate) fn stp_bridge(number: u16) -> BridgeConfig {
    BridgeConfig { version: Version::Stp, ..bridge(number) }
}

/// A generator of pseudo-random numbers (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ z >> 31) % limit as u64).expect("valid")
    }
}

#[derive(Debug)]
struct Node {
    tree: SpanningTree,
    states: Vec<State>,
    /// Its clock is ahead by this, so that the seconds of the bridges do not coincide.
    phase: Duration,
    flushes: Vec<PortId>,
}

#[derive(Debug)]
pub(crate) struct Lan {
    pub(crate) ends: Vec<(usize, PortId)>,
    delay: Duration,
    up: bool,
    /// Counts the cuts, so that what was on its way is lost.
    cuts: u32,
    /// In how many of 100 cases a BPDU is lost.
    loss: usize,
    /// By sender.
    lost_in_a_row: Vec<u32>,
}

/// A frame that arrives.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Duration,
    /// In the order of sending.
    number: u64,
    bridge: usize,
    port: u16,
    lan: usize,
    cuts: u32,
    frame: [u8; Bpdu::FRAME],
}

/// BPDUs of one port lost in a row. With more, a bridge is mistaken for a host, or information expires.
const MOST_LOST: u32 = 1;

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) now: Duration,
    nodes: Vec<Node>,
    pub(crate) lans: Vec<Lan>,
    arrivals: BinaryHeap<Reverse<Arrival>>,
    sent: u64,
    random: Random,
    /// What was sent, by whom, since the last [`Network::take_sent`].
    log: Vec<(usize, PortId, Bpdu)>,
    pub(crate) events: Vec<(usize, StpEvent)>,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Network {
        Network {
            now: Duration::ZERO,
            nodes: Vec::new(),
            lans: Vec::new(),
            arrivals: BinaryHeap::new(),
            sent: 0,
            random: Random(seed),
            log: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn add_bridge(&mut self, config: BridgeConfig) -> usize {
        let phase = Duration::from_millis(self.random.below(1000) as u64);
        let tree = SpanningTree::new(config).expect("valid");
        self.nodes.push(Node { tree, states: Vec::new(), phase, flushes: Vec::new() });
        self.nodes.len() - 1
    }

    /// Adds a port to a bridge.
    pub(crate) fn add_port(&mut self, bridge: usize, config: PortConfig) -> PortId {
        let node = &mut self.nodes[bridge];
        let id = PortId(u16::try_from(node.states.len()).expect("valid"));
        node.states.push(State::Discarding);
        node.tree.add_port(id, config).expect("valid");
        id
    }

    /// Connects ports by a LAN that delays by `delay` and is down.
    pub(crate) fn add_lan(&mut self, ends: Vec<(usize, PortId)>, delay: Duration) -> usize {
        let lost_in_a_row = vec![0; ends.len()];
        self.lans.push(Lan { ends, delay, up: false, cuts: 0, loss: 0, lost_in_a_row });
        self.lans.len() - 1
    }

    /// Connects two bridges, by ports with the default parameters.
    pub(crate) fn connect(&mut self, a: usize, b: usize) -> usize {
        let ends =
            vec![(a, self.add_port(a, PortConfig::default())), (b, self.add_port(b, PortConfig::default()))];
        let lan = self.add_lan(ends, Duration::from_millis(1));
        self.restore(lan);
        lan
    }

    pub(crate) fn set_loss(&mut self, percent: usize) {
        self.lans.iter_mut().for_each(|lan| lan.loss = percent);
    }

    /// Cuts a LAN: every port on it loses its link.
    pub(crate) fn cut(&mut self, lan: usize) {
        self.lans[lan].cuts += 1;
        self.set_up(lan, false);
    }

    pub(crate) fn restore(&mut self, lan: usize) {
        self.set_up(lan, true);
    }

    fn set_up(&mut self, lan: usize, up: bool) {
        self.lans[lan].up = up;
        for (bridge, port) in self.lans[lan].ends.clone() {
            let now = self.tick_of(bridge);
            self.nodes[bridge].tree.set_link(now, port, up.then_some(PortLink { speed: Some(1000) }));
            self.carry_out(bridge);
        }
    }

    /// Gives a port a link at whose other end there is nothing that answers.
    pub(crate) fn link_up(&mut self, bridge: usize, port: PortId) {
        let now = self.tick_of(bridge);
        self.nodes[bridge].tree.set_link(now, port, Some(PortLink { speed: Some(1000) }));
        self.carry_out(bridge);
    }

    /// Receives a BPDU as if it came from another bridge.
    pub(crate) fn inject(&mut self, bridge: usize, port: PortId, bpdu: Bpdu) {
        self.nodes[bridge].tree.receive(port, bpdu);
        self.carry_out(bridge);
    }

    /// Changes a bridge by its public functions.
    pub(crate) fn change(&mut self, bridge: usize, change: impl FnOnce(&mut SpanningTree)) {
        change(&mut self.nodes[bridge].tree);
        self.carry_out(bridge);
    }

    pub(crate) fn tree(&self, bridge: usize) -> &SpanningTree {
        &self.nodes[bridge].tree
    }

    pub(crate) fn port(&self, bridge: usize, port: PortId) -> PortStatus {
        self.tree(bridge).ports().find(|status| status.id == port).expect("valid")
    }

    /// The roles of a bridge's ports.
    pub(crate) fn roles(&self, bridge: usize) -> Vec<PortRole> {
        self.tree(bridge).ports().map(|port| port.role).collect()
    }

    pub(crate) fn state(&self, bridge: usize, port: PortId) -> State {
        self.nodes[bridge].states[port.index()]
    }

    pub(crate) fn take_sent(&mut self) -> Vec<(usize, PortId, Bpdu)> {
        std::mem::take(&mut self.log)
    }

    pub(crate) fn take_flushes(&mut self, bridge: usize) -> Vec<PortId> {
        std::mem::take(&mut self.nodes[bridge].flushes)
    }

    fn tick_of(&self, bridge: usize) -> Tick {
        Tick::at(self.now + self.nodes[bridge].phase)
    }

    fn deadline(&self, bridge: usize) -> Option<Duration> {
        let node = &self.nodes[bridge];
        let due = node.tree.next_deadline()?;
        Some(Duration::from_millis(u64::from(due.0) * 100).saturating_sub(node.phase).max(self.now))
    }

    /// Runs until nothing is left to do before `end`.
    pub(crate) fn run_until(&mut self, end: Duration) {
        while self.step(end) {}
        self.now = end;
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until a condition holds, at most for `limit`. Returns the time that it took.
    #[track_caller]
    pub(crate) fn run_until_true(&mut self, limit: Duration, holds: impl Fn(&Network) -> bool) -> Duration {
        let start = self.now;
        while !holds(self) {
            assert!(self.step(start + limit), "not within {limit:?}");
        }
        self.now - start
    }

    /// The next thing that happens, if it happens before `end`.
    fn step(&mut self, end: Duration) -> bool {
        let arrival = self.arrivals.peek().map(|arrival| arrival.0.at);
        let second = (0..self.nodes.len()).filter_map(|i| Some((self.deadline(i)?, i))).min();
        match (arrival, second) {
            (Some(at), second) if at < end && second.is_none_or(|(due, _)| at <= due) => {
                self.now = at;
                self.arrive();
            }
            (_, Some((due, bridge))) if due < end => {
                self.now = due;
                let now = self.tick_of(bridge);
                self.nodes[bridge].tree.advance(now);
                self.carry_out(bridge);
            }
            _ => return false,
        }
        true
    }

    fn arrive(&mut self) {
        let Some(Reverse(arrival)) = self.arrivals.pop() else { return };
        let lan = &self.lans[arrival.lan];
        if !lan.up || lan.cuts != arrival.cuts {
            return;
        }
        // What is too old is discarded (9.3.4).
        if let Ok(bpdu) = Bpdu::parse(&arrival.frame) {
            self.nodes[arrival.bridge].tree.receive(PortId(arrival.port), bpdu);
            self.carry_out(arrival.bridge);
        }
    }

    fn carry_out(&mut self, bridge: usize) {
        let actions: Vec<_> = self.nodes[bridge].tree.take_actions().collect();
        for action in actions {
            match action {
                Action::SetState { port, state } => {
                    self.nodes[bridge].states[port.index()] = state;
                    if state == State::Forwarding {
                        self.assert_no_loop();
                    }
                }
                Action::Flush { port } => self.nodes[bridge].flushes.push(port),
                Action::Report(event) => self.events.push((bridge, event)),
                Action::Send { port, bpdu } => self.send(bridge, port, bpdu),
            }
        }
    }

    fn send(&mut self, bridge: usize, port: PortId, bpdu: Bpdu) {
        self.log.push((bridge, port, bpdu));
        let is_sender = |end: &(usize, PortId)| *end == (bridge, port);
        let place = |lan: &Lan| lan.ends.iter().position(is_sender);
        let Some((i, end)) = self.lans.iter().enumerate().find_map(|(i, lan)| Some((i, place(lan)?))) else {
            return;
        };
        let lan = &mut self.lans[i];
        let lost_in_a_row = &mut lan.lost_in_a_row[end];
        if *lost_in_a_row < MOST_LOST && self.random.below(100) < lan.loss {
            *lost_in_a_row += 1;
            return;
        }
        *lost_in_a_row = 0;
        for (receiver, at) in lan.ends.iter().filter(|end| !is_sender(end)) {
            self.sent += 1;
            self.arrivals.push(Reverse(Arrival {
                at: self.now + lan.delay,
                number: self.sent,
                bridge: *receiver,
                port: at.0,
                lan: i,
                cuts: lan.cuts,
                frame: bpdu.emit(mac(1)),
            }));
        }
    }

    /// The ports that forward: bridge and LAN.
    fn forwarding(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.lans.iter().enumerate().filter(|(_, lan)| lan.up).flat_map(move |(i, lan)| {
            let forwarding =
                lan.ends.iter().filter(|(bridge, port)| self.state(*bridge, *port) == State::Forwarding);
            forwarding.map(move |(bridge, _)| (*bridge, i))
        })
    }

    #[track_caller]
    fn assert_no_loop(&self) {
        let mut sets = Sets::new(self.nodes.len() + self.lans.len());
        for (bridge, lan) in self.forwarding() {
            let is_new = sets.join(bridge, self.nodes.len() + lan);
            assert!(is_new, "a loop at {:?} through bridge {bridge} and LAN {lan}", self.now);
        }
    }

    /// Every two bridges that are connected by LANs are connected by forwarding ports.
    pub(crate) fn is_converged(&self) -> bool {
        let mut wired = Sets::new(self.nodes.len() + self.lans.len());
        let mut active = Sets::new(self.nodes.len() + self.lans.len());
        let offset = self.nodes.len();
        for (i, lan) in self.lans.iter().enumerate().filter(|(_, lan)| lan.up) {
            lan.ends.iter().for_each(|(bridge, _)| {
                wired.join(*bridge, offset + i);
            });
        }
        for (bridge, lan) in self.forwarding() {
            active.join(bridge, offset + lan);
        }
        let is_used = |node: &usize| *node < offset || self.lans[*node - offset].up;
        let nodes: Vec<_> = (0..offset + self.lans.len()).filter(is_used).collect();
        nodes.iter().all(|a| {
            let (wired_to, active_to) = (wired.find(*a), active.find(*a));
            nodes.iter().all(|b| wired.find(*b) != wired_to || active.find(*b) == active_to)
        })
    }
}

/// Disjoint sets.
struct Sets(Vec<usize>);

impl Sets {
    fn new(count: usize) -> Sets {
        Sets((0..count).collect())
    }

    fn find(&self, mut node: usize) -> usize {
        while self.0[node] != node {
            node = self.0[node];
        }
        node
    }

    /// Whether they were in two sets.
    fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a] = b;
        a != b
    }
}
