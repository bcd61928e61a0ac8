//! Follows the switches on which containers have ports, one thread for each. When a switch ends, the network's own
//! switch is started again, or the user starts it again, and the ports are restored.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::error::DockerError;
use super::network::{Network, Networks};
use crate::control::client::{ClientError, StreamEnd};
use crate::control::event::{DeviceAspect, Event, EventType};

/// Past events, and new ones, that say how devices are called and that ports are gone.
const EVENTS: &str = "/v1/events?follow=true&type=port_changed,port_removed";

/// Time until a switch that has ended is started again.
const PAUSE: Duration = Duration::from_millis(100);
/// Time between two looks for a switch that does not run.
const RETRY: Duration = Duration::from_secs(1);

/// Prints a line about what no request of dockerd waits for.
pub(super) fn log(line: &str) {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "uswitch docker-plugin: {line}");
}

/// Errors of what is tried again and again: a line is printed once.
#[derive(Debug, Default)]
pub(super) struct ErrorLog {
    last: String,
}

impl ErrorLog {
    pub(super) fn log(&mut self, line: String) {
        if line != self.last {
            log(&line);
            self.last = line;
        }
    }

    /// The next error is a new one.
    fn clear(&mut self) {
        self.last.clear();
    }
}

impl Networks {
    /// Follows the switches of all containers.
    pub(super) fn watch_all(self: &Arc<Self>) -> Result<(), DockerError> {
        for network in self.store.all::<Network>()? {
            self.watch(&network.switch);
        }
        Ok(())
    }

    /// Follows a switch on which a container has a port.
    pub(super) fn watch(self: &Arc<Self>, switch: &str) {
        if !self.watched().insert(switch.to_owned()) {
            return;
        }
        let (networks, name) = (Arc::clone(self), switch.to_owned());
        let spawned =
            thread::Builder::new().name(format!("watch-{name}")).spawn(move || networks.follow(&name));
        if let Err(error) = spawned {
            self.watched().remove(switch);
            log(&format!("cannot follow {switch}: {error}"));
        }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restores ports whenever the switch starts, until no container has a port on it.
    fn follow(&self, switch: &str) {
        let mut errors = ErrorLog::default();
        while self.keep_watching(switch) {
            let mut is_complete = true;
            let ended = self.restore_switch(switch).and_then(|failed| {
                is_complete = failed.is_empty();
                if !is_complete {
                    errors.log(failed.join("; "));
                }
                self.follow_events(switch, is_complete)
            });
            match ended {
                Ok(StreamEnd::Interrupted) => return,
                Ok(_) => {
                    if is_complete {
                        errors.clear();
                    }
                    thread::sleep(PAUSE);
                }
                Err(error) => {
                    errors.log(error.line());
                    thread::sleep(RETRY);
                }
            }
        }
    }

    /// Whether a container has a port on the switch. Otherwise the switch counts as not watched.
    fn keep_watching(&self, switch: &str) -> bool {
        let mut watched = self.watched();
        let is_used = self.is_used(switch);
        if !is_used {
            watched.remove(switch);
        }
        is_used
    }

    /// A record that cannot be read may be of this switch.
    fn is_used(&self, switch: &str) -> bool {
        self.endpoints_on(switch).map_or(true, |endpoints| !endpoints.is_empty())
    }

    /// Restores the missing ports. Returns the errors of those that cannot be restored now.
    fn restore_switch(&self, switch: &str) -> Result<Vec<String>, DockerError> {
        let mut failed = Vec::new();
        for network in self.networks_on(switch)? {
            failed.extend(self.restore(&network)?);
        }
        Ok(failed)
    }

    /// Notes how devices are called in the containers, until the switch ends or no container has a port on it, or, if
    /// ports are missing, until it is time to try again.
    fn follow_events(&self, switch: &str, is_complete: bool) -> Result<StreamEnd, DockerError> {
        let client = self.switches.client(switch)?;
        let retry = async move {
            if is_complete {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(RETRY).await;
        };
        let end = client.lines(EVENTS, retry, |line| -> Result<ControlFlow<()>, DockerError> {
            let event: Event = serde_json::from_slice(line).map_err(|error| client.broken(&error))?;
            self.take_event(switch, &event)
        });
        match end {
            Err(DockerError::Switch(ClientError::NotRunning { .. } | ClientError::Killed(_))) => {
                Ok(StreamEnd::SwitchStopped)
            }
            end => end,
        }
    }

    fn take_event(&self, switch: &str, event: &Event) -> Result<ControlFlow<()>, DockerError> {
        match (event.kind, event.change, &event.value) {
            (EventType::PortRemoved, ..) if !self.is_used(switch) => return Ok(ControlFlow::Break(())),
            (EventType::PortChanged, Some(DeviceAspect::Name), Some(device)) => {
                let endpoints = self.endpoints_on(switch)?;
                let renamed =
                    endpoints.iter().filter(|endpoint| event.ifname.as_deref() == Some(endpoint.port_name()));
                for endpoint in renamed {
                    self.change_endpoint(&endpoint.id, |record| record.device.clone_from(device))?;
                }
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The endpoints of the networks of a switch.
    fn endpoints_on(&self, switch: &str) -> Result<Vec<Endpoint>, DockerError> {
        let networks = self.networks_on(switch)?;
        let mut endpoints: Vec<Endpoint> = self.store.all()?;
        endpoints.retain(|endpoint| networks.iter().any(|network| network.id == endpoint.network));
        Ok(endpoints)
    }

    fn networks_on(&self, switch: &str) -> Result<Vec<Network>, DockerError> {
        let mut networks: Vec<Network> = self.store.all()?;
        networks.retain(|network| network.switch == switch);
        Ok(networks)
    }
}
