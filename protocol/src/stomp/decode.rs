//! Bytes to frames, incrementally.
//!
//! The decoder remembers how far it has looked, so however small the pieces a frame arrives in, each byte is
//! looked at once. A frame leaves the buffer whole, as slices of it; nothing is copied.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::command::Command;
use super::decode_error::DecodeError;
use super::escape::Escaping;
use super::frame::Frame;
use super::grammar::{self, ContentLength};
use super::headers::{Headers, Span, Spans};
use super::limits::Limits;
use super::version::Version;

/// The least a partial frame reserves for what is still to come, in bytes.
const RESERVE_MIN: usize = 4 << 10;

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
    /// Bytes of the frame looked at so far.
    scanned: usize,
    head: Head,
}

/// What the scan is looking for.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The first byte of a frame.
    Noise,
    /// The end of the command line.
    Command,
    /// The end of the header line that starts here.
    Headers { line: usize },
    /// The end of a body of known length.
    Counted { body: usize, length: usize },
    /// The NUL after the body that starts here.
    Terminated { body: usize },
}

/// What is known of the frame's head. Positions count from the first byte of the command.
#[derive(Debug)]
struct Head {
    command: Command,
    /// Length of the command, without its line end.
    command_len: usize,
    /// The header block.
    block: usize,
    block_end: usize,
    spans: Spans,
    escaping: Escaping,
    plain: bool,
    content_length: ContentLength,
}

