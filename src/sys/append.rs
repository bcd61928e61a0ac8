//! Appending a record to a file: all of it, or nothing.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};

use super::limits::explain_write_error;

/// Appends `record`. If the file has no room for all of it, cuts off the part that was written and fails, so
/// that the next record does not continue a torn one. The file is open for appending, or its offset is at
/// its end.
///
/// # Errors
/// The record could not be written. Nothing of it is in the file, unless another process has appended since.
pub fn append_whole(file: &mut File, record: &[u8]) -> io::Result<()> {
    let mut rest = record;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(cut_off(file, record.len() - rest.len(), ErrorKind::WriteZero.into())),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(cut_off(file, record.len() - rest.len(), explain_write_error(error))),
        }
    }
    Ok(())
}

/// Removes the last `written` bytes and returns `error`, or the reason why they could not be removed.
fn cut_off(file: &mut File, written: usize, error: io::Error) -> io::Error {
    if written == 0 {
        return error;
    }
    match remove_last(file, written as u64) {
        Ok(()) => error,
        Err(also) => io::Error::new(error.kind(), format!("{error}, and the torn record remains: {also}")),
    }
}

fn remove_last(file: &mut File, bytes: u64) -> io::Result<()> {
    let end = file.stream_position()?;
    // What another process has appended is not ours to remove.
    if end != file.metadata()?.len() {
        return Ok(());
    }
    file.set_len(end - bytes)?;
    file.seek(SeekFrom::Start(end - bytes)).map(drop)
}
