//! The one task of a vhost: it ticks queues when their time comes and shows transactions' sends once
//! they are on disk.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Vhost;
use crate::engine::broker::Core;
use crate::engine::queue::Queue;
use crate::engine::turn::Turn;
use crate::engine::whole::Whole;
use crate::storage::{CommitNumber, Waiter};

/// A commit, and the queues in which it has sends.
type Reveal = (CommitNumber, Vec<Arc<dyn Queue>>);

/// Queues with sends of transactions that wait for their commit.
#[derive(Default)]
pub(super) struct Reveals {
    waiting: Mutex<Vec<Reveal>>,
    kept: Notify,
}

impl Reveals {
    pub(super) fn push(&self, commit: CommitNumber, queues: Vec<Arc<dyn Queue>>) {
        self.waiting.lock().push((commit, queues));
    }

    fn take(&self, durable: CommitNumber) -> Vec<Arc<dyn Queue>> {
        let mut waiting = self.waiting.lock();
        let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut *waiting)
            .into_iter()
            .partition(|(commit, _)| *commit <= durable);
        *waiting = rest;
        due.into_iter().flat_map(|(_, queues)| queues).collect()
    }
}

impl Waiter for Reveals {
    fn commit_settled(&self) {
        self.kept.notify_one();
    }
}

/// Runs until the vhost is gone.
pub(super) async fn keep(vhost: Weak<Vhost>, core: Arc<Core>) {
    loop {
        let Some(next) = vhost.upgrade().map(|vhost| round(&vhost, &core)) else {
            return;
        };
        let Some(strong) = vhost.upgrade() else {
            return;
        };
        let (timers, reveals) = (Arc::clone(&strong.timers), Arc::clone(&strong.reveals));
        drop(strong);
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = timers.changed() => {}
            () = reveals.kept.notified() => {}
        }
    }
}

/// Does all that is due now; returns when the next thing is.
fn round(vhost: &Vhost, core: &Arc<Core>) -> Option<tokio::time::Instant> {
    let _whole = Whole;
    let durable = core.journal.durable();
    for queue in vhost.reveals.take(durable) {
        if let Some(local) = queue.as_local() {
            let mut turn = Turn::begin(core);
            local.reveal(&mut turn, durable);
            turn.finish();
        }
    }
    while let Some(queue) = vhost.timers.pop_due(core.clock.now().wall_ms) {
        let mut turn = Turn::begin(core);
        queue.tick(&mut turn);
        turn.finish();
    }
    vhost
        .timers
        .next_ms()
        .and_then(|at| core.clock.instant_at(at))
}
