//! Tests of events, with real workers on the fake network.

use std::future::poll_fn;
use std::time::Duration;

use super::fake::{FakeControl, FakeNetwork, config, running};
use super::tests::entry_of;
use super::*;
use crate::control::event::{Event, EventFilter, EventType};
use crate::control::report::{FdbFlushQuery, NewFdbEntry, NewFdbState, NewPort, UplinkMode};
use crate::control::subscription::{Delivery, Subscription};
use crate::control::topology::LinkChange;
use crate::datapath::NOTIFICATIONS_PER_PORT;
use crate::switch::ipvlan::Uplinks;

const HOST_MAC: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 1]);

/// A frame of minimum length.
fn frame(destination: Mac, source: Mac) -> Vec<u8> {
    [&destination.0[..], &source.0, &[0x88, 0xb5], &[0; 46]].concat()
}

/// Runs the control task while `test` sends it commands.
async fn with_control_task<T>(running: &mut Running<FakeNetwork>, test: impl AsyncFnOnce(Handle) -> T) -> T {
    let (handle, mut commands) = Handle::new();
    tokio::select! {
        end = running.serve(&mut commands, std::future::pending()) => panic!("it ended: {end:?}"),
        outcome = test(handle) => outcome,
    }
}

/// Subscribes to new events of these types.
async fn follow(switch: &Handle, types: &[EventType]) -> Subscription<Event> {
    let filter = EventFilter { types: types.into(), last: Some(0), ..EventFilter::default() };
    switch.request(|reply| Command::FollowEvents(filter, reply)).await.unwrap()
}

async fn next(subscription: &mut Subscription<Event>) -> Event {
    let next =
        tokio::time::timeout(Duration::from_secs(30), poll_fn(|context| subscription.poll_next(context)));
    match next.await {
        Ok(Some(Delivery::Item(event))) => event,
        other => panic!("no event but {other:?}"),
    }
}

/// The event's port, and the other port.
fn ports(event: &Event) -> (&str, &str) {
    (event.ifname.as_deref().unwrap_or("-"), event.other.as_deref().unwrap_or("-"))
}

fn event_log(running: &Running<FakeNetwork>) -> Vec<(EventType, String)> {
    let events = running.events.history.events(&EventFilter::default());
    events.into_iter().map(|event| (event.kind, event.ifname.unwrap_or_default())).collect()
}

fn send_frame(fake: &FakeControl, port: &str, frame: &[u8]) {
    fake.peer(port).send(frame).unwrap();
}

#[tokio::test]
async fn emits_learned_moved_and_aged() {
    let (fake, mut running) = running(config(|options| options.ageing_time = Some(4))).await;
    with_control_task(&mut running, async |switch| {
        let mut subscription =
            follow(&switch, &[EventType::Learned, EventType::Moved, EventType::Aged, EventType::Flooded])
                .await;
        send_frame(&fake, "container1", &frame(Mac::BROADCAST, HOST_MAC));
        let learned = next(&mut subscription).await;
        assert_eq!(
            (learned.kind, learned.mac, ports(&learned)),
            (EventType::Learned, Some(HOST_MAC), ("container1", "-"))
        );
        let unknown = Mac([0x02, 0, 0x5e, 0, 0x53, 9]);
        send_frame(&fake, "container2", &frame(unknown, HOST_MAC));
        let moved = next(&mut subscription).await;
        assert_eq!(
            (moved.kind, moved.mac, ports(&moved)),
            (EventType::Moved, Some(HOST_MAC), ("container2", "container1"))
        );
        let flooded = next(&mut subscription).await;
        assert_eq!(
            (flooded.kind, flooded.mac, ports(&flooded)),
            (EventType::Flooded, Some(unknown), ("container2", "-"))
        );
        let aged = next(&mut subscription).await;
        assert_eq!(
            (aged.kind, aged.mac, ports(&aged)),
            (EventType::Aged, Some(HOST_MAC), ("container2", "-"))
        );
        assert!(learned.time <= moved.time && moved.time < aged.time);
    })
    .await;
}

