//! The ranges and defaults of the options.

use std::path::Path;

use super::subnets::default_subnets;
use super::*;
use crate::control::report::{AdminState, SocketType};
use crate::switch::MirrorDirection;

fn config(edit: impl FnOnce(&mut Options)) -> Result<Config, String> {
    let mut options = Options::default();
    edit(&mut options);
    Config::new(options, None).map_err(|error| error.to_string())
}

fn refusal(edit: impl FnOnce(&mut Options)) -> String {
    config(edit).unwrap_err()
}

fn subnets_of(subnets: &[&str], ports: u64) -> Result<Config, String> {
    config(|options| {
        options.subnet = subnets.iter().map(ToString::to_string).collect();
        options.ports = Some(ports);
    })
}

#[test]
fn defaults() {
    let config = config(|_| {}).unwrap();
    assert_eq!((config.name.as_str(), config.ports, config.prefix.as_str()), ("uswitch0", 2, "container"));
    assert_eq!(config.subnets, default_subnets(2));
    assert_eq!((config.mtu, config.fdb_max, config.txqueuelen), (1500, 8192, None));
    assert_eq!(config.ageing_time, Duration::from_secs(300));
    assert!(config.offload && !config.nat && !config.internal);
    assert_eq!(config.container(2), "container2");
    let gateways: Vec<_> = config.gateways().map(|gateway| gateway.to_string()).collect();
    assert_eq!(gateways, ["172.16.0.1", "fd00:172:16::1"]);
}

#[test]
fn checks_settings_of_ports() {
    let of_file = |text: &str| {
        let file = OptionsFile::parse(Path::new("lab.toml"), text).map_err(|error| error.to_string())?;
        Config::new(Options::default(), Some(file)).map_err(|error| error.to_string())
    };
    let config = of_file("ports = 3\n[port.container2]\nguard = false\nadmin-state = 'down'\n").unwrap();
    let expected =
        PortSettings { guard: Some(false), admin_state: Some(AdminState::Down), ..PortSettings::default() };
    assert_eq!(config.port_settings, BTreeMap::from([("container2".to_owned(), expected)]));
    let error = of_file("ports = 3\n[port.host]\nguard = true\n").unwrap_err();
    assert!(error.starts_with("lab.toml:2: port: host: the host port has no guard"), "{error}");
    let error = of_file("[port.container1]\nfdb-max-learned = 1048577\n").unwrap_err();
    assert!(error.contains("container1: 1048577 is out of range: choose 0 to 1048576"), "{error}");
    let error = of_file("[port.'a b']\nguard = true\n").unwrap_err();
    assert!(error.starts_with("lab.toml:1: port: a b: 'a b' cannot name a container"), "{error}");
    let error = of_file("[port.container1]\nadmin-stat = 'down'\n").unwrap_err();
    assert!(
        error.starts_with("lab.toml:2: 'admin-stat' is not an option, did you mean 'admin-state'?"),
        "{error}"
    );
    let error = of_file("[port.container1]\nadmin-state = 'off'\n").unwrap_err();
    assert!(error.starts_with("lab.toml:2: admin-state: 'off' is not one of up, down"), "{error}");
}

