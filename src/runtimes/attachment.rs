//! The attachment of a container to a network: the port of its device. A plugin has no state, so a port has labels by
//! which it is found again.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::fcntl::{Flock, FlockArg};

use crate::control::client::{ApiClient, ClientError};
use crate::control::config::{ALIAS_LABEL, Labels};
use crate::control::report::{
    AddedPort, NewPort, PortLimits, PortReport, PortSettings, PortVlans, PublishedPort,
};
use crate::control::topology::TopologyError;
use crate::control::topology::container_device::{self, ContainerRoute};
use crate::switch::Vid;
use crate::wire::Mac;

/// The state of a port whose device was deleted.
pub(super) const GONE: &str = "NOTPRESENT";

/// Longest wait for the switch to see the device. It takes milliseconds.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Time between two requests meanwhile.
const PAUSE: Duration = Duration::from_millis(2);

/// Why a container cannot be attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    #[error(transparent)]
    Switch(#[from] ClientError),
    #[error(transparent)]
    Device(#[from] TopologyError),
    #[error("there is no network namespace {}", .0.display())]
    NoNetns(PathBuf),
    #[error("{} is the network namespace of this plugin: give that of a container", .0.display())]
    OwnNetns(PathBuf),
    /// The device and the container, and their port.
    #[error("{0} is attached already: the port is {1}")]
    Attached(String, String),
    /// The port, its state, and how long that lasted.
    #[error("the port {0} is {1} after {2} s: `uswitch status` shows whether the switch works")]
    NotUp(String, String, u64),
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
}

/// A device of a container in a network.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContainerAttachment<'a> {
    /// The first part of the labels' keys.
    pub(super) plugin: &'static str,
    pub(super) network: &'a str,
    /// The container's ID.
    pub(super) container: &'a str,
    pub(super) ifname: &'a str,
}

/// What the device has.
#[derive(Debug, Default)]
pub(super) struct DeviceSettings {
    /// The port's name, if it is free.
    pub(super) port_name: String,
    pub(super) addresses: Vec<IpNet>,
    pub(super) routes: Vec<ContainerRoute>,
    pub(super) mac: Option<Mac>,
    /// In bytes [default: the switch's].
    pub(super) mtu: Option<u64>,
    pub(super) guard: bool,
    /// Its VLAN, on a switch that filters VLANs.
    pub(super) vlan: Option<Vid>,
    pub(super) limits: PortLimits,
    /// Names of the container besides its own.
    pub(super) aliases: Vec<String>,
    /// Ports of the host that lead to it.
    pub(super) published: Vec<PublishedPort>,
}

impl ContainerAttachment<'_> {
    /// Whether this is its port.
    pub(super) fn matches(&self, port: &PortReport) -> bool {
        self.labels().iter().all(|(key, value)| port.labels.get(key) == Some(value))
    }

    /// The labels by which its port is found.
    fn labels(&self) -> Labels {
        let label = |key: &str, value: &str| (format!("{}.{key}", self.plugin), value.to_owned());
        Labels::from([
            label("network", self.network),
            label("container", self.container),
            label("ifname", self.ifname),
        ])
    }

    /// The port's name if another port has the readable one: a name that is unique.
    fn unique_name(&self, readable: &str) -> String {
        /// With a hyphen and a hash it is a port's name.
        const MOST: usize = 54;
        let mut hasher = DefaultHasher::new();
        (self.plugin, self.network, self.container, self.ifname).hash(&mut hasher);
        let hash = format!("{:016x}", hasher.finish());
        format!("{}-{}", readable.get(..MOST).unwrap_or(readable), &hash[..8])
    }
}

/// Keeps other operations away from a container until it is dropped: the lock (flock) of its namespace's file.
#[derive(Debug)]
pub(super) struct ContainerLock {
    _file: Flock<File>,
}

