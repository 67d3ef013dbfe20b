//! `millpond bench` against a broker, and against one that does not keep its word. Counts, never timings.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Output, Stdio};
use std::thread::{self, JoinHandle};

use bytes::BytesMut;
use millpond_protocol::stomp::{Command, Decoder, Frame, Limits, Version};
use serde_json::Value;
use tempfile::TempDir;

mod support;

use support::{millpond, run, text};

/// A broker on a free port, which dies with the test.
struct Broker {
    process: Child,
    address: String,
    _data: TempDir,
}

impl Broker {
    fn start() -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let mut process = millpond()
            .args(["serve", "--log-format", "json", "--stomp", "127.0.0.1:0"])
            .args(["--http", "off", "--set", "disk.free_limit=0"])
            .args(["--set", "disk.reserve=0", "--data-dir"])
            .arg(data.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut log = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = log
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(|line| line["message"] == "listening")
            .expect("it listens");
        // Read on, or the broker would stop for want of a reader.
        thread::spawn(move || log.for_each(drop));
        Self {
            process,
            address: address["address"].as_str().expect("text").to_owned(),
            _data: data,
        }
    }

    fn bench(&self, flags: &str) -> Output {
        bench(&self.address, flags)
    }

    /// Runs it and reads its report.
    fn report(&self, flags: &str) -> Value {
        let output = self.bench(&format!("--json {flags}"));
        assert!(output.status.success(), "{flags}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a JSON report")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn bench(address: &str, flags: &str) -> Output {
    let mut arguments = vec!["bench", "--address", address, "--quiet"];
    arguments.extend(flags.split_whitespace());
    run(&arguments)
}

/// Published, confirmed, delivered.
fn counts(report: &Value) -> [u64; 3] {
    let count = |value: &Value| value.as_u64().expect("a number");
    [
        count(&report["published"]["messages"]),
        count(&report["confirmed"]),
        count(&report["delivered"]["messages"]),
    ]
}

fn assert_clean(report: &Value, flags: &str) {
    for finding in ["missing", "lost", "duplicates", "out_of_order", "foreign"] {
        assert_eq!(report["check"][finding], 0, "{flags}: {finding}");
    }
}

#[test]
fn everything_published_is_delivered_once_and_in_order_in_every_shape() {
    let broker = Broker::start();
    for (number, (flags, expected)) in [
        ("-C 500", [500, 500, 500]),
        (
            "-C 300 -p -s 1000 -c 20 --ack client -P 100",
            [300, 300, 300],
        ),
        (
            "-C 300 -p -c 50 --receipt-every 7 --ack client-individual",
            [300, 300, 300],
        ),
        ("-C 200 -x 3 -y 2 --queues 7 --threads 2", [600, 600, 600]),
        ("-C 200 -x 2 -y 3 --threads 2", [400, 400, 400]),
        ("-C 200 -x 2 --fanout 3", [400, 400, 1200]),
        ("-C 200 -p -c 10 --drain-later -a 10", [200, 200, 200]),
        ("-C 50 -r 5000 -R 5000", [50, 50, 50]),
        ("-C 3 -s 300000 -c 1", [3, 3, 3]),
    ]
    .into_iter()
    .enumerate()
    {
        let report = broker.report(&format!("--queue shape-{number} {flags}"));
        assert_eq!(counts(&report), expected, "{flags}");
        assert_eq!(report["checked"], true, "{flags}");
        assert_clean(&report, flags);
        let delays = &report["latency_us"]["delivery"];
        assert_eq!(delays["count"], expected[2], "{flags}");
    }
}

#[test]
fn what_one_run_publishes_a_later_one_drains() {
    let broker = Broker::start();
    let filled = broker.report("-C 400 -y 0 -x 2");
    assert_eq!(counts(&filled), [800, 800, 0]);
    let drained = broker.report("-x 0 --patience 300ms -D 800 --ack client -P 50");
    assert_eq!(counts(&drained), [0, 0, 800]);
    assert_clean(&drained, "drained");
    let empty = broker.report("-x 0 --patience 50ms");
    assert_eq!(counts(&empty), [0, 0, 0], "it was acknowledged");
}

#[test]
fn a_run_that_may_not_wait_ends_with_messages_waiting_and_claims_no_loss() {
    let broker = Broker::start();
    let report = broker.report("-C 1000 -R 1 --drain-time 50ms");
    assert_eq!(counts(&report)[0], 1000);
    assert!(counts(&report)[2] < 1000);
    assert_eq!(report["checked"], false);
    assert_eq!(report["check"]["missing"], 0);
}

#[test]
fn messages_of_another_run_are_told_apart() {
    let broker = Broker::start();
    broker.report("-C 5 -y 0");
    let report = broker.report("-C 100");
    assert_eq!(report["check"]["foreign"], 5);
    assert_eq!(report["check"]["missing"], 0);
    assert_eq!(counts(&report)[..2], [100, 100]);
}

#[test]
fn the_report_says_what_the_broker_and_the_generator_used() {
    let broker = Broker::start();
    let flags = format!("-C 2000 -c 100 --pid {}", broker.process.id());
    let report = broker.report(&flags);
    let positive = |value: &Value| value.as_f64().expect("a number") > 0.0;
    assert!(positive(&report["client_cpu"]["seconds"]));
    assert!(positive(&report["broker"]["memory_after"]["resident"]));
    assert_eq!(report["latency_us"]["receipt"]["count"], 2000);
    let output = broker.bench("-C 100 -r 1000 -c 10");
    let shown = text(&output.stdout);
    for part in [
        "1 producer to 1 consumer over 1 queue, 16 B transient, 1000/s each, receipts (window 10), ack:auto",
        "published              100",
        "schedule lag",
        "nothing lost, doubled or out of order",
    ] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
}

#[test]
fn connections_and_queues_come_and_go() {
    let broker = Broker::start();
    for what in ["connections", "queues"] {
        let report = broker.report(&format!("--churn {what} -C 5 -x 2"));
        assert_eq!(
            (&report["what"], &report["count"]),
            (&what.into(), &10.into())
        );
    }
    let pid = broker.process.id();
    let report = broker.report(&format!("--idle-connections 20 -z 0 --pid {pid}"));
    assert_eq!(report["connections"], 20);
    assert!(report["anonymous_per_connection"].is_number());
}

#[test]
fn a_refusal_ends_the_run_with_the_brokers_words() {
    let broker = Broker::start();
    for flags in [
        "--password wrong -C 1",
        "-C 1 --subscribe-header selector=x",
    ] {
        let output = broker.bench(flags);
        assert_eq!(output.status.code(), Some(1), "{flags}");
        let said = text(&output.stderr);
        assert!(said.contains("error: the broker refused: "), "{said}");
    }
    assert_eq!(broker.bench("-s 3").status.code(), Some(2));
    assert_eq!(broker.bench("-a 5 -P 1").status.code(), Some(2));
}

/// A connection of a broker that does as it likes.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Peer {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().expect("accepted");
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(Version::V1_2);
        let mut peer = Self {
            stream,
            decoder,
            buffer: BytesMut::new(),
        };
        assert_eq!(peer.receive().command, Command::Connect);
        peer.send(b"CONNECTED\nversion:1.2\n\n\0\n");
        peer
    }

