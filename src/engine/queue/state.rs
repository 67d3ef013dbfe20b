//! The state of one queue: a plain value, changed by one caller at a time.
//!
//! No clock, no lock, no disk, no task. What a change asks of the outside (store this, wake that
//! connection) goes through [`Effects`], in the order it happens, so that delivery order, queue order
//! and log order are one order.

use std::collections::BTreeMap;
use std::sync::Arc;

use slab::Slab;

use super::arguments::{Overflow, QueueArguments};
use super::entry::{Entry, Place, Weight};
use super::ready::{Ready, Want};
use super::{Depth, Outcome};
use crate::engine::clock::Now;
use crate::engine::consumer::{Consumer, ConsumerId, ConsumerSpec, Consumers};
use crate::engine::delivery::{Delivery, Token};
use crate::engine::message::{DeathReason, Message, settle_in};
use crate::engine::outbox::Outbox;
use crate::storage::Seq;

mod paging;
mod reserved;

use paging::Paging;
pub(super) use paging::{Found, ReadBack};
use reserved::Reserved;

/// What a change of state asks of the outside.
pub(super) trait Effects {
    /// The message took place `seq` and has to last.
    fn store(&mut self, seq: Seq, message: &Arc<Message>);
    /// The messages at `first..=last`, which are on disk at `place`, are settled.
    fn settle(&mut self, place: Place, first: Seq, last: Seq);
    /// The stored message at `seq` was returned for the `count`-th time.
    fn returned(&mut self, seq: Seq, count: u32);
    /// The message died here.
    fn dead(&mut self, message: Arc<Message>, reason: DeathReason);
    /// This connection has something to fetch.
    fn wake(&mut self, outbox: &Arc<Outbox>);
    /// Have [`State::call_back`] called when this full outbox has room; false if it has some already.
    fn stall(&mut self, consumer: ConsumerId, outbox: &Arc<Outbox>) -> bool;
    /// Memory taken (positive) or given back, in bytes.
    fn charge(&mut self, bytes: i64);
    /// Write this message to the spill, whatever becomes of it: it is in memory alone.
    fn spill(&mut self, seq: Seq, message: &Arc<Message>);
    /// Read this back and hand it to [`State::read_back`]. At most one such request is open.
    fn fetch(&mut self, want: Want);
    /// How many bytes of messages the queue should keep in memory.
    fn window(&self) -> u64;
}

/// Why a queue does not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is at its length limit.
    Full,
    /// The message is over `x-max-message-size` (bytes).
    TooLarge(u64),
    /// It is deleted.
    Gone,
}

/// The settlement names a delivery that is not outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotOutstanding;

#[derive(Debug)]
struct Unacked {
    entry: Entry,
    consumer: ConsumerId,
}

/// The queue.
#[derive(Debug)]
pub(super) struct State {
    arguments: QueueArguments,
    durable: bool,
    next_seq: Seq,
    ready: Ready,
    unacked: Slab<Unacked>,
    consumers: Consumers,
    /// Returned with a delay: due time (wall clock, ms) and place.
    delayed: BTreeMap<(u64, Seq), Entry>,
    delayed_bytes: u64,
    /// What unacked and delayed messages cost.
    outside: Weight,
    reserved: Reserved,
    paging: Paging,
    /// Memory that the outside knows of, in bytes.
    charged: u64,
    /// Publishers that wait for room (`x-overflow: block`).
    held: Vec<Arc<Outbox>>,
    /// Since when nobody used the queue, wall clock, in ms.
    idle_since_ms: u64,
    closed: bool,
}

fn size(message: &Message) -> u64 {
    message.size() as u64
}

impl State {
    pub(super) fn new(arguments: QueueArguments, durable: bool, now: Now) -> Self {
        Self {
            // Only a limit in bytes asks for the size of a single message.
            ready: Ready::new(
                arguments.max_priority.unwrap_or(0),
                arguments.max_length_bytes.is_some(),
            ),
            consumers: Consumers::new(arguments.single_active_consumer),
            arguments,
            durable,
            next_seq: Seq(1),
            unacked: Slab::new(),
            delayed: BTreeMap::new(),
            delayed_bytes: 0,
            outside: Weight::default(),
            reserved: Reserved::default(),
            paging: Paging::default(),
            charged: 0,
            held: Vec::new(),
            idle_since_ms: now.wall_ms,
            closed: false,
        }
    }

