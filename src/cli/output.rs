//! Tables for people, JSON for programs.

use std::io::{self, Write};
use std::os::fd::AsFd;

use comfy_table::{ContentArrangement, Table, presets};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::error::CliError;
pub(super) use crate::control::format::{counted, duration, scaled};
use crate::sys::hangup::hangup;

/// Prints as it is.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    bytes(text.as_bytes())
}

/// Room that a pipe has where it has some (`PIPE_BUF`, poll(2)).
const PIECE: usize = 4096;

/// Writes as they are.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    write(&mut io::stdout().lock(), bytes, "write the output")
}

/// Writes to where somebody may read slowly, or not at all. Room is waited for, as a signal that we hear does not end a
/// write(2) that waits, and does end that.
pub(super) fn write(out: &mut (impl Write + AsFd), bytes: &[u8], what: &str) -> Result<(), CliError> {
    let mut write = |piece| {
        poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
        out.write_all(piece)?;
        out.flush()
    };
    bytes.chunks(PIECE).try_for_each(&mut write).map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted => CliError::BrokenPipe,
        _ => CliError::io(what)(error),
    })
}

/// Resolves when nobody reads the output any more.
pub(super) fn unread() -> impl Future<Output = ()> {
    hangup(io::stdout())
}

/// Says something beside the output.
pub(super) fn note(text: &str) {
    // Nowhere to say it if there is no standard error.
    let _ = writeln!(io::stderr(), "uswitch: {text}");
}

/// Prints on one line, as `bridge -j` does.
pub(super) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::io("make JSON")(error.into()))?;
    print(&(text + "\n"))
}

/// Columns under a heading, without lines or colours.
pub(super) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// One thing a line, or none.
pub(super) fn joined<T: ToString>(things: &[T]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_table_columns_without_trailing_blanks() {
        let rows = [["container1".to_owned(), "up".to_owned()], ["host".to_owned(), "down".to_owned()]];
        assert_eq!(table(["PORT", "STATE"], rows), "PORT        STATE\ncontainer1  up\nhost        down\n");
    }
}
