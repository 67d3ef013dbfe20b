//! The head of a frame: its command and its header lines, found incrementally.

use bytes::Bytes;
use memchr::memchr2;

use super::command::Command;
use super::decode_error::DecodeError;
use super::escape::Escaping;
use super::grammar::{self, ContentLength};
use super::headers::{Headers, Span, Spans};
use super::limits::Limits;
use super::scan::Specials;
use super::version::Version;

/// What is known of the head so far. Positions count from the first byte of the command.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) command: Command,
    /// Length of the command, without its line end.
    pub(super) command_len: usize,
    /// Where the header block begins and, once found, ends.
    pub(super) block: usize,
    pub(super) block_end: usize,
    pub(super) spans: Spans,
    pub(super) escaping: Escaping,
    /// Blanks before values do not belong to them.
    pub(super) trim: bool,
    /// See [`Headers`](super::Headers).
    pub(super) plain: bool,
    pub(super) content_length: ContentLength,
    /// The line not ended yet.
    line: Line,
    /// Bytes looked at.
    scanned: usize,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    start: usize,
    colon: Option<usize>,
    /// It has a backslash.
    escaped: bool,
}

impl Line {
    const fn at(start: usize) -> Self {
        Self {
            start,
            colon: None,
            escaped: false,
        }
    }
}

impl Head {
    pub(super) fn new() -> Self {
        Self {
            command: Command::Unknown,
            command_len: 0,
            block: 0,
            block_end: 0,
            spans: Spans::new(),
            escaping: Escaping::Literal,
            trim: false,
            plain: true,
            content_length: ContentLength::Absent,
            line: Line::at(0),
            scanned: 0,
        }
    }

    /// Forgets the frame before.
    pub(super) fn begin(&mut self) {
        self.scanned = 0;
    }

    /// Looks for the command line; `false` means that more bytes are needed.
    pub(super) fn find_command(
        &mut self,
        src: &[u8],
        version: Version,
    ) -> Result<bool, DecodeError> {
        // One byte more than a command for the CR, and one for the LF.
        const WINDOW: usize = Limits::COMMAND_BYTES + 2;
        let window = &src[..src.len().min(WINDOW)];
        let Some(found) = memchr2(b'\n', 0, &window[self.scanned..]) else {
            self.scanned = window.len();
            return match window.len() {
                WINDOW => {
                    Err(grammar::foreign_protocol(src).unwrap_or(DecodeError::CommandTooLong))
                }
                _ => Ok(false),
            };
        };
        let end = self.scanned + found;
        if window[end] == 0 {
            return Err(grammar::foreign_protocol(src).unwrap_or(DecodeError::MissingBlankLine));
        }
        let text = grammar::without_cr(&window[..end]);
        self.command = Command::parse(text);
        if self.command == Command::Unknown {
            check_unknown_command(text)?;
        }
        self.command_len = text.len();
        self.escaping = match self.command.is_literal() {
            true => Escaping::Literal,
            false => version.escaping(),
        };
        self.trim = version == Version::V1_0 && !self.command.is_literal();
        self.spans.clear();
        self.plain = true;
        self.content_length = ContentLength::Absent;
        self.block = end + 1;
        self.line = Line::at(end + 1);
        self.scanned = end + 1;
        Ok(true)
    }

    /// Looks for the empty line after the header lines; gives the position of the body, or `None` when more
    /// bytes are needed. `typed_end` tells whether a typed `^@` would end a frame.
    pub(super) fn find_lines(
        &mut self,
        src: &[u8],
        limits: &Limits,
        typed_end: bool,
    ) -> Result<Option<usize>, DecodeError> {
        let mut line = self.line;
        for (at, byte) in Specials::new(src, self.scanned) {
            match byte {
                b':' if line.colon.is_none() => line.colon = Some(at),
                b':' | b'\r' => self.plain = false,
                b'\\' => {
                    self.plain = false;
                    line.escaped = true;
                }
                b'\n' => {
                    let len = match src[at - 1] {
                        b'\r' if at > line.start => at - 1 - line.start,
                        _ => at - line.start,
                    };
                    check_line(limits, line.start, at, len)?;
                    if len == 0 {
                        self.block_end = line.start;
                        return Ok(Some(at + 1));
                    }
                    self.add_line(&src[..line.start + len], line, limits, typed_end)?;
                    line = Line::at(at + 1);
                }
                0 => {
                    check_partial_line(limits, line.start, at)?;
                    return Err(DecodeError::MissingBlankLine);
                }
                _ => {}
            }
        }
        check_partial_line(limits, line.start, src.len())?;
        self.line = line;
        self.scanned = src.len();
        Ok(None)
    }

