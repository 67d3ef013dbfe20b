//! Where messages go that a queue gives up on, and what they tell about it.

use millpond_protocol::stomp::Frame;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::support::broker::TestBroker;
use crate::support::peer::{Peer, body, header};

/// Dead letters go to queue `dead`.
const TO_DEAD: &str = "x-dead-letter-exchange:\nx-dead-letter-routing-key:dead\n";

async fn send(peer: &mut Peer, queue: &str, headers: &str, text: &str) {
    peer.ask(&format!(
        "SEND\ndestination:/queue/{queue}\n{headers}\n{text}"
    ))
    .await;
}

/// A consumer of the queue `dead`.
async fn undertaker(broker: &TestBroker) -> Peer {
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/dead").await;
    peer
}

fn deaths(message: &Frame) -> Value {
    serde_json::from_str(&header(message, "x-death").expect("it died")).expect("JSON")
}

#[tokio::test]
async fn a_rejected_message_tells_where_and_why_it_died() {
    let broker = TestBroker::start().await;
    let mut dead = undertaker(&broker).await;
    let mut peer = broker.client().await;
    send(&mut peer, "alive", &format!("{TO_DEAD}colour:red\n"), "x").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/amq/queue/alive\nack:client")
        .await;
    let message = peer.message().await;
    let own_id = header(&message, "x-message-id");
    peer.settle("NACK", &message, "requeue:false\n").await;
    let message = dead.message().await;
    assert_eq!(body(&message), "x");
    for (name, value) in [
        ("colour", "red"),
        ("destination", "/queue/dead"),
        ("redelivered", "false"),
        ("x-first-death-queue", "alive"),
        ("x-first-death-reason", "rejected"),
        ("x-first-death-exchange", ""),
        ("x-last-death-queue", "alive"),
        ("x-last-death-reason", "rejected"),
        ("x-last-death-exchange", ""),
    ] {
        assert_eq!(header(&message, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(
        header(&message, "x-message-id"),
        own_id,
        "its own id stays for life"
    );
    let deaths = deaths(&message);
    assert_eq!(deaths.as_array().expect("a list").len(), 1);
    assert_eq!(deaths[0]["count"], 1);
    assert_eq!(deaths[0]["queue"], "alive");
    assert_eq!(deaths[0]["reason"], "rejected");
    assert_eq!(deaths[0]["exchange"], "");
    assert_eq!(deaths[0]["routing-keys"], serde_json::json!(["alive"]));
    assert!(
        deaths[0]["time"]
            .as_u64()
            .is_some_and(|seconds| seconds > 1_600_000_000)
    );
}

#[tokio::test]
async fn a_message_keeps_its_key_unless_the_queue_gives_another() {
    let broker = TestBroker::start().await;
    let mut by_key = broker.client().await;
    by_key
        .ask("SUBSCRIBE\nid:s\ndestination:/exchange/amq.direct/alive")
        .await;
    let mut peer = broker.client().await;
    send(
        &mut peer,
        "alive",
        "x-dead-letter-exchange:amq.direct\n",
        "x",
    )
    .await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/amq/queue/alive\nack:client")
        .await;
    let message = peer.message().await;
    peer.settle("NACK", &message, "requeue:false\n").await;
    let message = by_key.message().await;
    assert_eq!(
        header(&message, "destination").as_deref(),
        Some("/exchange/amq.direct/alive")
    );
}

#[tokio::test]
async fn a_dead_letter_without_a_place_to_go_is_dropped() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    send(&mut peer, "alive", "x-dead-letter-exchange:nowhere\n", "x").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/amq/queue/alive\nack:client")
        .await;
    let message = peer.message().await;
    peer.settle("NACK", &message, "requeue:false\n").await;
    let depth = broker.depth("alive").expect("there");
    assert_eq!((depth.ready, depth.unacked), (0, 0));
    peer.is_open().await;
}

#[tokio::test]
async fn what_a_full_queue_drops_is_dead_lettered() {
    let broker = TestBroker::start().await;
    let mut dead = undertaker(&broker).await;
    let mut peer = broker.client().await;
    for text in ["old", "new"] {
        send(
            &mut peer,
            "short",
            &format!("{TO_DEAD}x-max-length:1\n"),
            text,
        )
        .await;
    }
    let message = dead.message().await;
    assert_eq!(body(&message), "old");
    assert_eq!(
        header(&message, "x-last-death-reason").as_deref(),
        Some("maxlen")
    );
}

#[tokio::test]
async fn a_message_that_came_back_too_often_is_dead_lettered() {
    let broker = TestBroker::start().await;
    let mut dead = undertaker(&broker).await;
    let mut peer = broker.client().await;
    send(
        &mut peer,
        "patient",
        &format!("{TO_DEAD}x-delivery-limit:2\n"),
        "x",
    )
    .await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/amq/queue/patient\nack:client")
        .await;
    for count in [None, Some("1"), Some("2")] {
        let message = peer.message().await;
        assert_eq!(
            header(&message, "x-delivery-count").as_deref(),
            count,
            "delivered once more than it may return"
        );
        peer.settle("NACK", &message, "").await;
    }
    let message = dead.message().await;
    assert_eq!(
        header(&message, "x-last-death-reason").as_deref(),
        Some("delivery_limit")
    );
    assert_eq!(header(&message, "redelivered").as_deref(), Some("false"));
}

#[tokio::test]
async fn a_consumer_that_dies_counts_towards_the_delivery_limit() {
    let broker = TestBroker::start().await;
    let mut dead = undertaker(&broker).await;
    let mut sender = broker.client().await;
    send(
        &mut sender,
        "poison",
        &format!("{TO_DEAD}x-delivery-limit:1\n"),
        "x",
    )
    .await;
    for _ in 0..2 {
        let mut peer = broker.client().await;
        peer.ask("SUBSCRIBE\nid:s\ndestination:/amq/queue/poison\nack:client")
            .await;
        peer.message().await;
        drop(peer);
    }
    assert_eq!(
        header(&dead.message().await, "x-last-death-reason").as_deref(),
        Some("delivery_limit")
    );
}

#[tokio::test]
async fn messages_expire_by_their_own_time_or_the_queues_whichever_is_shorter() {
    for (arguments, own, waits) in [
        ("x-message-ttl:5000\n", "", 5000),
        ("", "expiration:3000\n", 3000),
        ("x-message-ttl:5000\n", "expiration:3000\n", 3000),
        ("x-message-ttl:2000\n", "expiration:3000\n", 2000),
    ] {
        let broker = TestBroker::start().await;
        let mut peer = broker.client_in_memory("").await;
        peer.ask("SUBSCRIBE\nid:dead\ndestination:/queue/dead")
            .await;
        peer.ask(&format!("SEND\ndestination:/queue/brief\npersistent:false\n{TO_DEAD}{arguments}\nkeeps nothing waiting")).await;
        peer.ask("SUBSCRIBE\nid:first\ndestination:/amq/queue/brief")
            .await;
        peer.message().await;
        peer.ask("UNSUBSCRIBE\nid:first").await;
        tokio::time::pause();
        let start = Instant::now();
        peer.tell(&format!(
            "SEND\ndestination:/queue/brief\npersistent:false\n{own}\nx"
        ))
        .await;
        let message = peer.message().await;
        assert_eq!(body(&message), "x");
        assert_eq!(
            header(&message, "x-last-death-reason").as_deref(),
            Some("expired")
        );
        let waited = u64::try_from(start.elapsed().as_millis()).expect("short");
        assert!(
            (waits..waits + 1000).contains(&waited),
            "{waited} ms of paused time instead of {waits}"
        );
        let original = (!own.is_empty()).then_some("3000");
        assert_eq!(
            deaths(&message)[0]["original-expiration"].as_str(),
            original
        );
        assert_eq!(
            header(&message, "expiration"),
            None,
            "it does not expire again"
        );
        tokio::time::resume();
    }
}

#[tokio::test]
async fn an_absolute_expiry_is_kept_too() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client_in_memory("").await;
    peer.ask("SUBSCRIBE\nid:dead\ndestination:/queue/dead")
        .await;
    peer.ask(&format!(
        "SEND\ndestination:/queue/until\nexpires:1\n{TO_DEAD}\nlong ago"
    ))
    .await;
    assert_eq!(peer.text().await, "long ago");
    let soon = broker.engine().core().clock.now().wall_ms + 60_000;
    peer.ask(&format!(
        "SEND\ndestination:/queue/until\npersistent:false\nexpires:{soon}\n\nin a minute"
    ))
    .await;
    peer.ask("SEND\ndestination:/queue/until\npersistent:false\nexpires:0\n\nnever")
        .await;
    tokio::time::pause();
    assert_eq!(peer.text().await, "in a minute");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(
        broker.depth("until").expect("there").ready,
        1,
        "0 is no expiry"
    );
}

#[tokio::test]
async fn an_expired_message_is_not_delivered() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client_in_memory("").await;
    peer.ask("SEND\ndestination:/queue/q\npersistent:false\nexpiration:1000\n\nstale")
        .await;
    peer.ask("SEND\ndestination:/queue/q\npersistent:false\n\nfresh")
        .await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(2)).await;
    peer.tell("SUBSCRIBE\nid:s\ndestination:/queue/q").await;
    assert_eq!(peer.text().await, "fresh");
}

