//! One turn at the engine: everything a caller does in one go, as one unit of the log.

use std::collections::VecDeque;
use std::sync::Arc;

use super::broker::Core;
use super::clock::Now;
use super::dead_letter::{self, Letter};
use super::definition::Definition;
use super::outbox::Outbox;
use super::queue::{LocalQueue, Queue};
use crate::storage::{CommitNumber, QueueId, Seq, Unit, Waiter};

/// Moves that a message which died may cause on average, with all its copies, in one turn. Dead-letter
/// exchanges that fan out to queues which fan out again multiply a message faster than any circle.
const CASCADE_MAX: usize = 1_000;

/// A turn: the caller's view of now, its unit of the log, and what is left to do when locks are free.
///
/// What a turn writes lands in one commit, so a publish with all its targets, a dead-letter move and
/// a transaction are each whole or absent after a crash. The unit is opened by the first thing that
/// must last; a turn that moves only transient messages never touches the log. Never held across an
/// await.
pub struct Turn<'a> {
    core: &'a Arc<Core>,
    /// When this turn happens.
    pub now: Now,
    unit: Option<Unit<'a>>,
    /// Whether anything was written to the unit: an open unit alone promises nothing.
    lasts: bool,
    wakes: Vec<Arc<Outbox>>,
    letters: VecDeque<Letter>,
    /// Moves of dead letters that may still follow from those that died first-hand.
    moves_left: usize,
    forwarding: bool,
    unused: Vec<Arc<LocalQueue>>,
}

impl<'a> Turn<'a> {
    /// Begins a turn.
    pub fn begin(core: &'a Arc<Core>) -> Self {
        Self {
            core,
            now: core.clock.now(),
            unit: None,
            lasts: false,
            wakes: Vec::new(),
            letters: VecDeque::new(),
            moves_left: 0,
            forwarding: false,
            unused: Vec::new(),
        }
    }

    /// Opens the unit of the log, if it is not open yet.
    ///
    /// Before a durable queue is locked: the log's gate is never waited for inside a queue's lock.
    pub(super) fn open_unit(&mut self) -> &mut Unit<'a> {
        self.unit.get_or_insert_with(|| self.core.journal.begin())
    }

    /// Whether the unit of the log is open.
    pub(super) fn has_unit(&self) -> bool {
        self.unit.is_some()
    }

    /// The unit of the log, to write something that has to last.
    pub(super) fn unit(&mut self) -> &mut Unit<'a> {
        self.lasts = true;
        self.open_unit()
    }

    /// Records a declaration.
    pub(super) fn define(&mut self, key: Vec<u8>, definition: &Definition) {
        self.unit().define(key, definition.encode());
    }

    /// Removes the record of a declaration.
    pub(super) fn undefine(&mut self, key: Vec<u8>) {
        self.unit().undefine(key);
    }

    /// Settles everything that a deleted queue held.
    pub(super) fn forget(&mut self, queue: QueueId) {
        self.unit().forget(queue);
    }

    /// The broker's shared parts.
    pub(super) fn core(&self) -> &'a Arc<Core> {
        self.core
    }

    /// Wakes `outbox` at the end of the turn.
    pub(super) fn wake(&mut self, outbox: &Arc<Outbox>) {
        if outbox.claim_wake() {
            self.wakes.push(Arc::clone(outbox));
        }
    }

    /// Moves a message on at the end of the turn.
    pub(super) fn dead_letter(&mut self, letter: Letter) {
        if !self.forwarding {
            self.moves_left = self.moves_left.saturating_add(CASCADE_MAX);
        }
        self.letters.push_back(letter);
    }

    /// Deletes an auto-delete queue that lost its last consumer, at the end of the turn.
    pub(super) fn unused(&mut self, queue: Arc<LocalQueue>) {
        self.unused.push(queue);
    }

    /// Settles messages that are lost.
    pub(super) fn write_off(&mut self, queue: QueueId, first: Seq, last: Seq) {
        self.unit().settle(queue, first, last);
    }

    /// The promise for everything done so far: the commit it will be part of, or `None` if nothing
    /// of it has to last. `waiter` is woken when that commit is on disk, or the store failed.
    ///
    /// Call it after [`Turn::settle_accounts`], so that dead letters are covered.
    pub fn promise(&mut self, waiter: &Arc<dyn Waiter>) -> Option<CommitNumber> {
        let unit = self.unit.as_mut().filter(|_| self.lasts)?;
        unit.wait(waiter);
        Some(unit.number())
    }

    /// A promise that comes true when everything that any turn did before is on disk, whether this one
    /// has to last or not. `waiter` is woken as with [`Turn::promise`].
    pub fn barrier(&mut self, waiter: &Arc<dyn Waiter>) -> CommitNumber {
        let unit = self.open_unit();
        unit.wait(waiter);
        unit.number()
    }

    /// Moves dead letters until none is left, and deletes what nobody uses any more.
    ///
    /// A cascade runs from the list, never recursively, and always ends: a message that would come
    /// back to a queue it already died in is dropped unless a consumer rejected it on the way. What a
    /// cascade has left after [`CASCADE_MAX`] moves is dropped too.
    pub fn settle_accounts(&mut self) {
        loop {
            if let Some(letter) = self.letters.pop_front() {
                let Some(left) = self.moves_left.checked_sub(1) else {
                    let dropped = self.letters.len() + 1;
                    tracing::warn!(queue = %letter.queue.name(), dropped, "dead letters dropped: each of them multiplies on its way");
                    self.letters.clear();
                    continue;
                };
                self.moves_left = left;
                self.forwarding = true;
                dead_letter::forward(self, letter);
                self.forwarding = false;
            } else if let Some(queue) = self.unused.pop() {
                if let Some(vhost) = queue.vhost() {
                    vhost.delete_unused(self, &queue);
                }
            } else {
                return;
            }
        }
    }

    /// Ends the turn: the unit closes, then everybody concerned is woken.
    pub fn finish(mut self) {
        self.settle_accounts();
    }
}

/// The unit closes before anybody is woken, also when a panic of the caller ends the turn: who claimed a
/// wake-up owes it, or that connection would never hear of anything again.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.letters.is_empty() {
            // They left their queues in this unit and have not arrived anywhere: it must never land.
            std::process::abort();
        }
        drop(self.unit.take());
        for outbox in self.wakes.drain(..) {
            outbox.notify();
        }
    }
}
