//! The stream that an export writes and an import reads: what a store holds, whichever engine keeps it.
//!
//! It begins with `millpond export` and a line end (16 octets) and the version of the format (4). Records follow,
//! each: length of its content (4), crc32c of that length and the content (4), content. Content is a kind (1) and
//! fields, numbers and lengths as in [`super::varint`]:
//!
//! | kind | record | fields |
//! |---|---|---|
//! | 1 | header | 1 if the store was closed in order, else 0 (1); the next queue identity |
//! | 2 | definition | length of the key, key, value |
//! | 3 | queue | identity, next sequence number |
//! | 4 | message of that queue | sequence number, how often returned, payload |
//! | 5 | end | definitions, queues, messages, bytes of payloads; crc32c over the checksums of all records before (4) |
//!
//! One header, then definitions, queues and the messages of each in ascending order, one end, and nothing behind
//! it. So the same contents always make the same stream. Numbers of fixed width are big-endian.
//!
//! Reading trusts nothing: a record that is damaged, out of order or too long ends it with an error, and memory is
//! taken as octets really come, not as a length promises them.

use std::io::{self, Read, Write};

use super::varint::{self, Reader};
use super::{QueueId, Seq, StorageError};

const MAGIC: &[u8; 16] = b"millpond export\n";
/// The version this program writes, and the only one it reads.
pub(super) const VERSION: u32 = 1;
/// The longest content of a record. A message has at most 1 GiB, its headers included.
const CONTENT_MAX: usize = 2 << 30;
/// A buffer longer than this is not kept for the next record.
const BUFFER_KEPT: usize = 4 << 20;

const HEADER: u8 = 1;
const DEFINITION: u8 = 2;
const QUEUE: u8 = 3;
const MESSAGE: u8 = 4;
const END: u8 = 5;

/// What a stream says of the store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the store was closed in order; if not, every message may have been delivered.
    pub(super) clean: bool,
    /// Above every queue identity that was ever given.
    pub(super) next_queue: QueueId,
}

/// One record between header and end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A definition.
    Definition { key: &'a [u8], value: &'a [u8] },
    /// A queue; its messages follow.
    Queue { queue: QueueId, next_seq: Seq },
    /// A message of the last queue.
    Message {
        seq: Seq,
        returned: u32,
        payload: &'a [u8],
    },
}

/// How much has been exported or imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Queues, exchanges and bindings.
    pub definitions: u64,
    /// Queues of which anything was ever stored.
    pub queues: u64,
    /// Their messages; one that is in several queues counts in each.
    pub messages: u64,
    /// Bytes of those messages as they are stored.
    pub payload_bytes: u64,
}

fn cannot_write(error: &io::Error) -> StorageError {
    StorageError::Stream {
        doing: "write",
        reason: error.to_string(),
    }
}

fn cannot_read(reason: impl ToString) -> StorageError {
    StorageError::Stream {
        doing: "read",
        reason: reason.to_string(),
    }
}

/// Writes a stream.
pub(super) struct StreamWriter<'a> {
    out: &'a mut dyn Write,
    content: Vec<u8>,
    total: Transferred,
    checksums: u32,
}

impl<'a> StreamWriter<'a> {
    /// # Errors
    /// Those of writing.
    pub(super) fn begin(out: &'a mut dyn Write, header: Header) -> Result<Self, StorageError> {
        let begun = out
            .write_all(MAGIC)
            .and_then(|()| out.write_all(&VERSION.to_be_bytes()));
        begun.map_err(|error| cannot_write(&error))?;
        let mut writer = Self {
            out,
            content: vec![HEADER, u8::from(header.clean)],
            total: Transferred::default(),
            checksums: 0,
        };
        varint::put(&mut writer.content, header.next_queue.0);
        writer.put()?;
        Ok(writer)
    }

    /// # Errors
    /// Those of writing; the record is too long.
    pub(super) fn write(&mut self, record: &Record<'_>) -> Result<(), StorageError> {
        let content = &mut self.content;
        match *record {
            Record::Definition { key, value } => {
                content.push(DEFINITION);
                varint::put(content, key.len() as u64);
                content.extend_from_slice(key);
                content.extend_from_slice(value);
            }
            Record::Queue { queue, next_seq } => {
                content.push(QUEUE);
                varint::put_all(content, [queue.0, next_seq.0]);
            }
            Record::Message {
                seq,
                returned,
                payload,
            } => {
                content.push(MESSAGE);
                varint::put_all(content, [seq.0, u64::from(returned)]);
                content.extend_from_slice(payload);
            }
        }
        self.total.count(record);
        self.put()
    }

