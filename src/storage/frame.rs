//! Frames: what a block is made of.
//!
//! Each begins with an octet that names its kind; numbers are varints, `octets` are a length and as many
//! octets, lists begin with their length.
//!
//! | kind | content |
//! |---|---|
//! | 1 message | list of (queue, seq) · payload octets |
//! | 2 placed | placement · list of (queue, seq) |
//! | 3 piece | octets: a part of a payload too long, or shared too widely, for a message frame |
//! | 4 settled | queue · list of (first, count - 1) |
//! | 5 returned | queue · seq · count |
//! | 6 forgotten | queue |
//! | 7 definition | octets of a record |
//! | 8 definition at | placement of a record |
//! | 9 directory | part · flags · crc32c (4 octets) · list of (queue, first, count - 1) |
//!
//! A placement is: commit · first part · number of parts · length in octets. The pieces are the first
//! frames of those parts. A record is: key octets · 0, or 1 and the value up to the end. A directory says
//! what an earlier part of the same commit holds, so that its damage can be reported queue by queue; bit 0
//! of its flags says that the part holds more than messages.

use super::block::BlockId;
use super::varint::{self, Reader};
use super::{LogIndex, QueueId, Seq};

const MESSAGE: u8 = 1;
const PLACED: u8 = 2;
const PIECE: u8 = 3;
const SETTLED: u8 = 4;
const RETURNED: u8 = 5;
const FORGOTTEN: u8 = 6;
const DEFINITION: u8 = 7;
const DEFINITION_AT: u8 = 8;
const DIRECTORY: u8 = 9;

/// The most entries of a list in one frame; longer lists become several frames.
pub(super) const LIST_MAX: usize = 1024;
/// The most octets any frame needs beside its octets and its list.
pub(super) const OVERHEAD_MAX: usize = 64;

/// Messages of one queue with consecutive numbers, in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) queue: QueueId,
    pub(super) first: Seq,
    pub(super) last: Seq,
}

/// Where the pieces of a payload are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) commit: LogIndex,
    pub(super) part: u32,
    pub(super) pieces: u32,
    /// Length of the whole, in octets.
    pub(super) len: u64,
}

impl Placement {
    /// The blocks that hold the pieces.
    pub(super) fn blocks(self) -> impl Iterator<Item = BlockId> {
        (self.part..self.part.saturating_add(self.pieces)).map(move |part| BlockId {
            commit: self.commit,
            part,
        })
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        let Self {
            commit,
            part,
            pieces,
            len,
        } = self;
        varint::put_all(out, [commit.0, u64::from(part), u64::from(pieces), len]);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            commit: LogIndex(reader.number()?),
            part: reader.number_u32()?,
            pieces: reader.number_u32()?,
            len: reader.number()?,
        })
    }
}

/// A list inside a frame, read on demand.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'a, const N: usize> {
    reader: Reader<'a>,
    left: u64,
}

impl<'a, const N: usize> List<'a, N> {
    /// Reads past a list whose numbers are all there, so that iterating it cannot fail.
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let left = reader.number()?;
        let list = Self {
            reader: *reader,
            left,
        };
        for _ in 0..left.checked_mul(N as u64)? {
            reader.number()?;
        }
        Some(list)
    }
}

impl<const N: usize> Iterator for List<'_, N> {
    type Item = [u64; N];

    fn next(&mut self) -> Option<[u64; N]> {
        self.left = self.left.checked_sub(1)?;
        let mut tuple = [0; N];
        for number in &mut tuple {
            *number = self.reader.number()?;
        }
        Some(tuple)
    }
}

/// A list of (queue, seq).
#[derive(Debug, Clone, Copy)]
pub(super) struct References<'a>(List<'a, 2>);

impl Iterator for References<'_> {
    type Item = (QueueId, Seq);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|[queue, seq]| (QueueId(queue), Seq(seq)))
    }
}

/// One frame, borrowed from its block.
#[derive(Debug, Clone, Copy)]
pub(super) enum Frame<'a> {
    Message {
        references: References<'a>,
        payload: &'a [u8],
    },
    Placed {
        placement: Placement,
        references: References<'a>,
    },
    Piece {
        octets: &'a [u8],
    },
    /// (first, count - 1)
    Settled {
        queue: QueueId,
        ranges: List<'a, 2>,
    },
    Returned {
        queue: QueueId,
        seq: Seq,
        count: u32,
    },
    Forgotten {
        queue: QueueId,
    },
    Definition {
        record: &'a [u8],
    },
    DefinitionAt {
        placement: Placement,
    },
    /// (queue, first, count - 1)
    Directory {
        part: u32,
        control: bool,
        checksum: u32,
        runs: List<'a, 3>,
    },
}

