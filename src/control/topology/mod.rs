//! Creates what a switch needs on the machine: namespaces, TAP devices, addresses, routes, NAT, sysctls.
//!
//! Each object is recorded in a ledger before it is created. A start that fails half-way, a stop, and the next start after a
//! kill undo the ledger's entries in reverse order.
//!
//! Devices are not in the ledger: the kernel removes them when their queues are closed, or with the namespace that was
//! created for them. Creating a port takes a few milliseconds in the kernel, for which the calls block.

mod announce;
mod build;
pub(crate) mod choose;
mod claim;
mod environment;
mod error;
pub(crate) mod firewall;
mod forwarding;
pub(crate) mod inspect;
mod ledger;
mod link;
mod link_watcher;
mod nat;
pub(crate) mod neighbours;
pub(crate) mod preflight;
mod sysctl;
mod undo;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use tracing::warn;

pub use self::environment::Environment;
pub use self::error::TopologyError;
pub use self::ledger::LedgerHolder;

use self::announce::{Announcer, Origin};
use self::build::{BuiltDevice, StagingNetns};
use self::claim::{claim_name, close, open_kernel_interfaces};
use self::firewall::{Hook, Tool};
use self::ledger::{Entry, EntryId, Ledger, Owner};
use self::link_watcher::{LinkWatcher, Observation, WatchedDevice};
use super::Config;
use crate::sys::netlink::Netlink;
use crate::sys::netns::{self, Netns, NetnsIdentity};
use crate::sys::tap::Queue;
use crate::sys::tap_handle::TapHandle;
use crate::wire::Mac;
use crate::wire::ndp::Advertiser;

/// Limit of pending notices. The reply to `port add` takes them.
const MOST_NOTICES: usize = 64;

/// The namespace of a port's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortNetns {
    /// The host's namespace, in which the switch runs.
    Host,
    /// A new namespace of this name, deleted with the port.
    New(String),
    /// An existing namespace, by path (`/run/netns/NAME`, `/proc/PID/ns/net`).
    Existing(PathBuf),
}

/// The settings of a new port.
#[derive(Debug, Clone)]
pub struct PortSpec {
    /// The namespace of its device.
    pub netns: PortNetns,
    /// The device's name.
    pub ifname: String,
    /// MAC address; `None`: the kernel chooses one at random.
    pub mac: Option<Mac>,
    /// Addresses with prefix lengths. Each family gets a default route through its gateway.
    pub addresses: Vec<IpNet>,
    /// The gateway of each family.
    pub gateways: Vec<IpAddr>,
    /// MTU of the device.
    pub mtu: u32,
    /// Transmit queue length of the device.
    pub txqueuelen: Option<u32>,
    /// Enables the virtio-net header and offloads.
    pub offload: bool,
    /// Number of queues: one for each worker.
    pub queues: usize,
}

/// Identifies a device while the switch runs. An interface index cannot: each namespace has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u64);

/// A device that was created and set up.
#[derive(Debug)]
pub struct Device {
    /// Its identifier.
    pub id: DeviceId,
    /// Its name in its namespace.
    pub ifname: String,
    /// Its interface index.
    pub ifindex: u32,
    /// MAC address.
    pub mac: Mac,
    /// MTU.
    pub mtu: u32,
    /// The path of its namespace (`None`: the host's).
    pub netns: Option<PathBuf>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its queues, in the order of the workers.
    pub queues: Vec<Queue>,
}

/// A change to a port's device by another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// Up or down, with this MTU.
    State {
        /** `IFF_UP` and `IFF_LOWER_UP`. */
        up: bool,
        /** The MTU now. */
        mtu: u32,
    },
    /// It has another MAC address.
    Mac(Mac),
    /// It has another name.
    Name(String),
    /// It is in another namespace. The kernel sets it down and removes its addresses.
    Netns {
        /** A path of the namespace; `None`: the host's, or one without a path. */
        netns: Option<PathBuf>,
        /** Inode number of the namespace. */
        ino: u64,
        /** The index of the device there. */
        ifindex: u32,
    },
    /// It has these addresses, without link-local ones.
    Addresses(Vec<IpNet>),
    /// This setting of its TAP driver was changed, and has been restored.
    Restored(&'static str),
    /// So many queues of the device belong to other processes, which receive part of its frames.
    ForeignQueues(u32),
    /// The device or its namespace was deleted. A namespace that we created counts as deleted when its name is; the
    /// kernel frees it when the device's queues are closed.
    Gone,
}

