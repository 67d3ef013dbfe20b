//! Sessions behind their driver, over a pipe instead of a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::stomp::{StompOptions, StompSession};
use super::{BufferPool, DriverOptions, Ingest, Peer, Shared, Stop, drive};
use crate::engine::access::{Access, AccessConfig};
use crate::engine::broker::Broker;
use crate::engine::clock::Clock;
use crate::engine::memory::{Memory, MemoryLimit};
use crate::engine::name::VhostName;
use crate::engine::queue::Owner;
use crate::storage::{Journal, JournalOptions, MemoryStore};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    broker: Arc<Broker>,
    stop: CancellationToken,
    options: StompOptions,
    shared: Shared,
    accepted: AtomicU64,
}

impl Server {
    fn start() -> Self {
        Self::with_memory(MemoryLimit::Bytes(1 << 30))
    }

    fn with_memory(limit: MemoryLimit) -> Self {
        let (journal, recovered) =
            Journal::open(Box::new(MemoryStore::default()), JournalOptions::default()).unwrap();
        let access = Access::new(AccessConfig::default()).unwrap();
        let memory = Arc::new(Memory::new(limit));
        let (broker, _) = Broker::open(
            journal,
            recovered,
            &[VhostName::root()],
            access,
            memory,
            Clock::system(),
        )
        .unwrap();
        broker.start();
        let shared = Shared {
            pool: Arc::new(BufferPool::new(4)),
            ingest: Arc::new(Ingest::new(
                1 << 20,
                Duration::from_secs(60),
                Arc::clone(&broker.core().memory),
            )),
        };
        Self {
            broker,
            shared,
            stop: CancellationToken::new(),
            options: StompOptions::default(),
            accepted: AtomicU64::new(0),
        }
    }

    /// A connection with so many bytes of room in each direction.
    fn connect(&self, pipe: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(pipe);
        let owner = Owner(self.accepted.fetch_add(1, Ordering::Relaxed));
        let peer = Peer {
            remote: ([127, 0, 0, 1], 1).into(),
        };
        let session = StompSession::new(
            Arc::clone(&self.broker),
            Arc::new(self.options.clone()),
            peer,
            owner,
        );
        let stop = Stop {
            clients: self.stop.clone(),
            abort: CancellationToken::new(),
        };
        let options = DriverOptions {
            write_bytes: 256 * 1024,
            close_timeout: Duration::from_secs(60),
        };
        tokio::spawn(drive(theirs, session, stop, self.shared.clone(), options));
        Client { stream: ours }
    }

    /// A connection that is logged in.
    async fn client(&self) -> Client {
        let mut client = self.connect(64 * 1024);
        client.send("CONNECT\naccept-version:1.2\nhost:/\n\n").await;
        assert!(client.frame().await.starts_with("CONNECTED\n"));
        client
    }
}

struct Client {
    stream: DuplexStream,
}

impl Client {
    async fn send(&mut self, frame: &str) {
        self.stream
            .write_all(format!("{frame}\0").as_bytes())
            .await
            .unwrap();
    }

    /// The next frame, or nothing at the end.
    async fn frame(&mut self) -> String {
        let read = async {
            let mut frame = Vec::new();
            loop {
                match self.stream.read_u8().await {
                    Ok(0) | Err(_) => return String::from_utf8(frame).unwrap(),
                    Ok(b'\n') if frame.is_empty() => {}
                    Ok(byte) => frame.push(byte),
                }
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("a frame comes in time")
    }

    /// Sends a frame and takes what comes until its receipt.
    async fn carried_out(&mut self, frame: &str) -> Vec<String> {
        let (command, rest) = frame.split_once('\n').unwrap();
        self.send(&format!("{command}\nreceipt:done\n{rest}")).await;
        let mut before = Vec::new();
        loop {
            let frame = self.frame().await;
            assert!(!frame.is_empty() && !frame.starts_with("ERROR"), "{frame}");
            if frame.contains("receipt-id:done\n") {
                return before;
            }
            before.push(frame);
        }
    }
}

fn header<'f>(frame: &'f str, name: &str) -> &'f str {
    frame
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_default()
}

