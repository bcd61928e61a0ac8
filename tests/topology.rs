//! Tests of the topology on a real kernel. Each test runs in a private network and mount namespace, which is the host
//! of its switches. No test changes the machine's devices, routes, settings or `/run`.
//!
//! Needs root: `cargo netns`.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use uswitch::control::log::LogLevel;
use uswitch::control::topology::{
    Attachment, Device, DeviceId, Environment, LedgerHolder, LinkChange, NetworkChange, PortNetns, PortSpec,
    Topology, TopologyError,
};
use uswitch::control::{Choose, Config, EngineChoice, FastPathChoice};
use uswitch::datapath::{BusyPoll, Placement};
use uswitch::switch::VlanSettings;
use uswitch::sys::netns::{self, Netns};
use uswitch::sys::queue::Framing;
use uswitch::wire::Mac;

const GATEWAY: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 1]);
const RUNTIME: &str = "/run/uswitch";

/// Moves this thread into a private host, which ends with the thread.
fn enter_private_host() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).unwrap();
    fs::create_dir(RUNTIME).unwrap();
    ip("link set lo up");
}

/// A runtime on this thread, for the netlink and inotify sockets.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a test in a private host and runtime.
fn in_private_host(test: impl AsyncFnOnce()) {
    enter_private_host();
    runtime().block_on(test());
}

fn environment() -> Environment {
    Environment { runtime: PathBuf::from(RUNTIME), state: None, sandboxed: false }
}

#[allow(clippy::too_many_lines, reason = "a line for each setting")]
fn config(ports: u16) -> Config {
    Config {
        labels: std::collections::BTreeMap::new(),
        devices: Vec::new(),
        sockets: Vec::new(),
        vlans: VlanSettings::default(),
        vlan_gateways: Vec::new(),
        choose: Choose::default(),
        gateways: vec!["172.16.0.1/24".parse().unwrap(), "fd00:172:16::1/64".parse().unwrap()],
        name: "uswitch0".to_owned(),
        ports,
        prefix: "container".to_owned(),
        subnets: vec!["172.16.0.0/24".parse().unwrap(), "fd00:172:16::/64".parse().unwrap()],
        dhcp_lease: None,
        dhcp_hosts: Vec::new(),
        dhcp_ranges: Vec::new(),
        ra: false,
        dns: false,
        domain: "uswitch0".to_owned(),
        publish: Vec::new(),
        nat: false,
        mac_prefix: "02:de:a5:ad".parse().unwrap(),
        internal: false,
        guard: true,
        loop_detection: true,
        hub: false,
        mcast_snooping: true,
        mcast_querier: false,
        stp: None,
        mtu: 1500,
        workers: 2,
        engine: EngineChoice::Auto,
        fast_path: FastPathChoice::Off,
        offload: true,
        placement: Placement::default(),
        busy_poll: BusyPoll::default(),
        ageing_time: Duration::from_secs(300),
        fdb_max: 8192,
        group_fwd_mask: 0,
        txqueuelen: Some(512),
        gso_max_size: None,
        metrics: None,
        log: LogLevel::Off,
        port_settings: BTreeMap::new(),
        mirrors: Vec::new(),
    }
}

fn port(number: u16) -> PortSpec {
    PortSpec {
        netns: PortNetns::New(format!("container{number}")),
        ifname: "eth0".to_owned(),
        mac: None,
        addresses: vec![
            format!("172.16.0.{}/24", number + 1).parse().unwrap(),
            format!("fd00:172:16::{:x}/64", number + 1).parse().unwrap(),
        ],
        gateways: vec!["172.16.0.1".parse().unwrap(), "fd00:172:16::1".parse().unwrap()],
        mtu: 1500,
        txqueuelen: Some(512),
        offload: true,
        queues: 2,
        accept_ra: true,
        unmanaged: false,
    }
}

/// A switch with its host port and this many containers.
fn build(config: &Config) -> Result<(Topology, Vec<Device>), TopologyError> {
    let mut topology = Topology::claim(config, &environment())?;
    let mut devices = vec![topology.add_host_port(config, GATEWAY)?];
    for number in 1..=config.ports {
        devices.push(topology.add_port(&Attachment::Tap(port(number)))?);
    }
    Ok((topology, devices))
}

