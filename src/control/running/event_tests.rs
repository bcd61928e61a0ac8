//! What the brain makes events of, with real workers.

use std::future::poll_fn;
use std::time::Duration;

use super::fake::{FakeControl, FakeNetwork, config, running};
use super::*;
use crate::control::event::{Event, EventFilter, EventType};
use crate::control::report::{NewFdbEntry, NewFdbState, NewPort};
use crate::control::subscription::{Delivery, Subscription};
use crate::datapath::NOTIFICATIONS_PER_PORT;

const STATION: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 1]);

/// A frame of the least length.
fn frame(destination: Mac, source: Mac) -> Vec<u8> {
    [&destination.0[..], &source.0, &[0x88, 0xb5], &[0; 46]].concat()
}

/// Lets the brain run while a test speaks with it.
async fn beside<T>(running: &mut Running<FakeNetwork>, test: impl AsyncFnOnce(Handle) -> T) -> T {
    let (handle, mut commands) = Handle::new();
    tokio::select! {
        end = running.serve(&mut commands, std::future::pending()) => panic!("it ended: {end:?}"),
        outcome = test(handle) => outcome,
    }
}

/// What happens from now on, of these types.
async fn follow(switch: &Handle, types: &[EventType]) -> Subscription<Event> {
    let filter = EventFilter { types: types.into(), last: Some(0), ..EventFilter::default() };
    switch.ask(|reply| Command::FollowEvents(filter, reply)).await.unwrap()
}

async fn next(subscription: &mut Subscription<Event>) -> Event {
    let next =
        tokio::time::timeout(Duration::from_secs(30), poll_fn(|context| subscription.poll_next(context)));
    match next.await {
        Ok(Some(Delivery::Item(event))) => event,
        other => panic!("no event but {other:?}"),
    }
}

/// The ports of an event: where, and the other.
fn ports(event: &Event) -> (&str, &str) {
    (event.ifname.as_deref().unwrap_or("-"), event.other.as_deref().unwrap_or("-"))
}

fn happened(running: &Running<FakeNetwork>) -> Vec<(EventType, String)> {
    let events = running.events.history.events(&EventFilter::default());
    events.into_iter().map(|event| (event.kind, event.ifname.unwrap_or_default())).collect()
}

fn say(fake: &FakeControl, port: &str, frame: &[u8]) {
    fake.peer(port).send(frame).unwrap();
}

#[tokio::test]
async fn emits_learned_moved_and_aged() {
    let (fake, mut running) = running(config(|options| options.ageing_time = Some(4))).await;
    beside(&mut running, async |switch| {
        let mut subscription =
            follow(&switch, &[EventType::Learned, EventType::Moved, EventType::Aged, EventType::Flooded])
                .await;
        say(&fake, "container1", &frame(Mac::BROADCAST, STATION));
        let learned = next(&mut subscription).await;
        assert_eq!(
            (learned.kind, learned.mac, ports(&learned)),
            (EventType::Learned, Some(STATION), ("container1", "-"))
        );
        let unknown = Mac([0x02, 0, 0x5e, 0, 0x53, 9]);
        say(&fake, "container2", &frame(unknown, STATION));
        let moved = next(&mut subscription).await;
        assert_eq!(
            (moved.kind, moved.mac, ports(&moved)),
            (EventType::Moved, Some(STATION), ("container2", "container1"))
        );
        let flooded = next(&mut subscription).await;
        assert_eq!(
            (flooded.kind, flooded.mac, ports(&flooded)),
            (EventType::Flooded, Some(unknown), ("container2", "-"))
        );
        let aged = next(&mut subscription).await;
        assert_eq!(
            (aged.kind, aged.mac, ports(&aged)),
            (EventType::Aged, Some(STATION), ("container2", "-"))
        );
        assert!(learned.time <= moved.time && moved.time < aged.time);
    })
    .await;
}

