//! The parameters of a bridge and its ports (17.13, 17.14), and their ranges.

use std::ops::RangeInclusive;

use crate::wire::Mac;
use crate::wire::bpdu::{BridgeId, PortIdentifier, Times};

/// `MigrateTime` (table 17-1), in seconds.
pub(super) const MIGRATE_TIME: u16 = 3;

/// Range of the bridge's max age (table 17-1), in seconds.
pub const MAX_AGE: RangeInclusive<u16> = 6..=40;
/// Range of the bridge's hello time, in seconds. 802.1D-2004 permits 1 and 2 and accepts up to 10 (table 17-1), which
/// STP (802.1D-1998 table 8-3) and the Linux bridge permit.
pub const HELLO_TIME: RangeInclusive<u16> = 1..=10;
/// Range of the bridge's forward delay (table 17-1), in seconds.
pub const FORWARD_DELAY: RangeInclusive<u16> = 4..=30;
/// Range of the most BPDUs that a port sends in a second (table 17-1).
pub const TX_HOLD_COUNT: RangeInclusive<u8> = 1..=10;
/// Largest bridge priority, and its step (table 17-2).
pub const BRIDGE_PRIORITY: (u16, u16) = (61440, 4096);
/// Largest port priority, and its step (table 17-2).
pub const PORT_PRIORITY: (u8, u8) = (240, 16);
/// Range of a port's path cost (17.14).
pub const PATH_COST: RangeInclusive<u32> = 1..=200_000_000;

/// The protocol that a bridge uses (`ForceProtocolVersion`, 17.13.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// STP of 802.1D-1998 on every port.
    Stp,
    /// RSTP, and STP on ports with an STP bridge.
    #[default]
    Rstp,
}

/// The parameters of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The bridge's address.
    pub mac: Mac,
    /// The bridge priority: see [`BRIDGE_PRIORITY`].
    pub priority: u16,
    /// See [`MAX_AGE`].
    pub max_age: u16,
    /// See [`HELLO_TIME`].
    pub hello_time: u16,
    /// See [`FORWARD_DELAY`].
    pub forward_delay: u16,
    /// See [`TX_HOLD_COUNT`].
    pub tx_hold_count: u8,
    /// The protocol.
    pub version: Version,
}

impl BridgeConfig {
    /// The default parameters (tables 17-1 and 17-2).
    pub const fn new(mac: Mac) -> BridgeConfig {
        BridgeConfig {
            mac,
            priority: 32768,
            max_age: 20,
            hello_time: 2,
            forward_delay: 15,
            tx_hold_count: 6,
            version: Version::Rstp,
        }
    }

    /// Checks the ranges, and that the times fit together (17.14).
    ///
    /// # Errors
    ///
    /// The first parameter that is out of its range.
    pub fn check(&self) -> Result<(), StpConfigError> {
        let (largest, step) = BRIDGE_PRIORITY;
        if self.priority > largest || !self.priority.is_multiple_of(step) {
            return Err(StpConfigError::BridgePriority(self.priority));
        }
        if !MAX_AGE.contains(&self.max_age) {
            return Err(StpConfigError::MaxAge(self.max_age));
        }
        if !HELLO_TIME.contains(&self.hello_time) {
            return Err(StpConfigError::HelloTime(self.hello_time));
        }
        if !FORWARD_DELAY.contains(&self.forward_delay) {
            return Err(StpConfigError::ForwardDelay(self.forward_delay));
        }
        if !TX_HOLD_COUNT.contains(&self.tx_hold_count) {
            return Err(StpConfigError::TxHoldCount(self.tx_hold_count));
        }
        let BridgeConfig { max_age, hello_time, forward_delay, .. } = *self;
        if 2 * (forward_delay - 1) < max_age || max_age < 2 * (hello_time + 1) {
            return Err(StpConfigError::Times { max_age, hello_time, forward_delay });
        }
        Ok(())
    }

    /// `BridgeIdentifier` (17.18.2).
    pub(super) const fn id(&self) -> BridgeId {
        BridgeId { priority: self.priority, mac: self.mac }
    }

