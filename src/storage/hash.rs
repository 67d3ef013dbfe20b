//! Hashing of numbers that this program gives itself: queues, blocks, addresses.
//!
//! Nobody outside can choose them, so the maps of the commit path need no defence against chosen keys,
//! which is most of what the standard hasher costs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map keyed by such numbers.
pub(super) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Odd, with its bits well mixed: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies each number into the state, then folds the high bits down.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, octets: &[u8]) {
        octets
            .iter()
            .for_each(|&octet| self.write_u64(u64::from(octet)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(FACTOR);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        // The map takes its place from the low bits, a product has its best ones on top.
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::{BuildHasher, Hash};

    fn spread<K: Hash>(keys: impl Iterator<Item = K>) -> (usize, usize) {
        let hasher = BuildHasherDefault::<NumberHasher>::default();
        let hashes: Vec<u64> = keys.map(|key| hasher.hash_one(key)).collect();
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 0xffff).collect();
        let high: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        (low.len(), high.len())
    }

    #[test]
    fn numbers_in_a_row_and_addresses_are_spread_over_low_and_high_bits() {
        let random = 65_536.0 * (1.0 - f64::exp(-10_000.0 / 65_536.0));
        for (low, high) in [
            spread(1..=10_000_u64),
            spread((0..10_000_usize).map(|number| 0x7f00_0000_0000 + number * 64)),
            spread((0..10_000_u64).map(|number| (number / 16, (number % 16) as u32))),
        ] {
            assert!(low as f64 > 0.9 * random, "{low} places of {random}");
            assert_eq!(high, 128);
        }
    }
}
