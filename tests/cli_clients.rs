//! `millpond publish` and `millpond consume` against a scripted broker.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread::{self, JoinHandle};

use bytes::BytesMut;
use millpond_protocol::stomp::{self, Decoder, Frame, Limits, Version};
use serde_json::Value;

mod support;

use support::{millpond, run, text};

/// One connection of a broker that does what a test says.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Peer {
    /// The next frame the client sends; none when it has closed.
    fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self
                .decoder
                .decode(&mut self.buffer)
                .expect("a client speaks STOMP")
            {
                return Some(frame);
            }
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).expect("readable");
            if read == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&bytes[..read]);
        }
    }

    fn send(&mut self, frame: &str) {
        self.stream.write_all(frame.as_bytes()).expect("written");
    }

    fn receipt(&mut self, frame: &Frame) {
        self.send(&format!(
            "RECEIPT\nreceipt-id:{}\n\n\0\n",
            header(frame, "receipt").expect("a receipt was asked")
        ));
    }
}

fn header(frame: &Frame, name: &str) -> Option<String> {
    frame.header(name).map(|value| text(&value))
}

/// Accepts one client, logs it in, and lets `script` do the rest; returns the CONNECT.
fn broker(script: impl FnOnce(&mut Peer) + Send + 'static) -> (String, JoinHandle<Frame>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accepted");
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(Version::V1_2);
        let mut peer = Peer {
            stream,
            decoder,
            buffer: BytesMut::new(),
        };
        let connect = peer.receive().expect("a CONNECT");
        assert_eq!(connect.command, stomp::Command::Connect);
        peer.send("CONNECTED\nversion:1.2\n\n\0\n");
        script(&mut peer);
        connect
    });
    (address, serving)
}

/// Confirms every frame that asks for it; returns the SENDs (and whatever else was no DISCONNECT).
fn confirm_all(peer: &mut Peer) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = peer.receive() {
        if frame.header("receipt").is_some() {
            peer.receipt(&frame);
        }
        if frame.command == stomp::Command::Disconnect {
            break;
        }
        frames.push(frame);
    }
    frames
}

#[test]
fn publish_sends_what_it_was_told_and_waits_for_the_receipt() {
    let (address, serving) = broker(|peer| {
        let frames = confirm_all(peer);
        assert_eq!(frames.len(), 1);
        let sent = &frames[0];
        assert_eq!(
            (sent.command, &sent.body[..]),
            (stomp::Command::Send, b"caf\xc3\xa9".as_slice())
        );
        for (name, value) in [
            ("destination", "/queue/a"),
            ("persistent", "false"),
            ("colour", "red=1"),
            ("content-type", "text/plain"),
            ("receipt", "1"),
        ] {
            assert_eq!(header(sent, name).as_deref(), Some(value), "{name}");
        }
    });
    let output = millpond()
        .args([
            "publish",
            "--to",
            &address,
            "--user",
            "ann",
            "--vhost",
            "sales",
            "--destination",
            "/queue/a",
            "--body",
            "café",
        ])
        .args([
            "--header",
            "colour=red=1",
            "--content-type",
            "text/plain",
            "--persistent=false",
        ])
        .env("MILLPOND_PASSWORD", "secret")
        .output()
        .expect("started");
    assert_eq!(
        text(&output.stdout),
        format!("1 message confirmed by {address}\n"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0));
    let connect = serving.join().expect("the script held");
    let login = ["login", "passcode", "host"].map(|name| header(&connect, name).expect("sent"));
    assert_eq!(login, ["ann", "secret", "sales"]);
}

#[test]
fn publish_takes_standard_input_whole_or_by_lines() {
    for (more, bodies, said) in [
        (vec![], vec!["one\ntwo\n"], "1 message confirmed by"),
        (
            vec!["--lines"],
            vec!["one", "two"],
            "2 messages confirmed by",
        ),
        (
            vec!["--count", "2", "--receipt=false"],
            vec!["one\ntwo\n"; 2],
            "2 messages sent, without receipts, to",
        ),
    ] {
        let (address, serving) = broker(move |peer| {
            let received: Vec<_> = confirm_all(peer)
                .iter()
                .map(|frame| text(&frame.body))
                .collect();
            assert_eq!(received, bodies);
        });
        let mut process = millpond()
            .args(["publish", "--to", &address, "--destination", "/queue/a"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        process
            .stdin
            .take()
            .expect("piped")
            .write_all(b"one\ntwo\n")
            .expect("written");
        let output = process.wait_with_output().expect("ended");
        serving.join().expect("the script held");
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), format!("{said} {address}\n"))
        );
    }
}