#[tokio::test]
async fn the_task_of_a_connection_is_small() {
    let server = Server::start();
    let (ours, _theirs) = tokio::io::duplex(1);
    let owner = Owner(1);
    let remote = "127.0.0.1:1".parse().unwrap();
    let options = Arc::new(StompOptions::default());
    let session = StompSession::new(Arc::clone(&server.broker), options, Peer { remote }, owner);
    let stop = Stop {
        clients: CancellationToken::new(),
        abort: CancellationToken::new(),
    };
    let driver = DriverOptions {
        write_bytes: 256 << 10,
        close_timeout: Duration::from_secs(1),
    };
    let task = drive(ours, session, stop, server.shared.clone(), driver);
    let bytes = size_of_val(&task);
    assert!(bytes <= 2048, "{bytes} bytes");
}

#[tokio::test]
async fn the_frame_that_logs_in_by_itself_is_carried_out() {
    let mut server = Server::start();
    server.options.machine.implicit_connect = true;
    let mut client = server.connect(1024);
    client
        .send("SEND\ndestination:/queue/q\nreceipt:1\n\nhello")
        .await;
    assert!(client.frame().await.contains("receipt-id:1\n"));
}

#[tokio::test]
async fn a_client_that_closed_its_half_still_gets_its_answers() {
    let server = Server::start();
    let mut client = server.connect(1024);
    client.send("CONNECT\naccept-version:1.2\nhost:/\n\n").await;
    client
        .send("SEND\ndestination:/queue/q\nreceipt:1\n\nhello")
        .await;
    client.stream.shutdown().await.unwrap();
    assert!(client.frame().await.starts_with("CONNECTED\n"));
    assert!(client.frame().await.contains("receipt-id:1\n"));
    assert_eq!(client.frame().await, "");
}

#[tokio::test]
async fn a_subscriber_gets_in_and_makes_room_while_memory_is_short() {
    let server = Server::with_memory(MemoryLimit::Bytes(40_000));
    let body = "x".repeat(1_000);
    let mut publisher = server.client().await;
    for _ in 0..40 {
        publisher
            .send(&format!("SEND\ndestination:/queue/q\n\n{body}"))
            .await;
    }
    while !server.broker.core().memory.pressure() {
        tokio::task::yield_now().await;
    }
    let mut subscriber = server.client().await;
    subscriber
        .send("SUBSCRIBE\nid:0\ndestination:/queue/q\nack:client-individual\n\n")
        .await;
    while server.broker.core().memory.pressure() {
        let message = subscriber.frame().await;
        assert!(message.starts_with("MESSAGE\n"), "{message}");
        subscriber
            .send(&format!("ACK\nid:{}\n\n", header(&message, "ack")))
            .await;
        tokio::task::yield_now().await;
    }
    publisher
        .carried_out("SEND\ndestination:/queue/q\n\nlast")
        .await;
}

#[tokio::test]
async fn one_unsettled_delivery_is_no_licence_to_fill_the_memory() {
    let server = Server::with_memory(MemoryLimit::Bytes(40_000));
    let mut client = server.client().await;
    client
        .carried_out("SEND\ndestination:/queue/held\n\n1")
        .await;
    client
        .send("SUBSCRIBE\nid:0\ndestination:/queue/held\nack:client\n\n")
        .await;
    let message = client.frame().await;
    let body = "x".repeat(1_000);
    let mut refused = String::new();
    for number in 0..60 {
        client
            .send(&format!(
                "SEND\ndestination:/queue/q\nreceipt:{number}\n\n{body}"
            ))
            .await;
        let answer = client.frame().await;
        if answer.starts_with("ERROR\n") {
            refused = answer;
            break;
        }
    }
    assert!(refused.contains("code:memory_low\n"), "{refused}");
    client
        .carried_out(&format!("ACK\nid:{}\n\n", header(&message, "ack")))
        .await;
}

#[tokio::test]
async fn a_refused_send_leaves_the_connection_open() {
    let server = Server::start();
    let mut client = server.client().await;
    client
        .send("SEND\ndestination:/exchange/missing/k\nreceipt:1\n\nx")
        .await;
    let error = client.frame().await;
    assert!(
        error.starts_with("ERROR\n")
            && error.contains("code:not_found\n")
            && error.contains("receipt-id:1\n"),
        "{error}"
    );
    client.carried_out("SEND\ndestination:/queue/q\n\nx").await;
}

