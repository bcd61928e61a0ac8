//! A fake network for tests: a port's queue is one end of a socket pair, and the test holds the other.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc;

use super::{HostNetwork, Running};
use crate::control::report::{FdbFilter, FdbReport};
use crate::control::topology::handover::HandedOver;
use crate::control::topology::{
    Attachment, Device, DeviceId, DnatTarget, LinkChange, NatChange, NetworkChange, PortNetns, PortSpec,
    RouteLookup, RoutedPacket, SenderRoute, TopologyError,
};
use crate::control::{Config, Options};
use crate::datapath::EngineKind;
use crate::sys::netns::Netns;
use crate::sys::queue::{Access, Framing, Queue};
use crate::wire::Mac;

/// The test's side of a [`FakeNetwork`].
#[derive(Debug, Clone)]
pub(crate) struct FakeControl {
    shared: Arc<Mutex<FakeState>>,
    changes: mpsc::UnboundedSender<NetworkChange>,
}

#[derive(Debug, Default)]
struct FakeState {
    log: Vec<String>,
    specs: Vec<PortSpec>,
    peers: HashMap<String, UnixDatagram>,
    ids: HashMap<String, DeviceId>,
    /// Creating this device, or changing its carrier, fails.
    failing_device: Option<String>,
    /// The carrier of a device cannot be changed.
    carrier_fails: bool,
    /// The teardown reports an error.
    teardown_fails: bool,
    notices: Vec<String>,
    announced: Vec<(DeviceId, Vec<IpNet>)>,
    published: Vec<DnatTarget>,
    /// Publishing fails.
    publish_fails: bool,
    /// The route of each packet, by destination.
    routes: HashMap<IpAddr, SenderRoute>,
}

/// A network without devices.
#[derive(Debug)]
pub(crate) struct FakeNetwork {
    shared: Arc<Mutex<FakeState>>,
    changes: mpsc::UnboundedReceiver<NetworkChange>,
    next: u64,
}

impl FakeControl {
    /// A fake network and its control.
    pub(crate) fn new() -> (FakeControl, FakeNetwork) {
        let shared = Arc::<Mutex<FakeState>>::default();
        let (changes, changed) = mpsc::unbounded_channel();
        let fake = FakeControl { shared: Arc::clone(&shared), changes };
        (fake, FakeNetwork { shared, changes: changed, next: 1 })
    }

    fn shared(&self) -> MutexGuard<'_, FakeState> {
        self.shared.lock().unwrap()
    }

    /// The calls that the switch made.
    pub(crate) fn log(&self) -> Vec<String> {
        self.shared().log.clone()
    }

    /// The specs of the created ports.
    pub(crate) fn specs(&self) -> Vec<PortSpec> {
        self.shared().specs.clone()
    }

    /// Makes the creation of this device fail.
    pub(crate) fn fail_device(&self, name: &str) {
        self.shared().failing_device = Some(name.to_owned());
    }

    /// Makes changes of carriers fail.
    pub(crate) fn fail_carrier(&self) {
        self.shared().carrier_fails = true;
    }

    /// Makes publishing fail, or succeed again.
    pub(crate) fn fail_publish(&self, fails: bool) {
        self.shared().publish_fails = fails;
    }

    /// What is published, as `PORT > TARGET TARGET`.
    pub(crate) fn published(&self) -> Vec<String> {
        let text = |DnatTarget { port, targets }: &DnatTarget| {
            let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
            format!("{port} > {}", targets.join(" "))
        };
        self.shared().published.iter().map(text).collect()
    }

    /// Makes the teardown report an error.
    pub(crate) fn fail_teardown(&self) {
        self.shared().teardown_fails = true;
    }

    /// Queues a notice for the user.
    pub(crate) fn add_notice(&self, notice: &str) {
        self.shared().notices.push(notice.to_owned());
    }

    /// Sets the route of packets to an address.
    pub(crate) fn set_route(&self, destination: IpAddr, route: SenderRoute) {
        self.shared().routes.insert(destination, route);
    }

    /// The addresses that were announced, with the port's name.
    pub(crate) fn announced(&self) -> Vec<(String, Vec<IpNet>)> {
        let shared = self.shared();
        let name =
            |device: &DeviceId| shared.ids.iter().find(|(_, id)| *id == device).map(|(name, _)| name.clone());
        let named = |(device, addresses): &(DeviceId, Vec<IpNet>)| (name(device).unwrap(), addresses.clone());
        shared.announced.iter().map(named).collect()
    }

    /// The container's end of a port.
    pub(crate) fn peer(&self, name: &str) -> UnixDatagram {
        let peer = self.shared().peers[name].try_clone().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer
    }

    /// Changes a port's device, as another program would.
    pub(crate) fn change(&self, name: &str, change: LinkChange) {
        let id = self.shared().ids[name];
        self.changes.send(NetworkChange::Device(id, change)).unwrap();
    }

    /// Changes the nftables table, as another program would.
    pub(crate) fn change_nat(&self, change: NatChange) {
        self.changes.send(NetworkChange::Nat(change)).unwrap();
    }
}