    /// A copy of the lines found so far.
    pub(super) fn headers(&self, src: &[u8]) -> Headers {
        let end = self.spans.last().map_or(0, |span| span.end as usize);
        let block = Bytes::copy_from_slice(&src[self.block..self.block + end]);
        Headers::from_parts(
            block,
            self.spans.clone(),
            self.escaping,
            self.trim,
            self.plain,
        )
    }

    /// Adds the line with which `src` ends to the index.
    fn add_line(
        &mut self,
        src: &[u8],
        line: Line,
        limits: &Limits,
        typed_end: bool,
    ) -> Result<(), DecodeError> {
        if self.spans.len() >= limits.headers {
            return Err(DecodeError::TooManyHeaders {
                limit: limits.headers,
            });
        }
        let Some(colon) = line.colon else {
            return Err(match &src[line.start..] {
                b"^@" if typed_end => DecodeError::MissingBlankLine,
                text => DecodeError::MissingColon {
                    line: grammar::quote(text),
                },
            });
        };
        if colon == line.start {
            return Err(DecodeError::EmptyHeaderName);
        }
        if line.escaped && self.escaping == Escaping::Escaped {
            grammar::check_escapes(&src[line.start..])?;
        }
        let (name, value) = (&src[line.start..colon], &src[colon + 1..]);
        if self.trim && matches!(value.first(), Some(b' ' | b'\t')) {
            self.plain = false;
        }
        if name == b"content-length"
            && self.content_length == ContentLength::Absent
            && self.command.may_have_body()
        {
            self.content_length = grammar::content_length(value)?;
        }
        let at = |position: usize| {
            u32::try_from(position - self.block).map_err(|_| DecodeError::FrameTooLarge {
                limit: u32::MAX as usize,
            })
        };
        let span = Span {
            start: at(line.start)?,
            colon: at(colon)?,
            end: at(src.len())?,
        };
        self.spans.push(span);
        Ok(())
    }
}

/// What is wrong with a command that is none: a CR in it, another protocol, or its length. Otherwise it is
/// only unknown, which is for the machine to say.
fn check_unknown_command(text: &[u8]) -> Result<(), DecodeError> {
    if text.contains(&b'\r') {
        return Err(DecodeError::LoneCarriageReturn);
    }
    if let Some(foreign) = grammar::foreign_protocol(text) {
        return Err(foreign);
    }
    if text.len() > Limits::COMMAND_BYTES {
        return Err(DecodeError::CommandTooLong);
    }
    Ok(())
}

/// Checks a line of `len` bytes that ends with the LF at `end`.
fn check_line(limits: &Limits, start: usize, end: usize, len: usize) -> Result<(), DecodeError> {
    if end < limits.frame_bytes && end - start <= limits.header_line_bytes {
        return Ok(());
    }
    check_partial_line(limits, start, end)?;
    limits.check_frame(end + 1)?;
    if len > limits.header_line_bytes {
        return Err(limits.header_line_too_long());
    }
    Ok(())
}

/// Checks a line that reaches to `end` and has no end yet. Of two limits the one passed first counts, so
/// that the error does not depend on how the bytes were cut.
fn check_partial_line(limits: &Limits, start: usize, end: usize) -> Result<(), DecodeError> {
    // One byte more than a line, for the CR.
    let longest = start
        .saturating_add(limits.header_line_bytes)
        .saturating_add(1);
    if end > longest && longest <= limits.frame_bytes {
        return Err(limits.header_line_too_long());
    }
    limits.check_frame(end)
}
