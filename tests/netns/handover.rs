//! `port add --netns` from a switch without root: a container of the same user, in a user namespace of its own.

use crate::harness::{
    AS_USER, Host, HostSnapshot, Process, Shell, host_with_public_tun, run_as_user, v4, v6, wait_until,
};

/// A container that a user started, without uswitch: a process in new user and network namespaces.
struct UserContainer<'a> {
    host: &'a Host,
    process: Process,
    pid: String,
}

impl<'a> UserContainer<'a> {
    /// A container of the user who runs the switch.
    fn start(host: &'a Host) -> UserContainer<'a> {
        UserContainer::start_as(host, AS_USER)
    }

    fn start_as(host: &'a Host, user: &str) -> UserContainer<'a> {
        let script = "'echo pid $$; exec sleep 1000'";
        let mut process =
            host.spawn_sh(&format!("exec {user} unshare --user --map-root-user --net sh -c {script}"));
        let pid = process.line_with("pid ").trim_start_matches("pid ").to_owned();
        UserContainer { host, process, pid }
    }

    /// Runs a command in it.
    fn run(&self, command: &str) -> String {
        let enter = format!("nsenter --target {} --user --net --preserve-credentials", self.pid);
        run_as_user(self.host, &format!("{enter} {command}")).ok()
    }

    fn devices(&self) -> String {
        self.run("ip -o link")
    }

    fn has_device(&self, name: &str) -> bool {
        self.devices().contains(&format!(": {name}: "))
    }
}

fn port(host: &Host, name: &str) -> serde_json::Value {
    let ports = run_as_user(host, "uswitch port show --json").json();
    let found = ports.as_array().and_then(|ports| ports.iter().find(|port| port["ifname"] == name));
    found.unwrap_or_else(|| panic!("no port {name} in {ports}")).clone()
}

fn attaches_and_detaches(start: &str) {
    let host = host_with_public_tun();
    let container = UserContainer::start(&host);
    let before = HostSnapshot::of(&host);
    run_as_user(&host, &format!("uswitch start --detach --ports 2 {start}")).ok();
    let added = run_as_user(&host, &format!("uswitch port add web --netns {}", container.pid));
    assert_eq!(added.stderr.lines().count(), 1, "only the notice about the guard: {added}");
    assert!(added.ok().contains("not visible to this switch"));
    for target in [v4(1), v6(2), "172.16.0.1".to_owned()] {
        container.run(&format!("ping -n -c 2 -i 0.2 -W 5 {target}"));
    }
    for target in [v4(3), v6(3)] {
        run_as_user(&host, &format!("uswitch exec container1 -- ping -n -c 1 -W 5 {target}")).ok();
    }
    run_as_user(&host, &format!("uswitch exec web -- ping -n -c 1 -W 5 {}", v4(2))).ok();
    let said = run_as_user(&host, &format!("uswitch trace web --icmp {}", v4(1))).fails();
    assert!(said.contains("the routes of web are not visible to this switch"), "{said}");
    let mac = port(&host, "container1")["address"].as_str().expect("a text").to_owned();
    let trace = run_as_user(&host, &format!("uswitch trace web --icmp {} --dst {mac}", v4(1))).ok();
    assert!(trace.ends_with("verdict: forwarded to container1\n"), "{trace}");
    let shown = port(&host, "web");
    assert_eq!((&shown["polled"], &shown["operstate"]), (&true.into(), &"UP".into()));
    assert_eq!(shown["netns"], format!("/proc/{}/ns/net", container.pid));
    let inode = container.run("readlink /proc/self/ns/net");
    assert_eq!(inode.trim(), format!("net:[{}]", shown["netns_ino"]));
    let set = run_as_user(&host, "uswitch port set web --down").ok();
    assert!(set.contains("down (set down)") && container.run("ip link show eth0").contains("NO-CARRIER"));
    run_as_user(&host, "uswitch port set web --up").ok();
    container.run(&format!("ping -n -c 1 -W 5 {}", v4(1)));
    run_as_user(&host, "uswitch port del web").ok();
    wait_until("the device is removed", || !container.has_device("eth0"));
    run_as_user(&host, &format!("uswitch port add web --netns {} --ifname eth3", container.pid)).ok();
    container.run(&format!("ping -n -c 1 -W 5 {}", v4(1)));
    run_as_user(&host, "uswitch stop").ok();
    wait_until("the device is removed", || !container.has_device("eth3"));
    before.assert_same(&host);
}

/// Its engine, in the same namespaces, configures the device.
#[test]
fn creates_unmanaged_device_for_an_engine_of_the_same_user() {
    let host = host_with_public_tun();
    let container = UserContainer::start(&host);
    run_as_user(&host, "uswitch start --detach --ports 1").ok();
    let pid = &container.pid;
    run_as_user(&host, &format!("uswitch port add web --unmanaged --netns {pid} --ifname lan0")).ok();
    assert!(container.run("ip -br link show lan0").contains(" DOWN "));
    container.run("ip link set lan0 name eth0");
    container.run("ip address add 172.16.0.50/24 dev eth0");
    container.run("ip link set eth0 up");
    container.run(&format!("ping -n -c 1 -W 5 {}", v4(1)));
    wait_until("the port follows the name", || port(&host, "web")["link"] == "eth0");
    // The default namespace, that of the user's shell, is the machine's.
    let said = run_as_user(&host, "uswitch port add lab --unmanaged").fails();
    assert!(said.contains("belongs to the machine") && said.trim().lines().count() == 1, "{said}");
    run_as_user(&host, "uswitch port del web").ok();
    wait_until("the device is removed", || !container.has_device("eth0"));
}

#[test]
fn attaches_container_of_the_same_user() {
    attaches_and_detaches("");
}

#[test]
fn attaches_container_with_two_workers_without_offload() {
    attaches_and_detaches("--workers 2 --engine poll --no-offload");
}

#[test]
fn kill_removes_the_device_of_an_attached_container() {
    let host = host_with_public_tun();
    let container = UserContainer::start(&host);
    run_as_user(&host, "uswitch start --detach --ports 1").ok();
    run_as_user(&host, &format!("uswitch port add --netns {}", container.pid)).ok();
    assert!(container.has_device("eth0"), "{}", container.devices());
    host.sh("kill -9 $(pgrep -x uswitch)").ok();
    wait_until("the device is removed", || !container.has_device("eth0"));
    run_as_user(&host, "uswitch stop").ok();
}

/// The queue tells the name and the MAC address, and that the device is gone.
#[test]
fn follows_what_a_queue_tells_about_an_attached_container() {
    const MAC: &str = "02:00:5e:00:53:99";
    let host = host_with_public_tun();
    let container = UserContainer::start(&host);
    run_as_user(&host, "uswitch start --detach --ports 1").ok();
    run_as_user(&host, &format!("uswitch port add web --netns {}", container.pid)).ok();
    container.run(&format!("ip link set eth0 address {MAC}"));
    container.run("ip link set eth0 down");
    container.run("ip link set eth0 name wan0");
    container.run("ip link set wan0 up");
    wait_until("the switch shows the new name and MAC", || {
        let port = port(&host, "web");
        port["link"] == "wan0" && port["address"] == MAC
    });
    container.run(&format!("ping -n -c 1 -W 5 {}", v4(1)));
    drop(container.process);
    wait_until("the port is gone", || port(&host, "web")["operstate"] == "NOTPRESENT");
    run_as_user(&host, "uswitch port del web").ok();
    run_as_user(&host, "uswitch stop").ok();
}

#[test]
fn refuses_namespaces_that_are_not_of_this_user() {
    let host = host_with_public_tun();
    let own = UserContainer::start(&host);
    let other = UserContainer::start_as(&host, "setpriv --reuid=65533 --regid=65533 --clear-groups");
    host.run("ip netns add roots").ok();
    run_as_user(&host, "uswitch start --detach --ports 1").ok();
    let add = |arguments: &str| run_as_user(&host, &format!("uswitch port add {arguments}"));
    for (netns, why) in [
        (other.pid.as_str(), "belongs to another user"),
        ("1", "belongs to another user"),
        ("/run/netns/roots", "belongs to the machine"),
        ("roots", "there is no network namespace /run/netns/roots"),
        ("4000000", "there is no network namespace"),
    ] {
        let said = add(&format!("--netns {netns}")).fails();
        assert!(said.contains(why) && said.lines().count() == 1, "{netns}: {said}");
    }
    for (arguments, why) in [
        ("container1", "port container1 exists already"),
        ("--ip 172.16.0.2/24", "is in use by container1"),
        ("--ifname lo", "'lo' exists already"),
    ] {
        let said = add(&format!("{arguments} --netns {}", own.pid)).fails();
        assert!(said.contains(why) && said.lines().count() == 1, "{arguments}: {said}");
    }
    assert!(!own.has_device("eth0"), "{}", own.devices());
    add(&format!("first --netns {}", own.pid)).ok();
    let said = add(&format!("--netns {} --ifname eth1", own.pid)).fails();
    assert!(said.contains("already has the port first"), "{said}");
    add(&format!("second --netns {} --ifname eth1 --shared-netns", own.pid)).ok();
    assert!(own.has_device("eth0") && own.has_device("eth1"), "{}", own.devices());
    run_as_user(&host, "uswitch stop").ok();
}

/// A client that hands over what is not the planned device, in a namespace of its own. `take` is the case.
const CLIENT: &str = r#"
import fcntl, json, os, socket, struct, sys
TAP, NO_PI, VNET, MULTI, TUN = 2, 0x1000, 0x4000, 0x100, 1
def queue(name, flags, header=12, persist=0):
    fd = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', name.encode(), flags))
    if flags & VNET:
        fcntl.ioctl(fd, 0x400454d8, struct.pack('i', header))
    fcntl.ioctl(fd, 0x400454cb, persist)
    return fd
take = {
    'right': lambda: [queue('eth0', TAP | NO_PI | VNET)],
    'none': lambda: [],
    'two': lambda: [queue('eth0', TAP | NO_PI | VNET), os.open('/dev/null', os.O_RDWR)],
    'file': lambda: [os.open('/dev/null', os.O_RDWR)],
    'unattached': lambda: [os.open('/dev/net/tun', os.O_RDWR)],
    'name': lambda: [queue('eth9', TAP | NO_PI | VNET)],
    'tun': lambda: [queue('eth0', TUN | NO_PI | VNET)],
    'flags': lambda: [queue('eth0', TAP | NO_PI)],
    'multi': lambda: [queue('eth0', TAP | NO_PI | VNET | MULTI)],
    'header': lambda: [queue('eth0', TAP | NO_PI | VNET, header=10)],
    'persistent': lambda: [queue('eth0', TAP | NO_PI | VNET, persist=1)],
}[sys.argv[1]]
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ['XDG_RUNTIME_DIR'] + '/uswitch/uswitch0.sock')
s.sendall(b'POST /v1/handover HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: uswitch-handover\r\n\r\n')
assert b' 101 ' in s.recv(4096)
netns = os.open('/proc/self/ns/net', os.O_RDONLY)
asked = {'name': 'web', 'netns': f'/proc/{os.getpid()}/ns/net'}
socket.send_fds(s, [json.dumps(asked).encode() + b'\n'], [netns])
spec = json.loads(s.recv(65536))['Ok']['Tap']
device = {'Tap': {'ifindex': 2, 'mac': spec['mac'], 'mtu': 1500, 'addresses': spec['addresses'], 'offloads': [], 'uso': True, 'notices': []}}
socket.send_fds(s, [json.dumps(device).encode() + b'\n'], take())
answer = json.loads(s.recv(65536))
print(answer['Err']['error'] if 'Err' in answer else 'added ' + answer['Ok']['ifname'])
"#;

#[test]
fn refuses_files_that_are_not_queues_of_the_planned_device() {
    let host = host_with_public_tun();
    std::fs::write(host.path("/run/client.py"), CLIENT).expect("the host's /run can be written");
    run_as_user(&host, "uswitch start --detach --ports 1 --workers 1").ok();
    let open_files = || -> u32 {
        let count = host.sh("ls /proc/$(pgrep -x uswitch)/fd | wc -l").ok();
        count.trim().parse().expect("a number")
    };
    let before = open_files();
    for (case, answer) in [
        ("none", "0 queues were handed over instead of 1"),
        ("two", "2 queues were handed over instead of 1"),
        ("file", "not a queue of a TAP device"),
        ("unattached", "not a queue of a TAP device"),
        ("name", "the wrong device"),
        ("tun", "the wrong kind"),
        ("flags", "the wrong kind"),
        ("multi", "the wrong kind"),
        ("header", "the wrong header size"),
        ("persistent", "the wrong kind"),
        ("right", "added web"),
    ] {
        let client = format!("unshare --user --map-root-user --net /usr/bin/python3 /run/client.py {case}");
        let said = run_as_user(&host, &client).ok();
        assert!(said.contains(answer), "{case}: {said}");
    }
    run_as_user(&host, "uswitch port del web").ok();
    wait_until("the switch has closed all files", || open_files() <= before);
    let plain = "curl -sS -X POST --unix-socket /run/user/65534/uswitch/uswitch0.sock http://x/v1/handover";
    assert!(run_as_user(&host, plain).ok().contains("this path needs `Upgrade: uswitch-handover`"));
    run_as_user(&host, "uswitch stop").ok();
}
