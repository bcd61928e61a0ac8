//! What a switch makes on the machine: namespaces, TAP devices, addresses, routes, NAT, sysctls.
//! All of it is written in a ledger before it is made, and taken away by reading the ledger backwards:
//! when a start fails half-way, at stop, and by the next start after a kill.
//!
//! Devices are not in the ledger: they go when their queues are closed, or with the namespace that was made for them.
//! A port takes a few milliseconds of the kernel's time; the calls block for that long.

mod build;
mod claim;
mod environment;
mod error;
pub(crate) mod inspect;
mod ledger;
mod link;
mod link_watcher;
mod nat;
pub(crate) mod preflight;
mod sysctl;
mod undo;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

pub use self::environment::Environment;
pub use self::error::TopologyError;

use self::build::{BuiltDevice, StagingNetns};
use self::claim::{claim_name, close, open_kernel_interfaces};
use self::ledger::{Entry, EntryId, Ledger, Owner};
use self::link_watcher::LinkWatcher;
use super::{Config, addressing};
use crate::sys::netlink::Netlink;
use crate::sys::netns::{self, Identity, Netns};
use crate::sys::tap::{Hold, Queue};
use crate::wire::Mac;

/// Notices that wait to be taken; a port that is made takes them.
const MOST_NOTICES: usize = 64;

/// Where a port's device is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortNetns {
    /// The host's namespace: where the switch runs.
    Host,
    /// A new namespace of this name, taken away with the port.
    New(String),
    /// A namespace that is there already, by path (`/run/netns/NAME`, `/proc/PID/ns/net`).
    Existing(PathBuf),
}

/// A port to be made.
#[derive(Debug, Clone)]
pub struct PortSpec {
    /// Where.
    pub netns: PortNetns,
    /// The device's name there.
    pub ifname: String,
    /// Its MAC; the kernel's random choice if none.
    pub mac: Option<Mac>,
    /// Addresses with prefix lengths; a default route through `gateways` of the same family for each.
    pub addresses: Vec<IpNet>,
    /// The gateway of each family.
    pub gateways: Vec<IpAddr>,
    /// MTU of the device.
    pub mtu: u32,
    /// Transmit queue length of the device.
    pub txqueuelen: Option<u32>,
    /// Open it with the virtio-net header and offloads.
    pub offload: bool,
    /// Queues to open: one a worker.
    pub queues: usize,
}

/// Names a device that this topology made, for as long as the switch runs. (An interface index will not
/// do: each namespace has its own.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u64);

/// A device that was made and is up.
#[derive(Debug)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// Its name in its namespace.
    pub ifname: String,
    /// Its index there.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: Mac,
    /// MTU.
    pub mtu: u32,
    /// The namespace as a path that can be entered (`None`: the host's).
    pub netns: Option<PathBuf>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its queues, in the order of the workers.
    pub queues: Vec<Queue>,
}

/// A change that somebody else made to a port's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// Up or down (`IFF_UP`), with this MTU.
    State {
        /** `IFF_UP`. */
        up: bool,
        /** The MTU now. */
        mtu: u32,
    },
    /// Deleted, with its namespace or alone. A namespace of ours is so when its name is; it goes for good when the
    /// device's queues are closed.
    Gone,
}

/// Everything made for one switch. Dropping it takes nothing away; [`Topology::teardown`] does.
#[derive(Debug)]
pub struct Topology {
    name: String,
    sandboxed: bool,
    ledger: Ledger,
    host: Netlink,
    host_identity: Identity,
    staging: StagingNetns,
    watcher: LinkWatcher,
    /// The namespace that was made for a device, if one was.
    devices: HashMap<DeviceId, Option<(EntryId, Entry)>>,
    /// On the devices in namespaces of our own, until they are gone from there.
    holds: HashMap<DeviceId, Hold>,
    next: u64,
    notices: Vec<String>,
    /// That the kernel lacks UDP segmentation was said already.
    reported_no_uso: bool,
}

