//! Which stored messages live, and in which block.
//!
//! In memory: for each queue, runs of live messages by sequence number; for each block, how many live
//! messages need it. The index only ever changes by an [`Effect`] (a commit that is durable), so it is the
//! same whether the commit has just been written or is being replayed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::block::BlockId;
use super::cut::Stored;
use super::frame::{Placement, Run};
use super::{LogIndex, QueueId, Seq};

/// A block as the index must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredBlock {
    pub(super) part: u32,
    pub(super) checksum: u32,
    pub(super) len: u32,
    /// Whether it holds more than messages and pieces.
    pub(super) control: bool,
    /// The messages whose frames are in the block.
    pub(super) runs: Vec<Run>,
    /// Those of them whose payload is in other blocks.
    pub(super) placed: Vec<(QueueId, Seq, Placement)>,
}

/// What a commit changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) commit: LogIndex,
    /// The checksum of the final part.
    pub(super) checksum: u32,
    pub(super) blocks: Vec<StoredBlock>,
    pub(super) settled: Vec<(QueueId, Vec<(Seq, Seq)>)>,
    pub(super) returned: Vec<(QueueId, Seq, u32)>,
    pub(super) forgotten: Vec<QueueId>,
    pub(super) definitions: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Live messages with consecutive numbers; the first is the key in [`QueueIndex::live`].
#[derive(Debug, Clone, Copy)]
struct Live {
    last: u64,
    block: BlockId,
}

/// What is stored of one queue.
#[derive(Debug, Default)]
pub(super) struct QueueIndex {
    /// One above the highest number seen.
    next: u64,
    live: BTreeMap<u64, Live>,
    /// Live messages whose payload is in blocks of its own.
    placed: BTreeMap<u64, Placement>,
    returned: BTreeMap<u64, u32>,
}

/// A block that something still needs, or that waits for its removal.
#[derive(Debug)]
pub(super) struct BlockIndex {
    pub(super) checksum: u32,
    pub(super) len: u32,
    /// How many live messages need it.
    live: u64,
    pub(super) runs: Box<[Run]>,
    pub(super) placed: Box<[(QueueId, Seq, Placement)]>,
}

/// What changed since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) queues: BTreeSet<QueueId>,
    /// Buckets of blocks; see [`bucket_of`].
    pub(super) buckets: BTreeSet<u64>,
    /// The last word on each definition.
    pub(super) definitions: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

/// How many commits' blocks are listed together in a checkpoint.
const BUCKET_COMMITS: u64 = 64;

/// The bucket a block is listed in.
pub(super) fn bucket_of(id: BlockId) -> u64 {
    id.commit.0 / BUCKET_COMMITS
}

/// The blocks a bucket lists.
fn bucket_range(bucket: u64) -> std::ops::Range<BlockId> {
    let from = |bucket: u64| BlockId {
        commit: LogIndex(bucket * BUCKET_COMMITS),
        part: 0,
    };
    from(bucket)..from(bucket + 1)
}

/// Everything the log holds that is not settled.
#[derive(Debug, Default)]
pub(super) struct Index {
    queues: HashMap<QueueId, QueueIndex>,
    blocks: BTreeMap<BlockId, BlockIndex>,
    /// Blocks nothing needs any more; they go with the next checkpoint.
    dead: BTreeSet<BlockId>,
    dead_bytes: u64,
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
    pub(super) fn add_block(&mut self, commit: LogIndex, block: StoredBlock) {
        let id = BlockId {
            commit,
            part: block.part,
        };
        let mut live = 0;
        for run in &block.runs {
            self.touch(run.queue, run.last);
            let queue = self.queues.entry(run.queue).or_default();
            queue.live.insert(
                run.first.0,
                Live {
                    last: run.last.0,
                    block: id,
                },
            );
            live += run.last.0 - run.first.0 + 1;
        }
        self.bytes += u64::from(block.len);
        self.blocks.insert(
            id,
            BlockIndex {
                checksum: block.checksum,
                len: block.len,
                live,
                runs: block.runs.into(),
                placed: Box::from(block.placed.as_slice()),
            },
        );
        for (queue, seq, placement) in block.placed {
            self.queues
                .entry(queue)
                .or_default()
                .placed
                .insert(seq.0, placement);
            for piece in placement.blocks() {
                self.add_live(piece, 1);
            }
        }
        self.note_if_dead(id);
    }

