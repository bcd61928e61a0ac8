//! The end of `from_station` for frames that are flooded.

use super::{CONTEXT, EGRESS, FromStation, look_up, offset, redirect, refresh, stack};
use crate::fastpath::assembler::If::{AnyOf, Eq, Gt, Ne};
use crate::fastpath::assembler::Op::{Add, And, Move, Shl, Shr, Xor};
use crate::fastpath::assembler::Reg::{R0, R1, R2, R3, R7, R8, R9, Stack};
use crate::fastpath::assembler::Size::{Double, Word};
use crate::fastpath::assembler::{Assembler, Helper, Reg};
use crate::fastpath::layout::{FIRST_HOST_END, FLOOD_PORTS, counter, word};

/// The ports that do not have the frame yet. Bit 0 is that of [`DEVICE`].
const PORTS: Reg = R9;
/// The device that gets the next copy; 0: none yet.
const PENDING: Reg = R8;
const DEVICE: Reg = R7;

impl FromStation<'_> {
    /// Sends a copy to each port but the ingress. The last one gets the frame itself.
    pub(super) fn flood(&self, a: &mut Assembler) {
        const END: i32 = (FIRST_HOST_END + 2 * FLOOD_PORTS).cast_signed();
        a.part("flood");
        self.other_flood_ports(a);
        refresh(a);
        self.count(a, stack::IN, counter::RX_FRAMES);
        a.op(Move, PENDING, 0);
        a.store(Double, Stack, stack::COPIES, PENDING);
        a.op(Move, DEVICE, FIRST_HOST_END.cast_signed());
        let [next, wanted, first, end] = std::array::from_fn(|_| a.label());
        a.part("flood: a copy for each port");
        let top = a.here();
        a.jump_if(Eq, PORTS, 0, end);
        a.jump_if(AnyOf, PORTS, 1, wanted);
        a.jump(next);
        a.place(wanted);
        a.jump_if(Eq, PENDING, 0, first);
        clone_redirect(a, PENDING);
        a.place(first);
        a.op(Move, PENDING, DEVICE);
        a.store(Word, Stack, stack::OUT, DEVICE);
        self.count(a, stack::OUT, counter::TX_FRAMES);
        a.load(Double, R1, Stack, stack::COPIES);
        a.op(Add, R1, 1);
        a.store(Double, Stack, stack::COPIES, R1);
        a.place(next);
        a.op(Shr, PORTS, 1);
        a.op(Add, DEVICE, 2);
        a.jump_if(Ne, DEVICE, END, top);
        a.place(end);
        self.count_flood(a);
        a.op(Move, R1, PENDING);
        redirect(a, Helper::Redirect);
    }

    /// Reads the ports that get floods, and leaves out the ingress. Punts if there are no others.
    fn other_flood_ports(&self, a: &mut Assembler) {
        a.load(Double, PORTS, EGRESS, offset(word::FLOOD_PORTS));
        a.load(Word, R1, Stack, stack::IN);
        a.op(Add, R1, -FIRST_HOST_END.cast_signed());
        a.op(Shr, R1, 1);
        a.jump_if(Gt, R1, FLOOD_PORTS.cast_signed() - 1, self.punt);
        a.op(Move, R2, 1);
        a.op(Shl, R2, R1);
        a.op(Xor, R2, -1);
        a.op(And, PORTS, R2);
        a.jump_if(Eq, PORTS, 0, self.punt);
    }

    /// Counts a flood on the ingress.
    fn count_flood(&self, a: &mut Assembler) {
        a.part("count_flood");
        let none = a.label();
        look_up(a, self.maps.counters, stack::IN);
        a.jump_if(Eq, R0, 0, none);
        a.load(Double, R1, R0, offset(counter::FLOODED));
        a.op(Add, R1, 1);
        a.store(Double, R0, offset(counter::FLOODED), R1);
        a.load(Double, R1, R0, offset(counter::FLOOD_COPIES));
        a.load(Double, R2, Stack, stack::COPIES);
        a.op(Add, R1, R2);
        a.store(Double, R0, offset(counter::FLOOD_COPIES), R1);
        a.place(none);
    }
}

/// Sends a copy of the frame to a device.
fn clone_redirect(a: &mut Assembler, device: Reg) {
    a.op(Move, R1, CONTEXT);
    a.op(Move, R2, device);
    a.op(Move, R3, 0);
    a.call(Helper::CloneRedirect);
}
