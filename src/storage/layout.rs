//! From a plan to blocks: which block each message goes to.
//!
//! Queues share a commit's blocks. A queue that brings much to a commit beside others gets blocks of its
//! own, so that reading it back reads nothing else. A payload that is long, or that very many queues refer
//! to, goes to blocks of its own ahead of the frames that refer to it. Everything that is no message comes
//! last, then a directory of all blocks but the final one.

use std::borrow::Cow;
use std::collections::HashMap;

use super::block::{self, BODY_MAX, BlockId, Final, HEADER_LEN};
use super::cut::{Message, Plan};
use super::frame::{self, LIST_MAX, OVERHEAD_MAX, Placement};
use super::index::{Effect, StoredBlock};
use super::runs::Runs;
use super::varint;
use super::{LogIndex, QueueId, Seq, StorageError};

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
    let mut layout = Layout {
        commit,
        previous,
        sink,
        blocks: Vec::new(),
        shared: Builder::default(),
        own: own_blocks(&plan.messages),
        scratch: Vec::new(),
    };
    for message in &plan.messages {
        layout.message(message)?;
    }
    for (_, mut builder) in std::mem::take(&mut layout.own) {
        if !builder.is_empty() {
            layout.finish(&mut builder, None)?;
        }
    }
    layout.rest(&plan)?;
    let checksum = layout.directory_and_final()?;
    Ok(Effect {
        commit,
        checksum,
        blocks: layout.blocks,
        settled: plan.settled,
        returned: plan.returned,
        forgotten: plan.forgotten,
        definitions: plan.definitions,
    })
}

/// A builder for each queue that deserves its own blocks.
fn own_blocks(messages: &[Message]) -> HashMap<QueueId, Builder> {
    let mut sizes: HashMap<QueueId, usize> = HashMap::new();
    let mut others = false;
    for message in messages {
        others |= message.reference.0 != messages[0].reference.0 || !message.more.is_empty();
        if message.more.is_empty() {
            *sizes.entry(message.reference.0).or_default() += message.payload.encoded_len();
        }
    }
    sizes.retain(|_, size| others && *size >= OWN_BLOCKS_FROM);
    sizes
        .into_keys()
        .map(|queue| (queue, Builder::default()))
        .collect()
}

/// A block being filled.
struct Builder {
    octets: Vec<u8>,
    runs: Runs,
    placed: Vec<(QueueId, Seq, Placement)>,
    control: bool,
}

impl Default for Builder {
    fn default() -> Self {
        let octets = vec![0; HEADER_LEN];
        Self {
            octets,
            runs: Runs::default(),
            placed: Vec::new(),
            control: false,
        }
    }
}

impl Builder {
    fn is_empty(&self) -> bool {
        self.octets.len() == HEADER_LEN
    }

    fn has_room(&self, octets: usize) -> bool {
        self.octets.len() + octets <= HEADER_LEN + BODY_MAX
    }
}

struct Layout<'a, 'b> {
    commit: LogIndex,
    previous: u32,
    sink: &'a mut Sink<'b>,
    blocks: Vec<StoredBlock>,
    shared: Builder,
    own: HashMap<QueueId, Builder>,
    scratch: Vec<u8>,
}

impl Layout<'_, '_> {
    fn message(&mut self, message: &Message) -> Result<(), StorageError> {
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        message.payload.encode(&mut payload);
        let result = if payload.len() > INLINE_MAX || message.more.len() >= INLINE_REFERENCES_MAX {
            self.placed_message(message, &payload)
        } else {
            self.inline_message(message, &payload)
        };
        self.scratch = payload;
        result
    }

