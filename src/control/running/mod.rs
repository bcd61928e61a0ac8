//! The running switch's brain: which ports there are, what becomes of them, when addresses age.
//!
//! One task owns a [`Running`] and does one thing after the other: a command of the API, a change that
//! somebody else made to a device, ageing. Frames never wait for it: the workers share the [`Switch`] with it
//! and nothing else.
//!
//! A port comes: device made -> slot taken, down -> workers read it -> up. It goes the other way round:
//! down, so that no new frame is sent to it -> workers let go -> addresses forgotten -> slot free -> device
//! taken away. So no worker ever sees a slot whose device is another's.
//!
//! A port whose device somebody deleted is `gone`: workers have let go of it, the record stays until the port
//! is deleted, so that a person sees what happened.
//!
//! Ageing sleeps until the database says that the next entry can be due. While nothing can age, it sleeps a
//! whole ageing time: what is learned meanwhile is not due before that. Expired entries are found
//! together, once a second at most.

mod command;
mod event_collector;
#[cfg(test)]
mod event_tests;
#[cfg(test)]
pub(crate) mod fake;
mod history;
mod host_network;
mod live_trace;
mod mirror;
mod plan;
mod ports;
#[cfg(test)]
mod tests;
mod totals;
mod trace;
#[cfg(test)]
mod trace_tests;
mod view;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use tokio::sync::{Notify, mpsc};
use tracing::error;

pub(crate) use command::{Command, Handle, Reply, Stopping};
use event_collector::EventCollector;
pub(crate) use host_network::HostNetwork;
use live_trace::LiveTraces;
pub(crate) use mirror::{MirrorReader, MirrorRequest, PortNames};
use plan::PortPlan;
use ports::PortRecord;

use super::config::{HOST, InvalidValue};
use super::report::StopReport;
use super::topology::{Environment, LinkChange, Topology, TopologyError};
use super::trace::TraceError;
use super::{Config, EngineChoice, addressing};
use crate::datapath::{self, Datapath, DatapathError, EngineKind, Notice};
use crate::switch::fdb::FdbError;
use crate::switch::{Gateway, PortId, Ports, Switch, SwitchConfig, Tick};
use crate::wire::Mac;

/// Something that was asked of a switch cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// No io_uring, and nothing else is allowed.
    #[error("--engine uring: {0}: start with --engine auto or --engine poll")]
    NoUring(String),
    /// The machine refused.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The workers refused.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The forwarding database refused.
    #[error(transparent)]
    Fdb(#[from] FdbError),
    /// A word of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// Somebody asked to stop while the switch was starting.
    #[error("stopped while starting: everything made so far is taken away again")]
    Interrupted,
    /// The table is full.
    #[error("the switch has all the {} ports that it can have: delete one first", Ports::MAX)]
    TooManyPorts,
    /// No such port.
    #[error("there is no port named {0}: `uswitch port show` lists them")]
    NoSuchPort(String),
    /// No such entry.
    #[error("there is no entry for {0} in the forwarding database: `uswitch fdb show` lists them")]
    NoSuchEntry(Mac),
    /// VLANs are not supported yet.
    #[error("there is no VLAN {0}: this switch keeps all addresses in one database, so give no VLAN")]
    NoVlans(u16),
    /// There is no such frame to be traced.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The name is in use.
    #[error("there is a port named {0} already: choose another name, or delete that one first")]
    PortExists(String),
    /// The host port cannot be deleted.
    #[error("the host port stays as long as the switch: start one with --internal to have none")]
    HostPort,
    /// An address is in use.
    #[error("{0} is taken by {1}: choose another")]
    AddressTaken(String, String),
    /// An IP address that no station can have.
    #[error("{0} is the gateway's, the subnet's own or a special address: choose another")]
    InvalidAddress(std::net::IpAddr),
    /// A MAC that no station can have.
    #[error("{0} is a group address or zero: choose one like 02:00:00:00:00:01")]
    InvalidMac(Mac),
    /// No address left.
    #[error("{0} has no free address left: give one of your own, or delete a port first")]
    SubnetFull(IpNet),
    /// More addresses than a port can have.
    #[error("{0} addresses: a port takes at most 16")]
    TooManyAddresses(usize),
    /// `/proc/self` of the switch, which is not that of whoever asks.
    #[error("'{0}' would be the switch's own namespace: give a process id instead of a path with self")]
    OwnNetns(String),
    /// Not a namespace.
    #[error("'{0}' names no namespace: use a name that `ip netns` lists, an absolute path, or a process id")]
    BadNetns(String),
}

