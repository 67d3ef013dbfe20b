//! How a queue lets go of messages that are on disk, and gets them back.
//!
//! Letting go has two steps, because only what is on disk can be read back: [`State::spill`] writes what is in
//! memory alone, and when that is durable [`State::let_go`] drops what is beyond the window. Reading back has
//! two as well: the state asks through [`Effects::fetch`], and [`State::read_back`] brings the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Consumer, Effects, Place, State, Weight};
use crate::engine::message::{DeathReason, Message};
use crate::engine::queue::entry::{Entry, size_of};
use crate::engine::queue::paged::Run;
use crate::engine::queue::ready::{self, Ahead, Want};
use crate::storage::Seq;

/// The least and the most read ahead in one go, in bytes.
const PART_BYTES: (u64, u64) = (64 << 10, 1 << 20);
/// The most that one step writes to the spill, so that the queue is not locked for long and the log not filled.
const SPILL_MAX: usize = 16 * 1024;
const SPILL_BYTES_MAX: u64 = 8 << 20;
/// The most messages that one step lets go of.
const LET_GO_MAX: usize = 32 * 1024;

/// What is under way between a queue and its messages on disk.
#[derive(Debug, Default)]
pub(super) struct Paging {
    /// Whether an answer is awaited.
    fetching: bool,
    /// A message that was not in an answer: the next answer must have it.
    suspect: Option<Seq>,
    /// Messages were lost: nothing is served any more.
    damaged: bool,
    /// Whether the last look found expired messages.
    pub(super) expiring: bool,
    /// Dead letters that left the queue and have to be read first, and those that must not overtake them.
    doomed: BTreeMap<Seq, (Entry, DeathReason)>,
    weight: Weight,
    /// What could not be let go of the last time, in bytes.
    stuck: u64,
}

impl Paging {
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Whether dead letters wait to be read.
    pub(super) fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// Notes a dead letter that has to be read, or that is behind one.
    pub(super) fn doom(&mut self, entry: Entry, reason: DeathReason) {
        self.weight.add(&entry);
        self.doomed.insert(entry.seq, (entry, reason));
    }

    /// Gives a dead letter its message. False if none misses it.
    fn fill(&mut self, place: Place, seq: Seq, message: &Arc<Message>) -> bool {
        let Some((entry, _)) = self.doomed.get_mut(&seq) else {
            return false;
        };
        if entry.place != place || !entry.is_bare() {
            return false;
        }
        self.weight.sub(entry);
        entry.body = Some(Arc::clone(message));
        entry.size = size_of(message);
        self.weight.add(entry);
        true
    }

    /// Takes the first dead letter, if it is there to go.
    fn pop_dead(&mut self) -> Option<(Entry, DeathReason)> {
        let first = self.doomed.first_entry()?;
        if first.get().0.is_bare() {
            return None;
        }
        let (entry, reason) = first.remove();
        self.weight.sub(&entry);
        Some((entry, reason))
    }

    pub(super) fn clear(&mut self) {
        self.doomed.clear();
        self.weight = Weight::default();
    }

    /// The dead letters to read next.
    fn wanted(&self) -> Option<Want> {
        let doomed = self.doomed.values().map(|(entry, _)| entry);
        ready::reach(doomed, PART_BYTES.0)
    }
}

/// What letting go of messages came to.
#[derive(Debug)]
pub(in crate::engine::queue) struct Page {
    /// Messages let go, to be freed with no lock held.
    pub(in crate::engine::queue) freed: Vec<Arc<Message>>,
    /// Whether there may be more.
    pub(in crate::engine::queue) more: bool,
}

/// Messages that recovery found, all of one level, with consecutive numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::queue) struct Found {
    pub(in crate::engine::queue) first: Seq,
    pub(in crate::engine::queue) last: Seq,
    /// Bytes of headers and bodies, or an estimate.
    pub(in crate::engine::queue) bytes: u64,
    pub(in crate::engine::queue) level: u8,
    /// How often they came back; if they did it is a single one.
    pub(in crate::engine::queue) returns: u32,
}

