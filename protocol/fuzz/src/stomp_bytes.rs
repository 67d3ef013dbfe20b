//! Any bytes into the decoder.

use std::time::Instant;

use bytes::BytesMut;
use millpond_protocol::stomp::{
    Config, DecodeError, Decoder, Escaping, Event, Frame, Limits, Machine, Version,
    canonical_lines, put_fault, put_frame,
};

/// Small, so that inputs reach them.
const LIMITS: Limits = Limits {
    frame_bytes: 512,
    headers: 12,
    header_line_bytes: 128,
};

/// The first byte chooses version and piece length, the rest is what a peer sends.
///
/// # Panics
/// If the decoder depends on how its input is cut, holds more than its limit, or makes a frame that does not
/// survive being written and read again.
pub fn run(input: &[u8]) {
    let Some((&choice, wire)) = input.split_first() else {
        return;
    };
    let version = Version::ALL[usize::from(choice) % Version::ALL.len()];
    let piece = usize::from(choice) / Version::ALL.len() % 16 + 1;
    let whole = decode(version, wire, wire.len().max(1));
    assert_eq!(whole, decode(version, wire, piece), "in pieces of {piece}");
    for frame in &whole.0 {
        survives(version, frame);
        let kept = frame.headers.retain(|_| true);
        assert!(canonical_lines(&kept).eq(frame.headers.iter()));
        let lines: usize = frame.headers.lines().map(|line| line.range.len()).sum();
        assert_eq!(lines, frame.headers.block().len());
    }
    serve(version, wire);
    // Not only what a frame brought: any bytes may be read as a stored block.
    canonical_lines(wire).for_each(drop);
}

fn decode(version: Version, wire: &[u8], piece: usize) -> (Vec<Frame>, Option<DecodeError>) {
    let mut decoder = Decoder::new(LIMITS);
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
        assert!(src.len() <= LIMITS.frame_bytes, "{} bytes held", src.len());
    }
    (frames, None)
}

/// Lets a logged-in client send the bytes.
fn serve(version: Version, wire: &[u8]) {
    let now = Instant::now();
    let config = Config {
        limits: LIMITS,
        ..Config::default()
    };
    let mut machine = Machine::new(now, config);
    let mut dst = BytesMut::new();
    let connect = format!("CONNECT\naccept-version:{version}\n\n\0");
    let mut src = BytesMut::from(connect.as_str());
    let asked = machine.poll_event(now, &mut src, &mut dst);
    assert!(matches!(asked, Ok(Some(Event::Connect(_)))), "{asked:?}");
    machine.logged_in(now, &mut dst, "session");
    src.extend_from_slice(wire);
    let fault = loop {
        match machine.poll_event(now, &mut src, &mut dst) {
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(fault) => break fault,
        }
    };
    put_fault(&mut dst, version, &fault);
}

/// Writes a frame and reads it back.
fn survives(version: Version, frame: &Frame) {
    let mut wire = BytesMut::new();
    put_frame(&mut wire, version, frame);
    // Room for escapes and the content-length that writing adds.
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(version);
    // After a frame ended by NUL, a typed `^@` in a body no longer ends it.
    let mut src = BytesMut::from("ACK\n\n\0");
    src.extend_from_slice(&wire);
    assert!(matches!(decoder.decode(&mut src), Ok(Some(_))));
    let again = match decoder.decode(&mut src) {
        Ok(Some(again)) => again,
        other => panic!("{frame:?} became {}: {other:?}", wire.escape_ascii()),
    };
    assert_eq!(decoder.decode(&mut src), Ok(None));
    assert!(src.is_empty());
    assert_eq!(again.command_text, word(frame));
    assert_eq!(again.body, frame.body);
    // 1.0 and CONNECT have no way to write a CR inside a line.
    let literal = frame.headers.escaping() == Escaping::Literal;
    if !(literal && frame.headers.block().contains(&b'\r')) {
        assert!(
            headers(&again).eq(headers(frame)),
            "{again:?} was {frame:?}"
        );
    }
}

/// Names and values without `content-length`, which is written anew.
fn headers(frame: &Frame) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    frame
        .headers
        .iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .filter(|(name, _)| name != b"content-length")
}

/// The command as it is written: a legacy synonym becomes the word it stands for.
fn word(frame: &Frame) -> &[u8] {
    match frame.command.as_str() {
        "" => &frame.command_text,
        word => word.as_bytes(),
    }
}
