//! The JSON of reports.

use super::*;
use crate::wire::Mac;

fn port() -> PortReport {
    PortReport {
        flags: ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"].map(str::to_owned).into(),
        netns: Some("/run/netns/container1".into()),
        netns_ino: Some(4_026_532_000),
        offloads: vec!["tx-checksumming".into()],
        ..PortReport::example(1)
    }
}

/// iproute2 6.1 prints a port like this, up to the fields of uswitch.
#[test]
fn port_has_the_shape_of_bridge_link() {
    let json = serde_json::to_string(&port()).unwrap();
    let (theirs, ours) = json.split_once(",\"hub\"").unwrap();
    assert_eq!(
        theirs,
        r#"{"ifindex":2,"link":"eth0","ifname":"container1","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"#
            .to_owned()
            + r#""mtu":1500,"master":"uswitch0","state":"forwarding","priority":32,"cost":100,"hairpin":false,"#
            + r#""guard":false,"root_block":false,"fastleave":false,"learning":true,"flood":true,"#
            + r#""mcast_flood":true,"bcast_flood":true,"mcast_router":1,"mcast_to_unicast":false,"#
            + r#""neigh_suppress":false,"vlan_tunnel":false,"isolated":false,"locked":false"#
    );
    assert!(ours.contains(r#""addresses":["172.16.0.2/24"]"#), "{ours}");
    assert_eq!(serde_json::from_str::<PortReport>(&json).unwrap(), port());
}

/// iproute2 6.1 prints a static and a learned entry like this.
#[test]
fn entry_has_the_shape_of_bridge_fdb() {
    let mut entry = FdbReport {
        mac: Mac([2, 0, 0, 0, 0, 9]),
        ifname: "container1".into(),
        vlan: None,
        flags: Vec::new(),
        master: "uswitch0".into(),
        state: "static".into(),
        updated: None,
    };
    let json = |entry: &FdbReport| serde_json::to_string(entry).unwrap();
    assert_eq!(
        json(&entry),
        r#"{"mac":"02:00:00:00:00:09","ifname":"container1","flags":[],"master":"uswitch0","state":"static"}"#
    );
    (entry.vlan, entry.state, entry.updated) = (Some(5), String::new(), Some(3));
    assert_eq!(
        json(&entry),
        r#"{"mac":"02:00:00:00:00:09","ifname":"container1","vlan":5,"flags":[],"#.to_owned()
            + r#""master":"uswitch0","state":"","updated":3}"#
    );
}

#[test]
fn rejects_unknown_port_fields() {
    assert!(serde_json::from_str::<NewPort>(r#"{"nmae": "x"}"#).is_err());
    assert_eq!(serde_json::from_str::<NewPort>("{}").unwrap(), NewPort::default());
}
