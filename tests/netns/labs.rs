//! Runs the labs in docs/labs and the sessions in README.md, docs/cni.md, docs/podman.md, docs/docker.md and
//! docs/kathara.md as a reader does: it types each command after the previous one has shown the expected output.
//!
//! A `console` block has commands after `# ` (or `$ ` where root is not needed) with their output. An `sh`
//! block is typed as it is and has no output. [`shown`] describes how output is compared with the page.

mod page;
mod shown;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::docker::Docker;
use crate::harness::{AS_USER, Host, HostSnapshot, Process, Shell, host_with_public_tun};
use crate::kathara;
use page::Step;
use shown::MacMapping;

const LABS: &str = "docs/labs";
const BASH: &str = "bash --norc";

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(page: &str) -> String {
    fs::read_to_string(in_project(page)).expect("the page is there")
}

/// Runs a lab as root of a test host.
fn lab(page: &str) {
    lab_in(page, &Host::new(), BASH);
}

/// `shell` as for [`Terminal::on`].
fn lab_in(page: &str, host: &Host, shell: &str) {
    let page = format!("{LABS}/{page}");
    run_page(&page, &read(&page), host, shell);
}

/// Runs the session of README.md.
fn run_readme(host: &Host, shell: &str) {
    run_page("README.md", &page::part(&read("README.md"), "## What you will see"), host, shell);
}

/// Runs a page on a host, and checks that it cleans up.
fn run_page(page: &str, text: &str, host: &Host, shell: &str) {
    let before = (HostSnapshot::of(host), processes(host));
    type_page(page, text, host, shell);
    before.0.assert_same(host);
    assert_eq!(processes(host), before.1, "{page} leaves processes behind");
}

/// Types the commands of a page on a host.
fn type_page(page: &str, text: &str, host: &Host, shell: &str) {
    let mut terminal = Terminal::on(host, shell);
    let mut macs = MacMapping::default();
    for step in page::steps(text) {
        terminal.type_command(&step);
        let seen = terminal.read_output(&step, &macs);
        assert!(
            macs.matches_page(&step.shown, &seen),
            "{page}:{}: `{}` should show\n{}\nbut shows\n{}",
            step.line,
            step.command,
            step.shown.join("\n"),
            seen.join("\n")
        );
    }
    terminal.close();
}

/// Names of the processes, except zombies.
fn processes(host: &Host) -> Vec<String> {
    let all = host.run("ps -e -o stat=,comm= --sort=comm").ok();
    all.lines()
        .filter(|line| !line.starts_with('Z'))
        .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .collect()
}

/// A shell that runs typed commands, in a directory of its own.
struct Terminal {
    keyboard: File,
    shell: Process,
}

impl Terminal {
    const KEYBOARD: &str = "/run/keyboard";
    /// Printed after each command.
    const PROMPT: &str = "-- next --";

    /// The command `shell` starts a bash that reads commands.
    fn on(host: &Host, shell: &str) -> Terminal {
        host.sh(&format!("mkdir -m 777 /run/lab; mkfifo -m 666 {}", Terminal::KEYBOARD)).ok();
        let shell = host.spawn_sh(&format!("cd /run/lab; exec < {}; exec {shell}", Terminal::KEYBOARD));
        // Opened for reading and writing, because opening a FIFO in one direction waits for the other end.
        let keyboard = File::options().read(true).write(true).open(host.path(Terminal::KEYBOARD));
        Terminal { keyboard: keyboard.expect("it was made"), shell }
    }

    fn type_command(&mut self, step: &Step) {
        let typed = format!("{}\necho '{}'\n", step.command, Terminal::PROMPT);
        self.keyboard.write_all(typed.as_bytes()).expect("the shell listens");
    }

    /// Output until the next prompt. For a background command: until all expected output has arrived.
    fn read_output(&mut self, step: &Step, macs: &MacMapping) -> Vec<String> {
        let mut seen = Vec::new();
        let mut prompted = false;
        while !prompted || step.in_background() && !macs.clone().matches_page(&step.shown, &seen) {
            match self.shell.line() {
                Some(line) if line == Terminal::PROMPT => prompted = true,
                Some(line) => seen.push(line),
                None => break,
            }
        }
        seen
    }

