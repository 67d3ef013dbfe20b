//! Where frames can go and come from.

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{body, header};

#[tokio::test]
async fn what_is_sent_to_a_destination_comes_to_its_subscribers_under_the_address_it_was_published_to()
 {
    let broker = TestBroker::start().await;
    for (subscribed, sent, shown) in [
        ("/queue/plain", "/queue/plain", "/queue/plain"),
        ("bare", "/queue/bare", "/queue/bare"),
        ("/queue/other", "other", "/queue/other"),
        ("/queue/a%2Fb", "/queue/a%2Fb", "/queue/a%2Fb"),
        ("/queue/caf\u{e9}", "/queue/caf\u{e9}", "/queue/caf%C3%A9"),
        ("/topic/a.b", "/topic/a.b", "/topic/a.b"),
        ("/topic/a/c", "/topic/a.c", "/topic/a.c"),
        ("/topic/a.d", "/topic/a/d", "/topic/a.d"),
        ("/topic/stars.*.x", "/topic/stars.1.x", "/topic/stars.1.x"),
        ("/topic/hashes.#", "/topic/hashes", "/topic/hashes"),
        (
            "/topic/via.exchange",
            "/exchange/amq.topic/via.exchange",
            "/topic/via.exchange",
        ),
        (
            "/exchange/amq.topic/via.topic",
            "/topic/via.topic",
            "/topic/via.topic",
        ),
        (
            "/exchange/amq.direct/key",
            "/exchange/amq.direct/key",
            "/exchange/amq.direct/key",
        ),
        (
            "/exchange/amq.fanout",
            "/exchange/amq.fanout",
            "/exchange/amq.fanout",
        ),
        (
            "/exchange/amq.fanout/k",
            "/exchange/amq.fanout/other",
            "/exchange/amq.fanout/other",
        ),
        ("/amq/queue/plain", "/amq/queue/plain", "/queue/plain"),
        ("/reply-queue/plain", "/reply-queue/plain", "/queue/plain"),
        ("/reply-queue/a/b", "/queue/a%2Fb", "/queue/a%2Fb"),
    ] {
        let mut peer = broker.client().await;
        peer.ask(&format!("SUBSCRIBE\nid:s\ndestination:{subscribed}"))
            .await;
        peer.tell(&format!("SEND\ndestination:{sent}\n\n{sent}"))
            .await;
        let message = peer.message().await;
        assert_eq!(body(&message), sent);
        assert_eq!(
            header(&message, "destination").as_deref(),
            Some(shown),
            "{sent}"
        );
        assert_eq!(header(&message, "subscription").as_deref(), Some("s"));
        peer.leave().await;
    }
}

#[tokio::test]
async fn a_destination_that_cannot_be_is_refused_and_the_connection_goes_on() {
    const KINDS: &str = "Valid destination types are: /temp-queue, /temp-topic, /exchange, /topic, /queue, /amq/queue, /reply-queue/.\n";
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for (destination, message, expected) in [
        (
            "",
            "Invalid destination",
            "Destination cannot be blank\n".to_owned(),
        ),
        (
            "/queue",
            "Invalid destination",
            "'' is not a valid queue destination\n".to_owned(),
        ),
        (
            "/queue/",
            "Invalid destination",
            "'/' is not a valid queue destination\n".to_owned(),
        ),
        (
            "/queue/a/b",
            "Invalid destination",
            "'/a/b' is not a valid queue destination\n".to_owned(),
        ),
        (
            "/topic/",
            "Invalid destination",
            "'/' is not a valid topic destination\n".to_owned(),
        ),
        (
            "/topic/a//b",
            "Invalid destination",
            "'/a//b' is not a valid topic destination\n".to_owned(),
        ),
        (
            "/exchange",
            "Invalid destination",
            "'' is not a valid exchange destination\n".to_owned(),
        ),
        (
            "/exchange//foo",
            "Invalid destination",
            "'//foo' is not a valid exchange destination\n".to_owned(),
        ),
        (
            "/exchange/a/b/c",
            "Invalid destination",
            "'/a/b/c' is not a valid exchange destination\n".to_owned(),
        ),
        (
            "/amq/queue/",
            "Invalid destination",
            "'/' is not a valid amqqueue destination\n".to_owned(),
        ),
        (
            "/reply-queue/",
            "Invalid destination",
            "'/' is not a valid reply_queue destination\n".to_owned(),
        ),
        (
            "/something/interesting",
            "Unknown destination",
            format!("'/something/interesting' is not a valid destination.\n{KINDS}"),
        ),
        (
            "/queues/a",
            "Unknown destination",
            format!("'/queues/a' is not a valid destination.\n{KINDS}"),
        ),
    ] {
        for command in ["SEND", "SUBSCRIBE\nid:s"] {
            let error = peer
                .refused(&format!("{command}\ndestination:{destination}"))
                .await;
            assert_eq!(
                header(&error, "message").as_deref(),
                Some(message),
                "{destination}"
            );
            assert_eq!(body(&error), expected, "{destination}");
        }
    }
    for command in ["SEND", "SUBSCRIBE\nid:s"] {
        let error = peer.refused(command).await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("Missing destination")
        );
    }
    peer.is_open().await;
    assert_eq!(
        broker.queues(),
        Vec::<String>::new(),
        "nothing was made by the way"
    );
}

