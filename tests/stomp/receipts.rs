//! RECEIPT: what it promises, and what becomes of a frame that gets none.

use millpond_protocol::stomp::Command;

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{body, header};

#[tokio::test]
async fn every_frame_that_asks_gets_its_receipt() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for frame in [
        "SUBSCRIBE\nid:s\ndestination:/queue/r\nack:client",
        "SEND\ndestination:/queue/r\n\nx",
        "SEND\ndestination:/queue/r\npersistent:false\n\nx",
        "SEND\ndestination:/topic/r\n\nx",
        "BEGIN\ntransaction:t",
        "COMMIT\ntransaction:t",
        "BEGIN\ntransaction:t",
        "ABORT\ntransaction:t",
        "UNSUBSCRIBE\nid:s",
    ] {
        peer.ask(frame).await;
    }
    peer.leave().await;
}

#[tokio::test]
async fn a_receipt_id_comes_back_as_it_was_given() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.tell("SEND\ndestination:/queue/r\nreceipt:a\\cb \\\\ \u{e9}\n\nx")
        .await;
    peer.receipt("a:b \\ \u{e9}").await;
}

#[tokio::test]
async fn receipts_of_sends_in_a_row_each_come_once() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for pattern in [
        [true, true, true],
        [true, false, true],
        [false, false, true],
    ] {
        let frames: String = (0..99)
            .map(|at| {
                let receipt = if pattern[at % 3] {
                    format!("receipt:{at}\n")
                } else {
                    String::new()
                };
                format!("SEND\ndestination:/queue/r\n{receipt}\n{at}\0")
            })
            .collect();
        peer.write(frames).await;
        for at in (0..99).filter(|at| pattern[at % 3]) {
            peer.receipt(&at.to_string()).await;
        }
        peer.is_open().await;
    }
    assert_eq!(broker.depth("r").expect("there").ready, 3 * 99);
}

#[tokio::test]
async fn an_unroutable_send_is_receipted_unless_it_is_mandatory() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    for destination in [
        "/topic/nobody",
        "/exchange/amq.direct/nobody",
        "/amq/queue/nobody",
    ] {
        peer.ask(&format!("SEND\ndestination:{destination}\n\nx"))
            .await;
        let error = peer
            .refused(&format!(
                "SEND\ndestination:{destination}\nmandatory:true\n\nx"
            ))
            .await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("unroutable"),
            "{destination}"
        );
        assert_eq!(
            header(&error, "code").as_deref(),
            Some("unroutable"),
            "{destination}"
        );
    }
    peer.ask("SEND\ndestination:/queue/somebody\nmandatory:true\n\nx")
        .await;
    peer.is_open().await;
}

#[tokio::test]
async fn a_refused_send_among_others_is_named_by_its_receipt() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    let frames: String = ["taken", "refused", "late"]
        .map(|text| format!("SEND\ndestination:/queue/full\nx-max-length:1\nx-overflow:reject-publish\nreceipt:{text}\n\n{text}\0"))
        .concat();
    peer.write(frames).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let frame = peer.next().await;
        answers.push((header(&frame, "receipt-id").expect("named"), frame.command));
    }
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("late", Command::Error),
        ("refused", Command::Error),
        ("taken", Command::Receipt),
    ];
    assert_eq!(
        answers,
        expected.map(|(id, command)| (id.to_owned(), command))
    );
    peer.is_open().await;
}

#[tokio::test]
async fn disconnect_is_receipted_after_everything_before_it() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    let frames: String = (0..100)
        .map(|at| format!("SEND\ndestination:/queue/r\nreceipt:{at}\n\n{at}\0"))
        .collect();
    peer.write(frames + "DISCONNECT\nreceipt:bye\n\n\0").await;
    let frames = peer.end().await;
    let ids: Vec<_> = frames
        .iter()
        .map(|frame| header(frame, "receipt-id").expect("only receipts come"))
        .collect();
    assert_eq!(ids.last().map(String::as_str), Some("bye"));
    assert_eq!(ids.len(), 101);
    assert_eq!(broker.depth("r").expect("there").ready, 100);
}

#[tokio::test]
async fn nothing_that_was_sent_before_the_connection_closed_is_lost() {
    let broker = TestBroker::start().await;
    let mut sender = broker.client().await;
    let frames: String = (0..1000)
        .map(|at| format!("SEND\ndestination:/queue/r\n\n{at}\0"))
        .collect();
    sender.write(frames).await;
    drop(sender);
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/r").await;
    for at in 0..1000 {
        assert_eq!(peer.text().await, at.to_string());
    }
}

