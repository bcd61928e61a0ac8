//! The four pcapng block types that a capture uses (draft-ietf-opsawg-pcapng), little-endian.

use pcap_parser::pcapng::{OptionCode, PcapNGOption};

/// Longest option text, in bytes. Longer text is truncated.
const MAX_OPTION: usize = 4096;
/// Our packet option with the segment size of a super-frame, in two bytes. pcapng has none for it, and reserves codes
/// with the highest bit for local use (draft-ietf-opsawg-pcapng, "Option format"). Other programs skip it.
const SEGMENT_SIZE: u16 = 0x8001;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;
/// `if_tsresol`: timestamps count 10^-9 seconds.
const NANOSECONDS: u8 = 9;

/// Nanoseconds since 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) u64);

/// `epb_flags`, bits 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Flags {
    Inbound = 1,
    Outbound = 2,
}

/// One packet on an interface.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) interface: u32,
    pub(super) time: Time,
    /// The captured bytes.
    pub(super) bytes: &'a [u8],
    /// The original length.
    pub(super) length: usize,
    pub(super) flags: Flags,
    pub(super) comment: &'a str,
    /// Payload bytes of each segment, if it is a super-frame.
    pub(super) segment_size: Option<u16>,
}

/// Section header block.
pub(super) fn section_header(out: &mut Vec<u8>, application: &str) {
    block(out, 0x0a0d_0d0a, |out| {
        word(out, 0x1a2b_3c4d);
        out.extend([1, 0, 0, 0]);
        // The section length is unknown (-1).
        out.extend((-1i64).to_le_bytes());
        text(out, 4, application);
        end_of_options(out);
    });
}

/// Interface description block. Interfaces are numbered from 0.
pub(super) fn interface(out: &mut Vec<u8>, name: &str, snaplen: u32) {
    block(out, 1, |out| {
        out.extend(ETHERNET.to_le_bytes());
        out.extend([0; 2]);
        word(out, snaplen);
        text(out, 2, name);
        option(out, 9, &[NANOSECONDS]);
        end_of_options(out);
    });
}

/// Enhanced packet block.
pub(super) fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, 6, |out| {
        word(out, packet.interface);
        time(out, packet.time);
        word(out, length(packet.bytes.len()));
        word(out, length(packet.length));
        padded(out, packet.bytes);
        option(out, 2, &(packet.flags as u32).to_le_bytes());
        text(out, 1, packet.comment);
        if let Some(size) = packet.segment_size {
            option(out, SEGMENT_SIZE, &size.to_le_bytes());
        }
        end_of_options(out);
    });
}

/// The segment size of a super-frame, from the options of a packet that [`packet`] wrote.
pub(crate) fn segment_size(options: &[PcapNGOption<'_>]) -> Option<u16> {
    let size = options.iter().find(|option| option.code == OptionCode(SEGMENT_SIZE))?;
    size.as_bytes().ok()?.try_into().ok().map(u16::from_le_bytes)
}

/// Interface statistics block.
pub(super) fn statistics(out: &mut Vec<u8>, interface: u32, now: Time, (received, lost): (u64, u64)) {
    block(out, 5, |out| {
        word(out, interface);
        time(out, now);
        option(out, 4, &received.to_le_bytes());
        option(out, 5, &lost.to_le_bytes());
        end_of_options(out);
    });
}

/// A block: type, length, body, length.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    word(out, kind);
    word(out, 0);
    body(out);
    let total = length(out.len() - start + 4).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&total);
    out.extend(total);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_le_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    padded(out, value);
}

fn text(out: &mut Vec<u8>, code: u16, text: &str) {
    option(out, code, &text.as_bytes()[..text.len().min(MAX_OPTION)]);
}

fn end_of_options(out: &mut Vec<u8>) {
    option(out, 0, &[]);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn time(out: &mut Vec<u8>, Time(nanoseconds): Time) {
    let bytes = nanoseconds.to_le_bytes();
    out.extend(&bytes[4..]);
    out.extend(&bytes[..4]);
}

fn word(out: &mut Vec<u8>, word: u32) {
    out.extend(word.to_le_bytes());
}

/// A frame is shorter than 128 KiB, so a block fits too.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
