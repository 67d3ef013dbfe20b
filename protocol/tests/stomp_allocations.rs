//! Small frames cost no allocation of their own.

use bytes::BytesMut;
use millpond_protocol::stomp::{Command, Decoder, Frame, Limits, Version, put_frame};

const FRAMES: u64 = 1000;

#[test]
fn decoding_small_frames_allocates_nothing_for_each() {
    let frame = Frame::new(Command::Send)
        .with_header("destination", "/queue/a")
        .with_header("receipt", "1")
        .with_header("persistent", "true")
        .with_body("0123456789abcdef");
    let mut src = BytesMut::new();
    for _ in 0..FRAMES {
        put_frame(&mut src, Version::V1_2, &frame);
    }
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(Version::V1_2);
    let mut decoded = 0;
    let cost = allocation_counter::measure(|| {
        while let Some(frame) = decoder.decode(&mut src).expect("valid frames") {
            assert!(frame.headers.contains("receipt"));
            let own = frame.headers.retain(|name| name == b"persistent");
            assert_eq!(own.len(), 16);
            decoded += 1;
        }
    });
    assert_eq!(decoded, FRAMES);
    // The buffer becomes a shared one, once.
    assert!(cost.count_total <= 2, "{cost:?}");
}
