//! A queue and the disk: what it lets go of, what it gets back, and what recovery found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::{LocalQueue, State};
use crate::engine::broker::Core;
use crate::engine::message::Message;
use crate::engine::queue::entry::Place;
use crate::engine::queue::ready::Want;
use crate::engine::queue::state::{Found, ReadBack};
use crate::engine::turn::Turn;
use crate::storage::{Fetched, Loss, QueueId, RecoveredQueue, Seq, StorageError};

/// How much is read at once to find out what recovery has to know of every message, in bytes.
const SCAN_BYTES: usize = 1 << 20;

/// What stands between a queue and the disk, beside its state.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// The number under which the log has what was in memory alone. It is never declared, so a restart forgets
    /// what is there.
    spill: OnceLock<QueueId>,
    /// Whether the pager was asked, and has not done.
    asked: AtomicBool,
}

impl Pages {
    /// Whether anything was ever spilled. Changes inside the queue's lock only.
    pub(super) fn spills(&self) -> bool {
        self.spill.get().is_some()
    }

    pub(super) fn spill(&self, core: &Core) -> QueueId {
        *self.spill.get_or_init(|| core.next_queue_id())
    }
}

/// What the log answered to a request to read messages back, as the queue takes it.
#[derive(Debug)]
pub(in crate::engine) struct Answer(ReadBack);

impl Answer {
    /// Decodes what was read. What cannot be understood is lost as what cannot be read is.
    fn new(want: Want, fetched: Fetched) -> Self {
        let mut lost = fetched.lost;
        let mut messages = Vec::with_capacity(fetched.messages.len());
        for (seq, payload) in fetched.messages {
            match Message::decode(payload) {
                Ok(message) => messages.push((seq, Arc::new(message))),
                Err(error) => {
                    tracing::error!(%seq, error, "a stored message cannot be understood");
                    lost.push((seq, seq));
                }
            }
        }
        Self(ReadBack {
            place: want.place,
            first: want.first,
            upto: fetched.upto,
            messages,
            lost,
        })
    }
}

impl LocalQueue {
    /// Asks the pager for the queue to be paged, if it holds much more than there is room for.
    pub(super) fn watch_window(&self, state: &State, turn: &Turn<'_>) {
        let core = turn.core();
        let Some(window) = core.memory.paging_window() else {
            return;
        };
        if state.exceeds_window(window, core.memory.presses_to_spill()) {
            self.ask(core);
        }
        if core.memory.is_pressing() {
            core.pager.press();
        }
    }

    fn ask(&self, core: &Core) {
        if !self.pages.asked.swap(true, Ordering::AcqRel) {
            core.pager.ask(self.strong());
        }
    }

    /// Asks for the queue to be paged although nobody enters it, if it holds much more than `window` bytes.
    pub(in crate::engine) fn sweep(&self, core: &Core, window: u64) {
        let presses = core.memory.presses_to_spill();
        if self.state.lock().exceeds_window(window, presses) {
            self.ask(core);
        }
    }

    /// The first step of paging: writes what is beyond the window and in memory alone. Returns the place up to
    /// which [`LocalQueue::let_go`] may go once all that was written until now is on disk.
    pub(in crate::engine) fn spill(&self, turn: &mut Turn<'_>, window: u64) -> Seq {
        turn.open_unit();
        let presses = turn.core().memory.presses_to_spill();
        self.enter(turn, |state, _, fx| state.spill(window, presses, fx))
    }

    /// The second step: lets go of messages beyond the window. False when there are no more.
    pub(in crate::engine) fn let_go(&self, turn: &mut Turn<'_>, window: u64, upto: Seq) -> bool {
        let page = self.enter(turn, |state, _, _| state.let_go(window, upto));
        // Outside the lock: freeing takes longer than all the rest.
        drop(page.freed);
        page.more
    }

    /// Paging is over. If there is more to page by now, the pager is asked again.
    pub(in crate::engine) fn paged(&self, turn: &mut Turn<'_>) {
        self.pages.asked.store(false, Ordering::Release);
        self.enter(turn, |_, _, _| {});
    }

    /// Has the log read messages, for [`LocalQueue::read_back`].
    pub(super) fn fetch(&self, core: &Core, want: Want) {
        let id = match want.place {
            Place::Spill => self.pages.spill(core),
            Place::Log | Place::Memory | Place::Pinned => self.id,
        };
        let (queue, pager) = (self.me.clone(), Arc::clone(&core.pager));
        let bytes = usize::try_from(want.bytes).unwrap_or(usize::MAX);
        let done = move |fetched: Result<Fetched, StorageError>| {
            let Some(queue) = queue.upgrade() else { return };
            match fetched {
                Ok(fetched) => pager.answer(queue, Answer::new(want, fetched)),
                // The log has stopped, and the broker is about to.
                Err(error) => tracing::debug!(queue = %queue.name, %error, "nothing is read back"),
            }
        };
        core.journal
            .fetch(id, want.first, want.last, bytes, Box::new(done));
    }

