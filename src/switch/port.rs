//! The port table.
//!
//! A port's state is one atomic word, so a worker reads it with one load and never locks. The datapath
//! reuses a port number only after every worker has detached the old port.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::{
    Destination, DropReason, FastDatapath, FastState, FrameClass, PortFlag, PortFlags, PortState, SlowPort,
};
use crate::wire::{ETHERNET_HEADER, VLAN_TAG};

/// The index of a port in the port table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

impl PortId {
    /// The index for arrays with one element per port.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Every possible port number.
    #[allow(clippy::cast_possible_truncation, reason = "MAX fits")]
    pub fn all() -> impl Iterator<Item = PortId> {
        (0..Ports::MAX as u16).map(PortId)
    }
}

/// The state of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The link is up, and the port forwards: it is neither being removed nor blocked.
    pub up: bool,
    /// It leads to the host: the host port, or that of a VLAN's gateway.
    pub host: bool,
    /// The device accepts super-frames and partial checksums.
    pub offload: bool,
    /// Largest payload of an Ethernet frame, in bytes.
    pub mtu: u32,
}

const PRESENT: u64 = 1 << 63;
const UP: u64 = 1 << 62;
const HOST: u64 = 1 << 61;
const OFFLOAD: u64 = 1 << 60;
/// Set and cleared apart from the rest of the word, as the fields below.
const BLOCKED: u64 = 1 << 59;
const STATE_SHIFT: u32 = 56;
const STATE: u64 = 0b111 << STATE_SHIFT;
const LIMITED: u64 = 1 << 55;
/// The workers delay, lose or change frames of the port.
const IMPAIRED: u64 = 1 << 54;
/// Mirrors copy frames that the port receives, and frames that it sends.
const MIRRORED_RX: u64 = 1 << 53;
const MIRRORED_TX: u64 = 1 << 52;
/// The destination of a mirror.
const MIRROR: u64 = 1 << 51;
/// An uplink with one MAC address for all hosts.
const UPLINK: u64 = 1 << 50;
const FLAGS_SHIFT: u32 = 32;
const FLAGS: u64 = 0xffff << FLAGS_SHIFT;
/// What [`Ports::set`] keeps.
const KEPT: u64 = BLOCKED | STATE | LIMITED | IMPAIRED | MIRRORED_RX | MIRRORED_TX | MIRROR | UPLINK | FLAGS;
const HAIRPIN: u64 = flag_bits(PortFlag::Hairpin);
const NEIGH_SUPPRESS: u64 = flag_bits(PortFlag::NeighSuppress);
const EGRESS_FLAGS: u64 = (PortFlags::EGRESS.to_bits() as u64) << FLAGS_SHIFT;

/// The bits of one flag that is not at its default.
const fn flag_bits(flag: PortFlag) -> u64 {
    let mut flags = PortFlags::from_bits(0);
    flags.set(flag, !flag.default());
    (flags.to_bits() as u64) << FLAGS_SHIFT
}

/// What a decision needs to know about a frame's ingress port.
#[derive(Debug, Clone, Copy)]
pub(super) struct IngressPort {
    pub(super) port: Port,
    pub(super) flags: PortFlags,
    /// It has storm control or rate limits.
    pub(super) limited: bool,
    /// Mirrors copy the frames that it receives.
    pub(super) mirrored: bool,
    /// It is an uplink with one MAC address for all hosts.
    pub(super) uplink: bool,
}

/// What mirrors have to do with a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MirrorRole {
    /// They copy frames that it receives.
    pub(super) rx: bool,
    /// They copy frames that are sent to it.
    pub(super) tx: bool,
    /// It is the destination of one.
    pub(super) destination: bool,
}

/// The word of an egress port that may have the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressPort(u64);

impl EgressPort {
    /// The device accepts super-frames and partial checksums.
    pub const fn has_offload(self) -> bool {
        self.0 & OFFLOAD != 0
    }

