//! The hot path allocates nothing: counted while real frames cross TAP devices. Needs root.
//!
//! The test has its own binary, because it counts the allocations of all threads except its own.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uswitch::datapath::{self, BusyPoll, Datapath, DatapathSettings, EngineKind, Placement};
use uswitch::switch::{self, Gateway, Port, PortId, Switch};
use uswitch::sys::netns::{Netns, NetnsThread, in_netns};
use uswitch::sys::queue::Queue;
use uswitch::sys::tap::{self, Lifetime};
use uswitch::wire::Mac;

/// The system allocator, counting the allocations of all threads except the test's own.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static UNCOUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if !UNCOUNTED.try_with(Cell::get).unwrap_or(true) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

#[allow(unsafe_code, reason = "an allocator is unsafe by nature; this one passes every call on")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs a command in the thread's namespace and returns its output.
fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().expect(line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A host in its own namespace: `eth0`, up, with the address 192.0.2.`number`.
fn host(number: u8) -> (Netns, Vec<Queue>) {
    in_netns(|thread: &mut NetnsThread| {
        let netns = thread.create().expect("this test needs root");
        let tap = tap::open(&tap::TapConfig {
            name: "eth0",
            ifindex: None,
            queues: 1,
            offload: true,
            lifetime: Lifetime::Queues,
        })
        .unwrap();
        run(&format!("ip addr add 192.0.2.{number}/24 dev eth0"));
        run("ip link set eth0 up");
        (netns, tap.queues)
    })
    .unwrap()
}

fn settings(engine: EngineKind) -> DatapathSettings {
    DatapathSettings {
        workers: 1,
        engine,
        busy_poll: BusyPoll::default(),
        placement: Placement::default(),
        on_notice: Arc::new(|| ()),
    }
}

fn frames(datapath: &Datapath) -> u64 {
    (0..2).map(|port| datapath.counters()[0].port(PortId(port)).rx_frames.value()).sum()
}

/// Allocations and received frames of the switch during this many echo requests and replies.
fn allocations_for(engine: EngineKind, pings: u64) -> (u64, u64) {
    let gateway = Gateway { mac: Mac([2, 0, 0, 0, 0, 0xfe]).into(), ..Gateway::default() };
    let settings_of_switch = switch::SwitchConfig { ageing: 3000, fdb_max: 64, seed: 1, gateway };
    let switch = Arc::new(Switch::new(settings_of_switch));
    let datapath = Datapath::start(&switch, &settings(engine)).unwrap();
    let hosts = [host(1), host(2)].map(|(netns, queues)| {
        let id = switch.ports.add(Port { up: true, host: false, offload: true, mtu: 1500 }).unwrap();
        datapath.attach(id, queues).unwrap();
        netns
    });
    let ping = |count: u64| {
        in_netns(|thread| {
            UNCOUNTED.set(true);
            thread.enter(&hosts[0]).unwrap();
            let before = (ALLOCATIONS.load(Ordering::Relaxed), frames(&datapath));
            run(&format!("ping -q -i 0.001 -c {count} 192.0.2.2"));
            (ALLOCATIONS.load(Ordering::Relaxed) - before.0, frames(&datapath) - before.1)
        })
        .unwrap()
    };
    // The first frames resolve neighbours and lazily bound symbols.
    ping(10);
    let counted = ping(pings);
    datapath.stop();
    counted
}

#[test]
fn the_hot_path_allocates_nothing() {
    UNCOUNTED.set(true);
    let engines: &[EngineKind] = match datapath::probe() {
        (EngineKind::Uring, _) => &[EngineKind::Uring, EngineKind::Poll],
        (EngineKind::Poll, reason) => {
            // Without io_uring, or on Linux before 6.4, `probe` gives a reason and there is one engine to count.
            let reason = reason.expect("a reason not to take io_uring");
            assert_eq!(reason.lines().count(), 1, "{reason}");
            &[EngineKind::Poll]
        }
    };
    for &engine in engines {
        let (allocations, frames) = allocations_for(engine, 1000);
        assert!(frames >= 2000, "{engine}: only {frames} frames crossed");
        assert_eq!(allocations, 0, "{engine}: {frames} frames crossed");
    }
}
