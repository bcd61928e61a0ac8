//! The begin of `from_station`: which frames can go on, by their headers.

use super::{CONTEXT, END, FRAME, FromStation, INGRESS, L3, context, net16, offset, stack};
use crate::fastpath::assembler::If::{Eq, Gt, Ne};
use crate::fastpath::assembler::Op::{Add, And, Move, Shl, Shr};
use crate::fastpath::assembler::Reg::{R1, R2, R3, R5, Stack};
use crate::fastpath::assembler::Size::{Byte, Double, Half, Word};
use crate::fastpath::assembler::{Assembler, Label};
use crate::fastpath::layout::{IPV6_SOURCES, flag, word};
use crate::wire::EtherType;
use crate::wire::ip::protocol;

const ETHERTYPE: i16 = 12;
const IPV4_L4: i16 = L3 + 20;
const IPV6_L4: i16 = L3 + 40;
/// Offset of the byte whose high half is the length of a TCP header in 32-bit words.
const TCP_DATA_OFFSET: i16 = 12;
const TCP: i32 = protocol::TCP as i32;
const UDP: i32 = protocol::UDP as i32;
const ICMP: i32 = protocol::ICMP as i32;
const ICMPV6: i32 = protocol::ICMPV6 as i32;

impl FromStation<'_> {
    /// Only plain untagged frames go on, whose source the port may use.
    pub(super) fn headers(&self, a: &mut Assembler) {
        a.part("headers");
        a.load(Word, R5, INGRESS, offset(word::STATE));
        self.punt_unless_fast(a, R5);
        a.load(Word, R1, CONTEXT, context::VLAN_PRESENT);
        a.jump_if(Ne, R1, 0, self.punt);
        a.load(Word, FRAME, CONTEXT, context::DATA);
        a.load(Word, END, CONTEXT, context::DATA_END);
        self.punt_unless_length(a, L3);
        a.load(Word, R1, CONTEXT, context::LENGTH);
        a.store(Double, Stack, stack::LENGTH, R1);
        a.op(Move, R1, 0);
        a.store(Word, Stack, stack::ECHO, R1);
        let [ipv4, ipv6, echo, tcp_or_udp, plain] = std::array::from_fn(|_| a.label());
        a.load(Half, R1, FRAME, ETHERTYPE);
        a.jump_if(Eq, R1, net16(EtherType::IPV4.0), ipv4);
        a.jump_if(Eq, R1, net16(EtherType::IPV6.0), ipv6);
        for inspected in [EtherType::ARP, EtherType::C_TAG, EtherType::S_TAG] {
            a.jump_if(Eq, R1, net16(inspected.0), self.punt);
        }
        // Less than 0x0600 is a length, and IP may follow (SNAP). Other protocols have no addresses to check.
        a.load(Byte, R1, FRAME, ETHERTYPE);
        a.jump_if(Gt, R1, 5, plain);
        a.jump(self.punt);
        a.place(ipv4);
        self.ipv4(a, [tcp_or_udp, echo, plain]);
        a.place(ipv6);
        self.ipv6(a, [tcp_or_udp, echo, plain]);
        a.place(echo);
        a.op(Move, R1, 1);
        a.store(Word, Stack, stack::ECHO, R1);
        a.jump(plain);
        a.place(tcp_or_udp);
        self.transport(a, plain);
        a.place(plain);
    }

    /// Punts a frame that has not this many bytes in front.
    fn punt_unless_length(&self, a: &mut Assembler, bytes: i16) {
        a.op(Move, R2, FRAME);
        a.op(Add, R2, i32::from(bytes));
        a.jump_if(Gt, R2, END, self.punt);
    }

    /// Punts packets with options, loopback addresses, and ICMP other than echo. `R5` has the flags of the port.
    fn ipv4(&self, a: &mut Assembler, [tcp_or_udp, echo, plain]: [Label; 3]) {
        a.part("ipv4");
        const VERSION_AND_LENGTH: i16 = L3;
        const FRAGMENT: i16 = L3 + 6;
        const PROTOCOL: i16 = L3 + 9;
        const SOURCE: i16 = L3 + 12;
        const DESTINATION: i16 = L3 + 16;
        const LOOPBACK: i32 = 127;
        const OFFSET: u16 = 0x1fff;
        self.punt_unless_length(a, IPV4_L4);
        // The host gets nothing from or to 127.0.0.0/8.
        for address in [SOURCE, DESTINATION] {
            a.load(Byte, R1, FRAME, address);
            a.jump_if(Eq, R1, LOOPBACK, self.punt);
        }
        a.load(Byte, R1, FRAME, VERSION_AND_LENGTH);
        a.jump_if(Ne, R1, 0x45, self.punt);
        let [listed, first] = [a.label(), a.label()];
        a.load(Word, R1, FRAME, SOURCE);
        // 0.0.0.0 is also the value of an unused place of the list.
        a.jump_if(Eq, R1, 0, self.punt);
        for half in [0, 4] {
            a.load(Word, R2, INGRESS, offset(word::IPV4) + half);
            a.jump_if(Eq, R1, R2, listed);
        }
        self.punt_unless_source_allowed(a, listed);
        a.load(Byte, R3, FRAME, PROTOCOL);
        a.load(Half, R1, FRAME, FRAGMENT);
        a.op(And, R1, net16(OFFSET));
        a.jump_if(Eq, R1, 0, first);
        self.later_fragment(a, plain);
        a.place(first);
        self.punt_unless_length(a, IPV4_L4 + 4);
        a.op(Move, R5, i32::from(IPV4_L4));
        a.jump_if(Ne, R3, ICMP, tcp_or_udp);
        self.echo(a, IPV4_L4, [0, 8], [plain, echo]);
    }

    /// ICMP whose first byte is at `at`. Punts all but echo replies and echo requests.
    fn echo(&self, a: &mut Assembler, at: i16, [reply, request]: [i32; 2], [plain, echo]: [Label; 2]) {
        a.load(Byte, R1, FRAME, at);
        a.jump_if(Eq, R1, request, echo);
        a.jump_if(Eq, R1, reply, plain);
        a.jump(self.punt);
    }

    /// Of a fragmented packet with protocol `R3` the first fragment decides. That of ICMP may be for user space, and the
    /// others must not overtake it.
    fn later_fragment(&self, a: &mut Assembler, plain: Label) {
        [TCP, UDP].into_iter().for_each(|protocol| a.jump_if(Eq, R3, protocol, plain));
        a.jump(self.punt);
    }

    /// Punts a source address that the port may not use. With the guard, the list has the port's own addresses, and the
    /// source must be at `listed`; else it has the gateway's, and the source must not be. `R5` has the flags of the port,
    /// and is changed.
    fn punt_unless_source_allowed(&self, a: &mut Assembler, listed: Label) {
        let allowed = a.label();
        a.op(And, R5, flag::GUARD.cast_signed());
        a.jump_if(Ne, R5, 0, self.punt);
        a.jump(allowed);
        a.place(listed);
        a.op(And, R5, flag::GUARD.cast_signed());
        a.jump_if(Eq, R5, 0, self.punt);
        a.place(allowed);
    }

    /// Punts packets with extension headers, except fragments and jumbograms, and ICMPv6 other than echo.
    fn ipv6(&self, a: &mut Assembler, [tcp_or_udp, echo, plain]: [Label; 3]) {
        a.part("ipv6");
        const NEXT_HEADER: i16 = L3 + 6;
        const SOURCE: i16 = L3 + 8;
        self.punt_unless_length(a, IPV6_L4 + 4);
        let listed = a.label();
        a.load(Double, R1, FRAME, SOURCE);
        a.load(Double, R2, FRAME, SOURCE + 8);
        // Unspecified, as an unused place of the list, or one of the others that start with zeros.
        a.jump_if(Eq, R1, 0, self.punt);
        for source in 0..IPV6_SOURCES {
            let other = a.label();
            a.load(Double, R3, INGRESS, offset(word::IPV6 + 2 * source));
            a.jump_if(Ne, R1, R3, other);
            a.load(Double, R3, INGRESS, offset(word::IPV6 + 2 * source + 1));
            a.jump_if(Eq, R2, R3, listed);
            a.place(other);
        }
        self.punt_unless_source_allowed(a, listed);
        let [other, whole] = [a.label(), a.label()];
        a.load(Byte, R3, FRAME, NEXT_HEADER);
        a.jump_if(Ne, R3, 0, other);
        self.jumbogram(a, plain);
        a.place(other);
        a.jump_if(Ne, R3, i32::from(protocol::FRAGMENT), whole);
        self.fragment(a, tcp_or_udp, plain);
        a.place(whole);
        a.op(Move, R5, i32::from(IPV6_L4));
        a.jump_if(Ne, R3, ICMPV6, tcp_or_udp);
        self.echo(a, IPV6_L4, [129, 128], [plain, echo]);
    }

    /// An IPv6 packet whose only extension header is that of a fragment (RFC 8200 §4.5).
    fn fragment(&self, a: &mut Assembler, tcp_or_udp: Label, plain: Label) {
        const FRAGMENT_HEADER: i16 = 8;
        const OFFSET: u16 = 0xfff8;
        a.part("fragment");
        let first = a.label();
        self.punt_unless_length(a, IPV6_L4 + FRAGMENT_HEADER);
        a.load(Byte, R3, FRAME, IPV6_L4);
        a.load(Half, R1, FRAME, IPV6_L4 + 2);
        a.op(And, R1, net16(OFFSET));
        a.jump_if(Eq, R1, 0, first);
        self.later_fragment(a, plain);
        a.place(first);
        self.punt_unless_length(a, IPV6_L4 + FRAGMENT_HEADER + 4);
        a.op(Move, R5, i32::from(IPV6_L4 + FRAGMENT_HEADER));
        a.jump(tcp_or_udp);
    }

    /// A TCP super-frame of more than 64 KiB, which has the option of a jumbogram (RFC 2675) until it is segmented (BIG
    /// TCP, `ip6_output.c` in Linux `net/ipv6`).
    fn jumbogram(&self, a: &mut Assembler, plain: Label) {
        const HOP_BY_HOP: i16 = IPV6_L4;
        const TCP_HEADER: i16 = HOP_BY_HOP + 8;
        /// TCP is next, and the header has no more than 8 bytes.
        const NEXT_AND_LENGTH: u16 = 0x0600;
        const OPTION: u16 = 0xc204;
        a.part("jumbogram");
        self.punt_unless_length(a, TCP_HEADER + 20);
        for (at, value) in [(HOP_BY_HOP, NEXT_AND_LENGTH), (HOP_BY_HOP + 2, OPTION)] {
            a.load(Half, R1, FRAME, at);
            a.jump_if(Ne, R1, net16(value), self.punt);
        }
        a.load(Word, R1, CONTEXT, context::GSO_SIZE);
        a.jump_if(Eq, R1, 0, self.punt);
        a.op(Add, R1, i32::from(IPV6_L4));
        a.load(Byte, R3, FRAME, TCP_HEADER + TCP_DATA_OFFSET);
        self.store_segment_length(a, plain);
    }

    /// `R3` is the protocol, `R5` where its header is. Sets the length of the longest segment of a super-frame.
    fn transport(&self, a: &mut Assembler, plain: Label) {
        a.part("transport");
        const UDP_HEADER: i32 = 8;
        const TCP_HEADER: i32 = 20;
        /// From a server of DHCP or DHCPv6, and to a client, or to a server: the guard looks for a MAC in DHCP, and
        /// control gets DHCPv6.
        const SERVER_PORTS: [u16; 2] = [67, 547];
        const PORTS: [u16; 4] = [68, 546, 67, 547];
        let tcp = a.label();
        // The header: within the frame, as the caller has checked for its first four bytes.
        a.op(Move, R2, FRAME);
        a.op(Add, R2, R5);
        a.jump_if(Eq, R3, TCP, tcp);
        a.jump_if(Ne, R3, UDP, self.punt);
        a.op(Move, R1, R2);
        a.op(Add, R1, 4);
        a.jump_if(Gt, R1, END, self.punt);
        a.load(Half, R1, R2, 0);
        SERVER_PORTS.into_iter().for_each(|port| a.jump_if(Eq, R1, net16(port), self.punt));
        a.load(Half, R1, R2, 2);
        PORTS.into_iter().for_each(|port| a.jump_if(Eq, R1, net16(port), self.punt));
        a.load(Word, R1, CONTEXT, context::GSO_SIZE);
        a.jump_if(Eq, R1, 0, plain);
        a.op(Add, R1, UDP_HEADER);
        a.op(Add, R1, R5);
        a.store(Double, Stack, stack::LENGTH, R1);
        a.jump(plain);
        a.place(tcp);
        a.load(Word, R1, CONTEXT, context::GSO_SIZE);
        a.jump_if(Eq, R1, 0, plain);
        a.op(Move, R3, R2);
        a.op(Add, R3, TCP_HEADER);
        a.jump_if(Gt, R3, END, self.punt);
        a.load(Byte, R3, R2, TCP_DATA_OFFSET);
        a.op(Add, R1, R5);
        self.store_segment_length(a, plain);
    }

    /// `R1` is the payload of a segment and its headers before that of TCP, `R3` the byte with the length of that one.
    fn store_segment_length(&self, a: &mut Assembler, plain: Label) {
        a.op(Shr, R3, 4);
        a.op(Shl, R3, 2);
        a.op(Add, R1, R3);
        a.store(Double, Stack, stack::LENGTH, R1);
        a.jump(plain);
    }
}
