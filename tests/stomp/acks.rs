//! ACK and NACK.

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{Peer, body, header};

/// Sends these bodies to a queue, each receipted.
async fn fill(peer: &mut Peer, queue: &str, bodies: &[&str]) {
    for text in bodies {
        peer.ask(&format!("SEND\ndestination:/queue/{queue}\n\n{text}"))
            .await;
    }
}

/// What a new consumer of a queue gets first, up to and including a message sent for the purpose.
async fn rest(broker: &TestBroker, queue: &str) -> Vec<String> {
    let mut peer = broker.client().await;
    fill(&mut peer, queue, &["the end"]).await;
    peer.ask(&format!("SUBSCRIBE\nid:rest\ndestination:/queue/{queue}"))
        .await;
    let mut texts = Vec::new();
    loop {
        match peer.text().await {
            text if text == "the end" => return texts,
            text => texts.push(text),
        }
    }
}

#[tokio::test]
async fn an_ack_settles_as_its_mode_says_in_every_version() {
    let broker = TestBroker::start().await;
    for version in ["1.0", "1.1", "1.2"] {
        for (mode, left) in [
            ("client", [].as_slice()),
            ("client-individual", &["one", "two"]),
        ] {
            let mut peer = broker.login(&format!("accept-version:{version}")).await;
            fill(&mut peer, "modes", &["one", "two", "three"]).await;
            peer.ask(&format!(
                "SUBSCRIBE\nid:s\ndestination:/queue/modes\nack:{mode}"
            ))
            .await;
            peer.message().await;
            peer.message().await;
            let third = peer.message().await;
            peer.settle("ACK", &third, "").await;
            peer.leave().await;
            assert_eq!(rest(&broker, "modes").await, left, "{version} {mode}");
        }
    }
}

#[tokio::test]
async fn a_nack_returns_as_its_mode_says_in_every_version() {
    let broker = TestBroker::start().await;
    for version in ["1.0", "1.1", "1.2"] {
        for (mode, again) in [
            ("client", ["one", "two"].as_slice()),
            ("client-individual", &["two"]),
        ] {
            let mut peer = broker.login(&format!("accept-version:{version}")).await;
            fill(&mut peer, "returns", &["one", "two"]).await;
            peer.ask(&format!(
                "SUBSCRIBE\nid:s\ndestination:/queue/returns\nack:{mode}"
            ))
            .await;
            peer.message().await;
            let second = peer.message().await;
            peer.settle("NACK", &second, "").await;
            for text in again {
                let message = peer.message().await;
                assert_eq!(body(&message), *text, "{version} {mode}");
                assert_eq!(header(&message, "redelivered").as_deref(), Some("true"));
                peer.settle("ACK", &message, "").await;
            }
            peer.leave().await;
            let left: &[&str] = if mode == "client" { &[] } else { &["one"] };
            assert_eq!(rest(&broker, "returns").await, left, "{version} {mode}");
        }
    }
}

#[tokio::test]
async fn a_nack_without_requeue_drops_the_message() {
    let broker = TestBroker::start().await;
    for spelled in ["false", "False"] {
        let mut peer = broker.client().await;
        fill(&mut peer, "dropped", &["one"]).await;
        peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/dropped\nack:client-individual")
            .await;
        let message = peer.message().await;
        peer.settle("NACK", &message, &format!("requeue:{spelled}\n"))
            .await;
        peer.leave().await;
        assert_eq!(rest(&broker, "dropped").await, [""; 0]);
    }
}

#[tokio::test]
async fn what_a_nack_without_requeue_header_does_can_be_configured() {
    let broker = Setup::stomp(|options| options.default_nack_requeue = false)
        .start()
        .await;
    let mut peer = broker.client().await;
    fill(&mut peer, "default", &["dropped", "kept"]).await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/default\nack:client-individual")
        .await;
    let first = peer.message().await;
    peer.settle("NACK", &first, "").await;
    let second = peer.message().await;
    peer.settle("NACK", &second, "requeue:true\n").await;
    peer.leave().await;
    assert_eq!(rest(&broker, "default").await, ["kept"]);
}

