//! A store in memory: for brokers that need no disk, and for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Change, StorageError, Store, StoreRead, StoreStats, Visit};

/// How many entries a scan copies out of the map at a time, so that it never holds the lock for long.
const SCAN_PAGE: usize = 256;

type Map = BTreeMap<Vec<u8>, Bytes>;

/// An ordered map in memory. Clones share the same contents, so a test can "reopen" it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    map: Arc<RwLock<Map>>,
    syncs: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys the store holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.read().len()
    }

    /// Whether the store holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.read().is_empty()
    }

    /// Applies one change at once.
    pub(super) fn apply(&self, change: Change) {
        let mut map = self.map.write();
        match change {
            Change::Put(key, value) => drop(map.insert(key, Bytes::from(value))),
            Change::Remove(key) => drop(map.remove(&key)),
        }
    }

    /// A store of its own with the same contents.
    pub(super) fn copy(&self) -> Self {
        Self {
            map: Arc::new(RwLock::new(self.map.read().clone())),
            syncs: 0,
        }
    }
}

impl Store for MemoryStore {
    fn write(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        changes.into_iter().for_each(|change| self.apply(change));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.syncs += 1;
        Ok(())
    }

    fn reader(&self) -> Arc<dyn StoreRead> {
        Arc::new(self.clone())
    }

    fn stats(&self) -> StoreStats {
        let bytes: usize = self
            .map
            .read()
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        StoreStats {
            size_on_disk_bytes: bytes as u64,
            syncs: self.syncs,
        }
    }

    fn maintain(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

impl StoreRead for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.map.read().get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let mut from = from.to_vec();
        while from.as_slice() < to {
            let page: Vec<(Vec<u8>, Bytes)> = self
                .map
                .read()
                .range(from..to.to_vec())
                .take(SCAN_PAGE)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            for (key, value) in &page {
                if visit(key, value).is_break() {
                    return Ok(());
                }
            }
            let Some((last, _)) = page.into_iter().last() else {
                return Ok(());
            };
            // The smallest key after `last`.
            from = last;
            from.push(0);
        }
        Ok(())
    }
}
