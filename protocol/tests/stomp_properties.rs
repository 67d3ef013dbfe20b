//! What holds for every frame and every way of cutting bytes.

use bytes::BytesMut;
use millpond_protocol::stomp::{
    Codec, Command, Decoder, Frame, Headers, Limits, Version, canonical_lines, put_canonical_block,
    put_frame,
};
use proptest::prelude::*;
use tokio_util::codec::{Decoder as _, Encoder as _};

/// Commands that are not literal; CONNECT and CONNECTED have their own property.
const COMMANDS: [Command; 12] = [
    Command::Send,
    Command::Subscribe,
    Command::Unsubscribe,
    Command::Begin,
    Command::Commit,
    Command::Abort,
    Command::Ack,
    Command::Nack,
    Command::Disconnect,
    Command::Message,
    Command::Receipt,
    Command::Error,
];

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(&Version::ALL[..])
}

/// Names and values rich in bytes that need an escape. NUL has no form in any version.
fn text(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(&b"ab-/ "[..]),
        2 => prop::sample::select(&b":\\\n\r^@"[..]),
        1 => 1..=255_u8,
    ];
    prop::collection::vec(byte, len)
}

fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (text(1..12), text(0..24)).prop_filter("written by the encoder", |(name, _)| {
        name != b"content-length"
    })
}

/// What 1.0 can carry, which has no escapes and drops blanks before values.
fn literal((name, value): (Vec<u8>, Vec<u8>)) -> (Vec<u8>, Vec<u8>) {
    let plain = |text: Vec<u8>, replaced: &[u8]| -> Vec<u8> {
        text.into_iter()
            .map(|byte| if replaced.contains(&byte) { b'.' } else { byte })
            .collect()
    };
    let value: Vec<u8> = plain(value, b"\r\n");
    let blanks = value.iter().take_while(|b| b" \t".contains(b)).count();
    (plain(name, b"\r\n:"), value[blanks..].to_vec())
}

fn frame(version: Version) -> impl Strategy<Value = Frame> {
    let body = prop::collection::vec(any::<u8>(), 0..200);
    (
        prop::sample::select(&COMMANDS[..]),
        prop::collection::vec(header(), 0..14),
        body,
    )
        .prop_map(move |(command, lines, body)| {
            let mut frame = Frame::new(command);
            for line in lines {
                let (name, value) = match version {
                    Version::V1_0 => literal(line),
                    Version::V1_1 | Version::V1_2 => line,
                };
                frame.headers.push(&name, &value);
            }
            if command.may_have_body() {
                frame = frame.with_body(body);
            }
            frame
        })
}

fn frames() -> impl Strategy<Value = (Version, Vec<Frame>)> {
    version().prop_flat_map(|version| (Just(version), prop::collection::vec(frame(version), 1..6)))
}

/// The frame as it arrives: with the content-length that the encoder added.
fn with_content_length(mut frame: Frame) -> Frame {
    if !frame.body.is_empty() {
        let length = frame.body.len().to_string();
        frame.headers.push(b"content-length", length.as_bytes());
    }
    frame
}

/// Feeds `wire` in pieces of the given lengths, over and over.
fn feed(decoder: &mut Decoder, wire: &[u8], pieces: &[usize]) -> Vec<Frame> {
    let mut src = BytesMut::new();
    let mut frames = Vec::new();
    let mut rest = wire;
    for piece in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(rest.len().min(*piece));
        src.extend_from_slice(now);
        rest = later;
        while let Some(frame) = decoder.decode(&mut src).expect("what was encoded is valid") {
            frames.push(frame);
        }
    }
    assert!(matches!(src.as_ref(), b"" | b"\n"));
    frames
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded_however_it_is_cut(
        (version, frames) in frames(),
        pieces in prop::collection::vec(1..60_usize, 1..5),
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            put_frame(&mut wire, version, frame);
        }
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(version);
        let decoded = feed(&mut decoder, &wire, &pieces);
        let expected: Vec<Frame> = frames.into_iter().map(with_content_length).collect();
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn decoded_frames_are_encoded_to_the_same_bytes(
        (version, frames) in frames(),
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            put_frame(&mut wire, version, frame);
        }
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(version);
        let mut again = BytesMut::new();
        for frame in feed(&mut decoder, &wire, &[wire.len()]) {
            put_frame(&mut again, version, &frame);
        }
        prop_assert_eq!(again, wire);
    }

    #[test]
    fn a_canonical_block_means_the_same_to_every_version(
        lines in prop::collection::vec(header().prop_map(literal), 0..14),
        keep in any::<u16>(),
        version in version(),
    ) {
        let mut headers = Headers::new();
        for (name, value) in &lines {
            headers.push(name, value);
        }
        let mut index = 0_u32;
        let block = headers.retain(|_| {
            index += 1;
            keep >> (index - 1) & 1 != 0
        });
        let kept: Vec<_> = lines
            .into_iter()
            .enumerate()
            .filter(|(index, _)| keep >> index & 1 != 0)
            .map(|(_, line)| line)
            .collect();
        let owned: Vec<_> = canonical_lines(&block)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        prop_assert_eq!(&owned, &kept);

        let mut wire = BytesMut::from("ACK\n");
        put_canonical_block(&mut wire, version, &block);
        wire.extend_from_slice(b"\n\0");
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(version);
        let frame = decoder.decode(&mut wire).expect("valid").expect("whole");
        let received: Vec<_> = frame
            .headers
            .iter()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        prop_assert_eq!(received, kept);
    }

    #[test]
    fn both_ends_of_a_codec_change_to_the_version_of_connected(
        (version, frames) in frames(),
    ) {
        let mut server = Codec::default();
        let mut client = Codec::default();
        let connected = Frame::new(Command::Connected).with_header("version", version.as_str());
        let mut wire = BytesMut::new();
        for frame in std::iter::once(&connected).chain(&frames) {
            server.encode(frame, &mut wire).expect("a buffer takes everything");
        }
        let mut decoded = Vec::new();
        while let Some(frame) = client.decode_eof(&mut wire).expect("valid frames") {
            decoded.push(frame);
        }
        prop_assert_eq!(client.version(), version);
        let mut expected = vec![connected];
        expected.extend(frames.into_iter().map(with_content_length));
        prop_assert_eq!(decoded, expected);
    }
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_an_error() {
    let mut codec = Codec::default();
    let mut wire = BytesMut::from("ACK\n\n\0SEND\n");
    assert!(
        codec
            .decode_eof(&mut wire)
            .expect("a whole frame")
            .is_some()
    );
    let error = codec.decode_eof(&mut wire).expect_err("half a frame");
    assert!(error.to_string().contains("connection failed"), "{error}");
}
