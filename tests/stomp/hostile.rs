//! Clients that mean harm, or are broken: each costs little, is told what is wrong where that is possible, and leaves
//! everybody else alone.

use std::time::Duration;

use millpond::engine::memory::MemoryLimit;
use millpond_protocol::stomp::Command;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{Peer, header};
use crate::support::process::Process;

/// A client that goes about its business while others misbehave.
struct Bystander {
    peer: Peer,
    sent: u32,
}

impl Bystander {
    async fn of(mut peer: Peer) -> Self {
        peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/bystander\nack:client-individual")
            .await;
        Self { peer, sent: 0 }
    }

    /// Sends, receives and acknowledges a message, as on any other day.
    async fn is_well(&mut self) {
        self.sent += 1;
        self.peer
            .ask(&format!(
                "SEND\ndestination:/queue/bystander\n\n{}",
                self.sent
            ))
            .await;
        let message = self.peer.message().await;
        assert_eq!(message.body, self.sent.to_string().as_bytes());
        self.peer.settle("ACK", &message, "").await;
    }
}

/// What a connection answers to these bytes before it closes: an ERROR of this code, as its last word.
async fn ends_with(peer: &mut Peer, bytes: &[u8], code: &str) {
    peer.write(bytes).await;
    let frames = peer.end().await;
    let last = frames
        .last()
        .unwrap_or_else(|| panic!("closed without a word instead of {code}"));
    assert_eq!(last.command, Command::Error);
    assert_eq!(header(last, "code").as_deref(), Some(code));
    assert!(
        !last.body.is_empty(),
        "{code}: nothing says what would be right"
    );
}

#[tokio::test]
async fn bytes_that_are_not_stomp_get_an_error_that_says_so() {
    let broker = TestBroker::start().await;
    let mut bystander = Bystander::of(broker.client().await).await;
    let tls: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 9, 9, 9, 9];
    let long_command = "x".repeat(100);
    for (bytes, code) in [
        (tls, "tls_on_plain_listener"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "http_on_stomp_listener",
        ),
        (b"POST /ws HTTP/1.1\r\n\r\n", "http_on_stomp_listener"),
        (b"AMQP\0\0\x09\x01", "amqp_on_stomp_listener"),
        (long_command.as_bytes(), "command_too_long"),
        (b"CONNECT\nno colon\n\n\0", "missing_colon"),
        (b"CONNECT\n:no name\n\n\0", "empty_header_name"),
        (b"\rCONNECT\n\n\0", "lone_carriage_return"),
        (b"SEND\ncontent-length:-1\n\n\0", "bad_content_length"),
        (
            b"SEND\ncontent-length:99999999999999999999999\n\n\0",
            "frame_too_large",
        ),
        (b"SEND\ncontent-length:2\n\nabc\0", "missing_nul"),
    ] {
        let mut peer = broker.connect().await;
        ends_with(&mut peer, bytes, code).await;
        bystander.is_well().await;
    }
    for (bytes, code) in [
        (
            b"SEND\ndestination:/queue/a\nx:\\t\n\n\0".as_slice(),
            "bad_escape",
        ),
        (
            b"SEND\ndestination:/queue/a\ncontent-length:2\n\nabc\0",
            "missing_nul",
        ),
        (b"SEND\ndestination\n\n\0", "missing_colon"),
    ] {
        let mut peer = broker.client().await;
        ends_with(&mut peer, bytes, code).await;
        bystander.is_well().await;
    }
}

