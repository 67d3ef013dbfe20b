//! What a broker asks of a header block: lookup, and the producer's part of it in canonical form.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use millpond_protocol::stomp::{Decoder, Escaping, Headers, Limits, Version, canonical_lines};

fn headers(version: Version, lines: &str) -> Headers {
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(version);
    let mut src = BytesMut::from(format!("SEND\n{lines}\n\0").as_str());
    let frame = decoder.decode(&mut src).expect("a valid frame");
    frame.expect("a whole frame").headers
}

fn is_slice_of(part: &Bytes, whole: &Bytes) -> bool {
    whole.as_ptr_range().contains(&part.as_ptr())
}

#[test]
fn values_are_borrowed_or_sliced_when_nothing_is_escaped() {
    let headers = headers(Version::V1_2, "a:plain\nb:x\\cy\n");
    assert!(matches!(headers.get("a"), Some(Cow::Borrowed(b"plain"))));
    assert!(matches!(headers.get("b"), Some(Cow::Owned(_))));
    assert!(is_slice_of(
        &headers.get_bytes("a").unwrap(),
        headers.block()
    ));
    assert_eq!(headers.get_bytes("b").unwrap().as_ref(), b"x:y");
    assert_eq!(headers.get("c"), None);
    assert!(headers.contains("a") && !headers.contains("c"));
    assert_eq!(headers.escaping(), Escaping::Escaped);
}

#[test]
fn text_is_given_only_for_utf_8() {
    let mut decoder = Decoder::new(Limits::default());
    let mut src = BytesMut::from(&b"SEND\na:\xc3\xa4\nb:\xff\n\n\0"[..]);
    let headers = decoder.decode(&mut src).unwrap().unwrap().headers;
    assert_eq!(headers.get_str("a").as_deref(), Some("ä"));
    assert_eq!(headers.get_str("b"), None);
    assert!(headers.contains("b"));
}

#[test]
fn an_escaped_name_is_found_by_what_it_means() {
    let headers = headers(Version::V1_2, "a\\cb:1\n");
    assert_eq!(headers.get("a:b").as_deref(), Some(&b"1"[..]));
    assert_eq!(headers.get("a\\cb"), None);
}

#[test]
fn raw_lines_cover_the_block_without_gaps() {
    let headers = headers(Version::V1_2, "a:1\r\nb:\\c\nc:3\r\n");
    let mut end = 0;
    let mut lines = Vec::new();
    for line in headers.lines() {
        assert_eq!(line.range.start, end);
        end = line.range.end;
        lines.push((line.name.to_vec(), line.value.to_vec()));
    }
    assert_eq!(end, headers.block().len());
    let expected = [("a", "1"), ("b", "\\c"), ("c", "3")];
    assert!(
        lines
            .iter()
            .map(|(n, v)| (&n[..], &v[..]))
            .eq(expected.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())))
    );
}

#[test]
fn one_kept_run_of_a_canonical_block_is_a_slice() {
    let headers = headers(
        Version::V1_2,
        "destination:q\na:1\nb:2\ncontent-length:0\nc:3\n",
    );
    let kept = headers.retain(|name| matches!(name, b"a" | b"b"));
    assert_eq!(kept.as_ref(), b"a:1\nb:2\n");
    assert!(is_slice_of(&kept, headers.block()));

    let kept = headers.retain(|name| matches!(name, b"a" | b"c"));
    assert_eq!(kept.as_ref(), b"a:1\nc:3\n");
    assert!(!is_slice_of(&kept, headers.block()));

    assert_eq!(headers.retain(|_| true), headers.block());
    assert!(headers.retain(|_| false).is_empty());
}

#[test]
fn every_form_of_a_line_becomes_the_canonical_one() {
    for (version, lines, canonical) in [
        (Version::V1_2, "a:1\r\nb:2\r\n", "a:1\nb:2\n"),
        (Version::V1_2, "t:10:30\nb:2\n", "t:10\\c30\nb:2\n"),
        (Version::V1_2, "a:x\\cy\nb:\\\\\n", "a:x\\cy\nb:\\\\\n"),
        (Version::V1_1, "a:x\ry\n", "a:x\\ry\n"),
        (Version::V1_0, "a:x\\cy\nb:2:3\n", "a:x\\\\cy\nb:2\\c3\n"),
        (Version::V1_0, "a: x\nb:\t\ty\nc:z\n", "a:x\nb:y\nc:z\n"),
        (Version::V1_0, "a:1\na:2\n", "a:1\na:2\n"),
    ] {
        let headers = headers(version, lines);
        let kept = headers.retain(|_| true);
        assert_eq!(kept.as_ref(), canonical.as_bytes(), "{lines:?}");
        assert!(canonical_lines(&kept).eq(headers.iter()), "{lines:?}");
    }
}

#[test]
fn canonical_lines_between_changed_ones_keep_their_order() {
    let headers = headers(Version::V1_2, "a:1\nb:x:y\nc:3\nd:4\ne:5:6\nf:7\n");
    let kept = headers.retain(|name| name != b"d");
    assert_eq!(kept.as_ref(), b"a:1\nb:x\\cy\nc:3\ne:5\\c6\nf:7\n");
}

#[test]
fn keep_is_asked_once_for_each_line_by_its_meaning() {
    let headers = headers(Version::V1_2, "a:1\nx\\cy:2\na:3\n");
    let mut asked = Vec::new();
    headers.retain(|name| {
        asked.push(name.to_vec());
        true
    });
    assert_eq!(asked, [&b"a"[..], b"x:y", b"a"]);
}

#[test]
fn a_broken_block_is_read_without_panic() {
    let lines: Vec<_> = canonical_lines(b"\nno colon\n:\na:\\q\\")
        .map(|(n, v)| (n.into_owned(), v.into_owned()))
        .collect();
    let expected: [(&[u8], &[u8]); 4] =
        [(b"", b""), (b"no colon", b""), (b"", b""), (b"a", b"\\q\\")];
    assert!(lines.iter().map(|(n, v)| (&n[..], &v[..])).eq(expected));
}

#[test]
fn a_passcode_is_never_shown() {
    let shown = format!(
        "{:?}",
        headers(Version::V1_2, "login:alice\npasscode:s3cret\n")
    );
    assert!(
        shown.contains("alice") && !shown.contains("s3cret"),
        "{shown}"
    );
}
