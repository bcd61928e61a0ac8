//! The control task of a running switch: its ports, their changes, and ageing.
//!
//! One task owns a [`Running`] and handles one thing after the other: an API command, a device changed
//! by another program, ageing. Frames never wait for it: it shares only the [`Switch`] with the
//! workers.
//!
//! A port is added in this order: device created, slot taken (down), workers attached, up. It is
//! removed in reverse: down, so that no new frame is sent to it; workers detached; addresses forgotten;
//! slot free; device removed. So no worker ever sees a slot with another port's device.
//!
//! When another program deletes a port's device, the workers detach and the port is shown as `gone`
//! until the user deletes it.
//!
//! Ageing sleeps until the forwarding database says that the next entry can expire. While nothing can
//! expire it sleeps a whole ageing time, because later entries expire after that. Expired entries are
//! collected together, at most once a second.

mod adopt;
mod awake_cpus;
mod command;
#[cfg(test)]
mod device_tests;
mod dhcp;
mod dns;
mod event_collector;
#[cfg(test)]
mod event_tests;
#[cfg(test)]
pub(crate) mod fake;
mod fast_path;
mod fdb;
mod guard;
mod history;
mod host_network;
mod host_ports;
#[cfg(test)]
mod label_tests;
mod link_state;
mod live_trace;
mod loops;
mod mirror;
mod multicast;
#[cfg(test)]
mod multicast_tests;
mod nat;
#[cfg(test)]
mod new_port_tests;
mod own_addresses;
mod plan;
mod port_mirrors;
mod port_settings;
mod ports;
mod published;
#[cfg(test)]
mod published_tests;
mod punts;
mod replace_device;
#[cfg(test)]
mod replace_device_tests;
#[cfg(test)]
mod router_advertisement_tests;
mod router_advertisements;
mod socket_peer;
mod stp;
mod switch;
mod switch_settings;
#[cfg(test)]
mod tests;
mod totals;
mod trace;
#[cfg(test)]
mod trace_tests;
mod uplink;
mod view;
mod vlan_stats;
mod vlans;
mod watchdog;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use tokio::sync::{Notify, mpsc};
use tracing::{error, warn};

pub(crate) use adopt::PlannedPort;
use awake_cpus::AwakeCpus;
pub(crate) use command::{
    Command, FdbPage, Handle, PortMirrorCommand, PortVlanCommand, PublishCommand, Reply, Stopping,
};
use dhcp::Dhcp;
pub(crate) use dhcp::DhcpError;
pub(crate) use dns::DnsError;
use event_collector::EventCollector;
pub(crate) use host_network::HostNetwork;
use live_trace::LiveTraces;
pub(crate) use mirror::{MirrorReader, MirrorRequest, PortNames};
use plan::PortPlan;
pub(crate) use port_mirrors::MirrorError;
use ports::PortRecord;
pub(crate) use published::PublishError;
use published::PublishedPorts;
use router_advertisements::RouterAdvertisements;
pub(crate) use uplink::UplinkError;
pub(crate) use vlans::VlanError;
use watchdog::Watchdog;

