//! Reports changes that others make to the devices.
//!
//! A notification ([`crate::sys::link_monitor`], [`crate::sys::netns_name_monitor`]) only says which device may have changed.
//! The device is then queried, so the order of notifications does not matter, lost ones can be made up for, and our own
//! changes are not reported. A device is identified by its index and by its namespace's nsid, the number by which
//! the host's namespace refers to that namespace.
//!
//! A namespace that we created counts as gone when its name is: our queues keep it alive until they are closed.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::LinkUnspec;

use super::link::{self, Link};
use super::{DeviceId, LinkChange, TopologyError};
use crate::sys::link_monitor::{LinkMonitor, LinkNotification, Nsid, nsid_in};
use crate::sys::netlink::{Netlink, NetlinkError, NetlinkRequest};
use crate::sys::netns::{self, Netns, NetnsEntry, NetnsIdentity};
use crate::sys::netns_name_monitor::NetnsNameMonitor;

/// Identifies a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LinkKey {
    nsid: Nsid,
    ifindex: u32,
}

/// A device and its last reported state.
#[derive(Debug)]
struct WatchedLink {
    id: DeviceId,
    state: LinkChange,
}

#[derive(Debug)]
pub(super) struct LinkWatcher {
    monitor: LinkMonitor,
    /// A socket in the host's namespace, which is the monitor's too.
    host: Netlink,
    devices: HashMap<LinkKey, WatchedLink>,
    changes: VecDeque<(DeviceId, LinkChange)>,
    names: NetnsNameMonitor,
    named: HashMap<OsString, WatchedNetns>,
}

/// A namespace that we created.
#[derive(Debug)]
struct WatchedNetns {
    id: DeviceId,
    identity: NetnsIdentity,
}

impl LinkWatcher {
    /// Starts to listen. Call this within a Tokio runtime.
    pub(super) fn start() -> Result<LinkWatcher, TopologyError> {
        let failed = |what| move |source| TopologyError::Kernel { what, source };
        Ok(LinkWatcher {
            monitor: LinkMonitor::open().map_err(failed("listen for changes of devices"))?,
            names: NetnsNameMonitor::open().map_err(failed("listen for changes of namespaces"))?,
            named: HashMap::new(),
            host: Netlink::open()?,
            devices: HashMap::new(),
            changes: VecDeque::new(),
        })
    }

    /// Watches a device in a namespace (`None`: the host's).
    pub(super) fn add(
        &mut self,
        id: DeviceId,
        link: &Link,
        netns: Option<&Netns>,
    ) -> Result<(), NetlinkError> {
        let nsid = netns.map(|netns| self.nsid(netns)).transpose()?;
        let key = LinkKey { nsid, ifindex: link.ifindex };
        let state = LinkChange::State { up: true, mtu: link.mtu };
        // The kernel reuses nsids and device indexes: the device that had them before is gone.
        if let Some(before) = self.devices.insert(key, WatchedLink { id, state }) {
            self.changes.push_back((before.id, LinkChange::Gone));
        }
        // Changes before the device was watched were not reported.
        self.refresh(key);
        Ok(())
    }

    /// Watches the name of the namespace that was created for a device.
    pub(super) fn watch_netns_name(&mut self, id: DeviceId, name: &str, identity: NetnsIdentity) {
        self.named.insert(name.into(), WatchedNetns { id, identity });
        // The name may have been removed before it was watched.
        self.check_netns_name(name.as_ref());
    }

    /// Stops watching a device.
    pub(super) fn remove(&mut self, id: DeviceId) {
        self.named.retain(|_, named| named.id != id);
        self.devices.retain(|_, watched| watched.id != id);
        self.changes.retain(|(of, _)| *of != id);
    }

