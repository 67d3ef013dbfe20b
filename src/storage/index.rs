//! Which stored messages live, and in which block.
//!
//! In memory: for each queue, runs of live messages by sequence number; for each block, how many live
//! messages need it. The index only ever changes by an [`Effect`] (a commit that is durable), so it is the
//! same whether the commit has just been written or is being replayed.

use std::collections::{BTreeMap, BTreeSet};

use super::block::BlockId;
use super::cut::Stored;
use super::effect::{Effect, StoredBlock};
use super::frame::{Placement, Run};
use super::hash::NumberMap;
use super::queue_index::QueueIndex;
use super::{LogIndex, QueueId, Seq, VALUE_SIZE_MAX};

/// A block that something still needs, or that waits for its removal.
#[derive(Debug)]
pub(super) struct BlockIndex {
    pub(super) checksum: u32,
    pub(super) len: u32,
    /// How many live messages need it.
    live: u32,
    /// How many messages have their frames in it, live or not.
    messages: u32,
    pub(super) runs: Box<[Run]>,
    pub(super) placed: Box<[(QueueId, Seq, Placement)]>,
}

/// Live messages of a queue with consecutive numbers in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) block: BlockId,
    /// What the block's checksum must be.
    pub(super) checksum: u32,
}

/// How many messages runs hold. A block holds far fewer than fit.
fn count(runs: &[Run]) -> u32 {
    let count = |run: &Run| (run.last.0 - run.first.0).saturating_add(1);
    let sum = runs.iter().map(count).fold(0, u64::saturating_add);
    u32::try_from(sum).unwrap_or(u32::MAX)
}

impl BlockIndex {
    /// About how many octets of it live.
    fn live_octets(&self) -> u64 {
        u64::from(self.len) * u64::from(self.live) / u64::from(self.messages.max(1))
    }

    /// Whether it holds little that lives, and nothing that refers to other blocks.
    fn is_sparse(&self) -> bool {
        self.live > 0
            && !self.runs.is_empty()
            && self.placed.is_empty()
            && self.live_octets() < SPARSE_OCTETS
    }
}

/// Live octets below which a block is sparse: a quarter of a full one.
const SPARSE_OCTETS: u64 = VALUE_SIZE_MAX as u64 / 4;

/// What changed since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// One may be named twice.
    pub(super) queues: Vec<QueueId>,
    /// The last word on each definition.
    pub(super) definitions: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// How many commits' blocks are listed together in a checkpoint.
const BUCKET_COMMITS: u64 = 64;

/// The bucket a block is listed in.
fn bucket_of(id: BlockId) -> u64 {
    id.commit.0 / BUCKET_COMMITS
}

/// The first commit of a bucket.
pub(super) fn bucket_start(bucket: u64) -> LogIndex {
    LogIndex(bucket.saturating_mul(BUCKET_COMMITS))
}

/// Everything the log holds that is not settled.
#[derive(Debug, Default)]
pub(super) struct Index {
    queues: NumberMap<QueueId, QueueIndex>,
    blocks: BTreeMap<BlockId, BlockIndex>,
    /// Blocks nothing needs any more; they go with the next checkpoint.
    dead: BTreeSet<BlockId>,
    dead_bytes: u64,
    /// Blocks that hold little: they may be written anew, several in one.
    sparse: BTreeSet<BlockId>,
    bytes: u64,
    definitions: BTreeSet<Vec<u8>>,
    dirty: Dirty,
    /// One above the highest queue identity seen.
    next_queue: u64,
}

impl Index {
    /// Applies a commit that is durable.
    pub(super) fn apply(&mut self, effect: Effect) {
        for block in effect.blocks {
            self.add_block(effect.commit, block);
        }
        for (queue, seq, count) in effect.returned {
            self.set_returned(queue, seq, count);
        }
        for (queue, ranges) in effect.settled {
            for (first, last) in ranges {
                self.settle(queue, first, last);
            }
        }
        for queue in effect.forgotten {
            self.forget(queue);
        }
        for (key, value) in effect.definitions {
            match value {
                Some(_) => drop(self.definitions.insert(key.clone())),
                None => drop(self.definitions.remove(&key)),
            }
            self.dirty.definitions.insert(key, value);
        }
    }

    /// Adds a block whose messages all live.
    fn add_block(&mut self, commit: LogIndex, block: StoredBlock) {
        let live = block.runs.clone();
        self.add(commit, block, &live);
    }

