//! A store that fails: no promise without the disk, a clear word to every client, and a clean end.

use std::collections::BTreeSet;
use std::sync::Arc;

use millpond::storage::{Faults, FaultyStore, Journal, JournalOptions, MemoryStore};
use millpond_protocol::stomp::{Command, Frame};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{Peer, body, header, show, with_header};
use crate::support::process::Process;

/// Steps of the script; each is at least one write and one sync.
const STEPS: usize = 110;

/// What the client of the script was promised, and what it may have caused.
#[derive(Debug, Default)]
struct Promised {
    /// Bodies whose SEND, or whose transaction, was receipted.
    kept: BTreeSet<String>,
    /// Bodies whose ACK was receipted.
    gone: BTreeSet<String>,
    /// Bodies that were sent at all.
    sent: BTreeSet<String>,
    /// Bodies that somebody tried to acknowledge.
    acked: BTreeSet<String>,
}

/// Writes a frame and waits for the answer: whether that was its RECEIPT. The other answer is an ERROR that says what
/// happened, names the receipt, and ends the connection.
async fn promised(peer: &mut Peer, frame: &str, receipt: &str) -> bool {
    peer.tell(&with_header(frame, "receipt", receipt)).await;
    loop {
        let Some(answer) = peer.read().await else {
            panic!("the connection ended without a word about {receipt}");
        };
        match answer.command {
            Command::Receipt => {
                assert_eq!(header(&answer, "receipt-id").as_deref(), Some(receipt));
                return true;
            }
            Command::Error => {
                says_that_the_store_failed(&answer);
                let about = header(&answer, "receipt-id");
                assert!(
                    about.is_none() || about.as_deref() == Some(receipt),
                    "{}",
                    show(&answer)
                );
                let rest = peer.end().await;
                assert!(
                    rest.iter().all(|frame| frame.command != Command::Receipt),
                    "{rest:?}"
                );
                return false;
            }
            _ => {}
        }
    }
}

fn says_that_the_store_failed(error: &Frame) {
    assert_eq!(
        header(error, "code").as_deref(),
        Some("store_failed"),
        "{}",
        show(error)
    );
    assert_eq!(header(error, "message").as_deref(), Some("internal_error"));
    assert!(
        body(error).contains("the message store failed"),
        "{}",
        body(error)
    );
}

/// One client's work, step by step, each step receipted before the next, until the store fails or all is done.
async fn run_script(broker: &TestBroker) -> Promised {
    let mut promised_so_far = Promised::default();
    let mut peer = broker.client().await;
    let known = &mut promised_so_far;
    for step in 0..STEPS {
        let one = step.to_string();
        let done = match step % 11 {
            // Large enough for pieces of its own.
            3 => {
                let large = format!("{one} {}", "x".repeat(70_000));
                known.sent.insert(one.clone());
                let done = promised(
                    &mut peer,
                    &format!("SEND\ndestination:/queue/q\n\n{large}"),
                    "send",
                )
                .await;
                if done {
                    known.kept.insert(one);
                }
                done
            }
            5 => transaction(&mut peer, step, known).await,
            7 => acknowledge(broker, known).await,
            9 => {
                let durable = format!("SUBSCRIBE\nid:{step}\ndestination:/topic/t\ndurable:true");
                promised(&mut peer, &durable, "subscribe").await
                    && promised(
                        &mut peer,
                        &format!("UNSUBSCRIBE\nid:{step}\ndurable:true"),
                        "unsubscribe",
                    )
                    .await
            }
            _ => {
                known.sent.insert(one.clone());
                let done = promised(
                    &mut peer,
                    &format!("SEND\ndestination:/queue/q\n\n{one}"),
                    "send",
                )
                .await;
                if done {
                    known.kept.insert(one);
                }
                done
            }
        };
        if !done {
            break;
        }
    }
    promised_so_far
}

/// Two sends to two queues in one transaction.
async fn transaction(peer: &mut Peer, step: usize, known: &mut Promised) -> bool {
    peer.tell(&format!("BEGIN\ntransaction:{step}")).await;
    for queue in ["q", "r"] {
        peer.tell(&format!(
            "SEND\ndestination:/queue/{queue}\ntransaction:{step}\n\ntx {step}"
        ))
        .await;
    }
    known.sent.insert(format!("tx {step}"));
    let done = promised(peer, &format!("COMMIT\ntransaction:{step}"), "commit").await;
    if done {
        known.kept.insert(format!("tx {step}"));
    }
    done
}

/// Another client takes the oldest message of the queue and acknowledges it.
async fn acknowledge(broker: &TestBroker, known: &mut Promised) -> bool {
    let mut peer = broker.client().await;
    peer.tell("SUBSCRIBE\nid:s\ndestination:/queue/q\nack:client-individual\nprefetch-count:1")
        .await;
    let message = match peer.read().await {
        Some(frame) if frame.command == Command::Message => frame,
        Some(error) => {
            says_that_the_store_failed(&error);
            return false;
        }
        None => panic!("the connection ended without a word"),
    };
    let text = word(&message);
    known.acked.insert(text.clone());
    let ack = peer.settlement("ACK", &message, "");
    let done = promised(&mut peer, &ack, "ack").await;
    if done {
        known.gone.insert(text);
        // What it had been given meanwhile goes back with a count, which is written too.
        return promised(&mut peer, "DISCONNECT", "leave").await;
    }
    done
}

/// The body without what makes it large.
fn word(message: &Frame) -> String {
    body(message).trim_end_matches('x').trim_end().to_owned()
}

