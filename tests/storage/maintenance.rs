//! What the writer does when it has nothing else to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use millpond::storage::{
    Change, Journal, JournalOptions, MemoryStore, StorageError, Store, StoreRead, StoreStats,
};

use crate::support::{body, commit, q, s, seqs_in, wait_until};

/// A store in memory that wants to be maintained, or not.
#[derive(Clone, Default)]
struct Demanding {
    store: MemoryStore,
    wants: Arc<AtomicBool>,
    maintained: Arc<AtomicU64>,
}

impl Store for Demanding {
    fn write(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.store.write(changes)
    }
    fn sync(&mut self) -> Result<(), StorageError> {
        self.store.sync()
    }
    fn reader(&self) -> Arc<dyn StoreRead> {
        self.store.reader()
    }
    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
    fn wants_maintenance(&self) -> bool {
        self.wants.load(Ordering::Acquire)
    }
    fn maintain(&mut self) -> Result<(), StorageError> {
        self.wants.store(false, Ordering::Release);
        self.maintained.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

fn open(store: &Demanding, maintenance_delay: Duration) -> Journal {
    let options = JournalOptions {
        maintenance_delay,
        ..JournalOptions::default()
    };
    Journal::open(Box::new(store.clone()), options).unwrap().0
}

#[test]
fn a_store_that_wants_it_is_maintained_once_nobody_writes() {
    let store = Demanding::default();
    let journal = open(&store, Duration::from_millis(1));
    for seq in 1..=3 {
        store.wants.store(true, Ordering::Release);
        commit(&journal, |unit| unit.enqueue(q(1), s(seq), body("x")));
        wait_until("maintenance", || {
            store.maintained.load(Ordering::Acquire) == seq
        });
    }
    journal.close().unwrap();
    assert_eq!(store.maintained.load(Ordering::Acquire), 3);
    assert_eq!(seqs_in(&store.store, q(1)), [1, 2, 3]);
}

#[test]
fn neither_work_nor_a_close_waits_for_maintenance_that_is_not_due_yet() {
    let store = Demanding::default();
    store.wants.store(true, Ordering::Release);
    let journal = open(&store, Duration::from_secs(3600));
    for seq in 1..=3 {
        commit(&journal, |unit| unit.enqueue(q(1), s(seq), body("x")));
    }
    journal.close().unwrap();
    assert_eq!(store.maintained.load(Ordering::Acquire), 0);
}
