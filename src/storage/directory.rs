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
    EngineOptions, Journal, JournalOptions, Recovered, StorageError, Store, disk, lock, marker,
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
    /// Start even if the store holds less than was promised; what is known to be missing is listed in
    /// [`Recovered::losses`].
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
    Journal::start(database, options.journal, Some(marker))
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

/// Creates a store with an identity. It gets its name only once it is whole, so that a directory of that
/// name without an identity always means damage.
fn create(path: &Path, options: &EngineOptions) -> Result<(), StorageError> {
    let (new, store) = (path.join(NEW_STORE), path.join(STORE));
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(StorageError::io("remove", new, error));
        }
        _ => {}
    }
    let mut database = options.open(&new, None)?;
    database.write(vec![meta::put_identity(Identity::random())])?;
    database.sync()?;
    drop(database);
    sync_directory(&new)?;
    fs::rename(&new, &store).map_err(|error| StorageError::io("rename", new, error))?;
    sync_directory(path)
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
