//! Messages back from the disk.
//!
//! The index says in which block each live message is; the block is read, verified against the checksum
//! that the index has, and kept for a while. A block is immutable, and none that something needs is ever
//! removed. So if one cannot be read, the index is asked again: either its messages have meanwhile been
//! settled or written anew elsewhere, or they are lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

use super::block::BlockId;
use super::cache::Cache;
use super::contents::{Contents, Found};
use super::frame::Placement;
use super::index::{Index, Stretch};
use super::journal::Shared;
use super::writer::guarded;
use super::{QueueId, Seq, StorageError, StoreRead, VALUE_SIZE_MAX};

/// How many stretches are looked up at a time, so that the index is never held for long.
const STRETCHES_MAX: usize = 64;
/// How many octets of blocks that are not at hand one request reads beyond what it asked for, so that a
/// queue whose messages are strewn over blocks of others holds up nobody for long.
const READ_OCTETS_MIN: usize = 1 << 20;
/// How often messages may turn out to have moved before they are given up.
const MOVES_MAX: usize = 16;
/// The most pieces of a shared payload that are kept.
const CACHED_PIECES_MAX: u32 = 4;
/// The most octets reserved for a payload in pieces before they are there.
const RESERVE_MAX: u64 = 16 << 20;
/// What a message read is taken to cost beside its payload, in bytes.
const MESSAGE_BYTES: usize = size_of::<(Seq, Bytes)>();

/// Messages of one queue as they are on disk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// In order of their numbers. A payload may be a slice of a whole block (64 KiB): copy what is kept.
    pub messages: Vec<(Seq, Bytes)>,
    /// Every live message from the first one asked for up to here is in `messages` or in `lost`.
    pub upto: Seq,
    /// (first, last): stored and not settled, but cannot be read any more. Ascending, disjoint.
    pub lost: Vec<(Seq, Seq)>,
}

/// What a fetch hands its result to.
pub(super) type Done = Box<dyn FnOnce(Result<Fetched, StorageError>) + Send>;

struct Request {
    queue: QueueId,
    first: Seq,
    last: Seq,
    max_bytes: usize,
    done: Done,
}

#[derive(Default)]
struct Requests {
    waiting: VecDeque<Request>,
    end: bool,
}

/// Reads for everybody.
pub(super) struct Reader {
    shared: Arc<Shared>,
    index: Arc<RwLock<Index>>,
    /// `None` once the store is put away.
    store: Mutex<Option<Arc<dyn StoreRead>>>,
    cache: Mutex<Cache>,
    requests: Mutex<Requests>,
    asked: Condvar,
}