    fn receive(&mut self) -> Frame {
        loop {
            let decoded = self.decoder.decode(&mut self.buffer).expect("STOMP");
            if let Some(frame) = decoded {
                return frame;
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).expect("readable");
            assert_ne!(count, 0, "it says goodbye before it closes");
            self.buffer.extend_from_slice(&bytes[..count]);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("written");
    }

    fn receipt(&mut self, frame: &Frame) {
        let receipt = frame.header("receipt").expect("asked for");
        self.send(format!("RECEIPT\nreceipt-id:{}\n\n\0", text(&receipt)).as_bytes());
    }
}

/// One producer, one consumer: every message is confirmed and delivered as often as `copies` says.
fn liar(copies: fn(usize) -> usize) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let serving = thread::spawn(move || {
        let mut producer = Peer::accept(&listener);
        let mut consumer = Peer::accept(&listener);
        let subscribe = consumer.receive();
        consumer.receipt(&subscribe);
        for number in 0.. {
            let frame = producer.receive();
            producer.receipt(&frame);
            if frame.command == Command::Disconnect {
                break;
            }
            let mut message = b"MESSAGE\nsubscription:0\ncontent-length:16\n\n".to_vec();
            message.extend_from_slice(&frame.body);
            message.push(0);
            (0..copies(number)).for_each(|_| consumer.send(&message));
        }
        let goodbye = consumer.receive();
        consumer.receipt(&goodbye);
    });
    (address, serving)
}

#[test]
fn a_broker_that_loses_what_it_confirmed_is_found_out_and_the_exit_code_says_so() {
    let (address, serving) = liar(|number| usize::from(number != 3));
    let output = bench(&address, "-C 10 -c 1 --patience 100ms --json");
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report all the same");
    assert_eq!(report["check"]["lost"], 1);
    let said = text(&output.stderr);
    assert!(
        said.contains("1 message is missing that the broker had confirmed"),
        "{said}"
    );
    serving.join().expect("the script came to its end");
}

#[test]
fn a_broker_that_delivers_twice_is_found_out() {
    let (address, serving) = liar(|number| 1 + usize::from(number % 4 == 0));
    let output = bench(&address, "-C 10 -c 1 --json");
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["check"]["duplicates"], 3);
    assert_eq!(report["check"]["lost"], 0);
    serving.join().expect("the script came to its end");
}
