//! Backlogs far above what may be in memory: nothing is lost, and nothing comes out of order.

use std::time::Duration;

use millpond::engine::memory::MemoryLimit;
use millpond::storage::MemoryStore;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{Peer, body, header};
use crate::support::process::Process;

/// Bytes in memory from which on the queues here are paged.
const PAGE_FROM: u64 = 256 << 10;
/// A limit of which the messages here take more than half, so that transient ones go to disk too.
const SHORT: u64 = 4 << 20;
/// What is left of them in memory then, about.
const SHORT_LEFT: u64 = SHORT / 2 + 2 * PAGE_FROM;
const MESSAGES: usize = 4_000;
const BODY_BYTES: usize = 1_000;
/// Longer than paging takes on any machine.
const SOON: Duration = Duration::from_secs(30);

fn setup() -> Setup {
    Setup {
        memory: MemoryLimit::Bytes(64 << 20),
        page_from: Some(PAGE_FROM),
        ..Setup::default()
    }
}

fn text(n: usize) -> String {
    format!("{n:0BODY_BYTES$}")
}

/// Sends messages `from..to`, and waits until the broker has them.
async fn fill(peer: &mut Peer, destination: &str, more: &str, range: std::ops::Range<usize>) {
    for n in range {
        let receipt = if n % 500 == 499 {
            format!("receipt:r{n}\n")
        } else {
            String::new()
        };
        let frame = format!(
            "SEND\ndestination:{destination}\n{more}{receipt}\n{}",
            text(n)
        );
        peer.tell(&frame).await;
        if !receipt.is_empty() {
            peer.receipt(&format!("r{n}")).await;
        }
    }
}

/// Takes `count` messages in batches of acknowledgements; their numbers, in order.
async fn drain(peer: &mut Peer, count: usize) -> Vec<usize> {
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let frame = peer.message().await;
        numbers.push(body(&frame).parse().expect("a number"));
        if numbers.len() % 50 == 0 || numbers.len() == count {
            peer.settle("ACK", &frame, "").await;
        }
    }
    numbers
}

/// Waits until less than this is in memory.
async fn paged(broker: &TestBroker, most: u64) {
    let waiting = async {
        while broker.charged() > most {
            tokio::task::yield_now().await;
        }
    };
    let waited = timeout(SOON, waiting).await;
    waited.unwrap_or_else(|_| panic!("{} bytes stay in memory", broker.charged()));
}

/// Fails with the first message that is not the one expected.
fn assert_order(found: &[usize], expected: impl IntoIterator<Item = usize>) {
    let mut count = 0;
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(*found, expected, "in place {at}");
        count += 1;
    }
    assert_eq!(found.len(), count, "more came than was expected");
}

