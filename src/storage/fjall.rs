//! The second store: fjall 3.1.13, an embedded log-structured merge tree.
//!
//! fjall appends every batch to a journal, keeps it in memory tables, and writes those out as sorted files that
//! it merges in the background. What makes it safe here, each rule with a test:
//!
//! 1. A batch alone promises nothing: it reaches the journal's buffer. `persist(SyncData)` writes the buffer out
//!    and syncs the journal, which is allocated ahead, so its size is on disk too; only then is anything
//!    promised. A failed sync in one of fjall's own threads poisons the database; that is looked at after our
//!    own sync as well, because the system reports a failure once only.
//! 2. A journal that is damaged in its middle is taken for one that ends there
//!    (<https://github.com/fjall-rs/fjall/issues/311>), and what follows is cut off. So a clean open proves
//!    nothing: blocks and pages have checksums, commits are chained, and a marker file beside the store says how
//!    far it must reach.
//! 3. A removed key leaves a tombstone, and a scan walks over every one of them
//!    (<https://github.com/fjall-rs/fjall/issues/115>). The log loses its keys at one end, so it has a keyspace
//!    of its own with a *floor*, below which nothing is read; files below it are dropped as they are, without
//!    being merged ([`space`]).
//! 4. fjall waits for its threads without an end, even if they are dead
//!    (<https://github.com/fjall-rs/fjall/issues/257>). So before a batch we wait ourselves until there is room,
//!    look whether the threads live, and give up when nothing moves.
//! 5. Everything it holds in memory is bounded: the cache, and at most four memory tables of
//!    [`FjallOptions::memtable_bytes`].
//! 6. Opening and reading are guarded against panics, like those of the other stores.

mod space;

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode};

use self::space::{Floor, Space};
use super::lock::DirectoryLock;
use super::writer::guarded;
use super::{Change, StorageError, Store, StoreRead, StoreStats, Visit, block};

/// The keyspace of the log's blocks; its keys grow at one end and go at the other.
const LOG: &str = "log";
/// The keyspace of everything else.
const STATE: &str = "state";
/// Keys from here on belong to this store itself.
const OWN_KEYS: u8 = 0xff;

/// One thread writes memory tables out while the other merges files.
const THREADS: usize = 2;
/// Files that fjall keeps open. They come out of the descriptors that connections leave; its default is 900.
const FILES_OPEN: usize = 64;
/// Memory tables that may wait to be written out before a batch; two threads of fjall may add one each
/// meanwhile, and at 4 it would halt.
const SEALED_MAX: usize = 1;
/// Unmerged runs of files at which a batch waits. fjall itself would halt at 30.
const RUNS_MAX: usize = 18;
/// How long a batch waits while nothing at all moves. Writing one memory table takes far less.
const STALL_LIMIT: Duration = Duration::from_secs(60);
const STALL_POLL: Duration = Duration::from_millis(2);
/// How long a database that this process has just closed may keep its lock.
const RELEASE_WAIT: Duration = Duration::from_secs(10);

/// How fjall is set up.
#[derive(Debug, Clone)]
pub struct FjallOptions {
    /// Bytes of file blocks kept in memory.
    pub cache_bytes: u64,
    /// Size at which a memory table is written out, in bytes. There are at most four at a time.
    pub memtable_bytes: u64,
    /// Bytes of journals above which memory tables are written out early so that old journals can go; at
    /// least 64 MiB, which is what one journal has.
    pub journals_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            memtable_bytes: 16 << 20,
            journals_bytes: 128 << 20,
        }
    }
}

/// The smallest [`FjallOptions::journals_bytes`].
const JOURNALS_MIN: u64 = 64 << 20;

/// A store in a directory.
pub struct FjallStore {
    keyspaces: Keyspaces,
    space: Space,
    memtable_bytes: u64,
    syncs: u64,
    /// Closed after everything that refers to it, and before the lock is let go of.
    database: Database,
    _lock: Option<DirectoryLock>,
}

/// Where a key is kept.
#[derive(Clone)]
struct Keyspaces {
    log: Keyspace,
    state: Keyspace,
}

impl Keyspaces {
    fn of(&self, key: &[u8]) -> &Keyspace {
        if is_log(key) { &self.log } else { &self.state }
    }
}

/// Whether a key is one of the log's blocks.
fn is_log(key: &[u8]) -> bool {
    key.first() == Some(&block::KEY_SPACE)
}

