//! Bridge Protocol Data Units of STP and RSTP (IEEE 802.1D-2004 clause 9), in LLC frames (IEEE 802.2) to the bridge
//! group address.

#[cfg(test)]
mod tests;

use std::fmt;

use super::{ETHERNET_HEADER, EtherType, Mac};

/// Offsets of the fields after the LLC header (figures 9-1, 9-2 and 9-3).
mod field {
    use std::ops::Range;

    pub(super) const PROTOCOL: Range<usize> = 0..2;
    pub(super) const VERSION: usize = 2;
    pub(super) const TYPE: usize = 3;
    pub(super) const FLAGS: usize = 4;
    pub(super) const ROOT: usize = 5;
    pub(super) const COST: usize = 13;
    pub(super) const BRIDGE: usize = 17;
    pub(super) const PORT: usize = 25;
    pub(super) const MESSAGE_AGE: usize = 27;
    pub(super) const MAX_AGE: usize = 29;
    pub(super) const HELLO_TIME: usize = 31;
    pub(super) const FORWARD_DELAY: usize = 33;
}

/// Bits of the flags octet (9.2.9, 9.3.3).
mod flag {
    pub(super) const TOPOLOGY_CHANGE: u8 = 1;
    pub(super) const PROPOSAL: u8 = 1 << 1;
    /// Two bits: 9.2.9.
    pub(super) const ROLE_SHIFT: u8 = 2;
    pub(super) const LEARNING: u8 = 1 << 4;
    pub(super) const FORWARDING: u8 = 1 << 5;
    pub(super) const AGREEMENT: u8 = 1 << 6;
    pub(super) const TOPOLOGY_CHANGE_ACK: u8 = 1 << 7;
}

/// BPDU types (9.3).
mod kind {
    pub(super) const CONFIG: u8 = 0;
    pub(super) const RST: u8 = 2;
    pub(super) const TCN: u8 = 0x80;
}

/// DSAP, SSAP and control field of a BPDU (7.12.3).
const LLC: [u8; 3] = [0x42, 0x42, 0x03];
/// Octets before the BPDU in its frame.
const HEADERS: usize = ETHERNET_HEADER + LLC.len();
/// Octets of each type of BPDU.
const TCN_LEN: usize = 4;
const CONFIG_LEN: usize = 35;
const RST_LEN: usize = 36;
/// Units of time on the wire in a second (9.2.8).
const UNITS: u16 = 256;

/// A bridge identifier (9.2.5). The lower one is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BridgeId {
    /// The priority: a multiple of 4096 in bridges of today.
    pub priority: u16,
    /// The address of the bridge.
    pub mac: Mac,
}

impl BridgeId {
    fn from_u64(value: u64) -> BridgeId {
        let [high, low, ..] = value.to_be_bytes();
        BridgeId { priority: u16::from_be_bytes([high, low]), mac: Mac::from_u64(value) }
    }

    fn as_u64(self) -> u64 {
        u64::from(self.priority) << 48 | self.mac.as_u64()
    }
}

/// As `ip -d link show type bridge` writes it: `8000.02:00:00:00:00:01`.
impl fmt::Display for BridgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}.{}", self.priority, self.mac)
    }
}

/// A port identifier (9.2.7): 4 bits of priority, 12 bits of port number. The lower one is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PortIdentifier(pub u16);

impl PortIdentifier {
    /// The largest port number.
    pub const MAX_NUMBER: u16 = 0xfff;

    /// The identifier of a port. Uses the upper four bits of `priority` and the lower 12 of `number`.
    pub const fn new(priority: u8, number: u16) -> PortIdentifier {
        PortIdentifier(((priority & 0xf0) as u16) << 8 | number & Self::MAX_NUMBER)
    }

    /// The port number.
    pub const fn number(self) -> u16 {
        self.0 & Self::MAX_NUMBER
    }
}

impl fmt::Display for PortIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

/// A priority vector (17.5), in the order of its significance. The lower one is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PriorityVector {
    /// The root bridge.
    pub root: BridgeId,
    /// The cost of the path to the root.
    pub cost: u32,
    /// The designated bridge: the one that sends the message.
    pub bridge: BridgeId,
    /// The designated port.
    pub port: PortIdentifier,
}

/// The timer values of a message (17.19.15), in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// How many bridges the message has passed since the root.
    pub message_age: u16,
    /// The message age at which information is discarded.
    pub max_age: u16,
    /// The time between periodic messages.
    pub hello_time: u16,
    /// The time in the listening and in the learning state, without an agreement.
    pub forward_delay: u16,
}

/// The port role in an RST BPDU (9.2.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BpduRole {
    /// No bridge sends this. It is handled like a configuration BPDU.
    Unknown,
    /// Alternate or backup.
    Alternate,
    /// Root port.
    Root,
    /// Designated port.
    Designated,
}

impl BpduRole {
    const ALL: [BpduRole; 4] = [BpduRole::Unknown, BpduRole::Alternate, BpduRole::Root, BpduRole::Designated];

    fn from_flags(flags: u8) -> BpduRole {
        Self::ALL[usize::from(flags >> flag::ROLE_SHIFT & 3)]
    }
}

