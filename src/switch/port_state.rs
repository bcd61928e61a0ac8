//! The states of ports (802.1D-2004 §7.4, `BR_STATE_*` of Linux `include/uapi/linux/if_bridge.h`).

/// The state of a port. The default is forwarding. The spanning tree sets that of a port, the user that of a port in a
/// VLAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PortState {
    /// Learns and forwards.
    #[default]
    Forwarding,
    /// Learns, and does not forward.
    Learning,
    /// Neither learns nor forwards, and will.
    Listening,
    /// Neither learns nor forwards.
    Blocking,
    /// Disabled by the user in a VLAN: neither learns nor forwards. (A whole port is set down.)
    Disabled,
}

impl PortState {
    /// All states.
    pub const ALL: [PortState; 5] = [
        PortState::Forwarding,
        PortState::Learning,
        PortState::Listening,
        PortState::Blocking,
        PortState::Disabled,
    ];

    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            PortState::Forwarding => "forwarding",
            PortState::Learning => "learning",
            PortState::Listening => "listening",
            PortState::Blocking => "blocking",
            PortState::Disabled => "disabled",
        }
    }

    /// The state with this number.
    pub(super) const fn of(number: u8) -> PortState {
        match number {
            0 => PortState::Forwarding,
            1 => PortState::Learning,
            2 => PortState::Listening,
            3 => PortState::Blocking,
            _ => PortState::Disabled,
        }
    }
}
