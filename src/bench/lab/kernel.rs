//! Switches in the kernel: a veth pair, and a bridge.

use super::super::error::BenchError;
use super::{HOST, Lab, LabSwitch, create_endpoints, link};

/// One veth pair.
pub(super) fn veth() -> Result<Lab, BenchError> {
    link::veth("veth1", "veth2")?;
    Ok(Lab {
        endpoints: create_endpoints(["veth1", "veth2"])?,
        host: None,
        switch: LabSwitch::default(),
        detail: None,
    })
}

/// A bridge with a veth pair for each container.
pub(super) fn bridge() -> Result<Lab, BenchError> {
    const BRIDGE: &str = "br0";
    let ports = ["port1", "port2"];
    let devices = ["veth1", "veth2"];
    for (port, device) in ports.into_iter().zip(devices) {
        link::veth(port, device)?;
    }
    link::bridge(BRIDGE, ports)?;
    link::disable_bridge_netfilter()?;
    link::set_up(BRIDGE, Some(HOST))?;
    Ok(Lab {
        endpoints: create_endpoints(devices)?,
        host: Some(HOST),
        switch: LabSwitch::default(),
        detail: None,
    })
}
