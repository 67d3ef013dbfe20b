//! SUBSCRIBE and UNSUBSCRIBE: what they make, share and leave behind.

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{Peer, body, header};

/// Sends these bodies to a topic and waits until the broker has them.
async fn publish(broker: &TestBroker, topic: &str, bodies: &[&str]) {
    let mut peer = broker.client().await;
    for text in bodies {
        peer.ask(&format!("SEND\ndestination:/topic/{topic}\n\n{text}"))
            .await;
    }
    peer.leave().await;
}

async fn subscribe(broker: &TestBroker, headers: &str) -> Peer {
    let mut peer = broker.client().await;
    peer.ask(&format!("SUBSCRIBE\n{headers}")).await;
    peer
}

#[tokio::test]
async fn unsubscribing_ends_delivery_however_the_subscription_is_named() {
    let broker = TestBroker::start().await;
    for destination in ["/queue/ended", "/topic/ended", "/exchange/amq.fanout"] {
        for (subscribe, unsubscribe) in [
            ("id:s\n", "id:s".to_owned()),
            ("", format!("destination:{destination}")),
        ] {
            let mut peer = broker.client().await;
            peer.ask(&format!("SUBSCRIBE\n{subscribe}destination:{destination}"))
                .await;
            peer.tell(&format!("SEND\ndestination:{destination}\n\nbefore"))
                .await;
            assert_eq!(peer.text().await, "before");
            peer.ask(&format!("UNSUBSCRIBE\n{unsubscribe}")).await;
            peer.ask(&format!("SEND\ndestination:{destination}\n\nafter"))
                .await;
            peer.is_open().await;
            let error = peer.refused(&format!("UNSUBSCRIBE\n{unsubscribe}")).await;
            assert_eq!(
                header(&error, "message").as_deref(),
                Some("No subscription found")
            );
            peer.leave().await;
            let mut peer = subscribe_and_purge(&broker).await;
            peer.is_open().await;
        }
    }
}

/// Takes what the last round left in the shared queue.
async fn subscribe_and_purge(broker: &TestBroker) -> Peer {
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:purge\ndestination:/queue/ended")
        .await;
    peer.tell("SEND\ndestination:/queue/ended\n\nlast").await;
    while peer.text().await != "last" {}
    peer
}

#[tokio::test]
async fn a_duplicate_subscription_is_refused_and_ends_the_connection() {
    let broker = TestBroker::start().await;
    for (headers, name) in [
        ("id:s\ndestination:/queue/twice", "T_s"),
        ("id:s\ndestination:/topic/twice", "T_s"),
        (
            "id:s\ndestination:/topic/twice\ndurable:true\nauto-delete:true",
            "T_s",
        ),
        ("destination:/queue/twice", "Q_/queue/twice"),
    ] {
        let mut peer = subscribe(&broker, headers).await;
        let error = peer.refused(&format!("SUBSCRIBE\n{headers}")).await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("Duplicated subscription identifier")
        );
        assert_eq!(
            body(&error),
            format!("A subscription identified by '{name}' already exists.\n")
        );
        peer.is_closed().await;
    }
}

#[tokio::test]
async fn a_private_queue_goes_with_its_subscription_or_its_connection() {
    let broker = TestBroker::start().await;
    for destination in [
        "/topic/private",
        "/exchange/amq.direct/private",
        "/queue/private\ndurable:false",
    ] {
        for unsubscribes in [true, false] {
            let mut peer = subscribe(&broker, &format!("id:s\ndestination:{destination}")).await;
            assert_eq!(broker.queues().len(), 1, "{destination}");
            if unsubscribes {
                peer.ask("UNSUBSCRIBE\nid:s").await;
                assert_eq!(broker.queues(), Vec::<String>::new(), "{destination}");
            }
            peer.leave().await;
            assert_eq!(broker.queues(), Vec::<String>::new(), "{destination}");
        }
    }
}

#[tokio::test]
async fn a_private_queue_is_locked_for_other_connections() {
    let broker = TestBroker::start().await;
    let _owner = subscribe(&broker, "id:s\ndestination:/topic/mine\nx-queue-name:mine").await;
    for destination in ["/queue/mine", "/amq/queue/mine"] {
        let mut peer = broker.client().await;
        let error = peer
            .refused(&format!("SUBSCRIBE\nid:s\ndestination:{destination}"))
            .await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("resource_locked"),
            "{destination}"
        );
        peer.is_closed().await;
    }
}

