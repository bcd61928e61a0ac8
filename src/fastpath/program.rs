//! The two programs of the fast path.
//!
//! ```text
//! eth0 of a container <-> host end --from_station--> eth0 of another container    (known unicast)
//!                                         |--------> eth0 of each other container (what is flooded)
//!                                         \--------> TAP --> worker               (everything else)
//! worker --> TAP --from_switch--> host end --> eth0 of the container
//! ```
//!
//! `from_station` forwards a frame only if [`crate::switch::Switch::process`] would forward it to the same port, or
//! flood it to the same ports. What it cannot tell in a few instructions, user space decides.
//!
//! `program/listing` has the instructions of both, with the names of the functions here that write them.

mod flood;
#[cfg(test)]
mod listing;

use super::assembler::If::{AnyOf, Eq, Gt, Ne};
use super::assembler::Op::{Add, And, Move, Mul, Or, Shl, Shr, Xor};
use super::assembler::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Stack};
use super::assembler::Size::{Byte, Double, Half, Word};
use super::assembler::{Assembler, Helper, Label, Reg};
use super::layout::{IPV4_SOURCES, IPV6_SOURCES, counter, flag, word};
use crate::switch::fdb::{BUCKET_WORDS, BucketHash, FLOOD, TICK_SHIFT, WAYS};
use crate::sys::bpf::Map;
use crate::wire::{ETHERNET_HEADER, EtherType};

/// The maps of the programs.
pub(super) struct Maps<'a> {
    /// By the index of a device: see [`word`].
    pub(super) ports: &'a dyn Map,
    /// By the index of a device: see [`counter`].
    pub(super) counters: &'a dyn Map,
    /// The buckets of [`crate::switch::fdb::Stations`].
    pub(super) stations: &'a dyn Map,
    /// How an address chooses its bucket.
    pub(super) hash: BucketHash,
}

/// What a program returns: `TC_ACT_SHOT`.
const DROP: i32 = 2;

/// Offsets in `struct __sk_buff`.
mod context {
    pub(super) const LENGTH: i16 = 0;
    pub(super) const VLAN_PRESENT: i16 = 20;
    pub(super) const IFINDEX: i16 = 40;
    pub(super) const DATA: i16 = 76;
    pub(super) const DATA_END: i16 = 80;
    pub(super) const GSO_SIZE: i16 = 176;
}

/// Places on the stack.
mod stack {
    /// The device of the ingress.
    pub(super) const IN: i16 = -4;
    /// The device of the egress.
    pub(super) const OUT: i16 = -8;
    /// The number of a bucket.
    pub(super) const BUCKET: i16 = -12;
    /// The frame's destination, as a key.
    pub(super) const DESTINATION: i16 = -24;
    /// The value of the source's station.
    pub(super) const SOURCE_STATION: i16 = -32;
    /// Length of the longest frame on the wire.
    pub(super) const LENGTH: i16 = -40;
    /// Whether the frame is an echo request or reply.
    pub(super) const ECHO: i16 = -44;
    /// The copies of a flood.
    pub(super) const COPIES: i16 = -56;
}

// Registers that several functions share.
const CONTEXT: Reg = R6;
/// The value of the ingress port.
const INGRESS: Reg = R7;
const FRAME: Reg = R8;
/// The value of the egress port, after [`FromStation::egress`]. The frame's bytes are not needed then.
const EGRESS: Reg = R8;
/// The end of the frame, until the first call.
const END: Reg = R4;
/// The key of a station that is looked for.
const KEY: Reg = R9;

const ETHERTYPE: i16 = 12;
const SOURCE: i16 = 6;
const DESTINATION: i16 = 0;
const L3: i16 = 14;
const IPV4_L4: i16 = L3 + 20;
const IPV6_L4: i16 = L3 + 40;
/// Offset of the byte whose high half is the length of a TCP header in 32-bit words.
const TCP_DATA_OFFSET: i16 = 12;

#[allow(clippy::cast_possible_truncation, reason = "of a value of at most 128 bytes")]
const fn offset(word: usize) -> i16 {
    8 * word as i16
}

/// A 16-bit field in network byte order, as it is loaded.
fn net16(value: u16) -> i32 {
    i32::from(value.to_be())
}

