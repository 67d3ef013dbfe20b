//! From a plan to blocks: which block each message goes to.
//!
//! Queues share a commit's blocks. A queue that brings much to a commit beside others gets blocks of its
//! own, so that reading it back reads nothing else. A payload that is long, or that very many queues refer
//! to, goes to blocks of its own ahead of the frames that refer to it. Everything that is no message comes
//! last, then a directory of all blocks but the final one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::block::{self, BODY_MAX, BlockId, Final, HEADER_LEN};
use super::cut::{Message, Plan};
use super::effect::{Effect, StoredBlock};
use super::frame::{self, LIST_MAX, OVERHEAD_MAX, Placement};
use super::hash::NumberMap;
use super::runs::Runs;
use super::varint;
use super::{LogIndex, QueueId, Seq, StorageError, VALUE_SIZE_MAX};

/// The longest payload, or record, that shares a block with others.
const INLINE_MAX: usize = BODY_MAX / 2;
/// The most queues that may refer to a payload which shares a block with others.
const INLINE_REFERENCES_MAX: usize = 256;
/// The most payload octets a piece holds.
const PIECE_MAX: usize = BODY_MAX - OVERHEAD_MAX;
/// From how many payload octets in one commit on a queue gets blocks of its own.
const OWN_BLOCKS_FROM: usize = BODY_MAX / 2;

/// Takes each finished block; called in the order in which they must be written.
pub(super) type Sink<'a> = dyn FnMut(BlockId, Vec<u8>) -> Result<(), StorageError> + 'a;

/// Lays out `plan` as commit `commit`, whose predecessor's final part has the checksum `previous`.
///
/// # Errors
/// Those of the sink.
pub(super) fn lay_out(
    plan: Plan,
    commit: LogIndex,
    previous: u32,
    sink: &mut Sink<'_>,
) -> Result<Effect, StorageError> {
    let (own, expected) = own_blocks(&plan.messages);
    let out = Output {
        commit,
        sink,
        blocks: Vec::new(),
    };
    let mut layout = Layout {
        out,
        shared: Builder::new(expected),
        own,
    };
    let mut payload = Vec::new();
    for message in &plan.messages {
        payload.clear();
        message.payload.encode(&mut payload);
        layout.message(message, &payload)?;
    }
    for builder in layout
        .own
        .values_mut()
        .filter(|builder| !builder.is_empty())
    {
        layout.out.finish(builder, None)?;
    }
    layout.rest(&plan)?;
    let checksum = layout.directory_and_final(previous)?;
    let Plan {
        settled,
        returned,
        forgotten,
        definitions,
        ..
    } = plan;
    let blocks = layout.out.blocks;
    Ok(Effect {
        commit,
        checksum,
        blocks,
        settled,
        returned,
        forgotten,
        definitions,
    })
}

/// A builder for each queue that deserves its own blocks, and the octets expected in shared ones.
fn own_blocks(messages: &[Message]) -> (BTreeMap<QueueId, Builder>, usize) {
    let mut sizes: NumberMap<QueueId, usize> = NumberMap::default();
    let mut shared = 0;
    let mut others = false;
    for message in messages {
        let size = OVERHEAD_MAX + message.payload.encoded_len();
        others |= message.reference.0 != messages[0].reference.0 || !message.more.is_empty();
        if message.more.is_empty() {
            *sizes.entry(message.reference.0).or_default() += size;
        } else {
            shared += size;
        }
    }
    let mut own = BTreeMap::new();
    for (queue, size) in sizes {
        if others && size >= OWN_BLOCKS_FROM {
            own.insert(queue, Builder::new(size));
        } else {
            shared += size;
        }
    }
    (own, shared)
}

/// A block being filled.
struct Builder {
    octets: Vec<u8>,
    runs: Runs,
    placed: Vec<(QueueId, Seq, Placement)>,
    control: bool,
}

impl Builder {
    /// An empty block, expected to take about `octets`.
    fn new(octets: usize) -> Self {
        let mut block = Vec::with_capacity(VALUE_SIZE_MAX.min(HEADER_LEN + OVERHEAD_MAX + octets));
        block.resize(HEADER_LEN, 0);
        Self {
            octets: block,
            runs: Runs::default(),
            placed: Vec::new(),
            control: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.octets.len() == HEADER_LEN
    }

    fn has_room(&self, octets: usize) -> bool {
        self.octets.len() + octets <= HEADER_LEN + BODY_MAX
    }
}

struct Layout<'a, 'b> {
    out: Output<'a, 'b>,
    shared: Builder,
    own: BTreeMap<QueueId, Builder>,
}

impl Layout<'_, '_> {
    fn message(&mut self, message: &Message, payload: &[u8]) -> Result<(), StorageError> {
        let references: &[_] = &references(message);
        if payload.len() > INLINE_MAX || references.len() > INLINE_REFERENCES_MAX {
            return self.placed_message(references, payload);
        }
        let room = OVERHEAD_MAX + references.len() * 2 * varint::LEN_MAX + payload.len();
        let own = if references.len() == 1 {
            self.own.get_mut(&message.reference.0)
        } else {
            None
        };
        let builder = own.unwrap_or(&mut self.shared);
        self.out.make_room(builder, room)?;
        frame::put_message(&mut builder.octets, references, payload);
        references
            .iter()
            .for_each(|&(queue, seq)| builder.runs.add(queue, seq));
        Ok(())
    }

