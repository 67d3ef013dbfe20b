//! Verified blocks kept for a while, because queues share them: those read last, within a limit of bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::block::BlockId;
use super::contents::Contents;
use super::hash::NumberMap;

/// What an entry takes beside its contents, in bytes: its places in the two maps.
const ENTRY_BYTES: usize = 128;

#[derive(Debug)]
struct Cached {
    contents: Arc<Contents>,
    /// Its key in [`Cache::order`].
    used: u64,
}

/// The blocks used last.
#[derive(Debug)]
pub(super) struct Cache {
    blocks: NumberMap<BlockId, Cached>,
    /// The longest unused first.
    order: BTreeMap<u64, BlockId>,
    clock: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// An empty one that takes up to `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            blocks: NumberMap::default(),
            order: BTreeMap::new(),
            clock: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// A block, if it is there; it counts as used now.
    pub(super) fn get(&mut self, id: BlockId) -> Option<Arc<Contents>> {
        let cached = self.blocks.get_mut(&id)?;
        self.order.remove(&cached.used);
        self.clock += 1;
        cached.used = self.clock;
        self.order.insert(self.clock, id);
        Some(Arc::clone(&cached.contents))
    }

    /// Adds a block and lets go of those not used for longest. One that is over the limit alone is not kept.
    pub(super) fn insert(&mut self, id: BlockId, contents: Arc<Contents>) {
        self.remove(id);
        let bytes = ENTRY_BYTES + contents.memory();
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            self.remove(*oldest);
        }
        self.clock += 1;
        self.order.insert(self.clock, id);
        let used = self.clock;
        self.blocks.insert(id, Cached { contents, used });
        self.bytes += bytes;
    }

    fn remove(&mut self, id: BlockId) {
        if let Some(cached) = self.blocks.remove(&id) {
            self.order.remove(&cached.used);
            self.bytes -= ENTRY_BYTES + cached.contents.memory();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LogIndex;
    use crate::storage::block::{self, HEADER_LEN};

    fn id(commit: u64) -> BlockId {
        BlockId {
            commit: LogIndex(commit),
            part: 0,
        }
    }

    fn contents(commit: u64, len: usize) -> Arc<Contents> {
        let mut octets = vec![0; HEADER_LEN];
        crate::storage::frame::put_piece(&mut octets, &vec![1; len]);
        block::seal(&mut octets, id(commit), None);
        Arc::new(Contents::read(id(commit), octets.into()).unwrap())
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let each = ENTRY_BYTES + contents(1, 100).memory();
        let mut cache = Cache::new(3 * each);
        (1..=3).for_each(|commit| cache.insert(id(commit), contents(commit, 100)));
        assert!(cache.get(id(1)).is_some());
        cache.insert(id(4), contents(4, 100));
        let there = [1, 2, 3, 4].map(|commit| cache.get(id(commit)).is_some());
        assert_eq!(there, [true, false, true, true]);
        assert_eq!(cache.bytes, 3 * each);
    }

    #[test]
    fn a_block_put_twice_counts_once_and_one_that_is_too_large_is_not_kept() {
        let mut cache = Cache::new(10_000);
        cache.insert(id(1), contents(1, 100));
        let bytes = cache.bytes;
        cache.insert(id(1), contents(1, 100));
        assert_eq!((cache.bytes, cache.order.len()), (bytes, 1));
        cache.insert(id(2), contents(2, 20_000));
        assert!(cache.get(id(2)).is_none() && cache.get(id(1)).is_some());
    }
}
