//! What the writer does between commits: checkpoints, merging sparse blocks, removing dead ones.
//!
//! Everything here is done in bounded pieces, one after each commit, because the next commit waits for it;
//! a writer with nothing else to do goes on until nothing is left.

use std::time::{Duration, Instant};

use super::writer::Writer;
use super::{LogIndex, StorageError, rewrite};

/// How many keys are removed in one go, beside two for each block that the last commit wrote: so removing
/// outruns writing.
const REMOVES: usize = 32;
/// How long removing may go on before the next commit has its turn: a purge of a deep backlog stalls nobody.
/// The store may have to read what it forgets, so the time counts and not the number.
const SWEEP_TIME: Duration = Duration::from_millis(2);
/// How long an orderly close removes before it leaves the rest to the next start.
const SWEEP_TIME_AT_CLOSE: Duration = Duration::from_secs(2);

/// How far housekeeping has come.
#[derive(Debug)]
pub(super) struct Housekeeping {
    /// The commit of the last checkpoint.
    checkpointed: LogIndex,
    /// The last commit whose blocks, if they are sparse, have been there for a whole checkpoint interval.
    mature: LogIndex,
    /// Whether there may be enough mature sparse blocks to write anew.
    may_rewrite: bool,
    /// Blocks written since keys were last removed.
    blocks_written: usize,
}

impl Housekeeping {
    /// For a log whose last checkpoint covers commits up to `checkpointed`.
    pub(super) fn new(checkpointed: LogIndex) -> Self {
        Self {
            checkpointed,
            mature: LogIndex(0),
            may_rewrite: false,
            blocks_written: 0,
        }
    }

    /// Notes a commit of some blocks.
    pub(super) fn written(&mut self, blocks: usize) {
        self.blocks_written += blocks;
    }
}

impl Writer {
    /// Does one piece of what is to be done; whether there was any.
    pub(super) fn housekeep(&mut self) -> Result<bool, StorageError> {
        if self.is_checkpoint_due() {
            self.checkpoint(false)?;
            return Ok(true);
        }
        if let Some(marker) = &mut self.marker
            && marker.is_due(self.state.last, self.options.marker_interval)
        {
            marker.write(self.state.identity, self.state.last)?;
        }
        if self.sweep(SWEEP_TIME)? {
            return Ok(true);
        }
        self.rewrite_sparse()
    }

    /// Removes what nothing needs any more until nothing is left or `time` is over; whether there was
    /// anything.
    fn sweep(&mut self, time: Duration) -> Result<bool, StorageError> {
        let mut removes = REMOVES + 2 * std::mem::take(&mut self.housekeeping.blocks_written);
        let from = Instant::now();
        let mut swept = false;
        while self
            .state
            .checkpointer
            .sweep(self.store.as_mut(), removes)?
        {
            swept = true;
            if from.elapsed() >= time {
                break;
            }
            removes = REMOVES;
        }
        Ok(swept)
    }

    fn is_checkpoint_due(&self) -> bool {
        let since = self.state.last.0 - self.housekeeping.checkpointed.0;
        let (_, _, dead_bytes) = self.state.index.read().totals();
        let options = &self.options;
        since >= options.checkpoint_commits
            || self.state.bytes_since_checkpoint >= options.checkpoint_bytes
            || dead_bytes >= options.checkpoint_dead_bytes
    }

    fn checkpoint(&mut self, clean: bool) -> Result<(), StorageError> {
        let state = &mut self.state;
        let written = state.checkpointer.write(
            self.store.as_mut(),
            &state.index,
            state.last,
            state.checksum,
            clean,
        )?;
        state.bytes_since_checkpoint = 0;
        self.housekeeping.mature = self.housekeeping.checkpointed;
        self.housekeeping.checkpointed = self.state.last;
        self.housekeeping.may_rewrite = true;
        if let Some(marker) = &mut self.marker {
            marker.write(self.state.identity, self.state.last)?;
        }
        let store_bytes = self.store.stats().size_on_disk_bytes;
        self.publish_stats(|stats| {
            stats.store_bytes = store_bytes;
            stats.checkpoints += 1;
            stats.syncs += 2;
            stats.bytes_written += written;
        });
        Ok(())
    }

    /// Writes some sparse blocks anew if enough have gathered; whether it did.
    fn rewrite_sparse(&mut self) -> Result<bool, StorageError> {
        if !self.housekeeping.may_rewrite {
            return Ok(false);
        }
        let index = self.state.index.read();
        let sparse = index.sparse(self.housekeeping.mature);
        let chosen = rewrite::choose(sparse, self.options.rewrite_blocks);
        if chosen.is_empty() {
            self.housekeeping.may_rewrite = false;
            return Ok(false);
        }
        let rewrite = rewrite::plan(&chosen, &index, self.store.reader().as_ref());
        drop(index);
        if !rewrite.unreadable.is_empty() {
            let mut index = self.state.index.write();
            rewrite.unreadable.iter().for_each(|&id| index.leave(id));
        }
        if !rewrite.plan.is_empty() {
            self.write_commit(rewrite.plan, |stats| {
                stats.blocks_rewritten += rewrite.blocks;
            })?;
        }
        Ok(true)
    }

    /// The last words of an orderly close.
    pub(super) fn finish(&mut self) -> Result<(), StorageError> {
        self.checkpoint(true)?;
        self.sweep(SWEEP_TIME_AT_CLOSE)?;
        self.store.sync()
    }
}
