//! Header lines as they came over the wire, and an index of them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use smallvec::SmallVec;

use super::escape::{Escaping, Part, put_escaped, unescape};

/// Lines found without allocation; frames of usual clients have fewer.
const INLINE_LINES: usize = 8;

/// Where one line lies in its block. The line's range ends where the next one starts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) colon: u32,
    /// End of the value, before the line end.
    pub(super) end: u32,
}

pub(super) type Spans = SmallVec<[Span; INLINE_LINES]>;

/// The header lines of a frame: the bytes of the wire, and an index of the lines in them.
///
/// Nothing is copied or unescaped before it is asked for. Names and values are bytes; no version limits them
/// to UTF-8. Of a repeated name the first line counts (STOMP 1.2, "Repeated Header Entries").
///
/// Two header lists are equal when they hold the same names and values in the same order, however escaped.
#[derive(Clone)]
pub struct Headers {
    block: Bytes,
    spans: Spans,
    escaping: Escaping,
    /// Blanks before a value do not belong to it (STOMP 1.0 writes `name: value`).
    trim: bool,
    /// Nothing in the block reads differently escaped or literal, and its line ends are LF: no backslash, no
    /// CR, no colon in a value, no blank to trim. Then raw is unescaped and canonical at once.
    plain: bool,
}

/// One raw header line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The name, escaped as it came.
    pub name: &'a [u8],
    /// The value, escaped as it came, without its line end.
    pub value: &'a [u8],
    /// Where the line lies in [`Headers::block`], its line end included.
    pub range: Range<usize>,
}

impl Headers {
    /// No header lines; the ones pushed will be escaped.
    #[must_use]
    pub fn new() -> Self {
        Self {
            block: Bytes::new(),
            spans: Spans::new(),
            escaping: Escaping::Escaped,
            trim: false,
            plain: true,
        }
    }

    pub(super) fn from_parts(
        block: Bytes,
        spans: Spans,
        escaping: Escaping,
        trim: bool,
        plain: bool,
    ) -> Self {
        Self {
            block,
            spans,
            escaping,
            trim,
            plain,
        }
    }