#[tokio::test]
async fn every_error_names_the_receipt_of_the_frame_it_is_about() {
    let broker = TestBroker::start().await;
    for (frame, message) in [
        ("HELLO", "Bad command"),
        ("CONNECTED", "Bad command"),
        ("MESSAGE", "Bad command"),
        ("CONNECT\naccept-version:1.2", "Illegal command"),
        ("SEND\n\nx", "Missing destination"),
        ("SEND\ndestination:/topic/\n\nx", "Invalid destination"),
        ("SEND\ndestination:/x/\n\nx", "Unknown destination"),
        (
            "SEND\ndestination:/queue/a\nexpiration:soon\n\nx",
            "Invalid header",
        ),
        (
            "SUBSCRIBE\nid:s\ndestination:/queue/a\nack:sometimes",
            "Processing error",
        ),
        (
            "SUBSCRIBE\nid:s\ndestination:/queue/a\nx-expires:soon",
            "Processing error",
        ),
        (
            "SUBSCRIBE\nid:/temp-queue/s\ndestination:/queue/a",
            "Invalid id",
        ),
        ("UNSUBSCRIBE", "Missing destination or id"),
        ("UNSUBSCRIBE\nid:unknown", "No subscription found"),
        (
            "UNSUBSCRIBE\ndestination:/queue/unknown",
            "No subscription found",
        ),
        ("UNSUBSCRIBE\nid:/temp-queue/s", "Invalid id"),
        ("ACK", "Missing header"),
        ("ACK\nid:x", "Message not found"),
        ("COMMIT\ntransaction:t", "Bad transaction"),
        (
            "SUBSCRIBE\nid:s\ndestination:/queue/a\nselector:a=1",
            "not_implemented",
        ),
    ] {
        let mut peer = broker.client().await;
        let error = peer.refused(frame).await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some(message),
            "{frame}"
        );
        assert!(
            header(&error, "code").is_some_and(|code| !code.is_empty()),
            "{frame}"
        );
        assert_eq!(header(&error, "version").as_deref(), Some("1.0,1.1,1.2"));
        assert_eq!(
            header(&error, "content-type").as_deref(),
            Some("text/plain")
        );
        assert!(!body(&error).is_empty(), "{frame}");
        peer.is_open().await;
    }
}

#[tokio::test]
async fn an_unknown_command_is_quoted() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.tell("WRONG\ndestination:a").await;
    let error = peer.error().await;
    assert_eq!(header(&error, "message").as_deref(), Some("Bad command"));
    assert_eq!(body(&error), "Could not interpret command \"WRONG\"\n");
    peer.is_open().await;
}

#[tokio::test]
async fn a_client_that_closes_its_side_still_gets_every_answer() {
    let broker = TestBroker::start().await;
    let mut peer = broker.connect().await;
    peer.write("CONNECT\naccept-version:1.2\n\n\0").await;
    let frames: String = (0..100)
        .map(|at| format!("SEND\ndestination:/queue/half\nreceipt:{at}\n\n{at}\0"))
        .collect();
    peer.write(frames).await;
    peer.finish_writing().await;
    let frames = peer.end().await;
    assert_eq!(frames[0].command, Command::Connected);
    let ids: Vec<_> = frames[1..]
        .iter()
        .map(|frame| header(frame, "receipt-id"))
        .collect();
    assert_eq!(
        ids,
        (0..100).map(|at| Some(at.to_string())).collect::<Vec<_>>()
    );
    assert_eq!(broker.depth("half").expect("there").ready, 100);
}

#[tokio::test]
async fn more_receipts_than_may_wait_all_come() {
    let broker = Setup::stomp(|options| options.receipts_max = 3)
        .start()
        .await;
    let mut peer = broker.client().await;
    let frames: String = (0..500)
        .map(|at| format!("SEND\ndestination:/queue/many\nreceipt:{at}\n\n{at}\0"))
        .collect();
    peer.write(frames).await;
    for at in 0..500 {
        peer.receipt(&at.to_string()).await;
    }
    peer.is_open().await;
}

#[tokio::test]
async fn while_the_disk_is_nearly_full_publishers_are_refused_and_consumers_go_on() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SEND\ndestination:/queue/low\n\nx").await;
    broker.engine().core().set_disk_low(true);
    let error = peer
        .refused("SEND\ndestination:/queue/low\n\nrefused")
        .await;
    assert_eq!(header(&error, "code").as_deref(), Some("disk_low"));
    assert!(body(&error).contains("disk.free_limit"), "{}", body(&error));
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/low\nack:client")
        .await;
    let message = peer.message().await;
    peer.settle("ACK", &message, "").await;
    broker.engine().core().set_disk_low(false);
    peer.ask("SEND\ndestination:/queue/low\n\ntaken").await;
    assert_eq!(peer.text().await, "taken");
}