/// What the topology knows of a device.
#[derive(Debug)]
struct DeviceRecord {
    /// The ledger entry of the namespace that was created for it.
    created: Option<(EntryId, Entry)>,
    /// The existing namespace in which it is.
    netns: Option<NetnsIdentity>,
}

/// Everything that was created for one switch. Dropping it removes nothing; [`Topology::teardown`] does.
#[derive(Debug)]
pub struct Topology {
    config: Config,
    sandboxed: bool,
    ledger: Ledger,
    host: Netlink,
    host_identity: NetnsIdentity,
    staging: StagingNetns,
    watcher: LinkWatcher,
    devices: HashMap<DeviceId, DeviceRecord>,
    announcer: Announcer,
    /// The host port's device, which is announced as a router.
    host_device: Option<DeviceId>,
    next: u64,
    notices: Vec<String>,
    /// The notice that the kernel lacks UDP segmentation offload was given.
    reported_no_uso: bool,
    /// The limit of the neighbour tables, until a notice about it was given.
    neighbour_limit: Option<u64>,
}

impl Topology {
    /// Claims the switch's name on this machine, cleans up after a killed switch of that name, and checks for
    /// conflicts with `config`. Changes nothing else. Call this within a Tokio runtime.
    ///
    /// # Errors
    /// The switch is running, or there is a conflict.
    pub fn claim(config: &Config, environment: &Environment) -> Result<Topology, TopologyError> {
        let host_identity = Netns::current()?.identity()?;
        let (mut ledger, notice) = claim_name(&config.name, &environment.runtime, &host_identity)?;
        let mut config = config.clone();
        let claimed = choose::replace_used_defaults(&mut config).and_then(|choices| {
            let parts = open_kernel_interfaces(&config)?;
            ledger.start(Owner::this_process(host_identity, environment.sandboxed))?;
            Ok((parts, choices))
        });
        match claimed {
            Ok(((host, staging, watcher), choices)) => Ok(Topology {
                config,
                sandboxed: environment.sandboxed,
                ledger,
                host,
                host_identity,
                staging,
                watcher,
                devices: HashMap::new(),
                announcer: Announcer::default(),
                host_device: None,
                next: 0,
                notices: notice.into_iter().chain(choices).collect(),
                reported_no_uso: false,
                neighbour_limit: Some(neighbours::limit()),
            }),
            Err(error) => {
                // Report why the start failed, not that the ledger file was left.
                let _ = close(ledger);
                Err(match notice {
                    Some(notice) => TopologyError::AfterCleanUp { why: Box::new(error), notice },
                    None => error,
                })
            }
        }
    }

    /// The configuration, with the prefix and the subnets that were chosen.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Removes what a killed switch of this name left behind. Returns a sentence that lists it.
    ///
    /// # Errors
    /// The switch is running, or something could not be removed.
    pub fn clean_up_after(name: &str, environment: &Environment) -> Result<Option<String>, TopologyError> {
        let host = Netns::current()?.identity()?;
        let (ledger, notice) = claim_name(name, &environment.runtime, &host)?;
        close(ledger)?;
        Ok(notice)
    }

    /// Creates the host port: a TAP in this namespace with the gateway's MAC and addresses, and NAT if configured.
    ///
    /// # Errors
    /// On an error nothing is left behind.
    pub fn add_host_port(&mut self, config: &Config, gateway: Mac) -> Result<Device, TopologyError> {
        let spec = host_port(config, gateway);
        let built = self.staging.in_host_netns(&mut self.host, &spec)?;
        let device = self.register(built, &spec)?;
        self.host_device = Some(device.id);
        if config.nat
            && let Err(error) = self.enable_nat(&config.subnets)
        {
            self.unregister(device.id);
            return Err(error);
        }
        Ok(device)
    }

    /// Creates a port.
    ///
    /// # Errors
    /// On an error nothing is left behind.
    pub fn add_port(&mut self, spec: &PortSpec) -> Result<Device, TopologyError> {
        let before = self.ledger.next_id();
        let added = self.build_device(spec).and_then(|built| self.register(built, spec));
        if added.is_err() {
            self.roll_back(before);
        }
        added
    }

