//! What a message carries, and what the broker adds to it.

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{body, header};

#[tokio::test]
async fn a_producers_headers_come_back_unchanged_in_every_version() {
    let broker = TestBroker::start().await;
    for version in ["1.0", "1.1", "1.2"] {
        let mut peer = broker.login(&format!("accept-version:{version}")).await;
        peer.ask("SUBSCRIBE\nid:s\ndestination:/topic/headers")
            .await;
        // 1.0 knows no escapes: there a colon and a backslash stand for themselves.
        let (written, read) = match version {
            "1.0" => ("a:b\\q", "a:b\\q"),
            _ => ("a\\cb\\\\q\\n", "a:b\\q\n"),
        };
        peer.tell(&format!(
            "SEND\ndestination:/topic/headers\ncontent-type:text/plain\ncorrelation-id:7\namqp-message-id:own\n\
             timestamp:12\ntype:t\napp-id:me\npriority:3\ncustom:{written}\nna\u{ef}ve:\u{e9}t\u{e9}\n\nx"
        ))
        .await;
        let message = peer.message().await;
        for (name, value) in [
            ("content-type", "text/plain"),
            ("correlation-id", "7"),
            ("amqp-message-id", "own"),
            ("timestamp", "12"),
            ("type", "t"),
            ("app-id", "me"),
            ("priority", "3"),
            ("custom", read),
            ("na\u{ef}ve", "\u{e9}t\u{e9}"),
            ("redelivered", "false"),
            ("content-length", "1"),
        ] {
            assert_eq!(
                header(&message, name).as_deref(),
                Some(value),
                "{version} {name}"
            );
        }
        peer.leave().await;
    }
}

#[tokio::test]
async fn the_brokers_own_headers_win_over_what_a_producer_forges() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:mine\ndestination:/queue/forged\nack:client-individual")
        .await;
    peer.tell(
        "SEND\ndestination:/queue/forged\nsubscription:theirs\nack:theirs\nredelivered:true\nx-message-id:1\n\
         x-delivery-count:9\nx-death:theirs\nx-first-death-queue:theirs\n\nx",
    )
    .await;
    let message = peer.message().await;
    for (name, value) in [
        ("subscription", Some("mine")),
        ("redelivered", Some("false")),
        ("x-delivery-count", None),
        ("x-death", None),
        ("x-first-death-queue", None),
    ] {
        let values: Vec<_> = message
            .headers
            .iter()
            .filter(|(known, _)| *known == name.as_bytes())
            .map(|(_, value)| value.into_owned())
            .collect();
        assert_eq!(
            values,
            value
                .map(|value| value.as_bytes().to_vec())
                .into_iter()
                .collect::<Vec<_>>(),
            "{name}"
        );
    }
    assert_eq!(header(&message, "ack"), header(&message, "message-id"));
    assert_ne!(header(&message, "x-message-id").as_deref(), Some("1"));
}

#[tokio::test]
async fn the_ack_header_exists_only_in_1_2_and_only_for_deliveries_that_need_it() {
    let broker = TestBroker::start().await;
    for version in ["1.0", "1.1", "1.2"] {
        for mode in ["auto", "client", "client-individual"] {
            let mut peer = broker.login(&format!("accept-version:{version}")).await;
            peer.ask(&format!(
                "SUBSCRIBE\nid:s\ndestination:/topic/acked\nack:{mode}"
            ))
            .await;
            peer.tell("SEND\ndestination:/topic/acked\n\nx").await;
            let message = peer.message().await;
            let expected = version == "1.2" && mode != "auto";
            assert_eq!(
                header(&message, "ack").is_some(),
                expected,
                "{version} {mode}"
            );
            if expected {
                assert_eq!(header(&message, "ack"), header(&message, "message-id"));
            }
            peer.leave().await;
        }
    }
}

#[tokio::test]
async fn a_subscription_without_id_gives_messages_without_subscription_header() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\ndestination:/queue/nameless").await;
    peer.tell("SEND\ndestination:/queue/nameless\n\nx").await;
    assert_eq!(header(&peer.message().await, "subscription"), None);
}

#[tokio::test]
async fn a_message_id_on_send_is_refused() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    let error = peer
        .refused("SEND\ndestination:/queue/a\nmessage-id:mine\n\nx")
        .await;
    assert_eq!(header(&error, "message").as_deref(), Some("Invalid header"));
    assert_eq!(body(&error), "'message-id' is not allowed on 'SEND'.\n");
    peer.is_open().await;
}

#[tokio::test]
async fn the_first_of_repeated_headers_counts() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/first").await;
    peer.tell(
        "SEND\ndestination:/queue/first\ndestination:/queue/second\ncolour:red\ncolour:blue\n\nx",
    )
    .await;
    assert_eq!(
        header(&peer.message().await, "colour").as_deref(),
        Some("red")
    );
}

#[tokio::test]
async fn a_body_may_hold_any_bytes_when_its_length_is_given() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/binary").await;
    let binary: Vec<u8> = (0..=255).chain([0, 0, 10, 13, 0]).collect();
    let mut frame = format!(
        "SEND\ndestination:/queue/binary\ncontent-length:{}\n\n",
        binary.len()
    )
    .into_bytes();
    frame.extend_from_slice(&binary);
    frame.push(0);
    peer.write(&frame).await;
    assert_eq!(peer.message().await.body, binary);
}

#[tokio::test]
async fn an_empty_body_is_a_message_too() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/empty").await;
    peer.tell("SEND\ndestination:/queue/empty").await;
    let message = peer.message().await;
    assert!(message.body.is_empty());
    assert_eq!(header(&message, "content-length"), None);
}