#[tokio::test]
async fn emits_returned_after_silence() {
    let (fake, mut running) = running(config(|options| options.ageing_time = Some(3))).await;
    beside(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Returned]).await;
        let mut heard = std::pin::pin!(next(&mut subscription));
        // Its silence begins anew with each frame, so each is longer than the last.
        for silence in 1.. {
            say(&fake, "container1", &frame(Mac::BROADCAST, STATION));
            let pause = Duration::from_millis(silence * 300);
            if let Ok(returned) = tokio::time::timeout(pause, &mut heard).await {
                assert_eq!(returned.mac, Some(STATION));
                // More, where the test had to wait for its turn.
                assert!(returned.silent >= Some(1), "{returned:?}");
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn emits_evicted_and_refused_in_a_full_fdb() {
    let (fake, mut running) = running(Config { fdb_max: 2, ..config(|_| {}) }).await;
    let newcomer = Mac([0x02, 0, 0x5e, 0, 0x53, 2]);
    beside(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Learned, EventType::Evicted]).await;
        say(&fake, "container1", &frame(Mac::BROADCAST, STATION));
        assert_eq!(next(&mut subscription).await.kind, EventType::Learned);
        say(&fake, "container2", &frame(Mac::BROADCAST, newcomer));
        let (evicted, learned) = (next(&mut subscription).await, next(&mut subscription).await);
        assert_eq!(
            (evicted.kind, evicted.mac, ports(&evicted)),
            (EventType::Evicted, Some(STATION), ("container1", "container2"))
        );
        assert_eq!((learned.kind, learned.mac), (EventType::Learned, Some(newcomer)));
    })
    .await;
    running.remove_fdb_entry(newcomer, 0).unwrap();
    let entry = crate::control::report::NewFdbEntry {
        mac: newcomer,
        ifname: "container1".into(),
        vlan: None,
        state: crate::control::report::NewFdbState::Static,
    };
    running.add_fdb_entry(&entry).unwrap();
    beside(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Refused]).await;
        say(&fake, "container1", &frame(Mac::BROADCAST, STATION));
        assert_eq!(next(&mut subscription).await.mac, Some(STATION));
    })
    .await;
}

#[tokio::test]
async fn emits_port_events() {
    use EventType::{PortAdded, PortDown, PortGone, PortRemoved, PortUp};
    let (_bench, mut running) = running(config(|options| options.ports = Some(1))).await;
    let id = running.ports.values().find(|port| port.name == "container1").unwrap().device.id;
    let mut link = |change| running.device_changed(id, &change);
    for up in [false, false, true] {
        link(LinkChange::State { up, mtu: 1500 });
    }
    link(LinkChange::State { up: true, mtu: 9000 });
    link(LinkChange::Gone);
    link(LinkChange::Gone);
    running.remove_port("container1").unwrap();
    running.add_port(NewPort::default()).unwrap();
    let told = [PortAdded, PortAdded, PortDown, PortUp, PortGone, PortRemoved, PortAdded];
    let ports = ["host"].into_iter().chain(["container1"; 6]).map(str::to_owned);
    assert_eq!(happened(&running), told.into_iter().zip(ports).collect::<Vec<_>>());
}

#[tokio::test]
async fn groups_drops_by_port_and_reason() {
    const FRAMES: u64 = 300;
    let (fake, mut running) = running(config(|_| {})).await;
    let gateway = running.status().gateway.mac;
    beside(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Dropped]).await;
        for _ in 0..FRAMES {
            say(&fake, "container1", &frame(Mac::BROADCAST, gateway));
        }
        let mut seen = 0;
        let mut events = 0;
        while seen < FRAMES {
            let dropped = next(&mut subscription).await;
            assert_eq!(
                (ports(&dropped).0, dropped.reason.as_deref()),
                ("container1", Some("spoofed_gateway"))
            );
            seen += dropped.count.unwrap();
            events += 1;
        }
        assert_eq!(seen, FRAMES);
        assert!(events <= 3, "{events} events");
    })
    .await;
}

