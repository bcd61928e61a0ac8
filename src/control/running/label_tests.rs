//! Labels of ports and of the switch, on the fake network.

use super::fake::{FakeNetwork, config, running};
use super::*;
use crate::control::Options;
use crate::control::config::{LabelChanges, Labels, label};
use crate::control::report::{NewPort, PortSettings, SwitchSettings};

fn labels(texts: &[&str]) -> Labels {
    texts.iter().map(|text| label(text).unwrap()).collect()
}

fn changes(set: &[&str], removed: &[&str]) -> LabelChanges {
    let set = labels(set).into_iter().map(|(key, value)| (key, Some(value)));
    set.chain(removed.iter().map(|key| ((*key).to_owned(), None))).collect()
}

fn web(texts: &[&str]) -> NewPort {
    NewPort { name: Some("web".into()), labels: labels(texts), ..NewPort::default() }
}

fn of_web(running: &Running<FakeNetwork>) -> Labels {
    running.ports[&running.port_named("web").unwrap()].labels.clone()
}

#[tokio::test]
async fn labels_of_a_request_override_those_of_the_file() {
    let of_file = PortSettings { labels: changes(&["a=file", "b=file"], &[]), ..PortSettings::default() };
    let file = |options: &mut Options| _ = options.port.insert("web".into(), of_file.clone());
    let (_fake, mut running) = running(config(file)).await;
    let added = running.add_port(web(&["a=request", "c=request"])).unwrap().port;
    assert_eq!(added.labels, labels(&["a=request", "b=file", "c=request"]));
}

#[tokio::test]
async fn replaced_port_keeps_its_labels_unless_others_are_given() {
    let (_fake, mut running) = running(config(|_| {})).await;
    running.add_port(web(&["a=1"])).unwrap();
    running.add_port(NewPort { replace: true, ..web(&[]) }).unwrap();
    assert_eq!(of_web(&running), labels(&["a=1"]));
    running.add_port(NewPort { replace: true, ..web(&["b=2"]) }).unwrap();
    assert_eq!(of_web(&running), labels(&["b=2"]));
}

#[tokio::test]
async fn labels_are_changed_all_or_none() {
    let (_fake, mut running) = running(config(|options| options.label = vec!["site=a".into()])).await;
    running.add_port(web(&["a=1", "b=2"])).unwrap();
    let set = |labels| PortSettings { labels, guard: Some(false), ..PortSettings::default() };
    running.set_port("web", &set(changes(&["b=3", "c=4"], &["a"]))).unwrap();
    assert_eq!(of_web(&running), labels(&["b=3", "c=4"]));
    let keys: Vec<String> = (0..31).map(|n| format!("k{n}=")).collect();
    let many: Vec<&str> = keys.iter().map(String::as_str).collect();
    let error = running.set_port("web", &set(changes(&many, &[]))).unwrap_err();
    assert_eq!(error.to_string(), "33 labels are too many: give at most 32");
    let invalid = LabelChanges::from([("a b".to_owned(), Some(String::new()))]);
    assert!(
        running.set_port("web", &set(invalid)).unwrap_err().to_string().contains("'a b=' is not a label")
    );
    assert_eq!(of_web(&running), labels(&["b=3", "c=4"]));
    let error = running.add_port(NewPort { name: None, ..web(&[&many[..], &["x=", "y="]].concat()) });
    assert!(error.unwrap_err().to_string().contains("33 labels"));
    let status = running
        .set_switch(&SwitchSettings { labels: changes(&["rack=7"], &["site"]), ..SwitchSettings::default() });
    assert_eq!(status.unwrap().labels, labels(&["rack=7"]));
    let set = SwitchSettings { labels: changes(&many, &[]), ageing_time: Some(7) };
    assert!(running.set_switch(&SwitchSettings { ageing_time: Some(0), ..set }).is_err());
    assert_eq!(running.status().labels, labels(&["rack=7"]));
}