    /// Adds a block that a checkpoint knew, of whose messages `live` are left.
    pub(super) fn restore_block(&mut self, commit: LogIndex, block: StoredBlock, live: &[Run]) {
        self.add(commit, block, live);
    }

    fn add(&mut self, commit: LogIndex, block: StoredBlock, runs: &[Run]) {
        let id = BlockId {
            commit,
            part: block.part,
        };
        for run in runs {
            let queue = self.touch(run.queue, run.last);
            if queue.holds_any(run.first, run.last) {
                // Numbers are never used twice; what is here again was written anew, and lives in the
                // later place.
                let freed = queue.settle(run.first, run.last);
                queue.insert(run.first, run.last, id);
                self.free(freed);
            } else {
                queue.insert(run.first, run.last, id);
            }
        }
        self.bytes += u64::from(block.len);
        let placed = Box::from(block.placed.as_slice());
        let index = BlockIndex {
            checksum: block.checksum,
            len: block.len,
            live: count(runs),
            messages: count(&block.runs),
            runs: block.runs.into(),
            placed,
        };
        if index.live == 0 {
            self.dead.insert(id);
            self.dead_bytes += u64::from(index.len);
        } else if index.is_sparse() {
            self.sparse.insert(id);
        }
        self.blocks.insert(id, index);
        for (queue, seq, placement) in block.placed {
            if self.lives_in(queue, seq, id) {
                self.queues.entry(queue).or_default().place(seq, placement);
                placement.blocks().for_each(|piece| self.add_live(piece, 1));
            }
        }
    }

    /// Adds a queue that a checkpoint knew.
    pub(super) fn restore_queue(
        &mut self,
        queue: QueueId,
        next: Seq,
        returned: impl IntoIterator<Item = (Seq, u32)>,
    ) {
        let index = self.queues.entry(queue).or_default();
        index.reach(next);
        for (seq, count) in returned {
            index.set_returned(seq, count);
        }
        self.next_queue = self.next_queue.max(queue.0.saturating_add(1));
    }

    /// Adds a definition that a checkpoint knew.
    pub(super) fn restore_definition(&mut self, key: Vec<u8>) {
        self.definitions.insert(key);
    }

    /// Makes sure that queue identities below `next` are never given again.
    pub(super) fn restore_next_queue(&mut self, next: u64) {
        self.next_queue = self.next_queue.max(next);
    }

    /// The index of a queue that changes and whose numbers reach `last`.
    fn touch(&mut self, queue: QueueId, last: Seq) -> &mut QueueIndex {
        self.next_queue = self.next_queue.max(queue.0.saturating_add(1));
        let index = self.queues.entry(queue).or_default();
        index.reach(Seq(last.0.saturating_add(1)));
        if index.make_dirty() {
            self.dirty.queues.push(queue);
        }
        index
    }

    fn add_live(&mut self, id: BlockId, count: u32) {
        self.change_live(id, |live| live.saturating_add(count));
    }

    /// Lets go of what messages needed that are settled: (block, how many).
    fn free(&mut self, freed: impl IntoIterator<Item = (BlockId, u64)>) {
        for (id, count) in freed {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.change_live(id, |live| live.saturating_sub(count));
        }
    }

    /// Changes how many live messages need a block, and notes what that makes of it.
    fn change_live(&mut self, id: BlockId, change: impl FnOnce(u32) -> u32) {
        let Some(block) = self.blocks.get_mut(&id) else {
            return;
        };
        let (was_dead, was_sparse) = (block.live == 0, block.is_sparse());
        block.live = change(block.live);
        let (is_dead, is_sparse) = (block.live == 0, block.is_sparse());
        let len = u64::from(block.len);
        if is_dead && !was_dead {
            self.dead.insert(id);
            self.dead_bytes += len;
        } else if was_dead && !is_dead {
            self.dead.remove(&id);
            self.dead_bytes -= len;
        }
        if is_sparse && !was_sparse {
            self.sparse.insert(id);
        } else if was_sparse && !is_sparse {
            self.sparse.remove(&id);
        }
    }

    fn set_returned(&mut self, queue: QueueId, seq: Seq, count: u32) {
        if self.holds_any(queue, seq, seq) {
            self.touch(queue, seq).set_returned(seq, count);
        }
    }

    /// Settles whatever lives in a range.
    pub(super) fn settle(&mut self, queue: QueueId, first: Seq, last: Seq) {
        if self.queues.contains_key(&queue) {
            let freed = self.touch(queue, last).settle(first, last);
            self.free(freed);
        }
    }