impl FjallStore {
    /// Opens the database in `path`, or creates it.
    ///
    /// # Errors
    /// fjall refuses or panics.
    pub fn open(path: &Path, options: &FjallOptions) -> Result<Self, StorageError> {
        guarded("opening the database", || {
            let database = open_when_released(path, options)?;
            // Memory tables are written out by this store, at the size configured now rather than at creation.
            let keyspace = |name| {
                let create = || {
                    KeyspaceCreateOptions::default()
                        .expect_point_read_hits(true)
                        .manual_journal_persist(true)
                        .max_memtable_size(u64::MAX)
                };
                database
                    .keyspace(name, create)
                    .map_err(engine("opening the database"))
            };
            let keyspaces = Keyspaces {
                log: keyspace(LOG)?,
                state: keyspace(STATE)?,
            };
            let space = Space::open(&keyspaces)?;
            Ok(Self {
                keyspaces,
                space,
                memtable_bytes: options.memtable_bytes,
                syncs: 0,
                database,
                _lock: None,
            })
        })
    }

    /// Keeps a lock until the database is closed.
    pub(super) fn hold(mut self, lock: DirectoryLock) -> Self {
        self._lock = Some(lock);
        self
    }

    /// Waits until fjall's threads have caught up far enough that it will not halt in the next batch (rule 4).
    fn wait_for_room(&self) -> Result<(), StorageError> {
        let standing = || {
            let of = |keyspace: &Keyspace| {
                (
                    keyspace.tree.sealed_memtable_count(),
                    keyspace.tree.l0_run_count(),
                )
            };
            [of(&self.keyspaces.log), of(&self.keyspaces.state)]
        };
        let mut last = standing();
        let mut since = Instant::now();
        while last
            .iter()
            .any(|&(sealed, runs)| sealed > SEALED_MAX || runs > RUNS_MAX)
        {
            self.check_threads()?;
            if since.elapsed() > STALL_LIMIT {
                return Err(StorageError::Engine {
                    doing: "writing in the background",
                    reason: format!("nothing has moved for {} s", STALL_LIMIT.as_secs()),
                });
            }
            thread::sleep(STALL_POLL);
            let now = standing();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Makes everything written survive a power cut (rule 1).
    fn persist(&self) -> Result<(), StorageError> {
        let persisted = self.database.persist(PersistMode::SyncData);
        persisted.map_err(engine("syncing its journal"))?;
        self.check_threads()
    }

    /// A thread of fjall that failed or panicked has poisoned the database, and every operation says so.
    fn check_threads(&self) -> Result<(), StorageError> {
        let persisted = self.database.persist(PersistMode::Buffer);
        persisted.map_err(engine("writing in the background"))
    }

    /// Has full memory tables written out (rule 5). Both together, because a journal goes only when all that is
    /// in it is in files.
    fn rotate_if_full(&self) -> Result<(), StorageError> {
        let Keyspaces { log, state } = &self.keyspaces;
        let bytes = log.tree.active_memtable().size() + state.tree.active_memtable().size();
        if bytes < self.memtable_bytes {
            return Ok(());
        }
        for keyspace in [log, state] {
            keyspace
                .rotate_memtable()
                .map_err(engine("writing out a memory table"))?;
        }
        Ok(())
    }
}

impl Store for FjallStore {
    fn write(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.wait_for_room()?;
        let mut batch = self.database.batch();
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    debug_assert!(key.first() != Some(&OWN_KEYS), "the store's own key");
                    self.space.put(&key, &mut batch, &self.keyspaces);
                    batch.insert(self.keyspaces.of(&key), key, value);
                }
                Change::Remove(key) => {
                    self.space.removed(&key);
                    batch.remove(self.keyspaces.of(&key), key);
                }
            }
        }
        batch.commit().map_err(engine("writing"))?;
        self.rotate_if_full()
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.persist()?;
        self.syncs += 1;
        self.space.synced(&self.database, &self.keyspaces)
    }

    fn reader(&self) -> Arc<dyn StoreRead> {
        Arc::new(FjallReader {
            keyspaces: self.keyspaces.clone(),
            floor: self.space.floor(),
        })
    }

    fn stats(&self) -> StoreStats {
        StoreStats {
            size_on_disk_bytes: self.database.disk_space().unwrap_or_default(),
            syncs: self.syncs,
        }
    }

    fn wants_maintenance(&self) -> bool {
        self.space.wants_quiet()
    }

    fn maintain(&mut self) -> Result<(), StorageError> {
        // Once for the removals, once for the floor that follows from them, and its files are dropped.
        self.persist()?;
        self.space.raise(&self.database, &self.keyspaces)?;
        self.space.wait()?;
        self.persist()?;
        self.space.synced(&self.database, &self.keyspaces)?;
        self.space.wait()
    }
}

