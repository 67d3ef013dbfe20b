//! Finds the few bytes that mean something in a frame's head, eight bytes at a time.
//!
//! Header lines are short, so a search for each line end, then for its colon, then for anything escaped,
//! spends more on starting a search than on searching. One pass for all of them halves the cost of a head.

const LOW_BITS: u64 = u64::from_ne_bytes([0x7f; 8]);
const HIGH_BIT: u64 = u64::from_ne_bytes([0x80; 8]);

/// Positions and values of the bytes that may mean something: colon, backslash, and everything below 16,
/// among which are NUL, LF and CR.
pub(super) struct Specials<'a> {
    bytes: &'a [u8],
    /// Where the word under examination begins, and the one after it.
    word: usize,
    next: usize,
    /// The high bit of each byte of the word still to be reported.
    marks: u64,
}

impl<'a> Specials<'a> {
    /// Begins at position `from`.
    pub(super) fn new(bytes: &'a [u8], from: usize) -> Self {
        Self {
            bytes,
            word: from,
            next: from,
            marks: 0,
        }
    }
}

impl Iterator for Specials<'_> {
    type Item = (usize, u8);

    #[inline]
    fn next(&mut self) -> Option<(usize, u8)> {
        while self.marks == 0 {
            let rest = self.bytes.get(self.next..)?;
            self.word = self.next;
            if let Some(word) = rest.first_chunk() {
                self.next += 8;
                self.marks = marks(u64::from_le_bytes(*word));
            } else if rest.is_empty() {
                return None;
            } else {
                // Padded with what is never marked.
                let mut word = [0xff; 8];
                word[..rest.len()].copy_from_slice(rest);
                self.next = self.bytes.len();
                self.marks = marks(u64::from_le_bytes(word));
            }
        }
        let at = self.word + self.marks.trailing_zeros() as usize / 8;
        self.marks &= self.marks - 1;
        Some((at, self.bytes[at]))
    }
}

/// Sets the high bit of every byte that is special, and no other bit. No carry crosses a byte.
fn marks(word: u64) -> u64 {
    let equal = |byte: u8| {
        let differing = word ^ u64::from_ne_bytes([byte; 8]);
        !(((differing & LOW_BITS) + LOW_BITS) | differing)
    };
    let below_16 = !((word & LOW_BITS) + u64::from_ne_bytes([0x70; 8])) & !word;
    (below_16 | equal(b':') | equal(b'\\')) & HIGH_BIT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_special(byte: u8) -> bool {
        byte < 16 || byte == b':' || byte == b'\\'
    }

    #[test]
    fn every_byte_is_judged_alone_at_every_place_of_a_word() {
        for byte in 0..=255_u8 {
            for neighbour in [0, b'9', b':', b';', b'\\', 0x7f, 0x80, 0xff] {
                for place in 0..11 {
                    let mut bytes = [neighbour; 11];
                    bytes[place] = byte;
                    let expected: Vec<_> = bytes
                        .iter()
                        .copied()
                        .enumerate()
                        .filter(|(_, byte)| is_special(*byte))
                        .collect();
                    let found: Vec<_> = Specials::new(&bytes, 0).collect();
                    assert_eq!(found, expected, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn it_begins_where_it_is_told_and_ends_at_the_end() {
        let bytes = b"a:b:c:d:e:f:g";
        for from in 0..=bytes.len() {
            let found = Specials::new(bytes, from).count();
            assert_eq!(found, bytes[from..].iter().filter(|b| **b == b':').count());
        }
    }
}
