//! The handle through which everybody uses the log.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::commit::{Pending, Unit};
use super::marker::Marker;
use super::reader::{Fetched, Reader};
use super::recovery::{self, Recovered};
use super::writer::{self, Writer};
use super::{CommitNumber, LogIndex, QueueId, Seq, StorageError, Store};

/// How a journal gathers, bounds and summarises its work.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// How long the writer gathers a bigger commit while many operations wait. Zero: never; it is the
    /// default, because work piles up by itself while the disk is busy.
    pub commit_delay: Duration,
    /// From how many waiting operations on `commit_delay` applies; a lone publisher never waits.
    pub commit_delay_operations: usize,
    /// Bytes appended and not yet durable near which publishers should be stopped; see
    /// [`Journal::backlog_bytes`]. The journal itself refuses nothing.
    pub backlog_limit_bytes: usize,
    /// A checkpoint is written after this many bytes of commits.
    pub checkpoint_bytes: u64,
    /// A checkpoint is written after this many commits.
    pub checkpoint_commits: u64,
    /// A checkpoint is written when blocks of this many bytes wait for their removal.
    pub checkpoint_dead_bytes: u64,
    /// How many blocks that hold little are written anew together however little it is; at least 2. Fewer are
    /// when their contents nearly fill a block.
    pub rewrite_blocks: usize,
    /// Whether opening reads and verifies every message, so that losses are known before anything is served. It
    /// takes time in proportion to the backlog. Without it damage shows when the messages are read.
    pub verify: bool,
    /// Bytes of verified blocks that are kept in memory after they were read, because queues share them.
    pub read_cache_bytes: usize,
    /// How long nobody must have written before a store that wants it is maintained ([`Store::maintain`]).
    pub maintenance_delay: Duration,
    /// How often at most the marker file follows the log while there are commits.
    pub marker_interval: Duration,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            commit_delay: Duration::ZERO,
            commit_delay_operations: 256,
            backlog_limit_bytes: 64 << 20,
            checkpoint_bytes: 64 << 20,
            checkpoint_commits: 4096,
            checkpoint_dead_bytes: 32 << 20,
            rewrite_blocks: 16,
            verify: false,
            read_cache_bytes: 16 << 20,
            maintenance_delay: Duration::from_secs(2),
            marker_interval: Duration::from_secs(1),
        }
    }
}

/// What a journal has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Commits written and synced.
    pub commits: u64,
    /// Cuts of which nothing was left to write.
    pub empty_commits: u64,
    /// Barriers, those of checkpoints included.
    pub syncs: u64,
    /// Bytes handed to the store, those of checkpoints included.
    pub bytes_written: u64,
    /// Messages written, a fan-out counting once.
    pub messages_written: u64,
    /// Enqueues cancelled because they were settled before they were written.
    pub messages_annihilated: u64,
    /// Blocks whose live messages were written again beside those of others, because they held little.
    pub blocks_rewritten: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Blocks the store holds for the log.
    pub blocks_live: u64,
    /// Bytes of those blocks.
    pub block_bytes_live: u64,
    /// Bytes of blocks that only wait for the next checkpoint to be removed.
    pub block_bytes_dead: u64,
    /// Bytes the store occupies on disk, as of the last checkpoint.
    pub store_bytes: u64,
    /// The last commit on disk.
    pub last_commit: u64,
}

/// What is asked of the writer; 0 is to go on.
const CLOSE: u8 = 1;
const ABANDON: u8 = 2;

type FailureCallback = Box<dyn FnOnce(Arc<StorageError>) + Send>;

#[derive(Default)]
struct Failure {
    error: Option<Arc<StorageError>>,
    callbacks: Vec<FailureCallback>,
}

/// What units, readers of the journal's state and the writer thread share.
#[derive(Default)]
pub(super) struct Shared {
    /// Held shared by open units, exclusively by the writer while it cuts.
    pub(super) gate: RwLock<()>,
    pub(super) pending: Mutex<Pending>,
    /// The number of the pending commit. Changes only under the exclusive gate.
    pub(super) number: AtomicU64,
    pub(super) durable: AtomicU64,
    pub(super) backlog: AtomicUsize,
    pub(super) stats: Mutex<JournalStats>,
    /// Set by whoever brings work, cleared by the writer before it looks.
    work: AtomicBool,
    request: AtomicU8,
    /// Units are discarded. Set under the exclusive gate.
    sealed: AtomicBool,
    /// Nothing more will become durable.
    stopped: AtomicBool,
    /// Nobody cuts any more. Set under the exclusive gate.
    writer_gone: AtomicBool,
    failure: Mutex<Failure>,
    writer: OnceLock<Thread>,
}