/// A configuration BPDU (9.3.1), sent by designated ports of STP bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigBpdu {
    /// The message priority vector.
    pub priority: PriorityVector,
    /// The timer values.
    pub times: Times,
    /// The topology has changed.
    pub topology_change: bool,
    /// A topology change notification has arrived.
    pub topology_change_ack: bool,
}

/// An RST BPDU (9.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "they are the bits of the flags octet")]
pub struct RstBpdu {
    /// The message priority vector.
    pub priority: PriorityVector,
    /// The timer values.
    pub times: Times,
    /// The role of the sending port.
    pub role: BpduRole,
    /// The topology has changed.
    pub topology_change: bool,
    /// The sender asks for an agreement.
    pub proposal: bool,
    /// The sending port learns.
    pub learning: bool,
    /// The sending port forwards.
    pub forwarding: bool,
    /// The sender agrees.
    pub agreement: bool,
}

/// A BPDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bpdu {
    /// A configuration BPDU of STP.
    Config(ConfigBpdu),
    /// A topology change notification of STP (9.3.2).
    Tcn,
    /// A BPDU of RSTP.
    Rst(RstBpdu),
}

/// The frame is not a valid BPDU (9.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BpduError {
    /// Another destination, an EtherType, or another LLC header.
    #[error("not a BPDU")]
    NotBpdu,
    /// The frame or its BPDU is shorter than its type requires.
    #[error("truncated")]
    Truncated,
    /// The protocol identifier is not 0.
    #[error("unknown protocol identifier")]
    Protocol,
    /// Neither a configuration BPDU nor a TCN nor an RST BPDU of version 2 or later.
    #[error("unknown BPDU type")]
    Type,
    /// The message age of a configuration BPDU is not less than its max age.
    #[error("message age is not less than max age")]
    Expired,
}

impl Bpdu {
    /// The bridge group address (table 7-10).
    pub const GROUP: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0]);
    /// Octets of a frame with a BPDU: padded to the shortest frame of Ethernet, without FCS.
    pub const FRAME: usize = 60;

    /// Parses a frame, from its destination address on.
    ///
    /// # Errors
    ///
    /// It is not a BPDU, or the checks of 9.3.4 discard it. One of them is not made here: whether the receiving port
    /// sent the BPDU itself.
    pub fn parse(frame: &[u8]) -> Result<Bpdu, BpduError> {
        let (header, rest) = frame.split_at_checked(ETHERNET_HEADER).ok_or(BpduError::NotBpdu)?;
        let length = u16::from_be_bytes([header[12], header[13]]);
        if header[..6] != Self::GROUP.0 || length >= EtherType::FIRST || !rest.starts_with(&LLC) {
            return Err(BpduError::NotBpdu);
        }
        let bpdu = rest.get(LLC.len()..usize::from(length)).ok_or(BpduError::Truncated)?;
        Self::parse_bpdu(bpdu)
    }

    fn parse_bpdu(bytes: &[u8]) -> Result<Bpdu, BpduError> {
        if bytes.len() < TCN_LEN {
            return Err(BpduError::Truncated);
        }
        if bytes[field::PROTOCOL] != [0, 0] {
            return Err(BpduError::Protocol);
        }
        match (bytes[field::TYPE], bytes[field::VERSION]) {
            (kind::TCN, _) => Ok(Bpdu::Tcn),
            (kind::CONFIG, _) if bytes.len() < CONFIG_LEN => Err(BpduError::Truncated),
            (kind::CONFIG, _) if word(bytes, field::MESSAGE_AGE) >= word(bytes, field::MAX_AGE) => {
                Err(BpduError::Expired)
            }
            (kind::CONFIG, _) => Ok(Bpdu::Config(ConfigBpdu::parse(bytes))),
            (kind::RST, 2..) if bytes.len() < RST_LEN => Err(BpduError::Truncated),
            (kind::RST, 2..) => Ok(Bpdu::Rst(RstBpdu::parse(bytes))),
            _ => Err(BpduError::Type),
        }
    }

    /// The frame that carries the BPDU, sent by `source`.
    pub fn emit(&self, source: Mac) -> [u8; Self::FRAME] {
        let mut frame = [0; Self::FRAME];
        let length = LLC.len() + self.len();
        frame[..6].copy_from_slice(&Self::GROUP.0);
        frame[6..12].copy_from_slice(&source.0);
        #[allow(clippy::cast_possible_truncation, reason = "at most 39")]
        frame[12..14].copy_from_slice(&(length as u16).to_be_bytes());
        frame[ETHERNET_HEADER..HEADERS].copy_from_slice(&LLC);
        let bytes = &mut frame[HEADERS..];
        match self {
            Bpdu::Config(config) => {
                bytes[field::TYPE] = kind::CONFIG;
                bytes[field::FLAGS] = config.flags();
                emit_information(bytes, &config.priority, &config.times);
            }
            Bpdu::Tcn => bytes[field::TYPE] = kind::TCN,
            Bpdu::Rst(rst) => {
                bytes[field::VERSION] = 2;
                bytes[field::TYPE] = kind::RST;
                bytes[field::FLAGS] = rst.flags();
                emit_information(bytes, &rst.priority, &rst.times);
            }
        }
        frame
    }

    const fn len(&self) -> usize {
        match self {
            Bpdu::Config(_) => CONFIG_LEN,
            Bpdu::Tcn => TCN_LEN,
            Bpdu::Rst(_) => RST_LEN,
        }
    }
}