#[tokio::test]
async fn a_stopping_broker_answers_what_it_owes_before_it_says_so() {
    let server = Server::start();
    let mut client = server.client().await;
    client
        .send("SEND\ndestination:/queue/q\nreceipt:1\n\nx")
        .await;
    // Read, and perhaps not on disk yet.
    while server
        .broker
        .vhost(&VhostName::root())
        .unwrap()
        .queues()
        .is_empty()
    {
        tokio::task::yield_now().await;
    }
    server.stop.cancel();
    assert!(client.frame().await.starts_with("RECEIPT\n"));
    assert!(client.frame().await.contains("code:shutdown\n"));
    assert_eq!(client.frame().await, "");
}

#[tokio::test]
async fn a_receipt_for_disconnect_comes_after_all_others() {
    let server = Server::start();
    for _ in 0..20 {
        let mut client = server.client().await;
        client
            .send("SUBSCRIBE\nid:0\ndestination:/queue/q\n\n")
            .await;
        client
            .send("SEND\ndestination:/queue/other\nreceipt:1\n\nx")
            .await;
        client.send("DISCONNECT\nreceipt:2\n\n").await;
        assert!(client.frame().await.contains("receipt-id:1\n"));
        assert!(client.frame().await.contains("receipt-id:2\n"));
        assert_eq!(client.frame().await, "");
    }
}

#[tokio::test]
async fn whoever_asks_for_a_wake_up_while_the_session_looks_gets_one() {
    let server = Server::start();
    let peer = Peer {
        remote: ([127, 0, 0, 1], 1).into(),
    };
    let mut session = StompSession::new(
        Arc::clone(&server.broker),
        Arc::new(StompOptions::default()),
        peer,
        Owner(0),
    );
    let outbox = super::Session::outbox(&session);
    // Not logged in: there is nothing to fetch, and still the wake-up is used up.
    for _ in 0..2 {
        outbox.wake();
        tokio::time::timeout(PATIENCE, outbox.woken())
            .await
            .expect("woken again");
        super::Session::on_wake(&mut session, 1000, &mut super::Output::default());
    }
}

#[tokio::test]
async fn a_named_queue_keeps_what_other_subscriptions_bound_to_it() {
    let server = Server::start();
    let mut client = server.client().await;
    for (id, topic) in [(0, "a"), (1, "b")] {
        client.carried_out(&format!("SUBSCRIBE\nid:{id}\ndestination:/topic/{topic}\nx-queue-name:mine\ndurable:true\n\n")).await;
    }
    for topic in ["a", "b"] {
        client
            .send(&format!("SEND\ndestination:/topic/{topic}\n\nx"))
            .await;
        assert_eq!(
            header(&client.frame().await, "destination"),
            format!("/topic/{topic}")
        );
    }
}

#[tokio::test]
async fn a_durable_subscription_with_another_filter_means_that_one() {
    let server = Server::start();
    let mut client = server.client().await;
    for filter in ["red", "blue"] {
        client
            .carried_out(&format!(
                "SUBSCRIBE\nid:0\ndestination:/topic/a\ndurable:true\nfilter-tags:{filter}\n\n"
            ))
            .await;
        client.carried_out("UNSUBSCRIBE\nid:0\n\n").await;
    }
    client
        .carried_out("SUBSCRIBE\nid:0\ndestination:/topic/a\ndurable:true\nfilter-tags:blue\n\n")
        .await;
    for tags in ["red", "blue"] {
        client
            .send(&format!(
                "SEND\ndestination:/topic/a\ntags:{tags}\n\n{tags}"
            ))
            .await;
    }
    assert_eq!(header(&client.frame().await, "tags"), "blue");
}

#[tokio::test]
async fn a_subscription_that_cannot_be_bound_leaves_no_queue_behind() {
    let server = Server::start();
    let mut client = server.client().await;
    client
        .send(&format!(
            "SUBSCRIBE\nid:0\ndestination:/topic/{}\n\n",
            "x".repeat(300)
        ))
        .await;
    assert!(client.frame().await.contains("code:invalid_destination\n"));
    client.carried_out("BEGIN\ntransaction:t\n\n").await;
    assert_eq!(
        server
            .broker
            .vhost(&VhostName::root())
            .unwrap()
            .queues()
            .len(),
        0
    );
}

