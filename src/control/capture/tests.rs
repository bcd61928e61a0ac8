//! Tests of captures on the fake network, read with pcap-parser.

use std::future::pending;

use pcap_parser::parse_block_le;
use pcap_parser::pcapng::{Block, OptionCode, PcapNGOption};

use super::pcapng::{Flags, Packet, Time};
use super::{Capture, CaptureDirection, CaptureError, CaptureFilter, pcapng};
use crate::control::report::{NewPort, PortRemoval};
use crate::control::running::fake::{FakeControl, config, running};
use crate::control::running::{Command, Handle};
use crate::datapath::MIRRORS;

const H1: [u8; 6] = [2, 0, 0, 0, 0, 1];
const H2: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn ethernet(dst: [u8; 6], src: [u8; 6]) -> Vec<u8> {
    [&dst[..], &src, &[0x88, 0xb5], &[0x5a; 50]].concat()
}

/// A packet that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    port: String,
    flags: u32,
    comment: String,
    bytes: Vec<u8>,
    length: usize,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Read {
    ports: Vec<String>,
    packets: Vec<Seen>,
    /// Port, packets received, packets lost.
    statistics: Vec<(String, u64, u64)>,
}

fn option<'a>(options: &'a [PcapNGOption<'_>], code: OptionCode) -> &'a PcapNGOption<'a> {
    options.iter().find(|option| option.code == code).unwrap()
}