    /// Where a message is kept that comes in now.
    fn place_of(&self, message: &Message) -> Place {
        if self.durable && message.meta().persistent {
            Place::Log
        } else {
            Place::Memory
        }
    }

    /// Takes a message in behind all others: gives it its place, and to the log what has to last.
    fn take_in(&mut self, message: &Arc<Message>, fx: &mut impl Effects) -> Entry {
        let seq = self.next_seq;
        self.next_seq = Seq(seq.0 + 1);
        let (level, place) = (self.ready.level_of(message), self.place_of(message));
        if place == Place::Log {
            fx.store(seq, message);
        }
        Entry::new(seq, Arc::clone(message), level, place)
    }

    /// Tells the log, if it has the message, that it is settled.
    fn forget(entry: &Entry, fx: &mut impl Effects) {
        if entry.place.is_on_disk() {
            fx.settle(entry.place, entry.seq, entry.seq);
        }
    }

    /// When the message is due to leave this queue: its own expiry or the queue's ttl, whichever is earlier.
    fn expiry_ms(&self, message: &Message) -> Option<u64> {
        let by_queue = self
            .arguments
            .message_ttl_ms
            .map(|ttl| message.meta().entered_ms.saturating_add(ttl));
        match (message.meta().expires_ms, by_queue) {
            (Some(own), Some(queue)) => Some(own.min(queue)),
            (own, queue) => own.or(queue),
        }
    }

    fn exceeds(&self, len: usize, bytes: u64) -> bool {
        self.arguments
            .max_length
            .is_some_and(|limit| len as u64 > limit)
            || self
                .arguments
                .max_length_bytes
                .is_some_and(|limit| bytes > limit)
    }

    /// Whether so much more would be over the length limit. Places that are reserved count: they were promised.
    fn over_limit(&self, more: usize, more_bytes: u64) -> bool {
        self.exceeds(
            self.ready.len() + self.delayed.len() + self.reserved.len() + more,
            self.ready.bytes() + self.delayed_bytes + self.reserved.bytes() + more_bytes,
        )
    }

    /// Whether another message would be over the length limit. A deleted queue is not full: nobody has to wait for it.
    pub(super) fn is_full(&self) -> bool {
        !self.closed && self.over_limit(1, 0)
    }

