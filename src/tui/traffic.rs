//! Rates and activity of the ports, from counters that are read twice a second.
//!
//! Activity means that a port received or sent frames since the last sample, and whether some of them were flooded. It
//! does not say which frame went to which port.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::snapshot::Snapshot;
use crate::control::report::PortStats;

/// Averaging period of a rate: long enough for a steady rate of one ping a second.
const WINDOW: Duration = Duration::from_secs(2);
/// How long activity is shown after its sample.
const FLOOD_SHOWN: Duration = Duration::from_millis(1200);
const UNICAST_SHOWN: Duration = Duration::from_millis(700);
/// Samples of the graph in the header.
const HISTORY: usize = 24;

/// Frames and bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TrafficRate {
    pub(super) frames: u64,
    pub(super) bits: u64,
}

/// Recent activity of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Activity {
    #[default]
    Idle,
    Unicast,
    Flood,
}

/// Rates of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PortRates {
    pub(super) rx: TrafficRate,
    pub(super) tx: TrafficRate,
    /// Dropped frames per second.
    pub(super) drops: u64,
}

#[derive(Debug)]
struct CounterSample {
    taken: Duration,
    rx_frames: u64,
    rx_bytes: u64,
    ports: BTreeMap<String, PortStats>,
}

/// Samples of the last two seconds, and the rates and activity computed from them.
#[derive(Debug, Default)]
pub(super) struct TrafficRates {
    samples: VecDeque<CounterSample>,
    flooded: BTreeMap<String, Duration>,
    unicast: BTreeMap<String, Duration>,
    /// Frames per second of all ports, the latest last.
    history: VecDeque<u64>,
}

impl TrafficRates {
    pub(super) fn take(&mut self, snapshot: &Snapshot) {
        let ports = snapshot.stats.iter().map(|port| (port.ifname.clone(), port.clone())).collect();
        let (rx_frames, rx_bytes) = (snapshot.status.rx_frames, snapshot.status.rx_bytes);
        let reading = CounterSample { taken: snapshot.taken, rx_frames, rx_bytes, ports };
        self.activity(&reading);
        self.samples.push_back(reading);
        while self.samples.get(1).is_some_and(|next| snapshot.taken.saturating_sub(next.taken) >= WINDOW) {
            self.samples.pop_front();
        }
        self.history.push_back(self.total().frames);
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    fn activity(&mut self, now: &CounterSample) {
        let Some(before) = self.samples.back() else { return };
        let (mut flooded, mut unicast) = (BTreeMap::new(), BTreeMap::new());
        let pairs: Vec<_> =
            now.ports.iter().filter_map(|(name, port)| Some((name, port, before.ports.get(name)?))).collect();
        let is_flood = pairs.iter().any(|(_, port, before)| port.flooded > before.flooded);
        for (name, port, before) in pairs {
            let rx = port.rx_frames.saturating_sub(before.rx_frames);
            let tx = port.tx_frames > before.tx_frames;
            let own_floods = port.flooded.saturating_sub(before.flooded);
            if own_floods > 0 || is_flood && tx {
                flooded.insert(name.clone(), now.taken);
            }
            if rx > own_floods || tx {
                unicast.insert(name.clone(), now.taken);
            }
        }
        for (active, new, shown_for) in
            [(&mut self.flooded, flooded, FLOOD_SHOWN), (&mut self.unicast, unicast, UNICAST_SHOWN)]
        {
            active.extend(new);
            active.retain(|_, since| now.taken.saturating_sub(*since) < shown_for);
        }
    }

    /// Recent activity of a port.
    pub(super) fn activity_of(&self, port: &str, now: Duration) -> Activity {
        let shown_for = |active: &BTreeMap<String, Duration>, shown_for| {
            active.get(port).is_some_and(|since| now.saturating_sub(*since) < shown_for)
        };
        if shown_for(&self.flooded, FLOOD_SHOWN) {
            Activity::Flood
        } else if shown_for(&self.unicast, UNICAST_SHOWN) {
            Activity::Unicast
        } else {
            Activity::Idle
        }
    }

    pub(super) fn of_port(&self, port: &str) -> PortRates {
        let ends = self.ends();
        let ends = ends.and_then(|(a, b, passed)| Some((a.ports.get(port)?, b.ports.get(port)?, passed)));
        let Some((before, now, passed)) = ends else { return PortRates::default() };
        let dropped = |port: &PortStats| port.drops.values().sum::<u64>();
        PortRates {
            rx: rate((now.rx_frames, now.rx_bytes), (before.rx_frames, before.rx_bytes), passed),
            tx: rate((now.tx_frames, now.tx_bytes), (before.tx_frames, before.tx_bytes), passed),
            drops: per_second(dropped(now), dropped(before), passed),
        }
    }

    /// Receive rate of all ports.
    pub(super) fn total(&self) -> TrafficRate {
        self.ends()
            .map(|(a, b, passed)| rate((b.rx_frames, b.rx_bytes), (a.rx_frames, a.rx_bytes), passed))
            .unwrap_or_default()
    }

    /// Frames per second of all ports, at each of the last samples.
    pub(super) fn history(&self) -> &VecDeque<u64> {
        &self.history
    }

    fn ends(&self) -> Option<(&CounterSample, &CounterSample, Duration)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let passed = last.taken.saturating_sub(first.taken);
        (!passed.is_zero()).then_some((first, last, passed))
    }
}

/// Rate from two samples of frames and bytes.
fn rate(now: (u64, u64), before: (u64, u64), passed: Duration) -> TrafficRate {
    let bits = per_second(now.1, before.1, passed).saturating_mul(8);
    TrafficRate { frames: per_second(now.0, before.0, passed), bits }
}

/// Rounded up, so that a low rate is not shown as 0. A counter that decreased belongs to a new port of the same name.
fn per_second(now: u64, before: u64, passed: Duration) -> u64 {
    let per_second = (u128::from(now.saturating_sub(before)) * 1000).div_ceil(passed.as_millis().max(1));
    u64::try_from(per_second).unwrap_or(u64::MAX)
}