struct FjallReader {
    keyspaces: Keyspaces,
    floor: Floor,
}

impl StoreRead for FjallReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        if is_log(key) && key < self.floor.get().as_slice() {
            return Ok(None);
        }
        let value = self.keyspaces.of(key).get(key).map_err(engine("reading"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let floor = self.floor.get();
        let (log, after_log) = ([block::KEY_SPACE], [block::KEY_SPACE + 1]);
        let Keyspaces { log: blocks, state } = &self.keyspaces;
        // In the order of their keys: what is before the log, the log from its floor on, what is after it.
        for (keyspace, first, end) in [
            (state, [].as_slice(), log.as_slice()),
            (blocks, floor.as_slice().max(&log), &after_log),
            (state, &after_log, &[OWN_KEYS]),
        ] {
            if scan_keyspace(keyspace, from.max(first), to.min(end), visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn scan_keyspace(
    keyspace: &Keyspace,
    from: &[u8],
    to: &[u8],
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, StorageError> {
    if from >= to {
        return Ok(ControlFlow::Continue(()));
    }
    let range = (Bound::Included(from), Bound::Excluded(to));
    for entry in keyspace.range::<&[u8], _>(range) {
        let (key, value) = entry.into_inner().map_err(engine("reading"))?;
        if visit(&key, &value).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn engine(doing: &'static str) -> impl FnOnce(fjall::Error) -> StorageError {
    move |error| {
        let reason = match error {
            fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => {
                error.to_string()
            }
            fjall::Error::Poisoned => "one of its threads failed".into(),
            error @ (fjall::Error::JournalRecovery(_) | fjall::Error::Storage(_)) => {
                return StorageError::Corrupt {
                    what: format!("{doing}: {error}"),
                };
            }
            error => error.to_string(),
        };
        StorageError::Engine { doing, reason }
    }
}

fn open_when_released(path: &Path, options: &FjallOptions) -> Result<Database, StorageError> {
    let from = Instant::now();
    loop {
        let opened = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journals_bytes.max(JOURNALS_MIN))
            .manual_journal_persist(true)
            .worker_threads(THREADS)
            .max_cached_files(Some(FILES_OPEN))
            .open();
        match opened {
            // The directory's own lock is held by now, so it can only be a database on its way out.
            Err(fjall::Error::Locked) if from.elapsed() < RELEASE_WAIT => {}
            opened => return opened.map_err(engine("opening the database")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(path: &Path) -> FjallStore {
        FjallStore::open(path, &FjallOptions::default()).unwrap()
    }

    fn put(number: u32, len: usize) -> Change {
        let key = [[block::KEY_SPACE].as_slice(), &number.to_be_bytes()].concat();
        Change::Put(key, vec![7; len])
    }

    #[test]
    fn rule_1_a_sync_brings_what_was_written_into_the_journal() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        let holds = || {
            let image = fs::read(directory.path().join("0.jnl")).unwrap();
            image
                .windows(19)
                .any(|octets| octets == b"find me on the disk")
        };
        let change = Change::Put(b"k".to_vec(), b"find me on the disk".to_vec());
        store.write(vec![change]).unwrap();
        assert!(!holds(), "writing alone promises nothing");
        store.sync().unwrap();
        assert!(holds());
        assert_eq!(store.stats().syncs, 1);
    }

    #[test]
    fn rule_4_a_thread_that_failed_is_an_error_of_the_next_writes_and_never_a_wait_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let options = FjallOptions {
            memtable_bytes: 1 << 20,
            ..FjallOptions::default()
        };
        let mut store = FjallStore::open(directory.path(), &options).unwrap();
        for keyspace in fs::read_dir(directory.path().join("keyspaces")).unwrap() {
            fs::remove_dir_all(keyspace.unwrap().path().join("tables")).unwrap();
        }
        let error = (0..10_000).find_map(|number| store.write(vec![put(number, 60_000)]).err());
        let said = error.expect("nothing can be written out").to_string();
        assert!(said.contains("one of its threads failed"), "{said}");
        assert!(store.sync().is_err());
    }

    #[test]
    fn rule_5_memory_tables_stay_within_their_bounds_however_much_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let options = FjallOptions {
            memtable_bytes: 1 << 20,
            ..FjallOptions::default()
        };
        let mut store = FjallStore::open(directory.path(), &options).unwrap();
        let mut most = 0;
        for number in 0..1000 {
            store.write(vec![put(number, 60_000)]).unwrap();
            most = most.max(store.database.write_buffer_size());
        }
        assert!(most <= 5 << 20, "{most} bytes");
    }
}
