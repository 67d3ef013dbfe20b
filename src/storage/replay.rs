//! From the blocks after the last checkpoint back to the effects of their commits.
//!
//! Commit numbers have no gaps, the final part of a commit sums up all others, and names the final part of
//! the commit before. So whatever is missing or damaged shows, and this is where it is told apart: a last
//! commit whose final part never came was not promised to anybody and is dropped; everything else that is
//! not whole is a loss, and what is left of it is kept.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::block::{self, BlockId, Final};
use super::effect::{Effect, StoredBlock};
use super::frame::{self, Frame, Frames, Placement, Run, last_of};
use super::index::Index;
use super::loss::Loss;
use super::runs::Runs;
use super::{LogIndex, QueueId, Seq, StorageError, StoreRead};

/// What the directory of a commit says about one of its parts.
#[derive(Debug, Clone, Default)]
struct Listed {
    checksum: u32,
    control: bool,
    runs: Vec<Run>,
}

/// One part of a commit, verified and read; payloads are left where they are.
#[derive(Debug, Default)]
pub(super) struct Part {
    checksum: u32,
    len: u32,
    last: Option<Final>,
    control: bool,
    runs: Vec<Run>,
    placed: Vec<(QueueId, Seq, Placement)>,
    settled: Vec<(QueueId, Vec<(Seq, Seq)>)>,
    returned: Vec<(QueueId, Seq, u32)>,
    forgotten: Vec<QueueId>,
    records: Vec<Vec<u8>>,
    records_at: Vec<Placement>,
    directory: BTreeMap<u32, Listed>,
}

impl Part {
    /// # Errors
    /// What is wrong with the block.
    pub(super) fn read(id: BlockId, octets: &[u8]) -> Result<Self, &'static str> {
        let block = block::open(id, octets)?;
        let mut part = Self {
            checksum: block.checksum,
            len: u32::try_from(octets.len()).map_err(|_| "it is too long")?,
            last: block.last,
            ..Self::default()
        };
        let mut runs = Runs::default();
        let mut frames = Frames::new(block.frames);
        while let Some(frame) = frames.next_frame()? {
            match frame {
                Frame::Message { references, .. } => {
                    references.for_each(|(queue, seq)| runs.add(queue, seq))
                }
                Frame::Placed {
                    placement,
                    references,
                } => {
                    for (queue, seq) in references {
                        runs.add(queue, seq);
                        part.placed.push((queue, seq, placement));
                    }
                }
                Frame::Piece { .. } => {}
                Frame::Directory {
                    part: number,
                    control,
                    checksum,
                    runs,
                } => {
                    let listed = part.directory.entry(number).or_default();
                    (listed.checksum, listed.control) = (checksum, control);
                    for [queue, first, more] in runs {
                        let last = last_of(first, more).ok_or("it lists impossible messages")?;
                        listed.runs.push(Run {
                            queue: QueueId(queue),
                            first: Seq(first),
                            last,
                        });
                    }
                }
                other => part.read_control(other)?,
            }
        }
        part.runs = runs.into_vec();
        Ok(part)
    }

    fn read_control(&mut self, frame: Frame<'_>) -> Result<(), &'static str> {
        self.control = true;
        match frame {
            Frame::Settled { queue, ranges } => {
                let range = |[first, more]: [u64; 2]| Some((Seq(first), last_of(first, more)?));
                let ranges: Option<Vec<_>> = ranges.map(range).collect();
                self.settled
                    .push((queue, ranges.ok_or("it settles impossible messages")?));
            }
            Frame::Returned { queue, seq, count } => self.returned.push((queue, seq, count)),
            Frame::Forgotten { queue } => self.forgotten.push(queue),
            Frame::Definition { record } => self.records.push(record.to_vec()),
            Frame::DefinitionAt { placement } => self.records_at.push(placement),
            Frame::Message { .. }
            | Frame::Placed { .. }
            | Frame::Piece { .. }
            | Frame::Directory { .. } => {}
        }
        Ok(())
    }

    /// What the index must know of the block.
    pub(super) fn into_stored(self, part: u32) -> StoredBlock {
        let Self {
            checksum,
            len,
            control,
            runs,
            placed,
            ..
        } = self;
        StoredBlock {
            part,
            checksum,
            len,
            control,
            runs,
            placed,
        }
    }
}

