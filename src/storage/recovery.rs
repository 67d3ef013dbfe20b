//! From a store back to queues and definitions.
//!
//! The checkpoint's pages come first, then the commits after it are replayed into the same index the
//! writer goes on from. Messages are not read, so a deep backlog costs nothing here: damage to them shows
//! when they are, unless verifying was asked for. Nothing that is missing or damaged stops a recovery,
//! except what everything depends on; all of it is reported.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::block::{self, BlockId};
use super::checkpoint::{self, Checkpointer, QueueState};
use super::frame::{self, Run};
use super::index::Index;
use super::loss::Loss;
use super::marker::Marker;
use super::meta::{self, Header, Identity};
use super::page::{Loaded, Owner, Pages};
use super::queue_index::QueueIndex;
use super::replay::{Part, Replay};
use super::{Change, LogIndex, QueueId, Seq, StorageError, Store, StoreRead, verify};

/// What a store held.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Every definition, by key.
    pub definitions: BTreeMap<Vec<u8>, Bytes>,
    /// Every queue of which anything is stored; which of them are defined is for the caller to know.
    pub queues: HashMap<QueueId, RecoveredQueue>,
    /// Whether the store was closed in order (or is new).
    pub clean: bool,
    /// What was stored and is known to be lost; empty unless the disk or somebody damaged the store. More may
    /// show when messages are read.
    pub losses: Vec<Loss>,
    /// Above every queue identity that was ever stored. A queue that never held a stored message is known
    /// by its definition alone.
    pub next_queue: QueueId,
    /// The last commit on disk.
    pub last_commit: LogIndex,
}

/// What is stored of one queue. The messages themselves are read with [`Journal::read`](super::Journal::read).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RecoveredQueue {
    /// The next number to give: above every number that was ever stored.
    pub next_seq: Seq,
    /// The messages that are not settled, as (first, last): ascending, disjoint. What is already known to
    /// be lost is left out; see [`Recovered::losses`].
    pub live: Vec<(Seq, Seq)>,
    /// How often a message was returned, at least; only those that were.
    pub returned: BTreeMap<Seq, u32>,
    /// About how many bytes the messages have, from the lengths of their blocks.
    pub bytes: u64,
}

impl RecoveredQueue {
    /// How many messages are not settled.
    #[must_use]
    pub fn len(&self) -> u64 {
        let count = |&(first, last): &(Seq, Seq)| last.0 - first.0 + 1;
        self.live.iter().map(count).sum()
    }

    /// Whether every message is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    fn of(index: &Index, queue: &QueueIndex) -> Self {
        let live = queue.live_ranges().into_iter();
        let returned = queue.returned().iter();
        Self {
            next_seq: queue.next(),
            live: live.map(|(first, last)| (Seq(first), Seq(last))).collect(),
            returned: returned.map(|(&seq, &count)| (Seq(seq), count)).collect(),
            bytes: index.live_bytes(queue),
        }
    }

    /// Leaves out messages that are lost.
    fn leave_out(&mut self, first: Seq, last: Seq) {
        let rest = |&(from, to): &(Seq, Seq)| {
            let before = (first > from).then(|| (from, to.min(Seq(first.0 - 1))));
            let after = (last < to).then(|| (from.max(Seq(last.0 + 1)), to));
            let parts = before.into_iter().chain(after);
            parts.filter(|(from, to)| from <= to).collect::<Vec<_>>()
        };
        self.live = self.live.iter().flat_map(rest).collect();
        self.returned.retain(|&seq, _| seq < first || seq > last);
    }
}

/// What the writer goes on from.
#[derive(Debug)]
pub(super) struct State {
    pub(super) identity: Identity,
    pub(super) index: Arc<RwLock<Index>>,
    pub(super) checkpointer: Checkpointer,
    /// The last commit on disk.
    pub(super) last: LogIndex,
    /// The checksum of its final part; 0 if it is lost.
    pub(super) checksum: u32,
    /// Bytes of the commits behind the checkpoint.
    pub(super) bytes_since_checkpoint: u64,
}

/// Reads what a store needs to go on, and gives an empty one its identity. Messages stay where they are,
/// unless `verify` has all of them read once.
///
/// # Errors
/// The store cannot be read or written; it is of another format; its identity or its checkpoint's header
/// is damaged; it does not hold what the marker promises.
pub(super) fn recover(
    store: &mut dyn Store,
    marker: Option<&Marker>,
    verify: bool,
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
    let unfinished = load_checkpoint(
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
        replaced,
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

    let known = replaced.into_iter().flat_map(|id| index.live_in(id));
    let lost: Vec<Run> = if verify {
        verify::lost_messages(reader, &index)
    } else {
        known.collect()
    };
    recovered.queues = index
        .queues()
        .map(|(queue, state)| (queue, RecoveredQueue::of(&index, state)))
        .collect();
    for Run { queue, first, last } in lost {
        if let Some(found) = recovered.queues.get_mut(&queue) {
            found.leave_out(first, last);
        }
        recovered.losses.push(Loss::Messages { queue, first, last });
    }
    recovered.clean = found.is_none_or(|header| header.clean) && last == header.commit;
    recovered.next_queue = QueueId(index.next_queue());
    recovered.last_commit = last;

    let torn = torn.into_iter().map(BlockId::key);
    let mut changes: Vec<Change> = torn.chain(unfinished).map(Change::Remove).collect();
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
            index: Arc::new(RwLock::new(index)),
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

/// Reads the pages in force. Returns the keys that must be gone before anything else is written: pages of a
/// checkpoint that was not finished.
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
    // Some of them may be gone already.
    checkpointer.sweep.add_blocks(sweep);
    Ok(unfinished)
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
