//! From a store back to queues and definitions.
//!
//! The checkpoint's pages come first, then the commits after it are replayed into the same index the
//! writer goes on from, then the messages that turn out to live are read block by block. Nothing that is
//! missing or damaged stops a recovery, except what everything depends on; all of it is reported.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::block::{self, BlockId};
use super::checkpoint::{self, Checkpointer, QueueState};
use super::frame::{self, Frame, Frames, Run};
use super::index::{BlockIndex, Index};
use super::marker::Marker;
use super::meta::{self, Header, Identity};
use super::page::{Loaded, Owner, Pages};
use super::replay::{self, Part, Replay};
use super::{Change, LogIndex, QueueId, Seq, StorageError, Store, StoreRead};

/// What a store held.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Every definition, by key.
    pub definitions: BTreeMap<Vec<u8>, Bytes>,
    /// Every queue of which anything is stored; which of them are defined is for the caller to know.
    pub queues: HashMap<QueueId, RecoveredQueue>,
    /// Whether the store was closed in order (or is new).
    pub clean: bool,
    /// What was stored and cannot be read any more; empty unless the disk or somebody damaged the store.
    pub losses: Vec<Loss>,
    /// Above every queue identity that was ever stored. A queue that never held a stored message is known
    /// by its definition alone.
    pub next_queue: QueueId,
    /// The last commit on disk.
    pub last_commit: LogIndex,
}

/// What was stored of one queue.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RecoveredQueue {
    /// The next number to give: above every number that was ever stored.
    pub next_seq: Seq,
    /// In order of their numbers.
    pub messages: Vec<RecoveredMessage>,
}

/// One message as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// Its number in the queue.
    pub seq: Seq,
    /// How often it was returned, at least.
    pub returned: u32,
    /// What [`Payload::encode`](super::Payload::encode) wrote; shared by the queues of a fan-out.
    pub payload: Bytes,
}

/// Something that was stored and cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Messages of one queue. They are reported at every start until they are settled.
    Messages {
        /// The queue.
        queue: QueueId,
        /// The first lost message.
        first: Seq,
        /// The last lost message.
        last: Seq,
    },
    /// Commits of which it is not known any more what all of them held: messages and definitions may be
    /// missing, settled messages may be back.
    Commits {
        /// The first of them.
        first: LogIndex,
        /// The last of them.
        last: LogIndex,
    },
    /// What was settled of a queue: messages that were settled may be back.
    Settled {
        /// The queue.
        queue: QueueId,
    },
    /// Parts of the last checkpoint: definitions may be missing, settled messages may be back.
    Checkpoint {
        /// How many of its pages are known to be damaged; 0 if some are missing altogether.
        pages: u64,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages { queue, first, last } => {
                write!(
                    f,
                    "messages {first} to {last} of queue {queue} cannot be read"
                )
            }
            Self::Commits { first, last } => {
                write!(
                    f,
                    "commits {first} to {last} are damaged or missing; what they held is unknown"
                )
            }
            Self::Settled { queue } => {
                write!(
                    f,
                    "what was settled of queue {queue} cannot be read; settled messages may be back"
                )
            }
            Self::Checkpoint { pages } => {
                write!(
                    f,
                    "the last checkpoint is incomplete ({pages} damaged pages); definitions may be missing"
                )
            }
        }
    }
}

/// What the writer goes on from.
#[derive(Debug)]
pub(super) struct State {
    pub(super) identity: Identity,
    pub(super) index: Index,
    pub(super) checkpointer: Checkpointer,
    /// The last commit on disk.
    pub(super) last: LogIndex,
    /// The checksum of its final part; 0 if it is lost.
    pub(super) checksum: u32,
    /// Bytes of the commits behind the checkpoint.
    pub(super) bytes_since_checkpoint: u64,
}

