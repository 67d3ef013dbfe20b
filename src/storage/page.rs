//! Pages: the pieces a checkpoint is made of, rewritten copy-on-write.
//!
//! A page belongs to an *owner* (a group of queues, a definition, a bucket of blocks, the list of blocks being
//! removed). Rewriting one puts a new page with a higher number beside the old one; the header, written
//! last, brings all new pages into force at once by naming the next number. So a checkpoint that was cut
//! off changes nothing. Of several pages of an owner the highest number below the header's counts, and an
//! empty one (a tombstone) says that the owner is gone. What a cut-off checkpoint
//! left is removed, durably, before the next one. Old pages are removed afterwards; tombstones with
//! the checkpoint after that, when the removal of what they hide is durable.
//!
//! Key: `0x02 | kind | owner (8) | number (8) | piece (4)`. Value: crc32c (4) over the key and the rest,
//! number of pieces (4), content. A tombstone has one value that says 0 pieces.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::varint::Reader;
use super::{Change, StorageError, StoreRead, VALUE_SIZE_MAX};

/// The first octet of every page's key.
const KEY_SPACE: u8 = 0x02;
/// Content octets a value holds.
const PIECE_MAX: usize = VALUE_SIZE_MAX - 8;

/// What a page describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A definition, by the slot it was given.
    Definition(u64),
    /// The state of some queues with neighbouring identities.
    Queues(u64),
    /// The blocks of a bucket of commits.
    Blocks(u64),
    /// Dead blocks that the checkpoint goes on to remove.
    Sweep,
}

impl Owner {
    fn kind_and_number(self) -> (u8, u64) {
        match self {
            Self::Definition(slot) => (1, slot),
            Self::Queues(group) => (2, group),
            Self::Blocks(bucket) => (3, bucket),
            Self::Sweep => (4, 0),
        }
    }

    fn from_kind_and_number(kind: u8, number: u64) -> Option<Self> {
        match kind {
            1 => Some(Self::Definition(number)),
            2 => Some(Self::Queues(number)),
            3 => Some(Self::Blocks(number)),
            4 => Some(Self::Sweep),
            _ => None,
        }
    }
}

fn key(owner: Owner, page: u64, piece: u32) -> Vec<u8> {
    let (kind, number) = owner.kind_and_number();
    let mut key = vec![KEY_SPACE, kind];
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(&page.to_be_bytes());
    key.extend_from_slice(&piece.to_be_bytes());
    key
}

fn read_key(key: &[u8]) -> Option<(Owner, u64, u32)> {
    let mut reader = Reader::new(key);
    reader.octet()?;
    let (kind, number) = (reader.octet()?, reader.u64_be()?);
    let found = (
        Owner::from_kind_and_number(kind, number)?,
        reader.u64_be()?,
        reader.u32_be()?,
    );
    reader.is_empty().then_some(found)
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), rest)
}

fn value(key: &[u8], pieces: u32, content: &[u8]) -> Vec<u8> {
    let mut value = vec![0; 4];
    value.extend_from_slice(&pieces.to_be_bytes());
    value.extend_from_slice(content);
    let checksum = checksum(key, &value[4..]);
    value[..4].copy_from_slice(&checksum.to_be_bytes());
    value
}

/// The number of pieces and the content; `None` if the value is damaged.
fn read_value<'a>(key: &[u8], value: &'a [u8]) -> Option<(u32, &'a [u8])> {
    let mut reader = Reader::new(value);
    (reader.u32_be()? == checksum(key, reader.rest())).then_some(())?;
    Some((reader.u32_be()?, reader.rest()))
}

/// A page in force.
#[derive(Debug, Clone, Copy)]
struct InForce {
    number: u64,
    pieces: u32,
    /// Of the whole content.
    checksum: u32,
}

impl InForce {
    /// This page's share of [`Pages::sum`].
    fn weight(self, owner: Owner) -> u64 {
        let place = crc32c::crc32c(&key(owner, self.number, self.pieces));
        u64::from(place) << 32 | u64::from(self.checksum)
    }
}

/// Which pages are in force.
#[derive(Debug, Default)]
pub(super) struct Pages {
    in_force: HashMap<Owner, InForce>,
    next: u64,
    sum: u64,
    /// Keys that the next header puts out of force.
    outdated: Vec<Vec<u8>>,
    /// Tombstones that may go once the next header is durable.
    tombstones: Vec<Vec<u8>>,
}

/// What [`Pages::load`] found.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// The content of every page in force that could be read.
    pub(super) contents: Vec<(Owner, Vec<u8>)>,
    /// Owners whose page in force cannot be read.
    pub(super) damaged: Vec<Owner>,
    /// Keys of a checkpoint that was not finished. They must be gone for good before the next header, which
    /// would bring them into force.
    pub(super) unfinished: Vec<Vec<u8>>,
    /// Whether the pages found are not those the header counted.
    pub(super) incomplete: bool,
}

