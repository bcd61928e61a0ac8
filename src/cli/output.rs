//! Output of the commands: tables and JSON.

use std::io::{self, Write};
use std::os::fd::AsFd;

use comfy_table::{ContentArrangement, Table, presets};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::error::CliError;
pub(super) use crate::control::format::{counted, duration, scaled};
use crate::sys::hangup::hangup;

/// Prints a text on standard output.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    bytes(text.as_bytes())
}

/// A pipe that is writable has room for this many bytes (`PIPE_BUF`, poll(2)).
const PIECE: usize = 4096;

/// Writes bytes to standard output.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    write(&mut io::stdout().lock(), bytes, "write the output")
}

/// Writes to a reader that may be slow, or not read at all. poll(2) waits for room, because a handled signal ends
/// poll(2) but restarts a blocked write(2).
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

/// Resolves when the reader of standard output has closed it.
pub(super) fn unread() -> impl Future<Output = ()> {
    hangup(io::stdout())
}

/// Prints a line on standard error.
pub(super) fn note(text: &str) {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "uswitch: {text}");
}

/// Prints JSON on one line, as `bridge -j` does.
pub(super) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::io("make JSON")(error.into()))?;
    print(&(text + "\n"))
}

/// Aligned columns under a heading, without lines or colours.
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

/// The items, separated by blanks.
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
