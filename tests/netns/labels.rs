//! Labels of the switch and its ports.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Host, Shell, TestSwitch, Uswitch};

/// An identifier as container runtimes make them.
const CONTAINER: &str = "66e85261f5f9b6da65b1a6f3edcdbb3d0be19ee10a1843ea434dc58094fb1c32";

fn names(ports: &Value) -> Vec<&str> {
    ports.as_array().expect("a list").iter().filter_map(|port| port["ifname"].as_str()).collect()
}

#[test]
fn labels_are_set_shown_and_selected() {
    let host = Host::new();
    let file = "ports = 1\nlabel = ['site=a', 'rack=7']\n[port.container1.labels]\nrole = 'db'\n";
    fs::write(host.path("/run/lab.toml"), file).expect("the host's /run can be written");
    let s = Uswitch::on(host, "--config /run/lab.toml --label site=b");
    let host = s.host();
    assert_eq!(s.json("status")["labels"], json!({ "site": "b" }), "an option overrides the key");
    assert!(host.run("uswitch status").ok().contains("  labels     site=b\n"));
    host.run("uswitch set --label rack=8 --no-label site").ok();
    assert_eq!(s.json("status")["labels"], json!({ "rack": "8" }));
    assert_eq!(s.row("port show", "container1")["labels"], json!({ "role": "db" }));

    host.run(&format!("uswitch port add web --label container={CONTAINER} --label role=web")).ok();
    let show = |label: &str| s.json(&format!("port show --label {label}"));
    assert_eq!(names(&show("role")), ["container1", "web"]);
    assert_eq!(names(&show(&format!("container={CONTAINER}"))), ["web"]);
    assert_eq!(names(&show("role=none")), [""; 0]);
    let selected = "curl -sS --unix-socket /run/uswitch/uswitch0.sock http://uswitch/v1/ports?label=role=db";
    assert_eq!(names(&host.run(selected).json()), ["container1"]);

    host.run("uswitch port set web --label role=cache --no-label container").ok();
    assert_eq!(s.row("port show", "web")["labels"], json!({ "role": "cache" }));
    assert!(host.run("uswitch port show").ok().contains("web: labels role=cache\n"));
    for (wrong, words) in [
        ("port add lab --label x", "'x' is not a label: write KEY=VALUE"),
        ("port set web --label =x", "'=x' is not a label"),
        ("start --name lan2 --label x", "--label: 'x' is not a label"),
    ] {
        let said = host.run(&format!("uswitch {wrong}")).fails();
        assert!(said.contains(words) && said.trim().lines().count() == 1, "{said}");
    }
}