#[tokio::test]
async fn deaths_of_one_kind_are_counted_and_the_newest_comes_first() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    // Rejected by a, it goes to b, and rejected there back to a: with a reject on the way a circle may go on.
    send(
        &mut peer,
        "a",
        "x-dead-letter-exchange:\nx-dead-letter-routing-key:b\n",
        "x",
    )
    .await;
    peer.ask("SUBSCRIBE\nid:b\ndestination:/queue/b\nack:client\nx-dead-letter-exchange:\nx-dead-letter-routing-key:a").await;
    peer.ask("SUBSCRIBE\nid:a\ndestination:/amq/queue/a\nack:client")
        .await;
    let mut message = peer.message().await;
    for _ in 0..3 {
        peer.settle("NACK", &message, "requeue:false\n").await;
        message = peer.message().await;
    }
    assert_eq!(header(&message, "subscription").as_deref(), Some("b"));
    assert_eq!(
        header(&message, "x-first-death-queue").as_deref(),
        Some("a")
    );
    let deaths = deaths(&message);
    let rows: Vec<_> = deaths
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["queue"].as_str(), row["count"].as_u64()))
        .collect();
    assert_eq!(rows, [(Some("a"), Some(2)), (Some("b"), Some(1))]);
}

#[tokio::test]
async fn a_circle_without_a_reject_ends() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    // Full, the queue would dead-letter to itself for ever.
    for text in ["one", "two"] {
        send(
            &mut peer,
            "self",
            "x-max-length:1\nx-dead-letter-exchange:\nx-dead-letter-routing-key:self\n",
            text,
        )
        .await;
    }
    // The first time it comes back it has died here already.
    let mut consumer = broker.client().await;
    consumer
        .ask("SUBSCRIBE\nid:s\ndestination:/amq/queue/self")
        .await;
    assert_eq!(consumer.text().await, "two");
    consumer.is_open().await;
}
