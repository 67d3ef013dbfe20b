//! The bytes a connection has read and not yet understood.

use std::io::{self, ErrorKind, Read};

/// Bytes read at once, at most, by a connection that is delivered to.
pub(super) const DELIVERIES: usize = 256 * 1024;

/// Bytes read at once, at most, by a connection that only gets receipts.
pub(super) const RECEIPTS: usize = 16 * 1024;

/// What one attempt to read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// So many more bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The broker has closed the connection.
    End,
}

/// A read buffer. It grows only for a frame larger than it is, up to a limit.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
}

impl Input {
    /// Reads up to `capacity` bytes at once, and holds frames of up to `limit` bytes.
    pub(super) fn new(capacity: usize, limit: usize) -> Self {
        Self {
            bytes: vec![0; capacity],
            start: 0,
            end: 0,
            limit: limit.max(capacity),
        }
    }

    /// What is not yet consumed.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops the first `count` unread bytes.
    #[inline]
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Reads once.
    ///
    /// # Errors
    /// When the connection has failed, or a frame is larger than the limit.
    pub(super) fn fill(&mut self, mut source: impl Read) -> io::Result<Got> {
        self.make_room()?;
        loop {
            return match source.read(&mut self.bytes[self.end..]) {
                Ok(0) => Ok(Got::End),
                Ok(count) => {
                    self.end += count;
                    Ok(Got::Bytes(count))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Got::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Leaves at least a quarter of the buffer free, so that reads stay large.
    fn make_room(&mut self) -> io::Result<()> {
        let capacity = self.bytes.len();
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if capacity - self.end >= capacity / 4 {
            return Ok(());
        }
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if capacity - self.end >= capacity / 4 {
            return Ok(());
        }
        if capacity >= self.limit {
            let message = format!("a frame is larger than {} bytes", self.limit);
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        self.bytes.resize((2 * capacity).min(self.limit), 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unread_survives_reads_and_moves() {
        let mut input = Input::new(8, 8);
        let mut source = &b"abcdefghijkl"[..];
        assert_eq!(input.fill(&mut source).expect("read"), Got::Bytes(8));
        assert_eq!(input.unread(), b"abcdefgh");
        input.consume(6);
        assert_eq!(input.fill(&mut source).expect("read"), Got::Bytes(4));
        assert_eq!(input.unread(), b"ghijkl");
        input.consume(6);
        assert_eq!(input.fill(&mut source).expect("read"), Got::End);
    }

    #[test]
    fn it_grows_for_a_large_frame_up_to_its_limit_and_no_further() {
        let mut input = Input::new(8, 20);
        let mut source = &[b'x'; 100][..];
        for (more, expected) in [(8, 8), (8, 16), (4, 20)] {
            assert_eq!(input.fill(&mut source).expect("read"), Got::Bytes(more));
            assert_eq!(input.unread().len(), expected);
        }
        assert!(input.fill(&mut source).is_err());
    }
}
