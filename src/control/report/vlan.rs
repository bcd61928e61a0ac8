//! VLANs of ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::switch::PortState;
use crate::switch::vlan::{Member, Vid, VidRange, VlanCounts};

/// The state of a port in a VLAN, with the words of `bridge vlan`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VlanState {
    /// Neither learn nor forward
    Disabled,
    /// Neither learn nor forward
    Listening,
    /// Learn, and do not forward
    Learning,
    /// Learn and forward
    #[default]
    Forwarding,
    /// Neither learn nor forward
    Blocking,
}

impl VlanState {
    /// All states, in the order of their numbers in the kernel.
    pub(crate) const ALL: [VlanState; 5] = [
        VlanState::Disabled,
        VlanState::Listening,
        VlanState::Learning,
        VlanState::Forwarding,
        VlanState::Blocking,
    ];

    fn is_forwarding(&self) -> bool {
        *self == VlanState::Forwarding
    }

    /// The word.
    pub(crate) const fn name(self) -> &'static str {
        self.of_switch().name()
    }

    /// The state that the switch has.
    pub(crate) const fn of_switch(self) -> PortState {
        match self {
            VlanState::Disabled => PortState::Disabled,
            VlanState::Listening => PortState::Listening,
            VlanState::Learning => PortState::Learning,
            VlanState::Forwarding => PortState::Forwarding,
            VlanState::Blocking => PortState::Blocking,
        }
    }
}

impl From<PortState> for VlanState {
    fn from(state: PortState) -> VlanState {
        match state {
            PortState::Disabled => VlanState::Disabled,
            PortState::Listening => VlanState::Listening,
            PortState::Learning => VlanState::Learning,
            PortState::Forwarding => VlanState::Forwarding,
            PortState::Blocking => VlanState::Blocking,
        }
    }
}

/// The VLANs of a port, as `bridge -c -j vlan show` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortVlansReport {
    /// The port.
    pub ifname: String,
    /// Its VLANs, in order.
    pub vlans: Vec<VlanReport>,
}

/// A VLAN of a port, or several in a row that the port is in in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VlanReport {
    /// The VLAN, or the first one.
    pub vlan: u16,
    /// The last one, if there are several.
    #[serde(rename = "vlanEnd", default, skip_serializing_if = "Option::is_none")]
    pub vlan_end: Option<u16>,
    /// `PVID`: untagged frames that the port receives belong to it. `Egress Untagged`: its frames leave untagged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// The state of the port in it, as in `bridge -d -j vlan show`; absent if it is forwarding.
    #[serde(default, skip_serializing_if = "VlanState::is_forwarding")]
    pub state: VlanState,
}

impl VlanReport {
    /// The VLANs of a port, several in a row as one.
    pub(crate) fn list(vlans: impl Iterator<Item = (Vid, Member, VlanState)>) -> Vec<VlanReport> {
        let mut list: Vec<VlanReport> = Vec::new();
        for (vid, member, state) in vlans {
            let (vlan, flags) = (vid.get(), flags(member));
            match list.last_mut() {
                Some(last) if last.end() + 1 == vlan && last.flags == flags && last.state == state => {
                    last.vlan_end = Some(vlan);
                }
                _ => list.push(VlanReport { vlan, vlan_end: None, flags, state }),
            }
        }
        list
    }

    fn end(&self) -> u16 {
        self.vlan_end.unwrap_or(self.vlan)
    }

    /// Whether a VLAN is one of these.
    pub(crate) fn contains(&self, vid: u16) -> bool {
        (self.vlan..=self.end()).contains(&vid)
    }

    /// One or several, as in `10-20`.
    pub(crate) fn range(&self) -> String {
        self.vlan_end.map_or_else(|| self.vlan.to_string(), |end| format!("{}-{end}", self.vlan))
    }
}

fn flags(member: Member) -> Vec<String> {
    let flags = [("PVID", member.pvid), ("Egress Untagged", member.untagged)];
    flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag.to_owned()).collect()
}

/// The counters of a VLAN, of all its ports together or of one, with the names of `bridge -j -s vlan show`. Those of
/// all ports count from the start of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VlanStats {
    /// The VLAN.
    #[schema(value_type = u16)]
    pub vid: Vid,
    /// Bytes of the received frames, without the tag of the VLAN and FCS.
    pub rx_bytes: u64,
    /// Frames that ports of the VLAN admitted to it.
    pub rx_packets: u64,
    /// Bytes of the sent frames.
    pub tx_bytes: u64,
    /// Frames sent to ports of the VLAN: one for each port that got a copy.
    pub tx_packets: u64,
}

impl VlanStats {
    /// The counters of this VLAN.
    pub(crate) fn new(vid: Vid, counts: VlanCounts) -> VlanStats {
        let VlanCounts { rx_bytes, rx_packets, tx_bytes, tx_packets } = counts;
        VlanStats { vid, rx_bytes, rx_packets, tx_bytes, tx_packets }
    }

    /// Whether a frame was counted.
    pub(crate) fn has_frames(&self) -> bool {
        self.rx_packets + self.tx_packets > 0
    }
}

/// The counters of a port in its VLANs, as `bridge -s -j vlan show` lists them with `vlan_stats_per_port`. They count
/// from when the port became a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortVlanStats {
    /// The port.
    pub ifname: String,
    /// Its VLANs, in order, apart from those whose frames are not counted because it would need too much memory.
    pub vlans: Vec<VlanStats>,
}

