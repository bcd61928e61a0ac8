//! `uswitch port add --netns` and `--tap` where the switch may not enter the namespace: this process, run by the user,
//! creates or opens the device there and hands it over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::client::{ApiClient, ClientError};
use crate::control::report::{AddedPort, ErrorReport, NewPort, PortReport};
use crate::control::topology::handover::{DeviceToHandOver, HandedDevice, build_for_switch};
use crate::control::topology::{TopologyError, open_for_switch};
use crate::sys::caps;
use crate::sys::fd_passing::{self, ReceivedLine};
use crate::sys::netns::{self, Netns, NetnsError};
use crate::sys::userns::UserNs;

use super::error::CliError;

/// A network namespace that the switch may not enter, but this user may.
#[derive(Debug)]
pub(super) struct ForeignNetns {
    netns: Netns,
    owner: UserNs,
}

impl ForeignNetns {
    /// Looks the namespace up. `None`: the switch may enter it, or this process does not see it.
    pub(super) fn find(named: &str, client: &ApiClient) -> Result<Option<ForeignNetns>, CliError> {
        // Without access to the switch's process there is no help either.
        let Ok(of_switch) = client.pid().map_err(CliError::from).and_then(user_namespace) else {
            return Ok(None);
        };
        let Some(path) = path(named) else { return Ok(None) };
        let forbidden =
            |why: &str| CliError::ForeignNetns { netns: path.display().to_string(), why: why.to_owned() };
        let without_root = !of_switch.is(&UserNs::current().map_err(failed)?).map_err(failed)?;
        let netns = match Netns::open(&path) {
            Err(NetnsError::Kernel { source, .. }) if without_root && is_refused(&source) => {
                return Err(forbidden("belongs to another user"));
            }
            // The switch reports it.
            Err(_) => return Ok(None),
            Ok(netns) => netns,
        };
        let owner = match UserNs::owner_of(&netns).map_err(failed)? {
            Some(owner) if owner.is_within(&of_switch).map_err(failed)? => return Ok(None),
            Some(owner) => owner,
            None if without_root => return Err(forbidden("belongs to the machine")),
            None => return Ok(None),
        };
        let is_own = owner.is(&UserNs::current().map_err(failed)?).map_err(failed)?;
        if is_own && !caps::can_manage_network().map_err(failed)? {
            return Err(forbidden("belongs to the machine"));
        }
        Ok(Some(ForeignNetns { netns, owner }))
    }

    /// The namespace of this process, unless it is the switch's.
    pub(super) fn of_this_process(client: &ApiClient) -> Result<Option<ForeignNetns>, CliError> {
        let Ok(of_switch) = client.pid().map_err(CliError::from).and_then(user_namespace) else {
            return Ok(None);
        };
        let owner = UserNs::current().map_err(failed)?;
        if owner.is(&of_switch).map_err(failed)? {
            return Ok(None);
        }
        let netns = Netns::current().map_err(TopologyError::from)?;
        Ok(Some(ForeignNetns { netns, owner }))
    }

    /// Adds the port. This process then stays in the user namespace of the container.
    pub(super) fn attach(self, client: &ApiClient, asked: &NewPort) -> Result<AddedPort, CliError> {
        let connection = HandoverConnection { socket: client.hand_over()?, client };
        connection.send(asked, &[self.netns.as_fd()])?;
        match connection.receive()? {
            DeviceToHandOver::Tap(spec) => {
                let built = build_for_switch(self.netns, &self.owner, &spec)?;
                connection.send(&HandedDevice::Tap(built.description.clone()), &built.files())?;
                let added = connection.receive()?;
                built.announce();
                Ok(added)
            }
            DeviceToHandOver::ExistingTap(spec) => {
                let opened = open_for_switch(&spec)?;
                connection.send(&HandedDevice::ExistingTap(opened.description.clone()), &opened.files())?;
                let added = connection.receive()?;
                opened.leave();
                Ok(added)
            }
        }
    }
}

/// Moves this process into the user namespace of a port that the switch may not enter.
pub(super) fn enter_user_namespace(port: &PortReport) -> Result<(), CliError> {
    let path = port.netns.as_deref().unwrap_or_default();
    let netns = Netns::open(Path::new(path)).map_err(|_| CliError::PortGone(port.ifname.clone()))?;
    let owner = UserNs::owner_of(&netns).map_err(failed)?;
    let own = UserNs::current().map_err(failed)?;
    match owner {
        Some(owner) if !owner.is(&own).map_err(failed)? => {
            owner.enter().map_err(CliError::io("enter the user namespace of the container"))
        }
        _ => Ok(()),
    }
}

fn failed(source: io::Error) -> CliError {
    CliError::io("find out whose the network namespace is")(source)
}

fn user_namespace(pid: u32) -> Result<UserNs, CliError> {
    UserNs::of_process(pid).map_err(failed)
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied)
}

/// The path of a namespace outside of the switch's sandbox; `None` for the name of one inside.
fn path(named: &str) -> Option<PathBuf> {
    let path = Path::new(named);
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    // A name takes precedence over a process ID.
    let pid: u32 = named.parse().ok().filter(|_| !netns::path(named).exists())?;
    Some(PathBuf::from(format!("/proc/{pid}/ns/net")))
}

/// The connection after its change to the protocol of the handover.
struct HandoverConnection<'a> {
    socket: OwnedFd,
    client: &'a ApiClient,
}

impl HandoverConnection<'_> {
    fn send(&self, message: &impl Serialize, files: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(message).map_err(|error| self.client.broken(&error))?;
        line.push(b'\n');
        fd_passing::send(&self.socket, &line, files).map_err(|error| self.client.broken(&error))
    }

    /// Receives a value, or the error of the switch.
    fn receive<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        let mut line = ReceivedLine::default();
        while !line.receive(&self.socket).map_err(|error| self.client.broken(&error))? {}
        let answer: Result<T, ErrorReport> =
            serde_json::from_slice(&line.bytes).map_err(|error| self.client.broken(&error))?;
        Ok(answer.map_err(|ErrorReport { error, code }| ClientError::Refused { error, code })?)
    }
}
