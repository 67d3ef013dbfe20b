//! The default store: sled 0.34.7, embedded.
//!
//! Used plainly, sled loses data: its `flush` does not sync on Linux, and values that do not fit a segment
//! go to files that it neither syncs nor deletes. Six rules make it safe; each has a test.
//!
//! 1. After every `flush`, `sync_data` on a descriptor of our own of the database file; only then is
//!    anything promised. The directory is synced once, when the store is created.
//! 2. Segments of 16 MiB, fixed when the store is created, and every value at most 64 KiB, so that no
//!    value becomes a file of its own; a store that has such files is refused.
//! 3. At most 256 puts and 256 removes an `apply_batch`, because bigger ones leak memory and disk. So a
//!    commit is not atomic through sled; it counts only once its final part is there.
//! 4. One tree; queues and everything else are told apart by key prefixes, and queue identities are never
//!    used twice, so nothing needs a tree to be dropped.
//! 5. A clean open proves nothing. Every block and page has a checksum, commits are chained; opening is
//!    guarded against panics, those in sled's own threads too; a directory that existed must hold a store
//!    identity.
//! 6. A marker file beside the store says how far it must reach ([`super::marker`]); an older or an empty
//!    store is refused unless the operator accepts the loss.
//!
//! Opening reads everything that sled wrote since its last snapshot, about a gigabyte a second, and sled
//! writes a snapshot only when it is opened. So a store that has been written to much is closed and opened
//! again in a quiet moment; the next start, also after a kill, then takes a second. A snapshot that was
//! being written when the process died is removed: sled would take it for the newest, and refuse to open.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;

use super::lock::DirectoryLock;
use super::writer::guarded;
use super::{Change, StorageError, Store, StoreRead, StoreStats, VALUE_SIZE_MAX, Visit};

/// Rule 2.
const SEGMENT_BYTES: usize = 16 << 20;
/// Rule 3.
const BATCH_PUTS_MAX: usize = 256;
const BATCH_REMOVES_MAX: usize = 256;
/// One more access for so many octets read, and for so many written: a page with eight values of 64 KiB then
/// has the 64 accesses after which sled looks at its cache, and more.
const READ_TOUCH_OCTETS: usize = 4 << 10;
const WRITE_TOUCH_OCTETS: usize = 16 << 10;
/// How long a database that this process has just closed may keep its file: sled's threads let go of it a
/// moment later.
const RELEASE_WAIT: Duration = Duration::from_secs(10);
/// How often an open that takes long looks whether a thread of sled has died.
const OPEN_POLL: Duration = Duration::from_millis(20);

/// How sled is set up.
#[derive(Debug, Clone)]
pub struct SledOptions {
    /// Bytes of pages kept in memory. sled takes it as a hint and goes over it by a third or so.
    pub cache_bytes: u64,
    /// After how many bytes written the database is opened anew in a quiet moment, so that the next start
    /// need not read them all.
    pub snapshot_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            snapshot_bytes: 512 << 20,
        }
    }
}

/// Makes the database file durable; a seam, so that a test can count.
type Barrier = Box<dyn FnMut() -> io::Result<()> + Send>;

/// The database; `None` only while it is being opened anew, or if that failed.
type Database = Arc<RwLock<Option<sled::Db>>>;

/// A store in a directory.
pub struct SledStore {
    database: Database,
    config: sled::Config,
    /// Bytes since the database was opened.
    written: u64,
    snapshot_bytes: u64,
    barrier: Barrier,
    syncs: u64,
    /// How many of sled's threads had died when the store was opened.
    dead_threads: u64,
    /// Let go of after the database.
    _lock: Option<DirectoryLock>,
}

impl SledStore {
    /// Opens the database in `path`, or creates it.
    ///
    /// # Errors
    /// sled refuses or panics; the database has value files (rule 2); the file cannot be opened a second
    /// time for syncing.
    pub fn open(path: &Path, options: &SledOptions) -> Result<Self, StorageError> {
        let blobs = path.join("blobs");
        if fs::read_dir(&blobs).is_ok_and(|mut entries| entries.next().is_some()) {
            let reason = format!(
                "{} holds values that sled keeps outside its log, unsynced",
                blobs.display()
            );
            return Err(StorageError::NotAStore {
                path: path.into(),
                reason,
            });
        }
        remove_unfinished_snapshots(path)?;
        watch_threads();
        let dead_threads = DEAD_THREADS.load(Ordering::Acquire);
        let config = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let database = open_guarded(&config, dead_threads)?;
        let file = path.join("db");
        let file = File::open(&file).map_err(|error| StorageError::io("open", file, error))?;
        let barrier = Box::new(move || file.sync_data());
        Ok(Self {
            database: Arc::new(RwLock::new(Some(database))),
            config,
            written: 0,
            snapshot_bytes: options.snapshot_bytes,
            barrier,
            syncs: 0,
            dead_threads,
            _lock: None,
        })
    }

