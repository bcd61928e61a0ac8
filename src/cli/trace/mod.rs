//! `uswitch trace`: what would happen to a frame, or happens to live ones, and why.

mod pcap;

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::control::client::{ApiClient, StreamEnd};
use crate::control::trace::{EchoRequest, LiveTraceLine, Trace, TraceRequest, TraceVerdict};
use crate::switch::DropReason;
use crate::wire::Mac;

use super::error::CliError;
use super::fdb::query;
use super::output;
use super::port::port_name;
use super::target::Target;

/// Say what would happen to a frame, and why: nothing is sent, learned or counted
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[group(id = "frame", args = ["arp_for", "icmp", "hex", "pcap"], multiple = false)]
pub(super) struct TraceCommand {
    #[command(flatten)]
    target: Target,
    /// Port that the frame comes in on
    #[arg(long = "in", value_name = "PORT", value_parser = port_name, required_unless_present = "follow")]
    ingress: Option<String>,
    /// Its source [default: the port's own MAC]
    #[arg(long, value_name = "MAC", conflicts_with_all = COMPLETE_FRAME)]
    src: Option<Mac>,
    /// Its destination: a MAC, a port's name, `gateway` or `broadcast` [default: as a sender would choose it]
    #[arg(long, value_name = "MAC|PORT", conflicts_with_all = COMPLETE_FRAME)]
    dst: Option<String>,
    /// With an 802.1Q tag of this VLAN
    #[arg(long, value_name = "VID", value_parser = clap::value_parser!(u16).range(1..4095), conflicts_with_all = COMPLETE_FRAME)]
    vlan: Option<u16>,
    /// It asks who has this address: an ARP request, or for IPv6 a neighbour solicitation
    #[arg(long, value_name = "IP")]
    arp_for: Option<IpAddr>,
    /// It is an echo request between these addresses, or to this one from the port's own
    #[arg(long, num_args = 1..=2, value_names = ["SRC|DST", "DST"])]
    icmp: Option<Vec<IpAddr>>,
    /// All of it, from the destination address on and without FCS
    #[arg(long, value_name = "BYTES")]
    hex: Option<String>,
    /// Each frame of this pcap or pcapng file, as if all came in on that port (what it sends: `tcpdump -Q out`)
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Show live frames as they come, sampled, and what happened to them
    #[arg(short, long, conflicts_with_all = ["ingress", "src", "dst", "vlan", "frame"])]
    follow: bool,
    /// Only live frames that come in on this port
    #[arg(long, value_parser = port_name, requires = "follow", conflicts_with = "ingress")]
    port: Option<String>,
    /// Only live frames that did not reach a port that they were meant for
    #[arg(long, requires = "follow", conflicts_with = "ingress")]
    drops: bool,
    /// Most frames [default: 10 of a file; until Ctrl-C of live ones]
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU64>,
    /// JSON instead of a tree, a line for each frame
    #[arg(long)]
    json: bool,
}

/// What has addresses of its own.
const COMPLETE_FRAME: [&str; 2] = ["hex", "pcap"];

const EXAMPLES: &str = "\
Examples:
  uswitch trace --in container1 --icmp 172.16.0.3
  uswitch trace --in container1 --arp-for 172.16.0.1
  uswitch trace --in container2 --src 02:00:00:00:00:99 --dst container1
  uswitch trace --in container1 --pcap capture.pcapng --limit 100
  uswitch trace --follow --drops";

/// Frames of a file.
const LIMIT: usize = 10;

impl TraceCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        if self.follow {
            return self.follow();
        }
        if self.dst.is_none() && self.arp_for.is_none() && self.icmp.is_none() && !self.has_own_addresses() {
            let forms = "give --arp-for, --icmp, --hex or --pcap, or --dst alone for one without content";
            return Err(CliError::Usage(format!("no frame: {forms}: see `uswitch trace --help`")));
        }
        let client = self.target.client()?;
        let Some(file) = &self.pcap else { return self.show(&client, &self.asked()).map(drop) };
        let limit = self.limit.map_or(LIMIT, |limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
        let mut frames = pcap::PcapFrames::open(file)?;
        let mut oversize = false;
        for (number, frame) in frames.by_ref().take(limit).enumerate() {
            let pcap::PcapFrame { bytes, gso_size } = frame?;
            let asked = TraceRequest { hex: Some(hex(&bytes)), gso_size, ..self.asked() };
            if number > 0 && !self.json {
                output::print("\n")?;
            }
            let trace = self.show(&client, &asked)?;
            oversize |= gso_size.is_none() && is_oversize(&trace.verdict);
        }
        if oversize {
            output::note(PERHAPS_SUPER_FRAMES);
        }
        if frames.next().is_some() && !self.json {
            output::print(&format!(
                "\n{} has more frames: --limit takes more than {limit}.\n",
                file.display()
            ))?;
        }
        Ok(())
    }

    /// Live frames.
    fn follow(&self) -> Result<(), CliError> {
        let words = [
            ("ifname", self.port.clone()),
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
            output::note(&match &self.port {
                Some(port) => format!("{port} is gone, or the switch has stopped"),
                None => "the switch has stopped".to_owned(),
            });
        }
        Ok(())
    }

    const fn has_own_addresses(&self) -> bool {
        self.hex.is_some() || self.pcap.is_some()
    }

    fn asked(&self) -> TraceRequest {
        let icmp = self.icmp.as_deref().and_then(|ends| match *ends {
            [dst] => Some(EchoRequest { src: None, dst }),
            [src, dst] => Some(EchoRequest { src: Some(src), dst }),
            _ => None,
        });
        TraceRequest {
            ifname: self.ingress.clone().unwrap_or_default(),
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

/// Other programs' files do not tell a super-frame from a frame that is too long.
const PERHAPS_SUPER_FRAMES: &str = "a frame of this file that is longer than the MTU may be a super-frame, which would \
    pass: only `uswitch capture` writes down which ones are";

fn is_oversize(verdict: &TraceVerdict) -> bool {
    matches!(verdict, TraceVerdict::Drop { reason, .. } if reason == DropReason::Oversize.name())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
