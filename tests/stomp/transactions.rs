//! BEGIN, COMMIT and ABORT.

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{body, header};

#[tokio::test]
async fn a_committed_transaction_delivers_after_what_was_sent_meanwhile() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/t").await;
    peer.ask("BEGIN\ntransaction:t").await;
    peer.tell("SEND\ndestination:/queue/t\ntransaction:t\n\nin it, first")
        .await;
    peer.tell("SEND\ndestination:/queue/t\ntransaction:t\n\nin it, second")
        .await;
    peer.ask("SEND\ndestination:/queue/t\n\noutside").await;
    assert_eq!(peer.text().await, "outside");
    peer.ask("COMMIT\ntransaction:t").await;
    assert_eq!(peer.texts(2).await, ["in it, first", "in it, second"]);
}

#[tokio::test]
async fn an_aborted_transaction_sends_nothing() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/t").await;
    peer.ask("BEGIN\ntransaction:t").await;
    peer.tell("SEND\ndestination:/queue/t\ntransaction:t\n\nnever")
        .await;
    peer.ask("ABORT\ntransaction:t").await;
    peer.tell("SEND\ndestination:/queue/t\n\nafter").await;
    assert_eq!(peer.text().await, "after");
}

#[tokio::test]
async fn a_transaction_that_is_open_when_its_connection_ends_is_aborted() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SEND\ndestination:/queue/t\n\nheld").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/t\nack:client")
        .await;
    let held = peer.message().await;
    peer.ask("BEGIN\ntransaction:t").await;
    peer.tell("SEND\ndestination:/queue/t\ntransaction:t\n\nnever")
        .await;
    peer.settle("ACK", &held, "transaction:t\n").await;
    peer.leave().await;
    let depth = broker.depth("t").expect("there");
    assert_eq!((depth.ready, depth.unacked), (1, 0));
}

#[tokio::test]
async fn receipts_of_sends_in_a_transaction_come_with_its_commit() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("BEGIN\ntransaction:t").await;
    for at in 0..50 {
        peer.tell(&format!(
            "SEND\ndestination:/queue/t\ntransaction:t\nreceipt:s{at}\n\n{at}"
        ))
        .await;
    }
    // Had a receipt come, this would find it.
    peer.is_open().await;
    peer.tell("COMMIT\ntransaction:t\nreceipt:commit").await;
    for at in 0..50 {
        peer.receipt(&format!("s{at}")).await;
    }
    peer.receipt("commit").await;
}

#[tokio::test]
async fn an_ack_in_a_transaction_takes_effect_with_its_commit() {
    let broker = TestBroker::start().await;
    for (command, left) in [("COMMIT", 0), ("ABORT", 1)] {
        let mut peer = broker.client().await;
        peer.ask("SEND\ndestination:/queue/t\n\nx").await;
        peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/t\nack:client")
            .await;
        let message = peer.message().await;
        peer.ask("BEGIN\ntransaction:t").await;
        peer.settle("ACK", &message, "transaction:t\n").await;
        assert_eq!(broker.depth("t").expect("there").unacked, 1);
        peer.ask(&format!("{command}\ntransaction:t")).await;
        assert_eq!(broker.depth("t").expect("there").unacked, left, "{command}");
        if command == "ABORT" {
            peer.settle("ACK", &message, "").await;
        }
        peer.leave().await;
        assert_eq!(broker.depth("t").expect("there").ready, 0);
    }
}

#[tokio::test]
async fn a_cumulative_ack_in_a_transaction_spans_what_is_older() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for text in ["one", "two", "three"] {
        peer.ask(&format!("SEND\ndestination:/queue/t\n\n{text}"))
            .await;
    }
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/t\nack:client")
        .await;
    peer.message().await;
    let second = peer.message().await;
    peer.message().await;
    peer.ask("UNSUBSCRIBE\nid:s").await;
    peer.ask("BEGIN\ntransaction:t").await;
    peer.settle("ACK", &second, "transaction:t\n").await;
    peer.ask("COMMIT\ntransaction:t").await;
    peer.leave().await;
    assert_eq!(broker.depth("t").expect("there").ready, 1);
}

