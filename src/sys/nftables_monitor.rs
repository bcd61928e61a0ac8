//! Reports changes of one nftables table by any program (`NFNLGRP_NFTABLES`, as `nft monitor` reads it).
//!
//! A transaction is reported as messages about tables, chains, rules and so on, which all name their table in their
//! first attribute. The last message, `NFT_MSG_NEWGEN`, names the program that committed it
//! (`nf_tables_commit` in Linux `net/netfilter/nf_tables_api.c`).

use std::io;

use netlink_packet_core::{NetlinkBuffer, NlasIterator, parse_string};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for the transaction of a large ruleset. When it is full, the kernel reports an overrun (`ENOBUFS`).
const RECEIVE_BUFFER: libc::c_int = 1 << 20;
/// Larger than any datagram of notifications (`NLMSG_GOODSIZE`).
const DATAGRAM: usize = 32 << 10;
/// Length of `struct nfgenmsg`, which precedes the attributes. Its first byte is the family.
const NFGENMSG: usize = 4;
/// The first attribute of every message but `NFT_MSG_NEWGEN`: `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, ...
const TABLE: u16 = 1;
/// `NFTA_GEN_PROC_NAME`
const PROGRAM: u16 = 3;

/// The table was changed, or may have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// The name of the program, if it is known.
    pub program: Option<String>,
}

/// The netlink socket.
pub struct NftablesMonitor {
    socket: AsyncFd<Socket>,
    changes: TableChanges,
}

impl std::fmt::Debug for NftablesMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NftablesMonitor").field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl NftablesMonitor {
    /// Watches the table `table` of the family `inet` in this thread's namespace. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    /// The socket, or one of its options, was refused.
    pub fn open(table: &str) -> io::Result<NftablesMonitor> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(libc::NFNLGRP_NFTABLES.unsigned_abs())?;
        // SAFETY: `Socket` owns its descriptor, always returns the same one, and closes it only when it is
        // dropped. It moves into the private `AsyncFd`, which no caller gets by value or mutably.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        let changes = TableChanges { table: table.to_owned(), touched: false };
        Ok(NftablesMonitor { socket: socket.map_err(io::Error::from)?, changes })
    }

    /// Waits for the next change. Cancel-safe.
    ///
    /// # Errors
    /// The socket failed permanently.
    pub async fn next(&mut self) -> io::Result<TableChange> {
        loop {
            let mut ready = self.socket.readable().await?;
            let change = match ready.try_io(|socket| receive(socket.get_ref())) {
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => self.changes.overrun(),
                Ok(Ok(datagram)) => self.changes.in_datagram(&datagram),
                Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(Err(_)) | Err(_) => None,
            };
            if let Some(change) = change {
                return Ok(change);
            }
        }
    }
}

fn receive(socket: &Socket) -> io::Result<Vec<u8>> {
    let mut datagram = Vec::with_capacity(DATAGRAM);
    socket.recv(&mut datagram, 0)?;
    Ok(datagram)
}

/// Finds the changes of one table in the notifications.
#[derive(Debug)]
struct TableChanges {
    table: String,
    /// A message of the current transaction is about the table.
    touched: bool,
}

impl TableChanges {
    fn in_datagram(&mut self, mut datagram: &[u8]) -> Option<TableChange> {
        let mut change = None;
        while !datagram.is_empty() {
            let Ok(message) = NetlinkBuffer::new_checked(datagram) else { return self.overrun() };
            change = self.in_message(message.message_type(), message.payload()).or(change);
            let length = (message.length() as usize).next_multiple_of(4);
            datagram = datagram.get(length..).unwrap_or_default();
        }
        change
    }

    fn in_message(&mut self, kind: u16, payload: &[u8]) -> Option<TableChange> {
        let (header, attributes) = payload.split_at_checked(NFGENMSG)?;
        let attribute = |wanted| {
            let mut found = NlasIterator::new(attributes).filter_map(Result::ok);
            found.find(|it| it.kind() == wanted).and_then(|it| parse_string(it.value()).ok())
        };
        if i32::from(kind) == (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWGEN) {
            return std::mem::take(&mut self.touched).then(|| TableChange { program: attribute(PROGRAM) });
        }
        let ours = i32::from(header[0]) == libc::NFPROTO_INET && attribute(TABLE) == Some(self.table.clone());
        self.touched |= ours;
        None
    }

    /// Messages were lost: the table may have been changed.
    fn overrun(&mut self) -> Option<TableChange> {
        self.touched = false;
        Some(TableChange { program: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_RULE: i32 = libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWRULE;
    const NEW_GENERATION: i32 = libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWGEN;

    fn message(kind: i32, family: i32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut payload = vec![u8::try_from(family).unwrap(), 0, 0, 0];
        for (kind, value) in attributes {
            payload.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(*value);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        let mut message = u32::try_from(payload.len() + 16).unwrap().to_ne_bytes().to_vec();
        message.extend(u16::try_from(kind).unwrap().to_ne_bytes());
        message.extend([0; 10]);
        message.extend(payload);
        message
    }

    fn rule(family: i32, table: &[u8]) -> Vec<u8> {
        message(NEW_RULE, family, &[(TABLE, table)])
    }

    fn commit() -> Vec<u8> {
        message(NEW_GENERATION, 0, &[(1, &[0, 0, 0, 7]), (2, &[0, 0, 0, 9]), (PROGRAM, b"nft\0")])
    }

    fn changes() -> TableChanges {
        TableChanges { table: "ours".to_owned(), touched: false }
    }

    #[test]
    fn reports_a_change_of_the_table_and_the_program() {
        let mut changes = changes();
        let by_nft = Some(TableChange { program: Some("nft".to_owned()) });
        assert_eq!(changes.in_datagram(&rule(libc::NFPROTO_INET, b"ours\0")), None);
        assert_eq!(changes.in_datagram(&commit()), by_nft, "in the next datagram");
        assert_eq!(changes.in_datagram(&commit()), None, "another transaction");
        let whole = [rule(libc::NFPROTO_INET, b"other\0"), rule(libc::NFPROTO_INET, b"ours\0"), commit()];
        assert_eq!(changes.in_datagram(&whole.concat()), by_nft);
    }

    #[test]
    fn ignores_other_tables() {
        let mut changes = changes();
        for other in [rule(libc::NFPROTO_INET, b"ours2\0"), rule(libc::NFPROTO_IPV4, b"ours\0")] {
            assert_eq!(changes.in_datagram(&[other, commit()].concat()), None);
        }
    }

    #[test]
    fn reports_a_possible_change_after_malformed_messages() {
        let mut torn = rule(libc::NFPROTO_INET, b"other\0");
        torn.pop();
        assert_eq!(changes().in_datagram(&torn), Some(TableChange { program: None }));
        for kind in [NEW_RULE, NEW_GENERATION] {
            assert_eq!(changes().in_datagram(&message(kind, 1, &[])), None);
        }
    }
}
