//! What a queue's state asked of the outside, written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::Place;
use super::ready::Want;
use super::state::{Effects, ReadBack};
use crate::engine::consumer::ConsumerId;
use crate::engine::message::{DeathReason, Message};
use crate::engine::outbox::Outbox;
use crate::storage::Seq;

/// Plays the log, the dead-letter list, the memory account and the connections' wake-ups.
#[derive(Debug)]
pub(super) struct Recorder {
    /// What the log holds: place and message id.
    pub(super) stored: BTreeMap<Seq, u64>,
    /// The message stored last, as the log got it.
    pub(super) payload: Option<Arc<Message>>,
    /// The messages on disk: those of the log, and those of the spill.
    pub(super) disk: BTreeMap<(bool, Seq), Arc<Message>>,
    /// What was spilled and let go of.
    pub(super) unspilled: Vec<Seq>,
    /// What the state waits to read.
    pub(super) fetch: Option<Want>,
    /// How much the queue is to keep in memory, in bytes.
    pub(super) window: u64,
    /// Everything the log ever held and let go of, in order.
    pub(super) settled: Vec<Seq>,
    pub(super) returned: Vec<(Seq, u32)>,
    pub(super) dead: Vec<(u64, DeathReason)>,
    /// Who was woken, in order.
    pub(super) woken: Vec<Arc<Outbox>>,
    /// Who waits for room.
    pub(super) stalled: Vec<ConsumerId>,
    /// Bytes taken and not given back.
    pub(super) charged: i64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            stored: BTreeMap::new(),
            payload: None,
            disk: BTreeMap::new(),
            unspilled: Vec::new(),
            fetch: None,
            window: u64::MAX,
            settled: Vec::new(),
            returned: Vec::new(),
            dead: Vec::new(),
            woken: Vec::new(),
            stalled: Vec::new(),
            charged: 0,
        }
    }
}

impl Effects for Recorder {
    fn store(&mut self, seq: Seq, message: &Arc<Message>) {
        let above = self
            .stored
            .keys()
            .chain(&self.settled)
            .all(|earlier| *earlier < seq);
        assert!(above, "{seq} is not above all places before");
        self.stored.insert(seq, message.meta().id.0);
        self.payload = Some(Arc::clone(message));
        self.disk.insert((false, seq), Arc::clone(message));
    }

    fn settle(&mut self, place: Place, first: Seq, last: Seq) {
        for seq in (first.0..=last.0).map(Seq) {
            let there = self.disk.remove(&(place == Place::Spill, seq)).is_some();
            assert!(there, "{seq} is settled without being stored");
            if place == Place::Spill {
                self.unspilled.push(seq);
            } else {
                self.stored.remove(&seq);
                self.settled.push(seq);
            }
        }
    }

    fn returned(&mut self, seq: Seq, count: u32) {
        assert!(
            self.stored.contains_key(&seq),
            "{seq} is returned without being stored"
        );
        self.returned.push((seq, count));
    }

    fn dead(&mut self, message: Arc<Message>, reason: DeathReason) {
        self.dead.push((message.meta().id.0, reason));
    }

    fn wake(&mut self, outbox: &Arc<Outbox>) {
        self.woken.push(Arc::clone(outbox));
    }

    fn stall(&mut self, consumer: ConsumerId, outbox: &Arc<Outbox>) -> bool {
        if outbox.room() > 0 {
            return false;
        }
        assert!(
            !self.stalled.contains(&consumer),
            "a consumer that waits for room is asked again"
        );
        self.stalled.push(consumer);
        true
    }

    fn charge(&mut self, bytes: i64) {
        self.charged += bytes;
        assert!(self.charged >= 0, "more is given back than was taken");
    }

    fn spill(&mut self, seq: Seq, message: &Arc<Message>) {
        assert!(!self.unspilled.contains(&seq), "{seq} is spilled again");
        let known = self.disk.insert((true, seq), Arc::clone(message));
        assert!(known.is_none(), "{seq} is spilled twice");
    }

    fn fetch(&mut self, want: Want) {
        assert!(want.first <= want.last && want.bytes > 0 && want.place.is_on_disk());
        assert_eq!(self.fetch.replace(want), None, "one request at a time");
    }

    fn window(&self) -> u64 {
        self.window
    }
}

impl Recorder {
    /// Reads what the state waits for, up to `most` messages of it.
    pub(super) fn answer(&mut self, most: usize) -> Option<ReadBack> {
        let want = self.fetch.take()?;
        let spill = want.place == Place::Spill;
        let range = self.disk.range((spill, want.first)..=(spill, want.last));
        let copy = |message: &Arc<Message>| Arc::new(Message::clone(message));
        let all: Vec<_> = range
            .map(|((_, seq), message)| (*seq, copy(message)))
            .collect();
        let read = &all[..all.len().min(most.max(1))];
        let whole = read.len() == all.len();
        let upto = read
            .last()
            .filter(|_| !whole)
            .map_or(want.last, |(seq, _)| *seq);
        Some(ReadBack {
            place: want.place,
            first: want.first,
            upto,
            messages: read.to_vec(),
            lost: Vec::new(),
        })
    }

    /// What died since the last call.
    pub(super) fn take_dead(&mut self) -> Vec<(u64, DeathReason)> {
        std::mem::take(&mut self.dead)
    }
}
