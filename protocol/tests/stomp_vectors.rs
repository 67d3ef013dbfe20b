//! Octets and the frames they are, octets and the error they are. Every vector is fed whole and byte by
//! byte; how bytes are cut must never matter.

use Command::{Ack, Connect, Error, Message, Send, Stomp, Subscribe, Unknown, Unsubscribe};
use Version::{V1_0, V1_1, V1_2};
use bytes::BytesMut;
use millpond_protocol::stomp::{Command, DecodeError, Decoder, Frame, Limits, Version};

/// A frame in the table: command, headers unescaped in order, body.
type Expected = (
    Command,
    &'static [(&'static [u8], &'static [u8])],
    &'static [u8],
);

/// What came out of some bytes: the frames, and the error that ended them.
type Outcome = (Vec<Frame>, Option<DecodeError>);

const SMALL: Limits = Limits {
    frame_bytes: 200,
    headers: 3,
    header_line_bytes: 40,
};

fn decode(version: Version, limits: Limits, wire: &[u8], piece: usize) -> Outcome {
    let mut decoder = Decoder::new(limits);
    decoder.set_version(version);
    let mut src = BytesMut::new();
    let mut frames = Vec::new();
    for piece in wire.chunks(piece) {
        src.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut src) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// Decodes whole, byte by byte, and in pieces between; all must agree.
fn decode_every_way(version: Version, limits: Limits, wire: &[u8]) -> Outcome {
    let whole = decode(version, limits, wire, wire.len().max(1));
    for piece in [1, 2, 3, 7] {
        let cut = decode(version, limits, wire, piece);
        assert_eq!(cut, whole, "pieces of {piece}: {}", wire.escape_ascii());
    }
    whole
}

fn check_frames(version: Version, wire: &[u8], expected: &[Expected]) {
    let (frames, error) = decode_every_way(version, Limits::default(), wire);
    let shown = wire.escape_ascii();
    assert_eq!(error, None, "{shown}");
    assert_eq!(frames.len(), expected.len(), "{shown}: {frames:?}");
    for (frame, (command, headers, body)) in frames.iter().zip(expected) {
        assert_eq!(frame.command, *command, "{shown}");
        let got: Vec<_> = frame
            .headers
            .iter()
            .map(|(n, v)| (n.into_owned(), v.into_owned()))
            .collect();
        let want: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.to_vec(), v.to_vec()))
            .collect();
        assert_eq!(got, want, "{shown}");
        assert_eq!(frame.body.as_ref(), *body, "{shown}");
    }
}

fn check_error(version: Version, limits: Limits, wire: &[u8], code: &str) {
    let (frames, error) = decode_every_way(version, limits, wire);
    let shown = wire.escape_ascii();
    let error = error.unwrap_or_else(|| panic!("{shown} must be refused, but gave {frames:?}"));
    assert_eq!(error.code(), code, "{shown}: {error}");
    assert!(error.to_string().ends_with('.'), "a sentence: {error}");
}

#[test]
fn whole_frames() {
    check_frames(V1_2, b"SEND\n\n\0", &[(Send, &[], b"")]);
    check_frames(
        V1_2,
        b"SEND\ndestination:/queue/a\n\nhello\0\n",
        &[(Send, &[(b"destination", b"/queue/a")], b"hello")],
    );
    check_frames(
        V1_2,
        b"STOMP\naccept-version:1.1,1.2\nhost:/\n\n\0",
        &[(
            Stomp,
            &[(b"accept-version", b"1.1,1.2"), (b"host", b"/")],
            b"",
        )],
    );
    check_frames(
        V1_2,
        b"ACK\nid:1\n\n\0ACK\nid:2\n\n\0",
        &[(Ack, &[(b"id", b"1")], b""), (Ack, &[(b"id", b"2")], b"")],
    );
    check_frames(
        V1_0,
        b"SUB\ndestination:a\n\n\0\nUNSUB\ndestination:a\n\n\0\n",
        &[
            (Subscribe, &[(b"destination", b"a")], b""),
            (Unsubscribe, &[(b"destination", b"a")], b""),
        ],
    );
    check_frames(V1_2, b"\n\n", &[]);
}