    fn forget(&mut self, queue: QueueId) {
        self.settle(queue, Seq(0), Seq(u64::MAX));
        if self.queues.remove(&queue).is_some() {
            self.dirty.queues.push(queue);
        }
    }

    /// Whether a message lives and its frame is in the given block.
    pub(super) fn lives_in(&self, queue: QueueId, seq: Seq, block: BlockId) -> bool {
        let index = self.queues.get(&queue);
        index.and_then(|index| index.block_of(seq)) == Some(block)
    }

    /// The parts of a block's run that live.
    fn live_parts(&self, run: Run, block: BlockId) -> Vec<(Seq, Seq)> {
        let index = self.queues.get(&run.queue).into_iter();
        index
            .flat_map(|index| index.places(run.first, run.last))
            .filter(|&(_, _, place)| place == block)
            .map(|(first, last, _)| (first, last))
            .collect()
    }

    /// The live messages whose frames are in a block.
    pub(super) fn live_in(&self, block: BlockId) -> Vec<Run> {
        let listed = self.blocks.get(&block);
        let runs = listed.into_iter().flat_map(|listed| &listed.runs);
        runs.flat_map(|&run| {
            let parts = self.live_parts(run, block).into_iter();
            parts.map(move |(first, last)| Run { first, last, ..run })
        })
        .collect()
    }

    /// Where the live messages of a range are, in order of their numbers, `max` stretches at most.
    pub(super) fn stretches(
        &self,
        queue: QueueId,
        first: Seq,
        last: Seq,
        max: usize,
    ) -> Vec<Stretch> {
        let index = self.queues.get(&queue).into_iter();
        index
            .flat_map(|index| index.places(first, last))
            .take(max)
            .map(|(first, last, block)| Stretch {
                first,
                last,
                block,
                checksum: self.checksum(block).unwrap_or_default(),
            })
            .collect()
    }

    /// The checksum a block must have; `None` if no such block is known.
    pub(super) fn checksum(&self, block: BlockId) -> Option<u32> {
        self.blocks.get(&block).map(|block| block.checksum)
    }

    /// About how many octets the live messages of a queue take on disk, from the lengths of their blocks.
    pub(super) fn live_bytes(&self, queue: &QueueIndex) -> u64 {
        let share = |(first, last, id): (Seq, Seq, BlockId)| {
            self.blocks.get(&id).map_or(0, |block| {
                let count = (last.0 - first.0).saturating_add(1);
                u64::from(block.len).saturating_mul(count) / u64::from(block.messages.max(1))
            })
        };
        let framed: u64 = queue.places(Seq(0), Seq(u64::MAX)).map(share).sum();
        let placed: u64 = queue.placed().map(|placement| placement.len).sum();
        framed.saturating_add(placed)
    }

    /// Every queue of which anything is stored.
    pub(super) fn queues(&self) -> impl Iterator<Item = (QueueId, &QueueIndex)> {
        self.queues.iter().map(|(&queue, index)| (queue, index))
    }

    pub(super) fn queue(&self, queue: QueueId) -> Option<&QueueIndex> {
        self.queues.get(&queue)
    }

    /// Above every queue identity seen.
    pub(super) fn next_queue(&self) -> u64 {
        self.next_queue
    }

    /// The blocks something needs, in order.
    pub(super) fn live_blocks(&self) -> impl Iterator<Item = (BlockId, &BlockIndex)> {
        self.blocks
            .iter()
            .map(|(&id, block)| (id, block))
            .filter(|(_, block)| block.live > 0)
    }

    /// The live blocks of a bucket, in order.
    pub(super) fn bucket(&self, bucket: u64) -> impl Iterator<Item = (BlockId, &BlockIndex)> {
        let from = |bucket| BlockId {
            commit: bucket_start(bucket),
            part: 0,
        };
        let blocks = self
            .blocks
            .range(from(bucket)..from(bucket.saturating_add(1)));
        blocks
            .map(|(&id, block)| (id, block))
            .filter(|(_, block)| block.live > 0)
    }

    /// The buckets whose list of live blocks is another than when commit `since` was the last.
    pub(super) fn changed_buckets(&self, since: LogIndex) -> BTreeSet<u64> {
        let after = BlockId {
            commit: LogIndex(since.0 + 1),
            part: 0,
        };
        let gone = self.dead.range(..after).copied();
        let new = self
            .blocks
            .range(after..)
            .filter(|(_, block)| block.live > 0)
            .map(|(&id, _)| id);
        gone.chain(new).map(bucket_of).collect()
    }

