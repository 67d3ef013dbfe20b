//! Giving back the space of the log's removed blocks.
//!
//! A merge tree gives the space of a removed key back when it happens to merge the files that hold the key and
//! its tombstone; for a backlog that is drained without much being written, that is never. But the log is
//! removed from its old end. So the smallest block that is there is kept in mind as the *floor*: reads begin at
//! it, and files that lie below it altogether are dropped.
//!
//! Dropping a file may bring back what a tombstone in it hid in a file that stays. Everything below the floor is
//! removed, so the floor hides it; it is written down before anything is dropped, and looked for only when the
//! removals are synced that it comes from. It never goes beyond a block that is there, because a later
//! commit has a higher number than that one, but not than one that was removed.

use std::ops::Bound;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use fjall::{AbstractTree, Database, Keyspace, OwnedWriteBatch};
use parking_lot::RwLock;

use super::super::StorageError;
use super::super::writer::guarded;
use super::{Keyspaces, OWN_KEYS, block, engine, is_log};

/// Where the floor is written down, among the state.
const FLOOR_KEY: [u8; 6] = [OWN_KEYS, b'f', b'l', b'o', b'o', b'r'];
/// Blocks removed after which it is worth looking for a higher floor.
const REMOVALS: u64 = 256;

/// The smallest key of the log that is there, shared with the readers.
#[derive(Clone, Default)]
pub(super) struct Floor(Arc<RwLock<Vec<u8>>>);

impl Floor {
    pub(super) fn get(&self) -> Vec<u8> {
        self.0.read().clone()
    }

    fn set(&self, key: Vec<u8>) {
        *self.0.write() = key;
    }
}

/// How far the floor has come.
pub(super) struct Space {
    floor: Floor,
    /// Blocks removed since a floor was last looked for.
    removed: u64,
    /// The last process may have removed what it did not get round to giving back.
    is_inherited: bool,
    /// A floor that was written, and below which files are dropped once it is synced.
    written: Option<Vec<u8>>,
    /// What is being dropped.
    dropping: Option<JoinHandle<Result<(), StorageError>>>,
}

impl Space {
    /// # Errors
    /// The floor cannot be read.
    pub(super) fn open(keyspaces: &Keyspaces) -> Result<Self, StorageError> {
        let found = keyspaces.state.get(FLOOR_KEY).map_err(engine("reading"))?;
        let floor = Floor::default();
        floor.set(found.map(|key| key.to_vec()).unwrap_or_default());
        Ok(Self {
            floor,
            removed: 0,
            is_inherited: true,
            written: None,
            dropping: None,
        })
    }

    pub(super) fn floor(&self) -> Floor {
        self.floor.clone()
    }

    /// Notes that a key is removed.
    pub(super) fn removed(&mut self, key: &[u8]) {
        self.removed += u64::from(is_log(key));
    }

    /// Notes that a key is put. The log only grows above its floor; should it not, the floor gives way.
    pub(super) fn put(&mut self, key: &[u8], batch: &mut OwnedWriteBatch, keyspaces: &Keyspaces) {
        if is_log(key) && key < self.floor.get().as_slice() {
            self.written = None;
            self.floor.set(key.to_vec());
            batch.insert(&keyspaces.state, FLOOR_KEY, key);
        }
    }

    /// After a sync: drops what is below a floor that is on disk now, or looks for a new one.
    ///
    /// # Errors
    /// Those of the database, also from an earlier drop.
    pub(super) fn synced(
        &mut self,
        database: &Database,
        keyspaces: &Keyspaces,
    ) -> Result<(), StorageError> {
        if self.dropping.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait()?;
        }
        if self.dropping.is_none()
            && let Some(floor) = self.written.take()
        {
            self.dropping = Some(drop_below(floor, keyspaces.clone())?);
        }
        if self.is_worth_a_look() {
            self.raise(database, keyspaces)?;
        }
        Ok(())
    }

    /// Whether so much was removed that there may be something to give back.
    pub(super) fn is_worth_a_look(&self) -> bool {
        self.removed >= REMOVALS
    }

    /// Whether a quiet moment is of use: also for what was begun, or left behind.
    pub(super) fn wants_quiet(&self) -> bool {
        self.is_worth_a_look()
            || self.is_inherited
            || self.written.is_some()
            || self.dropping.is_some()
    }

    /// Raises the floor to the first block there is, if that is above it. All removals so far must be synced.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) fn raise(
        &mut self,
        database: &Database,
        keyspaces: &Keyspaces,
    ) -> Result<(), StorageError> {
        self.removed = 0;
        let was_inherited = std::mem::take(&mut self.is_inherited);
        let floor = self.floor.get();
        let from = floor.as_slice().max(&[block::KEY_SPACE]);
        let range = (Bound::Included(from), Bound::Unbounded);
        let Some(first) = keyspaces.log.range::<&[u8], _>(range).next() else {
            return Ok(());
        };
        let first = first.key().map_err(engine("reading"))?.to_vec();
        if first > floor {
            let mut batch = database.batch();
            batch.insert(&keyspaces.state, FLOOR_KEY, first.as_slice());
            batch.commit().map_err(engine("writing"))?;
            self.floor.set(first.clone());
            self.written = Some(first);
        } else if was_inherited && !floor.is_empty() {
            self.written = Some(floor);
        }
        Ok(())
    }

    /// Waits for what is being dropped.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) fn wait(&mut self) -> Result<(), StorageError> {
        match self.dropping.take().map(JoinHandle::join) {
            Some(Ok(dropped)) => dropped,
            // Its panics are caught inside; there is none left to carry.
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // The database is closed next, and its threads must not be in use then; a failure has nobody left to tell.
        let _ = self.wait();
    }
}

