//! The operations (section "CNI operations").

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ipnet::IpNet;
use serde_json::Value;

use super::attachment::{SwitchPorts, is_of};
use super::config::{NetworkConfig, ValidAttachment};
use super::environment::{Command, Environment};
use super::error::CniError;
use super::result::{CniResult, Interface, IpConfig, SpecVersion};
use super::{ipam, to_json};
use crate::control::report::PortReport;
use crate::control::topology::container_device;

/// The state of a port whose device was deleted.
const GONE: &str = "NOTPRESENT";

/// An operation with all that it needs.
pub(super) struct Request<'a> {
    pub(super) environment: Environment,
    pub(super) config: NetworkConfig,
    /// Standard input and the environment, for the IPAM plugin.
    pub(super) input: &'a [u8],
    pub(super) variables: &'a HashMap<String, String>,
    /// The directory of the switches' sockets.
    pub(super) runtime: &'a Path,
}

/// Carries out an operation. The result is what ADD prints.
pub(super) fn run(request: &Request<'_>) -> Result<Option<Value>, CniError> {
    let ports = SwitchPorts::new(&request.config.fields.switch, request.runtime)?;
    let of_latest = |name| match request.config.version {
        SpecVersion::V1_1 => Ok(()),
        older => Err(CniError::OperationVersion(name, older.to_string())),
    };
    match request.environment.command {
        Command::Add => return Ok(Some(to_json(add(request, &ports)?)?)),
        Command::Del => del(request, &ports)?,
        Command::Check => check(request, &ports)?,
        Command::Gc => of_latest("GC").and_then(|()| gc(request, &ports))?,
        Command::Status => of_latest("STATUS").and_then(|()| status(request, &ports))?,
        // Answered without a configuration.
        Command::Version => {}
    }
    Ok(None)
}

/// After an error nothing is left: neither a port nor an allocated address.
fn add(request: &Request<'_>, ports: &SwitchPorts) -> Result<CniResult, CniError> {
    let Environment { container, ifname, netns, .. } = &request.environment;
    if netns.as_deref().is_some_and(is_own_netns) {
        return Err(CniError::OwnNetns);
    }
    if let Some(port) = own_ports(request, ports)?.first() {
        if port.operstate != GONE {
            return Err(CniError::Attached(format!("{ifname} of {container}"), port.ifname.clone()));
        }
        ports.remove(port)?;
    }
    allocate(request).and_then(|allocated| attach(request, ports, allocated)).inspect_err(|_| {
        // The error of the attachment is reported.
        let _ = ipam::delegate(request, "DEL");
    })
}

fn allocate(request: &Request<'_>) -> Result<CniResult, CniError> {
    if ipam::is_configured(request) {
        return Ok(ipam::add(request)?);
    }
    let ips = request.config.ips(request.environment.args.ip.as_ref()).into_iter().map(|ip| {
        let address: IpNet = ip.parse().map_err(|_| {
            CniError::Config(format!(
                "the address {ip} needs a prefix length, as in 10.1.0.7/24, or an IPAM plugin"
            ))
        })?;
        Ok(IpConfig { version: None, address, gateway: None, interface: None })
    });
    Ok(CniResult { ips: ips.collect::<Result<_, CniError>>()?, ..CniResult::default() })
}

fn attach(request: &Request<'_>, ports: &SwitchPorts, allocated: CniResult) -> Result<CniResult, CniError> {
    let (environment, config) = (&request.environment, &request.config);
    let netns = environment.netns.as_deref().unwrap_or(Path::new(""));
    let addresses = allocated.addresses();
    let routes = allocated.container_routes()?;
    let port = ports.add(request, &addresses)?;
    let configured = container_device::configure(netns, &environment.ifname, &addresses, &routes);
    let attached = configured.map_err(CniError::from).and_then(|()| ports.wait_until_up(&port, &addresses));
    if let Err(error) = attached {
        let _ = ports.remove(&port);
        return Err(error);
    }
    let interface = Interface {
        name: environment.ifname.clone(),
        mac: port.address.to_string(),
        mtu: Some(port.mtu),
        sandbox: netns.display().to_string(),
    };
    let dns = match &config.fields.dns {
        Value::Null => allocated.dns.clone(),
        of_network => of_network.clone(),
    };
    Ok(CniResult { dns, ..allocated.with_interface(interface, config.version) })
}

/// Whether this is the namespace in which the plugin runs: that of the host, and no container's.
fn is_own_netns(path: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|of| (of.dev(), of.ino())).ok();
    identity(path).is_some_and(|of| identity(Path::new("/proc/self/ns/net")) == Some(of))
}

/// Idempotent: what is gone already is no error. The addresses are free when no port has them any more.
fn del(request: &Request<'_>, ports: &SwitchPorts) -> Result<(), CniError> {
    let mut errors = Vec::new();
    match own_ports(request, ports) {
        Ok(found) => errors.extend(found.iter().filter_map(|port| ports.remove(port).err())),
        Err(error) => errors.push(error),
    }
    errors.extend(ipam::delegate(request, "DEL").err().map(CniError::from));
    CniError::all(errors)
}

/// The ports of the container's device: one, or none.
fn own_ports(request: &Request<'_>, ports: &SwitchPorts) -> Result<Vec<PortReport>, CniError> {
    let Environment { container, ifname, .. } = &request.environment;
    let mut found = ports.of_network(&request.config.fields.name)?;
    found.retain(|port| is_of(port, container, ifname));
    Ok(found)
}

/// Compares the container's device with the result of ADD.
fn check(request: &Request<'_>, ports: &SwitchPorts) -> Result<(), CniError> {
    let Environment { container, ifname, netns, .. } = &request.environment;
    let before = request.config.prev_result()?;
    let before = before.ok_or_else(|| CniError::Config("CHECK needs a prevResult".to_owned()))?;
    let found = own_ports(request, ports)?;
    let port = found.first().ok_or_else(|| {
        CniError::Check(format!(
            "the switch {} has no port for {ifname} of {container}",
            request.config.fields.switch
        ))
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
fn gc(request: &Request<'_>, ports: &SwitchPorts) -> Result<(), CniError> {
    let fields = &request.config.fields;
    let valid = fields.valid_attachments.as_ref();
    let valid = valid.ok_or_else(|| CniError::Config("GC needs cni.dev/valid-attachments".to_owned()))?;
    let exists = |port: &PortReport| {
        valid.iter().any(|ValidAttachment { container, ifname }| is_of(port, container, ifname))
    };
    let stale = ports.of_network(&fields.name)?.into_iter().filter(|port| !exists(port));
    let mut errors: Vec<CniError> = stale.filter_map(|port| ports.remove(&port).err()).collect();
    errors.extend(ipam::delegate(request, "GC").err().map(CniError::from));
    CniError::all(errors)
}

/// Whether ADD would work.
fn status(request: &Request<'_>, ports: &SwitchPorts) -> Result<(), CniError> {
    ports.check_running().map_err(|error| CniError::NotAvailable(error.to_string()))?;
    Ok(ipam::delegate(request, "STATUS")?)
}