    /// How much was written so far.
    pub(super) fn total(&self) -> &Transferred {
        &self.total
    }

    /// # Errors
    /// Those of writing.
    pub(super) fn finish(mut self) -> Result<Transferred, StorageError> {
        self.content.push(END);
        varint::put_all(&mut self.content, self.total.numbers());
        self.content
            .extend_from_slice(&self.checksums.to_be_bytes());
        self.put()?;
        self.out.flush().map_err(|error| cannot_write(&error))?;
        Ok(self.total)
    }

    /// Writes what was gathered as one record.
    fn put(&mut self) -> Result<(), StorageError> {
        let Some(len) = u32::try_from(self.content.len())
            .ok()
            .filter(|&len| len as usize <= CONTENT_MAX)
        else {
            return Err(cannot_write(&io::Error::other("a record is too long")));
        };
        let len = len.to_be_bytes();
        let checksum = checksum(len, &self.content);
        self.checksums = crc32c::crc32c_append(self.checksums, &checksum.to_be_bytes());
        let mut head = [0; 8];
        head[..4].copy_from_slice(&len);
        head[4..].copy_from_slice(&checksum.to_be_bytes());
        let written = self
            .out
            .write_all(&head)
            .and_then(|()| self.out.write_all(&self.content));
        self.content.clear();
        self.content.shrink_to(BUFFER_KEPT);
        written.map_err(|error| cannot_write(&error))
    }
}

impl Transferred {
    fn count(&mut self, record: &Record<'_>) {
        match record {
            Record::Definition { .. } => self.definitions += 1,
            Record::Queue { .. } => self.queues += 1,
            Record::Message { payload, .. } => {
                self.messages += 1;
                self.payload_bytes += payload.len() as u64;
            }
        }
    }

    fn numbers(&self) -> [u64; 4] {
        [
            self.definitions,
            self.queues,
            self.messages,
            self.payload_bytes,
        ]
    }
}

fn checksum(len: [u8; 4], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len), content)
}

/// What came last, so that the next is in order.
#[derive(Debug)]
enum Place {
    Header,
    Definition(Vec<u8>),
    Queue(QueueId, Seq, Option<Seq>),
}

/// Reads a stream.
pub(super) struct StreamReader<'a> {
    input: &'a mut dyn Read,
    header: Header,
    content: Vec<u8>,
    place: Place,
    total: Transferred,
    checksums: u32,
}

impl<'a> StreamReader<'a> {
    /// # Errors
    /// Those of reading; it is no export, or one of another version.
    pub(super) fn begin(input: &'a mut dyn Read) -> Result<Self, StorageError> {
        let mut head = [0; 20];
        let read = input.read_exact(&mut head);
        if read.is_err() || !head.starts_with(MAGIC) {
            return Err(cannot_read("it is not what millpond export writes"));
        }
        let version = Reader::new(&head[MAGIC.len()..]).u32_be();
        if version != Some(VERSION) {
            let version = version.unwrap_or_default();
            return Err(cannot_read(format!(
                "it has version {version}, this millpond reads version {VERSION}"
            )));
        }
        let mut reader = Self {
            input,
            header: Header {
                clean: false,
                next_queue: QueueId(0),
            },
            content: Vec::new(),
            place: Place::Header,
            total: Transferred::default(),
            checksums: 0,
        };
        reader.fill()?;
        let mut content = Reader::new(&reader.content);
        let header = (|| {
            (content.octet()? == HEADER).then_some(())?;
            let clean = content.octet()?;
            let next_queue = QueueId(content.number()?);
            (clean <= 1 && content.is_empty()).then_some(Header {
                clean: clean == 1,
                next_queue,
            })
        })();
        reader.header = header.ok_or_else(|| cannot_read("its header is malformed"))?;
        Ok(reader)
    }

    /// What the stream says of the store as a whole.
    pub(super) fn header(&self) -> Header {
        self.header
    }

    /// How much was read so far.
    pub(super) fn total(&self) -> &Transferred {
        &self.total
    }