const SUBSCRIBE: &str =
    "SUBSCRIBE\nid:1\ndestination:/queue/deep\nack:client\nprefetch-count:200\n\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_goes_to_disk_and_comes_out_complete_and_in_order() {
    for (persistent, limit, left) in [
        ("persistent:true\n", 64 << 20, 3 * PAGE_FROM),
        ("persistent:false\n", SHORT, SHORT_LEFT),
    ] {
        let memory = MemoryLimit::Bytes(limit);
        let broker = Setup { memory, ..setup() }.start().await;
        let mut sender = broker.client().await;
        fill(&mut sender, "/queue/deep", persistent, 0..MESSAGES).await;
        paged(&broker, left).await;
        let mut reader = broker.client().await;
        reader.tell(SUBSCRIBE).await;
        assert_order(&drain(&mut reader, MESSAGES).await, 0..MESSAGES);
        reader.leave().await;
        assert_eq!(
            broker
                .depth("deep")
                .map(|depth| (depth.ready, depth.unacked)),
            Some((0, 0))
        );
        assert_eq!(broker.charged(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priorities_hold_on_disk() {
    let broker = setup().start().await;
    let mut sender = broker.client().await;
    for n in 0..MESSAGES {
        let receipt = if n % 500 == 499 {
            format!("receipt:r{n}\n")
        } else {
            String::new()
        };
        let frame = format!(
            "SEND\ndestination:/queue/deep\nx-max-priority:3\npriority:{}\n{receipt}\n{}",
            n % 4,
            text(n)
        );
        sender.tell(&frame).await;
        if !receipt.is_empty() {
            sender.receipt(&format!("r{n}")).await;
        }
    }
    paged(&broker, 3 * PAGE_FROM + (MESSAGES * 64) as u64).await;
    let mut reader = broker.client().await;
    reader.tell(SUBSCRIBE).await;
    let mut expected: Vec<usize> = (0..MESSAGES).collect();
    expected.sort_by_key(|n| (std::cmp::Reverse(n % 4), *n));
    assert_order(&drain(&mut reader, MESSAGES).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_messages_that_come_back_are_first_again() {
    let broker = setup().start().await;
    let mut sender = broker.client().await;
    fill(&mut sender, "/queue/deep", "", 0..MESSAGES).await;
    let mut holder = broker.client().await;
    holder.tell(&SUBSCRIBE.replace("200", "1500")).await;
    for n in 0..1_500 {
        assert_eq!(holder.text().await, text(n));
    }
    paged(&broker, 3 * PAGE_FROM + 1_500 * 64).await;
    holder.leave().await;
    let mut reader = broker.client().await;
    reader.tell(SUBSCRIBE).await;
    assert_order(&drain(&mut reader, MESSAGES).await, 0..MESSAGES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_queue_drops_from_disk_becomes_dead_letters_in_order() {
    let broker = setup().start().await;
    let mut sender = broker.client().await;
    sender
        .ask("SUBSCRIBE\nid:1\ndestination:/queue/dead\nack:client\nprefetch-count:1\n\n")
        .await;
    sender.ask("UNSUBSCRIBE\nid:1\n\n").await;
    let full = "x-max-length:1000\nx-dead-letter-exchange:\nx-dead-letter-routing-key:dead\n";
    fill(&mut sender, "/queue/deep", full, 0..MESSAGES).await;
    assert_eq!(broker.depth("deep").map(|depth| depth.ready), Some(1_000));
    let mut reader = broker.client().await;
    reader.tell(&SUBSCRIBE.replace("deep", "dead")).await;
    let gone = MESSAGES - 1_000;
    assert_order(&drain(&mut reader, gone).await, 0..gone);
    let mut reader = broker.client().await;
    reader.tell(SUBSCRIBE).await;
    assert_order(&drain(&mut reader, 1_000).await, gone..MESSAGES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_on_disk_is_dead_lettered() {
    let broker = setup().start().await;
    let mut sender = broker.client().await;
    let dying = "x-message-ttl:1500\nx-dead-letter-exchange:\nx-dead-letter-routing-key:dead\n";
    sender
        .ask("SUBSCRIBE\nid:1\ndestination:/queue/dead\nack:client\nprefetch-count:1\n\n")
        .await;
    sender.ask("UNSUBSCRIBE\nid:1\n\n").await;
    fill(&mut sender, "/queue/deep", dying, 0..MESSAGES).await;
    let mut reader = broker.client().await;
    reader.tell(&SUBSCRIBE.replace("deep", "dead")).await;
    assert_order(&drain(&mut reader, MESSAGES).await, 0..MESSAGES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_transient_queue_that_goes_leaves_nothing_behind() {
    let store = MemoryStore::new();
    let broker = Setup {
        memory: MemoryLimit::Bytes(SHORT),
        page_from: Some(PAGE_FROM),
        ..Setup::over(store.clone())
    };
    let broker = broker.start().await;
    let mut sender = broker.client().await;
    sender.tell("SUBSCRIBE\nid:1\ndestination:/queue/deep\nauto-delete:true\nack:client\nprefetch-count:1\n\n").await;
    fill(&mut sender, "/amq/queue/deep", "persistent:false\n", 0..1).await;
    let mut other = broker.client().await;
    fill(
        &mut other,
        "/amq/queue/deep",
        "persistent:false\n",
        1..MESSAGES,
    )
    .await;
    paged(&broker, SHORT_LEFT).await;
    sender.leave().await;
    let gone = async {
        while broker.depth("deep").is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone)
        .await
        .expect("the queue goes with its consumer");
    assert_eq!(broker.charged(), 0);
    broker.stop().await.expect("an orderly stop");
    let again = Setup::over(store).start().await;
    assert_eq!(again.engine().core().journal.stats().blocks_live, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_survives_kill_minus_nine_and_is_served_without_being_read_first() {
    let directory = TempDir::new().expect("a directory");
    let settings = ["memory.page_from=256KiB"];
    let broker = Process::start(directory.path(), &settings).await;
    let mut sender = broker.client().await;
    fill(&mut sender, "/queue/deep", "", 0..MESSAGES).await;
    fill(
        &mut sender,
        "/queue/fleeting",
        "persistent:false\n",
        0..MESSAGES,
    )
    .await;
    broker.kill().await;
    let broker = Process::start(directory.path(), &settings).await;
    let mut reader = broker.client().await;
    reader.tell(SUBSCRIBE).await;
    let first = reader.message().await;
    assert_eq!(header(&first, "redelivered").as_deref(), Some("true"));
    assert_eq!(body(&first), text(0));
    assert_order(&drain(&mut reader, MESSAGES - 1).await, 1..MESSAGES);
    let mut sender = broker.client().await;
    fill(&mut sender, "/queue/fleeting", "", 0..500).await;
    reader
        .tell("SUBSCRIBE\nid:2\ndestination:/queue/fleeting\nack:client\n\n")
        .await;
    assert_order(&drain(&mut reader, 500).await, 0..500);
    broker.kill().await;
}