    /// What changed since the last call.
    pub(super) fn take_dirty(&mut self) -> Dirty {
        let dirty = std::mem::take(&mut self.dirty);
        for queue in &dirty.queues {
            if let Some(index) = self.queues.get_mut(queue) {
                index.make_clean();
            }
        }
        dirty
    }

    /// Blocks nothing needs any more.
    pub(super) fn dead(&self) -> impl Iterator<Item = BlockId> {
        self.dead.iter().copied()
    }

    /// Sparse blocks of commits up to `upto`, in order, with about how many octets of each live.
    pub(super) fn sparse(&self, upto: LogIndex) -> impl Iterator<Item = (BlockId, u64)> {
        let part = u32::MAX;
        let last = BlockId { commit: upto, part };
        self.sparse.range(..=last).map(|&id| {
            let octets = self.blocks.get(&id).map_or(0, BlockIndex::live_octets);
            (id, octets)
        })
    }

    /// Leaves a block as it is: it does not count as sparse any more.
    pub(super) fn leave(&mut self, id: BlockId) {
        self.sparse.remove(&id);
    }

    /// How many live messages need a block.
    pub(super) fn live_count(&self, id: BlockId) -> u32 {
        self.blocks.get(&id).map_or(0, |block| block.live)
    }

    /// Lets go of the dead blocks, which the caller removes.
    pub(super) fn bury(&mut self) {
        for id in std::mem::take(&mut self.dead) {
            self.bytes -= self
                .blocks
                .remove(&id)
                .map_or(0, |block| u64::from(block.len));
        }
        self.dead_bytes = 0;
    }

    /// (blocks, their bytes, bytes of those only waiting for removal)
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        (
            (self.blocks.len() - self.dead.len()) as u64,
            self.bytes - self.dead_bytes,
            self.dead_bytes,
        )
    }
}

impl Stored for Index {
    fn knows_queue(&self, queue: QueueId) -> bool {
        self.queues.contains_key(&queue)
    }

    fn holds_any(&self, queue: QueueId, first: Seq, last: Seq) -> bool {
        first <= last
            && self
                .queues
                .get(&queue)
                .is_some_and(|index| index.holds_any(first, last))
    }

