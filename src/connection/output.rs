//! What waits to be written to one socket: encoded frames, and large bodies by reference.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use crate::engine::message::Message;

/// From this size on a body is written from where it lies instead of being copied behind its headers.
const BY_REFERENCE: usize = 16 * 1024;
/// An emptied buffer larger than this is let go.
const KEEP_SIZE: usize = 256 * 1024;

#[derive(Debug)]
enum Chunk {
    Encoded(BytesMut),
    Body {
        message: Arc<Message>,
        written: usize,
    },
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Encoded(bytes) => bytes,
            Self::Body { message, written } => &message.body()[*written..],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Encoded(bytes) => bytes.advance(count),
            Self::Body { written, .. } => *written += count,
        }
    }
}

/// Bytes on their way to one socket, in order.
#[derive(Debug, Default)]
pub struct Output {
    /// Filled up before `tail`.
    sealed: VecDeque<Chunk>,
    tail: BytesMut,
    len: usize,
    /// Bytes of `tail` that `len` already counts.
    counted: usize,
    /// Bytes written since the connection began.
    written: u64,
}

impl Output {
    /// Where encoders append.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends a message's body: copied if small, by reference if large.
    pub fn body(&mut self, message: &Arc<Message>) {
        let body = message.body();
        if body.len() < BY_REFERENCE {
            self.tail.extend_from_slice(body);
            return;
        }
        self.count();
        self.len += body.len();
        let before = self.tail.split();
        self.counted = 0;
        if !before.is_empty() {
            self.sealed.push_back(Chunk::Encoded(before));
        }
        self.sealed.push_back(Chunk::Body {
            message: Arc::clone(message),
            written: 0,
        });
    }

    fn count(&mut self) {
        self.len += self.tail.len() - self.counted;
        self.counted = self.tail.len();
    }

    /// Bytes that wait.
    pub fn len(&mut self) -> usize {
        self.count();
        self.len
    }

    /// Where what was appended last ends, in bytes since the connection began.
    pub fn end(&mut self) -> u64 {
        self.written + self.len() as u64
    }

    /// Bytes that were written since the connection began.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.tail.is_empty()
    }

    /// The next bytes to write: at most `slices.len()` pieces and about `max` bytes. Returns the pieces used.
    pub(super) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>], max: usize) -> usize {
        let mut used = 0;
        let mut bytes = 0;
        for piece in self.sealed.iter().map(Chunk::bytes).chain([&self.tail[..]]) {
            if used == slices.len() || bytes >= max {
                break;
            }
            if !piece.is_empty() {
                let piece = &piece[..piece.len().min(max - bytes)];
                slices[used] = IoSlice::new(piece);
                used += 1;
                bytes += piece.len();
            }
        }
        used
    }

    /// Forgets the first `count` bytes: they are written.
    pub(super) fn advance(&mut self, mut count: usize) {
        self.count();
        self.len -= count;
        self.written += count as u64;
        while count > 0 {
            let Some(first) = self.sealed.front_mut() else {
                self.tail.advance(count);
                self.counted = self.tail.len();
                break;
            };
            let available = first.bytes().len();
            if count < available {
                first.advance(count);
                return;
            }
            count -= available;
            self.sealed.pop_front();
        }
        if self.is_empty() {
            if self.tail.capacity() > KEEP_SIZE {
                self.tail = BytesMut::new();
            }
            self.tail.clear();
            self.counted = 0;
        }
    }

    /// Lets go of the buffer; an idle connection owns none.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            self.tail = BytesMut::new();
            self.counted = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message::{Address, Encoding, MessageId, Meta};
    use crate::engine::name::{ExchangeName, RoutingKey};

    fn message(body: Vec<u8>) -> Arc<Message> {
        let address = Address {
            exchange: ExchangeName::parse("").unwrap(),
            routing_key: RoutingKey::parse("q").unwrap(),
        };
        let meta = Meta {
            id: MessageId(1),
            entered_ms: 0,
            expires_ms: None,
            persistent: false,
            priority: None,
        };
        Arc::new(Message::new(
            Arc::new(address),
            meta,
            Encoding::Stomp,
            bytes::Bytes::new(),
            body.into(),
        ))
    }

    #[test]
    fn bytes_leave_in_order_however_they_were_added_and_however_the_socket_takes_them() {
        let large: Vec<u8> = (0..50_000u32).map(|n| n.to_le_bytes()[0]).collect();
        for step in [1, 7, 1_000, 16_384, 60_000] {
            let mut output = Output::default();
            output.buffer().extend_from_slice(b"head");
            output.body(&message(large.clone()));
            output.buffer().extend_from_slice(b"tail");
            output.body(&message(b"small".to_vec()));
            let expected = [b"head".as_slice(), &large, b"tail", b"small"].concat();
            assert_eq!(output.len(), expected.len());
            let mut written = Vec::new();
            while !output.is_empty() {
                let mut slices = [IoSlice::new(&[]); 4];
                let used = output.gather(&mut slices, step);
                let piece: Vec<u8> = slices[..used]
                    .iter()
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                assert!(!piece.is_empty() && piece.len() <= step);
                written.extend_from_slice(&piece);
                output.advance(piece.len());
                assert_eq!(output.len(), expected.len() - written.len());
                assert_eq!(
                    (output.written(), output.end()),
                    (written.len() as u64, expected.len() as u64)
                );
            }
            assert_eq!(written, expected, "step {step}");
        }
    }
}
