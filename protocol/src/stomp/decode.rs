//! Bytes to frames, incrementally.
//!
//! The decoder remembers how far it has looked, so however small the pieces a frame arrives in, each byte is
//! looked at once. A frame leaves the buffer whole, as slices of it; nothing is copied.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::decode_error::DecodeError;
use super::frame::Frame;
use super::grammar::{self, ContentLength, TypedEnd};
use super::head::Head;
use super::headers::{Headers, Spans};
use super::limits::Limits;
use super::version::Version;

/// The least a partial frame reserves for what is still to come, in bytes.
const RESERVE_MIN: usize = 4 << 10;
/// Up to this size (bytes) an incomplete frame without `content-length` is taken to be nearly complete.
const UNCOUNTED_SMALL: usize = 128 << 10;

/// Takes frames out of a buffer of received bytes.
///
/// Accepted beyond the specification, because the field sends it: CR LF line ends in every version, any mix
/// of NUL, LF and CR LF between frames, legacy command words, and the two characters `^@` at a line end in
/// place of NUL, as people type it in telnet. `^@` is looked for in frames without `content-length`, and only
/// until the peer ends a frame with a real NUL: a program that does may well send a text with `^@` in it.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    version: Version,
    /// Whether `^@` at a line end still ends a frame.
    typed_end: bool,
    stage: Stage,
    head: Head,
}

/// What the scan is looking for.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The first byte of a frame.
    Noise,
    /// The end of the command line.
    Command,
    /// The empty line after the header lines.
    Headers,
    /// The end of a body of known length.
    Counted { body: usize, length: usize },
    /// The NUL after the body that begins here; up to `scanned` there is none.
    Terminated { body: usize, scanned: usize },
}

