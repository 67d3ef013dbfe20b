//! From a data directory to a stream, without changing anything in it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::directory::open_existing_directory;
use super::reader::Reader;
use super::recovery::{self, RecoveredQueue};
use super::stream::{Header, Record, StreamWriter, Transferred};
use super::writer::guarded;
use super::{
    Change, DirectoryOptions, Loss, QueueId, Recovered, Seq, StorageError, Store, StoreRead,
    StoreStats,
};

/// What an export did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// How much was written.
    pub total: Transferred,
    /// What was stored and is not in the stream, because it cannot be read any more; empty unless
    /// [`DirectoryOptions::accept_data_loss`] is set.
    pub losses: Vec<Loss>,
}

/// Writes what a data directory holds to `out`, in the format of [`super::stream`]; `progress` is called after
/// every message.
///
/// The engine is the one that made the store, whatever `options` says. The same contents always make the same
/// stream. The directory stays as it is, even whether it was closed in order. Memory does not depend on the
/// backlog but for the index: messages are read as they are written out.
///
/// # Errors
/// The directory holds no store, or another process uses it; the store cannot be read, or has lost something and
/// that is not accepted; `out` cannot be written.
pub fn export_directory(
    path: &Path,
    options: &DirectoryOptions,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&Transferred),
) -> Result<Exported, StorageError> {
    let (database, marker) = open_existing_directory(path, options)?;
    let mut store = Untouched(database);
    // What is accepted as lost is known before the first octet is written.
    let verify = options.accept_data_loss;
    let (state, recovered) = guarded("reading what it holds", || {
        recovery::recover(&mut store, Some(&marker), verify)
    })?;
    let cache_bytes = options.journal.read_cache_bytes;
    let mut export = Export {
        reader: Reader::new(Arc::default(), state.index, store.reader(), cache_bytes),
        losses: recovered.losses.clone(),
        path,
        accept_data_loss: options.accept_data_loss,
    };
    export.check()?;
    let total = export.write(&recovered, out, progress)?;
    Ok(Exported {
        total,
        losses: export.losses,
    })
}

/// Bytes of messages that are read at a time.
const READ_BYTES: usize = 4 << 20;

/// An export under way.
struct Export<'a> {
    reader: Arc<Reader>,
    losses: Vec<Loss>,
    path: &'a Path,
    accept_data_loss: bool,
}

/// Takes one message: its number, how often it was returned, and what is stored of it.
type Take<'a> = dyn FnMut(Seq, u32, &[u8]) -> Result<(), StorageError> + 'a;

impl Export<'_> {
    /// # Errors
    /// Something is lost, and that is not accepted.
    fn check(&self) -> Result<(), StorageError> {
        if self.losses.is_empty() || self.accept_data_loss {
            return Ok(());
        }
        Err(StorageError::Incomplete {
            path: self.path.into(),
            losses: self.losses.clone(),
        })
    }

    fn write(
        &mut self,
        recovered: &Recovered,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(&Transferred),
    ) -> Result<Transferred, StorageError> {
        let header = Header {
            clean: recovered.clean,
            next_queue: recovered.next_queue,
        };
        let mut writer = StreamWriter::begin(out, header)?;
        for (key, value) in &recovered.definitions {
            writer.write(&Record::Definition { key, value })?;
        }
        for (queue, contents) in in_order(recovered) {
            let next_seq = contents.next_seq;
            writer.write(&Record::Queue { queue, next_seq })?;
            self.for_each_message(queue, contents, &mut |seq, returned, payload| {
                writer.write(&Record::Message {
                    seq,
                    returned,
                    payload,
                })?;
                progress(writer.total());
                Ok(())
            })?;
        }
        writer.finish()
    }

    /// Every message of a queue in the order of their numbers: the one place that knows where messages are.
    fn for_each_message(
        &mut self,
        queue: QueueId,
        contents: &RecoveredQueue,
        take: &mut Take<'_>,
    ) -> Result<(), StorageError> {
        for &(first, last) in &contents.live {
            let mut from = Some(first);
            while let Some(first) = from.filter(|&first| first <= last) {
                let fetched = self.reader.read(queue, first, last, READ_BYTES)?;
                let lost = fetched.lost.into_iter();
                self.losses
                    .extend(lost.map(|(first, last)| Loss::Messages { queue, first, last }));
                self.check()?;
                for (seq, payload) in fetched.messages {
                    let returned = contents.returned.get(&seq).copied().unwrap_or_default();
                    take(seq, returned, &payload)?;
                }
                from = fetched.upto.0.checked_add(1).map(Seq);
            }
        }
        Ok(())
    }
}

/// The queues of which anything is known, by their identity.
fn in_order(recovered: &Recovered) -> Vec<(QueueId, &RecoveredQueue)> {
    let queues = recovered
        .queues
        .iter()
        .map(|(&queue, found)| (queue, found));
    let mut queues: Vec<_> = queues.filter(|(_, found)| found.next_seq.0 > 0).collect();
    queues.sort_unstable_by_key(|&(queue, _)| queue);
    queues
}

/// A store of which recovery believes that it writes to it.
struct Untouched(Box<dyn Store>);

impl Store for Untouched {
    fn write(&mut self, _: Vec<Change>) -> Result<(), StorageError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn reader(&self) -> Arc<dyn StoreRead> {
        self.0.reader()
    }

    fn stats(&self) -> StoreStats {
        self.0.stats()
    }

    fn maintain(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}
