//! One process per data directory.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::StorageError;

/// The name of the file in the data directory.
pub(super) const FILE_NAME: &str = "lock";

/// A held lock on a data directory; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock; never waits.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process, or another journal of this one, holds it.
    pub(super) fn acquire(directory: &Path) -> Result<Self, StorageError> {
        let path = directory.join(FILE_NAME);
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(|error| StorageError::io("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked {
                path: directory.into(),
            }),
            Err(TryLockError::Error(error)) => Err(StorageError::io("lock", path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(directory.path()).unwrap();
        let error = DirectoryLock::acquire(directory.path()).unwrap_err();
        assert!(
            error.to_string().contains("in use by another millpond"),
            "{error}"
        );
        drop(first);
        DirectoryLock::acquire(directory.path()).unwrap();
    }
}
