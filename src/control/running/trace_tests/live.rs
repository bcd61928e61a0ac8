//! Traces of live frames.

use futures_util::FutureExt;

use super::*;

/// The next delivery, if one is queued.
fn next(subscription: &mut Subscription<LiveTraceLine>) -> Option<Delivery<LiveTraceLine>> {
    let next = std::future::poll_fn(|context| subscription.poll_next(context));
    tokio::task::unconstrained(next).now_or_never().flatten()
}

/// The trace of the next live frame, without its timestamp.
async fn next_frame(
    running: &mut Running<FakeNetwork>,
    subscription: &mut Subscription<LiveTraceLine>,
) -> Trace {
    let found = async {
        loop {
            running.drain_live_traces();
            match next(subscription) {
                Some(Delivery::Item(LiveTraceLine::Frame(trace))) => break *trace,
                Some(other) => panic!("{other:?}"),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let trace = tokio::time::timeout(Duration::from_secs(30), found).await.expect("a frame is traced");
    assert!(trace.time.is_some());
    Trace { time: None, ..trace }
}

/// Each frame is traced first, then sent through a real worker.
#[tokio::test]
async fn trace_predicts_what_then_happens() {
    let (fake, mut running) = switch().await;
    set(&running, "container3", |port| port.mtu = 100);
    let mut subscription = running.follow_frames(&TraceFilter::default()).unwrap();
    let arp = |operation: &str, sender: &str, target: &str| {
        format!(
            "ffffffffffff 02dea5ad0001 0806 0001 0800 0604 {operation} 02dea5ad0001 {sender} 000000000000 {target}"
        )
    };
    for hex in [
        "02dea5ad0002 02dea5ad0001 88b5 00".to_owned(),
        "02dea5ad0001 02dea5ad0001 88b5 00".to_owned(),
        "02dea5ad0000 02dea5ad0001 88b5 00".to_owned(),
        "ffffffffffff 02dea5ad0001 88b5 00".to_owned(),
        format!("ffffffffffff 02dea5ad0001 88b5 {}", "00".repeat(101)),
        "0180c2000001 02dea5ad0001 88b5 00".to_owned(),
        "ffffffffffff 02dea5ad0000 88b5 00".to_owned(),
        "ffffffffffff 03dea5ad0000 88b5 00".to_owned(),
        "02dea5ad0009 02dea5ad0008 88b5 00".to_owned(),
        "02dea5ad0009 02dea5ad0009 88b5 00".to_owned(),
        "0102".to_owned(),
        arp("0001", "ac100002", "ac100001"),
        arp("0001", "ac100002", "ac100003"),
        arp("0002", "ac100001", "ac100003"),
    ] {
        let predicted = trace(&running, &whole(&hex)).unwrap();
        fake.peer("container1").send(&bytes(&hex)).unwrap();
        assert_eq!(next_frame(&mut running, &mut subscription).await, predicted, "{hex}");
    }
}

#[tokio::test]
async fn follow_filters_by_port_drops_and_limit() {
    let (fake, mut running) = switch().await;
    let all = bytes("ffffffffffff 02dea5ad0001 88b5");
    let filter = TraceFilter { ifname: Some("container1".into()), drops: true, limit: Some(1) };
    let mut subscription = running.follow_frames(&filter).unwrap();
    fake.peer("container2").send(&[0; 9]).unwrap();
    fake.peer("container1").send(&all).unwrap();
    fake.peer("container1").send(&[0; 8]).unwrap();
    let trace = next_frame(&mut running, &mut subscription).await;
    assert_eq!((trace.ifname.as_str(), trace.length), ("container1", 8));
    assert!(matches!(trace.verdict, TraceVerdict::Drop { reason, .. } if reason == "runt"));
    let end = std::future::poll_fn(|context| subscription.poll_next(context)).await;
    assert_eq!((end, running.live_traces.due().now_or_never()), (None, None), "it has all");
    assert!(running.follow_frames(&TraceFilter { ifname: Some("container9".into()), ..filter }).is_err());
}

/// Sends `count` runts from container1 and waits until all are read.
async fn send_runts(fake: &FakeControl, running: &Running<FakeNetwork>, count: u64) {
    for _ in 0..count {
        fake.peer("container1").send(&[0; 8]).unwrap();
    }
    let all_read = async {
        while running.status().rx_frames < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_read).await.expect("the frames are read");
}

#[tokio::test]
async fn follow_ends_when_port_is_deleted_and_counts_missed() {
    let (fake, mut running) = switch().await;
    let filter = TraceFilter { ifname: Some("container1".into()), ..TraceFilter::default() };
    let mut of_one = running.follow_frames(&filter).unwrap();
    let mut of_all = running.follow_frames(&TraceFilter::default()).unwrap();
    let sent = crate::datapath::RECORDS as u64 + 1;
    send_runts(&fake, &running, sent).await;
    running.remove_port("container1").unwrap();
    running.drain_live_traces();
    for subscription in [&mut of_one, &mut of_all] {
        let deliveries: Vec<_> = std::iter::from_fn(|| next(subscription)).collect();
        assert_eq!((deliveries.len() as u64, deliveries.last()), (sent, Some(&Delivery::Missed(1))));
    }
    let is_at_end = |subscription: &mut Subscription<LiveTraceLine>| {
        let next = std::future::poll_fn(|context| subscription.poll_next(context));
        tokio::task::unconstrained(next).now_or_never().is_some()
    };
    assert_eq!([&mut of_one, &mut of_all].map(is_at_end), [true, false]);
}

#[tokio::test]
async fn closed_follower_frees_its_mirror() {
    let (_bench, mut running) = switch().await;
    let subscriptions: Vec<_> =
        std::iter::from_fn(|| running.follow_frames(&TraceFilter::default()).ok()).take(100).collect();
    assert_eq!(subscriptions.len(), crate::datapath::MIRRORS);
    drop(subscriptions);
    running.drain_live_traces();
    running.follow_frames(&TraceFilter::default()).unwrap();
}

/// One pass reads at most what a mirror's queue holds. The rest is counted.
#[tokio::test]
async fn counts_frames_beyond_the_mirror_queue() {
    const MORE: u64 = 100;
    let (fake, mut running) = switch().await;
    let mut subscription = running.follow_frames(&TraceFilter::default()).unwrap();
    let sent = crate::datapath::RECORDS as u64 + MORE;
    send_runts(&fake, &running, sent).await;
    // Workers attach a port between two turns, so the last frame's turn is over.
    running.add_port(NewPort::default()).unwrap();
    running.drain_live_traces();
    let deliveries: Vec<_> = std::iter::from_fn(|| next(&mut subscription)).collect();
    assert_eq!(deliveries.len(), crate::datapath::RECORDS + 1);
    assert_eq!(deliveries.last(), Some(&Delivery::Missed(MORE)));
}
