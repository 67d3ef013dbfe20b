//! Changes on their way to a store, handed over a few megabytes at a time.

use super::{Change, StorageError, Store};

/// How many bytes are gathered; bounds the memory a big commit takes.
const BATCH_BYTES: usize = 4 << 20;

pub(super) struct Batch<'a> {
    store: &'a mut dyn Store,
    changes: Vec<Change>,
    gathered: usize,
    written: u64,
}

impl<'a> Batch<'a> {
    pub(super) fn new(store: &'a mut dyn Store) -> Self {
        Self {
            store,
            changes: Vec::new(),
            gathered: 0,
            written: 0,
        }
    }

    /// # Errors
    /// Those of [`Store::write`].
    pub(super) fn push(&mut self, change: Change) -> Result<(), StorageError> {
        let bytes = match &change {
            Change::Put(key, value) => key.len() + value.len(),
            Change::Remove(key) => key.len(),
        };
        self.gathered += bytes;
        self.written += bytes as u64;
        self.changes.push(change);
        if self.gathered >= BATCH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// # Errors
    /// Those of [`Store::write`].
    pub(super) fn extend(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), StorageError> {
        changes.into_iter().try_for_each(|change| self.push(change))
    }

    /// Hands over the rest; the bytes written in all.
    ///
    /// # Errors
    /// Those of [`Store::write`].
    pub(super) fn finish(mut self) -> Result<u64, StorageError> {
        self.flush()?;
        Ok(self.written)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.gathered = 0;
        if self.changes.is_empty() {
            return Ok(());
        }
        self.store.write(std::mem::take(&mut self.changes))
    }
}
