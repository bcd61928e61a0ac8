//! How a decision uses the forwarding database, and a dry run of it.

use super::{Fdb, FdbKey, Learned};
use crate::switch::{PortId, Tick};

/// The operations of a decision on the forwarding database.
pub trait Database {
    /// A frame from `key` was received on `port`.
    fn learn(&mut self, now: Tick, key: FdbKey, port: PortId) -> Learned;
    /// The port of `key`.
    fn lookup(&self, now: Tick, key: FdbKey) -> Option<PortId>;
    /// Whether entries are shared with a fast datapath.
    fn is_shared(&self) -> bool;
}

impl Database for &Fdb {
    #[inline(always)]
    fn learn(&mut self, now: Tick, key: FdbKey, port: PortId) -> Learned {
        Fdb::learn(self, now, key, port)
    }

    #[inline(always)]
    fn lookup(&self, now: Tick, key: FdbKey) -> Option<PortId> {
        Fdb::lookup(self, now, key)
    }

    #[inline]
    fn is_shared(&self) -> bool {
        self.shared_with().is_some()
    }
}

/// Predicts the outcome of learning, and looks up as if it had been done, but changes nothing. Takes the
/// lock, so it is not for the hot path.
#[derive(Debug)]
pub struct DryRun<'a> {
    fdb: &'a Fdb,
    learned: Option<(FdbKey, PortId, Learned)>,
}

impl<'a> DryRun<'a> {
    /// A dry run on the current database.
    pub const fn new(fdb: &'a Fdb) -> DryRun<'a> {
        DryRun { fdb, learned: None }
    }

    fn predict(&self, now: Tick, key: FdbKey, port: PortId) -> Learned {
        let fdb = self.fdb;
        if fdb.ageing() == 0 {
            return Learned::Off;
        }
        fdb.plan(&fdb.lock(), now, key, port).learned
    }
}

impl Database for DryRun<'_> {
    fn learn(&mut self, now: Tick, key: FdbKey, port: PortId) -> Learned {
        let learned = self.predict(now, key, port);
        self.learned = Some((key, port, learned));
        learned
    }

    fn lookup(&self, now: Tick, key: FdbKey) -> Option<PortId> {
        use Learned::{Evicted, Known, Moved, New, Returned};
        match self.learned {
            Some((source, port, Known | Returned { .. } | New | Moved { .. } | Evicted { .. }))
                if source == key =>
            {
                Some(port)
            }
            Some((_, _, Evicted { gone, .. })) if gone == key => None,
            _ => self.fdb.lookup(now, key),
        }
    }

    fn is_shared(&self) -> bool {
        false
    }
}