    /// `BridgeTimes` (17.18.4).
    pub(super) const fn times(&self) -> Times {
        Times {
            message_age: 0,
            max_age: self.max_age,
            hello_time: self.hello_time,
            forward_delay: self.forward_delay,
        }
    }
}

/// Whether a port leads to hosts only, so that it forwards at once (`operEdge`, 17.19.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edge {
    /// An edge port if no BPDU arrives for some seconds (`AutoEdge`).
    #[default]
    Auto,
    /// An edge port until a BPDU arrives (`AdminEdge`).
    On,
    /// Not an edge port.
    Off,
}

/// The parameters of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortConfig {
    /// The path cost: see [`PATH_COST`]. `None`: [by link speed](path_cost).
    pub cost: Option<u32>,
    /// The port priority: see [`PORT_PRIORITY`]. The Linux bridge shows a fourth of it.
    pub priority: u8,
    /// Whether it is an edge port.
    pub edge: Edge,
    /// The link has one bridge at its other end (`operPointToPointMAC`, 6.4.3).
    pub point_to_point: bool,
    /// BPDU guard: a BPDU disables the port, until its link was down or the guard is turned off.
    pub guard: bool,
    /// Root guard: the port never becomes root port (802.1Q-2005 13.25.14 `restrictedRole`).
    pub root_block: bool,
}

impl Default for PortConfig {
    fn default() -> PortConfig {
        PortConfig {
            cost: None,
            priority: 128,
            edge: Edge::Auto,
            point_to_point: true,
            guard: false,
            root_block: false,
        }
    }
}

impl PortConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// The first parameter that is out of its range.
    pub fn check(&self) -> Result<(), StpConfigError> {
        let (largest, step) = PORT_PRIORITY;
        match self.cost {
            Some(cost) if !PATH_COST.contains(&cost) => Err(StpConfigError::PathCost(cost)),
            _ if self.priority > largest || !self.priority.is_multiple_of(step) => {
                Err(StpConfigError::PortPriority(self.priority))
            }
            _ => Ok(()),
        }
    }
}

/// The default path cost of a link of this speed in Mbit/s, as in the Linux bridge (`port_cost` in Linux
/// `net/bridge/br_if.c`).
pub const fn path_cost(speed: Option<u32>) -> u32 {
    match speed {
        Some(10_001..) => 1,
        Some(10_000) => 2,
        Some(5_000) => 3,
        Some(2_500) => 4,
        Some(1_000) => 5,
        Some(100) => 19,
        _ => 100,
    }
}

