//! IGMP and MLD snooping (RFC 4541): frames to an IP group go to the ports with members and to the ports with multicast
//! routers, not to all.
//!
//! Workers call [`classify`] and look up the [`Scope`] in a [`MdbSnapshot`], without a lock. They hand a copy of each
//! [message](Class::Message) to control, which owns the state: [`Snooping`]. It is pure: messages and the time go in; a
//! new snapshot, queries to send and events come out.
//!
//! The rules are those of the Linux bridge (`net/bridge/br_multicast.c`):
//! - Without a querier hosts do not report. So all groups are flooded on a link (a VLAN and an IP version) where no
//!   querier is known, and for the response time of its first query.
//! - 224.0.0.0/24 and ff02::1 are always flooded. Hosts report all other groups, also those of link-local scope.
//! - A group without members goes to the router ports only.
//! - Reports go to the router ports only, other messages everywhere.
//!
//! In these points it does more than the bridge, as the standards ask: each VLAN has a querier of its own; a report of
//! version 3 goes only to routers; a host of an older version turns source filters off (RFC 3376 §7.3.2); queries for
//! sources of another querier are obeyed (§6.6.3). Where the bridge turns snooping off for good because its table is
//! full, it is off here until nothing was refused for a membership interval.

mod admin;
mod counts;
mod links;
mod membership;
mod querier;
mod settings;
mod snapshot;
mod snooping;
mod table;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use self::admin::{Entry, EntryState, MdbError, NewEntry, RouterPort};
pub use self::counts::MdbCounts;
pub use self::querier::OtherQuerier;
pub use self::settings::{MdbPortSettings, MdbSettings, RouterMode};
pub use self::snapshot::{Mdb, MdbSnapshot, Scope};
pub use self::snooping::{OutgoingQuery, ReceivedAt, Snooping};
use super::PortId;
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER, protocol};
use crate::wire::ndp::ALL_NODES;
use crate::wire::{EtherType, igmp, mld};

/// A group in a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The VLAN; 0 in a switch without VLANs.
    pub vlan: u16,
    /// The address of the group.
    pub group: IpAddr,
}

impl GroupKey {
    fn link(self) -> LinkKey {
        LinkKey { vlan: self.vlan, is_ipv6: self.group.is_ipv6() }
    }
}

/// A link: the hosts among which a querier is elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey {
    /// The VLAN; 0 in a switch without VLANs.
    pub vlan: u16,
    /// MLD, not IGMP.
    pub is_ipv6: bool,
}

/// An entry was added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryChange {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
}

/// Something that a user may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MdbEvent {
    /// A port has joined or left a group.
    Group {
        /** Which of both. */
        change: EntryChange,
        /** The group. */
        key: GroupKey,
        /** The source, of an (S,G) entry. */
        source: Option<IpAddr>,
        /** The port. */
        port: PortId,
    },
    /// A multicast router was found behind a port, or forgotten.
    Router {
        /** Which of both. */
        change: EntryChange,
        /** Where it is a router. */
        link: LinkKey,
        /** The port. */
        port: PortId,
    },
    /// Another querier was elected, or forgotten.
    Querier {
        /** Where. */
        link: LinkKey,
        /** The one that was elected. */
        other: Option<OtherQuerier>,
    },
    /// The table is full: all groups are flooded.
    Full,
}

/// What snooping must know of a frame to a group address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A message that control must see: IGMP, MLD, PIM.
    Message {
        /** Its destination. */
        group: IpAddr,
        /** A report, which goes to router ports only. */
        is_report: bool,
    },
    /// An IP packet to a group.
    Data {
        /** The group. */
        group: IpAddr,
        /** The sender. */
        source: IpAddr,
    },
    /// Not an IP packet to a group.
    Other,
}

/// Classifies the packet of a frame to a group address. It looks at no more than the addresses and types: control
/// validates messages.
#[inline]
pub fn classify(ethertype: EtherType, packet: &[u8]) -> Class {
    let (group, source, kind): (IpAddr, IpAddr, _) = match ethertype {
        EtherType::IPV4 => {
            let Some(header) = packet.first_chunk::<IPV4_HEADER>() else { return Class::Other };
            let [.., a, b, c, d, e, f, g, h] = *header;
            let is_pim = header[9] == protocol::PIM;
            let message = (igmp::is_igmp(packet) || is_pim).then(|| !is_pim && igmp::is_report(packet));
            (Ipv4Addr::new(e, f, g, h).into(), Ipv4Addr::new(a, b, c, d).into(), message)
        }
        EtherType::IPV6 => {
            let Some(header) = packet.first_chunk::<IPV6_HEADER>() else { return Class::Other };
            let (source, destination) = header[8..].split_at(16);
            let (Ok(source), Ok(destination)) =
                (<[u8; 16]>::try_from(source), <[u8; 16]>::try_from(destination))
            else {
                return Class::Other;
            };
            let is_pim = header[6] == protocol::PIM;
            let message = (is_pim || mld::is_mld(packet)).then(|| !is_pim && mld::is_report(packet));
            (Ipv6Addr::from(destination).into(), Ipv6Addr::from(source).into(), message)
        }
        _ => return Class::Other,
    };
    match kind {
        _ if !group.is_multicast() => Class::Other,
        Some(is_report) => Class::Message { group, is_report },
        None => Class::Data { group, source },
    }
}

/// Groups that are flooded whoever has joined them, because hosts do not report them (RFC 4541 §2.1.2 (2), RFC 3810
/// §6).
fn is_always_flooded(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => matches!(group.octets(), [224, 0, 0, _]),
        IpAddr::V6(group) => group == ALL_NODES,
    }
}
