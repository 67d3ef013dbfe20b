//! Bytes as text and back, lossless, leaving what is text alone.
//!
//! `%` followed by two upper-case hexadecimal digits of a value from 80 up stands for that byte: exactly the bytes that
//! can be invalid in UTF-8, so plain names such as `100%` or `a%2Fb` stay as they are. A `%` of the name itself is
//! written `%25` only where it would otherwise read as an escape.

use std::borrow::Cow;

/// The byte that an escape at the start of `text` (which begins with `%`) stands for.
fn escape_at(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = *text else {
        return None;
    };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let byte = digit(high)? << 4 | digit(low)?;
    (byte >= 0x80 || byte == b'%').then_some(byte)
}

/// The bytes as text.
pub(in crate::engine) fn escaped(bytes: &[u8]) -> Cow<'_, str> {
    let plain = !bytes.contains(&b'%');
    if let (true, Ok(text)) = (plain, std::str::from_utf8(bytes)) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for (at, char) in chunk.valid().char_indices() {
            // The next invalid byte is written with a `%` of its own, so looking at this chunk alone is enough.
            if char == '%' && escape_at(&chunk.valid().as_bytes()[at..]).is_some() {
                text.push_str("%25");
            } else {
                text.push(char);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(text)
}

/// The bytes that a text made by [`escaped`] stands for; any text stands for some bytes.
pub(in crate::engine) fn unescaped(text: String) -> Vec<u8> {
    let text = text.into_bytes();
    if !text.contains(&b'%') {
        return text;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_slice();
    while let [first, tail @ ..] = rest {
        match escape_at(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_it_is_escaped() {
        for (bytes, text) in [
            (b"orders".as_slice(), "orders"),
            (b"100%", "100%"),
            (b"a%2Fb", "a%2Fb"),
            (b"\xff", "%FF"),
            (b"%\xff", "%%FF"),
            (b"%FF", "%25FF"),
            (b"%25", "%2525"),
            (b"%ff", "%ff"),
            ("é".as_bytes(), "é"),
        ] {
            assert_eq!(escaped(bytes), text);
            assert_eq!(unescaped(text.to_owned()), bytes, "{text}");
        }
    }
}
