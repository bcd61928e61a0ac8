//! The simplest program: one thread for each direction reads and writes one frame at a time, on two TAP
//! devices of the crate tun-tap. No offload, which the crate does not support, no batches, no forwarding
//! decision.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use nix::unistd::gettid;
use tun_tap::{Iface, Mode};

use super::super::error::BenchError;
use super::super::plan::MTU;
use super::{Lab, LabSwitch, create_endpoints};

/// An Ethernet header with a VLAN tag.
const HEADER: usize = 18;

pub(super) fn build() -> Result<Lab, BenchError> {
    const DEVICES: [&str; 2] = ["tap1", "tap2"];
    let open = |name| {
        let tap = Iface::without_packet_info(name, Mode::Tap).map(Arc::new);
        tap.map_err(BenchError::io(format!("create the TAP device {name}")))
    };
    let (first, second) = (open(DEVICES[0])?, open(DEVICES[1])?);
    let threads = vec![start_forwarding(&first, &second)?, start_forwarding(&second, &first)?];
    let switch = LabSwitch { threads, ..LabSwitch::default() };
    Ok(Lab { endpoints: create_endpoints(DEVICES)?, host: None, switch, detail: None })
}

/// Starts a thread that forwards frames in one direction for the lifetime of the process. Returns its
/// thread ID.
fn start_forwarding(from: &Arc<Iface>, to: &Arc<Iface>) -> Result<u32, BenchError> {
    let (from, to) = (Arc::clone(from), Arc::clone(to));
    let (sender, receiver) = channel();
    let forward = move || {
        // If the receiver is gone, no measurement follows.
        let _ = sender.send(gettid().as_raw().cast_unsigned());
        let mut frame = vec![0; MTU as usize + HEADER];
        while let Ok(length) = from.recv(&mut frame) {
            // A device that is full or down drops the frame.
            let _ = to.send(&frame[..length]);
        }
    };
    let started = thread::Builder::new().name("naive".to_owned()).spawn(forward);
    started.map_err(BenchError::io("start a thread"))?;
    receiver.recv().map_err(|error| BenchError::io("start a thread")(std::io::Error::other(error)))
}
