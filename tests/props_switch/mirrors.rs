//! Port mirrors of the reference model: lists of ports.

use proptest::prelude::*;
use uswitch::switch::{CopyForm, DropReason, MirrorDirection, Port, PortId, PortMirror, PortMirrors};

use super::PORTS;

/// A mirror with its sources; `None`: all ports.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    pub(super) to: u16,
    from: Option<Vec<u16>>,
    direction: MirrorDirection,
    snaplen: Option<u16>,
}

/// Destinations, and what they get.
pub(super) type Copies = Vec<(PortId, Result<CopyForm, DropReason>)>;

impl Mirror {
    pub(super) fn for_switch(&self) -> PortMirror {
        PortMirror {
            to: PortId(self.to),
            from: self.from.as_ref().map(|from| from.iter().copied().map(PortId).collect()),
            direction: self.direction,
            vlans: Vec::new(),
            snaplen: self.snaplen,
        }
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.from.iter().flatten().copied().chain([self.to])
    }

    fn names(&self, port: u16) -> bool {
        self.from.as_ref().is_some_and(|from| from.contains(&port))
    }

    fn has(&self, port: u16) -> bool {
        self.from.is_none() || self.names(port)
    }

    /// What its destination gets of a frame of this length.
    fn form(&self, port: Option<&Port>, length: usize) -> Result<CopyForm, DropReason> {
        let Some(port) = port.filter(|port| port.up) else { return Err(DropReason::EgressDown) };
        let cut = self.snaplen.map(usize::from).filter(|snaplen| length > *snaplen);
        match cut {
            _ if cut.unwrap_or(length) > port.mtu as usize + 18 => Err(DropReason::Oversize),
            Some(length) => Ok(CopyForm::Bytes { length }),
            None => Ok(CopyForm::Whole),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Mirrors(Vec<Mirror>);

impl Mirrors {
    pub(super) fn is_destination(&self, port: u16) -> bool {
        self.0.iter().any(|mirror| mirror.to == port)
    }

    /// Adds a mirror, unless it conflicts with others; whether it was added.
    pub(super) fn add(&mut self, new: &Mirror) -> bool {
        let conflicts = |other: &Mirror| other.to == new.to || other.names(new.to) || new.names(other.to);
        let fits = self.0.len() < PortMirrors::MAX && !new.names(new.to) && !self.0.iter().any(conflicts);
        if fits {
            self.0.push(new.clone());
        }
        fits
    }

    pub(super) fn remove(&mut self, to: u16) -> bool {
        let before = self.0.len();
        self.0.retain(|mirror| mirror.to != to);
        self.0.len() < before
    }

    /// A port is removed: mirrors without a source or a destination end.
    pub(super) fn remove_port(&mut self, port: u16) {
        self.0.retain_mut(|mirror| {
            if let Some(from) = &mut mirror.from {
                from.retain(|source| *source != port);
            }
            mirror.to != port && mirror.from.as_ref().is_none_or(|from| !from.is_empty())
        });
    }

    /// The copies of a frame, in the order of the destinations. `received`: whether its ingress port is up.
    pub(super) fn copies<'a>(
        &self,
        port: impl Fn(u16) -> Option<&'a Port>,
        ingress: Option<u16>,
        egress: &[PortId],
        length: usize,
    ) -> Copies {
        let is_source = |mirror: &Mirror, port: u16| mirror.has(port) && !self.is_destination(port);
        let wants = |mirror: &&Mirror| {
            let rx = ingress.is_some_and(|ingress| is_source(mirror, ingress));
            let tx = egress.iter().any(|egress| is_source(mirror, egress.0));
            match mirror.direction {
                MirrorDirection::Rx => rx,
                MirrorDirection::Tx => tx,
                MirrorDirection::Both => rx || tx,
            }
        };
        let copy = |mirror: &Mirror| (PortId(mirror.to), mirror.form(port(mirror.to), length));
        let mut copies: Copies = self.0.iter().filter(wants).map(copy).collect();
        copies.sort_by_key(|(port, _)| *port);
        copies
    }
}

pub(super) fn mirror() -> impl Strategy<Value = Mirror> {
    let id = || 0..PORTS + 1;
    let direction =
        prop_oneof![Just(MirrorDirection::Rx), Just(MirrorDirection::Tx), Just(MirrorDirection::Both)];
    let from = prop::option::of(prop::collection::vec(id(), 1..4));
    let snaplen = prop::option::of(prop_oneof![Just(14), Just(60), Just(119), Just(1519)]);
    (id(), from, direction, snaplen).prop_map(|(to, from, direction, snaplen)| Mirror {
        to,
        from,
        direction,
        snaplen,
    })
}
