//! A message's place in a queue: with the message, or without it while that is on disk alone.

use std::sync::Arc;

use crate::engine::message::Message;
use crate::storage::Seq;

/// Bytes that a place in a queue is accounted with, whether its message is in memory or not.
pub(super) const PLACE_BYTES: usize = 64;
/// Bytes that a message in memory is accounted with beside its own and its place's.
pub(super) const BODY_OVERHEAD: usize = 128;

/// Where a message is kept for good, whether it is in memory beside that or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In memory only; it may be spilled.
    Memory,
    /// In memory only, and it stays there: it was given out of the spill once, and a place in the log is never
    /// written twice.
    Pinned,
    /// In the log under the queue's own number: it lasts.
    Log,
    /// In the log under the number of the queue's spill: a restart forgets it.
    Spill,
}

impl Place {
    /// Whether the message can be read back.
    pub(super) fn is_on_disk(self) -> bool {
        matches!(self, Self::Log | Self::Spill)
    }
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seq: Seq,
    /// `None` while the message is on disk only.
    pub(super) body: Option<Arc<Message>>,
    /// Bytes of headers and body; an estimate while the message is on disk and was not read since the start.
    pub(super) size: u32,
    /// How often it came back, counted returns only.
    pub(super) returns: u32,
    /// The level of priority it is served at.
    pub(super) level: u8,
    pub(super) place: Place,
    /// Whether a consumer may have seen it.
    pub(super) redelivered: bool,
}

impl Entry {
    /// A message that has just come in.
    pub(super) fn new(seq: Seq, message: Arc<Message>, level: u8, place: Place) -> Self {
        Self {
            seq,
            size: size_of(&message),
            body: Some(message),
            returns: 0,
            level,
            place,
            redelivered: false,
        }
    }

    /// A message that is on disk only.
    pub(super) fn bare(seq: Seq, size: u64, level: u8, place: Place, redelivered: bool) -> Self {
        Self {
            seq,
            body: None,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            returns: 0,
            level,
            place,
            redelivered,
        }
    }

    /// Whether its message has to be read before it can go anywhere.
    pub(super) fn is_bare(&self) -> bool {
        self.body.is_none()
    }

    /// Bytes of headers and body.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.size)
    }

    /// What the message costs beside its place while it is in memory.
    pub(super) fn body_bytes(&self) -> u64 {
        match self.body {
            Some(_) => self.bytes() + BODY_OVERHEAD as u64,
            None => 0,
        }
    }

    /// The same if the message is in memory alone.
    pub(super) fn alone_bytes(&self) -> u64 {
        match self.place {
            Place::Memory | Place::Pinned => self.body_bytes(),
            Place::Log | Place::Spill => 0,
        }
    }

    /// Whether its message can be let go: everything up to `upto` is written down.
    pub(super) fn can_let_go(&self, upto: Seq) -> bool {
        self.place.is_on_disk() && self.seq <= upto
    }
}

/// Bytes of a message's headers and body; limits keep it far below 4 GiB.
pub(super) fn size_of(message: &Message) -> u32 {
    u32::try_from(message.size()).unwrap_or(u32::MAX)
}

/// What entries cost in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// Bytes of their messages, as far as these are in memory.
    pub(super) bodies: u64,
    /// Of these, bytes of messages that are nowhere else.
    pub(super) alone: u64,
    /// Bytes of their places.
    pub(super) places: u64,
}

impl Weight {
    pub(super) fn add(&mut self, entry: &Entry) {
        self.bodies += entry.body_bytes();
        self.alone += entry.alone_bytes();
        self.places += PLACE_BYTES as u64;
    }

    pub(super) fn sub(&mut self, entry: &Entry) {
        self.bodies -= entry.body_bytes();
        self.alone -= entry.alone_bytes();
        self.places -= PLACE_BYTES as u64;
    }

    pub(super) fn total(self) -> u64 {
        self.bodies + self.places
    }
}
