//! Lives of a broker under load: clients work on it until it dies, and what the next one serves is compared with what
//! they were promised. From then on, what it serves is what they know.
//!
//! Every message has a lane (who sent it) and a number that rises over all lives, and its body says both. A lane's
//! destination decides what becomes of its messages:
//!
//! | lanes | file | what happens |
//! |---|---|---|
//! | work | `work` | several publishers and queues; consumers acknowledge, requeue and hold |
//! | offers | `transactions` | taken, acknowledged and answered twice in one transaction |
//! | capped, brief, refused | `letters` | dead-lettered: queue too long, too old, rejected |
//! | fan | `fan_out` | durable subscriptions of a topic, some by pattern |

mod fan_out;
mod letters;
mod transactions;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millpond_protocol::stomp::{Command, Frame};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::peer::{Peer, body, header};
use super::process::Process;

/// How many clients work.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Publishers of the work lanes; as many lanes.
    pub(crate) publishers: u32,
    /// Queues that the work lanes share.
    pub(crate) queues: u32,
}

/// A message: its lane, and its number in it.
type Key = (Lane, u32);

/// Who sent a message, and so where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Lane {
    Work(u32),
    Capped,
    Brief,
    Refused,
    Fan,
}

impl Lane {
    /// As in a body and in a receipt.
    fn word(self) -> String {
        match self {
            Self::Work(publisher) => publisher.to_string(),
            other => format!("{other:?}"),
        }
    }

    fn parse(word: &str) -> Self {
        [Self::Capped, Self::Brief, Self::Refused, Self::Fan]
            .into_iter()
            .find(|lane| lane.word() == word)
            .unwrap_or_else(|| Self::Work(word.parse().expect("a lane")))
    }
}

/// A queue as a SEND names it: its name, and the header lines that are its arguments.
#[derive(Clone, Debug)]
struct Queue {
    name: String,
    arguments: &'static str,
}

/// A queue without arguments.
fn plain(name: &str) -> Queue {
    Queue {
        name: name.to_owned(),
        arguments: "",
    }
}

/// What the clients know of one message.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Its SEND was receipted, or it was seen after a restart: it is there until it is settled.
    kept: bool,
    /// It was seen after a restart.
    old: bool,
    /// What ends it in its queue was sent: an ACK, a NACK that rejects, a COMMIT with an ACK.
    end_sent: bool,
    /// That was receipted.
    ended: bool,
}

impl Known {
    /// What is known of a message that was just seen.
    fn seen() -> Self {
        Self {
            kept: true,
            old: true,
            ..Self::default()
        }
    }
}

/// What the clients know, all together.
pub(crate) struct Knowledge {
    load: Load,
    messages: BTreeMap<Key, Known>,
    next: HashMap<Lane, u32>,
    transactions: transactions::Transactions,
    letters: letters::Letters,
    lives: u32,
    receipts: usize,
}

impl Knowledge {
    pub(crate) fn new(load: Load) -> Self {
        Self {
            load,
            messages: BTreeMap::new(),
            next: HashMap::new(),
            transactions: transactions::Transactions::default(),
            letters: letters::Letters::default(),
            lives: 0,
            receipts: 0,
        }
    }

    /// Receipts that came in all lives.
    pub(crate) fn receipts(&self) -> usize {
        self.receipts
    }

    /// Compares what a broker serves with what is known, and goes on from what was seen.
    pub(crate) async fn check(&mut self, broker: &Process) {
        work::check(broker, self).await;
        transactions::check(broker, self).await;
        letters::check(broker, self).await;
        fan_out::check(broker, self).await;
    }

    /// Whether every part has something to show.
    pub(crate) fn tested_something(&self) -> bool {
        self.receipts > 0
            && self
                .messages
                .keys()
                .any(|key| matches!(key.0, Lane::Work(_)))
            && self.transactions.took_effect()
            && self.letters.came_from_everywhere()
    }

    /// The messages of these lanes.
    fn of(&self, wanted: impl Fn(Lane) -> bool) -> impl Iterator<Item = (Key, Known)> {
        self.messages
            .iter()
            .filter(move |(key, _)| wanted(key.0))
            .map(|(key, known)| (*key, *known))
    }

    /// From now on, of these lanes there is only what was seen.
    fn only(&mut self, lanes: impl Fn(Lane) -> bool, seen: impl IntoIterator<Item = Key>) {
        self.messages.retain(|key, _| !lanes(key.0));
        let seen = seen.into_iter().map(|key| (key, Known::seen()));
        self.messages.extend(seen);
    }
}

