//! Stopping in order: what clients hear, and that nothing is lost.

use millpond::storage::{FaultyStore, MemoryStore};
use millpond_protocol::stomp::Command;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{body, header};
use crate::support::process::Process;

#[tokio::test]
async fn a_stopped_broker_answers_everything_tells_its_clients_and_loses_nothing() {
    let data = TempDir::new().expect("a temporary directory");
    for signal in [Signal::TERM, Signal::INT] {
        let broker = Process::start(data.path(), &[]).await;
        let mut sender = broker.client().await;
        let mut holder = broker.client().await;
        let mut idle = broker.client().await;
        sender.ask("SEND\ndestination:/queue/kept\n\nheld").await;
        holder
            .ask("SUBSCRIBE\nid:s\ndestination:/queue/kept\nack:client\nprefetch-count:1")
            .await;
        let held = holder.message().await;
        assert_eq!(header(&held, "x-delivery-count"), None);
        // Receipts are still owed when the signal comes.
        let frames: String = (0..500)
            .map(|at| format!("SEND\ndestination:/queue/kept\nreceipt:{at}\n\n{at}\0"))
            .collect();
        sender.write(frames).await;
        sender.receipt("0").await;
        broker.signal(signal);

        let mut receipts = 1;
        let frames = sender.end().await;
        for frame in &frames {
            match frame.command {
                Command::Receipt => receipts += 1,
                _ => assert_eq!(header(frame, "code").as_deref(), Some("shutdown")),
            }
        }
        let last = frames.last().expect("it is told");
        assert_eq!(
            header(last, "code").as_deref(),
            Some("shutdown"),
            "the last word"
        );
        for peer in [&mut holder, &mut idle] {
            let frames = peer.end().await;
            let codes: Vec<_> = frames.iter().map(|frame| header(frame, "code")).collect();
            assert_eq!(codes, [Some("shutdown".to_owned())]);
        }
        // Whoever was told and still stays is waited for.
        drop((sender, holder, idle));
        assert_eq!(broker.ended().await, Some(0));

        let broker = Process::start(data.path(), &[]).await;
        let mut peer = broker.client().await;
        peer.ask("SEND\ndestination:/queue/kept\npersistent:false\n\nthe end")
            .await;
        peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/kept\nack:client-individual")
            .await;
        let first = peer.message().await;
        assert_eq!(body(&first), "held");
        assert_eq!(
            header(&first, "x-delivery-count"),
            None,
            "it was nobody's fault"
        );
        peer.settle("ACK", &first, "").await;
        let mut found = 0;
        loop {
            let message = peer.message().await;
            peer.settle("ACK", &message, "").await;
            if body(&message) == "the end" {
                break;
            }
            assert_eq!(
                body(&message),
                found.to_string(),
                "in order, and none missing"
            );
            assert_eq!(header(&message, "redelivered").as_deref(), Some("false"));
            found += 1;
        }
        assert!(found >= receipts, "{receipts} receipts, {found} messages");
        peer.leave().await;
        broker.signal(Signal::TERM);
        assert_eq!(broker.ended().await, Some(0));
    }
}

#[tokio::test]
async fn a_second_start_on_the_same_data_directory_is_refused() {
    let data = TempDir::new().expect("a temporary directory");
    let _running = Process::start(data.path(), &[]).await;
    let mut second = crate::support::program::millpond();
    second
        .args([
            "serve",
            "--stomp",
            "127.0.0.1:0",
            "--http",
            "off",
            "--data-dir",
        ])
        .arg(data.path());
    let output = second.output().expect("started");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("data directory") && said.contains("in use"),
        "{said}"
    );
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_more_is_told_that_the_broker_stops() {
    let broker = TestBroker::start().await;
    let mut anonymous = broker.connect().await;
    let mut peer = broker.client().await;
    let stopping = tokio::spawn(broker.stop());
    assert_eq!(
        header(&peer.error().await, "code").as_deref(),
        Some("shutdown")
    );
    peer.is_closed().await;
    anonymous.is_closed().await;
    stopping.await.expect("no panic").expect("closed in order");
}