/// Drops the files below `floor`, on a thread of its own: it waits for merges that are under way.
fn drop_below(
    floor: Vec<u8>,
    keyspaces: Keyspaces,
) -> Result<JoinHandle<Result<(), StorageError>>, StorageError> {
    let doing = "dropping files";
    let work = move || {
        guarded(doing, || {
            let Keyspaces { log, state } = &keyspaces;
            let below = (Bound::Unbounded, Bound::Excluded(floor.as_slice()));
            let dropped = log.tree.drop_range::<&[u8], _>(below);
            dropped.map_err(|error| engine(doing)(error.into()))?;
            release(log, state)
        })
    };
    let thread = thread::Builder::new().name("millpond-space".into());
    thread.spawn(work).map_err(|error| StorageError::Engine {
        doing,
        reason: error.to_string(),
    })
}

/// Lets go of the files: old versions of the tree hold them until a memory table is written out. There is always
/// something in that of the state, the floor at least.
fn release(log: &Keyspace, state: &Keyspace) -> Result<(), StorageError> {
    for keyspace in [log, state] {
        keyspace
            .rotate_memtable()
            .map_err(engine("writing out a memory table"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::{FjallOptions, FjallStore};
    use super::*;
    use crate::storage::{Change, Store};

    fn key(number: u32) -> Vec<u8> {
        [[block::KEY_SPACE].as_slice(), &number.to_be_bytes()].concat()
    }

    /// Bytes of the log's files.
    fn tables(path: &Path) -> u64 {
        let files = fs::read_dir(path.join("keyspaces/1/tables"))
            .unwrap()
            .flatten();
        files
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum()
    }

    #[test]
    fn rule_3_files_below_the_floor_are_dropped_and_it_stays_where_it_is_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let options = FjallOptions {
            memtable_bytes: 1 << 20,
            ..FjallOptions::default()
        };
        let mut store = FjallStore::open(directory.path(), &options).unwrap();
        for number in 0..1000 {
            store
                .write(vec![Change::Put(key(number), vec![7; 20_000])])
                .unwrap();
        }
        store.sync().unwrap();
        let full = tables(directory.path());
        assert!(full > 10 << 20, "{full} bytes");
        store
            .write((0..990).map(|number| Change::Remove(key(number))).collect())
            .unwrap();
        assert!(store.space.floor().get().is_empty());
        store.sync().unwrap();
        assert_eq!(store.space.floor().get(), key(990));
        assert!(
            store.space.dropping.is_none(),
            "the floor itself is not synced yet"
        );
        store.sync().unwrap();
        store.space.wait().unwrap();
        drop(store);
        let left = tables(directory.path());
        assert!(left < full / 4, "{left} of {full} bytes are left");
        let store = FjallStore::open(directory.path(), &options).unwrap();
        assert_eq!(store.space.floor().get(), key(990));
        assert_eq!(store.reader().get(&key(989)).unwrap(), None);
        assert!(store.reader().get(&key(990)).unwrap().is_some());
    }

    #[test]
    fn what_a_process_did_not_get_round_to_giving_back_comes_back_in_a_quiet_moment_of_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let options = FjallOptions {
            memtable_bytes: 1 << 20,
            ..FjallOptions::default()
        };
        let mut store = FjallStore::open(directory.path(), &options).unwrap();
        let put = |number| Change::Put(key(number), vec![7; 20_000]);
        (0..1000).for_each(|number| store.write(vec![put(number)]).unwrap());
        let removed = (0..990).map(|number| Change::Remove(key(number)));
        store.write(removed.collect()).unwrap();
        let full = tables(directory.path());
        drop(store);
        let mut store = FjallStore::open(directory.path(), &options).unwrap();
        assert!(store.wants_maintenance());
        store.maintain().unwrap();
        assert!(!store.wants_maintenance());
        drop(store);
        let left = tables(directory.path());
        assert!(left < full / 4, "{left} of {full} bytes are left");
    }

    #[test]
    fn a_key_that_is_put_below_the_floor_all_the_same_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(directory.path(), &FjallOptions::default()).unwrap();
        let put = |number| Change::Put(key(number), vec![1]);
        store.write((0..500).map(put).collect()).unwrap();
        store
            .write((0..400).map(|number| Change::Remove(key(number))).collect())
            .unwrap();
        store.sync().unwrap();
        assert_eq!(store.space.floor().get(), key(400));
        store.write(vec![put(100)]).unwrap();
        store.sync().unwrap();
        drop(store);
        let store = FjallStore::open(directory.path(), &FjallOptions::default()).unwrap();
        assert!(store.reader().get(&key(100)).unwrap().is_some());
        let mut held = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            held += 1;
            std::ops::ControlFlow::Continue(())
        };
        store.reader().scan(&[1], &[2], &mut count).unwrap();
        assert_eq!(held, 101);
    }
}