    /// Keeps a lock until the database is closed.
    pub(super) fn hold(mut self, lock: DirectoryLock) -> Self {
        self._lock = Some(lock);
        self
    }

    /// A thread of sled that dies takes along what it was to write, and sled may not notice.
    fn check_threads(&self) -> Result<(), StorageError> {
        if DEAD_THREADS.load(Ordering::Acquire) > self.dead_threads {
            let reason = "one of its threads died".into();
            return Err(StorageError::Panicked {
                doing: "writing in the background",
                reason,
            });
        }
        Ok(())
    }
}

impl Store for SledStore {
    fn write(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        let database = self.database.read();
        let database = database.as_ref().ok_or(StorageError::Closed)?;
        let mut changes = changes.into_iter().peekable();
        let mut large = Vec::new();
        while changes.peek().is_some() {
            let (batch, ..) = next_batch(&mut changes, &mut self.written, &mut large);
            database.apply_batch(batch).map_err(engine("writing"))?;
            for (key, touches) in large.drain(..) {
                touch(database, &key, touches)?;
            }
        }
        self.check_threads()
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let database = self.database.read();
        let flushed = database.as_ref().ok_or(StorageError::Closed)?.flush();
        drop(database);
        flushed.map_err(engine("flushing"))?;
        self.check_threads()?;
        let synced = (self.barrier)();
        synced.map_err(|error| StorageError::Engine {
            doing: "syncing its file",
            reason: error.to_string(),
        })?;
        self.syncs += 1;
        Ok(())
    }

    fn reader(&self) -> Arc<dyn StoreRead> {
        Arc::new(SledReader(Arc::clone(&self.database)))
    }

    fn stats(&self) -> StoreStats {
        let database = self.database.read();
        let size = database.as_ref().map(sled::Db::size_on_disk);
        let size_on_disk_bytes = size.and_then(Result::ok).unwrap_or_default();
        StoreStats {
            size_on_disk_bytes,
            syncs: self.syncs,
        }
    }

    fn wants_maintenance(&self) -> bool {
        self.written >= self.snapshot_bytes
    }

    /// Opens the database anew if that makes the next start faster; readers wait. (Nothing else is to be
    /// done: sled reuses freed segments by itself, and never shrinks its file.)
    fn maintain(&mut self) -> Result<(), StorageError> {
        if !self.wants_maintenance() {
            return Ok(());
        }
        self.sync()?;
        let mut database = self.database.write();
        drop(database.take());
        *database = Some(open_guarded(&self.config, self.dead_threads)?);
        self.written = 0;
        Ok(())
    }
}

/// Removes what is left of snapshots whose writing was cut off; there is an older one, or the log alone.
///
/// # Errors
/// The directory cannot be read, or one of them not removed.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), StorageError> {
    let Ok(entries) = fs::read_dir(path) else {
        // It is about to be created.
        return Ok(());
    };
    for entry in entries {
        let entry = entry.map_err(|error| StorageError::io("list", path, error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let path = entry.path();
            fs::remove_file(&path).map_err(|error| StorageError::io("remove", path, error))?;
        }
    }
    Ok(())
}

/// Takes as many changes as one `apply_batch` may have (rule 3), in order, and adds their bytes to
/// `written`, the keys of large values and how often to touch them to `large`. Returns how many puts and
/// removes they are.
fn next_batch(
    changes: &mut impl Iterator<Item = Change>,
    written: &mut u64,
    large: &mut Vec<(Vec<u8>, usize)>,
) -> (sled::Batch, usize, usize) {
    let mut batch = sled::Batch::default();
    let (mut puts, mut removes) = (0, 0);
    while puts < BATCH_PUTS_MAX
        && removes < BATCH_REMOVES_MAX
        && let Some(change) = changes.next()
    {
        match change {
            Change::Put(key, value) => {
                debug_assert!(value.len() <= VALUE_SIZE_MAX, "rule 2");
                *written += (key.len() + value.len()) as u64;
                let touches = value.len() / WRITE_TOUCH_OCTETS;
                if touches > 0 {
                    large.push((key.clone(), touches));
                }
                batch.insert(key, value);
                puts += 1;
            }
            Change::Remove(key) => {
                batch.remove(key);
                removes += 1;
            }
        }
    }
    (batch, puts, removes)
}

