//! The connections that are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::engine::queue::Owner;

/// Counts connections, numbers them, and tells them all to stop.
#[derive(Debug, Default)]
pub struct Registry {
    open: AtomicUsize,
    next: AtomicU64,
    emptied: Notify,
    stop: CancellationToken,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Registers a connection for as long as the value returned lives.
    pub fn register(self: &Arc<Self>) -> Registered {
        self.open.fetch_add(1, Ordering::Relaxed);
        Registered { owner: Owner(self.next.fetch_add(1, Ordering::Relaxed) + 1), registry: Arc::clone(self) }
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Tells every connection that the broker stops.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Completes when no connection is open. Cancel-safe.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// One open connection.
#[derive(Debug)]
pub struct Registered {
    registry: Arc<Registry>,
    /// The connection's number; exclusive queues belong to it.
    pub owner: Owner,
}

impl Registered {
    /// Completes when the broker stops. Cancel-safe.
    pub async fn stopping(&self) {
        self.registry.stop.cancelled().await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.registry.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.registry.emptied.notify_waiters();
        }
    }
}