    /// The next change. Cancel-safe: a change leaves the queue only when it is returned.
    pub(super) async fn next(&mut self) -> (DeviceId, LinkChange) {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return change;
            }
            tokio::select! {
                news = self.monitor.next() => match news {
                    Ok(news) => news.into_iter().for_each(|news| self.on_link_event(news)),
                    // Overruns are reported as events. After any other error a retry would spin.
                    Err(_) => std::future::pending().await,
                },
                names = self.names.next() => match names {
                    Ok(names) => names.into_iter().for_each(|name| self.on_name_event(name)),
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }

    fn on_link_event(&mut self, news: LinkNotification) {
        let affected: Vec<LinkKey> = match news {
            LinkNotification::Link { nsid, ifindex } => {
                let key = LinkKey { nsid, ifindex };
                self.devices.contains_key(&key).then_some(key).into_iter().collect()
            }
            LinkNotification::NetnsRemoved(nsid) => {
                self.devices.keys().copied().filter(|at| at.nsid == Some(nsid)).collect()
            }
            LinkNotification::Overrun => self.devices.keys().copied().collect(),
        };
        for key in affected {
            self.refresh(key);
        }
    }

    fn on_name_event(&mut self, name: Option<OsString>) {
        let affected = match name {
            Some(name) => vec![name],
            None => self.named.keys().cloned().collect(),
        };
        for name in affected {
            self.check_netns_name(&name);
        }
    }

    /// Checks whether a namespace still has its name, and reports its device gone if not.
    fn check_netns_name(&mut self, name: &OsStr) {
        let Some(named) = self.named.get(name) else { return };
        let found = name.to_str().map(netns::look_up);
        if matches!(found, Some(Ok(NetnsEntry::Netns(identity))) if identity == named.identity) {
            return;
        }
        let id = named.id;
        let before = self.devices.len();
        self.remove(id);
        // Already reported if the device was deleted first.
        if self.devices.len() < before {
            self.changes.push_back((id, LinkChange::Gone));
        }
    }

    /// Queries a device's state, and reports it if it changed.
    fn refresh(&mut self, key: LinkKey) {
        let state = match self.query(key) {
            Ok(link) => LinkChange::State { up: link.up, mtu: link.mtu },
            // ENODEV: no such device. EINVAL: no such namespace.
            Err(error) if matches!(error.errno(), Some(libc::ENODEV | libc::EINVAL)) => LinkChange::Gone,
            // The query itself failed (ENOMEM, ENOBUFS): keep the last known state.
            Err(_) => return,
        };
        let Some(watched) = self.devices.get_mut(&key) else { return };
        if watched.state == state {
            return;
        }
        self.changes.push_back((watched.id, state.clone()));
        if state == LinkChange::Gone {
            self.devices.remove(&key);
        } else {
            watched.state = state;
        }
    }

    /// Queries a device.
    fn query(&mut self, key: LinkKey) -> Result<Link, NetlinkError> {
        let mut which = LinkUnspec::new_with_index(key.ifindex);
        if let Some(nsid) = key.nsid {
            which = which.append_extra_attribute(LinkAttribute::IfNetnsId(nsid));
        }
        link::query(&mut self.host, "query a device", which)
    }

    /// See [`super::Topology::queue_dropped`].
    pub(super) fn queue_dropped(&mut self) -> HashMap<DeviceId, u64> {
        let devices: Vec<(LinkKey, DeviceId)> =
            self.devices.iter().map(|(key, watched)| (*key, watched.id)).collect();
        let dropped = |(key, id)| Some((id, self.query(key).ok()?.tx_dropped));
        devices.into_iter().filter_map(dropped).collect()
    }

    /// The nsid of a namespace here; assigns one if there is none.
    fn nsid(&mut self, netns: &Netns) -> Result<i32, NetlinkError> {
        let fd = NsidAttribute::Fd(netns.as_fd().as_raw_fd().cast_unsigned());
        let mut any = NsidMessage::default();
        any.attributes = vec![fd.clone(), NsidAttribute::Id(-1)];
        let what = "assign an nsid to a network namespace";
        match self.host.apply(&[NetlinkRequest::change(what, RouteNetlinkMessage::NewNsId(any))]) {
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
            || NetlinkError::Malformed { what: what.to_owned(), fault: "it has no nsid".to_owned() };
        numbered.ok_or_else(missing)
    }
}
