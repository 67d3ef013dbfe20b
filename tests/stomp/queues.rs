//! Queue arguments given as headers, and what they do.

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{Peer, body, header};

/// Sends to a queue and waits until the broker has it; the first send makes the queue with these arguments.
async fn send(peer: &mut Peer, queue: &str, headers: &str, text: &str) {
    peer.ask(&format!(
        "SEND\ndestination:/queue/{queue}\n{headers}\n{text}"
    ))
    .await;
}

/// Consumes from a queue that is there, whatever its arguments.
async fn consumer(broker: &TestBroker, queue: &str, headers: &str) -> Peer {
    let mut peer = broker.client().await;
    peer.ask(&format!(
        "SUBSCRIBE\nid:s\ndestination:/amq/queue/{queue}\n{headers}"
    ))
    .await;
    peer
}

#[tokio::test]
async fn a_subscribe_with_other_arguments_than_the_queue_has_is_refused_with_both_values() {
    let broker = TestBroker::start().await;
    for (made_with, asked, name, sentence) in [
        (
            "x-message-ttl:60000\n",
            "x-message-ttl:30000",
            "x-message-ttl",
            "received the value '30000' of type 'long' but current is the value '60000' of type 'long'",
        ),
        (
            "x-max-length:5\n",
            "x-max-length:6",
            "x-max-length",
            "received the value '6' of type 'long' but current is the value '5' of type 'long'",
        ),
        (
            "",
            "x-overflow:reject-publish",
            "x-overflow",
            "received the value 'reject-publish' of type 'longstr' but current is none",
        ),
        (
            "",
            "auto-delete:true",
            "auto_delete",
            "received 'true' but current is 'false'",
        ),
        (
            "",
            "durable:false",
            "durable",
            "received 'false' but current is 'true'",
        ),
    ] {
        let queue = format!("differs-{name}");
        let mut peer = broker.client().await;
        send(&mut peer, &queue, made_with, "x").await;
        let error = peer
            .refused(&format!(
                "SUBSCRIBE\nid:s\ndestination:/queue/{queue}\n{asked}"
            ))
            .await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("precondition_failed")
        );
        assert_eq!(
            body(&error),
            format!("inequivalent arg '{name}' for queue '{queue}' in vhost '/': {sentence}\n")
        );
        peer.is_closed().await;
    }
}

#[tokio::test]
async fn a_subscribe_that_gives_no_arguments_takes_the_queue_as_it_is() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    send(&mut peer, "capped", "x-max-length:5\n", "x").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/capped").await;
    assert_eq!(peer.text().await, "x");
}

#[tokio::test]
async fn the_same_arguments_find_the_queue_again() {
    let broker = TestBroker::start().await;
    let arguments = "x-message-ttl:60000\nx-expires:900000\nx-max-length:9\nx-max-length-bytes: 1000 \nx-overflow:reject-publish\n\
                     x-dead-letter-exchange:amq.fanout\nx-dead-letter-routing-key:k\nx-max-priority:5\nx-queue-type:classic\n\
                     x-delivery-limit:3\nx-single-active-consumer:true\nx-max-message-size:1000\n";
    let mut peer = broker.client().await;
    send(&mut peer, "same", arguments, "x").await;
    peer.ask(&format!(
        "SUBSCRIBE\nid:s\ndestination:/queue/same\n{arguments}\n"
    ))
    .await;
    assert_eq!(peer.text().await, "x");
}

#[tokio::test]
async fn a_subscribe_without_arguments_takes_the_queue_as_it_is() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    send(
        &mut peer,
        "plain",
        "x-max-length:5\nx-message-ttl:60000\n",
        "x",
    )
    .await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/plain\nx-max-length:5")
        .await;
    assert_eq!(peer.text().await, "x");
    peer.ask("SUBSCRIBE\nid:t\ndestination:/queue/plain").await;
}

#[tokio::test]
async fn an_existing_queue_can_be_used_whatever_is_asked_if_so_configured() {
    let broker = Setup::stomp(|options| {
        options.argument_mismatch = millpond::engine::vhost::Mismatch::UseExisting
    })
    .start()
    .await;
    let mut peer = broker.client().await;
    send(&mut peer, "existing", "", "x").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/existing\nx-max-length:1")
        .await;
    assert_eq!(peer.text().await, "x");
}

