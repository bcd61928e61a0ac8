//! Sets of ports: the scope of a flood, the members of a VLAN or of a group.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{PortId, Ports};

const WORDS: usize = Ports::MAX / WORD_BITS;
const WORD_BITS: usize = u64::BITS as usize;

/// A set of ports: one bit for each number.
#[derive(Clone, PartialEq, Eq)]
pub struct PortSet([u64; WORDS]);

impl Default for PortSet {
    fn default() -> PortSet {
        PortSet([0; WORDS])
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|port| port.0)).finish()
    }
}

impl FromIterator<PortId> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortId>>(ports: I) -> PortSet {
        let mut set = PortSet::default();
        ports.into_iter().for_each(|port| _ = set.insert(port));
        set
    }
}

impl PortSet {
    /// Adds a port; false if it was a member already, or if its number is not below [`Ports::MAX`].
    pub fn insert(&mut self, port: PortId) -> bool {
        let Some((word, bit)) = self.place(port) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Removes a port; false if it was not a member.
    pub fn remove(&mut self, port: PortId) -> bool {
        let Some((word, bit)) = self.place(port) else { return false };
        let was_member = *word & bit != 0;
        *word &= !bit;
        was_member
    }

    fn place(&mut self, port: PortId) -> Option<(&mut u64, u64)> {
        Some((self.0.get_mut(port.index() / WORD_BITS)?, 1 << (port.index() % WORD_BITS)))
    }

    /// Whether a port is a member.
    pub fn contains(&self, port: PortId) -> bool {
        let word = self.0.get(port.index() / WORD_BITS).copied().unwrap_or_default();
        word & (1 << (port.index() % WORD_BITS)) != 0
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Adds the members of another set.
    pub fn union(&mut self, other: &PortSet) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    /// The members, in the order of their numbers. Costs one step per member, and one per 64 numbers.
    #[allow(clippy::cast_possible_truncation, reason = "port numbers fit")]
    pub fn iter(&self) -> impl Iterator<Item = PortId> + '_ {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(at, word)| bits(*word).map(move |bit| PortId((at * WORD_BITS) as u16 + bit)))
    }
}

/// A set that one thread changes while any number of threads read it without a lock. A reader sees each change of a
/// member at once, but not several changes together.
pub struct SharedPortSet {
    words: [AtomicU64; WORDS],
    /// The words with a member: one bit for each.
    used: AtomicU64,
}

/// `used` has a bit for each word.
const _: () = assert!(WORDS <= WORD_BITS);

impl Default for SharedPortSet {
    fn default() -> SharedPortSet {
        SharedPortSet { words: [const { AtomicU64::new(0) }; WORDS], used: AtomicU64::new(0) }
    }
}

impl fmt::Debug for SharedPortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|port| port.0)).finish()
    }
}

impl SharedPortSet {
    /// Adds a port. Only one thread may change a set at a time.
    pub fn insert(&self, port: PortId) {
        let at = port.index() / WORD_BITS;
        let Some(word) = self.words.get(at) else { return };
        word.fetch_or(1 << (port.index() % WORD_BITS), Ordering::Release);
        self.used.fetch_or(1 << at, Ordering::Release);
    }

    /// Removes a port. Only one thread may change a set at a time.
    pub fn remove(&self, port: PortId) {
        let at = port.index() / WORD_BITS;
        let Some(word) = self.words.get(at) else { return };
        let bit = 1 << (port.index() % WORD_BITS);
        if word.fetch_and(!bit, Ordering::Release) & !bit == 0 {
            self.used.fetch_and(!(1 << at), Ordering::Release);
        }
    }

    /// Whether a port is a member.
    #[inline]
    pub fn contains(&self, port: PortId) -> bool {
        let word = self.words.get(port.index() / WORD_BITS).map_or(0, |word| word.load(Ordering::Acquire));
        word & (1 << (port.index() % WORD_BITS)) != 0
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.used.load(Ordering::Acquire) == 0
    }

    /// The members, in the order of their numbers. Costs one step per member, and one per 64 numbers in use.
    #[allow(clippy::cast_possible_truncation, reason = "port numbers fit")]
    pub fn iter(&self) -> impl Iterator<Item = PortId> + '_ {
        bits(self.used.load(Ordering::Acquire)).flat_map(|at| {
            let word = self.words[usize::from(at)].load(Ordering::Acquire);
            bits(word).map(move |bit| PortId(at * WORD_BITS as u16 + bit))
        })
    }
}

/// The numbers of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros();
        word &= word - 1;
        u16::try_from(bit).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Both behave as the set of the standard library.
        #[test]
        fn behaves_as_a_set(changes in proptest::collection::vec((any::<bool>(), 0..5000_u16), 0..200)) {
            let (mut set, mut model) = (PortSet::default(), BTreeSet::new());
            let shared = SharedPortSet::default();
            for (insert, port) in changes {
                let port = PortId(port);
                let fits = port.index() < Ports::MAX;
                if insert {
                    shared.insert(port);
                } else {
                    shared.remove(port);
                }
                prop_assert_eq!(shared.contains(port), insert && fits);
                let (changed, expected) = if insert {
                    (set.insert(port), fits && model.insert(port))
                } else {
                    (set.remove(port), model.remove(&port))
                };
                prop_assert_eq!(changed, expected);
                prop_assert_eq!(set.contains(port), model.contains(&port));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert!(shared.iter().eq(model.iter().copied()));
            prop_assert_eq!(shared.is_empty(), model.is_empty());
            prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
        }
    }

    #[test]
    fn union_has_the_members_of_both() {
        let mut set: PortSet = [PortId(1), PortId(64)].into_iter().collect();
        set.union(&[PortId(0), PortId(64), PortId(4095)].into_iter().collect());
        assert!(set.iter().eq([0, 1, 64, 4095].map(PortId)));
    }
}