/// The program at the host end of a port.
pub(super) fn from_station(maps: &Maps<'_>) -> Assembler {
    let mut a = Assembler::default();
    let program = FromStation { maps, punt: a.label() };
    a.part("from_station");
    a.op(Move, CONTEXT, R1);
    let drop = ingress_port(&mut a, maps);
    a.op(Move, INGRESS, R0);
    program.headers(&mut a);
    program.stations(&mut a);
    program.forward(&mut a);
    a.part("punt");
    a.place(program.punt);
    // The low half of the first word.
    a.load(Word, R1, INGRESS, offset(word::DEVICES));
    redirect(&mut a, Helper::Redirect);
    finish(a, drop)
}

/// The program at the TAP of a port: what user space sends goes to the host end, and from there into the container.
pub(super) fn from_switch(maps: &Maps<'_>) -> Assembler {
    let mut a = Assembler::default();
    a.part("from_switch");
    let drop = ingress_port(&mut a, maps);
    a.load(Word, R1, R0, offset(word::DEVICES) + 4);
    redirect(&mut a, Helper::Redirect);
    finish(a, drop)
}

/// `R0` = the value of the device that received the frame. Without one the frame goes to the returned label. `R1` is
/// the context of the program.
fn ingress_port(a: &mut Assembler, maps: &Maps<'_>) -> Label {
    let none = a.label();
    a.load(Word, R1, R1, context::IFINDEX);
    a.store(Word, Stack, stack::IN, R1);
    look_up(a, maps.ports, stack::IN);
    a.jump_if(Eq, R0, 0, none);
    none
}

/// Ends the program: the frame goes to the device in `R1`.
fn redirect(a: &mut Assembler, how: Helper) {
    a.op(Move, R2, 0);
    a.call(how);
    a.exit();
}

/// The program, which drops the frame at this label.
fn finish(mut a: Assembler, drop: Label) -> Assembler {
    a.part("drop");
    a.place(drop);
    a.op(Move, R0, DROP);
    a.exit();
    a
}

/// `R0` = the value of the map whose index is on the stack, or null.
fn look_up(a: &mut Assembler, map: &dyn Map, index: i16) {
    a.map(R1, map);
    a.op(Move, R2, Stack);
    a.op(Add, R2, i32::from(index));
    a.call(Helper::MapLookup);
}

struct FromStation<'a> {
    maps: &'a Maps<'a>,
    /// User space decides.
    punt: Label,
}

