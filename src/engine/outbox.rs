//! What waits to be written to one client connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::delivery::{ConsumerTag, Delivery};
use super::queue::{ConsumerId, Queue};

/// Something the engine tells a connection.
#[derive(Debug)]
pub enum Item {
    /// A message for one of its consumers.
    Delivery(Delivery),
    /// The queue of this consumer is gone; nothing more will come.
    Cancelled(ConsumerTag),
}

#[derive(Default)]
struct Inner {
    items: Vec<Item>,
    /// Consumers that a queue passed over for want of room here.
    stalled: Vec<(Arc<dyn Queue>, ConsumerId)>,
}

/// The deliveries and notices that wait for one connection, bounded by their weight in bytes.
///
/// Queues push while they hold their own lock, so a consumer sees messages in queue order; this lock
/// is a leaf. The connection takes everything in one go.
pub struct Outbox {
    inner: Mutex<Inner>,
    weight: AtomicUsize,
    limit: usize,
    scheduled: AtomicBool,
    wake: Notify,
}

impl Outbox {
    /// An empty outbox that queues stop filling at `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Mutex::default(),
            weight: AtomicUsize::new(0),
            limit,
            scheduled: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Bytes that still fit. One delivery may overshoot: a message larger than the limit must pass too.
    pub fn room(&self) -> usize {
        self.limit
            .saturating_sub(self.weight.load(Ordering::Relaxed))
    }

    /// Counts a delivery that is going to be pushed. Until then it takes room all the same, so that the
    /// queues that fill this outbox do not fill the same room twice.
    pub(super) fn weigh(&self, delivery: &Delivery) {
        self.weight.fetch_add(delivery.weight(), Ordering::Relaxed);
    }

    /// Appends all of `deliveries`, each of them weighed before, leaving the vector empty.
    pub(super) fn push(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        self.inner
            .lock()
            .items
            .extend(deliveries.drain(..).map(Item::Delivery));
    }

    /// Tells the connection that a consumer's queue is gone.
    pub(super) fn cancelled(&self, tag: ConsumerTag) {
        self.inner.lock().items.push(Item::Cancelled(tag));
    }

    /// Notes that `queue` wants to be told when there is room again. False if there already is.
    pub(super) fn stall(&self, queue: &Arc<dyn Queue>, consumer: ConsumerId) -> bool {
        let mut inner = self.inner.lock();
        if self.room() > 0 {
            return false;
        }
        inner.stalled.push((Arc::clone(queue), consumer));
        true
    }

    /// Has the next [`Outbox::wake`] notify again. The connection calls it before it looks at anything
    /// that it can be woken for, here or elsewhere: what comes while it looks then wakes it once more.
    pub fn rearm(&self) {
        // A read and a write in one: a plain store could pass the looks that follow it, and a commit that
        // settles between them would find the wake-up claimed and nobody left to see its work.
        self.scheduled.swap(false, Ordering::AcqRel);
    }

    /// Takes what waits, about `max` bytes of it, into `into`; returns the stalled consumers to extend
    /// once at least half of the room is free again.
    pub fn take(&self, max: usize, into: &mut Vec<Item>) -> Vec<(Arc<dyn Queue>, ConsumerId)> {
        let mut inner = self.inner.lock();
        let mut weight = 0;
        let mut count = 0;
        for item in &inner.items {
            if weight >= max {
                break;
            }
            if let Item::Delivery(delivery) = item {
                weight += delivery.weight();
            }
            count += 1;
        }
        if count == inner.items.len() && into.is_empty() {
            std::mem::swap(&mut inner.items, into);
        } else {
            into.extend(inner.items.drain(..count));
        }
        let left = self.weight.fetch_sub(weight, Ordering::Relaxed) - weight;
        if left <= self.limit / 2 {
            std::mem::take(&mut inner.stalled)
        } else {
            Vec::new()
        }
    }

    /// Takes back what waits for one consumer.
    pub fn take_for(&self, tag: ConsumerTag) -> Vec<Delivery> {
        let mut inner = self.inner.lock();
        let (theirs, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.items)
            .into_iter()
            .partition(|item| matches!(item, Item::Delivery(delivery) if delivery.tag == tag));
        inner.items = rest;
        let taken: Vec<Delivery> = theirs
            .into_iter()
            .filter_map(|item| match item {
                Item::Delivery(delivery) => Some(delivery),
                Item::Cancelled(_) => None,
            })
            .collect();
        self.weight
            .fetch_sub(taken.iter().map(Delivery::weight).sum(), Ordering::Relaxed);
        taken
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inner.lock().items.is_empty()
    }

    /// Claims the next wake-up of the connection: true for the first who asks since it last rearmed, who
    /// must then call [`Outbox::notify`] with no lock held.
    pub(super) fn claim_wake(&self) -> bool {
        !self.scheduled.swap(true, Ordering::AcqRel)
    }

    /// Wakes the connection.
    pub(super) fn notify(&self) {
        self.wake.notify_one();
    }

    /// Wakes the connection, once until it next rearms. Call it with no lock held.
    pub fn wake(&self) {
        if self.claim_wake() {
            self.notify();
        }
    }

    /// Completes when the connection has something to do. Cancel-safe.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("weight", &self.weight)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl crate::storage::Waiter for Outbox {
    fn commit_settled(&self) {
        self.wake();
    }
}

#[cfg(test)]
mod tests;
