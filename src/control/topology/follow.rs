//! Finds devices that were moved to another namespace.
//!
//! A TAP device is found by its queue. The end of a veth pair is found by its other end: asked for that, the kernel
//! says in which namespace the end is, by an nsid that it assigns here if there is none (`rtnl_fill_link_netnsid` in
//! Linux `net/core/rtnetlink.c`).

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::LinkUnspec;

use super::link::{self, Link};
use super::link_watcher::{DeviceHandle, DeviceKey, LinkWatcher};
use super::{DeviceId, LinkChange};
use crate::sys::link_monitor::nsid_in;
use crate::sys::netlink::{Netlink, NetlinkError, NetlinkRequest};
use crate::sys::netns::{self, Netns, NetnsEntry, NetnsIdentity, in_netns};
use crate::sys::tap_handle::TapHandle;

/// Where a device is.
struct Found {
    key: DeviceKey,
    link: Link,
    netns: NetnsIdentity,
    /// A path of its namespace, if one is known.
    path: Option<PathBuf>,
}

impl LinkWatcher {
    /// Finds a device that is not where it was: it was moved to another namespace, or deleted.
    pub(super) fn follow(&mut self, key: DeviceKey) {
        let Some(mut watched) = self.devices.remove(&key) else { return };
        let Some(Found { key: moved, link, netns, path }) = self.locate(&watched.handle) else {
            self.changes.push_back((watched.id, LinkChange::Gone));
            return;
        };
        match &mut watched.handle {
            DeviceHandle::Tap(tap) => {
                tap.update_lifetime();
                remove_qdisc(tap, link.ifindex);
            }
            DeviceHandle::Veth { path: known, .. } => known.clone_from(&path),
            _ => {}
        }
        let id = watched.id;
        if moved != key {
            watched.netns = moved.nsid.map(|_| netns);
            let path = watched.netns.and(path);
            let change = LinkChange::Netns { netns: path, ino: netns.ino, ifindex: link.ifindex };
            self.changes.push_back((id, change));
            if !std::mem::take(&mut watched.addresses).is_empty() {
                self.changes.push_back((id, LinkChange::Addresses(Vec::new())));
            }
        }
        self.devices.insert(moved, watched);
        self.report(moved, &link);
    }

    /// Where a device of ours is now. `None`: it was deleted, its namespace is not ours to see, or it is another's.
    fn locate(&mut self, handle: &DeviceHandle) -> Option<Found> {
        // It may be renamed or moved again meanwhile.
        const ATTEMPTS: usize = 3;
        match handle {
            DeviceHandle::Tap(tap) => (0..ATTEMPTS).find_map(|_| self.locate_tap(tap)),
            DeviceHandle::Veth { other, .. } => (0..ATTEMPTS).find_map(|_| self.locate_veth(*other)),
            DeviceHandle::Packet(_) | DeviceHandle::ExistingTap { .. } => None,
        }
    }

    fn locate_tap(&mut self, handle: &TapHandle) -> Option<Found> {
        let (netns, name) = (handle.netns()?, handle.name()?);
        let identity = netns.identity().ok()?;
        let nsid = if identity.is(&self.host_identity) { None } else { Some(self.nsid(&netns).ok()?) };
        let which = link::in_nsid(LinkUnspec::new_with_name(&name), nsid);
        let link = link::query(&mut self.host, "find a device that was moved", which).ok()?;
        let key = DeviceKey { nsid, ifindex: link.ifindex };
        Some(Found { key, link, netns: identity, path: netns::locate(&identity) })
    }

    fn locate_veth(&mut self, other: DeviceKey) -> Option<Found> {
        let end = self.query(other).ok()?;
        let (ifindex, nsid) = (end.peer?, end.peer_nsid?);
        let mut is_there = |path: &Path| {
            let netns = Netns::open(path).ok();
            netns.and_then(|netns| self.known_nsid(&netns)) == Some(nsid)
        };
        let (path, netns) = netns::paths().find(|(path, _)| is_there(path))?;
        let nsid = (!netns.is(&self.host_identity)).then_some(nsid);
        let key = DeviceKey { nsid, ifindex };
        let link = self.query(key).ok()?;
        Some(Found { key, link, netns, path: Some(path) })
    }

    /// Checks whether a namespace still has its name, and reports its device gone if not.
    pub(super) fn check_netns_name(&mut self, name: &OsStr) {
        let Some(named) = self.named.get(name) else { return };
        let found = name.to_str().map(netns::look_up);
        if matches!(found, Some(Ok(NetnsEntry::Netns(identity))) if identity == named.identity) {
            return;
        }
        let (id, home) = (named.id, named.identity);
        self.named.remove(name);
        // A device that was moved elsewhere does not end with this namespace.
        if self.current_netns(id).is_some_and(|netns| !netns.is(&home)) {
            return;
        }
        let before = self.devices.len();
        self.remove(id);
        // Already reported if the device was deleted first.
        if self.devices.len() < before {
            self.changes.push_back((id, LinkChange::Gone));
        }
    }

    /// The namespace in which a device of ours is, also if its move was not reported yet.
    fn current_netns(&mut self, id: DeviceId) -> Option<NetnsIdentity> {
        let watched = self.devices.values().find(|watched| watched.id == id)?;
        match &watched.handle {
            DeviceHandle::Tap(tap) => tap.netns()?.identity().ok(),
            DeviceHandle::Veth { other, .. } => {
                let other = *other;
                Some(self.locate_veth(other)?.netns)
            }
            DeviceHandle::Packet(_) | DeviceHandle::ExistingTap { .. } => None,
        }
    }

    /// The nsid of a namespace here; assigns one if there is none.
    pub(super) fn nsid(&mut self, netns: &Netns) -> Result<i32, NetlinkError> {
        let mut any = NsidMessage::default();
        any.attributes = vec![nsid_of(netns), NsidAttribute::Id(-1)];
        let what = "assign an nsid to a network namespace";
        match self.host.apply(&[NetlinkRequest::change(what, RouteNetlinkMessage::NewNsId(any))]) {
            Err(error) if error.errno() != Some(libc::EEXIST) => return Err(error),
            _ => {}
        }
        let missing =
            || NetlinkError::Malformed { what: what.to_owned(), fault: "it has no nsid".to_owned() };
        self.known_nsid(netns).ok_or_else(missing)
    }

    /// The nsid of a namespace here, if it has one.
    fn known_nsid(&mut self, netns: &Netns) -> Option<i32> {
        let mut which = NsidMessage::default();
        which.attributes = vec![nsid_of(netns)];
        match self.host.one("query the nsid of a network namespace", RouteNetlinkMessage::GetNsId(which)) {
            Ok(RouteNetlinkMessage::NewNsId(message)) => nsid_in(&message),
            _ => None,
        }
    }
}

/// A device loses its queueing discipline when it is moved (`dev_shutdown` in `__dev_change_net_namespace`, Linux
/// `net/core/dev.c`), and gets the default one when it is set up.
fn remove_qdisc(tap: &TapHandle, ifindex: u32) {
    let Some(netns) = tap.netns() else { return };
    // It works with another one, too.
    let _ = in_netns(|thread| {
        thread.enter(&netns).ok()?;
        Netlink::open().ok()?.apply(&[link::set_noqueue(ifindex)]).ok()
    });
}

fn nsid_of(netns: &Netns) -> NsidAttribute {
    NsidAttribute::Fd(netns.as_fd().as_raw_fd().cast_unsigned())
}
