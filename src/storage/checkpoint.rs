//! Checkpoints: the state a restart begins from, so that it need not read the whole log.
//!
//! A checkpoint says, as of its commit: every definition; for each queue which numbers live, how often
//! messages were returned, and the next number; for each block still needed its checksum and which
//! messages it holds. Only what changed since the last checkpoint is written ([`super::page`]). Once it is
//! durable, blocks that nothing needs are removed, a little at a time: never before, because a block's
//! settles would come back to life with it gone.

use std::collections::{BTreeSet, HashMap};

use parking_lot::RwLock;

use super::batch::Batch;
use super::block::BlockId;
use super::effect::StoredBlock;
use super::frame::{self, Placement, Run};
use super::index::{Dirty, Index, bucket_start};
use super::meta::Header;
use super::page::{Owner, Pages};
use super::sweep::Sweep;
use super::varint::{self, Reader};
use super::{LogIndex, QueueId, Seq, StorageError, Store};

/// Writes checkpoints.
#[derive(Debug, Default)]
pub(super) struct Checkpointer {
    pub(super) pages: Pages,
    /// The page slot of each definition.
    pub(super) slots: HashMap<Vec<u8>, u64>,
    pub(super) next_slot: u64,
    /// The commit of the last checkpoint whose pages are whole.
    pub(super) covered: LogIndex,
    /// Keys of blocks that are in no index and have to go.
    pub(super) debris: Vec<BlockId>,
    /// What nothing needs any more by the checkpoint in force.
    pub(super) sweep: Sweep,
}

impl Checkpointer {
    /// Writes a checkpoint as of commit `last`, whose final part has the given checksum. What is not needed
    /// any more is left to [`Checkpointer::sweep`]. Returns the bytes written.
    ///
    /// The index is locked only while a page is put together, never while the store is written to; nobody
    /// else changes it.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn write(
        &mut self,
        store: &mut dyn Store,
        index: &RwLock<Index>,
        last: LogIndex,
        checksum: u32,
        clean: bool,
    ) -> Result<u64, StorageError> {
        let tombstones = self.pages.take_tombstones();
        let mut batch = Batch::new(store);
        self.write_pages(index, &mut batch)?;
        let dead: Vec<BlockId> = index.read().dead().chain(self.debris.drain(..)).collect();
        let sweep: Vec<BlockId> = self.sweep.blocks().chain(dead.iter().copied()).collect();
        let mut changes = Vec::new();
        if sweep.is_empty() {
            self.pages.remove(Owner::Sweep, &mut changes);
        } else {
            self.pages
                .put(Owner::Sweep, &put_sweep(&sweep), &mut changes);
        }
        batch.extend(changes)?;
        let written = batch.finish()?;
        // The header must never be there without its pages.
        store.sync()?;
        let header = Header {
            commit: last,
            checksum,
            next_page: self.pages.next(),
            pages: self.pages.count(),
            sum: self.pages.sum(),
            next_slot: self.next_slot,
            next_queue: index.read().next_queue(),
            clean,
        };
        store.write(vec![header.put()])?;
        store.sync()?;
        self.covered = last;
        index.write().bury();
        self.sweep.add_blocks(dead);
        self.sweep.add_pages(self.pages.take_outdated());
        self.sweep.add_pages(tombstones);
        Ok(written)
    }

    /// Removes some of what checkpoints left to be removed, `max` keys at most; whether there was anything.
    ///
    /// The removals need no sync: the checkpoint in force lists what they are about.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn sweep(
        &mut self,
        store: &mut dyn Store,
        max: usize,
    ) -> Result<bool, StorageError> {
        let changes = self.sweep.take(max);
        if changes.is_empty() {
            return Ok(false);
        }
        store.write(changes)?;
        Ok(true)
    }

    fn write_pages(
        &mut self,
        index: &RwLock<Index>,
        batch: &mut Batch<'_>,
    ) -> Result<(), StorageError> {
        let Dirty {
            queues,
            definitions,
        } = index.write().take_dirty();
        let mut changes = Vec::new();
        let groups: BTreeSet<u64> = queues.into_iter().map(group_of).collect();
        for group in groups {
            let owner = Owner::Queues(group);
            let content = put_group(group, &index.read());
            if content.is_empty() {
                self.pages.remove(owner, &mut changes);
            } else {
                self.pages.put(owner, &content, &mut changes);
            }
            batch.extend(changes.drain(..))?;
        }
        for (key, value) in definitions {
            if let Some(value) = value {
                let record = frame::record(&key, Some(&value));
                let slot = *self.slots.entry(key).or_insert_with(|| {
                    self.next_slot += 1;
                    self.next_slot - 1
                });
                self.pages
                    .put(Owner::Definition(slot), &record, &mut changes);
            } else if let Some(slot) = self.slots.remove(&key) {
                self.pages.remove(Owner::Definition(slot), &mut changes);
            }
            batch.extend(changes.drain(..))?;
        }
        let changed = index.read().changed_buckets(self.covered);
        for bucket in changed {
            let content = put_bucket(bucket, &index.read());
            if content.is_empty() {
                self.pages.remove(Owner::Blocks(bucket), &mut changes);
            } else {
                self.pages
                    .put(Owner::Blocks(bucket), &content, &mut changes);
            }
            batch.extend(changes.drain(..))?;
        }
        Ok(())
    }
}

/// How many queues share a page: with thousands of busy queues it is the number of pages that costs.
const GROUP_QUEUES: u64 = 64;

/// The group whose page describes a queue.
fn group_of(queue: QueueId) -> u64 {
    queue.0 / GROUP_QUEUES
}

