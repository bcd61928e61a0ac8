//! The keyed hash of the forwarding database and of other tables of addresses.
//!
//! Multiply-shift over 128 bits (Dietzfelbinger 1996). With a secret multiplier and addend, two keys that
//! were chosen without knowing them collide with a probability of 1/buckets. So a container cannot choose
//! addresses that fall into one chain. A fixed permutation spreads runs of consecutive addresses, for which
//! multiply-shift alone is poor with some secrets.

/// A hash function from keys to buckets, selected by a seed.
#[derive(Debug)]
pub(in crate::switch) struct Hash {
    multiplier: u128,
    addend: u128,
    shift: u32,
}

impl Hash {
    /// A function with `1 << bits` buckets, 1 <= `bits` <= 32.
    pub(in crate::switch) fn new(seed: u64, bits: u32) -> Hash {
        let mut state = seed;
        let mut draw = || (u128::from(splitmix(&mut state)) << 64) | u128::from(splitmix(&mut state));
        Hash { multiplier: draw(), addend: draw(), shift: u64::BITS - bits }
    }

    /// The bucket of `key`.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "64 bits are left, then at most 32")]
    pub(in crate::switch) fn bucket(&self, key: u64) -> usize {
        let word = (self.multiplier.wrapping_mul(u128::from(key)).wrapping_add(self.addend) >> 64) as u64;
        ((word ^ (word >> 32)).wrapping_mul(GOLDEN) >> self.shift) as usize
    }
}

/// 2^64 divided by the golden ratio, made odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Steele, Lea and Flood 2014): expands a seed to any number of words.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(GOLDEN);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_consecutive_keys() {
        for seed in 0..500 {
            let hash = Hash::new(seed, 10);
            let mut load = [0u32; 1024];
            (0..1024u64).for_each(|n| load[hash.bucket(0x0200_0000_0000 + n)] += 1);
            assert!(load.iter().all(|&n| n <= 12), "seed {seed}: {:?}", load.iter().max());
        }
    }

    #[test]
    fn seed_changes_the_hash() {
        let (one, other) = (Hash::new(1, 16), Hash::new(2, 16));
        assert!((0..64).any(|key| one.bucket(key) != other.bucket(key)));
    }
}
