//! The sockets that become ports when a switch starts.

use std::path::Path;

use super::{Checked, InvalidValue, container_name};
use crate::control::report::{NewSocket, SocketType};

/// A socket, and the name of its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSocket {
    /// Name of the port.
    pub port: String,
    /// The socket.
    pub socket: NewSocket,
}

/// Parses the sockets. `devices`: the names of the ports on existing devices.
pub(super) fn sockets(typed: &[String], devices: &[String]) -> Checked<Vec<NamedSocket>> {
    let sockets: Vec<NamedSocket> =
        typed.iter().map(|text| parse(text)).collect::<Result<_, _>>().map_err(|why| ("socket", why))?;
    for (n, NamedSocket { port, socket }) in sockets.iter().enumerate() {
        if sockets[..n].iter().any(|other| other.socket.path == socket.path) {
            return Err(("socket", InvalidValue::SocketTwice(socket.path.display().to_string())));
        }
        if devices.contains(port) || sockets[..n].iter().any(|other| other.port == *port) {
            return Err(("socket", InvalidValue::PortTwice(port.clone())));
        }
    }
    Ok(sockets)
}

/// Parses `PATH[,OPTION]...`, as QEMU's options are written.
fn parse(text: &str) -> Result<NamedSocket, InvalidValue> {
    let mut words = text.split(',');
    let mut socket = NewSocket::at(words.next().unwrap_or_default().into());
    let mut port = name_of_socket(&socket.path);
    for word in words {
        match word.split_once('=') {
            None if word == "listen" => socket.listen = true,
            Some(("type", kind)) => socket.kind = socket_type(kind)?,
            Some(("remote", path)) => socket.remote = Some(path.into()),
            Some(("name", name)) => {
                container_name(name)?;
                port = Some(name.to_owned());
            }
            _ => return Err(InvalidValue::SocketOption(word.to_owned())),
        }
    }
    check_socket(&socket)?;
    let port = port.ok_or_else(|| InvalidValue::SocketName(socket.path.display().to_string()))?;
    Ok(NamedSocket { port, socket })
}

/// Checks that the settings of a socket fit together.
///
/// # Errors
/// They do not, or a path is not absolute.
pub fn check_socket(socket: &NewSocket) -> Result<(), InvalidValue> {
    let NewSocket { path, kind, listen, remote } = socket;
    if let Some(relative) = remote.iter().chain([path]).find(|path| !path.is_absolute()) {
        return Err(InvalidValue::RelativePath(relative.display().to_string()));
    }
    match (kind, remote) {
        (SocketType::Dgram, None) => Err(InvalidValue::NoRemote),
        (SocketType::Dgram, Some(_)) if *listen => Err(InvalidValue::ListenOnDatagrams),
        (SocketType::Dgram, Some(remote)) if remote == path => Err(InvalidValue::RemoteIsLocal),
        (SocketType::Seqpacket | SocketType::Stream, Some(_)) => Err(InvalidValue::RemoteOfConnection),
        _ => Ok(()),
    }
}

fn socket_type(text: &str) -> Result<SocketType, InvalidValue> {
    let found = SocketType::ALL.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| InvalidValue::SocketType(text.to_owned()))
}

/// Default name of a port on a socket: `vm1` for `/run/vm1.sock`.
pub fn name_of_socket(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    container_name(stem).is_ok().then(|| stem.to_owned())
}
