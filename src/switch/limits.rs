//! Storm control and rate limits of ports.

use std::sync::OnceLock;

use super::meter::{Meter, MeterTime, Rate};
use super::outcome::Destination;
use super::{DropReason, PortId, Ports};

/// What a limit counts. Storm control counts frames, a rate limit counts bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Broadcast frames that the port sends into the switch.
    StormBroadcast,
    /// Frames to unknown unicast addresses.
    StormUnknownUnicast,
    /// Frames to groups.
    StormMulticast,
    /// All frames that the port sends into the switch.
    IngressRate,
    /// All frames that the switch sends to the port.
    EgressRate,
}

impl LimitKind {
    /// All kinds.
    pub const ALL: [LimitKind; 5] = [
        LimitKind::StormBroadcast,
        LimitKind::StormUnknownUnicast,
        LimitKind::StormMulticast,
        LimitKind::IngressRate,
        LimitKind::EgressRate,
    ];

    /// The storm control of frames to such a destination.
    pub(super) const fn of_storm(destination: Destination) -> Option<LimitKind> {
        match destination {
            Destination::Unicast => None,
            Destination::UnknownUnicast => Some(LimitKind::StormUnknownUnicast),
            Destination::Multicast | Destination::Group => Some(LimitKind::StormMulticast),
            Destination::Broadcast => Some(LimitKind::StormBroadcast),
        }
    }

    /// Why a frame beyond the limit is dropped.
    pub const fn reason(self) -> DropReason {
        match self {
            LimitKind::StormBroadcast => DropReason::StormBroadcast,
            LimitKind::StormUnknownUnicast => DropReason::StormUnknownUnicast,
            LimitKind::StormMulticast => DropReason::StormMulticast,
            LimitKind::IngressRate => DropReason::IngressRate,
            LimitKind::EgressRate => DropReason::EgressRate,
        }
    }
}

type PortMeters = [Meter; LimitKind::ALL.len()];

/// The limits of all ports. Only a port whose word in the port table says so has some.
#[derive(Debug)]
pub(super) struct Limits(Box<[OnceLock<Box<PortMeters>>]>);

impl Default for Limits {
    fn default() -> Limits {
        Limits((0..Ports::MAX).map(|_| OnceLock::new()).collect())
    }
}

impl Limits {
    /// Sets or ends a limit of a port. Returns whether the port has a limit now.
    pub(super) fn set(&self, port: PortId, kind: LimitKind, rate: Option<Rate>) -> bool {
        let slot = &self.0[port.index()];
        let limits = if rate.is_some() { Some(slot.get_or_init(Box::default)) } else { slot.get() };
        let Some(limits) = limits else { return false };
        limits[kind as usize].set(rate);
        limits.iter().any(|meter| meter.rate().is_some())
    }

    /// Whether a frame of this many units passes a limit of a port.
    ///
    /// # Errors
    /// The drop reason, if it is beyond the limit.
    #[cold]
    pub(super) fn check(
        &self,
        port: PortId,
        kind: LimitKind,
        units: u64,
        at: MeterTime,
    ) -> Result<(), DropReason> {
        let Some(limits) = self.0.get(port.index()).and_then(OnceLock::get) else { return Ok(()) };
        if limits[kind as usize].allows(at, units) { Ok(()) } else { Err(kind.reason()) }
    }
}