    /// It has storm control or rate limits.
    pub const fn is_limited(self) -> bool {
        self.0 & LIMITED != 0
    }

    /// Mirrors copy the frames that are sent to it.
    pub const fn is_mirrored(self) -> bool {
        self.0 & MIRRORED_TX != 0
    }

    /// It is an uplink with one MAC address for all hosts.
    pub const fn is_uplink(self) -> bool {
        self.0 & UPLINK != 0
    }

    /// It leads to the host.
    pub(super) const fn is_host(self) -> bool {
        self.0 & HOST != 0
    }

    /// It is one of these: one test for the frames of most ports.
    pub(super) const fn is_special(self) -> bool {
        self.0 & (LIMITED | MIRRORED_TX | UPLINK) != 0
    }

    /// Whether a frame of this length fits in its MTU.
    #[allow(clippy::cast_possible_truncation, reason = "the low half is the MTU")]
    pub(super) const fn fits(self, wire_length: usize) -> bool {
        wire_length <= longest(self.0 as u32)
    }
}

impl Port {
    const fn pack(self) -> u64 {
        PRESENT
            | if self.up { UP } else { 0 }
            | if self.host { HOST } else { 0 }
            | if self.offload { OFFLOAD } else { 0 }
            | self.mtu as u64
    }

    #[allow(clippy::cast_possible_truncation, reason = "the low half is the MTU")]
    const fn unpack(word: u64) -> Option<Port> {
        if word & PRESENT == 0 {
            return None;
        }
        Some(Port {
            up: word & (UP | BLOCKED | STATE | MIRROR) == UP,
            host: word & HOST != 0,
            offload: word & OFFLOAD != 0,
            mtu: word as u32,
        })
    }
}

/// The port table.
#[derive(Debug)]
pub struct Ports {
    slots: Box<[AtomicU64]>,
    /// The reserved group addresses that each port may send to others: see [`Ports::set_group_fwd_mask`].
    group_fwd_masks: Box<[AtomicU16]>,
    /// One past the highest slot that was ever used.
    end: AtomicUsize,
    /// A port has [`PortFlag::NeighSuppress`] (`br_recalculate_neigh_suppress_enabled` in Linux
    /// `net/bridge/br_arp_nd_proxy.c`).
    suppresses: AtomicBool,
    /// Is told of each change.
    fast: OnceLock<Arc<dyn FastDatapath>>,
}

impl Default for Ports {
    fn default() -> Self {
        Ports::new()
    }
}

impl Ports {
    /// Maximum number of ports of one switch, the host port included.
    pub const MAX: usize = 4096;

    /// An empty table.
    pub fn new() -> Ports {
        Ports {
            slots: (0..Self::MAX).map(|_| AtomicU64::new(0)).collect(),
            group_fwd_masks: (0..Self::MAX).map(|_| AtomicU16::new(0)).collect(),
            end: AtomicUsize::new(0),
            suppresses: AtomicBool::new(false),
            fast: OnceLock::new(),
        }
    }

    /// Tells this datapath of each change from now on.
    pub(super) fn set_fast_datapath(&self, fast: Arc<dyn FastDatapath>) {
        let _ = self.fast.set(fast);
    }

    /// Tells the state of a port. If another thread changes it meanwhile, its state after that.
    fn notify_state(&self, id: PortId) {
        let Some(fast) = self.fast.get() else { return };
        loop {
            let word = self.word(id);
            fast.set_state(id, fast_state(word));
            if self.word(id) == word {
                return;
            }
        }
    }

    /// Adds a port in the first free slot. `None` if all [`Ports::MAX`] slots are in use. Only one thread may
    /// call this at a time.
    #[allow(clippy::cast_possible_truncation, reason = "MAX fits")]
    pub fn add(&self, port: Port) -> Option<PortId> {
        let free = self.slots.iter().position(|slot| slot.load(Ordering::Relaxed) == 0)?;
        self.slots[free].store(port.pack(), Ordering::Release);
        self.end.fetch_max(free + 1, Ordering::Release);
        Some(PortId(free as u16))
    }