impl ContainerLock {
    /// Waits for the lock. The namespace must not be that of this process.
    pub(super) fn take(netns: &Path) -> Result<ContainerLock, AttachError> {
        let file = File::open(netns).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => AttachError::NoNetns(netns.to_owned()),
            _ => AttachError::Io("cannot open the network namespace of the container", error),
        })?;
        if is_own_netns(&file) {
            return Err(AttachError::OwnNetns(netns.to_owned()));
        }
        let locked = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into());
        let failed = |error| AttachError::Io("cannot lock the network namespace of the container", error);
        Ok(ContainerLock { _file: locked.map_err(failed)? })
    }
}

/// Whether this is the namespace in which the plugin runs: that of the host, and no container's.
fn is_own_netns(file: &File) -> bool {
    let of = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let own = Path::new("/proc/self/ns/net").metadata().map(of).ok();
    file.metadata().map(of).ok() == own
}

/// The switch of a network.
pub(super) struct SwitchPorts {
    client: ApiClient,
}

impl SwitchPorts {
    pub(super) fn new(name: &str, runtime: &Path) -> Result<SwitchPorts, AttachError> {
        let failed = |error| AttachError::Io("cannot start an event loop", error);
        Ok(SwitchPorts { client: ApiClient::new(name, runtime).map_err(failed)? })
    }

    /// The client of the switch's API.
    pub(super) fn client(&self) -> &ApiClient {
        &self.client
    }

    /// The ports that a plugin has added for a network. A switch that does not run has none.
    pub(super) fn of_network(&self, plugin: &str, network: &str) -> Result<Vec<PortReport>, ClientError> {
        let mut ports: Vec<PortReport> = match self.client.get("/v1/ports") {
            Err(ClientError::NotRunning { .. } | ClientError::Killed(_)) => Vec::new(),
            ports => ports?,
        };
        let key = format!("{plugin}.network");
        ports.retain(|port| port.labels.get(&key).is_some_and(|found| found == network));
        Ok(ports)
    }

    /// The port of a container's device.
    pub(super) fn find(
        &self,
        attachment: &ContainerAttachment<'_>,
    ) -> Result<Option<PortReport>, ClientError> {
        let ports = self.of_network(attachment.plugin, attachment.network)?;
        Ok(ports.into_iter().find(|port| attachment.matches(port)))
    }

    /// The port of this attachment whose device is gone, if there is one. An attachment with a device is an error.
    pub(super) fn port_to_replace(
        &self,
        attachment: &ContainerAttachment<'_>,
    ) -> Result<Option<PortReport>, AttachError> {
        match self.find(attachment)? {
            Some(port) if port.operstate != GONE => {
                let ContainerAttachment { container, ifname, .. } = attachment;
                Err(AttachError::Attached(format!("{ifname} of {container}"), port.ifname))
            }
            gone => Ok(gone),
        }
    }

    /// Adds the port of a container's device, or gives the device to the port `to_replace`, and configures the device.
    /// After an error there is neither.
    pub(super) fn attach(
        &self,
        attachment: &ContainerAttachment<'_>,
        netns: &Path,
        to_replace: Option<PortReport>,
        settings: &DeviceSettings,
    ) -> Result<PortReport, AttachError> {
        let replace = to_replace.is_some();
        let port_name = match to_replace {
            Some(port) => port.ifname,
            None => self.free_name(attachment, &settings.port_name)?,
        };
        let new = new_port(attachment, netns, settings);
        let new = NewPort { name: Some(port_name), replace, ..new };
        let AddedPort { port, .. } = self.client.post("/v1/ports", &new)?;
        self.configure(&port, attachment, netns, settings).inspect_err(|_| {
            // The first error is reported.
            let _ = self.remove(&port);
        })?;
        Ok(port)
    }

    fn free_name(&self, attachment: &ContainerAttachment<'_>, readable: &str) -> Result<String, ClientError> {
        let ports: Vec<PortReport> = self.client.get("/v1/ports")?;
        let is_taken = ports.iter().any(|port| port.ifname == readable);
        Ok(if is_taken { attachment.unique_name(readable) } else { readable.to_owned() })
    }