    fn touch(&mut self, queue: QueueId, last: Seq) {
        let entry = self.queues.entry(queue).or_default();
        entry.next = entry.next.max(last.0.saturating_add(1));
        self.next_queue = self.next_queue.max(queue.0.saturating_add(1));
        self.dirty.queues.insert(queue);
    }

    fn add_live(&mut self, id: BlockId, count: u64) {
        if let Some(block) = self.blocks.get_mut(&id) {
            block.live += count;
            if self.dead.remove(&id) {
                self.dead_bytes -= u64::from(block.len);
            }
        }
    }

    fn drop_live(&mut self, id: BlockId, count: u64) {
        if let Some(block) = self.blocks.get_mut(&id) {
            block.live = block.live.saturating_sub(count);
        }
        self.note_if_dead(id);
    }

    fn note_if_dead(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.get(&id)
            && block.live == 0
            && self.dead.insert(id)
        {
            self.dead_bytes += u64::from(block.len);
        }
    }

    fn set_returned(&mut self, queue: QueueId, seq: Seq, count: u32) {
        if self.holds_any(queue, seq, seq) {
            self.touch(queue, seq);
            self.queues
                .entry(queue)
                .or_default()
                .returned
                .insert(seq.0, count);
        }
    }

    /// Settles whatever lives in a range.
    pub(super) fn settle(&mut self, queue: QueueId, first: Seq, last: Seq) {
        if !self.queues.contains_key(&queue) {
            return;
        }
        self.touch(queue, last);
        let Some(index) = self.queues.get_mut(&queue) else {
            return;
        };
        let mut freed = Vec::new();
        while let Some((start, live)) = index.first_overlap(first.0, last.0) {
            index.live.remove(&start);
            if start < first.0 {
                index.live.insert(
                    start,
                    Live {
                        last: first.0 - 1,
                        ..live
                    },
                );
            }
            if live.last > last.0 {
                index.live.insert(last.0 + 1, live);
            }
            freed.push((live.block, live.last.min(last.0) - start.max(first.0) + 1));
        }
        while let Some((&seq, _)) = index.returned.range(first.0..=last.0).next() {
            index.returned.remove(&seq);
        }
        while let Some((&seq, &placement)) = index.placed.range(first.0..=last.0).next() {
            index.placed.remove(&seq);
            freed.extend(placement.blocks().map(|piece| (piece, 1)));
        }
        for (block, count) in freed {
            self.drop_live(block, count);
        }
    }

    fn forget(&mut self, queue: QueueId) {
        self.settle(queue, Seq(0), Seq(u64::MAX));
        self.queues.remove(&queue);
        self.dirty.queues.insert(queue);
    }

    /// How many messages live.
    #[cfg(test)]
    pub(super) fn live(&self, queue: QueueId) -> Vec<(u64, u64)> {
        let runs = self
            .queues
            .get(&queue)
            .into_iter()
            .flat_map(|index| &index.live);
        runs.map(|(&first, live)| (first, live.last)).collect()
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

impl QueueIndex {
    /// The first run of live messages that overlaps a range.
    fn first_overlap(&self, first: u64, last: u64) -> Option<(u64, Live)> {
        let before = self
            .live
            .range(..=first)
            .next_back()
            .filter(|(_, live)| live.last >= first);
        let (&start, &live) = before.or_else(|| self.live.range(first..=last).next())?;
        Some((start, live))
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
                .is_some_and(|index| index.first_overlap(first.0, last.0).is_some())
    }

    fn knows_definition(&self, key: &[u8]) -> bool {
        self.definitions.contains(key)
    }
}
