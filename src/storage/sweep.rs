//! What nothing needs any more and is still in the store: removed a little at a time, in order.

use std::collections::VecDeque;

use super::Change;
use super::block::BlockId;

/// Something to remove.
#[derive(Debug)]
enum Remains {
    Block(BlockId),
    /// The key of a value of a page.
    Page(Vec<u8>),
}

/// Keys to remove, the oldest first.
///
/// The order matters: a page must be gone before the tombstone that hides it.
#[derive(Debug, Default)]
pub(super) struct Sweep(VecDeque<Remains>);

impl Sweep {
    pub(super) fn add_blocks(&mut self, blocks: impl IntoIterator<Item = BlockId>) {
        self.0.extend(blocks.into_iter().map(Remains::Block));
    }

    pub(super) fn add_pages(&mut self, keys: impl IntoIterator<Item = Vec<u8>>) {
        self.0.extend(keys.into_iter().map(Remains::Page));
    }

    /// The blocks that are still there. A checkpoint lists them, so that a crash does not forget them.
    pub(super) fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.0.iter().filter_map(|remains| match remains {
            Remains::Block(id) => Some(*id),
            Remains::Page(_) => None,
        })
    }

    /// The next removals, `max` at most.
    pub(super) fn take(&mut self, max: usize) -> Vec<Change> {
        let next = self.0.drain(..max.min(self.0.len()));
        let changes = next.map(|remains| {
            Change::Remove(match remains {
                Remains::Block(id) => id.key(),
                Remains::Page(key) => key,
            })
        });
        let changes = changes.collect();
        // After a purge it may have been very long.
        if self.0.is_empty() {
            self.0.shrink_to_fit();
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LogIndex;

    #[test]
    fn removals_come_in_order_and_only_blocks_not_yet_removed_are_listed() {
        let id = |commit| BlockId {
            commit: LogIndex(commit),
            part: 0,
        };
        let mut sweep = Sweep::default();
        sweep.add_pages([vec![1], vec![2]]);
        sweep.add_blocks([id(1), id(2)]);
        sweep.add_pages([vec![3]]);
        let removes = |keys: &[Vec<u8>]| {
            let keys = keys.iter().cloned();
            keys.map(Change::Remove).collect::<Vec<_>>()
        };
        assert_eq!(sweep.take(3), removes(&[vec![1], vec![2], id(1).key()]));
        assert_eq!(sweep.blocks().collect::<Vec<_>>(), [id(2)]);
        assert_eq!(sweep.take(3), removes(&[id(2).key(), vec![3]]));
        assert!(sweep.take(3).is_empty());
    }
}