    /// Deletes a port's namespace if we created it. The kernel frees both when the device's queues are closed.
    ///
    /// # Errors
    /// There is no such device, or its namespace could not be deleted.
    pub fn remove_port(&mut self, device: DeviceId) -> Result<(), TopologyError> {
        let created = self.devices.get(&device).ok_or(TopologyError::NoSuchDevice)?.created.clone();
        let errors = undo::undo(&mut self.ledger, created.into_iter().collect(), &self.host_identity);
        self.unregister(device);
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    /// Checks the settings of devices that others can change without a notification. What was changed is restored, and
    /// becomes a change of the device.
    pub fn check_settings(&mut self) {
        self.watcher.check_settings();
    }

    /// Announces the addresses of a device, now and once again, to hosts that knew one of them at another MAC address.
    pub fn announce(&mut self, device: DeviceId, addresses: &[IpNet]) {
        self.announcer.schedule(device, addresses.iter().map(IpNet::addr).collect());
    }

    fn send_announcements(&mut self) {
        while let Some((device, addresses)) = self.announcer.take_due() {
            let Some((netns, ifindex, mac)) = self.watcher.location(device) else { continue };
            let of_host = self.host_device == Some(device);
            let advertiser = if of_host { Advertiser::Router } else { Advertiser::Host };
            // The device may be down or gone: then there is nothing to announce.
            let _ = announce::send(&Origin { netns, ifindex, mac, advertiser }, &addresses);
        }
    }

    /// The devices in an existing namespace.
    ///
    /// # Errors
    /// The path is not that of a network namespace, or is that of the host's.
    pub fn devices_in(&self, path: &Path) -> Result<Vec<DeviceId>, TopologyError> {
        let wanted = Netns::open(path)?.identity()?;
        if wanted.is(&self.host_identity) {
            return Err(TopologyError::HostNetns(path.to_owned()));
        }
        let there = |record: &DeviceRecord| record.netns.is_some_and(|netns| netns.is(&wanted));
        Ok(self.devices.iter().filter(|(_, record)| there(record)).map(|(id, _)| *id).collect())
    }

    /// The notices for the user since the last call.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// The next change by another program to one of the devices. Cancel-safe.
    pub async fn next_change(&mut self) -> (DeviceId, LinkChange) {
        let (device, change) = loop {
            tokio::select! {
                observed = self.watcher.next() => match observed {
                    Observation::Device(device, change) => break (device, change),
                    Observation::HostAddress => self.forward_on_new_interfaces(),
                },
                () = self.announcer.due() => self.send_announcements(),
            }
        };
        if let Some(record) = self.devices.get_mut(&device) {
            match &change {
                LinkChange::Netns { .. } => record.netns = self.watcher.netns(device),
                // The kernel reuses the inode number of a namespace that ended.
                LinkChange::Gone => record.netns = None,
                _ => {}
            }
        }
        (device, change)
    }

    /// For each existing device: the frames that the kernel dropped because the device's queue to the switch was
    /// full (`tx_dropped` in its statistics; `tun_net_xmit` in Linux `drivers/net/tun.c`).
    pub fn queue_dropped(&mut self) -> HashMap<DeviceId, u64> {
        self.watcher.queue_dropped()
    }

    /// Removes everything and returns all errors. Close the devices' queues first: they keep the devices that are
    /// outside our own namespaces.
    pub fn teardown(mut self) -> Vec<TopologyError> {
        self.watcher.clear();
        let mut errors = self.undo_since(EntryId::FIRST);
        // The next start needs the ledger if anything is left.
        if errors.is_empty() {
            errors.extend(close(self.ledger).err());
        }
        errors
    }

    fn build_device(&mut self, spec: &PortSpec) -> Result<BuiltDevice, TopologyError> {
        match &spec.netns {
            PortNetns::Host => self.staging.in_host_netns(&mut self.host, spec),
            PortNetns::New(name) => build::in_new_netns(name, spec, &mut self.ledger),
            PortNetns::Existing(path) => {
                self.devices_in(path)?;
                self.staging.in_existing_netns(path, spec)
            }
        }
    }

    /// Starts to watch a device, and gives it an identifier.
    fn register(&mut self, built: BuiltDevice, spec: &PortSpec) -> Result<Device, TopologyError> {
        let id = DeviceId(self.next);
        self.next += 1;
        let netns = built.netns.as_ref().map(Netns::identity).transpose()?;
        let created = built.made.is_some().then_some(netns).flatten();
        let failed = |source| TopologyError::Kernel { what: "duplicate a queue's descriptor", source };
        let queue = built.tap.queues.first().ok_or(TopologyError::NoSuchDevice)?;
        let handle = TapHandle::new(queue, created).map_err(failed)?;
        let queues = u32::try_from(built.tap.queues.len()).unwrap_or(u32::MAX);
        let watched = WatchedDevice { id, link: &built.link, addresses: &built.addresses, handle, queues };
        self.watcher.add(watched, built.netns.as_ref())?;
        if let Some((_, Entry::Netns { name, identity })) = &built.made {
            self.watcher.watch_netns_name(id, name, *identity);
        }
        self.devices.insert(id, DeviceRecord { created: built.made, netns });
        built.notices.into_iter().for_each(|notice| self.notify(notice));
        if !built.tap.uso && !self.reported_no_uso {
            self.reported_no_uso = true;
            self.notify(
                "this kernel has no UDP segmentation offload for TAP devices (6.2 and later have): UDP is sent frame by frame"
                    .to_owned(),
            );
        }
        self.check_neighbour_tables();
        Ok(Device {
            id,
            ifname: built.link.name,
            ifindex: built.link.ifindex,
            mac: built.link.mac,
            mtu: built.link.mtu,
            netns: spec.netns.path(),
            addresses: built.addresses,
            queues: built.tap.queues,
        })
    }

    fn enable_nat(&mut self, subnets: &[IpNet]) -> Result<(), TopologyError> {
        let before = self.ledger.next_id();
        if let Err(error) = nat::enable(&mut self.ledger, &self.config.name, subnets) {
            self.roll_back(before);
            return Err(error);
        }
        if self.sandboxed {
            self.notify(
                "without root, --nat has no effect: the switch's sandbox has no uplink; use sudo".to_owned(),
            );
        }
        // If the ruleset cannot be read, there is nothing to report.
        for chain in firewall::dropping_chains(&self.config.name).unwrap_or_default() {
            let name = &self.config.name;
            let docker = match (chain.tool, chain.hook) {
                (Tool::Nft, Hook::Forward) => {
                    format!(
                        ", with Docker by `iptables -I DOCKER-USER -i {name} -j ACCEPT` and the same with -o"
                    )
                }
                _ => format!(" with `{}`", chain.fixes(name).join("; ")),
            };
            self.notify(format!("the firewall {}: accept '{name}' there{docker}", chain.describe()));
        }
        Ok(())
    }

    /// Lets the replies to containers in on an interface that gets its address later.
    fn forward_on_new_interfaces(&mut self) {
        if self.config.nat
            && let Err(error) = nat::forward_v4(&mut self.ledger, &self.config.name, &self.config.subnets)
        {
            warn!("{error}");
        }
    }

    /// Reports once that there are more ports than the neighbour tables can serve.
    fn check_neighbour_tables(&mut self) {
        // One device is the host port's.
        let ports = (self.devices.len() as u64).saturating_sub(1).max(self.config.ports.into());
        if let Some(limit) = self.neighbour_limit.take_if(|limit| neighbours::needed(ports) > *limit) {
            self.notify(format!(
                "{ports} active ports can overflow the kernel's neighbour tables, which then lose packets \
                 (limit: {limit} entries on the whole machine): raise it with `{}`",
                neighbours::raise(ports)
            ));
        }
    }

    /// Keeps each notice once, and at most [`MOST_NOTICES`].
    fn notify(&mut self, notice: String) {
        if self.notices.len() < MOST_NOTICES && !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    fn unregister(&mut self, device: DeviceId) {
        self.watcher.remove(device);
        self.announcer.cancel(device);
        self.devices.remove(&device);
    }

    /// Undoes the entries since `since` after a failure, which is the error that is returned. What cannot be removed now
    /// becomes a notice, and is removed by the teardown or by the next start.
    fn roll_back(&mut self, since: EntryId) {
        let errors = self.undo_since(since);
        errors.iter().for_each(|error| self.notify(error.to_string()));
    }

    fn undo_since(&mut self, since: EntryId) -> Vec<TopologyError> {
        match self.ledger.contents() {
            Ok(contents) => {
                let made = contents.entries.into_iter().filter(|(id, _)| *id >= since).collect();
                undo::undo(&mut self.ledger, made, &self.host_identity)
            }
            Err(error) => vec![error],
        }
    }
}

impl PortNetns {
    /// Its path; `None`: the host's.
    fn path(&self) -> Option<PathBuf> {
        match self {
            PortNetns::Host => None,
            PortNetns::New(name) => Some(netns::path(name)),
            PortNetns::Existing(path) => Some(path.clone()),
        }
    }
}

/// The settings of the host port, which has the gateway's addresses.
fn host_port(config: &Config, gateway: Mac) -> PortSpec {
    PortSpec {
        netns: PortNetns::Host,
        ifname: config.name.clone(),
        mac: Some(gateway),
        addresses: config.gateways.clone(),
        gateways: Vec::new(),
        mtu: config.mtu,
        txqueuelen: config.txqueuelen,
        offload: config.offload,
        queues: config.workers,
    }
}
