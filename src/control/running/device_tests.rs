//! Ports on existing devices and on sockets, on the fake network.

use super::RunError;
use super::fake::{FakeNetwork, config, running};
use super::*;
use crate::control::report::{AdminState, NewPort, NewSocket, PortKind, PortSettings, SocketType};

/// A request for a port on `eth1`.
fn on_device(edit: impl FnOnce(&mut NewPort)) -> NewPort {
    let mut request = NewPort { device: Some("eth1".into()), ..NewPort::default() };
    edit(&mut request);
    request
}

/// A request for a port on a stream socket.
fn on_socket(path: &str) -> NewPort {
    let socket = NewSocket { kind: SocketType::Stream, listen: true, ..NewSocket::at(path.into()) };
    NewPort { socket: Some(socket), ..NewPort::default() }
}

fn refused(running: &mut Running<FakeNetwork>, request: NewPort) -> String {
    running.add_port(request).unwrap_err().to_string()
}

/// Such a port takes no number, MAC or IP address of the address plan.
#[tokio::test]
async fn port_on_an_existing_device_has_no_assigned_addresses() {
    let (_fake, mut running) = running(config(|_| {})).await;
    let made = running.add_port(on_device(|_| {})).unwrap().port;
    assert_eq!((made.ifname.as_str(), made.kind, made.source_guard), ("eth1", PortKind::Device, false));
    assert!(made.addresses.is_empty());
    assert_eq!(running.add_port(NewPort::default()).unwrap().port.ifname, "container3");
}

#[tokio::test]
async fn existing_device_refuses_settings_of_a_new_one() {
    let (_fake, mut running) = running(config(|_| {})).await;
    let before = running.port_reports();
    for (edit, word) in [
        (|request| request.netns = Some("web".into()), "'netns'"),
        (|request| request.mtu = Some(1400), "'mtu'"),
        (|request| request.ifname = Some("eth2".into()), "'ifname'"),
        (|request| request.shared_netns = true, "'shared_netns'"),
        (|request| request.name = Some("container1".into()), "container1 exists"),
        (|request| request.ip = Some(vec!["172.16.0.2/24".parse().unwrap()]), "172.16.0.2"),
        (|request| request.guard = Some(true), "needs the addresses"),
    ] as [(fn(&mut NewPort), &str); 7]
    {
        let error = refused(&mut running, on_device(edit));
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(running.port_reports(), before);
}

#[tokio::test]
async fn port_on_an_existing_tap_is_named_after_it() {
    let (_fake, mut running) = running(config(|_| {})).await;
    let on_tap = || NewPort { tap: Some("tap0".into()), ..NewPort::default() };
    let made = running.add_port(on_tap()).unwrap().port;
    assert_eq!((made.ifname.as_str(), made.kind, made.offload), ("tap0", PortKind::Device, false));
    for (request, words) in [
        (NewPort { tap: Some("tap0".into()), ..on_device(|_| {}) }, "'device' excludes 'tap'"),
        (NewPort { tap: Some("tap1".into()), ..on_socket("/run/vm1.sock") }, "'tap' excludes 'socket'"),
        (NewPort { mtu: Some(1400), ..on_tap() }, "'tap' excludes 'mtu'"),
        (NewPort { tap: Some("a/b".into()), ..NewPort::default() }, "cannot name a network device"),
    ] {
        let error = refused(&mut running, request);
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn refused_guard_changes_no_other_setting() {
    let (_fake, mut running) = running(config(|_| {})).await;
    running.add_port(on_device(|_| {})).unwrap();
    let (guard, admin_state) = (Some(true), Some(AdminState::Down));
    let settings = PortSettings { guard, admin_state, ..PortSettings::default() };
    let error = running.set_port("eth1", &settings).unwrap_err();
    assert!(matches!(error, RunError::NoGuardAddresses(_)));
    assert_eq!(running.port_reports().last().map(|port| port.state.clone()), Some("forwarding".into()));
}

/// It is named after the socket. A stream has no virtio-net headers, so the switch completes each frame.
#[tokio::test]
async fn port_on_a_socket_has_no_carrier_without_a_peer() {
    let (_fake, mut running) = running(config(|_| {})).await;
    let made = running.add_port(on_socket("/run/vm1.sock")).unwrap().port;
    assert_eq!((made.ifname.as_str(), made.kind, made.offload), ("vm1", PortKind::Socket, false));
    assert_eq!((made.operstate.as_str(), made.flags[0].as_str()), ("DOWN", "NO-CARRIER"));
    let both = NewPort { device: Some("eth1".into()), ..on_socket("/run/vm2.sock") };
    for (request, word) in [
        (on_socket("vm2.sock"), "'vm2.sock' is not an absolute path"),
        (on_socket("/run/.hidden"), "give the port a name"),
        (on_socket("/run/vm1.sock"), "vm1 exists"),
        (both, "'device' excludes 'socket'"),
    ] {
        let error = refused(&mut running, request);
        assert!(error.contains(word), "{error}");
    }
}