    fn close(mut self) {
        self.keyboard.write_all(b"exit\n").expect("the shell listens");
        assert_eq!(self.shell.ok(), "", "unexpected output after the last step");
    }
}

#[test]
fn readme_session_works_as_root() {
    run_readme(&Host::new(), BASH);
}

#[test]
fn readme_session_works_without_root() {
    run_readme(&host_with_public_tun(), &format!("{AS_USER} {BASH}"));
}

#[test]
fn lab_1_one_container() {
    lab("1-one-container.md");
}

#[test]
fn lab_2_switch_learns() {
    lab("2-the-switch-learns.md");
}

#[test]
fn lab_3_internet() {
    lab("3-out-to-the-internet.md");
}

#[test]
fn lab_4_flooding_ageing_attack() {
    lab("4-flooding-ageing-and-an-attack.md");
}

#[test]
fn lab_5_loop() {
    lab("5-a-loop.md");
}

#[test]
fn lab_6_linux_bridge() {
    lab("6-against-the-linux-bridge.md");
}

#[test]
fn lab_7_spanning_tree() {
    lab("7-a-spanning-tree.md");
}

#[test]
fn lab_8_vlans() {
    lab("8-vlans.md");
}

#[test]
fn lab_9_multicast() {
    lab("9-multicast.md");
}

/// What podman needs and a test host does not have: a cgroup file system and a configuration.
pub fn prepare_podman(host: &Host, network_backend: &str) {
    host.sh(&format!(
        "mount -t tmpfs tmpfs /sys/fs/cgroup
         echo '[containers]
         cgroups = \"disabled\"
         [engine]
         cgroup_manager = \"cgroupfs\"
         events_logger = \"file\"
         helper_binaries_dir = [\"/run/helpers\"]
         [network]
         network_backend = \"{network_backend}\"' > /run/containers.conf"
    ))
    .ok();
}

pub const WITH_PODMAN: &str = "env CONTAINERS_CONF=/run/containers.conf";

/// Types a session with podman, which keeps files of its own.
fn type_podman_session(page: &str, heading: &str, host: &Host) {
    let before = host.sh("ip -br link; ls /run/netns").ok();
    let text = page::part(&read(page), heading);
    type_page(page, &text, host, &format!("{WITH_PODMAN} HOME=/run {BASH}"));
    assert_eq!(host.sh("ip -br link; ls /run/netns").ok(), before);
}

#[test]
fn session_with_cni_works() {
    let host = Host::new();
    prepare_podman(&host, "cni");
    host.sh("mkdir -p /etc/cni/net.d; mount -t tmpfs tmpfs /etc/cni/net.d; mount -t tmpfs tmpfs /opt").ok();
    type_podman_session("docs/cni.md", "## A session with podman", &host);
}

/// Podman 4.3 of Debian 12 has no plugins. This netavark knows where they are, and this `podman network create` does
/// what that of podman 6 does.
const WITH_PLUGINS: &str = r#"
mkdir -p /usr/local/libexec /etc/containers/networks /run/helpers
mount -t tmpfs tmpfs /usr/local/libexec
mount -t tmpfs tmpfs /etc/containers/networks
cat > /run/helpers/netavark <<'END'
#!/bin/sh
exec netavark --plugin-directory /usr/local/libexec/netavark "$@"
END
cat > /run/bin/podman <<'END'
#!/bin/sh
[ "$1 $2 $3" = "network create --driver" ] || exec /usr/bin/podman "$@"
id=$(cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/uuid | tr -d '\n-')
jq -n --arg driver "$4" --arg option "$6" --arg name "$7" --arg id "$id" '{
  network: { name: $name, id: $id, driver: $driver, dns_enabled: true, internal: false, ipv6_enabled: false,
    ipam_options: { driver: "host-local" }, options: ($option | split("=") | { (.[0]): .[1] }) },
  used: { interfaces: [], names: {}, subnets: [] },
  options: { subnet_pools: [], default_interface_name: null, check_used_subnets: true } }' |
    /run/helpers/netavark create > "/etc/containers/networks/$7.json" && echo "$7"