/// Puts the pieces of a payload together again; `None` if one is missing or damaged.
///
/// # Errors
/// The store could not be read.
pub(super) fn read_placed(
    reader: &dyn StoreRead,
    placement: Placement,
) -> Result<Option<Vec<u8>>, StorageError> {
    let mut whole = Vec::new();
    for id in placement.blocks() {
        let Some(octets) = reader.get(&id.key())? else {
            return Ok(None);
        };
        let piece =
            block::open(id, &octets).and_then(|block| Frames::new(block.frames).next_frame());
        let Ok(Some(Frame::Piece { octets })) = piece else {
            return Ok(None);
        };
        whole.extend_from_slice(octets);
    }
    Ok((whole.len() as u64 == placement.len).then_some(whole))
}

/// The log behind a checkpoint, being read.
pub(super) struct Replay<'a> {
    reader: &'a dyn StoreRead,
    index: &'a mut Index,
    /// The last commit that counts.
    pub(super) last: LogIndex,
    /// The checksum of its final part; `None` if that is lost.
    pub(super) checksum: Option<u32>,
    /// Bytes of the commits read.
    pub(super) bytes: u64,
    pub(super) losses: Vec<Loss>,
    /// Definitions as they were put, in order; for whoever asked for the recovery.
    pub(super) definitions: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Parts of a commit that never happened: to be removed before its number is used again.
    pub(super) torn: Vec<BlockId>,
    /// Damaged parts that hold nothing any more.
    pub(super) debris: Vec<BlockId>,
    /// Damaged parts of which only the directory's entry is left.
    pub(super) replaced: Vec<BlockId>,
    open: Option<OpenCommit>,
}

struct OpenCommit {
    commit: LogIndex,
    /// `None`: there, but damaged.
    parts: BTreeMap<u32, Option<Part>>,
}