/// Reads a store; gives an empty one its identity.
///
/// # Errors
/// The store cannot be read or written; it is of another format; its identity or its checkpoint's header
/// is damaged; it does not hold what the marker promises.
pub(super) fn recover(
    store: &mut dyn Store,
    marker: Option<&Marker>,
) -> Result<(State, Recovered), StorageError> {
    let reader = store.reader();
    let reader = reader.as_ref();
    let identity = match meta::read_identity(reader)? {
        Some(identity) => identity,
        None => give_identity(store, reader)?,
    };
    let found = Header::read(reader)?;
    let header = found.unwrap_or_default();
    let mut recovered = Recovered::default();
    let mut index = Index::default();
    let mut checkpointer = Checkpointer::default();
    let sweep = load_checkpoint(
        reader,
        header,
        &mut index,
        &mut checkpointer,
        &mut recovered,
    )?;

    let replay = Replay::run(reader, &mut index, header.commit, header.checksum)?;
    let Replay {
        last,
        checksum,
        bytes,
        losses,
        definitions,
        torn,
        debris,
        ..
    } = replay;
    recovered.losses.extend(losses);
    for (key, value) in definitions {
        match value {
            Some(value) => drop(recovered.definitions.insert(key, Bytes::from(value))),
            None => drop(recovered.definitions.remove(&key)),
        }
    }
    checkpointer.debris = debris;
    if let Some(marker) = marker
        && let Some(promised) = marker.check(identity, last)?
    {
        recovered.losses.push(Loss::Commits {
            first: LogIndex(last.0 + 1),
            last: promised,
        });
    }

    recovered.queues = read_messages(reader, &index, &mut recovered.losses)?;
    recovered.clean = found.is_none_or(|header| header.clean) && last == header.commit;
    recovered.next_queue = QueueId(index.next_queue());
    recovered.last_commit = last;

    let torn = torn.into_iter().map(BlockId::key);
    let mut changes: Vec<Change> = torn.chain(sweep).map(Change::Remove).collect();
    if header.clean {
        changes.push(
            Header {
                clean: false,
                ..header
            }
            .put(),
        );
    }
    if !changes.is_empty() {
        store.write(changes)?;
        store.sync()?;
    }
    let checksum = checksum.unwrap_or_default();
    Ok((
        State {
            identity,
            index,
            checkpointer,
            last,
            checksum,
            bytes_since_checkpoint: bytes,
        },
        recovered,
    ))
}

fn give_identity(store: &mut dyn Store, reader: &dyn StoreRead) -> Result<Identity, StorageError> {
    let mut holds_something = false;
    reader.scan(&[], &[u8::MAX], &mut |_, _| {
        holds_something = true;
        ControlFlow::Break(())
    })?;
    if holds_something {
        return Err(StorageError::Corrupt {
            what: "it holds something, but no identity".into(),
        });
    }
    let identity = Identity::random();
    store.write(vec![meta::put_identity(identity)])?;
    store.sync()?;
    Ok(identity)
}

/// Reads the pages in force. Returns the keys that must be gone before anything else is written: blocks
/// that the checkpoint set out to remove, and pages of one that was not finished.
fn load_checkpoint(
    reader: &dyn StoreRead,
    header: Header,
    index: &mut Index,
    checkpointer: &mut Checkpointer,
    recovered: &mut Recovered,
) -> Result<Vec<Vec<u8>>, StorageError> {
    let (pages, loaded) = Pages::load(reader, header.next_page, header.pages, header.sum)?;
    let Loaded {
        contents,
        mut damaged,
        unfinished,
        incomplete,
    } = loaded;
    checkpointer.pages = pages;
    checkpointer.next_slot = header.next_slot;
    let mut queues: HashMap<QueueId, QueueState> = HashMap::new();
    let mut blocks = Vec::new();
    let mut sweep = Vec::new();
    for (owner, content) in contents {
        let understood = match owner {
            Owner::Definition(slot) => match frame::read_record(&content) {
                Some((key, Some(value))) => {
                    checkpointer.slots.insert(key.to_vec(), slot);
                    index.restore_definition(key.to_vec());
                    recovered
                        .definitions
                        .insert(key.to_vec(), Bytes::copy_from_slice(value));
                    Some(())
                }
                _ => None,
            },
            Owner::Queues(_) => checkpoint::read_group(&content).map(|list| queues.extend(list)),
            Owner::Blocks(bucket) => {
                checkpoint::read_bucket(bucket, &content).map(|list| blocks.extend(list))
            }
            Owner::Sweep => checkpoint::read_sweep(&content).map(|list| sweep = list),
        };
        if understood.is_none() {
            damaged.push(owner);
        }
    }
    let whole = !incomplete && damaged.is_empty();
    if !whole {
        recovered.losses.push(Loss::Checkpoint {
            pages: damaged.len() as u64,
        });
        // Which pages are missing is unknown, so the blocks themselves are asked what they hold.
        sweep.clear();
        blocks = scan_blocks(reader, header.commit, &mut recovered.losses)?;
    }
    let mut unknown = Vec::new();
    for (commit, block) in blocks {
        let mut live = Vec::new();
        for &run in &block.runs {
            match queues.get(&run.queue) {
                Some(state) => live.extend(state.live_parts(run)),
                // A deleted queue, unless its page may be what is missing.
                None if whole => {}
                None => {
                    live.push(run);
                    unknown.push(run.queue);
                }
            }
        }
        index.restore_block(commit, block, &live);
    }
    for (queue, state) in queues {
        index.restore_queue(queue, state.next, state.returned);
    }
    unknown.sort_unstable();
    unknown.dedup();
    recovered
        .losses
        .extend(unknown.into_iter().map(|queue| Loss::Settled { queue }));
    index.restore_next_queue(header.next_queue);
    if whole {
        // What was just read is what the pages say.
        index.take_dirty();
        checkpointer.covered = header.commit;
    }
    let sweep = sweep.into_iter().map(BlockId::key);
    Ok(sweep.chain(unfinished).collect())
}