impl FakeNetwork {
    fn make(&mut self, name: &str, spec: &PortSpec) -> Result<Device, TopologyError> {
        let mut shared = self.shared.lock().unwrap();
        if shared.failing_device.as_deref() == Some(name) {
            shared.log.push(format!("fail {name}"));
            return Err(TopologyError::NoNft);
        }
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let id = DeviceId(self.next);
        self.next += 1;
        shared.log.push(format!("make {name}"));
        shared.specs.push(spec.clone());
        shared.peers.insert(name.to_owned(), theirs);
        shared.ids.insert(name.to_owned(), id);
        Ok(Device {
            id,
            ifname: spec.ifname.clone(),
            ifindex: 2,
            mac: spec.mac.unwrap_or_default(),
            mtu: spec.mtu,
            netns: None,
            addresses: spec.addresses.clone(),
            offloads: Vec::new(),
            queues: vec![Queue { fd: ours.into(), framing: Framing::Plain, access: Access::ReadWrite }],
            polled: false,
            fast: None,
        })
    }
}

impl HostNetwork for FakeNetwork {
    fn add_host_port(&mut self, config: &Config, gateway: Mac) -> Result<Device, TopologyError> {
        let spec = PortSpec {
            netns: PortNetns::New("host".to_owned()),
            ifname: config.name.clone(),
            mac: Some(gateway),
            addresses: Vec::new(),
            gateways: Vec::new(),
            mtu: config.mtu,
            txqueuelen: None,
            offload: config.offload,
            queues: 1,
            accept_ra: true,
            unmanaged: false,
        };
        self.make("host", &spec)
    }

    fn add_vlan_host_port(&mut self, spec: &PortSpec) -> Result<Device, TopologyError> {
        self.make(&spec.ifname, spec)
    }

    fn add_port(&mut self, attachment: &Attachment) -> Result<Device, TopologyError> {
        let spec = match attachment {
            Attachment::Tap(spec) => spec.clone(),
            Attachment::Device { ifname, .. } => existing_device(ifname),
            Attachment::ExistingTap(tap) => existing_device(&tap.ifname),
            Attachment::Socket(socket) => existing_device(&socket.path.display().to_string()),
        };
        let name = match &spec.netns {
            PortNetns::New(name) => name.clone(),
            // The namespace has many devices.
            PortNetns::Host => spec.ifname.clone(),
            netns => format!("{netns:?}"),
        };
        self.make(&name, &spec)
    }

    fn remove_port(&mut self, device: DeviceId) -> Result<(), TopologyError> {
        let mut shared = self.shared.lock().unwrap();
        let name = shared.ids.iter().find(|(_, id)| **id == device).map(|(name, _)| name.clone());
        let name = name.unwrap_or_else(|| "a replaced device".to_owned());
        shared.log.push(format!("remove {name}"));
        Ok(())
    }

    fn check_replaceable(&self, _: DeviceId, _: &Attachment) -> Result<(), TopologyError> {
        Ok(())
    }

    fn remove_replaced_port(&mut self, gone: DeviceId, _: DeviceId) -> Result<(), TopologyError> {
        self.remove_port(gone)
    }

    fn check_keepable(&self, _: DeviceId) -> Result<(), TopologyError> {
        Ok(())
    }

    fn remove_port_and_keep_device(&mut self, device: DeviceId) -> Result<(), TopologyError> {
        self.remove_port(device)
    }

    fn check_settings(&mut self) {}