impl Read {
    fn take(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            let (rest, block) = parse_block_le(chunk).unwrap();
            chunk = rest;
            match block {
                Block::SectionHeader(_) => {}
                Block::InterfaceDescription(block) => {
                    assert_eq!((block.if_tsresol, block.linktype.0), (9, 1));
                    self.ports.push(option(&block.options, OptionCode::IfName).as_str().unwrap().to_owned());
                }
                Block::EnhancedPacket(block) => self.packets.push(Seen {
                    port: self.ports[block.if_id as usize].clone(),
                    flags: option(&block.options, OptionCode(2)).as_u32_le().unwrap(),
                    comment: option(&block.options, OptionCode::Comment).as_str().unwrap().to_owned(),
                    bytes: block.data[..block.caplen as usize].to_vec(),
                    length: block.origlen as usize,
                }),
                Block::InterfaceStatistics(block) => self.statistics.push((
                    self.ports[block.if_id as usize].clone(),
                    option(&block.options, OptionCode::IsbIfRecv).as_u64_le().unwrap(),
                    option(&block.options, OptionCode::IsbIfDrop).as_u64_le().unwrap(),
                )),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads until `enough`; panics at the end of the capture.
    async fn until(&mut self, capture: &mut Capture, enough: impl Fn(&Read) -> bool) {
        while !enough(self) {
            self.take(&capture.next().await.expect("the capture goes on"));
        }
    }

    /// Reads to the end.
    async fn to_end(capture: &mut Capture) -> Read {
        let mut read = Read::default();
        while let Some(chunk) = capture.next().await {
            read.take(&chunk);
        }
        read
    }

    fn lines(&self) -> Vec<(&str, u32, &str)> {
        self.packets
            .iter()
            .map(|packet| (packet.port.as_str(), packet.flags, packet.comment.as_str()))
            .collect()
    }
}

/// Runs `test` beside a switch with a host port and three containers.
async fn with_switch(test: impl AsyncFnOnce(FakeControl, Handle)) {
    let (fake, mut running) = running(config(|options| options.ports = Some(3))).await;
    let (handle, mut commands) = Handle::new();
    tokio::select! {
        end = running.serve(&mut commands, pending()) => panic!("{end:?}"),
        () = test(fake, handle) => {}
    }
    running.stop();
}

/// Adds a port. Workers attach it between two turns, so the turns of earlier frames are over.
async fn add(handle: &Handle, name: &str) {
    let new = NewPort { name: Some(name.to_owned()), ..NewPort::default() };
    handle.request(|reply| Command::AddPort(Box::new(new), reply)).await.unwrap().unwrap();
}

#[tokio::test]
async fn captures_frame_at_ingress_and_egress() {
    with_switch(async |fake, handle| {
        let mut capture = Capture::start(handle, CaptureFilter::default()).await.unwrap();
        let mut read = Read::default();
        fake.peer("container2").send(&ethernet([0xff; 6], H2)).unwrap();
        read.until(&mut capture, |read| read.packets.len() == 4).await;
        fake.peer("container1").send(&ethernet(H2, H1)).unwrap();
        fake.peer("container1").send(&ethernet(H1, H1)).unwrap();
        read.until(&mut capture, |read| read.packets.len() == 7).await;
        assert_eq!(read.ports, ["host", "container1", "container2", "container3"]);
        assert_eq!(
            read.lines(),
            [
                ("container2", 1, "flood to host container1 container3"),
                ("host", 2, "from container2"),
                ("container1", 2, "from container2"),
                ("container3", 2, "from container2"),
                ("container1", 1, "forward to container2"),
                ("container2", 2, "from container1"),
                ("container1", 1, "drop: filtered"),
            ]
        );
        assert!(read.packets.iter().all(|packet| packet.length == 64 && packet.bytes.len() == 64));
    })
    .await;
}

#[tokio::test]
async fn applies_filter_snaplen_and_count() {
    with_switch(async |fake, handle| {
        let request = CaptureFilter {
            ifname: Some("container1,container3".to_owned()),
            direction: Some(CaptureDirection::Out),
            snaplen: Some(20),
            count: Some(3),
            filter: Some("ether src 02:00:00:00:00:02".to_owned()),
            ..CaptureFilter::default()
        };
        let mut capture = Capture::start(handle, request).await.unwrap();
        for source in [H1, H2, H1, H2] {
            fake.peer("container2").send(&ethernet([0xff; 6], source)).unwrap();
        }
        let read = Read::to_end(&mut capture).await;
        let ports: Vec<&str> = read.packets.iter().map(|packet| packet.port.as_str()).collect();
        assert_eq!(ports, ["container1", "container3", "container1"]);
        let seen = &read.packets[0];
        assert_eq!((&seen.bytes[..], seen.length), (&ethernet([0xff; 6], H2)[..20], 64));
        let statistics = [("container1".to_owned(), 2, 0), ("container3".to_owned(), 1, 0)];
        assert_eq!(read.statistics, statistics);
    })
    .await;
}

#[tokio::test]
async fn describes_later_port_before_its_first_packet() {
    with_switch(async |fake, handle| {
        let request =
            CaptureFilter { filter: Some("ether src 02:00:00:00:00:02".to_owned()), ..Default::default() };
        let mut capture = Capture::start(handle.clone(), request).await.unwrap();
        add(&handle, "late").await;
        fake.peer("late").send(&ethernet([0xff; 6], H2)).unwrap();
        let mut read = Read::default();
        read.until(&mut capture, |read| read.packets.len() == 5).await;
        assert_eq!(read.ports.last().unwrap(), "late");
        assert_eq!(read.lines()[0], ("late", 1, "flood to host container1 container2 container3"));
    })
    .await;
}

/// A port number is reused after a deletion. The new port must not be captured.
#[tokio::test]
async fn ends_when_last_captured_port_is_deleted() {
    with_switch(async |fake, handle| {
        let of = |ports: &str| CaptureFilter { ifname: Some(ports.to_owned()), ..CaptureFilter::default() };
        let mut of_both = Capture::start(handle.clone(), of("container1,container3")).await.unwrap();
        let mut of_one = Capture::start(handle.clone(), of("container3")).await.unwrap();
        fake.peer("container3").send(&ethernet(H1, H1)).unwrap();
        let mut read = Read::default();
        read.until(&mut of_both, |read| read.packets.len() == 1).await;
        let remove = |reply| Command::RemovePort("container3".to_owned(), PortRemoval::default(), reply);
        handle.request(remove).await.unwrap().unwrap();
        add(&handle, "late").await;
        fake.peer("late").send(&ethernet([0xff; 6], H2)).unwrap();
        fake.peer("container1").send(&ethernet(H2, H1)).unwrap();
        read.until(&mut of_both, |read| read.packets.len() == 3).await;
        assert_eq!(read.lines()[1..], [("container1", 2, "from late"), ("container1", 1, "forward to late")]);
        let last = Read::to_end(&mut of_one).await;
        assert_eq!(last.lines(), [("container3", 1, "drop: filtered")]);
        assert_eq!(last.statistics, [("container3".to_owned(), 1, 0)]);
    })
    .await;
}

/// While the capture is not read, records are queued. What does not fit is counted.
#[tokio::test]
async fn counts_packets_lost_by_slow_reader() {
    const SENT: usize = 2000;
    with_switch(async |fake, handle| {
        let request = CaptureFilter { ifname: Some("container1".to_owned()), ..CaptureFilter::default() };
        let mut capture = Capture::start(handle.clone(), request).await.unwrap();
        for _ in 0..SENT {
            fake.peer("container1").send(&ethernet(H1, H1)).unwrap();
        }
        let frames = |stats: Vec<crate::control::report::PortStats>| {
            stats.iter().find(|port| port.ifname == "container1").unwrap().rx_frames
        };
        while frames(handle.request(Command::Stats).await.unwrap()) < SENT as u64 {
            tokio::task::yield_now().await;
        }
        add(&handle, "late").await;
        let mut read = Read::default();
        read.until(&mut capture, |read| !read.statistics.is_empty()).await;
        let (_, received, lost) = read.statistics.last().unwrap();
        assert_eq!((*received, *lost), (SENT as u64, (SENT - crate::datapath::RECORDS) as u64));
    })
    .await;
}

#[tokio::test]
async fn capture_ends_with_the_switch() {
    let (fake, mut running) = running(config(|_| {})).await;
    let (handle, mut commands) = Handle::new();
    let begin = Capture::start(handle, CaptureFilter::default());
    let mut capture = tokio::select! {
        end = running.serve(&mut commands, pending()) => panic!("{end:?}"),
        capture = begin => capture.unwrap(),
    };
    fake.peer("container1").send(&ethernet(H1, H1)).unwrap();
    drop(commands);
    running.stop();
    let read = Read::to_end(&mut capture).await;
    assert_eq!(read.statistics.len(), read.ports.len());
}

#[tokio::test]
async fn rejects_invalid_captures() {
    with_switch(async |_, handle| {
        let refused =
            async |request: CaptureFilter| Capture::start(handle.clone(), request).await.unwrap_err();
        let nobody = CaptureFilter { ifname: Some("nobody".to_owned()), ..CaptureFilter::default() };
        assert!(refused(nobody).await.to_string().starts_with("no port named nobody"));
        let nothing = CaptureFilter { snaplen: Some(0), ..CaptureFilter::default() };
        assert!(matches!(refused(nothing).await, CaptureError::Snaplen(0)));
        let bad = CaptureFilter { filter: Some("tcp and".to_owned()), ..CaptureFilter::default() };
        assert!(matches!(refused(bad).await, CaptureError::Filter(_)));
        let mut captures = Vec::new();
        for _ in 0..MIRRORS {
            captures.push(Capture::start(handle.clone(), CaptureFilter::default()).await.unwrap());
        }
        assert!(refused(CaptureFilter::default()).await.to_string().contains("end one of them first"));
        captures.pop();
        Capture::start(handle.clone(), CaptureFilter::default()).await.unwrap();
    })
    .await;
}

#[test]
fn pcapng_blocks_round_trip() {
    for length in 0..9 {
        let bytes = vec![7; length];
        let comment = "x".repeat(length);
        let mut file = Vec::new();
        pcapng::section_header(&mut file, &comment);
        pcapng::interface(&mut file, &comment, 96);
        let time = Time(0x0123_4567_89ab_cdef);
        let (flags, comment) = (Flags::Outbound, comment.as_str());
        let packet =
            Packet { interface: 0, time, bytes: &bytes, length: 1000, flags, comment, segment_size: None };
        pcapng::packet(&mut file, &packet);
        pcapng::statistics(&mut file, 0, time, (3, 2));
        let mut read = Read::default();
        read.take(&file);
        let port = comment.to_owned();
        let seen = Seen { port: port.clone(), flags: 2, comment: port.clone(), bytes, length: 1000 };
        assert_eq!((read.packets, read.statistics), (vec![seen], vec![(port, 3, 2)]));
        let (_, block) = parse_block_le(&file[file.len() - 52..]).unwrap();
        let Block::InterfaceStatistics(block) = block else { panic!("{block:?}") };
        assert_eq!((block.ts_high, block.ts_low), (0x0123_4567, 0x89ab_cdef));
    }
}
