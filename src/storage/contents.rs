//! A verified block with a table of the messages in it.

use bytes::Bytes;

use super::block::{self, BlockId, HEADER_LEN};
use super::frame::{Frame, Frames, Placement};
use super::{QueueId, Seq};

/// One reference to a message of the block.
#[derive(Debug, Clone, Copy)]
struct Entry {
    queue: QueueId,
    seq: Seq,
    payload: Payload,
}

/// Where the payload of a message is.
#[derive(Debug, Clone, Copy)]
enum Payload {
    /// Octets of the block itself.
    Here { at: u32, len: u32 },
    /// A place in [`Contents::placements`].
    Placed(u32),
}

/// A message as its block has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Its payload.
    Here(Bytes),
    /// Where the pieces of its payload are, and whether other messages share them.
    Placed(Placement, bool),
}

/// A block that was read and verified.
#[derive(Debug)]
pub(super) struct Contents {
    checksum: u32,
    octets: Bytes,
    /// Ordered by queue and number.
    entries: Box<[Entry]>,
    /// With whether several messages refer to it.
    placements: Box<[(Placement, bool)]>,
}

impl Contents {
    /// # Errors
    /// What is wrong with the block.
    pub(super) fn read(id: BlockId, octets: Bytes) -> Result<Self, &'static str> {
        let block = block::open(id, &octets)?;
        let mut entries = Vec::new();
        let mut placements = Vec::new();
        let mut frames = Frames::new(block.frames);
        let too_long = |_| "it is too long";
        while let Some(frame) = frames.next_frame()? {
            let (references, payload) = match frame {
                Frame::Message {
                    references,
                    payload,
                } => {
                    // A payload ends its frame.
                    let at = octets.len() - frames.left() - payload.len();
                    let at = u32::try_from(at).map_err(too_long)?;
                    let len = u32::try_from(payload.len()).map_err(too_long)?;
                    (references, Payload::Here { at, len })
                }
                Frame::Placed {
                    placement,
                    references,
                } => {
                    let place = u32::try_from(placements.len()).map_err(too_long)?;
                    placements.push((placement, references.count() > 1));
                    (references, Payload::Placed(place))
                }
                _ => continue,
            };
            entries.extend(references.map(|(queue, seq)| Entry {
                queue,
                seq,
                payload,
            }));
        }
        // Of a number used twice the later message counts, as in the index.
        entries.reverse();
        entries.sort_by_key(|entry| (entry.queue, entry.seq));
        entries.dedup_by_key(|entry| (entry.queue, entry.seq));
        Ok(Self {
            checksum: block.checksum,
            entries: entries.into(),
            placements: placements.into(),
            octets,
        })
    }

    /// The checksum in its header, which is right.
    pub(super) fn checksum(&self) -> u32 {
        self.checksum
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.octets.len()
            + size_of_val(&*self.entries)
            + size_of_val(&*self.placements)
    }

    /// Length of the block, in octets.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// The messages of a queue from `first` to `last` that it holds, in order of their numbers.
    pub(super) fn messages(
        &self,
        queue: QueueId,
        first: Seq,
        last: Seq,
    ) -> impl Iterator<Item = (Seq, Found)> {
        let from = self
            .entries
            .partition_point(|entry| (entry.queue, entry.seq) < (queue, first));
        self.entries[from..]
            .iter()
            .take_while(move |entry| entry.queue == queue && entry.seq <= last)
            .map(|entry| (entry.seq, self.found(entry.payload)))
    }

    /// The octets of a piece of a payload; `None` if the block holds something else.
    pub(super) fn piece(&self) -> Option<Bytes> {
        let frames = self.octets.get(HEADER_LEN..)?;
        match Frames::new(frames).next_frame() {
            Ok(Some(Frame::Piece { octets })) => Some(self.octets.slice_ref(octets)),
            _ => None,
        }
    }

    fn found(&self, payload: Payload) -> Found {
        match payload {
            Payload::Here { at, len } => {
                let at = at as usize;
                Found::Here(self.octets.slice(at..at + len as usize))
            }
            Payload::Placed(place) => {
                let (placement, shared) = self.placements[place as usize];
                Found::Placed(placement, shared)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LogIndex;
    use crate::storage::frame;

    const ID: BlockId = BlockId {
        commit: LogIndex(3),
        part: 0,
    };

    fn sealed(put: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut octets = vec![0; HEADER_LEN];
        put(&mut octets);
        block::seal(&mut octets, ID, None);
        octets.into()
    }

    #[test]
    fn a_queue_finds_its_own_messages_in_order_whatever_lies_between_them() {
        let placement = Placement {
            commit: LogIndex(3),
            part: 1,
            pieces: 1,
            len: 9,
        };
        let octets = sealed(|out| {
            let both = [(QueueId(1), Seq(6)), (QueueId(2), Seq(1))];
            frame::put_message(out, &[(QueueId(1), Seq(7))], b"seven");
            frame::put_message(out, &both, b"both");
            frame::put_settled(out, QueueId(1), &[(Seq(1), Seq(2))]);
            frame::put_placed(out, placement, &[(QueueId(1), Seq(9))]);
            frame::put_message(out, &[(QueueId(1), Seq(8))], b"");
        });
        let contents = Contents::read(ID, octets).unwrap();
        let found = |queue, first, last| {
            let messages = contents.messages(QueueId(queue), Seq(first), Seq(last));
            messages.collect::<Vec<_>>()
        };
        let here = |text: &'static str| Found::Here(Bytes::from(text));
        assert_eq!(
            found(1, 0, u64::MAX),
            [
                (Seq(6), here("both")),
                (Seq(7), here("seven")),
                (Seq(8), here("")),
                (Seq(9), Found::Placed(placement, false)),
            ]
        );
        assert_eq!(found(1, 7, 7), [(Seq(7), here("seven"))]);
        assert_eq!(found(2, 0, 9), [(Seq(1), here("both"))]);
        assert_eq!(found(3, 0, 9), []);
    }

    #[test]
    fn of_a_number_used_twice_the_later_message_is_found() {
        let octets = sealed(|out| {
            frame::put_message(out, &[(QueueId(1), Seq(1))], b"old");
            frame::put_message(out, &[(QueueId(1), Seq(1))], b"new");
        });
        let contents = Contents::read(ID, octets).unwrap();
        let found: Vec<_> = contents.messages(QueueId(1), Seq(1), Seq(1)).collect();
        assert_eq!(found, [(Seq(1), Found::Here(Bytes::from("new")))]);
    }

    #[test]
    fn a_piece_is_read_only_from_a_whole_block_that_holds_one() {
        let octets = sealed(|out| frame::put_piece(out, b"piece"));
        let contents = Contents::read(ID, octets.clone()).unwrap();
        assert_eq!(contents.piece().unwrap(), "piece");
        let mut damaged = octets.to_vec();
        damaged[HEADER_LEN + 2] ^= 1;
        assert!(Contents::read(ID, damaged.into()).is_err());
        let other = sealed(|out| frame::put_forgotten(out, QueueId(1)));
        assert_eq!(Contents::read(ID, other).unwrap().piece(), None);
    }
}
