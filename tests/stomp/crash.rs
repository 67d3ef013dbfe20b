//! kill -9 under load: what was receipted survives, and nothing else appears.
//!
//! Publishers, consumers and a client with transactions work on one broker until so many receipts have come, and
//! the process is killed. What the next one serves is compared with what the clients know, and from then on is
//! what they know.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millpond_protocol::stomp::{Command, Frame};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::support::peer::{Peer, body, header};
use crate::support::process::Process;

const ROUNDS: usize = 20;
/// Rounds with the other engine; the clients do the same, so it is about the store.
const ROUNDS_FJALL: usize = 10;
/// Receipts after which the process is killed, one round after the other.
const KILL_AFTER: [usize; 10] = [1, 400, 7, 150, 60, 2, 800, 25, 250, 100];
const PUBLISHERS: u32 = 3;
/// SENDs a publisher has in flight.
const WINDOW: usize = 32;
/// Messages that a round offers to the transactions.
const OFFERED: u32 = 60;
/// Transactions that a life leaves open; a connection may have 16.
const LEFT_OPEN_MAX: u32 = 8;
/// Every so many messages one is too large for one block of the log.
const LARGE_EVERY: u32 = 40;

/// A message: who sent it, and its number with that publisher, which rises over all rounds.
type Key = (u32, u32);

/// What the clients know of one message.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Its SEND was receipted, or it was seen after a restart: it is there until it is acknowledged.
    kept: bool,
    /// An ACK for it was sent (or a COMMIT with one).
    ack_sent: bool,
    /// That was receipted.
    acked: bool,
}

/// What the clients know, all together.
#[derive(Default)]
struct Knowledge {
    work: BTreeMap<Key, Known>,
    offers: BTreeMap<u32, Known>,
    /// Results of transactions that were seen after an earlier restart.
    results: BTreeSet<u32>,
    next: HashMap<u32, u32>,
    next_offer: u32,
    lives: u32,
}

/// What the clients of one round share.
#[derive(Default)]
struct Round {
    known: Mutex<Knowledge>,
    receipts: AtomicUsize,
    receipt_came: Notify,
}

impl Round {
    fn count(&self) {
        self.receipts.fetch_add(1, Ordering::Relaxed);
        self.receipt_came.notify_one();
    }

    async fn receipts_reach(&self, wanted: usize) {
        while self.receipts.load(Ordering::Relaxed) < wanted {
            self.receipt_came.notified().await;
        }
    }
}

/// The body of a message, from which it can be told and which shows any damage.
fn text((publisher, number): Key) -> String {
    let short = format!("{publisher}/{number}/");
    let times = if number.is_multiple_of(LARGE_EVERY) {
        20_000
    } else {
        1
    };
    short.repeat(times)
}

/// Which message this is; a body that is not exactly as it was sent fails the test.
fn key(message: &Frame) -> Key {
    let found = body(message);
    let mut parts = found.split('/').map(|part| part.parse().expect("a number"));
    let key = (
        parts.next().expect("a publisher"),
        parts.next().expect("a number"),
    );
    assert!(
        found == text(key),
        "{key:?} is damaged: {} bytes",
        found.len()
    );
    key
}

/// Sends with a window until the broker is gone.
async fn publish(mut peer: Peer, publisher: u32, round: Arc<Round>) {
    let mut in_flight = HashMap::new();
    loop {
        let mut frames = String::new();
        while in_flight.len() < WINDOW {
            let mut known = round.known.lock();
            let number = known.next.entry(publisher).or_default();
            *number += 1;
            let key = (publisher, *number);
            known.work.insert(key, Known::default());
            frames += &format!(
                "SEND\ndestination:/queue/work\nreceipt:{}\n\n{}\0",
                key.1,
                text(key)
            );
            in_flight.insert(key.1.to_string(), key);
        }
        peer.write(frames).await;
        for _ in 0..WINDOW / 2 {
            let Some(frame) = peer.read().await else {
                return;
            };
            assert_eq!(frame.command, Command::Receipt, "{}", body(&frame));
            let id = header(&frame, "receipt-id").expect("named");
            let key = in_flight.remove(&id).expect("a receipt comes once");
            round.known.lock().work.get_mut(&key).expect("sent").kept = true;
            round.count();
        }
    }
}

