//! The DNS server of a switch: names of its containers, at the addresses of the gateway. Queries for other names go to
//! the servers of the host.
//!
//! It runs on a thread of its own, without capabilities, so that neither frames nor control wait for it. Its sockets
//! are bound to the devices of the host ports: it serves containers, and no other network. What a client can fill is
//! bounded.

mod upstream;
mod zone;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::ResponseCode;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

pub(super) use upstream::servers;
pub(crate) use zone::Zone;

use super::service_thread::ServiceThread;
use crate::sys::service_socket;
use zone::ZoneAction;

/// The port of DNS (RFC 1035 §4.2).
pub(crate) const DNS_PORT: u16 = 53;
/// Queries that wait for a server of the host, and those of one client.
const MOST_FORWARDED: usize = 256;
const MOST_FORWARDED_OF_CLIENT: usize = 32;
/// TCP connections, and those of one client.
const MOST_CONNECTIONS: usize = 64;
const MOST_CONNECTIONS_OF_CLIENT: usize = 8;
/// Longest query. Most are shorter than 100 bytes.
const LONGEST_QUERY: usize = 4096;
/// How long to wait after an error of a socket, such as no free file descriptor, which may last.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long a TCP connection may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the server has done.
#[derive(Debug, Default)]
struct DnsCounters {
    answered: AtomicU64,
    forwarded: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    unsent: AtomicU64,
}

/// Counts of queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DnsCounts {
    /// Answered by the server itself.
    pub(crate) answered: u64,
    /// Answered by a server of the host.
    pub(crate) forwarded: u64,
    /// That no server of the host has answered.
    pub(crate) failed: u64,
    /// Refused, because too many were waiting.
    pub(crate) refused: u64,
    /// Whose reply was dropped, because the socket could not take it.
    pub(crate) unsent: u64,
}

/// The sockets of an address.
#[derive(Debug)]
pub(crate) struct DnsSockets {
    address: IpAddr,
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl DnsSockets {
    /// Binds an address of a device.
    ///
    /// # Errors
    /// Another program has the port.
    pub(crate) fn bind(ifname: &str, address: IpAddr) -> io::Result<DnsSockets> {
        let at = SocketAddr::new(address, DNS_PORT);
        let (udp, tcp) = (service_socket::udp(ifname, at)?, service_socket::tcp(ifname, at)?);
        Ok(DnsSockets { address, udp: udp.into(), tcp: tcp.into() })
    }
}

/// A running server, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct DnsServer {
    _thread: ServiceThread,
    shared: Arc<DnsContext>,
}

impl DnsServer {
    /// Most files that it has open besides its sockets: queries to servers of the host and connections.
    pub(crate) const MOST_FILES: u64 = (MOST_FORWARDED + 2 * MOST_CONNECTIONS) as u64;

    /// Serves at these sockets.
    ///
    /// # Errors
    /// A thread or its event loop cannot be started.
    pub(crate) fn start(sockets: Vec<DnsSockets>, zone: Zone) -> io::Result<DnsServer> {
        let own = sockets.iter().map(|socket| socket.address).collect();
        let shared = Arc::new(DnsContext {
            zone: ArcSwap::from_pointee(zone),
            counters: DnsCounters::default(),
            own,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            forwarded: ClientLimit::new(MOST_FORWARDED, MOST_FORWARDED_OF_CLIENT),
            connections: ClientLimit::new(MOST_CONNECTIONS, MOST_CONNECTIONS_OF_CLIENT),
        });
        let thread = ServiceThread::start("dns", "DNS", serve(Arc::clone(&shared), sockets))?;
        Ok(DnsServer { shared, _thread: thread })
    }

    /// Replaces the names.
    pub(crate) fn set_zone(&self, zone: Zone) {
        self.shared.zone.store(Arc::new(zone));
    }

    /// What it has done.
    pub(crate) fn counts(&self) -> DnsCounts {
        let DnsCounters { answered, forwarded, failed, refused, unsent } = &self.shared.counters;
        let [answered, forwarded, failed, refused, unsent] =
            [answered, forwarded, failed, refused, unsent].map(|counter| counter.load(Ordering::Relaxed));
        DnsCounts { answered, forwarded, failed, refused, unsent }
    }
}

/// What the tasks of a server share.
#[derive(Debug)]
struct DnsContext {
    zone: ArcSwap<Zone>,
    counters: DnsCounters,
    /// The addresses of the server.
    own: Vec<IpAddr>,
    resolv_conf: PathBuf,
    forwarded: ClientLimit,
    connections: ClientLimit,
}

