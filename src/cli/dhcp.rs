//! `uswitch dhcp`: shows the leases of the DHCP server.

use std::time::Duration;

use jiff::Timestamp;

use crate::control::report::DhcpLeaseReport;

use super::error::CliError;
use super::output::{self, duration, table};
use super::target::{PortList, Target};

/// Show the leases of the DHCP server
#[derive(Debug, clap::Args)]
pub(super) struct DhcpCommand {
    #[command(subcommand)]
    action: DhcpAction,
}

#[derive(Debug, clap::Subcommand)]
enum DhcpAction {
    Show(DhcpShow),
}

/// Show the leases: address, client and remaining time
#[derive(Debug, clap::Args)]
struct DhcpShow {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ports: PortList,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl DhcpCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            DhcpAction::Show(show) => show.run(),
        }
    }
}

impl DhcpShow {
    fn run(self) -> Result<(), CliError> {
        let (mut leases, shown) = self.ports.list::<DhcpLeaseReport>(&self.target, "/v1/dhcp/leases")?;
        leases.retain(|lease| shown.has(&lease.ifname));
        if self.json {
            return output::json(&leases);
        }
        let now = Timestamp::now();
        output::print(&table(
            ["PORT", "ADDRESS", "CLIENT", "ENDS IN"],
            leases.iter().map(|lease| row(lease, now)),
        ))
    }
}

fn row(lease: &DhcpLeaseReport, now: Timestamp) -> [String; 4] {
    let client = match (&lease.duid, lease.mac) {
        (Some(duid), _) => format!("{duid} {}", lease.iaid.unwrap_or_default()),
        (None, Some(mac)) => mac.to_string(),
        (None, None) => "container".to_owned(),
    };
    let left = Duration::try_from(lease.expires.duration_since(now)).unwrap_or_default();
    [lease.ifname.clone(), lease.address.to_string(), client, duration(left.as_secs())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Mac;

    #[test]
    fn row_names_the_client_and_the_time_that_is_left() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let lease = DhcpLeaseReport {
            ifname: "web".to_owned(),
            address: [172, 16, 0, 2].into(),
            mac: None,
            duid: None,
            iaid: None,
            expires: "2026-11-21T12:59:00Z".parse().unwrap(),
        };
        assert_eq!(row(&lease, now), ["web", "172.16.0.2", "container", &duration(59 * 60)]);
        let other = DhcpLeaseReport { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..lease.clone() };
        assert_eq!(row(&other, now)[2], "02:00:00:00:00:01");
        let v6 = DhcpLeaseReport { duid: Some("00:03:00:01".to_owned()), iaid: Some(7), ..lease };
        assert_eq!(row(&v6, now)[2], "00:03:00:01 7");
        assert_eq!(row(&v6, "2026-11-21T13:00:00Z".parse().unwrap())[3], duration(0), "it has just ended");
    }
}
