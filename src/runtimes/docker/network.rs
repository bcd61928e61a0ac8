//! Networks: `docker network create` and `docker network rm`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::error::DockerError;
use super::options::NetworkOptions;
use super::protocol::{CreateNetwork, IpamData};
use super::store::{Record, Store};
use super::switch::{NETWORK, NetworkUplink, OwnSwitch, SwitchLocks, Switches, delete_port, ports_with};
use crate::control::addressing::MacPrefix;
use crate::control::config;
use crate::control::report::{Status, UplinkMode};
use crate::switch::Vid;

/// The begin of the names of devices in containers.
const DEFAULT_IFACE_PREFIX: &str = "eth";

/// A network on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Network {
    pub(super) id: String,
    /// The name of its switch.
    pub(super) switch: String,
    /// How to start the switch; `None`: the user starts and stops it.
    pub(super) own: Option<OwnSwitch>,
    /// The next hops of the containers' default routes, one for each IP version.
    pub(super) gateways: Vec<IpAddr>,
    /// `--internal`.
    pub(super) internal: bool,
    /// Whether the containers reach only the gateway, and not each other.
    pub(super) isolated: bool,
    /// MTU of the containers' devices, in bytes [default: the switch's].
    pub(super) mtu: Option<u64>,
    pub(super) vlan: Option<Vid>,
    pub(super) iface_prefix: String,
}

impl Record for Network {
    const DIRECTORY: &'static str = "networks";

    fn key(&self) -> String {
        self.id.clone()
    }
}

/// The networks of the plugin.
#[derive(Debug)]
pub(super) struct Networks {
    pub(super) store: Store,
    pub(super) switches: Switches,
    /// The switches that a thread follows.
    pub(super) watched: Mutex<BTreeSet<String>>,
    /// Held while ports of a switch are restored.
    pub(super) restoring: SwitchLocks,
}

impl Networks {
    pub(super) fn new(store: Store, switches: Switches) -> Networks {
        Networks { store, switches, watched: Mutex::default(), restoring: SwitchLocks::default() }
    }

    /// Creates a network. On an error there is none.
    pub(super) fn create(&self, request: &CreateNetwork) -> Result<(), DockerError> {
        let options = NetworkOptions::parse(&request.options.generic)?;
        let network = match &options.switch {
            Some(switch) => self.on_running_switch(switch, request, &options)?,
            None => with_own_switch(request, &options)?,
        };
        match self.start(&network) {
            Err(DockerError::SwitchExists(_)) if options.name.is_none() && options.link.is_some() => {
                self.start(&Network { switch: switch_name(&network.id), ..network })
            }
            started => started,
        }
    }

    /// Keeps a network, with its switch running. On an error there is none.
    fn start(&self, network: &Network) -> Result<(), DockerError> {
        // The file first: a switch without a file would be forgotten.
        self.store.save(network)?;
        self.switches.running(network).map(|_| ()).inspect_err(|_| {
            // The first error is reported.
            let _ = self.store.remove::<Network>(&network.id);
        })
    }

    /// A network on a switch that the user has started.
    fn on_running_switch(
        &self,
        switch: &str,
        request: &CreateNetwork,
        options: &NetworkOptions,
    ) -> Result<Network, DockerError> {
        if let Some(key) = options.of_new_switch() {
            return Err(DockerError::Conflict(format!(
                "the option {key} excludes switch={switch}: it is about a switch that the plugin starts"
            )));
        }
        let status: Status = self.switches.client(switch)?.get("/v1/status")?;
        let network = Network { switch: switch.to_owned(), ..network(request, options)? };
        if network.vlan.is_some() && !status.vlan_filtering {
            return Err(DockerError::Conflict(format!(
                "vlan needs VLAN filtering: start {switch} with --vlan-filtering"
            )));
        }
        if network.internal && !status.internal && !gateways_of(&status).is_empty() {
            return Err(DockerError::Conflict(format!(
                "--internal excludes switch={switch}, whose hosts reach its gateway: start it with --internal, too"
            )));
        }
        subnets(request).try_for_each(|data| check_subnet(&status, data, network.internal))?;
        Ok(network)
    }

    /// Removes a network. One that the plugin does not know is not an error.
    pub(super) fn delete(&self, id: &str) -> Result<(), DockerError> {
        let Some(network) = self.store.load::<Network>(id)? else { return Ok(()) };
        // Its switch is not started for a port meanwhile.
        let lock = self.restoring.of(&network.switch);
        let _restoring = lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the switch stops, which would be started again for them.
        self.endpoints(id)?.iter().try_for_each(|endpoint| self.forget_endpoint(&endpoint.id))?;
        if network.own.is_some() {
            self.switches.stop(&network)?;
        } else {
            let client = self.switches.client(&network.switch)?;
            ports_with(&client, NETWORK, id)?.iter().try_for_each(|port| delete_port(&client, port))?;
        }
        self.store.remove::<Network>(id)
    }

    /// The network of a request.
    pub(super) fn find(&self, id: &str) -> Result<Network, DockerError> {
        self.store.load(id)?.ok_or_else(|| DockerError::NoSuchNetwork(id.to_owned()))
    }
}

