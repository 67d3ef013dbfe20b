//! What the system lets this process have: file descriptors, and so connections.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors kept for what is not a client connection: storage files, listeners, HTTP, name resolution.
const RESERVED_DESCRIPTORS: usize = 256;

/// More descriptors than this are never asked for: a hard limit may be "infinity", and the kernel refuses that
/// (Linux: `fs.nr_open`, 1,048,576 by default).
const MOST_DESCRIPTORS: u64 = 1 << 20;

/// Raises the soft limit of open file descriptors to the hard one and returns the limit that now holds.
///
/// Never fails: where the limit cannot be raised, the old one holds.
#[must_use]
pub fn raise_descriptor_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .unwrap_or(MOST_DESCRIPTORS)
        .min(MOST_DESCRIPTORS);
    let current = limit.current.unwrap_or(MOST_DESCRIPTORS);
    if current < wanted {
        limit.current = Some(wanted);
        if setrlimit(Resource::Nofile, limit).is_err() {
            return usize::try_from(current).unwrap_or(usize::MAX);
        }
    }
    usize::try_from(current.max(wanted)).unwrap_or(usize::MAX)
}

/// How many client connections fit into `descriptors`: all but a reserve for storage, listeners and HTTP, and at
/// least half of them.
#[must_use]
pub fn connections_for(descriptors: usize) -> usize {
    descriptors
        .saturating_sub(RESERVED_DESCRIPTORS)
        .max(descriptors / 2)
        .max(1)
}

/// A number of connections that may be open at once, shared by every listener that is given a clone.
#[derive(Clone, Debug)]
pub struct ConnectionLimit {
    free: Arc<Semaphore>,
    limit: usize,
}

/// The right to one open connection; it is given back when this is dropped.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimit {
    /// A limit of `limit` connections.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(limit)),
            limit,
        }
    }

    /// A slot, or none when the limit is reached.
    #[must_use]
    pub fn take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot { _permit: permit })
    }

    /// The number of connections allowed.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The number of connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.limit - self.free.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        for (descriptors, connections) in [
            (1 << 20, (1 << 20) - 256),
            (1024, 768),
            (400, 200),
            (2, 1),
            (0, 1),
        ] {
            assert_eq!(connections_for(descriptors), connections, "{descriptors}");
        }
    }

    #[test]
    fn a_dropped_slot_is_free_again() {
        let limit = ConnectionLimit::new(2);
        let first = limit.take().expect("free");
        let _second = limit.take().expect("free");
        assert!(limit.take().is_none());
        assert_eq!(limit.open(), 2);
        drop(first);
        assert!(limit.take().is_some());
    }

    #[test]
    fn raising_the_limit_twice_changes_nothing_more() {
        assert_eq!(raise_descriptor_limit(), raise_descriptor_limit());
    }
}
