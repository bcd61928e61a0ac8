//! Every object that a switch creates belongs to its user, and no other user may open it.

use std::fs;

use crate::harness::{AS_USER, Host, Shell, host_with_public_tun, run_as_user, user_command, wait_until};

const ATTACH: &str = "python3 /run/attach_queue.py";

/// A host on which every user may open `/dev/net/tun`, and on which [`ATTACH`] works.
fn host() -> Host {
    let host = host_with_public_tun();
    fs::write(host.path("/run/attach_queue.py"), include_str!("harness/attach_queue.py"))
        .expect("it can be written");
    host
}

/// Tries to attach a further queue to a device, as a user without capabilities, where `place` runs commands.
#[track_caller]
fn assert_refuses_queue(host: &Host, place: &str, device: &str, queues: &str) {
    let said = host.run(&format!("{place} {AS_USER} {ATTACH} {device} vnet_hdr {queues}")).fails();
    assert!(said.contains("Operation not permitted"), "{device}, {queues}: {said}");
}

/// The owner and the group of a device, as `ip -d link` shows them.
fn owner(host: &Host, place: &str, device: &str) -> (String, String) {
    let link = host.run(&format!("{place} ip -j -d link show {device}")).json();
    let data = &link[0]["linkinfo"]["info_data"];
    (data["user"].to_string(), data["group"].to_string())
}

#[test]
fn other_users_cannot_attach_to_a_device() {
    for (workers, queues) in [(1, ""), (2, "multi_queue")] {
        let host = host();
        host.run(&format!("uswitch start --detach --ports 1 --fast-path off --workers {workers}")).ok();
        host.sh("ip netns add lab; uswitch port add lab --netns lab").ok();
        let devices = [("", "uswitch0"), ("ip netns exec container1", "eth0"), ("ip netns exec lab", "eth0")];
        for (place, device) in devices {
            assert_refuses_queue(&host, place, device, queues);
            let of_root = (r#""root""#.to_owned(), r#""root""#.to_owned());
            assert_eq!(owner(&host, place, device), of_root, "{place} {device}");
        }
        // The devices of our own namespaces outlive a killed switch.
        let pid = host.run("pidof uswitch").ok();
        host.run(&format!("kill -KILL {}", pid.trim())).ok();
        wait_until("the host port's device is gone", || !host.run("ip link show uswitch0").succeeded());
        assert_refuses_queue(&host, "ip netns exec container1", "eth0", queues);
        host.run("uswitch stop").ok();
    }
}

/// Waits until an event says that this was changed at container1.
fn wait_for_change(host: &Host, change: &str) {
    wait_until(&format!("an event says '{change}'"), || {
        // The settings are checked while there is traffic.
        host.run("ip netns exec container2 ping -n -c 1 -W 1 172.16.0.2");
        host.run("uswitch events --port container1 --type port_changed").ok().contains(change)
    });
}

/// Root of a container can change its device for all who have a queue of it.
#[test]
fn changed_settings_of_a_device_are_restored_or_shown() {
    let host = host();
    host.run("uswitch start --detach --ports 2 --workers 2 --fast-path off").ok();
    let in_container = format!("ip netns exec container1 {ATTACH} eth0 multi_queue");
    let reaches = || host.run("ip netns exec container2 ping -n -c 3 -i 0.2 -W 1 172.16.0.2").succeeded();
    for (settings, restored) in [
        ("vnet_hdr header=64", "restored: virtio-net header size"),
        ("vnet_hdr persist=0", "restored: persistence"),
        ("vnet_hdr owner=65534", "restored: owner"),
        ("vnet_hdr group=65534", "restored: owner"),
    ] {
        host.run(&format!("{in_container} {settings}")).ok();
        wait_for_change(&host, restored);
        wait_until("frames pass again", reaches);
        let owner = || owner(&host, "ip netns exec container1", "eth0");
        wait_until("root is the owner", || owner().0 == r#""root""# && owner().1 == r#""root""#);
    }
    host.run(&format!("{in_container} vnet_hdr carrier=0")).ok();
    let port = || host.run("uswitch port show").ok();
    wait_until("the port is down", || port().contains("container1  down"));
    host.run(&format!("{in_container} vnet_hdr carrier=1")).ok();
    wait_until("frames pass again", reaches);
    let features = || host.run("ip netns exec container1 ethtool -k eth0").ok();
    let segments = || features().contains("tcp-segmentation-offload: on");
    assert!(segments());
    let mut other = host.spawn(&format!("{in_container} vnet_hdr offload=0 wait"));
    other.line_with("attached");
    let fault = "container1: queues of other processes receive part of its frames: 1";
    // The queues are counted while there is traffic.
    wait_until("the port shows the queue", || {
        reaches();
        port().contains(fault)
    });
    drop(other);
    wait_until("the port shows no queue any more", || {
        reaches();
        !port().contains("queues of other processes")
    });
    wait_until("frames pass again", reaches);
    wait_until("the offloads are enabled again", segments);
    host.run("uswitch stop").ok();
}

#[test]
fn devices_belong_to_the_user_without_root() {
    let host = host();
    run_as_user(&host, "uswitch start --detach --ports 1 --workers 2").ok();
    for port in ["host", "container1"] {
        let device = if port == "host" { "uswitch0" } else { "eth0" };
        let link = run_as_user(&host, &format!("uswitch exec {port} -- ip -j -d link show {device}")).json();
        let data = &link[0]["linkinfo"]["info_data"];
        assert_eq!(
            (&data["user"], &data["group"]),
            (&"root".into(), &"root".into()),
            "of the sandbox: {data}"
        );
    }
    run_as_user(&host, "uswitch stop").ok();
}

/// Files, directories and sockets below `/run` and the current directory that others may open. Names of namespaces
/// are left out: entering one needs `CAP_SYS_ADMIN`, and `ip netns` shows the directory to all.
fn open_to_others(host: &Host) -> String {
    host.sh("find /run -path /run/netns -prune -o -path /run/user -prune -o ! -type l -perm /077 ! -path /run -print; \
         find /run/user/65534 -perm /077 -print")
        .ok()
}

#[test]
fn files_and_sockets_are_private() {
    let host = host();
    let before = open_to_others(&host);
    host.run("uswitch start --detach --ports 2 -vv").ok();
    run_as_user(&host, "uswitch start --detach --ports 1 --name other -vv").ok();
    let mut captures = [
        host.spawn("uswitch capture -c 2 -w /run/frames.pcapng icmp"),
        host.spawn(&user_command("uswitch capture -c 2 -w /run/user/65534/frames.pcapng --name other icmp")),
    ];
    captures.iter_mut().for_each(|capture| _ = capture.line_with("capturing on"));
    host.run("uswitch exec container1 -- ping -n -c 1 -W 5 172.16.0.1").ok();
    run_as_user(&host, "uswitch exec --name other container1 -- ping -n -c 1 -W 5 172.16.0.1").ok();
    captures.into_iter().for_each(|capture| _ = capture.ok());
    let made = host.sh("find /run/uswitch /run/*.pcapng /run/user/65534 ! -type d").ok();
    for kind in ["uswitch0.sock", "uswitch0.ledger", "uswitch0.log", "/run/frames.pcapng", "other.sock"] {
        assert!(made.contains(kind), "no {kind} in {made}");
    }
    assert_eq!(open_to_others(&host), before);
    let names = host.sh("stat -c '%U %G %a' /run/netns /run/netns/container1").ok();
    assert_eq!(names, "root root 755\nroot root 444\n");
    run_as_user(&host, "uswitch stop other").ok();
    host.run("uswitch stop").ok();
}
