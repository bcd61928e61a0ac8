//! `uswitch mirror`: shows and changes the port mirrors.

use clap_complete::ArgValueCompleter;

use crate::control::report::{MirrorReport, NewMirror};
use crate::switch::MirrorDirection;
use crate::switch::vlan::VidRange;

use super::complete;
use super::error::CliError;
use super::fdb::query;
use super::output::{self, joined, table};
use super::port::port_name;
use super::target::Target;

/// Show or change the port mirrors (SPAN)
#[derive(Debug, clap::Args)]
pub(super) struct MirrorCommand {
    #[command(subcommand)]
    action: MirrorAction,
}

#[derive(Debug, clap::Subcommand)]
enum MirrorAction {
    Show(MirrorShow),
    Add(MirrorAdd),
    Del(MirrorDel),
}

/// Show the mirrors, and how many frames they have copied
#[derive(Debug, clap::Args)]
struct MirrorShow {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Copy the frames of ports to a port, for an analyser there: it gets only copies, and its own frames are dropped
#[derive(Debug, clap::Args)]
struct MirrorAdd {
    #[command(flatten)]
    target: Target,
    /// Source ports, separated by commas [default: all, also those that are added later]
    #[arg(long, value_name = "PORTS", value_delimiter = ',', value_parser = port_name,
        add = ArgValueCompleter::new(complete::ports))]
    from: Vec<String>,
    /// Destination port
    #[arg(long, value_name = "PORT", value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    to: String,
    /// Which frames of the source ports
    #[arg(long, default_value = "both")]
    direction: MirrorDirection,
    /// Only frames of these VLANs, as in 10,20-30
    #[arg(long, value_name = "VLANS", value_delimiter = ',')]
    vlan: Vec<VidRange>,
    /// Truncate the copies to this many bytes, 14 to 65535 [default: whole frames]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(14..=65535))]
    snaplen: Option<u64>,
}

/// Delete the mirror to a port
#[derive(Debug, clap::Args)]
struct MirrorDel {
    #[command(flatten)]
    target: Target,
    /// Destination port
    #[arg(value_name = "PORT", value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    to: String,
}

impl MirrorCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            MirrorAction::Show(show) => show.run(),
            MirrorAction::Add(MirrorAdd { target, from, to, direction, vlan, snaplen }) => {
                let new = NewMirror { to, from, direction, vlan, snaplen };
                Ok(target.client()?.post("/v1/mirrors", &new)?)
            }
            MirrorAction::Del(MirrorDel { target, to }) => {
                let query = query([("to", Some(to))]);
                Ok(target.client()?.delete(&format!("/v1/mirrors{query}"))?)
            }
        }
    }
}

impl MirrorShow {
    fn run(self) -> Result<(), CliError> {
        let mirrors: Vec<MirrorReport> = self.target.client()?.get("/v1/mirrors")?;
        if self.json { output::json(&mirrors) } else { output::print(&mirrors_table(&mirrors)) }
    }
}

fn mirrors_table(mirrors: &[MirrorReport]) -> String {
    let all_if_empty = |list: String| if list.is_empty() { "all".to_owned() } else { list };
    let rows = mirrors.iter().map(|report| {
        let NewMirror { to, from, direction, vlan, snaplen } = &report.mirror;
        [
            all_if_empty(joined(from)),
            direction.name().to_owned(),
            all_if_empty(joined(vlan)),
            to.clone(),
            snaplen.map_or_else(|| "whole".to_owned(), |snaplen| snaplen.to_string()),
            report.mirrored.to_string(),
            report.dropped.to_string(),
        ]
    });
    table(["FROM", "DIRECTION", "VLAN", "TO", "SNAPLEN", "MIRRORED", "DROPPED"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_a_line_for_each_mirror() {
        let all = NewMirror { to: "container3".into(), ..NewMirror::default() };
        let some = NewMirror {
            to: "container4".into(),
            from: vec!["container1".into(), "container2".into()],
            direction: MirrorDirection::Rx,
            vlan: vec!["10".parse().unwrap(), "20-30".parse().unwrap()],
            snaplen: Some(128),
        };
        let report = |mirror, mirrored, dropped| MirrorReport { mirror, mirrored, dropped };
        assert_eq!(
            mirrors_table(&[report(all, 7, 0), report(some, 12, 3)]),
            "FROM                   DIRECTION  VLAN      TO          SNAPLEN  MIRRORED  DROPPED\n\
             all                    both       all       container3  whole    7         0\n\
             container1 container2  rx         10 20-30  container4  128      12        3\n"
        );
    }
}