impl ConfigBpdu {
    /// `bytes` are at least [`CONFIG_LEN`].
    fn parse(bytes: &[u8]) -> ConfigBpdu {
        let flags = bytes[field::FLAGS];
        ConfigBpdu {
            priority: parse_priority(bytes),
            times: parse_times(bytes),
            topology_change: flags & flag::TOPOLOGY_CHANGE != 0,
            topology_change_ack: flags & flag::TOPOLOGY_CHANGE_ACK != 0,
        }
    }

    fn flags(&self) -> u8 {
        bit(self.topology_change, flag::TOPOLOGY_CHANGE)
            | bit(self.topology_change_ack, flag::TOPOLOGY_CHANGE_ACK)
    }
}

impl RstBpdu {
    /// `bytes` are at least [`RST_LEN`].
    fn parse(bytes: &[u8]) -> RstBpdu {
        let flags = bytes[field::FLAGS];
        let has = |bit: u8| flags & bit != 0;
        RstBpdu {
            priority: parse_priority(bytes),
            times: parse_times(bytes),
            role: BpduRole::from_flags(flags),
            topology_change: has(flag::TOPOLOGY_CHANGE),
            proposal: has(flag::PROPOSAL),
            learning: has(flag::LEARNING),
            forwarding: has(flag::FORWARDING),
            agreement: has(flag::AGREEMENT),
        }
    }

    fn flags(&self) -> u8 {
        (self.role as u8) << flag::ROLE_SHIFT
            | bit(self.topology_change, flag::TOPOLOGY_CHANGE)
            | bit(self.proposal, flag::PROPOSAL)
            | bit(self.learning, flag::LEARNING)
            | bit(self.forwarding, flag::FORWARDING)
            | bit(self.agreement, flag::AGREEMENT)
    }
}

const fn bit(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn parse_priority(bytes: &[u8]) -> PriorityVector {
    PriorityVector {
        root: BridgeId::from_u64(u64::from_be_bytes(array(bytes, field::ROOT))),
        cost: u32::from_be_bytes(array(bytes, field::COST)),
        bridge: BridgeId::from_u64(u64::from_be_bytes(array(bytes, field::BRIDGE))),
        port: PortIdentifier(word(bytes, field::PORT)),
    }
}

/// The times, rounded to whole seconds (17.21.23).
fn parse_times(bytes: &[u8]) -> Times {
    let seconds = |at| word(bytes, at) / UNITS + (word(bytes, at) % UNITS) / (UNITS / 2);
    Times {
        message_age: seconds(field::MESSAGE_AGE),
        max_age: seconds(field::MAX_AGE),
        hello_time: seconds(field::HELLO_TIME),
        forward_delay: seconds(field::FORWARD_DELAY),
    }
}

fn emit_information(bytes: &mut [u8], priority: &PriorityVector, times: &Times) {
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(field::ROOT, &priority.root.as_u64().to_be_bytes());
    put(field::COST, &priority.cost.to_be_bytes());
    put(field::BRIDGE, &priority.bridge.as_u64().to_be_bytes());
    put(field::PORT, &priority.port.0.to_be_bytes());
    for (at, seconds) in [
        (field::MESSAGE_AGE, times.message_age),
        (field::MAX_AGE, times.max_age),
        (field::HELLO_TIME, times.hello_time),
        (field::FORWARD_DELAY, times.forward_delay),
    ] {
        put(at, &seconds.saturating_mul(UNITS).to_be_bytes());
    }
}

/// One line, for captures and traces.
impl fmt::Display for Bpdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bpdu::Tcn => f.write_str("STP TCN"),
            Bpdu::Config(config) => {
                write!(f, "STP, {}", config.priority)?;
                let ack = (config.topology_change_ack, "topology change ack");
                write_flags(f, &[(config.topology_change, "topology change"), ack])
            }
            Bpdu::Rst(rst) => {
                write!(f, "RSTP, {}", rst.priority)?;
                let role = ["unknown", "alternate", "root", "designated"][rst.role as usize];
                let flags = [
                    (rst.topology_change, "topology change"),
                    (rst.proposal, "proposal"),
                    (true, role),
                    (rst.learning, "learning"),
                    (rst.forwarding, "forwarding"),
                    (rst.agreement, "agreement"),
                ];
                write_flags(f, &flags)
            }
        }
    }
}

impl fmt::Display for PriorityVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "root {}, cost {}, bridge {}.{}", self.root, self.cost, self.bridge, self.port)
    }
}

fn write_flags(f: &mut fmt::Formatter<'_>, flags: &[(bool, &str)]) -> fmt::Result {
    let set: Vec<_> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    write!(f, ", flags [{}]", set.join(", "))
}