impl Shared {
    /// Wakes the writer unless somebody did already since it last looked.
    pub(super) fn work_is_there(&self) {
        if self.writer_gone.load(Ordering::Acquire) {
            let waiters = std::mem::take(&mut self.pending.lock().waiters);
            waiters.iter().for_each(|waiter| waiter.commit_settled());
            return;
        }
        if !self.work.swap(true, Ordering::AcqRel)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    /// Whether there is work since the last call; for the writer.
    pub(super) fn take_work(&self) -> bool {
        self.work.swap(false, Ordering::AcqRel)
    }

    /// Whether there is work that nobody has taken yet; for the writer.
    pub(super) fn has_work(&self) -> bool {
        self.work.load(Ordering::Acquire)
    }

    /// Whether nothing more will become durable.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(super) fn must_close(&self) -> bool {
        self.request.load(Ordering::Acquire) == CLOSE
    }

    pub(super) fn must_abandon(&self) -> bool {
        self.request.load(Ordering::Acquire) == ABANDON
    }

    /// Swaps the pending commit for `spare`, which must be empty; with `seal`, units opened from now on are
    /// discarded. Waits for the units that are open.
    pub(super) fn cut(&self, spare: Pending, seal: bool) -> (CommitNumber, Pending) {
        let _gate = self.gate.write();
        if seal {
            self.sealed.store(true, Ordering::Release);
        }
        let mut pending = self.pending.lock();
        let number = self.number.load(Ordering::Relaxed);
        if !pending.is_empty() {
            self.number.store(number + 1, Ordering::Relaxed);
        }
        (CommitNumber(number), std::mem::replace(&mut pending, spare))
    }

    /// The writer's last cut: from now on units wake their waiters themselves.
    pub(super) fn cut_for_good(&self) -> Pending {
        let _gate = self.gate.write();
        self.sealed.store(true, Ordering::Release);
        self.writer_gone.store(true, Ordering::Release);
        std::mem::take(&mut *self.pending.lock())
    }

    /// Whether units are discarded.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Ends the log: `error` is what units and waiters see from now on. The first error stays.
    /// Callbacks run for failures, not for an orderly close.
    pub(super) fn stop(&self, error: StorageError) -> Arc<StorageError> {
        let closed = matches!(error, StorageError::Closed);
        let mut failure = self.failure.lock();
        let first = Arc::clone(failure.error.get_or_insert_with(|| Arc::new(error)));
        let callbacks = std::mem::take(&mut failure.callbacks);
        self.stopped.store(true, Ordering::Release);
        drop(failure);
        if !closed {
            callbacks
                .into_iter()
                .for_each(|callback| callback(Arc::clone(&first)));
        }
        first
    }

    /// Why the log has stopped, if it has.
    pub(super) fn error(&self) -> Option<Arc<StorageError>> {
        self.failure.lock().error.clone()
    }

    fn request(&self, what: u8) {
        self.request.store(what, Ordering::Release);
        self.work.store(true, Ordering::Release);
        // Always: while the writer gathers a commit it sleeps with work announced.
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

struct Inner {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    writing: Mutex<Option<JoinHandle<()>>>,
    reading: Mutex<Option<JoinHandle<()>>>,
    backlog_limit_bytes: usize,
}

/// A running log of commits. Clones are handles to the same log.
///
/// Dropping the last handle without [`Journal::close`] abandons what is not yet durable, as a crash would.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

impl Journal {
    /// Recovers what `store` holds and starts the writer thread.
    ///
    /// Reads the last checkpoint and the commits behind it, not the backlog (but see
    /// [`JournalOptions::verify`]). What is known to be lost is listed in [`Recovered::losses`]; it is for the
    /// caller to go on or to refuse.
    ///
    /// # Errors
    /// The store cannot be read or written, has another format, or its checkpoint is damaged.
    pub fn open(
        store: Box<dyn Store>,
        options: JournalOptions,
    ) -> Result<(Self, Recovered), StorageError> {
        Self::start(store, options, None)
    }

    /// As [`Journal::open`], with the marker file that says how far the store must reach.
    pub(super) fn start(
        mut store: Box<dyn Store>,
        options: JournalOptions,
        mut marker: Option<Marker>,
    ) -> Result<(Self, Recovered), StorageError> {
        let (state, recovered) = writer::guarded("reading what it holds", || {
            recovery::recover(store.as_mut(), marker.as_ref(), options.verify)
        })?;
        // From here on the marker must be there: whatever is promised next can only be missed with it.
        if let Some(marker) = &mut marker {
            marker.write(state.identity, state.last)?;
        }
        let shared = Arc::new(Shared::default());
        shared.number.store(1, Ordering::Relaxed);
        let backlog_limit_bytes = options.backlog_limit_bytes;
        let reader = Reader::new(
            Arc::clone(&shared),
            Arc::clone(&state.index),
            store.reader(),
            options.read_cache_bytes,
        );
        let writer = Writer::new(
            Arc::clone(&shared),
            store,
            state,
            options,
            marker,
            Arc::clone(&reader),
        );
        let inner = Inner {
            shared,
            reader,
            writing: Mutex::default(),
            reading: Mutex::default(),
            backlog_limit_bytes,
        };
        // From here on dropping `inner` ends what was started.
        let thread = writer::spawn(writer)?;
        // `Inner` is the only one that could set it, and this is its only place.
        let _ = inner.shared.writer.set(thread.thread().clone());
        *inner.writing.lock() = Some(thread);
        *inner.reading.lock() = Some(inner.reader.spawn()?);
        Ok((Self(Arc::new(inner)), recovered))
    }

    /// Opens a unit: everything appended through it lands in one commit.
    ///
    /// Waits at most for the writer to swap two pointers. Drop it before any await.
    #[must_use]
    pub fn begin(&self) -> Unit<'_> {
        Unit::begin(&self.0.shared)
    }

    /// Every commit up to and including this one is durable.
    #[must_use]
    pub fn durable(&self) -> CommitNumber {
        CommitNumber(self.0.shared.durable.load(Ordering::Acquire))
    }

    /// Whether the log has stopped: nothing beyond [`Journal::durable`] will become durable in this process.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.0.shared.is_stopped()
    }