/// The last of `count` numbers from `first`; `None` if there is no such number.
pub(super) fn last_of(first: u64, count_less_one: u64) -> Option<Seq> {
    first.checked_add(count_less_one).map(Seq)
}

/// Walks the frames of a block.
#[derive(Debug, Clone)]
pub(super) struct Frames<'a>(Reader<'a>);

impl<'a> Frames<'a> {
    pub(super) fn new(frames: &'a [u8]) -> Self {
        Self(Reader::new(frames))
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// The octets are no frame. The block's checksum was right, so a program wrote them so.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'a>>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.read()
            .map(Some)
            .ok_or("it holds octets that are no frame")
    }

    /// How many octets have not been read yet.
    pub(super) fn left(&self) -> usize {
        self.0.rest().len()
    }

    fn read(&mut self) -> Option<Frame<'a>> {
        let reader = &mut self.0;
        Some(match reader.octet()? {
            MESSAGE => {
                let references = References(List::read(reader)?);
                Frame::Message {
                    references,
                    payload: reader.octets()?,
                }
            }
            PLACED => {
                let placement = Placement::read(reader)?;
                Frame::Placed {
                    placement,
                    references: References(List::read(reader)?),
                }
            }
            PIECE => Frame::Piece {
                octets: reader.octets()?,
            },
            SETTLED => Frame::Settled {
                queue: QueueId(reader.number()?),
                ranges: List::read(reader)?,
            },
            RETURNED => {
                let (queue, seq) = (QueueId(reader.number()?), Seq(reader.number()?));
                Frame::Returned {
                    queue,
                    seq,
                    count: reader.number_u32()?,
                }
            }
            FORGOTTEN => Frame::Forgotten {
                queue: QueueId(reader.number()?),
            },
            DEFINITION => Frame::Definition {
                record: reader.octets()?,
            },
            DEFINITION_AT => Frame::DefinitionAt {
                placement: Placement::read(reader)?,
            },
            DIRECTORY => {
                let (part, flags) = (reader.number_u32()?, reader.octet()?);
                let checksum = reader.u32_be()?;
                Frame::Directory {
                    part,
                    control: flags & 1 != 0,
                    checksum,
                    runs: List::read(reader)?,
                }
            }
            _ => return None,
        })
    }
}

fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    varint::put(out, octets.len() as u64);
    out.extend_from_slice(octets);
}

fn put_references(out: &mut Vec<u8>, references: &[(QueueId, Seq)]) {
    varint::put(out, references.len() as u64);
    for (queue, seq) in references {
        varint::put(out, queue.0);
        varint::put(out, seq.0);
    }
}

pub(super) fn put_message(out: &mut Vec<u8>, references: &[(QueueId, Seq)], payload: &[u8]) {
    out.push(MESSAGE);
    put_references(out, references);
    put_octets(out, payload);
}

pub(super) fn put_placed(out: &mut Vec<u8>, placement: Placement, references: &[(QueueId, Seq)]) {
    out.push(PLACED);
    placement.put(out);
    put_references(out, references);
}

pub(super) fn put_piece(out: &mut Vec<u8>, octets: &[u8]) {
    out.push(PIECE);
    put_octets(out, octets);
}

pub(super) fn put_settled(out: &mut Vec<u8>, queue: QueueId, ranges: &[(Seq, Seq)]) {
    out.push(SETTLED);
    varint::put(out, queue.0);
    varint::put(out, ranges.len() as u64);
    for (first, last) in ranges {
        varint::put(out, first.0);
        varint::put(out, last.0 - first.0);
    }
}

pub(super) fn put_returned(out: &mut Vec<u8>, queue: QueueId, seq: Seq, count: u32) {
    out.push(RETURNED);
    varint::put_all(out, [queue.0, seq.0, u64::from(count)]);
}

pub(super) fn put_forgotten(out: &mut Vec<u8>, queue: QueueId) {
    out.push(FORGOTTEN);
    varint::put(out, queue.0);
}

pub(super) fn put_definition(out: &mut Vec<u8>, record: &[u8]) {
    out.push(DEFINITION);
    put_octets(out, record);
}

pub(super) fn put_definition_at(out: &mut Vec<u8>, placement: Placement) {
    out.push(DEFINITION_AT);
    placement.put(out);
}