/// The subnets in which containers get addresses.
fn subnets(request: &CreateNetwork) -> impl Iterator<Item = &IpamData> {
    request.ipv4.iter().chain(&request.ipv6).filter(|data| data.has_addresses())
}

/// What networks of both kinds have.
fn network(request: &CreateNetwork, options: &NetworkOptions) -> Result<Network, DockerError> {
    let internal = request.options.internal;
    let subnets: Vec<IpNet> = subnets(request).map(|data| data.pool).collect();
    options.mtu.map(|mtu| config::mtu(mtu, &subnets)).transpose()?;
    if options.uplink_mode.is_some() && options.parent.is_none() {
        return Err(DockerError::Conflict("macvlan_mode and ipvlan_mode need parent=DEVICE".to_owned()));
    }
    Ok(Network {
        id: request.network.clone(),
        switch: String::new(),
        own: None,
        gateways: if internal { Vec::new() } else { gateways(request) },
        internal,
        isolated: options.icc == Some(false),
        mtu: options.mtu,
        vlan: options.vlan,
        iface_prefix: options.iface_prefix.clone().unwrap_or_else(|| DEFAULT_IFACE_PREFIX.to_owned()),
    })
}

fn gateways(request: &CreateNetwork) -> Vec<IpAddr> {
    subnets(request).filter_map(|data| Some(data.gateway?.addr())).collect()
}

/// A network with a switch that the plugin starts and stops.
fn with_own_switch(request: &CreateNetwork, options: &NetworkOptions) -> Result<Network, DockerError> {
    let network = network(request, options)?;
    if network.vlan.is_some() {
        return Err(DockerError::Conflict(
            "vlan needs switch=NAME, a switch that was started with --vlan-filtering".to_owned(),
        ));
    }
    if let (Some(_), Some(key)) = (&options.parent, options.of_gateway()) {
        return Err(DockerError::Conflict(format!(
            "the option {key} excludes parent: the gateway is a router behind that device"
        )));
    }
    let uplink = options
        .parent
        .clone()
        .map(|device| NetworkUplink { device, mode: options.uplink_mode.unwrap_or(UplinkMode::Bridge) });
    // Behind an uplink, the gateway is a router of that network, and the host is not in it. Without addresses, a host
    // port would only send the host's frames to the containers.
    let is_isolated = network.internal || uplink.is_some() || subnets(request).next().is_none();
    let own = OwnSwitch {
        subnets: match uplink {
            Some(_) => Vec::new(),
            None => subnets(request).map(|data| data.pool).collect(),
        },
        gateways: if is_isolated { Vec::new() } else { network.gateways.clone() },
        nat: options.nat()? && !is_isolated && !network.gateways.is_empty(),
        internal: is_isolated,
        mtu: network.mtu,
        mac_prefix: MacPrefix::random().to_string(),
        uplink,
    };
    Ok(Network {
        switch: options
            .name
            .clone()
            .or_else(|| options.link.clone())
            .unwrap_or_else(|| switch_name(&network.id)),
        own: Some(own),
        ..network
    })
}

/// The name of a network's own switch and of its device on the host, as Docker's bridges are called `br-ID`.
fn switch_name(id: &str) -> String {
    const SHORT_ID: usize = 12;
    format!("us-{}", id.get(..SHORT_ID).unwrap_or(id))
}

/// The subnet of a network is within one of its switch, and has the gateway of that one, unless the switch has none.
fn check_subnet(status: &Status, data: &IpamData, internal: bool) -> Result<(), DockerError> {
    let (name, gateways) = (&status.name, gateways_of(status));
    if gateways.is_empty() {
        return Ok(());
    }
    let subnets: Vec<IpNet> =
        status.subnets.iter().chain(gateways_of_vlans(status)).map(IpNet::trunc).collect();
    let subnet = subnets.iter().find(|subnet| subnet.contains(&data.pool));
    let gateway = subnet.and_then(|subnet| gateways.iter().find(|gateway| subnet.contains(*gateway)));
    let given = data.gateway.map(|given| given.addr());
    match (subnet, gateway) {
        (Some(_), None) => Ok(()),
        (Some(_), Some(gateway)) if internal || given == Some(*gateway) => Ok(()),
        (Some(_), Some(gateway)) if data.pool.contains(gateway) => Err(DockerError::Conflict(format!(
            "the gateway of {name} is {gateway}: create the network with --gateway {gateway}"
        ))),
        _ => {
            let listed: Vec<String> = subnets.iter().map(ToString::to_string).collect();
            Err(DockerError::Conflict(format!(
                "{name} has no subnet {}: create the network with --subnet ({})",
                data.pool,
                listed.join(", ")
            )))
        }
    }
}

fn gateways_of(status: &Status) -> Vec<IpAddr> {
    status.gateway.addresses.iter().copied().chain(gateways_of_vlans(status).map(IpNet::addr)).collect()
}

fn gateways_of_vlans(status: &Status) -> impl Iterator<Item = &IpNet> {
    status.vlan_gateways.iter().flat_map(|gateway| &gateway.addresses)
}