impl Topology {
    /// Takes the switch's name on this machine, cleans up after a killed switch of that name, and checks
    /// that what `config` asks for can be made. Changes nothing else. To be called within a Tokio runtime.
    ///
    /// # Errors
    /// The switch is running, or a start would fail for a reason that shows beforehand.
    pub fn claim(config: &Config, environment: &Environment) -> Result<Topology, TopologyError> {
        let host_identity = Netns::here()?.identity()?;
        let (mut ledger, notice) = claim_name(&config.name, &environment.runtime, &host_identity)?;
        let claimed = open_kernel_interfaces(config).and_then(|parts| {
            let pid = std::process::id();
            ledger.start(Owner { pid, host: host_identity, sandboxed: environment.sandboxed })?;
            Ok(parts)
        });
        match claimed {
            Ok((host, staging, watcher)) => Ok(Topology {
                name: config.name.clone(),
                sandboxed: environment.sandboxed,
                ledger,
                host,
                host_identity,
                staging,
                watcher,
                devices: HashMap::new(),
                holds: HashMap::new(),
                next: 0,
                notices: notice.into_iter().collect(),
                reported_no_uso: false,
            }),
            Err(error) => {
                // The reason why there is no switch matters more than the file that is left.
                let _ = close(ledger);
                Err(match notice {
                    Some(notice) => TopologyError::AfterCleanUp { why: Box::new(error), notice },
                    None => error,
                })
            }
        }
    }

    /// Takes away what a killed switch of this name left behind. What was found, in a sentence.
    ///
    /// # Errors
    /// The switch is running, or something could not be taken away.
    pub fn clean_up_after(name: &str, environment: &Environment) -> Result<Option<String>, TopologyError> {
        let host = Netns::here()?.identity()?;
        let (ledger, notice) = claim_name(name, &environment.runtime, &host)?;
        close(ledger)?;
        Ok(notice)
    }

    /// Makes the host port: TAP in this namespace, gateway MAC and addresses, NAT if asked for.
    ///
    /// # Errors
    /// On an error nothing of it is left.
    pub fn add_host_port(&mut self, config: &Config, gateway: Mac) -> Result<Device, TopologyError> {
        let spec = host_port(config, gateway);
        let built = build::in_host_netns(&mut self.host, &spec)?;
        let device = self.register(built, &spec)?;
        if config.nat
            && let Err(error) = self.enable_nat(&config.subnets)
        {
            self.unregister(device.id);
            return Err(error);
        }
        Ok(device)
    }

    /// Makes a port.
    ///
    /// # Errors
    /// On an error nothing of it is left.
    pub fn add_port(&mut self, spec: &PortSpec) -> Result<Device, TopologyError> {
        let before = self.ledger.next_id();
        let added = self.build_device(spec).and_then(|built| self.register(built, spec));
        if added.is_err() {
            self.roll_back(before);
        }
        added
    }