    /// Whether there is a message to serve. Nothing overtakes the sends of a transaction that wait for
    /// their commit: they may be of the same publisher, and would arrive behind what it sent later. Nor
    /// does anything overtake a message that has to be read back first.
    fn serves(&self) -> bool {
        let Some(front) = self.ready.front().filter(|front| !front.is_bare()) else {
            return false;
        };
        self.reserved.first().is_none_or(|first| front.seq < first) && !self.paging.is_damaged()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes a message, or hands it straight to a consumer that waits for one.
    ///
    /// Call [`State::flush`] when the batch is through.
    pub(super) fn publish(
        &mut self,
        now: Now,
        message: &mut Arc<Message>,
        fx: &mut impl Effects,
    ) -> Result<(), Refusal> {
        self.admissible(message)?;
        // Past its time, not at it: with a ttl of 0 a message is for whoever waits for it now.
        if self
            .expiry_ms(message)
            .is_some_and(|expiry| expiry < now.wall_ms)
        {
            fx.dead(Arc::clone(message), DeathReason::Expired);
            return Ok(());
        }
        if self.ready.is_empty()
            && self.reserved.is_empty()
            && let Some(consumer) = self.consumers.next(|id, outbox| fx.stall(id, outbox))
        {
            let known = self.consumers.known(consumer);
            if known.is_some_and(|known| known.spec.acknowledges) {
                // Before the log shares it: all queues of a fan-out then name one payload.
                settle_in(message);
            }
            let entry = self.take_in(message, fx);
            self.hand_over(consumer, entry, fx);
            return Ok(());
        }
        if self
            .expiry_ms(message)
            .is_some_and(|expiry| expiry <= now.wall_ms)
        {
            fx.dead(Arc::clone(message), DeathReason::Expired);
            return Ok(());
        }
        if self.over_limit(1, size(message)) {
            match self.arguments.overflow {
                Overflow::RejectPublish => return Err(Refusal::Full),
                Overflow::RejectPublishDlx => {
                    fx.dead(Arc::clone(message), DeathReason::MaxLength);
                    return Err(Refusal::Full);
                }
                Overflow::DropHead | Overflow::Block => {}
            }
        }
        settle_in(message);
        let entry = self.take_in(message, fx);
        self.ready.push(entry);
        self.drop_overflow(fx);
        Ok(())
    }

    fn admissible(&self, message: &Message) -> Result<(), Refusal> {
        if self.closed {
            return Err(Refusal::Gone);
        }
        match self.arguments.max_message_size {
            Some(limit) if size(message) > limit => Err(Refusal::TooLarge(limit)),
            _ => Ok(()),
        }
    }

    /// Drops what is too much; whether there was any. Reserved places are left out until they are taken: what they push out
    /// must be what is oldest then.
    fn drop_overflow(&mut self, fx: &mut impl Effects) -> bool {
        let mut dropped = false;
        while self.arguments.overflow == Overflow::DropHead
            && self.exceeds(
                self.ready.len() + self.delayed.len(),
                self.ready.bytes() + self.delayed_bytes,
            )
        {
            let Some(entry) = self.ready.pop_least() else {
                break;
            };
            self.bury(entry, DeathReason::MaxLength, fx);
            dropped = true;
        }
        dropped
    }

    /// Whether the publisher of the last message should pause (`x-overflow: block`), to be woken when there is room.
    pub(super) fn hold(&mut self, outbox: &Arc<Outbox>) -> bool {
        let hold = self.holds();
        if hold && !self.held.iter().any(|known| Arc::ptr_eq(known, outbox)) {
            self.held.push(Arc::clone(outbox));
        }
        hold
    }

    /// Whether publishers have to pause now.
    pub(super) fn holds(&self) -> bool {
        self.arguments.overflow == Overflow::Block && self.is_full()
    }

    fn hand_over(&mut self, consumer: ConsumerId, entry: Entry, fx: &mut impl Effects) {
        let (Some(known), Some(message)) = (self.consumers.known(consumer), &entry.body) else {
            return;
        };
        let (tag, acknowledges) = (known.spec.tag, known.spec.acknowledges);
        let (seq, returns, redelivered) = (entry.seq, entry.returns, entry.redelivered);
        let message = Arc::clone(message);
        let token = if acknowledges {
            self.outside.add(&entry);
            let slot = self.unacked.insert(Unacked { entry, consumer });
            Some(Token {
                slot: u32::try_from(slot)
                    .expect("fewer than 4 billion unacked messages in a queue"),
                seq,
            })
        } else {
            if entry.place == Place::Spill {
                // Nothing is owed: what was not written comes back as it is, and stays in memory.
                Self::forget(&entry, fx);
            }
            None
        };
        self.consumers.hand_over(
            consumer,
            Delivery {
                tag,
                token,
                seq,
                message,
                returns,
                redelivered,
            },
        );
    }

    /// Serves consumers while there are messages for them, then drops what is over the length limit:
    /// messages that came back may have been too many.
    pub(super) fn dispatch(&mut self, now: Now, fx: &mut impl Effects) {
        self.expire(now, fx);
        while self.serves() {
            let Some(consumer) = self.consumers.next(|id, outbox| fx.stall(id, outbox)) else {
                break;
            };
            let Some(entry) = self.ready.pop() else { break };
            self.hand_over(consumer, entry, fx);
            self.expire(now, fx);
        }
        if self.drop_overflow(fx) {
            self.expire(now, fx);
        }
    }

    /// Ends a batch of changes: deliveries go to the outboxes, publishers that wait hear of room.
    pub(super) fn flush(&mut self, fx: &mut impl Effects) {
        self.consumers.flush(|outbox| fx.wake(outbox));
        self.read_ahead(fx);
        let held = self.weight();
        if held != self.charged {
            fx.charge(held.cast_signed() - self.charged.cast_signed());
            self.charged = held;
        }
        if !self.held.is_empty() && !self.holds() {
            for outbox in self.held.drain(..) {
                fx.wake(&outbox);
            }
        }
    }

    fn expire(&mut self, now: Now, fx: &mut impl Effects) {
        let ttl = self.arguments.message_ttl_ms;
        let gone = |entry: &Entry| {
            entry.body.as_ref().is_some_and(|message| {
                let meta = message.meta();
                meta.expires_ms.is_some_and(|expiry| expiry <= now.wall_ms)
                    || ttl.is_some_and(|ttl| meta.entered_ms.saturating_add(ttl) <= now.wall_ms)
            })
        };
        let mut expired = false;
        while let Some(entry) = self.ready.pop_head_if(gone) {
            self.bury(entry, DeathReason::Expired, fx);
            expired = true;
        }
        // Where one has expired, those behind it mostly have too.
        self.paging.expiring = expired;
    }

    /// Removes a message for good: from the log, and on to the dead letters. One that goes there and is on
    /// disk only leaves the queue now, and goes on when it has been read.
    fn bury(&mut self, entry: Entry, reason: DeathReason, fx: &mut impl Effects) {
        match &entry.body {
            // Dead letters of one reason arrive in the order in which they were in the queue.
            Some(_) if reason == DeathReason::MaxLength && self.paging.has_doomed() => {
                self.paging.doom(entry, reason);
            }
            Some(message) => {
                Self::forget(&entry, fx);
                fx.dead(Arc::clone(message), reason);
            }
            None if self.arguments.dead_letter_exchange.is_some() => {
                self.paging.doom(entry, reason);
            }
            None => Self::forget(&entry, fx),
        }
    }

    /// Whether the delivery is outstanding.
    pub(super) fn is_outstanding(&self, token: Token) -> bool {
        self.unacked
            .get(token.slot as usize)
            .is_some_and(|unacked| unacked.entry.seq == token.seq)
    }

    /// Settles one delivery. Call [`State::dispatch`] and [`State::flush`] when the batch is through.
    pub(super) fn settle(
        &mut self,
        now: Now,
        token: Token,
        outcome: Outcome,
        fx: &mut impl Effects,
    ) -> Result<(), NotOutstanding> {
        if !self.is_outstanding(token) {
            return Err(NotOutstanding);
        }
        let Unacked {
            mut entry,
            consumer,
        } = self.unacked.remove(token.slot as usize);
        self.consumers.settled(consumer);
        self.outside.sub(&entry);
        match outcome {
            Outcome::Ack => Self::forget(&entry, fx),
            Outcome::Reject => self.bury(entry, DeathReason::Rejected, fx),
            Outcome::Release => self.ready.put_back(entry),
            Outcome::Requeue { counted, delay_ms } => {
                entry.redelivered = true;
                if counted {
                    entry.returns = entry.returns.saturating_add(1);
                    if self
                        .arguments
                        .delivery_limit
                        .is_some_and(|limit| u64::from(entry.returns) > limit)
                    {
                        self.bury(entry, DeathReason::DeliveryLimit, fx);
                        return Ok(());
                    }
                    if entry.place == Place::Log {
                        fx.returned(entry.seq, entry.returns);
                    }
                }
                if delay_ms > 0 {
                    self.delayed_bytes += entry.bytes();
                    self.outside.add(&entry);
                    self.delayed
                        .insert((now.wall_ms.saturating_add(delay_ms), entry.seq), entry);
                } else {
                    self.ready.put_back(entry);
                }
            }
        }
        Ok(())
    }

    /// Deliveries under auto-ack whose bytes left: stored ones leave the log now.
    pub(super) fn written(&mut self, seqs: &[Seq], fx: &mut impl Effects) {
        if self.durable && !self.closed {
            for seq in seqs {
                fx.settle(Place::Log, *seq, *seq);
            }
        }
    }

    /// Takes deliveries under auto-ack back that did not reach the client, or may not have; the latter are
    /// marked as redelivered already.
    pub(super) fn put_back(&mut self, deliveries: Vec<Delivery>) {
        if self.closed {
            return;
        }
        for mut delivery in deliveries {
            settle_in(&mut delivery.message);
            let place = match self.place_of(&delivery.message) {
                Place::Memory => Place::Pinned,
                place => place,
            };
            let level = self.ready.level_of(&delivery.message);
            self.ready.put_back(Entry {
                returns: delivery.returns,
                redelivered: delivery.redelivered,
                ..Entry::new(delivery.seq, delivery.message, level, place)
            });
        }
    }

    /// Adds a consumer; `None` if exclusivity forbids it.
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        spec: ConsumerSpec,
        outbox: Arc<Outbox>,
    ) -> Option<ConsumerId> {
        if self.consumers.any_exclusive() || (spec.exclusive && self.consumers.len() > 0) {
            return None;
        }
        self.idle_since_ms = now.wall_ms;
        Some(self.consumers.add(spec, outbox))
    }

