//! The Docker plugin: a network driver and an IPAM driver of dockerd (libnetwork's remote drivers, `moby/libnetwork`
//! docs/remote.md and docs/ipam.md).
//!
//! dockerd sends a request for each operation: a POST on a Unix socket, with the method as its path and JSON both ways.
//! A network is a switch: one that runs, or one that the plugin starts and stops with the network. A container is an
//! unmanaged port, whose device dockerd moves into the container, renames and configures.
//!
//! The plugin keeps nothing in memory. Networks, endpoints and address pools are files ([`store`]), written before a
//! request is answered. A port has the IDs of its network and its endpoint as labels. So dockerd, the plugin and the
//! switches can be restarted in any order: [`watcher`] follows the switches and gives containers their devices back. No
//! request makes the plugin call dockerd, which waits for it while it starts: [`names`] follows dockerd apart from
//! them.

mod endpoint;
mod error;
mod firewall;
mod ipam;
mod kathara;
mod managed;
mod names;
mod network;
mod options;
mod protocol;
mod publish;
mod restore;
mod server;
mod store;
mod switch;
#[cfg(test)]
mod tests;
mod watcher;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

pub(crate) use error::DockerError;
pub(crate) use managed::write_source;
pub(crate) use server::{PluginSocket, serve};

use network::Networks;
use protocol::{EndpointRequest, NetworkRequest};
use store::Store;
use switch::Switches;

use super::null_is_default;

/// Where dockerd looks for a plugin of this name.
pub(crate) const DEFAULT_SOCKET: &str = "/run/docker/plugins/uswitch.sock";
/// Where dockerd listens.
pub(crate) const DOCKER_SOCKET: &str = "/run/docker.sock";

/// The plugin.
#[derive(Debug)]
pub(crate) struct DockerPlugin {
    networks: Arc<Networks>,
}

impl DockerPlugin {
    /// A plugin with its state in the directory `state`. `runtime` is the directory of the switches' sockets.
    ///
    /// # Errors
    /// The directory cannot be created, or another plugin uses it.
    pub(crate) fn open(state: &Path, runtime: PathBuf) -> Result<DockerPlugin, DockerError> {
        let networks = Networks::new(Store::open(state)?, Switches::new(runtime));
        Ok(DockerPlugin { networks: Arc::new(networks) })
    }

    /// Answers a request of dockerd: `path` is that of the URL, `body` its JSON.
    fn answer(&self, path: &str, body: &[u8]) -> Result<Value, DockerError> {
        let (driver, method) = path.trim_start_matches('/').split_once('.').unwrap_or((path, ""));
        match driver {
            "Plugin" if method == "Activate" => Ok(json!({ "Implements": ["NetworkDriver", "IpamDriver"] })),
            "NetworkDriver" => self.drive_network(method, body),
            "IpamDriver" => self.manage_addresses(method, body),
            _ => Err(DockerError::NoSuchMethod(path.to_owned())),
        }
    }

    fn drive_network(&self, method: &str, body: &[u8]) -> Result<Value, DockerError> {
        let networks = &self.networks;
        match method {
            "GetCapabilities" => Ok(json!({ "Scope": "local", "ConnectivityScope": "local" })),
            "CreateNetwork" => networks.create(&parse(body)?).map(nothing),
            "DeleteNetwork" => networks.delete(&parse::<NetworkRequest>(body)?.network).map(nothing),
            "CreateEndpoint" => networks.create_endpoint(&parse(body)?).and_then(to_json),
            "DeleteEndpoint" => networks.delete_endpoint(&parse(body)?).map(nothing),
            "Join" => networks.join(&parse(body)?).and_then(to_json),
            "ProgramExternalConnectivity" => networks.publish(&parse(body)?).map(nothing),
            "EndpointOperInfo" => parse::<EndpointRequest>(body).map(|_| json!({ "Value": {} })),
            "RevokeExternalConnectivity" => networks.unpublish(&parse(body)?).map(nothing),
            "Leave" => networks.leave(&parse(body)?).map(nothing),
            "DiscoverNew" | "DiscoverDelete" => Ok(nothing(())),
            _ => Err(DockerError::NoSuchMethod(method.to_owned())),
        }
    }

    fn manage_addresses(&self, method: &str, body: &[u8]) -> Result<Value, DockerError> {
        let store = &self.networks.store;
        match method {
            // The pools are files, so dockerd need not request them again when it starts.
            "GetCapabilities" => Ok(json!({ "RequiresMACAddress": false, "RequiresRequestReplay": false })),
            "GetDefaultAddressSpaces" => Ok(json!({
                "LocalDefaultAddressSpace": ipam::ADDRESS_SPACE,
                "GlobalDefaultAddressSpace": ipam::ADDRESS_SPACE,
            })),
            "RequestPool" => ipam::request_pool(store, &parse(body)?).and_then(to_json),
            "ReleasePool" => ipam::release_pool(store, &parse(body)?).map(nothing),
            "RequestAddress" => ipam::request_address(store, &parse(body)?).and_then(to_json),
            "ReleaseAddress" => ipam::release_address(store, &parse(body)?).map(nothing),
            _ => Err(DockerError::NoSuchMethod(method.to_owned())),
        }
    }
}

/// Parses a JSON object. Serde would accept an array with the fields in order too.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, DockerError> {
    let object: Map<String, Value> = serde_json::from_slice(body).map_err(DockerError::Request)?;
    serde_json::from_value(Value::Object(object)).map_err(DockerError::Request)
}

fn to_json(answer: impl Serialize) -> Result<Value, DockerError> {
    serde_json::to_value(answer).map_err(DockerError::Request)
}

/// The answer of a method that returns nothing.
fn nothing((): ()) -> Value {
    json!({})
}
