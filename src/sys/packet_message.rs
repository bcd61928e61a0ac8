//! Receives frames from a packet socket with their VLAN tag (`PACKET_AUXDATA`, packet(7)).
//!
//! The kernel takes the outermost tag out of a frame before any packet socket sees it (`skb_vlan_untag` in Linux
//! `net/core/dev.c`), and reports it in a control message, which read(2) cannot receive.
//!
//! A `TPACKET_V3` ring would save the system calls, which io_uring saves too. But the kernel copies each frame into the
//! ring, from which it would have to be copied again into a buffer that other ports can be written from, and it hands
//! over blocks of frames, after a timeout of milliseconds if there are few.

use std::cell::UnsafeCell;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::arena::HEADROOM;
use crate::wire::{ADDRESSES, EtherType, VLAN_TAG, VlanTag, VnetHeader};

/// Bytes of the control message, with its header.
#[allow(clippy::cast_possible_truncation, reason = "20 bytes")]
// SAFETY: CMSG_SPACE only computes.
const CONTROL: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::tpacket_auxdata>() as u32) } as usize;

/// A frame that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Offset of the virtio-net header in its buffer.
    pub start: usize,
    /// Length of header and frame.
    pub length: usize,
}

#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// The memory that one recvmsg(2) needs beside its buffer.
#[repr(C)]
pub(super) struct MessageHeader {
    header: libc::msghdr,
    part: libc::iovec,
    control: Control,
}

impl std::fmt::Debug for MessageHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageHeader")
    }
}

impl MessageHeader {
    pub(super) fn new() -> UnsafeCell<MessageHeader> {
        // SAFETY: a msghdr of zeros is valid: no address, no parts, no control messages.
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        UnsafeCell::new(MessageHeader { header, part, control: Control([0; CONTROL]) })
    }

    /// Prepares to receive into `length` bytes at `buffer`, and returns the argument of recvmsg(2).
    ///
    /// # Safety
    /// Nothing else accesses the message.
    pub(super) unsafe fn prepare(
        message: *mut MessageHeader,
        buffer: *mut u8,
        length: usize,
    ) -> *mut libc::msghdr {
        // SAFETY: the caller guarantees that this is the only reference. All pointers are derived from `message`, and
        // stay valid as long as it.
        unsafe {
            (*message).part = libc::iovec { iov_base: buffer.cast(), iov_len: length };
            let header = &raw mut (*message).header;
            (*header).msg_iov = &raw mut (*message).part;
            (*header).msg_iovlen = 1;
            (*header).msg_control = (&raw mut (*message).control).cast();
            (*header).msg_controllen = CONTROL;
            (*header).msg_flags = 0;
            header
        }
    }

    /// Inserts the VLAN tag again after `received` bytes were received into `buffer`, a whole buffer, from [`HEADROOM`]
    /// on.
    ///
    /// # Errors
    /// `EINVAL`: the frame was truncated.
    pub(super) fn finish(&self, buffer: &mut [u8], received: usize) -> Result<Received, Errno> {
        if self.header.msg_flags & libc::MSG_TRUNC != 0 {
            return Err(Errno::EINVAL);
        }
        let untagged = Received { start: HEADROOM, length: received };
        Ok(self.tag().map_or(untagged, |tag| insert_tag(buffer, received, tag)))
    }

    /// The tag in the control message: TPID and TCI.
    fn tag(&self) -> Option<[u8; VLAN_TAG]> {
        // SAFETY: the header points to the control buffer of this value, of which the kernel has filled
        // `msg_controllen` bytes.
        let message = unsafe { libc::CMSG_FIRSTHDR(&raw const self.header).as_ref() }?;
        let (level, kind) = (message.cmsg_level, message.cmsg_type);
        if level != libc::SOL_PACKET || kind != libc::PACKET_AUXDATA || message.cmsg_len < CONTROL - 4 {
            return None;
        }
        // SAFETY: the message has room for the structure, any bytes of which are valid.
        let data = unsafe { libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned() };
        if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let reported = data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        let tpid = if reported { EtherType(data.tp_vlan_tpid) } else { EtherType::C_TAG };
        Some(VlanTag { tpid, tci: data.tp_vlan_tci }.emit())
    }
}