#[tokio::test]
async fn a_delivery_can_be_settled_only_once_in_and_outside_a_transaction() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SEND\ndestination:/queue/t\n\nx").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/t\nack:client-individual")
        .await;
    let message = peer.message().await;
    peer.ask("BEGIN\ntransaction:t").await;
    peer.settle("ACK", &message, "transaction:t\n").await;
    for more in ["transaction:t\n", ""] {
        for command in ["ACK", "NACK"] {
            let again = peer.settlement(command, &message, more);
            let error = peer.refused(&again).await;
            assert_eq!(
                header(&error, "message").as_deref(),
                Some("Message not found"),
                "{again}"
            );
        }
    }
    peer.ask("COMMIT\ntransaction:t").await;
    peer.leave().await;
    assert_eq!(broker.depth("t").expect("there").ready, 0);
}

#[tokio::test]
async fn a_commit_that_fails_does_nothing_at_all() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask(
        "SEND\ndestination:/queue/small\nx-max-length:1\nx-overflow:reject-publish\n\nfills it",
    )
    .await;
    peer.ask("SEND\ndestination:/queue/held\n\nheld").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/held\nack:client")
        .await;
    let held = peer.message().await;
    peer.ask("BEGIN\ntransaction:t").await;
    peer.settle("ACK", &held, "transaction:t\n").await;
    peer.tell("SEND\ndestination:/queue/roomy\ntransaction:t\nreceipt:lost\n\nx")
        .await;
    peer.tell("SEND\ndestination:/queue/small\ntransaction:t\n\none too many")
        .await;
    let error = peer.refused("COMMIT\ntransaction:t").await;
    assert_eq!(header(&error, "message").as_deref(), Some("queue_full"));
    assert!(body(&error).contains("'small'"), "{}", body(&error));
    assert_eq!(broker.depth("roomy").expect("made by the send").ready, 0);
    assert_eq!(broker.depth("small").expect("there").ready, 1);
    assert_eq!(broker.depth("held").expect("there").unacked, 1);
    peer.settle("ACK", &held, "").await;
    let error = peer.refused("COMMIT\ntransaction:t").await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("Bad transaction"),
        "it is over"
    );
    peer.is_open().await;
}

#[tokio::test]
async fn an_unroutable_mandatory_send_fails_its_transaction() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("BEGIN\ntransaction:t").await;
    peer.tell("SEND\ndestination:/queue/t\ntransaction:t\n\nx")
        .await;
    peer.tell("SEND\ndestination:/topic/nobody\ntransaction:t\nmandatory:true\n\nx")
        .await;
    let error = peer.refused("COMMIT\ntransaction:t").await;
    assert_eq!(header(&error, "message").as_deref(), Some("unroutable"));
    assert_eq!(broker.depth("t").expect("made by the send").ready, 0);
    peer.is_open().await;
}

#[tokio::test]
async fn a_transaction_must_be_named_and_known() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SEND\ndestination:/queue/t\n\nx").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/t\nack:client")
        .await;
    let handle = header(&peer.message().await, "ack").expect("acknowledged by id");
    for command in ["BEGIN", "COMMIT", "ABORT"] {
        let error = peer.refused(command).await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("Missing transaction"),
            "{command}"
        );
    }
    for frame in [
        "COMMIT\ntransaction:unknown".to_owned(),
        "ABORT\ntransaction:unknown".to_owned(),
        "SEND\ndestination:/queue/t\ntransaction:unknown\n\nx".to_owned(),
        format!("ACK\nid:{handle}\ntransaction:unknown"),
        format!("NACK\nid:{handle}\ntransaction:unknown"),
    ] {
        let error = peer.refused(&frame).await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("Bad transaction"),
            "{frame}"
        );
    }
    peer.ask("BEGIN\ntransaction:twice").await;
    let error = peer.refused("BEGIN\ntransaction:twice").await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("Bad transaction")
    );
    peer.is_open().await;
}