#[tokio::test]
async fn emits_returned_after_silence() {
    let (fake, mut running) = running(config(|options| options.ageing_time = Some(3))).await;
    with_control_task(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Returned]).await;
        let mut received = std::pin::pin!(next(&mut subscription));
        // Each frame restarts the silence, so each pause is longer than the last.
        for silence in 1.. {
            send_frame(&fake, "container1", &frame(Mac::BROADCAST, HOST_MAC));
            let pause = Duration::from_millis(silence * 300);
            if let Ok(returned) = tokio::time::timeout(pause, &mut received).await {
                assert_eq!(returned.mac, Some(HOST_MAC));
                // It is longer on a busy machine.
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
    let new_mac = Mac([0x02, 0, 0x5e, 0, 0x53, 2]);
    with_control_task(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Learned, EventType::Evicted]).await;
        send_frame(&fake, "container1", &frame(Mac::BROADCAST, HOST_MAC));
        assert_eq!(next(&mut subscription).await.kind, EventType::Learned);
        send_frame(&fake, "container2", &frame(Mac::BROADCAST, new_mac));
        let (evicted, learned) = (next(&mut subscription).await, next(&mut subscription).await);
        assert_eq!(
            (evicted.kind, evicted.mac, ports(&evicted)),
            (EventType::Evicted, Some(HOST_MAC), ("container1", "container2"))
        );
        assert_eq!((learned.kind, learned.mac), (EventType::Learned, Some(new_mac)));
    })
    .await;
    running.remove_fdb_entry(&entry_of(new_mac)).unwrap();
    let entry = crate::control::report::NewFdbEntry {
        mac: new_mac,
        ifname: "container1".into(),
        vlan: None,
        state: crate::control::report::NewFdbState::Static,
        sticky: false,
    };
    running.add_fdb_entry(&entry).unwrap();
    with_control_task(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Refused]).await;
        send_frame(&fake, "container1", &frame(Mac::BROADCAST, HOST_MAC));
        assert_eq!(next(&mut subscription).await.mac, Some(HOST_MAC));
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
        link(LinkChange::State { up, carrier: true, mtu: 1500 });
    }
    link(LinkChange::State { up: true, carrier: true, mtu: 9000 });
    link(LinkChange::Gone);
    link(LinkChange::Gone);
    running.remove_port("container1").unwrap();
    running.add_port(NewPort::default()).unwrap();
    let emitted = [PortAdded, PortAdded, PortDown, PortUp, PortGone, PortRemoved, PortAdded];
    let ports = ["host"].into_iter().chain(["container1"; 6]).map(str::to_owned);
    assert_eq!(event_log(&running), emitted.into_iter().zip(ports).collect::<Vec<_>>());
}

/// A port that is refused was never announced.
#[tokio::test]
async fn refused_port_emits_nothing() {
    let (_fake, mut running) = running(config(|_| {})).await;
    let uplink = |number| NewPort {
        device: Some(format!("eth{number}")),
        uplink_mode: Some(UplinkMode::Ipvlan),
        ..NewPort::default()
    };
    for number in 0..Uplinks::MAX {
        running.add_port(uplink(number)).unwrap();
    }
    let before = event_log(&running);
    let refused = running.add_port(uplink(Uplinks::MAX));
    assert!(matches!(refused, Err(RunError::Uplink(UplinkError::TooMany))), "{refused:?}");
    assert_eq!(event_log(&running), before);
}

#[tokio::test]
async fn groups_drops_by_port_and_reason() {
    const FRAMES: u64 = 300;
    let (fake, mut running) = running(config(|_| {})).await;
    let gateway = running.status().gateway.mac;
    with_control_task(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Dropped]).await;
        for _ in 0..FRAMES {
            send_frame(&fake, "container1", &frame(Mac::BROADCAST, gateway));
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
    with_control_task(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[]).await;
        let request = NewFdbEntry {
            mac: HOST_MAC,
            ifname: "container2".into(),
            vlan: None,
            state: NewFdbState::Static,
            sticky: false,
        };
        switch.request(|reply| Command::AddFdb(request, reply)).await.unwrap().unwrap();
        let added = next(&mut subscription).await;
        assert_eq!(
            (added.kind, added.mac, ports(&added)),
            (EventType::FdbAdded, Some(HOST_MAC), ("container2", "-"))
        );
        assert_eq!(added.state, Some(NewFdbState::Static));
        switch.request(|reply| Command::RemoveFdb(entry_of(HOST_MAC), reply)).await.unwrap().unwrap();
        let removed = next(&mut subscription).await;
        assert_eq!(
            (removed.kind, removed.mac, ports(&removed)),
            (EventType::FdbRemoved, Some(HOST_MAC), ("container2", "-"))
        );
        send_frame(&fake, "container1", &frame(Mac::BROADCAST, HOST_MAC));
        assert_eq!(next(&mut subscription).await.kind, EventType::Learned);
        for (port, count) in [(Some("container2"), 0), (Some("container1"), 1), (None, 0)] {
            let query = FdbFlushQuery { ifname: port.map(str::to_owned), ..FdbFlushQuery::default() };
            switch.request(|reply| Command::FlushFdb(query, reply)).await.unwrap().unwrap();
            let flushed = next(&mut subscription).await;
            assert_eq!(
                (flushed.kind, flushed.ifname.as_deref(), flushed.count),
                (EventType::FdbFlushed, port, Some(count))
            );
        }
    })
    .await;
}

