//! `uswitch capture`: frames as they cross the ports.

use std::fs::{File, OpenOptions};
use std::future;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pcap_parser::pcapng::{EnhancedPacketBlock, OptionCode};

use crate::control::capture::reader::{CaptureReader, option, text, write_blocks};
use crate::control::capture::{CaptureDirection, CaptureFilter, SNAPLEN_MAX};
use crate::wire::Pretty;
use crate::wire::filter::Filter;

use super::error::CliError;
use super::output::{self, counted};
use super::port::port_name;
use super::target::Target;

const AFTER: &str = "\
A frame that is forwarded crosses two ports and is there twice: In, from a container into the switch, and Out.

A filter is made of these, joined by `and` or `or` from left to right, with `not` and parentheses:
  arp, icmp, icmp6, ip, ip6, tcp, udp, vlan [ID]
  ether [src|dst] MAC, [src|dst] host ADDRESS, [src|dst] net PREFIX, [tcp|udp] [src|dst] port NUMBER

Examples:
  uswitch capture --port container1 icmp or arp
  uswitch capture -w - | wireshark -k -i -";

/// Capture live frames, with what became of each
#[derive(Debug, clap::Args)]
#[command(
    after_help = AFTER
)]
pub(super) struct CaptureCommand {
    #[command(flatten)]
    target: Target,
    /// On this port; may be repeated
    #[arg(long = "port", value_parser = port_name)]
    ports: Vec<String>,
    /// On all ports, those added later too: the default
    #[arg(long, conflicts_with = "ports")]
    all: bool,
    /// Which way the frame crosses the port
    #[arg(long, value_enum, default_value_t = CaptureDirection::Both)]
    direction: CaptureDirection,
    /// Write pcapng to this file, `-` for standard output, instead of a line a frame
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Most bytes of a frame to capture
    #[arg(long, value_name = "BYTES", default_value_t = SNAPLEN_MAX,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SNAPLEN_MAX)))]
    snaplen: u32,
    /// Stop after so many
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Cut super-frames into segments, and do all checksums
    #[arg(long)]
    segment: bool,
    /// Only frames that this lets pass, as tcpdump has them; see below
    filter: Vec<String>,
}

impl CaptureCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let filter = self.filter.join(" ");
        let filter = (!filter.is_empty()).then_some(filter);
        if let Some(expression) = &filter {
            Filter::parse(expression).map_err(|error| CliError::Usage(error.to_string()))?;
        }
        let asked = CaptureFilter {
            ifname: (!self.ports.is_empty()).then(|| self.ports.join(",")),
            direction: Some(self.direction),
            snaplen: Some(self.snaplen),
            count: self.count,
            segment: Some(self.segment),
            filter,
        };
        let path = asked.path().map_err(|error| CliError::Usage(format!("cannot ask for this: {error}")))?;
        let mut reader = CapturePrinter {
            begun: false,
            reading: CaptureReader::default(),
            output: output_of(self.write)?,
        };
        let is_output = matches!(reader.output, CaptureOutput::Lines | CaptureOutput::Output);
        let unread = async { if is_output { output::unread().await } else { future::pending().await } };
        self.target.client()?.stream(&path, unread, |chunk| reader.take(chunk))?;
        // What is not a whole block yet is not written, so that the file is well-formed however it ended.
        // As tcpdump says it at its end.
        let (captured, lost) = (reader.reading.captured(), reader.reading.lost());
        say(&format!("{} captured, {lost} lost", counted(captured, "packet")));
        Ok(())
    }
}

/// What is no part of the capture.
fn say(line: &str) {
    // Nowhere to complain if there is no standard error.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Where a capture goes.
enum CaptureOutput {
    Lines,
    Output,
    /// Made when the first bytes have come, so that a capture that was refused leaves a file as it is.
    Path(PathBuf),
    File(PathBuf, File),
    Fifo(PathBuf, File),
}

fn is_fifo(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.file_type().is_fifo())
}

fn output_of(write: Option<PathBuf>) -> Result<CaptureOutput, CliError> {
    match write {
        None => Ok(CaptureOutput::Lines),
        Some(path) if path != Path::new("-") && is_fifo(&path) => {
            // Waits for a reader: before signals are heard, so that they end it.
            let file = File::options().write(true).open(&path);
            let file = file.map_err(CliError::io(format!("write {}", path.display())))?;
            Ok(CaptureOutput::Fifo(path, file))
        }
        Some(path) if path != Path::new("-") => Ok(CaptureOutput::Path(path)),
        Some(_) if io::stdout().is_terminal() => Err(CliError::Usage(
            "-w -: standard output is a terminal: send it to a program, as in `uswitch capture -w - | tshark -r -`"
                .to_owned(),
        )),
        Some(_) => Ok(standard_output_file().map_or(CaptureOutput::Output, |file| {
            CaptureOutput::File(PathBuf::from("standard output"), file)
        })),
    }
}

/// Standard output, if it is a regular file.
fn standard_output_file() -> Option<File> {
    let file = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
}

/// Reads a capture as it comes.
struct CapturePrinter {
    begun: bool,
    reading: CaptureReader,
    output: CaptureOutput,
}

impl CapturePrinter {
    fn take(&mut self, chunk: &[u8]) -> Result<ControlFlow<()>, CliError> {
        let mut lines = String::new();
        let shows_lines = matches!(self.output, CaptureOutput::Lines);
        let whole = self.reading.add(chunk, |port, packet| {
            if shows_lines {
                lines.push_str(&line(port, packet));
            }
        });
        self.write(&whole, &lines)?;
        if !self.begun {
            self.begun = true;
            say(&format!("capturing on {}", self.reading.ports().join(" ")));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn write(&mut self, blocks: &[u8], lines: &str) -> Result<(), CliError> {
        if let CaptureOutput::Path(path) = &self.output {
            // Frames are private: only the owner reads the file.
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
            let file = file.map_err(CliError::io(format!("write {}", path.display())))?;
            self.output = CaptureOutput::File(path.clone(), file);
        }
        match &mut self.output {
            CaptureOutput::Fifo(path, file) => {
                output::write(file, blocks, &format!("write {}", path.display()))
            }
            CaptureOutput::File(path, file) => {
                let what = format!("write {} (it ends with the last whole packet)", path.display());
                write_blocks(file, blocks).map_err(CliError::io(what))
            }
            CaptureOutput::Lines => output::print(lines),
            CaptureOutput::Output | CaptureOutput::Path(_) => output::bytes(blocks),
        }
    }
}

/// A packet as `tcpdump -e -i any` shows it, and what became of it.
fn line(port: &str, packet: &EnhancedPacketBlock<'_>) -> String {
    let nanoseconds = i128::from(packet.ts_high) << 32 | i128::from(packet.ts_low);
    let time = Timestamp::from_nanosecond(nanoseconds).unwrap_or_default().to_zoned(TimeZone::system());
    let bytes = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
    let flags = option(&packet.options, OptionCode(2)).and_then(|option| option.as_u32_le().ok());
    let direction = if flags.is_some_and(|flags| flags & 3 == 1) { "In" } else { "Out" };
    let comment = text(&packet.options, OptionCode::Comment);
    format!("{} {port} {direction:3} {} [{comment}]\n", time.strftime("%T%.6f"), Pretty(bytes))
}
