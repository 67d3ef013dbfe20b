//! Which messages of one queue live, and where.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::Seq;
use super::block::BlockId;
use super::frame::Placement;

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
    /// Whether it has changed since the last checkpoint.
    dirty: bool,
}

/// How many messages no longer need which block.
pub(super) type Freed = SmallVec<[(BlockId, u64); 4]>;

impl QueueIndex {
    /// Above every number ever stored.
    pub(super) fn next(&self) -> Seq {
        Seq(self.next)
    }

    /// Makes sure that numbers below `next` are never given again.
    pub(super) fn reach(&mut self, next: Seq) {
        self.next = self.next.max(next.0);
    }

    /// Notes a change; whether it is the first since the last checkpoint.
    pub(super) fn make_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Notes a checkpoint.
    pub(super) fn make_clean(&mut self) {
        self.dirty = false;
    }

    /// Adds live messages whose frames are in one block; none of them may live already.
    pub(super) fn insert(&mut self, first: Seq, last: Seq, block: BlockId) {
        let last = last.0;
        self.live.insert(first.0, Live { last, block });
    }

    /// Says where the payload of a live message is.
    pub(super) fn place(&mut self, seq: Seq, placement: Placement) {
        self.placed.insert(seq.0, placement);
    }

    /// Says how often a live message was returned.
    pub(super) fn set_returned(&mut self, seq: Seq, count: u32) {
        self.returned.insert(seq.0, count);
    }

    /// Settles whatever lives in a range.
    pub(super) fn settle(&mut self, first: Seq, last: Seq) -> Freed {
        let (first, last) = (first.0, last.0);
        let mut freed = Freed::new();
        while let Some((start, live)) = self.first_overlap(first, last) {
            self.live.remove(&start);
            if start < first {
                let last = first - 1;
                self.live.insert(start, Live { last, ..live });
            }
            if live.last > last {
                self.live.insert(last + 1, live);
            }
            freed.push((live.block, live.last.min(last) - start.max(first) + 1));
        }
        while let Some((&seq, _)) = self.returned.range(first..=last).next() {
            self.returned.remove(&seq);
        }
        while let Some((&seq, &placement)) = self.placed.range(first..=last).next() {
            self.placed.remove(&seq);
            freed.extend(placement.blocks().map(|piece| (piece, 1)));
        }
        freed
    }

    /// Whether any message of a range lives.
    pub(super) fn holds_any(&self, first: Seq, last: Seq) -> bool {
        self.first_overlap(first.0, last.0).is_some()
    }

    /// The block with the frame of a live message.
    pub(super) fn block_of(&self, seq: Seq) -> Option<BlockId> {
        self.first_overlap(seq.0, seq.0).map(|(_, live)| live.block)
    }

    /// Where the live messages of a range are, in order: (first, last, block).
    pub(super) fn places(
        &self,
        first: Seq,
        last: Seq,
    ) -> impl Iterator<Item = (Seq, Seq, BlockId)> {
        // The first may begin before the range.
        let from = self.first_overlap(first.0, last.0);
        let runs = from.map(|(start, _)| self.live.range(start..=last.0));
        runs.into_iter().flatten().map(move |(&start, live)| {
            let (first, last) = (start.max(first.0), live.last.min(last.0));
            (Seq(first), Seq(last), live.block)
        })
    }

    /// Where the payloads of live messages are that do not share a block with others.
    pub(super) fn placed(&self) -> impl Iterator<Item = Placement> {
        self.placed.values().copied()
    }

    /// Live messages as (first, last), those of several blocks joined where the numbers are consecutive.
    pub(super) fn live_ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (&first, live) in &self.live {
            match ranges.last_mut() {
                Some(range) if range.1.checked_add(1) == Some(first) => range.1 = live.last,
                _ => ranges.push((first, live.last)),
            }
        }
        ranges
    }

    /// Live messages that were returned, with how often.
    pub(super) fn returned(&self) -> &BTreeMap<u64, u32> {
        &self.returned
    }

    /// The first run of live messages that overlaps a range.
    fn first_overlap(&self, first: u64, last: u64) -> Option<(u64, Live)> {
        if first > last {
            return None;
        }
        let before = self
            .live
            .range(..=first)
            .next_back()
            .filter(|(_, live)| live.last >= first);
        let (&start, &live) = before.or_else(|| self.live.range(first..=last).next())?;
        Some((start, live))
    }
}
