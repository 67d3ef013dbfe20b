//! One level of priority: a head in memory, a middle on disk, a tail in memory, and what came back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Ahead, Totals, Want};
use crate::engine::message::Message;
use crate::engine::queue::entry::{Entry, Place, size_of};
use crate::engine::queue::paged::{Paged, Run};
use crate::storage::Seq;

/// Numbers between two messages read in one go that belong to others: what is read for nothing is bounded by it.
const GAP_MAX: u64 = 32;
/// What the stored form of a message has beside headers and body, about.
const HEAD_BYTES: u64 = 64;
/// Places unrolled from the middle for one part, whatever their sizes are said to be.
const UNROLLED_MAX: usize = 16 * 1024;

/// Seqs rise from head to middle to tail. If there is anything in the middle or the tail, the head is not empty;
/// its entries may be without their messages.
#[derive(Debug)]
pub(super) struct Level {
    index: u8,
    head: VecDeque<Entry>,
    middle: Paged,
    /// As published since there is a middle.
    tail: VecDeque<Entry>,
    /// What came back to its old place, or took a place reserved earlier.
    returned: BTreeMap<Seq, Entry>,
    /// Bytes of the messages of head and returned that are in memory.
    loaded: u64,
    /// Entries without their messages; what is in the middle is not counted.
    bare: usize,
}

impl Level {
    pub(super) fn new(index: u8, one_size: bool) -> Self {
        Self {
            index,
            head: VecDeque::new(),
            middle: Paged::new(one_size),
            tail: VecDeque::new(),
            returned: BTreeMap::new(),
            loaded: 0,
            bare: 0,
        }
    }

    fn returned_first(&self) -> bool {
        match (self.returned.first_key_value(), self.head.front()) {
            (Some((seq, _)), Some(head)) => *seq < head.seq,
            (returned, _) => returned.is_some(),
        }
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        if self.returned_first() {
            self.returned.first_key_value().map(|(_, entry)| entry)
        } else {
            self.head.front()
        }
    }

    pub(super) fn push(&mut self, entry: Entry, totals: &mut Totals) {
        totals.count_in(&entry);
        if self.middle.is_empty() && self.tail.is_empty() {
            self.loaded += entry.body_bytes();
            self.head.push_back(entry);
        } else {
            self.tail.push_back(entry);
        }
    }

    pub(super) fn push_run(&mut self, run: Run, totals: &mut Totals) {
        let (len, before) = (self.middle.len(), self.middle.weight());
        self.middle.push_run(run);
        let more = self.middle.len() - len;
        totals.len += more;
        totals.bytes += run.bytes;
        totals.bare += more;
        totals.weight.places = totals.weight.places + self.middle.weight() - before;
        self.refill(totals);
    }

    pub(super) fn put_back(&mut self, entry: Entry, totals: &mut Totals) {
        totals.count_in(&entry);
        self.bare += usize::from(entry.is_bare());
        self.loaded += entry.body_bytes();
        self.returned.insert(entry.seq, entry);
    }

    pub(super) fn show(&mut self, entry: Entry, totals: &mut Totals) {
        let last = match self.tail.back() {
            Some(last) => Some(last.seq),
            None => self.middle.last().or(self.head.back().map(|last| last.seq)),
        };
        if last.is_none_or(|last| last < entry.seq) {
            self.push(entry, totals);
        } else {
            self.put_back(entry, totals);
        }
    }

    pub(super) fn pop(&mut self, totals: &mut Totals) -> Option<Entry> {
        let entry = if self.returned_first() {
            self.returned.pop_first().map(|(_, entry)| entry)?
        } else {
            self.head.pop_front()?
        };
        self.loaded -= entry.body_bytes();
        totals.count_out(&entry);
        self.bare -= usize::from(entry.is_bare());
        if self.head.is_empty() {
            self.refill(totals);
        }
        Some(entry)
    }

    /// Gives an empty head what comes next.
    fn refill(&mut self, totals: &mut Totals) {
        if !self.head.is_empty() {
            return;
        }
        self.unroll(totals);
        if self.head.is_empty() {
            std::mem::swap(&mut self.head, &mut self.tail);
            self.weigh();
        }
    }

    fn weigh(&mut self) {
        let entries = self.head.iter().chain(self.returned.values());
        self.loaded = entries.map(Entry::body_bytes).sum();
    }

    /// Makes an entry of the head out of the first message of the middle; its size, if there was one.
    fn unroll(&mut self, totals: &mut Totals) -> Option<u64> {
        let before = self.middle.weight();
        let entry = self.middle.pop_front(self.index)?;
        let size = entry.bytes();
        totals.weight.add(&entry);
        totals.weight.places = totals.weight.places + self.middle.weight() - before;
        self.bare += 1;
        self.head.push_back(entry);
        Some(size)
    }

