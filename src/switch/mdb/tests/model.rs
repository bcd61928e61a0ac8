//! Snooping against a model that is slow and plain: the tables of RFC 3376 §6.4, with sets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SETTINGS: MdbSettings = MdbSettings {
    hash_max: 4096,
    last_member_count: 2,
    last_member_interval: 10,
    startup_query_count: 2,
    startup_query_interval: 30,
    query_interval: 100,
    query_response_interval: 20,
    membership_interval: 220,
    querier_interval: 210,
};

#[derive(Debug, Clone)]
enum Step {
    Report { port: u16, kind: u8, group: usize, sources: BTreeSet<usize> },
    Join { port: u16, group: usize },
    Leave { port: u16, group: usize },
    Wait(u32),
    PortDown(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let (port, group) = (1..4_u16, 0..2_usize);
    prop_oneof![
        8 => (port.clone(), 1..=6_u8, group.clone(), prop::collection::btree_set(0..3_usize, 0..3))
            .prop_map(|(port, kind, group, sources)| Step::Report { port, kind, group, sources }),
        1 => (port.clone(), group.clone()).prop_map(|(port, group)| Step::Join { port, group }),
        2 => (port.clone(), group).prop_map(|(port, group)| Step::Leave { port, group }),
        6 => prop_oneof![1..25_u32, 1..230_u32].prop_map(Step::Wait),
        1 => port.prop_map(Step::PortDown),
    ]
}

/// The members of one port.
#[derive(Debug, Default, Clone)]
struct Model {
    /// The end of the group timer, in EXCLUDE mode.
    exclude: Option<u32>,
    /// A or X, and the ends of the timers.
    wanted: BTreeMap<IpAddr, u32>,
    /// Y.
    blocked: BTreeSet<IpAddr>,
    /// A host of version 2 is there until then.
    older: u32,
}

impl Model {
    fn expire(&mut self, now: u32) {
        let over: Vec<IpAddr> =
            self.wanted.iter().filter(|(_, end)| **end <= now).map(|(at, _)| *at).collect();
        for source in over {
            self.wanted.remove(&source);
            if self.exclude.is_some() {
                self.blocked.insert(source);
            }
        }
        if self.exclude.is_some_and(|end| end <= now) {
            self.exclude = None;
            self.blocked.clear();
        }
    }

    fn lower(&mut self, now: u32, sources: impl IntoIterator<Item = IpAddr>) {
        for source in sources {
            if let Some(end) = self.wanted.get_mut(&source) {
                *end = (*end).min(now + 20);
            }
        }
    }

    fn allow(&mut self, now: u32, listed: &BTreeSet<IpAddr>) {
        for source in listed {
            self.wanted.insert(*source, now + 220);
            self.blocked.remove(source);
        }
    }

    fn exclude(&mut self, now: u32, listed: &BTreeSet<IpAddr>, new: Option<u32>) {
        match self.exclude {
            None => {
                self.blocked = listed.iter().filter(|at| !self.wanted.contains_key(at)).copied().collect();
                self.wanted.retain(|source, _| listed.contains(source));
            }
            Some(end) => {
                self.blocked.retain(|source| listed.contains(source));
                self.wanted.retain(|source, _| listed.contains(source));
                for source in listed.iter().filter(|source| !self.blocked.contains(source)) {
                    self.wanted.entry(*source).or_insert(new.unwrap_or(end));
                }
            }
        }
        self.exclude = Some(now + 220);
    }

