//! From a stream to a new data directory, through the ordinary log.
//!
//! The store is made under another name and gets its own only when the end of the stream was read and everything
//! is on disk. An import that is cut off leaves a directory that looks as if nothing had been there.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use super::directory::NewStore;
use super::stream::{Record, StreamReader, Transferred};
use super::{
    CommitNumber, DirectoryOptions, Journal, LogIndex, Payload, QueueId, Seq, StorageError, Unit,
    Waiter,
};

/// Bytes, and operations, that are handed over at a time. Two of these are in memory at most.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_OPERATIONS: usize = 8192;

/// Fills an empty data directory from a stream of [`export_directory`](super::export_directory); `progress` is
/// called after every message. Returns how much was read.
///
/// # Errors
/// The directory holds something, or another process uses it; `input` cannot be read, or is damaged, cut off or no
/// export; the store cannot be written. Nothing is left of it then.
pub fn import_directory(
    path: &Path,
    options: DirectoryOptions,
    input: &mut dyn Read,
    progress: &mut dyn FnMut(&Transferred),
) -> Result<Transferred, StorageError> {
    // Before anything is created: most mistakes show here.
    let mut reader = StreamReader::begin(input)?;
    let new = NewStore::begin(path)?;
    match fill(&new, options, &mut reader, progress) {
        Ok(last) => {
            new.finish(last)?;
            Ok(*reader.total())
        }
        Err(error) => {
            new.abandon();
            Err(error)
        }
    }
}

/// Writes everything, and closes the log. Returns the last commit.
fn fill(
    new: &NewStore,
    options: DirectoryOptions,
    reader: &mut StreamReader<'_>,
    progress: &mut dyn FnMut(&Transferred),
) -> Result<LogIndex, StorageError> {
    let header = reader.header();
    let store = new.open(&options.engine)?;
    let (journal, _) = Journal::open(store, options.journal)?;
    let mut feeder = Feeder::new(journal);
    let mut queue = None;
    while let Some(record) = reader.next_record()? {
        match record {
            Record::Definition { key, value } => {
                let (key, value) = (key.to_vec(), value.to_vec());
                feeder.take(Operation::Define { key, value })?;
            }
            Record::Queue {
                queue: next,
                next_seq,
            } => {
                feeder.end_queue(queue.take())?;
                queue = Some(Queue {
                    id: next,
                    next_seq,
                    after_last: Seq(0),
                });
            }
            Record::Message {
                seq,
                returned,
                payload,
            } => {
                // The reader lets no message come before its queue.
                if let Some(queue) = &mut queue {
                    queue.after_last = Seq(seq.0.saturating_add(1));
                    let payload = Arc::new(Stored(payload.to_vec()));
                    feeder.take(Operation::Enqueue {
                        queue: queue.id,
                        seq,
                        returned,
                        payload,
                    })?;
                }
                progress(reader.total());
            }
        }
    }
    let highest = queue.as_ref().map(|queue| queue.id);
    feeder.end_queue(queue)?;
    feeder.use_queues_up_to(highest, header.next_queue)?;
    feeder.finish(header.clean)
}

/// A queue whose messages are being read.
struct Queue {
    id: QueueId,
    next_seq: Seq,
    /// One above the last message that came.
    after_last: Seq,
}

/// A message as it was stored.
struct Stored(Vec<u8>);

impl Payload for Stored {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

enum Operation {
    Define {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Enqueue {
        queue: QueueId,
        seq: Seq,
        returned: u32,
        payload: Arc<Stored>,
    },
    /// Makes a sequence number count as used.
    Use {
        queue: QueueId,
        seq: Seq,
    },
    /// Deletes a queue.
    Forget {
        queue: QueueId,
    },
}

struct Bell(SyncSender<()>);

impl Waiter for Bell {
    fn commit_settled(&self) {
        // Full means that it rings already.
        let _ = self.0.try_send(());
    }
}

/// Hands operations to the log, never more than two batches ahead of the disk.
struct Feeder {
    journal: Journal,
    bell: Arc<dyn Waiter>,
    rung: Receiver<()>,
    operations: Vec<Operation>,
    bytes: usize,
    /// What was handed over last.
    handed_over: CommitNumber,
}

impl Feeder {
    fn new(journal: Journal) -> Self {
        let (ring, rung) = mpsc::sync_channel(1);
        Self {
            journal,
            bell: Arc::new(Bell(ring)),
            rung,
            operations: Vec::new(),
            bytes: 0,
            handed_over: CommitNumber(0),
        }
    }