/// Everything in a queue.
async fn drain(broker: &TestBroker, queue: &str) -> Vec<String> {
    let mut peer = broker.client().await;
    peer.ask(&format!("SEND\ndestination:/queue/{queue}\n\nthe end"))
        .await;
    peer.ask(&format!("SUBSCRIBE\nid:s\ndestination:/queue/{queue}"))
        .await;
    let mut words = Vec::new();
    loop {
        match word(&peer.message().await) {
            text if text == "the end" => return words,
            text => words.push(text),
        }
    }
}

/// Starts a broker over what a power cut leaves, and compares it with the promises.
async fn check_after_power_cut(faults: &Faults, surviving: usize, known: &Promised, when: &str) {
    let broker = Setup::over(faults.after_power_cut(surviving)).start().await;
    let (q, r) = (drain(&broker, "q").await, drain(&broker, "r").await);
    let found: BTreeSet<String> = q.iter().cloned().collect();
    assert_eq!(found.len(), q.len(), "{when}: doubled");
    for text in &known.kept {
        assert!(
            found.contains(text) || known.acked.contains(text),
            "{when}: {text} was receipted and is lost"
        );
    }
    for text in &found {
        assert!(known.sent.contains(text), "{when}: {text} was invented");
        assert!(
            !known.gone.contains(text),
            "{when}: the ACK of {text} was receipted and it is back"
        );
        assert!(
            !text.starts_with("tx ") || r.contains(text),
            "{when}: half of {text} is missing"
        );
    }
    for text in &r {
        assert!(
            found.contains(text) || known.acked.contains(text),
            "{when}: half of {text} is missing"
        );
        assert!(known.sent.contains(text), "{when}: {text} was invented");
    }
    let order: Vec<usize> = q
        .iter()
        .map(|text| text.trim_start_matches("tx ").parse().expect("a number"))
        .collect();
    assert!(order.is_sorted(), "{when}: {order:?}");
}

#[tokio::test]
async fn whichever_write_or_sync_fails_nothing_unkept_was_promised_and_nothing_promised_is_lost() {
    let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
    let broker = Setup::over(store).start().await;
    let opening = faults.operations();
    let known = run_script(&broker).await;
    let operations = faults.operations();
    assert!(operations - opening >= 200, "{operations}");
    check_after_power_cut(&faults, 0, &known, "without a fault").await;
    drop(broker);

    for fail_at in 1..=operations {
        let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
        faults.fail_at(fail_at);
        if fail_at <= opening {
            let refused = Journal::open(Box::new(store), JournalOptions::default());
            assert!(
                refused.is_err(),
                "operation {fail_at} failed and the log opened"
            );
            continue;
        }
        let broker = Setup::over(store).start().await;
        let failure = Arc::new(Mutex::new(None));
        let heard = Arc::clone(&failure);
        let journal = &broker.engine().core().journal;
        journal.on_failure(Box::new(move |error| {
            *heard.lock() = Some(error.to_string())
        }));
        let known = run_script(&broker).await;
        if !journal.is_poisoned() {
            // How much the writer finds at once decides how many operations a run has, by a few.
            assert!(fail_at > opening + 200, "operation {fail_at} never came");
            break;
        }
        assert!(
            failure.lock().is_some(),
            "operation {fail_at}: whoever ends the process was not told"
        );
        let when = format!("operation {fail_at}");
        check_after_power_cut(&faults, 0, &known, &when).await;
        check_after_power_cut(&faults, faults.unsynced(), &known, &when).await;
    }
}

#[tokio::test]
async fn a_client_that_waits_for_nothing_is_told_too_when_the_store_has_failed() {
    let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
    let broker = Setup::over(store).start().await;
    let mut peer = broker.client().await;
    let mut other = broker.client().await;
    peer.ask("SEND\ndestination:/queue/q\n\nx").await;
    faults.fail_at(1);
    assert!(!promised(&mut peer, "SEND\ndestination:/queue/q\n\nx", "lost").await);
    other
        .tell("SEND\ndestination:/queue/q\nreceipt:never\n\nx")
        .await;
    let answers = other.end().await;
    let [error] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    says_that_the_store_failed(error);
}

/// A file size limit stands in for a full disk: it needs no privileges, and the store sees the same failing write.
#[tokio::test]
async fn a_full_disk_ends_the_process_with_an_error_and_loses_nothing_that_was_receipted() {
    let data = TempDir::new().expect("a temporary directory");
    // In blocks of 512 bytes (1024 in some shells): room for two to four segments of the database.
    let limited = "trap '' XFSZ; ulimit -f 65536";
    let mut broker = Process::start_after(limited, data.path(), &[]).await;
    let mut idle = broker.client().await;
    let mut peer = broker.client().await;
    let mut kept = 0;
    let large = "x".repeat(1 << 20);
    loop {
        assert!(kept < 500, "the limit never came");
        if !promised(
            &mut peer,
            &format!("SEND\ndestination:/queue/q\n\n{kept} {large}"),
            "send",
        )
        .await
        {
            break;
        }
        kept += 1;
    }
    let told = idle.end().await;
    assert!(
        told.iter().all(|frame| frame.command == Command::Error),
        "{told:?}"
    );
    assert!(!told.is_empty(), "an idle client is told as well");
    let lines = broker.log_until("stopped after a failure").await;
    let last = lines.last().expect("found");
    assert!(
        last["level"] == "ERROR" && last["reason"].is_string(),
        "{last}"
    );
    drop((idle, peer));
    assert_eq!(broker.ended().await, Some(1));

    let broker = Process::start(data.path(), &[]).await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/q").await;
    for number in 0..kept {
        assert_eq!(word(&peer.message().await), number.to_string());
    }
}