    fn set_carrier(&mut self, device: DeviceId, on: bool) -> Result<(), TopologyError> {
        let mut shared = self.shared.lock().unwrap();
        let name = shared.ids.iter().find(|(_, id)| **id == device).map(|(name, _)| name.clone()).unwrap();
        if shared.carrier_fails || shared.failing_device.as_deref() == Some(&name) {
            return Err(TopologyError::NoSuchDevice);
        }
        shared.log.push(format!("carrier {name} {}", if on { "on" } else { "off" }));
        Ok(())
    }

    fn announce(&mut self, device: DeviceId, addresses: &[IpNet]) {
        let mut shared = self.shared.lock().unwrap();
        shared.announced.push((device, addresses.to_vec()));
    }

    fn route_lookup(&self, _: DeviceId, packet: RoutedPacket) -> Option<RouteLookup> {
        let route = self.shared.lock().unwrap().routes.get(&packet.destination).cloned()?;
        Some(RouteLookup::new(|| Ok(route)))
    }

    fn devices_in(&self, path: &Path) -> Result<Vec<DeviceId>, TopologyError> {
        let there = format!("{:?}", PortNetns::Existing(path.to_owned()));
        Ok(self.shared.lock().unwrap().ids.get(&there).copied().into_iter().collect())
    }

    fn devices_sharing(&self, _netns: &Netns) -> Result<Vec<DeviceId>, TopologyError> {
        Ok(Vec::new())
    }

    fn adopt_port(&mut self, attachment: &Attachment, _handed: HandedOver) -> Result<Device, TopologyError> {
        self.add_port(attachment)
    }

    fn socket_queues(&mut self, _: DeviceId) -> Result<Vec<Queue>, TopologyError> {
        Err(TopologyError::NoSuchDevice)
    }

    fn disconnected(&mut self, _: DeviceId) {}

    fn publish(&mut self, published: Vec<DnatTarget>) -> Result<(), TopologyError> {
        let mut shared = self.shared.lock().unwrap();
        if shared.publish_fails {
            return Err(TopologyError::NoNft);
        }
        shared.published = published;
        Ok(())
    }

    async fn next_change(&mut self) -> NetworkChange {
        match self.changes.recv().await {
            Some(change) => change,
            None => std::future::pending().await,
        }
    }

    /// Reports each device's number as its drops.
    fn queue_dropped(&mut self) -> HashMap<DeviceId, u64> {
        self.shared.lock().unwrap().ids.values().map(|id| (*id, id.0)).collect()
    }

    fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().notices)
    }

    fn teardown(self) -> Vec<TopologyError> {
        let mut shared = self.shared.lock().unwrap();
        shared.log.push("teardown".to_owned());
        if shared.teardown_fails { vec![TopologyError::NoSuchDevice] } else { Vec::new() }
    }
}

/// What the fake network creates for an existing device.
fn existing_device(ifname: &str) -> PortSpec {
    PortSpec {
        netns: PortNetns::New(ifname.to_owned()),
        ifname: ifname.to_owned(),
        mac: Some(Mac([0, 0, 0x5e, 0, 0x53, 0x80])),
        addresses: Vec::new(),
        gateways: Vec::new(),
        mtu: 1500,
        txqueuelen: None,
        offload: true,
        queues: 1,
        accept_ra: true,
        unmanaged: false,
    }
}

/// All matching entries of the forwarding database.
pub(crate) fn fdb_reports(running: &mut Running<FakeNetwork>, filter: &FdbFilter) -> Vec<FdbReport> {
    let (mut entries, mut start) = (Vec::new(), Some(0));
    while let Some(slot) = start {
        let page = running.fdb_page(filter, slot);
        entries.extend(page.entries);
        start = page.next;
    }
    entries
}

/// A configuration with one worker and the poll engine.
pub(crate) fn config(edit: impl FnOnce(&mut Options)) -> Config {
    // The guard is off, because the tests send frames from made-up addresses.
    let mut options = Options {
        workers: Some(1),
        guard: Some(false),
        mac_prefix: Some("02:de:a5:ad".to_owned()),
        ..Options::default()
    };
    edit(&mut options);
    Config::new(options, None).unwrap()
}

/// Starts a switch on a fake network, with its first ports.
pub(crate) async fn running(config: Config) -> (FakeControl, Running<FakeNetwork>) {
    let (fake, network) = FakeControl::new();
    let mut running = Running::on(network, config, (EngineKind::Poll, None)).unwrap();
    running.add_first_ports(|| false).await.unwrap();
    (fake, running)
}
