//! The querier of a link, which is one VLAN and one IP version: election (RFC 3376 §6.6.2) and own general queries.

use std::net::IpAddr;

use super::membership::{FOREVER, after};
use super::settings::MdbSettings;
use crate::switch::{PortId, Tick};

/// Another querier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherQuerier {
    /// Its address.
    pub address: IpAddr,
    /// The port behind which it is.
    pub port: PortId,
    /// It is forgotten then.
    pub until: Tick,
}

/// The querier of a link.
#[derive(Debug, Clone)]
pub(super) struct Querier {
    /// The address of this switch, if it may be the querier.
    own: Option<IpAddr>,
    other: Option<OtherQuerier>,
    /// Before that, hosts have not had the time to report. `None` while there is no querier.
    usable_from: Option<Tick>,
    /// When the next own query is due, and how many were sent.
    next_query: Tick,
    sent: u8,
}

impl Default for Querier {
    /// No querier.
    fn default() -> Querier {
        Querier { own: None, other: None, usable_from: None, next_query: FOREVER, sent: 0 }
    }
}

impl Querier {
    /// Lets this switch be the querier, or not.
    pub(super) fn set_own(&mut self, own: Option<IpAddr>, now: Tick, settings: &MdbSettings) {
        self.own = own;
        if self.other.is_none() {
            self.take_over(now, settings);
        }
    }

    /// Becomes the querier, if this switch may.
    fn take_over(&mut self, now: Tick, settings: &MdbSettings) {
        if self.own.is_none() {
            (self.usable_from, self.next_query) = (None, FOREVER);
            return;
        }
        (self.next_query, self.sent) = (now, 0);
        self.usable_from.get_or_insert(after(now, settings.query_response_interval));
    }

    /// Handles a general query. Returns false if its sender is not elected: the lowest address is.
    pub(super) fn hear(&mut self, now: Tick, from: OtherQuerier, response: u32) -> bool {
        let elected = self.other.map(|other| other.address).or(self.own);
        if elected.is_some_and(|elected| !elected.is_unspecified() && elected < from.address) {
            return false;
        }
        self.other = Some(from);
        self.next_query = FOREVER;
        self.usable_from.get_or_insert(after(now, response));
        true
    }

    /// Forgets the other querier if it is silent for too long.
    pub(super) fn expire(&mut self, now: Tick, settings: &MdbSettings) {
        if self.other.is_some_and(|other| other.until <= now) {
            self.other = None;
            self.take_over(now, settings);
        }
    }

    /// The address for a general query that is due now.
    pub(super) fn due_query(&mut self, now: Tick, settings: &MdbSettings) -> Option<IpAddr> {
        if self.next_query > now {
            return None;
        }
        self.sent = self.sent.saturating_add(1);
        let is_new = self.sent < settings.startup_query_count;
        let interval = if is_new { settings.startup_query_interval } else { settings.query_interval };
        self.next_query = after(now, interval.max(1));
        self.own
    }

    /// The address of this switch, if it is the querier.
    pub(super) fn own(&self) -> Option<IpAddr> {
        self.own.filter(|_| self.other.is_none())
    }

    /// This switch is the querier while there is no other.
    pub(super) fn may_query(&self) -> bool {
        self.own.is_some()
    }

    /// There is no querier, and this switch will not be one.
    pub(super) fn is_idle(&self) -> bool {
        self.own.is_none() && self.other.is_none()
    }

    pub(super) fn other(&self) -> Option<OtherQuerier> {
        self.other
    }

    /// Whether there is a querier, and hosts have had the time to report (`br_multicast_querier_exists` in Linux).
    pub(super) fn exists(&self, now: Tick) -> bool {
        self.usable_from() <= now
    }

    /// When there is a querier, and hosts have had the time to report. It may have passed.
    pub(super) fn usable_from(&self) -> Tick {
        self.usable_from.unwrap_or(FOREVER)
    }

    /// When a query is due, or the other querier is forgotten.
    pub(super) fn next_deadline(&self) -> Tick {
        self.other.map_or(FOREVER, |other| other.until).min(self.next_query)
    }
}
