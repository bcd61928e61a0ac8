//! The querier and the multicast routers of each link. A link is one VLAN and one IP version.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::membership::FOREVER;
use super::querier::{OtherQuerier, Querier};
use super::settings::MdbSettings;
use super::{EntryChange, LinkKey, MdbEvent};
use crate::switch::{PortId, Tick};

/// One link.
#[derive(Debug, Default)]
struct MdbLink {
    querier: Querier,
    /// Ports behind which there is a multicast router, and when it is forgotten.
    routers: BTreeMap<PortId, Tick>,
    /// Whether there was a querier when that was last looked at.
    is_active: bool,
}

/// All links about which something is known.
#[derive(Debug, Default)]
pub(super) struct MdbLinks {
    links: BTreeMap<LinkKey, MdbLink>,
    /// Links whose querier or routers changed.
    changed: BTreeSet<LinkKey>,
}

impl MdbLinks {
    fn link(&mut self, key: LinkKey) -> &mut MdbLink {
        self.links.entry(key).or_default()
    }

    /// Makes this switch the querier of a link while there is no other; `None` ends that.
    pub(super) fn set_own(&mut self, key: LinkKey, own: Option<IpAddr>, now: Tick, settings: &MdbSettings) {
        self.link(key).querier.set_own(own, now, settings);
        self.review(key, now);
    }

    /// Handles a general query of another querier; false if it is not elected.
    pub(super) fn hear_query(&mut self, key: LinkKey, now: Tick, from: OtherQuerier, response: u32) -> bool {
        let is_elected = self.link(key).querier.hear(now, from, response);
        self.review(key, now);
        is_elected
    }

    /// There is a multicast router behind a port. True if that is new.
    pub(super) fn mark_router(
        &mut self,
        key: LinkKey,
        port: PortId,
        now: Tick,
        settings: &MdbSettings,
    ) -> bool {
        let until = super::membership::after(now, settings.querier_interval);
        let is_new = self.link(key).routers.insert(port, until).is_none();
        if is_new {
            self.changed.insert(key);
        }
        is_new
    }

    /// Forgets the routers behind a port in these VLANs. Returns the links where there was one.
    pub(super) fn remove_router(&mut self, port: PortId, in_vlan: impl Fn(u16) -> bool) -> Vec<LinkKey> {
        let links = self.links.iter_mut().filter(|(key, _)| in_vlan(key.vlan));
        let had = links.filter_map(|(key, link)| link.routers.remove(&port).map(|_| *key));
        let had: Vec<LinkKey> = had.collect();
        self.changed.extend(&had);
        had
    }

    /// Forgets what is over, and reports it.
    pub(super) fn expire(&mut self, now: Tick, settings: &MdbSettings, events: &mut Vec<MdbEvent>) {
        for (key, link) in &mut self.links {
            let before = link.querier.other();
            link.querier.expire(now, settings);
            if before.is_some() && link.querier.other().is_none() {
                events.push(MdbEvent::Querier { link: *key, other: None });
            }
            let over = link.routers.iter().filter(|(_, until)| **until <= now).map(|(port, _)| *port);
            for port in over.collect::<Vec<_>>() {
                link.routers.remove(&port);
                events.push(MdbEvent::Router { change: EntryChange::Removed, link: *key, port });
                self.changed.insert(*key);
            }
        }
        let keys: Vec<LinkKey> = self.links.keys().copied().collect();
        keys.into_iter().for_each(|key| self.review(key, now));
        self.links.retain(|_, link| !link.is_idle());
    }

    /// Notes whether there is a querier now.
    fn review(&mut self, key: LinkKey, now: Tick) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let is_active = link.querier.exists(now);
        if is_active != link.is_active {
            link.is_active = is_active;
            self.changed.insert(key);
        }
    }

    /// The general queries of this switch that are due.
    pub(super) fn due_queries(&mut self, now: Tick, settings: &MdbSettings) -> Vec<(LinkKey, IpAddr)> {
        let due = self.links.iter_mut().filter_map(|(key, link)| {
            let source = link.querier.due_query(now, settings)?;
            Some((*key, source))
        });
        due.collect()
    }

    /// The links where this switch is the querier, and its address.
    pub(super) fn own(&self) -> impl Iterator<Item = (LinkKey, IpAddr)> + '_ {
        self.links.iter().filter_map(|(key, link)| Some((*key, link.querier.own()?)))
    }

    pub(super) fn own_of(&self, key: LinkKey) -> Option<IpAddr> {
        self.links.get(&key)?.querier.own()
    }

    pub(super) fn other_of(&self, key: LinkKey) -> Option<OtherQuerier> {
        self.links.get(&key)?.querier.other()
    }

    /// The queriers: where, the address, the port unless it is this switch, and whether it is active.
    pub(super) fn queriers(
        &self,
        now: Tick,
    ) -> impl Iterator<Item = (LinkKey, IpAddr, Option<PortId>, bool)> + '_ {
        self.links.iter().filter_map(move |(key, link)| {
            let active = link.querier.exists(now);
            match link.querier.other() {
                Some(other) => Some((*key, other.address, Some(other.port), active)),
                None => Some((*key, link.querier.own()?, None, active)),
            }
        })
    }

    /// The VLANs of which this switch is the querier while there is no other.
    pub(super) fn may_query(&self) -> BTreeSet<u16> {
        let links = self.links.iter().filter(|(_, link)| link.querier.may_query());
        links.map(|(key, _)| key.vlan).collect()
    }

    /// The links with a querier.
    pub(super) fn active(&self) -> impl Iterator<Item = LinkKey> + '_ {
        self.links.iter().filter(|(_, link)| link.is_active).map(|(key, _)| *key)
    }

    pub(super) fn is_active(&self, key: LinkKey) -> bool {
        self.links.get(&key).is_some_and(|link| link.is_active)
    }

    /// The ports of a link behind which routers were found.
    pub(super) fn routers_of(&self, key: LinkKey) -> impl Iterator<Item = PortId> + '_ {
        self.links.get(&key).into_iter().flat_map(|link| link.routers.keys().copied())
    }

    /// All learned router ports, and when they are forgotten.
    pub(super) fn routers(&self) -> impl Iterator<Item = (LinkKey, PortId, Tick)> + '_ {
        self.links
            .iter()
            .flat_map(|(key, link)| link.routers.iter().map(|(port, until)| (*key, *port, *until)))
    }

    pub(super) fn next_deadline(&self) -> Tick {
        let of_link = |link: &MdbLink| {
            let active = if link.is_active { FOREVER } else { link.querier.usable_from() };
            link.routers.values().copied().fold(active.min(link.querier.next_deadline()), Tick::min)
        };
        self.links.values().map(of_link).min().unwrap_or(FOREVER)
    }

    /// Links whose querier or routers changed since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<LinkKey> {
        std::mem::take(&mut self.changed)
    }
}

impl MdbLink {
    fn is_idle(&self) -> bool {
        self.routers.is_empty() && self.querier.is_idle()
    }
}
