//! Each impairment, statistically but with a fixed seed.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use super::*;

const MS: u64 = 1_000_000;

fn link(edit: impl FnOnce(&mut Impairment)) -> ImpairedLink {
    let mut impairment = Impairment::default();
    edit(&mut impairment);
    ImpairedLink::new(LinkSetup { impairment, seed: 7, ..LinkSetup::default() })
}

/// Sends one frame after the other at the times of `step`, and returns when each one that is sent is due, and its
/// number.
fn pass(link: &mut ImpairedLink, frames: u64, step: u64) -> Vec<(u64, u64)> {
    let mut sent = Vec::new();
    for n in 0..frames {
        link.take(n * step, &n.to_be_bytes());
        if n + 1 == frames || link.len() > MAX_FRAMES / 2 {
            while let Some(due) = link.next_deadline() {
                let frame = link.take_due(due).unwrap();
                sent.push((due, u64::from_be_bytes(frame[..].try_into().unwrap())));
            }
        }
    }
    sent
}

/// The delays of 400 frames, in milliseconds.
fn delays(edit: impl FnOnce(&mut Impairment)) -> Vec<f64> {
    let sent = pass(&mut link(edit), 400, 1000 * MS);
    sent.iter().map(|(due, n)| (due - n * 1000 * MS) as f64 / MS as f64).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

#[test]
fn without_impairment_frames_are_due_at_once() {
    let sent = pass(&mut link(|_| {}), 100, MS);
    assert_eq!(sent, (0..100).map(|n| (n * MS, n)).collect::<Vec<_>>());
    assert!(Impairment::default().is_none());
    assert!(!Impairment { rate: 1, ..Impairment::default() }.is_none());
}

#[test]
fn delays_each_frame() {
    let exact = delays(|it| it.delay = Duration::from_millis(20));
    assert!(exact.iter().all(|delay| *delay == 20.0), "{exact:?}");
}

#[test]
fn jitter_has_its_distribution() {
    let with = |distribution| {
        delays(|it| {
            (it.delay, it.jitter) = (Duration::from_millis(100), Duration::from_millis(10));
            it.distribution = distribution;
        })
    };
    let within = |value: f64, from: f64, to: f64| assert!((from..to).contains(&value), "{value}");
    let uniform = with(Distribution::Uniform);
    assert!(uniform.iter().all(|delay| (90.0..=110.0).contains(delay)));
    within(deviation(&uniform), 5.3, 6.3);
    let normal = with(Distribution::Normal);
    within(mean(&normal), 98.5, 101.5);
    within(deviation(&normal), 9.0, 11.0);
    let pareto = with(Distribution::Pareto);
    within(mean(&pareto), 97.5, 101.5);
    assert!(pareto.iter().all(|delay| (94.0..=140.1).contains(delay)));
    let late = |delays: &[f64]| delays.iter().filter(|delay| **delay > 125.0).count();
    assert!(late(&pareto) > late(&normal) && late(&uniform) == 0);
    // The delay is never negative.
    assert!(delays(|it| it.jitter = Duration::from_millis(10)).contains(&0.0));
}

#[test]
fn loses_and_duplicates_frames() {
    let sent = |edit: fn(&mut Impairment)| pass(&mut link(edit), 10_000, MS).len();
    let one_percent = sent(|it| it.loss = Probability(10_000));
    assert!((9860..9940).contains(&one_percent), "{one_percent}");
    assert_eq!(sent(|it| it.loss = Probability::ONE), 0);
    let twice = sent(|it| it.duplicate = Probability(500_000));
    assert!((14_800..15_200).contains(&twice), "{twice}");
    assert_eq!(sent(|it| (it.loss, it.duplicate) = (Probability::ONE, Probability::ONE)), 10_000);
}

#[test]
fn reordered_frames_overtake_delayed_ones() {
    let sent = pass(
        &mut link(|it| (it.delay, it.reorder) = (Duration::from_millis(10), Probability(250_000))),
        100,
        MS,
    );
    let numbers: Vec<u64> = sent.iter().map(|(_, n)| *n).collect();
    assert_eq!(numbers.len(), 100);
    assert!(!numbers.is_sorted());
    let at_once = sent.iter().filter(|(due, n)| *due == n * MS).count();
    assert!((12..40).contains(&at_once), "{at_once}");
}

#[test]
fn corrupts_one_bit() {
    let mut link = link(|it| it.corrupt = Probability::ONE);
    let frame = [0x55; 60];
    for n in 0..50 {
        link.take(n, &frame);
        let sent = link.take_due(n).unwrap();
        let changed: u32 = sent.iter().zip(&frame).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((sent.len(), changed), (60, 1));
    }
    assert_eq!(link.take(0, &[]).queued, 1, "an empty frame has no bit");
}

#[test]
fn rate_spaces_frames() {
    // 8 bytes are 64 bits: 1 ms each.
    let sent = pass(&mut link(|it| it.rate = 64_000), 10, 0);
    assert_eq!(
        sent.iter().map(|(due, _)| *due).collect::<Vec<_>>(),
        (1..=10).map(|n| n * MS).collect::<Vec<_>>()
    );
    let slow = pass(&mut link(|it| it.rate = 64_000), 3, 10 * MS);
    assert_eq!(slow.iter().map(|(due, _)| *due).collect::<Vec<_>>(), [MS, 11 * MS, 21 * MS]);
}

/// Each worker has a link, and they share the schedule.
#[test]
fn workers_share_the_rate() {
    let schedule = Schedule::default();
    let impairment = Impairment { rate: 64_000, ..Impairment::default() };
    let setup = |seed| LinkSetup { impairment, seed, schedule: schedule.clone() };
    let mut links = [1, 2].map(|seed| ImpairedLink::new(setup(seed)));
    let mut due = Vec::new();
    for _ in 0..2 {
        for link in &mut links {
            link.take(0, &[0; 8]);
        }
    }
    for link in &mut links {
        while let Some(at) = link.next_deadline() {
            due.push(at);
            link.take_due(at).unwrap();
        }
    }
    due.sort_unstable();
    assert_eq!(due, [MS, 2 * MS, 3 * MS, 4 * MS]);
}

#[test]
fn refuses_frames_beyond_its_limits() {
    let mut delayed = link(|it| it.delay = Duration::from_secs(1));
    for n in 0..MAX_FRAMES as u64 {
        assert_eq!(delayed.take(n, &[0; 60]), Fate { queued: 1, refused: 0, lost: false });
    }
    assert_eq!(delayed.take(0, &[0; 60]), Fate { queued: 0, refused: 1, lost: false });
    assert_eq!(delayed.len(), MAX_FRAMES);
    let mut large = link(|it| it.delay = Duration::from_secs(1));
    let fit = MAX_BYTES / 65_536;
    for _ in 0..fit {
        assert_eq!(large.take(0, &[0; 65_536]).queued, 1);
    }
    assert_eq!(large.take(0, &[0; 65_536]).refused, 1);
    large.take_due(u64::MAX).unwrap();
    assert_eq!(large.take(0, &[0; 65_536]).queued, 1);
}

#[test]
fn same_seed_same_fate() {
    let edit = |it: &mut Impairment| {
        (it.delay, it.jitter) = (Duration::from_millis(20), Duration::from_millis(5));
        (it.loss, it.duplicate, it.reorder) = (Probability(50_000), Probability(50_000), Probability(50_000));
        it.distribution = Distribution::Normal;
    };
    let run = |seed| {
        let mut impairment = Impairment::default();
        edit(&mut impairment);
        pass(&mut ImpairedLink::new(LinkSetup { impairment, seed, ..LinkSetup::default() }), 500, MS)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn extreme_values_do_not_overflow() {
    let mut link = link(|it| {
        (it.delay, it.jitter) = (Duration::MAX, Duration::MAX);
        (it.rate, it.distribution) = (1, Distribution::Pareto);
    });
    assert_eq!(link.take(u64::MAX, &[0; 60]).queued, 1);
    assert_eq!(link.next_deadline(), Some(u64::MAX));
}

#[test]
fn without_impairment_waiting_frames_leave_first_and_in_order() {
    let mut link = link(|it| it.delay = Duration::from_secs(1));
    (0..3).for_each(|n| _ = link.take(n, &[n as u8; 60]));
    link.set(LinkSetup::default());
    assert!(!link.is_finished());
    link.take(5, &[3; 60]);
    let order: Vec<u8> = std::iter::from_fn(|| link.take_due(5)).map(|frame| frame[0]).collect();
    assert_eq!(order, [0, 1, 2, 3]);
    assert!(link.is_finished());
}
