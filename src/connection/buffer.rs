//! Read buffers, shared by all connections: one that has nothing to read owns none.

use bytes::BytesMut;
use parking_lot::Mutex;

/// Bytes a fresh or recycled buffer has room for.
pub(super) const READ_SIZE: usize = 64 * 1024;
/// A buffer that grew beyond this (for one large frame) is not kept.
const KEEP_SIZE: usize = 4 * READ_SIZE;

/// A pool of read buffers, bounded in number.
#[derive(Debug)]
pub struct BufferPool {
    free: Mutex<Vec<BytesMut>>,
    keep: usize,
}

impl BufferPool {
    /// A pool that keeps at most `keep` buffers of 64 KiB.
    pub fn new(keep: usize) -> Self {
        Self {
            free: Mutex::default(),
            keep,
        }
    }

    /// An empty buffer with room for 64 KiB.
    pub(super) fn take(&self) -> BytesMut {
        let buffer = self.free.lock().pop();
        let mut buffer = buffer.unwrap_or_default();
        // Takes its allocation back if no message holds on to it any more, or gets another.
        buffer.reserve(READ_SIZE);
        buffer
    }

    /// Gives a buffer back once everything in it was taken out.
    pub(super) fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        if buffer.capacity() > KEEP_SIZE {
            return;
        }
        let mut free = self.free.lock();
        if free.len() < self.keep {
            free.push(buffer);
        }
    }
}