use super::config::{HOST, InvalidValue};
use super::report::{ErrorCode, StopReport};
use super::services::dns::DnsServer;
use super::topology::{Environment, NetworkChange, Topology, TopologyError};
use super::trace::TraceError;
use super::{Config, EngineChoice};
use crate::datapath::{self, Datapath, DatapathError, DatapathSettings, EngineKind, Notice};
use crate::fastpath::{FastPath, FastPathError};
use crate::switch::fdb::FdbError;
use crate::switch::mdb::{MdbError, Snooping};
use crate::switch::stp::SpanningTree;
use crate::switch::{PortId, Ports, Switch, Tick};
use crate::sys::tap::TapError;
use crate::wire::Mac;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("io_uring cannot be used: {0}: choose the engine auto or poll")]
    NoUring(String),
    #[error("no kernel fast path: {0}")]
    FastPath(#[from] FastPathError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    #[error(transparent)]
    Fdb(#[from] FdbError),
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    #[error("interrupted while starting: everything created so far has been removed")]
    Interrupted,
    #[error("the switch has the maximum of {} ports: delete one first", Ports::MAX)]
    TooManyPorts,
    #[error("no port named {0}: `uswitch port show` lists the ports")]
    NoSuchPort(String),
    #[error("no entry for {0} in the forwarding database: `uswitch fdb show` lists the entries")]
    NoSuchEntry(Mac),
    /// The address, and its port.
    #[error("{0} is behind {1} already: replace the entry with `uswitch fdb replace`, or delete it first")]
    EntryExists(Mac, String),
    #[error("{0} is the gateway's own address and stays on the host port")]
    GatewayEntry(Mac),
    #[error("a permanent entry is an address of the host: its port is host, and it is not sticky")]
    PermanentEntry,
    #[error("the spanning tree is off: start the switch with --stp")]
    NoSpanningTree,
    #[error(transparent)]
    Vlan(#[from] VlanError),
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Dhcp(#[from] DhcpError),
    #[error("there is no DHCP server: start the switch with --dhcp")]
    NoDhcp,
    #[error(transparent)]
    Dns(#[from] DnsError),
    #[error(transparent)]
    Mdb(#[from] MdbError),
    #[error("multicast snooping is off: start the switch with --mcast-snooping on")]
    NoSnooping,
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("port {0} exists already: choose another name, or delete that port first")]
    PortExists(String),
    #[error("the host port cannot be deleted: only an internal switch has none")]
    HostPort,
    #[error("the device of port {0} is gone: delete the port, or replace it")]
    PortGone(String),
    /// A port on an existing device without assigned addresses.
    #[error(
        "the guard of {0} needs the addresses of the host behind it: give its MAC and IP addresses when you add the port"
    )]
    NoGuardAddresses(String),
    /// The names of two settings.
    #[error("'{0}' excludes '{1}': give only one of them")]
    Excludes(&'static str, &'static str),
    #[error("give the port a name: its socket has none that a port can have")]
    NoNameOfSocket,
    /// The address, and its owner.
    #[error(
        "the port {0} exists, and its device is gone: replace it (--replace), or delete it with `uswitch port del {0}`"
    )]
    GonePortExists(String),
    #[error(
        "{0} belongs to the port {1}, whose device is gone: replace it (--replace), or delete it with `uswitch port del {1}`"
    )]
    AddressOfGonePort(String, String),
    #[error(
        "the namespace {0} already has the port {1}: delete that first, or allow a second one there (--shared-netns)"
    )]
    NetnsHasPort(String, String),
    #[error("{0} is in use by {1}: choose another")]
    AddressTaken(String, String),
    #[error("{0} is the gateway's, a network, broadcast or special address: choose another")]
    InvalidAddress(std::net::IpAddr),
    #[error("{0} is a group address or zero: choose one like 02:00:00:00:00:01")]
    InvalidMac(Mac),
    #[error("{0} has no free address left: choose an address yourself, or delete a port first")]
    SubnetFull(IpNet),
    #[error("{0} addresses: a port can have at most 16")]
    TooManyAddresses(usize),
    /// `/proc/self` would be the switch's own, not the client's.
    #[error("'{0}' would be the switch's own namespace: use a process ID instead of 'self'")]
    OwnNetns(String),
    #[error(
        "'{0}' is not a network namespace: use a name that `ip netns` lists, an absolute path or a process ID"
    )]
    BadNetns(String),
}

impl RunError {
    /// The kind of error, where the command line can give advice about it.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            RunError::Topology(TopologyError::Tap(TapError::HeaderSize(_) | TapError::Offload(_))) => {
                Some(ErrorCode::OffloadRefused)
            }
            _ => None,
        }
    }
}

/// A failed start, and what its teardown could not remove.
#[derive(Debug)]
pub(crate) struct StartFailure {
    pub(crate) why: RunError,
    pub(crate) left: Vec<TopologyError>,
}

/// Why a switch stops.
#[derive(Debug)]
pub(crate) enum StopReason {
    /// Requested over the API. The response is sent after the teardown.
    Request(Reply<StopReport>),
    Signal,
    /// A worker failed.
    WorkerFailed(String),
}

impl StopReason {
    /// The reason as text for the log.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            StopReason::Request(_) => "API request",
            StopReason::Signal => "signal",
            StopReason::WorkerFailed(_) => "worker failure",
        }
    }
}

/// The ports by their slot in the switch.
type PortTable = BTreeMap<PortId, PortRecord>;

