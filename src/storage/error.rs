//! What can go wrong with the store, in sentences for the person who runs the broker.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::engine::Engine;
use super::loss::Loss;

/// How many losses a sentence names.
const LOSSES_NAMED: usize = 5;

/// Why the store could not be opened, or stopped.
///
/// Once a running [`Journal`](super::Journal) reports one it is poisoned: nothing more becomes durable in
/// this process. The [`Display`](fmt::Display) form says what happened, to which path, and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused an operation on a file or directory of the data directory.
    Io {
        /// What was being done, as in "cannot … PATH".
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process uses the data directory.
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory exists but holds no store that this program made.
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What is missing or strange.
        reason: String,
    },
    /// The store was made by another engine than the one configured.
    OtherEngine {
        /// The store.
        path: PathBuf,
        /// The engine that made it.
        found: Engine,
        /// The engine it was to be opened with.
        configured: Engine,
    },
    /// An import was to go where something is.
    NotEmpty {
        /// The data directory.
        path: PathBuf,
    },
    /// An export would not be whole.
    Incomplete {
        /// The data directory.
        path: PathBuf,
        /// What is lost, at least one.
        losses: Vec<Loss>,
    },
    /// An export cannot be written or read.
    Stream {
        /// "write" or "read".
        doing: &'static str,
        /// The system's reason, or what is wrong with it.
        reason: String,
    },
    /// The store is older than the promises already given, or empty: starting would lose messages.
    OlderThanMarker {
        /// The data directory.
        path: PathBuf,
        /// What the marker file and the store say.
        reason: String,
    },
    /// The store was written in a format this program does not read.
    Format {
        /// The version found.
        found: u32,
        /// The version this program reads and writes.
        supported: u32,
    },
    /// Something every message depends on is damaged, so nothing can be recovered safely.
    Corrupt {
        /// What is damaged.
        what: String,
    },
    /// The embedded database reported an error.
    Engine {
        /// What was being done.
        doing: &'static str,
        /// The database's own words.
        reason: String,
    },
    /// A thread of the store panicked; what it held in memory cannot be trusted.
    Panicked {
        /// What was being done.
        doing: &'static str,
        /// The panic's message.
        reason: String,
    },
    /// A failure asked for by a test.
    Injected {
        /// Which operation failed, counted from 1.
        operation: u64,
    },
    /// The journal was closed.
    Closed,
}

impl StorageError {
    /// An [`StorageError::Io`] for `path`.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.into(),
            source,
        }
    }

    /// The same error once more, for a second person to be told.
    pub(super) fn repeat(&self) -> Self {
        match self {
            Self::Io {
                doing,
                path,
                source,
            } => {
                let source = io::Error::new(source.kind(), source.to_string());
                Self::Io {
                    doing,
                    path: path.clone(),
                    source,
                }
            }
            Self::Locked { path } => Self::Locked { path: path.clone() },
            Self::NotAStore { path, reason } => Self::NotAStore {
                path: path.clone(),
                reason: reason.clone(),
            },
            Self::OtherEngine {
                path,
                found,
                configured,
            } => Self::OtherEngine {
                path: path.clone(),
                found: *found,
                configured: *configured,
            },
            Self::NotEmpty { path } => Self::NotEmpty { path: path.clone() },
            Self::Incomplete { path, losses } => Self::Incomplete {
                path: path.clone(),
                losses: losses.clone(),
            },
            Self::Stream { doing, reason } => Self::Stream {
                doing,
                reason: reason.clone(),
            },
            Self::OlderThanMarker { path, reason } => Self::OlderThanMarker {
                path: path.clone(),
                reason: reason.clone(),
            },
            &Self::Format { found, supported } => Self::Format { found, supported },
            Self::Corrupt { what } => Self::Corrupt { what: what.clone() },
            Self::Engine { doing, reason } => Self::Engine {
                doing,
                reason: reason.clone(),
            },
            Self::Panicked { doing, reason } => Self::Panicked {
                doing,
                reason: reason.clone(),
            },
            &Self::Injected { operation } => Self::Injected { operation },
            Self::Closed => Self::Closed,
        }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io {
                doing,
                path,
                source,
            } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::Locked { path } => write!(
                f,
                "the data directory {} is in use by another millpond; stop that one, or give this one another --data-dir",
                path.display()
            ),
            Self::NotAStore { path, reason } => write!(
                f,
                "{} is not a millpond store: {reason}. Nothing was changed; choose another --data-dir, or move the directory aside to start empty",
                path.display()
            ),
            Self::OtherEngine {
                path,
                found,
                configured,
            } => write!(
                f,
                "the store in {} was made by {found}, and storage.engine says {configured}. Set storage.engine to {found}; or, to change over, run millpond export on it and millpond import into another --data-dir with {configured}",
                path.display()
            ),
            Self::NotEmpty { path } => write!(
                f,
                "the data directory {} holds a store already. Nothing was changed; import into another --data-dir, or move it aside",
                path.display()
            ),
            Self::Incomplete { path, losses } => {
                let named = losses.iter().take(LOSSES_NAMED).map(ToString::to_string);
                let named: Vec<String> = named.collect();
                let more = match losses.len().saturating_sub(LOSSES_NAMED) {
                    0 => String::new(),
                    more => format!("; and {more} more"),
                };
                write!(
                    f,
                    "the store in {} has lost something: {}{more}. The export was given up; --accept-data-loss exports what is left",
                    path.display(),
                    named.join("; ")
                )
            }
            Self::Stream { doing, reason } => write!(f, "cannot {doing} the export: {reason}"),
            Self::OlderThanMarker { path, reason } => write!(
                f,
                "the store in {} does not hold everything that was promised: {reason}. Restore the whole directory from a backup, or start with --accept-data-loss to go on with what is there",
                path.display()
            ),
            Self::Format { found, supported } => write!(
                f,
                "the store has format {found}, this millpond reads format {supported}; use the version that wrote it to export, then import here"
            ),
            Self::Corrupt { what } => {
                write!(
                    f,
                    "the store is damaged: {what}. Restore the data directory from a backup, or move it aside to start empty"
                )
            }
            Self::Engine { doing, reason } => write!(f, "the store failed while {doing}: {reason}"),
            Self::Panicked { doing, reason } => {
                write!(f, "the store panicked while {doing}: {reason}")
            }
            Self::Injected { operation } => write!(f, "operation {operation} was made to fail"),
            Self::Closed => write!(f, "the store is closed"),
        }
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
