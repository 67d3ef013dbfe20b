//! Whether what arrived is what was sent: loss and duplicates for each producer and destination.

use std::collections::BTreeMap;

/// Ranges above the first gap that are remembered for one stream. A broker that makes more holes than this is not
/// delivering a stream any more; what arrives beyond is counted as out of bounds.
const RANGES_MAX: usize = 1 << 16;

/// What a message was to the stream it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not seen before.
    New,
    /// Seen before.
    Again,
    /// Too many holes to tell.
    Unknown,
}

/// The sequence numbers seen of one producer at one destination. In order it is a counter; holes cost a range each.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// All below were seen.
    next: u64,
    /// Ranges seen above `next`: first to one past the last. They neither touch each other nor `next`.
    ahead: BTreeMap<u64, u64>,
}

impl Stream {
    /// Notes one sequence number.
    #[inline]
    pub(super) fn note(&mut self, seq: u64) -> Seen {
        if seq == self.next && self.ahead.is_empty() {
            self.next += 1;
            return Seen::New;
        }
        self.note_out_of_line(seq)
    }

    fn note_out_of_line(&mut self, seq: u64) -> Seen {
        if seq < self.next {
            return Seen::Again;
        }
        let before = self.ahead.range(..=seq).next_back();
        let before = before.map(|(&first, &end)| (first, end));
        if before.is_some_and(|(_, end)| seq < end) {
            return Seen::Again;
        }
        let joins_before = before
            .filter(|&(_, end)| end == seq)
            .map(|(first, _)| first);
        if joins_before.is_none() && seq != self.next && self.ahead.len() >= RANGES_MAX {
            return Seen::Unknown;
        }
        let end = self.ahead.remove(&(seq + 1)).unwrap_or(seq + 1);
        self.ahead.insert(joins_before.unwrap_or(seq), end);
        if let Some(end) = self.ahead.remove(&self.next) {
            self.next = end;
        }
        Seen::New
    }

    /// How many of the first `sent` numbers were not seen.
    pub(super) fn missing_below(&self, sent: u64) -> u64 {
        let ahead = self.ahead.range(..sent);
        let seen: u64 = ahead.map(|(&first, &end)| end.min(sent) - first).sum();
        sent.saturating_sub(self.next.min(sent) + seen)
    }

    /// How many numbers below the highest seen were not: what a consumer can tell that does not know what was sent.
    pub(super) fn holes(&self) -> u64 {
        self.missing_below(
            self.ahead
                .last_key_value()
                .map_or(self.next, |(_, &end)| end),
        )
    }
}

/// What a run's checks found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Findings {
    /// Published and never delivered, confirmed or not. Without producers of its own: holes in what came.
    pub(super) missing: u64,
    /// Missing although the broker had confirmed it.
    pub(super) lost: u64,
    /// Delivered before, and not marked as a redelivery.
    pub(super) duplicates: u64,
    /// Marked as a redelivery by the broker.
    pub(super) redelivered: u64,
    /// Of those, delivered to us before.
    pub(super) redelivered_again: u64,
    /// Behind a later one of the same producer, at one subscriber, and not marked as a redelivery.
    pub(super) out_of_order: u64,
    /// Of another run, or not the generator's at all.
    pub(super) foreign: u64,
    /// With so many holes before them that nobody can tell whether they are duplicates.
    pub(super) unknown: u64,
}

impl Findings {
    /// Adds what another thread found.
    pub(super) fn add(&mut self, other: &Self) {
        self.missing += other.missing;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.redelivered += other.redelivered;
        self.redelivered_again += other.redelivered_again;
        self.out_of_order += other.out_of_order;
        self.foreign += other.foreign;
        self.unknown += other.unknown;
    }

    /// Counts one delivery of this run: what it was to its stream, and whether it stood behind a later one.
    pub(super) fn count(&mut self, seen: Seen, redelivered: bool, behind: bool) {
        self.redelivered += u64::from(redelivered);
        match seen {
            Seen::New => {}
            Seen::Again if redelivered => self.redelivered_again += 1,
            Seen::Again => self.duplicates += 1,
            Seen::Unknown => self.unknown += 1,
        }
        self.out_of_order += u64::from(behind && !redelivered);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn in_order_nothing_is_missing() {
        let mut stream = Stream::default();
        assert!((0..1000).all(|seq| stream.note(seq) == Seen::New));
        assert_eq!((stream.next, stream.missing_below(1000)), (1000, 0));
        assert_eq!(stream.missing_below(1003), 3);
        assert!(stream.ahead.is_empty());
    }

    #[test]
    fn a_number_twice_is_seen_again_wherever_it_stands() {
        let mut stream = Stream::default();
        for seq in [0, 1, 5, 6, 9] {
            assert_eq!(stream.note(seq), Seen::New);
        }
        for seq in [0, 1, 5, 6, 9] {
            assert_eq!(stream.note(seq), Seen::Again, "{seq}");
        }
        assert_eq!(stream.missing_below(10), 5);
    }

    #[test]
    fn holes_are_counted_and_closed() {
        let mut stream = Stream::default();
        for seq in [3, 1, 7] {
            stream.note(seq);
        }
        assert_eq!((stream.holes(), stream.missing_below(8)), (5, 5));
        assert_eq!(stream.missing_below(2), 1);
        for seq in [0, 2, 4, 5, 6] {
            stream.note(seq);
        }
        assert_eq!((stream.holes(), stream.next), (0, 8));
        assert!(stream.ahead.is_empty());
    }

    #[test]
    fn the_memory_of_a_stream_is_bounded() {
        let mut stream = Stream::default();
        let last = 2 * RANGES_MAX as u64 + 2;
        for seq in (2..=last).step_by(2) {
            stream.note(seq);
        }
        assert_eq!(stream.ahead.len(), RANGES_MAX);
        assert_eq!(stream.note(last), Seen::Unknown);
        assert_eq!(stream.note(0), Seen::New, "the first hole can be closed");
    }

    #[test]
    fn a_redelivery_is_neither_a_duplicate_nor_out_of_order() {
        let mut findings = Findings::default();
        findings.count(Seen::Again, true, true);
        findings.count(Seen::New, true, true);
        findings.count(Seen::Again, false, true);
        let expected = Findings {
            duplicates: 1,
            redelivered: 2,
            redelivered_again: 1,
            out_of_order: 1,
            ..Findings::default()
        };
        assert_eq!(findings, expected);
    }

    proptest! {
        #[test]
        fn a_stream_agrees_with_a_set(numbers in prop::collection::vec(0_u64..60, 0..120), below in 0_u64..70) {
            let (mut stream, mut set) = (Stream::default(), BTreeSet::new());
            for number in numbers {
                let expected = if set.insert(number) { Seen::New } else { Seen::Again };
                prop_assert_eq!(stream.note(number), expected);
            }
            prop_assert_eq!(stream.missing_below(below), below - set.range(..below).count() as u64);
            let top = set.last().map_or(0, |last| last + 1);
            prop_assert_eq!(stream.holes(), top - set.len() as u64);
        }
    }
}
