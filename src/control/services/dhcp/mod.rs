//! The DHCP server of a switch, at its gateways.
//!
//! Of DHCPv6 (RFC 8415) there are the messages here: workers punt them to control. Of DHCPv4 (RFC 2131) a thread of its
//! own, without capabilities, reads and writes the messages. Control decides which address a client gets, because it
//! knows those of all ports ([`DhcpQuery`]). The sockets are bound to the devices of the host ports: it serves
//! containers, and no other network. Each socket has one query open at a time, and what does not fit into its buffer is
//! dropped by the kernel, so clients cannot fill anything.

mod lease_file;
mod leases;
mod message;
mod message6;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dhcproto::v4::SERVER_PORT;
use ipnet::Ipv4Net;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

pub(crate) use lease_file::LeaseFile;
pub(crate) use leases::{Candidates, Client, ClientId, LeaseError, Leases};
pub(crate) use message::{DhcpAnswer, Request, RequestKind};
pub(crate) use message6::{
    Answer6, Association, Grant, Request6, RequestKind6, Terms6, server_duid, write as write6,
};

use super::dns;
use super::service_thread::ServiceThread;
use crate::sys::service_socket;
use message::Terms;

/// Longest message that is read: the MTU of most networks.
const LONGEST_MESSAGE: usize = 1500;
/// How long to wait after an error of a socket, which may last.
const PAUSE: Duration = Duration::from_millis(100);

/// A message of a client. Control answers it.
#[derive(Debug)]
pub(crate) struct DhcpQuery {
    pub(crate) request: Request,
    /// The address from which it came.
    pub(crate) source: IpAddr,
    /// The gateway that received it.
    pub(crate) gateway: Ipv4Net,
    pub(crate) reply: oneshot::Sender<DhcpAnswer>,
}

/// What the server tells all clients.
#[derive(Debug, Clone)]
pub(crate) struct DhcpSettings {
    /// How long a client has its address, in seconds.
    pub(crate) lease_time: u32,
    /// Whether the gateway is the DNS server, for this domain. Otherwise the clients use those of the host.
    pub(crate) domain: Option<String>,
}

/// Counts of messages.
#[derive(Debug, Default)]
struct DhcpCounters {
    offered: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    ignored: AtomicU64,
}

/// Counts of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DhcpCounts {
    /// Addresses offered.
    pub(crate) offered: u64,
    /// Requests granted.
    pub(crate) acknowledged: u64,
    /// Requests refused (DHCPNAK).
    pub(crate) refused: u64,
    /// Messages that had no answer: malformed, or of no known client.
    pub(crate) ignored: u64,
}

/// The socket of a gateway.
#[derive(Debug)]
pub(crate) struct DhcpSocket {
    gateway: Ipv4Net,
    socket: std::net::UdpSocket,
}

impl DhcpSocket {
    /// Binds the port of DHCP on the device of a gateway. Clients without an address send to the broadcast address, so
    /// the socket has no address of its own.
    ///
    /// # Errors
    /// Another program has the port.
    pub(crate) fn bind(ifname: &str, gateway: Ipv4Net) -> io::Result<DhcpSocket> {
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER_PORT));
        let socket = std::net::UdpSocket::from(service_socket::udp(ifname, at)?);
        socket.set_broadcast(true)?;
        Ok(DhcpSocket { gateway, socket })
    }
}

/// A running server, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct DhcpServer {
    _thread: ServiceThread,
    counters: Arc<DhcpCounters>,
    queries: mpsc::Receiver<DhcpQuery>,
}

impl DhcpServer {
    /// Serves at these sockets.
    ///
    /// # Errors
    /// A thread or its event loop cannot be started.
    pub(crate) fn start(sockets: Vec<DhcpSocket>, settings: DhcpSettings) -> io::Result<DhcpServer> {
        let (sender, queries) = mpsc::channel(sockets.len().max(1));
        let counters = Arc::new(DhcpCounters::default());
        let service = Service { settings, queries: sender, counters: Arc::clone(&counters) };
        let thread = ServiceThread::start("dhcp", "DHCP", serve(Arc::new(service), sockets))?;
        Ok(DhcpServer { counters, queries, _thread: thread })
    }

