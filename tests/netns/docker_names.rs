//! Names of Docker's containers are labels of their ports.

use crate::docker::Docker;
use crate::harness::{Shell, wait_until};

impl Docker {
    /// Waits until the names of the containers on a switch are these, sorted.
    #[track_caller]
    fn wait_for_names(&self, switch: &str, expected: &[&str]) {
        let names = || {
            let ports = self.ports(switch);
            let mut names: Vec<_> =
                ports.iter().map(|port| port["labels"]["docker.name"].to_string()).collect();
            names.sort();
            names
        };
        let expected: Vec<String> = expected.iter().map(|name| format!("\"{name}\"")).collect();
        wait_until(&format!("{switch} has the names {expected:?}"), || names() == expected);
    }

    /// Waits until the port of each container on a switch has its name.
    pub fn wait_until_named(&self, switch: &str) {
        wait_until("all ports have names", || {
            self.ports(switch).iter().all(|port| port["labels"]["docker.name"].is_string())
        });
    }
}

#[test]
fn names_of_containers_are_labels_of_their_ports() {
    let mut docker = Docker::start_with("--live-restore");
    for name in ["lan", "wide"] {
        docker.docker(&format!("network create -d uswitch -o com.docker.network.bridge.name={name} {name}"));
    }
    docker.run("c1", "--network lan");
    docker.run("c2", "--network lan");
    docker.wait_for_names("lan", &["c1", "c2"]);
    let id = docker.docker("inspect --format {{.Id}} c1");
    let of_c1 = format!("uswitch port show --name lan --label docker.container={id} --json");
    assert_eq!(docker.host.run(&of_c1).json()[0]["labels"]["docker.name"], "c1");
    docker.docker("rename c2 web");
    docker.wait_for_names("lan", &["c1", "web"]);
    docker.docker("network connect wide c1");
    docker.wait_for_names("wide", &["c1"]);
    docker.docker("restart --time 0 web");
    docker.wait_for_names("lan", &["c1", "web"]);
    // While the plugin does not run.
    drop(docker.plugin.take());
    docker.docker("rename c1 client");
    docker.start_plugin();
    docker.wait_for_names("lan", &["client", "web"]);
    docker.wait_for_names("wide", &["client"]);
    // dockerd that is killed. A container of another driver has no port.
    docker.kill_dockerd();
    docker.start_dockerd("--live-restore");
    docker.run("bridged", "");
    docker.docker("rename web www");
    docker.wait_for_names("lan", &["client", "www"]);
}

/// On a switch of the user, which answers its other containers, too.
#[test]
fn switch_answers_for_names_and_aliases_of_containers() {
    let docker = Docker::start();
    docker.sh("uswitch start --detach --ports 1 --name lab --subnet 10.7.0.0/24 --dns").ok();
    let range = "--subnet 10.7.0.0/24 --gateway 10.7.0.1 --ip-range 10.7.0.128/25";
    docker.docker(&format!("network create -d uswitch {range} -o switch=lab lab"));
    docker.run("web", "--network lab --network-alias www");
    docker.wait_for_names("lab", &["web"]);
    let address = docker.endpoint("web", "lab", "IPAddress");
    for name in ["web", "www", "www.lab"] {
        let found =
            docker.host.run(&format!("uswitch exec --name lab container1 -- getent ahostsv4 {name}")).ok();
        assert!(found.contains(&format!("{address} ")), "{name}: {found}");
    }
    docker.docker("rename web shop");
    docker.wait_for_names("lab", &["shop"]);
    docker.host.run("uswitch exec --name lab container1 -- getent ahostsv4 shop").ok();
    docker.host.run("uswitch exec --name lab container1 -- getent ahostsv4 web").fails();
}