/// Consumes and acknowledges two of three, until the broker is gone.
async fn consume(mut peer: Peer, round: Arc<Round>) {
    peer.tell("SUBSCRIBE\nid:s\ndestination:/queue/work\nack:client-individual\nprefetch-count:20")
        .await;
    while let Some(frame) = peer.read().await {
        if frame.command == Command::Receipt {
            let id = header(&frame, "receipt-id").expect("named");
            let (publisher, number) = id.split_once('/').expect("a key");
            let key = (
                publisher.parse().expect("a number"),
                number.parse().expect("a number"),
            );
            round.known.lock().work.get_mut(&key).expect("sent").acked = true;
            round.count();
            continue;
        }
        let key = key(&frame);
        {
            let mut known = round.known.lock();
            let message = known.work.get_mut(&key).expect("somebody sent it");
            assert!(!message.acked, "{key:?} was acknowledged");
            if key.1.is_multiple_of(3) {
                continue;
            }
            message.ack_sent = true;
        }
        let ack = peer.settlement("ACK", &frame, &format!("receipt:{}/{}\n", key.0, key.1));
        peer.tell(&ack).await;
    }
}

/// Offers messages, then takes them one by one and in one transaction acknowledges each and sends two results; every
/// fifth is aborted or left open, in each life of the broker another. Until the broker is gone.
async fn transact(mut peer: Peer, lives: u32, round: Arc<Round>) {
    for _ in 0..OFFERED {
        let offer = {
            let mut known = round.known.lock();
            known.next_offer += 1;
            let offer = known.next_offer;
            known.offers.insert(offer, Known::default());
            offer
        };
        peer.tell(&format!(
            "SEND\ndestination:/queue/offers\nreceipt:offer {offer}\n\n{offer}"
        ))
        .await;
    }
    peer.tell(
        "SUBSCRIBE\nid:s\ndestination:/queue/offers\nack:client-individual\nprefetch-count:100",
    )
    .await;
    let mut left_open = 0;
    while let Some(frame) = peer.read().await {
        if frame.command == Command::Receipt {
            let id = header(&frame, "receipt-id").expect("named");
            let (what, offer) = id.split_once(' ').expect("two words");
            let mut known = round.known.lock();
            let offer = known
                .offers
                .get_mut(&offer.parse().expect("a number"))
                .expect("sent");
            match what {
                "offer" => offer.kept = true,
                _ => offer.acked = true,
            }
            drop(known);
            round.count();
            continue;
        }
        assert_eq!(frame.command, Command::Message, "{}", body(&frame));
        let offer: u32 = body(&frame).parse().expect("a number");
        let commits = !(offer + lives).is_multiple_of(5);
        let ack = peer.settlement("ACK", &frame, &format!("transaction:{offer}\n"));
        let mut frames = format!("BEGIN\ntransaction:{offer}\n\n\0{ack}\0");
        for queue in ["results-a", "results-b"] {
            frames +=
                &format!("SEND\ndestination:/queue/{queue}\ntransaction:{offer}\n\n{offer}\0");
        }
        if commits {
            round
                .known
                .lock()
                .offers
                .get_mut(&offer)
                .expect("sent")
                .ack_sent = true;
            frames += &format!("COMMIT\ntransaction:{offer}\nreceipt:commit {offer}\n\n\0");
        } else if offer.is_multiple_of(2) && left_open < LEFT_OPEN_MAX {
            left_open += 1;
        } else {
            frames += &format!("ABORT\ntransaction:{offer}\n\n\0");
        }
        peer.write(frames).await;
    }
}

/// Everything in a queue, in order, without taking it.
async fn browse(broker: &Process, queue: &str) -> Vec<Frame> {
    let mut peer = broker.client().await;
    peer.ask(&format!(
        "SEND\ndestination:/queue/{queue}\npersistent:false\n\nthe end"
    ))
    .await;
    peer.ask(&format!(
        "SUBSCRIBE\nid:s\ndestination:/queue/{queue}\nack:client-individual"
    ))
    .await;
    let mut messages = Vec::new();
    loop {
        let message = peer.message().await;
        if body(&message) == "the end" {
            peer.settle("ACK", &message, "").await;
            peer.leave().await;
            return messages;
        }
        messages.push(message);
    }
}

async fn browse_numbers(broker: &Process, queue: &str) -> Vec<u32> {
    let messages = browse(broker, queue).await;
    messages
        .iter()
        .map(|message| body(message).parse().expect("a number"))
        .collect()
}