    /// Removes a consumer; true if it was there.
    pub(super) fn cancel(&mut self, now: Now, consumer: ConsumerId) -> bool {
        self.idle_since_ms = now.wall_ms;
        self.consumers.remove(consumer).is_some()
    }

    /// Somebody declared or looked at the queue: its idle time starts anew.
    pub(super) fn used(&mut self, now: Now) {
        self.idle_since_ms = now.wall_ms;
    }

    /// The consumer has room again.
    pub(super) fn call_back(&mut self, consumer: ConsumerId) {
        self.consumers.call_back(consumer);
    }

    pub(super) fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// Removes everything that waits. Returns the count.
    pub(super) fn purge(&mut self, fx: &mut impl Effects) -> usize {
        let mut stored = Vec::new();
        let mut count = self.ready.clear(&mut stored);
        for entry in std::mem::take(&mut self.delayed).into_values() {
            self.outside.sub(&entry);
            if entry.place.is_on_disk() {
                stored.push((entry.place, entry.seq, entry.seq));
            }
            count += 1;
        }
        self.delayed_bytes = 0;
        stored.sort_unstable_by_key(|(_, first, _)| *first);
        for (place, first, last) in stored {
            fx.settle(place, first, last);
        }
        count
    }

    /// Closes the queue: it takes and gives nothing any more. Returns its consumers.
    pub(super) fn close(&mut self, fx: &mut impl Effects) -> Vec<Consumer> {
        self.closed = true;
        self.ready.clear(&mut Vec::new());
        self.unacked.clear();
        self.delayed.clear();
        self.delayed_bytes = 0;
        self.outside = Weight::default();
        self.reserved = Reserved::default();
        self.paging.clear();
        for outbox in self.held.drain(..) {
            fx.wake(&outbox);
        }
        self.consumers.clear()
    }

