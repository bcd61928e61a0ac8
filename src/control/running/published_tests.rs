//! Published ports, on the fake network.

use super::fake::{FakeControl, FakeNetwork, config, running};
use super::*;
use crate::control::Options;
use crate::control::report::{NewPort, PortSettings, PublishedPort};
use crate::control::topology::LinkChange;

fn port(text: &str) -> PublishedPort {
    text.parse().unwrap()
}

fn options(publish: &[&str]) -> impl FnOnce(&mut Options) {
    let publish = publish.iter().map(ToString::to_string).collect();
    move |options: &mut Options| options.publish = publish
}

async fn publishing(publish: &[&str]) -> (FakeControl, Running<FakeNetwork>) {
    running(config(options(publish))).await
}

fn refusal(running: &mut Running<FakeNetwork>, name: &str, text: &str) -> String {
    running.publish(name, &port(text)).unwrap_err().to_string()
}

#[tokio::test]
async fn leads_to_the_addresses_of_the_container() {
    let (fake, mut running) = publishing(&["8080:container1:80", "127.0.0.1:53:container2:53/udp"]).await;
    let first = ["8080:80/tcp > 172.16.0.2 fd00:172:16::2", "127.0.0.1:53:53/udp > 172.16.0.3"];
    assert_eq!(fake.published(), first);
    let added = running.publish("container2", &port("[2001:db8::1]:81:81")).unwrap();
    assert_eq!(added.port.published, [port("127.0.0.1:53:53/udp"), port("[2001:db8::1]:81:81")]);
    assert_eq!(fake.published()[2], "[2001:db8::1]:81:81/tcp > fd00:172:16::3");
    running.unpublish("container2", &port("[2001:db8::1]:81:81")).unwrap();
    assert_eq!(fake.published(), first);
}

#[tokio::test]
async fn refusal_names_the_conflict() {
    let (fake, mut running) = publishing(&["8080-8090:container1:80-90"]).await;
    let before = fake.published();
    for (name, text, words) in [
        ("container2", "8085:80", "port 8085/tcp of the host is published for container1 already"),
        ("container1", "127.0.0.1:8080:80", "port 8080/tcp of the host is published for container1 already"),
        ("container9", "81:80", "no port named container9"),
        ("host", "81:80", "host is the host"),
        ("container1", "81-82:80", "2 ports of the host cannot be forwarded to 1 of the container"),
        ("container1", "[::1]:81:80", "::1 cannot be published"),
        ("container1", "10000-11023:10000-11023", "1035 ports of the host would be published: a switch"),
    ] {
        let error = refusal(&mut running, name, text);
        assert!(error.contains(words), "{text}: {error}");
    }
    let error = running.unpublish("container1", &port("8080:80")).unwrap_err().to_string();
    assert!(error.contains("container1 does not publish 8080:80/tcp"), "{error}");
    assert_eq!(fake.published(), before);
    assert!(running.publish("container2", &port("8080:80/udp")).is_ok());
}

#[tokio::test]
async fn port_of_the_dns_server_cannot_be_published() {
    let (_fake, mut running) = publishing(&[]).await;
    running.config.dns = true;
    for text in ["53:53/udp", "50-60:50-60", "0.0.0.0:53:53", "172.16.0.1:53:53", "[fd00:172:16::1]:53:53"] {
        let error = refusal(&mut running, "container1", text);
        assert!(error.contains("the switch serves DNS at port 53 of its gateway"), "{text}: {error}");
    }
    running.publish("container1", &port("203.0.113.1:53:53")).unwrap();
    running.publish("container1", &port("5353:53")).unwrap();
}