/// Accesses a key again, so that sled looks at the size of its cache the sooner.
fn touch(database: &sled::Db, key: &[u8], times: usize) -> Result<(), StorageError> {
    for _ in 0..times {
        database.contains_key(key).map_err(engine("reading"))?;
    }
    Ok(())
}

struct SledReader(Database);

impl StoreRead for SledReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let database = self.0.read();
        let database = database.as_ref().ok_or(StorageError::Closed)?;
        let value = database.get(key).map_err(engine("reading"))?;
        let len = value.as_ref().map_or(0, |value| value.len());
        touch(database, key, len / READ_TOUCH_OCTETS)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let database = self.0.read();
        let database = database.as_ref().ok_or(StorageError::Closed)?;
        for entry in database.range(from..to) {
            let (key, value) = entry.map_err(engine("reading"))?;
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

fn engine(doing: &'static str) -> impl FnOnce(sled::Error) -> StorageError {
    move |error| StorageError::Engine {
        doing,
        reason: error.to_string(),
    }
}

/// How many of sled's threads have panicked in this process.
static DEAD_THREADS: AtomicU64 = AtomicU64::new(0);

/// Has panics in sled's threads counted. Whatever hook there was goes on reporting them.
fn watch_threads() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current()
                .name()
                .is_some_and(|name| name.starts_with("sled-"))
            {
                DEAD_THREADS.fetch_add(1, Ordering::AcqRel);
            }
            report(info);
        }));
    });
}

/// Opens the database on a thread of its own: a damaged one makes sled panic, here or in threads whose
/// work it would then await for ever.
fn open_guarded(config: &sled::Config, dead_threads: u64) -> Result<sled::Db, StorageError> {
    let doing = "opening the database";
    let (done, result) = mpsc::channel();
    let config = config.clone();
    let opener = move || {
        let opened = guarded(doing, || open_when_released(&config));
        // Nobody listens any more if a thread of sled died meanwhile.
        let _ = done.send(opened);
    };
    thread::Builder::new()
        .name("millpond-open".into())
        .spawn(opener)
        .map_err(|error| StorageError::Engine {
            doing,
            reason: error.to_string(),
        })?;
    loop {
        match result.recv_timeout(OPEN_POLL) {
            Ok(opened) => return opened,
            Err(RecvTimeoutError::Timeout)
                if DEAD_THREADS.load(Ordering::Acquire) == dead_threads => {}
            Err(_) => {
                return Err(StorageError::Panicked {
                    doing,
                    reason: "one of sled's threads died".into(),
                });
            }
        }
    }
}