impl Decoder {
    /// A decoder of 1.0 frames, which is what a connection speaks until a version is agreed.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            version: Version::V1_0,
            typed_end: true,
            stage: Stage::Noise,
            head: Head::new(),
        }
    }

    /// Sets the version of the frames that follow.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Sets the limits of the frames that follow, and of what is still missing of a partial one.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the next frame out of `src`; `None` means that more bytes are needed.
    ///
    /// A partial frame stays in `src`: append to `src`, and change it in no other way. At most
    /// [`Limits::frame_bytes`] stay; room is reserved for what a `content-length` announces only as bytes
    /// really come in.
    ///
    /// # Errors
    /// What is wrong with the bytes. The decoder has lost its place then and must not be asked again.
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        loop {
            match self.stage {
                Stage::Noise => {
                    if !skip_noise(src)? {
                        return Ok(None);
                    }
                    self.head.begin();
                    self.stage = Stage::Command;
                }
                Stage::Command => {
                    if !self.head.find_command(src, self.version)? {
                        return Ok(None);
                    }
                    self.stage = Stage::Headers;
                }
                Stage::Headers => {
                    let found = self.head.find_lines(src, &self.limits, self.typed_end)?;
                    let Some(body) = found else {
                        return Ok(None);
                    };
                    self.stage = self.begin_body(body)?;
                }
                Stage::Counted { body, length } => return self.counted_body(src, body, length),
                Stage::Terminated { body, scanned } => {
                    return self.terminated_body(src, body, scanned);
                }
            }
        }
    }

    /// How many bytes the frame that [`Decoder::decode`] found incomplete in a buffer of `received` bytes will
    /// have at most. Where no `content-length` says it, a frame is taken to be a small one until it is not.
    pub(super) fn frame_bytes(&self, received: usize) -> usize {
        match self.stage {
            Stage::Counted { body, length } => body + length + 1,
            Stage::Noise | Stage::Command | Stage::Headers | Stage::Terminated { .. } => {
                if received <= UNCOUNTED_SMALL {
                    received
                } else {
                    self.limits.frame_bytes.max(received)
                }
            }
        }
    }

    /// The `receipt` of the frame that [`Decoder::decode`] could not read, as far as it was read: what is wrong
    /// with a frame is answered with its `receipt-id` too. `src` is what `decode` left.
    pub(super) fn receipt(&self, src: &[u8]) -> Option<Bytes> {
        match self.stage {
            Stage::Noise | Stage::Command => None,
            Stage::Headers | Stage::Counted { .. } | Stage::Terminated { .. } => {
                self.head.headers(src).get_bytes("receipt")
            }
        }
    }

    fn begin_body(&self, body: usize) -> Result<Stage, DecodeError> {
        let ContentLength::Bytes(length) = self.head.content_length else {
            return Ok(Stage::Terminated {
                body,
                scanned: body,
            });
        };
        let room = self.limits.frame_bytes.saturating_sub(body + 1);
        match usize::try_from(length) {
            Ok(length) if length <= room => Ok(Stage::Counted { body, length }),
            _ => Err(self.limits.frame_too_large()),
        }
    }

    fn counted_body(
        &mut self,
        src: &mut BytesMut,
        body: usize,
        length: usize,
    ) -> Result<Option<Frame>, DecodeError> {
        let end = body + length;
        match src.get(end) {
            Some(0) => {
                self.typed_end = false;
                Ok(Some(self.take_frame(src, body, length, 1)))
            }
            Some(_) => Err(DecodeError::MissingNul),
            None => {
                // As much again as has come, so that a claim costs memory only as it comes true.
                let missing = end + 1 - src.len();
                src.reserve(missing.min(src.len().max(RESERVE_MIN)));
                Ok(None)
            }
        }
    }

    fn terminated_body(
        &mut self,
        src: &mut BytesMut,
        body: usize,
        mut scanned: usize,
    ) -> Result<Option<Frame>, DecodeError> {
        loop {
            let found = if self.typed_end {
                memchr2(0, b'^', &src[scanned..])
            } else {
                memchr(0, &src[scanned..])
            };
            let Some(found) = found else {
                scanned = src.len();
                break;
            };
            let at = scanned + found;
            self.limits.check_frame(at + 1)?;
            if src[at] == 0 {
                self.typed_end = false;
                return Ok(Some(self.take_frame(src, body, at - body, 1)));
            }
            match grammar::typed_end(&src[at..]) {
                TypedEnd::Complete(len) => {
                    self.limits.check_frame(at + len)?;
                    return Ok(Some(self.take_frame(src, body, at - body, len)));
                }
                TypedEnd::Incomplete => {
                    scanned = at;
                    break;
                }
                TypedEnd::No => scanned = at + 1,
            }
        }
        self.limits.check_frame(src.len())?;
        self.stage = Stage::Terminated { body, scanned };
        Ok(None)
    }

    /// Cuts the frame out of the buffer and begins anew.
    fn take_frame(&mut self, src: &mut BytesMut, body: usize, length: usize, end: usize) -> Frame {
        self.stage = Stage::Noise;
        let head = &mut self.head;
        let command = head.command;
        let command_text = if command.as_str().len() == head.command_len {
            Bytes::from_static(command.as_str().as_bytes())
        } else {
            // Unknown, or a legacy word.
            Bytes::copy_from_slice(&src[..head.command_len])
        };
        src.advance(head.block);
        let block = take(src, head.block_end - head.block);
        src.advance(body - head.block_end);
        let body = take(src, length);
        src.advance(end);
        // A short index is cheaper to copy than to move with its unused part.
        let spans = if head.spans.spilled() {
            std::mem::take(&mut head.spans)
        } else {
            Spans::from_slice(&head.spans)
        };
        Frame {
            command,
            command_text,
            headers: Headers::from_parts(block, spans, head.escaping, head.trim, head.plain),
            body,
        }
    }
}

/// Drops what may stand between frames: NUL, LF, CR LF. `false` means that more bytes are needed.
fn skip_noise(src: &mut BytesMut) -> Result<bool, DecodeError> {
    loop {
        let noise = src.iter().position(|byte| !matches!(byte, b'\n' | 0));
        src.advance(noise.unwrap_or(src.len()));
        match (src.first(), src.get(1)) {
            (None, _) | (Some(b'\r'), None) => return Ok(false),
            (Some(b'\r'), Some(b'\n')) => src.advance(2),
            (Some(b'\r'), Some(_)) => return Err(DecodeError::LoneCarriageReturn),
            (Some(0x16), _) => return Err(DecodeError::TlsHello),
            (Some(_), _) => return Ok(true),
        }
    }
}

/// Splits off a part without a reference to the buffer when it is empty.
fn take(src: &mut BytesMut, length: usize) -> Bytes {
    match length {
        0 => Bytes::new(),
        _ => src.split_to(length).freeze(),
    }
}