/// Compares the publishers' queue with what is known of it.
async fn check_work(broker: &Process, known: &mut Knowledge) {
    let found: Vec<Key> = browse(broker, "work").await.iter().map(key).collect();
    let mut last: HashMap<u32, u32> = HashMap::new();
    for (publisher, number) in &found {
        let last = last.insert(*publisher, *number).unwrap_or(0);
        assert!(
            last < *number,
            "publisher {publisher}: {number} came after {last}"
        );
        assert!(
            known.work.contains_key(&(*publisher, *number)),
            "{publisher}/{number} was invented"
        );
    }
    let found: BTreeSet<Key> = found.into_iter().collect();
    for (key, message) in &known.work {
        let there = found.contains(key);
        assert!(
            there || !message.kept || message.ack_sent,
            "{key:?} is lost: {message:?}"
        );
        assert!(
            !there || !message.acked,
            "{key:?} came back although its ACK was receipted"
        );
    }
    // What is not there now is not to come back.
    let seen = Known {
        kept: true,
        ..Known::default()
    };
    known.work = found.into_iter().map(|key| (key, seen)).collect();
}

/// Compares offers and results with what is known of the transactions.
async fn check_transactions(broker: &Process, known: &mut Knowledge) {
    let offers: BTreeSet<u32> = browse_numbers(broker, "offers").await.into_iter().collect();
    let first = browse_numbers(broker, "results-a").await;
    let second = browse_numbers(broker, "results-b").await;
    assert_eq!(
        first, second,
        "a transaction is in one queue and not in the other"
    );
    let results: BTreeSet<u32> = first.iter().copied().collect();
    assert_eq!(
        results.len(),
        first.len(),
        "a transaction took effect twice"
    );
    assert!(known.results.is_subset(&results), "results are lost");
    for offer in offers.iter().chain(results.difference(&known.results)) {
        assert!(known.offers.contains_key(offer), "{offer} was invented");
    }
    for (offer, message) in &known.offers {
        let (open, done) = (offers.contains(offer), results.contains(offer));
        assert!(!(open && done), "{offer} was sent but not acknowledged");
        assert!(
            open || done || !message.kept,
            "{offer} is lost: {message:?}"
        );
        assert!(
            !done || message.ack_sent,
            "{offer} took effect without COMMIT"
        );
        assert!(
            done || !message.acked,
            "the commit of {offer} was receipted and is not there"
        );
    }
    let seen = Known {
        kept: true,
        ..Known::default()
    };
    known.offers = offers.into_iter().map(|offer| (offer, seen)).collect();
    known.results = results;
}

/// One life of the broker: checks what is there, works, kills.
async fn live(data: &Path, engine: &str, known: Knowledge, kill_after: usize) -> Knowledge {
    let broker = Process::start(data, &[engine]).await;
    let mut known = known;
    check_work(&broker, &mut known).await;
    check_transactions(&broker, &mut known).await;
    known.lives += 1;
    let lives = known.lives;
    let round = Arc::new(Round {
        known: Mutex::new(known),
        ..Round::default()
    });
    let mut clients = Vec::new();
    for publisher in 1..=PUBLISHERS {
        clients.push(tokio::spawn(publish(
            broker.client().await,
            publisher,
            Arc::clone(&round),
        )));
    }
    for _ in 0..2 {
        clients.push(tokio::spawn(consume(
            broker.client().await,
            Arc::clone(&round),
        )));
    }
    clients.push(tokio::spawn(transact(
        broker.client().await,
        lives,
        Arc::clone(&round),
    )));
    round.receipts_reach(kill_after).await;
    broker.kill().await;
    for client in clients {
        client.await.expect("the client met only what it expected");
    }
    let round = Arc::into_inner(round).expect("every client ended");
    round.known.into_inner()
}

/// So many lives with an engine, and a last look.
async fn live_and_die(engine: &str, rounds: usize) {
    let data = TempDir::new().expect("a temporary directory");
    let mut known = Knowledge::default();
    for round in 0..rounds {
        let kill_after = KILL_AFTER[round % KILL_AFTER.len()];
        known = live(data.path(), engine, known, kill_after).await;
    }
    let broker = Process::start(data.path(), &[engine]).await;
    check_work(&broker, &mut known).await;
    check_transactions(&broker, &mut known).await;
    assert!(
        !known.work.is_empty() && !known.results.is_empty(),
        "the test tested nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_process_is_killed_what_was_receipted_is_there_and_nothing_else() {
    live_and_die("storage.engine=sled", ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_process_is_killed_fjall_has_kept_what_was_receipted_and_nothing_else() {
    live_and_die("storage.engine=fjall", ROUNDS_FJALL).await;
}
