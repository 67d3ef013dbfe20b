//! The data directory: what is in it, and opening it safely.
//!
//! | entry | what it is |
//! |---|---|
//! | `store/` | the database |
//! | `millpond.meta` | the marker: how far the store must reach |
//! | `lock` | held while a process uses the directory |
//! | `reserve` | disk space to give up when there is no other |
//! | `store.new/` | a store whose creation was cut off; nothing was ever promised from it |

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::lock::DirectoryLock;
use super::marker::{Marker, sync_directory};
use super::meta::{self, Identity};
use super::{
    EngineOptions, Journal, JournalOptions, LogIndex, Recovered, StorageError, Store, disk, lock,
    marker,
};

const STORE: &str = "store";
const NEW_STORE: &str = "store.new";

/// How a data directory is opened.
#[derive(Debug, Clone, Default)]
pub struct DirectoryOptions {
    /// The log's own options.
    pub journal: JournalOptions,
    /// The database, and its options.
    pub engine: EngineOptions,
    /// Start even if the store holds less than was promised; what is missing is listed in
    /// [`Recovered::losses`], for which every message is read and verified.
    pub accept_data_loss: bool,
}

/// Opens a data directory, creating it and its store if there is none, and recovers what it holds.
///
/// # Errors
/// Another process uses the directory; it holds something else; the store is damaged beyond recovery, of
/// another format, or holds less than was promised; the system refuses an operation. The messages are
/// sentences for the operator.
pub fn open_directory(
    path: &Path,
    options: DirectoryOptions,
) -> Result<(Journal, Recovered), StorageError> {
    create_durably(path)?;
    let lock = DirectoryLock::acquire(path)?;
    let marker = Marker::open(path, options.accept_data_loss)?;
    let store = path.join(STORE);
    if !store.exists() {
        if marker.is_there() && !options.accept_data_loss {
            let reason = format!("{} is missing", store.display());
            return Err(StorageError::OlderThanMarker {
                path: path.into(),
                reason,
            });
        }
        refuse_foreign(path)?;
        create(path, &options.engine)?;
    }
    let database = open_existing(&store, &options.engine, lock)?;
    let mut journal = options.journal;
    // Who accepts a loss wants to know all of it, and to be rid of it.
    journal.verify |= options.accept_data_loss;
    Journal::start(database, journal, Some(marker))
}

/// Creates a directory and its missing parents so that a power cut does not take their names back.
fn create_durably(path: &Path) -> Result<(), StorageError> {
    // An empty parent is how a relative path says "here".
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_path_buf),
    };
    let mut missing = Vec::new();
    let mut next = Some(path.to_path_buf());
    while let Some(path) = next.filter(|path| !path.exists()) {
        next = parent(&path);
        missing.push(path);
    }
    fs::create_dir_all(path).map_err(|error| StorageError::io("create", path, error))?;
    missing
        .iter()
        .filter_map(|path| parent(path))
        .try_for_each(|parent| sync_directory(&parent))
}

/// A directory that holds something else is hardly meant to become a data directory.
fn refuse_foreign(path: &Path) -> Result<(), StorageError> {
    let ours = [
        lock::FILE_NAME,
        marker::FILE_NAME,
        disk::RESERVE_NAME,
        NEW_STORE,
        "lost+found",
    ];
    let entries = fs::read_dir(path).map_err(|error| StorageError::io("list", path, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| StorageError::io("list", path, error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours =
            ours.contains(&&*name) || name.starts_with('.') || name.starts_with("millpond.");
        if !is_ours {
            let reason = format!("it holds '{name}', but no store");
            return Err(StorageError::NotAStore {
                path: path.into(),
                reason,
            });
        }
    }
    Ok(())
}

/// Creates an empty store. It gets its name only once it is whole, so that a directory of that name without an
/// identity always means damage.
fn create(path: &Path, options: &EngineOptions) -> Result<(), StorageError> {
    remove_unfinished(path)?;
    drop(open_new(path, options, Identity::random())?);
    put_in_place(path)
}

/// Removes a store whose creation was cut off.
fn remove_unfinished(path: &Path) -> Result<(), StorageError> {
    let new = path.join(NEW_STORE);
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StorageError::io("remove", new, error))
        }
        _ => Ok(()),
    }
}

