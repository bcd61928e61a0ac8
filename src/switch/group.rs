//! The egress of a frame to a group: all ports, or those that snooping has found.

use super::admission::Admitted;
use super::fdb::Database;
use super::forward::Forwarding;
use super::mdb::{self, Class, MdbSnapshot, Scope};
use super::outcome::{Destination, Outcome, Punt};
use super::{DropReason, Observer, Step, Switch, Verdict};
use crate::wire::dhcpv6::{ALL_SERVERS_MAC, message_to_servers};
use crate::wire::ip::Ipv6;
use crate::wire::ndp::{self, ALL_ROUTERS_MAC};
use crate::wire::{EtherType, Mac};

impl<const VLANS: bool> Forwarding<'_, VLANS> {
    /// Chooses the egress of a frame to a group address, which the gateway does not answer.
    pub(super) fn choose_for_group<D: Database, O: Observer>(
        &self,
        admitted: &Admitted<'_>,
        fdb: &D,
        outcome: &mut Outcome,
        observer: &mut O,
    ) -> Verdict {
        if self.switch.ports.suppress_neighbours() {
            return self.choose_suppressed(admitted, fdb, outcome, observer);
        }
        self.choose_scope(admitted, outcome, observer)
    }

    /// The same while ports suppress messages about neighbours.
    #[cold]
    #[inline(never)]
    fn choose_suppressed<D: Database, O: Observer>(
        &self,
        admitted: &Admitted<'_>,
        fdb: &D,
        outcome: &mut Outcome,
        observer: &mut O,
    ) -> Verdict {
        let reply = self.suppress_neighbour(admitted, fdb, outcome, observer);
        let verdict = self.choose_scope(admitted, outcome, observer);
        match (reply, verdict) {
            (Some(reply), Verdict::Drop(DropReason::NoEgress | DropReason::NoMember) | Verdict::Flood) => {
                Verdict::Answer(reply)
            }
            // Storm control has dropped the request.
            _ => verdict,
        }
    }

    #[inline]
    fn choose_scope<O: Observer>(
        &self,
        admitted: &Admitted<'_>,
        outcome: &mut Outcome,
        observer: &mut O,
    ) -> Verdict {
        if admitted.destination == Mac::BROADCAST {
            return self.flood(Destination::Broadcast, outcome, observer);
        }
        if matches!(admitted.destination, ALL_ROUTERS_MAC | ALL_SERVERS_MAC) {
            outcome.punt = self.request_to_gateway(admitted);
        }
        match &*self.switch.mdb.load() {
            Some(groups) => self.multicast(groups, admitted, outcome, observer),
            None => self.flood(Destination::Multicast, outcome, observer),
        }
    }

    /// Why control answers the frame, if it does. Nothing is sent to the network behind an uplink with one MAC address.
    #[cold]
    fn request_to_gateway(&self, admitted: &Admitted<'_>) -> Option<Punt> {
        let packet = match admitted.untagged().network()? {
            (EtherType::IPV6, packet) if !admitted.from_host && !admitted.by_uplink => Ipv6::parse(packet)?,
            _ => return None,
        };
        let Switch { router_advertisements, dhcpv6, .. } = self.switch;
        if *router_advertisements && self.frame.vnet.is_complete() && ndp::is_router_solicitation(&packet) {
            return Some(Punt::RouterSolicitation);
        }
        (*dhcpv6 && message_to_servers(&packet).is_some()).then_some(Punt::Dhcpv6)
    }

    /// Sends a frame to a group to the ports that snooping has found.
    fn multicast<O: Observer>(
        &self,
        groups: &MdbSnapshot,
        admitted: &Admitted<'_>,
        outcome: &mut Outcome,
        observer: &mut O,
    ) -> Verdict {
        let packet = admitted.untagged().network();
        let class = packet.map_or(Class::Other, |(ethertype, packet)| mdb::classify(ethertype, packet));
        if let Class::Message { .. } = class {
            outcome.punt = Some(Punt::Membership);
        }
        match groups.scope(outcome.class.vid(), class) {
            Scope::Flood => self.flood(Destination::Multicast, outcome, observer),
            Scope::Ports(ports) => {
                observer.note(Step::Snooped(class));
                match self.send_each(ports.iter(), Destination::Group, outcome, observer) {
                    Verdict::Drop(DropReason::NoEgress) => Verdict::Drop(DropReason::NoMember),
                    verdict => verdict,
                }
            }
        }
    }
}
