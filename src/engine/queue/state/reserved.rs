//! Sends of transactions: their places are taken when the transaction commits, and shown when that is on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Effects, Overflow, Refusal, State, Weight, size};
use crate::engine::message::{Message, settle_in};
use crate::engine::queue::entry::Entry;
use crate::storage::{CommitNumber, Seq};

/// Messages whose commit is not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    /// No list is empty.
    commits: BTreeMap<CommitNumber, Vec<Entry>>,
    len: usize,
    bytes: u64,
    weight: Weight,
}

impl Reserved {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of headers and bodies.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What they cost in memory.
    pub(super) fn weight(&self) -> Weight {
        self.weight
    }

    /// The first place taken.
    pub(super) fn first(&self) -> Option<Seq> {
        let (_, entries) = self.commits.first_key_value()?;
        entries.first().map(|entry| entry.seq)
    }

    fn add(&mut self, commit: CommitNumber, entry: Entry) {
        self.len += 1;
        self.bytes += entry.bytes();
        self.weight.add(&entry);
        self.commits.entry(commit).or_default().push(entry);
    }

    /// Takes the sends of the first commit, if it is on disk.
    fn take(&mut self, durable: CommitNumber) -> Option<Vec<Entry>> {
        let first = self.commits.first_entry()?;
        if *first.key() > durable {
            return None;
        }
        let entries = first.remove();
        for entry in &entries {
            self.len -= 1;
            self.bytes -= entry.bytes();
            self.weight.sub(entry);
        }
        Some(entries)
    }
}

impl State {
    /// Whether a transaction's sends can all be taken.
    pub(in crate::engine::queue) fn admit(&self, messages: &[Arc<Message>]) -> Result<(), Refusal> {
        for message in messages {
            self.admissible(message)?;
        }
        let bytes = messages.iter().map(|message| size(message)).sum();
        let refuses = matches!(
            self.arguments.overflow,
            Overflow::RejectPublish | Overflow::RejectPublishDlx
        );
        if refuses && self.over_limit(messages.len(), bytes) {
            Err(Refusal::Full)
        } else {
            Ok(())
        }
    }

    /// Gives a transaction's sends their places; they are served once `commit` is on disk, or by the
    /// next dispatch if there is nothing to wait for.
    pub(in crate::engine::queue) fn reserve(
        &mut self,
        commit: Option<CommitNumber>,
        messages: Vec<Arc<Message>>,
        fx: &mut impl Effects,
    ) {
        for mut message in messages {
            settle_in(&mut message);
            let entry = self.take_in(&message, fx);
            match commit {
                Some(commit) => self.reserved.add(commit, entry),
                None => self.ready.push(entry),
            }
        }
    }

    /// Commits up to `durable` are on disk: their sends become visible, each in its place. Call
    /// [`State::dispatch`] afterwards.
    pub(in crate::engine::queue) fn reveal(&mut self, durable: CommitNumber) {
        while let Some(entries) = self.reserved.take(durable) {
            entries.into_iter().for_each(|entry| self.ready.show(entry));
        }
    }
}