impl Pages {
    /// The number the next page will have; below it, all pages are in force or outdated.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many pages are in force.
    pub(super) fn count(&self) -> u64 {
        self.in_force.len() as u64
    }

    /// A sum over the pages in force that tells when one is missing or stale.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// Writes an owner's content anew.
    pub(super) fn put(&mut self, owner: Owner, content: &[u8], changes: &mut Vec<Change>) {
        let number = self.outdate(owner);
        let chunks = content
            .chunks(PIECE_MAX)
            .chain(content.is_empty().then_some(content));
        let pieces = u32::try_from(content.len().div_ceil(PIECE_MAX).max(1))
            .expect("content fits in memory");
        for (piece, chunk) in (0..pieces).zip(chunks) {
            let key = key(owner, number, piece);
            let value = value(&key, pieces, chunk);
            changes.push(Change::Put(key, value));
        }
        let page = InForce {
            number,
            pieces,
            checksum: crc32c::crc32c(content),
        };
        self.sum = self.sum.wrapping_add(page.weight(owner));
        self.in_force.insert(owner, page);
    }

    /// Says that an owner is gone; nothing if it has no page.
    pub(super) fn remove(&mut self, owner: Owner, changes: &mut Vec<Change>) {
        if self.in_force.contains_key(&owner) {
            let number = self.outdate(owner);
            let key = key(owner, number, 0);
            let value = value(&key, 0, &[]);
            self.tombstones.push(key.clone());
            changes.push(Change::Put(key, value));
        }
    }

    /// Takes the owner's page out of force and returns the number for a new one.
    fn outdate(&mut self, owner: Owner) -> u64 {
        if let Some(page) = self.in_force.remove(&owner) {
            self.sum = self.sum.wrapping_sub(page.weight(owner));
            self.outdated
                .extend((0..page.pieces).map(|piece| key(owner, page.number, piece)));
        }
        self.next += 1;
        self.next - 1
    }

    /// The tombstones written so far: they may be removed once a later header is durable.
    pub(super) fn take_tombstones(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.tombstones)
    }

    /// Everything out of force; for removal once the header is durable.
    pub(super) fn take_outdated(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outdated)
    }

    /// Reads the pages that a header with these figures brought into force. What it finds besides goes
    /// with the next checkpoint.
    ///
    /// # Errors
    /// The store could not be read. Damage is no error; it is in [`Loaded`].
    pub(super) fn load(
        reader: &dyn StoreRead,
        next: u64,
        count: u64,
        sum: u64,
    ) -> Result<(Self, Loaded), StorageError> {
        let mut pages = Self {
            next,
            ..Self::default()
        };
        let mut loaded = Loaded::default();
        let mut open: Option<Candidate> = None;
        // All pages of an owner are neighbours, ascending by number.
        reader.scan(&[KEY_SPACE], &[KEY_SPACE + 1], &mut |key, value| {
            let Some((owner, number, piece)) = read_key(key) else {
                pages.outdated.push(key.to_vec());
                return ControlFlow::Continue(());
            };
            if number >= next {
                loaded.unfinished.push(key.to_vec());
                return ControlFlow::Continue(());
            }
            if let Some(done) = open.take_if(|page| (page.owner, page.number) != (owner, number)) {
                if done.owner == owner {
                    pages.outdated.extend(done.keys);
                } else {
                    pages.settle(done, &mut loaded);
                }
            }
            open.get_or_insert_with(|| Candidate::new(owner, number))
                .add(key, piece, value);
            ControlFlow::Continue(())
        })?;
        if let Some(done) = open {
            pages.settle(done, &mut loaded);
        }
        loaded.incomplete = (pages.count(), pages.sum) != (count, sum);
        Ok((pages, loaded))
    }

    /// Brings the last page of an owner into force.
    fn settle(&mut self, page: Candidate, loaded: &mut Loaded) {
        match page.pieces {
            Some(0) => self.tombstones.extend(page.keys),
            Some(pieces) if pieces as usize == page.keys.len() => {
                let checksum = crc32c::crc32c(&page.content);
                let in_force = InForce {
                    number: page.number,
                    pieces,
                    checksum,
                };
                self.sum = self.sum.wrapping_add(in_force.weight(page.owner));
                self.in_force.insert(page.owner, in_force);
                loaded.contents.push((page.owner, page.content));
            }
            // The next checkpoint writes the owner anew, from what recovery makes of it.
            _ => {
                self.outdated.extend(page.keys);
                loaded.damaged.push(page.owner);
            }
        }
    }
}