/// A start that failed, and what of it could not be taken away again.
#[derive(Debug)]
pub(crate) struct StartFailure {
    /// Why it failed.
    pub(crate) why: RunError,
    /// What is left.
    pub(crate) left: Vec<TopologyError>,
}

/// Why a switch ends.
#[derive(Debug)]
pub(crate) enum StopReason {
    /// Over the API; the answer is owed when everything is gone.
    Request(Reply<StopReport>),
    /// By a signal.
    Signal,
    /// A worker stopped by itself.
    WorkerFailed(String),
}

impl StopReason {
    /// In words.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            StopReason::Request(_) => "asked over the API",
            StopReason::Signal => "a signal",
            StopReason::WorkerFailed(_) => "a worker that failed",
        }
    }
}

/// The ports by their place in the switch's table.
type PortTable = BTreeMap<PortId, PortRecord>;

/// A switch that forwards.
#[derive(Debug)]
pub(crate) struct Running<M> {
    config: Config,
    sandboxed: bool,
    started: Instant,
    started_at: SystemTime,
    engine: EngineKind,
    engine_note: Option<String>,
    switch: Arc<Switch>,
    datapath: Datapath,
    /// Wakes the brain when a worker has something to tell.
    notices: Arc<Notify>,
    network: M,
    ports: PortTable,
    names: PortNames,
    /// When to look for entries that have aged.
    next_ageing: Tick,
    /// Addresses that have aged so far.
    aged: u64,
    events: EventCollector,
    live_traces: LiveTraces,
    /// Why a worker stopped by itself, if one did.
    failure: Option<String>,
}

/// The engine to use, and why it is not io_uring if `auto` did not take that.
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
    /// Makes everything that `config` asks for and forwards; on an error nothing is left but what the error lists.
    /// `interrupted` is asked between two ports.
    pub(crate) async fn start(
        config: Config,
        environment: &Environment,
        interrupted: impl FnMut() -> bool,
    ) -> Result<Running<Topology>, StartFailure> {
        let nothing_made = |why| StartFailure { why, left: Vec::new() };
        let chosen = engine(config.engine).map_err(nothing_made)?;
        let topology = Topology::claim(&config, environment).map_err(|error| nothing_made(error.into()))?;
        let mut running = Running::on(topology, config, chosen)?;
        running.sandboxed = environment.sandboxed;
        match running.add_first_ports(interrupted).await {
            Ok(()) => Ok(running),
            Err(why) => Err(StartFailure { why, left: running.stop() }),
        }
    }
}

impl<M: HostNetwork> Running<M> {
    /// A switch without ports on `machine`.
    fn on(
        network: M,
        config: Config,
        (engine, engine_note): (EngineKind, Option<String>),
    ) -> Result<Running<M>, StartFailure> {
        let switch = Arc::new(Switch::new(settings(&config)));
        let notices = Arc::new(Notify::new());
        let wake = Arc::clone(&notices);
        let workers = datapath::DatapathSettings {
            workers: config.workers,
            engine,
            busy_poll: config.busy_poll,
            placement: config.placement.clone(),
            on_notice: Arc::new(move || wake.notify_one()),
        };
        let datapath = match Datapath::start(&switch, &workers) {
            Ok(datapath) => datapath,
            Err(error) => return Err(StartFailure { why: error.into(), left: network.teardown() }),
        };
        Ok(Running {
            config,
            sandboxed: false,
            started: Instant::now(),
            started_at: SystemTime::now(),
            engine,
            engine_note,
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
            failure: None,
        })
    }

    async fn add_first_ports(&mut self, mut interrupted: impl FnMut() -> bool) -> Result<(), RunError> {
        if !self.config.internal {
            self.add_host_port()?;
        }
        for n in 1..=self.config.ports {
            // Signals are heard meanwhile.
            tokio::task::yield_now().await;
            if interrupted() {
                return Err(RunError::Interrupted);
            }
            let plan = PortPlan::container(&self.config, n)?;
            self.make_port(plan)?;
        }
        Ok(())
    }

