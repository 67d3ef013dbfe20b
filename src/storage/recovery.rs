//! From a store back to queues and definitions.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::block::{BlockId, KEY_SPACE};
use super::index::Index;
use super::marker::Marker;
use super::{LogIndex, QueueId, Seq, StorageError, Store};

/// What a store held.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Every definition, by key.
    pub definitions: BTreeMap<Vec<u8>, Bytes>,
    /// Every queue of which anything is stored. A queue without a definition was deleted half-way.
    pub queues: HashMap<QueueId, RecoveredQueue>,
    /// Whether the store was closed in order.
    pub clean: bool,
    /// What was stored and cannot be read any more; empty unless the disk or somebody damaged the store.
    pub losses: Vec<Loss>,
    /// Above every queue identity that was ever stored.
    pub next_queue: QueueId,
    /// The last commit on disk.
    pub last_commit: LogIndex,
}

/// What was stored of one queue.
#[derive(Debug, Default)]
pub struct RecoveredQueue {
    /// The next number to give: above every number that was ever stored.
    pub next_seq: Seq,
    /// In order of their numbers.
    pub messages: Vec<RecoveredMessage>,
}

/// One message as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// Its number in the queue.
    pub seq: Seq,
    /// How often it was returned, at least.
    pub returned: u32,
    /// What [`Payload::encode`](super::Payload::encode) wrote.
    pub payload: Bytes,
}

/// Something that was stored and cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Messages of one queue, some or all of the range.
    Messages {
        /// The queue.
        queue: QueueId,
        /// The first lost message.
        first: Seq,
        /// The last lost message.
        last: Seq,
    },
    /// Commits of which it is not known any more what they held.
    Commits {
        /// The first of them.
        first: LogIndex,
        /// The last of them.
        last: LogIndex,
    },
}

/// What the writer goes on from.
#[derive(Default)]
pub(super) struct State {
    pub(super) index: Index,
    /// The last commit on disk.
    pub(super) last: LogIndex,
    /// The checksum of its final part.
    pub(super) checksum: u32,
}

/// Reads a store.
pub(super) fn recover(
    store: &mut dyn Store,
    _marker: Option<&Marker>,
) -> Result<(State, Recovered), StorageError> {
    let mut found = None;
    store
        .reader()
        .scan(&[KEY_SPACE], &[KEY_SPACE + 1], &mut |key, _| {
            found = BlockId::from_key(key);
            std::ops::ControlFlow::Break(())
        })?;
    match found {
        Some(id) => Err(StorageError::Corrupt {
            what: format!("block {id:?} cannot be read yet"),
        }),
        None => Ok((State::default(), Recovered::default())),
    }
}
