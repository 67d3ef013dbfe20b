//! The one thread that writes: cut, write, sync, wake.
//!
//! No timer when idle: it sleeps until somebody brings work. While it writes and syncs, work piles up and
//! becomes the next commit. Any error, and any panic, ends the log for good: waiters are woken to see it,
//! nothing is tried again.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::batch::Batch;
use super::block::BlockId;
use super::commit::{self, Operation, Pending};
use super::cut::Plan;
use super::housekeeping::Housekeeping;
use super::journal::{JournalOptions, Shared};
use super::marker::Marker;
use super::reader::Reader;
use super::recovery::State;
use super::{Change, JournalStats, LogIndex, StorageError, Store, Waiter, cut, layout};

/// How many operations' room is kept for the next commit after a burst.
const SPARE_OPERATIONS: usize = 64 * 1024;

pub(super) struct Writer {
    shared: Arc<Shared>,
    pub(super) store: Box<dyn Store>,
    pub(super) state: State,
    pub(super) options: JournalOptions,
    pub(super) marker: Option<Marker>,
    pub(super) housekeeping: Housekeeping,
    /// Reads from the same store, and lets go of it first.
    reader: Arc<Reader>,
    /// Emptied by one cut, filled again after the next.
    spare: Pending,
    /// Who waited for the commit that failed.
    orphans: Vec<Arc<dyn Waiter>>,
}

/// Starts the thread.
///
/// # Errors
/// The system gives us no thread.
pub(super) fn spawn(writer: Writer) -> Result<JoinHandle<()>, StorageError> {
    thread::Builder::new()
        .name("millpond-store".into())
        .spawn(move || writer.run())
        .map_err(|error| StorageError::Engine {
            doing: "starting its thread",
            reason: error.to_string(),
        })
}

/// Runs `work` so that a panic becomes an error.
///
/// # Errors
/// Those of `work`, and its panic.
pub(super) fn guarded<T>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    // Whatever was being changed is not used again: every caller gives up on an error.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(StorageError::Panicked {
            doing,
            reason: panic_message(&*panic),
        })
    })
}