    /// Why the log has stopped ([`StorageError::Closed`] after an orderly close).
    #[must_use]
    pub fn failure(&self) -> Option<Arc<StorageError>> {
        self.0.shared.error()
    }

    /// Has `callback` called once if the log fails, at once if it has. An orderly close is no failure.
    ///
    /// Runs on the writer thread; it must not block, nor close the journal.
    pub fn on_failure(&self, callback: FailureCallback) {
        let mut failure = self.0.shared.failure.lock();
        match failure.error.clone() {
            None => failure.callbacks.push(callback),
            Some(error) => {
                drop(failure);
                if !matches!(*error, StorageError::Closed) {
                    callback(error);
                }
            }
        }
    }

    /// Bytes appended and neither durable nor cancelled yet. Stop publishers near
    /// [`Journal::backlog_limit_bytes`].
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.0.shared.backlog.load(Ordering::Relaxed)
    }

    /// The limit from [`JournalOptions::backlog_limit_bytes`].
    #[must_use]
    pub fn backlog_limit_bytes(&self) -> usize {
        self.0.backlog_limit_bytes
    }

    /// Reads live messages `first..=last` of a queue, in order, until about `max_bytes` are read: at least one
    /// message, or one loss, if there is any. Go on behind [`Fetched::upto`].
    ///
    /// A message is there from the moment the commit it is part of is durable until it is settled; one that
    /// is settled meanwhile may still be returned. What is damaged or missing on disk is in
    /// [`Fetched::lost`] and fails nothing else. Waits for the disk; [`Journal::fetch`] does not.
    ///
    /// # Errors
    /// The log has stopped or was closed; the store panicked.
    pub fn read(
        &self,
        queue: QueueId,
        first: Seq,
        last: Seq,
        max_bytes: usize,
    ) -> Result<Fetched, StorageError> {
        self.0.reader.read(queue, first, last, max_bytes)
    }

    /// As [`Journal::read`], on the log's reading thread, which serves requests in order. Never waits.
    ///
    /// `done` is called exactly once, on that thread, also if the log has stopped. It must be cheap or hand
    /// over. Requests wait in a list without a limit of its own: ask once at a time for each queue.
    pub fn fetch(
        &self,
        queue: QueueId,
        first: Seq,
        last: Seq,
        max_bytes: usize,
        done: Box<dyn FnOnce(Result<Fetched, StorageError>) + Send>,
    ) {
        self.0.reader.fetch(queue, first, last, max_bytes, done);
    }

    /// What the log has done so far.
    #[must_use]
    pub fn stats(&self) -> JournalStats {
        *self.0.shared.stats.lock()
    }

    /// Writes all that is pending and a last checkpoint, and ends the writer thread. Idempotent.
    ///
    /// Blocks until it is done: not for an async thread, nor for one that has a unit open. Units opened afterwards are discarded.
    ///
    /// # Errors
    /// The failure that poisoned the log, before or during the close.
    pub fn close(&self) -> Result<(), StorageError> {
        self.0.shared.request(CLOSE);
        Inner::join(&self.0.writing);
        match self.failure() {
            Some(error) if !matches!(*error, StorageError::Closed) => Err(error.repeat()),
            _ => Ok(()),
        }
    }
}

impl Inner {
    fn join(slot: &Mutex<Option<JoinHandle<()>>>) {
        let mut slot = slot.lock();
        // A waiter, or whoever fetched, may hold the last handle; its thread then drops it and cannot wait
        // for itself.
        if let Some(thread) =
            slot.take_if(|thread| thread.thread().id() != std::thread::current().id())
        {
            // Its panics are caught and recorded as the failure; there is nothing else in the result.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.request(ABANDON);
        Self::join(&self.writing);
        self.reader.end();
        Self::join(&self.reading);
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("durable", &self.durable())
            .field("last_commit", &LogIndex(self.stats().last_commit))
            .field("failure", &self.failure())
            .finish_non_exhaustive()
    }
}