/// Reads what the blocks up to commit `last` hold, as a checkpoint would have listed it.
fn scan_blocks(
    reader: &dyn StoreRead,
    last: LogIndex,
    losses: &mut Vec<Loss>,
) -> Result<Vec<(LogIndex, super::effect::StoredBlock)>, StorageError> {
    let mut blocks = Vec::new();
    let end = BlockId {
        commit: LogIndex(last.0.saturating_add(1)),
        part: 0,
    };
    reader.scan(&[block::KEY_SPACE], &end.key(), &mut |key, octets| {
        if let Some(id) = BlockId::from_key(key) {
            match Part::read(id, octets) {
                Ok(part) => blocks.push((id.commit, part.into_stored(id.part))),
                Err(_) => losses.push(Loss::Commits {
                    first: id.commit,
                    last: id.commit,
                }),
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(blocks)
}

/// Reads every live message.
fn read_messages(
    reader: &dyn StoreRead,
    index: &Index,
    losses: &mut Vec<Loss>,
) -> Result<HashMap<QueueId, RecoveredQueue>, StorageError> {
    let mut queues: HashMap<QueueId, RecoveredQueue> = HashMap::new();
    for (queue, state) in index.queues() {
        queues.entry(queue).or_default().next_seq = state.next();
    }
    for (id, listed) in index
        .live_blocks()
        .filter(|(_, listed)| !listed.runs.is_empty())
    {
        let octets = reader.get(&id.key())?;
        let block = octets
            .as_deref()
            .and_then(|octets| block::open(id, octets).ok());
        match block.filter(|block| block.checksum == listed.checksum) {
            Some(block) => read_block(reader, index, id, block.frames, &mut queues, losses)?,
            None => report_block(index, id, listed, losses),
        }
    }
    for queue in queues.values_mut() {
        queue.messages.sort_unstable_by_key(|message| message.seq);
    }
    Ok(queues)
}

/// Reads the live messages of one block.
fn read_block(
    reader: &dyn StoreRead,
    index: &Index,
    id: BlockId,
    frames: &[u8],
    queues: &mut HashMap<QueueId, RecoveredQueue>,
    losses: &mut Vec<Loss>,
) -> Result<(), StorageError> {
    let mut frames = Frames::new(frames);
    // The block was read to its end when it was indexed, or by the checkpoint's writer.
    while let Ok(Some(frame)) = frames.next_frame() {
        let (references, payload) = match frame {
            Frame::Message {
                references,
                payload,
            } => (references, Ok(payload)),
            Frame::Placed {
                placement,
                references,
            } => (references, Err(placement)),
            _ => continue,
        };
        let live: Vec<_> = references
            .filter(|&(queue, seq)| index.lives_in(queue, seq, id))
            .collect();
        if live.is_empty() {
            continue;
        }
        let payload = match payload {
            // Copied, so that one message never keeps a whole block in memory.
            Ok(payload) => Some(Bytes::copy_from_slice(payload)),
            Err(placement) => replay::read_placed(reader, placement)?.map(Bytes::from),
        };
        for (queue, seq) in live {
            let Some(payload) = payload.clone() else {
                losses.push(Loss::Messages {
                    queue,
                    first: seq,
                    last: seq,
                });
                continue;
            };
            let counts = index.queue(queue).map(|state| state.returned());
            let returned = counts
                .and_then(|counts| counts.get(&seq.0))
                .copied()
                .unwrap_or_default();
            queues
                .entry(queue)
                .or_default()
                .messages
                .push(RecoveredMessage {
                    seq,
                    returned,
                    payload,
                });
        }
    }
    Ok(())
}

/// Reports the live messages of a block that cannot be read.
fn report_block(index: &Index, id: BlockId, listed: &BlockIndex, losses: &mut Vec<Loss>) {
    for &Run { queue, first, last } in &listed.runs {
        let parts = index.live_parts(Run { queue, first, last }, id);
        losses.extend(
            parts
                .into_iter()
                .map(|(first, last)| Loss::Messages { queue, first, last }),
        );
    }
}