#[tokio::test]
async fn refused_fdb_command_makes_no_event() {
    let (_bench, mut running) = running(config(|_| {})).await;
    with_control_task(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[]).await;
        let refused = entry_of(HOST_MAC);
        assert!(switch.request(|reply| Command::RemoveFdb(refused, reply)).await.unwrap().is_err());
        let gateway = switch.request(Command::Status).await.unwrap().gateway.mac;
        let gateway = entry_of(gateway);
        assert!(switch.request(|reply| Command::RemoveFdb(gateway, reply)).await.unwrap().is_err());
        switch.request(|reply| Command::FlushFdb(FdbFlushQuery::default(), reply)).await.unwrap().unwrap();
        assert_eq!(next(&mut subscription).await.kind, EventType::FdbFlushed);
    })
    .await;
}

/// The notification is queued but not read before the flush.
#[tokio::test]
async fn emits_learned_before_flushed() {
    let (fake, mut running) = running(config(|_| {})).await;
    send_frame(&fake, "container1", &frame(Mac::BROADCAST, HOST_MAC));
    fake.peer("container2").recv(&mut [0; 100]).unwrap();
    running.flush_fdb(&FdbFlushQuery::default()).unwrap();
    let event_log = event_log(&running);
    let latest = [(EventType::Learned, "container1".to_owned()), (EventType::FdbFlushed, String::new())];
    assert!(event_log.ends_with(&latest), "{event_log:?}");
}

/// A list of events does not wait for the interval at which notifications are read.
#[tokio::test]
async fn recorded_events_include_waiting_notifications() {
    let (fake, mut running) = running(config(|_| {})).await;
    send_frame(&fake, "container1", &frame(Mac::BROADCAST, HOST_MAC));
    fake.peer("container2").recv(&mut [0; 100]).unwrap();
    let filter = EventFilter { types: [EventType::Learned].into(), ..EventFilter::default() };
    assert_eq!(running.recorded_events(&filter).len(), 1);
}

/// One port's events are limited, and other ports are not affected.
#[tokio::test]
async fn bounds_events_per_port_and_counts_lost() {
    const ADDRESSES: u32 = 3000;
    let (fake, mut running) = running(config(|_| {})).await;
    let emitted = with_control_task(&mut running, async |switch| {
        let mut subscription = follow(&switch, &[EventType::Learned]).await;
        for n in 0..ADDRESSES {
            let [a, b, c, d] = n.to_be_bytes();
            send_frame(&fake, "container1", &frame(Mac::BROADCAST, Mac([6, 0, a, b, c, d])));
            // The socket's queue is short.
            fake.peer("container2").recv(&mut [0; 100]).unwrap();
        }
        send_frame(&fake, "container2", &frame(Mac::BROADCAST, HOST_MAC));
        let (mut learned, mut lost) = (0, 0);
        let mut quiet = false;
        while learned + lost < u64::from(ADDRESSES) || !quiet {
            let event = next(&mut subscription).await;
            match (event.kind, ports(&event).0) {
                (EventType::Learned, "container1") => learned += 1,
                (EventType::Learned, port) => quiet |= port == "container2" && event.mac == Some(HOST_MAC),
                _ => lost += event.count.unwrap(),
            }
        }
        let status = switch.request(Command::Status).await.unwrap();
        assert_eq!((learned + lost, lost), (ADDRESSES.into(), status.lost_events));
        learned
    })
    .await;
    assert!(
        emitted >= NOTIFICATIONS_PER_PORT.into() && emitted < u64::from(ADDRESSES) / 2,
        "{emitted} were emitted"
    );
}

/// Runs with paused time, which advances when every task is idle.
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
    send_frame(&fake, "container1", &frame(Mac::BROADCAST, HOST_MAC));
    until(&mut running, |running| event_log(running).contains(&(EventType::Learned, "container1".into())))
        .await;
    assert!(until(&mut running, asleep).await <= 6);
}
