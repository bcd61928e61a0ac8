//! The settings of a port that the forwarding rules read, with the names that they have in the Linux bridge.

/// The one list of flags: calls a macro with the variant, the name in JSON and tables, the default, and what the switch
/// does when the flag is on. The settings, the report and the options of a port follow from it.
macro_rules! with_port_flags {
    ($call:ident) => {
        $call! {
            Learning, learning, true, "Learn source addresses";
            Flood, flood, true, "Flood unknown unicast to the port";
            McastFlood, mcast_flood, true, "Flood multicast to the port";
            BcastFlood, bcast_flood, true, "Flood broadcast to the port";
            Isolated, isolated, false, "Exchange no frames with other isolated ports";
            Hairpin, hairpin, false, "Let frames leave on the port that they came in on";
            Locked, locked, false, "Accept only frames from addresses that the forwarding database has on this port";
            NeighSuppress, neigh_suppress, false,
                "Answer ARP requests and neighbour solicitations for known hosts behind the port instead of flooding them to it";
            Hub, hub, false, "Be a hub for this port: learn nothing from it, and flood its frames";
        }
    };
}
pub(crate) use with_port_flags;

macro_rules! port_flags {
    ($($flag:ident, $name:ident, $default:literal, $text:literal;)+) => {
        /// A setting of a port that is on or off (`bridge link set` in bridge(8)).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum PortFlag { $(#[doc = $text] $flag,)+ }

        impl PortFlag {
            /// All flags.
            pub const ALL: &'static [PortFlag] = &[$(PortFlag::$flag,)+];

            /// The name in JSON and tables.
            pub const fn name(self) -> &'static str {
                match self { $(PortFlag::$flag => stringify!($name),)+ }
            }

            /// Whether it is on by default.
            pub const fn default(self) -> bool {
                match self { $(PortFlag::$flag => $default,)+ }
            }
        }
    };
}
with_port_flags!(port_flags);

impl PortFlag {
    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The flags of one port. The default value has each flag at its default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PortFlags(
    /// The flags that differ from their defaults, so that a port without settings is one comparison with zero.
    u16,
);

impl PortFlags {
    /// The flags that only the ingress rules read.
    pub(super) const INGRESS: PortFlags =
        PortFlags(PortFlag::Learning.bit() | PortFlag::Locked.bit() | PortFlag::Hub.bit());
    /// The flags that the egress rules read.
    pub(super) const EGRESS: PortFlags = PortFlags(
        PortFlag::Flood.bit()
            | PortFlag::McastFlood.bit()
            | PortFlag::BcastFlood.bit()
            | PortFlag::Isolated.bit()
            | PortFlag::NeighSuppress.bit(),
    );

    /// The flags that make a flood other than one copy for each other port. (The workers decide about all messages
    /// about neighbours, so `neigh_suppress` is none of them.)
    pub(super) const FLOODS: PortFlags = PortFlags(
        PortFlag::Flood.bit()
            | PortFlag::McastFlood.bit()
            | PortFlag::BcastFlood.bit()
            | PortFlag::Hairpin.bit(),
    );

    /// Whether a flag is on.
    pub const fn has(self, flag: PortFlag) -> bool {
        (self.0 & flag.bit() != 0) != flag.default()
    }

    /// Turns a flag on or off.
    pub const fn set(&mut self, flag: PortFlag, on: bool) {
        if on == flag.default() {
            self.0 &= !flag.bit();
        } else {
            self.0 |= flag.bit();
        }
    }

    /// Whether one of these flags is not at its default.
    pub(super) const fn changes(self, of: PortFlags) -> bool {
        self.0 & of.0 != 0
    }

    pub(super) const fn to_bits(self) -> u16 {
        self.0
    }

    pub(super) const fn from_bits(bits: u16) -> PortFlags {
        PortFlags(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_kept_apart_and_returns_to_its_default() {
        let mut flags = PortFlags::default();
        for &flag in PortFlag::ALL {
            assert_eq!(flags.has(flag), flag.default());
            flags.set(flag, !flag.default());
            assert_eq!(flags.has(flag), !flag.default());
            assert_eq!(PortFlags::from_bits(flags.to_bits()), flags);
        }
        PortFlag::ALL.iter().for_each(|flag| flags.set(*flag, flag.default()));
        assert_eq!(flags, PortFlags::default());
    }
}