    fn take(&mut self, operation: Operation) -> Result<(), StorageError> {
        self.bytes += match &operation {
            Operation::Define { key, value } => key.len() + value.len(),
            Operation::Enqueue { payload, .. } => payload.0.len(),
            Operation::Use { .. } | Operation::Forget { .. } => 0,
        };
        self.operations.push(operation);
        if self.bytes >= BATCH_BYTES || self.operations.len() >= BATCH_OPERATIONS {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Makes sure that a queue goes on with the number it would have given next.
    fn end_queue(&mut self, queue: Option<Queue>) -> Result<(), StorageError> {
        match queue {
            Some(queue) if queue.next_seq > queue.after_last => {
                let (queue, seq) = (queue.id, Seq(queue.next_seq.0 - 1));
                self.take(Operation::Use { queue, seq })
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that no queue gets an identity below `next`, after those up to `highest` were stored.
    fn use_queues_up_to(
        &mut self,
        highest: Option<QueueId>,
        next: QueueId,
    ) -> Result<(), StorageError> {
        let Some(last) = next.0.checked_sub(1).map(QueueId) else {
            return Ok(());
        };
        if highest != Some(last) {
            self.take(Operation::Use {
                queue: last,
                seq: Seq(0),
            })?;
            // In a commit of its own: what is forgotten in the same one was never there.
            self.hand_over()?;
            self.wait()?;
            self.take(Operation::Forget { queue: last })?;
        }
        Ok(())
    }

    /// Hands over what was gathered, once what was handed over before is on disk.
    fn hand_over(&mut self) -> Result<(), StorageError> {
        self.wait()?;
        self.bytes = 0;
        let mut used = Vec::new();
        let mut unit = self.journal.begin();
        for operation in self.operations.drain(..) {
            match operation {
                Operation::Define { key, value } => unit.define(key, value),
                Operation::Enqueue {
                    queue,
                    seq,
                    returned,
                    payload,
                } => {
                    unit.enqueue(queue, seq, payload);
                    if returned > 0 {
                        unit.returned(queue, seq, returned);
                    }
                }
                Operation::Use { queue, seq } => used.push((queue, seq)),
                Operation::Forget { queue } => unit.forget(queue),
            }
        }
        use_up(&mut unit, used);
        unit.wait(&self.bell);
        self.handed_over = unit.number();
        Ok(())
    }

    /// Waits until everything handed over is on disk.
    fn wait(&self) -> Result<(), StorageError> {
        while self.journal.durable() < self.handed_over {
            if let Some(error) = self.journal.failure() {
                return Err(error.repeat());
            }
            // Rings for a failure too; the log holds the other end as long as it lives.
            let _ = self.rung.recv();
        }
        Ok(())
    }

    /// Waits until everything is on disk, and ends the log: in order, or as after a crash.
    fn finish(mut self, clean: bool) -> Result<LogIndex, StorageError> {
        self.hand_over()?;
        self.wait()?;
        if clean {
            self.journal.close()?;
        }
        Ok(LogIndex(self.journal.stats().last_commit))
    }
}

/// Stores something under each number and settles it. The unit is kept from here on, so that both are written.
fn use_up(unit: &mut Unit<'_>, used: Vec<(QueueId, Seq)>) {
    unit.keep();
    for (queue, seq) in used {
        unit.enqueue(queue, seq, Arc::new(Stored(Vec::new())));
        unit.settle(queue, seq, seq);
    }
}
