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
mod headers;
#[cfg(test)]
mod listing;

use super::assembler::If::{Eq, Gt, Ne};
use super::assembler::Op::{Add, And, Move, Mul, Or, Shl, Shr, Xor};
use super::assembler::Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9, Stack};
use super::assembler::Size::{Double, Half, Word};
use super::assembler::{Assembler, Helper, Label, Reg};
use super::layout::{IPV4_SOURCES, counter, flag, word};
use crate::switch::fdb::{BUCKET_WORDS, BucketHash, FLOOD, TICK_SHIFT, WAYS};
use crate::sys::bpf::Map;
use crate::wire::ETHERNET_HEADER;

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
    /// Whether the frame is an echo request.
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

const SOURCE: i16 = 6;
const DESTINATION: i16 = 0;
const L3: i16 = 14;

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
    /// Punts unless the flags of a port say that it is up, and not that user space decides. Changes `R1`.
    fn punt_unless_fast(&self, a: &mut Assembler, flags: Reg) {
        a.op(Move, R1, flags);
        a.op(And, R1, (flag::UP | flag::PUNT).cast_signed());
        a.jump_if(Ne, R1, flag::UP.cast_signed(), self.punt);
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