#[tokio::test]
async fn arguments_on_a_send_matter_only_to_the_queue_it_makes() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    send(&mut peer, "made", "", "one").await;
    send(
        &mut peer,
        "made",
        "x-max-length:1\nx-overflow:reject-publish\n",
        "two",
    )
    .await;
    let mut other = broker.client().await;
    send(
        &mut other,
        "made",
        "x-max-length:1\nx-overflow:reject-publish\n",
        "three",
    )
    .await;
    assert_eq!(broker.depth("made").expect("there").ready, 3);
}

#[tokio::test]
async fn argument_headers_are_not_part_of_the_message_and_all_other_x_headers_are() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    send(
        &mut peer,
        "parts",
        "x-max-length:5\nx-mine:kept\nx-match:kept\n",
        "x",
    )
    .await;
    let mut peer = consumer(&broker, "parts", "").await;
    let message = peer.message().await;
    assert_eq!(header(&message, "x-max-length"), None);
    assert_eq!(header(&message, "x-mine").as_deref(), Some("kept"));
    assert_eq!(header(&message, "x-match").as_deref(), Some("kept"));
}

#[tokio::test]
async fn arguments_that_cannot_be_are_refused_by_name() {
    let broker = TestBroker::start().await;
    for (argument, message) in [
        ("x-message-ttl:soon", "Processing error"),
        ("x-single-active-consumer:maybe", "Processing error"),
        ("x-message-ttl:-1", "precondition_failed"),
        ("x-expires:0", "precondition_failed"),
        ("x-max-priority:256", "precondition_failed"),
        ("x-overflow:explode", "precondition_failed"),
        ("x-dead-letter-routing-key:alone", "precondition_failed"),
        ("x-queue-type:stream", "not_implemented"),
    ] {
        for frame in ["SEND", "SUBSCRIBE\nid:s"] {
            let mut peer = broker.client().await;
            let error = peer
                .refused(&format!("{frame}\ndestination:/queue/wrong\n{argument}"))
                .await;
            assert_eq!(
                header(&error, "message").as_deref(),
                Some(message),
                "{argument}"
            );
            let name = argument.split(':').next().expect("a name");
            assert!(
                message == "not_implemented" || body(&error).contains(name),
                "{}",
                body(&error)
            );
        }
    }
    assert_eq!(broker.queues(), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_queue_drops_its_oldest_messages() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for at in 0..5 {
        send(&mut peer, "drops", "x-max-length:2\n", &at.to_string()).await;
    }
    assert_eq!(
        consumer(&broker, "drops", "").await.texts(2).await,
        ["3", "4"]
    );
}

#[tokio::test]
async fn a_queue_full_by_bytes_drops_its_oldest_messages() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    let text = |at: u8| char::from(b'0' + at).to_string().repeat(1000);
    for at in 0..5 {
        send(&mut peer, "bytes", "x-max-length-bytes:2500\n", &text(at)).await;
    }
    assert_eq!(
        consumer(&broker, "bytes", "").await.texts(2).await,
        [text(3), text(4)]
    );
}

#[tokio::test]
async fn what_consumers_hold_does_not_count_towards_the_length() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/held\nack:client\nx-max-length:1\nx-overflow:reject-publish").await;
    for at in 0..3 {
        send(&mut peer, "held", "", &at.to_string()).await;
    }
    assert_eq!(peer.texts(3).await, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_full_queue_refuses_new_messages_and_the_connection_goes_on() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    send(
        &mut peer,
        "refuses",
        "x-max-length:1\nx-overflow:reject-publish\n",
        "kept",
    )
    .await;
    let error = peer
        .refused("SEND\ndestination:/queue/refuses\n\nrefused")
        .await;
    assert_eq!(header(&error, "message").as_deref(), Some("queue_full"));
    assert_eq!(header(&error, "code").as_deref(), Some("queue_full"));
    assert!(body(&error).contains("'refuses'"), "{}", body(&error));
    // Without a receipt the refusal is told too.
    peer.tell("SEND\ndestination:/queue/refuses\n\nrefused")
        .await;
    assert_eq!(header(&peer.error().await, "receipt-id"), None);
    peer.is_open().await;
    assert_eq!(broker.depth("refuses").expect("there").ready, 1);
}