#[tokio::test]
async fn a_nack_with_a_delay_brings_the_message_back_later() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client_in_memory("").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/delayed\nack:client-individual")
        .await;
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    peer.tell("SEND\ndestination:/queue/delayed\npersistent:false\n\nlater")
        .await;
    let message = peer.message().await;
    let delayed = peer.settlement("NACK", &message, "requeue-delay:5000\n");
    peer.tell(&delayed).await;
    peer.tell("SEND\ndestination:/queue/delayed\npersistent:false\n\nnow")
        .await;
    assert_eq!(peer.text().await, "now");
    let again = peer.message().await;
    assert_eq!(body(&again), "later");
    assert_eq!(header(&again, "redelivered").as_deref(), Some("true"));
    let waited = start.elapsed().as_millis();
    assert!(
        (5000..6000).contains(&waited),
        "after {waited} ms of paused time"
    );
}

#[tokio::test]
async fn a_cumulative_ack_spans_all_subscriptions_of_the_connection() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    fill(&mut peer, "a", &["a1"]).await;
    fill(&mut peer, "b", &["b1"]).await;
    fill(&mut peer, "c", &["c1"]).await;
    peer.ask("SUBSCRIBE\nid:a\ndestination:/queue/a\nack:client-individual")
        .await;
    peer.message().await;
    peer.ask("SUBSCRIBE\nid:b\ndestination:/queue/b\nack:client")
        .await;
    let second = peer.message().await;
    peer.ask("SUBSCRIBE\nid:c\ndestination:/queue/c\nack:client")
        .await;
    peer.message().await;
    peer.settle("ACK", &second, "").await;
    peer.leave().await;
    assert_eq!(
        rest(&broker, "a").await,
        [""; 0],
        "older, of another subscription, delivered with another mode"
    );
    assert_eq!(rest(&broker, "b").await, [""; 0]);
    assert_eq!(rest(&broker, "c").await, ["c1"], "younger");
}

#[tokio::test]
async fn an_individual_ack_leaves_older_cumulative_deliveries_alone() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    fill(&mut peer, "a", &["a1"]).await;
    fill(&mut peer, "b", &["b1"]).await;
    peer.ask("SUBSCRIBE\nid:a\ndestination:/queue/a\nack:client")
        .await;
    peer.message().await;
    peer.ask("SUBSCRIBE\nid:b\ndestination:/queue/b\nack:client-individual")
        .await;
    let second = peer.message().await;
    peer.settle("ACK", &second, "").await;
    peer.leave().await;
    assert_eq!(rest(&broker, "a").await, ["a1"]);
    assert_eq!(rest(&broker, "b").await, [""; 0]);
}

#[tokio::test]
async fn deliveries_are_settled_after_their_subscription_ended() {
    let broker = TestBroker::start().await;
    for (mode, command, left) in [
        ("client", "ACK", [].as_slice()),
        ("client-individual", "ACK", &["one"]),
        ("client-individual", "NACK", &["one", "two"]),
        ("client-individual", "NACK\nrequeue:false", &["one"]),
    ] {
        let mut peer = broker.client().await;
        fill(&mut peer, "after", &["one", "two"]).await;
        peer.ask(&format!(
            "SUBSCRIBE\nid:s\ndestination:/queue/after\nack:{mode}"
        ))
        .await;
        peer.message().await;
        let second = peer.message().await;
        peer.ask("UNSUBSCRIBE\nid:s").await;
        peer.settle(command, &second, "").await;
        peer.leave().await;
        assert_eq!(rest(&broker, "after").await, left, "{mode} {command}");
    }
}

#[tokio::test]
async fn deliveries_of_an_ended_subscription_stay_held_until_the_connection_ends() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    fill(&mut peer, "held", &["one"]).await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/held\nack:client")
        .await;
    peer.message().await;
    peer.ask("UNSUBSCRIBE\nid:s").await;
    assert_eq!(broker.depth("held").expect("there").unacked, 1);
    assert_eq!(rest(&broker, "held").await, [""; 0]);
    peer.leave().await;
    assert_eq!(rest(&broker, "held").await, ["one"]);
}

#[tokio::test]
async fn deliveries_that_were_not_sent_yet_go_back_when_their_subscription_ends() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    fill(&mut peer, "prefetched", &["one", "two", "three"]).await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/prefetched\nack:client\nprefetch-count:1")
        .await;
    peer.message().await;
    peer.ask("UNSUBSCRIBE\nid:s").await;
    assert_eq!(rest(&broker, "prefetched").await, ["two", "three"]);
}

