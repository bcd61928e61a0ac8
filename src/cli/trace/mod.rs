//! `uswitch trace`: explains how the switch handles a frame.

mod pcap;

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap_complete::ArgValueCompleter;

use crate::control::client::{ApiClient, StreamEnd};
use crate::control::trace::{EchoRequest, LiveTraceLine, Trace, TraceRequest, TraceVerdict};
use crate::switch::DropReason;
use crate::wire::Mac;

use super::complete;
use super::error::CliError;
use super::fdb::query;
use super::output;
use super::port::port_name;
use super::target::Target;

/// Explain how the switch would handle a frame, or handles live ones
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[group(id = "frame", args = ["arp_for", "icmp", "hex", "pcap"], multiple = false)]
pub(super) struct TraceCommand {
    #[command(flatten)]
    target: Target,
    /// Port at which the frame enters the switch; with --follow, show only frames that enter there
    #[arg(value_name = "PORT", value_parser = port_name, required_unless_present_any = ["follow", "option", "pcap"],
        add = ArgValueCompleter::new(complete::ports))]
    port: Option<String>,
    /// The same, as earlier releases spelled it
    #[arg(long = "in", alias = "port", value_name = "PORT", value_parser = port_name, hide = true, conflicts_with = "port")]
    option: Option<String>,
    /// Source MAC address [default: the port's]
    #[arg(long, value_name = "MAC", conflicts_with_all = COMPLETE_FRAME)]
    src: Option<Mac>,
    /// Destination: a MAC address, a port, `gateway` or `broadcast` [default: as the container would choose it]
    #[arg(long, value_name = "MAC|PORT", conflicts_with_all = COMPLETE_FRAME)]
    dst: Option<String>,
    /// Add an 802.1Q tag with this VLAN ID, 1 to 4094
    #[arg(long, value_name = "VID", value_parser = clap::value_parser!(u16).range(1..4095), conflicts_with_all = COMPLETE_FRAME)]
    vlan: Option<u16>,
    /// The frame is an ARP request for this address, or a neighbour solicitation for IPv6
    #[arg(long, value_name = "IP")]
    arp_for: Option<IpAddr>,
    /// The frame is an ICMP echo request [default source: the port's address]
    #[arg(long, num_args = 1..=2, value_names = ["SRC|DST", "DST"])]
    icmp: Option<Vec<IpAddr>>,
    /// The frame in hexadecimal, from the destination MAC address on, without FCS
    #[arg(long, value_name = "BYTES")]
    hex: Option<String>,
    /// Trace each frame of this pcap or pcapng file as if it entered at the port; without PORT, replay a capture of
    /// `uswitch capture` with each frame at the port that it entered
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Show a sample of the live frames until Ctrl-C
    #[arg(short, long, conflicts_with_all = ["src", "dst", "vlan", "frame"])]
    follow: bool,
    /// With --follow, show only frames that were dropped
    #[arg(long, requires = "follow", conflicts_with_all = ["src", "dst", "vlan", "frame"])]
    drops: bool,
    /// Stop after this many frames [default: 10 of a file, no limit with --follow]
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU64>,
    /// Print JSON, one line for each frame
    #[arg(long)]
    json: bool,
}

/// Options that give a whole frame, addresses included.
const COMPLETE_FRAME: [&str; 2] = ["hex", "pcap"];

const EXAMPLES: &str = "\
Without --follow nothing is sent, learned or counted.

Examples:
  uswitch trace container1 --icmp 172.16.0.3
  uswitch trace container1 --arp-for 172.16.0.1
  uswitch trace container2 --src 02:00:00:00:00:99 --dst container1
  uswitch trace container1 --pcap capture.pcapng --limit 100
  uswitch trace --follow --drops";

/// Default for the frames of a file.
const LIMIT: usize = 10;

