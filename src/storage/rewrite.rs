//! Sparse blocks written anew: what lives of many goes into few.
//!
//! Blocks become sparse in two ways: almost all of one was settled, or it was never more than a message or
//! two, because a lone publisher waits for each commit. Both cost a whole entry in the index and a value on
//! disk. What still lives of them is written again as an ordinary commit, with the same queues and numbers.
//! The index lets the later place win, when it is written and when it is replayed, so the old blocks die and
//! go with the next checkpoint, and a crash at any moment is harmless.

use std::sync::Arc;

use bytes::Bytes;

use super::block::{self, BODY_MAX, BlockId};
use super::cut::{Message, Plan};
use super::frame::{Frame, Frames};
use super::index::Index;
use super::{Payload, QueueId, Seq, StoreRead};

/// The most blocks written anew in one commit: it holds up the commits behind it.
const BLOCKS_MAX: usize = 256;
/// Octets after which no further block is added to the commit.
const OCTETS_MAX: u64 = 1 << 20;
/// How many octets are worth a commit, however few blocks they are in: the new block is no sparse one.
const OCTETS_ENOUGH: u64 = BODY_MAX as u64 * 3 / 4;

/// A payload as it was stored before.
struct Again(Bytes);

impl Payload for Again {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// The blocks to write anew out of sparse ones, given in order with how many octets of each live. None
/// while too few have gathered to become at most half as many; `blocks_enough` are worth a commit however
/// little they hold.
pub(super) fn choose(
    sparse: impl Iterator<Item = (BlockId, u64)>,
    blocks_enough: usize,
) -> Vec<BlockId> {
    let mut chosen = Vec::new();
    let mut octets = 0;
    for (id, live) in sparse.take(BLOCKS_MAX) {
        if octets >= OCTETS_MAX {
            break;
        }
        octets += live;
        chosen.push(id);
    }
    let becomes = usize::try_from(octets.div_ceil(BODY_MAX as u64)).unwrap_or(usize::MAX);
    let enough = chosen.len() >= blocks_enough || octets >= OCTETS_ENOUGH;
    if !enough || becomes > chosen.len() / 2 {
        chosen.clear();
    }
    chosen
}

/// What to write for the blocks chosen.
#[derive(Default)]
pub(super) struct Rewrite {
    pub(super) plan: Plan,
    /// How many blocks die by it.
    pub(super) blocks: u64,
    /// Blocks that cannot be read: they are left as they are, for whoever reads their messages to be told.
    pub(super) unreadable: Vec<BlockId>,
}

/// Reads the live messages of blocks.
pub(super) fn plan(blocks: &[BlockId], index: &Index, reader: &dyn StoreRead) -> Rewrite {
    let mut rewrite = Rewrite::default();
    let mut octets = 0;
    for &id in blocks {
        // What was estimated from the mean may have been far more.
        if octets >= 2 * OCTETS_MAX {
            break;
        }
        let Some(messages) = live_messages(id, index, reader) else {
            rewrite.unreadable.push(id);
            continue;
        };
        rewrite.blocks += 1;
        for message in messages {
            octets += message.payload.encoded_len() as u64;
            for &(queue, seq) in std::iter::once(&message.reference).chain(&message.more) {
                let counts = index.queue(queue).map(|queue| queue.returned());
                if let Some(&count) = counts.and_then(|counts| counts.get(&seq.0)) {
                    rewrite.plan.returned.push((queue, seq, count));
                }
            }
            rewrite.plan.messages.push(message);
        }
    }
    rewrite
}

/// The live messages of a block, with the references that live; `None` if any of them cannot be read.
fn live_messages(id: BlockId, index: &Index, reader: &dyn StoreRead) -> Option<Vec<Message>> {
    let octets = reader.get(&id.key()).ok().flatten()?;
    let block = block::open(id, &octets).ok()?;
    (index.checksum(id) == Some(block.checksum)).then_some(())?;
    let mut messages = Vec::new();
    let mut found = 0_usize;
    let mut frames = Frames::new(block.frames);
    while let Some(frame) = frames.next_frame().ok()? {
        let Frame::Message {
            references,
            payload,
        } = frame
        else {
            continue;
        };
        let live: Vec<(QueueId, Seq)> = references
            .filter(|&(queue, seq)| index.lives_in(queue, seq, id))
            .collect();
        found += live.len();
        if let Some((&reference, more)) = live.split_first() {
            messages.push(Message {
                payload: Arc::new(Again(octets.slice_ref(payload))),
                reference,
                more: more.to_vec(),
            });
        }
    }
    (found == index.live_count(id) as usize).then_some(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LogIndex;

    fn blocks(count: u64, octets: u64) -> impl Iterator<Item = (BlockId, u64)> {
        (1..=count).map(move |commit| {
            let commit = LogIndex(commit);
            (BlockId { commit, part: 0 }, octets)
        })
    }

    #[test]
    fn few_blocks_wait_until_they_make_a_full_one_or_there_are_many() {
        assert!(choose(blocks(0, 0), 16).is_empty());
        assert!(choose(blocks(3, 15_000), 16).is_empty());
        assert_eq!(choose(blocks(4, 15_000), 16).len(), 4);
        assert!(choose(blocks(15, 100), 16).is_empty());
        assert_eq!(choose(blocks(16, 100), 16).len(), 16);
    }

    #[test]
    fn one_commit_takes_a_bounded_number_of_the_oldest() {
        assert_eq!(choose(blocks(10_000, 100), 16).len(), BLOCKS_MAX);
        let chosen = choose(blocks(10_000, 16_000), 16);
        assert_eq!(chosen.len(), 66);
        assert_eq!(chosen[0].commit, LogIndex(1));
    }
}