    fn knows_definition(&self, key: &[u8]) -> bool {
        self.definitions.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(7);

    fn id(commit: u64, part: u32) -> BlockId {
        BlockId {
            commit: LogIndex(commit),
            part,
        }
    }

    fn run(first: u64, last: u64) -> Run {
        Run {
            queue: QUEUE,
            first: Seq(first),
            last: Seq(last),
        }
    }

    fn block(part: u32, runs: &[Run], placed: &[(QueueId, Seq, Placement)]) -> StoredBlock {
        let (runs, placed) = (runs.to_vec(), placed.to_vec());
        StoredBlock {
            part,
            checksum: 0,
            len: 100,
            control: false,
            runs,
            placed,
        }
    }

    fn apply(index: &mut Index, commit: u64, blocks: Vec<StoredBlock>) {
        index.apply(Effect {
            commit: LogIndex(commit),
            blocks,
            ..Effect::default()
        });
    }

    fn live(index: &Index) -> Vec<(u64, u64)> {
        index
            .queue(QUEUE)
            .map(QueueIndex::live_ranges)
            .unwrap_or_default()
    }

    #[test]
    fn a_block_is_dead_when_its_last_message_is_settled_whatever_the_order() {
        let mut index = Index::default();
        apply(
            &mut index,
            1,
            vec![block(0, &[run(1, 5)], &[]), block(1, &[run(6, 9)], &[])],
        );
        for (first, last) in [(3, 3), (1, 1), (3, 7), (1, 2)] {
            index.settle(QUEUE, Seq(first), Seq(last));
        }
        assert_eq!(live(&index), [(8, 9)]);
        assert_eq!(index.dead().collect::<Vec<_>>(), [id(1, 0)]);
        assert_eq!(index.totals(), (1, 100, 100));
        index.bury();
        assert_eq!(index.totals(), (1, 100, 0));
        assert!(index.holds_any(QUEUE, Seq(1), Seq(8)) && !index.holds_any(QUEUE, Seq(1), Seq(7)));
    }

    #[test]
    fn the_pieces_of_a_long_message_live_as_long_as_any_reference_to_it() {
        let mut index = Index::default();
        let placement = Placement {
            commit: LogIndex(1),
            part: 0,
            pieces: 2,
            len: 100_000,
        };
        let other = Run {
            queue: QueueId(8),
            first: Seq(1),
            last: Seq(1),
        };
        let placed = [(QUEUE, Seq(1), placement), (QueueId(8), Seq(1), placement)];
        apply(
            &mut index,
            1,
            vec![
                block(0, &[], &[]),
                block(1, &[], &[]),
                block(2, &[run(1, 1), other], &placed),
            ],
        );
        assert_eq!(index.dead().count(), 0);
        index.settle(QUEUE, Seq(1), Seq(1));
        assert_eq!(index.dead().count(), 0);
        index.settle(QueueId(8), Seq(1), Seq(1));
        assert_eq!(
            index.dead().collect::<Vec<_>>(),
            [id(1, 0), id(1, 1), id(1, 2)]
        );
    }

    #[test]
    fn only_buckets_whose_live_blocks_changed_are_written_anew() {
        let mut index = Index::default();
        for commit in 1..=200 {
            apply(
                &mut index,
                commit,
                vec![block(0, &[run(commit, commit)], &[])],
            );
        }
        let buckets = |index: &Index, since| {
            index
                .changed_buckets(LogIndex(since))
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(buckets(&index, 0), [0, 1, 2, 3]);
        assert_eq!(buckets(&index, 200), [0_u64; 0]);
        index.settle(QUEUE, Seq(70), Seq(70));
        assert_eq!(buckets(&index, 200), [1]);
        assert_eq!(index.bucket(1).count(), 63);
    }

    #[test]
    fn the_live_parts_of_a_damaged_block_leave_out_what_is_settled_or_elsewhere() {
        let mut index = Index::default();
        apply(
            &mut index,
            1,
            vec![
                block(0, &[run(1, 4), run(7, 9)], &[]),
                block(1, &[run(5, 6)], &[]),
            ],
        );
        index.settle(QUEUE, Seq(2), Seq(2));
        let parts = index.live_parts(run(1, 9), id(1, 0));
        assert_eq!(
            parts,
            [(1, 1), (3, 4), (7, 9)].map(|(first, last)| (Seq(first), Seq(last)))
        );
    }

    #[test]
    fn a_block_is_sparse_while_less_than_a_quarter_of_a_full_one_lives_in_it() {
        let mut index = Index::default();
        let mut full = block(0, &[run(1, 100)], &[]);
        full.len = 64 * 1024;
        let mut pieces = block(0, &[], &[]);
        pieces.len = 64 * 1024;
        apply(&mut index, 1, vec![full]);
        apply(&mut index, 2, vec![block(0, &[run(101, 101)], &[])]);
        apply(&mut index, 3, vec![pieces]);
        let sparse = |index: &Index, upto| {
            let sparse = index.sparse(LogIndex(upto));
            sparse
                .map(|(id, octets)| (id.commit.0, octets))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            sparse(&index, 9),
            [(2, 100)],
            "a tiny one is sparse at once"
        );
        index.settle(QUEUE, Seq(1), Seq(75));
        assert_eq!(sparse(&index, 9).len(), 1);
        index.settle(QUEUE, Seq(80), Seq(80));
        assert_eq!(sparse(&index, 9), [(1, 15_728), (2, 100)]);
        assert_eq!(sparse(&index, 1).len(), 1);
        index.leave(id(1, 0));
        assert_eq!(sparse(&index, 9).len(), 1);
        index.settle(QUEUE, Seq(81), Seq(81));
        assert_eq!(sparse(&index, 9).len(), 1, "it was left as it is");
        index.settle(QUEUE, Seq(1), Seq(101));
        assert_eq!(sparse(&index, 9), [], "what died is not sparse any more");
    }

    #[test]
    fn messages_written_again_live_in_their_later_block_with_their_counts() {
        let mut index = Index::default();
        apply(&mut index, 1, vec![block(0, &[run(1, 9)], &[])]);
        index.settle(QUEUE, Seq(2), Seq(8));
        index.apply(Effect {
            commit: LogIndex(2),
            blocks: vec![block(0, &[run(1, 1), run(9, 9)], &[])],
            returned: vec![(QUEUE, Seq(9), 3)],
            ..Effect::default()
        });
        assert_eq!(live(&index), [(1, 1), (9, 9)]);
        assert_eq!(index.dead().collect::<Vec<_>>(), [id(1, 0)]);
        assert!(index.lives_in(QUEUE, Seq(9), id(2, 0)));
        assert_eq!(index.queue(QUEUE).unwrap().returned().get(&9), Some(&3));
    }
}