#[test]
fn an_unknown_command_is_a_frame_that_keeps_its_word() {
    let (frames, error) = decode_every_way(V1_2, SMALL, b"JUMP\r\nhow:high\n\nup\0SUB\n\n\0");
    assert_eq!(error, None);
    assert_eq!(frames[0].command, Unknown);
    assert_eq!(frames[0].command_text.as_ref(), b"JUMP");
    assert_eq!(frames[0].header("how").as_deref(), Some(&b"high"[..]));
    assert_eq!(frames[0].body.as_ref(), b"up");
    assert_eq!(frames[1].command_text.as_ref(), b"SUB");
}

#[test]
fn noise_between_frames() {
    check_frames(
        V1_2,
        b"\n\r\n\0\0\nACK\n\n\0\r\n\n\0\r\nACK\n\n\0\0\n\n",
        &[(Ack, &[], b""), (Ack, &[], b"")],
    );
}

#[test]
fn carriage_returns_before_line_feeds() {
    for version in Version::ALL {
        check_frames(
            version,
            b"SEND\r\ndestination:a\r\nb:c\r\n\r\nx\r\ny\0\r\n",
            &[(Send, &[(b"destination", b"a"), (b"b", b"c")], b"x\r\ny")],
        );
    }
    // Mixed, and one inside a value, which belongs to it.
    check_frames(
        V1_1,
        b"SEND\na:b\rc\r\nd:e\n\r\n\0",
        &[(Send, &[(b"a", b"b\rc"), (b"d", b"e")], b"")],
    );
}

#[test]
fn header_lines() {
    // The first colon splits; further ones belong to the value. Values are not trimmed from 1.1 on.
    check_frames(
        V1_2,
        b"SEND\nurl:http://a:1/\nempty:\nblank: x \n\n\0",
        &[(
            Send,
            &[
                (b"url", b"http://a:1/"),
                (b"empty", b""),
                (b"blank", b" x "),
            ],
            b"",
        )],
    );
    // In 1.0 blanks before a value are dropped.
    check_frames(
        V1_0,
        b"SEND\ndestination: \t/queue/a \nx:y\n\n\0",
        &[(Send, &[(b"destination", b"/queue/a "), (b"x", b"y")], b"")],
    );
    // Not UTF-8.
    check_frames(
        V1_2,
        b"SEND\n\xff\x01:\xfe\x80\n\n\0",
        &[(Send, &[(b"\xff\x01", b"\xfe\x80")], b"")],
    );
}

#[test]
fn escapes_by_version() {
    let wire = b"SEND\na\\cb:c\\\\d\\ne\\rf\n\n\0";
    for version in [V1_1, V1_2] {
        check_frames(version, wire, &[(Send, &[(b"a:b", b"c\\d\ne\rf")], b"")]);
        check_error(version, SMALL, b"SEND\na:b\\t\n\n\0", "bad_escape");
        check_error(version, SMALL, b"SEND\na\\x:b\n\n\0", "bad_escape");
        check_error(version, SMALL, b"SEND\na:b\\\n\n\0", "bad_escape");
        check_error(version, SMALL, b"SEND\na:b\\\r\n\n\0", "bad_escape");
    }
    check_frames(V1_0, wire, &[(Send, &[(b"a\\cb", b"c\\\\d\\ne\\rf")], b"")]);
    // CONNECT is literal in every version.
    for version in Version::ALL {
        check_frames(
            version,
            b"CONNECT\npasscode:a\\tb\\\n\n\0",
            &[(Connect, &[(b"passcode", b"a\\tb\\")], b"")],
        );
    }
}