#[tokio::test]
async fn a_durable_subscription_collects_while_its_client_is_away() {
    let broker = TestBroker::start().await;
    for (destination, durable) in [
        ("/topic/away", "durable"),
        ("/topic/away", "persistent"),
        ("/exchange/amq.topic/away", "durable"),
    ] {
        let headers = format!("id:s\ndestination:{destination}\n{durable}:true");
        let mut peer = subscribe(&broker, &headers).await;
        publish(&broker, "away", &["while here"]).await;
        assert_eq!(peer.text().await, "while here");
        peer.leave().await;
        publish(&broker, "away", &["while gone"]).await;
        let mut peer = subscribe(&broker, &headers).await;
        assert_eq!(peer.text().await, "while gone");
        peer.ask("UNSUBSCRIBE\nid:s").await;
        publish(&broker, "away", &["while unsubscribed"]).await;
        peer.ask(&format!("SUBSCRIBE\n{headers}")).await;
        assert_eq!(peer.text().await, "while unsubscribed", "{destination}");
        peer.leave().await;
    }
}

#[tokio::test]
async fn unsubscribing_for_good_deletes_a_durable_topic_subscription() {
    let broker = TestBroker::start().await;
    for word in ["durable", "persistent"] {
        let mut peer = subscribe(&broker, "id:s\ndestination:/topic/good\ndurable:true").await;
        peer.ask(&format!("UNSUBSCRIBE\nid:s\n{word}:true")).await;
        assert_eq!(broker.queues(), Vec::<String>::new(), "{word}");
        peer.is_open().await;
    }
    let mut peer = subscribe(
        &broker,
        "id:s\ndestination:/exchange/amq.topic/good\ndurable:true",
    )
    .await;
    peer.ask("UNSUBSCRIBE\nid:s\ndurable:true").await;
    assert_eq!(broker.queues().len(), 1, "one of an exchange stays");
}

#[tokio::test]
async fn connections_with_the_same_durable_id_share_and_those_with_different_ids_do_not() {
    let broker = TestBroker::start().await;
    let durable = |id: &str| {
        format!(
            "id:{id}\ndestination:/topic/share\ndurable:true\nack:client-individual\nprefetch-count:50"
        )
    };
    let mut first = subscribe(&broker, &durable("same")).await;
    let mut second = subscribe(&broker, &durable("same")).await;
    let mut own = subscribe(&broker, &durable("own").replace("50", "100")).await;
    let texts: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    publish(
        &broker,
        "share",
        &texts.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    let mut shared = first.texts(50).await;
    shared.extend(second.texts(50).await);
    shared.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    assert_eq!(shared, texts);
    assert_eq!(own.texts(100).await, texts);
}

#[tokio::test]
async fn activemqs_name_for_a_durable_subscription_is_understood() {
    let broker = TestBroker::start().await;
    let connect = "accept-version:1.2\nclient-id:me";
    let subscribe = "SUBSCRIBE\nid:1\ndestination:/topic/active\nactivemq.subscriptionName:mine";
    let mut peer = broker.login(connect).await;
    peer.ask(subscribe).await;
    peer.leave().await;
    publish(&broker, "active", &["while gone"]).await;
    let mut peer = broker.login(connect).await;
    // Another id is the same subscription: it is known by client and name.
    peer.ask(&subscribe.replace("id:1", "id:2")).await;
    assert_eq!(peer.text().await, "while gone");
    let mut nameless = broker.client().await;
    let error = nameless.refused(subscribe).await;
    assert_eq!(header(&error, "message").as_deref(), Some("Missing Header"));
}

#[tokio::test]
async fn a_durable_subscription_needs_an_id() {
    let broker = TestBroker::start().await;
    for word in ["durable", "persistent"] {
        let mut peer = broker.client().await;
        let error = peer
            .refused(&format!("SUBSCRIBE\ndestination:/topic/a\n{word}:true"))
            .await;
        assert_eq!(header(&error, "message").as_deref(), Some("Missing Header"));
        assert_eq!(
            body(&error),
            "Header 'id' is required for durable subscriptions\n"
        );
        peer.is_open().await;
    }
}

#[tokio::test]
async fn a_subscription_may_name_its_queue_which_others_can_then_use() {
    let broker = TestBroker::start().await;
    for (destination, queue) in [
        ("/topic/named", "by-topic"),
        ("/exchange/amq.topic/named", "by-exchange"),
    ] {
        let peer = subscribe(
            &broker,
            &format!("id:s\ndestination:{destination}\nx-queue-name:{queue}\ndurable:true"),
        )
        .await;
        peer.leave().await;
        publish(&broker, "named", &["x"]).await;
        let mut peer = subscribe(&broker, &format!("id:s\ndestination:/amq/queue/{queue}")).await;
        assert_eq!(peer.text().await, "x");
    }
}

#[tokio::test]
async fn a_queue_with_auto_delete_goes_with_its_last_consumer() {
    let broker = TestBroker::start().await;
    let mut first = subscribe(&broker, "id:s\ndestination:/queue/auto\nauto-delete:true").await;
    let second = subscribe(&broker, "id:s\ndestination:/queue/auto\nauto-delete:true").await;
    first.ask("UNSUBSCRIBE\nid:s").await;
    assert!(broker.depth("auto").is_some());
    second.leave().await;
    assert!(broker.depth("auto").is_none());
}

#[tokio::test]
async fn subscribers_with_a_tag_filter_get_only_what_carries_one_of_its_tags() {
    let broker = TestBroker::start().await;
    let mut red = subscribe(
        &broker,
        "id:s\ndestination:/topic/tagged\nfilter-tags:red, blue",
    )
    .await;
    let mut all = subscribe(&broker, "id:s\ndestination:/topic/tagged").await;
    let mut sender = broker.client().await;
    for (tags, text) in [
        ("tags:green\n", "green"),
        ("tags:green,red\n", "both"),
        ("", "none"),
        ("tags:blue\n", "blue"),
    ] {
        sender
            .ask(&format!("SEND\ndestination:/topic/tagged\n{tags}\n{text}"))
            .await;
    }
    assert_eq!(red.texts(2).await, ["both", "blue"]);
    assert_eq!(all.texts(4).await, ["green", "both", "none", "blue"]);
    red.is_open().await;
}

#[tokio::test]
async fn a_filter_that_cannot_be_is_refused() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for filter in [" , ".to_owned(), "x".repeat(65), vec!["t"; 17].join(",")] {
        let error = peer
            .refused(&format!(
                "SUBSCRIBE\nid:s\ndestination:/topic/a\nfilter-tags:{filter}"
            ))
            .await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("Invalid header"),
            "{filter}"
        );
    }
    let error = peer
        .refused("SUBSCRIBE\nid:q\ndestination:/queue/a\nfilter-tags:red")
        .await;
    assert_eq!(
        header(&error, "code").as_deref(),
        Some("invalid_header"),
        "the consumers of a queue share its messages, whatever their tags"
    );
    peer.is_open().await;
}