    /// Replaces what [`Port`] has of a port. The rest stays: a blocked port stays blocked.
    pub fn set(&self, id: PortId, port: Port) {
        self.update(id, |word| port.pack() | word & KEPT);
    }

    /// Sets the state of a port in the spanning tree.
    pub fn set_state(&self, id: PortId, state: PortState) {
        self.update_present(id, |word| word & !STATE | (state as u64) << STATE_SHIFT);
    }

    /// The state of a port in the spanning tree.
    pub fn state(&self, id: PortId) -> PortState {
        state_of(self.word(id))
    }

    /// Sets the flags of a port.
    pub fn set_flags(&self, id: PortId, flags: PortFlags) {
        self.update_present(id, |word| word & !FLAGS | u64::from(flags.to_bits()) << FLAGS_SHIFT);
        self.note_suppression();
    }

    /// Notes whether a port suppresses messages about neighbours.
    fn note_suppression(&self) {
        let any = self.iter().any(|port| self.word(port) & NEIGH_SUPPRESS != 0);
        self.suppresses.store(any, Ordering::Release);
    }

    /// Whether a port suppresses messages about neighbours.
    #[inline]
    pub(super) fn suppress_neighbours(&self) -> bool {
        self.suppresses.load(Ordering::Acquire)
    }

    /// The flags of a port.
    pub fn flags(&self, id: PortId) -> PortFlags {
        flags_of(self.word(id))
    }

    /// Sets which frames of a port to the reserved group addresses 01:80:C2:00:00:0X are forwarded, bit X, besides
    /// those that the switch forwards (`group_fwd_mask` of a port of the Linux bridge). Bit 0 also keeps its BPDUs from
    /// the spanning tree.
    pub fn set_group_fwd_mask(&self, id: PortId, mask: u16) {
        self.group_fwd_masks[id.index()].store(mask, Ordering::Relaxed);
    }

    /// The mask of [`Ports::set_group_fwd_mask`].
    pub fn group_fwd_mask(&self, id: PortId) -> u16 {
        self.group_fwd_masks.get(id.index()).map_or(0, |mask| mask.load(Ordering::Relaxed))
    }

    /// Sets whether the datapath impairs frames of a port. The decision does not depend on it.
    pub fn set_impaired(&self, id: PortId, impaired: bool) {
        self.update_present(id, |word| word & !IMPAIRED | if impaired { IMPAIRED } else { 0 });
    }

    /// Sets whether a port has storm control or rate limits.
    pub(super) fn set_limited(&self, id: PortId, limited: bool) {
        self.update_present(id, |word| word & !LIMITED | if limited { LIMITED } else { 0 });
    }

    /// Whether a port has storm control or rate limits.
    #[inline]
    pub(super) fn is_limited(&self, id: PortId) -> bool {
        self.word(id) & LIMITED != 0
    }

    /// Sets whether a port is an uplink with one MAC address for all hosts.
    pub(super) fn set_uplink(&self, id: PortId, uplink: bool) {
        self.update_present(id, |word| word & !UPLINK | if uplink { UPLINK } else { 0 });
    }

    /// Whether a port is an uplink with one MAC address for all hosts.
    pub fn is_uplink(&self, id: PortId) -> bool {
        self.word(id) & UPLINK != 0
    }

    /// Sets what mirrors have to do with a port.
    pub(super) fn set_mirror_role(&self, id: PortId, role: MirrorRole) {
        let bits = [(role.rx, MIRRORED_RX), (role.tx, MIRRORED_TX), (role.destination, MIRROR)];
        let set = bits.into_iter().filter(|(set, _)| *set).fold(0, |word, (_, bit)| word | bit);
        let all = MIRRORED_RX | MIRRORED_TX | MIRROR;
        if self.word(id) & all != set {
            self.update_present(id, |word| word & !all | set);
        }
    }

