//! Forwards queries to the servers of the host, which `/etc/resolv.conf` names (resolv.conf(5)).

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::DNS_PORT;
use super::zone::HEADER;

/// As many servers count as with the C library (`MAXNS`).
const MOST_SERVERS: usize = 3;
/// How long to wait for each.
const SERVER_TIMEOUT: Duration = Duration::from_secs(3);
const LONGEST_REPLY: usize = 65535;

/// The servers that a file names, except those that are this server itself.
pub(in crate::control::services) fn servers(file: &Path, own: &[IpAddr]) -> Vec<IpAddr> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    });
    named.filter(|server| !own.contains(server)).take(MOST_SERVERS).collect()
}

/// Asks one server after the other. `None`: none has replied.
pub(super) async fn ask(servers: &[IpAddr], query: &[u8], udp: bool) -> Option<Vec<u8>> {
    for server in servers {
        let server = SocketAddr::new(*server, DNS_PORT);
        let asked =
            async { if udp { ask_by_udp(server, query).await } else { ask_by_tcp(server, query).await } };
        if let Ok(Ok(reply)) = timeout(SERVER_TIMEOUT, asked).await {
            return Some(reply);
        }
    }
    None
}

/// Another identifier and another source port for each query, so that a reply is hard to forge (RFC 5452).
async fn ask_by_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let [high, low, ..] = RandomState::new().hash_one(query.len()).to_be_bytes();
    let mut sent = query.to_vec();
    sent[..2].copy_from_slice(&[high, low]);
    socket.send(&sent).await?;
    let mut reply = vec![0; LONGEST_REPLY];
    loop {
        let length = socket.recv(&mut reply).await?;
        if is_reply(&reply[..length], &sent) {
            reply.truncate(length);
            reply[..2].copy_from_slice(&query[..2]);
            return Ok(reply);
        }
    }
}

async fn ask_by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, query).await?;
    let reply = read_message(&mut stream, LONGEST_REPLY).await?;
    if is_reply(&reply, query) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether a message is the reply to this query: with its identifier and its question.
fn is_reply(reply: &[u8], query: &[u8]) -> bool {
    const RESPONSE: u8 = 0x80;
    let question = HEADER..HEADER + question_length(&query[HEADER..]);
    let same = |range: std::ops::Range<usize>| match (reply.get(range.clone()), query.get(range)) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    };
    reply.len() >= HEADER && reply[..2] == query[..2] && reply[2] & RESPONSE != 0 && same(question)
}

/// The length of a question: labels, type and class.
fn question_length(question: &[u8]) -> usize {
    const TYPE_AND_CLASS: usize = 4;
    let mut at = 0;
    while let Some(length) = question.get(at).filter(|length| **length != 0) {
        at += 1 + usize::from(*length);
    }
    at + 1 + TYPE_AND_CLASS
}

/// Reads a message with its length before it (RFC 1035 §4.2.2).
pub(super) async fn read_message(stream: &mut TcpStream, longest: usize) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > longest {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message with its length before it.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_servers_of_resolv_conf() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        let own = ["172.16.0.1".parse().unwrap()];
        assert!(servers(&file, &own).is_empty());
        let text = "# comment\nsearch lab\nnameserver 192.0.2.1\n nameserver 2001:db8::1 \nnameserver x\nnameserver\n\
                    nameserver 172.16.0.1\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        std::fs::write(&file, text).unwrap();
        let texts: Vec<String> = servers(&file, &own).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.1", "2001:db8::1", "192.0.2.3"]);
    }

    #[test]
    fn reply_has_identifier_and_question_of_the_query() {
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x01\0\x01";
        let mut reply = query.to_vec();
        assert!(!is_reply(&reply, query), "a query");
        reply[2] |= 0x80;
        assert!(is_reply(&reply, query));
        let changed = |at: usize, byte: u8| {
            let mut other = reply.clone();
            other[at] = byte;
            is_reply(&other, query)
        };
        assert!(changed(13, b'A'), "the case of letters may differ");
        assert!(!changed(0, 0x13) && !changed(13, b'x') && !changed(19, 28));
        for length in 0..reply.len() {
            assert!(!is_reply(&reply[..length], query), "{length}");
        }
    }
}