impl Reader {
    pub(super) fn new(
        shared: Arc<Shared>,
        index: Arc<RwLock<Index>>,
        store: Arc<dyn StoreRead>,
        cache_bytes: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            index,
            store: Mutex::new(Some(store)),
            cache: Mutex::new(Cache::new(cache_bytes)),
            requests: Mutex::default(),
            asked: Condvar::new(),
        })
    }

    /// Starts the thread that serves [`Reader::fetch`].
    ///
    /// # Errors
    /// The system gives us no thread.
    pub(super) fn spawn(self: &Arc<Self>) -> Result<JoinHandle<()>, StorageError> {
        let reader = Arc::clone(self);
        thread::Builder::new()
            .name("millpond-read".into())
            .spawn(move || reader.serve())
            .map_err(|error| StorageError::Engine {
                doing: "starting its reading thread",
                reason: error.to_string(),
            })
    }

    /// Lets go of the store, so that it can be closed; what is being read still ends.
    pub(super) fn release(&self) {
        drop(self.store.lock().take());
    }

    /// Ends the thread once it has answered what it was asked.
    pub(super) fn end(&self) {
        self.requests.lock().end = true;
        self.asked.notify_all();
    }

    /// See [`Journal::fetch`](super::Journal::fetch).
    pub(super) fn fetch(
        &self,
        queue: QueueId,
        first: Seq,
        last: Seq,
        max_bytes: usize,
        done: Done,
    ) {
        self.requests.lock().waiting.push_back(Request {
            queue,
            first,
            last,
            max_bytes,
            done,
        });
        self.asked.notify_one();
    }

    fn serve(&self) {
        loop {
            let mut requests = self.requests.lock();
            let request = loop {
                match requests.waiting.pop_front() {
                    Some(request) => break request,
                    None if requests.end => return,
                    None => self.asked.wait(&mut requests),
                }
            };
            drop(requests);
            let Request {
                queue,
                first,
                last,
                max_bytes,
                done,
            } = request;
            let result = self.read(queue, first, last, max_bytes);
            if let Err(error) = &result {
                // Whoever asked waits for an answer, and would wait for ever: nothing goes on without it.
                self.shared.stop(error.repeat());
            }
            // A caller that panics costs no other its answer.
            let handed_over = guarded("handing over what was read", || {
                done(result);
                Ok(())
            });
            if let Err(error) = handed_over {
                self.shared.stop(error);
            }
        }
    }

    /// See [`Journal::read`](super::Journal::read).
    pub(super) fn read(
        &self,
        queue: QueueId,
        first: Seq,
        last: Seq,
        max_bytes: usize,
    ) -> Result<Fetched, StorageError> {
        if let Some(error) = self.shared.error() {
            return Err(error.repeat());
        }
        let store = self.store.lock().clone().ok_or(StorageError::Closed)?;
        let read = Reading {
            reader: self,
            store: store.as_ref(),
            queue,
            last,
            max_bytes,
            bytes: 0,
            octets: 0,
            moves: 0,
            fetched: Fetched::default(),
        };
        guarded("reading messages", || Ok(read.run(first)))
    }
}

/// One request being served.
struct Reading<'a> {
    reader: &'a Reader,
    store: &'a dyn StoreRead,
    queue: QueueId,
    last: Seq,
    max_bytes: usize,
    /// Of the messages read.
    bytes: usize,
    /// Of the blocks that had to be read for them.
    octets: usize,
    moves: usize,
    fetched: Fetched,
}

/// How to go on behind a stretch.
enum Next {
    /// With the next one.
    Stretch,
    /// By looking up again from a number on.
    LookUp(Seq),
    /// Not at all: the first message not read has this number.
    Enough(Seq),
}