    fn report(&mut self, now: u32, kind: u8, listed: &BTreeSet<IpAddr>) {
        let none = BTreeSet::new();
        let is_older = self.older > now;
        match (kind, self.exclude) {
            (1 | 5, _) => self.allow(now, listed),
            (2, _) => self.exclude(now, listed, Some(now + 220)),
            (3, mode) => {
                let left: Vec<IpAddr> =
                    self.wanted.keys().filter(|at| !listed.contains(at)).copied().collect();
                self.allow(now, listed);
                self.lower(now, left);
                self.exclude = mode.map(|end| end.min(now + 20));
            }
            (4, _) => {
                let listed = if is_older { &none } else { listed };
                self.exclude(now, listed, None);
                self.lower(now, listed.iter().copied());
            }
            (6, _) if is_older => {}
            (6, mode) => {
                for source in listed.iter().filter(|source| !self.blocked.contains(source)) {
                    if let Some(end) = mode {
                        self.wanted.entry(*source).or_insert(end);
                    }
                }
                self.lower(now, listed.iter().copied());
            }
            _ => unreachable!(),
        }
    }

    fn wants(&self, source: IpAddr) -> bool {
        self.wanted.contains_key(&source) || self.exclude.is_some() && !self.blocked.contains(&source)
    }

    fn is_empty(&self) -> bool {
        self.exclude.is_none() && self.wanted.is_empty()
    }
}

fn address(is_ipv6: bool, group: bool, number: usize) -> IpAddr {
    match (is_ipv6, group) {
        (false, true) => ip(&format!("239.1.1.{number}")),
        (false, false) => ip(&format!("192.0.2.{}", number + 1)),
        (true, true) => ip(&format!("ff15::{}", number + 1)),
        (true, false) => ip(&format!("2001:db8::{}", number + 1)),
    }
}

/// One run of both.
struct Run {
    is_ipv6: bool,
    lab: Lab,
    models: BTreeMap<(u16, usize), Model>,
}

impl Run {
    fn new(is_ipv6: bool) -> Run {
        let mut lab = Lab::new(SETTINGS);
        lab.snooping.set_querier(lab.now, [0], true);
        lab.wait(20);
        Run { is_ipv6, lab, models: BTreeMap::new() }
    }