/// The state of the queues of a group; empty if nothing is stored of any.
fn put_group(group: u64, index: &Index) -> Vec<u8> {
    let mut out = Vec::new();
    let first = group * GROUP_QUEUES;
    for number in first..=first.saturating_add(GROUP_QUEUES - 1) {
        if let Some(queue) = index.queue(QueueId(number)) {
            let state = QueueState::of(queue).put();
            varint::put_all(&mut out, [number, state.len() as u64]);
            out.extend_from_slice(&state);
        }
    }
    out
}

/// The queues that a group's page describes; `None` if the content is malformed.
pub(super) fn read_group(content: &[u8]) -> Option<Vec<(QueueId, QueueState)>> {
    let mut reader = Reader::new(content);
    let mut queues = Vec::new();
    while !reader.is_empty() {
        let queue = QueueId(reader.number()?);
        queues.push((queue, QueueState::read(reader.octets()?)?));
    }
    Some(queues)
}

/// What a page says of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct QueueState {
    pub(super) next: Seq,
    /// Ascending, disjoint.
    pub(super) live: Vec<(u64, u64)>,
    pub(super) returned: Vec<(Seq, u32)>,
}

impl QueueState {
    fn of(queue: &super::queue_index::QueueIndex) -> Self {
        let returned = queue
            .returned()
            .iter()
            .map(|(&seq, &count)| (Seq(seq), count))
            .collect();
        Self {
            next: queue.next(),
            live: queue.live_ranges(),
            returned,
        }
    }

    fn put(&self) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put(&mut out, self.next.0);
        varint::put(&mut out, self.live.len() as u64);
        let mut end = 0;
        for &(first, last) in &self.live {
            varint::put(&mut out, first - end);
            varint::put(&mut out, last - first);
            end = last;
        }
        for (seq, count) in &self.returned {
            varint::put(&mut out, seq.0);
            varint::put(&mut out, u64::from(*count));
        }
        out
    }

    /// `None` if the content is malformed.
    fn read(content: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let mut state = Self {
            next: Seq(reader.number()?),
            ..Self::default()
        };
        let mut end = 0_u64;
        for _ in 0..reader.number()? {
            let first = end.checked_add(reader.number()?)?;
            end = first.checked_add(reader.number()?)?;
            state.live.push((first, end));
        }
        while !reader.is_empty() {
            state
                .returned
                .push((Seq(reader.number()?), reader.number_u32()?));
        }
        Some(state)
    }

    /// The parts of a block's run that live.
    pub(super) fn live_parts(&self, run: Run) -> impl Iterator<Item = Run> {
        let from = self.live.partition_point(|&(_, last)| last < run.first.0);
        self.live[from..]
            .iter()
            .take_while(move |&&(first, _)| first <= run.last.0)
            .map(move |&(first, last)| Run {
                queue: run.queue,
                first: Seq(first.max(run.first.0)),
                last: Seq(last.min(run.last.0)),
            })
    }
}

/// The live blocks of a bucket; empty if there are none.
fn put_bucket(bucket: u64, index: &Index) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, block) in index.bucket(bucket) {
        let commit = id.commit.0 - bucket_start(bucket).0;
        varint::put_all(&mut out, [commit, u64::from(id.part), u64::from(block.len)]);
        out.extend_from_slice(&block.checksum.to_be_bytes());
        varint::put(&mut out, block.runs.len() as u64);
        for Run { queue, first, last } in &block.runs {
            varint::put_all(&mut out, [queue.0, first.0, last.0 - first.0]);
        }
        varint::put(&mut out, block.placed.len() as u64);
        for (queue, seq, placement) in &block.placed {
            varint::put_all(&mut out, [queue.0, seq.0]);
            placement.put(&mut out);
        }
    }
    out
}

/// The blocks a bucket's page lists; `None` if the content is malformed.
pub(super) fn read_bucket(bucket: u64, content: &[u8]) -> Option<Vec<(LogIndex, StoredBlock)>> {
    let mut reader = Reader::new(content);
    let mut blocks = Vec::new();
    while !reader.is_empty() {
        let commit = LogIndex(bucket_start(bucket).0.checked_add(reader.number()?)?);
        let (part, len) = (reader.number_u32()?, reader.number_u32()?);
        let checksum = reader.u32_be()?;
        let mut runs = Vec::new();
        for _ in 0..reader.number()? {
            let (queue, first) = (QueueId(reader.number()?), Seq(reader.number()?));
            runs.push(Run {
                queue,
                first,
                last: frame::last_of(first.0, reader.number()?)?,
            });
        }
        let mut placed = Vec::new();
        for _ in 0..reader.number()? {
            let (queue, seq) = (QueueId(reader.number()?), Seq(reader.number()?));
            placed.push((queue, seq, Placement::read(&mut reader)?));
        }
        // Whether it held anything besides messages matters only until the checkpoint.
        blocks.push((
            commit,
            StoredBlock {
                part,
                checksum,
                len,
                control: false,
                runs,
                placed,
            },
        ));
    }
    Some(blocks)
}

fn put_sweep(blocks: &[BlockId]) -> Vec<u8> {
    let mut out = Vec::new();
    for id in blocks {
        varint::put(&mut out, id.commit.0);
        varint::put(&mut out, u64::from(id.part));
    }
    out
}

/// The blocks that a checkpoint set out to remove; `None` if the content is malformed.
pub(super) fn read_sweep(content: &[u8]) -> Option<Vec<BlockId>> {
    let mut reader = Reader::new(content);
    let mut blocks = Vec::new();
    while !reader.is_empty() {
        blocks.push(BlockId {
            commit: LogIndex(reader.number()?),
            part: reader.number_u32()?,
        });
    }
    Some(blocks)
}
