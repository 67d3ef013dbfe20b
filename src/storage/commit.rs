//! The pending commit, and the units that append to it.
//!
//! A unit holds the *gate* shared; the writer takes it exclusively for the instant in which it swaps the
//! pending commit for an empty one. So a unit is never split over two commits, needs no copy of its own,
//! and what several threads append inside their own queues' locks lands in exactly that order.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLockReadGuard;

use super::journal::Shared;
use super::{CommitNumber, Payload, QueueId, Seq, Waiter};

/// What one operation is taken to cost beside its payload, in bytes, in the backlog's account.
const OPERATION_BYTES: usize = 48;

/// One operation of a unit.
pub(super) enum Operation {
    Enqueue {
        queue: QueueId,
        seq: Seq,
        keep: bool,
        payload: Arc<dyn Payload>,
    },
    Settle {
        queue: QueueId,
        first: Seq,
        last: Seq,
        keep: bool,
    },
    Returned {
        queue: QueueId,
        seq: Seq,
        count: u32,
    },
    Forget {
        queue: QueueId,
    },
    Define {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Undefine {
        key: Vec<u8>,
    },
}

/// Everything appended since the last cut.
#[derive(Default)]
pub(super) struct Pending {
    /// In the order appended, which within a queue is the queue's order.
    pub(super) operations: Vec<Operation>,
    /// Who waits; one may be listed several times.
    pub(super) waiters: Vec<Arc<dyn Waiter>>,
    /// This commit's part of the backlog, in bytes.
    pub(super) bytes: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.waiters.is_empty()
    }
}

thread_local! {
    /// How many units this thread has open, in any journal. The writer waiting at the gate stops new
    /// shared holders; a thread that is one already must be let through, or both would wait for ever.
    static OPEN_UNITS: Cell<u32> = const { Cell::new(0) };
}

/// Work that becomes durable together or not at all; from [`Journal::begin`](super::Journal::begin).
///
/// Hold it for one synchronous turn only: the writer's next cut waits until it is dropped, and dropping it
/// is what hands the work over. It cannot be sent to another thread. Several units may be open at once, on
/// different threads or nested on one; all that are open together land in the same commit.
///
/// On a poisoned or closed journal everything appended is discarded; waiters are still woken, so that they
/// see [`Journal::is_poisoned`](super::Journal::is_poisoned).
pub struct Unit<'a> {
    shared: &'a Shared,
    /// Taken in `drop` only, so that the gate is free before the writer wakes up.
    gate: Option<RwLockReadGuard<'a, ()>>,
    number: CommitNumber,
    discard: bool,
    keep: bool,
    bytes: usize,
    touched: bool,
}

impl<'a> Unit<'a> {
    pub(super) fn begin(shared: &'a Shared) -> Self {
        let nested = OPEN_UNITS.replace(OPEN_UNITS.get() + 1) > 0;
        let gate = if nested {
            shared.gate.read_recursive()
        } else {
            shared.gate.read()
        };
        Self {
            shared,
            gate: Some(gate),
            // Changes only while the gate is held exclusively.
            number: CommitNumber(shared.number.load(Ordering::Relaxed)),
            discard: shared.is_sealed(),
            keep: false,
            bytes: 0,
            touched: false,
        }
    }

    /// The commit that all of this unit will be part of.
    ///
    /// It is reached only if something is appended, here or elsewhere: to be told, call [`Unit::wait`].
    #[must_use]
    pub fn number(&self) -> CommitNumber {
        self.number
    }

    /// From here on, nothing of this unit is cancelled at the cut: its enqueues are written even if they
    /// are settled in the same commit, and its settles cancel no enqueue (for transactions).
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Stores a message in a queue. The same `Arc` enqueued to several queues is stored once.
    ///
    /// `seq` must be above every sequence number this queue ever had.
    pub fn enqueue(&mut self, queue: QueueId, seq: Seq, payload: Arc<dyn Payload>) {
        let bytes = payload.encoded_len();
        self.append(
            Operation::Enqueue {
                queue,
                seq,
                keep: self.keep,
                payload,
            },
            bytes,
        );
    }

    /// Settles the messages `first..=last` for good: they will not be there after a restart.
    ///
    /// Sequence numbers in the range that hold nothing are no error, so a purge is one range. But if anything
    /// in it is stored, `last` counts as used: the queue's next number after a restart is above it.
    pub fn settle(&mut self, queue: QueueId, first: Seq, last: Seq) {
        if self.discard {
            return;
        }
        let keep = self.keep;
        let mut pending = self.shared.pending.lock();
        // Acknowledgements mostly come in order; joining them here saves the cut its work.
        if let Some(Operation::Settle {
            queue: same,
            last: end,
            keep: as_kept,
            ..
        }) = pending.operations.last_mut()
            && *same == queue
            && *as_kept == keep
            && end.0.checked_add(1) == Some(first.0)
        {
            *end = last;
        } else {
            pending.operations.push(Operation::Settle {
                queue,
                first,
                last,
                keep,
            });
            pending.bytes += OPERATION_BYTES;
            self.bytes += OPERATION_BYTES;
        }
        self.touched = true;
    }

    /// Records how often a message has been returned to its queue (its delivery count after a restart).
    pub fn returned(&mut self, queue: QueueId, seq: Seq, count: u32) {
        self.append(Operation::Returned { queue, seq, count }, 0);
    }

    /// Settles everything a deleted queue holds, now and in this commit. The identity is never used again.
    pub fn forget(&mut self, queue: QueueId) {
        self.append(Operation::Forget { queue }, 0);
    }

    /// Sets a definition; opaque to the store.
    pub fn define(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let bytes = key.len() + value.len();
        self.append(Operation::Define { key, value }, bytes);
    }

    /// Removes a definition.
    pub fn undefine(&mut self, key: Vec<u8>) {
        let bytes = key.len();
        self.append(Operation::Undefine { key }, bytes);
    }

    /// Has `waiter` woken once when this unit's commit is settled. One waiter is woken once a commit,
    /// however many units named it.
    pub fn wait(&mut self, waiter: &Arc<dyn Waiter>) {
        let mut pending = self.shared.pending.lock();
        if !pending
            .waiters
            .last()
            .is_some_and(|last| same_waiter(last, waiter))
        {
            pending.waiters.push(Arc::clone(waiter));
        }
        self.touched = true;
    }

    fn append(&mut self, operation: Operation, payload_bytes: usize) {
        if self.discard {
            return;
        }
        let bytes = OPERATION_BYTES + payload_bytes;
        let mut pending = self.shared.pending.lock();
        pending.operations.push(operation);
        pending.bytes += bytes;
        self.bytes += bytes;
        self.touched = true;
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // Before the gate opens: the writer subtracts what it cut, so it must have been added.
            self.shared.backlog.fetch_add(self.bytes, Ordering::Relaxed);
        }
        OPEN_UNITS.set(OPEN_UNITS.get() - 1);
        drop(self.gate.take());
        if self.touched {
            self.shared.work_is_there();
        }
    }
}

/// Whether two handles name the same waiter. Compares addresses alone: vtables may be duplicated.
pub(super) fn same_waiter(one: &Arc<dyn Waiter>, other: &Arc<dyn Waiter>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

/// Drops repeated waiters; the order is lost.
pub(super) fn coalesce(waiters: &mut Vec<Arc<dyn Waiter>>) {
    waiters.sort_unstable_by_key(|waiter| Arc::as_ptr(waiter).cast::<()>());
    waiters.dedup_by(|one, other| same_waiter(one, other));
}