/// A running switch.
#[derive(Debug)]
pub(crate) struct Running<M> {
    config: Config,
    sandboxed: bool,
    started: Instant,
    started_at: SystemTime,
    engine: EngineKind,
    engine_note: Option<String>,
    fast_path: Option<Arc<FastPath>>,
    awake_cpus: Option<AwakeCpus>,
    /// Why there is none, if `auto` found none.
    fast_path_note: Option<String>,
    switch: Arc<Switch>,
    datapath: Datapath,
    /// Wakes the control task when a worker has sent a notice.
    notices: Arc<Notify>,
    network: M,
    ports: PortTable,
    names: PortNames,
    /// When to look for expired entries.
    next_ageing: Tick,
    /// Entries expired so far.
    aged: u64,
    events: EventCollector,
    live_traces: LiveTraces,
    /// The state of IGMP and MLD snooping, unless that is off.
    snooping: Option<Snooping>,
    /// The spanning tree, if there is one.
    spanning_tree: Option<SpanningTree>,
    watchdog: Watchdog,
    published: PublishedPorts,
    /// The DHCP server, if there is one.
    dhcp: Option<Dhcp>,
    /// The DNS server, if there is one.
    dns: Option<DnsServer>,
    /// The router advertisements, if they are sent.
    router_advertisements: Option<RouterAdvertisements>,
    /// Why NAT may not work, if so.
    nat_fault: Option<String>,
    /// Why a worker failed, if one did.
    failure: Option<String>,
}

/// The engine to use, and why it is not io_uring if `auto` chose poll.
fn engine(choice: EngineChoice) -> Result<(EngineKind, Option<String>), RunError> {
    match (choice, datapath::probe()) {
        (EngineChoice::Poll, _) => Ok((EngineKind::Poll, None)),
        (EngineChoice::Auto, found) => Ok(found),
        (EngineChoice::Uring, (EngineKind::Uring, _)) => Ok((EngineKind::Uring, None)),
        (EngineChoice::Uring, (EngineKind::Poll, why)) => {
            Err(RunError::NoUring(why.unwrap_or_else(|| "this kernel has no io_uring".to_owned())))
        }
    }
}

impl Running<Topology> {
    /// Creates everything in `config` and starts to forward. After an error everything is removed
    /// except what the error lists. `interrupted` is polled between two ports.
    pub(crate) async fn start(
        config: Config,
        environment: &Environment,
        interrupted: impl FnMut() -> bool,
    ) -> Result<Running<Topology>, StartFailure> {
        let nothing_made = |why| StartFailure { why, left: Vec::new() };
        let chosen = engine(config.engine).map_err(nothing_made)?;
        let topology = Topology::claim(&config, environment).map_err(|error| nothing_made(error.into()))?;
        let config = topology.config().clone();
        let mut running = Running::on(topology, config, chosen)?;
        running.sandboxed = environment.sandboxed;
        let started = match running.start_fast_path() {
            Ok(()) => running.add_first_ports(interrupted).await,
            Err(why) => Err(why),
        };
        let served = started
            .and_then(|()| running.start_dns())
            .and_then(|()| running.start_dhcp(environment.state.as_deref()));
        match served {
            Ok(()) => Ok(running),
            Err(why) => Err(StartFailure { why, left: running.stop() }),
        }
    }
}

impl<M: HostNetwork> Running<M> {
    /// A switch without ports.
    fn on(
        network: M,
        config: Config,
        (engine, engine_note): (EngineKind, Option<String>),
    ) -> Result<Running<M>, StartFailure> {
        let (switch, spanning_tree) = switch::new(&config);
        let switch = Arc::new(switch);
        let notices = Arc::new(Notify::new());
        let mut workers = worker_settings(&config, engine, Arc::clone(&notices));
        let (datapath, refused) = match start_workers(&switch, &mut workers, config.engine) {
            Ok(started) => started,
            Err(error) => return Err(StartFailure { why: error.into(), left: network.teardown() }),
        };
        Ok(Running {
            config,
            sandboxed: false,
            started: Instant::now(),
            started_at: SystemTime::now(),
            engine: workers.engine,
            engine_note: refused.or(engine_note),
            fast_path: None,
            awake_cpus: None,
            fast_path_note: None,
            switch,
            datapath,
            notices,
            network,
            ports: BTreeMap::new(),
            names: PortNames::default(),
            next_ageing: Tick(0),
            aged: 0,
            events: EventCollector::new(),
            live_traces: LiveTraces::new(),
            snooping: None,
            spanning_tree,
            watchdog: Watchdog::default(),
            published: PublishedPorts::default(),
            dhcp: None,
            dns: None,
            router_advertisements: None,
            nat_fault: None,
            failure: None,
        })
    }

