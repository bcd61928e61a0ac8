//! `uswitch capture`: captures frames as they cross the ports.

use std::fs::{File, OpenOptions};
use std::future;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pcap_parser::pcapng::{EnhancedPacketBlock, OptionCode};

use crate::control::capture::reader::{CaptureReader, option, text, write_blocks};
use crate::control::capture::{CaptureDirection, CaptureFilter, SNAPLEN_MAX};
use crate::control::report::ErrorCode;
use crate::wire::Pretty;
use crate::wire::filter::Filter;

use super::complete;
use super::error::{CliError, with_advice};
use super::output::{self, counted};
use super::target::{Target, check_ports};

const AFTER: &str = "\
A forwarded frame crosses two ports and is captured twice: In, from a container into the switch, and Out.

A filter consists of these terms, joined by `and` and `or` from left to right, with `not` and parentheses:
  arp, icmp, icmp6, ip, ip6, tcp, udp, vlan [ID]
  ether [src|dst] MAC, [src|dst] host ADDRESS, [src|dst] net PREFIX, [tcp|udp] [src|dst] port NUMBER

Examples:
  uswitch capture container1 icmp or arp
  uswitch capture -w - | wireshark -k -i -";

/// Capture live frames, each with its verdict
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct CaptureCommand {
    #[command(flatten)]
    target: Target,
    /// Ports, separated by blanks or commas, and then a filter in the syntax of tcpdump (see below) [default: all]
    #[arg(value_name = "PORT|FILTER", add = ArgValueCompleter::new(complete::ports))]
    words: Vec<String>,
    /// A port, as earlier releases spelled it
    #[arg(long, value_delimiter = ',', hide = true)]
    port: Vec<String>,
    /// All ports, which is the default
    #[arg(long, hide = true, conflicts_with = "port")]
    all: bool,
    /// Direction in which a frame crosses the port
    #[arg(long, value_enum, default_value_t = CaptureDirection::Both)]
    direction: CaptureDirection,
    /// Write pcapng to this file, or `-` for standard output [default: print a line for each frame]
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Capture at most this many bytes of each frame
    #[arg(long, value_name = "BYTES", default_value_t = SNAPLEN_MAX,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SNAPLEN_MAX)))]
    snaplen: u32,
    /// Stop after this many frames
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Cut GSO packets into segments, and complete all checksums
    #[arg(long)]
    segment: bool,
}

impl CaptureCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let (mut ports, filter) = ports_and_filter(&self.words)?;
        ports.extend(self.port);
        let client = self.target.client()?;
        check_ports(&client, &ports)?;
        let asked = CaptureFilter {
            ifname: (!ports.is_empty()).then(|| ports.join(",")),
            direction: Some(self.direction),
            snaplen: Some(self.snaplen),
            count: self.count,
            segment: Some(self.segment),
            filter,
        };
        let path = asked
            .path()
            .map_err(|error| CliError::Usage(format!("this cannot be sent to the switch: {error}")))?;
        let mut reader = CapturePrinter {
            begun: false,
            reading: CaptureReader::default(),
            output: output_of(self.write)?,
        };
        let is_output = matches!(reader.output, CaptureOutput::Lines | CaptureOutput::Output);
        let unread = async { if is_output { output::unread().await } else { future::pending().await } };
        client.stream(&path, unread, |chunk| reader.take(chunk))?;
        // An incomplete block is not written, so the file is well-formed however the capture ended.
        // The summary is like tcpdump's.
        let (captured, lost) = (reader.reading.captured(), reader.reading.lost());
        say(&format!("{} captured, {lost} lost", counted(captured, "packet")));
        Ok(())
    }
}

