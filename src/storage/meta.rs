//! The two records a store begins with: its identity, and the header of the last checkpoint.
//!
//! Both are under keys `0x00 | name`, and begin with a crc32c of what follows.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use super::varint::{self, Reader};
use super::{Change, LogIndex, StorageError, StoreRead};

/// The version of everything below this floor's seam: blocks, frames, pages, these records.
pub(super) const FORMAT: u32 = 1;

const IDENTITY_KEY: &[u8] = b"\x00identity";
const HEADER_KEY: &[u8] = b"\x00checkpoint";

/// Names one store among all others, so that a marker file is never compared with another store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(pub(super) u128);

impl Identity {
    /// A new one, from the system's randomness that seeds hash maps.
    pub(super) fn random() -> Self {
        let half = || u128::from(RandomState::new().build_hasher().finish());
        Self(half() << 64 | half())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn sealed(content: &[u8]) -> Vec<u8> {
    let mut out = crc32c::crc32c(content).to_be_bytes().to_vec();
    out.extend_from_slice(content);
    out
}

fn unsealed<'a>(record: &'a [u8], what: &str) -> Result<&'a [u8], StorageError> {
    match record.split_first_chunk::<4>() {
        Some((checksum, content)) if u32::from_be_bytes(*checksum) == crc32c::crc32c(content) => {
            Ok(content)
        }
        _ => Err(StorageError::Corrupt {
            what: format!("{what} has a wrong checksum"),
        }),
    }
}

/// The identity of a store; `None` if it has none.
///
/// # Errors
/// It is damaged, or names a format this program does not read.
pub(super) fn read_identity(reader: &dyn StoreRead) -> Result<Option<Identity>, StorageError> {
    let Some(record) = reader.get(IDENTITY_KEY)? else {
        return Ok(None);
    };
    let what = "its identity";
    let mut content = Reader::new(unsealed(&record, what)?);
    let malformed = || StorageError::Corrupt {
        what: format!("{what} is malformed"),
    };
    let found = content.u32_be().ok_or_else(malformed)?;
    if found != FORMAT {
        return Err(StorageError::Format {
            found,
            supported: FORMAT,
        });
    }
    let (high, low) = content
        .u64_be()
        .zip(content.u64_be())
        .ok_or_else(malformed)?;
    Ok(Some(Identity(u128::from(high) << 64 | u128::from(low))))
}

/// Gives a store its identity.
pub(super) fn put_identity(identity: Identity) -> Change {
    let mut content = FORMAT.to_be_bytes().to_vec();
    content.extend_from_slice(&identity.0.to_be_bytes());
    Change::Put(IDENTITY_KEY.to_vec(), sealed(&content))
}

/// What a checkpoint as a whole says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// The last commit whose effects the pages hold.
    pub(super) commit: LogIndex,
    /// The checksum of that commit's final part.
    pub(super) checksum: u32,
    /// Pages with this number or a higher one belong to a checkpoint that was not finished.
    pub(super) next_page: u64,
    /// How many pages are in force.
    pub(super) pages: u64,
    /// The sum over them; see [`super::page::Pages`].
    pub(super) sum: u64,
    /// The next slot for a definition.
    pub(super) next_slot: u64,
    /// Above every queue identity ever stored.
    pub(super) next_queue: u64,
    /// Whether the journal was closed in order and nothing was written since.
    pub(super) clean: bool,
}

impl Header {
    /// # Errors
    /// It is damaged.
    pub(super) fn read(reader: &dyn StoreRead) -> Result<Option<Self>, StorageError> {
        let Some(record) = reader.get(HEADER_KEY)? else {
            return Ok(None);
        };
        let what = "the header of its checkpoint";
        let mut content = Reader::new(unsealed(&record, what)?);
        let header = (|| {
            Some(Self {
                commit: LogIndex(content.number()?),
                checksum: content.number_u32()?,
                next_page: content.number()?,
                pages: content.number()?,
                sum: content.number()?,
                next_slot: content.number()?,
                next_queue: content.number()?,
                clean: content.octet()? == 1,
            })
        })();
        header.map(Some).ok_or_else(|| StorageError::Corrupt {
            what: format!("{what} is malformed"),
        })
    }

    pub(super) fn put(self) -> Change {
        let Self {
            commit,
            checksum,
            next_page,
            pages,
            sum,
            next_slot,
            next_queue,
            clean,
        } = self;
        let mut content = Vec::new();
        for number in [
            commit.0,
            u64::from(checksum),
            next_page,
            pages,
            sum,
            next_slot,
            next_queue,
        ] {
            varint::put(&mut content, number);
        }
        content.push(u8::from(clean));
        Change::Put(HEADER_KEY.to_vec(), sealed(&content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStore, Store};

    #[test]
    fn both_records_come_back_and_a_damaged_one_is_refused() {
        let mut store = MemoryStore::new();
        let header = Header {
            commit: LogIndex(7),
            sum: u64::MAX,
            clean: true,
            ..Header::default()
        };
        assert_eq!(Header::read(&store).unwrap(), None);
        store
            .write(vec![put_identity(Identity(99)), header.put()])
            .unwrap();
        assert_eq!(read_identity(&store).unwrap(), Some(Identity(99)));
        assert_eq!(Header::read(&store).unwrap(), Some(header));
        for key in [IDENTITY_KEY, HEADER_KEY] {
            let mut record = store.get(key).unwrap().unwrap().to_vec();
            record[5] ^= 1;
            store
                .write(vec![Change::Put(key.to_vec(), record)])
                .unwrap();
        }
        assert!(matches!(
            read_identity(&store),
            Err(StorageError::Corrupt { .. })
        ));
        assert!(matches!(
            Header::read(&store),
            Err(StorageError::Corrupt { .. })
        ));
    }

    #[test]
    fn a_store_of_another_format_is_refused_by_name() {
        let mut store = MemoryStore::new();
        let record = sealed(&[0, 0, 0, 9]);
        store
            .write(vec![Change::Put(IDENTITY_KEY.to_vec(), record)])
            .unwrap();
        let error = read_identity(&store).unwrap_err();
        assert!(error.to_string().contains("format 9"), "{error}");
    }
}
