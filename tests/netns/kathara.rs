//! The managed plugin of Docker, and the real Kathará on it (`make kathara`).

use serde_json::{Value, json};

use crate::docker::Docker;
use crate::harness::{CommandOutput, Shell, wait_until};

/// A home directory for Kathará's configuration. It asks the password database for it.
pub const HOME: &str = "
mkdir /run/home
sed 's|^\\(root:.*\\):[^:]*:\\([^:]*\\)$|\\1:/run/home:\\2|' /etc/passwd > /run/passwd
mount --bind /run/passwd /etc/passwd";

/// How a shell is started that has this home, also under sudo.
pub const WITH_HOME: &str = "env -u SUDO_UID HOME=/run/home";

/// The programs that Kathará runs in a container, and those of the scenario.
const IMAGE: &str = "
mkdir -p /run/rootfs/tmp /run/rootfs/var/log
for program in /bin/bash /bin/cat /bin/chmod /bin/sed /bin/sleep /bin/tar /bin/touch /bin/umount /bin/ip /bin/ping; do
    cp --parents --dereference $program $(ldd $program | grep -o '/[^ )]*') /run/rootfs
done
tar -C /run/rootfs -c . | docker import --change 'CMD [\"/bin/bash\"]' - box";

/// The managed plugin, with a name and a tag as Kathará needs them.
const PLUGIN: &str = "
uswitch docker-plugin --managed /run/managed
docker plugin create uswitch/uswitch:$(docker version --format '{{.Server.Arch}}') /run/managed
docker plugin enable uswitch/uswitch:$(docker version --format '{{.Server.Arch}}')";

const CONFIGURATION: &str = r#"
mkdir /run/home/.config
echo '{ "network_plugin": "uswitch/uswitch", "image": "box" }' > /run/home/.config/kathara.conf"#;

/// Two hosts with three routers between them, and a host that only listens.
const SCENARIO: &str = r#"
mkdir /run/lab
cd /run/lab
cat > lab.conf << END
pc1[0]="A"
r1[0]="A"
r1[1]="B"
r2[0]="B"
r2[1]="C"
r3[0]="C"
r3[1]="D"
pc2[0]="D/02:00:00:00:00:77"
listener[0]="B"
END
echo 'ip address add 10.0.1.10/24 dev eth0; ip route add default via 10.0.1.1' > pc1.startup
echo 'ip address add 10.0.1.1/24 dev eth0; ip address add 10.0.2.1/24 dev eth1' > r1.startup
echo 'ip route add default via 10.0.2.2' >> r1.startup
echo 'ip address add 10.0.2.2/24 dev eth0; ip address add 10.0.3.2/24 dev eth1' > r2.startup
echo 'ip route add 10.0.1.0/24 via 10.0.2.1; ip route add 10.0.4.0/24 via 10.0.3.3' >> r2.startup
echo 'ip address add 10.0.3.3/24 dev eth0; ip address add 10.0.4.1/24 dev eth1' > r3.startup
echo 'ip route add default via 10.0.3.2' >> r3.startup
echo 'ip address add 10.0.4.10/24 dev eth0; ip route add default via 10.0.4.1' > pc2.startup
touch listener.startup"#;

/// A machine with the managed plugin.
fn with_managed_plugin() -> Docker {
    let mut docker = Docker::without_plugin("");
    docker.start_plugin();
    docker.sh(IMAGE).ok();
    docker.sh(PLUGIN).ok();
    docker
}

/// The driver's name.
fn driver(docker: &Docker) -> String {
    docker.docker("plugin ls --format {{.Name}}")
}

fn kathara(docker: &Docker, command: &str) -> CommandOutput {
    docker.host.run(&format!("{WITH_HOME} kathara {command} -d /run/lab"))
}

/// The containers, networks, switches and devices.
fn left(docker: &Docker) -> String {
    let of_docker = docker.sh("docker ps --all --quiet; docker network ls --quiet").ok();
    of_docker + &docker.left()
}

/// The container of a machine.
fn container(docker: &Docker, machine: &str) -> String {
    docker.docker(&format!("ps --quiet --filter label=name={machine}"))
}

/// The switch of a collision domain.
fn switch(docker: &Docker, link: &str) -> String {
    format!("us-{}", docker.docker(&format!("network ls --quiet --filter label=name={link}")))
}

fn links(docker: &Docker) -> String {
    docker.sh("ip -br link | cut -d' ' -f1").ok()
}

