//! Makes a port's device, on one thread that goes from namespace to namespace and ends. In a namespace of our own the device
//! is opened in place; for another's it is opened in a staging namespace and moved: see [`crate::sys::netns`] for why.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::ledger::{Entry, EntryId, Ledger};
use super::link::{self, Link};
use super::{PortSpec, TopologyError};
use crate::sys::netlink::{Netlink, Request};
use crate::sys::netns::{self, Netns, Traveller, travel};
use crate::sys::tap::{self, Lifetime, Tap};

/// A namespace of ours without a name, where devices are opened.
#[derive(Debug)]
pub(super) struct StagingNetns {
    netns: Netns,
    netlink: Netlink,
}

/// A device that was made.
#[derive(Debug)]
pub(super) struct BuiltDevice {
    pub(super) tap: Tap,
    pub(super) link: Link,
    /// Those that it has.
    pub(super) addresses: Vec<IpNet>,
    /// Where it is, if not in the host's. Not to be kept: it keeps the namespace alive.
    pub(super) netns: Option<Netns>,
    /// The namespace, in the ledger, if it was made for the device.
    pub(super) made: Option<(EntryId, Entry)>,
    /// What the user should know.
    pub(super) notices: Vec<String>,
}

impl StagingNetns {
    pub(super) fn create() -> Result<StagingNetns, TopologyError> {
        travel(|traveller| {
            let netns = traveller.found()?;
            Ok(StagingNetns { netns, netlink: Netlink::open()? })
        })?
    }

    /// Makes a port's device in a namespace that is there.
    pub(super) fn in_existing_netns(
        &mut self,
        path: &Path,
        spec: &PortSpec,
    ) -> Result<BuiltDevice, TopologyError> {
        travel(|traveller| {
            let netns = Netns::open(path)?;
            let tap = self.open(traveller, spec)?;
            self.move_device(&netns, spec, path)?;
            traveller.enter(&netns)?;
            let mut netlink = Netlink::open()?;
            let configured = configure(&mut netlink, spec, Vec::new())?;
            Ok(configured.built(tap, Some(netns), None))
        })?
    }

    /// Opens the device.
    fn open(&self, traveller: &mut Traveller, spec: &PortSpec) -> Result<Tap, TopologyError> {
        traveller.enter(&self.netns)?;
        Ok(tap::open(&tap_request(spec, Lifetime::Queues))?)
    }

    /// Moves the device to where it belongs.
    fn move_device(&mut self, netns: &Netns, spec: &PortSpec, path: &Path) -> Result<(), TopologyError> {
        self.netlink.apply(&[link::move_to_netns(&spec.ifname, netns)]).map_err(|error| match error.errno() {
            Some(libc::EEXIST) => {
                TopologyError::DeviceExists { ifname: spec.ifname.clone(), netns: path.to_owned() }
            }
            _ => error.into(),
        })
    }
}

/// Makes a namespace and names it, and a port's device in it.
pub(super) fn in_new_netns(
    name: &str,
    spec: &PortSpec,
    ledger: &mut Ledger,
) -> Result<BuiltDevice, TopologyError> {
    netns::check_name(name)?;
    travel(|traveller| {
        let netns = traveller.found()?;
        // The namespace is known by its identity before it has the name: what has that name and is another is not
        // ours to take away.
        let entry = Entry::Netns { name: name.to_owned(), identity: netns.identity()? };
        let id = ledger.record(entry.clone())?;
        netns.publish(name)?;
        let tap = tap::open(&tap_request(spec, Lifetime::Netns))?;
        let mut netlink = Netlink::open()?;
        let configured = configure(&mut netlink, spec, vec![link::loopback_up()])?;
        Ok(configured.built(tap, Some(netns), Some((id, entry))))
    })?
}

/// Makes the device in the calling thread's namespace.
pub(super) fn in_host_netns(netlink: &mut Netlink, spec: &PortSpec) -> Result<BuiltDevice, TopologyError> {
    let tap = tap::open(&tap_request(spec, Lifetime::Queues))?;
    let configured = configure(netlink, spec, Vec::new())?;
    Ok(configured.built(tap, None, None))
}

fn tap_request(spec: &PortSpec, lifetime: Lifetime) -> tap::Request<'_> {
    tap::Request { name: &spec.ifname, queues: spec.queues, offload: spec.offload, lifetime }
}

/// What became of a device's settings.
struct ConfiguredDevice {
    link: Link,
    addresses: Vec<IpNet>,
    notices: Vec<String>,
}

impl ConfiguredDevice {
    fn built(self, tap: Tap, netns: Option<Netns>, made: Option<(EntryId, Entry)>) -> BuiltDevice {
        let ConfiguredDevice { link, addresses, notices } = self;
        BuiltDevice { tap, link, addresses, netns, made, notices }
    }
}

/// Gives the device in the calling thread's namespace all that it should have, after `requests`.
fn configure(
    netlink: &mut Netlink,
    spec: &PortSpec,
    mut requests: Vec<Request>,
) -> Result<ConfiguredDevice, TopologyError> {
    let mut notices = Vec::new();
    let mut spec = spec.clone();
    if link::ipv6_is_disabled(&spec.ifname) && drop_ipv6_addresses(&mut spec)? {
        notices.push(ipv6_disabled_notice(&spec));
    }
    let found = link::find(netlink, &spec.ifname)?;
    if let Err(error) = link::disable_autoconf(&spec.ifname) {
        notices.push(format!(
            "{} may take addresses from routers: cannot write to /proc/sys: {error}",
            spec.ifname
        ));
    }
    // A kernel without traffic control has none to take away.
    let _ = netlink.apply(&[link::set_noqueue(found.ifindex)]);
    requests.extend(link::configure(found.ifindex, &spec));
    for (gateway, route) in link::default_routes(found.ifindex, &spec) {
        if link::has_default_route(netlink, gateway)? {
            notices.push(kept_default_route_notice(&spec, gateway));
        } else {
            requests.push(route);
        }
    }
    netlink.apply(&requests)?;
    Ok(ConfiguredDevice { link: link::find(netlink, &spec.ifname)?, addresses: spec.addresses, notices })
}

/// Whether there were IPv6 addresses to be left out. A port that has no others is not what was asked for.
fn drop_ipv6_addresses(spec: &mut PortSpec) -> Result<bool, TopologyError> {
    let before = spec.addresses.len();
    spec.addresses.retain(|address| address.addr().is_ipv4());
    match spec.addresses.len() {
        0 if before > 0 => Err(TopologyError::NoIpv6(spec.ifname.clone())),
        after => Ok(after < before),
    }
}

fn ipv6_disabled_notice(spec: &PortSpec) -> String {
    format!(
        "IPv6 is disabled in the namespace of {}, which has no IPv6 address therefore: to have one, \
         `sysctl -w net.ipv6.conf.all.disable_ipv6=0` there first",
        spec.ifname
    )
}

fn kept_default_route_notice(spec: &PortSpec, gateway: IpAddr) -> String {
    let family = if gateway.is_ipv4() { "IPv4" } else { "IPv6" };
    format!(
        "the namespace of {} has a default route for {family} already, which stays: none through {gateway}",
        spec.ifname
    )
}
