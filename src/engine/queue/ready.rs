//! The messages of a queue that wait for a consumer, in the order they will be served.

use std::sync::Arc;

use super::entry::{Entry, Place, Weight};
use super::paged::Run;
use crate::engine::message::Message;
use crate::storage::Seq;

mod level;

use level::Level;
pub(super) use level::reach;

/// Messages to be read back: those at these places that are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) place: Place,
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// About so many bytes; at least one message.
    pub(super) bytes: u64,
}

/// How far to read ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// Whether more is wanted than the next message: somebody will take it.
    pub(super) hungry: bool,
    /// With so many bytes in memory nothing more is read.
    pub(super) enough: u64,
    /// So many bytes are read in one go.
    pub(super) part: u64,
}

/// Sums over all levels.
#[derive(Debug, Default)]
struct Totals {
    len: usize,
    bytes: u64,
    weight: Weight,
    /// Messages that are on disk only.
    bare: usize,
}

impl Totals {
    fn count_in(&mut self, entry: &Entry) {
        self.len += 1;
        self.bytes += entry.bytes();
        self.weight.add(entry);
        self.bare += usize::from(entry.is_bare());
    }

    fn count_out(&mut self, entry: &Entry) {
        self.len -= 1;
        self.bytes -= entry.bytes();
        self.weight.sub(entry);
        self.bare -= usize::from(entry.is_bare());
    }
}

/// Ready messages: by priority (higher first), then by place.
#[derive(Debug)]
pub(super) struct Ready {
    /// Index = priority; one level without `x-max-priority`.
    levels: Vec<Level>,
    totals: Totals,
}

impl Ready {
    /// Nothing yet. With `one_size` the bytes of each message stay exact while it is on disk.
    pub(super) fn new(max_priority: u8, one_size: bool) -> Self {
        Self {
            levels: (0..=max_priority)
                .map(|index| Level::new(index, one_size))
                .collect(),
            totals: Totals::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.totals.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.totals.len == 0
    }

    /// Bytes of headers and bodies, wherever they are.
    pub(super) fn bytes(&self) -> u64 {
        self.totals.bytes
    }

    /// What all of it costs in memory.
    pub(super) fn weight(&self) -> Weight {
        self.totals.weight
    }

    /// Whether any of it is on disk only.
    pub(super) fn is_paged(&self) -> bool {
        self.totals.bare > 0
    }

    /// The level at which a message is served.
    pub(super) fn level_of(&self, message: &Message) -> u8 {
        let highest = u8::try_from(self.levels.len() - 1).unwrap_or(u8::MAX);
        message.meta().priority.unwrap_or(0).min(highest)
    }

    /// Appends a newly published message: its seq is higher than all before.
    pub(super) fn push(&mut self, entry: Entry) {
        self.levels[usize::from(entry.level)].push(entry, &mut self.totals);
    }

    /// Appends messages of one level that are on disk: their seqs are higher than all before.
    pub(super) fn push_run(&mut self, level: u8, run: Run) {
        self.levels[usize::from(level)].push_run(run, &mut self.totals);
    }

    /// Puts a message at the place its seq says.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.levels[usize::from(entry.level)].put_back(entry, &mut self.totals);
    }

    /// Puts a message that nobody has seen at the place its seq says, which mostly is the end.
    pub(super) fn show(&mut self, entry: Entry) {
        self.levels[usize::from(entry.level)].show(entry, &mut self.totals);
    }

    /// The message to be served next.
    pub(super) fn front(&self) -> Option<&Entry> {
        self.levels.iter().rev().find_map(Level::front)
    }

    /// Takes the message to be served next.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let totals = &mut self.totals;
        self.levels
            .iter_mut()
            .rev()
            .find_map(|level| level.pop(totals))
    }

    /// Takes the message that a full queue drops first: the oldest of the lowest priority.
    pub(super) fn pop_least(&mut self) -> Option<Entry> {
        let totals = &mut self.totals;
        self.levels.iter_mut().find_map(|level| level.pop(totals))
    }

    /// Takes a message at the head of its level for which `gone` is true.
    pub(super) fn pop_head_if(&mut self, gone: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let totals = &mut self.totals;
        self.levels
            .iter_mut()
            .find(|level| level.front().is_some_and(&gone))
            .and_then(|level| level.pop(totals))
    }

    /// The head of each level.
    pub(super) fn heads(&self) -> impl Iterator<Item = &Entry> {
        self.levels.iter().filter_map(Level::front)
    }

    /// Takes everything; `stored` gets the places that are on disk, in ranges. Returns the count.
    pub(super) fn clear(&mut self, stored: &mut Vec<(Place, Seq, Seq)>) -> usize {
        for level in &mut self.levels {
            level.clear(stored);
        }
        std::mem::take(&mut self.totals).len
    }

    /// Shows `spill` each message that is in memory alone and beyond the first `window` bytes, until it has
    /// enough and says false.
    pub(super) fn beyond(&mut self, window: u64, mut spill: impl FnMut(&mut Entry) -> bool) {
        let mut keep = window;
        for level in self.levels.iter_mut().rev() {
            if !level.beyond(&mut keep, &mut spill, &mut self.totals) {
                return;
            }
        }
    }

    /// Lets go of messages beyond the first `window` bytes that are on disk (all up to `upto` is), `most` of them
    /// at most. Returns them, for the caller to free them with no lock held.
    pub(super) fn let_go(&mut self, window: u64, upto: Seq, most: usize) -> Vec<Arc<Message>> {
        let (mut keep, mut freed) = (window, Vec::new());
        for level in self.levels.iter_mut().rev() {
            level.let_go(&mut keep, upto, most, &mut freed, &mut self.totals);
        }
        freed
    }

    /// What has to be read next, if anything: first what is to be served next, then what is needed to know when
    /// the heads of other levels expire.
    pub(super) fn wanted(&mut self, ahead: Ahead) -> Option<Want> {
        if self.totals.bare == 0 {
            return None;
        }
        let mut ahead = ahead;
        for level in self.levels.iter_mut().rev() {
            if level.front().is_none() {
                continue;
            }
            if let Some(want) = level.wanted(ahead, &mut self.totals) {
                return Some(want);
            }
            ahead.hungry = false;
        }
        None
    }

    /// Puts a message that was read back into its place. False if nobody misses it there.
    pub(super) fn fill(&mut self, place: Place, seq: Seq, message: &Arc<Message>) -> bool {
        let level = usize::from(self.level_of(message));
        self.levels[level].fill(place, seq, message, &mut self.totals)
    }

    /// The first of these places whose message is on disk only, and to be served before any that is not looked at
    /// yet.
    pub(super) fn missing(&self, place: Place, first: Seq, last: Seq) -> Option<Seq> {
        self.levels
            .iter()
            .filter_map(|level| level.missing(place, first, last))
            .min()
    }
}

#[cfg(test)]
impl Ready {
    /// Counts everything again.
    pub(super) fn verify(&self) {
        let mut counted = Totals::default();
        for level in &self.levels {
            level.verify(&mut counted);
        }
        let of = |totals: &Totals| (totals.len, totals.bytes, totals.weight, totals.bare);
        assert_eq!(of(&counted), of(&self.totals));
    }
}

#[cfg(test)]
mod tests;
