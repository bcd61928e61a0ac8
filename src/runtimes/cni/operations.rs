//! The operations (section "CNI operations").

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ipnet::IpNet;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::config::{NetworkConfig, ValidAttachment};
use super::error::CniError;
use super::parameters::{CniParameters, Operation};
use super::result::{CniResult, Interface, IpConfig, SpecVersion};
use super::{ipam, to_json};
use crate::control::report::PortReport;
use crate::runtimes::attachment::{ContainerAttachment, ContainerLock, DeviceSettings, SwitchPorts};

/// An operation with all that it needs.
pub(super) struct CniRequest<'a> {
    pub(super) parameters: CniParameters,
    pub(super) config: NetworkConfig,
    /// Standard input and the environment, for the IPAM plugin.
    pub(super) input: &'a [u8],
    pub(super) variables: &'a HashMap<String, String>,
    /// The directory of the switches' sockets.
    pub(super) runtime: &'a Path,
}

/// The first part of the labels' keys.
const PLUGIN: &str = "cni";

impl CniRequest<'_> {
    /// The device that the operation is about.
    fn attachment(&self) -> ContainerAttachment<'_> {
        let CniParameters { container, ifname, .. } = &self.parameters;
        ContainerAttachment { plugin: PLUGIN, network: &self.config.fields.name, container, ifname }
    }
}

/// Carries out an operation. The result is what ADD prints.
pub(super) fn run(request: &CniRequest<'_>) -> Result<Option<Value>, CniError> {
    let ports = SwitchPorts::new(&request.config.fields.switch, request.runtime)?;
    let of_latest = |name| match request.config.version {
        SpecVersion::V1_1 => Ok(()),
        older => Err(CniError::OperationVersion(name, older.to_string())),
    };
    match request.parameters.operation {
        Operation::Add => return Ok(Some(to_json(add(request, &ports)?)?)),
        Operation::Del => del(request, &ports)?,
        Operation::Check => check(request, &ports)?,
        Operation::Gc => of_latest("GC").and_then(|()| gc(request, &ports))?,
        Operation::Status => of_latest("STATUS").and_then(|()| status(request, &ports))?,
        // Answered without a configuration.
        Operation::Version => {}
    }
    Ok(None)
}

/// After an error nothing is left: neither a port nor an allocated address.
fn add(request: &CniRequest<'_>, ports: &SwitchPorts) -> Result<CniResult, CniError> {
    let netns = request.parameters.netns.as_deref().unwrap_or(Path::new(""));
    // A second ADD waits here, and does not free the addresses of the first one when it fails.
    let _lock = ContainerLock::take(netns)?;
    let to_replace = ports.port_to_replace(&request.attachment())?;
    let before = request.config.prev_result()?;
    let result = allocate(request).and_then(|allocated| attach(request, ports, to_replace, allocated));
    let result = result.inspect_err(|_| {
        // The error of the attachment is reported.
        let _ = ipam::delegate(request, "DEL");
    })?;
    Ok(match before {
        Some(before) => result.after(before),
        None => result,
    })
}

fn allocate(request: &CniRequest<'_>) -> Result<CniResult, CniError> {
    if ipam::is_configured(request) {
        return Ok(ipam::add(request)?);
    }
    let ips = request.config.ips(request.parameters.args.ip.as_ref()).into_iter().map(|ip| {
        let address: IpNet = ip.parse().map_err(|_| {
            CniError::Config(format!(
                "the address {ip} needs a prefix length, as in 10.1.0.7/24, or an IPAM plugin"
            ))
        })?;
        Ok(IpConfig { version: None, address, gateway: None, interface: None })
    });
    Ok(CniResult { ips: ips.collect::<Result<_, CniError>>()?, ..CniResult::default() })
}

fn attach(
    request: &CniRequest<'_>,
    ports: &SwitchPorts,
    to_replace: Option<PortReport>,
    allocated: CniResult,
) -> Result<CniResult, CniError> {
    let (parameters, config) = (&request.parameters, &request.config);
    let netns = parameters.netns.as_deref().unwrap_or(Path::new(""));
    let settings = DeviceSettings {
        port_name: port_name(&parameters.container, &parameters.ifname),
        addresses: allocated.addresses(),
        routes: allocated.container_routes()?,
        mac: config.mac(parameters.args.mac),
        mtu: config.fields.mtu,
        guard: config.fields.guard.unwrap_or(false),
        vlan: config.fields.vlan,
        limits: config.limits(),
        aliases: config.aliases(),
        published: config.published()?,
    };
    let port = ports.attach(&request.attachment(), netns, to_replace, &settings)?;
    let interface = Interface {
        name: parameters.ifname.clone(),
        mac: port.address.to_string(),
        mtu: Some(port.mtu),
        sandbox: netns.display().to_string(),
        ..Interface::default()
    };
    let dns = match &config.fields.dns {
        Value::Null => allocated.dns.clone(),
        of_network => of_network.clone(),
    };
    Ok(CniResult { dns, ..allocated.with_interface(interface, config.version) })
}