/// A parameter is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StpConfigError {
    /// See [`BRIDGE_PRIORITY`].
    #[error("bridge priority {0} is not a multiple of {step} from 0 to {max}", step = BRIDGE_PRIORITY.1, max = BRIDGE_PRIORITY.0)]
    BridgePriority(u16),
    /// See [`MAX_AGE`].
    #[error("max age {0} is not in the range {min} to {max} seconds", min = MAX_AGE.start(), max = MAX_AGE.end())]
    MaxAge(u16),
    /// See [`HELLO_TIME`].
    #[error("hello time {0} is not in the range {min} to {max} seconds", min = HELLO_TIME.start(), max = HELLO_TIME.end())]
    HelloTime(u16),
    /// See [`FORWARD_DELAY`].
    #[error("forward delay {0} is not in the range {min} to {max} seconds", min = FORWARD_DELAY.start(), max = FORWARD_DELAY.end())]
    ForwardDelay(u16),
    /// See [`TX_HOLD_COUNT`].
    #[error("transmit hold count {0} is not in the range {min} to {max}", min = TX_HOLD_COUNT.start(), max = TX_HOLD_COUNT.end())]
    TxHoldCount(u8),
    /// The times do not fit together.
    #[error(
        "max age {max_age} needs to be between {min} (twice the hello time and a second) and {max} (twice the forward \
         delay less a second)", min = 2 * (hello_time + 1), max = 2 * (forward_delay - 1)
    )]
    #[allow(missing_docs, reason = "the parameters of the same name")]
    Times { max_age: u16, hello_time: u16, forward_delay: u16 },
    /// See [`PATH_COST`].
    #[error("path cost {0} is not in the range {min} to {max}", min = PATH_COST.start(), max = PATH_COST.end())]
    PathCost(u32),
    /// See [`PORT_PRIORITY`].
    #[error("port priority {0} is not a multiple of {step} from 0 to {max}", step = PORT_PRIORITY.1, max = PORT_PRIORITY.0)]
    PortPriority(u8),
    /// The port's number does not fit into a port identifier.
    #[error("a spanning tree has at most {max} ports", max = PortIdentifier::MAX_NUMBER)]
    TooManyPorts,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut BridgeConfig)) -> Result<(), StpConfigError> {
        let mut config = BridgeConfig::new(Mac::ZERO);
        change(&mut config);
        config.check()
    }

    #[test]
    fn accepts_the_ends_of_every_range() {
        assert_eq!(check(|_| ()), Ok(()));
        assert_eq!(check(|c| c.priority = 0), Ok(()));
        assert_eq!(check(|c| c.priority = 61440), Ok(()));
        assert_eq!(check(|c| (c.max_age, c.forward_delay) = (6, 4)), Ok(()));
        assert_eq!(check(|c| (c.max_age, c.forward_delay) = (40, 30)), Ok(()));
        assert_eq!(check(|c| (c.hello_time, c.max_age, c.forward_delay) = (10, 22, 12)), Ok(()));
        assert_eq!(check(|c| c.tx_hold_count = 10), Ok(()));
    }

    #[test]
    fn rejects_bridge_parameters_out_of_range() {
        assert_eq!(check(|c| c.priority = 1), Err(StpConfigError::BridgePriority(1)));
        assert_eq!(check(|c| c.priority = 61441), Err(StpConfigError::BridgePriority(61441)));
        assert_eq!(check(|c| c.max_age = 5), Err(StpConfigError::MaxAge(5)));
        assert_eq!(check(|c| c.max_age = 41), Err(StpConfigError::MaxAge(41)));
        assert_eq!(check(|c| c.hello_time = 0), Err(StpConfigError::HelloTime(0)));
        assert_eq!(check(|c| c.hello_time = 11), Err(StpConfigError::HelloTime(11)));
        assert_eq!(check(|c| c.forward_delay = 3), Err(StpConfigError::ForwardDelay(3)));
        assert_eq!(check(|c| c.forward_delay = u16::MAX), Err(StpConfigError::ForwardDelay(u16::MAX)));
        assert_eq!(check(|c| c.tx_hold_count = 0), Err(StpConfigError::TxHoldCount(0)));
        assert_eq!(check(|c| c.tx_hold_count = 11), Err(StpConfigError::TxHoldCount(11)));
    }

    #[test]
    fn rejects_times_that_do_not_fit_together() {
        let error = check(|c| c.forward_delay = 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "max age 20 needs to be between 6 (twice the hello time and a second) and 18 (twice the forward delay \
             less a second)"
        );
        assert!(check(|c| (c.max_age, c.hello_time) = (20, 10)).is_err());
    }

    #[test]
    fn rejects_port_parameters_out_of_range() {
        let check = |cost, priority| PortConfig { cost, priority, ..PortConfig::default() }.check();
        assert_eq!(check(Some(0), 128), Err(StpConfigError::PathCost(0)));
        assert_eq!(check(Some(200_000_001), 128), Err(StpConfigError::PathCost(200_000_001)));
        assert_eq!(check(None, 8), Err(StpConfigError::PortPriority(8)));
        assert_eq!(check(None, 255), Err(StpConfigError::PortPriority(255)));
        assert_eq!(check(Some(200_000_000), 240), Ok(()));
    }

    #[test]
    fn costs_less_at_higher_speed() {
        let speeds =
            [None, Some(10), Some(100), Some(1_000), Some(2_500), Some(5_000), Some(10_000), Some(25_000)];
        assert_eq!(speeds.map(path_cost), [100, 100, 19, 5, 4, 3, 2, 1]);
    }
}
