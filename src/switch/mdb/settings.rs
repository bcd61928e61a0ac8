//! Limits and times, with the names and defaults of the Linux bridge (`net/bridge/br_multicast.c`,
//! `br_multicast_ctx_init`).

use crate::switch::Tick;

const SECOND: u32 = Tick::PER_SECOND;

/// How a switch snoops. Times are in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MdbSettings {
    /// `mcast_hash_max`: the most groups, (\*,G) and (S,G) together.
    pub hash_max: usize,
    /// `mcast_last_member_count`: queries before a group is forgotten after a leave.
    pub last_member_count: u8,
    /// `mcast_last_member_interval`: the time between these.
    pub last_member_interval: u32,
    /// `mcast_startup_query_count`: queries of a new querier that follow each other more quickly.
    pub startup_query_count: u8,
    /// `mcast_startup_query_interval`: the time between these.
    pub startup_query_interval: u32,
    /// `mcast_query_interval`: the time between two general queries.
    pub query_interval: u32,
    /// `mcast_query_response_interval`: the time that hosts have to respond to a general query.
    pub query_response_interval: u32,
    /// `mcast_membership_interval`: a member that does not report for this long is forgotten.
    pub membership_interval: u32,
    /// `mcast_querier_interval`: another querier, or a multicast router, that is silent for this long is forgotten.
    pub querier_interval: u32,
}

impl Default for MdbSettings {
    fn default() -> MdbSettings {
        MdbSettings {
            hash_max: 4096,
            last_member_count: 2,
            last_member_interval: SECOND,
            startup_query_count: 2,
            startup_query_interval: 125 * SECOND / 4,
            query_interval: 125 * SECOND,
            query_response_interval: 10 * SECOND,
            membership_interval: 260 * SECOND,
            querier_interval: 255 * SECOND,
        }
    }
}

impl MdbSettings {
    /// The time in which a member must answer the queries after a leave (RFC 3376 §8.8).
    pub(super) fn last_member_time(&self) -> u32 {
        self.last_member_interval.saturating_mul(self.last_member_count.max(1).into())
    }
}

/// Whether there is a multicast router behind a port: `mcast_router` of `bridge link`, with its numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RouterMode {
    /// Never.
    Disabled = 0,
    /// Learned from queries, and from hellos and advertisements of routers.
    #[default]
    Learned = 1,
    /// Always.
    Permanent = 2,
}

impl RouterMode {
    /// The mode with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<RouterMode> {
        match number {
            0 => Some(RouterMode::Disabled),
            1 => Some(RouterMode::Learned),
            2 => Some(RouterMode::Permanent),
            _ => None,
        }
    }
}

/// How a port takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MdbPortSettings {
    /// `mcast_router`.
    pub router: RouterMode,
    /// `mcast_fast_leave`: a leave ends the membership at once, for a port with one host.
    pub fast_leave: bool,
    /// `mcast_max_groups`: the most entries of the port, (\*,G) and (S,G) together; 0: no limit. Those that it has
    /// stay.
    pub max_groups: u32,
}

impl Default for MdbPortSettings {
    /// The limit leaves three quarters of the table to others, where the bridge has none.
    fn default() -> MdbPortSettings {
        MdbPortSettings { router: RouterMode::default(), fast_leave: false, max_groups: 1024 }
    }
}