#[test]
fn the_first_of_repeated_headers_counts() {
    let (frames, _) = decode_every_way(
        V1_2,
        Limits::default(),
        b"SEND\nfoo:1\nfoo:2\ncontent-length:1\ncontent-length:9\n\nx\0",
    );
    assert_eq!(frames[0].header("foo").as_deref(), Some(&b"1"[..]));
    assert_eq!(frames[0].headers.len(), 4);
    assert_eq!(frames[0].body.as_ref(), b"x");
}

#[test]
fn bodies_with_content_length() {
    for (wire, command, value, body) in [
        (
            &b"SEND\ncontent-length:5\n\na\0b\0c\0"[..],
            Send,
            &b"5"[..],
            &b"a\0b\0c"[..],
        ),
        (b"MESSAGE\ncontent-length:1\n\n\0\0", Message, b"1", b"\0"),
        (b"ERROR\ncontent-length: 2 \n\nno\0", Error, b" 2 ", b"no"),
        (b"SEND\ncontent-length:0\n\n\0", Send, b"0", b""),
        // What is no number is as good as absent.
        (b"SEND\ncontent-length:x\n\nab\0", Send, b"x", b"ab"),
        (b"SEND\ncontent-length:\n\nab\0", Send, b"", b"ab"),
        // A frame that may have no body ends at its NUL.
        (b"ACK\ncontent-length:5\n\n\0", Ack, b"5", b""),
        // A counted body may hold what would end another one.
        (b"SEND\ncontent-length:4\n\na^@\n\0", Send, b"4", b"a^@\n"),
    ] {
        let (frames, error) = decode_every_way(V1_2, Limits::default(), wire);
        let shown = wire.escape_ascii();
        assert_eq!(error, None, "{shown}");
        assert_eq!(frames.len(), 1, "{shown}");
        assert_eq!(frames[0].command, command, "{shown}");
        assert_eq!(frames[0].header("content-length").as_deref(), Some(value));
        assert_eq!(frames[0].body.as_ref(), body, "{shown}");
    }
}

#[test]
fn a_typed_end_of_frame_ends_it_at_a_line_end() {
    check_frames(
        V1_0,
        b"CONNECT\r\n\r\n^@\r\nSEND\r\ndestination:a\r\n\r\nhello ^@ ^^@\r\n\r\nACK\n\n^@\n",
        &[
            (Connect, &[], b""),
            (Send, &[(b"destination", b"a")], b"hello ^@ ^"),
            (Ack, &[], b""),
        ],
    );
}

#[test]
fn a_peer_that_ends_frames_with_nul_may_write_what_people_type() {
    check_frames(
        V1_2,
        b"ACK\n\n\0SEND\n\nCONNECT\n\n^@\n\0",
        &[(Ack, &[], b""), (Send, &[], b"CONNECT\n\n^@\n")],
    );
}