/// Prints a line that is not part of the capture.
fn say(line: &str) {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Destination of a capture.
enum CaptureOutput {
    Lines,
    Output,
    /// A file that is created when the first bytes arrive: a refused capture leaves an existing file alone.
    Path(PathBuf),
    File(PathBuf, File),
    Fifo(PathBuf, File),
}

/// Words that begin a filter, and are not ports even if the filter is wrong. `host` is not one: it is a port too.
const KEYWORDS: [&str; 13] =
    ["arp", "ether", "icmp", "icmp6", "ip", "ip6", "net", "not", "port", "src", "dst", "tcp", "udp"];

/// Separates the ports from the filter: the filter is the longest tail of the words that is one.
fn ports_and_filter(words: &[String]) -> Result<(Vec<String>, Option<String>), CliError> {
    // A filter may be one argument, in quotes.
    let words: Vec<&str> = words
        .iter()
        .flat_map(|word| if word.is_empty() { vec![""] } else { word.split_whitespace().collect() })
        .collect();
    let filter = |from: usize| words[from..].join(" ");
    let begin = words.iter().position(|word| KEYWORDS.contains(word)).unwrap_or(words.len());
    // No port has the name of a keyword, so the filter begins there at the latest.
    let from = (0..words.len()).find(|from| Filter::parse(&filter(*from)).is_ok()).unwrap_or(words.len());
    if begin < from {
        let wrong = |error| CliError::Usage(with_advice(error, Some(ErrorCode::FilterSyntax)));
        Filter::parse(&filter(begin)).map_err(wrong)?;
    }
    let ports = words[..from].iter().flat_map(|word| word.split(',')).map(str::to_owned).collect();
    Ok((ports, (from < words.len()).then(|| filter(from))))
}

fn is_fifo(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.file_type().is_fifo())
}

fn output_of(write: Option<PathBuf>) -> Result<CaptureOutput, CliError> {
    match write {
        None => Ok(CaptureOutput::Lines),
        Some(path) if path != Path::new("-") && is_fifo(&path) => {
            // Opening waits for a reader. Signals are not handled yet, so they end the wait.
            let file = File::options().write(true).open(&path);
            let file = file.map_err(CliError::io(format!("write {}", path.display())))?;
            Ok(CaptureOutput::Fifo(path, file))
        }
        Some(path) if path != Path::new("-") => Ok(CaptureOutput::Path(path)),
        Some(_) if io::stdout().is_terminal() => Err(CliError::Usage(
            "-w -: standard output is a terminal: pipe it into a program, as in `uswitch capture -w - | tshark -r -`"
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

/// Writes a capture as it arrives.
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

/// A packet as `tcpdump -e -i any` shows it, with its verdict.
fn line(port: &str, packet: &EnhancedPacketBlock<'_>) -> String {
    let nanoseconds = i128::from(packet.ts_high) << 32 | i128::from(packet.ts_low);
    let time = Timestamp::from_nanosecond(nanoseconds).unwrap_or_default().to_zoned(TimeZone::system());
    let bytes = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
    let flags = option(&packet.options, OptionCode(2)).and_then(|option| option.as_u32_le().ok());
    let direction = if flags.is_some_and(|flags| flags & 3 == 1) { "In" } else { "Out" };
    let comment = text(&packet.options, OptionCode::Comment);
    format!("{} {port} {direction:3} {} [{comment}]\n", time.strftime("%T%.6f"), Pretty(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separates_ports_from_filter() {
        let parts = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let (ports, filter) = ports_and_filter(&words).map_err(|error| error.to_string())?;
            Ok::<_, String>((ports.join(" "), filter.unwrap_or_default()))
        };
        for (line, ports, filter) in [
            ("", "", ""),
            ("container1", "container1", ""),
            ("container1,container2 host", "container1 container2 host", ""),
            ("icmp or arp", "", "icmp or arp"),
            ("container1 icmp or arp", "container1", "icmp or arp"),
            ("host host 172.16.0.2", "host", "host 172.16.0.2"),
            ("host 172.16.0.2", "", "host 172.16.0.2"),
            ("host icmp", "host", "icmp"),
            ("container1 not ( tcp or udp )", "container1", "not ( tcp or udp )"),
        ] {
            assert_eq!(parts(line), Ok((ports.to_owned(), filter.to_owned())), "{line}");
        }
        let wrong = parts("container1 ether src nowhere!").unwrap_err();
        assert!(
            wrong.contains("ether src nowhere!") && wrong.contains("`uswitch capture --help`"),
            "{wrong}"
        );
        assert!(parts(&"not ".repeat(300)).is_err());
        let quoted = ports_and_filter(&["container1".to_owned(), "tcp port 80".to_owned()]);
        assert_eq!(quoted.unwrap(), (vec!["container1".to_owned()], Some("tcp port 80".to_owned())));
        let wrong = parts("tcp prt 80").unwrap_err();
        assert!(wrong.contains("'prt' instead of 'and' or 'or'"), "{wrong}");
    }
}
