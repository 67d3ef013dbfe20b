//! Flow control: publishers that pause while memory or the log is under pressure.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::broker::Core;
use super::outbox::Outbox;

/// How often relief is looked for while somebody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The connections that are not read from until the pressure is gone. At most one entry each.
#[derive(Debug, Default)]
pub(super) struct Brake {
    held: Mutex<Vec<Arc<Outbox>>>,
    first: Notify,
}

impl Brake {
    /// Has the connection with this outbox woken when there is relief.
    pub(super) fn hold(&self, outbox: &Arc<Outbox>) {
        let mut held = self.held.lock();
        if held.iter().any(|known| Arc::ptr_eq(known, outbox)) {
            return;
        }
        held.push(Arc::clone(outbox));
        let first = held.len() == 1;
        drop(held);
        if first {
            self.first.notify_one();
        }
    }

    fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        for outbox in held {
            outbox.wake();
        }
    }

    fn is_empty(&self) -> bool {
        self.held.lock().is_empty()
    }
}

/// Runs until the broker is gone: no timer unless somebody is held.
pub(super) async fn release_when_relieved(core: Weak<Core>) {
    while let Some(strong) = core.upgrade() {
        if strong.brake.is_empty() {
            strong.brake.first.notified().await;
        }
        if !strong.under_pressure() {
            strong.brake.release();
            continue;
        }
        drop(strong);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