impl Reading<'_> {
    fn run(mut self, first: Seq) -> Fetched {
        let mut from = Some(first);
        while let Some(first) = from.filter(|&first| first <= self.last) {
            let stretches =
                self.reader
                    .index
                    .read()
                    .stretches(self.queue, first, self.last, STRETCHES_MAX);
            from = None;
            for stretch in stretches {
                match self.stretch(stretch) {
                    Next::Stretch => from = stretch.last.0.checked_add(1).map(Seq),
                    Next::LookUp(seq) => {
                        from = Some(seq);
                        break;
                    }
                    Next::Enough(seq) => {
                        self.fetched.upto = Seq(seq.0 - 1);
                        return self.fetched;
                    }
                }
            }
        }
        self.fetched.upto = self.last;
        self.fetched
    }

    fn stretch(&mut self, stretch: Stretch) -> Next {
        if self.is_enough(0) {
            return Next::Enough(stretch.first);
        }
        let Some(contents) = self.block(stretch.block, stretch.checksum, true) else {
            return self.missing(stretch.first, stretch.last, stretch.block);
        };
        let mut next = stretch.first;
        for (seq, found) in contents.messages(self.queue, stretch.first, stretch.last) {
            if seq > next
                && let Next::LookUp(moved) = self.missing(next, Seq(seq.0 - 1), stretch.block)
            {
                return Next::LookUp(moved);
            }
            let payload = match found {
                Found::Here(payload) if self.is_enough(payload.len()) => return Next::Enough(seq),
                Found::Here(payload) => Some(payload),
                Found::Placed(placement, _)
                    if self.is_enough(usize::try_from(placement.len).unwrap_or(usize::MAX)) =>
                {
                    return Next::Enough(seq);
                }
                Found::Placed(placement, shared) => self.pieces(placement, shared),
            };
            match payload {
                Some(payload) => {
                    self.bytes += MESSAGE_BYTES + payload.len();
                    self.fetched.messages.push((seq, payload));
                }
                None => {
                    if let Next::LookUp(moved) = self.missing(seq, seq, stretch.block) {
                        return Next::LookUp(moved);
                    }
                }
            }
            match seq.0.checked_add(1) {
                Some(after) => next = Seq(after),
                None => return Next::Stretch,
            }
        }
        if next <= stretch.last {
            return self.missing(next, stretch.last, stretch.block);
        }
        Next::Stretch
    }

    /// Whether a message of `len` octets, or any, would be more than was asked for.
    fn is_enough(&self, len: usize) -> bool {
        let Fetched { messages, lost, .. } = &self.fetched;
        let bytes = self.bytes.saturating_add(MESSAGE_BYTES + len);
        !messages.is_empty() && bytes > self.max_bytes
            || !(messages.is_empty() && lost.is_empty())
                && self.octets >= self.max_bytes.max(READ_OCTETS_MIN)
    }

    /// The messages of a range cannot be read from the block they were said to be in: looks up what became
    /// of them.
    fn missing(&mut self, first: Seq, last: Seq, block: BlockId) -> Next {
        let index = self.reader.index.read();
        for now in index.stretches(self.queue, first, last, usize::MAX) {
            if now.block != block && self.moves < MOVES_MAX {
                self.moves += 1;
                return Next::LookUp(now.first);
            }
            match self.fetched.lost.last_mut() {
                Some(lost) if lost.1.0.checked_add(1) == Some(now.first.0) => lost.1 = now.last,
                _ => self.fetched.lost.push((now.first, now.last)),
            }
        }
        Next::Stretch
    }

    /// A block, if it is there, undamaged, and the one meant; `keep` has it at hand for the next time.
    fn block(&mut self, id: BlockId, checksum: u32, keep: bool) -> Option<Arc<Contents>> {
        let cached = self.reader.cache.lock().get(id);
        let contents = match cached {
            Some(contents) => contents,
            None => {
                // What cannot be read counts as a whole block, so that a request for lost messages ends.
                self.octets += VALUE_SIZE_MAX;
                // A value that the store itself cannot read, or dies of (sled panics over its own damage), is as good
                // as missing: the others are served.
                let got = guarded("reading a block", || self.store.get(&id.key()));
                let octets = got.ok().flatten()?;
                let contents = Arc::new(Contents::read(id, octets).ok()?);
                self.octets -= VALUE_SIZE_MAX - contents.len().min(VALUE_SIZE_MAX);
                if keep {
                    self.reader.cache.lock().insert(id, Arc::clone(&contents));
                }
                contents
            }
        };
        (contents.checksum() == checksum).then_some(contents)
    }

    /// Puts the pieces of a payload together; `None` if one is missing or damaged.
    fn pieces(&mut self, placement: Placement, shared: bool) -> Option<Bytes> {
        let keep = shared && placement.pieces <= CACHED_PIECES_MAX;
        let mut whole = Vec::new();
        for id in placement.blocks() {
            let checksum = self.reader.index.read().checksum(id)?;
            let piece = self.block(id, checksum, keep)?.piece()?;
            if placement.pieces == 1 {
                return (piece.len() as u64 == placement.len).then_some(piece);
            }
            if whole.is_empty() {
                whole.reserve_exact(usize::try_from(placement.len.min(RESERVE_MAX)).ok()?);
            }
            whole.extend_from_slice(&piece);
        }
        (whole.len() as u64 == placement.len).then(|| Bytes::from(whole))
    }
}
