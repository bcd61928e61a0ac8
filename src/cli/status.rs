//! `uswitch status`: shows a running switch in a few lines.

use crate::control::report::{
    DhcpReport, DnsReport, RouterAdvertisementReport, Status, SwitchState, VlanGatewayReport,
};

use super::error::CliError;
use super::labels::listed;
use super::output::{self, counted, duration, joined};
use super::target::Target;

/// Show the state and the settings of a running switch
#[derive(Debug, clap::Args)]
pub(super) struct StatusCommand {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl StatusCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let status: Status = self.target.client()?.get("/v1/status")?;
        if self.json { output::json(&status) } else { output::print(&text(&status)) }
    }
}

fn guard(status: &Status) -> String {
    let new = if status.guard { "on" } else { "off for new containers" };
    let ports = status.guard_off_ports.join(", ");
    match (status.guard_off, status.guard_off - status.guard_off_ports.len().min(status.guard_off)) {
        (0, _) => new.to_owned(),
        (_, 0) => format!("{new}, off at {ports}"),
        (_, more) => format!("{new}, off at {ports} and {more} more"),
    }
}

/// What moves the frames.
fn engine(status: &Status) -> String {
    let mut engine = format!("{}, {}", status.engine, counted(status.workers, "worker"));
    if !status.cpus.is_empty() {
        let cpus: Vec<String> = status.cpus.iter().map(usize::to_string).collect();
        engine += &format!(" on CPU {}", cpus.join(", "));
    }
    if let Some(note) = &status.engine_note {
        engine += &format!(" (not io_uring: {note})");
    }
    if status.fast_path {
        engine += ", and the kernel's fast path";
    }
    if let Some(note) = &status.fast_path_note {
        engine += &format!(" ({note})");
    }
    engine
}

fn gateway(status: &Status) -> String {
    match &status.gateway.addresses[..] {
        [] => "none".to_owned(),
        addresses => format!("{} ({})", joined(addresses), status.gateway.mac),
    }
}

fn subnets(status: &Status) -> String {
    if status.subnets.is_empty() { "none".to_owned() } else { joined(&status.subnets) }
}

fn text(status: &Status) -> String {
    let host = match (status.internal, status.nat, status.sandboxed) {
        (true, ..) => "no host port: the containers reach only each other",
        (false, true, _) => "reachable, and other networks by NAT",
        (false, false, true) => "a network namespace of the switch's own (started without root)",
        (false, false, false) => "reachable",
    };
    let state = match status.state {
        SwitchState::Running => String::new(),
        SwitchState::Degraded => format!("  {:<10} degraded: {}\n", "state", faults(status).join("; ")),
    };
    let labels = match listed(&status.labels) {
        none if none.is_empty() => none,
        labels => format!("  {:<10} {labels}\n", "labels"),
    };
    let lines = [
        ("up for", duration(status.uptime)),
        ("process", status.pid.to_string()),
        ("engine", engine(status)),
        ("ports", format!("{}, {} up", status.ports, status.ports_up)),
        ("subnets", subnets(status)),
        ("gateway", gateway(status)),
        ("host", host.to_owned()),
        ("guard", guard(status)),
        ("mtu", status.mtu.to_string()),
        ("loops", if status.loop_detection { "detected" } else { "not detected" }.to_owned()),
        ("addresses", format!("{} of {}, ageing after {} s", status.fdb, status.fdb_max, status.ageing_time)),
        ("received", format!("{} frames, {} bytes", status.rx_frames, status.rx_bytes)),
        ("lost", format!("{} worker notices, {} events", status.lost_notices, status.lost_events)),
    ];
    let dns = status.dns.iter().map(|dns| format!("  {:<10} {}\n", "dns", dns_server(dns)));
    let dhcp = status.dhcp.iter().map(|dhcp| format!("  {:<10} {}\n", "dhcp", dhcp_server(dhcp)));
    let advertisements = status.router_advertisements.iter();
    let advertisements =
        advertisements.map(|sent| format!("  {:<10} {}\n", "ra", router_advertisements(sent)));
    let line = |(what, value): (&str, String)| format!("  {what:<10} {value}\n");
    format!("{}\n{state}{labels}", status.name)
        + &lines.map(line).concat()
        + &dhcp.chain(advertisements).chain(dns).collect::<String>()
        + &vlan_gateways(status)
}

fn dhcp_server(dhcp: &DhcpReport) -> String {
    let DhcpReport { lease_time, leases, offered, acknowledged, refused, .. } = dhcp;
    let DhcpReport { exhausted, limited, ignored, lost, .. } = dhcp;
    format!(
        "{leases} leases of {lease_time} s: {offered} offered, {acknowledged} acknowledged, {refused} refused, \
         {exhausted} without a free address, {limited} over the limit of their port, {} ignored",
        ignored + lost
    )
}

fn router_advertisements(advertisements: &RouterAdvertisementReport) -> String {
    let RouterAdvertisementReport { prefixes, sent, solicited, lost } = advertisements;
    format!("{}: {sent} sent, {solicited} solicitations, {lost} ignored", joined(prefixes))
}

fn dns_server(dns: &DnsReport) -> String {
    let DnsReport { domain, addresses, answered, forwarded, failed, refused, unsent } = dns;
    format!(
        "{domain} at {}: {answered} answered, {forwarded} forwarded, {failed} failed, {refused} refused, \
         {unsent} unsent",
        joined(addresses)
    )
}

/// A line for each VLAN with a gateway of its own.
fn vlan_gateways(status: &Status) -> String {
    let line = |VlanGatewayReport { vlan, ifname, mac, addresses }: &VlanGatewayReport| {
        format!("  {:<10} gateway {} ({mac}) on {ifname}\n", format!("VLAN {vlan}"), joined(addresses))
    };
    status.vlan_gateways.iter().map(line).collect()
}

/// Why the switch is degraded.
fn faults(status: &Status) -> Vec<String> {
    let workers: Vec<String> = status.stalled_workers.iter().map(usize::to_string).collect();
    let stalled = (!workers.is_empty()).then(|| format!("worker {} does not respond", workers.join(", ")));
    stalled.into_iter().chain(status.nat_fault.clone()).collect()
}
