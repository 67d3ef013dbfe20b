//! The log of commits and the stores that keep it.
//!
//! Work enters as [`Unit`]s through a [`Journal`]. One writer thread cuts whatever is pending, drops what
//! was enqueued and settled before it was ever written, packs the rest into blocks, writes them, syncs,
//! and wakes whoever waits. This floor knows no queue rules and no protocol: a message is a [`Payload`]
//! under a ([`QueueId`], [`Seq`]) pair, a definition is a key and a value.
//!
//! The way of one commit through the files:
//!
//! | file | idea |
//! |---|---|
//! | `journal` | the handle: opening, options, statistics, failure |
//! | `commit` | units and what they append: the pending commit |
//! | `cut` | what of a pending commit must reach the disk at all (pure) |
//! | `layout`, `runs` | which block each message goes to (pure) |
//! | `block`, `frame`, `varint` | the octets of a block (pure) |
//! | `hash` | maps keyed by numbers of our own |
//! | `writer`, `batch` | the thread that writes, syncs and wakes |
//! | `effect`, `index`, `queue_index` | what a commit changes; which stored messages live, in which block |
//! | `reader`, `cache`, `contents` | messages back from the disk, on the thread that reads or the caller's |
//! | `meta`, `page`, `checkpoint` | the state a restart begins from, rewritten copy-on-write |
//! | `housekeeping`, `rewrite`, `sweep` | between commits: merging sparse blocks, removing dead ones |
//! | `recovery`, `replay` | from octets back to queues and definitions |
//! | `loss`, `verify` | what cannot be read any more, and looking for it |
//! | `memory`, `sled`, `fjall`, `faulty` | the stores |
//! | `engine` | which embedded database keeps a store |
//! | `stream`, `export`, `import` | what a store holds, independent of who keeps it |
//! | `directory`, `lock`, `marker`, `disk` | the data directory, and what guards it |

mod batch;
mod block;
mod cache;
mod checkpoint;
mod commit;
mod contents;
mod cut;
mod directory;
mod disk;
mod effect;
mod engine;
mod error;
mod export;
mod faulty;
mod fjall;
mod frame;
mod hash;
mod housekeeping;
mod import;
mod index;
mod journal;
mod layout;
mod lock;
mod loss;
mod marker;
mod memory;
mod meta;
mod page;
mod queue_index;
mod reader;
mod recovery;
mod replay;
mod rewrite;
mod runs;
mod sled;
mod stream;
mod sweep;
mod varint;
mod verify;
mod writer;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

pub use self::commit::Unit;
pub use self::directory::{DirectoryOptions, open_directory};
pub use self::disk::{Reserve, available_bytes};
pub use self::engine::{Engine, EngineOptions};
pub use self::error::StorageError;
pub use self::export::{Exported, export_directory};
pub use self::faulty::{Faults, FaultyStore};
pub use self::fjall::{FjallOptions, FjallStore};
pub use self::import::import_directory;
pub use self::journal::{Journal, JournalOptions, JournalStats};
pub use self::loss::Loss;
pub use self::memory::MemoryStore;
pub use self::reader::Fetched;
pub use self::recovery::{Recovered, RecoveredQueue};
pub use self::sled::{SledOptions, SledStore};
pub use self::stream::Transferred;

/// The largest value ever given to a [`Store`], in bytes; longer messages are cut into pieces.
///
/// It is what keeps sled from putting values into side files that it neither syncs nor deletes.
pub const VALUE_SIZE_MAX: usize = 64 * 1024;

/// A queue, for as long as the data directory lives: identities are never used twice.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// The place of a message in its queue. Grows with every enqueue; never used twice in one queue.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The promise a unit is part of; see [`Journal::durable`].
///
/// Counts the cuts of this process, from 1. Cuts of which nothing had to be written have a number too,
/// so it is not the number on disk (that is [`LogIndex`]).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNumber(pub u64);

/// The number of a commit on disk: from 1, without gaps, across restarts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_as_number!(QueueId, Seq, CommitNumber, LogIndex);

/// What an enqueue stores. The writer thread encodes it, and only if the message did not die young.
pub trait Payload: Send + Sync {
    /// How many bytes [`Payload::encode`] will append. Used for accounting and placement; a wrong answer
    /// costs space, never correctness.
    fn encoded_len(&self) -> usize;

    /// Appends the stored form to `out`. Must append the same bytes every time.
    fn encode(&self, out: &mut Vec<u8>);
}

/// Whoever waits for a commit.
pub trait Waiter: Send + Sync {
    /// Called by the writer thread once the commit is settled: durable, or never written because nothing
    /// of it was left, or the store failed. Ask [`Journal::durable`] and [`Journal::is_poisoned`] which.
    ///
    /// Must be cheap and must not block; it holds up every other waiter of the commit.
    fn commit_settled(&self);
}

/// One change to a [`Store`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets the value of a key. The value has at most [`VALUE_SIZE_MAX`] bytes.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key, if it is there.
    Remove(Vec<u8>),
}

/// Figures of a store, for the operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes the store occupies on disk; for a store in memory, the bytes of its keys and values.
    pub size_on_disk_bytes: u64,
    /// Barriers issued since the store was opened.
    pub syncs: u64,
}

/// An ordered map of bytes that can be made durable: the seam below the log.
///
/// A store needs no atomicity beyond one key: a commit counts only once its final block is there. Changes
/// must take effect in the order given, and after a power cut a store may hold any prefix of what was
/// written since the last [`Store::sync`].
pub trait Store: Send {
    /// Applies changes in order; they are durable only after the next [`Store::sync`].
    ///
    /// # Errors
    /// Any error leaves the store in an unknown state; the caller stops using it.
    fn write(&mut self, changes: Vec<Change>) -> Result<(), StorageError>;

    /// Makes everything written so far survive a power cut.
    ///
    /// # Errors
    /// After an error nothing written since the last successful sync may be taken for durable, ever.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// A handle for reading, usable from other threads while this store is written to.
    fn reader(&self) -> Arc<dyn StoreRead>;

    /// Figures for the operator.
    fn stats(&self) -> StoreStats;

    /// Whether [`Store::maintain`] is worth calling as soon as nobody has written for a while.
    fn wants_maintenance(&self) -> bool {
        false
    }

    /// Housekeeping in a quiet moment, e.g. giving space back. Never changes the contents. May take seconds,
    /// in which readers wait too.
    ///
    /// # Errors
    /// As for [`Store::write`].
    fn maintain(&mut self) -> Result<(), StorageError>;
}

/// What a scan calls for each key and value; it breaks to end the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Reads from a [`Store`].
pub trait StoreRead: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// The store could not be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Visits the keys from `from` (included) to `to` (excluded) in ascending order until `visit` breaks.
    ///
    /// # Errors
    /// The store could not be read.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError>;
}