    /// Adds a line at the end, escaped.
    ///
    /// # Panics
    /// If the block would pass 4 GiB.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let at = |position: usize| {
            u32::try_from(position).expect("a header block is far smaller than 4 GiB")
        };
        let mut block = std::mem::take(&mut self.block)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let start = block.len();
        put_escaped(&mut block, self.escaping, Part::Name, name);
        let colon = block.len();
        block.extend_from_slice(b":");
        put_escaped(&mut block, self.escaping, Part::Value, value);
        let end = block.len();
        block.extend_from_slice(b"\n");
        self.plain &= memchr::memchr2(b'\\', b':', &block[colon + 1..end]).is_none()
            && memchr(b'\\', &block[start..colon]).is_none()
            && !self.trim;
        self.spans.push(Span {
            start: at(start),
            colon: at(colon),
            end: at(end),
        });
        self.block = block.freeze();
    }

    /// Treats blanks before values as STOMP 1.0 does; for the frame that turned out to begin a 1.0 session.
    pub(super) fn trim_values(&mut self) {
        self.trim = true;
        self.plain = false;
    }

    /// The value of the first line with this name, unescaped; borrowed when nothing in it is escaped.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.find(name).map(|span| self.value(span))
    }

    /// The value of the first line with this name as text. `None` when there is no such line, and also when
    /// its value is not UTF-8: a lossy text could make two different names one.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.get(name)? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        }
    }

    /// The value of the first line with this name, unescaped; a slice of the block without a copy when
    /// nothing in it is escaped. Such a slice keeps the whole read buffer alive.
    #[must_use]
    pub fn get_bytes(&self, name: &str) -> Option<Bytes> {
        match self.get(name)? {
            Cow::Borrowed(value) => Some(self.block.slice_ref(value)),
            Cow::Owned(value) => Some(Bytes::from(value)),
        }
    }

    /// Whether there is a line with this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Names and values, unescaped, in order, repeats included.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
        self.spans
            .iter()
            .map(|span| (self.name(span), self.value(span)))
    }

    /// The raw lines in order, repeats included.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.spans.iter().enumerate().map(|(index, span)| Line {
            name: self.raw_name(span),
            value: self.raw_value(span),
            range: self.range(index),
        })
    }

    /// The raw lines `name:value` with their line ends, without the empty line that ends them.
    #[must_use]
    pub fn block(&self) -> &Bytes {
        &self.block
    }

    /// The number of lines, repeats included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How the lines in [`Headers::block`] are written.
    #[must_use]
    pub fn escaping(&self) -> Escaping {
        self.escaping
    }

    /// Whether [`Headers::block`] can be put on the wire for `escaping` as it is.
    pub(super) fn is_verbatim_for(&self, escaping: Escaping) -> bool {
        self.plain || (self.escaping == escaping && self.spans.iter().all(|s| self.is_canonical(s)))
    }

    /// The lines whose unescaped name `keep` wants, in canonical form: escaped, each ended by a single LF,
    /// whatever version and line ends they came in. `keep` is asked once for each line, in order.
    ///
    /// One contiguous run of lines that are canonical already is a slice without a copy (it keeps the whole
    /// read buffer alive); nothing kept is empty and allocates nothing.
    pub fn retain(&self, mut keep: impl FnMut(&[u8]) -> bool) -> Bytes {
        let mut run = 0..0;
        let mut copied = BytesMut::new();
        for (index, span) in self.spans.iter().enumerate() {
            let kept = if self.plain {
                keep(self.raw_name(span))
            } else {
                keep(&self.name(span))
            };
            if !kept {
                continue;
            }
            let range = self.range(index);
            if self.plain || (self.escaping == Escaping::Escaped && self.is_canonical(span)) {
                if range.start == run.end && !run.is_empty() {
                    run.end = range.end;
                    continue;
                }
                copied.extend_from_slice(&self.block[run]);
                run = range;
            } else {
                copied.extend_from_slice(&self.block[std::mem::take(&mut run)]);
                put_escaped(&mut copied, Escaping::Escaped, Part::Name, &self.name(span));
                copied.extend_from_slice(b":");
                put_escaped(
                    &mut copied,
                    Escaping::Escaped,
                    Part::Value,
                    &self.value(span),
                );
                copied.extend_from_slice(b"\n");
            }
        }
        if copied.is_empty() {
            return self.block.slice(run);
        }
        copied.extend_from_slice(&self.block[run]);
        copied.freeze()
    }

    fn find(&self, name: &str) -> Option<&Span> {
        let name = name.as_bytes();
        if self.plain {
            self.spans.iter().find(|span| self.raw_name(span) == name)
        } else {
            self.spans
                .iter()
                .find(|span| self.name(span).as_ref() == name)
        }
    }

    fn raw_name(&self, span: &Span) -> &[u8] {
        &self.block[span.start as usize..span.colon as usize]
    }

    fn raw_value(&self, span: &Span) -> &[u8] {
        &self.block[span.colon as usize + 1..span.end as usize]
    }

    fn name(&self, span: &Span) -> Cow<'_, [u8]> {
        match self.escaping {
            Escaping::Escaped if !self.plain => unescape(self.raw_name(span)),
            _ => Cow::Borrowed(self.raw_name(span)),
        }
    }

    fn value(&self, span: &Span) -> Cow<'_, [u8]> {
        let mut raw = self.raw_value(span);
        if self.plain {
            return Cow::Borrowed(raw);
        }
        if self.trim {
            raw = trim_blanks(raw);
        }
        match self.escaping {
            Escaping::Escaped => unescape(raw),
            Escaping::Literal => Cow::Borrowed(raw),
        }
    }

    fn range(&self, index: usize) -> Range<usize> {
        let end = self
            .spans
            .get(index + 1)
            .map_or(self.block.len(), |next| next.start as usize);
        self.spans[index].start as usize..end
    }

    /// Whether a line, in its own escaping, is written the one way we would write it.
    fn is_canonical(&self, span: &Span) -> bool {
        let (name, value) = (self.raw_name(span), self.raw_value(span));
        let end = span.end as usize;
        self.block.get(end) == Some(&b'\n')
            && memchr(b'\r', name).is_none()
            && memchr(b'\r', value).is_none()
            && (self.escaping == Escaping::Literal || memchr(b':', value).is_none())
            && !(self.trim && trim_blanks(value).len() < value.len())
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

/// Shows names and values, except the value of `passcode`.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| {
                let shown = match name.as_ref() {
                    b"passcode" => "***".into(),
                    _ => value.escape_ascii().to_string(),
                };
                (name.escape_ascii().to_string(), shown)
            }))
            .finish()
    }
}

pub(super) fn trim_blanks(value: &[u8]) -> &[u8] {
    let blanks = value
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    &value[blanks..]
}

/// Names and values, unescaped, of a canonical block as [`Headers::retain`] makes it.
///
/// Any bytes are safe to pass: a line without a colon is a name with an empty value, and what is no escape
/// stays as it is.
pub fn canonical_lines(block: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        let colon = memchr(b':', line).unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        Some((unescape(&line[..colon]), unescape(value)))
    })
}
