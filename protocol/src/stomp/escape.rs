//! Escape sequences in header lines (STOMP 1.2, "Value Encoding").
//!
//! `\n` is LF, `\r` is CR, `\c` is a colon, `\\` a backslash. STOMP 1.1 lacks `\r`, but a bare CR could not
//! be told from a CR LF line end, so `\r` is read and written in 1.1 as in 1.2, as the field does.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use memchr::memchr;

/// How the names and values of a header block are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    /// As they are: STOMP 1.0, and CONNECT and CONNECTED in every version.
    Literal,
    /// With the escape sequences of STOMP 1.1 and 1.2.
    Escaped,
}

/// Finds the first sequence that is no escape: the byte after its backslash, or `None` when the backslash
/// is the last byte.
pub(super) fn find_bad_escape(raw: &[u8]) -> Option<Option<u8>> {
    let mut rest = raw;
    while let Some(at) = memchr(b'\\', rest) {
        match rest.get(at + 1) {
            Some(b'n' | b'r' | b'c' | b'\\') => rest = &rest[at + 2..],
            other => return Some(other.copied()),
        }
    }
    None
}

/// Undoes the escapes; borrowed when there are none. What is no escape stays as it is.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(b'\\', raw) else {
        return Cow::Borrowed(raw);
    };
    let mut plain = Vec::with_capacity(raw.len());
    plain.extend_from_slice(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some((&byte, tail)) = rest.split_first() {
        let meant = match (byte, tail.first()) {
            (b'\\', Some(b'n')) => b'\n',
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b'c')) => b':',
            (b'\\', Some(b'\\')) => b'\\',
            _ => {
                plain.push(byte);
                rest = tail;
                continue;
            }
        };
        plain.push(meant);
        rest = &tail[1..];
    }
    Cow::Owned(plain)
}

/// Which part of a header line is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Name,
    Value,
}

/// Writes a name or a value.
///
/// A literal line cannot carry LF, CR or, in a name, a colon: they are written as the later versions' escape,
/// so that no value can end its line. NUL has no form in any version and is left out.
pub(super) fn put_escaped(dst: &mut BytesMut, escaping: Escaping, part: Part, plain: &[u8]) {
    if !needs_escape(plain) {
        dst.extend_from_slice(plain);
        return;
    }
    dst.reserve(plain.len() + 8);
    for &byte in plain {
        match (byte, escaping, part) {
            (0, _, _) => {}
            (b'\n', _, _) => dst.put_slice(b"\\n"),
            (b'\r', _, _) => dst.put_slice(b"\\r"),
            (b'\\', Escaping::Escaped, _) => dst.put_slice(b"\\\\"),
            (b':', Escaping::Escaped, _) | (b':', _, Part::Name) => dst.put_slice(b"\\c"),
            _ => dst.put_u8(byte),
        }
    }
}

/// Whether any byte may need attention. No early exit, so that the compiler vectorises it.
fn needs_escape(plain: &[u8]) -> bool {
    plain.iter().fold(false, |found, &byte| {
        found | (byte == b'\\') | (byte == b':') | (byte == b'\n') | (byte == b'\r') | (byte == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(escaping: Escaping, part: Part, plain: &[u8]) -> Vec<u8> {
        let mut dst = BytesMut::new();
        put_escaped(&mut dst, escaping, part, plain);
        dst.to_vec()
    }

    #[test]
    fn every_escape_is_written_and_undone() {
        let plain = b"a:b\\c\nd\re";
        let raw = written(Escaping::Escaped, Part::Value, plain);
        assert_eq!(raw, b"a\\cb\\\\c\\nd\\re");
        assert_eq!(unescape(&raw).as_ref(), plain);
        assert_eq!(find_bad_escape(&raw), None);
    }

    #[test]
    fn a_literal_value_keeps_colon_and_backslash_but_cannot_end_its_line() {
        assert_eq!(
            written(Escaping::Literal, Part::Value, b"a:b\\c\nd"),
            b"a:b\\c\\nd"
        );
        assert_eq!(written(Escaping::Literal, Part::Name, b"a:b"), b"a\\cb");
        assert_eq!(written(Escaping::Escaped, Part::Value, b"a\0b"), b"ab");
    }

    #[test]
    fn what_is_no_escape_is_found_and_left_alone() {
        assert_eq!(find_bad_escape(b"\\\\\\t"), Some(Some(b't')));
        assert_eq!(find_bad_escape(b"a\\"), Some(None));
        assert_eq!(unescape(b"a\\tb\\").as_ref(), b"a\\tb\\");
    }

    #[test]
    fn nothing_escaped_is_borrowed() {
        assert!(matches!(unescape(b"plain"), Cow::Borrowed(_)));
    }
}
