//! What the generator writes into every body: enough to tell loss, duplicates, disorder and delay apart.

/// Bytes at the beginning of a body that the generator needs; the least size of a message.
pub(super) const STAMP_BYTES: usize = 16;

/// Sequence numbers and times have 48 bits: enough for 280 million million messages, and for 78 hours in nanoseconds.
const MASK_48: u64 = (1 << 48) - 1;

/// The first bytes of a body, little-endian: run (2), producer (2), sequence number (6), time (6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Which run of the generator sent it, so that what an earlier one left behind is not taken for its own.
    pub(super) run: u16,
    /// Which of the run's producers.
    pub(super) producer: u16,
    /// Counts from 0 for each producer and destination.
    pub(super) seq: u64,
    /// When it was meant to be sent: nanoseconds of the system's monotonic clock, of which 48 bits are kept.
    pub(super) sent: u64,
}

impl Stamp {
    /// Writes it at the beginning of `body`, which has room for it.
    #[inline]
    pub(super) fn write(self, body: &mut [u8]) {
        let head =
            u64::from(self.run) | u64::from(self.producer) << 16 | (self.seq & 0xffff_ffff) << 32;
        let tail = (self.seq >> 32 & 0xffff) | (self.sent & MASK_48) << 16;
        body[..8].copy_from_slice(&head.to_le_bytes());
        body[8..STAMP_BYTES].copy_from_slice(&tail.to_le_bytes());
    }

    /// Reads it back; none if the body is too short to be the generator's.
    #[inline]
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (head, rest) = body.split_first_chunk()?;
        let tail = rest.first_chunk()?;
        let (head, tail) = (u64::from_le_bytes(*head), u64::from_le_bytes(*tail));
        let [run_low, run_high, producer_low, producer_high, ..] = head.to_le_bytes();
        Some(Self {
            run: u16::from_le_bytes([run_low, run_high]),
            producer: u16::from_le_bytes([producer_low, producer_high]),
            seq: head >> 32 | (tail & 0xffff) << 32,
            sent: tail >> 16,
        })
    }

    /// Nanoseconds from when it was meant to be sent until `now`.
    #[inline]
    pub(super) fn age(self, now: u64) -> u64 {
        now.wrapping_sub(self.sent) & MASK_48
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_as_it_was_written() {
        for (run, producer, seq, sent) in [
            (0, 0, 0, 0),
            (1, 2, 3, 4),
            (u16::MAX, u16::MAX, MASK_48, MASK_48),
            (7, 1, 1 << 33 | 5, 1 << 47 | 9),
        ] {
            let stamp = Stamp {
                run,
                producer,
                seq,
                sent,
            };
            let mut body = [0xaa; 20];
            stamp.write(&mut body);
            assert_eq!(Stamp::read(&body), Some(stamp));
            assert_eq!(body[16..], [0xaa; 4], "nothing behind it is touched");
        }
    }

    #[test]
    fn a_body_that_is_too_short_has_none() {
        assert_eq!(Stamp::read(&[0; 15]), None);
        assert_eq!(Stamp::read(b""), None);
    }

    #[test]
    fn age_survives_the_wrap_of_the_clock() {
        let stamp = Stamp {
            run: 0,
            producer: 0,
            seq: 0,
            sent: MASK_48 - 4,
        };
        assert_eq!(stamp.age(5 << 48 | 10), 15);
        assert_eq!(stamp.age(MASK_48), 4);
    }
}