#[tokio::test]
async fn container_needs_an_address_of_the_version() {
    let (_fake, mut running) = publishing(&[]).await;
    let bare = NewPort { name: Some("bare".into()), ip: Some(Vec::new()), ..NewPort::default() };
    running.add_port(bare).unwrap();
    assert!(refusal(&mut running, "bare", "80:80").contains("bare has no address in a subnet"));
    let v4 = NewPort {
        name: Some("v4".into()),
        ip: Some(vec!["172.16.0.77/24".parse().unwrap()]),
        ..NewPort::default()
    };
    running.add_port(v4).unwrap();
    let error = refusal(&mut running, "v4", "[::]:80:80");
    assert!(error.contains("v4 has no IPv6 address") && error.contains("published at ::"), "{error}");
    running.publish("v4", &port("80:80")).unwrap();
}

#[tokio::test]
async fn failure_changes_nothing() {
    let (fake, mut running) = publishing(&["8080:container1:80"]).await;
    let before = fake.published();
    fake.fail_publish(true);
    assert!(running.publish("container2", &port("81:80")).is_err());
    assert!(running.unpublish("container1", &port("8080:80")).is_err());
    fake.fail_publish(false);
    assert_eq!(fake.published(), before);
    let reports = running.port_reports();
    let published = |name: &str| reports.iter().find(|it| it.ifname == name).unwrap().published.clone();
    assert_eq!((published("container1"), published("container2")), (vec![port("8080:80")], Vec::new()));
}

#[tokio::test]
async fn ends_with_its_port() {
    let (fake, mut running) = publishing(&["8080:container1:80", "81:container2:81"]).await;
    running.remove_port("container1").unwrap();
    assert_eq!(fake.published(), ["81:81/tcp > 172.16.0.3 fd00:172:16::3"]);
    assert!(running.publish("container2", &port("8080:80")).is_ok());
}

/// It has the addresses that it was added with, although its device gets them one after the other.
#[tokio::test]
async fn leads_to_addresses_that_a_runtime_has_not_set_yet() {
    let (fake, mut running) = publishing(&[]).await;
    let addresses = ["172.16.0.77/24", "fd00:172:16::77/64"].map(|address| address.parse().unwrap());
    let web = NewPort {
        name: Some("web".into()),
        unmanaged: true,
        ip: Some(addresses.to_vec()),
        ..NewPort::default()
    };
    running.add_port(web).unwrap();
    running.publish("web", &port("8080:80")).unwrap();
    let id = running.port_named("web").unwrap();
    running.link_changed(id, &LinkChange::Addresses(addresses[..1].to_vec()));
    running.follow_addresses();
    assert_eq!(fake.published(), ["8080:80/tcp > 172.16.0.77 fd00:172:16::77"]);
}

/// The rules follow a container whose guard is off, but not to an address of another container, of the gateway, or of a
/// host elsewhere.
#[tokio::test]
async fn follows_addresses_that_are_the_containers_own() {
    let (fake, mut running) = publishing(&["8080:container1:80"]).await;
    let change = |running: &mut Running<FakeNetwork>, addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let id = running.port_named("container1").unwrap();
        running.link_changed(id, &LinkChange::Addresses(addresses));
        assert!(running.published.is_due(), "soon");
        running.follow_addresses();
        fake.published().remove(0)
    };
    assert_eq!(change(&mut running, &["172.16.0.99/24"]), "8080:80/tcp > 172.16.0.99");
    for foreign in ["172.16.0.3/24", "172.16.0.1/24", "8.8.8.8/24", "172.16.0.255/24"] {
        let expected = "8080:80/tcp > 172.16.0.2 fd00:172:16::2";
        assert_eq!(change(&mut running, &[foreign]), expected, "{foreign}");
    }
    assert_eq!(change(&mut running, &["8.8.8.8/24", "172.16.0.98/24"]), "8080:80/tcp > 172.16.0.98");
    let guarded = PortSettings { guard: Some(true), ..PortSettings::default() };
    running.set_port("container1", &guarded).unwrap();
    assert_eq!(
        change(&mut running, &["172.16.0.98/24"]),
        "8080:80/tcp > 172.16.0.2 fd00:172:16::2",
        "the guard lets only its own pass"
    );
}