/// The answer to a request to read messages back.
#[derive(Debug)]
pub(in crate::engine::queue) struct ReadBack {
    pub(in crate::engine::queue) place: Place,
    pub(in crate::engine::queue) first: Seq,
    /// Every message up to here that is on disk is in one of the lists.
    pub(in crate::engine::queue) upto: Seq,
    pub(in crate::engine::queue) messages: Vec<(Seq, Arc<Message>)>,
    /// What is on disk and cannot be read.
    pub(in crate::engine::queue) lost: Vec<(Seq, Seq)>,
}

impl State {
    /// Puts back what recovery found, in seq order, and where numbering goes on.
    pub(in crate::engine::queue) fn recover(
        &mut self,
        next_seq: Seq,
        found: impl IntoIterator<Item = Found>,
        unclean: bool,
    ) {
        for found in found {
            if found.returns > 0 {
                let size = found.bytes;
                self.ready.put_back(Entry {
                    returns: found.returns,
                    ..Entry::bare(found.first, size, found.level, Place::Log, true)
                });
            } else {
                let run = Run {
                    first: found.first,
                    last: found.last,
                    bytes: found.bytes,
                    place: Place::Log,
                    redelivered: unclean,
                };
                self.ready.push_run(found.level, run);
            }
        }
        self.next_seq = self.next_seq.max(next_seq);
    }

    /// What the queue costs in memory.
    pub(super) fn weight(&self) -> u64 {
        self.ready.weight().total()
            + self.outside.total()
            + self.reserved.weight().total()
            + self.paging.weight.total()
    }

    /// Whether messages that are in memory alone are to be written to the spill: if memory is so short that it
    /// `presses`, or if they are few among others, which would be kept in memory by them.
    fn spills(&self, presses: bool) -> bool {
        let alone = self.ready.weight().alone + self.outside.alone;
        presses || alone.saturating_mul(2) < self.bodies()
    }

    /// Bytes of messages in memory.
    fn bodies(&self) -> u64 {
        self.ready.weight().bodies + self.outside.bodies
    }

    /// Bytes of messages in memory that could be on disk instead.
    fn resident(&self, presses: bool) -> u64 {
        if self.spills(presses) {
            self.bodies()
        } else {
            self.bodies() - self.ready.weight().alone - self.outside.alone
        }
    }

    /// Whether the queue holds so much more than its window that it should be paged.
    pub(in crate::engine::queue) fn exceeds_window(&self, window: u64, presses: bool) -> bool {
        self.resident(presses) > window.saturating_mul(2)
            && self.bodies() > self.paging.stuck.saturating_add(window)
    }

    /// Writes messages beyond the window that are in memory alone, if that has to be ([`State::spills`]). Returns the highest place given so far: once
    /// all that was written up to now is durable, [`State::let_go`] may have it.
    pub(in crate::engine::queue) fn spill(
        &mut self,
        window: u64,
        presses: bool,
        fx: &mut impl Effects,
    ) -> Seq {
        let noted = Seq(self.next_seq.0.saturating_sub(1));
        if !self.spills(presses) {
            return noted;
        }
        let (mut count, mut bytes) = (0, 0);
        let mut spill = |entry: &mut Entry| {
            let Some(message) = &entry.body else {
                return true;
            };
            fx.spill(entry.seq, message);
            entry.place = Place::Spill;
            count += 1;
            bytes += entry.bytes();
            count < SPILL_MAX && bytes < SPILL_BYTES_MAX
        };
        self.ready.beyond(window, &mut spill);
        if self.outside.bodies > window {
            let unacked = self
                .unacked
                .iter_mut()
                .map(|(_, unacked)| &mut unacked.entry);
            for entry in unacked
                .chain(self.delayed.values_mut())
                .filter(|entry| entry.place == Place::Memory)
            {
                self.outside.alone -= entry.alone_bytes();
                let more = spill(entry);
                self.outside.alone += entry.alone_bytes();
                if !more {
                    break;
                }
            }
        }
        noted
    }

    /// Lets go of messages beyond the window. Everything up to `upto` is durable, where it is written at all.
    pub(in crate::engine::queue) fn let_go(&mut self, window: u64, upto: Seq) -> Page {
        let mut freed = self.ready.let_go(window, upto, LET_GO_MAX);
        if self.outside.bodies > window {
            let unacked = self
                .unacked
                .iter_mut()
                .map(|(_, unacked)| &mut unacked.entry);
            for entry in unacked.chain(self.delayed.values_mut()) {
                if freed.len() >= LET_GO_MAX {
                    break;
                }
                if entry.can_let_go(upto) {
                    self.outside.bodies -= entry.body_bytes();
                    freed.extend(entry.body.take());
                }
            }
        }
        self.paging.stuck = if freed.is_empty() { self.bodies() } else { 0 };
        Page {
            more: freed.len() >= LET_GO_MAX,
            freed,
        }
    }