impl DnsContext {
    /// The reply to a message that is not for the servers of the host.
    fn reply(self: &Arc<DnsContext>, message: &[u8], client: IpAddr, udp: bool) -> DnsReply {
        match self.zone.load().action(message, udp) {
            ZoneAction::Reply(reply) => {
                count(&self.counters.answered);
                DnsReply::Now(reply)
            }
            ZoneAction::Ignore => DnsReply::None,
            ZoneAction::Forward => match self.forwarded.acquire(client) {
                Some(permit) => DnsReply::Later(permit),
                None => {
                    count(&self.counters.refused);
                    zone::failure(message, ResponseCode::Refused).map_or(DnsReply::None, DnsReply::Now)
                }
            },
        }
    }

    /// Sends a reply, or drops it: a client that does not answer ARP fills the socket, and the others do not wait for
    /// it.
    fn send(&self, socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
        if socket.try_send_to(reply, client).is_err() {
            count(&self.counters.unsent);
        }
    }

    /// The reply of a server of the host.
    async fn forward(&self, message: &[u8], udp: bool) -> Option<Vec<u8>> {
        let servers = upstream::servers(&self.resolv_conf, &self.own);
        let reply = upstream::ask(&servers, message, udp).await;
        count(if reply.is_some() { &self.counters.forwarded } else { &self.counters.failed });
        reply.or_else(|| zone::failure(message, ResponseCode::ServFail))
    }
}

/// How a message is answered.
enum DnsReply {
    Now(Vec<u8>),
    /// By a server of the host.
    Later(Permit),
    None,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn serve(shared: Arc<DnsContext>, sockets: Vec<DnsSockets>) -> io::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for DnsSockets { udp, tcp, .. } in sockets {
        let (udp, tcp) = (UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?);
        tasks.spawn(serve_udp(Arc::clone(&shared), Arc::new(udp)));
        tasks.spawn(serve_tcp(Arc::clone(&shared), tcp));
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn serve_udp(shared: Arc<DnsContext>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; LONGEST_QUERY];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        };
        let message = &buffer[..length];
        match shared.reply(message, client.ip(), true) {
            DnsReply::Now(reply) => shared.send(&socket, &reply, client),
            DnsReply::Later(permit) => {
                let (shared, socket, message) = (Arc::clone(&shared), Arc::clone(&socket), message.to_vec());
                tokio::spawn(async move {
                    if let Some(reply) = shared.forward(&message, true).await {
                        shared.send(&socket, &reply, client);
                    }
                    drop(permit);
                });
            }
            DnsReply::None => {}
        }
    }
}

async fn serve_tcp(shared: Arc<DnsContext>, listener: TcpListener) {
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        };
        match shared.connections.acquire(client.ip()) {
            Some(permit) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = serve_connection(&shared, stream, client.ip()).await;
                    drop(permit);
                });
            }
            None => count(&shared.counters.refused),
        }
    }
}

/// One query after the other, until the client has no more.
async fn serve_connection(shared: &Arc<DnsContext>, mut stream: TcpStream, client: IpAddr) -> io::Result<()> {
    loop {
        let message = timeout(IDLE_TIMEOUT, upstream::read_message(&mut stream, LONGEST_QUERY)).await??;
        let reply = match shared.reply(&message, client, false) {
            DnsReply::Now(reply) => Some(reply),
            DnsReply::Later(_permit) => shared.forward(&message, false).await,
            DnsReply::None => None,
        };
        let Some(reply) = reply else { return Ok(()) };
        timeout(IDLE_TIMEOUT, upstream::write_message(&mut stream, &reply)).await??;
    }
}

/// Limits how many things one client and all clients may have at a time.
#[derive(Debug)]
struct ClientLimit {
    max: usize,
    max_per_client: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of these things, until it is dropped.
#[derive(Debug)]
struct Permit {
    client: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl ClientLimit {
    fn new(max: usize, max_per_client: usize) -> ClientLimit {
        ClientLimit { max, max_per_client, taken: Arc::default() }
    }

    /// A permit for a client, unless it or all together have the most.
    fn acquire(&self, client: IpAddr) -> Option<Permit> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let of_client = taken.get(&client).copied().unwrap_or(0);
        if all >= self.max || of_client >= self.max_per_client {
            return None;
        }
        taken.insert(client, of_client + 1);
        Some(Permit { client, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get(&self.client).map_or(0, |count| count - 1);
        match left {
            0 => taken.remove(&self.client),
            left => taken.insert(self.client, left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_each_client_and_all_together() {
        let limit = ClientLimit::new(3, 2);
        let [a, b] = [1, 2].map(|n| IpAddr::from([192, 0, 2, n]));
        let first = limit.acquire(a).unwrap();
        let _second = limit.acquire(a).unwrap();
        assert!(limit.acquire(a).is_none(), "the most of one client");
        let _third = limit.acquire(b).unwrap();
        assert!(limit.acquire(b).is_none(), "the most of all");
        drop(first);
        assert!(limit.acquire(a).is_some());
        assert_eq!(limit.taken.lock().unwrap().len(), 2);
    }
}
