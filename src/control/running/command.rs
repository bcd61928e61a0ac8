//! Commands to the control task, from any task or thread.

use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::mirror::{MirrorReader, MirrorRequest};
use super::{PlannedPort, RunError};
use crate::control::event::{Event, EventFilter};
use crate::control::metrics::MetricsSnapshot;
use crate::control::report::{
    AddedPort, DhcpLeaseReport, FdbEntryQuery, FdbFilter, FdbFlushQuery, FdbReport, MdbEntryQuery, MdbReport,
    MirrorQuery, MirrorReport, NewFdbEntry, NewMdbEntry, NewMirror, NewPort, NewVlan, NewVlanState,
    PortRemoval, PortReport, PortSettings, PortStats, PortVlanStats, PortVlansReport, PublishedPort, Status,
    StopReport, StpReport, SwitchSettings, VlanQuery, VlanStats,
};
use crate::control::subscription::Subscription;
use crate::control::topology::handover::HandedOver;
use crate::control::topology::{RouteLookup, SenderRoute, TopologyError};
use crate::control::trace::{LiveTraceLine, Trace, TraceError, TraceFilter, TraceRequest};
use crate::sys::blocking::run_blocking;
use crate::sys::netns::Netns;

/// The sender of a command's response.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// Every command that the control task accepts.
#[derive(Debug)]
pub(crate) enum Command {
    Status(Reply<Status>),
    Ports(Reply<Vec<PortReport>>),
    AddPort(Box<NewPort>, Reply<Result<AddedPort, RunError>>),
    /// Plans a port whose device the client creates, in this namespace.
    PlanPort(Box<NewPort>, Netns, Reply<Result<PlannedPort, RunError>>),
    AdoptPort(Box<NewPort>, Box<HandedOver>, Reply<Result<AddedPort, RunError>>),
    SetPort(String, Box<PortSettings>, Reply<Result<PortReport, RunError>>),
    RemovePort(String, PortRemoval, Reply<Result<(), RunError>>),
    FdbPage(FdbFilter, u32, Reply<FdbPage>),
    AddFdb(NewFdbEntry, Reply<Result<(), RunError>>),
    Mdb(Reply<Result<MdbReport, RunError>>),
    AddMdb(NewMdbEntry, Reply<Result<(), RunError>>),
    RemoveMdb(MdbEntryQuery, Reply<Result<(), RunError>>),
    Stp(Reply<Result<StpReport, RunError>>),
    DhcpLeases(Reply<Result<Vec<DhcpLeaseReport>, RunError>>),
    ReplaceFdb(NewFdbEntry, Reply<Result<(), RunError>>),
    RemoveFdb(FdbEntryQuery, Reply<Result<(), RunError>>),
    FlushFdb(FdbFlushQuery, Reply<Result<usize, RunError>>),
    PortMirror(PortMirrorCommand),
    Vlan(PortVlanCommand),
    Publish(PublishCommand),
    SetSwitch(SwitchSettings, Reply<Result<Status, RunError>>),
    Stats(Reply<Vec<PortStats>>),
    Metrics(Reply<Box<MetricsSnapshot>>),
    Events(EventFilter, Reply<Vec<Event>>),
    /// Past events, then new ones.
    FollowEvents(EventFilter, Reply<Subscription<Event>>),
    Mirror(Box<MirrorRequest>, Reply<Result<MirrorReader, RunError>>),
    RouteLookup(Box<TraceRequest>, Reply<Result<Option<RouteLookup>, RunError>>),
    Trace(Box<TraceRequest>, Option<SenderRoute>, Reply<Result<Trace, RunError>>),
    FollowFrames(TraceFilter, Reply<Result<Subscription<LiveTraceLine>, RunError>>),
    /// The response is sent after the teardown.
    Stop(Reply<StopReport>),
}

/// A command about port mirrors.
#[derive(Debug)]
pub(crate) enum PortMirrorCommand {
    List(Reply<Vec<MirrorReport>>),
    Add(NewMirror, Reply<Result<(), RunError>>),
    Remove(MirrorQuery, Reply<Result<(), RunError>>),
}