#[test]
fn malformed_frames() {
    for (wire, code) in [
        (&b"SEND\nno colon\n\n\0"[..], "missing_colon"),
        (b"SEND\n:value\n\n\0", "empty_header_name"),
        (b"SEND\ndestination:a\0", "missing_blank_line"),
        (b"SEND\ndestination:a\n\0", "missing_blank_line"),
        (b"CONNECT\0", "missing_blank_line"),
        (b"CONNECT\r\n^@\r\n", "missing_blank_line"),
        (b"SEND\ncontent-length:-1\n\n\0", "bad_content_length"),
        (b"SEND\ncontent-length:1\n\nab\0", "missing_nul"),
        (b"SE\rND\n\n\0", "lone_carriage_return"),
        (b"\rSEND\n\n\0", "lone_carriage_return"),
        (b"\n\n\rx", "lone_carriage_return"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
            "tls_on_plain_listener",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "http_on_stomp_listener",
        ),
        (
            b"POST /a/rather/long/path/of/a/request HTTP/1.1\r\n",
            "http_on_stomp_listener",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "http_on_stomp_listener",
        ),
        (b"AMQP\x00\x00\x09\x01", "amqp_on_stomp_listener"),
    ] {
        check_error(V1_2, Limits::default(), wire, code);
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let check = |wire: &str, code: Option<&str>| {
        let (frames, error) = decode_every_way(V1_2, SMALL, wire.as_bytes());
        assert_eq!(error.as_ref().map(DecodeError::code), code, "{wire}");
        assert_eq!(frames.len(), usize::from(code.is_none()), "{wire}");
    };
    let command = |len: usize| format!("{}\n\n\0", "X".repeat(len));
    check(&command(32), None);
    check(&command(33), Some("command_too_long"));
    check(&format!("{}\r\n\n\0", "X".repeat(32)), None);
    check(
        &format!("{}\r\n\n\0", "X".repeat(33)),
        Some("command_too_long"),
    );
    check(&"X".repeat(40), Some("command_too_long"));

    let line = |len: usize, end: &str| format!("ACK\na:{}{end}\n\0", "v".repeat(len - 2));
    check(&line(40, "\n"), None);
    check(&line(40, "\r\n"), None);
    check(&line(41, "\n"), Some("header_line_too_long"));
    check(&line(41, "\r\n"), Some("header_line_too_long"));
    check(
        &format!("ACK\na:{}", "v".repeat(100)),
        Some("header_line_too_long"),
    );

    check("ACK\na:1\nb:2\nc:3\n\n\0", None);
    check("ACK\na:1\na:2\na:3\na:4\n\n\0", Some("too_many_headers"));

    // 11 bytes are around these bodies, the NUL included, and 26 around the counted ones.
    let body = |len: usize| format!("SEND\na:b\n\n{}\0", "x".repeat(len));
    check(&body(189), None);
    check(&body(190), Some("frame_too_large"));
    check(
        &format!("SEND\n\n{}", "x".repeat(1000)),
        Some("frame_too_large"),
    );
    let counted = |len: usize| format!("SEND\ncontent-length:{len}\n\n{}\0", "x".repeat(len));
    check(&counted(174), None);
    check(&counted(175), Some("frame_too_large"));
}

#[test]
fn a_claimed_length_is_refused_before_its_bytes_come() {
    for length in ["175", "9999999999999999999999"] {
        let wire = format!("SEND\ncontent-length:{length}\n\n");
        check_error(V1_2, SMALL, wire.as_bytes(), "frame_too_large");
    }
}

#[test]
fn a_claimed_length_takes_memory_only_as_bytes_come() {
    let mut decoder = Decoder::new(Limits::default());
    let mut src = BytesMut::from("SEND\ncontent-length:16000000\n\n");
    assert_eq!(decoder.decode(&mut src), Ok(None));
    assert!(src.capacity() < 16 << 10, "{}", src.capacity());
}

#[test]
fn large_bodies_with_carets_are_scanned_once_and_found() {
    // A quadratic scan would take minutes for this, byte by byte.
    let body = "^ ^@ ".repeat(100_000);
    let wire = format!("SEND\n\n{body}\0");
    let (frames, error) = decode(V1_2, Limits::default(), wire.as_bytes(), 1);
    assert_eq!(error, None);
    assert_eq!(frames[0].body.as_ref(), body.as_bytes());
}

#[test]
fn a_new_version_holds_from_the_next_frame_on() {
    let mut decoder = Decoder::new(Limits::default());
    let mut src = BytesMut::from("SEND\na:b\\\n\n\0SEND\na:\\c\n\n\0");
    let literal = decoder.decode(&mut src).unwrap().unwrap();
    decoder.set_version(V1_2);
    let escaped = decoder.decode(&mut src).unwrap().unwrap();
    assert_eq!(literal.header("a").as_deref(), Some(&b"b\\"[..]));
    assert_eq!(escaped.header("a").as_deref(), Some(&b":"[..]));
}
