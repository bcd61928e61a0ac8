//! The measured cases. Each is prepared once, and then processes one frame per call.

use std::hint::black_box;

use uswitch::switch::{Counters, DropReason, Frame, Outcome, PortId, Switch, SwitchReply, Tick, Verdict};
use uswitch::wire::arp::Arp;
use uswitch::wire::checksum::checksum;
use uswitch::wire::ip::transport4;
use uswitch::wire::{EtherType, EthernetFrame, Mac, Segments, VnetHeader};

use crate::fixture::{GATEWAY, GATEWAY_V4, frame, host, shuffled, super_frame, switch};

/// A case: its name, and the function that prepares it.
type Case = (&'static str, fn() -> Box<dyn FnMut()>);

pub(crate) const CASES: &[Case] = &[
    ("known unicast", known_unicast),
    ("known unicast, 1000 hosts", known_unicast_of_many),
    ("known unicast, super-frame", known_super_frame),
    ("unknown unicast to 3 ports", unknown_unicast),
    ("broadcast to 3 ports", broadcast),
    ("refreshed in a new tick", refresh),
    ("new source", new_source),
    ("new source, full table", new_source_when_full),
    ("MAC move", mac_move),
    ("ARP for the gateway, answered", arp_request),
    ("ARP in the gateway's name, dropped", arp_spoof),
    ("parse", parse),
    ("checksum of 1500 B", checksum_1500),
    ("segmentation of 64 KiB", segmentation),
];

/// A switch with a host port and three other ports, and a frame from port 1.
struct Fixture {
    switch: Switch,
    counters: Counters,
    outcome: Outcome,
    bytes: Vec<u8>,
    vnet: VnetHeader,
    now: Tick,
}

impl Fixture {
    /// Hosts 1 to `hosts` are known: odd ones on port 1, even ones on port 2. The frame is from host 1 to
    /// host 2.
    fn new(fdb_max: usize, hosts: u64) -> Fixture {
        let switch = switch(4, fdb_max);
        for n in 1..=hosts {
            switch.fdb.learn(Tick(0), host(n), PortId(if n % 2 == 1 { 1 } else { 2 }));
        }
        let bytes = frame(host(2).mac, host(1).mac);
        let (counters, outcome) = (Counters::default(), Outcome::default());
        Fixture { switch, counters, outcome, bytes, vnet: VnetHeader::default(), now: Tick(0) }
    }

    fn to(&mut self, destination: Mac) {
        self.bytes[..6].copy_from_slice(&destination.0);
    }

    fn from(&mut self, source: Mac) {
        self.bytes[6..12].copy_from_slice(&source.0);
    }

    /// Decides and counts, as a worker does.
    fn process(&mut self, ingress: u16) -> Verdict {
        let frame = Frame { bytes: black_box(&self.bytes), vnet: self.vnet };
        let outcome = &mut self.outcome;
        self.switch.process(self.now, PortId(ingress), &frame, outcome, &mut ());
        self.counters.count(outcome);
        if outcome.is_notable() {
            self.counters.count_learned(outcome);
        }
        black_box(self.outcome.verdict())
    }

    /// Processes a frame that is flooded to three ports.
    fn flood(&mut self) {
        assert_eq!(self.process(1), Verdict::Flood);
        assert_eq!(black_box(self.outcome.egress()).len(), 3);
    }
}

const TO_2: Verdict = Verdict::Forward(PortId(2));

fn known_unicast() -> Box<dyn FnMut()> {
    let mut fixture = Fixture::new(64, 2);
    Box::new(move || assert_eq!(fixture.process(1), TO_2))
}

fn known_unicast_of_many() -> Box<dyn FnMut()> {
    let mut fixture = Fixture::new(8192, 1000);
    let (mut sources, mut destinations) = (shuffled(500), shuffled(500));
    Box::new(move || {
        fixture.from(host(2 * sources() + 1).mac);
        fixture.to(host(2 * destinations() + 2).mac);
        assert_eq!(fixture.process(1), TO_2);
    })
}

fn known_super_frame() -> Box<dyn FnMut()> {
    let mut fixture = Fixture::new(64, 2);
    (fixture.bytes, fixture.vnet) = super_frame(host(2).mac, host(1).mac);
    Box::new(move || assert_eq!(fixture.process(1), TO_2))
}

fn unknown_unicast() -> Box<dyn FnMut()> {
    let mut fixture = Fixture::new(64, 2);
    fixture.to(host(9999).mac);
    Box::new(move || fixture.flood())
}

fn broadcast() -> Box<dyn FnMut()> {
    let mut fixture = Fixture::new(64, 2);
    fixture.to(Mac::BROADCAST);
    Box::new(move || fixture.flood())
}

fn refresh() -> Box<dyn FnMut()> {
    let mut fixture = Fixture::new(64, 2);
    Box::new(move || {
        fixture.now.0 += 1;
        assert_eq!(fixture.process(1), TO_2);
    })
}

fn new_source() -> Box<dyn FnMut()> {
    new_sources(Fixture::new(1 << 16, 2))
}

fn new_source_when_full() -> Box<dyn FnMut()> {
    const MAX: usize = 1024;
    new_sources(Fixture::new(MAX, MAX as u64))
}

fn new_sources(mut fixture: Fixture) -> Box<dyn FnMut()> {
    let mut fresh = 10_000;
    fixture.to(Mac::BROADCAST);
    Box::new(move || {
        fresh += 1;
        fixture.from(host(fresh).mac);
        assert_eq!(fixture.process(1), Verdict::Flood);
    })
}

fn mac_move() -> Box<dyn FnMut()> {
    let mut fixture = Fixture::new(64, 2);
    let mut ingress = 1;
    Box::new(move || {
        ingress = 4 - ingress;
        assert_eq!(fixture.process(ingress), TO_2);
    })
}

/// An ARP request for the gateway's address from this sender address.
fn arp(sender: [u8; 4]) -> Vec<u8> {
    let message = Arp {
        operation: Arp::REQUEST,
        sender_mac: host(1).mac,
        sender_ip: sender.into(),
        target_mac: Mac([0; 6]),
        target_ip: GATEWAY_V4,
    };
    [&Mac::BROADCAST.0[..], &host(1).mac.0, &EtherType::ARP.0.to_be_bytes(), &message.emit()].concat()
}

fn arp_request() -> Box<dyn FnMut()> {
    let mut fixture = Fixture::new(64, 2);
    let question = arp([192, 0, 2, 11]);
    let mut reply = vec![0; question.len() + SwitchReply::GROWTH];
    fixture.bytes.clone_from(&question);
    Box::new(move || {
        let Verdict::Answer(answer) = fixture.process(1) else { panic!("the gateway answers") };
        reply[..question.len()].copy_from_slice(&question);
        let length = answer.emit(&fixture.switch.gateway, &mut reply, question.len());
        assert_eq!((length, &black_box(&reply)[6..12]), (question.len(), &GATEWAY.0[..]));
    })
}

fn arp_spoof() -> Box<dyn FnMut()> {
    let mut fixture = Fixture::new(64, 2);
    fixture.bytes = arp(GATEWAY_V4.octets());
    Box::new(move || assert_eq!(fixture.process(1), Verdict::Drop(DropReason::SpoofedGateway)))
}

/// Only the headers: virtio-net, Ethernet, IPv4.
fn parse() -> Box<dyn FnMut()> {
    let (frame, vnet) = super_frame(host(2).mac, host(1).mac);
    let header = vnet.emit();
    Box::new(move || {
        let vnet = VnetHeader::parse(black_box(&header)).expect("a whole header");
        let ethernet = EthernetFrame::new_checked(black_box(&frame)).expect("not a runt");
        black_box((ethernet.dst(), ethernet.src(), ethernet.innermost(), vnet.is_complete()));
        assert_eq!(transport4(ethernet.payload()), Some(20));
    })
}

fn checksum_1500() -> Box<dyn FnMut()> {
    let bytes: Vec<u8> = (0..=255).cycle().take(1500).collect();
    Box::new(move || {
        black_box(checksum(black_box(&bytes)));
    })
}

fn segmentation() -> Box<dyn FnMut()> {
    let (frame, vnet) = super_frame(host(2).mac, host(1).mac);
    let mut out = vec![0; 2048];
    Box::new(move || {
        let mut segments = Segments::new(black_box(&frame), &vnet).expect("the frame is right");
        let mut count = 0;
        while let Some(length) = segments.next_into(&mut out) {
            black_box(&out[..length]);
            count += 1;
        }
        assert_eq!(count, 45);
    })
}
