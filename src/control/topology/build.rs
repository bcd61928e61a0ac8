//! Creates a port's device, on a thread that enters the namespaces and then ends. In a namespace that we create the
//! device is opened in place. For an existing namespace it is opened in a staging namespace and moved;
//! [`crate::sys::netns`] explains why.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::fast_wiring::{FastWiring, Wire};
use super::ledger::{EntryId, Ledger, LedgerEntry};
use super::link::{self, Link};
use super::{PortNetns, PortSpec, TopologyError};
use crate::sys::ethtool;
use crate::sys::netlink::{Netlink, NetlinkError, NetlinkRequest};
use crate::sys::netns::{self, Netns, NetnsThread, in_netns};
use crate::sys::tap::{self, Lifetime, Tap};

/// A namespace without a name in which devices are opened before they are moved.
#[derive(Debug)]
pub(super) struct StagingNetns {
    netns: Netns,
    netlink: Netlink,
}

/// A device that was created.
#[derive(Debug)]
pub(super) struct BuiltDevice {
    pub(super) tap: Tap,
    /// For a port of the fast path: the devices between the TAP and the container's.
    pub(super) wire: Option<Wire>,
    pub(super) link: Link,
    /// The addresses that were assigned.
    pub(super) addresses: Vec<IpNet>,
    /// The offloads that it uses.
    pub(super) offloads: Vec<&'static str>,
    /// Its namespace; `None`: the host's. Drop it soon, because it keeps the namespace alive.
    pub(super) netns: Option<Netns>,
    /// The namespace's ledger entry, if the namespace was created for the device.
    pub(super) made: Option<(EntryId, LedgerEntry)>,
    /// Notices for the user.
    pub(super) notices: Vec<String>,
}

impl StagingNetns {
    pub(super) fn create() -> Result<StagingNetns, TopologyError> {
        in_netns(|thread| {
            let netns = thread.create()?;
            Ok(StagingNetns { netns, netlink: Netlink::open()? })
        })?
    }

    /// Creates a port's device in an existing namespace, which `path` names in errors.
    pub(super) fn in_existing_netns(
        &mut self,
        netns: Netns,
        path: &Path,
        spec: &PortSpec,
        fast: Option<&mut FastWiring>,
    ) -> Result<BuiltDevice, TopologyError> {
        let exists = |error: TopologyError| match &error {
            TopologyError::Netlink(netlink) if netlink.errno() == Some(libc::EEXIST) => {
                TopologyError::DeviceExists { ifname: spec.ifname.clone(), netns: path.to_owned() }
            }
            _ => error,
        };
        in_netns(|thread| {
            let mut made = match fast {
                Some(fast) => Made::wire(fast, spec, &netns).map_err(exists)?,
                None => {
                    let tap = self.open(thread, spec)?;
                    self.move_device(&netns, spec).map_err(|error| exists(error.into()))?;
                    Made::tap(tap)
                }
            };
            let mut configure_there = || {
                thread.enter(&netns)?;
                configure(&mut Netlink::open()?, spec, Vec::new())
            };
            let configured = made.keep_if(configure_there())?;
            Ok(configured.built(made, Some(netns), None))
        })?
    }

    /// Creates a device in the host's namespace, which is the calling thread's and that of `netlink`. A TAP device is
    /// moved there, so that no other process sees it without its owner.
    pub(super) fn in_host_netns(
        &mut self,
        netlink: &mut Netlink,
        spec: &PortSpec,
        fast: Option<&mut FastWiring>,
    ) -> Result<BuiltDevice, TopologyError> {
        let exists = |error: TopologyError| match &error {
            TopologyError::Netlink(netlink) if netlink.errno() == Some(libc::EEXIST) => {
                let exists = match spec.unmanaged {
                    true => TopologyError::HostIfnameExists,
                    false => TopologyError::HostDeviceExists,
                };
                exists(spec.ifname.clone())
            }
            _ => error,
        };
        let host = Netns::current()?;
        let mut made = match fast {
            Some(fast) => Made::wire(fast, spec, &host).map_err(exists)?,
            None => in_netns(|thread| {
                let tap = self.open(thread, spec)?;
                self.move_device(&host, spec).map_err(|error| exists(error.into()))?;
                Ok::<_, TopologyError>(Made::tap(tap))
            })??,
        };
        let configured = made.keep_if(configure(netlink, spec, Vec::new()))?;
        Ok(configured.built(made, None, None))
    }

    /// Opens the device in the staging namespace.
    fn open(&self, thread: &mut NetnsThread, spec: &PortSpec) -> Result<Tap, TopologyError> {
        thread.enter(&self.netns)?;
        Ok(tap::open(&tap_request(spec, Lifetime::Queues))?)
    }

    /// Moves the device to its namespace.
    fn move_device(&mut self, netns: &Netns, spec: &PortSpec) -> Result<(), NetlinkError> {
        self.netlink.apply(&[link::move_to_netns(&spec.ifname, netns)])
    }
}

