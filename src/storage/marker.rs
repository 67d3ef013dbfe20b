//! The side marker file: how far the store must reach.
//!
//! A database that lost its tail in a power cut, or came up empty, looks perfectly well from inside. So a
//! small text file beside it names the store and the last commit known to be durable. It is written after
//! the sync it speaks of, by writing a new file, syncing it, and renaming it over the old one.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::meta::{FORMAT, Identity};
use super::{LogIndex, StorageError};

/// The name of the file in the data directory.
pub(super) const FILE_NAME: &str = "millpond.meta";

/// What a marker file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promise {
    /// The store it speaks of.
    pub(super) identity: Identity,
    /// The last commit it knows to be durable; later ones may be.
    pub(super) commit: LogIndex,
}

impl Promise {
    fn text(self) -> String {
        let body = format!(
            "# Written by millpond; it tells when the store beside it has lost something. Do not edit.\n\
             format = {FORMAT}\nstore = {}\ncommit = {}\n",
            self.identity, self.commit
        );
        let checksum = crc32c::crc32c(body.as_bytes());
        format!("{body}checksum = {checksum:08x}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, checksum) = text.split_at_checked(text.rfind("checksum = ")?)?;
        let stated = checksum.trim_end().strip_prefix("checksum = ")?;
        (u32::from_str_radix(stated, 16).ok()? == crc32c::crc32c(body.as_bytes())).then_some(())?;
        let field = |name: &str| {
            body.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
        };
        (field("format")?.parse() == Ok(FORMAT)).then_some(())?;
        let identity = Identity(u128::from_str_radix(field("store")?, 16).ok()?);
        Some(Self {
            identity,
            commit: LogIndex(field("commit")?.parse().ok()?),
        })
    }
}

/// The marker file of an open data directory.
#[derive(Debug)]
pub(super) struct Marker {
    directory: PathBuf,
    /// What the file said when the directory was opened.
    found: Option<Promise>,
    accept_data_loss: bool,
    written: Option<(LogIndex, Instant)>,
}

impl Marker {
    /// Reads the marker of a data directory, if it has one.
    ///
    /// # Errors
    /// It cannot be read or makes no sense, unless `accept_data_loss` says to go on regardless.
    pub(super) fn open(directory: &Path, accept_data_loss: bool) -> Result<Self, StorageError> {
        let path = directory.join(FILE_NAME);
        let found = match fs::read(&path) {
            Ok(octets) => match str::from_utf8(&octets).ok().and_then(Promise::parse) {
                None if !accept_data_loss => {
                    let reason = format!("its marker file {} is damaged", path.display());
                    return Err(StorageError::OlderThanMarker {
                        path: directory.into(),
                        reason,
                    });
                }
                found => found,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(StorageError::io("read", path, error)),
        };
        Ok(Self {
            directory: directory.into(),
            found,
            accept_data_loss,
            written: None,
        })
    }

    /// Whether the directory had a marker.
    pub(super) fn is_there(&self) -> bool {
        self.found.is_some()
    }

    /// Compares what was promised with what the store reaches. Returns the last commit that was promised
    /// and is missing, if the loss was accepted.
    ///
    /// # Errors
    /// The store is another one, or older than the promise, and that was not accepted.
    pub(super) fn check(
        &self,
        identity: Identity,
        last: LogIndex,
    ) -> Result<Option<LogIndex>, StorageError> {
        let reason = match self.found {
            None if last.0 > 0 => format!("the marker file {FILE_NAME} is missing"),
            Some(found) if found.identity != identity => {
                format!(
                    "its marker file belongs to store {}, this is store {identity}",
                    found.identity
                )
            }
            Some(found) if found.commit > last => {
                format!(
                    "commit {} was durable, the store ends at commit {last}",
                    found.commit
                )
            }
            _ => return Ok(None),
        };
        if self.accept_data_loss {
            return Ok(self
                .found
                .map(|found| found.commit)
                .filter(|&commit| commit > last));
        }
        Err(StorageError::OlderThanMarker {
            path: self.directory.clone(),
            reason,
        })
    }

    /// Whether a commit is worth writing down: it is not yet, and the last time is long enough ago.
    pub(super) fn is_due(&self, commit: LogIndex, interval: Duration) -> bool {
        self.written
            .is_none_or(|(written, at)| written != commit && at.elapsed() >= interval)
    }

    /// Writes down that everything up to `commit` is durable.
    ///
    /// # Errors
    /// The file cannot be written, synced or renamed.
    pub(super) fn write(
        &mut self,
        identity: Identity,
        commit: LogIndex,
    ) -> Result<(), StorageError> {
        if self.written.is_some_and(|(written, _)| written == commit) {
            return Ok(());
        }
        let (path, new) = (
            self.directory.join(FILE_NAME),
            self.directory.join("millpond.meta.new"),
        );
        let text = Promise { identity, commit }.text();
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| StorageError::io("write", &new, error))?;
        fs::rename(&new, &path).map_err(|error| StorageError::io("replace", &path, error))?;
        sync_directory(&self.directory)?;
        self.written = Some((commit, Instant::now()));
        Ok(())
    }
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The directory cannot be opened or synced.
pub(super) fn sync_directory(path: &Path) -> Result<(), StorageError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| StorageError::io("sync", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity(0xabc);

    fn written(commit: u64) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let mut marker = Marker::open(directory.path(), false).unwrap();
        assert!(!marker.is_there());
        marker.write(IDENTITY, LogIndex(commit)).unwrap();
        directory
    }

    #[test]
    fn a_store_that_reaches_the_promise_passes() {
        let directory = written(7);
        let marker = Marker::open(directory.path(), false).unwrap();
        assert!(marker.check(IDENTITY, LogIndex(7)).unwrap().is_none());
        assert!(marker.check(IDENTITY, LogIndex(9)).unwrap().is_none());
    }

    #[test]
    fn an_older_an_empty_and_another_store_are_refused_unless_the_loss_is_accepted() {
        let directory = written(7);
        let marker = Marker::open(directory.path(), false).unwrap();
        for (identity, last) in [(IDENTITY, 6), (IDENTITY, 0), (Identity(1), 9)] {
            let error = marker.check(identity, LogIndex(last)).unwrap_err();
            assert!(error.to_string().contains("--accept-data-loss"), "{error}");
        }
        let marker = Marker::open(directory.path(), true).unwrap();
        assert_eq!(
            marker.check(IDENTITY, LogIndex(6)).unwrap(),
            Some(LogIndex(7))
        );
        assert_eq!(marker.check(Identity(1), LogIndex(9)).unwrap(), None);
    }

    #[test]
    fn a_missing_marker_is_refused_once_there_are_commits() {
        let directory = tempfile::tempdir().unwrap();
        let marker = Marker::open(directory.path(), false).unwrap();
        assert!(marker.check(IDENTITY, LogIndex(0)).is_ok());
        assert!(marker.check(IDENTITY, LogIndex(1)).is_err());
    }

    #[test]
    fn any_changed_octet_of_the_file_is_noticed() {
        let directory = written(41);
        let path = directory.path().join(FILE_NAME);
        let whole = fs::read(&path).unwrap();
        // The last octet is the line end, which means nothing.
        for place in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(
                Marker::open(directory.path(), false).is_err(),
                "octet {place}"
            );
            assert!(!Marker::open(directory.path(), true).unwrap().is_there());
        }
    }
}