#[tokio::test]
async fn a_transaction_at_its_limit_is_told_so_and_is_not_committed_in_part() {
    let setup = Setup::stomp(|options| {
        options.transactions_max = 2;
        options.transaction_actions_max = 3;
        options.transaction_bytes_max = 10_000;
    });
    let broker = setup.start().await;
    let mut peer = broker.client().await;
    peer.ask("BEGIN\ntransaction:a").await;
    peer.ask("BEGIN\ntransaction:b").await;
    let error = peer.refused("BEGIN\ntransaction:c").await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("Transaction limit exceeded")
    );
    for at in 0..3 {
        peer.tell(&format!(
            "SEND\ndestination:/queue/t\ntransaction:a\n\n{at}"
        ))
        .await;
    }
    let error = peer
        .refused("SEND\ndestination:/queue/t\ntransaction:a\n\none too many")
        .await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("Transaction too large")
    );
    let large = "x".repeat(10_000);
    let error = peer
        .refused(&format!(
            "SEND\ndestination:/queue/t\ntransaction:b\n\n{large}"
        ))
        .await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("Transaction too large")
    );
    // Without what was refused they would not be whole.
    for name in ["a", "b"] {
        let error = peer.refused(&format!("COMMIT\ntransaction:{name}")).await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("Transaction aborted")
        );
    }
    assert_eq!(broker.depth("t").expect("there").ready, 0);
    peer.ask("BEGIN\ntransaction:c").await;
    peer.ask("ABORT\ntransaction:c").await;
    peer.is_open().await;
}

#[tokio::test]
async fn a_transaction_over_several_queues_appears_in_all_of_them() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:topic\ndestination:/topic/t").await;
    for queue in ["q1", "q2", "q3"] {
        peer.ask(&format!(
            "SUBSCRIBE\nid:{queue}\ndestination:/queue/{queue}"
        ))
        .await;
    }
    peer.ask("BEGIN\ntransaction:t").await;
    for destination in [
        "/queue/q3",
        "/queue/q1",
        "/topic/t",
        "/queue/q2",
        "/queue/q1",
    ] {
        peer.tell(&format!(
            "SEND\ndestination:{destination}\ntransaction:t\n\n{destination}"
        ))
        .await;
    }
    peer.ask("COMMIT\ntransaction:t").await;
    let mut texts = peer.texts(5).await;
    texts.sort();
    assert_eq!(
        texts,
        [
            "/queue/q1",
            "/queue/q1",
            "/queue/q2",
            "/queue/q3",
            "/topic/t"
        ]
    );
}

#[tokio::test]
async fn a_nack_in_a_transaction_takes_effect_with_its_commit() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SEND\ndestination:/queue/t\n\nx").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/t\nack:client")
        .await;
    let message = peer.message().await;
    peer.ask("BEGIN\ntransaction:t").await;
    peer.settle("NACK", &message, "transaction:t\n").await;
    peer.is_open().await;
    peer.ask("COMMIT\ntransaction:t").await;
    let again = peer.message().await;
    assert_eq!(header(&again, "redelivered").as_deref(), Some("true"));
}

#[tokio::test]
async fn what_is_sent_right_behind_a_commit_does_not_overtake_it() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/t").await;
    let mut frames = String::new();
    let mut expected = Vec::new();
    for round in 0..50 {
        frames += &format!(
            "BEGIN\ntransaction:t\n\n\0SEND\ndestination:/queue/t\ntransaction:t\n\nin {round}\0"
        );
        frames +=
            &format!("COMMIT\ntransaction:t\n\n\0SEND\ndestination:/queue/t\n\nbehind {round}\0");
        expected.extend([format!("in {round}"), format!("behind {round}")]);
    }
    peer.write(frames).await;
    assert_eq!(peer.texts(100).await, expected);
}
