//! The edges of the trie that are words: from a node, by a word's number, to a node.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use super::NodeId;
use super::words::WordId;

/// One table for all nodes: a table in each would cost more memory than all else in the trie together.
#[derive(Debug, Default)]
pub(super) struct Edges(HashMap<u64, NodeId, Seed>);

fn key(from: NodeId, word: WordId) -> u64 {
    (u64::from(from.0) << 32) | u64::from(word.0)
}

impl Edges {
    pub(super) fn find(&self, from: NodeId, word: WordId) -> Option<NodeId> {
        self.0.get(&key(from, word)).copied()
    }

    pub(super) fn insert(&mut self, from: NodeId, word: WordId, to: NodeId) {
        self.0.insert(key(from, word), to);
    }

    pub(super) fn remove(&mut self, from: NodeId, word: WordId) {
        self.0.remove(&key(from, word));
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Hashes two small numbers, which is most of the cost of a look-up, in two multiplications instead of a pass of the
/// standard hasher. The numbers are the broker's own and the seed is drawn for each table, so clients cannot aim at
/// collisions.
#[derive(Debug)]
struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

struct Folded(u64);

/// An odd number with its bits well mixed: the golden ratio in 64 bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Folded {
    fn write_u64(&mut self, n: u64) {
        // Multiplying spreads each bit upwards only, so the upper half is folded back before the second time.
        let mixed = (self.0 ^ n).wrapping_mul(SPREAD);
        self.0 = (mixed ^ (mixed >> 32)).wrapping_mul(SPREAD);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn finish(&self) -> u64 {
        // The table takes its place from the low bits and a check from the high ones.
        self.0 ^ (self.0 >> 32)
    }
}
