//! Which of the embedded databases keeps a store, and opening it.

use std::fmt;
use std::path::Path;

use super::fjall::{FjallOptions, FjallStore};
use super::lock::DirectoryLock;
use super::sled::{SledOptions, SledStore};
use super::{StorageError, Store};

/// An embedded database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// sled 0.34.7.
    Sled,
    /// fjall 3.
    Fjall,
}

impl Engine {
    /// Every engine there is.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Fjall];

    /// The files without which its database is not there, or not whole.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Sled => &["db", "conf"],
            Self::Fjall => &["version", "keyspaces"],
        }
    }

    /// The engine whose database is in a directory, or at least something of it.
    pub(super) fn found_in(path: &Path) -> Option<Self> {
        let has_any = |engine: &Self| engine.files().iter().any(|file| path.join(file).exists());
        Self::ALL.into_iter().find(has_any)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sled => "sled",
            Self::Fjall => "fjall",
        })
    }
}

/// An engine and how it is set up.
#[derive(Debug, Clone)]
pub enum EngineOptions {
    /// sled, the default.
    Sled(SledOptions),
    /// fjall.
    Fjall(FjallOptions),
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self::Sled(SledOptions::default())
    }
}

impl From<Engine> for EngineOptions {
    /// The engine as it is set up by default.
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Sled => Self::Sled(SledOptions::default()),
            Engine::Fjall => Self::Fjall(FjallOptions::default()),
        }
    }
}

impl EngineOptions {
    /// Which engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self {
            Self::Sled(_) => Engine::Sled,
            Self::Fjall(_) => Engine::Fjall,
        }
    }

    /// These options, if they are for the engine that made the store in `path`; else its defaults.
    pub(super) fn for_store_in(&self, path: &Path) -> Self {
        match Engine::found_in(path) {
            Some(found) if found != self.engine() => found.into(),
            _ => self.clone(),
        }
    }

    /// Opens the database in `path`, or creates it; it keeps `lock` until it is closed.
    ///
    /// # Errors
    /// Those of [`SledStore::open`] and [`FjallStore::open`].
    pub(super) fn open(
        &self,
        path: &Path,
        lock: Option<DirectoryLock>,
    ) -> Result<Box<dyn Store>, StorageError> {
        Ok(match self {
            Self::Sled(options) => {
                let store = SledStore::open(path, options)?;
                Box::new(match lock {
                    Some(lock) => store.hold(lock),
                    None => store,
                })
            }
            Self::Fjall(options) => {
                let store = FjallStore::open(path, options)?;
                Box::new(match lock {
                    Some(lock) => store.hold(lock),
                    None => store,
                })
            }
        })
    }

    /// Opens the database that must be in `path`.
    ///
    /// # Errors
    /// It is another engine's, or not whole; and those of opening it.
    pub(super) fn open_existing(
        &self,
        path: &Path,
        lock: DirectoryLock,
    ) -> Result<Box<dyn Store>, StorageError> {
        let configured = self.engine();
        match Engine::found_in(path) {
            Some(found) if found != configured => {
                return Err(StorageError::OtherEngine {
                    path: path.into(),
                    found,
                    configured,
                });
            }
            _ => {}
        }
        // The engines would make a new database of whatever they find.
        for file in configured.files() {
            if !path.join(file).exists() {
                return Err(StorageError::NotAStore {
                    path: path.into(),
                    reason: format!("its file '{file}' is missing"),
                });
            }
        }
        self.open(path, Some(lock))
    }
}