    /// Does what time asks for: expiry, and the return of delayed messages.
    pub(super) fn tick(&mut self, now: Now, fx: &mut impl Effects) {
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now.wall_ms {
                break;
            }
            let entry = first.remove();
            self.delayed_bytes -= entry.bytes();
            self.outside.sub(&entry);
            self.ready.put_back(entry);
        }
        self.dispatch(now, fx);
    }

    /// Whether nobody has used the queue for its `x-expires`.
    pub(super) fn idle_expired(&self, now: Now) -> bool {
        self.idle_deadline_ms()
            .is_some_and(|deadline| deadline <= now.wall_ms)
    }

    fn idle_deadline_ms(&self) -> Option<u64> {
        let expires = self.arguments.expires_ms?;
        (!self.closed && self.consumers.len() == 0)
            .then(|| self.idle_since_ms.saturating_add(expires))
    }

    /// When [`State::tick`] has something to do, wall clock, in ms.
    pub(super) fn next_tick_ms(&self) -> Option<u64> {
        let expiry = self
            .ready
            .heads()
            .filter_map(|entry| self.expiry_ms(entry.body.as_ref()?))
            .min();
        let due = self.delayed.first_key_value().map(|((due, _), _)| *due);
        [expiry, due, self.idle_deadline_ms()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn depth(&self) -> Depth {
        Depth {
            ready: self.ready.len() + self.delayed.len(),
            ready_bytes: self.ready.bytes() + self.delayed_bytes,
            unacked: self.unacked.len(),
            consumers: self.consumers.len(),
        }
    }
}

#[cfg(test)]
mod tests;