impl FromStation<'_> {
    /// Only plain untagged frames go on, whose source the port may use.
    fn headers(&self, a: &mut Assembler) {
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
        self.ipv4(a, tcp_or_udp, echo);
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

    /// Punts unless the flags of a port say that it is up, and not that user space decides. Changes `R1`.
    fn punt_unless_fast(&self, a: &mut Assembler, flags: Reg) {
        a.op(Move, R1, flags);
        a.op(And, R1, (flag::UP | flag::PUNT).cast_signed());
        a.jump_if(Ne, R1, flag::UP.cast_signed(), self.punt);
    }

    /// Punts a frame that has not this many bytes in front.
    fn punt_unless_length(&self, a: &mut Assembler, bytes: i16) {
        a.op(Move, R2, FRAME);
        a.op(Add, R2, i32::from(bytes));
        a.jump_if(Gt, R2, END, self.punt);
    }

    /// Punts packets with options, fragments, loopback addresses, and ICMP other than echo. `R5` has the flags of the
    /// port.
    fn ipv4(&self, a: &mut Assembler, tcp_or_udp: Label, echo: Label) {
        a.part("ipv4");
        const VERSION_AND_LENGTH: i16 = L3;
        const FRAGMENT: i16 = L3 + 6;
        const PROTOCOL: i16 = L3 + 9;
        const SOURCE: i16 = L3 + 12;
        const DESTINATION: i16 = L3 + 16;
        const LOOPBACK: i32 = 127;
        const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
        const ECHO: [i32; 2] = [0, 8];
        self.punt_unless_length(a, IPV4_L4 + 4);
        // The host gets nothing from or to 127.0.0.0/8.
        for address in [SOURCE, DESTINATION] {
            a.load(Byte, R1, FRAME, address);
            a.jump_if(Eq, R1, LOOPBACK, self.punt);
        }
        a.load(Byte, R1, FRAME, VERSION_AND_LENGTH);
        a.jump_if(Ne, R1, 0x45, self.punt);
        a.load(Half, R1, FRAME, FRAGMENT);
        a.jump_if(AnyOf, R1, net16(MORE_FRAGMENTS_AND_OFFSET), self.punt);
        let listed = a.label();
        a.load(Word, R1, FRAME, SOURCE);
        // 0.0.0.0 is also the value of an unused place of the list.
        a.jump_if(Eq, R1, 0, self.punt);
        for half in [0, 4] {
            a.load(Word, R2, INGRESS, offset(word::IPV4) + half);
            a.jump_if(Eq, R1, R2, listed);
        }
        self.punt_unless_source_allowed(a, listed);
        a.load(Byte, R3, FRAME, PROTOCOL);
        a.op(Move, R5, i32::from(IPV4_L4));
        a.jump_if(Ne, R3, 1, tcp_or_udp);
        a.load(Byte, R1, FRAME, IPV4_L4);
        ECHO.into_iter().for_each(|kind| a.jump_if(Eq, R1, kind, echo));
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

    /// Punts packets with extension headers, except jumbograms, and ICMPv6 other than echo.
    fn ipv6(&self, a: &mut Assembler, [tcp_or_udp, echo, plain]: [Label; 3]) {
        a.part("ipv6");
        const NEXT_HEADER: i16 = L3 + 6;
        const SOURCE: i16 = L3 + 8;
        const ICMPV6: i32 = 58;
        const ECHO: [i32; 2] = [128, 129];
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
        let other = a.label();
        a.load(Byte, R3, FRAME, NEXT_HEADER);
        a.jump_if(Ne, R3, 0, other);
        self.jumbogram(a, plain);
        a.place(other);
        a.op(Move, R5, i32::from(IPV6_L4));
        a.jump_if(Ne, R3, ICMPV6, tcp_or_udp);
        a.load(Byte, R1, FRAME, IPV6_L4);
        ECHO.into_iter().for_each(|kind| a.jump_if(Eq, R1, kind, echo));
        a.jump(self.punt);
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
        const TCP: i32 = 6;
        const UDP: i32 = 17;
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

    /// The source is behind the ingress, and the destination behind another port, which takes the frame. For a
    /// flood that port is a [`crate::switch::fdb::flood_device`].
    fn stations(&self, a: &mut Assembler) {
        a.part("stations");
        key_at(a, DESTINATION);
        a.store(Double, Stack, stack::DESTINATION, KEY);
        key_at(a, SOURCE);
        let allowed = a.label();
        a.load(Word, R1, INGRESS, offset(word::STATE));
        a.op(And, R1, flag::GUARD.cast_signed());
        a.jump_if(Eq, R1, 0, allowed);
        a.load(Double, R1, INGRESS, offset(word::MAC));
        a.jump_if(Ne, R1, KEY, self.punt);
        a.place(allowed);
        self.find(a);
        a.part("the source is behind the ingress");
        a.store(Double, Stack, stack::SOURCE_STATION, R0);
        a.load(Word, R2, Stack, stack::IN);
        a.jump_if(Ne, R1, R2, self.punt);
        a.load(Double, KEY, Stack, stack::DESTINATION);
        self.find(a);
        a.part("the destination is behind another port");
        a.load(Word, R2, Stack, stack::IN);
        a.jump_if(Eq, R1, R2, self.punt);
        a.store(Word, Stack, stack::OUT, R1);
        self.egress(a);
    }

    /// Punts unless the egress takes the frame. Leaves its value in [`EGRESS`].
    fn egress(&self, a: &mut Assembler) {
        a.part("egress");
        look_up(a, self.maps.ports, stack::OUT);
        a.jump_if(Eq, R0, 0, self.punt);
        a.load(Double, R1, INGRESS, offset(word::VLAN));
        a.load(Double, R2, R0, offset(word::VLAN));
        a.jump_if(Ne, R1, R2, self.punt);
        a.load(Word, R2, R0, offset(word::STATE));
        self.punt_unless_fast(a, R2);
        a.load(Word, R1, INGRESS, offset(word::STATE));
        a.op(And, R1, R2);
        a.op(And, R1, flag::ISOLATED.cast_signed());
        a.jump_if(Ne, R1, 0, self.punt);
        let taken = a.label();
        a.op(And, R2, flag::HOST.cast_signed());
        a.jump_if(Eq, R2, 0, taken);
        // The gateway answers those to its addresses.
        a.load(Word, R1, Stack, stack::ECHO);
        a.jump_if(Ne, R1, 0, self.punt);
        a.place(taken);
        a.load(Word, R1, R0, offset(word::STATE) + 4);
        a.load(Double, R2, Stack, stack::LENGTH);
        a.jump_if(Gt, R2, R1, self.punt);
        a.op(Move, EGRESS, R0);
    }

    /// `R0` = the value of the station [`KEY`], and `R1` = its device. Punts without one.
    fn find(&self, a: &mut Assembler) {
        a.part("find");
        // The key of an empty place.
        a.jump_if(Eq, KEY, 0, self.punt);
        let BucketHash { mask, factor, shift } = self.maps.hash;
        a.constant(R1, mask);
        a.op(Xor, R1, KEY);
        a.constant(R2, factor);
        a.op(Mul, R1, R2);
        a.op(Shr, R1, shift.cast_signed());
        a.store(Word, Stack, stack::BUCKET, R1);
        look_up(a, self.maps.stations, stack::BUCKET);
        a.jump_if(Eq, R0, 0, self.punt);
        let found = a.label();
        for way in 0..WAYS {
            let next = a.label();
            a.load(Double, R1, R0, offset(way));
            a.jump_if(Ne, R1, KEY, next);
            // The key, the device and the key again (see `Stations`). The address of each load depends on the value
            // loaded before, so that no CPU reorders them.
            dependent_address(a, R3, R1);
            a.load(Word, R1, R3, offset(WAYS + way));
            dependent_address(a, R3, R1);
            a.load(Double, R2, R3, offset(way));
            a.jump_if(Ne, R2, KEY, self.punt);
            a.op(Add, R0, i32::from(offset(WAYS + way)));
            a.jump(found);
            a.place(next);
        }
        a.jump(self.punt);
        a.place(found);
    }

    /// Sends the frame, marks its source as seen, and counts it.
    fn forward(&self, a: &mut Assembler) {
        a.part("forward");
        let flood = a.label();
        a.load(Word, R1, Stack, stack::OUT);
        a.jump_if(Gt, R1, FLOOD.cast_signed() - 1, flood);
        refresh(a);
        self.count(a, stack::IN, counter::RX_FRAMES);
        self.count(a, stack::OUT, counter::TX_FRAMES);
        a.part("redirect");
        // `bpf_redirect_peer` delivers each frame as PACKET_HOST. One for another host behind the port must stay
        // PACKET_OTHERHOST.
        let other = a.label();
        a.load(Double, R3, EGRESS, offset(word::MAC));
        a.load(Double, R2, Stack, stack::DESTINATION);
        a.load(Word, R1, Stack, stack::OUT);
        a.jump_if(Ne, R3, R2, other);
        redirect(a, Helper::RedirectPeer);
        a.place(other);
        redirect(a, Helper::Redirect);
        a.place(flood);
        self.flood(a);
    }

    /// Adds the frame to the counter `frames` of a device, and its length to the next one.
    fn count(&self, a: &mut Assembler, device: i16, frames: usize) {
        a.part("count");
        let none = a.label();
        look_up(a, self.maps.counters, device);
        a.jump_if(Eq, R0, 0, none);
        a.load(Double, R1, R0, offset(frames));
        a.op(Add, R1, 1);
        a.store(Double, R0, offset(frames), R1);
        a.load(Word, R2, CONTEXT, context::LENGTH);
        a.load(Double, R1, R0, offset(frames + 1));
        a.op(Add, R1, R2);
        a.store(Double, R0, offset(frames + 1), R1);
        a.place(none);
    }
}

/// `address` = `R0`, by way of a value that was loaded.
fn dependent_address(a: &mut Assembler, address: Reg, loaded: Reg) {
    a.op(Move, address, loaded);
    a.op(And, address, 0);
    a.op(Add, address, R0);
}

/// Marks the source as seen.
fn refresh(a: &mut Assembler) {
    a.part("refresh");
    a.call(Helper::CoarseTime);
    a.op(Shr, R0, TICK_SHIFT.cast_signed());
    a.op(Shl, R0, 32);
    a.op(Shr, R0, 32);
    let fresh = a.label();
    a.load(Double, R3, Stack, stack::SOURCE_STATION);
    a.load(Word, R1, R3, 4);
    a.jump_if(Eq, R1, R0, fresh);
    a.store(Word, R3, 4, R0);
    a.place(fresh);
}

/// [`KEY`] = the address at this offset of the frame, in the VLAN of the ingress port.
fn key_at(a: &mut Assembler, at: i16) {
    a.load(Half, KEY, FRAME, at);
    a.op(Shl, KEY, 32);
    a.load(Word, R1, FRAME, at + 2);
    a.op(Or, KEY, R1);
    a.load(Double, R1, INGRESS, offset(word::VLAN));
    a.op(Or, KEY, R1);
}

const _: () = assert!(ETHERNET_HEADER == 14 && IPV4_SOURCES == 2 && BUCKET_WORDS * 8 == 64);