    /// Carries out commands and follows changes until it is time to stop.
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
            let ageing = self.until(self.next_ageing);
            tokio::select! {
                () = &mut signal => return StopReason::Signal,
                () = self.notices.notified() => self.drain_notices(),
                Some(command) = commands.recv() => {
                    if let Some(owed) = self.carry_out(command) {
                        return StopReason::Request(owed);
                    }
                }
                (device, change) = self.network.next_change() => self.device_changed(device, &change),
                () = self.events.due() => self.collect_events(),
                () = self.live_traces.due() => self.drain_live_traces(),
                () = tokio::time::sleep(ageing) => self.age(),
            }
        }
    }

    /// What the user should know of what was done so far, each a sentence, each once.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        let drowsy = self.datapath.take_cpu_latency_error().map(|error| {
            format!(
                "idle CPUs may sleep between the frames that --busy-poll waits for, which is slower: {error}"
            )
        });
        drowsy.into_iter().chain(self.network.take_notices()).collect()
    }

    /// Follows what the workers have told. What they tell of stations has time.
    fn drain_notices(&mut self) {
        self.events.on_wakeup();
        let notices: Vec<Notice> = self.datapath.notices().collect();
        for notice in notices {
            match notice {
                Notice::PortGone { port, .. } => self.link_changed(port, &LinkChange::Gone),
                Notice::WorkerStopped(why) => {
                    error!(why, "a worker stopped by itself");
                    self.failure = Some(why);
                }
            }
        }
    }

    /// Stops forwarding and takes everything away; what could not be.
    pub(crate) fn stop(self) -> Vec<TopologyError> {
        for id in self.ports.keys() {
            // One by one, because that closes the queues before it returns. A worker that is gone has closed its own.
            let _ = self.detach(*id);
        }
        self.datapath.stop();
        self.network.teardown()
    }

    /// Whom a reply is owed to when everything is gone, if that was the command. An answer that nobody waits for any
    /// more is no error.
    fn carry_out(&mut self, command: Command) -> Option<Reply<StopReport>> {
        match command {
            Command::Status(reply) => _ = reply.send(self.status()),
            Command::Ports(reply) => _ = reply.send(self.port_reports()),
            Command::AddPort(asked, reply) => _ = reply.send(self.add_port(*asked)),
            Command::RemovePort(name, reply) => _ = reply.send(self.remove_port(&name)),
            Command::Fdb(filter, reply) => _ = reply.send(self.fdb_reports(&filter)),
            Command::AddFdb(entry, reply) => _ = reply.send(self.add_fdb_entry(&entry)),
            Command::RemoveFdb(mac, vlan, reply) => _ = reply.send(self.remove_fdb_entry(mac, vlan)),
            Command::FlushFdb(ifname, reply) => _ = reply.send(self.flush_fdb(ifname.as_deref())),
            Command::Stats(reply) => _ = reply.send(self.stats()),
            Command::Metrics(reply) => _ = reply.send(Box::new(self.snapshot())),
            Command::Events(filter, reply) => _ = reply.send(self.events.history.events(&filter)),
            Command::FollowEvents(filter, reply) => _ = reply.send(self.events.history.follow(filter)),
            Command::Mirror(asked, reply) => _ = reply.send(self.mirror(*asked)),
            Command::Trace(asked, reply) => _ = reply.send(self.trace(&asked)),
            Command::FollowFrames(filter, reply) => _ = reply.send(self.follow_frames(&filter)),
            Command::Stop(reply) => return Some(reply),
        }
        None
    }

    fn age(&mut self) {
        let now = self.datapath.now();
        let later = |ticks: u32| Tick(now.0.saturating_add(ticks));
        let switch = Arc::clone(&self.switch);
        let due = switch.fdb.age(now, &mut |entry| {
            self.aged += 1;
            self.emit_aged(&entry);
        });
        self.emit_suppressed();
        self.next_ageing = due.unwrap_or(later(ticks(self.config.ageing_time))).max(later(Tick::PER_SECOND));
    }

    fn until(&self, tick: Tick) -> Duration {
        Duration::from_secs(tick.since(self.datapath.now()).into()) / Tick::PER_SECOND
    }
}

/// Whether a port takes and gives frames, as far as the switch has a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AdminState {
    Enabled,
    Disabled,
}

fn settings(config: &Config) -> SwitchConfig {
    let mut gateway = Gateway { mac: addressing::mac(&config.name, 0), ..Gateway::default() };
    for address in config.gateways() {
        match address {
            std::net::IpAddr::V4(address) => gateway.ipv4.push(address),
            std::net::IpAddr::V6(address) => gateway.ipv6.push(address),
        }
    }
    SwitchConfig {
        ageing: ticks(config.ageing_time),
        fdb_max: config.fdb_max,
        seed: RandomState::new().hash_one(&config.name),
        gateway,
    }
}

fn ticks(duration: Duration) -> u32 {
    Tick::at(duration).0
}