    async fn add_first_ports(&mut self, mut interrupted: impl FnMut() -> bool) -> Result<(), RunError> {
        self.start_snooping();
        if !self.config.internal {
            self.add_host_ports()?;
        }
        for n in 1..=self.config.ports {
            // Lets the signal handler run.
            tokio::task::yield_now().await;
            if interrupted() {
                return Err(RunError::Interrupted);
            }
            let plan = PortPlan::container(&self.config, &self.ports, n)?;
            self.make_port(plan, HostNetwork::add_port)?;
        }
        for request in self.config.attached_ports() {
            let plan = PortPlan::new(&self.config, &self.ports, request)?;
            self.make_port(plan, HostNetwork::add_port)?;
        }
        self.add_mirrors_of_file()?;
        self.publish_first_ports()?;
        self.start_router_advertisements();
        // Sent when the switch serves, so that a start does not wait for them.
        let ports: Vec<PortId> = self.ports.keys().copied().collect();
        ports.into_iter().for_each(|id| self.announce(id));
        Ok(())
    }

    /// Handles commands and changes until it is time to stop.
    pub(crate) async fn serve(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        signal: impl Future<Output = ()>,
    ) -> StopReason {
        tokio::pin!(signal);
        loop {
            if let Some(why) = self.failure.take() {
                return StopReason::WorkerFailed(why);
            }
            self.update_watchdog();
            self.update_loops();
            self.update_protocols();
            let ageing = self.until(self.next_ageing);
            let (block_over, awake_cpus_due) = (self.loops_due(), self.awake_cpus_due());
            let (multicast_due, stp_due) = (self.multicast_due(), self.stp_due());
            let advertisement_due = self.router_advertisement_due();
            tokio::select! {
                () = &mut signal => return StopReason::Signal,
                () = self.notices.notified() => self.drain_notices(),
                Some(command) = commands.recv() => {
                    if let Some(owed) = self.carry_out(command) {
                        return StopReason::Request(owed);
                    }
                }
                change = self.network.next_change() => match change {
                    NetworkChange::Device(device, change) => self.device_changed(device, &change),
                    NetworkChange::Connected(device) => self.connected(device),
                    NetworkChange::Nat(change) => self.nat_changed(change),
                },
                () = self.events.due() => self.collect_events(),
                () = self.live_traces.due() => self.drain_live_traces(),
                () = awake_cpus_due => self.update_awake_cpus(),
                () = self.watchdog.due() => self.check_workers(),
                work = Dhcp::next_work(&mut self.dhcp) => self.serve_dhcp(work),
                () = self.published.due() => self.follow_addresses(),
                // The next turn of the loop ends the block, or does what is due.
                () = block_over => {}
                () = multicast_due => {}
                () = stp_due => {}
                () = advertisement_due => {}
                () = tokio::time::sleep(ageing) => self.age(),
            }
        }
    }