#[tokio::test]
async fn a_reused_subscription_id_does_not_change_how_older_deliveries_are_settled() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    fill(&mut peer, "old", &["one", "two"]).await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/old\nack:client-individual")
        .await;
    peer.message().await;
    let second = peer.message().await;
    peer.ask("UNSUBSCRIBE\nid:s").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/new\nack:client")
        .await;
    peer.settle("ACK", &second, "").await;
    peer.leave().await;
    assert_eq!(
        rest(&broker, "old").await,
        ["one"],
        "acknowledged one by one, as it was delivered"
    );
}

#[tokio::test]
async fn what_cannot_be_settled_is_not_found_and_the_connection_goes_on() {
    let broker = TestBroker::start().await;
    let mut other = broker.client().await;
    fill(&mut other, "other", &["x"]).await;
    other
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/other\nack:client")
        .await;
    let theirs = other.message().await;

    let mut peer = broker.client().await;
    fill(&mut peer, "mine", &["one", "two"]).await;
    peer.ask("SUBSCRIBE\nid:auto\ndestination:/topic/auto")
        .await;
    peer.tell("SEND\ndestination:/topic/auto\n\nx").await;
    let automatic = header(&peer.message().await, "message-id").expect("always there");
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/mine\nack:client-individual")
        .await;
    let settled = peer.message().await;
    peer.message().await;
    peer.settle("ACK", &settled, "").await;
    let settled = header(&settled, "ack").expect("acknowledged by id");
    let theirs = header(&theirs, "ack").expect("acknowledged by id");
    let forged = format!("{settled}9");
    for handle in [
        "nonsense",
        "",
        automatic.as_str(),
        settled.as_str(),
        theirs.as_str(),
        forged.as_str(),
    ] {
        for command in ["ACK", "NACK"] {
            let error = peer.refused(&format!("{command}\nid:{handle}")).await;
            assert_eq!(
                header(&error, "message").as_deref(),
                Some("Message not found"),
                "{handle}"
            );
            assert_eq!(header(&error, "code").as_deref(), Some("message_not_found"));
        }
    }
    peer.is_open().await;
    assert_eq!(broker.depth("other").expect("there").unacked, 1);
    assert_eq!(broker.depth("mine").expect("there").unacked, 1);
}

#[tokio::test]
async fn the_handle_has_another_header_in_each_version_and_must_be_there() {
    let broker = TestBroker::start().await;
    for (version, wrong, right) in [
        ("1.0", "id", "message-id"),
        ("1.1", "id", "message-id"),
        ("1.2", "message-id", "id"),
    ] {
        let mut peer = broker.login(&format!("accept-version:{version}")).await;
        fill(&mut peer, "handles", &["x"]).await;
        peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/handles\nack:client")
            .await;
        let handle = header(&peer.message().await, "message-id").expect("always there");
        for command in ["ACK", "NACK"] {
            let error = peer
                .refused(&format!("{command}\n{wrong}:{handle}\nsubscription:s"))
                .await;
            assert_eq!(
                header(&error, "message").as_deref(),
                Some("Missing header"),
                "{version}"
            );
            let expected = format!("'{command}' must include the '{right}' header");
            assert!(body(&error).starts_with(&expected), "{}", body(&error));
        }
        peer.ask(&format!("ACK\n{right}:{handle}\nsubscription:s"))
            .await;
        peer.leave().await;
    }
}

#[tokio::test]
async fn unsettled_deliveries_come_back_in_their_old_order_before_younger_ones() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    fill(&mut peer, "order", &["one", "two", "three"]).await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/order\nack:client-individual\nprefetch-count:2")
        .await;
    peer.message().await;
    peer.message().await;
    peer.leave().await;
    assert_eq!(rest(&broker, "order").await, ["one", "two", "three"]);
}

#[tokio::test]
async fn prefetch_count_bounds_what_is_unsettled() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/topic/window\nack:client-individual\nprefetch-count:5")
        .await;
    for at in 0..10 {
        peer.ask(&format!("SEND\ndestination:/topic/window\n\n{at}"))
            .await;
    }
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(peer.message().await);
    }
    let [queue] = broker.queues().try_into().expect("one private queue");
    let depth = broker.depth(&queue).expect("there");
    assert_eq!((depth.unacked, depth.ready), (5, 5));
    peer.settle("ACK", &held[3], "").await;
    assert_eq!(peer.text().await, "5");
    let depth = broker.depth(&queue).expect("there");
    assert_eq!((depth.unacked, depth.ready), (5, 4));
}