    fn configure(
        &self,
        port: &PortReport,
        attachment: &ContainerAttachment<'_>,
        netns: &Path,
        settings: &DeviceSettings,
    ) -> Result<(), AttachError> {
        if settings.limits != PortLimits::default() {
            let limits = PortSettings { limits: settings.limits, ..PortSettings::default() };
            self.client.patch::<PortReport>(&path_of(port), &limits)?;
        }
        let DeviceSettings { addresses, routes, .. } = settings;
        container_device::configure(netns, attachment.ifname, addresses, routes)?;
        self.wait_until_up(port, addresses)?;
        Ok(self.publish(port, &settings.published)?)
    }

    /// Publishes these ports of the host and no others. A former port has those of the container's last start.
    fn publish(&self, port: &PortReport, wanted: &[PublishedPort]) -> Result<(), ClientError> {
        let path = format!("{}/published", path_of(port));
        let mut gone = port.published.iter().filter(|published| !wanted.contains(published));
        gone.try_for_each(|published| self.client.delete(&format!("{path}{}", published.query())))?;
        let mut new = wanted.iter().filter(|published| !port.published.contains(published));
        new.try_for_each(|published| self.client.post::<AddedPort>(&path, published).map(drop))
    }

    /// Waits until the switch has seen that the device is up and has these addresses: a container may send at once.
    fn wait_until_up(&self, port: &PortReport, addresses: &[IpNet]) -> Result<(), AttachError> {
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            let now: PortReport = self.client.get(&path_of(port))?;
            let has = |address: &IpNet| now.addresses.contains(address);
            if now.operstate == "UP" && addresses.iter().all(has) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seconds = LONGEST_WAIT.as_secs();
                return Err(AttachError::NotUp(port.ifname.clone(), now.operstate.to_lowercase(), seconds));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Removes a port, and with it the container's device. It is not an error if it is gone already.
    pub(super) fn remove(&self, port: &PortReport) -> Result<(), ClientError> {
        match self.client.delete(&path_of(port)) {
            Err(ClientError::NotRunning { .. } | ClientError::Killed(_)) => Ok(()),
            // Another removal was quicker.
            Err(_) if self.is_gone(port) => Ok(()),
            removed => removed,
        }
    }

    fn is_gone(&self, port: &PortReport) -> bool {
        let ports = self.client.get::<Vec<PortReport>>("/v1/ports");
        ports.is_ok_and(|ports| ports.iter().all(|other| other.ifname != port.ifname))
    }
}

fn path_of(port: &PortReport) -> String {
    format!("/v1/ports/{}", port.ifname)
}

fn new_port(attachment: &ContainerAttachment<'_>, netns: &Path, settings: &DeviceSettings) -> NewPort {
    let mut labels = attachment.labels();
    if !settings.aliases.is_empty() {
        labels.insert(ALIAS_LABEL.to_owned(), settings.aliases.join(","));
    }
    NewPort {
        netns: Some(netns.display().to_string()),
        unmanaged: true,
        ifname: Some(attachment.ifname.to_owned()),
        ip: Some(settings.addresses.clone()),
        mac: settings.mac,
        mtu: settings.mtu,
        guard: Some(settings.guard),
        vlan: settings.vlan.map(|vid| PortVlans { access: Some(vid), ..PortVlans::default() }),
        labels,
        ..NewPort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_different_attachments_differ() {
        let of =
            |network, container| ContainerAttachment { plugin: "cni", network, container, ifname: "eth0" };
        let readable = "x".repeat(63);
        let name = of("lab", "a").unique_name(&readable);
        assert_eq!((name.len(), name.is_ascii()), (63, true));
        assert_eq!(name, of("lab", "a").unique_name(&readable));
        assert_ne!(name, of("lab", "b").unique_name(&readable));
        assert_ne!(name, of("dmz", "a").unique_name(&readable));
    }
}