#[tokio::test]
async fn a_private_reply_queue_can_be_neither_sent_nor_subscribed_to() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for command in ["SEND", "SUBSCRIBE\nid:s"] {
        let error = peer
            .refused(&format!("{command}\ndestination:/temp-queue/r"))
            .await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("Invalid destination")
        );
        assert!(body(&error).contains("'reply-to'"), "{}", body(&error));
    }
    peer.is_open().await;
}

#[tokio::test]
async fn a_missing_exchange_is_not_found_and_ends_the_connection() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    let error = peer
        .refused("SUBSCRIBE\nid:s\ndestination:/exchange/nowhere/k")
        .await;
    assert_eq!(header(&error, "message").as_deref(), Some("not_found"));
    assert!(
        body(&error).starts_with("no exchange 'nowhere' in vhost '/'"),
        "{}",
        body(&error)
    );
    peer.is_closed().await;
    assert_eq!(
        broker.queues(),
        Vec::<String>::new(),
        "the private queue is gone again"
    );
}

#[tokio::test]
async fn a_send_to_a_missing_exchange_is_not_found() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    let error = peer
        .refused("SEND\ndestination:/exchange/nowhere/k\n\nx")
        .await;
    assert_eq!(header(&error, "message").as_deref(), Some("not_found"));
    assert!(
        body(&error).starts_with("no exchange 'nowhere' in vhost '/'"),
        "{}",
        body(&error)
    );
}

#[tokio::test]
async fn an_amq_queue_is_never_made_by_naming_it() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SEND\ndestination:/amq/queue/nowhere\n\nlost")
        .await;
    assert_eq!(broker.depth("nowhere"), None);
    let error = peer
        .refused("SUBSCRIBE\nid:s\ndestination:/amq/queue/nowhere")
        .await;
    assert_eq!(header(&error, "message").as_deref(), Some("not_found"));
    peer.is_closed().await;
}

#[tokio::test]
async fn a_queue_is_made_by_the_first_send_and_keeps_messages_for_a_later_consumer() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SEND\ndestination:/queue/later\n\nkept").await;
    peer.leave().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/later").await;
    assert_eq!(peer.text().await, "kept");
}

#[tokio::test]
async fn consumers_of_one_queue_take_turns_and_subscribers_of_one_topic_all_get_a_copy() {
    let broker = TestBroker::start().await;
    let mut first = broker.client().await;
    let mut second = broker.client().await;
    for (at, peer) in [&mut first, &mut second].into_iter().enumerate() {
        peer.ask(&format!(
            "SUBSCRIBE\nid:queue-{at}\ndestination:/queue/shared"
        ))
        .await;
        peer.ask(&format!(
            "SUBSCRIBE\nid:topic-{at}\ndestination:/topic/shared"
        ))
        .await;
    }
    let mut sender = broker.client().await;
    for at in 0..4 {
        sender
            .ask(&format!("SEND\ndestination:/queue/shared\n\nq{at}"))
            .await;
    }
    for at in 0..4 {
        sender
            .ask(&format!("SEND\ndestination:/topic/shared\n\nt{at}"))
            .await;
    }
    let mut shares = Vec::new();
    for peer in [&mut first, &mut second] {
        let texts = peer.texts(6).await;
        let (share, copies): (Vec<_>, Vec<_>) =
            texts.into_iter().partition(|text| text.starts_with('q'));
        assert_eq!(copies, ["t0", "t1", "t2", "t3"]);
        shares.push(share);
    }
    shares.sort();
    assert_eq!(shares, [["q0", "q2"], ["q1", "q3"]]);
}

#[tokio::test]
async fn one_large_body_reaches_every_subscriber_of_a_topic() {
    let broker = TestBroker::start().await;
    let large = "x".repeat(16 << 20);
    let mut peers = [broker.client().await, broker.client().await];
    for peer in &mut peers {
        peer.ask("SUBSCRIBE\nid:s\ndestination:/topic/large").await;
    }
    let mut sender = broker.client().await;
    sender
        .ask(&format!("SEND\ndestination:/topic/large\n\n{large}"))
        .await;
    for peer in &mut peers {
        let message = peer.message().await;
        assert!(
            message.body == large.as_bytes(),
            "{} bytes came",
            message.body.len()
        );
    }
}

#[tokio::test]
async fn another_exchange_may_stand_behind_topics() {
    let broker = Setup::stomp(|options| {
        options.default_topic_exchange =
            millpond::engine::name::ExchangeName::from_static("amq.direct");
    })
    .start()
    .await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/topic/k").await;
    peer.ask("SEND\ndestination:/exchange/amq.topic/k\n\nnot there")
        .await;
    peer.ask("SEND\ndestination:/topic/k\n\nthere").await;
    let message = peer.message().await;
    assert_eq!(body(&message), "there");
    assert_eq!(
        header(&message, "destination").as_deref(),
        Some("/exchange/amq.direct/k")
    );
}