#[test]
fn checks_mirrors() {
    let of_file = |text: &str| {
        let file = OptionsFile::parse(Path::new("lab.toml"), text).map_err(|error| error.to_string())?;
        Config::new(Options::default(), Some(file)).map_err(|error| error.to_string())
    };
    let mirror = |rest: &str| of_file(&format!("ports = 3\n[[mirror]]\nto = 'container3'\n{rest}\n"));
    let config = mirror("from = ['container1', 'host']\ndirection = 'tx'\nsnaplen = 14").unwrap();
    let expected = NewMirror {
        to: "container3".to_owned(),
        from: vec!["container1".to_owned(), "host".to_owned()],
        direction: MirrorDirection::Tx,
        vlan: Vec::new(),
        snaplen: Some(14),
    };
    assert_eq!(config.mirrors, [expected]);
    for (rest, words) in [
        ("snaplen = 13", "lab.toml:2: mirror: to container3: 13 is out of range: choose 14 to 65535"),
        ("snaplen = 65536", "65536 is out of range"),
        ("vlan = ['10-20', 30]", "VLANs need vlan-filtering"),
        ("from = ['a b']", "'a b' cannot name a container"),
        ("direction = 'up'", "'up' is not one of rx, tx, both"),
        ("form = ['container1']", "did you mean 'from'?"),
    ] {
        let error = mirror(rest).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn sockets_have_options() {
    let sockets = |typed: &[&str]| config(|o| o.socket = typed.iter().map(ToString::to_string).collect());
    let parsed = sockets(&["/run/vm1.sock,type=stream,listen", "/run/vm1,name=peer"]).unwrap().sockets;
    let [vm1, peer] = &parsed[..] else { panic!("{parsed:?}") };
    assert_eq!((vm1.port.as_str(), vm1.socket.kind, vm1.socket.listen), ("vm1", SocketType::Stream, true));
    assert_eq!(
        (peer.port.as_str(), peer.socket.kind, peer.socket.listen),
        ("peer", SocketType::Seqpacket, false)
    );
    assert_eq!(peer.socket.path, Path::new("/run/vm1"));
    for (typed, words) in [
        (&["run/vm1.sock"][..], "'run/vm1.sock' is not an absolute path"),
        (&[""], "'' is not an absolute path"),
        (&["/run/vm1.sock,connect"], "'connect' is not an option of a socket: write PATH, and then ,listen"),
        (&["/run/vm1.sock,"], "'' is not an option of a socket"),
        (
            &["/run/vm1.sock,type=raw"],
            "'raw' is not a type of socket: choose one of seqpacket, stream, dgram",
        ),
        (&["/run/vm1.sock,type=dgram"], "needs 'remote'"),
        (&["/run/vm1.sock,type=dgram,remote=vm2"], "'vm2' is not an absolute path"),
        (&["/run/vm1.sock,type=dgram,remote=/run/vm1.sock"], "the path of the socket itself"),
        (&["/run/vm1.sock,type=dgram,remote=/run/vm2,listen"], "'listen' is for sockets of type seqpacket"),
        (&["/run/vm1.sock,type=stream,remote=/run/vm2"], "'remote' is for sockets of type dgram only"),
        (&["/run/vm1.sock,name=a b"], "'a b' cannot name a container"),
        (&["/run/.hidden"], "/run/.hidden has no name that a port can have"),
        (&["/run/vm1.sock", "/run/vm1.sock,name=vm2"], "the socket /run/vm1.sock is given twice"),
        (&["/run/a/vm1.sock", "/run/b/vm1.sock"], "two ports would have the name 'vm1'"),
    ] {
        let error = sockets(typed).unwrap_err();
        assert!(error.starts_with("--socket: ") && error.contains(words), "{error}");
    }
    let both = refusal(|o| {
        o.device = vec!["lan".into()];
        o.socket = vec!["/run/lan.sock".into()];
    });
    assert!(both.contains("two ports would have the name 'lan'"), "{both}");
}

#[test]
fn default_workers_by_cpu_count() {
    let by_cpus = [1, 2, 3, 4, 6, 8, 64].map(default_workers);
    assert_eq!(by_cpus, [1, 1, 1, 2, 3, 4, 4]);
}

#[test]
fn busy_polls_adaptively_with_more_than_one_cpu() {
    let (never, adaptive) = (BusyPoll::For(Duration::ZERO), BusyPoll::Adaptive);
    assert_eq!([1, 2, 64].map(|cpus| busy_poll(None, cpus).unwrap()), [never, adaptive, adaptive]);
    assert_eq!(busy_poll(Some(0), 2).unwrap(), never);
    assert_eq!(busy_poll(Some(70), 1).unwrap(), BusyPoll::For(Duration::from_micros(70)));
}

#[test]
fn rejects_invalid_names() {
    for name in ["", "a/b", "a b", "0123456789abcdef", "-x", ".", "..", "a:b", "é", "a\n"] {
        assert!(refusal(|o| o.name = Some(name.into())).starts_with("--name: "), "{name}");
    }
    assert!(config(|o| o.name = Some("0123456789.b_c-".into())).is_ok());
    assert!(refusal(|o| o.prefix = Some("x".repeat(60))).starts_with("--prefix: "));
    assert!(refusal(|o| o.prefix = Some("a/".into())).starts_with("--prefix: "));
    assert!(refusal(|o| o.prefix = Some(String::new())).starts_with("--prefix: '' cannot name"));
    assert!(refusal(|o| o.prefix = Some("-".into())).starts_with("--prefix: '-' cannot name"));
    assert!(container_name("host").is_err() && container_name("host1").is_ok());
}

#[test]
fn rejects_values_out_of_range() {
    assert_eq!(refusal(|o| o.ports = Some(4096)), "--ports: 4096 is out of range: choose 0 to 4095");
    assert_eq!(refusal(|o| o.workers = Some(0)), "--workers: 0 is out of range: choose 1 to 64");
    assert!(refusal(|o| o.workers = Some(65)).starts_with("--workers: "));
    assert!(refusal(|o| o.cpus = Some("x".into())).starts_with("--cpus: 'x' is not a list of CPUs: "));
    assert!(refusal(|o| o.cpus = Some("1023".into())).starts_with("--cpus: CPU 1023 is not available"));
    assert!(refusal(|o| o.busy_poll = Some(1_000_001)).starts_with("--busy-poll: "));
    assert!(refusal(|o| o.ageing_time = Some(0)).starts_with("--ageing-time: "));
    assert!(refusal(|o| o.fdb_max = Some(15)).starts_with("--fdb-max: "));
    assert!(refusal(|o| o.fdb_max = Some((1 << 20) + 1)).starts_with("--fdb-max: "));
    assert_eq!(config(|o| o.fdb_max = Some(1 << 20)).unwrap().fdb_max, 1 << 20);
    assert!(refusal(|o| o.txqueuelen = Some(0)).starts_with("--txqueuelen: "));
    assert!(refusal(|o| o.ports = Some(u64::MAX)).starts_with("--ports: "));
}

#[test]
fn mtu_range_depends_on_ipv6() {
    assert_eq!(
        refusal(|o| o.mtu = Some(65522)),
        "--mtu: 65522 is out of range: choose 1280 to 65521 (the kernel's maximum for a TAP device)"
    );
    assert!(refusal(|o| o.mtu = Some(1279)).contains("IPv6"));
    let v4 = |mtu| {
        config(|o| {
            o.subnet = vec!["10.0.0.0/24".into()];
            o.mtu = Some(mtu);
        })
    };
    assert!(v4(68).is_ok() && v4(65521).is_ok());
    assert!(v4(67).unwrap_err().contains("IPv4"));
}

#[test]
fn small_subnet_error_suggests_one_that_fits() {
    assert_eq!(
        subnets_of(&["10.0.0.0/30"], 3).unwrap_err(),
        "--subnet: 10.0.0.0/30 has 1 address besides the gateway's, for 3 containers: \
         use 10.0.0.0/29, or create fewer"
    );
    assert!(subnets_of(&["10.0.0.0/29"], 3).is_ok());
    assert!(subnets_of(&["10.0.0.0/31"], 1).is_ok() && subnets_of(&["10.0.0.0/32"], 0).is_ok());
    assert!(subnets_of(&["10.0.0.0/32", "fd00::/64"], 1).is_err());
}

#[test]
fn default_subnet_grows_with_ports() {
    let thousand = config(|o| o.ports = Some(1000)).unwrap();
    assert_eq!(thousand.subnets[0].to_string(), "172.16.0.0/22");
    assert_eq!(config(|o| o.ports = Some(4095)).unwrap().subnets[0].to_string(), "172.16.0.0/19");
}

#[test]
fn rejects_invalid_subnets() {
    assert!(subnets_of(&["10.0.0.0/33"], 1).unwrap_err().contains("is not a subnet"));
    assert!(subnets_of(&["10.0.0.0"], 1).unwrap_err().contains("is not a subnet"));
    assert_eq!(
        subnets_of(&["10.0.0.5/24"], 1).unwrap_err(),
        "--subnet: 10.0.0.5/24 is an address: write its subnet, 10.0.0.0/24"
    );
    for special in
        ["127.0.0.0/8", "224.0.0.0/8", "0.0.0.0/0", "fe80::/64", "ff02::/64", "::/0", "240.0.0.0/24"]
    {
        assert!(
            subnets_of(&[special], 1).unwrap_err().contains("has addresses that hosts cannot have"),
            "{special}"
        );
    }
    for pair in [["10.0.0.0/24", "10.0.0.0/24"], ["10.0.0.0/16", "10.0.5.0/24"], ["fd00::/64", "fd00::/48"]] {
        assert!(subnets_of(&pair, 1).unwrap_err().contains("overlap"), "{pair:?}");
    }
    assert!(subnets_of(&["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"], 1).is_ok());
    let many: Vec<String> = (0..17).map(|n| format!("10.{n}.0.0/24")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(subnets_of(&many, 1).unwrap_err().contains("at most 16"));
}

#[test]
fn rejects_metrics_address_off_loopback() {
    let on = |address: &str| config(|o| o.metrics = Some(address.into()));
    assert_eq!(on("127.0.0.1:9477").unwrap().metrics, "127.0.0.1:9477".parse().ok());
    assert!(on("[::1]:9477").is_ok() && on("127.9.9.9:1").is_ok());
    for address in ["0.0.0.0:9477", "[::]:9477", "192.0.2.1:9477", "127.0.0.1", "9477", "127.0.0.1:0", ""] {
        let refused = on(address).unwrap_err();
        assert!(refused.starts_with("--metrics: ") && refused.contains("127.0.0.1:9477"), "{refused}");
    }
}

#[test]
fn rejects_invalid_mac_prefix() {
    assert!(config(|_| {}).unwrap().choose.mac_prefix);
    let given = config(|o| o.mac_prefix = Some("02:DE:a5:ad".into())).unwrap();
    assert_eq!((given.mac_prefix.to_string().as_str(), given.choose.mac_prefix), ("02:de:a5:ad", false));
    let refused = refusal(|o| o.mac_prefix = Some("01:de:a5:ad".into()));
    assert!(refused.starts_with("--mac-prefix: '01:de:a5:ad' is not a prefix"), "{refused}");
}

#[test]
fn rejects_nat_with_internal() {
    let both = refusal(|o| (o.nat, o.internal) = (Some(true), Some(true)));
    assert!(both.starts_with("--nat: "), "{both}");
    assert!(config(|o| (o.nat, o.internal) = (Some(false), Some(true))).is_ok());
}

#[test]
fn invalid_value_error_names_its_source() {
    let file = || OptionsFile::parse(Path::new("lab.toml"), "# a lab\nmtu = 3\n").unwrap();
    let error = Config::new(Options::default(), Some(file())).unwrap_err().to_string();
    assert!(error.starts_with("lab.toml:2: mtu: 3 is out of range"), "{error}");
    let flags = Options { mtu: Some(4), ..Options::default() };
    let error = Config::new(flags, Some(file())).unwrap_err().to_string();
    assert!(error.starts_with("--mtu: 4 is out of range"), "{error}");
    let flags = Options { mtu: Some(9000), ..Options::default() };
    assert_eq!(Config::new(flags, Some(file())).unwrap().mtu, 9000);
}
