//! Frames with unfinished offloads for an egress port without offload.

use super::{DropReason, Frame};
use crate::wire::segment::{SegmentError, Segments};

/// Most segments of one super-frame. All are written in one turn; 64 KiB in segments of 512 bytes.
pub const MAX_SEGMENTS: usize = 128;

/// The complete frames that such a port gets.
///
/// # Errors
/// Why it gets none.
pub fn segments<'a>(frame: &Frame<'a>) -> Result<Segments<'a>, DropReason> {
    match Segments::new(frame.bytes, &frame.vnet) {
        Ok(segments) if segments.remaining() > MAX_SEGMENTS => Err(DropReason::TooManySegments),
        Err(SegmentError::TooMany(_)) => Err(DropReason::TooManySegments),
        Ok(segments) => Ok(segments),
        Err(_) => Err(DropReason::Unsegmentable),
    }
}