    /// Notices for the user about what was done so far. Each is returned once.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        let cpu_latency = self.datapath.take_cpu_latency_error().map(|error| {
            format!(
                "idle CPUs may enter deep sleep states while workers busy-poll, which adds latency: {error}"
            )
        });
        cpu_latency.into_iter().chain(self.network.take_notices()).collect()
    }

    /// Handles the workers' notices. FDB notifications are read later, together.
    fn drain_notices(&mut self) {
        self.events.on_wakeup();
        let notices: Vec<Notice> = self.datapath.notices().collect();
        for notice in notices {
            match notice {
                Notice::PortGone { port, .. } => self.port_gone(port),
                Notice::WorkerStopped(why) => {
                    error!(why, "a worker failed");
                    self.failure = Some(why);
                }
            }
        }
    }

    /// Stops forwarding and removes everything. Returns what could not be removed.
    pub(crate) fn stop(self) -> Vec<TopologyError> {
        self.end_router_advertisements();
        for id in self.ports.keys() {
            // Detaching closes a port's queues before it returns. A worker that has ended closed its
            // own, and those of a stalled worker are closed with the process.
            let _ = self.detach(*id);
        }
        for worker in self.datapath.stop() {
            warn!(worker, "the worker did not stop; its thread ends with the process");
        }
        self.network.teardown()
    }

    /// Carries out a command. Returns where to send the response if the command was to stop. A client
    /// that no longer waits for its response is not an error.
    fn carry_out(&mut self, command: Command) -> Option<Reply<StopReport>> {
        match command {
            Command::Status(reply) => {
                self.check_workers_now();
                let _ = reply.send(self.status());
            }
            Command::Ports(reply) => _ = reply.send(self.port_reports()),
            Command::PlanPort(request, netns, reply) => _ = reply.send(self.plan_port(&request, &netns)),
            Command::AdoptPort(request, device, reply) => _ = reply.send(self.adopt_port(*request, *device)),
            Command::AddPort(request, reply) => _ = reply.send(self.add_port(*request)),
            Command::SetPort(name, settings, reply) => _ = reply.send(self.set_port(&name, &settings)),
            Command::RemovePort(name, how, reply) => _ = reply.send(self.remove_port_with(&name, &how)),
            Command::FdbPage(filter, start, reply) => _ = reply.send(self.fdb_page(&filter, start)),
            Command::AddFdb(entry, reply) => _ = reply.send(self.add_fdb_entry(&entry)),
            Command::Mdb(reply) => _ = reply.send(self.mdb_report()),
            Command::AddMdb(entry, reply) => _ = reply.send(self.add_mdb_entry(&entry)),
            Command::RemoveMdb(entry, reply) => _ = reply.send(self.remove_mdb_entry(&entry)),
            Command::Stp(reply) => _ = reply.send(self.stp_report()),
            Command::DhcpLeases(reply) => _ = reply.send(self.dhcp_leases()),
            Command::ReplaceFdb(entry, reply) => _ = reply.send(self.replace_fdb_entry(&entry)),
            Command::RemoveFdb(entry, reply) => _ = reply.send(self.remove_fdb_entry(&entry)),
            Command::FlushFdb(query, reply) => _ = reply.send(self.flush_fdb(&query)),
            Command::PortMirror(command) => self.carry_out_mirror(command),
            Command::Vlan(command) => self.carry_out_vlan(command),
            Command::Publish(command) => self.carry_out_publish(command),
            Command::SetSwitch(settings, reply) => _ = reply.send(self.set_switch(&settings)),
            Command::Stats(reply) => _ = reply.send(self.stats()),
            Command::Metrics(reply) => {
                self.check_workers_now();
                let _ = reply.send(Box::new(self.snapshot()));
            }
            Command::Events(filter, reply) => _ = reply.send(self.recorded_events(&filter)),
            Command::FollowEvents(filter, reply) => _ = reply.send(self.events.history.follow(filter)),
            Command::Mirror(request, reply) => _ = reply.send(self.mirror(*request)),
            Command::RouteLookup(request, reply) => _ = reply.send(self.route_lookup(&request)),
            Command::Trace(request, route, reply) => _ = reply.send(self.trace(&request, route)),
            Command::FollowFrames(filter, reply) => _ = reply.send(self.follow_frames(&filter)),
            Command::Stop(reply) => return Some(reply),
        }
        None
    }

    fn age(&mut self) {
        self.switch.fdb.refresh_shared(self.datapath.now());
        let now = self.datapath.now();
        let later = |ticks: u32| Tick(now.0.saturating_add(ticks));
        let switch = Arc::clone(&self.switch);
        let due = switch.fdb.age(now, &mut |entry| {
            self.aged += 1;
            self.emit_aged(&entry);
        });
        self.emit_suppressed();
        let ageing = ticks(self.config.ageing_time);
        self.switch.uplinks.age(now, ageing);
        // The workers see nothing of a station while the fast path forwards its frames.
        let refresh = if self.fast_path.is_some() { later(ageing / 2) } else { later(ageing) };
        self.next_ageing = due.unwrap_or(refresh).min(refresh).max(later(Tick::PER_SECOND));
    }

    fn until(&self, tick: Tick) -> Duration {
        Duration::from_secs(tick.since(self.datapath.now()).into()) / Tick::PER_SECOND
    }
}

fn worker_settings(config: &Config, engine: EngineKind, wake: Arc<Notify>) -> DatapathSettings {
    DatapathSettings {
        workers: config.workers,
        engine,
        busy_poll: config.busy_poll,
        placement: config.placement.clone(),
        on_notice: Arc::new(move || wake.notify_one()),
    }
}

/// Starts the workers. With `auto` they use poll if one of them cannot use io_uring: the limit of locked memory may
/// allow the ring of one worker, but not those of all. Then the reason is returned.
fn start_workers(
    switch: &Arc<Switch>,
    settings: &mut DatapathSettings,
    choice: EngineChoice,
) -> Result<(Datapath, Option<String>), DatapathError> {
    match (choice, Datapath::start(switch, settings)) {
        (EngineChoice::Auto, Err(DatapathError::Engine(why))) if settings.engine == EngineKind::Uring => {
            settings.engine = EngineKind::Poll;
            Ok((Datapath::start(switch, settings)?, Some(why.to_string())))
        }
        (_, started) => Ok((started?, None)),
    }
}

/// Whether the workers may use a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortUse {
    Allowed,
    /// Not yet, or not any more.
    Forbidden,
}

fn ticks(duration: Duration) -> u32 {
    Tick::at(duration).0
}
