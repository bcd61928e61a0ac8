//! The options for the VLANs of a port.

use std::collections::BTreeMap;

use crate::control::report::PortVlans;
use crate::switch::vlan::{Vid, VidRange};

/// The VLANs of a port.
#[derive(Debug, clap::Args)]
pub(super) struct VlanArgs {
    /// Make it an access port of this VLAN, 1 to 4094: untagged
    #[arg(long, value_name = "VLAN", conflicts_with_all = ["trunk", "native"])]
    access: Option<Vid>,
    /// Make it a trunk of these VLANs, as in 10-20,30: tagged
    #[arg(long, value_name = "VLANS", value_delimiter = ',')]
    trunk: Vec<VidRange>,
    /// VLAN of untagged frames on a trunk, 1 to 4094 [default: none]
    #[arg(long, value_name = "VLAN")]
    native: Option<Vid>,
}

impl From<VlanArgs> for Option<PortVlans> {
    fn from(typed: VlanArgs) -> Option<PortVlans> {
        let VlanArgs { access, trunk, native } = typed;
        let vlans = PortVlans { access, trunk, native, state: BTreeMap::new() };
        (vlans != PortVlans::default()).then_some(vlans)
    }
}
