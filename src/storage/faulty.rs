//! A store that fails on demand, for tests: the n-th operation returns an error, and a power cut can be
//! had at any moment.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Change, MemoryStore, StorageError, Store, StoreRead, StoreStats};

/// Wraps a store. Every write and every sync counts as one operation.
pub struct FaultyStore {
    inner: Box<dyn Store>,
    faults: Faults,
}

/// The handle of a [`FaultyStore`], for the test that holds it.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Default)]
struct Plan {
    operations: u64,
    fail_at: Option<u64>,
    panic_instead: bool,
    /// What a power cut leaves for certain.
    synced: MemoryStore,
    /// Written since the last sync, in order.
    unsynced: Vec<Change>,
}

impl FaultyStore {
    /// Wraps `inner`, which must be empty (use [`Faults::after_power_cut`] to go on with contents).
    #[must_use]
    pub fn new(inner: Box<dyn Store>) -> (Self, Faults) {
        let faults = Faults::default();
        (
            Self {
                inner,
                faults: faults.clone(),
            },
            faults,
        )
    }

    /// A store in memory with the contents of `disk`.
    #[must_use]
    pub fn over(disk: &MemoryStore) -> (Self, Faults) {
        let faults = Faults::default();
        faults.0.lock().synced = disk.copy();
        (
            Self {
                inner: Box::new(disk.copy()),
                faults: faults.clone(),
            },
            faults,
        )
    }

    /// Counts an operation and fails it if it is the one.
    fn operation(&self, plan: &mut Plan) -> Result<(), StorageError> {
        plan.operations += 1;
        // A store that failed once keeps failing: a second try must never look like success.
        if plan
            .fail_at
            .is_some_and(|fail_at| plan.operations >= fail_at)
        {
            assert!(
                !plan.panic_instead,
                "operation {} was made to panic",
                plan.operations
            );
            return Err(StorageError::Injected {
                operation: plan.operations,
            });
        }
        Ok(())
    }
}

impl Faults {
    /// Fails the operation with this number (from 1) and all that follow.
    pub fn fail_at(&self, operation: u64) {
        self.0.lock().fail_at = Some(operation);
    }

    /// Has the store panic where it would return an error.
    pub fn panic_instead(&self) {
        self.0.lock().panic_instead = true;
    }

    /// How many operations there have been.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// How many changes have been written since the last sync.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.0.lock().unsynced.len()
    }

    /// What the disk would hold after a power cut now, if of the changes since the last sync the first
    /// `surviving` had reached it.
    #[must_use]
    pub fn after_power_cut(&self, surviving: usize) -> MemoryStore {
        let plan = self.0.lock();
        let disk = plan.synced.copy();
        plan.unsynced
            .iter()
            .take(surviving)
            .cloned()
            .for_each(|change| disk.apply(change));
        disk
    }
}

impl Store for FaultyStore {
    fn write(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        let mut plan = self.faults.0.lock();
        self.operation(&mut plan)?;
        plan.unsynced.extend(changes.iter().cloned());
        drop(plan);
        self.inner.write(changes)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let mut plan = self.faults.0.lock();
        self.operation(&mut plan)?;
        let Plan {
            synced, unsynced, ..
        } = &mut *plan;
        unsynced.drain(..).for_each(|change| synced.apply(change));
        drop(plan);
        self.inner.sync()
    }

    fn reader(&self) -> Arc<dyn StoreRead> {
        self.inner.reader()
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    fn wants_maintenance(&self) -> bool {
        self.inner.wants_maintenance()
    }

    fn maintain(&mut self) -> Result<(), StorageError> {
        self.inner.maintain()
    }
}