/// Begins a store under the name of one that is not finished.
fn open_new(
    path: &Path,
    options: &EngineOptions,
    identity: Identity,
) -> Result<Box<dyn Store>, StorageError> {
    let mut database = options.open(&path.join(NEW_STORE), None)?;
    database.write(vec![meta::put_identity(identity)])?;
    database.sync()?;
    Ok(database)
}

/// Gives a finished store, closed and synced, its name.
fn put_in_place(path: &Path) -> Result<(), StorageError> {
    let (new, store) = (path.join(NEW_STORE), path.join(STORE));
    sync_directory(&new)?;
    fs::rename(&new, &store).map_err(|error| StorageError::io("rename", new, error))?;
    sync_directory(path)
}

/// A store that is being made in an empty data directory, and that nobody sees before it is finished.
pub(super) struct NewStore {
    path: PathBuf,
    identity: Identity,
    marker: Marker,
    _lock: DirectoryLock,
}

impl NewStore {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// It holds a store or something else; another process uses it; the system refuses.
    pub(super) fn begin(path: &Path) -> Result<Self, StorageError> {
        create_durably(path)?;
        let lock = DirectoryLock::acquire(path)?;
        if path.join(STORE).exists() || path.join(marker::FILE_NAME).exists() {
            return Err(StorageError::NotEmpty { path: path.into() });
        }
        refuse_foreign(path)?;
        remove_unfinished(path)?;
        Ok(Self {
            path: path.into(),
            identity: Identity::random(),
            marker: Marker::open(path, false)?,
            _lock: lock,
        })
    }

    /// Opens the store, to be filled.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) fn open(&self, options: &EngineOptions) -> Result<Box<dyn Store>, StorageError> {
        open_new(&self.path, options, self.identity)
    }

    /// Gives the store, closed by now and ending with commit `last`, its name. A crash between that and the
    /// marker leaves a store that is whole and refused, which is safe.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn finish(mut self, last: LogIndex) -> Result<(), StorageError> {
        put_in_place(&self.path)?;
        self.marker.write(self.identity, last)
    }

    /// Removes what there is of the store, closed by now.
    pub(super) fn abandon(self) {
        // What cannot be removed now is not served either, and goes when the next one is begun.
        let _ = remove_unfinished(&self.path);
    }
}

/// Opens the store of a data directory that must be there, to be read: with the engine that made it, and with the
/// marker, which still has to be compared with it.
///
/// # Errors
/// There is no store, or another process uses the directory; and those of opening it.
pub(super) fn open_existing_directory(
    path: &Path,
    options: &DirectoryOptions,
) -> Result<(Box<dyn Store>, Marker), StorageError> {
    let store = path.join(STORE);
    if !store.exists() {
        return Err(StorageError::NotAStore {
            path: path.into(),
            reason: format!("{} is missing", store.display()),
        });
    }
    let lock = DirectoryLock::acquire(path)?;
    let marker = Marker::open(path, options.accept_data_loss)?;
    let engine = options.engine.for_store_in(&store);
    Ok((open_existing(&store, &engine, lock)?, marker))
}

/// Opens a store that must be there and have an identity.
fn open_existing(
    store: &Path,
    options: &EngineOptions,
    lock: DirectoryLock,
) -> Result<Box<dyn Store>, StorageError> {
    let database = options.open_existing(store, lock)?;
    if meta::read_identity(database.reader().as_ref())?.is_none() {
        return Err(StorageError::NotAStore {
            path: store.into(),
            reason:
                "it opens, but has no identity: it lost everything, or was made by another program"
                    .into(),
        });
    }
    Ok(database)
}
