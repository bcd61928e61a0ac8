//! Port mirroring.

use tracing::info;

use super::command::PortMirrorCommand;
use super::{HostNetwork, RunError, Running};
use crate::control::config;
use crate::control::event::DeviceAspect;
use crate::control::report::{MirrorReport, NewMirror, PortMirroring};
use crate::switch::{MirrorConflict, PortId, PortMirror, PortMirrors, PortSet, Side};

/// A mirror that cannot be added or deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MirrorError {
    #[error(
        "{} mirrors exist, which is the maximum: delete one first (`uswitch mirror show`)",
        PortMirrors::MAX
    )]
    TooMany,
    #[error("{0} is the destination of a mirror already: delete that first with `uswitch mirror del {0}`")]
    Taken(String),
    #[error("{0} cannot be mirrored to itself: choose another destination")]
    ToItself(String),
    #[error("{0} is the destination of a mirror, so its frames cannot be mirrored: choose another source")]
    SourceIsDestination(String),
    #[error("{0} is mirrored to {1}, so it cannot be a destination: choose another")]
    DestinationIsSource(String, String),
    #[error(
        "the host port cannot be the destination of a mirror, because it would get no other frames: use `uswitch capture`"
    )]
    HostDestination,
    #[error("{0} is not the destination of a mirror: `uswitch mirror show` lists the mirrors")]
    NotFound(String),
}

impl<M: HostNetwork> Running<M> {
    pub(super) fn carry_out_mirror(&mut self, command: PortMirrorCommand) {
        match command {
            PortMirrorCommand::List(reply) => _ = reply.send(self.mirror_reports()),
            PortMirrorCommand::Add(new, reply) => _ = reply.send(self.add_mirror(&new)),
            PortMirrorCommand::Remove(gone, reply) => _ = reply.send(self.remove_mirror(&gone.to)),
        }
    }

    /// Adds the mirrors of the configuration file. All of its ports exist.
    pub(super) fn add_mirrors_of_file(&mut self) -> Result<(), RunError> {
        let mirrors = self.config.mirrors.clone();
        mirrors.iter().try_for_each(|mirror| self.add_mirror(mirror))
    }

    /// Adds a mirror. After an error nothing is changed.
    pub(super) fn add_mirror(&mut self, new: &NewMirror) -> Result<(), RunError> {
        config::mirror(new, &self.config.vlans)?;
        let to = self.port_named(&new.to)?;
        if self.ports[&to].is_host() {
            return Err(MirrorError::HostDestination.into());
        }
        let from = new.from.iter().map(|name| self.port_named(name)).collect::<Result<_, _>>()?;
        let mirror = PortMirror {
            to,
            from: (!new.from.is_empty()).then_some(from),
            direction: new.direction,
            vlans: new.vlan.clone(),
            snaplen: new.snaplen.and_then(|snaplen| u16::try_from(snaplen).ok()),
        };
        self.switch.add_mirror(mirror).map_err(|conflict| self.mirror_error(conflict, &new.to))?;
        let totals = self.totals(to);
        self.ports.entry(to).and_modify(|port| port.mirrored_before = totals);
        let sources = format!("from {} ({})", new.sources(), new.direction.name());
        info!(to = new.to, sources, snaplen = new.snaplen, "mirror added");
        self.emit_port_changed(to, DeviceAspect::Mirror, sources);
        Ok(())
    }

    fn mirror_error(&self, conflict: MirrorConflict, to: &str) -> MirrorError {
        let name = |port: PortId| self.ports.get(&port).map_or_else(String::new, |port| port.name.clone());
        match conflict {
            MirrorConflict::TooMany => MirrorError::TooMany,
            MirrorConflict::Taken => MirrorError::Taken(to.to_owned()),
            MirrorConflict::ToItself => MirrorError::ToItself(to.to_owned()),
            MirrorConflict::SourceIsDestination(source) => MirrorError::SourceIsDestination(name(source)),
            MirrorConflict::DestinationIsSource(other) => {
                MirrorError::DestinationIsSource(to.to_owned(), name(other))
            }
        }
    }

    /// Deletes the mirror to a port.
    pub(super) fn remove_mirror(&mut self, to: &str) -> Result<(), RunError> {
        let id = self.port_named(to)?;
        if !self.switch.remove_mirror(id) {
            return Err(MirrorError::NotFound(to.to_owned()).into());
        }
        self.mirror_ended(id);
        Ok(())
    }

    fn mirror_ended(&mut self, to: PortId) {
        info!(to = self.ports[&to].name, "mirror deleted");
        self.emit_port_changed(to, DeviceAspect::Mirror, String::new());
    }

    /// Ends what mirrors have to do with a port that is being removed.
    pub(super) fn unmirror_port(&mut self, port: PortId) {
        let ended = self.switch.unmirror_port(port);
        ended.into_iter().for_each(|to| self.mirror_ended(to));
    }

    /// All mirrors.
    pub(super) fn mirror_reports(&self) -> Vec<MirrorReport> {
        let name = |port: PortId| self.ports.get(&port).map(|port| port.name.clone());
        let report = |mirror: PortMirror| {
            let PortMirror { to, from, direction, vlans: vlan, snaplen } = mirror;
            let counted = self.totals(to).since(&self.ports.get(&to)?.mirrored_before);
            let from = from.iter().flat_map(PortSet::iter).filter_map(name).collect();
            Some(MirrorReport {
                mirror: NewMirror { to: name(to)?, from, direction, vlan, snaplen: snaplen.map(u64::from) },
                mirrored: counted.mirrored,
                dropped: counted.dropped(Side::Egress),
            })
        };
        self.switch.mirrors.list().into_iter().filter_map(report).collect()
    }

    /// What mirrors have to do with a port.
    pub(super) fn port_mirroring(&self, id: PortId) -> PortMirroring {
        let mirrors = self.switch.mirrors.list();
        let destination = mirrors.iter().any(|mirror| mirror.to == id);
        let copies = |mirror: &&PortMirror| !destination && mirror.has_source(id);
        let name = |mirror: &PortMirror| Some(self.ports.get(&mirror.to)?.name.clone());
        PortMirroring { destination, to: mirrors.iter().filter(copies).filter_map(name).collect() }
    }
}