/// What is there after a restart: persistent messages in durable queues, in order, with their headers.
#[tokio::test]
async fn a_restart_keeps_what_is_persistent_and_forgets_what_is_not() {
    let store = MemoryStore::new();
    let broker = Setup::over(store.clone()).start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:durable\ndestination:/topic/news.#\ndurable:true\nfilter-tags:big")
        .await;
    peer.ask("UNSUBSCRIBE\nid:durable").await;
    peer.ask("SUBSCRIBE\nid:private\ndestination:/topic/private")
        .await;
    for (headers, text) in [
        (
            "/queue/kept\nx-max-priority:3\nx-max-length:9\npriority:1\ncolour:r\\ced",
            "one",
        ),
        ("/queue/kept\npersistent:false", "forgotten"),
        ("/queue/kept\npriority:3", "two"),
        ("/queue/kept\nexpiration:1", "expired"),
        ("/topic/news.today\npersistent:true\ntags:big", "three"),
        ("/topic/news.today\ntags:big", "transient"),
        ("/topic/news.today\npersistent:true\ntags:small", "filtered"),
    ] {
        peer.ask(&format!("SEND\ndestination:{headers}\n\n{text}"))
            .await;
    }
    let large = "large ".repeat(50_000);
    peer.ask(&format!("SEND\ndestination:/queue/kept\n\n{large}"))
        .await;
    broker.stop().await.expect("closed in order");
    peer.end().await;

    let broker = Setup::over(store).start().await;
    let mut peer = broker.client().await;
    assert_eq!(broker.queues().len(), 2, "{:?}", broker.queues());
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/kept\nx-max-priority:3\nx-max-length:9")
        .await;
    let first = peer.message().await;
    assert_eq!(body(&first), "two", "by priority");
    assert_eq!(
        header(&first, "redelivered").as_deref(),
        Some("false"),
        "the broker was stopped in order"
    );
    let second = peer.message().await;
    assert_eq!(body(&second), "one");
    assert_eq!(header(&second, "colour").as_deref(), Some("r:ed"));
    assert!(peer.text().await == large);
    peer.ask("SUBSCRIBE\nid:durable\ndestination:/topic/news.#\ndurable:true\nfilter-tags:big")
        .await;
    assert_eq!(peer.text().await, "three");
    // The binding and its filter are there again too.
    peer.ask("SEND\ndestination:/topic/news.more\ntags:small\n\nfiltered")
        .await;
    peer.ask("SEND\ndestination:/topic/news.more\ntags:big\n\nfour")
        .await;
    assert_eq!(peer.text().await, "four");
    peer.is_open().await;
}

#[tokio::test]
async fn a_crash_makes_everything_redelivered_and_keeps_what_was_counted() {
    let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
    let broker = Setup::over(store).start().await;
    let mut peer = broker.client().await;
    for text in ["returned", "fresh", "settled"] {
        peer.ask(&format!("SEND\ndestination:/queue/crash\n\n{text}"))
            .await;
    }
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/crash\nack:client-individual")
        .await;
    let returned = peer.message().await;
    peer.message().await;
    let settled = peer.message().await;
    peer.settle("NACK", &returned, "").await;
    peer.message().await;
    peer.settle("ACK", &settled, "").await;

    let broker = Setup::over(faults.after_power_cut(0)).start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/crash").await;
    for (text, count) in [("returned", Some("1")), ("fresh", None)] {
        let message = peer.message().await;
        assert_eq!(body(&message), text);
        assert_eq!(header(&message, "redelivered").as_deref(), Some("true"));
        assert_eq!(header(&message, "x-delivery-count").as_deref(), count);
    }
    peer.is_open().await;
}

#[tokio::test]
async fn every_queue_of_a_fan_out_has_its_copy_after_a_power_cut() {
    let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
    let broker = Setup::over(store).start().await;
    let mut peer = broker.client().await;
    for id in ["a", "b", "c"] {
        peer.ask(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/topic/fan\ndurable:true\nack:client-individual"
        ))
        .await;
    }
    peer.ask("SEND\ndestination:/topic/fan\npersistent:true\n\nfor all")
        .await;
    for _ in 0..3 {
        let message = peer.message().await;
        // One of them is done with it.
        if header(&message, "subscription").as_deref() == Some("b") {
            peer.settle("ACK", &message, "").await;
        }
    }
    let broker = Setup::over(faults.after_power_cut(0)).start().await;
    let mut peer = broker.client().await;
    for id in ["a", "b", "c"] {
        peer.ask(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/topic/fan\ndurable:true\nack:client-individual"
        ))
        .await;
    }
    let mut left = Vec::new();
    for _ in 0..2 {
        left.push(header(&peer.message().await, "subscription").expect("by id"));
    }
    left.sort();
    assert_eq!(left, ["a", "c"]);
    peer.is_open().await;
}
