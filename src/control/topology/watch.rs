//! Notices what others do to the devices.
//!
//! News only says where to look ([`crate::sys::link_monitor`]): the device is asked for anew, so neither the order of
//! the news matters nor whether some was lost, and what we do ourselves brings none. A device is known by its index
//! and its namespace's nsid, the number that the kernel gives that namespace in ours.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::LinkUnspec;

use super::link::{self, Link};
use super::{DeviceId, LinkChange, TopologyError};
use crate::sys::link_monitor::{LinkMonitor, News, Nsid, nsid_in};
use crate::sys::netlink::{Netlink, NetlinkError, Request};
use crate::sys::netns::Netns;

/// Where a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    nsid: Nsid,
    ifindex: u32,
}

/// A device, as it was last reported.
#[derive(Debug)]
struct Watched {
    id: DeviceId,
    state: LinkChange,
}

#[derive(Debug)]
pub(super) struct Watch {
    monitor: LinkMonitor,
    /// In the monitor's namespace, the host's.
    host: Netlink,
    devices: HashMap<Place, Watched>,
    changes: VecDeque<(DeviceId, LinkChange)>,
}

impl Watch {
    /// To be called within a Tokio runtime.
    pub(super) fn start() -> Result<Watch, TopologyError> {
        let failed = |source| TopologyError::Kernel { what: "listen for changes of devices", source };
        Ok(Watch {
            monitor: LinkMonitor::open().map_err(failed)?,
            host: Netlink::open()?,
            devices: HashMap::new(),
            changes: VecDeque::new(),
        })
    }

    /// Watches a device in a namespace, or in the host's.
    pub(super) fn add(
        &mut self,
        id: DeviceId,
        link: &Link,
        netns: Option<&Netns>,
    ) -> Result<(), NetlinkError> {
        let nsid = netns.map(|netns| self.nsid(netns)).transpose()?;
        let place = Place { nsid, ifindex: link.ifindex };
        let state = LinkChange::State { up: true, mtu: link.mtu };
        // The kernel uses the numbers of namespaces and devices again: whoever had them before is gone.
        if let Some(before) = self.devices.insert(place, Watched { id, state }) {
            self.changes.push_back((before.id, LinkChange::Gone));
        }
        // News that came before we knew the device was not for it.
        self.look(place);
        Ok(())
    }

    /// Watches it no longer.
    pub(super) fn remove(&mut self, id: DeviceId) {
        self.devices.retain(|_, watched| watched.id != id);
        self.changes.retain(|(of, _)| *of != id);
    }

    /// The next change. Cancel-safe: a change is taken out only when it is returned.
    pub(super) async fn next(&mut self) -> (DeviceId, LinkChange) {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return change;
            }
            match self.monitor.next().await {
                Ok(news) => news.into_iter().for_each(|news| self.hear(news)),
                // Such a socket fails only by overrun, which is news. Should it fail otherwise, trying again would spin.
                Err(_) => std::future::pending().await,
            }
        }
    }

    fn hear(&mut self, news: News) {
        let concerned: Vec<Place> = match news {
            News::Link { nsid, ifindex } => {
                let place = Place { nsid, ifindex };
                self.devices.contains_key(&place).then_some(place).into_iter().collect()
            }
            News::NetnsGone(nsid) => {
                self.devices.keys().copied().filter(|at| at.nsid == Some(nsid)).collect()
            }
            News::Overrun => self.devices.keys().copied().collect(),
        };
        for place in concerned {
            self.look(place);
        }
    }

    /// Asks for a device's state, and reports it if it is another than before.
    fn look(&mut self, place: Place) {
        let mut which = LinkUnspec::new_with_index(place.ifindex);
        if let Some(nsid) = place.nsid {
            which = which.append_extra_attribute(LinkAttribute::IfNetnsId(nsid));
        }
        let state = match link::look(&mut self.host, "look at a device", which) {
            Ok(link) => LinkChange::State { up: link.up, mtu: link.mtu },
            // ENODEV: no such device. EINVAL: no such namespace.
            Err(error) if matches!(error.errno(), Some(libc::ENODEV | libc::EINVAL)) => LinkChange::Gone,
            // The kernel was short of something: the state is the last known one.
            Err(_) => return,
        };
        let Some(watched) = self.devices.get_mut(&place) else { return };
        if watched.state == state {
            return;
        }
        self.changes.push_back((watched.id, state.clone()));
        if state == LinkChange::Gone {
            self.devices.remove(&place);
        } else {
            watched.state = state;
        }
    }

    /// The number of a namespace here; it gets one if it has none.
    fn nsid(&mut self, netns: &Netns) -> Result<i32, NetlinkError> {
        let fd = NsidAttribute::Fd(netns.as_fd().as_raw_fd().cast_unsigned());
        let mut any = NsidMessage::default();
        any.attributes = vec![fd.clone(), NsidAttribute::Id(-1)];
        let what = "number a network namespace";
        match self.host.apply(&[Request::change(what, RouteNetlinkMessage::NewNsId(any))]) {
            Err(error) if error.errno() != Some(libc::EEXIST) => return Err(error),
            _ => {}
        }
        let mut which = NsidMessage::default();
        which.attributes = vec![fd];
        let numbered = match self.host.one(what, RouteNetlinkMessage::GetNsId(which))? {
            RouteNetlinkMessage::NewNsId(message) => nsid_in(&message),
            _ => None,
        };
        let missing =
            || NetlinkError::Malformed { what: what.to_owned(), fault: "it has no number".to_owned() };
        numbered.ok_or_else(missing)
    }
}