impl TraceCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        if self.follow {
            return self.follow();
        }
        if self.dst.is_none() && self.arp_for.is_none() && self.icmp.is_none() && !self.has_own_addresses() {
            let forms = "give --icmp, --arp-for, --hex or --pcap, or only --dst for an empty one";
            return Err(CliError::Usage(format!("no frame to trace: {forms}: see `uswitch trace --help`")));
        }
        let client = self.target.client()?;
        let Some(file) = &self.pcap else { return self.show(&client, &self.asked()).map(drop) };
        self.trace_file(&client, file)
    }

    fn trace_file(&self, client: &ApiClient, file: &Path) -> Result<(), CliError> {
        let limit = self.limit.map_or(LIMIT, |limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
        let port = self.ingress();
        // Without a port, frames that left the switch are not replayed.
        let mut frames = pcap::PcapFrames::open(file)?
            .filter(|frame| port.is_some() || frame.as_ref().map_or(true, |frame| frame.ingress.is_some()));
        let (mut traced, mut oversize) = (0, false);
        for frame in frames.by_ref().take(limit) {
            let pcap::PcapFrame { bytes, gso_size, ingress } = frame?;
            let ifname = port.clone().or(ingress).unwrap_or_default();
            let asked = TraceRequest { ifname, hex: Some(hex(&bytes)), gso_size, ..self.asked() };
            if traced > 0 && !self.json {
                output::print("\n")?;
            }
            traced += 1;
            let trace = self.show(client, &asked)?;
            oversize |= gso_size.is_none() && is_oversize(&trace.verdict);
        }
        if traced == 0 && port.is_none() {
            let file = file.display();
            return Err(CliError::Usage(format!(
                "{file} has no frame that names its ingress port: name one before --pcap"
            )));
        }
        if oversize {
            output::note(PERHAPS_SUPER_FRAMES);
        }
        if frames.next().is_some() && !self.json {
            output::print(&format!(
                "\n{} has more than {limit} frames: --limit N traces more.\n",
                file.display()
            ))?;
        }
        Ok(())
    }

    /// Shows live frames.
    fn follow(&self) -> Result<(), CliError> {
        let words = [
            ("ifname", self.ingress()),
            ("drops", self.drops.then(|| "true".to_owned())),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        let path = format!("/v1/trace{}", query(words));
        let mut first = true;
        let end = self.target.client()?.lines(&path, output::unread(), |line| {
            let traced: LiveTraceLine =
                serde_json::from_slice(line).map_err(|error| CliError::io("read a trace")(error.into()))?;
            if self.json {
                output::json(&traced)?;
            } else {
                let gap = if std::mem::take(&mut first) { "" } else { "\n" };
                output::print(&format!("{gap}{traced}"))?;
            }
            Ok::<_, CliError>(ControlFlow::Continue(()))
        })?;
        if end == StreamEnd::SwitchStopped && self.limit.is_none() {
            output::note(&match self.ingress() {
                Some(port) => format!("the port {port} was deleted, or the switch has stopped"),
                None => "the switch has stopped".to_owned(),
            });
        }
        Ok(())
    }

    const fn has_own_addresses(&self) -> bool {
        self.hex.is_some() || self.pcap.is_some()
    }

    fn ingress(&self) -> Option<String> {
        self.port.clone().or_else(|| self.option.clone())
    }

    fn asked(&self) -> TraceRequest {
        let icmp = self.icmp.as_deref().and_then(|ends| match *ends {
            [dst] => Some(EchoRequest { src: None, dst }),
            [src, dst] => Some(EchoRequest { src: Some(src), dst }),
            _ => None,
        });
        TraceRequest {
            ifname: self.ingress().unwrap_or_default(),
            src: self.src,
            dst: self.dst.clone(),
            vlan: self.vlan,
            arp_for: self.arp_for,
            icmp,
            hex: self.hex.clone(),
            gso_size: None,
        }
    }

    fn show(&self, client: &ApiClient, asked: &TraceRequest) -> Result<Trace, CliError> {
        let trace: Trace = client.post("/v1/trace", asked)?;
        if self.json {
            output::json(&trace)?;
        } else {
            output::print(&trace.to_string())?;
        }
        Ok(trace)
    }
}

/// Captures of other programs do not mark GSO packets, so they look like frames that are too long.
const PERHAPS_SUPER_FRAMES: &str = "a frame of this file that is longer than the MTU may be a super-frame (a GSO \
    packet), which the switch would forward: only files of `uswitch capture` mark these";

fn is_oversize(verdict: &TraceVerdict) -> bool {
    matches!(verdict, TraceVerdict::Drop { reason, .. } if reason == DropReason::Oversize.name())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
