//! Flow control: publishers that pause while memory or the log is under pressure.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::broker::Core;
use super::outbox::Outbox;

/// How often relief is looked for while somebody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// From so many on, connections that ended while they were held are forgotten now and then.
const HELD_MIN: usize = 1024;

/// The connections that are not read from until the pressure is gone, by address. At most one entry each.
#[derive(Debug, Default)]
pub(super) struct Brake {
    held: Mutex<HashMap<usize, Weak<Outbox>>>,
    first: Notify,
}

impl Brake {
    /// Has the connection with this outbox woken when there is relief.
    pub(super) fn hold(&self, outbox: &Arc<Outbox>) {
        let mut held = self.held.lock();
        if held.len() >= HELD_MIN && held.len().is_power_of_two() {
            held.retain(|_, outbox| outbox.strong_count() > 0);
        }
        let first = held.is_empty();
        // A weak handle keeps the address from being used again.
        held.entry(Arc::as_ptr(outbox).addr())
            .or_insert_with(|| Arc::downgrade(outbox));
        drop(held);
        if first {
            self.first.notify_one();
        }
    }

    fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        for outbox in held.into_values().filter_map(|outbox| outbox.upgrade()) {
            outbox.wake();
        }
    }

    fn is_empty(&self) -> bool {
        self.held.lock().is_empty()
    }
}

/// Releases a brake whenever its pressure is gone, until the broker is. No timer unless somebody is held.
pub(super) async fn release_when_relieved(
    core: Weak<Core>,
    brake: Arc<Brake>,
    pressed: fn(&Core) -> bool,
) {
    loop {
        if brake.is_empty() {
            brake.first.notified().await;
        }
        let Some(core) = core.upgrade() else { return };
        if !pressed(&core) {
            brake.release();
            continue;
        }
        drop(core);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