impl<'a> Replay<'a> {
    /// Reads everything after commit `last`, whose final part has the given checksum, into `index`.
    ///
    /// # Errors
    /// The store could not be read. Damage is no error; it is in [`Replay::losses`].
    pub(super) fn run(
        reader: &'a dyn StoreRead,
        index: &'a mut Index,
        last: LogIndex,
        checksum: u32,
    ) -> Result<Self, StorageError> {
        let mut replay = Self {
            reader,
            index,
            last,
            checksum: Some(checksum),
            bytes: 0,
            losses: Vec::new(),
            definitions: Vec::new(),
            torn: Vec::new(),
            debris: Vec::new(),
            replaced: Vec::new(),
            open: None,
        };
        let from = BlockId {
            commit: LogIndex(last.0.saturating_add(1)),
            part: 0,
        };
        let mut failure = None;
        reader.scan(
            &from.key(),
            &[block::KEY_SPACE + 1],
            &mut |key, octets| match replay.part(key, octets) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        if let Some(error) = failure {
            return Err(error);
        }
        if let Some(open) = replay.open.take() {
            replay.finish(open, true)?;
        }
        Ok(replay)
    }

    fn part(&mut self, key: &[u8], octets: &[u8]) -> Result<(), StorageError> {
        let Some(id) = BlockId::from_key(key) else {
            // Not a key this program writes; nothing can refer to it.
            return Ok(());
        };
        if let Some(done) = self.open.take_if(|open| open.commit != id.commit) {
            self.finish(done, false)?;
        }
        self.bytes += octets.len() as u64;
        let open = self.open.get_or_insert_with(|| OpenCommit {
            commit: id.commit,
            parts: BTreeMap::new(),
        });
        open.parts.insert(id.part, Part::read(id, octets).ok());
        Ok(())
    }

    /// Decides what becomes of a commit all of whose parts have been seen.
    fn finish(&mut self, open: OpenCommit, is_last: bool) -> Result<(), StorageError> {
        let OpenCommit { commit, mut parts } = open;
        let is_final = |(&number, part): (&u32, &Option<Part>)| {
            part.as_ref()
                .and_then(|part| part.last)
                .filter(|last| last.parts.checked_sub(1) == Some(number))
        };
        let last = parts.iter().find_map(is_final);
        if commit.0 > self.last.0 + 1 {
            let (first, before) = (LogIndex(self.last.0 + 1), LogIndex(commit.0 - 1));
            self.losses.push(Loss::Commits {
                first,
                last: before,
            });
            self.last = before;
            self.checksum = None;
        }
        if last.is_none()
            && is_last
            && parts
                .last_key_value()
                .is_some_and(|(_, part)| part.is_some())
        {
            self.torn = parts
                .into_keys()
                .map(|part| BlockId { commit, part })
                .collect();
            return Ok(());
        }
        let mut whole = last.is_some();
        let mut blocks = Vec::new();
        if let Some(last) = last {
            // Behind the final part may be leftovers of a commit that never happened.
            let leftover = parts.split_off(&last.parts);
            self.debris
                .extend(leftover.into_keys().map(|part| BlockId { commit, part }));
            if self
                .checksum
                .is_some_and(|checksum| checksum != last.previous)
            {
                self.losses.push(Loss::Commits {
                    first: self.last,
                    last: self.last,
                });
            }
            let (replaced, intact) = replace_damaged(&mut parts, last);
            let ids = replaced.iter().map(|block| BlockId {
                commit,
                part: block.part,
            });
            self.replaced.extend(ids);
            blocks = replaced;
            whole = intact;
        }
        if !whole {
            self.losses.push(Loss::Commits {
                first: commit,
                last: commit,
            });
        }
        let mut effect = Effect {
            commit,
            checksum: 0,
            blocks,
            ..Effect::default()
        };
        for (number, part) in parts {
            match part {
                Some(part) => self.take_part(number, part, &mut effect)?,
                None => self.debris.push(BlockId {
                    commit,
                    part: number,
                }),
            }
        }
        effect.blocks.sort_unstable_by_key(|block| block.part);
        self.definitions.extend(effect.definitions.iter().cloned());
        self.last = commit;
        self.checksum = last.map(|_| effect.checksum);
        self.index.apply(effect);
        Ok(())
    }

    /// Adds what a part holds to the effect of its commit.
    fn take_part(
        &mut self,
        number: u32,
        mut part: Part,
        effect: &mut Effect,
    ) -> Result<(), StorageError> {
        if part.last.is_some() {
            effect.checksum = part.checksum;
        }
        effect.settled.append(&mut part.settled);
        effect.returned.append(&mut part.returned);
        effect.forgotten.append(&mut part.forgotten);
        let mut records = std::mem::take(&mut part.records);
        for placement in std::mem::take(&mut part.records_at) {
            match read_placed(self.reader, placement)? {
                Some(record) => records.push(record),
                None => self.losses.push(Loss::Commits {
                    first: effect.commit,
                    last: effect.commit,
                }),
            }
        }
        for record in records {
            match frame::read_record(&record) {
                Some((key, value)) => effect
                    .definitions
                    .push((key.to_vec(), value.map(<[u8]>::to_vec))),
                None => self.losses.push(Loss::Commits {
                    first: effect.commit,
                    last: effect.commit,
                }),
            }
        }
        effect.blocks.push(part.into_stored(number));
        Ok(())
    }
}

/// Takes the damaged parts out of a commit whose final part is whole. Those that held only messages are
/// replaced by what the directory says of them, so that reading the messages reports them one by one.
/// Returns these, and whether nothing else is lost.
fn replace_damaged(
    parts: &mut BTreeMap<u32, Option<Part>>,
    last: Final,
) -> (Vec<StoredBlock>, bool) {
    let mut directory = BTreeMap::new();
    for part in parts.values_mut().flatten() {
        directory.append(&mut part.directory);
    }
    let mut intact = true;
    let mut replaced = Vec::new();
    for number in 0..last.parts.saturating_sub(1) {
        let found = parts
            .get(&number)
            .and_then(Option::as_ref)
            .map(|part| part.checksum);
        match directory.remove(&number) {
            Some(listed) if found == Some(listed.checksum) => {}
            Some(listed) => {
                parts.remove(&number);
                intact &= !listed.control;
                replaced.push(StoredBlock {
                    part: number,
                    checksum: listed.checksum,
                    len: 0,
                    control: listed.control,
                    runs: listed.runs,
                    placed: Vec::new(),
                });
            }
            // Its entry was in another damaged part.
            None => intact = false,
        }
    }
    let others = parts.values().flatten().filter(|part| part.last.is_none());
    let digest = block::digest(others.map(|part| part.checksum));
    intact &= !replaced.is_empty() || digest == last.digest;
    (replaced, intact)
}