/// A membership to add or to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVlan {
    /// The port.
    pub ifname: String,
    /// The VLAN, or several as in `10-20`.
    #[serde(deserialize_with = "range")]
    #[schema(value_type = String)]
    pub vlan: VidRange,
    /// Whether untagged frames that the port receives belong to it. The port has no other PVID then.
    #[serde(default)]
    pub pvid: bool,
    /// Whether its frames leave the port untagged.
    #[serde(default)]
    pub untagged: bool,
}

/// The state of a port in VLANs of which it is a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVlanState {
    /// The port.
    pub ifname: String,
    /// The VLAN, or several as in `10-20`.
    #[serde(deserialize_with = "range")]
    #[schema(value_type = String)]
    pub vlan: VidRange,
    /// The state.
    pub state: VlanState,
}

/// A membership to end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VlanQuery {
    /// The port.
    pub ifname: String,
    /// The VLAN, or several as in `10-20`.
    #[param(value_type = String)]
    pub vlan: VidRange,
}

/// The VLANs of a port, instead of those that it has: an access port or a trunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortVlans {
    /// Access port: its only VLAN. Frames are untagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>)]
    pub access: Option<Vid>,
    /// Trunk: the VLANs whose frames are tagged, each one or several as in `10-20`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "ranges")]
    #[schema(value_type = Vec<String>)]
    pub trunk: Vec<VidRange>,
    /// Trunk: the VLAN of untagged frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>)]
    pub native: Option<Vid>,
    /// The states of the port in these VLANs, each one or several as in `10-20`. In others it keeps its state, and is
    /// forwarding at first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, VlanState>)]
    pub state: BTreeMap<VidRange, VlanState>,
}

impl PortVlans {
    /// The memberships.
    pub(crate) fn members(&self) -> impl Iterator<Item = (Vid, Member)> + '_ {
        let tagged = self.trunk.iter().flat_map(|range| range.iter()).map(|vid| (vid, Member::TAGGED));
        // The last one counts.
        tagged.chain([self.access, self.native].into_iter().flatten().map(|vid| (vid, Member::ACCESS)))
    }
}

/// A number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum RangeText {
    Number(u16),
    Text(String),
}

impl RangeText {
    fn parse<E: serde::de::Error>(self) -> Result<VidRange, E> {
        match self {
            RangeText::Number(number) => number.to_string().parse(),
            RangeText::Text(text) => text.parse(),
        }
        .map_err(E::custom)
    }
}

fn range<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VidRange, D::Error> {
    RangeText::deserialize(deserializer)?.parse()
}

pub(super) fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VidRange>, D::Error> {
    Vec::<RangeText>::deserialize(deserializer)?.into_iter().map(RangeText::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vid(number: u16) -> Vid {
        Vid::new(number).unwrap()
    }

    #[test]
    fn lists_vlans_in_a_row_as_one_as_bridge_does() {
        let untagged = Member { untagged: true, ..Member::TAGGED };
        let vlans =
            [(1, Member::ACCESS), (2, untagged), (10, Member::TAGGED), (11, Member::TAGGED), (12, untagged)];
        let forwarding = |(number, member)| (vid(number), member, VlanState::Forwarding);
        let list = VlanReport::list(vlans.into_iter().map(forwarding));
        assert_eq!(
            serde_json::to_string(&PortVlansReport { ifname: "container1".into(), vlans: list }).unwrap(),
            r#"{"ifname":"container1","vlans":[{"vlan":1,"flags":["PVID","Egress Untagged"]},"#.to_owned()
                + r#"{"vlan":2,"flags":["Egress Untagged"]},{"vlan":10,"vlanEnd":11},"#
                + r#"{"vlan":12,"flags":["Egress Untagged"]}]}"#
        );
    }

    #[test]
    fn states_are_listed_unless_they_are_forwarding() {
        let vlans = [(10, VlanState::Blocking), (11, VlanState::Blocking), (12, VlanState::Forwarding)];
        let list =
            VlanReport::list(vlans.into_iter().map(|(vlan, state)| (vid(vlan), Member::TAGGED, state)));
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"[{"vlan":10,"vlanEnd":11,"state":"blocking"},{"vlan":12}]"#
        );
    }

    #[test]
    fn trunks_are_numbers_or_ranges() {
        let vlans: PortVlans = serde_json::from_str(r#"{"trunk": [5, "10-11"], "native": 10}"#).unwrap();
        let members: Vec<_> = vlans.members().collect();
        let expected =
            [(5, Member::TAGGED), (10, Member::TAGGED), (11, Member::TAGGED), (10, Member::ACCESS)];
        assert_eq!(members, expected.map(|(number, member)| (vid(number), member)));
        for wrong in [
            r#"{"trunk": [4095]}"#,
            r#"{"trunk": ["20-10"]}"#,
            r#"{"access": 0}"#,
            r#"{"access": "x"}"#,
            r#"{"access": 1, "state": {"1": "open"}}"#,
            r#"{"access": 1, "state": {"4095": "blocking"}}"#,
        ] {
            assert!(serde_json::from_str::<PortVlans>(wrong).is_err(), "{wrong}");
        }
    }
}
