//! Captures, read by tshark.

use nix::sys::signal::Signal;
use uswitch::datapath::MIRRORS;

use crate::harness::{Process, Shell, TestSwitch, Uswitch, frame, mac, v4, v6, wait_until};
use crate::traffic::iperf3;

const FILE: &str = "/run/frames.pcapng";

/// Starts a capture. Frames sent after this returns are captured.
fn capture(s: &Uswitch, arguments: &str) -> Process {
    let mut capture = s.host().spawn(&format!("uswitch capture {arguments}"));
    capture.line_with("capturing on");
    capture
}

/// Fields of each packet in the file, as printed by tshark.
fn fields(s: &Uswitch, options: &str, fields: &[&str]) -> Vec<String> {
    let fields: String = fields.iter().map(|field| format!(" -e {field}")).collect();
    let read = s.host().run(&format!("tshark -r {FILE} {options} -T fields -E separator=|{fields}"));
    read.ok().lines().map(str::to_owned).collect()
}

const COMMENTS: &[&str] = &["frame.interface_name", "frame.packet_flags_direction", "frame.comment"];
const INBOUND: &str = "0x00000001";
const OUTBOUND: &str = "0x00000002";

#[test]
fn captures_ping_with_ports_directions_and_verdicts() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let capture = capture(&s, &format!("-c 4 -w {FILE} icmp"));
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let output = capture.ok();
    assert!(output.ends_with("4 packets captured, 0 lost"), "{output}");
    assert_eq!(
        fields(&s, "", COMMENTS),
        [
            format!("container1|{INBOUND}|forward to container2"),
            format!("container2|{OUTBOUND}|from container1"),
            format!("container2|{INBOUND}|forward to container1"),
            format!("container1|{OUTBOUND}|from container2"),
        ]
    );
    let names = s.host().run(&format!("capinfos {FILE}")).ok();
    for name in ["host", "container1", "container2", "container3"] {
        assert!(names.contains(&format!("Name = {name}")), "{names}");
    }
}

/// The switch's own replies are captured too: the request inbound, the reply outbound.
#[test]
fn captures_gateway_ping_and_its_reply() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let capture = capture(&s, "container1 -c 2 icmp and ( host 172.16.0.1 or host fd00:172:16::1 )");
    h1.run("ping -n -c 1 -W 5 172.16.0.1").ok();
    let output = capture.ok();
    let lines: Vec<&str> = output.lines().filter(|line| line.contains("container1 ")).collect();
    let [question, answer, ..] = lines[..] else { panic!("{output}") };
    assert!(question.contains("container1 In ") && question.contains("echo request"), "{question}");
    assert!(question.ends_with("[answered by the switch: echo]"), "{question}");
    assert!(answer.contains("container1 Out ") && answer.contains("echo reply"), "{answer}");
    assert!(answer.ends_with("[sent by the switch]"), "{answer}");
}

#[test]
fn captures_dropped_frame_with_reason() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let gateway = s.host().run("cat /sys/class/net/uswitch0/address").ok().trim().parse().expect("a MAC");
    let filter = format!("ether src {gateway}");
    let mut lines = capture(&s, &format!("container1 --direction in -c 1 {filter}"));
    let file = capture(&s, &format!("container1 --direction in -c 1 -w {FILE} {filter}"));
    h1.send(&[frame(mac(9), gateway, "from the gateway")]);
    lines.line_with("[drop: spoofed_gateway]");
    file.ok();
    assert_eq!(fields(&s, "", COMMENTS), [format!("container1|{INBOUND}|drop: spoofed_gateway")]);
}

