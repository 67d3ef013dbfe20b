//! What one frame may cost before it is refused.

use super::decode_error::DecodeError;

/// Bounds on a single frame, checked before memory is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole frame, from its command to its NUL. Default: a body of 16 MiB and 64 KiB around it.
    pub frame_bytes: usize,
    /// Header lines of a frame. Every line counts, repeats of a name too, because every line takes a place
    /// in the index. Default 100.
    pub headers: usize,
    /// Bytes of one header line without its line end. Default 64 KiB.
    pub header_line_bytes: usize,
}

impl Limits {
    /// Bytes of a command line; the longest command has 11.
    pub const COMMAND_BYTES: usize = 32;

    /// The bounds for a peer that has not proved who it is: 64 KiB for a whole frame.
    #[must_use]
    pub const fn before_login() -> Self {
        Self {
            frame_bytes: 64 << 10,
            headers: 100,
            header_line_bytes: 64 << 10,
        }
    }

    pub(super) fn check_frame(&self, bytes: usize) -> Result<(), DecodeError> {
        if bytes > self.frame_bytes {
            return Err(self.frame_too_large());
        }
        Ok(())
    }

    pub(super) const fn frame_too_large(&self) -> DecodeError {
        DecodeError::FrameTooLarge {
            limit: self.frame_bytes,
        }
    }

    pub(super) const fn header_line_too_long(&self) -> DecodeError {
        DecodeError::HeaderLineTooLong {
            limit: self.header_line_bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: (16 << 20) + (64 << 10),
            headers: 100,
            header_line_bytes: 64 << 10,
        }
    }
}