    /// Whether a port is up, and the destination of a mirror: it sends only copies, and its own frames are dropped.
    pub fn is_mirror_destination(&self, id: PortId) -> bool {
        self.word(id) & (UP | MIRROR) == UP | MIRROR
    }

    /// Whether mirrors copy frames that are sent to a port.
    pub(super) fn is_mirrored_tx(&self, id: PortId) -> bool {
        self.word(id) & MIRRORED_TX != 0
    }

    /// The destination of a mirror, whatever the spanning tree says; `None` if it is down.
    pub(super) fn mirror_destination(&self, id: PortId) -> Option<EgressPort> {
        self.is_mirror_destination(id).then(|| EgressPort(self.word(id)))
    }

    /// Whether the link of a port is up, also if the port does not forward.
    pub fn is_link_up(&self, id: PortId) -> bool {
        self.word(id) & UP != 0
    }

    /// Blocks a port: it neither receives nor sends, until [`Ports::unblock`].
    pub fn block(&self, id: PortId) {
        self.update_present(id, |word| word | BLOCKED);
    }

    /// Unblocks a port.
    pub fn unblock(&self, id: PortId) {
        self.update(id, |word| word & !BLOCKED);
    }

    /// The port is up, and does not forward: a loop was found there, or the spanning tree does not use it.
    pub fn is_blocked(&self, id: PortId) -> bool {
        is_blocked(self.word(id))
    }

    /// The port is up and learns, and does not forward yet.
    pub fn only_learns(&self, id: PortId) -> bool {
        let word = self.word(id);
        word & (UP | BLOCKED) == UP && state_of(word) == PortState::Learning
    }

    fn word(&self, id: PortId) -> u64 {
        self.slots.get(id.index()).map_or(0, |slot| slot.load(Ordering::Acquire))
    }

    fn update_present(&self, id: PortId, change: impl Fn(u64) -> u64) {
        self.update(id, |word| if word & PRESENT == 0 { word } else { change(word) });
    }

