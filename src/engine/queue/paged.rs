//! The part of a queue that is on disk: which places it is made of, and nothing of the messages.

use std::collections::VecDeque;

use super::entry::{Entry, Place};
use crate::storage::Seq;

/// Bytes that a run is accounted with.
pub(super) const RUN_BYTES: usize = 48;

/// Messages with consecutive numbers, kept in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// Bytes of headers and bodies, all together.
    pub(super) bytes: u64,
    pub(super) place: Place,
    /// Whether consumers may have seen them.
    pub(super) redelivered: bool,
}

impl Run {
    fn len(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }

    /// Whether one with messages like these may become part of it.
    fn is_like(&self, other: &Self, one_size: bool) -> bool {
        self.place == other.place
            && self.redelivered == other.redelivered
            && (!one_size
                || u128::from(self.bytes) * u128::from(other.len())
                    == u128::from(other.bytes) * u128::from(self.len()))
    }
}

/// Messages on disk, in the order of their numbers, as runs.
///
/// A backlog that came in without interruption is one run however long it is. The size of a single message is
/// the average of its run, which is right in sum; with `one_size` a run joins messages of one size only, so that
/// it is right for each.
#[derive(Debug)]
pub(super) struct Paged {
    runs: VecDeque<Run>,
    len: usize,
    bytes: u64,
    one_size: bool,
}

impl Paged {
    pub(super) fn new(one_size: bool) -> Self {
        Self {
            runs: VecDeque::new(),
            len: 0,
            bytes: 0,
            one_size,
        }
    }

    /// Messages.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes of headers and bodies.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it costs in memory.
    pub(super) fn weight(&self) -> u64 {
        (self.runs.len() * RUN_BYTES) as u64
    }

    fn run_of(entry: &Entry) -> Run {
        Run {
            first: entry.seq,
            last: entry.seq,
            bytes: entry.bytes(),
            place: entry.place,
            redelivered: entry.redelivered,
        }
    }

    fn count_in(&mut self, run: &Run) {
        self.len += usize::try_from(run.len()).unwrap_or(usize::MAX);
        self.bytes += run.bytes;
    }

    /// Appends a message behind all others; what it held of the message is the caller's to keep.
    pub(super) fn push_back(&mut self, entry: &Entry) {
        self.push_run(Self::run_of(entry));
    }

    /// Appends messages behind all others.
    pub(super) fn push_run(&mut self, run: Run) {
        self.count_in(&run);
        let one_size = self.one_size;
        match self.runs.back_mut() {
            Some(last) if last.last.0 + 1 == run.first.0 && last.is_like(&run, one_size) => {
                last.last = run.last;
                last.bytes += run.bytes;
            }
            _ => self.runs.push_back(run),
        }
    }

    /// Puts a message before all others.
    pub(super) fn push_front(&mut self, entry: &Entry) {
        let run = Self::run_of(entry);
        self.count_in(&run);
        let one_size = self.one_size;
        match self.runs.front_mut() {
            Some(first) if run.last.0 + 1 == first.first.0 && first.is_like(&run, one_size) => {
                first.first = run.first;
                first.bytes += run.bytes;
            }
            _ => self.runs.push_front(run),
        }
    }

    /// Takes the first message, without its body, as an entry of this level.
    pub(super) fn pop_front(&mut self, level: u8) -> Option<Entry> {
        let run = self.runs.front_mut()?;
        let size = run.bytes / run.len();
        let entry = Entry::bare(run.first, size, level, run.place, run.redelivered);
        if run.first == run.last {
            self.runs.pop_front();
        } else {
            run.first.0 += 1;
            run.bytes -= size;
        }
        self.len -= 1;
        self.bytes -= size;
        Some(entry)
    }

    /// The place of the last message.
    pub(super) fn last(&self) -> Option<Seq> {
        self.runs.back().map(|run| run.last)
    }

    /// Takes everything.
    pub(super) fn take(&mut self) -> VecDeque<Run> {
        (self.len, self.bytes) = (0, 0);
        std::mem::take(&mut self.runs)
    }
}

#[cfg(test)]
mod tests;