#[test]
fn scenario_of_kathara_runs_unchanged() {
    let docker = with_managed_plugin();
    for script in [HOME, CONFIGURATION, SCENARIO] {
        docker.sh(script).ok();
    }
    let (before, host) = (left(&docker), links(&docker));
    kathara(&docker, "lstart --noterminals").ok();
    let (pc1, pc2) = (container(&docker, "pc1"), container(&docker, "pc2"));
    wait_until("the startup scripts have run", || {
        docker.host.run(&format!("docker exec {pc1} ping -n -c 1 -W 1 10.0.4.10")).succeeded()
    });
    assert_eq!(docker.docker(&format!("exec {pc2} cat /sys/class/net/eth0/address")), "02:00:00:00:00:77");
    assert_eq!(links(&docker), host, "the host is not part of the scenario");
    // A collision domain is a hub: a third machine sees what the others send.
    let domain = switch(&docker, "B");
    let listener =
        docker.host.run(&format!("uswitch port show --name {domain} --label kathara.iface=0 --json"));
    let ports = listener.json();
    assert_eq!(ports.as_array().map(Vec::len), Some(2), "r2 and the listener: {ports}");
    let mut capture = docker.host.spawn(&format!("uswitch capture --name {domain} -c 6 icmp"));
    capture.line_with("capturing on");
    docker.ping(&pc1, "10.0.4.10");
    let frames = capture.ok();
    assert_eq!(frames.matches("Out").count(), 4, "each frame to two machines: {frames}");
    kathara(&docker, "lclean").ok();
    assert_eq!(left(&docker), before);
}

#[test]
fn managed_plugin_can_end_while_containers_run() {
    let docker = with_managed_plugin();
    let driver = driver(&docker);
    docker.docker(&format!("network create -d {driver} --ipam-driver {driver} --subnet 10.7.0.0/24 lan"));
    docker.run("c1", "--network lan");
    docker.run("c2", "--network lan");
    let in_use = docker.refused(&format!("plugin disable {driver}"));
    assert!(in_use.contains("is in use"), "{in_use}");
    docker.docker(&format!("plugin disable --force {driver}"));
    docker.ping("c1", "10.7.0.3");
    docker.docker(&format!("plugin enable {driver}"));
    docker.run("c3", "--network lan");
    docker.ping("c3", "10.7.0.2");
    docker.docker("rm --force c1 c2 c3");
    docker.docker("network rm lan");
    assert!(!docker.left().contains("us-"));
}

#[test]
fn options_of_kathara_name_ports_and_set_mac_addresses() {
    let docker = with_managed_plugin();
    let driver = driver(&docker);
    let create = format!("network create -d {driver} --ipam-driver null -o kathara.link=A");
    docker.docker(&format!("{create} a"));
    docker.docker(&format!("{create} b"));
    let switches = docker.host.run("uswitch ls --json").json();
    let names: Vec<&str> = switches.as_array().unwrap().iter().filter_map(|s| s["name"].as_str()).collect();
    let second = format!("us-{}", docker.docker("network ls --quiet --filter name=^b$"));
    assert_eq!(names, ["A", &second]);
    let run = |name: &str, network: &str, options: &[&str]| {
        let options: Vec<String> =
            options.iter().map(|option| format!(",driver-opt=kathara.{option}")).collect();
        docker.run(name, &format!("--network name={network}{}", options.concat()));
    };
    // The command line of docker changes capitals of options.
    run("c1", "a", &["machine=container", "iface=1", "link=a"]);
    run("c2", "a", &["machine=container", "iface=1", "mac_addr=02:00:00:00:00:77"]);
    let ports = docker.ports("A");
    let port = |name: &str| ports.iter().find(|port| port["ifname"] == name).cloned().unwrap_or_default();
    let first = port("container-eth1");
    assert_eq!(first["address"], "b6:88:c2:19:86:5f", "{first}");
    let labels: Vec<&Value> =
        ["machine", "iface", "link"].iter().map(|key| &first["labels"][format!("kathara.{key}")]).collect();
    assert_eq!(labels, [&json!("container"), &json!("1"), &json!("a")]);
    assert_eq!((&first["hub"], &first["group_fwd_mask"]), (&json!(true), &json!(0xffff)));
    let endpoint = docker.docker("inspect -f {{.NetworkSettings.Networks.a.EndpointID}} c2");
    assert_eq!(port(&endpoint[..12])["address"], "02:00:00:00:00:77", "the name is taken");
    let same = docker.refused(
        "run --network name=a,driver-opt=kathara.machine=container,driver-opt=kathara.iface=1 box true",
    );
    assert!(same.contains("b6:88:c2:19:86:5f is in use by container-eth1"), "{same}");
}
