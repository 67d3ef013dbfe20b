//! Request and reply over destinations that are private to a connection.

use crate::support::broker::TestBroker;
use crate::support::peer::{body, header};

#[tokio::test]
async fn a_reply_finds_its_way_to_the_private_queue_of_whoever_asked() {
    let broker = TestBroker::start().await;
    let mut server = broker.client().await;
    server
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/service")
        .await;
    let mut clients = [broker.client().await, broker.client().await];
    for (at, client) in clients.iter_mut().enumerate() {
        client
            .tell(&format!(
                "SEND\ndestination:/queue/service\nreply-to:/temp-queue/answers\n\nask {at}"
            ))
            .await;
        let request = server.message().await;
        let reply_to = header(&request, "reply-to").expect("there");
        assert!(
            reply_to.starts_with("/reply-queue/stomp.gen-"),
            "{reply_to}"
        );
        server
            .tell(&format!(
                "SEND\ndestination:{reply_to}\n\nanswer to {}",
                body(&request)
            ))
            .await;
        let reply = client.message().await;
        assert_eq!(body(&reply), format!("answer to ask {at}"));
        assert_eq!(
            header(&reply, "subscription").as_deref(),
            Some("/temp-queue/answers")
        );
        assert_eq!(header(&reply, "ack"), None);
    }
}

#[tokio::test]
async fn one_connection_has_one_queue_for_each_name() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/service")
        .await;
    let mut places = Vec::new();
    for name in ["a", "a", "b"] {
        peer.tell(&format!(
            "SEND\ndestination:/queue/service\nreply-to:/temp-queue/{name}\n\nx"
        ))
        .await;
        places.push(header(&peer.message().await, "reply-to").expect("there"));
    }
    assert_eq!(places[0], places[1]);
    assert_ne!(places[0], places[2]);
    peer.leave().await;
    assert_eq!(broker.queues(), ["service"], "they go with the connection");
}

#[tokio::test]
async fn nobody_else_can_consume_replies() {
    let broker = TestBroker::start().await;
    let mut server = broker.client().await;
    server
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/service")
        .await;
    let mut client = broker.client().await;
    client
        .tell("SEND\ndestination:/queue/service\nreply-to:/temp-queue/r\n\nx")
        .await;
    let reply_to = header(&server.message().await, "reply-to").expect("there");
    let error = server
        .refused(&format!("SUBSCRIBE\nid:spy\ndestination:{reply_to}"))
        .await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("resource_locked")
    );
}

#[tokio::test]
async fn other_places_to_reply_to_pass_unchanged() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/service")
        .await;
    for (given, seen) in [
        ("/queue/r", "/queue/r"),
        ("/topic/r", "/topic/r"),
        ("/exchange/amq.direct/r", "/exchange/amq.direct/r"),
        ("/amq/queue/r", "/amq/queue/r"),
        ("/reply-queue/r", "/reply-queue/r"),
        ("bare", "/reply-queue/bare"),
    ] {
        peer.tell(&format!(
            "SEND\ndestination:/queue/service\nreply-to:{given}\n\nx"
        ))
        .await;
        assert_eq!(
            header(&peer.message().await, "reply-to").as_deref(),
            Some(seen)
        );
    }
}

#[tokio::test]
async fn a_reply_works_over_an_ordinary_queue_and_inside_a_transaction() {
    let broker = TestBroker::start().await;
    let mut server = broker.client().await;
    server
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/service")
        .await;
    let mut client = broker.client().await;
    client.ask("SUBSCRIBE\nid:r\ndestination:/queue/r").await;
    client.ask("BEGIN\ntransaction:t").await;
    client
        .tell("SEND\ndestination:/queue/service\ntransaction:t\nreply-to:/queue/r\n\none")
        .await;
    client
        .tell("SEND\ndestination:/queue/service\ntransaction:t\nreply-to:/temp-queue/r\n\ntwo")
        .await;
    client.ask("COMMIT\ntransaction:t").await;
    for text in ["one", "two"] {
        let request = server.message().await;
        let reply_to = header(&request, "reply-to").expect("there");
        server
            .tell(&format!("SEND\ndestination:{reply_to}\n\nre {text}"))
            .await;
        assert_eq!(client.text().await, format!("re {text}"));
    }
}

#[tokio::test]
async fn a_temporary_topic_reaches_every_subscriber_that_was_told_of_it() {
    let broker = TestBroker::start().await;
    let mut server = broker.client().await;
    server
        .ask("SUBSCRIBE\nid:s\ndestination:/queue/service")
        .await;
    let mut client = broker.client().await;
    client
        .ask("SUBSCRIBE\nid:t\ndestination:/temp-topic/news")
        .await;
    client
        .tell("SEND\ndestination:/queue/service\nreply-to:/temp-topic/news\n\nx")
        .await;
    let reply_to = header(&server.message().await, "reply-to").expect("there");
    let mut listener = broker.client().await;
    listener
        .ask(&format!("SUBSCRIBE\nid:l\ndestination:{reply_to}"))
        .await;
    server
        .ask(&format!("SEND\ndestination:{reply_to}\n\nfrom the server"))
        .await;
    client
        .ask("SEND\ndestination:/temp-topic/news\n\nfrom its owner")
        .await;
    for peer in [&mut client, &mut listener] {
        assert_eq!(peer.texts(2).await, ["from the server", "from its owner"]);
    }
    let mut stranger = broker.client().await;
    stranger
        .ask("SUBSCRIBE\nid:s\ndestination:/temp-topic/news")
        .await;
    client
        .ask("SEND\ndestination:/temp-topic/news\n\nprivate")
        .await;
    stranger.is_open().await;
}

#[tokio::test]
async fn a_reply_cannot_be_acknowledged() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/service")
        .await;
    peer.tell("SEND\ndestination:/queue/service\nreply-to:/temp-queue/r\n\nx")
        .await;
    let reply_to = header(&peer.message().await, "reply-to").expect("there");
    peer.tell(&format!("SEND\ndestination:{reply_to}\n\nreply"))
        .await;
    let handle = header(&peer.message().await, "message-id").expect("always there");
    let error = peer.refused(&format!("ACK\nid:{handle}")).await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("Message not found")
    );
}