    /// The next record; `None` once the end was read and is right.
    ///
    /// # Errors
    /// Those of reading; what comes is damaged, cut off or out of order.
    pub(super) fn next_record(&mut self) -> Result<Option<Record<'_>>, StorageError> {
        let before = self.checksums;
        self.fill()?;
        let number = self.total.numbers().iter().take(3).sum::<u64>() + 1;
        let malformed = || cannot_read(format!("record {number} is malformed or out of order"));
        if self.content.first() == Some(&END) {
            self.check_end(before)?;
            return Ok(None);
        }
        let record = parse(&self.content).ok_or_else(malformed)?;
        let place = follow(&self.place, &record, self.header.next_queue).ok_or_else(malformed)?;
        if let Some(place) = place {
            self.place = place;
        } else if let (Place::Queue(.., last), Record::Message { seq, .. }) =
            (&mut self.place, &record)
        {
            *last = Some(*seq);
        }
        self.total.count(&record);
        Ok(Some(record))
    }

    fn check_end(&mut self, checksums: u32) -> Result<(), StorageError> {
        let mut content = Reader::new(&self.content[1..]);
        let wanted = self.total.numbers();
        let numbers = wanted
            .iter()
            .all(|&wanted| content.number() == Some(wanted));
        if !numbers || content.u32_be() != Some(checksums) || !content.is_empty() {
            return Err(cannot_read("records are missing"));
        }
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(cannot_read("something follows its end")),
            Err(error) => Err(cannot_read(error)),
        }
    }

    /// Reads the content of one record.
    fn fill(&mut self) -> Result<(), StorageError> {
        let mut head = [0; 8];
        self.input.read_exact(&mut head).map_err(cut_off)?;
        let [a, b, c, d, stated @ ..] = head;
        let len = [a, b, c, d];
        let wanted = u32::from_be_bytes(len) as usize;
        if wanted > CONTENT_MAX {
            return Err(cannot_read("a record is damaged: its length cannot be"));
        }
        self.content.clear();
        self.content.shrink_to(BUFFER_KEPT);
        let read = Read::take(&mut *self.input, wanted as u64).read_to_end(&mut self.content);
        if read.map_err(cannot_read)? < wanted {
            return Err(cut_off(io::ErrorKind::UnexpectedEof.into()));
        }
        let checksum = checksum(len, &self.content);
        if checksum != u32::from_be_bytes(stated) {
            return Err(cannot_read("a record is damaged: its checksum is wrong"));
        }
        self.checksums = crc32c::crc32c_append(self.checksums, &checksum.to_be_bytes());
        Ok(())
    }
}

fn cut_off(error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => cannot_read("it is cut off"),
        _ => cannot_read(error),
    }
}

fn parse(content: &[u8]) -> Option<Record<'_>> {
    let mut content = Reader::new(content);
    let record = match content.octet()? {
        DEFINITION => Record::Definition {
            key: content.octets()?,
            value: content.rest(),
        },
        QUEUE => {
            let (queue, next_seq) = (QueueId(content.number()?), Seq(content.number()?));
            content.is_empty().then_some(())?;
            Record::Queue { queue, next_seq }
        }
        MESSAGE => Record::Message {
            seq: Seq(content.number()?),
            returned: content.number_u32()?,
            payload: content.rest(),
        },
        _ => return None,
    };
    Some(record)
}

/// Whether a record may come where it comes: `None` if not, else the new place, if it is not just one message on.
fn follow(place: &Place, record: &Record<'_>, next_queue: QueueId) -> Option<Option<Place>> {
    match (place, record) {
        (Place::Header, &Record::Definition { key, .. }) => {
            Some(Some(Place::Definition(key.to_vec())))
        }
        (Place::Definition(last), &Record::Definition { key, .. }) if last.as_slice() < key => {
            Some(Some(Place::Definition(key.to_vec())))
        }
        (Place::Queue(last, ..), Record::Queue { queue, .. }) if queue <= last => None,
        (_, &Record::Queue { queue, next_seq }) if queue < next_queue => {
            Some(Some(Place::Queue(queue, next_seq, None)))
        }
        (&Place::Queue(_, next, last), Record::Message { seq, .. })
            if *seq < next && last.is_none_or(|last| last < *seq) =>
        {
            Some(None)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
