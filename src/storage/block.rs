//! A block: the value stored under `0x01 | commit | part`, at most 64 KiB.
//!
//! | octets | meaning |
//! |---|---|
//! | 0 | format of blocks, 1 |
//! | 1 | flags: bit 0, this is the final part |
//! | 2..4 | zero |
//! | 4..8 | crc32c of everything else in the block |
//! | 8..16 | commit |
//! | 16..20 | part, from 0 |
//! | 20..24 | final part: how many parts the commit has |
//! | 24..28 | final part: crc32c over the checksums of all parts before it |
//! | 28..32 | final part: checksum of the final part of the commit before |
//! | 32.. | frames |
//!
//! Numbers are big-endian. The commit and part are repeated from the key, so that a value found under
//! another's key is noticed; the last field chains the commits.

use super::varint::Reader;
use super::{LogIndex, VALUE_SIZE_MAX};

/// Octets before the frames.
pub(super) const HEADER_LEN: usize = 32;
/// Room for frames.
pub(super) const BODY_MAX: usize = VALUE_SIZE_MAX - HEADER_LEN;

/// The first octet of every block's key.
pub(super) const KEY_SPACE: u8 = 0x01;

const FORMAT: u8 = 1;
const FINAL: u8 = 1;

/// A block's place in the log; ordered as its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlockId {
    pub(super) commit: LogIndex,
    pub(super) part: u32,
}

impl BlockId {
    pub(super) fn key(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(13);
        key.push(KEY_SPACE);
        key.extend_from_slice(&self.commit.0.to_be_bytes());
        key.extend_from_slice(&self.part.to_be_bytes());
        key
    }

    /// The place a key names; `None` for any other key.
    pub(super) fn from_key(key: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(key);
        (reader.octet()? == KEY_SPACE).then_some(())?;
        let id = Self {
            commit: LogIndex(reader.u64_be()?),
            part: reader.u32_be()?,
        };
        reader.is_empty().then_some(id)
    }
}

/// What only the final part of a commit carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Final {
    /// How many parts the commit has, this one included.
    pub(super) parts: u32,
    /// See [`digest`].
    pub(super) digest: u32,
    /// The checksum of the final part of the commit before; 0 for the first commit.
    pub(super) previous: u32,
}

/// Sums up the parts before the final one.
pub(super) fn digest(checksums: impl IntoIterator<Item = u32>) -> u32 {
    checksums.into_iter().fold(0, |sum, checksum| {
        crc32c::crc32c_append(sum, &checksum.to_be_bytes())
    })
}

/// Writes the header of a finished block over its first [`HEADER_LEN`] octets and returns its checksum.
pub(super) fn seal(octets: &mut [u8], id: BlockId, last: Option<Final>) -> u32 {
    let mut header = [0; HEADER_LEN];
    header[0] = FORMAT;
    header[8..16].copy_from_slice(&id.commit.0.to_be_bytes());
    header[16..20].copy_from_slice(&id.part.to_be_bytes());
    if let Some(last) = last {
        header[1] = FINAL;
        header[20..24].copy_from_slice(&last.parts.to_be_bytes());
        header[24..28].copy_from_slice(&last.digest.to_be_bytes());
        header[28..32].copy_from_slice(&last.previous.to_be_bytes());
    }
    octets[..HEADER_LEN].copy_from_slice(&header);
    let checksum = checksum(octets);
    octets[4..8].copy_from_slice(&checksum.to_be_bytes());
    checksum
}

/// A block whose checksum and place have been verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) checksum: u32,
    pub(super) last: Option<Final>,
    /// The octets after the header.
    pub(super) frames: &'a [u8],
}

/// Verifies a block found at `id`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn open(id: BlockId, octets: &[u8]) -> Result<Block<'_>, &'static str> {
    let Some((header, frames)) = octets.split_first_chunk::<HEADER_LEN>() else {
        return Err("it is too short");
    };
    let mut reader = Reader::new(&header[4..]);
    let mut next = || reader.u32_be().unwrap_or_default();
    let (stated, commit_high, commit_low, part) = (next(), next(), next(), next());
    let last = Final {
        parts: next(),
        digest: next(),
        previous: next(),
    };
    if stated != checksum(octets) {
        return Err("its checksum is wrong");
    }
    if header[0] != FORMAT {
        return Err("its format is unknown");
    }
    let commit = LogIndex(u64::from(commit_high) << 32 | u64::from(commit_low));
    if (BlockId { commit, part }) != id {
        return Err("it belongs elsewhere");
    }
    Ok(Block {
        checksum: stated,
        last: (header[1] & FINAL != 0).then_some(last),
        frames,
    })
}

/// The checksum of everything in a block but the checksum itself.
fn checksum(octets: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&octets[..4]), &octets[8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: BlockId = BlockId {
        commit: LogIndex(7),
        part: 2,
    };

    fn sealed() -> Vec<u8> {
        let mut octets = vec![0; HEADER_LEN];
        octets.extend_from_slice(b"frames");
        seal(
            &mut octets,
            ID,
            Some(Final {
                parts: 3,
                digest: 11,
                previous: 12,
            }),
        );
        octets
    }

    #[test]
    fn a_sealed_block_opens_with_all_it_was_given() {
        let octets = sealed();
        let block = open(ID, &octets).unwrap();
        assert_eq!(
            block.last,
            Some(Final {
                parts: 3,
                digest: 11,
                previous: 12
            })
        );
        assert_eq!(block.frames, b"frames");
    }

    #[test]
    fn a_flip_of_any_bit_is_noticed() {
        let octets = sealed();
        for bit in 0..octets.len() * 8 {
            let mut damaged = octets.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(ID, &damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_block_under_anothers_key_or_cut_short_is_noticed() {
        let octets = sealed();
        assert!(
            open(
                BlockId {
                    commit: LogIndex(8),
                    part: 2
                },
                &octets
            )
            .is_err()
        );
        assert!(
            open(
                BlockId {
                    commit: LogIndex(7),
                    part: 1
                },
                &octets
            )
            .is_err()
        );
        for len in 0..octets.len() {
            assert!(open(ID, &octets[..len]).is_err(), "{len} octets");
        }
    }

    #[test]
    fn keys_sort_as_the_log_does_and_name_their_block() {
        let ids = [(1, 0), (1, 1), (1, 256), (2, 0), (256, 0)].map(|(commit, part)| BlockId {
            commit: LogIndex(commit),
            part,
        });
        assert!(ids.map(BlockId::key).is_sorted());
        for id in ids {
            assert_eq!(BlockId::from_key(&id.key()), Some(id));
        }
        assert_eq!(BlockId::from_key(b"\x02 and more"), None);
        assert_eq!(BlockId::from_key(&[KEY_SPACE]), None);
    }
}