    fn placed_message(
        &mut self,
        references: &[(QueueId, Seq)],
        payload: &[u8],
    ) -> Result<(), StorageError> {
        let placement = self.out.place(payload)?;
        for references in references.chunks(LIST_MAX) {
            let builder = self.shared(OVERHEAD_MAX + references.len() * 2 * varint::LEN_MAX)?;
            frame::put_placed(&mut builder.octets, placement, references);
            for &(queue, seq) in references {
                builder.runs.add(queue, seq);
                builder.placed.push((queue, seq, placement));
            }
        }
        Ok(())
    }

    /// Everything that is no message.
    fn rest(&mut self, plan: &Plan) -> Result<(), StorageError> {
        for &queue in &plan.forgotten {
            frame::put_forgotten(&mut self.control(OVERHEAD_MAX)?.octets, queue);
        }
        for (queue, ranges) in &plan.settled {
            for ranges in ranges.chunks(LIST_MAX) {
                let builder = self.control(OVERHEAD_MAX + ranges.len() * 2 * varint::LEN_MAX)?;
                frame::put_settled(&mut builder.octets, *queue, ranges);
            }
        }
        for &(queue, seq, count) in &plan.returned {
            frame::put_returned(&mut self.control(OVERHEAD_MAX)?.octets, queue, seq, count);
        }
        for (key, value) in &plan.definitions {
            let record = frame::record(key, value.as_deref());
            if record.len() > INLINE_MAX {
                let placement = self.out.place(&record)?;
                frame::put_definition_at(&mut self.control(OVERHEAD_MAX)?.octets, placement);
            } else {
                frame::put_definition(
                    &mut self.control(OVERHEAD_MAX + record.len())?.octets,
                    &record,
                );
            }
        }
        Ok(())
    }

    /// Ends the commit; the checksum of its final part.
    fn directory_and_final(&mut self, previous: u32) -> Result<u32, StorageError> {
        // Writing the directory may finish further blocks, which then need their own entries.
        let mut listed = 0;
        while let Some(stored) = self.out.blocks.get(listed) {
            let StoredBlock {
                part,
                checksum,
                control,
                ..
            } = *stored;
            let runs = stored.runs.clone();
            // A part without runs is listed too: recovery must know that nothing but pieces was in it.
            for runs in runs
                .chunks(LIST_MAX)
                .chain(runs.is_empty().then_some(&runs[..]))
            {
                let builder = self.shared(OVERHEAD_MAX + runs.len() * 3 * varint::LEN_MAX)?;
                frame::put_directory(&mut builder.octets, part, control, checksum, runs);
            }
            listed += 1;
        }
        let last = Final {
            parts: self.out.next_part() + 1,
            digest: block::digest(self.out.blocks.iter().map(|block| block.checksum)),
            previous,
        };
        self.out.finish(&mut self.shared, Some(last))
    }

    /// The shared block, with room for as many octets.
    fn shared(&mut self, room: usize) -> Result<&mut Builder, StorageError> {
        self.out.make_room(&mut self.shared, room)?;
        Ok(&mut self.shared)
    }

    /// The shared block, for something that is no message.
    fn control(&mut self, room: usize) -> Result<&mut Builder, StorageError> {
        let builder = self.shared(room)?;
        builder.control = true;
        Ok(builder)
    }
}

/// Where finished blocks go.
struct Output<'a, 'b> {
    commit: LogIndex,
    sink: &'a mut Sink<'b>,
    /// Those finished so far.
    blocks: Vec<StoredBlock>,
}

impl Output<'_, '_> {
    fn next_part(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("a commit of 256 TiB does not fit in memory")
    }

    /// Writes octets into blocks of their own.
    fn place(&mut self, octets: &[u8]) -> Result<Placement, StorageError> {
        let part = self.next_part();
        // An empty payload has one empty piece, so that its references have a block to stand for it.
        for piece in octets
            .chunks(PIECE_MAX)
            .chain(octets.is_empty().then_some(octets))
        {
            let mut builder = Builder::new(piece.len());
            frame::put_piece(&mut builder.octets, piece);
            self.finish(&mut builder, None)?;
        }
        Ok(Placement {
            commit: self.commit,
            part,
            pieces: self.next_part() - part,
            len: octets.len() as u64,
        })
    }

    /// Finishes the block if there is no room for as many octets.
    fn make_room(&mut self, builder: &mut Builder, room: usize) -> Result<(), StorageError> {
        if !builder.has_room(room) {
            self.finish(builder, None)?;
            // It was full, so the next one will probably be.
            *builder = Builder::new(BODY_MAX);
        }
        Ok(())
    }