#[tokio::test]
async fn emits_fdb_changes_in_order() {
    let (fake, mut running) = running(config(|_| {})).await;
    beside(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[]).await;
        let asked =
            NewFdbEntry { mac: STATION, ifname: "container2".into(), vlan: None, state: NewFdbState::Static };
        switch.ask(|reply| Command::AddFdb(asked, reply)).await.unwrap().unwrap();
        let added = next(&mut subscription).await;
        assert_eq!(
            (added.kind, added.mac, ports(&added)),
            (EventType::FdbAdded, Some(STATION), ("container2", "-"))
        );
        assert_eq!(added.state, Some(NewFdbState::Static));
        switch.ask(|reply| Command::RemoveFdb(STATION, 0, reply)).await.unwrap().unwrap();
        let removed = next(&mut subscription).await;
        assert_eq!(
            (removed.kind, removed.mac, ports(&removed)),
            (EventType::FdbRemoved, Some(STATION), ("container2", "-"))
        );
        say(&fake, "container1", &frame(Mac::BROADCAST, STATION));
        assert_eq!(next(&mut subscription).await.kind, EventType::Learned);
        for (port, count) in [(Some("container2"), 0), (Some("container1"), 1), (None, 0)] {
            let name = port.map(str::to_owned);
            switch.ask(|reply| Command::FlushFdb(name, reply)).await.unwrap().unwrap();
            let flushed = next(&mut subscription).await;
            assert_eq!(
                (flushed.kind, flushed.ifname.as_deref(), flushed.count),
                (EventType::FdbFlushed, port, Some(count))
            );
        }
        // What is refused has not happened.
        assert!(switch.ask(|reply| Command::RemoveFdb(STATION, 0, reply)).await.unwrap().is_err());
        let gateway = switch.ask(Command::Status).await.unwrap().gateway.mac;
        assert!(switch.ask(|reply| Command::RemoveFdb(gateway, 0, reply)).await.unwrap().is_err());
        switch.ask(|reply| Command::FlushFdb(None, reply)).await.unwrap().unwrap();
        assert_eq!(next(&mut subscription).await.kind, EventType::FdbFlushed);
    })
    .await;
}

/// What a worker has told and nobody has heard yet.
#[tokio::test]
async fn emits_learned_before_flushed() {
    let (fake, mut running) = running(config(|_| {})).await;
    say(&fake, "container1", &frame(Mac::BROADCAST, STATION));
    fake.peer("container2").recv(&mut [0; 100]).unwrap();
    running.flush_fdb(None).unwrap();
    let happened = happened(&running);
    let latest = [(EventType::Learned, "container1".to_owned()), (EventType::FdbFlushed, String::new())];
    assert!(happened.ends_with(&latest), "{happened:?}");
}

/// What a port may not tell is counted, and the others are heard.
#[tokio::test]
async fn bounds_events_per_port_and_counts_lost() {
    const STATIONS: u32 = 3000;
    let (fake, mut running) = running(config(|_| {})).await;
    let told = beside(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Learned]).await;
        for n in 0..STATIONS {
            let [a, b, c, d] = n.to_be_bytes();
            say(&fake, "container1", &frame(Mac::BROADCAST, Mac([6, 0, a, b, c, d])));
            // Its peer holds few frames.
            fake.peer("container2").recv(&mut [0; 100]).unwrap();
        }
        say(&fake, "container2", &frame(Mac::BROADCAST, STATION));
        let (mut learned, mut lost) = (0, 0);
        let mut quiet = false;
        while learned + lost < u64::from(STATIONS) || !quiet {
            let event = next(&mut subscription).await;
            match (event.kind, ports(&event).0) {
                (EventType::Learned, "container1") => learned += 1,
                (EventType::Learned, port) => quiet |= port == "container2" && event.mac == Some(STATION),
                _ => lost += event.count.unwrap(),
            }
        }
        let status = switch.ask(Command::Status).await.unwrap();
        assert_eq!((learned + lost, lost), (STATIONS.into(), status.lost_events));
        learned
    })
    .await;
    assert!(told >= NOTIFICATIONS_PER_PORT.into() && told < u64::from(STATIONS) / 2, "{told} were told");
}

/// With time that passes as soon as nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn sleeps_without_traffic() {
    let (fake, mut running) = running(config(|_| {})).await;
    let until = async |running: &mut Running<FakeNetwork>, goal: fn(&Running<FakeNetwork>) -> bool| {
        let mut looks = 0;
        while !goal(running) {
            tokio::select! {
                () = running.notices.notified() => running.drain_notices(),
                () = running.events.due() => {
                    running.collect_events();
                    looks += 1;
                }
            }
        }
        looks
    };
    let asleep =
        |running: &Running<FakeNetwork>| running.events.compare_at.or(running.events.drain_at).is_none();
    running.events.on_wakeup();
    assert!(until(&mut running, asleep).await <= 4);
    say(&fake, "container1", &frame(Mac::BROADCAST, STATION));
    until(&mut running, |running| happened(running).contains(&(EventType::Learned, "container1".into())))
        .await;
    assert!(until(&mut running, asleep).await <= 6);
}