    fn inline_message(&mut self, message: &Message, payload: &[u8]) -> Result<(), StorageError> {
        let references: &[_] = &references(message);
        let room = OVERHEAD_MAX + references.len() * 2 * varint::LEN_MAX + payload.len();
        let queue = message.reference.0;
        if references.len() == 1
            && let Some(mut builder) = self.own.remove(&queue)
        {
            let result = self.make_room(&mut builder, room);
            frame::put_message(&mut builder.octets, references, payload);
            builder.runs.add(queue, message.reference.1);
            self.own.insert(queue, builder);
            return result;
        }
        let builder = self.shared(room)?;
        frame::put_message(&mut builder.octets, references, payload);
        references
            .iter()
            .for_each(|&(queue, seq)| builder.runs.add(queue, seq));
        Ok(())
    }

    fn placed_message(&mut self, message: &Message, payload: &[u8]) -> Result<(), StorageError> {
        let placement = self.place(payload)?;
        for references in references(message).chunks(LIST_MAX) {
            let builder = self.shared(OVERHEAD_MAX + references.len() * 2 * varint::LEN_MAX)?;
            frame::put_placed(&mut builder.octets, placement, references);
            for &(queue, seq) in references {
                builder.runs.add(queue, seq);
                builder.placed.push((queue, seq, placement));
            }
        }
        Ok(())
    }

    /// Writes octets into blocks of their own.
    fn place(&mut self, octets: &[u8]) -> Result<Placement, StorageError> {
        let part = self.next_part();
        let mut pieces = 0;
        // An empty payload has one empty piece, so that its references have a block to stand in.
        let mut rest = Some(octets);
        while let Some(octets) = rest {
            let (piece, after) = octets.split_at(octets.len().min(PIECE_MAX));
            let mut builder = Builder::default();
            frame::put_piece(&mut builder.octets, piece);
            self.finish(&mut builder, None)?;
            pieces += 1;
            rest = Some(after).filter(|after| !after.is_empty());
        }
        Ok(Placement {
            commit: self.commit,
            part,
            pieces,
            len: octets.len() as u64,
        })
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
                let placement = self.place(&record)?;
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
    fn directory_and_final(&mut self) -> Result<u32, StorageError> {
        // Writing the directory may finish further blocks, which then need their own entries.
        let mut listed = 0;
        while let Some(stored) = self.blocks.get(listed) {
            let StoredBlock {
                part,
                checksum,
                control,
                ..
            } = *stored;
            // A part without runs is listed too: recovery must know that nothing but pieces was in it.
            let runs = stored.runs.clone();
            let mut chunks = runs.chunks(LIST_MAX);
            let mut chunk = Some(chunks.next().unwrap_or_default());
            while let Some(runs) = chunk {
                let builder = self.shared(OVERHEAD_MAX + runs.len() * 3 * varint::LEN_MAX)?;
                frame::put_directory(&mut builder.octets, part, control, checksum, runs);
                chunk = chunks.next();
            }
            listed += 1;
        }
        let mut builder = std::mem::take(&mut self.shared);
        let last = Final {
            parts: self.next_part() + 1,
            digest: block::digest(self.blocks.iter().map(|block| block.checksum)),
            previous: self.previous,
        };
        self.finish(&mut builder, Some(last))
    }

    fn next_part(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("a commit of 256 TiB does not fit in memory")
    }

    /// The shared block, with room for as many octets.
    fn shared(&mut self, room: usize) -> Result<&mut Builder, StorageError> {
        let mut builder = std::mem::take(&mut self.shared);
        let result = self.make_room(&mut builder, room);
        self.shared = builder;
        result.map(|()| &mut self.shared)
    }

    /// The shared block, for something that is no message.
    fn control(&mut self, room: usize) -> Result<&mut Builder, StorageError> {
        let builder = self.shared(room)?;
        builder.control = true;
        Ok(builder)
    }

    fn make_room(&mut self, builder: &mut Builder, room: usize) -> Result<(), StorageError> {
        if !builder.has_room(room) {
            self.finish(builder, None)?;
        }
        Ok(())
    }

    /// Seals a block and hands it over; `builder` is empty afterwards. Returns the block's checksum.
    fn finish(&mut self, builder: &mut Builder, last: Option<Final>) -> Result<u32, StorageError> {
        let mut builder = std::mem::take(builder);
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