/// A page being read.
struct Candidate {
    owner: Owner,
    number: u64,
    /// `None` once a piece is damaged, missing, or disagrees with the first.
    pieces: Option<u32>,
    keys: Vec<Vec<u8>>,
    content: Vec<u8>,
}

impl Candidate {
    fn new(owner: Owner, number: u64) -> Self {
        Self {
            owner,
            number,
            pieces: None,
            keys: Vec::new(),
            content: Vec::new(),
        }
    }

    fn add(&mut self, key: &[u8], piece: u32, value: &[u8]) {
        let found = read_value(key, value).filter(|_| piece as usize == self.keys.len());
        let pieces = found.map(|(pieces, _)| pieces);
        let agrees = self.keys.is_empty() || self.pieces == pieces;
        self.pieces = pieces.filter(|_| agrees);
        self.content
            .extend_from_slice(found.map_or(&[], |(_, content)| content));
        self.keys.push(key.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStore, Store};

    const QUEUES: Owner = Owner::Queues(7);

    fn load(store: &MemoryStore, pages: &Pages) -> (Pages, Loaded) {
        Pages::load(store, pages.next(), pages.count(), pages.sum()).unwrap()
    }

    fn write(store: &mut MemoryStore, change: impl FnOnce(&mut Vec<Change>)) {
        let mut changes = Vec::new();
        change(&mut changes);
        store.write(changes).unwrap();
    }

    #[test]
    fn long_short_and_empty_contents_come_back() {
        let (mut store, mut pages) = (MemoryStore::new(), Pages::default());
        let long: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let wanted = [
            (Owner::Definition(1), vec![]),
            (QUEUES, vec![9]),
            (Owner::Blocks(3), long),
        ];
        for (owner, content) in &wanted {
            write(&mut store, |changes| pages.put(*owner, content, changes));
        }
        let (_, loaded) = load(&store, &pages);
        assert_eq!(loaded.contents, wanted);
        assert!(!loaded.incomplete && loaded.damaged.is_empty());
    }

    #[test]
    fn pages_of_an_unfinished_checkpoint_change_nothing() {
        let (mut store, mut pages) = (MemoryStore::new(), Pages::default());
        write(&mut store, |changes| pages.put(QUEUES, b"old", changes));
        let (next, count, sum) = (pages.next(), pages.count(), pages.sum());
        write(&mut store, |changes| pages.put(QUEUES, b"new", changes));
        let (_, loaded) = Pages::load(&store, next, count, sum).unwrap();
        assert_eq!(loaded.contents, [(QUEUES, b"old".to_vec())]);
        assert!(!loaded.incomplete);
        assert_eq!(loaded.unfinished.len(), 1);
    }

    #[test]
    fn a_tombstone_hides_the_page_it_follows() {
        let (mut store, mut pages) = (MemoryStore::new(), Pages::default());
        write(&mut store, |changes| pages.put(QUEUES, b"old", changes));
        write(&mut store, |changes| pages.remove(QUEUES, changes));
        let (mut reloaded, loaded) = load(&store, &pages);
        assert!(loaded.contents.is_empty() && !loaded.incomplete);
        assert_eq!(
            (
                reloaded.take_outdated().len(),
                reloaded.take_tombstones().len()
            ),
            (1, 1)
        );
    }

    #[test]
    fn any_flipped_bit_and_any_missing_value_is_noticed() {
        let (mut store, mut pages) = (MemoryStore::new(), Pages::default());
        write(&mut store, |changes| {
            pages.put(QUEUES, &[5; 70_000], changes)
        });
        write(&mut store, |changes| {
            pages.put(Owner::Sweep, b"ab", changes)
        });
        let mut keys = Vec::new();
        store
            .scan(&[KEY_SPACE], &[KEY_SPACE + 1], &mut |key, _| {
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(keys.len(), 3);
        for key in keys {
            let whole = store.get(&key).unwrap().unwrap();
            for bit in (0..whole.len() * 8).step_by(97) {
                let mut damaged = whole.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                store
                    .write(vec![Change::Put(key.clone(), damaged)])
                    .unwrap();
                let (_, loaded) = load(&store, &pages);
                assert!(
                    loaded.incomplete && loaded.damaged.len() == 1,
                    "bit {bit} of {key:?}"
                );
            }
            store.write(vec![Change::Remove(key.clone())]).unwrap();
            assert!(load(&store, &pages).1.incomplete);
            store.write(vec![Change::Put(key, whole.to_vec())]).unwrap();
        }
        assert!(!load(&store, &pages).1.incomplete);
    }
}