#[test]
fn publish_keeps_more_messages_on_their_way_than_one_and_fewer_than_all() {
    let (address, serving) = broker(|peer| {
        let mut frames: Vec<_> = (0..256)
            .map(|_| peer.receive().expect("sent without waiting"))
            .collect();
        for frame in frames.drain(..) {
            peer.receipt(&frame);
        }
        assert_eq!(confirm_all(peer).len(), 1000 - 256);
    });
    let output = run(&[
        "publish",
        "--to",
        &address,
        "--destination",
        "/queue/a",
        "--body",
        "x",
        "--count",
        "1000",
    ]);
    serving.join().expect("the script held");
    assert_eq!(
        text(&output.stdout),
        format!("1000 messages confirmed by {address}\n"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn publish_fails_in_the_brokers_own_words() {
    let (address, serving) = broker(|peer| {
        let first = peer.receive().expect("sent");
        peer.receipt(&first);
        peer.send("ERROR\nmessage:not_found\nreceipt-id:2\n\nno exchange 'x' in vhost '/'\n\0\n");
    });
    let output = run(&[
        "publish",
        "--to",
        &address,
        "--destination",
        "/exchange/x",
        "--body",
        "a",
        "--count",
        "2",
    ]);
    serving.join().expect("the script held");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: the broker refused: not_found\nno exchange 'x' in vhost '/' (2 sent, 1 confirmed)\n"
    );
}

#[test]
fn publish_without_a_broker_says_where_there_is_none() {
    let free = TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound")
        .to_string();
    let output = run(&[
        "publish",
        "--to",
        &free,
        "--destination",
        "/queue/a",
        "--body",
        "x",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with(&format!("error: cannot connect to {free}: ")),
        "{}",
        text(&output.stderr)
    );
}

/// Waits for the SUBSCRIBE, sends two messages, and returns the ids that are acknowledged.
fn two_messages(peer: &mut Peer, ack: &str) -> Vec<String> {
    let subscribe = peer.receive().expect("a SUBSCRIBE");
    assert_eq!(
        header(&subscribe, "destination").as_deref(),
        Some("/queue/a")
    );
    assert_eq!(header(&subscribe, "ack").as_deref(), Some(ack));
    peer.send("MESSAGE\ndestination:/queue/a\nmessage-id:m1\nsubscription:0\nack:1\n\none\0\n");
    peer.send("MESSAGE\ndestination:/queue/a\nmessage-id:m2\nsubscription:0\nack:2\n\ntwo\0\n");
    confirm_all(peer)
        .iter()
        .filter_map(|frame| header(frame, "id"))
        .collect()
}

#[test]
fn consume_prints_bodies_acknowledges_them_and_stops_at_the_count() {
    let (address, serving) =
        broker(|peer| assert_eq!(two_messages(peer, "client-individual"), ["1", "2"]));
    let output = run(&[
        "consume",
        "--from",
        &address,
        "--destination",
        "/queue/a",
        "--count",
        "2",
    ]);
    serving.join().expect("the script held");
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "one\ntwo\n".to_owned()),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn consume_with_automatic_acknowledgement_sends_none_and_shows_headers() {
    let (address, serving) = broker(|peer| assert_eq!(two_messages(peer, "auto"), [""; 0]));
    let output = run(&[
        "consume",
        "--from",
        &address,
        "--destination",
        "/queue/a",
        "--count",
        "1",
        "--ack",
        "auto",
        "--headers",
    ]);
    serving.join().expect("the script held");
    let expected = "destination: /queue/a\nmessage-id: m1\nsubscription: 0\nack: 1\n\none\n";
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
}

#[test]
fn consume_prints_json_lines_that_keep_every_byte() {
    let (address, serving) = broker(|peer| {
        peer.receive().expect("a SUBSCRIBE");
        peer.send("MESSAGE\nmessage-id:m1\nack:1\nname:a\\cb\nname:second\n\n\"quoted\"\0\n");
        peer.stream
            .write_all(b"MESSAGE\nmessage-id:m2\nack:2\ncontent-length:3\n\n\x00\xff\x01\0\n")
            .expect("written");
        confirm_all(peer);
    });
    let output = run(&[
        "consume",
        "--from",
        &address,
        "--destination",
        "/queue/a",
        "--count",
        "2",
        "--json",
    ]);
    serving.join().expect("the script held");
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(
        (&lines[0]["body"], &lines[0]["headers"]["name"]),
        (&Value::from("\"quoted\""), &Value::from("a:b"))
    );
    assert_eq!(
        (&lines[1]["body"], &lines[1]["body_hex"]),
        (&Value::Null, &Value::from("00ff01"))
    );
}

#[test]
fn consume_that_waited_in_vain_says_how_many_came() {
    let (address, serving) = broker(|peer| {
        peer.receive().expect("a SUBSCRIBE");
        confirm_all(peer);
    });
    let output = run(&[
        "consume",
        "--from",
        &address,
        "--destination",
        "/queue/a",
        "--count",
        "3",
        "--timeout",
        "10ms",
    ]);
    serving.join().expect("the script held");
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(1), "error: received 0 of 3 messages\n".to_owned())
    );
}

#[test]
fn a_client_command_fails_when_the_login_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        stream
            .write_all(b"ERROR\nmessage:Bad CONNECT\n\nAccess refused for user 'ann'\n\0\n")
            .expect("written");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let output = run(&[
        "consume",
        "--from",
        &address,
        "--user",
        "ann",
        "--password",
        "hunter2",
        "--destination",
        "/queue/a",
    ]);
    serving.join().expect("the script held");
    assert_eq!(
        text(&output.stderr),
        "error: the broker refused: Bad CONNECT\nAccess refused for user 'ann'\n"
    );
    assert_eq!(output.status.code(), Some(1));
}
