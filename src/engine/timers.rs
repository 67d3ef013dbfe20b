//! One wheel of timers for the queues of a vhost.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::queue::LocalQueue;
use crate::storage::QueueId;

#[derive(Default)]
struct Wheel {
    due: BTreeSet<(u64, QueueId)>,
    armed: HashMap<QueueId, (u64, Weak<LocalQueue>)>,
}

/// When each queue wants to be ticked: at most one entry a queue. The lock is a leaf.
#[derive(Default)]
pub(super) struct Timers {
    wheel: Mutex<Wheel>,
    changed: Notify,
}

impl Timers {
    /// Has the queue ticked at `at_ms` (wall clock) or earlier.
    pub(super) fn arm(&self, id: QueueId, queue: &Weak<LocalQueue>, at_ms: u64) {
        let mut wheel = self.wheel.lock();
        if let Some((earlier, _)) = wheel.armed.get(&id) {
            if *earlier <= at_ms {
                return;
            }
            let earlier = *earlier;
            wheel.due.remove(&(earlier, id));
        }
        wheel.armed.insert(id, (at_ms, Weak::clone(queue)));
        let first = wheel.due.first().is_none_or(|(first, _)| at_ms < *first);
        wheel.due.insert((at_ms, id));
        drop(wheel);
        if first {
            self.changed.notify_one();
        }
    }

    /// Forgets a queue that is deleted: what it waited for may be far away.
    pub(super) fn disarm(&self, id: QueueId) {
        let mut wheel = self.wheel.lock();
        if let Some((at, _)) = wheel.armed.remove(&id) {
            wheel.due.remove(&(at, id));
        }
    }

    /// When the next queue is due, wall clock, in ms.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.wheel.lock().due.first().map(|(at, _)| *at)
    }

    /// Takes a queue that is due. A queue that is gone is passed over.
    pub(super) fn pop_due(&self, now_ms: u64) -> Option<Arc<LocalQueue>> {
        let mut wheel = self.wheel.lock();
        while let Some((at, id)) = wheel.due.first().copied() {
            if at > now_ms {
                return None;
            }
            wheel.due.pop_first();
            if let Some(queue) = wheel
                .armed
                .remove(&id)
                .and_then(|(_, queue)| queue.upgrade())
            {
                return Some(queue);
            }
        }
        None
    }

    /// Completes when an earlier deadline than before was set.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests;
