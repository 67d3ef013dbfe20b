//! Frames to bytes: whole frames, and the primitives of which the broker builds its MESSAGE frames.
//!
//! Everything appends to a buffer the caller owns and drains.

use bytes::{BufMut, BytesMut};
use memchr::memchr;

use super::command::Command;
use super::escape::{Escaping, Part, put_escaped};
use super::frame::Frame;
use super::headers::canonical_lines;
use super::version::Version;

/// Appends a command line.
pub fn put_command(dst: &mut BytesMut, command: Command) {
    let word = command.as_str().as_bytes();
    dst.reserve(word.len() + 1);
    dst.extend_from_slice(word);
    dst.put_u8(b'\n');
}

/// Appends a header line, escaped as the version demands (STOMP 1.2, "Value Encoding").
///
/// What a version cannot carry is changed rather than let out of its line: in 1.0 LF and CR become the two
/// characters `\n` and `\r` and a colon in a name `\c`; NUL is left out in every version.
pub fn put_header(dst: &mut BytesMut, version: Version, name: &[u8], value: &[u8]) {
    put_line(dst, version.escaping(), name, value);
}

fn put_line(dst: &mut BytesMut, escaping: Escaping, name: &[u8], value: &[u8]) {
    dst.reserve(name.len() + value.len() + 2);
    put_escaped(dst, escaping, Part::Name, name);
    dst.put_u8(b':');
    put_escaped(dst, escaping, Part::Value, value);
    dst.put_u8(b'\n');
}

/// Appends a header line with a decimal value. The name is written as it is.
pub fn put_decimal(dst: &mut BytesMut, name: &[u8], value: u64) {
    // The longest u64 has 20 digits.
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    let mut rest = value;
    loop {
        first -= 1;
        // The remainder of a division by ten fits a byte.
        digits[first] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = &digits[first..];
    dst.reserve(name.len() + digits.len() + 2);
    dst.extend_from_slice(name);
    dst.put_u8(b':');
    dst.extend_from_slice(digits);
    dst.put_u8(b'\n');
}

/// Appends a canonical header block, as [`Headers::retain`](super::Headers::retain) makes it.
///
/// It is copied as it is, except for a 1.0 client when something in it is escaped.
pub fn put_canonical_block(dst: &mut BytesMut, version: Version, block: &[u8]) {
    if version.escaping() == Escaping::Escaped || memchr(b'\\', block).is_none() {
        dst.extend_from_slice(block);
        return;
    }
    for (name, value) in canonical_lines(block) {
        put_line(dst, Escaping::Literal, &name, &value);
    }
}

/// Appends the empty line, the body, and the end of the frame: NUL and LF.
pub fn put_body(dst: &mut BytesMut, body: &[u8]) {
    dst.reserve(body.len() + 3);
    dst.put_u8(b'\n');
    dst.extend_from_slice(body);
    dst.extend_from_slice(b"\0\n");
}

/// Appends a whole frame.
///
/// `content-length` is written last, from the body, and only when there is one; a line of that name in the
/// frame's own headers is left out. A body in a frame that may have none must be free of NUL: its receiver
/// does not heed `content-length`.
pub fn put_frame(dst: &mut BytesMut, version: Version, frame: &Frame) {
    let escaping = if frame.command.is_literal() {
        Escaping::Literal
    } else {
        version.escaping()
    };
    if frame.command == Command::Unknown {
        dst.extend_from_slice(&frame.command_text);
        dst.put_u8(b'\n');
    } else {
        put_command(dst, frame.command);
    }
    let headers = &frame.headers;
    if headers.is_verbatim_for(escaping) && !headers.contains("content-length") {
        dst.extend_from_slice(headers.block());
    } else {
        for (name, value) in headers.iter() {
            if name.as_ref() != b"content-length" {
                put_line(dst, escaping, &name, &value);
            }
        }
    }
    if !frame.body.is_empty() {
        put_decimal(dst, b"content-length", frame.body.len() as u64);
    }
    put_body(dst, &frame.body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut dst = BytesMut::new();
        put(&mut dst);
        String::from_utf8(dst.to_vec()).expect("these tests write text")
    }

    #[test]
    fn decimals_of_every_length_are_written() {
        for value in [0, 7, 10, 65_535, u64::MAX] {
            assert_eq!(
                written(|dst| put_decimal(dst, b"n", value)),
                format!("n:{value}\n")
            );
        }
    }

    #[test]
    fn a_header_is_escaped_as_its_version_demands() {
        let put = |version| written(|dst| put_header(dst, version, b"a:b", b"c:d\\e\nf"));
        assert_eq!(put(Version::V1_2), "a\\cb:c\\cd\\\\e\\nf\n");
        assert_eq!(put(Version::V1_1), "a\\cb:c\\cd\\\\e\\nf\n");
        assert_eq!(put(Version::V1_0), "a\\cb:c:d\\e\\nf\n");
    }

    #[test]
    fn a_canonical_block_is_translated_for_a_literal_client_only() {
        let put = |version| written(|dst| put_canonical_block(dst, version, b"a:b\\cc\nd:e\n"));
        assert_eq!(put(Version::V1_2), "a:b\\cc\nd:e\n");
        assert_eq!(put(Version::V1_0), "a:b:c\nd:e\n");
    }

    #[test]
    fn content_length_is_written_only_for_a_body_and_never_twice() {
        let frame = Frame::new(Command::Receipt).with_header("receipt-id", "1");
        assert_eq!(
            written(|dst| put_frame(dst, Version::V1_2, &frame)),
            "RECEIPT\nreceipt-id:1\n\n\0\n"
        );
        let frame = Frame::new(Command::Message)
            .with_header("content-length", "99")
            .with_body("four");
        assert_eq!(
            written(|dst| put_frame(dst, Version::V1_2, &frame)),
            "MESSAGE\ncontent-length:4\n\nfour\0\n"
        );
    }

    #[test]
    fn connected_is_literal_in_every_version() {
        let frame = Frame::new(Command::Connected).with_header("server", "a:b");
        assert_eq!(
            written(|dst| put_frame(dst, Version::V1_2, &frame)),
            "CONNECTED\nserver:a:b\n\n\0\n"
        );
    }
}
