//! `uswitch docker-plugin`: serves dockerd as a network and IPAM driver.

use std::path::PathBuf;

use crate::runtimes::docker::{self, DEFAULT_SOCKET, DOCKER_SOCKET, DockerPlugin, PluginSocket};
use crate::sys::{runtime_dir, state_dir};

use super::error::CliError;
use super::output;

/// Serve Docker as the network driver and IPAM driver `uswitch`
#[derive(Debug, clap::Args)]
#[command(after_help = OPTIONS)]
pub(super) struct DockerPluginCommand {
    /// Unix socket on which dockerd finds the plugin. One that systemd passes takes precedence
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Directory of the networks and address pools [default: /var/lib/uswitch/docker]
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    /// Unix socket of dockerd, where the plugin finds the names of containers for the labels of their ports
    #[arg(long, value_name = "PATH", default_value = DOCKER_SOCKET)]
    docker_socket: PathBuf,
    /// Only write the source of a managed plugin that leads dockerd to the socket, for `docker plugin create NAME
    /// DIRECTORY`
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "state")]
    managed: Option<PathBuf>,
}

const OPTIONS: &str = "\
Options of `docker network create -d uswitch`:
  --ipam-driver uswitch   the plugin chooses addresses instead of Docker
  -o switch=NAME          use this running switch instead of one for the network
  -o vlan=VID             VLAN of the containers, with switch=NAME
  -o parent=DEVICE        connect the network to the one behind this device, as macvlan does
  -o ipvlan_mode=l2       with parent: one MAC address for all containers
  -o com.docker.network.driver.mtu=BYTES
  -o com.docker.network.container_iface_prefix=PREFIX
  -o com.docker.network.bridge.name=NAME
  -o com.docker.network.bridge.enable_icc=BOOL
  -o com.docker.network.bridge.enable_ip_masquerade=BOOL
  -o com.docker.network.bridge.gateway_mode_ipv4=nat|routed   (and _ipv6)
  -o kathara.link=NAME    name of the switch, if it is free
Options of `--network name=NETWORK,driver-opt=KEY=VALUE`:
  port=NAME   name of the port       vlan=VID   VLAN       guard=BOOL   only its own addresses
  kathara.mac_addr=MAC   kathara.machine=NAME   kathara.iface=N   kathara.link=NAME   as for Kathará's plugins";

impl DockerPluginCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        if let Some(directory) = self.managed {
            return Ok(docker::write_source(&directory, &self.socket)?);
        }
        let socket = PluginSocket::choose(self.socket)?;
        let state = match self.state {
            Some(directory) => directory,
            None => state_dir::path()
                .map(|directory| directory.join("docker"))
                .ok_or_else(|| CliError::Usage("give --state: HOME is not set".to_owned()))?,
        };
        let plugin = DockerPlugin::open(&state, runtime_dir::directory()?)?;
        docker::serve(plugin, &socket, self.docker_socket, || {
            // A closed standard output does not stop the plugin.
            let _ = output::print("uswitch docker-plugin: ready\n");
        })?;
        Ok(())
    }
}
