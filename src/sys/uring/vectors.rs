//! The arguments of writev(2): a write of a buffer in two pieces.

use std::ops::Range;
use std::ptr::NonNull;

/// The pieces of a buffer to which its writes of two pieces refer.
#[derive(Debug, Clone)]
pub(super) struct Vectors {
    pairs: [[libc::iovec; 2]; Vectors::MAX],
    used: usize,
}

impl Vectors {
    /// Most different pairs of pieces in the writes of one buffer: with and without each kind of header.
    const MAX: usize = 4;

    pub(super) fn new() -> Vectors {
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Vectors { pairs: [[none; 2]; Vectors::MAX], used: 0 }
    }

    /// The writes that referred to it have completed.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// The address of these pieces of the memory at `start`; `None` if there are too many different ones.
    pub(super) fn place(
        &mut self,
        start: NonNull<u8>,
        pieces: &[Range<usize>; 2],
    ) -> Option<*const libc::iovec> {
        let vector = |piece: &Range<usize>| libc::iovec {
            iov_base: start.as_ptr().wrapping_add(piece.start).cast(),
            iov_len: piece.len(),
        };
        let pair = pieces.each_ref().map(vector);
        let is_pair = |other: &[libc::iovec; 2]| {
            let places = |pair: &[libc::iovec; 2]| pair.map(|vector| (vector.iov_base, vector.iov_len));
            places(other) == places(&pair)
        };
        let at = self.pairs[..self.used].iter().position(is_pair).unwrap_or(self.used);
        *self.pairs.get_mut(at)? = pair;
        self.used = self.used.max(at + 1);
        Some(self.pairs[at].as_ptr())
    }
}
