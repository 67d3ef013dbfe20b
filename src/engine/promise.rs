//! What a connection owes its client once a commit is on disk.

use std::collections::VecDeque;

use crate::storage::CommitNumber;

/// Promises of one connection, in the order made. Commits never go back, so the oldest is due first.
#[derive(Debug)]
pub struct Promises<T> {
    waiting: VecDeque<(CommitNumber, T)>,
}

impl<T> Default for Promises<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Promises<T> {
    /// Promises `what` for when `commit` is on disk.
    pub fn push(&mut self, commit: CommitNumber, what: T) {
        self.waiting.push_back((commit, what));
    }

    /// Takes the next promise that `durable` keeps.
    pub fn pop_kept(&mut self, durable: CommitNumber) -> Option<T> {
        match self.waiting.front() {
            Some((commit, _)) if *commit <= durable => {
                self.waiting.pop_front().map(|(_, what)| what)
            }
            _ => None,
        }
    }

    /// Takes the next promise, kept or not: the store failed, and it never will be.
    pub fn pop_broken(&mut self) -> Option<T> {
        self.waiting.pop_front().map(|(_, what)| what)
    }

    /// Promises not kept yet.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
