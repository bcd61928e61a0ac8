use super::*;

const SOURCE: Mac = Mac([2, 0, 0, 0, 0, 9]);
const PRIORITY: PriorityVector = PriorityVector {
    root: BridgeId { priority: 0x1000, mac: Mac([2, 0, 0, 0, 0, 1]) },
    cost: 0x0102_0304,
    bridge: BridgeId { priority: 0x8000, mac: Mac([2, 0, 0, 0, 0, 2]) },
    port: PortIdentifier(0x8003),
};
const TIMES: Times = Times { message_age: 1, max_age: 20, hello_time: 2, forward_delay: 15 };
const CONFIG: Bpdu = Bpdu::Config(ConfigBpdu {
    priority: PRIORITY,
    times: TIMES,
    topology_change: true,
    topology_change_ack: false,
});
const RST: Bpdu = Bpdu::Rst(RstBpdu {
    priority: PRIORITY,
    times: TIMES,
    role: BpduRole::Root,
    topology_change: false,
    proposal: false,
    learning: true,
    forwarding: true,
    agreement: true,
});

/// Written by hand from figures 9-1 and 9-3.
const INFORMATION: [u8; 30] =
    [0x10, 0, 2, 0, 0, 0, 0, 1, 1, 2, 3, 4, 0x80, 0, 2, 0, 0, 0, 0, 2, 0x80, 3, 1, 0, 20, 0, 2, 0, 15, 0];

fn frame_of(length: u8, bpdu: &[u8]) -> Vec<u8> {
    let mut frame = [&Bpdu::GROUP.0[..], &SOURCE.0, &[0, length, 0x42, 0x42, 3], bpdu].concat();
    frame.resize(Bpdu::FRAME, 0);
    frame
}

#[test]
fn emits_the_octets_of_the_standard() {
    let config = frame_of(38, &[&[0, 0, 0, 0, 0x01][..], &INFORMATION].concat());
    assert_eq!(CONFIG.emit(SOURCE)[..], config);
    let rst = frame_of(39, &[&[0, 0, 2, 2, 0x78][..], &INFORMATION, &[0]].concat());
    assert_eq!(RST.emit(SOURCE)[..], rst);
    assert_eq!(Bpdu::Tcn.emit(SOURCE)[..], frame_of(7, &[0, 0, 0, 0x80]));
}

#[test]
fn round_trip() {
    for bpdu in [CONFIG, RST, Bpdu::Tcn] {
        assert_eq!(Bpdu::parse(&bpdu.emit(SOURCE)), Ok(bpdu));
    }
}

#[test]
fn discards_invalid_bpdus() {
    let changed = |bpdu: Bpdu, at: usize, value: u8| {
        let mut frame = bpdu.emit(SOURCE);
        frame[at] = value;
        Bpdu::parse(&frame)
    };
    for (at, value, error) in [
        (5, 1, BpduError::NotBpdu),
        (12, 6, BpduError::NotBpdu),
        (14, 0xaa, BpduError::NotBpdu),
        (16, 0, BpduError::NotBpdu),
        (13, 37, BpduError::Truncated),
        (13, 6, BpduError::Truncated),
        (13, 2, BpduError::Truncated),
        (13, 255, BpduError::Truncated),
        (HEADERS + 1, 1, BpduError::Protocol),
        (HEADERS + field::TYPE, 1, BpduError::Type),
        (HEADERS + field::MESSAGE_AGE, 20, BpduError::Expired),
    ] {
        assert_eq!(changed(CONFIG, at, value), Err(error), "octet {at} = {value}");
    }
    assert_eq!(changed(RST, 13, 38), Err(BpduError::Truncated));
    assert_eq!(changed(RST, HEADERS + field::VERSION, 1), Err(BpduError::Type));
}

/// 9.3.4 leaves room for later versions: they must be received as if they were of the known version.
#[test]
fn accepts_later_versions() {
    for (bpdu, version) in [(RST, 3), (RST, 255), (CONFIG, 4)] {
        let mut frame = bpdu.emit(SOURCE);
        frame[HEADERS + field::VERSION] = version;
        assert_eq!(Bpdu::parse(&frame), Ok(bpdu), "version {version}");
    }
}

#[test]
fn rounds_times_to_seconds() {
    let mut frame = CONFIG.emit(SOURCE);
    for (fraction, seconds) in [(0, 1), (127, 1), (128, 2), (255, 2)] {
        frame[HEADERS + field::MESSAGE_AGE + 1] = fraction;
        let Ok(Bpdu::Config(config)) = Bpdu::parse(&frame) else { panic!("valid") };
        assert_eq!(config.times.message_age, seconds);
    }
}

#[test]
fn truncated_frames_are_errors() {
    let frame = RST.emit(SOURCE);
    for end in 0..HEADERS + RST_LEN {
        assert!(Bpdu::parse(&frame[..end]).is_err(), "{end} octets");
    }
}

#[test]
fn describes_a_bpdu_in_one_line() {
    let ends = "root 1000.02:00:00:00:00:01, cost 16909060, bridge 8000.02:00:00:00:00:02.8003";
    assert_eq!(RST.to_string(), format!("RSTP, {ends}, flags [root, learning, forwarding, agreement]"));
    assert_eq!(CONFIG.to_string(), format!("STP, {ends}, flags [topology change]"));
    assert_eq!(Bpdu::Tcn.to_string(), "STP TCN");
}

#[test]
fn lower_vectors_are_better() {
    let better = [
        PriorityVector { root: BridgeId { priority: 0, mac: Mac::BROADCAST }, ..PRIORITY },
        PriorityVector { cost: PRIORITY.cost - 1, bridge: BridgeId::from_u64(u64::MAX), ..PRIORITY },
        PriorityVector { bridge: BridgeId { priority: 0x7000, mac: Mac::BROADCAST }, ..PRIORITY },
        PriorityVector { port: PortIdentifier::new(112, 4000), ..PRIORITY },
    ];
    assert!(better.iter().all(|vector| *vector < PRIORITY));
}