    /// Takes a port's namespace away if we made it. That and the device go when its queues are closed.
    ///
    /// # Errors
    /// There is no such device, or its namespace could not be removed.
    pub fn remove_port(&mut self, device: DeviceId) -> Result<(), TopologyError> {
        let made = self.devices.get(&device).ok_or(TopologyError::NoSuchDevice)?.clone();
        let errors = undo::undo(&mut self.ledger, made.into_iter().collect(), &self.host_identity);
        self.unregister(device);
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    /// What the user should know of what was done so far, each a sentence, each once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// The next change that somebody else made to one of the devices. Cancel-safe.
    pub async fn next_change(&mut self) -> (DeviceId, LinkChange) {
        let (device, change) = self.watcher.next().await;
        if change == LinkChange::Gone {
            self.holds.remove(&device);
        }
        (device, change)
    }

    /// Of each device that is there: frames that its container sent and the kernel dropped, because the device's
    /// queue to the switch was full (`tx_dropped` of its statistics; Linux `drivers/net/tun.c`, `tun_net_xmit`).
    pub fn queue_dropped(&mut self) -> HashMap<DeviceId, u64> {
        self.watcher.queue_dropped()
    }

    /// Takes everything away; every error met on the way. The devices' queues should be closed before: they are
    /// what keeps devices outside our own namespaces.
    pub fn teardown(mut self) -> Vec<TopologyError> {
        self.holds.clear();
        let mut errors = self.undo_since(EntryId::FIRST);
        // With something left, the next start needs to know.
        if errors.is_empty() {
            errors.extend(close(self.ledger).err());
        }
        errors
    }

    fn build_device(&mut self, spec: &PortSpec) -> Result<BuiltDevice, TopologyError> {
        match &spec.netns {
            PortNetns::Host => build::in_host_netns(&mut self.host, spec),
            PortNetns::New(name) => build::in_new_netns(name, spec, &mut self.ledger),
            PortNetns::Existing(path) => self.staging.in_existing_netns(path, spec),
        }
    }

    /// Watches a device from now on.
    fn register(&mut self, built: BuiltDevice, spec: &PortSpec) -> Result<Device, TopologyError> {
        let id = DeviceId(self.next);
        self.next += 1;
        // "The host" may have been named by its path too.
        let netns = built.netns.filter(|netns| netns.identity().is_ok_and(|it| !it.is(&self.host_identity)));
        self.watcher.add(id, &built.link, netns.as_ref())?;
        if let Some((_, Entry::Netns { name, identity })) = &built.made {
            self.watcher.watch_netns_name(id, name, *identity);
            let failed = |source| TopologyError::Kernel { what: "keep hold of a device", source };
            let hold = built.tap.queues.first().map(|queue| queue.hold(*identity));
            self.holds.extend(hold.transpose().map_err(failed)?.map(|hold| (id, hold)));
        }
        self.devices.insert(id, built.made);
        built.notices.into_iter().for_each(|notice| self.notify(notice));
        if !built.tap.uso && !self.reported_no_uso {
            self.reported_no_uso = true;
            self.notify(
                "this kernel cannot pass large UDP frames through a TAP (6.2 and later can): UDP goes frame by frame"
                    .to_owned(),
            );
        }
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
        if let Err(error) = nat::enable(&mut self.ledger, &self.name, subnets) {
            self.roll_back(before);
            return Err(error);
        }
        if self.sandboxed {
            self.notify(
                "without root, --nat leads only into the switch's own sandbox, which has no way out: use sudo".to_owned(),
            );
        }
        // What cannot be read is not known to drop anything.
        if let Ok(Some(chain)) = nat::dropping_chain(&self.name) {
            self.notify(format!(
                "the firewall here drops what it is not told to forward (chain {chain}): accept '{name}' there, with \
                 Docker by `iptables -I DOCKER-USER -i {name} -j ACCEPT` and the same with -o",
                name = self.name
            ));
        }
        Ok(())
    }

    /// One sentence is enough for many ports, and more than a few dozen nobody reads.
    fn notify(&mut self, notice: String) {
        if self.notices.len() < MOST_NOTICES && !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    fn unregister(&mut self, device: DeviceId) {
        self.watcher.remove(device);
        self.holds.remove(&device);
        self.devices.remove(&device);
    }

    /// After a failure, which is what the user hears of; what cannot be taken away now is so at the teardown, or
    /// by the next start.
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
    /// The path of the namespace; `None`: the host's.
    fn path(&self) -> Option<PathBuf> {
        match self {
            PortNetns::Host => None,
            PortNetns::New(name) => Some(netns::path(name)),
            PortNetns::Existing(path) => Some(path.clone()),
        }
    }
}

/// The host port: the gateway's leg in the host.
fn host_port(config: &Config, gateway: Mac) -> PortSpec {
    PortSpec {
        netns: PortNetns::Host,
        ifname: config.name.clone(),
        mac: Some(gateway),
        addresses: config.subnets.iter().filter_map(|subnet| addressing::host_address(*subnet, 0)).collect(),
        gateways: Vec::new(),
        mtu: config.mtu,
        txqueuelen: config.txqueuelen,
        offload: config.offload,
        queues: config.workers,
    }
}
