//! The kernel's own: veth, and its bridge.

use super::super::error::BenchError;
use super::{HOST, Lab, Switch, hand_out, wiring};

/// One veth pair.
pub(super) fn veth() -> Result<Lab, BenchError> {
    wiring::veth("veth1", "veth2")?;
    Ok(Lab { stations: hand_out(["veth1", "veth2"])?, host: None, switch: Switch::default(), detail: None })
}

/// A bridge with a veth pair to each container.
pub(super) fn bridge() -> Result<Lab, BenchError> {
    const BRIDGE: &str = "br0";
    let ports = ["port1", "port2"];
    let devices = ["veth1", "veth2"];
    for (port, device) in ports.into_iter().zip(devices) {
        wiring::veth(port, device)?;
    }
    wiring::bridge(BRIDGE, ports)?;
    wiring::without_netfilter()?;
    wiring::set_up(BRIDGE, Some(HOST))?;
    Ok(Lab { stations: hand_out(devices)?, host: Some(HOST), switch: Switch::default(), detail: None })
}
