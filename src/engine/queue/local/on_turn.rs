//! What a queue's state asks for, carried out on the turn that entered the queue.

use std::sync::Arc;

use super::LocalQueue;
use crate::engine::consumer::ConsumerId;
use crate::engine::dead_letter::Letter;
use crate::engine::message::{DeathReason, Message};
use crate::engine::outbox::Outbox;
use crate::engine::queue::Queue;
use crate::engine::queue::entry::Place;
use crate::engine::queue::ready::Want;
use crate::engine::queue::state::Effects;
use crate::engine::turn::Turn;
use crate::storage::Seq;

/// Effects of one entry into the queue, carried out on the turn.
pub(super) struct OnTurn<'t, 'a> {
    queue: &'t LocalQueue,
    turn: &'t mut Turn<'a>,
    /// Settled messages not yet told to the log: consecutive ones make one range.
    settled: Option<(Place, Seq, Seq)>,
    charge: i64,
}

impl Effects for OnTurn<'_, '_> {
    fn store(&mut self, seq: Seq, message: &Arc<Message>) {
        let payload = Arc::clone(message);
        self.turn.unit().enqueue(self.queue.id, seq, payload);
    }

    fn settle(&mut self, place: Place, first: Seq, last: Seq) {
        match &mut self.settled {
            Some((same, _, end)) if *same == place && end.0 + 1 == first.0 => *end = last,
            _ => {
                self.tell_settled();
                self.settled = Some((place, first, last));
            }
        }
    }

    fn returned(&mut self, seq: Seq, count: u32) {
        self.turn.unit().returned(self.queue.id, seq, count);
    }

    fn dead(&mut self, message: Arc<Message>, reason: DeathReason) {
        if self.queue.parsed.dead_letter_exchange.is_some() {
            self.turn.dead_letter(Letter {
                message,
                reason,
                queue: self.queue.strong(),
            });
        }
    }

    fn wake(&mut self, outbox: &Arc<Outbox>) {
        self.turn.wake(outbox);
    }

    fn stall(&mut self, consumer: ConsumerId, outbox: &Arc<Outbox>) -> bool {
        let queue: Arc<dyn Queue> = self.queue.strong();
        outbox.stall(&queue, consumer)
    }

    fn charge(&mut self, bytes: i64) {
        self.charge += bytes;
    }

    fn spill(&mut self, seq: Seq, message: &Arc<Message>) {
        let spill = self.queue.pages.spill(self.turn.core());
        let payload = Arc::clone(message);
        // Nobody is promised anything: it is gone with the process, on disk or not.
        self.turn.open_unit().enqueue(spill, seq, payload);
    }

    fn fetch(&mut self, want: Want) {
        self.queue.fetch(self.turn.core(), want);
    }

    fn window(&self) -> u64 {
        self.turn.core().memory.window()
    }
}

impl<'t, 'a> OnTurn<'t, 'a> {
    pub(super) fn new(queue: &'t LocalQueue, turn: &'t mut Turn<'a>) -> Self {
        Self {
            queue,
            turn,
            settled: None,
            charge: 0,
        }
    }

    fn tell_settled(&mut self) {
        match self.settled.take() {
            None => {}
            Some((Place::Spill, first, last)) => {
                let spill = self.queue.pages.spill(self.turn.core());
                self.turn.open_unit().settle(spill, first, last);
            }
            Some((_, first, last)) => self.turn.unit().settle(self.queue.id, first, last),
        }
    }

    /// Tells the log and the memory account what is left to tell. Still inside the queue's lock.
    pub(super) fn close(mut self) {
        self.tell_settled();
        let memory = &self.turn.core().memory;
        match self.charge {
            0 => {}
            taken @ 1.. => memory.charge(taken.unsigned_abs()),
            given => memory.release(given.unsigned_abs()),
        }
    }
}