impl Head {
    fn new() -> Self {
        Self {
            command: Command::Unknown,
            command_len: 0,
            block: 0,
            block_end: 0,
            spans: Spans::new(),
            escaping: Escaping::Literal,
            plain: true,
            content_length: ContentLength::Absent,
        }
    }
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
            scanned: 0,
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
            let more = match self.stage {
                Stage::Noise => self.skip_noise(src)?,
                Stage::Command => self.find_command(src)?,
                Stage::Headers { line } => self.find_headers(src, line)?,
                Stage::Counted { body, length } => {
                    return self.counted_body(src, body, length);
                }
                Stage::Terminated { body } => return self.terminated_body(src, body),
            };
            if !more {
                return Ok(None);
            }
        }
    }

    /// Drops what may stand between frames: NUL, LF, CR LF.
    fn skip_noise(&mut self, src: &mut BytesMut) -> Result<bool, DecodeError> {
        let noise = src
            .iter()
            .position(|byte| !matches!(byte, b'\n' | 0))
            .unwrap_or(src.len());
        src.advance(noise);
        match src.first() {
            None => Ok(false),
            Some(b'\r') => match src.get(1) {
                None => Ok(false),
                Some(b'\n') => {
                    src.advance(2);
                    Ok(true)
                }
                Some(_) => Err(DecodeError::LoneCarriageReturn),
            },
            Some(0x16) => Err(DecodeError::TlsHello),
            Some(_) => {
                self.stage = Stage::Command;
                self.scanned = 0;
                Ok(true)
            }
        }
    }

    fn find_command(&mut self, src: &BytesMut) -> Result<bool, DecodeError> {
        // One byte more than a command, for the CR.
        let window = &src[..src.len().min(Limits::COMMAND_BYTES + 2)];
        let Some(found) = memchr2(b'\n', 0, &window[self.scanned..]) else {
            self.scanned = window.len();
            return match window.len() {
                len if len < Limits::COMMAND_BYTES + 2 => Ok(false),
                _ => Err(grammar::foreign_protocol(src).unwrap_or(DecodeError::CommandTooLong)),
            };
        };
        let end = self.scanned + found;
        if window[end] == 0 {
            return Err(grammar::foreign_protocol(src).unwrap_or(DecodeError::MissingBlankLine));
        }
        let text = grammar::without_cr(&window[..end]);
        if text.contains(&b'\r') {
            return Err(DecodeError::LoneCarriageReturn);
        }
        let command = Command::parse(text);
        if command == Command::Unknown {
            if let Some(foreign) = grammar::foreign_protocol(text) {
                return Err(foreign);
            }
            if text.len() > Limits::COMMAND_BYTES {
                return Err(DecodeError::CommandTooLong);
            }
        }
        self.head.command = command;
        self.head.command_len = text.len();
        self.head.block = end + 1;
        self.head.spans.clear();
        self.head.plain = true;
        self.head.content_length = ContentLength::Absent;
        self.head.escaping = if command.is_literal() {
            Escaping::Literal
        } else {
            self.version.escaping()
        };
        self.scanned = end + 1;
        self.stage = Stage::Headers { line: end + 1 };
        Ok(true)
    }

    fn find_headers(&mut self, src: &BytesMut, mut line: usize) -> Result<bool, DecodeError> {
        let mut scanned = self.scanned;
        loop {
            let Some(found) = memchr2(b'\n', 0, &src[scanned..]) else {
                self.scanned = src.len();
                self.stage = Stage::Headers { line };
                self.check_partial_line(line, src.len())?;
                return Ok(false);
            };
            let end = scanned + found;
            self.check_partial_line(line, end)?;
            if src[end] == 0 {
                return Err(DecodeError::MissingBlankLine);
            }
            let text = grammar::without_cr(&src[line..end]);
            scanned = end + 1;
            self.check_size(scanned)?;
            if text.is_empty() {
                self.head.block_end = line;
                return self.end_headers(scanned);
            }
            self.add_line(src, line, text.len())?;
            line = scanned;
        }
    }

    fn add_line(&mut self, src: &BytesMut, start: usize, len: usize) -> Result<(), DecodeError> {
        let text = &src[start..start + len];
        if len > self.limits.header_line_bytes {
            return Err(self.header_line_too_long());
        }
        if self.head.spans.len() >= self.limits.headers {
            return Err(DecodeError::TooManyHeaders {
                limit: self.limits.headers,
            });
        }
        let line = match grammar::header_line(text, self.head.escaping) {
            Ok(line) => line,
            Err(DecodeError::MissingColon { .. }) if self.typed_end && text == b"^@" => {
                return Err(DecodeError::MissingBlankLine);
            }
            Err(error) => return Err(error),
        };
        let crlf = src[start + len] == b'\r';
        let blank =
            self.version == Version::V1_0 && matches!(line.value.first(), Some(b' ' | b'\t'));
        self.head.plain &= line.plain && !crlf && !blank;
        if line.name == b"content-length"
            && self.head.content_length == ContentLength::Absent
            && self.head.command.may_have_body()
        {
            self.head.content_length = grammar::content_length(line.value)?;
        }
        let at = |position: usize| {
            u32::try_from(position - self.head.block).map_err(|_| DecodeError::FrameTooLarge {
                limit: u32::MAX as usize,
            })
        };
        let span = Span {
            start: at(start)?,
            colon: at(start + line.name.len())?,
            end: at(start + len)?,
        };
        self.head.spans.push(span);
        Ok(())
    }

    fn end_headers(&mut self, body: usize) -> Result<bool, DecodeError> {
        self.scanned = body;
        self.stage = match self.head.content_length {
            ContentLength::Bytes(length) => {
                let whole = (body as u64).saturating_add(length).saturating_add(1);
                let length = usize::try_from(length)
                    .ok()
                    .filter(|_| whole <= self.limits.frame_bytes as u64);
                let Some(length) = length else {
                    return Err(self.frame_too_large());
                };
                Stage::Counted { body, length }
            }
            ContentLength::Absent | ContentLength::Ignored => Stage::Terminated { body },
        };
        Ok(true)
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
    ) -> Result<Option<Frame>, DecodeError> {
        let mut scanned = self.scanned;
        loop {
            let found = if self.typed_end {
                memchr2(0, b'^', &src[scanned..])
            } else {
                memchr(0, &src[scanned..])
            };
            let Some(found) = found else {
                self.scanned = src.len();
                break;
            };
            let at = scanned + found;
            self.check_size(at + 1)?;
            if src[at] == 0 {
                self.typed_end = false;
                return Ok(Some(self.take_frame(src, body, at - body, 1)));
            }
            match grammar::typed_end(&src[at..]) {
                grammar::TypedEnd::Complete(len) => {
                    self.check_size(at + len)?;
                    return Ok(Some(self.take_frame(src, body, at - body, len)));
                }
                grammar::TypedEnd::Incomplete => {
                    self.scanned = at;
                    break;
                }
                grammar::TypedEnd::No => scanned = at + 1,
            }
        }
        self.check_size(src.len())?;
        Ok(None)
    }

    /// Cuts the frame out of the buffer and begins anew.
    fn take_frame(&mut self, src: &mut BytesMut, body: usize, length: usize, end: usize) -> Frame {
        let head = &mut self.head;
        let command_text = if head.command == Command::Unknown {
            let text = src.split_to(head.command_len).freeze();
            src.advance(head.block - head.command_len);
            text
        } else {
            let word = &src[..head.command_len];
            let text = if word.len() == head.command.as_str().len() {
                Bytes::from_static(head.command.as_str().as_bytes())
            } else {
                Bytes::copy_from_slice(word)
            };
            src.advance(head.block);
            text
        };
        let block_len = head.block_end - head.block;
        let block = take(src, block_len);
        src.advance(body - head.block_end);
        let body = take(src, length);
        src.advance(end);
        self.stage = Stage::Noise;
        self.scanned = 0;
        Frame {
            command: head.command,
            command_text,
            headers: Headers::from_parts(
                block,
                std::mem::take(&mut head.spans),
                head.escaping,
                self.version == Version::V1_0 && !head.command.is_literal(),
                head.plain,
            ),
            body,
        }
    }

    /// Checks a line that reaches to `end` and has no end yet. Of two limits the one passed first counts, so
    /// that the error does not depend on how the bytes were cut.
    fn check_partial_line(&self, line: usize, end: usize) -> Result<(), DecodeError> {
        // One byte more than a line, for the CR.
        let longest = line
            .saturating_add(self.limits.header_line_bytes)
            .saturating_add(1);
        if end > longest && longest <= self.limits.frame_bytes {
            return Err(self.header_line_too_long());
        }
        self.check_size(end)
    }

    fn check_size(&self, bytes: usize) -> Result<(), DecodeError> {
        if bytes > self.limits.frame_bytes {
            return Err(self.frame_too_large());
        }
        Ok(())
    }

    fn frame_too_large(&self) -> DecodeError {
        DecodeError::FrameTooLarge {
            limit: self.limits.frame_bytes,
        }
    }

    fn header_line_too_long(&self) -> DecodeError {
        DecodeError::HeaderLineTooLong {
            limit: self.limits.header_line_bytes,
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
