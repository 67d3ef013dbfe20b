//! The messages of a queue that wait for a consumer, in the order they will be served.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::engine::message::Message;
use crate::storage::Seq;

/// A message in a queue.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seq: Seq,
    pub(super) message: Arc<Message>,
    /// How often it came back, counted returns only.
    pub(super) returns: u32,
    /// Whether a consumer may have seen it.
    pub(super) redelivered: bool,
}

/// One level of priority.
#[derive(Debug, Default)]
struct Level {
    /// As published: seqs rise.
    fresh: VecDeque<Entry>,
    /// What came back to its old place, or took a place reserved earlier.
    returned: BTreeMap<Seq, Entry>,
}

impl Level {
    fn returned_first(&self) -> bool {
        match (self.returned.first_key_value(), self.fresh.front()) {
            (Some((seq, _)), Some(fresh)) => *seq < fresh.seq,
            (returned, _) => returned.is_some(),
        }
    }

    fn front(&self) -> Option<&Entry> {
        if self.returned_first() {
            self.returned.first_key_value().map(|(_, entry)| entry)
        } else {
            self.fresh.front()
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        if self.returned_first() {
            self.returned.pop_first().map(|(_, entry)| entry)
        } else {
            self.fresh.pop_front()
        }
    }
}

/// Ready messages: by priority (higher first), then by place.
#[derive(Debug)]
pub(super) struct Ready {
    /// Index = priority; one level without `x-max-priority`.
    levels: Vec<Level>,
    len: usize,
    bytes: u64,
}

impl Ready {
    pub(super) fn new(max_priority: u8) -> Self {
        Self {
            levels: (0..=max_priority).map(|_| Level::default()).collect(),
            len: 0,
            bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn level_of(&self, entry: &Entry) -> usize {
        usize::from(entry.message.meta().priority.unwrap_or(0)).min(self.levels.len() - 1)
    }

    fn count_in(&mut self, entry: &Entry) {
        self.len += 1;
        self.bytes += entry.message.size() as u64;
    }

    fn count_out(&mut self, entry: Option<Entry>) -> Option<Entry> {
        if let Some(entry) = &entry {
            self.len -= 1;
            self.bytes -= entry.message.size() as u64;
        }
        entry
    }

    /// Appends a newly published message: its seq is higher than all before.
    pub(super) fn push(&mut self, entry: Entry) {
        self.count_in(&entry);
        let level = self.level_of(&entry);
        self.levels[level].fresh.push_back(entry);
    }

    /// Puts a message at the place its seq says.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.count_in(&entry);
        let level = self.level_of(&entry);
        self.levels[level].returned.insert(entry.seq, entry);
    }

    /// The message to be served next.
    pub(super) fn front(&self) -> Option<&Entry> {
        self.levels.iter().rev().find_map(Level::front)
    }

    /// Takes the message to be served next.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.levels.iter_mut().rev().find_map(Level::pop);
        self.count_out(entry)
    }

    /// Takes the message that a full queue drops first: the oldest of the lowest priority.
    pub(super) fn pop_least(&mut self) -> Option<Entry> {
        let entry = self.levels.iter_mut().find_map(Level::pop);
        self.count_out(entry)
    }

    /// Takes a message at the head of its level for which `gone` is true.
    pub(super) fn pop_head_if(&mut self, gone: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let entry = self
            .levels
            .iter_mut()
            .find(|level| level.front().is_some_and(&gone))
            .and_then(Level::pop);
        self.count_out(entry)
    }

    /// The head of each level.
    pub(super) fn heads(&self) -> impl Iterator<Item = &Entry> {
        self.levels.iter().filter_map(Level::front)
    }
}

#[cfg(test)]
mod tests;
