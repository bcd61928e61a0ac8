//! Attaches BPF programs to the ingress of devices, as `tc qdisc add clsact` and `tc filter add ingress bpf
//! direct-action` do (Linux `net/sched/cls_bpf.c`). A program is detached when its device is deleted.
//!
//! tcx (Linux 6.6) does the same with less, but waits for an RCU grace period for each device, with the RTNL lock held:
//! 30 ms for each port.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use crate::sys::bpf::Program;
use crate::sys::netlink::NetlinkRequest;

/// `TCA_BPF_FD` in Linux `include/uapi/linux/pkt_cls.h`.
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
/// The program's return value is the verdict (`TCA_BPF_FLAG_ACT_DIRECT`).
const DIRECT_ACTION: u32 = 1;
/// `ETH_P_ALL`, with which the program sees every frame.
const EVERY_PROTOCOL: u16 = 3;
const PRIORITY: u32 = 1;

/// The requests that attach a program to the device with this index.
pub(super) fn attach(ifindex: u32, program: &Program) -> [NetlinkRequest; 2] {
    let mut qdisc = TcMessage::default();
    qdisc.header.index = ifindex.cast_signed();
    qdisc.header.parent = TcHandle::CLSACT;
    qdisc.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
    qdisc.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
    let mut filter = TcMessage::default();
    filter.header.index = ifindex.cast_signed();
    filter.header.parent = TcHandle { major: TcHandle::CLSACT.major, minor: TcHandle::MIN_INGRESS };
    filter.header.info = PRIORITY << 16 | u32::from(EVERY_PROTOCOL.to_be());
    let option = |kind, value: &[u8]| TcOption::Other(DefaultNla::new(kind, value.to_vec()));
    let options = vec![
        option(TCA_BPF_FD, &program.as_fd().as_raw_fd().to_ne_bytes()),
        option(TCA_BPF_NAME, b"uswitch\0"),
        option(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes()),
    ];
    filter.attributes = vec![TcAttribute::Kind("bpf".to_owned()), TcAttribute::Options(options)];
    [
        NetlinkRequest::create(
            "add the classifier of a device",
            RouteNetlinkMessage::NewQueueDiscipline(qdisc),
        ),
        NetlinkRequest::create(
            "attach a BPF program to a device",
            RouteNetlinkMessage::NewTrafficFilter(filter),
        ),
    ]
}