/// A TCP stream, with super-frames whole and segmented.
#[test]
fn captures_super_frames_whole_or_segmented() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let lengths = |options: &str| -> Vec<u32> {
        let lengths = fields(&s, options, &["frame.len"]);
        lengths.iter().map(|length| length.parse().expect("a length")).collect()
    };
    let stream = |arguments: &str| {
        let capture = capture(&s, &format!("container2 --direction out -c 1000 -w {FILE} {arguments}"));
        iperf3(&h1, &h2, &format!("{} -t 2", v4(2)));
        capture.ok();
    };
    stream("tcp");
    assert!(lengths("").iter().any(|length| *length > 1514), "no super-frame");
    let comments = fields(&s, "-Y frame.len>1514", &["frame.comment"]);
    assert!(
        comments.iter().all(|c| c == "from container1; super-frame, segments of 1448 bytes"),
        "{comments:?}"
    );
    let traced = s.host().run(&format!("uswitch trace container1 --pcap {FILE} --limit 100 --json")).ok();
    assert!(traced.contains(r#""gso_size":1448"#) && !traced.contains("oversize"), "{traced}");
    // A pcap file has no comments, so segment sizes are unknown.
    s.host().run(&format!("tshark -r {FILE} -F pcap -w /run/frames.pcap")).ok();
    let done = s.host().run("uswitch trace container1 --pcap /run/frames.pcap --limit 100 --json");
    assert!(done.stdout.contains("oversize") && done.stderr.contains("may be a super-frame"), "{done}");
    stream("--segment tcp");
    let traced = s.host().run(&format!("uswitch trace container1 --pcap {FILE} --limit 100 --json")).ok();
    assert!(!traced.contains("gso_size") && !traced.contains("oversize"), "{traced}");
    assert_eq!(lengths("").iter().max(), Some(&1514));
    assert_eq!(lengths("").len(), 1000);
    let checked = "-o tcp.check_checksum:TRUE -Y tcp.checksum.status!=1";
    assert_eq!(fields(&s, checked, &["frame.number"]), Vec::<String>::new());
    let comments = fields(&s, "-Y frame.len==1514", &["frame.comment"]);
    assert!(comments.iter().any(|comment| comment.contains("; segment 2 of ")), "{comments:?}");
}

#[test]
fn streams_into_tshark_with_snaplen() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let pipe = "uswitch capture container1 --direction in --snaplen 64 -w - icmp6";
    let mut tshark =
        s.host().spawn_sh(&format!("{pipe} | tshark -l -n -r - -T fields -e frame.len -e frame.cap_len"));
    tshark.line_with("capturing on container1");
    h1.run(&format!("ping -n -c 1 -W 5 {}", v6(2))).ok();
    // It arrives while the capture runs.
    tshark.line_with("118\t64");
}

/// A capture ends when its reader closes, although no frame arrives. One into a file continues.
#[test]
fn closed_reader_ends_capture() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    s.host().sh("uswitch capture ether src 00:00:5e:00:53:09 | true").ok();
    s.host().sh("uswitch capture -w - ether src 00:00:5e:00:53:09 | head -c 4").ok();
    let mut file =
        s.host().spawn_sh(&format!("uswitch capture -c 1 -w {FILE} ether src 00:00:5e:00:53:09 | true"));
    file.line_with("capturing on");
    h1.send(&[frame(mac(8), mac(9), "for the file")]);
    let output = file.ok();
    assert!(output.ends_with("1 packet captured, 0 lost"), "{output}");
}

/// The file is readable however the capture ends.
#[test]
fn interrupted_capture_is_well_formed() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let capture = capture(&s, &format!("-w {FILE}"));
    iperf3(&h1, &h2, &format!("{} -t 1", v4(2)));
    capture.signal(Signal::SIGINT);
    let output = capture.ok();
    let line = output.lines().last().unwrap_or_default();
    assert!(line.contains(" packets captured, "), "{output}");
    let count = line.split(' ').next().and_then(|count| count.parse::<usize>().ok()).expect("a count");
    assert_eq!(fields(&s, "", &["frame.number"]).len(), count);
}

