//! The small grammars of STOMP, as nom parsers over bytes that are known to be complete.

use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::bytes::streaming;
use nom::character::complete::{char, digit1, space0};
use nom::combinator::{all_consuming, map, opt, recognize, value};
use nom::sequence::{delimited, separated_pair};
use nom::{IResult, Parser};

use super::decode_error::DecodeError;
use super::escape::find_bad_escape;

/// How much of a peer's bytes an error quotes.
const QUOTE_BYTES: usize = 64;

/// Checks the escape sequences of a header line.
///
/// # Errors
/// `BadEscape` for a backslash that begins none.
pub(super) fn check_escapes(line: &[u8]) -> Result<(), DecodeError> {
    let Some(next) = find_bad_escape(line) else {
        return Ok(());
    };
    let mut sequence = vec![b'\\'];
    sequence.extend(next);
    Err(DecodeError::BadEscape {
        sequence: quote(&sequence),
    })
}

/// What a frame says about the length of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentLength {
    /// No such header.
    Absent,
    /// A header that is no number; as if absent, as the field has it, but a repeat does not replace it.
    Ignored,
    /// The number of bytes; `u64::MAX` when larger than that.
    Bytes(u64),
}

/// Reads the value of `content-length`; blanks around the number are forgiven.
///
/// # Errors
/// `BadContentLength` for a negative number.
pub(super) fn content_length(text: &[u8]) -> Result<ContentLength, DecodeError> {
    let number: IResult<&[u8], (Option<char>, &[u8])> =
        all_consuming(delimited(space0, (opt(char('-')), digit1), space0)).parse(text);
    match number {
        Ok((_, (None, digits))) => Ok(ContentLength::Bytes(decimal(digits))),
        Ok((_, (Some(_), _))) => Err(DecodeError::BadContentLength { value: quote(text) }),
        Err(_) => Ok(ContentLength::Ignored),
    }
}

/// The value of decimal digits, `u64::MAX` when it is larger.
fn decimal(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number: u64, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    })
}

/// Reads a `heart-beat` header: two whole numbers of milliseconds with a comma between; negative ones mean 0.
///
/// `None` when it is malformed.
pub(super) fn heart_beat(text: &[u8]) -> Option<(u64, u64)> {
    fn side(input: &[u8]) -> IResult<&[u8], u64> {
        delimited(
            space0,
            alt((
                map(digit1, decimal),
                value(0, recognize((char('-'), digit1))),
            )),
            space0,
        )
        .parse(input)
    }
    let both: IResult<&[u8], (u64, u64)> =
        all_consuming(separated_pair(side, char(','), side)).parse(text);
    both.ok().map(|(_, both)| both)
}

/// Whether a typed `^@` ends the frame here.
pub(super) enum TypedEnd {
    /// Yes; it and its line end take this many bytes.
    Complete(usize),
    /// The bytes that decide have not come yet.
    Incomplete,
    /// No, it is part of the body.
    No,
}

/// Looks for `^@` and a line end.
pub(super) fn typed_end(text: &[u8]) -> TypedEnd {
    let end: IResult<&[u8], &[u8]> = recognize((
        streaming::tag(&b"^@"[..]),
        opt(streaming::tag(&b"\r"[..])),
        streaming::tag(&b"\n"[..]),
    ))
    .parse(text);
    match end {
        Ok((_, end)) => TypedEnd::Complete(end.len()),
        Err(nom::Err::Incomplete(_)) => TypedEnd::Incomplete,
        Err(_) => TypedEnd::No,
    }
}

/// Recognises the first bytes of protocols whose clients end up on the wrong port.
pub(super) fn foreign_protocol(text: &[u8]) -> Option<DecodeError> {
    let method: IResult<&[u8], &[u8]> = alt((
        tag(&b"GET "[..]),
        tag(&b"HEAD "[..]),
        tag(&b"POST "[..]),
        tag(&b"PUT "[..]),
        tag(&b"DELETE "[..]),
        tag(&b"OPTIONS "[..]),
        tag(&b"PATCH "[..]),
        tag(&b"PRI * HTTP/"[..]),
    ))
    .parse(text);
    if method.is_ok() {
        return Some(DecodeError::Http);
    }
    text.starts_with(b"AMQP").then_some(DecodeError::Amqp)
}

/// A line without the CR before its LF.
pub(super) fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The start of a peer's bytes, printable.
pub(super) fn quote(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(QUOTE_BYTES)];
    // A quoted backslash stays single: the sentence shows what the peer sent.
    String::from_utf8_lossy(shown)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
