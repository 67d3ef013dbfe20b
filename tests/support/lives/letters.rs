//! Dead letters: of a queue with a cap, of one whose messages expire, of one whose consumer rejects.
//!
//! A move is one unit of the log, so a message is in its queue or among the letters, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Key, Knowledge, Lane, Queue, Round, ending, key, look, plain, publish};
use crate::support::peer::Peer;
use crate::support::process::Process;

/// Where all letters go.
const LETTERS: &str = "letters";
/// SENDs a publisher has in flight.
const WINDOW: usize = 8;
/// How long expired messages may take to become letters.
const PATIENCE: Duration = Duration::from_secs(60);
const LANES: [Lane; 3] = [Lane::Capped, Lane::Brief, Lane::Refused];

/// What is known of the letters.
#[derive(Default)]
pub(super) struct Letters {
    /// Those that were taken, which are not to come back, by lane.
    taken: BTreeMap<Lane, BTreeSet<u32>>,
}

impl Letters {
    pub(super) fn came_from_everywhere(&self) -> bool {
        LANES.iter().all(|lane| self.taken.contains_key(lane))
    }
}

fn queue(lane: Lane) -> Queue {
    let (name, arguments) = match lane {
        Lane::Capped => (
            "capped",
            "x-max-length:20\nx-dead-letter-exchange:\nx-dead-letter-routing-key:letters\n",
        ),
        Lane::Brief => (
            "brief",
            "x-message-ttl:20\nx-dead-letter-exchange:\nx-dead-letter-routing-key:letters\n",
        ),
        _ => (
            "refused",
            "x-dead-letter-exchange:\nx-dead-letter-routing-key:letters\n",
        ),
    };
    Queue {
        name: name.to_owned(),
        arguments,
    }
}

/// Rejects two of three, until the broker is gone.
async fn reject(mut peer: Peer, round: Arc<Round>) {
    peer.tell(
        "SUBSCRIBE\nid:s\ndestination:/amq/queue/refused\nack:client-individual\nprefetch-count:50",
    )
    .await;
    while let Some(frame) = peer.read().await {
        if round.ended(&frame) {
            continue;
        }
        let key = key(&frame);
        if key.1.is_multiple_of(3) {
            continue;
        }
        round.change(key, |known| {
            assert!(!known.ended, "{key:?} was rejected");
            known.end_sent = true;
        });
        let nack = ending(&peer, "NACK", &frame, key, "requeue:false\n");
        peer.tell(&nack).await;
    }
}

pub(super) async fn start(broker: &Process, round: &Arc<Round>) -> Vec<JoinHandle<()>> {
    let mut clients = vec![tokio::spawn(reject(
        broker.client().await,
        Arc::clone(round),
    ))];
    for lane in LANES {
        let Queue { name, arguments } = queue(lane);
        let to = move |_| format!("destination:/queue/{name}\n{arguments}");
        let publisher = publish(broker.client().await, lane, WINDOW, to, Arc::clone(round));
        clients.push(tokio::spawn(publisher));
    }
    clients
}

/// What is in a queue: no message twice, none that nobody sent.
async fn found(broker: &Process, lane: Lane, known: &Knowledge) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for message in look(broker, &queue(lane), false).await {
        let key = key(&message);
        assert_eq!(key.0, lane, "a message in the wrong queue");
        assert!(known.messages.contains_key(&key), "{key:?} was invented");
        assert!(found.insert(key.1), "{key:?} is there twice");
    }
    found
}

/// Takes the letters until every message that must have expired is among them.
async fn letters(broker: &Process, known: &mut Knowledge) -> BTreeSet<Key> {
    let mut letters = BTreeSet::new();
    let start = Instant::now();
    loop {
        for message in look(broker, &plain(LETTERS), true).await {
            let key = key(&message);
            let taken = known.letters.taken.entry(key.0).or_default();
            assert!(taken.insert(key.1), "the letter {key:?} came back");
            assert!(known.messages.contains_key(&key), "{key:?} was invented");
            letters.insert(key);
        }
        // Those still in their queue expire by themselves.
        let is_late = |(key, message): (Key, super::Known)| message.kept && !letters.contains(&key);
        let late = known
            .of(|lane| lane == Lane::Brief)
            .find(|&one| is_late(one));
        let Some((key, message)) = late else {
            return letters;
        };
        assert!(start.elapsed() < PATIENCE, "{key:?} is lost: {message:?}");
        tokio::task::yield_now().await;
    }
}

pub(super) async fn check(broker: &Process, known: &mut Knowledge) {
    // There before anything can be moved to it.
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/letters\nack:client\nprefetch-count:1")
        .await;
    peer.leave().await;
    // The queues first: looking at one with a cap pushes one more out of it.
    let capped = found(broker, Lane::Capped, known).await;
    let refused = found(broker, Lane::Refused, known).await;
    let letters = letters(broker, known).await;
    for (key, message) in known.of(|lane| LANES.contains(&lane)) {
        let here = match key.0 {
            Lane::Capped => capped.contains(&key.1),
            Lane::Refused => refused.contains(&key.1),
            _ => false,
        };
        let dead = letters.contains(&key);
        assert!(!(here && dead), "{key:?} is in its queue and a letter");
        assert!(
            here || dead || !message.kept,
            "{key:?} is lost: {message:?}"
        );
        if key.0 == Lane::Refused {
            assert!(!dead || message.end_sent, "{key:?} was never rejected");
            assert!(
                dead || !message.ended,
                "{key:?} was rejected and is no letter"
            );
        }
    }
    known.only(
        |lane| lane == Lane::Capped,
        capped.iter().map(|number| (Lane::Capped, *number)),
    );
    known.only(
        |lane| lane == Lane::Refused,
        refused.iter().map(|number| (Lane::Refused, *number)),
    );
    // One that was not receipted may still expire; one that is a letter was taken.
    known
        .messages
        .retain(|key, message| key.0 != Lane::Brief || !(message.kept || letters.contains(key)));
}