#[tokio::test]
async fn a_subscriber_that_asks_for_nothing_special_takes_the_queue_as_it_is() {
    let server = Server::start();
    let mut client = server.client().await;
    client
        .carried_out("SEND\ndestination:/queue/capped\nx-max-length:5\n\nx")
        .await;
    client
        .carried_out("SUBSCRIBE\nid:0\ndestination:/queue/capped\n\n")
        .await;
    client
        .send("SUBSCRIBE\nid:1\ndestination:/queue/capped\nx-max-length:6\n\n")
        .await;
    let mut error = client.frame().await;
    while error.starts_with("MESSAGE\n") {
        error = client.frame().await;
    }
    assert!(
        error.contains("message:precondition_failed\n") && error.contains("x-max-length"),
        "{error}"
    );
}

#[tokio::test]
async fn a_send_to_a_deleted_queue_makes_it_anew() {
    let server = Server::start();
    let (mut publisher, mut consumer) = (server.client().await, server.client().await);
    consumer
        .carried_out("SUBSCRIBE\nid:0\ndestination:/queue/q\nauto-delete:true\n\n")
        .await;
    publisher
        .carried_out("SEND\ndestination:/queue/q\n\nx")
        .await;
    assert!(consumer.frame().await.starts_with("MESSAGE\n"));
    // The last consumer takes the queue along; the publisher remembers where it sent to.
    consumer.carried_out("UNSUBSCRIBE\nid:0\n\n").await;
    assert_eq!(
        server
            .broker
            .vhost(&VhostName::root())
            .unwrap()
            .queues()
            .len(),
        0
    );
    publisher
        .carried_out("SEND\ndestination:/queue/q\nmandatory:true\n\nagain")
        .await;
    consumer
        .send("SUBSCRIBE\nid:0\ndestination:/queue/q\n\n")
        .await;
    assert!(consumer.frame().await.ends_with("again"));
}

#[tokio::test]
async fn an_acknowledgement_makes_room_for_the_message_behind_it() {
    let server = Server::start();
    let mut client = server.client().await;
    let arguments = "x-max-length:1\nx-overflow:reject-publish\n";
    client
        .carried_out(&format!("SEND\ndestination:/queue/q\n{arguments}\n1"))
        .await;
    client
        .send("SUBSCRIBE\nid:0\ndestination:/queue/q\nack:client-individual\nprefetch-count:1\n\n")
        .await;
    let first = client.frame().await;
    client.carried_out("SEND\ndestination:/queue/q\n\n2").await;
    let both = format!(
        "ACK\nid:{}\n\n\0SEND\ndestination:/queue/q\nreceipt:3\n\n3",
        header(&first, "ack")
    );
    client.send(&both).await;
    let answers = [client.frame().await, client.frame().await];
    assert!(
        answers.iter().any(|frame| frame.starts_with("RECEIPT\n")),
        "{answers:?}"
    );
}

#[tokio::test]
async fn subscriptions_that_come_and_go_leave_nothing_behind() {
    let server = Server::start();
    let mut client = server.client().await;
    for _ in 0..100 {
        client
            .carried_out("SUBSCRIBE\nid:0\ndestination:/topic/a\n\n")
            .await;
        client.carried_out("UNSUBSCRIBE\nid:0\n\n").await;
    }
    assert_eq!(
        server
            .broker
            .vhost(&VhostName::root())
            .unwrap()
            .queues()
            .len(),
        0
    );
    assert_eq!(server.broker.core().memory.used(), 0);
}

#[tokio::test]
async fn a_transaction_with_a_refused_send_is_aborted_whole() {
    let server = Server::start();
    let mut client = server.client().await;
    client.carried_out("BEGIN\ntransaction:t\n\n").await;
    client
        .send("SEND\ndestination:/queue/q\ntransaction:t\n\n1")
        .await;
    client
        .send("SEND\ndestination:/exchange/missing\ntransaction:t\n\n2")
        .await;
    client.send("COMMIT\ntransaction:t\nreceipt:c\n\n").await;
    assert!(client.frame().await.contains("code:not_found\n"));
    let error = client.frame().await;
    assert!(error.contains("code:transaction_aborted\n") && error.contains("receipt-id:c\n"));
    client.carried_out("BEGIN\ntransaction:t\n\n").await;
    assert_eq!(server.broker.core().memory.used(), 0);
}