END
chmod +x /run/helpers/netavark /run/bin/podman"#;

#[test]
fn session_with_netavark_works() {
    let host = Host::new();
    prepare_podman(&host, "netavark");
    host.sh(WITH_PLUGINS).ok();
    type_podman_session("docs/podman.md", "## A session", &host);
}

/// What a user has on most systems, and a web server on the internet.
const USER_AND_INTERNET: &str = "
echo nobody:100000:65536 > /run/subid
for file in /etc/subuid /etc/subgid; do touch $file; mount --bind /run/subid $file; done
mount --make-shared /
ip netns add internet
ip link add wan type veth peer name eth0 netns internet
ip address add 203.0.113.2/24 dev wan
ip link set wan up
ip route add default via 203.0.113.1
ip -n internet address add 203.0.113.1/24 dev eth0
ip -n internet link set eth0 up
mkdir /run/www
echo hello > /run/www/index.html";

#[test]
fn session_with_podman_works_without_root() {
    let host = host_with_public_tun();
    prepare_podman(&host, "cni");
    host.sh(USER_AND_INTERNET).ok();
    let server = "python3 -u -m http.server --directory /run/www 80";
    let mut server = host.netns("internet").spawn(server);
    server.line_with("Serving HTTP");
    // Until the container has had its line, which it waits for.
    let client = "while true; do echo hello | socat -u STDIN TCP:203.0.113.2:8080 || true; sleep 0.1; done 2>/dev/null";
    let _client = host.netns("internet").spawn_sh(client);
    let text = page::part(&read("docs/podman.md"), "## Without root");
    type_page("docs/podman.md", &text, &host, &format!("{AS_USER} {WITH_PODMAN} {BASH}"));
}

#[test]
fn session_with_docker_works() {
    let docker = Docker::without_plugin("");
    type_session("docs/docker.md", &docker, BASH);
}

/// dockerd keeps files of its own.
fn type_session(page: &str, docker: &Docker, shell: &str) {
    let left = || docker.host.sh("ip -br link; find /var/lib/uswitch -name '*.json' || true").ok();
    let before = left();
    type_page(page, &page::part(&read(page), "## A session"), &docker.host, shell);
    assert_eq!(left(), before);
}

#[test]
fn session_with_kathara_works() {
    let docker = Docker::without_plugin("");
    docker.host.sh(kathara::HOME).ok();
    type_session("docs/kathara.md", &docker, &format!("{} {BASH}", kathara::WITH_HOME));
}

#[test]
fn session_with_docker_compose_works() {
    let docker = Docker::start();
    let before = docker.left();
    let text = page::part(&read("docs/docker.md"), "## Compose");
    type_page("docs/docker.md", &text, &docker.host, BASH);
    assert_eq!(docker.left(), before);
}

/// Lab 3, because it changes the host most.
#[test]
fn lab_works_in_private_namespace() {
    let index = page::part(&read(&format!("{LABS}/README.md")), "## A private namespace");
    let [shell] = &page::steps(&index)[..] else { panic!("one command makes the namespace") };
    let host = Host::new();
    // The namespace has a /run of its own, so the program is placed in another directory of the PATH.
    host.sh("mount -t tmpfs tmpfs /mnt; touch /mnt/uswitch; mount --bind /run/bin/uswitch /mnt/uswitch").ok();
    let shell = shell.command.replace("sudo", "env PATH=/mnt:$PATH");
    lab_in("3-out-to-the-internet.md", &host, &shell);
}

#[test]
fn every_lab_has_a_test() {
    let own = include_str!("labs.rs");
    for entry in fs::read_dir(in_project(LABS)).expect("docs/labs can be listed") {
        let page = entry.expect("docs/labs can be listed").file_name().into_string().expect("a plain name");
        assert!(page == "README.md" || own.contains(&format!("lab(\"{page}\")")), "no test does {page}");
    }
}
