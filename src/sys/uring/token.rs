//! The `user_data` of an operation: its kind, slot and buffer.

const READ: u64 = 0;
const WRITE: u64 = 1 << 32;
const WAKE: u64 = 2 << 32;
const CANCEL: u64 = 3 << 32;
const POLL: u64 = 4 << 32;
const RECEIVE: u64 = 5 << 32;

pub(super) enum Token {
    Read { slot: u16, buffer: u16 },
    Receive { slot: u16, buffer: u16 },
    Write { slot: u16, buffer: u16 },
    Poll(u16),
    Wake,
    Cancel,
}

pub(super) const fn read(slot: u16, buffer: u16) -> u64 {
    READ | (buffer as u64) << 16 | slot as u64
}
pub(super) const fn receive(slot: u16, buffer: u16) -> u64 {
    RECEIVE | (buffer as u64) << 16 | slot as u64
}
pub(super) const fn write(slot: u16, buffer: u16) -> u64 {
    WRITE | (buffer as u64) << 16 | slot as u64
}
pub(super) const fn poll(slot: u16) -> u64 {
    POLL | slot as u64
}
pub(super) const fn wake() -> u64 {
    WAKE
}
pub(super) const fn cancel() -> u64 {
    CANCEL
}

#[allow(clippy::cast_possible_truncation, reason = "two 16-bit fields")]
pub(super) const fn parse(token: u64) -> Token {
    let (slot, buffer) = (token as u16, (token >> 16) as u16);
    match token & !0xffff_ffff {
        READ => Token::Read { slot, buffer },
        WRITE => Token::Write { slot, buffer },
        POLL => Token::Poll(slot),
        RECEIVE => Token::Receive { slot, buffer },
        WAKE => Token::Wake,
        _ => Token::Cancel,
    }
}
