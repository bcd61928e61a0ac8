//! The API and its `bridge -j` compatible JSON, used by other programs.

use crate::harness::{Shell, TestSwitch, Uswitch, on_both, v4, wait_until};

const SOCKET: &str = "/run/uswitch/uswitch0.sock";

on_both!(jq_script_for_bridge_fdb, jq_script_for_bridge_link);

/// A script written for the Linux bridge finds the port of a MAC address.
fn jq_script_for_bridge_fdb<S: TestSwitch>() {
    let s = S::start();
    let [h1, h2, _] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    std::fs::write(s.host().path("/run/fdb.json"), s.fdb_json()).expect("the host's /run can be written");
    for h in [h1, h2] {
        let script = format!(
            "jq -r '.[] | select(.mac == \"{}\" and .master == \"{}\" and (.flags | index(\"self\") | not)
                     and .state != \"permanent\") | .ifname' /run/fdb.json",
            h.mac(),
            S::DEVICE
        );
        assert_eq!(s.host().sh(&script).ok().trim(), h.name());
    }
}

/// A script written for the Linux bridge lists port states.
fn jq_script_for_bridge_link<S: TestSwitch>() {
    let s = S::start();
    let [.., h3] = s.containers();
    let script = |state: &str| {
        format!(
            "jq -r '.[] | select(.master == \"{}\" and .state == \"{state}\" and .mtu == 1500
                     and .learning and .flood and (.hairpin | not)) | .ifname' /run/link.json",
            S::DEVICE
        )
    };
    let ports = |state| {
        std::fs::write(s.host().path("/run/link.json"), s.link_json())
            .expect("the host's /run can be written");
        let found = s.host().sh(&script(state)).ok();
        let mut ports: Vec<String> =
            found.lines().filter(|port| *port != "host").map(str::to_owned).collect();
        ports.sort();
        ports
    };
    assert_eq!(ports("forwarding"), ["container1", "container2", "container3"]);
    h3.run("ip link set eth0 down").ok();
    wait_until("the port is disabled", || ports("disabled") == ["container3"]);
    assert_eq!(ports("forwarding"), ["container1", "container2"]);
}

#[test]
fn curl_reads_the_api() {
    let s = Uswitch::start();
    let get = |path: &str| {
        s.host()
            .run(&format!("curl --silent --show-error --fail --unix-socket {SOCKET} http://localhost{path}"))
    };
    let status = get("/v1/status").json();
    assert_eq!(status["name"], "uswitch0", "{status}");
    let openapi = get("/openapi.json").json();
    assert!(openapi["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{openapi}");
    assert!(openapi["paths"]["/v1/status"]["get"].is_object(), "{openapi}");
    get("/v1/no-such-thing").fails();
}

/// The document as a validator for JSON Schema sees it, with the schema that the OpenAPI Initiative publishes.
#[test]
fn openapi_document_is_valid() {
    let s = Uswitch::start();
    let validator = "
import json, sys
from jsonschema import Draft202012Validator as Validator
schema, document = (json.load(open(path)) for path in sys.argv[1:])
errors = [f'{error.json_path}: {error.message[:200]}' for error in Validator(schema).iter_errors(document)]
for name, part in document['components']['schemas'].items():
    errors += [f'{name}: {error.message}' for error in Validator(Validator.META_SCHEMA).iter_errors(part)]
sys.exit('\\n'.join(errors) or None)
";
    std::fs::write(s.host().path("/run/validate.py"), validator).expect("the host's /run can be written");
    let document =
        format!("curl -sS --unix-socket {SOCKET} http://localhost/openapi.json -o /run/openapi.json");
    s.host().run(&document).ok();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/openapi-3.1.schema.json");
    let validate = |document| format!("/usr/bin/python3 /run/validate.py {schema} {document}");
    s.host().run(&validate("/run/openapi.json")).ok();
    s.host()
        .sh("jq 'del(.paths[].get.responses[\"200\"].description)' /run/openapi.json >/run/invalid.json")
        .ok();
    let errors = s.host().run(&validate("/run/invalid.json")).fails();
    assert!(errors.contains("'description' is a required property"), "{errors}");
}

/// Only root may use the API of root's switch.
#[test]
fn socket_is_private() {
    let s = Uswitch::start();
    assert_eq!(s.host().run(&format!("stat -c %a,%u {SOCKET}")).ok().trim(), "600,0");
    s.host()
        .run(&format!(
            "setpriv --reuid=65534 --regid=65534 --clear-groups curl --silent --unix-socket {SOCKET} http://localhost/v1/status"
        ))
        .fails();
}

/// Entries can be added, listed, used and deleted.
#[test]
fn fdb_add_del_flush() {
    let s = Uswitch::start();
    let host = s.host();
    host.run("uswitch fdb add 00:00:5e:00:53:77 container2").ok();
    let entry = s
        .fdb()
        .into_iter()
        .find(|entry| entry.mac == crate::harness::mac(0x77))
        .expect("the entry was added");
    assert_eq!((entry.ifname.as_str(), entry.state.as_str()), ("container2", "static"));
    host.run("uswitch fdb flush").ok();
    assert!(s.port_of(entry.mac).is_some(), "flush deletes only learned entries");
    host.run("uswitch fdb del 00:00:5e:00:53:77").ok();
    assert_eq!(s.port_of(entry.mac), None);
    host.run("uswitch fdb del 00:00:5e:00:53:77").fails();
    host.run("uswitch fdb add 01:00:5e:00:53:77 container2").fails();
    host.run("uswitch fdb add 00:00:5e:00:53:77 container9").fails();
    let output = host.run("uswitch fdb add 00:00:5e:00:53:77 container2 --vlan 7").fails();
    assert!(output.contains("VLAN 7") && output.trim().lines().count() == 1, "{output}");
}