#[tokio::test]
async fn what_would_be_misunderstood_if_it_were_ignored_is_refused() {
    let broker = TestBroker::start().await;
    for header_line in [
        "selector:a = 1",
        "browser:true",
        "no-local:true",
        "activemq.noLocal:true",
        "activemq.retroactive:true",
    ] {
        let mut peer = broker.client().await;
        let error = peer
            .refused(&format!(
                "SUBSCRIBE\nid:s\ndestination:/topic/a\n{header_line}"
            ))
            .await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("not_implemented"),
            "{header_line}"
        );
        peer.is_open().await;
    }
}

#[tokio::test]
async fn the_number_of_subscriptions_is_limited_by_name() {
    let broker = Setup::stomp(|options| options.subscriptions_max = 3)
        .start()
        .await;
    let mut peer = broker.client().await;
    for at in 0..3 {
        peer.ask(&format!("SUBSCRIBE\nid:{at}\ndestination:/queue/many"))
            .await;
    }
    for frame in [
        "SUBSCRIBE\nid:more\ndestination:/queue/many",
        "SEND\ndestination:/queue/many\nreply-to:/temp-queue/r\n\nx",
    ] {
        let error = peer.refused(frame).await;
        assert_eq!(header(&error, "message").as_deref(), Some("limit_reached"));
        assert!(
            body(&error).contains("limits.subscriptions"),
            "{}",
            body(&error)
        );
    }
    peer.ask("UNSUBSCRIBE\nid:0").await;
    peer.ask("SUBSCRIBE\nid:more\ndestination:/queue/many")
        .await;
    peer.is_open().await;
}

#[tokio::test]
async fn a_consumer_hears_that_its_queue_was_deleted_and_its_other_subscriptions_go_on() {
    let broker = TestBroker::start().await;
    let durable = "id:s\ndestination:/topic/deleted\ndurable:true\nack:client";
    let mut deleting = subscribe(&broker, durable).await;
    let mut peer = subscribe(&broker, durable).await;
    peer.ask("SUBSCRIBE\nid:other\ndestination:/queue/other")
        .await;
    publish(&broker, "deleted", &["one", "two"]).await;
    let held = peer.message().await;
    deleting.ask("UNSUBSCRIBE\nid:s\ndurable:true").await;
    let error = peer.error().await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("Server cancelled subscription")
    );
    assert_eq!(header(&error, "subscription").as_deref(), Some("s"));
    assert!(header(&error, "receipt-id").is_none());
    peer.tell("SEND\ndestination:/queue/other\n\nstill here")
        .await;
    assert_eq!(peer.text().await, "still here");
    peer.settle("ACK", &held, "").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/again").await;
    peer.is_open().await;
}
