//! Several publishers and consumers on a few queues.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{Key, Knowledge, Lane, Queue, Round, ending, key, look, plain, publish};
use crate::support::peer::{Peer, header};
use crate::support::process::Process;

/// SENDs a publisher has in flight.
const WINDOW: usize = 32;
/// Consumers of each queue.
const CONSUMERS: u32 = 2;
/// In every so manieth life what is left of the lives before is taken as well.
const HARVEST_EVERY: u32 = 4;

fn is_work(lane: Lane) -> bool {
    matches!(lane, Lane::Work(_))
}

fn queue(number: u32) -> Queue {
    plain(&format!("work-{number}"))
}

/// Consumes: acknowledges two of three and now and then puts one back first, until the broker is gone.
async fn consume(mut peer: Peer, queue: Queue, harvest: bool, round: Arc<Round>) {
    let name = queue.name;
    peer.tell(&format!(
        "SUBSCRIBE\nid:s\ndestination:/queue/{name}\nack:client-individual\nprefetch-count:200"
    ))
    .await;
    while let Some(frame) = peer.read().await {
        if round.ended(&frame) {
            continue;
        }
        let key = key(&frame);
        let is_new = header(&frame, "redelivered").as_deref() == Some("false");
        let mut frames = String::new();
        round.change(key, |known| {
            assert!(!known.ended, "{key:?} was acknowledged");
            if is_new && key.1.is_multiple_of(5) {
                frames = peer.settlement("NACK", &frame, "receipt:back\n");
            } else if !key.1.is_multiple_of(3) || (harvest && known.old) {
                known.end_sent = true;
                frames = ending(&peer, "ACK", &frame, key, "");
            }
        });
        if !frames.is_empty() {
            peer.tell(&frames).await;
        }
    }
}

pub(super) async fn start(broker: &Process, round: &Arc<Round>) -> Vec<JoinHandle<()>> {
    let (load, lives) = {
        let known = round.known.lock();
        (known.load, known.lives)
    };
    let mut clients = Vec::new();
    for publisher in 1..=load.publishers {
        let name = queue(publisher % load.queues).name;
        let to = move |_| format!("destination:/queue/{name}\n");
        let (lane, round) = (Lane::Work(publisher), Arc::clone(round));
        clients.push(tokio::spawn(publish(
            broker.client().await,
            lane,
            WINDOW,
            to,
            round,
        )));
    }
    for consumer in 0..CONSUMERS * load.queues {
        let harvest = lives.is_multiple_of(HARVEST_EVERY);
        let (queue, round) = (queue(consumer % load.queues), Arc::clone(round));
        clients.push(tokio::spawn(consume(
            broker.client().await,
            queue,
            harvest,
            round,
        )));
    }
    clients
}

/// Every queue holds what it must and nothing that it must not, each publisher's messages in order.
pub(super) async fn check(broker: &Process, known: &mut Knowledge) {
    let mut found: BTreeSet<Key> = BTreeSet::new();
    for number in 0..known.load.queues {
        let mut last: HashMap<Lane, u32> = HashMap::new();
        for message in look(broker, &queue(number), false).await {
            let (lane, number) = key(&message);
            let last = last.insert(lane, number).unwrap_or(0);
            assert!(last < number, "{lane:?}: {number} came after {last}");
            assert!(
                known.messages.contains_key(&(lane, number)),
                "{lane:?}/{number} was invented"
            );
            assert!(
                found.insert((lane, number)),
                "{lane:?}/{number} is there twice"
            );
        }
    }
    for (key, message) in known.of(is_work) {
        let there = found.contains(&key);
        assert!(
            there || !message.kept || message.end_sent,
            "{key:?} is lost: {message:?}"
        );
        assert!(
            !there || !message.ended,
            "{key:?} came back although its ACK was receipted"
        );
    }
    known.only(is_work, found);
}