#[tokio::test]
async fn bytes_without_any_sense_end_their_own_connection_at_most() {
    let broker = TestBroker::start().await;
    let mut bystander = Bystander::of(broker.client().await).await;
    // A small generator of its own, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..50 {
        let garbage: Vec<u8> = (0..4096)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .collect();
        let mut peer = if round % 2 == 0 {
            broker.connect().await
        } else {
            broker.client().await
        };
        peer.write(&garbage).await;
        // Whatever it was taken for, nothing can follow it.
        drop(peer);
        bystander.is_well().await;
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_held_in_memory() {
    let broker = Setup::stomp(|options| {
        options.machine.limits.frame_bytes = 100_000;
        options.machine.limits.header_line_bytes = 10_000;
    })
    .start()
    .await;
    let mut bystander = Bystander::of(broker.client().await).await;
    let body = "x".repeat(100_000);
    let long = "x".repeat(70_000);
    let many = "a:b\n".repeat(101);
    for (logged_in, bytes, code) in [
        (false, format!("CONNECT\nlogin:{long}"), "frame_too_large"),
        (
            false,
            format!("SEND\ncontent-length:{}\n\n", 1_u64 << 40),
            "frame_too_large",
        ),
        (false, format!("SEND\n\n{long}"), "frame_too_large"),
        (false, format!("CONNECT\n{many}"), "too_many_headers"),
        (
            true,
            format!(
                "SEND\ndestination:/queue/a\ncontent-length:{}\n\n",
                1_u64 << 40
            ),
            "frame_too_large",
        ),
        (
            true,
            format!("SEND\ndestination:/queue/a\n\n{body}"),
            "frame_too_large",
        ),
        (
            true,
            format!("SEND\ndestination:/queue/a\nlong:{long}"),
            "header_line_too_long",
        ),
        (
            true,
            format!("SEND\ndestination:/queue/a\n{many}"),
            "too_many_headers",
        ),
    ] {
        let mut peer = if logged_in {
            broker.client().await
        } else {
            broker.connect().await
        };
        ends_with(&mut peer, bytes.as_bytes(), code).await;
        bystander.is_well().await;
    }
}

#[tokio::test]
async fn headers_that_never_end_are_cut_off() {
    let broker = TestBroker::start().await;
    let mut bystander = Bystander::of(broker.client().await).await;
    for logged_in in [false, true] {
        let mut peer = if logged_in {
            broker.client().await
        } else {
            broker.connect().await
        };
        peer.write("SEND\n").await;
        for at in 0..100 {
            peer.write(format!("header-{at}:value\n")).await;
            if at % 10 == 0 {
                bystander.is_well().await;
            }
        }
        ends_with(&mut peer, b"one:more\n", "too_many_headers").await;
        let mut peer = if logged_in {
            broker.client().await
        } else {
            broker.connect().await
        };
        peer.write("SEND\nlong:").await;
        // The limit is about 64 KiB; what comes behind it is not read any more.
        ends_with(
            &mut peer,
            &vec![b'x'; 80_000],
            if logged_in {
                "header_line_too_long"
            } else {
                "frame_too_large"
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_session_that_comes_one_byte_at_a_time_works_like_any_other() {
    let broker = TestBroker::start().await;
    let mut bystander = Bystander::of(broker.client().await).await;
    let mut peer = broker.connect().await;
    let session = "CONNECT\naccept-version:1.2\n\n\0\nSUBSCRIBE\nid:s\ndestination:/queue/drops\n\n\0\
                   SEND\ndestination:/queue/drops\ncontent-length:3\nreceipt:r\n\na\0b\0\r\n";
    for (at, byte) in session.bytes().enumerate() {
        peer.write([byte]).await;
        if at % 20 == 0 {
            bystander.is_well().await;
        }
    }
    assert_eq!(peer.next().await.command, Command::Connected);
    assert_eq!(&peer.message().await.body[..], b"a\0b");
    peer.receipt("r").await;
}

#[tokio::test]
async fn a_large_body_that_comes_in_small_packets_holds_up_nobody() {
    let broker = TestBroker::start().await;
    let mut bystander = Bystander::of(broker.client().await).await;
    let mut slow = broker.client().await;
    slow.ask("SUBSCRIBE\nid:s\ndestination:/queue/slow\nack:client")
        .await;
    let body = vec![b'x'; 16 << 20];
    slow.write(format!(
        "SEND\ndestination:/queue/slow\nreceipt:r\ncontent-length:{}\n\n",
        body.len()
    ))
    .await;
    for (at, packet) in body.chunks(1024).enumerate() {
        slow.write(packet).await;
        if at % 1000 == 0 {
            bystander.is_well().await;
        }
    }
    slow.write(b"\0").await;
    let message = slow.message().await;
    assert!(message.body == body, "{} bytes came", message.body.len());
    slow.receipt("r").await;
}

#[tokio::test]
async fn a_consumer_that_never_reads_is_given_no_more_than_its_outbox_holds() {
    const BODY: usize = 32 << 10;
    const COUNT: usize = 400;
    let broker = TestBroker::start().await;
    let mut bystander = Bystander::of(broker.client().await).await;
    let mut stalled = broker.client_in_memory("").await;
    stalled
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/stalled\nack:client-individual")
        .await;
    let mut sender = broker.client().await;
    let body = "x".repeat(BODY);
    for _ in 0..COUNT {
        sender
            .ask(&format!(
                "SEND\ndestination:/queue/stalled\npersistent:false\n\n{body}"
            ))
            .await;
        bystander.is_well().await;
    }
    let depth = broker.depth("stalled").expect("there");
    assert_eq!(depth.unacked + depth.ready, COUNT);
    // An outbox of 1 MiB, a write of 256 KiB and a pipe of 64 KiB, and one message that overshoots each.
    let most = ((1 << 20) + (256 << 10) + (64 << 10)) / BODY + 3;
    assert!(
        depth.unacked <= most,
        "{} deliveries are on their way to a client that takes none",
        depth.unacked
    );
    // Another consumer of the queue gets all the rest.
    let mut quick = broker.client().await;
    quick
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/stalled\nack:client-individual")
        .await;
    for _ in 0..depth.ready {
        let message = quick.message().await;
        quick.settle("ACK", &message, "").await;
    }
    // And the slow one what it was given, once it reads again.
    for _ in 0..depth.unacked {
        assert_eq!(stalled.message().await.body.len(), BODY);
    }
}

#[tokio::test]
async fn a_subscriber_that_never_reads_does_not_slow_down_the_others_of_its_topic() {
    let broker = TestBroker::start().await;
    let mut stalled = broker.client_in_memory("").await;
    stalled.ask("SUBSCRIBE\nid:s\ndestination:/topic/t").await;
    let mut quick = broker.client().await;
    quick.ask("SUBSCRIBE\nid:s\ndestination:/topic/t").await;
    let mut sender = broker.client().await;
    let body = "x".repeat(32 << 10);
    for at in 0..300 {
        sender
            .ask(&format!(
                "SEND\ndestination:/topic/t\nnumber:{at}\n\n{body}"
            ))
            .await;
        assert_eq!(
            header(&quick.message().await, "number"),
            Some(at.to_string())
        );
    }
    for at in 0..300 {
        assert_eq!(
            header(&stalled.message().await, "number"),
            Some(at.to_string()),
            "it was only late"
        );
    }
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_not_read_from_for_ever() {
    let broker = TestBroker::start().await;
    let mut bystander = Bystander::of(broker.client().await).await;
    let mut deaf = broker.client_in_memory("").await;
    // Far more receipts than a pipe and a write hold: the write below can end only if the broker keeps reading,
    // and so keeps answers in memory.
    let frames = "BEGIN\ntransaction:t\nreceipt:a receipt of some length, so that not many fit\n\n\0ABORT\ntransaction:t\n\n\0".repeat(200_000);
    let writing = tokio::time::timeout(Duration::from_secs(2), deaf.write(&frames));
    tokio::time::pause();
    assert!(writing.await.is_err(), "answers pile up in memory");
    tokio::time::resume();
    bystander.is_well().await;
}

#[tokio::test]
async fn half_a_login_is_told_and_closed_when_its_time_is_over() {
    let broker = TestBroker::start().await;
    tokio::time::pause();
    for begun in [
        "",
        "\n",
        "CONN",
        "CONNECT\naccept-version:1.2\n",
        "CONNECT\ncontent-length:10\n\nabc",
    ] {
        let start = Instant::now();
        let mut peer = broker.pipe();
        peer.write(begun).await;
        let error = peer.error().await;
        assert_eq!(
            header(&error, "code").as_deref(),
            Some("login_timeout"),
            "{begun:?}"
        );
        assert_eq!(start.elapsed().as_secs(), 10);
        peer.is_closed().await;
    }
}

#[tokio::test]
async fn connections_that_vanish_in_the_middle_of_a_frame_leave_nothing_behind() {
    let broker = TestBroker::start().await;
    let mut bystander = Bystander::of(broker.client().await).await;
    for begun in [
        "SEND",
        "SEND\ndestination:/queue/half\n",
        "SEND\ndestination:/queue/half\n\nhalf a bo",
    ] {
        for subscribes in [false, true] {
            let mut peer = broker.client().await;
            if subscribes {
                peer.ask("SUBSCRIBE\nid:s\ndestination:/topic/private")
                    .await;
            }
            peer.write(begun).await;
            drop(peer);
            bystander.is_well().await;
        }
    }
    assert!(broker.depth("half").is_none(), "half a frame does nothing");
}

/// Resident memory of a process, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("always there");
    let figure = line.split_whitespace().nth(1).expect("a figure");
    figure.parse().expect("a number")
}

#[tokio::test]
async fn a_thousand_connections_that_never_log_in_cost_little_and_harm_nobody() {
    let data = TempDir::new().expect("a temporary directory");
    let broker = Process::start(data.path(), &["limits.login_timeout=10m"]).await;
    let mut bystander = Bystander::of(broker.client().await).await;
    bystander.is_well().await;
    let before = resident_kib(broker.pid());
    let available = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let room = available
        .current
        .map_or(1000, |files| files.saturating_sub(100).min(1000));
    if room < 1000 {
        eprintln!("only {room} connections: this process may open no more files");
    }
    let mut idle = Vec::new();
    for at in 0..room {
        let mut peer = broker.connect().await;
        if at % 2 == 0 {
            peer.write("CONNECT\naccept-ver").await;
        }
        idle.push(peer);
        if at % 100 == 0 {
            bystander.is_well().await;
        }
    }
    bystander.is_well().await;
    let grown = resident_kib(broker.pid()).saturating_sub(before);
    // Half of them have begun a frame, for which a buffer of 64 KiB is kept until it ends.
    assert!(
        grown < 64 << 10,
        "{grown} KiB for {room} connections that said nothing"
    );
    Bystander::of(broker.client().await).await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_there_is_room_again_when_another_leaves() {
    let data = TempDir::new().expect("a temporary directory");
    let broker = Process::start(data.path(), &["limits.connections=3"]).await;
    let first = broker.client().await;
    let _silent = broker.connect().await;
    let mut bystander = Bystander::of(broker.client().await).await;
    for greeting in ["", "CONNECT\naccept-version:1.2\n\n\0"] {
        let mut refused = broker.connect().await;
        refused.write(greeting).await;
        let error = refused.error().await;
        assert_eq!(header(&error, "code").as_deref(), Some("connection_limit"));
        refused.is_closed().await;
    }
    bystander.is_well().await;
    first.leave().await;
    // The slot is free a moment after the connection ended: whoever comes too early is told, and comes again.
    loop {
        let mut peer = broker.connect().await;
        peer.tell("CONNECT\naccept-version:1.2").await;
        match peer.read().await {
            Some(frame) if frame.command == Command::Connected => break,
            Some(frame) => assert_eq!(header(&frame, "code").as_deref(), Some("connection_limit")),
            None => {}
        }
    }
    bystander.is_well().await;
}

#[tokio::test]
async fn publishers_stop_at_the_memory_limit_and_go_on_when_consumers_have_made_room() {
    let setup = Setup {
        memory: MemoryLimit::Bytes(4 << 20),
        ..Setup::default()
    };
    let broker = setup.start().await;
    let mut sender = broker.client().await;
    let body = "x".repeat(64 << 10);
    let frames: String = (0..200)
        .map(|at| {
            format!("SEND\ndestination:/queue/much\npersistent:false\nreceipt:{at}\n\n{body}\0")
        })
        .collect();
    let sending = tokio::spawn(async move {
        sender.write(&frames).await;
        for at in 0..200 {
            sender.receipt(&at.to_string()).await;
        }
    });
    // More than the limit cannot have been taken; all of it comes while it is consumed.
    let mut consumer = broker.client().await;
    consumer
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/much\nack:client-individual\nprefetch-count:10")
        .await;
    for _ in 0..200 {
        let message = consumer.message().await;
        let depth = broker.depth("much").expect("there");
        let held = (depth.ready + depth.unacked) * body.len();
        assert!(held <= 6 << 20, "{held} bytes are kept");
        consumer.settle("ACK", &message, "").await;
    }
    sending.await.expect("every SEND was receipted");
}