fn run(program: &str, arguments: &str) -> Result<String, String> {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[track_caller]
fn ip(arguments: &str) -> String {
    run("ip", arguments).unwrap_or_else(|error| panic!("ip {arguments}: {error}"))
}

/// Creates a device that is up and is not a switch's. It gets no link-local address, which would appear later.
fn other_device(name: &str) {
    ip(&format!("link add {name} type veth peer name {name}-peer"));
    for name in [name.to_owned(), format!("{name}-peer")] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode"), "1").unwrap();
        ip(&format!("link set {name} up"));
    }
    wait_until("both ends have a carrier", || ip("link").matches(" state UP ").count() >= 2);
}

/// Everything that a switch can change on its host.
fn host_state() -> Vec<String> {
    let files = |directory| -> String {
        let names = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names.join(" ")
    };
    let sysctl = |path: &str| fs::read_to_string(Path::new("/proc/sys/net").join(path)).unwrap();
    vec![
        ip("-br link"),
        ip("-br address"),
        ip("route show table all"),
        ip("-6 route show table all"),
        files(RUNTIME),
        files("/run/netns"),
        run("nft", "list ruleset").unwrap(),
        sysctl("ipv4/ip_forward"),
        sysctl("ipv6/conf/all/forwarding"),
        run("sysctl", "-a --pattern ^net\\.ipv[46]").unwrap(),
    ]
}

/// Waits until the host is as it was. Tests are threads of one process, so a program that another test starts can
/// briefly inherit this test's queues.
#[track_caller]
fn assert_host_unchanged(before: &[String]) {
    let end = Instant::now() + Duration::from_secs(10);
    while host_state() != before && Instant::now() < end {
        std::thread::yield_now();
    }
    assert_eq!(host_state(), before);
}

/// The next change of a device. Fails after ten seconds.
async fn any_change(topology: &mut Topology) -> (DeviceId, LinkChange) {
    let next = tokio::time::timeout(Duration::from_secs(10), topology.next_change());
    match next.await.expect("a change of a device") {
        NetworkChange::Device(device, change) => (device, change),
        other => panic!("{other:?}"),
    }
}

/// The next change, which is one of this device. Addresses are skipped: the kernel removes some when a device goes
/// down.
async fn change(topology: &mut Topology, device: &Device) -> LinkChange {
    loop {
        match any_change(topology).await {
            (_, LinkChange::Addresses(_)) => {}
            (id, change) => {
                assert_eq!(id, device.id);
                return change;
            }
        }
    }
}

/// Waits for something that the kernel does asynchronously.
#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

fn read(device: &Device) -> Result<usize, Errno> {
    nix::unistd::read(device.queues[0].fd.as_fd(), &mut [0; 2048])
}

/// Reads all frames (the kernel sends some for neighbour discovery), and returns the error that ends it.
fn drain(device: &Device) -> Errno {
    loop {
        if let Err(error) = read(device) {
            return error;
        }
    }
}

#[test]
fn containers_get_configured_addresses_routes_and_mtu() {
    in_private_host(async || {
        let before = host_state();
        let (topology, devices) = build(&config(3)).unwrap();

        assert_eq!(ip("netns").lines().count(), 3);
        let address = ip("-n container2 -br address show eth0");
        assert!(address.contains("172.16.0.3/24") && address.contains("fd00:172:16::3/64"), "{address}");
        wait_until("addresses are usable at once", || !ip("-n container2 address").contains("tentative"));
        assert!(ip("-n container2 route").contains("default via 172.16.0.1 dev eth0"));
        assert!(ip("-n container2 -6 route").contains("default via fd00:172:16::1 dev eth0"));
        assert!(ip("-n container2 link show lo").contains("LOOPBACK,UP"));
        assert!(
            ip("-n container2 link show eth0").contains("mtu 1500")
                && ip("-n container2 link").contains("qlen 512")
        );
        assert!(ip("-n container2 link show eth0").contains(&devices[2].mac.to_string()));
        let accept_ra = ip("netns exec container2 cat /proc/sys/net/ipv6/conf/eth0/accept_ra");
        assert_eq!(accept_ra, "1\n", "the kernel's default");
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv6/conf/uswitch0/accept_ra").unwrap(), "0\n");

        let host = ip("address show uswitch0");
        assert!(host.contains("172.16.0.1/24") && host.contains("fd00:172:16::1/64"), "{host}");
        assert!(host.contains(&GATEWAY.to_string()) && host.contains("UP"), "{host}");
        assert!(
            devices
                .iter()
                .all(|device| device.queues.len() == 2 && device.queues[1].framing == Framing::Vnet)
        );

        drop(devices);
        assert!(topology.teardown().is_empty());
        assert_host_unchanged(&before);
    });
}