    fn take(&mut self, step: &Step) {
        let now = self.lab.now.0;
        match step {
            Step::Report { port, kind, group, sources } => {
                let sources: BTreeSet<_> =
                    sources.iter().map(|at| address(self.is_ipv6, false, *at)).collect();
                let record = (*kind, address(self.is_ipv6, true, *group), sources.iter().copied().collect());
                self.lab.receive(*port, &hosts::report(&[record]));
                self.models.entry((*port, *group)).or_default().report(now, *kind, &sources);
            }
            Step::Join { port, group } => {
                self.lab.receive(*port, &hosts::join(address(self.is_ipv6, true, *group)));
                let model = self.models.entry((*port, *group)).or_default();
                model.older = now + 220;
                model.report(now, 2, &BTreeSet::new());
            }
            Step::Leave { port, group } => {
                self.lab.receive(*port, &hosts::leave(address(self.is_ipv6, true, *group)));
                self.models.entry((*port, *group)).or_default().report(now, 3, &BTreeSet::new());
            }
            Step::Wait(ticks) => self.lab.wait(*ticks),
            Step::PortDown(port) => {
                self.lab.snooping.port_down(PortId(*port));
                self.models.retain(|(other, _), _| other != port);
            }
        }
        let now = self.lab.now.0;
        self.models.values_mut().for_each(|model| model.expire(now));
        self.models.retain(|_, model| !model.is_empty());
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        for group in 0..3 {
            for source in 0..4 {
                let (to, from) = (address(self.is_ipv6, true, group), address(self.is_ipv6, false, source));
                let wants = |((port, _), model): (&(u16, usize), &Model)| model.wants(from).then_some(*port);
                let of_group = self.models.iter().filter(|((_, other), _)| *other == group);
                let expected: Vec<u16> = of_group.filter_map(wants).collect();
                prop_assert_eq!(self.lab.data(to, from), Some(expected), "{} from {}", to, from);
            }
        }
        let rows = |model: &Model| 1 + model.wanted.len() + model.blocked.len();
        prop_assert_eq!(self.lab.entries().len(), self.models.values().map(rows).sum::<usize>());
        let groups: BTreeSet<(usize, Option<IpAddr>)> = self
            .models
            .iter()
            .flat_map(|((_, group), model)| {
                let sources = model.wanted.keys().chain(&model.blocked).map(|source| (*group, Some(*source)));
                sources.chain([(*group, None)])
            })
            .collect();
        prop_assert_eq!(self.lab.snooping.table.entries(), groups.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// After each step, each group and source goes to the ports that the model says.
    #[test]
    fn follows_the_tables_of_rfc_3376(is_ipv6: bool, steps in vec(step(), 1..40)) {
        let mut run = Run::new(is_ipv6);
        for step in &steps {
            run.take(step);
            run.check().map_err(|error| TestCaseError::fail(format!("{error} after {step:?}")))?;
        }
        // In the end no host reports, and everything is forgotten.
        run.take(&Step::Wait(2 * 220));
        prop_assert_eq!(run.lab.entries(), [""; 0]);
        prop_assert_eq!(run.lab.snooping.table.entries(), 0);
    }

    /// A port joins a group if it has fewer than its limit, and leaves it at once with fast leave.
    #[test]
    fn limits_the_groups_of_a_port(is_ipv6: bool, steps in vec((1..3_u16, 0..4_usize, any::<bool>()), 1..40)) {
        const MOST: [usize; 2] = [2, 3];
        let mut run = Run::new(is_ipv6);
        for (port, most) in (1..).zip(MOST) {
            let max_groups = u32::try_from(most).unwrap();
            let settings = MdbPortSettings { max_groups, fast_leave: true, ..MdbPortSettings::default() };
            run.lab.snooping.set_port(PortId(port), settings);
        }
        let (mut joined, mut refused) = ([(); 2].map(|()| BTreeSet::new()), 0);
        for (port, group, joins) in steps {
            let (to, of_port) = (address(is_ipv6, true, group), &mut joined[usize::from(port) - 1]);
            if !joins {
                run.lab.receive(port, &hosts::leave(to));
                of_port.remove(&group);
            } else {
                run.lab.receive(port, &hosts::join(to));
                if of_port.contains(&group) || of_port.len() < MOST[usize::from(port) - 1] {
                    of_port.insert(group);
                } else {
                    refused += 1;
                }
            }
            for group in 0..4 {
                let has = |port: &u16| joined[usize::from(*port) - 1].contains(&group);
                let expected: Vec<u16> = (1..3).filter(has).collect();
                let (to, from) = (address(is_ipv6, true, group), address(is_ipv6, false, 0));
                prop_assert_eq!(run.lab.data(to, from), Some(expected), "group {}", group);
            }
            prop_assert_eq!(run.lab.snooping.counts().refused_limit, refused);
        }
    }

    /// Neither valid messages in any order nor other bytes make it panic or exceed its bounds.
    #[test]
    fn stays_within_its_bounds(frames in vec((0..5_u16, 0..3_u16, any::<bool>(), vec(any::<u8>(), 0..80), 0..300_u32, step()), 1..40)) {
        let mut lab = Lab::new(MdbSettings { hash_max: 3, ..SETTINGS });
        for (port, vlan, is_ipv6, bytes, wait, step) in frames {
            let ethertype = if is_ipv6 { EtherType::IPV6 } else { EtherType::IPV4 };
            lab.receive_in(vlan, port, &(ethertype, bytes));
            lab.snooping.set_querier(lab.now, [vlan], wait % 2 == 0);
            if let Step::Report { port, kind, group, sources } = step {
                let sources = sources.iter().map(|at| address(is_ipv6, false, *at)).collect();
                lab.receive_in(vlan, port, &hosts::report(&[(kind, address(is_ipv6, true, group), sources)]));
            }
            lab.wait(wait);
            lab.snooping.snapshot();
            prop_assert!(lab.snooping.table.entries() <= 3);
        }
    }
}