    /// The next query; never, if the server has ended. Cancel-safe.
    pub(crate) async fn next_query(&mut self) -> DhcpQuery {
        match self.queries.recv().await {
            Some(query) => query,
            None => std::future::pending().await,
        }
    }

    /// What it has done.
    pub(crate) fn counts(&self) -> DhcpCounts {
        let DhcpCounters { offered, acknowledged, refused, ignored } = &*self.counters;
        let [offered, acknowledged, refused, ignored] =
            [offered, acknowledged, refused, ignored].map(|counter| counter.load(Ordering::Relaxed));
        DhcpCounts { offered, acknowledged, refused, ignored }
    }
}

/// What the tasks of a server share.
#[derive(Debug)]
struct Service {
    settings: DhcpSettings,
    queries: mpsc::Sender<DhcpQuery>,
    counters: Arc<DhcpCounters>,
}

async fn serve(service: Arc<Service>, sockets: Vec<DhcpSocket>) -> io::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for DhcpSocket { gateway, socket } in sockets {
        let socket = UdpSocket::from_std(socket)?;
        let service = Arc::clone(&service);
        tasks.spawn(async move { service.serve_gateway(gateway, &socket).await });
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

impl Service {
    async fn serve_gateway(&self, gateway: Ipv4Net, socket: &UdpSocket) {
        let mut buffer = vec![0; LONGEST_MESSAGE];
        loop {
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let Some(request) = Request::parse(&buffer[..length]) else {
                self.counters.ignored.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            // The client asks again if the answer is lost.
            if let Some((bytes, to)) = self.answer(request, gateway, client.ip()).await {
                let _ = socket.send_to(&bytes, SocketAddr::V4(to)).await;
            }
        }
    }

    /// The answer of control, with its destination.
    async fn answer(
        &self,
        request: Request,
        gateway: Ipv4Net,
        source: IpAddr,
    ) -> Option<(Vec<u8>, std::net::SocketAddrV4)> {
        let (reply, answer) = oneshot::channel();
        self.queries.send(DhcpQuery { request: request.clone(), source, gateway, reply }).await.ok()?;
        let answer = answer.await.ok()?;
        let counter = match answer {
            DhcpAnswer::Offer(..) => &self.counters.offered,
            DhcpAnswer::Ack(..) | DhcpAnswer::Inform(_) => &self.counters.acknowledged,
            DhcpAnswer::Nak => &self.counters.refused,
            DhcpAnswer::None => &self.counters.ignored,
            // Control counts them.
            DhcpAnswer::NoAddress => return None,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        message::write(&request, answer, &self.terms(gateway))
    }

    fn terms(&self, gateway: Ipv4Net) -> Terms {
        let DhcpSettings { lease_time, domain } = self.settings.clone();
        let is_ipv4 = |server: IpAddr| match server {
            IpAddr::V4(server) => Some(server),
            IpAddr::V6(_) => None,
        };
        let of_host = || servers_of_host().into_iter().filter_map(is_ipv4).collect();
        let dns = if domain.is_some() { vec![gateway.addr()] } else { of_host() };
        Terms { gateway, dns, domain, lease_time }
    }
}

/// The DNS servers of the host that containers may reach, too: not those of the host itself.
pub(crate) fn servers_of_host() -> Vec<IpAddr> {
    let mut servers = dns::servers(Path::new("/etc/resolv.conf"), &[]);
    let is_link_local =
        |server: &IpAddr| matches!(server, IpAddr::V6(server) if server.is_unicast_link_local());
    servers.retain(|server| !server.is_loopback() && !is_link_local(server));
    servers
}