    /// Asks for what has to be read next, unless an answer is awaited.
    pub(super) fn read_ahead(&mut self, fx: &mut impl Effects) {
        let nothing = self.paging.doomed.is_empty() && !self.ready.is_paged();
        if nothing || self.paging.fetching || self.paging.damaged {
            return;
        }
        let window = fx.window();
        let part = window.clamp(PART_BYTES.0, PART_BYTES.1);
        let ahead = Ahead {
            hungry: self.consumers.len() > 0 || self.paging.expiring,
            enough: (window / 2).min(part),
            part,
        };
        let want = self.paging.wanted().or_else(|| self.ready.wanted(ahead));
        if let Some(want) = want {
            self.paging.fetching = true;
            fx.fetch(want);
        }
    }

    /// Takes messages that were read back. Call [`State::dispatch`] and [`State::flush`] afterwards.
    ///
    /// # Errors
    /// What is lost, and the consumers, who are served no more.
    pub(in crate::engine::queue) fn read_back(
        &mut self,
        read: &ReadBack,
        fx: &mut impl Effects,
    ) -> Result<(), (Seq, Vec<Consumer>)> {
        self.paging.fetching = false;
        if self.closed {
            return Ok(());
        }
        for (seq, message) in &read.messages {
            if !self.paging.fill(read.place, *seq, message) {
                self.ready.fill(read.place, *seq, message);
            }
        }
        while let Some((entry, reason)) = self.paging.pop_dead() {
            if let Some(message) = &entry.body {
                Self::forget(&entry, fx);
                fx.dead(Arc::clone(message), reason);
            }
        }
        let Some(missing) = self.missing(read) else {
            self.paging.suspect = None;
            return Ok(());
        };
        let lost = |(first, last): &(Seq, Seq)| (*first..=*last).contains(&missing);
        // It may have gone to disk after it was looked for there. The second time it has been there all along.
        if self.paging.suspect == Some(missing) || read.lost.iter().any(lost) {
            self.paging.damaged = true;
            return Err((missing, self.consumers.clear()));
        }
        self.paging.suspect = Some(missing);
        Ok(())
    }

    /// The first message that should have been in the answer.
    fn missing(&self, read: &ReadBack) -> Option<Seq> {
        if read.first > read.upto {
            return None;
        }
        let doomed = self.paging.doomed.range(read.first..=read.upto);
        let doomed = doomed
            .filter(|(_, (entry, _))| entry.is_bare() && entry.place == read.place)
            .map(|(seq, _)| *seq)
            .next();
        let ready = self.ready.missing(read.place, read.first, read.upto);
        doomed.into_iter().chain(ready).min()
    }
}

#[cfg(test)]
impl State {
    /// Whether an answer is awaited.
    pub(in crate::engine::queue) fn is_reading(&self) -> bool {
        self.paging.fetching
    }

    /// The ids of dead letters that wait; `id_of` knows those on disk.
    pub(in crate::engine::queue) fn doomed(&self, id_of: impl Fn(Seq) -> u64) -> Vec<u64> {
        let entries = self.paging.doomed.values().map(|(entry, _)| entry);
        let ids = entries.map(|entry| match &entry.body {
            Some(message) => message.meta().id.0,
            None => id_of(entry.seq),
        });
        ids.collect()
    }

    /// Counts everything again.
    pub(in crate::engine::queue) fn verify(&self) {
        self.ready.verify();
        let mut outside = Weight::default();
        let unacked = self.unacked.iter().map(|(_, unacked)| &unacked.entry);
        unacked
            .chain(self.delayed.values())
            .for_each(|entry| outside.add(entry));
        assert_eq!(outside, self.outside);
        let mut doomed = Weight::default();
        let entries = self.paging.doomed.values();
        entries.for_each(|(entry, _)| doomed.add(entry));
        assert_eq!(doomed, self.paging.weight);
        assert_eq!(self.weight(), self.charged);
    }
}
