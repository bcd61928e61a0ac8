//! The programs as text, in the notation of `bpftool prog dump xlated`: `listing/*.txt`. `UPDATE_GOLDEN=1 cargo test
//! --lib listing` updates them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use super::{Maps, from_station, from_switch};
use crate::fastpath::assembler::Assembler;
use crate::switch::fdb::BucketHash;
use crate::sys::bpf::{Insn, Map};

/// A map that is not there, by its descriptor.
struct NoMap(i32);

impl Map for NoMap {
    fn fd(&self) -> i32 {
        self.0
    }
}

const MAPS: [&str; 3] = ["ports", "counters", "stations"];

/// The text of a program. A jump leads to the number of an instruction, or to the part that begins there.
fn listing(program: Assembler) -> String {
    let parts = program.parts().to_vec();
    let code = program.finish();
    let is_jump = |insn: &Insn| insn.code & 7 == 5 && !matches!(insn.code, 0x85 | 0x95);
    let target = |at: usize| {
        let insn = Some(&code[at]).filter(|insn| is_jump(insn))?;
        at.checked_add_signed(1 + isize::from(insn.off))
    };
    let targets: BTreeSet<usize> = (0..code.len()).filter_map(target).collect();
    let mut text = String::new();
    let mut at = 0;
    while at < code.len() {
        let begun = parts.iter().filter(|(begin, _)| *begin == at);
        begun.for_each(|(_, name)| writeln!(text, "; {name}").unwrap());
        let mark = if targets.contains(&at) { '>' } else { ' ' };
        let to = target(at).map(|to| name_of(&parts, to)).unwrap_or_default();
        writeln!(text, "{mark}{at:4}: {}", instruction(&code[at], code.get(at + 1), &to)).unwrap();
        at += if code[at].code == 0x18 { 2 } else { 1 };
    }
    text
}

fn name_of(parts: &[(usize, &str)], to: usize) -> String {
    parts
        .iter()
        .find(|(begin, _)| *begin == to)
        .map_or_else(|| to.to_string(), |(_, name)| (*name).to_owned())
}

fn instruction(insn: &Insn, next: Option<&Insn>, target: &str) -> String {
    let &Insn { code, regs, off, imm } = insn;
    let (dst, src) = (regs & 0xf, regs >> 4);
    let operand = if code & 8 == 0 { imm.to_string() } else { format!("r{src}") };
    let (kind, size) = (code >> 4, ["u32", "u16", "u8", "u64"][usize::from(code >> 3 & 3)]);
    let place = |reg: u8| format!("*({size} *)(r{reg} {off:+})");
    match code & 7 {
        0 if src == 1 => format!("r{dst} = map {}", MAPS[usize::try_from(imm).unwrap()]),
        0 => {
            let high = next.unwrap().imm.cast_unsigned();
            format!("r{dst} = {:#x}", u64::from(high) << 32 | u64::from(imm.cast_unsigned()))
        }
        1 => format!("r{dst} = {}", place(src)),
        3 => format!("{} = r{src}", place(dst)),
        7 => {
            let op = ["+", "", "*", "", "|", "&", "<<", ">>", "", "", "^", ""][usize::from(kind)];
            format!("r{dst} {op}= {operand}")
        }
        _ if code == 0x85 => format!("call {}", helper(imm)),
        _ if code == 0x95 => "exit".into(),
        _ if kind == 0 => format!("goto {target}"),
        _ => {
            let condition = ["", "==", ">", "", "&", "!="][usize::from(kind)];
            format!("if r{dst} {condition} {operand} goto {target}")
        }
    }
}

fn helper(number: i32) -> &'static str {
    match number {
        1 => "bpf_map_lookup_elem",
        13 => "bpf_clone_redirect",
        23 => "bpf_redirect",
        155 => "bpf_redirect_peer",
        160 => "bpf_ktime_get_coarse_ns",
        _ => panic!("helper {number} has no name here"),
    }
}

#[test]
fn listings_are_those_of_the_programs() {
    let [ports, counters, stations] = [0, 1, 2].map(NoMap);
    let hash = BucketHash::new(8192, [0x1111_2222_3333_4444, 0x5555_6666_7777_8889]);
    let maps = Maps { ports: &ports, counters: &counters, stations: &stations, hash };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fastpath/program/listing");
    for (name, program) in [("from_station", from_station(&maps)), ("from_switch", from_switch(&maps))] {
        let (path, text) = (folder.join(name).with_extension("txt"), listing(program));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{}", path.display());
    }
}