pub(super) fn put_directory(
    out: &mut Vec<u8>,
    part: u32,
    control: bool,
    checksum: u32,
    runs: &[Run],
) {
    out.push(DIRECTORY);
    varint::put(out, u64::from(part));
    out.push(u8::from(control));
    out.extend_from_slice(&checksum.to_be_bytes());
    varint::put(out, runs.len() as u64);
    for run in runs {
        varint::put_all(out, [run.queue.0, run.first.0, run.last.0 - run.first.0]);
    }
}

/// A definition as stored: what the frames `definition` and the checkpoint's pages hold.
pub(super) fn record(key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let value_len = value.map_or(0, <[u8]>::len);
    let mut out = Vec::with_capacity(varint::LEN_MAX + key.len() + 1 + value_len);
    put_octets(&mut out, key);
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(value.unwrap_or_default());
    out
}

/// The key and the value of a [`record`].
pub(super) fn read_record(record: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut reader = Reader::new(record);
    let key = reader.octets()?;
    match reader.octet()? {
        0 => Some((key, None)),
        1 => Some((key, Some(reader.rest()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(octets: &[u8]) -> Vec<String> {
        let mut frames = Frames::new(octets);
        let mut seen = Vec::new();
        while let Some(frame) = frames.next_frame().unwrap() {
            seen.push(match frame {
                Frame::Message {
                    references,
                    payload,
                } => {
                    format!("message {:?} {payload:?}", references.collect::<Vec<_>>())
                }
                Frame::Placed {
                    placement,
                    references,
                } => {
                    format!("placed {placement:?} {:?}", references.collect::<Vec<_>>())
                }
                Frame::Settled { queue, ranges } => {
                    format!("settled {queue} {:?}", ranges.collect::<Vec<_>>())
                }
                Frame::Directory {
                    part,
                    control,
                    checksum,
                    runs,
                } => {
                    format!(
                        "directory {part} {control} {checksum} {:?}",
                        runs.collect::<Vec<_>>()
                    )
                }
                other => format!("{other:?}"),
            });
        }
        seen
    }

    #[test]
    fn every_kind_of_frame_comes_back_as_it_was_put() {
        let placement = Placement {
            commit: LogIndex(300),
            part: 1,
            pieces: 2,
            len: 100_000,
        };
        let references = [(QueueId(1), Seq(5)), (QueueId(u64::MAX), Seq(u64::MAX))];
        let mut out = Vec::new();
        put_message(&mut out, &references, b"ab");
        put_placed(&mut out, placement, &references[..1]);
        put_piece(&mut out, b"c");
        put_settled(&mut out, QueueId(7), &[(Seq(1), Seq(1)), (Seq(5), Seq(9))]);
        put_returned(&mut out, QueueId(7), Seq(3), 2);
        put_forgotten(&mut out, QueueId(8));
        put_definition(&mut out, b"record");
        put_definition_at(&mut out, placement);
        put_directory(
            &mut out,
            4,
            true,
            9,
            &[Run {
                queue: QueueId(1),
                first: Seq(5),
                last: Seq(8),
            }],
        );
        let max = u64::MAX;
        assert_eq!(
            all(&out),
            [
                format!("message [(QueueId(1), Seq(5)), (QueueId({max}), Seq({max}))] [97, 98]"),
                format!("placed {placement:?} [(QueueId(1), Seq(5))]"),
                "Piece { octets: [99] }".into(),
                "settled 7 [[1, 0], [5, 4]]".into(),
                "Returned { queue: QueueId(7), seq: Seq(3), count: 2 }".into(),
                "Forgotten { queue: QueueId(8) }".into(),
                format!("Definition {{ record: {:?} }}", b"record"),
                format!("DefinitionAt {{ placement: {placement:?} }}"),
                "directory 4 true 9 [[1, 5, 3]]".into(),
            ]
        );
    }

    #[test]
    fn a_record_keeps_an_empty_value_apart_from_no_value() {
        assert_eq!(
            read_record(&record(b"k", Some(b""))),
            Some((&b"k"[..], Some(&b""[..])))
        );
        assert_eq!(read_record(&record(b"k", None)), Some((&b"k"[..], None)));
        assert_eq!(read_record(b""), None);
    }

    #[test]
    fn a_list_that_claims_more_than_is_there_is_refused() {
        let mut out = vec![SETTLED, 1];
        varint::put(&mut out, u64::MAX);
        assert!(Frames::new(&out).next_frame().is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_octets_never_panic(octets: Vec<u8>) {
            let mut frames = Frames::new(&octets);
            while let Ok(Some(_)) = frames.next_frame() {}
        }
    }
}
