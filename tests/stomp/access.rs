//! Users, vhosts and permissions.

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{body, header};

const ALL: [&str; 3] = [".*"; 3];

/// Logs in as guest, who may do everything, and makes the queue `made`.
async fn with_queue(setup: Setup) -> TestBroker {
    let broker = setup.start().await;
    broker
        .client()
        .await
        .ask("SEND\ndestination:/queue/made\n\nx")
        .await;
    broker
}

#[tokio::test]
async fn what_a_frame_needs_is_checked_before_it_does_anything() {
    // Permissions to configure, write and read; the frame; the sentence if it is refused.
    let queue = "SUBSCRIBE\nid:s\ndestination:/queue/made";
    let existing = "SUBSCRIBE\nid:s\ndestination:/amq/queue/made";
    let topic = "SUBSCRIBE\nid:s\ndestination:/topic/t";
    let named = "SUBSCRIBE\nid:s\ndestination:/topic/t\nx-queue-name:mine";
    for (rules, frame, refused) in [
        (
            ["^made$", "^amq.default$", ""],
            "SEND\ndestination:/queue/made\n\nx",
            None,
        ),
        (
            ["", "^amq.default$", ""],
            "SEND\ndestination:/queue/made\n\nx",
            Some("configure access to queue 'made'"),
        ),
        (
            ["^made$", "", ""],
            "SEND\ndestination:/queue/made\n\nx",
            Some("write access to exchange 'amq.default'"),
        ),
        (
            ["", "^amq.default$", ""],
            "SEND\ndestination:/amq/queue/made\n\nx",
            None,
        ),
        (
            ["", "^amq.topic$", ""],
            "SEND\ndestination:/topic/t\n\nx",
            None,
        ),
        (
            ["", "^amq.direct$", ""],
            "SEND\ndestination:/topic/t\n\nx",
            Some("write access to exchange 'amq.topic'"),
        ),
        (["^made$", "", "^made$"], queue, None),
        (
            ["", "", "^made$"],
            queue,
            Some("configure access to queue 'made'"),
        ),
        (
            ["^made$", "", ""],
            queue,
            Some("read access to queue 'made'"),
        ),
        (["", "", "^made$"], existing, None),
        (["", "", ""], existing, Some("read access to queue 'made'")),
        (
            [
                "^stomp-subscription-",
                "^stomp-subscription-",
                "^(stomp-subscription-|amq.topic$)",
            ],
            topic,
            None,
        ),
        (
            [
                "^stomp-subscription-",
                "^stomp-subscription-",
                "^stomp-subscription-",
            ],
            topic,
            Some("read access to exchange 'amq.topic'"),
        ),
        (["^mine$", "^mine$", "^(mine|amq.topic)$"], named, None),
        (
            ["^mine$", "", "^(mine|amq.topic)$"],
            named,
            Some("write access to queue 'mine'"),
        ),
        (
            ["", "^mine$", "^(mine|amq.topic)$"],
            named,
            Some("configure access to queue 'mine'"),
        ),
        (
            ["^mine$", "^mine$", "^amq.topic$"],
            named,
            Some("read access to queue 'mine'"),
        ),
    ] {
        let broker = with_queue(Setup::with_users(&["alice"]).permit("alice", "/", rules)).await;
        let mut peer = broker.user("alice", "/").await;
        match refused {
            None => peer.ask(frame).await,
            Some(sentence) => {
                let error = peer.refused(frame).await;
                assert_eq!(
                    header(&error, "message").as_deref(),
                    Some("access_refused"),
                    "{rules:?} {frame}"
                );
                assert_eq!(
                    body(&error),
                    format!("{sentence} in vhost '/' refused for user 'alice'\n"),
                    "{rules:?} {frame}"
                );
                if frame.starts_with("SUBSCRIBE") {
                    peer.is_closed().await;
                }
                assert_eq!(
                    broker.queues(),
                    ["made"],
                    "nothing else was made: {rules:?} {frame}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_dead_letter_exchange_needs_permissions_of_its_own() {
    let frame = "SUBSCRIBE\nid:s\ndestination:/queue/q\nx-dead-letter-exchange:amq.fanout";
    for (rules, refused) in [
        (["^q$", "^amq.fanout$", "^q$"], None),
        (
            ["^q$", "", "^q$"],
            Some("write access to exchange 'amq.fanout' in vhost '/' refused for user 'alice'\n"),
        ),
        (
            ["^q$", "^amq.fanout$", ""],
            Some("read access to queue 'q' in vhost '/' refused for user 'alice'\n"),
        ),
    ] {
        let broker = Setup::with_users(&["alice"])
            .permit("alice", "/", rules)
            .start()
            .await;
        let mut peer = broker.user("alice", "/").await;
        match refused {
            None => peer.ask(frame).await,
            Some(sentence) => assert_eq!(body(&peer.refused(frame).await), sentence),
        }
    }
}

#[tokio::test]
async fn deleting_a_durable_subscription_needs_permission_to_configure() {
    let setup = Setup::with_users(&["maker", "user"])
        .permit("maker", "/", ALL)
        .permit("user", "/", ["^other$", ".*", ".*"]);
    let broker = setup.start().await;
    let subscribe = "SUBSCRIBE\nid:s\ndestination:/topic/t\ndurable:true";
    broker.user("maker", "/").await.ask(subscribe).await;
    let [queue] = broker.queues().try_into().expect("one");
    let mut peer = broker.user("user", "/").await;
    let error = peer.refused(subscribe).await;
    assert_eq!(
        body(&error),
        format!("configure access to queue '{queue}' in vhost '/' refused for user 'user'\n")
    );
    peer.is_closed().await;
    assert_eq!(broker.queues(), [queue]);
}

#[tokio::test]
async fn topic_permissions_bound_what_is_published_and_subscribed_to() {
    let setup = Setup::with_users(&["alice", ".*"])
        .permit("alice", "/", ALL)
        .permit(".*", "/", ALL)
        .topics("alice", "^{username}\\.out", "^{username}\\.in")
        .topics(".*", "^{username}\\.out", "^{username}\\.in");
    let broker = setup.start().await;
    for (user, frame, allowed) in [
        ("alice", "SEND\ndestination:/topic/alice.out.a\n\nx", true),
        ("alice", "SEND\ndestination:/topic/bob.out.a\n\nx", false),
        (
            "alice",
            "SEND\ndestination:/exchange/amq.topic/bob.out\n\nx",
            false,
        ),
        (
            "alice",
            "SUBSCRIBE\nid:s\ndestination:/topic/alice.in.#",
            true,
        ),
        ("alice", "SUBSCRIBE\nid:s\ndestination:/topic/#", false),
        (
            "alice",
            "SUBSCRIBE\nid:s\ndestination:/exchange/amq.topic/bob.in",
            false,
        ),
        (
            "alice",
            "SEND\ndestination:/exchange/amq.direct/bob\n\nx",
            true,
        ),
        (".*", "SEND\ndestination:/topic/alice.out\n\nx", false),
    ] {
        let mut peer = broker.user(user, "/").await;
        if allowed {
            peer.ask(frame).await;
        } else {
            let error = peer.refused(frame).await;
            assert_eq!(
                header(&error, "message").as_deref(),
                Some("access_refused"),
                "{user} {frame}"
            );
            assert!(body(&error).contains("access to topic"), "{}", body(&error));
        }
    }
}

#[tokio::test]
async fn a_refused_send_leaves_nothing_and_tells_which_permission_is_missing() {
    let broker = Setup::with_users(&["alice"])
        .permit("alice", "/", ["^mine", ".*", ".*"])
        .start()
        .await;
    let mut peer = broker.user("alice", "/").await;
    let error = peer.refused("SEND\ndestination:/queue/theirs\n\nx").await;
    assert_eq!(header(&error, "code").as_deref(), Some("access_refused"));
    assert_eq!(broker.queues(), Vec::<String>::new());
}

#[tokio::test]
async fn names_in_one_vhost_mean_nothing_in_another() {
    let broker = Setup::with_users(&["alice"])
        .vhost("sales")
        .permit("alice", "/", ALL)
        .permit("alice", "sales", ALL)
        .start()
        .await;
    let mut here = broker.user("alice", "/").await;
    let mut there = broker.user("alice", "sales").await;
    for peer in [&mut here, &mut there] {
        peer.ask("SUBSCRIBE\nid:q\ndestination:/queue/same").await;
        peer.ask("SUBSCRIBE\nid:t\ndestination:/topic/same").await;
    }
    here.ask("SEND\ndestination:/queue/same\n\nhere").await;
    here.ask("SEND\ndestination:/topic/same\n\nhere").await;
    assert_eq!(here.texts(2).await, ["here", "here"]);
    there.ask("SEND\ndestination:/queue/same\n\nthere").await;
    assert_eq!(there.text().await, "there");
    here.is_open().await;
    there.is_open().await;
}

#[tokio::test]
async fn a_user_can_be_let_into_part_of_another_tenants_vhost() {
    let broker = Setup::with_users(&["acme", "partner"])
        .vhost("acme")
        .permit("acme", "acme", ALL)
        .permit("partner", "acme", ["^orders$", "^amq.default$", ""])
        .start()
        .await;
    let mut owner = broker.user("acme", "acme").await;
    owner
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/orders")
        .await;
    let mut partner = broker.user("partner", "acme").await;
    partner
        .ask("SEND\ndestination:/queue/orders\n\nan order")
        .await;
    assert_eq!(owner.text().await, "an order");
    let error = partner
        .refused("SEND\ndestination:/queue/invoices\n\nx")
        .await;
    assert_eq!(header(&error, "message").as_deref(), Some("access_refused"));
    let mut partner = broker.user("partner", "acme").await;
    let error = partner
        .refused("SUBSCRIBE\nid:s\ndestination:/amq/queue/orders")
        .await;
    assert_eq!(header(&error, "message").as_deref(), Some("access_refused"));
}