/// The message a panic was raised with.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        store: Box<dyn Store>,
        state: State,
        options: JournalOptions,
        marker: Option<Marker>,
        reader: Arc<Reader>,
    ) -> Self {
        let housekeeping = Housekeeping::new(state.checkpointer.covered);
        let (spare, orphans) = (Pending::default(), Vec::new());
        let mut writer = Self {
            shared,
            store,
            state,
            options,
            marker,
            reader,
            housekeeping,
            spare,
            orphans,
        };
        writer.publish_stats(|_| {});
        writer
    }

    fn run(mut self) {
        let end = self.work().err().unwrap_or(StorageError::Closed);
        let failed = !matches!(end, StorageError::Closed);
        let shared = Arc::clone(&self.shared);
        let mut orphans = std::mem::take(&mut self.orphans);
        // First everybody learns of the end, then whoever waited is woken to see it. A callback or a
        // waiter that panics now changes nothing any more.
        let _ = guarded("telling of the end", || {
            shared.stop(end);
            Ok(())
        });
        let _ = wake_all(&mut orphans);
        self.reader.release();
        // A failed database may panic again while it is put away.
        let _ = guarded("putting the store away", || {
            drop(self);
            Ok(())
        });
        while failed && !shared.must_close() && !shared.must_abandon() {
            let _ = wake_all(&mut shared.cut(Pending::default(), true).1.waiters);
            if !shared.take_work() {
                thread::park();
            }
        }
        let _ = wake_all(&mut shared.cut_for_good().waiters);
    }

    /// Commits until the journal is closed, abandoned, or fails.
    fn work(&mut self) -> Result<(), StorageError> {
        loop {
            if self.shared.must_abandon() {
                return Ok(());
            }
            let closing = self.shared.must_close();
            if !self.shared.take_work() && !closing {
                if !guarded("housekeeping", || self.housekeep())? {
                    self.rest()?;
                }
                continue;
            }
            self.gather();
            self.turn(closing)?;
            if closing {
                return guarded("closing", || self.finish());
            }
        }
    }

    /// Sleeps until there is work; a store that wants to be maintained is, once nobody wrote for a while.
    fn rest(&mut self) -> Result<(), StorageError> {
        if !self.store.wants_maintenance() {
            thread::park();
            return Ok(());
        }
        let delay = self.options.maintenance_delay;
        let from = Instant::now();
        while !self.shared.has_work() {
            let Some(left) = delay.checked_sub(from.elapsed()) else {
                return guarded("maintaining the store", || self.store.maintain());
            };
            thread::park_timeout(left);
        }
        Ok(())
    }

    /// Lets a bigger commit gather, if that is wanted and many operations wait already.
    fn gather(&self) {
        let delay = self.options.commit_delay;
        let waiting = || self.shared.pending.lock().operations.len();
        if delay.is_zero() || waiting() < self.options.commit_delay_operations {
            return;
        }
        let from = Instant::now();
        while let Some(left) = delay
            .checked_sub(from.elapsed())
            .filter(|left| !left.is_zero())
            && !self.shared.must_abandon()
            && !self.shared.must_close()
        {
            thread::park_timeout(left);
        }
    }

    /// Makes one commit of what is pending, and wakes whoever waits for it.
    fn turn(&mut self, closing: bool) -> Result<(), StorageError> {
        let (number, mut pending) = self.shared.cut(std::mem::take(&mut self.spare), closing);
        if pending.is_empty() {
            self.spare = pending;
            return Ok(());
        }
        let result = guarded("writing a commit", || {
            self.commit(pending.operations.drain(..))
        });
        self.shared
            .backlog
            .fetch_sub(pending.bytes, Ordering::Relaxed);
        if let Err(error) = result {
            self.orphans = pending.waiters;
            return Err(error);
        }
        self.shared.durable.store(number.0, Ordering::Release);
        wake_all(&mut pending.waiters)?;
        pending.bytes = 0;
        pending.operations.shrink_to(SPARE_OPERATIONS);
        self.spare = pending;
        guarded("housekeeping", || self.housekeep()).map(drop)
    }

    fn commit(&mut self, operations: impl Iterator<Item = Operation>) -> Result<(), StorageError> {
        let plan = cut::plan(operations, &*self.state.index.read());
        let annihilated = plan.annihilated;
        if plan.is_empty() {
            self.publish_stats(|stats| {
                stats.empty_commits += 1;
                stats.messages_annihilated += annihilated;
            });
            return Ok(());
        }
        let messages = plan.messages.len() as u64;
        self.write_commit(plan, |stats| {
            stats.messages_written += messages;
            stats.messages_annihilated += annihilated;
        })
    }

    /// Writes a plan as the next commit, syncs, and lets the index know.
    pub(super) fn write_commit(
        &mut self,
        plan: Plan,
        change: impl FnOnce(&mut JournalStats),
    ) -> Result<(), StorageError> {
        let commit = LogIndex(self.state.last.0 + 1);
        let mut batch = Batch::new(self.store.as_mut());
        let mut blocks = 0;
        let mut sink = |id: BlockId, octets| {
            blocks += 1;
            batch.push(Change::Put(id.key(), octets))
        };
        let effect = layout::lay_out(plan, commit, self.state.checksum, &mut sink)?;
        let written = batch.finish()?;
        self.store.sync()?;
        self.state.last = commit;
        self.state.checksum = effect.checksum;
        self.state.bytes_since_checkpoint += written;
        self.state.index.write().apply(effect);
        self.housekeeping.written(blocks);
        self.publish_stats(|stats| {
            stats.commits += 1;
            stats.syncs += 1;
            stats.bytes_written += written;
            change(stats);
        });
        Ok(())
    }

    pub(super) fn publish_stats(&mut self, change: impl FnOnce(&mut JournalStats)) {
        let (blocks, bytes, dead_bytes) = self.state.index.read().totals();
        let mut stats = self.shared.stats.lock();
        change(&mut stats);
        stats.blocks_live = blocks;
        stats.block_bytes_live = bytes;
        stats.block_bytes_dead = dead_bytes;
        stats.last_commit = self.state.last.0;
    }
}

/// Wakes each waiter once, even if one of them panics.
///
/// # Errors
/// The panic of a waiter.
fn wake_all(waiters: &mut Vec<Arc<dyn Waiter>>) -> Result<(), StorageError> {
    commit::coalesce(waiters);
    let mut result = Ok(());
    for waiter in waiters.drain(..) {
        let woken = guarded("waking a waiter", || {
            waiter.commit_settled();
            Ok(())
        });
        result = result.and(woken);
    }
    result
}