    pub(super) fn clear(&mut self, stored: &mut Vec<(Place, Seq, Seq)>) {
        let (head, tail) = (
            std::mem::take(&mut self.head),
            std::mem::take(&mut self.tail),
        );
        let returned = std::mem::take(&mut self.returned).into_values();
        let entries = head.into_iter().chain(tail).chain(returned);
        let on_disk = entries.filter(|entry| entry.place.is_on_disk());
        stored.extend(on_disk.map(|entry| (entry.place, entry.seq, entry.seq)));
        let runs = self.middle.take().into_iter();
        stored.extend(runs.map(|run| (run.place, run.first, run.last)));
        (self.loaded, self.bare) = (0, 0);
    }

    /// How many of these stay in memory: those that begin within `keep`, but always the first. Were it fewer, what
    /// is let go might be read ahead again at once.
    fn staying<'e>(entries: impl Iterator<Item = &'e Entry>, keep: &mut u64) -> usize {
        let mut stay = 0;
        for entry in entries {
            if *keep == 0 && stay > 0 {
                break;
            }
            *keep = keep.saturating_sub(entry.body_bytes());
            stay += 1;
        }
        stay
    }

    /// See [`super::Ready::beyond`]; false if `spill` has enough.
    pub(super) fn beyond(
        &mut self,
        keep: &mut u64,
        spill: &mut impl FnMut(&mut Entry) -> bool,
        totals: &mut Totals,
    ) -> bool {
        let back = Self::staying(self.returned.values(), keep);
        let stay = Self::staying(self.head.iter(), keep);
        let returned = self.returned.values_mut().skip(back);
        let rest = self.head.iter_mut().skip(stay).chain(&mut self.tail);
        for entry in returned.chain(rest) {
            if entry.place != Place::Memory {
                continue;
            }
            totals.weight.alone -= entry.alone_bytes();
            let more = spill(entry);
            totals.weight.alone += entry.alone_bytes();
            if !more {
                return false;
            }
        }
        true
    }

    /// See [`super::Ready::let_go`].
    pub(super) fn let_go(
        &mut self,
        keep: &mut u64,
        upto: Seq,
        most: usize,
        freed: &mut Vec<Arc<Message>>,
        totals: &mut Totals,
    ) {
        let back = Self::staying(self.returned.values(), keep);
        let stay = Self::staying(self.head.iter(), keep);
        for entry in self.returned.values_mut().skip(back) {
            if entry.is_bare() || !entry.can_let_go(upto) || freed.len() >= most {
                continue;
            }
            totals.weight.bodies -= entry.body_bytes();
            totals.bare += 1;
            self.bare += 1;
            freed.extend(entry.body.take());
        }
        if self.middle.is_empty() {
            let mut rest = self.head.split_off(stay);
            rest.append(&mut self.tail);
            self.tail = rest;
        }
        while self.head.len() > stay
            && freed.len() < most
            && !self.middle.is_empty()
            && self.head.back().is_some_and(|entry| entry.can_let_go(upto))
        {
            let Some(entry) = self.head.pop_back() else {
                break;
            };
            let before = self.middle.weight();
            self.middle.push_front(&entry);
            self.moved(entry, before, freed, totals);
        }
        while freed.len() < most
            && self
                .tail
                .front()
                .is_some_and(|entry| entry.can_let_go(upto))
        {
            let Some(entry) = self.tail.pop_front() else {
                break;
            };
            let before = self.middle.weight();
            self.middle.push_back(&entry);
            self.moved(entry, before, freed, totals);
        }
        if self.middle.is_empty() {
            self.head.append(&mut self.tail);
        }
        self.weigh();
    }

    /// An entry became part of the middle, which weighed `before`.
    fn moved(
        &mut self,
        mut entry: Entry,
        before: u64,
        freed: &mut Vec<Arc<Message>>,
        totals: &mut Totals,
    ) {
        totals.weight.sub(&entry);
        totals.weight.places = totals.weight.places + self.middle.weight() - before;
        match entry.body.take() {
            Some(message) => {
                totals.bare += 1;
                freed.push(message);
            }
            None => self.bare -= 1,
        }
    }

    /// What has to be read next.
    pub(super) fn wanted(&mut self, ahead: Ahead, totals: &mut Totals) -> Option<Want> {
        if self.bare == 0 && self.middle.is_empty() {
            return None;
        }
        let must = self.front().is_some_and(Entry::is_bare);
        if !must && (!ahead.hungry || self.loaded >= ahead.enough) {
            return None;
        }
        let part = if ahead.hungry { ahead.part } else { 1 };
        let returned = self.returned.values().find(|entry| entry.is_bare());
        let head = self.head.iter().position(Entry::is_bare);
        let returned_seq = returned.map(|entry| entry.seq);
        let head_seq = head.map(|at| self.head[at].seq);
        match (returned_seq, head_seq) {
            (Some(seq), head) if head.is_none_or(|head| seq < head) => {
                let bare = self.returned.range(seq..).map(|(_, entry)| entry);
                reach(bare, part)
            }
            _ => {
                let from = head.unwrap_or(self.head.len());
                let mut unrolled: u64 = self.head.range(from..).map(Entry::bytes).sum();
                while unrolled < part && self.head.len() - from < UNROLLED_MAX {
                    match self.unroll(totals) {
                        Some(size) => unrolled += size.max(1),
                        None => break,
                    }
                }
                reach(self.head.range(from..), part)
            }
        }
    }

    pub(super) fn fill(
        &mut self,
        place: Place,
        seq: Seq,
        message: &Arc<Message>,
        totals: &mut Totals,
    ) -> bool {
        let in_head = self.head.binary_search_by_key(&seq, |entry| entry.seq);
        let entry = match in_head {
            Ok(at) => self.head.get_mut(at),
            Err(_) => self.returned.get_mut(&seq),
        };
        let Some(entry) = entry.filter(|entry| entry.is_bare() && entry.place == place) else {
            return false;
        };
        let size = size_of(message);
        totals.bytes = totals.bytes - entry.bytes() + u64::from(size);
        (entry.size, entry.body) = (size, Some(Arc::clone(message)));
        totals.weight.bodies += entry.body_bytes();
        totals.bare -= 1;
        self.bare -= 1;
        self.loaded += entry.body_bytes();
        true
    }

    pub(super) fn missing(&self, place: Place, first: Seq, last: Seq) -> Option<Seq> {
        if self.bare == 0 || first > last {
            return None;
        }
        let from = self.head.partition_point(|entry| entry.seq < first);
        let head = self
            .head
            .range(from..)
            .take_while(|entry| entry.seq <= last);
        let returned = self.returned.range(first..=last).map(|(_, entry)| entry);
        let missed = |entry: &&Entry| entry.is_bare() && entry.place == place;
        let first_of = |entry: Option<&Entry>| entry.map(|entry| entry.seq);
        [
            first_of(head.into_iter().find(missed)),
            first_of(returned.into_iter().find(missed)),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// How far one reading can go that begins with the first of these that is on disk only.
pub(in crate::engine::queue) fn reach<'e>(
    entries: impl Iterator<Item = &'e Entry>,
    part: u64,
) -> Option<Want> {
    let mut bare = entries.filter(|entry| entry.is_bare());
    let first = bare.next()?;
    let mut want = Want {
        place: first.place,
        first: first.seq,
        last: first.seq,
        bytes: first.bytes() + HEAD_BYTES,
    };
    for entry in bare {
        if want.bytes >= part || entry.seq.0 - want.last.0 > GAP_MAX {
            break;
        }
        if entry.place == want.place {
            want.last = entry.seq;
            want.bytes += entry.bytes() + HEAD_BYTES;
        }
    }
    Some(want)
}

#[cfg(test)]
impl Level {
    /// Counts everything again, and looks at the order.
    pub(super) fn verify(&self, totals: &mut Totals) {
        let entries = || self.head.iter().chain(&self.tail);
        entries().chain(self.returned.values()).for_each(|entry| {
            totals.count_in(entry);
            assert_eq!(entry.level, self.index);
        });
        let bare = entries()
            .chain(self.returned.values())
            .filter(|entry| entry.is_bare());
        assert_eq!(bare.count(), self.bare);
        totals.len += self.middle.len();
        totals.bare += self.middle.len();
        totals.bytes += self.middle.bytes();
        totals.weight.places += self.middle.weight();
        let loaded = self.head.iter().chain(self.returned.values());
        assert_eq!(loaded.map(Entry::body_bytes).sum::<u64>(), self.loaded);
        assert!(entries().map(|entry| entry.seq).is_sorted());
        assert!(!self.head.is_empty() || self.middle.is_empty() && self.tail.is_empty());
        let last = self.head.back().map(|entry| entry.seq);
        assert!(self.middle.last().is_none_or(|middle| last < Some(middle)));
        let first = self.tail.front().map(|entry| entry.seq);
        assert!(first.is_none_or(|first| self.middle.last() < Some(first)));
    }
}