fn open_when_released(config: &sled::Config) -> Result<sled::Db, StorageError> {
    let from = Instant::now();
    loop {
        match config.open() {
            Ok(database) => return Ok(database),
            // The directory's own lock is held by now, so it can only be a database on its way out.
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && from.elapsed() < RELEASE_WAIT =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(engine("opening the database")(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    fn open(path: &Path) -> SledStore {
        SledStore::open(path, &SledOptions::default()).unwrap()
    }

    fn put(number: u32, len: usize) -> Change {
        Change::Put(number.to_be_bytes().to_vec(), vec![7; len])
    }

    #[test]
    fn rule_1_every_sync_ends_with_one_barrier_on_our_own_descriptor_and_a_failed_one_is_an_error()
    {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        let file = directory.path().join("db");
        // What the file holds when the barrier is asked for: the flush must have come first.
        let seen = Arc::new(Mutex::new(Vec::new()));
        let barriers = Arc::clone(&seen);
        store.barrier = Box::new(move || {
            barriers.lock().push(fs::read(&file)?);
            if barriers.lock().len() == 3 {
                Err(io::Error::other("no more"))
            } else {
                Ok(())
            }
        });
        store
            .write(vec![Change::Put(
                b"k".to_vec(),
                b"find me on the disk".to_vec(),
            )])
            .unwrap();
        assert!(seen.lock().is_empty(), "writing alone promises nothing");
        store.sync().unwrap();
        let holds = |image: &[u8]| {
            image
                .windows(19)
                .any(|octets| octets == b"find me on the disk")
        };
        assert!(holds(&seen.lock()[0]));
        store.sync().unwrap();
        assert_eq!(
            (seen.lock().len(), store.stats().syncs),
            (2, 2),
            "even with nothing written"
        );
        assert!(store.sync().is_err());
        assert_eq!(store.stats().syncs, 2);
    }

    #[test]
    fn rule_2_values_of_the_largest_size_never_become_files_and_a_store_with_such_files_is_refused()
    {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        for round in 0..8 {
            store
                .write(
                    (0..64)
                        .map(|number| put(round * 64 + number, VALUE_SIZE_MAX))
                        .collect(),
                )
                .unwrap();
            store.sync().unwrap();
        }
        drop(store);
        let blobs = directory.path().join("blobs");
        assert_eq!(fs::read_dir(&blobs).map_or(0, Iterator::count), 0);
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join("123"), b"value").unwrap();
        let error = SledStore::open(directory.path(), &SledOptions::default())
            .err()
            .unwrap();
        assert!(error.to_string().contains("outside its log"), "{error}");
    }

    #[test]
    fn rule_3_no_batch_has_more_than_256_puts_or_removes() {
        let removes = |numbers: std::ops::Range<u32>| {
            numbers.map(|number| Change::Remove(vec![number.to_le_bytes()[0]]))
        };
        let all: Vec<_> = removes(0..600)
            .chain((0..300).map(|number| put(number, 1)))
            .chain(removes(0..10))
            .collect();
        let total = all.len();
        let mut changes = all.into_iter().peekable();
        let mut taken = 0;
        while changes.peek().is_some() {
            let (_, puts, removes) = next_batch(&mut changes, &mut 0, &mut Vec::new());
            assert!(puts <= 256 && removes <= 256 && puts + removes > 0);
            taken += puts + removes;
        }
        assert_eq!(taken, total);
    }

    #[test]
    fn rule_4_there_is_one_tree() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        store
            .write((0..100).map(|number| put(number, 10)).collect())
            .unwrap();
        store.sync().unwrap();
        let database = store.database.read();
        assert_eq!(database.as_ref().unwrap().tree_names().len(), 1);
    }

    fn snapshots(path: &Path) -> Vec<String> {
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("snap.")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_store_written_to_much_is_opened_anew_and_what_reads_it_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let options = SledOptions {
            snapshot_bytes: 100_000,
            ..SledOptions::default()
        };
        let mut store = SledStore::open(directory.path(), &options).unwrap();
        let reader = store.reader();
        for round in 0..3 {
            let before = snapshots(directory.path());
            store.write(vec![put(round, 50_000)]).unwrap();
            store.maintain().unwrap();
            assert!(!store.wants_maintenance());
            assert_eq!(snapshots(directory.path()), before, "not yet");
            store.write(vec![put(100 + round, 60_000)]).unwrap();
            assert!(store.wants_maintenance());
            store.maintain().unwrap();
            assert!(!store.wants_maintenance());
            assert!(snapshots(directory.path()) > before, "it has a newer one");
            for number in (0..=round).chain(100..=100 + round) {
                assert!(reader.get(&number.to_be_bytes()).unwrap().is_some());
            }
        }
        drop(store);
        drop(reader);
        let store = SledStore::open(directory.path(), &options).unwrap();
        let reader = store.reader();
        assert!(reader.get(&102_u32.to_be_bytes()).unwrap().is_some());
    }

    #[test]
    fn a_snapshot_whose_writing_was_cut_off_does_not_stop_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        store.write(vec![put(1, 10)]).unwrap();
        store.sync().unwrap();
        drop(store);
        let half = directory.path().join("snap.7FFFFFFFFFFFFFFF.generating");
        fs::write(&half, b"half of one").unwrap();
        let store = open(directory.path());
        let reader = store.reader();
        assert!(reader.get(&1_u32.to_be_bytes()).unwrap().is_some());
        assert!(!half.exists());
    }
}
