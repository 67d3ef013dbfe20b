//! Room on the disk: how much is left, and a reserve to give up when it runs out.
//!
//! The embedded database cannot even be opened on a full disk. A file kept for nothing but its size buys
//! the room to drain and stop in order. This module measures and keeps; what to do about it is decided
//! above.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::StorageError;
use super::marker::sync_directory;

/// The name of the reserve in the data directory.
pub(super) const RESERVE_NAME: &str = "reserve";

/// The bytes that this process may still write to the file system of `path`.
///
/// # Errors
/// The system does not say.
pub fn available_bytes(path: &Path) -> Result<u64, StorageError> {
    let figures = rustix::fs::statvfs(path)
        .map_err(|error| StorageError::io("measure the free space of", path, error.into()))?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// A file that holds disk space until it is needed.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// A reserve of `bytes` in a data directory. Touches nothing yet.
    #[must_use]
    pub fn new(directory: &Path, bytes: u64) -> Self {
        Self {
            path: directory.join(RESERVE_NAME),
            bytes,
        }
    }

    /// Makes sure that the reserve is there in full, with real blocks behind it. Writes as many bytes the
    /// first time, so call it while there is plenty.
    ///
    /// # Errors
    /// There is no room for it, or the file cannot be written; what was written is removed again.
    pub fn fill(&self) -> Result<(), StorageError> {
        if fs::metadata(&self.path).is_ok_and(|found| found.len() == self.bytes) {
            return Ok(());
        }
        let filled = self.write_zeros();
        if let Err(error) = filled {
            self.release()?;
            return Err(StorageError::io("keep the disk reserve", &self.path, error));
        }
        Ok(())
    }

    /// Gives the space back to the file system. Nothing if there is no reserve.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn release(&self) -> Result<(), StorageError> {
        match fs::remove_file(&self.path) {
            Ok(()) => self.path.parent().map_or(Ok(()), sync_directory),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StorageError::io("remove", &self.path, error)),
        }
    }

    /// Zeros rather than a file with a hole: a hole holds nothing.
    fn write_zeros(&self) -> std::io::Result<()> {
        let zeros = [0; 64 * 1024];
        let mut file = File::create(&self.path)?;
        let mut left = self.bytes;
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
            file.write_all(&zeros[..len])?;
            left -= len as u64;
        }
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_reserve_holds_real_blocks_and_gives_them_back() {
        let directory = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(directory.path(), 300_000);
        reserve.fill().unwrap();
        reserve.fill().unwrap();
        let file = fs::metadata(directory.path().join(RESERVE_NAME)).unwrap();
        assert_eq!(file.len(), 300_000);
        assert!(file.blocks() * 512 >= 300_000, "{} blocks", file.blocks());
        reserve.release().unwrap();
        reserve.release().unwrap();
        assert!(!directory.path().join(RESERVE_NAME).exists());
    }

    #[test]
    fn a_reserve_without_room_leaves_nothing_behind_and_says_where() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("missing");
        let error = Reserve::new(&nowhere, 10).fill().unwrap_err();
        assert!(error.to_string().contains("missing/reserve"), "{error}");
    }

    #[test]
    fn free_space_is_measured_where_there_is_a_file_system() {
        let directory = tempfile::tempdir().unwrap();
        assert!(available_bytes(directory.path()).unwrap() > 0);
        assert!(available_bytes(&directory.path().join("missing")).is_err());
    }
}