#[tokio::test]
async fn a_full_queue_may_dead_letter_what_it_refuses() {
    let broker = TestBroker::start().await;
    let mut dead = broker.client().await;
    dead.ask("SUBSCRIBE\nid:s\ndestination:/queue/dead").await;
    let mut peer = broker.client().await;
    let arguments = "x-max-length:1\nx-overflow:reject-publish-dlx\nx-dead-letter-exchange:\nx-dead-letter-routing-key:dead\n";
    send(&mut peer, "moves", arguments, "kept").await;
    let error = peer
        .refused("SEND\ndestination:/queue/moves\n\nmoved")
        .await;
    assert_eq!(header(&error, "message").as_deref(), Some("queue_full"));
    let message = dead.message().await;
    assert_eq!(body(&message), "moved");
    assert_eq!(
        header(&message, "x-first-death-reason").as_deref(),
        Some("maxlen")
    );
}

#[tokio::test]
async fn a_full_queue_may_hold_its_publishers_back_until_there_is_room() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    // Taken, and the publisher is not read from any more: no receipt of what it sends next.
    send(
        &mut peer,
        "holds",
        "x-max-length:1\nx-overflow:block\n",
        "one",
    )
    .await;
    peer.tell("SEND\ndestination:/queue/holds\nreceipt:two\n\ntwo")
        .await;
    let mut other = broker.client().await;
    send(&mut other, "elsewhere", "", "x").await;
    assert_eq!(broker.depth("holds").expect("there").ready, 1);
    let mut consumer = consumer(&broker, "holds", "ack:client\nprefetch-count:1").await;
    assert_eq!(consumer.text().await, "one");
    peer.receipt("two").await;
}

#[tokio::test]
async fn a_queue_may_limit_the_size_of_a_message() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    send(&mut peer, "small", "x-max-message-size:100\n", "fits").await;
    let error = peer
        .refused(&format!(
            "SEND\ndestination:/queue/small\n\n{}",
            "x".repeat(200)
        ))
        .await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("message_too_large")
    );
    peer.is_open().await;
}

#[tokio::test]
async fn higher_priorities_are_served_first_and_equal_ones_in_order() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for (priority, text) in [
        ("1", "low"),
        ("5", "high"),
        ("1", "low too"),
        ("9", "above all"),
        ("nonsense", "none"),
        ("5", "high too"),
    ] {
        send(
            &mut peer,
            "priorities",
            &format!("x-max-priority:5\npriority:{priority}\n"),
            text,
        )
        .await;
    }
    let texts = consumer(&broker, "priorities", "").await.texts(6).await;
    assert_eq!(
        texts,
        ["high", "above all", "high too", "low", "low too", "none"]
    );
}

#[tokio::test]
async fn a_queue_without_priorities_keeps_its_order() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for priority in ["1", "9", "5"] {
        send(
            &mut peer,
            "flat",
            &format!("priority:{priority}\n"),
            priority,
        )
        .await;
    }
    assert_eq!(
        consumer(&broker, "flat", "").await.texts(3).await,
        ["1", "9", "5"]
    );
}

#[tokio::test]
async fn a_single_active_consumer_gets_everything_until_it_leaves() {
    let broker = TestBroker::start().await;
    let mut sender = broker.client().await;
    send(
        &mut sender,
        "single",
        "x-single-active-consumer:true\n",
        "0",
    )
    .await;
    let mut first = consumer(&broker, "single", "").await;
    let mut second = consumer(&broker, "single", "").await;
    for at in 1..4 {
        send(&mut sender, "single", "", &at.to_string()).await;
    }
    assert_eq!(first.texts(4).await, ["0", "1", "2", "3"]);
    second.is_open().await;
    first.leave().await;
    send(&mut sender, "single", "", "4").await;
    assert_eq!(second.text().await, "4");
}

#[tokio::test]
async fn consumers_of_a_higher_priority_are_served_first() {
    let broker = TestBroker::start().await;
    let mut sender = broker.client().await;
    send(&mut sender, "ranked", "", "0").await;
    sender
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/ranked")
        .await;
    assert_eq!(sender.text().await, "0");
    let mut high = consumer(
        &broker,
        "ranked",
        "x-priority:10\nack:client-individual\nprefetch-count:2",
    )
    .await;
    for at in 1..4 {
        send(&mut sender, "ranked", "", &at.to_string()).await;
    }
    assert_eq!(high.texts(2).await, ["1", "2"]);
    assert_eq!(
        sender.text().await,
        "3",
        "the higher one has no credit left"
    );
}

