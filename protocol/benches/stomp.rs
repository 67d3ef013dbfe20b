//! What one frame costs. Each figure is per frame (`elem`), or per byte for the large body.

use std::hint::black_box;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millpond_protocol::stomp::{
    Command, Config, Decoder, Event, Frame, Limits, Machine, Version, put_body,
    put_canonical_block, put_command, put_decimal, put_frame,
};

/// What the driver reads at once.
const READ_BYTES: usize = 64 << 10;

/// As many SEND frames as fit one read, with differing receipts if asked.
fn sends(body_bytes: usize, receipts: bool) -> (Bytes, u64) {
    let body = vec![b'x'; body_bytes];
    let mut wire = BytesMut::new();
    let mut count = 0;
    loop {
        let mut frame = Frame::new(Command::Send)
            .with_header("destination", "/queue/bench")
            .with_header("content-type", "text/plain");
        if receipts {
            frame = frame.with_header("receipt", format!("r-{count}"));
        }
        let before = wire.len();
        put_frame(&mut wire, Version::V1_2, &frame.with_body(body.clone()));
        if wire.len() > READ_BYTES {
            wire.truncate(before);
            return (wire.freeze(), count);
        }
        count += 1;
    }
}

/// Fills the buffer as a driver does that reads into the same one again and again.
fn read(src: &mut BytesMut, wire: &[u8]) {
    src.reserve(READ_BYTES);
    src.extend_from_slice(wire);
}

fn decoder() -> Decoder {
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(Version::V1_2);
    decoder
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, body_bytes, receipts) in [
        ("send_16", 16, false),
        ("send_16_receipt", 16, true),
        ("send_1024", 1024, false),
    ] {
        let (wire, count) = sends(body_bytes, receipts);
        group.throughput(Throughput::Elements(count));
        group.bench_function(name, |bencher| {
            let mut decoder = decoder();
            let mut src = BytesMut::with_capacity(READ_BYTES);
            bencher.iter(|| {
                read(&mut src, &wire);
                while let Some(frame) = decoder.decode(&mut src).expect("valid frames") {
                    black_box(&frame);
                }
            });
        });
    }
    group.finish();
}

/// The whole way of a SEND through the machine, with what a broker asks of its headers.
fn machine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    let (wire, count) = sends(16, false);
    group.throughput(Throughput::Elements(count));
    group.bench_function("send_16", |bencher| {
        let now = Instant::now();
        let mut machine = Machine::new(now, Config::default());
        let mut dst = BytesMut::new();
        let mut connect = BytesMut::from("CONNECT\naccept-version:1.2\nhost:/\n\n\0");
        let login = machine.poll_event(now, &mut connect, &mut dst);
        assert!(matches!(login, Ok(Some(Event::Connect(_)))));
        machine.logged_in(now, &mut dst, "bench");
        let mut src = BytesMut::with_capacity(READ_BYTES);
        bencher.iter(|| {
            read(&mut src, &wire);
            while let Some(event) = machine
                .poll_event(now, &mut src, &mut dst)
                .expect("valid frames")
            {
                let Event::Frame(frame) = event else {
                    continue;
                };
                black_box(frame.headers.get_bytes("destination"));
                black_box(frame.headers.get("receipt"));
                black_box(frame.headers.retain(|name| {
                    !matches!(name, b"destination" | b"content-length" | b"receipt")
                }));
            }
        });
    });
    group.finish();
}

/// A body of 16 MiB that arrives in pieces of 1 KiB, each byte looked at once.
fn pieces(criterion: &mut Criterion) {
    const BODY_BYTES: usize = 16 << 20;
    let mut group = criterion.benchmark_group("decode_16_mib_in_1_kib");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(BODY_BYTES as u64));
    let body = vec![b'x'; BODY_BYTES];
    for (name, head) in [
        ("terminated", "SEND\ndestination:a\n\n".to_owned()),
        (
            "counted",
            format!("SEND\ndestination:a\ncontent-length:{BODY_BYTES}\n\n"),
        ),
    ] {
        let mut wire = BytesMut::from(head.as_str());
        wire.put_slice(&body);
        wire.put_u8(0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut decoder = decoder();
                let mut src = BytesMut::new();
                let mut frames = 0;
                for piece in wire.chunks(1 << 10) {
                    src.extend_from_slice(piece);
                    while let Some(frame) = decoder.decode(&mut src).expect("a valid frame") {
                        assert_eq!(frame.body.len(), BODY_BYTES);
                        frames += 1;
                    }
                }
                assert_eq!(frames, 1);
            });
        });
    }
    group.finish();
}

/// A MESSAGE as the broker writes it: its own lines, the producer's block, the body.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let mut dst = BytesMut::with_capacity(READ_BYTES);
    group.bench_function("message_16", |bencher| {
        bencher.iter(|| {
            dst.clear();
            put_command(&mut dst, Command::Message);
            dst.extend_from_slice(b"subscription:1\ndestination:/queue/bench\nredelivered:false\n");
            put_decimal(&mut dst, b"message-id", black_box(123_456));
            put_decimal(&mut dst, b"ack", black_box(123_456));
            put_canonical_block(
                &mut dst,
                Version::V1_2,
                black_box(b"content-type:text/plain\n"),
            );
            put_decimal(&mut dst, b"content-length", 16);
            put_body(&mut dst, black_box(b"0123456789abcdef"));
            black_box(dst.len())
        });
    });
    let frame = Frame::new(Command::Message)
        .with_header("subscription", "1")
        .with_header("destination", "/queue/bench")
        .with_header("message-id", "123456")
        .with_header("content-type", "text/plain")
        .with_body("0123456789abcdef");
    group.bench_function("put_frame_16", |bencher| {
        bencher.iter(|| {
            dst.clear();
            put_frame(&mut dst, Version::V1_2, black_box(&frame));
            black_box(dst.len())
        });
    });
    group.finish();
}

criterion_group!(benches, decode, machine, pieces, encode);
criterion_main!(benches);