/// Inserts a tag behind the addresses of a frame that, with its virtio-net header, has `length` bytes from [`HEADROOM`]
/// on. Header and addresses move towards the start of the buffer.
fn insert_tag(buffer: &mut [u8], length: usize, tag: [u8; VLAN_TAG]) -> Received {
    const MOVED: usize = VnetHeader::LEN + ADDRESSES;
    const START: usize = HEADROOM - VLAN_TAG;
    const SHIFT: u16 = 4;
    if length < MOVED {
        // The switch drops it as a runt.
        return Received { start: HEADROOM, length };
    }
    buffer.copy_within(HEADROOM..HEADROOM + MOVED, START);
    buffer[START + MOVED..HEADROOM + MOVED].copy_from_slice(&tag);
    if let Some(mut vnet) = VnetHeader::parse(&buffer[START..])
        && !vnet.is_complete()
    {
        vnet.csum_start = vnet.csum_start.saturating_add(SHIFT);
        vnet.hdr_len = vnet.hdr_len.saturating_add(SHIFT);
        buffer[START..START + VnetHeader::LEN].copy_from_slice(&vnet.emit());
    }
    Received { start: START, length: length + VLAN_TAG }
}

/// Receives one frame into `buffer`, a whole buffer of the pool. Does not wait.
///
/// # Errors
/// `EAGAIN`: there is none. For other errors see [`super::queue::Framing`].
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<Received> {
    let message = MessageHeader::new();
    let room = &mut buffer[HEADROOM..];
    // SAFETY: the message was created here.
    let header = unsafe { MessageHeader::prepare(message.get(), room.as_mut_ptr(), room.len()) };
    // SAFETY: `header` is valid, and so are its one part, `room`, and its control buffer. All of them outlive the call.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), header, libc::MSG_DONTWAIT) };
    let received = usize::try_from(Errno::result(received)?).unwrap_or(0);
    // SAFETY: the kernel is done with the message, and nothing else refers to it.
    unsafe { &*message.get() }.finish(buffer, received)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 18] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x08, 0x00, 9, 9, 9, 9];

    fn buffer(vnet: &VnetHeader) -> Vec<u8> {
        [&[0xff; HEADROOM][..], &vnet.emit(), &FRAME].concat()
    }

    #[test]
    fn inserts_the_tag_behind_the_addresses() {
        let mut buffer = buffer(&VnetHeader::default());
        let length = buffer.len() - HEADROOM;
        let received = insert_tag(&mut buffer, length, [0x81, 0x00, 0x20, 0x07]);
        assert_eq!(received, Received { start: HEADROOM - 4, length: length + 4 });
        let frame = &buffer[received.start + VnetHeader::LEN..];
        assert_eq!(frame, [&FRAME[..12], &[0x81, 0x00, 0x20, 0x07], &FRAME[12..]].concat());
        assert_eq!(VnetHeader::parse(&buffer[received.start..]), Some(VnetHeader::default()));
        assert!(buffer[..received.start].iter().all(|byte| *byte == 0xff), "nothing else is written");
    }

    #[test]
    fn moves_the_checksum_with_the_tag() {
        let vnet = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_TCPV4,
            hdr_len: 54,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        let mut buffer = buffer(&vnet);
        let length = buffer.len() - HEADROOM;
        let received = insert_tag(&mut buffer, length, [0x88, 0xa8, 0, 1]);
        let moved = VnetHeader { csum_start: 38, hdr_len: 58, ..vnet };
        assert_eq!(VnetHeader::parse(&buffer[received.start..]), Some(moved));
    }

    #[test]
    fn leaves_a_frame_without_addresses_alone() {
        for length in 0..VnetHeader::LEN + ADDRESSES {
            let mut buffer = buffer(&VnetHeader::default());
            let before = buffer.clone();
            assert_eq!(insert_tag(&mut buffer, length, [0; 4]), Received { start: HEADROOM, length });
            assert_eq!(buffer, before);
        }
    }
}