/// What the clients of one life share.
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

    fn change(&self, key: Key, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock();
        change(known.messages.get_mut(&key).expect("somebody sent it"));
    }

    /// The RECEIPT of an ACK or NACK that ends a message; any other frame is for the caller.
    fn ended(&self, frame: &Frame) -> bool {
        if frame.command != Command::Receipt {
            return false;
        }
        let id = header(frame, "receipt-id").expect("named");
        if let Some(key) = id.strip_prefix("end ") {
            self.change(parse(key), |known| known.ended = true);
        }
        self.count();
        true
    }
}

/// Length of a message's body: most are short, some need a page of the log, some more than one block.
fn length(number: u32) -> usize {
    match number % 40 {
        0 => 200 << 10,
        13 => 64 << 10,
        20 => 8 << 10,
        7 | 27 => 1 << 10,
        _ => 16,
    }
}

/// The body of a message, from which it can be told and which shows any damage.
fn text((lane, number): Key) -> String {
    let short = format!("{}/{number}/", lane.word());
    short.repeat(length(number).div_ceil(short.len()))
}

/// A key as it begins a body or ends a receipt.
fn parse(text: &str) -> Key {
    let mut parts = text.split('/');
    let lane = Lane::parse(parts.next().expect("a lane"));
    let number = parts.next().and_then(|number| number.parse().ok());
    (lane, number.expect("a number"))
}

/// Which message this is; a body that is not exactly as it was sent fails the test.
fn key(message: &Frame) -> Key {
    assert_eq!(message.command, Command::Message, "{}", body(message));
    let found = body(message);
    let key = parse(&found);
    assert!(
        found == text(key),
        "{key:?} is damaged: {} bytes",
        found.len()
    );
    key
}

/// The frame that ACKs or NACKs a delivery for good.
fn ending(peer: &Peer, command: &str, delivery: &Frame, key: Key, more: &str) -> String {
    let receipt = format!("receipt:end {}/{}\n{more}", key.0.word(), key.1);
    peer.settlement(command, delivery, &receipt)
}

/// Sends the messages of a lane, `window` in flight, until the broker is gone.
async fn publish(
    mut peer: Peer,
    lane: Lane,
    window: usize,
    to: impl Fn(u32) -> String,
    round: Arc<Round>,
) {
    let mut in_flight = 0;
    loop {
        let mut frames = String::new();
        while in_flight < window {
            let mut known = round.known.lock();
            let number = known.next.entry(lane).or_default();
            *number += 1;
            let key = (lane, *number);
            known.messages.insert(key, Known::default());
            drop(known);
            let to = to(key.1);
            frames += &format!(
                "SEND\n{to}receipt:{}/{}\n\n{}\0",
                lane.word(),
                key.1,
                text(key)
            );
            in_flight += 1;
        }
        peer.write(frames).await;
        for _ in 0..window.div_ceil(2) {
            let Some(frame) = peer.read().await else {
                return;
            };
            assert_eq!(frame.command, Command::Receipt, "{}", body(&frame));
            let id = header(&frame, "receipt-id").expect("named");
            round.change(parse(&id), |known| known.kept = true);
            in_flight -= 1;
            round.count();
        }
    }
}

/// Everything in a queue, in order, without taking it; or taking it.
async fn look(broker: &Process, queue: &Queue, take: bool) -> Vec<Frame> {
    let Queue { name, arguments } = queue;
    let mut peer = broker.client().await;
    peer.ask(&format!(
        "SEND\ndestination:/queue/{name}\n{arguments}persistent:false\n\nthe end"
    ))
    .await;
    peer.ask(&format!(
        "SUBSCRIBE\nid:s\ndestination:/amq/queue/{name}\nack:client-individual"
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
        if take {
            peer.tell(&peer.settlement("ACK", &message, "")).await;
        }
        messages.push(message);
    }
}

/// One life of a broker: checks what is there, works until so many receipts have come, and lets it die as `die` does,
/// which must leave nothing of it running.
///
/// # Panics
/// When something that was promised is not so.
pub(crate) async fn live(
    broker: Process,
    mut known: Knowledge,
    receipts: usize,
    die: impl AsyncFnOnce(Process),
) -> Knowledge {
    known.check(&broker).await;
    known.lives += 1;
    let round = Arc::new(Round {
        known: Mutex::new(known),
        receipts: AtomicUsize::new(0),
        receipt_came: Notify::new(),
    });
    let mut clients = Vec::new();
    clients.extend(work::start(&broker, &round).await);
    clients.extend(transactions::start(&broker, &round).await);
    clients.extend(letters::start(&broker, &round).await);
    clients.extend(fan_out::start(&broker, &round).await);
    round.receipts_reach(receipts).await;
    die(broker).await;
    for client in clients {
        client.await.expect("the client met only what it expected");
    }
    let round = Arc::into_inner(round).expect("every client ended");
    let mut known = round.known.into_inner();
    known.receipts += round.receipts.into_inner();
    known
}