#[tokio::test]
async fn every_publisher_that_a_full_queue_holds_goes_on_in_the_end() {
    let server = Server::start();
    let mut consumer = server.client().await;
    let spec = "x-max-length:1\nx-overflow:block\n";
    let mut publishers = Vec::new();
    for _ in 0..8 {
        let mut client = server.client().await;
        publishers.push(tokio::spawn(async move {
            for _ in 0..20 {
                client
                    .carried_out(&format!("SEND\ndestination:/queue/q\n{spec}\nx"))
                    .await;
            }
        }));
    }
    tokio::task::yield_now().await;
    consumer
        .send(&format!(
            "SUBSCRIBE\nid:0\ndestination:/queue/q\nack:client\nprefetch-count:1\n{spec}\n"
        ))
        .await;
    for _ in 0..8 * 20 {
        let message = consumer.frame().await;
        let ack = header(&message, "ack");
        consumer.send(&format!("ACK\nid:{ack}\n\n")).await;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

/// The beginning of a SEND whose body has so many bytes; the rest of it is `x`.
fn begun(bytes: usize, begin: usize) -> String {
    format!(
        "SEND\ndestination:/queue/large\npersistent:false\nreceipt:done\ncontent-length:{bytes}\n\n{}",
        "x".repeat(begin)
    )
}

impl Client {
    /// Writes as much of `text` as is read at the other end; the bytes taken.
    async fn taken_of(&mut self, text: &str) -> usize {
        let mut taken = 0;
        while taken < text.len() {
            let write = self.stream.write(&text.as_bytes()[taken..]);
            match tokio::time::timeout(Duration::from_secs(1), write).await {
                Ok(count) => taken += count.unwrap(),
                Err(_) => break,
            }
        }
        taken
    }
}

#[tokio::test]
async fn large_frames_wait_for_room_before_they_are_read_and_those_that_began_are_finished() {
    let server = Server::start();
    let (size, begin) = (800_000, 200_000);
    let mut first = server.client().await;
    let mut second = server.client().await;
    let mut small = server.client().await;
    small
        .carried_out("SEND\ndestination:/queue/large\npersistent:false\n\n")
        .await;
    // The queue is there: nothing from here on waits for the disk, which knows no paused clock.
    tokio::time::pause();
    assert_eq!(
        first.taken_of(&begun(size, begin)).await,
        begun(size, begin).len()
    );
    let used = server.broker.core().memory.used();
    assert!(used >= size as u64, "{used} bytes are accounted");
    // The second one fits beside the first only when that is done: it is not read from meanwhile.
    let whole = begun(size, size) + "\0";
    let taken = second.taken_of(&whole).await;
    assert!(
        taken < 500_000,
        "{taken} bytes were taken that there is no room for"
    );
    small
        .carried_out("SEND\ndestination:/queue/large\npersistent:false\n\nhello")
        .await;
    first.send(&"x".repeat(size - begin)).await;
    assert!(first.frame().await.contains("receipt-id:done\n"));
    second
        .stream
        .write_all(&whole.as_bytes()[taken..])
        .await
        .unwrap();
    assert!(second.frame().await.contains("receipt-id:done\n"));
}

#[tokio::test]
async fn a_large_frame_that_does_not_come_is_told_so_and_gives_its_room_back() {
    let server = Server::start();
    let mut slow = server.client().await;
    let mut waiting = server.client().await;
    waiting
        .carried_out("SEND\ndestination:/queue/large\npersistent:false\n\n")
        .await;
    // The queue is there: nothing from here on waits for the disk, which knows no paused clock.
    tokio::time::pause();
    slow.taken_of(&begun(800_000, 200_000)).await;
    let whole = begun(800_000, 800_000) + "\0";
    let taken = waiting.taken_of(&whole).await;
    tokio::time::advance(Duration::from_secs(120)).await;
    let error = slow.frame().await;
    assert!(
        error.starts_with("ERROR\n") && error.contains("code:frame_timeout\n"),
        "{error}"
    );
    waiting
        .stream
        .write_all(&whole.as_bytes()[taken..])
        .await
        .unwrap();
    assert!(waiting.frame().await.contains("receipt-id:done\n"));
}