/// A command about the VLANs of ports.
#[derive(Debug)]
pub(crate) enum PortVlanCommand {
    List(Reply<Vec<PortVlansReport>>),
    Stats(Reply<Vec<VlanStats>>),
    PortStats(Reply<Vec<PortVlanStats>>),
    Add(NewVlan, Reply<Result<(), RunError>>),
    SetState(NewVlanState, Reply<Result<(), RunError>>),
    Remove(VlanQuery, Reply<Result<(), RunError>>),
}

/// A command about the published ports of a container, which the text names.
#[derive(Debug)]
pub(crate) enum PublishCommand {
    Add(String, PublishedPort, Reply<Result<AddedPort, RunError>>),
    Remove(String, PublishedPort, Reply<Result<(), RunError>>),
}

/// A part of the forwarding database. A large one is read page by page, so that a slow client makes the
/// switch neither wait nor keep a copy.
#[derive(Debug)]
pub(crate) struct FdbPage {
    /// Matching entries of this page, sorted by port.
    pub(crate) entries: Vec<FdbReport>,
    /// Where the next page starts, if there is one.
    pub(crate) next: Option<u32>,
}

/// Length of the command queue. A full queue delays the sender.
const WAITING: usize = 64;

/// Sends commands to the control task.
#[derive(Debug, Clone)]
pub(crate) struct Handle(mpsc::Sender<Command>);

/// Longest wait for the kernel to look up a route. A container can keep the locks of its network busy.
const ROUTE_DEADLINE: Duration = Duration::from_secs(2);
/// Route lookups at a time, including those whose result is not needed any more.
static LOOKUPS: Semaphore = Semaphore::const_new(2);

async fn run_lookup(lookup: RouteLookup, port: &str) -> Result<SenderRoute, RunError> {
    let looked_up = async {
        let permit = LOOKUPS.acquire().await;
        let run = move || {
            let _permit = permit;
            lookup.run()
        };
        let what = "start a thread that looks up the route";
        let route =
            run_blocking("route-lookup", run).map_err(|source| TopologyError::Kernel { what, source })?;
        // Without a result, the lookup has panicked.
        Ok::<_, TopologyError>(route.await.ok())
    };
    let missing = || TraceError::RouteTimeout(port.to_owned());
    match tokio::time::timeout(ROUTE_DEADLINE, looked_up).await {
        Ok(looked_up) => Ok(looked_up?.ok_or_else(missing)??),
        Err(_) => Err(missing().into()),
    }
}

/// The switch is stopping or has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switch is stopping")]
pub(crate) struct Stopping;

impl Handle {
    /// A handle, and the receiver of its commands.
    pub(crate) fn new() -> (Handle, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Handle(sender), receiver)
    }

    /// Returns when the switch stops.
    pub(crate) async fn stopping(&self) {
        self.0.closed().await;
    }

    /// Sends a command and waits for its response.
    pub(crate) async fn request<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// Traces a frame. The kernel of the sender is asked for the route on another thread, so that the switch does not
    /// wait for it.
    pub(crate) async fn trace(&self, request: TraceRequest) -> Result<Result<Trace, RunError>, Stopping> {
        let asked = Box::new(request.clone());
        let route = match self.request(|reply| Command::RouteLookup(asked, reply)).await? {
            Ok(None) => None,
            Ok(Some(lookup)) => match run_lookup(lookup, &request.ifname).await {
                Ok(route) => Some(route),
                Err(error) => return Ok(Err(error)),
            },
            Err(error) => return Ok(Err(error)),
        };
        self.request(|reply| Command::Trace(Box::new(request), route, reply)).await
    }

    /// Sends a command and waits for its response, outside the runtime.
    pub(crate) fn request_blocking<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.0.blocking_send(command(reply)).map_err(|_| Stopping)?;
        answer.blocking_recv().map_err(|_| Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel may answer much later.
    #[tokio::test]
    async fn route_lookup_ends_at_its_deadline() {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let lookup = RouteLookup::new(move || {
            let _ = released.recv();
            Ok(SenderRoute::Missing)
        });
        let error = run_lookup(lookup, "container1").await.unwrap_err();
        assert!(matches!(error, RunError::Trace(TraceError::RouteTimeout(_))), "{error}");
        drop(release);
    }
}