    fn update(&self, id: PortId, change: impl Fn(u64) -> u64) {
        let slot = &self.slots[id.index()];
        // The closure never refuses.
        let _ = slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some(change(word)));
        self.notify_state(id);
    }

    /// Frees the slot. The caller must have detached the port from every worker.
    pub fn remove(&self, id: PortId) {
        self.slots[id.index()].store(0, Ordering::Release);
        self.set_group_fwd_mask(id, 0);
        self.note_suppression();
        self.notify_state(id);
    }

    /// A port; `None` if it does not exist.
    pub fn port(&self, id: PortId) -> Option<Port> {
        Port::unpack(self.word(id))
    }

    /// A port that has received a frame.
    #[inline]
    pub(super) fn ingress(&self, id: PortId) -> Option<IngressPort> {
        let word = self.word(id);
        Some(IngressPort {
            port: Port::unpack(word)?,
            flags: flags_of(word),
            limited: word & LIMITED != 0,
            mirrored: word & (UP | MIRROR | MIRRORED_RX) == UP | MIRRORED_RX,
            uplink: word & UPLINK != 0,
        })
    }

    /// All ports, in the order of their numbers.
    #[allow(clippy::cast_possible_truncation, reason = "MAX fits")]
    pub fn iter(&self) -> impl Iterator<Item = PortId> + '_ {
        let end = self.end.load(Ordering::Acquire);
        let present = |(n, slot): (usize, &AtomicU64)| {
            (slot.load(Ordering::Acquire) & PRESENT != 0).then_some(PortId(n as u16))
        };
        self.slots[..end].iter().enumerate().filter_map(present)
    }

    /// The one egress rule, for unicast, flood and groups. Not back to the ingress port, unless that is a hairpin; not
    /// to a port that is down or blocked; not against the port's flags; not more than the egress MTU and one tag
    /// (`is_skb_forwardable` in Linux `include/linux/netdevice.h`). So a frame with two tags may have a full-size
    /// payload.
    #[inline]
    pub fn may_deliver(&self, class: &FrameClass, egress: PortId) -> Result<EgressPort, DropReason> {
        let word = self.word(egress);
        if egress == class.ingress && word & HAIRPIN == 0 {
            return Err(DropReason::Filtered);
        }
        match Port::unpack(word) {
            Some(port) if port.up => {
                if word & EGRESS_FLAGS != 0 {
                    self.check_flags(class, flags_of(word))?;
                }
                if class.wire_length <= longest(port.mtu) {
                    Ok(EgressPort(word))
                } else {
                    Err(DropReason::Oversize)
                }
            }
            _ if word & (UP | MIRROR) == UP | MIRROR => Err(DropReason::EgressMirror),
            _ if is_blocked(word) => Err(DropReason::EgressBlocked),
            _ => Err(DropReason::EgressDown),
        }
    }

    #[cold]
    fn check_flags(&self, class: &FrameClass, egress: PortFlags) -> Result<(), DropReason> {
        let isolated = PortFlag::Isolated;
        if egress.has(isolated) && self.flags(class.ingress).has(isolated) {
            return Err(DropReason::Isolated);
        }
        let wanted = match class.destination {
            Destination::Unicast | Destination::Group => true,
            Destination::UnknownUnicast => egress.has(PortFlag::Flood),
            Destination::Multicast => egress.has(PortFlag::McastFlood),
            Destination::Broadcast => egress.has(PortFlag::BcastFlood),
        };
        let is_suppressed = || class.is_neigh_suppressed && egress.has(PortFlag::NeighSuppress);
        match class.destination {
            _ if !wanted => Err(DropReason::FloodOff),
            // As in `br_flood`: members of a group get it.
            Destination::Multicast | Destination::Broadcast if is_suppressed() => {
                Err(DropReason::NeighSuppress)
            }
            _ => Ok(()),
        }
    }
}

/// The longest frame for a port with this MTU.
const fn longest(mtu: u32) -> usize {
    mtu as usize + ETHERNET_HEADER + VLAN_TAG
}

fn fast_state(word: u64) -> FastState {
    let Some(Port { up, host, offload, mtu }) = Port::unpack(word) else { return FastState::default() };
    let longest = u32::try_from(longest(mtu)).unwrap_or(u32::MAX);
    let flags = flags_of(word);
    let reasons = [
        (!offload, SlowPort::NoOffload),
        (!flags.has(PortFlag::Learning) || flags.has(PortFlag::Hub), SlowPort::NoLearning),
        (word & LIMITED != 0, SlowPort::Limits),
        (word & IMPAIRED != 0, SlowPort::Impairment),
        (word & (MIRRORED_RX | MIRRORED_TX) != 0, SlowPort::Mirror),
    ];
    let slow = reasons.into_iter().find_map(|(is_so, why)| is_so.then_some(why));
    let (isolated, flooded) = (flags.has(PortFlag::Isolated), !flags.changes(PortFlags::FLOODS));
    FastState { up, host, isolated, flooded, slow, longest }
}

const fn is_blocked(word: u64) -> bool {
    word & UP != 0 && word & (BLOCKED | STATE) != 0
}

#[allow(clippy::cast_possible_truncation, reason = "masked")]
const fn state_of(word: u64) -> PortState {
    PortState::of(((word & STATE) >> STATE_SHIFT) as u8)
}

#[allow(clippy::cast_possible_truncation, reason = "masked")]
const fn flags_of(word: u64) -> PortFlags {
    PortFlags::from_bits(((word & FLAGS) >> FLAGS_SHIFT) as u16)
}
