//! One to many: a topic with durable subscriptions, two of everything and one by pattern.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{Key, Knowledge, Lane, Round, ending, key, look, plain, publish};
use crate::support::peer::Peer;
use crate::support::process::Process;

/// SENDs the publisher has in flight.
const WINDOW: usize = 16;
/// Queue and pattern of each subscription. The first has a consumer.
const SUBSCRIPTIONS: [(&str, &str); 3] = [
    ("fan-read", "fan.#"),
    ("fan-all", "fan.#"),
    ("fan-even", "fan.even"),
];

fn routing_key(number: u32) -> &'static str {
    if number.is_multiple_of(2) {
        "fan.even"
    } else {
        "fan.odd"
    }
}

fn subscribe((queue, pattern): (&str, &str)) -> String {
    format!(
        "SUBSCRIBE\nid:{queue}\ndestination:/topic/{pattern}\ndurable:true\nx-queue-name:{queue}\n\
         ack:client-individual\nprefetch-count:100"
    )
}

async fn read(mut peer: Peer, round: Arc<Round>) {
    while let Some(frame) = peer.read().await {
        if round.ended(&frame) {
            continue;
        }
        let key = key(&frame);
        round.change(key, |known| {
            assert!(!known.ended, "{key:?} was acknowledged");
            known.end_sent = true;
        });
        let ack = ending(&peer, "ACK", &frame, key, "");
        peer.tell(&ack).await;
    }
}

pub(super) async fn start(broker: &Process, round: &Arc<Round>) -> Vec<JoinHandle<()>> {
    for subscription in &SUBSCRIPTIONS[1..] {
        let mut peer = broker.client().await;
        peer.ask(&subscribe(*subscription)).await;
        peer.leave().await;
    }
    let mut reader = broker.client().await;
    reader.ask(&subscribe(SUBSCRIPTIONS[0])).await;
    let to = |number| {
        format!(
            "destination:/topic/{}\npersistent:true\n",
            routing_key(number)
        )
    };
    let publisher = publish(
        broker.client().await,
        Lane::Fan,
        WINDOW,
        to,
        Arc::clone(round),
    );
    vec![
        tokio::spawn(read(reader, Arc::clone(round))),
        tokio::spawn(publisher),
    ]
}

/// Every message is in all of its queues or in none, but for what the reader took. Takes them all.
pub(super) async fn check(broker: &Process, known: &mut Knowledge) {
    let is_fan = |lane| lane == Lane::Fan;
    let mut found: Vec<BTreeSet<u32>> = Vec::new();
    for (queue, _) in SUBSCRIPTIONS {
        let keys: Vec<Key> = look(broker, &plain(queue), true)
            .await
            .iter()
            .map(key)
            .collect();
        assert!(keys.is_sorted(), "{queue} is out of order");
        for key in &keys {
            assert!(
                known.messages.contains_key(key),
                "{key:?} in {queue} was invented"
            );
        }
        let numbers: BTreeSet<u32> = keys.iter().map(|key| key.1).collect();
        assert_eq!(numbers.len(), keys.len(), "{queue} has a message twice");
        found.push(numbers);
    }
    let [read, all, even] = &found[..] else {
        unreachable!("as many as there are subscriptions")
    };
    for (key, message) in known.of(is_fan) {
        let is_even = routing_key(key.1) == "fan.even";
        let there = all.contains(&key.1);
        assert!(there || !message.kept, "{key:?} is lost: {message:?}");
        assert_eq!(
            even.contains(&key.1),
            is_even && there,
            "{key:?} is in some queues only"
        );
        assert!(
            read.contains(&key.1) || !there || message.end_sent,
            "{key:?} is lost where it was not acknowledged"
        );
        assert!(
            !read.contains(&key.1) || there,
            "{key:?} is in some queues only"
        );
        assert!(
            !read.contains(&key.1) || !message.ended,
            "{key:?} came back although its ACK was receipted"
        );
    }
    known.only(is_fan, []);
}