/// The name of a container's port: its ID, shortened as runtimes do, and the name of its device.
fn port_name(container: &str, ifname: &str) -> String {
    const SHORT_ID: usize = 12;
    const LONG_ID: usize = 64;
    /// With a hyphen and a device's name it is a port's name.
    const MOST: usize = 47;
    let is_hash = container.len() == LONG_ID && container.chars().all(|c| c.is_ascii_hexdigit());
    let id = container.get(..if is_hash { SHORT_ID } else { MOST }).unwrap_or(container);
    format!("{id}-{ifname}")
}

/// Idempotent: it is not an error if it is gone already. The addresses are free when no port has them any more.
fn del(request: &CniRequest<'_>, ports: &SwitchPorts) -> Result<(), CniError> {
    // The namespace may be gone.
    let _lock = request.parameters.netns.as_deref().map(ContainerLock::take);
    let mut errors = Vec::new();
    match ports.find(&request.attachment()) {
        Ok(found) => errors.extend(found.and_then(|port| ports.remove(&port).err()).map(CniError::from)),
        Err(error) => errors.push(error.into()),
    }
    errors.extend(ipam::delegate(request, "DEL").err().map(CniError::from));
    CniError::all(errors)
}

/// Compares the container's device with the result of ADD.
fn check(request: &CniRequest<'_>, ports: &SwitchPorts) -> Result<(), CniError> {
    let CniParameters { container, ifname, netns, .. } = &request.parameters;
    let before = request.config.prev_result()?;
    let before = before.ok_or_else(|| CniError::Config("CHECK needs a prevResult".to_owned()))?;
    let found = ports.find(&request.attachment())?;
    let port = found.ok_or_else(|| {
        let switch = request.config.fields.switch.clone();
        CniError::UnknownContainer(switch, ifname.clone(), container.clone())
    })?;
    let wrong = |what: String| Err(CniError::Check(format!("{ifname} of {container}: {what}")));
    if port.operstate != "UP" {
        return wrong(format!("the port {} is {}", port.ifname, port.operstate.to_lowercase()));
    }
    let inode = netns.as_ref().and_then(|path| Some(path.metadata().ok()?.ino()));
    if port.link != *ifname || port.netns_ino.is_none() || port.netns_ino != inode {
        return wrong("the device is not in the container's namespace".to_owned());
    }
    let Some((mac, addresses)) = before.of_interface(ifname) else {
        return wrong("prevResult has no such interface".to_owned());
    };
    if mac.is_some_and(|mac| mac != port.address) {
        return wrong(format!("its MAC address is {}", port.address));
    }
    if let Some(missing) = addresses.iter().find(|address| !port.addresses.contains(address)) {
        return wrong(format!("the address {missing} is missing"));
    }
    Ok(ipam::delegate(request, "CHECK")?)
}

/// Removes the ports of attachments that do not exist.
fn gc(request: &CniRequest<'_>, ports: &SwitchPorts) -> Result<(), CniError> {
    let fields = &request.config.fields;
    let valid = fields.valid_attachments.as_ref();
    let valid = valid.ok_or_else(|| CniError::Config("GC needs cni.dev/valid-attachments".to_owned()))?;
    let exists = |port: &PortReport| {
        valid.iter().any(|ValidAttachment { container, ifname }| {
            ContainerAttachment { plugin: PLUGIN, network: &fields.name, container, ifname }.matches(port)
        })
    };
    let stale = ports.of_network(PLUGIN, &fields.name)?.into_iter().filter(|port| !exists(port));
    let errors = stale.filter_map(|port| ports.remove(&port).err());
    let mut errors: Vec<CniError> = errors.map(CniError::from).collect();
    errors.extend(ipam::delegate(request, "GC").err().map(CniError::from));
    CniError::all(errors)
}

/// Whether ADD would work.
fn status(request: &CniRequest<'_>, ports: &SwitchPorts) -> Result<(), CniError> {
    let health = ports.client().get::<IgnoredAny>("/v1/health");
    health.map_err(|error| CniError::NotAvailable(error.to_string()))?;
    Ok(ipam::delegate(request, "STATUS")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_named_after_container_and_device() {
        assert_eq!(port_name(&"0123456789abcdef".repeat(4), "eth0"), "0123456789ab-eth0");
        assert_eq!(port_name("default-k1", "eth0"), "default-k1-eth0");
        assert_eq!(port_name(&"x".repeat(300), "a23456789012345").len(), 63);
    }
}
