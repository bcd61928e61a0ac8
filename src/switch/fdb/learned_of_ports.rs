//! How many learned addresses each port has: the basis of fair eviction. Every operation takes constant time.
//!
//! A port has a list of its learned entries, oldest first. Ports with the same number of entries are linked
//! in a ring, and `holders` has one port of the ring for each number. A count changes by one at a time, so
//! when the last port leaves the ring of the highest number, the new maximum is one less.

use super::NIL;
use crate::switch::{PortId, Ports};

const NO_PORT: u16 = u16::MAX;

/// An entry's neighbours in its port's list.
#[derive(Debug, Clone, Copy)]
struct Links {
    older: u32,
    younger: u32,
}

/// A port's list and its limit, and its neighbours in the ring of ports with the same count.
#[derive(Debug, Clone, Copy)]
struct OfPort {
    oldest: u32,
    youngest: u32,
    count: u32,
    /// Most entries that the port may learn.
    limit: u32,
    left: u16,
    right: u16,
}

/// The learned entries of all ports. Part of the state that the FDB's lock protects.
#[derive(Debug)]
pub(super) struct LearnedOfPorts {
    links: Box<[Links]>,
    ports: Box<[OfPort]>,
    holders: Box<[u16]>,
    most: u32,
}

impl LearnedOfPorts {
    /// No entries yet, with room for `max`.
    pub(super) fn new(max: usize) -> LearnedOfPorts {
        let nothing =
            OfPort { oldest: NIL, youngest: NIL, count: 0, limit: u32::MAX, left: NO_PORT, right: NO_PORT };
        LearnedOfPorts {
            links: vec![Links { older: NIL, younger: NIL }; max].into(),
            ports: vec![nothing; Ports::MAX].into(),
            holders: vec![NO_PORT; max + 1].into(),
            most: 0,
        }
    }

    /// The port that loses an entry for a new one of `port`: itself, if no port has more; else one with most.
    pub(super) fn eviction_port(&self, port: PortId) -> Option<PortId> {
        match self.most {
            0 => None,
            most if self.ports[port.index()].count == most => Some(port),
            most => Some(PortId(self.holders[most as usize])),
        }
    }

    /// Limits the learned entries of a port. Those that it has stay.
    pub(super) fn set_limit(&mut self, port: PortId, limit: u32) {
        self.ports[port.index()].limit = limit;
    }

    /// A port's number of entries.
    pub(super) fn count(&self, port: PortId) -> u32 {
        self.ports[port.index()].count
    }

    /// Whether the port has as many entries as it may learn.
    pub(super) fn is_at_limit(&self, port: PortId) -> bool {
        let OfPort { count, limit, .. } = self.ports[port.index()];
        count >= limit
    }

    /// A port's oldest entry.
    pub(super) fn oldest(&self, port: PortId) -> Option<u32> {
        let oldest = self.ports[port.index()].oldest;
        (oldest != NIL).then_some(oldest)
    }

    /// A port's entries, oldest first.
    pub(super) fn entries(&self, port: PortId) -> impl Iterator<Item = u32> + '_ {
        let younger = |at: &u32| Some(self.links[*at as usize].younger).filter(|at| *at != NIL);
        std::iter::successors(self.oldest(port), younger)
    }

    /// Adds an entry as the port's youngest.
    pub(super) fn add_entry(&mut self, port: PortId, at: u32) {
        self.append(port, at);
        self.recount(port, self.ports[port.index()].count + 1);
    }

    /// Removes an entry of the port.
    pub(super) fn remove_entry(&mut self, port: PortId, at: u32) {
        self.detach(port, at);
        self.recount(port, self.ports[port.index()].count - 1);
    }

    /// Makes an entry its port's youngest.
    pub(super) fn make_youngest(&mut self, port: PortId, at: u32) {
        self.detach(port, at);
        self.append(port, at);
    }

    fn append(&mut self, port: PortId, at: u32) {
        let of_port = &mut self.ports[port.index()];
        self.links[at as usize] = Links { older: of_port.youngest, younger: NIL };
        match of_port.youngest {
            NIL => of_port.oldest = at,
            youngest => self.links[youngest as usize].younger = at,
        }
        of_port.youngest = at;
    }

    fn detach(&mut self, port: PortId, at: u32) {
        let Links { older, younger } = self.links[at as usize];
        let of_port = &mut self.ports[port.index()];
        match older {
            NIL => of_port.oldest = younger,
            older => self.links[older as usize].younger = younger,
        }
        match younger {
            NIL => of_port.youngest = older,
            younger => self.links[younger as usize].older = older,
        }
    }

    /// Moves a port to the ring of `count`, which is one more or one less than its count.
    fn recount(&mut self, port: PortId, count: u32) {
        let old = self.ports[port.index()].count;
        if old > 0 {
            self.leave(port, old);
        }
        self.ports[port.index()].count = count;
        if count > 0 {
            self.join(port, count);
        }
        if count > self.most || (old == self.most && self.holders[old as usize] == NO_PORT) {
            self.most = count;
        }
    }

    fn join(&mut self, port: PortId, count: u32) {
        let (right, left) = match self.holders[count as usize] {
            NO_PORT => (port.0, port.0),
            first => (first, self.ports[first as usize].left),
        };
        self.ports[left as usize].right = port.0;
        self.ports[right as usize].left = port.0;
        let of_port = &mut self.ports[port.index()];
        (of_port.left, of_port.right) = (left, right);
        self.holders[count as usize] = port.0;
    }

    fn leave(&mut self, port: PortId, count: u32) {
        let OfPort { left, right, .. } = self.ports[port.index()];
        self.ports[left as usize].right = right;
        self.ports[right as usize].left = left;
        if self.holders[count as usize] == port.0 {
            self.holders[count as usize] = if right == port.0 { NO_PORT } else { right };
        }
    }

    /// A port's entries, oldest first. Panics if lists, counts and rings are inconsistent.
    #[cfg(test)]
    pub(super) fn check(&self, port: PortId) -> Vec<u32> {
        let of_port = &self.ports[port.index()];
        let (mut held, mut at, mut older) = (Vec::new(), of_port.oldest, NIL);
        while at != NIL {
            assert_eq!(self.links[at as usize].older, older);
            held.push(at);
            (older, at) = (at, self.links[at as usize].younger);
        }
        assert_eq!(of_port.youngest, older);
        assert_eq!(of_port.count as usize, held.len());
        if of_port.count > 0 {
            assert_eq!(self.ports[of_port.left as usize].right, port.0);
            assert_eq!(self.ports[of_port.right as usize].left, port.0);
            assert_eq!(self.ports[of_port.left as usize].count, of_port.count);
            assert_ne!(self.holders[of_port.count as usize], NO_PORT);
        }
        let most = self.ports.iter().map(|of_port| of_port.count).max();
        assert_eq!(Some(self.most), most);
        held
    }
}
