//! From a data directory to a stream, without changing anything in it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::directory::open_existing_directory;
use super::recovery::{self, RecoveredQueue};
use super::stream::{Header, Record, StreamWriter, Transferred};
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
/// stream. The directory stays as it is, even whether it was closed in order.
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
    let (_, mut recovered) = recovery::recover(&mut store, Some(&marker))?;
    let losses = std::mem::take(&mut recovered.losses);
    if !losses.is_empty() && !options.accept_data_loss {
        return Err(StorageError::Incomplete {
            path: path.into(),
            losses,
        });
    }
    let total = write(&recovered, out, progress)?;
    Ok(Exported { total, losses })
}

fn write(
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
        for_each_message(contents, &mut |seq, returned, payload| {
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

/// Takes one message: its number, how often it was returned, and what is stored of it.
type Take<'a> = dyn FnMut(Seq, u32, &[u8]) -> Result<(), StorageError> + 'a;

/// Every message of a queue in the order of their numbers: the one place that knows where payloads are.
fn for_each_message(queue: &RecoveredQueue, take: &mut Take<'_>) -> Result<(), StorageError> {
    let mut messages = queue.messages.iter();
    messages.try_for_each(|message| take(message.seq, message.returned, &message.payload))
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