/// A capture on a full disk, or at the limit of the file size, ends with one line and an error, and what fitted can be
/// read.
#[test]
fn capture_on_a_full_disk_is_well_formed() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    s.host().run("mkdir /run/small").ok();
    s.host().run("mount -t tmpfs -o size=100k tmpfs /run/small").ok();
    // The shell's unit is 512 or 1024 bytes.
    for (limit, write, reason) in [
        ("unlimited", "-w /run/small/f", "No space left"),
        ("unlimited", "-w - >/run/small/f", "No space left"),
        ("unlimited", "-w - >>/run/small/f", "No space left"),
        ("70", "-w /run/small/f", "File too large (os error 27): `ulimit -f`"),
        ("70", "-w - >/run/small/f", "File too large (os error 27): `ulimit -f`"),
    ] {
        s.host().run("rm -f /run/small/f").ok();
        let mut capture = s.host().spawn_sh(&format!("ulimit -f {limit}; exec uswitch capture {write}"));
        capture.line_with("capturing on");
        h1.run(&format!("ping -n -q -f -c 2000 -W 5 {}", v4(2))).ok();
        let (status, output) = capture.wait();
        let error = output.lines().last().unwrap_or_default();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(error.starts_with("uswitch: cannot write ") && error.contains(reason), "{error}");
        let read = s.host().run("tshark -r /run/small/f");
        assert!(read.succeeded() && !read.stderr.contains("cut short"), "{read}");
        assert!(read.stdout.lines().count() > 100, "{read}");
    }
}

/// A signal ends a capture that waits for a reader of its pipe.
#[test]
fn signal_ends_capture_with_blocked_output() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    s.host().run("mkfifo /run/unread /run/unopened").ok();
    for sink in ["- >/run/unread", "/run/unread"] {
        let mut stuck = s.host().spawn_sh(&format!("exec uswitch capture icmp 3<>/run/unread -w {sink}"));
        stuck.line_with("capturing on");
        // More than a pipe holds by default.
        h1.run(&format!("ping -n -q -f -c 2000 -W 5 {}", v4(2))).ok();
        stuck.signal(Signal::SIGTERM);
        stuck.ok();
    }
    let waiting = s.host().spawn_sh("exec uswitch capture -w /run/unopened");
    waiting.signal(Signal::SIGTERM);
    let (status, output) = waiting.wait();
    assert_eq!((status.code(), output.as_str()), (None, ""));
}

/// The number of captures is limited. A capture that ends makes room at once, although no frame
/// arrives.
#[test]
fn limits_concurrent_captures() {
    let s = Uswitch::with("--ports 2 --internal --guard off");
    let many: Vec<Process> = (0..MIRRORS).map(|_| capture(&s, "-c 1 ether 00:00:5e:00:53:09")).collect();
    let output = s.host().run("uswitch capture").fails();
    assert!(output.contains("end one of them first") && output.trim().lines().count() == 1, "{output}");
    drop(many);
    let again: Vec<Process> = (0..MIRRORS)
        .map(|_| {
            let mut capture = None;
            wait_until("a capture can start", || {
                let mut process = s.host().spawn("uswitch capture -c 1 ether 00:00:5e:00:53:09");
                let begun = process.line_with("").contains("capturing");
                capture = begun.then_some(process);
                begun
            });
            capture.expect("wait_until waited for it")
        })
        .collect();
    let [h1, ..] = s.containers();
    h1.send(&[frame(mac(8), mac(9), "for all of them")]);
    for capture in again {
        assert!(capture.ok().contains("[flood to container2]"));
    }
}

#[test]
fn rejects_invalid_captures_on_the_command_line() {
    let s = Uswitch::start();
    let refused = |arguments: &str, code: i32, what: &str| {
        let done = s.host().run(&format!("uswitch capture {arguments}"));
        assert_eq!(done.code, Some(code), "{arguments}: {}", done.stderr);
        assert!(
            done.stderr.contains(what) && done.stderr.lines().count() == 1,
            "{arguments}: {}",
            done.stderr
        );
    };
    refused("-w /nowhere/file", 1, "cannot write /nowhere/file");
    refused("nobody", 1, "no port named nobody");
    refused("tcp prt 80", 2, "at 5: 'prt' instead of 'and' or 'or'");
    refused("--snaplen 0", 2, "--snaplen");
    s.host().sh(&format!("echo mine > {FILE}")).ok();
    refused(&format!("nobody -w {FILE}"), 1, "no port named nobody");
    assert_eq!(
        s.host().run(&format!("cat {FILE}")).ok().trim(),
        "mine",
        "a refused capture does not change the file"
    );
}