/// Creates a named namespace and a port's device in it.
pub(super) fn in_new_netns(
    name: &str,
    spec: &PortSpec,
    ledger: &mut Ledger,
    fast: Option<&mut FastWiring>,
) -> Result<BuiltDevice, TopologyError> {
    netns::check_name(name)?;
    in_netns(|thread| {
        let netns = thread.create()?;
        // Recorded before the name exists, by identity: another namespace of this name is never removed.
        let entry = LedgerEntry::Netns { name: name.to_owned(), identity: netns.identity()? };
        let id = ledger.record(entry.clone())?;
        // Opened before the namespace has a name, so that no other process sees the device without its owner.
        let mut made = match fast {
            Some(fast) => Made::wire(fast, spec, &netns)?,
            None => Made::tap(tap::open(&tap_request(spec, Lifetime::Netns))?),
        };
        let configure_here = || {
            netns.bind_name(name)?;
            configure(&mut Netlink::open()?, spec, vec![link::loopback_up()])
        };
        let configured = made.keep_if(configure_here())?;
        Ok(configured.built(made, Some(netns), Some((id, entry))))
    })?
}

/// A new device, which is not configured yet.
struct Made<'a> {
    tap: Tap,
    wire: Option<(&'a mut FastWiring, Wire)>,
}

impl<'a> Made<'a> {
    fn tap(tap: Tap) -> Made<'a> {
        Made { tap, wire: None }
    }

    fn wire(fast: &'a mut FastWiring, spec: &PortSpec, netns: &Netns) -> Result<Made<'a>, TopologyError> {
        let (tap, wire) = fast.wire(spec, netns)?;
        Ok(Made { tap, wire: Some((fast, wire)) })
    }

    /// Removes the device after an error. A TAP device ends with its queues, or with its namespace.
    fn keep_if<T>(&mut self, result: Result<T, TopologyError>) -> Result<T, TopologyError> {
        if let (Err(_), Some((fast, wire))) = (&result, &mut self.wire) {
            fast.unwire(wire);
        }
        result
    }
}

pub(super) fn tap_request(spec: &PortSpec, lifetime: Lifetime) -> tap::TapConfig<'_> {
    tap::TapConfig { name: &spec.ifname, ifindex: None, queues: spec.queues, offload: spec.offload, lifetime }
}

/// A device after its settings were applied.
struct ConfiguredDevice {
    link: Link,
    addresses: Vec<IpNet>,
    notices: Vec<String>,
}

impl ConfiguredDevice {
    /// Call this in the namespace of the device.
    fn built(self, device: Made, netns: Option<Netns>, made: Option<(EntryId, LedgerEntry)>) -> BuiltDevice {
        let ConfiguredDevice { link, addresses, notices } = self;
        let Made { tap, wire } = device;
        let wire = wire.map(|(_, wire)| wire);
        // They are only shown.
        let offloads = ethtool::offloads(&link.name).unwrap_or_default();
        BuiltDevice { tap, wire, link, addresses, offloads, netns, made, notices }
    }
}

/// Applies `requests` and then the device's settings, in the calling thread's namespace.
fn configure(
    netlink: &mut Netlink,
    spec: &PortSpec,
    mut requests: Vec<NetlinkRequest>,
) -> Result<ConfiguredDevice, TopologyError> {
    let mut notices = Vec::new();
    let mut spec = spec.clone();
    if link::ipv6_is_disabled(&spec.ifname) && drop_ipv6_addresses(&mut spec)? {
        notices.push(ipv6_disabled_notice(&spec));
    }
    let found = link::find(netlink, &spec.ifname)?;
    if let Err(error) = link::disable_autoconf(&spec) {
        notices.push(format!(
            "{} may get addresses from router advertisements: cannot write to /proc/sys: {error}",
            spec.ifname
        ));
    }
    // A kernel without traffic control has no queueing discipline to replace.
    let _ = netlink.apply(&[link::set_noqueue(found.ifindex)]);
    requests.extend(link::configure(found.ifindex, &spec));
    let mut routes = Vec::new();
    for (gateway, route) in link::default_routes(found.ifindex, &spec) {
        match spec.netns {
            PortNetns::Existing(_) if link::has_default_route(netlink, gateway)? => {
                notices.push(kept_default_route_notice(&spec, gateway));
            }
            PortNetns::Existing(_) => routes.push((gateway, route)),
            // A new namespace has no routes.
            PortNetns::New(_) | PortNetns::Host => requests.push(route),
        }
    }
    netlink.apply(&requests)?;
    for (gateway, route) in routes {
        match netlink.apply(&[route]) {
            // A default route that a rule or a more specific route hid.
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                notices.push(kept_default_route_notice(&spec, gateway));
            }
            added => added?,
        }
    }
    Ok(ConfiguredDevice { link: link::find(netlink, &spec.ifname)?, addresses: spec.addresses, notices })
}

/// Removes the IPv6 addresses, and returns whether there were any. A port with no other address is an error.
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
        "IPv6 is disabled in the namespace of {}, so it gets no IPv6 address: for one, run \
         `sysctl -w net.ipv6.conf.all.disable_ipv6=0` there first",
        spec.ifname
    )
}

fn kept_default_route_notice(spec: &PortSpec, gateway: IpAddr) -> String {
    let family = if gateway.is_ipv4() { "IPv4" } else { "IPv6" };
    format!(
        "the namespace of {} already has an {family} default route, which is kept: no route through {gateway} was added",
        spec.ifname
    )
}