    /// Takes what the log has read, and serves it.
    pub(in crate::engine) fn read_back(&self, turn: &mut Turn<'_>, answer: Answer) {
        let Answer(read) = answer;
        let result = self.enter(turn, |state, now, fx| {
            let result = state.read_back(&read, fx);
            state.dispatch(now, fx);
            result
        });
        let Err((missing, consumers)) = result else {
            return;
        };
        let range = read
            .lost
            .iter()
            .find(|(first, last)| (*first..=*last).contains(&missing));
        let (first, last) = range.copied().unwrap_or((missing, missing));
        let queue = self.id;
        let loss = Loss::Messages { queue, first, last };
        tracing::error!(queue = %self.name, %loss, "queue quarantined: the others are served");
        self.quarantine(loss.to_string());
        self.dismiss(turn, consumers);
    }

    /// Settles what a deleted queue has on disk.
    pub(in crate::engine) fn forget(&self, turn: &mut Turn<'_>) {
        if self.spec.lasts() {
            turn.forget(self.id);
        }
        if let Some(spill) = self.pages.spill.get() {
            turn.open_unit().forget(*spill);
        }
    }

    /// Fills the queue with what is on disk; `unclean` marks everything as perhaps delivered before.
    ///
    /// Nothing is read, unless the queue serves by priority or has a limit in bytes: then each message's
    /// priority and size have to be known. Returns how many messages there are.
    ///
    /// # Errors
    /// A sentence, if a message that has to be read cannot be.
    pub(in crate::engine) fn recover(
        &self,
        turn: &mut Turn<'_>,
        recovered: &RecoveredQueue,
        unclean: bool,
    ) -> Result<usize, String> {
        let scan = self.parsed.max_length_bytes.is_some() || self.parsed.max_priority.is_some();
        let found = if scan {
            self.scan(turn.core(), recovered)?
        } else {
            estimated(recovered)
        };
        Ok(self.enter(turn, |state, _, _| {
            state.recover(recovered.next_seq, found, unclean);
            state.depth().ready
        }))
    }

    fn scan(&self, core: &Core, recovered: &RecoveredQueue) -> Result<Vec<Found>, String> {
        let highest = self.parsed.max_priority.unwrap_or(0);
        let mut found: Vec<Found> = Vec::new();
        for (first, last) in &recovered.live {
            let mut next = *first;
            while next <= *last {
                let read = core.journal.read(self.id, next, *last, SCAN_BYTES);
                let read = read.map_err(|error| format!("queue '{}': {error}", self.name))?;
                if let Some((first, last)) = read.lost.first() {
                    let (queue, first, last) = (self.id, *first, *last);
                    let loss = Loss::Messages { queue, first, last };
                    tracing::error!(queue = %self.name, %loss, "queue quarantined: the others are served");
                    self.quarantine(loss.to_string());
                }
                for (seq, payload) in read.messages {
                    let message = Message::decode(payload).map_err(|error| {
                        format!("queue '{}', message {seq}: {error}", self.name)
                    })?;
                    found.push(Found {
                        first: seq,
                        last: seq,
                        bytes: message.size() as u64,
                        level: message.meta().priority.unwrap_or(0).min(highest),
                        returns: recovered.returned.get(&seq).copied().unwrap_or(0),
                    });
                }
                next = Seq(read.upto.0.saturating_add(1));
            }
        }
        Ok(found)
    }
}

/// What the log knows of a queue's messages without reading them: all of one size, all of one level.
fn estimated(recovered: &RecoveredQueue) -> Vec<Found> {
    let ranges = recovered.live.iter();
    let count: u64 = ranges
        .clone()
        .map(|(first, last)| last.0 - first.0 + 1)
        .sum();
    let each = recovered.bytes / count.max(1);
    let mut returned = recovered.returned.iter().peekable();
    let mut found = Vec::new();
    let run = |first: u64, last: u64, returns| Found {
        first: Seq(first),
        last: Seq(last),
        bytes: each * (last - first + 1),
        level: 0,
        returns,
    };
    for (first, last) in ranges {
        let mut next = first.0;
        while let Some((seq, count)) = returned.next_if(|(seq, _)| *seq <= last) {
            if seq.0 < next {
                continue;
            }
            if next < seq.0 {
                found.push(run(next, seq.0 - 1, 0));
            }
            found.push(run(seq.0, seq.0, *count));
            next = seq.0 + 1;
        }
        if next <= last.0 {
            found.push(run(next, last.0, 0));
        }
    }
    found
}

#[cfg(test)]
impl LocalQueue {
    /// Whether an answer of the log is awaited.
    pub(in crate::engine) fn is_reading(&self) -> bool {
        self.state.lock().is_reading()
    }
}