#[test]
fn failed_port_leaves_nothing_behind() {
    in_private_host(async || {
        let before = host_state();
        let config = Config { nat: true, ..config(3) };
        let mut topology = Topology::claim(&config, &environment()).unwrap();
        let host = topology.add_host_port(&config, GATEWAY).unwrap();
        let first = topology.add_port(&Attachment::Tap(port(1))).unwrap();
        ip("netns add container2");
        let error = topology.add_port(&Attachment::Tap(port(2))).unwrap_err();
        assert!(error.to_string().contains("network namespace 'container2' exists already"), "{error}");
        // Assigning an address twice fails after the namespace was created.
        let twice = PortSpec { addresses: port(3).addresses.repeat(2), ..port(3) };
        let error = topology.add_port(&Attachment::Tap(twice)).unwrap_err();
        assert!(error.to_string().contains("assign the address 172.16.0.4/24 to eth0"), "{error}");
        assert!(!netns::path("container3").exists());
        let again = topology.add_port(&Attachment::Tap(port(3))).unwrap();

        drop((host, first, again));
        assert!(topology.teardown().is_empty());
        assert!(netns::path("container2").exists(), "it is not ours");
        ip("netns del container2");
        assert_host_unchanged(&before);
    });
}

#[test]
fn conflicts_are_found_before_anything_is_created() {
    in_private_host(async || {
        other_device("taken");
        ip("netns add taken2");
        ip("address add 192.0.2.1/24 dev taken");
        ip("route add 198.51.100.0/24 dev taken");
        let before = host_state();
        let cases = [
            (Config { name: "taken".to_owned(), ..config(1) }, "a device named 'taken' already exists"),
            (Config { prefix: "taken".to_owned(), ..config(3) }, "namespace 'taken2' exists already"),
            (
                Config { subnets: vec!["192.0.2.128/25".parse().unwrap()], ..config(1) },
                "overlaps 192.0.2.1/24",
            ),
            (
                Config { subnets: vec!["198.51.0.0/16".parse().unwrap()], ..config(1) },
                "overlaps 198.51.100.0/24",
            ),
            (Config { ports: 4000, workers: 1 << 20, ..config(1) }, "open files and the limit"),
        ];
        for (config, expected) in cases {
            let error = Topology::claim(&config, &environment()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(host_state(), before, "{expected}");
        }
        // Without a host port nothing overlaps.
        let internal =
            Config { subnets: vec!["192.0.2.128/25".parse().unwrap()], internal: true, ..config(1) };
        assert!(Topology::claim(&internal, &environment()).unwrap().teardown().is_empty());
    });
}

/// Any user who may open the directory can lock it. `ip netns` would wait without limit.
#[test]
fn locked_netns_directory_fails_with_deadline() {
    in_private_host(async || {
        fs::create_dir(netns::DIRECTORY).unwrap();
        let directory = fs::File::open(netns::DIRECTORY).unwrap();
        let lock = Flock::lock(directory, FlockArg::LockExclusive).unwrap();
        let error = Topology::claim(&config(1), &environment()).unwrap_err();
        assert!(error.to_string().contains("/run/netns stays locked"), "{error}");
        drop(lock);
        assert!(Topology::claim(&config(1), &environment()).unwrap().teardown().is_empty());
        let directory = fs::File::open(netns::DIRECTORY).unwrap();
        let _lock = Flock::lock(directory, FlockArg::LockExclusive).unwrap();
        let again = Topology::claim(&config(1), &environment()).unwrap();
        assert!(again.teardown().is_empty(), "the lock is only needed to create the directory");
    });
}

#[test]
fn second_switch_of_same_name_is_refused() {
    in_private_host(async || {
        let before = host_state();
        let (topology, devices) = build(&config(1)).unwrap();
        let error = Topology::claim(&config(1), &environment()).unwrap_err();
        let pid = std::process::id();
        let holder = LedgerHolder::Process(pid);
        assert!(matches!(error, TopologyError::Running { holder: by, .. } if by == holder), "{error}");
        drop(devices);
        assert!(topology.teardown().is_empty());
        assert_host_unchanged(&before);
        assert!(Topology::claim(&config(1), &environment()).unwrap().teardown().is_empty());
    });
}

#[test]
fn reports_link_state_and_mtu_changes() {
    in_private_host(async || {
        let (mut topology, devices) = build(&config(2)).unwrap();
        let (host, one) = (&devices[0], &devices[1]);
        let up = |mtu| LinkChange::State { up: true, carrier: true, mtu };
        ip("-n container1 link set eth0 down");
        assert_eq!(
            change(&mut topology, one).await,
            LinkChange::State { up: false, carrier: true, mtu: 1500 }
        );
        ip("-n container1 link set eth0 up");
        assert_eq!(change(&mut topology, one).await, up(1500));
        ip("-n container1 link set eth0 mtu 9000");
        assert_eq!(change(&mut topology, one).await, up(9000));
        ip("link set uswitch0 mtu 1400");
        assert_eq!(change(&mut topology, host).await, up(1400));
        ip("-n container1 link del eth0");
        assert_eq!(change(&mut topology, one).await, LinkChange::Gone);
        assert_eq!(drain(one), Errno::EBADFD);
        assert!(topology.remove_port(one.id).is_ok());
        assert!(!netns::path("container1").exists());
        drop(devices);
        assert!(topology.teardown().is_empty());
    });
}

/// The number of namespaces that have an nsid in the host's.
fn namespaces() -> usize {
    ip("netns list-id").lines().count()
}

#[test]
fn deleted_netns_is_freed_when_queues_close() {
    in_private_host(async || {
        let (mut topology, mut devices) = build(&config(2)).unwrap();
        assert_eq!(namespaces(), 2);
        ip("netns del container1");
        assert_eq!(change(&mut topology, &devices[1]).await, LinkChange::Gone);
        devices[1].queues.clear();
        wait_until("the namespace is freed", || namespaces() == 1);
        assert_eq!(drain(&devices[2]), Errno::EAGAIN, "the other port still works");
        assert!(topology.remove_port(devices[1].id).is_ok());

        // Another port reuses the nsid and the interface index.
        devices[1] = topology.add_port(&Attachment::Tap(port(1))).unwrap();
        ip("-n container1 link set eth0 down");
        assert_eq!(
            change(&mut topology, &devices[1]).await,
            LinkChange::State { up: false, carrier: true, mtu: 1500 }
        );

        // Another program gives the name to another namespace.
        ip("netns del container2");
        ip("netns add container2");
        assert_eq!(change(&mut topology, &devices[2]).await, LinkChange::Gone);
        topology.remove_port(devices[2].id).unwrap();
        assert!(netns::path("container2").exists(), "it is not ours");
        drop(devices);
        assert!(topology.teardown().is_empty());
    });
}

#[test]
fn removed_port_frees_its_netns_when_queues_close() {
    in_private_host(async || {
        let (mut topology, mut devices) = build(&config(2)).unwrap();
        devices[1].queues.clear();
        topology.remove_port(devices[1].id).unwrap();
        wait_until("the namespace is freed", || namespaces() == 1);
        ip("-n container2 link set eth0 down");
        let down = LinkChange::State { up: false, carrier: true, mtu: 1500 };
        assert_eq!(change(&mut topology, &devices[2]).await, down, "and no change of the removed port");
        drop(devices);
        assert!(topology.teardown().is_empty());
        wait_until("the namespace is freed", || namespaces() == 0);
    });
}

/// The change that says that a device is in the namespace of this path now.
async fn assert_moved(topology: &mut Topology, device: &Device, path: Option<PathBuf>) {
    match change(topology, device).await {
        LinkChange::Netns { netns, .. } => assert_eq!(netns, path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn follows_a_device_to_another_netns() {
    in_private_host(async || {
        let (mut topology, devices) = build(&config(2)).unwrap();
        ip("netns add own");
        let (up, down) = (
            LinkChange::State { up: true, carrier: true, mtu: 1500 },
            LinkChange::State { up: false, carrier: true, mtu: 1500 },
        );
        let one = &devices[1];

        ip("-n container1 link set eth0 name moved1 netns own");
        assert_moved(&mut topology, one, Some(netns::path("own"))).await;
        assert_eq!(change(&mut topology, one).await, LinkChange::Name("moved1".into()));
        assert_eq!(change(&mut topology, one).await, down);
        ip("-n own link set moved1 up");
        assert_eq!(change(&mut topology, one).await, up);
        assert!(topology.devices_in(&netns::path("own")).unwrap().contains(&one.id));

        ip("-n own link set moved1 netns container2");
        assert_moved(&mut topology, one, Some(netns::path("container2"))).await;
        assert_eq!(change(&mut topology, one).await, down);
        // Its first namespace is no longer its own: that one may end.
        ip("netns del container1");
        ip("-n container2 link set moved1 up");
        assert_eq!(change(&mut topology, one).await, up);
        assert_eq!(drain(one), Errno::EAGAIN);

        let host = Netns::current().unwrap();
        host.bind_name("home").unwrap();
        ip("-n container2 link set moved1 netns home");
        match change(&mut topology, one).await {
            LinkChange::Netns { ino, .. } => assert_eq!(ino, host.identity().unwrap().ino),
            other => panic!("{other:?}"),
        }
        assert_eq!(change(&mut topology, one).await, down);
        ip("link del moved1");
        assert_eq!(change(&mut topology, one).await, LinkChange::Gone);
        ip("netns del home");
        drop(devices);
        assert!(topology.teardown().is_empty());
    });
}

#[test]
fn device_that_was_moved_goes_with_its_port() {
    in_private_host(async || {
        let (mut topology, mut devices) = build(&config(3)).unwrap();
        ip("netns add own");
        let in_own = |device: &str| ip("-n own -br link").contains(device);
        ip("-n container2 link set eth0 name moved2 netns own");
        ip("-n container3 link set eth0 name moved3 netns own");
        devices[2].queues.clear();
        topology.remove_port(devices[2].id).unwrap();
        wait_until("a move that was not reported yet makes no difference", || !in_own("moved2"));
        drop(devices);
        assert!(topology.teardown().is_empty());
        wait_until("nor does it at teardown", || !in_own("moved3"));
    });
}

#[test]
fn follows_name_mac_and_addresses_of_a_device() {
    in_private_host(async || {
        let (mut topology, devices) = build(&config(1)).unwrap();
        let one = &devices[1];
        ip("-n container1 link set eth0 address 02:00:5e:00:53:77");
        assert_eq!(change(&mut topology, one).await, LinkChange::Mac(Mac([2, 0, 0x5e, 0, 0x53, 0x77])));
        ip("-n container1 link set eth0 down");
        assert_eq!(
            change(&mut topology, one).await,
            LinkChange::State { up: false, carrier: true, mtu: 1500 }
        );
        ip("-n container1 link set eth0 name lan0");
        assert_eq!(change(&mut topology, one).await, LinkChange::Name("lan0".into()));
        ip("-n container1 address flush dev lan0");
        ip("-n container1 address add 192.0.2.7/24 dev lan0");
        let wanted = LinkChange::Addresses(vec!["192.0.2.7/24".parse().unwrap()]);
        while any_change(&mut topology).await != (one.id, wanted.clone()) {}
        ip("link set uswitch0 address 02:00:5e:00:53:78");
        assert_eq!(
            change(&mut topology, &devices[0]).await,
            LinkChange::Mac(Mac([2, 0, 0x5e, 0, 0x53, 0x78]))
        );
        drop(devices);
        assert!(topology.teardown().is_empty());
    });
}

#[test]
fn attached_port_is_gone_when_its_netns_ends() {
    in_private_host(async || {
        let (mut topology, devices) = build(&config(0)).unwrap();
        // A namespace without a name, which ends with its process.
        let mut process = Command::new("unshare");
        process.args(["--net", "sh", "-c", "echo there; read wait"]);
        let mut process = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let netns = PortNetns::Existing(format!("/proc/{}/ns/net", process.id()).into());
        let attached = topology.add_port(&Attachment::Tap(PortSpec { netns, ..port(7) })).unwrap();
        assert_eq!(drain(&attached), Errno::EAGAIN);
        drop(process.stdin.take());
        process.wait().unwrap();
        assert_eq!(change(&mut topology, &attached).await, LinkChange::Gone);
        wait_until("the device is removed with its namespace", || drain(&attached) == Errno::EBADFD);
        topology.remove_port(attached.id).unwrap();
        drop(devices);
        assert!(topology.teardown().is_empty());
    });
}

/// The namespace `lab` with the device `old`.
fn namespace_with_device_and_default_route() {
    ip("netns add lab");
    ip("-n lab link add old type veth peer name old-peer");
    ip("-n lab link set old-peer up");
    ip("-n lab link set old up");
    ip("-n lab address add 192.0.2.9/24 dev old");
    ip("-n lab route add default via 192.0.2.1");
}

#[test]
fn attaching_keeps_existing_devices_and_routes() {
    in_private_host(async || {
        namespace_with_device_and_default_route();
        let (mut topology, devices) = build(&config(0)).unwrap();
        let path = netns::path("lab");
        let spec = PortSpec { netns: PortNetns::Existing(path.clone()), ifname: "lan".to_owned(), ..port(7) };
        let conflict = PortSpec { ifname: "old".to_owned(), ..spec.clone() };
        let error = topology.add_port(&Attachment::Tap(conflict)).unwrap_err();
        assert!(matches!(error, TopologyError::DeviceExists { .. }), "{error}");
        let missing = PortSpec { netns: PortNetns::Existing("/run/netns/nowhere".into()), ..spec.clone() };
        assert!(
            topology
                .add_port(&Attachment::Tap(missing))
                .unwrap_err()
                .to_string()
                .contains("no network namespace")
        );

        let mut attached = topology.add_port(&Attachment::Tap(spec.clone())).unwrap();
        let routes = ip("-n lab route");
        assert!(
            routes.contains("default via 192.0.2.1") && !routes.contains("default via 172.16"),
            "{routes}"
        );
        assert!(ip("-n lab -6 route").contains("default via fd00:172:16::1 dev lan"));
        assert!(!ip("-n lab link show lo").contains("LOOPBACK,UP"), "lo is not ours");
        let notices = topology.take_notices();
        assert!(
            notices.iter().any(|notice| notice.contains("already has an IPv4 default route")),
            "{notices:?}"
        );
        assert_eq!(attached.netns.as_deref(), Some(path.as_path()));

        ip("-n lab link set lan down");
        assert!(matches!(change(&mut topology, &attached).await, LinkChange::State { up: false, .. }));
        topology.remove_port(attached.id).unwrap();
        attached.queues.clear();
        wait_until("the device is removed with its queues", || !ip("-n lab link").contains("lan"));
        assert!(path.exists(), "the namespace is not ours");
        drop(devices);
        assert!(topology.teardown().is_empty());
    });
}

#[test]
fn nat_is_undone_completely() {
    in_private_host(async || {
        other_device("uplink");
        ip("addr add 203.0.113.1/24 dev uplink");
        let accept_ra = "/proc/sys/net/ipv6/conf/uplink/accept_ra";
        fs::write(accept_ra, "1").unwrap();
        let forwards = |family: &str, device: &str| {
            fs::read_to_string(format!("/proc/sys/net/{family}/conf/{device}/forwarding")).unwrap()
        };
        // The kernel changes this when IPv6 forwarding is enabled for all devices.
        fs::write("/proc/sys/net/ipv6/conf/uplink-peer/forwarding", "1").unwrap();
        run("nft", "add table ip filter").unwrap();
        run("nft", "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
            .unwrap();
        let before = host_state();
        let (mut topology, devices) = build(&Config { nat: true, ..config(1) }).unwrap();
        let notices = topology.take_notices();
        // Kernels before 6.2 add a notice about UDP segmentation offload.
        let of_firewall = notices.iter().filter(|notice| notice.contains("(chain ip filter FORWARD)"));
        assert_eq!(of_firewall.count(), 1, "{notices:?}");
        let rules = run("nft", "list table inet uswitch_uswitch0").unwrap();
        for rule in [
            "ip saddr 172.16.0.0/24 oifname != \"uswitch0\" masquerade",
            "ip6 saddr fd00:172:16::/64 oifname != \"uswitch0\" masquerade",
            "iifname \"uswitch0\" ip saddr != 172.16.0.0/24 drop",
            "iifname \"uswitch0\" ip6 saddr != fd00:172:16::/64 drop",
            "oifname \"uswitch0\" ct state established,related accept",
            "oifname \"uswitch0\" iifname != \"uswitch0\" drop",
        ] {
            assert!(rules.contains(rule), "{rules}");
        }
        let v4 = ["all", "default", "uplink", "uplink-peer", "uswitch0"].map(|it| forwards("ipv4", it));
        assert_eq!(v4, ["0\n", "0\n", "1\n", "0\n", "1\n"], "only where there are addresses");
        let v6 = ["all", "default", "uplink", "uplink-peer"].map(|it| forwards("ipv6", it));
        assert_eq!(v6, ["1\n", "0\n", "0\n", "1\n"], "devices keep their values");
        assert_eq!(fs::read_to_string(accept_ra).unwrap(), "1\n");
        drop(devices);
        assert!(topology.teardown().is_empty());
        assert_eq!(fs::read_to_string(accept_ra).unwrap(), "1\n");
        assert_host_unchanged(&before);
    });
}

/// Starts a process that creates a switch in this thread's host and waits to be killed.
fn switch_in_another_process() -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_creates_a_switch_and_waits", "--nocapture"])
        .env("TOPOLOGY_CHILD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut output = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().contains("switch is ready")), "the child failed");
    child
}

#[test]
#[ignore = "not a test: other tests start and kill it"]
fn child_creates_a_switch_and_waits() {
    if std::env::var_os("TOPOLOGY_CHILD").is_none() {
        return;
    }
    runtime().block_on(async {
        let _switch = build(&Config { nat: true, ..config(3) }).unwrap();
        println!("switch is ready");
        let _ = std::io::stdin().read(&mut [0]);
    });
}

#[test]
fn next_start_cleans_up_after_a_killed_switch() {
    in_private_host(async || {
        let before = host_state();
        let mut child = switch_in_another_process();
        let pid = child.id();
        let error = Topology::claim(&config(3), &environment()).unwrap_err();
        let holder = LedgerHolder::Process(pid);
        assert!(matches!(error, TopologyError::Running { holder: by, .. } if by == holder), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ip("netns").lines().count(), 3, "namespaces outlive a kill");
        // Another program gave the name to another namespace, which is not ours to delete.
        ip("netns del container2");
        ip("netns add container2");
        let mine = netns::look_up("container2").unwrap();

        let other = Config { prefix: "other".to_owned(), ..config(1) };
        let mut topology = Topology::claim(&other, &environment()).unwrap();
        let notices = topology.take_notices();
        assert!(matches!(&notices[..], [notice] if notice.contains("was killed earlier")), "{notices:?}");
        assert_eq!(netns::look_up("container2").unwrap(), mine);
        assert!(!netns::path("container1").exists() && !netns::path("container3").exists());
        assert!(topology.teardown().is_empty());
        ip("netns del container2");
        assert_host_unchanged(&before);
    });
}

#[test]
fn clean_up_removes_state_of_a_killed_switch() {
    in_private_host(async || {
        let before = host_state();
        let mut child = switch_in_another_process();
        assert!(matches!(
            Topology::clean_up_after("uswitch0", &environment()),
            Err(TopologyError::Running { .. })
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        let notice = Topology::clean_up_after("uswitch0", &environment()).unwrap().unwrap();
        assert!(notice.contains("3 namespaces, 1 nftables table"), "{notice}");
        assert_host_unchanged(&before);
        assert_eq!(Topology::clean_up_after("uswitch0", &environment()).unwrap(), None);
    });
}

#[test]
fn failed_start_reports_what_it_cleaned_up() {
    in_private_host(async || {
        other_device("taken");
        ip("address add 192.0.2.1/24 dev taken");
        let mut child = switch_in_another_process();
        child.kill().unwrap();
        child.wait().unwrap();
        let overlapping = Config { subnets: vec!["192.0.2.0/24".parse().unwrap()], ..config(1) };
        let error = Topology::claim(&overlapping, &environment()).unwrap_err().to_string();
        assert!(error.contains("overlaps 192.0.2.1/24") && error.contains("was killed earlier"), "{error}");
    });
}

#[test]
fn clean_up_from_another_netns_names_the_right_one() {
    in_private_host(async || {
        let before = host_state();
        let mut child = switch_in_another_process();
        child.kill().unwrap();
        child.wait().unwrap();
        // A thread enters another namespace with the same `/run`. This thread's namespace is not its process's, so it
        // needs a name.
        Netns::current().unwrap().bind_name("home").unwrap();
        ip("netns add elsewhere");
        let found = netns::in_netns(|thread| {
            thread.enter(&Netns::open(&netns::path("elsewhere")).unwrap()).unwrap();
            Topology::clean_up_after("uswitch0", &environment())
        });
        let error = found.unwrap().unwrap_err().to_string();
        assert!(error.contains("`nsenter --net=/run/netns/home uswitch stop --name uswitch0`"), "{error}");
        let notice = Topology::clean_up_after("uswitch0", &environment()).unwrap().unwrap();
        assert!(notice.contains("3 namespaces, 1 nftables table"), "{notice}");
        ip("netns del elsewhere");
        ip("netns del home");
        assert_host_unchanged(&before);
    });
}

#[test]
fn forwarding_stays_on_while_a_second_switch_needs_it() {
    in_private_host(async || {
        other_device("uplink");
        ip("addr add 203.0.113.1/24 dev uplink");
        let before = host_state();
        let forwarding = || {
            ["ipv4/conf/uplink/forwarding", "ipv6/conf/all/forwarding"]
                .map(|path| fs::read_to_string(Path::new("/proc/sys/net").join(path)).unwrap())
        };
        let (one, devices) = build(&Config { nat: true, ..config(1) }).unwrap();
        let second = Config {
            name: "uswitch1".to_owned(),
            prefix: "other".to_owned(),
            subnets: vec!["172.16.1.0/24".parse().unwrap(), "fd00:172:17::/64".parse().unwrap()],
            nat: true,
            ..config(1)
        };
        let mut two = Topology::claim(&second, &environment()).unwrap();
        let host = two.add_host_port(&second, GATEWAY).unwrap();
        drop(devices);
        assert!(one.teardown().is_empty());
        assert_eq!(forwarding(), ["1\n", "1\n"], "the second still needs it");
        drop(host);
        assert!(two.teardown().is_empty());
        assert_host_unchanged(&before);
    });
}

#[test]
fn named_netns_work_across_mount_namespaces() {
    in_private_host(async || {
        ip("netns add before");
        let (topology, devices) = build(&config(1)).unwrap();
        let link = ip("netns exec container1 ip -br link show eth0");
        assert!(link.contains("eth0"), "{link}");
        ip("netns del before");
        drop(devices);
        assert!(topology.teardown().is_empty());
        assert!(!netns::path("before").exists());
    });
}
