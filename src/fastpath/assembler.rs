//! An assembler for BPF: what the programs here need (Linux `Documentation/bpf/standardization/instruction-set.rst`).

use std::collections::HashMap;

use crate::sys::bpf::{Insn, Map};

/// A register. R0 has results, R1 to R5 are arguments and are lost in a call, R6 to R9 stay, and R10 is the end of the
/// stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "numbers")]
pub(super) enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    Stack,
}

/// How much a load or store moves.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Size {
    /// 32 bits.
    Word = 0x00,
    /// 16 bits.
    Half = 0x08,
    /// 8 bits.
    Byte = 0x10,
    /// 64 bits.
    Double = 0x18,
}

/// Arithmetic, on 64 bits.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
#[allow(missing_docs, reason = "as they are called")]
pub(super) enum Op {
    Add = 0x00,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    Shl = 0x60,
    Shr = 0x70,
    Xor = 0xa0,
    Move = 0xb0,
}

/// The condition of a jump; comparisons are unsigned.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum If {
    /// Equal.
    Eq = 0x10,
    /// Greater.
    Gt = 0x20,
    /// A bit of both is set.
    AnyOf = 0x40,
    /// Not equal.
    Ne = 0x50,
}

/// An operand: a register, or a constant, which is sign-extended to 64 bits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand {
    /// A register.
    Reg(Reg),
    /// A constant.
    Constant(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Operand {
        Operand::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(constant: i32) -> Operand {
        Operand::Constant(constant)
    }
}

/// Where a jump leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Label(usize);

/// Functions of the kernel that a program calls: `enum bpf_func_id`.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(super) enum Helper {
    /// `bpf_map_lookup_elem(map, key)`: a pointer to the value, or null.
    MapLookup = 1,
    /// `bpf_clone_redirect(frame, ifindex, flags)`: send a copy of the frame on that device.
    CloneRedirect = 13,
    /// `bpf_redirect(ifindex, flags)`: send the frame on that device.
    Redirect = 23,
    /// `bpf_redirect_peer(ifindex, flags)`: receive the frame on the other end of that veth device.
    RedirectPeer = 155,
    /// `bpf_ktime_get_coarse_ns()`: `CLOCK_MONOTONIC_COARSE`.
    CoarseTime = 160,
}

// Classes and sources of `code`.
const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const LOAD_CONSTANT: u8 = 0x18;
const ALU64: u8 = 0x07;
const JUMP: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const FROM_REG: u8 = 0x08;
/// In the source register of [`LOAD_CONSTANT`]: the constant is the descriptor of a map (`BPF_PSEUDO_MAP_FD`).
const MAP_FD: u8 = 1;

/// A program that is being written.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Insn>,
    /// Where a label is, once it is known.
    labels: HashMap<Label, usize>,
    jumps: Vec<(usize, Label)>,
    made: usize,
    /// Where a part begins, and its name.
    parts: Vec<(usize, &'static str)>,
}

impl Assembler {
    #[allow(clippy::too_many_arguments, reason = "the fields of an instruction")]
    fn push(&mut self, code: u8, dst: Reg, src: u8, off: i16, imm: i32) {
        self.code.push(Insn { code, regs: dst as u8 | src << 4, off, imm });
    }

    /// `dst = dst op by`.
    pub(super) fn op(&mut self, op: Op, dst: Reg, by: impl Into<Operand>) {
        match by.into() {
            Operand::Reg(src) => self.push(ALU64 | FROM_REG | op as u8, dst, src as u8, 0, 0),
            Operand::Constant(imm) => self.push(ALU64 | op as u8, dst, 0, 0, imm),
        }
    }

    /// `dst = value`, all 64 bits.
    pub(super) fn constant(&mut self, dst: Reg, value: u64) {
        self.wide(dst, 0, value);
    }

    /// `dst` = the map.
    pub(super) fn map(&mut self, dst: Reg, map: &dyn Map) {
        self.wide(dst, MAP_FD, u64::from(map.fd().cast_unsigned()));
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
    fn wide(&mut self, dst: Reg, src: u8, value: u64) {
        self.push(LOAD_CONSTANT, dst, src, 0, (value as u32).cast_signed());
        self.push(0, Reg::R0, 0, 0, ((value >> 32) as u32).cast_signed());
    }

    /// `dst = *(from + off)`.
    pub(super) fn load(&mut self, size: Size, dst: Reg, from: Reg, off: i16) {
        self.push(LOAD | size as u8, dst, from as u8, off, 0);
    }

    /// `*(to + off) = src`.
    pub(super) fn store(&mut self, size: Size, to: Reg, off: i16, src: Reg) {
        self.push(STORE | size as u8, to, src as u8, off, 0);
    }

    /// `R0 = helper(R1, ...)`.
    pub(super) fn call(&mut self, helper: Helper) {
        self.push(CALL, Reg::R0, 0, 0, helper as i32);
    }

    /// Jumps if `reg condition with`.
    pub(super) fn jump_if(&mut self, condition: If, reg: Reg, with: impl Into<Operand>, to: Label) {
        self.jumps.push((self.code.len(), to));
        match with.into() {
            Operand::Reg(src) => self.push(JUMP | FROM_REG | condition as u8, reg, src as u8, 0, 0),
            Operand::Constant(imm) => self.push(JUMP | condition as u8, reg, 0, 0, imm),
        }
    }

    /// Jumps.
    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(JUMP, Reg::R0, 0, 0, 0);
    }

    /// A label that is not placed yet.
    pub(super) fn label(&mut self) -> Label {
        self.made += 1;
        Label(self.made)
    }

    /// A label that is placed here.
    pub(super) fn here(&mut self) -> Label {
        let label = self.label();
        self.place(label);
        label
    }

    /// Places a label here.
    pub(super) fn place(&mut self, label: Label) {
        self.labels.insert(label, self.code.len());
    }

    /// Begins a part of the program, for its listing.
    pub(super) fn part(&mut self, name: &'static str) {
        self.parts.push((self.code.len(), name));
    }

    /// The parts so far.
    #[cfg(test)]
    pub(super) fn parts(&self) -> &[(usize, &'static str)] {
        &self.parts
    }

    /// Returns R0.
    pub(super) fn exit(&mut self) {
        self.push(EXIT, Reg::R0, 0, 0, 0);
    }

    /// The program. A jump to a label that was never placed leads to the end, which the kernel refuses.
    pub(super) fn finish(mut self) -> Vec<Insn> {
        let end = self.code.len();
        for (at, to) in self.jumps {
            let target = self.labels.get(&to).copied().unwrap_or(end);
            let distance = target.cast_signed() - at.cast_signed() - 1;
            self.code[at].off = i16::try_from(distance).unwrap_or(i16::MAX);
        }
        self.code
    }
}