#[tokio::test]
async fn an_exclusive_consumer_keeps_others_away() {
    let broker = TestBroker::start().await;
    for word in ["exclusive", "activemq.exclusive"] {
        let mut alone = broker.client().await;
        alone
            .ask(&format!(
                "SUBSCRIBE\nid:s\ndestination:/queue/alone\n{word}:true"
            ))
            .await;
        let mut other = broker.client().await;
        let error = other
            .refused("SUBSCRIBE\nid:s\ndestination:/queue/alone")
            .await;
        assert_eq!(header(&error, "message").as_deref(), Some("access_refused"));
        assert_eq!(header(&error, "code").as_deref(), Some("in_use"));
        other.is_closed().await;
        alone.leave().await;
        let shared = consumer(&broker, "alone", "").await;
        let mut late = broker.client().await;
        let error = late
            .refused(&format!(
                "SUBSCRIBE\nid:s\ndestination:/queue/alone\n{word}:true"
            ))
            .await;
        assert_eq!(header(&error, "code").as_deref(), Some("in_use"));
        shared.leave().await;
    }
}

#[tokio::test]
async fn a_queue_that_nobody_uses_expires() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client_in_memory("").await;
    peer.ask("SEND\ndestination:/queue/idle\nx-expires:60000\n\nx")
        .await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/amq/queue/idle")
        .await;
    peer.message().await;
    tokio::time::pause();
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert!(broker.depth("idle").is_some(), "it has a consumer");
    peer.tell("UNSUBSCRIBE\nid:s").await;
    peer.tell("SUBSCRIBE\nid:clock\ndestination:/topic/clock")
        .await;
    peer.tell("SEND\ndestination:/topic/clock\n\nunsubscribed")
        .await;
    peer.message().await;
    tokio::time::sleep(std::time::Duration::from_secs(59)).await;
    assert!(broker.depth("idle").is_some());
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(broker.depth("idle").is_none());
}

#[tokio::test]
async fn a_quorum_queue_gives_up_a_message_that_came_back_twenty_times() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    send(&mut peer, "quorum", "x-queue-type:quorum\n", "x").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/quorum\nx-queue-type:quorum\nack:client")
        .await;
    for returns in 0..=20 {
        let message = peer.message().await;
        let count = (returns > 0).then(|| returns.to_string());
        assert_eq!(header(&message, "x-delivery-count"), count);
        peer.settle("NACK", &message, "").await;
    }
    let depth = broker.depth("quorum").expect("there");
    assert_eq!((depth.ready, depth.unacked), (0, 0));
}

#[tokio::test]
async fn the_active_consumer_of_a_single_one_is_that_of_the_highest_priority() {
    let broker = TestBroker::start().await;
    let mut sender = broker.client().await;
    send(&mut sender, "ranks", "x-single-active-consumer:true\n", "0").await;
    let mut low = consumer(&broker, "ranks", "").await;
    assert_eq!(low.text().await, "0");
    let mut high = consumer(&broker, "ranks", "x-priority:5").await;
    send(&mut sender, "ranks", "", "1").await;
    assert_eq!(high.text().await, "1");
    low.is_open().await;
}

#[tokio::test]
async fn how_much_a_subscription_may_hold_by_default_can_be_configured() {
    let broker = Setup::stomp(|options| options.default_prefetch = 2)
        .start()
        .await;
    let mut peer = broker.client().await;
    for at in 0..5 {
        send(&mut peer, "window", "", &at.to_string()).await;
    }
    for (headers, held) in [
        ("", 2),
        ("prefetch-count:3", 3),
        ("activemq.prefetchSize:4", 4),
    ] {
        let mut consumer = consumer(&broker, "window", &format!("ack:client\n{headers}")).await;
        consumer.texts(held).await;
        assert_eq!(
            broker.depth("window").expect("there").unacked,
            held,
            "{headers}"
        );
        consumer.leave().await;
    }
}
