//! A client that does its work in transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millpond_protocol::stomp::Command;
use tokio::task::JoinHandle;

use super::{Knowledge, Known, Round, look, plain};
use crate::support::peer::{Peer, body, header};
use crate::support::process::Process;

/// Messages that a life offers to the transactions.
const OFFERED: u32 = 60;
/// Transactions that a life leaves open; a connection may have 16.
const LEFT_OPEN_MAX: u32 = 8;

/// What is known of the transactions.
#[derive(Default)]
pub(super) struct Transactions {
    offers: BTreeMap<u32, Known>,
    /// Results that were seen after an earlier restart.
    results: BTreeSet<u32>,
    next_offer: u32,
}

impl Transactions {
    pub(super) fn took_effect(&self) -> bool {
        !self.results.is_empty()
    }

    fn offer(&mut self, offer: u32) -> &mut Known {
        self.offers.get_mut(&offer).expect("it was offered")
    }
}

/// Offers messages, then takes them one by one and in one transaction acknowledges each and sends two results; every
/// fifth is aborted or left open, in each life of the broker another. Until the broker is gone.
async fn transact(mut peer: Peer, lives: u32, round: Arc<Round>) {
    for _ in 0..OFFERED {
        let offer = {
            let transactions = &mut round.known.lock().transactions;
            transactions.next_offer += 1;
            let offer = transactions.next_offer;
            transactions.offers.insert(offer, Known::default());
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
            let offer = known.transactions.offer(offer.parse().expect("a number"));
            match what {
                "offer" => offer.kept = true,
                _ => offer.ended = true,
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
            round.known.lock().transactions.offer(offer).end_sent = true;
            frames += &format!("COMMIT\ntransaction:{offer}\nreceipt:commit {offer}\n\n\0");
        } else if offer.is_multiple_of(2) && left_open < LEFT_OPEN_MAX {
            left_open += 1;
        } else {
            frames += &format!("ABORT\ntransaction:{offer}\n\n\0");
        }
        peer.write(frames).await;
    }
}

pub(super) async fn start(broker: &Process, round: &Arc<Round>) -> Vec<JoinHandle<()>> {
    let lives = round.known.lock().lives;
    let client = transact(broker.client().await, lives, Arc::clone(round));
    vec![tokio::spawn(client)]
}

async fn numbers(broker: &Process, queue: &str) -> Vec<u32> {
    let messages = look(broker, &plain(queue), false).await;
    messages
        .iter()
        .map(|message| body(message).parse().expect("a number"))
        .collect()
}

/// Every transaction took effect as a whole or not at all.
pub(super) async fn check(broker: &Process, known: &mut Knowledge) {
    let known = &mut known.transactions;
    let offers: BTreeSet<u32> = numbers(broker, "offers").await.into_iter().collect();
    let first = numbers(broker, "results-a").await;
    let second = numbers(broker, "results-b").await;
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
            !done || message.end_sent,
            "{offer} took effect without COMMIT"
        );
        assert!(
            done || !message.ended,
            "the commit of {offer} was receipted and is not there"
        );
    }
    known.offers = offers
        .into_iter()
        .map(|offer| (offer, Known::seen()))
        .collect();
    known.results = results;
}