    /// Seals a block and hands it over; `builder` is empty afterwards. Returns the block's checksum.
    fn finish(&mut self, builder: &mut Builder, last: Option<Final>) -> Result<u32, StorageError> {
        let mut builder = std::mem::replace(builder, Builder::new(0));
        let id = BlockId {
            commit: self.commit,
            part: self.next_part(),
        };
        let checksum = block::seal(&mut builder.octets, id, last);
        self.blocks.push(StoredBlock {
            part: id.part,
            checksum,
            len: u32::try_from(builder.octets.len()).expect("a block has at most 64 KiB"),
            control: builder.control,
            runs: builder.runs.into_vec(),
            placed: builder.placed,
        });
        (self.sink)(id, builder.octets)?;
        Ok(checksum)
    }
}

/// Every place that refers to a message, in one list.
fn references(message: &Message) -> Cow<'_, [(QueueId, Seq)]> {
    if message.more.is_empty() {
        return Cow::Borrowed(std::slice::from_ref(&message.reference));
    }
    std::iter::once(message.reference)
        .chain(message.more.iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::Payload;
    use crate::storage::frame::Run;

    struct Zeros(usize);

    impl Payload for Zeros {
        fn encoded_len(&self) -> usize {
            self.0
        }

        fn encode(&self, out: &mut Vec<u8>) {
            out.resize(out.len() + self.0, 0);
        }
    }

    fn message(queue: u64, seq: u64, len: usize) -> Message {
        Message {
            payload: Arc::new(Zeros(len)),
            reference: (QueueId(queue), Seq(seq)),
            more: Vec::new(),
        }
    }

    /// The lengths of the blocks as they were handed over, and the effect.
    fn laid_out(messages: Vec<Message>) -> (Vec<usize>, Effect) {
        let plan = Plan {
            messages,
            ..Plan::default()
        };
        let mut lens = Vec::new();
        let mut sink = |id: BlockId, octets: Vec<u8>| {
            assert_eq!(id.part as usize, lens.len(), "in order of their parts");
            lens.push(octets.len());
            Ok(())
        };
        let effect = lay_out(plan, LogIndex(1), 0, &mut sink).unwrap();
        (lens, effect)
    }

    fn run(queue: u64, first: u64, last: u64) -> Run {
        Run {
            queue: QueueId(queue),
            first: Seq(first),
            last: Seq(last),
        }
    }

    #[test]
    fn a_small_commit_is_one_block() {
        let (lens, effect) = laid_out(vec![
            message(1, 1, 1000),
            message(2, 1, 1000),
            message(1, 2, 1000),
        ]);
        assert!(lens.len() == 1 && lens[0] < 3100, "{lens:?}");
        assert_eq!(effect.blocks[0].runs, [run(1, 1, 2), run(2, 1, 1)]);
    }

    #[test]
    fn no_block_is_longer_than_a_value_may_be() {
        for len in [
            0,
            1,
            1000,
            INLINE_MAX,
            INLINE_MAX + 1,
            PIECE_MAX,
            PIECE_MAX + 1,
            5 * PIECE_MAX,
            1_000_003,
        ] {
            let (lens, effect) =
                laid_out((1..=20).map(|seq| message(1 + seq % 2, seq, len)).collect());
            assert!(
                lens.iter().all(|&len| len <= VALUE_SIZE_MAX),
                "{len}: {lens:?}"
            );
            let stored: u64 = effect
                .blocks
                .iter()
                .flat_map(|block| &block.runs)
                .map(|run| run.last.0 - run.first.0 + 1)
                .sum();
            assert_eq!(stored, 20);
        }
    }

    #[test]
    fn a_queue_that_brings_much_beside_others_has_blocks_of_its_own() {
        let mut messages = Vec::new();
        for seq in 1..=100 {
            messages.push(message(1, seq, 1000));
            messages.push(message(2, seq, 10));
        }
        let (_, effect) = laid_out(messages);
        assert_eq!(effect.blocks.len(), 3);
        assert_eq!(effect.blocks[0].runs[0].first, Seq(1));
        assert!(
            effect.blocks[..2]
                .iter()
                .all(|block| block.runs.len() == 1 && block.runs[0].queue == QueueId(1))
        );
        assert_eq!(effect.blocks[2].runs, [run(2, 1, 100)]);
    }

    #[test]
    fn a_lone_queue_shares_its_blocks_with_the_rest_of_the_commit() {
        let (lens, _) = laid_out((1..=32).map(|seq| message(1, seq, 1000)).collect());
        assert_eq!(lens.len(), 1);
    }

    #[test]
    fn a_sink_that_fails_ends_the_layout() {
        let plan = Plan {
            messages: (1..=100).map(|seq| message(1, seq, 10_000)).collect(),
            ..Plan::default()
        };
        let mut calls = 0;
        let result = lay_out(plan, LogIndex(1), 0, &mut |_, _| {
            calls += 1;
            Err(StorageError::Closed)
        });
        assert!(result.is_err() && calls == 1);
    }
}