#[tokio::test]
async fn noise_between_frames_and_carriage_returns_are_accepted() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/noise").await;
    peer.write(b"\n\r\n\0\n\0SEND\r\ndestination:/queue/noise\r\n\r\nloud\0\r\n\n\0\0")
        .await;
    assert_eq!(peer.text().await, "loud");
    peer.is_open().await;
}

#[tokio::test]
async fn frames_may_come_in_packets_of_any_size() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/packets")
        .await;
    let long = "0123456789".repeat(100);
    let frames = format!("SEND\ndestination:/queue/packets\n\n{long}\0\nSEND\ndestination:/queue/packets\n\nshort\0\n").repeat(3);
    for size in [1, 7, 191, 100_000] {
        for packet in frames.as_bytes().chunks(size) {
            peer.write(packet).await;
        }
        let expected = [long.as_str(), "short"].repeat(3);
        assert_eq!(peer.texts(6).await, expected, "packets of {size}");
    }
}

#[tokio::test]
async fn a_message_comes_back_redelivered_after_its_consumer_left() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SEND\ndestination:/queue/again\n\nx").await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/again\nack:client")
        .await;
    let first = peer.message().await;
    assert_eq!(header(&first, "redelivered").as_deref(), Some("false"));
    peer.leave().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/again\nack:client")
        .await;
    let second = peer.message().await;
    assert_eq!(header(&second, "redelivered").as_deref(), Some("true"));
    assert_eq!(header(&second, "x-delivery-count").as_deref(), Some("1"));
    assert_eq!(
        header(&second, "x-message-id"),
        header(&first, "x-message-id"),
        "its own id stays"
    );
    assert_ne!(
        header(&second, "message-id"),
        header(&first, "message-id"),
        "each delivery has its own"
    );
}

#[tokio::test]
async fn persistence_is_the_default_of_queues_only_and_is_shown() {
    let broker = TestBroker::start().await;
    for (destination, asked, shown) in [
        ("/queue/lasting", "", Some("true")),
        ("/queue/lasting", "persistent:true\n", Some("true")),
        ("/queue/lasting", "persistent:True\n", Some("true")),
        ("/queue/lasting", "persistent:false\n", None),
        ("/topic/lasting", "", None),
        ("/topic/lasting", "persistent:true\n", Some("true")),
    ] {
        let mut peer = broker.client().await;
        peer.ask(&format!("SUBSCRIBE\nid:s\ndestination:{destination}"))
            .await;
        peer.tell(&format!("SEND\ndestination:{destination}\n{asked}\nx"))
            .await;
        assert_eq!(
            header(&peer.message().await, "persistent").as_deref(),
            shown,
            "{destination} {asked}"
        );
        peer.leave().await;
    }
}

#[tokio::test]
async fn a_user_id_must_be_the_senders_own_unless_it_may_impersonate() {
    let mut setup = Setup::with_users(&["alice", "proxy"])
        .permit("alice", "/", [".*"; 3])
        .permit("proxy", "/", [".*"; 3]);
    for user in &mut setup.access.users {
        if user.name == "proxy" {
            user.tags = vec!["impersonator".parse().expect("a tag")];
        }
    }
    let broker = setup.start().await;
    for (user, claimed, allowed) in [
        ("alice", "alice", true),
        ("alice", "bob", false),
        ("proxy", "bob", true),
    ] {
        let mut peer = broker.user(user, "/").await;
        let send = format!("SEND\ndestination:/queue/ids\nuser-id:{claimed}\n\nx");
        if allowed {
            peer.ask(&send).await;
        } else {
            let error = peer.refused(&send).await;
            assert_eq!(header(&error, "message").as_deref(), Some("access_refused"));
            assert_eq!(
                body(&error),
                "user_id property set to 'bob' but authenticated user was 'alice'\n"
            );
        }
    }
    let mut peer = broker.user("alice", "/").await;
    peer.ask("BEGIN\ntransaction:t").await;
    let error = peer
        .refused(
            "SEND\ndestination:/queue/ids\ntransaction:t\nuser-id:bob\n\nforged in a transaction",
        )
        .await;
    assert_eq!(header(&error, "message").as_deref(), Some("access_refused"));
    assert_eq!(broker.depth("ids").expect("made").ready, 2);
}

#[tokio::test]
async fn whether_messages_of_queues_last_by_default_can_be_configured() {
    let broker = Setup::stomp(|options| options.default_persistent = false)
        .start()
        .await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/default")
        .await;
    for (asked, shown) in [("", None), ("persistent:true\n", Some("true"))] {
        peer.tell(&format!("SEND\ndestination:/queue/default\n{asked}\nx"))
            .await;
        assert_eq!(
            header(&peer.message().await, "persistent").as_deref(),
            shown,
            "{asked}"
        );
    }
}

#[tokio::test]
async fn version_1_0_knows_no_escapes_and_trims_what_stands_before_a_value() {
    let broker = TestBroker::start().await;
    let mut old = broker.login("accept-version:1.0").await;
    old.ask("SUBSCRIBE\nid: s\ndestination: /topic/old").await;
    let mut new = broker.client().await;
    new.ask("SUBSCRIBE\nid:s\ndestination:/topic/old").await;
    new.tell("SEND\ndestination:/topic/old\nmine:a\\cb\\nc\n\nx")
        .await;
    for (peer, value) in [(&mut old, "a:b"), (&mut new, "a:b\nc")] {
        let message = peer.message().await;
        assert_eq!(header(&message, "subscription").as_deref(), Some("s"));
        let shown = header(&message, "mine").expect("there");
        assert!(shown.starts_with(value), "{shown:?}");
    }
}
