//! A small disk that fills up: who publishes is told, who consumes goes on, nothing that was receipted is lost, and all
//! is well when there is room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use millpond_protocol::stomp::Command;
use tempfile::TempDir;

use crate::image::{self, Mount};
use crate::support::peer::{Peer, body, header};
use crate::support::process::{Ended, Process};
use crate::{Context, Outcome};

const DISK_BYTES: u64 = 768 << 20;
/// Left free by what fills the disk, until it is removed.
const LEFT_FREE: u64 = 160 << 20;
const FREE_LIMIT: &str = "disk.free_limit=100MiB";
const BODY_LEN: usize = 256 << 10;
/// Far more messages than the disk has room for.
const TOO_MANY: usize = 10_000;

pub(crate) async fn run(context: Context) -> Outcome {
    let directory = TempDir::new_in(&context.settings.directory).expect("a directory");
    let mut figures = Vec::new();
    for (name, real) in [("limit", false), ("full", true)] {
        let disk = directory.path().join(name);
        let mounted = image::make(&disk, DISK_BYTES).and_then(|()| Mount::new(&disk));
        let mount = match mounted {
            Ok(mount) => mount,
            Err(reason) => return Outcome::Skipped(reason),
        };
        figures.push(match real {
            false => below_the_limit(&context, &mount).await,
            true => until_it_is_full(&context, &mount).await,
        });
    }
    Outcome::Passed(figures)
}

/// Fills the disk but for so many bytes; the file to remove.
fn ballast(mount: &Mount, left_free: u64) -> PathBuf {
    let path = mount.path().join("ballast");
    let mut file = File::create(&path).expect("an empty disk");
    let available = || millpond::storage::available_bytes(mount.path()).expect("a file system");
    let zeros = vec![0; 1 << 20];
    while available() > left_free {
        if file
            .write_all(&zeros)
            .and_then(|()| file.sync_data())
            .is_err()
        {
            break;
        }
    }
    path
}

fn send(number: usize) -> String {
    let padding = "x".repeat(BODY_LEN);
    format!("SEND\ndestination:/queue/full\nreceipt:{number}\n\n{number} {padding}\0")
}

fn number(text: &str) -> usize {
    let (number, padding) = text.split_once(' ').expect("two words");
    assert_eq!(padding.len(), BODY_LEN, "a damaged body");
    number.parse().expect("a number")
}

/// Publishes one at a time until it is refused: how many were receipted, and the ERROR's code.
async fn fill(peer: &mut Peer, first: usize) -> (usize, String) {
    for sent in first..TOO_MANY {
        peer.write(send(sent)).await;
        let answer = peer.read().await.expect("an ERROR before the end");
        if answer.command == Command::Error {
            assert!(!body(&answer).is_empty(), "without a reason");
            return (sent, header(&answer, "code").expect("always there"));
        }
        assert_eq!(answer.command, Command::Receipt, "{}", body(&answer));
    }
    panic!("the disk was never full");
}

/// Takes so many messages and acknowledges each, with receipts.
async fn consume(broker: &Process, numbers: std::ops::Range<usize>) {
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/full\nack:client-individual\nprefetch-count:5")
        .await;
    for wanted in numbers {
        let message = peer.message().await;
        assert_eq!(
            number(&body(&message)),
            wanted,
            "lost, back or out of order"
        );
        peer.settle("ACK", &message, "").await;
    }
    peer.leave().await;
}

async fn start(context: &Context, data: &Path, more: &[&str]) -> Result<Process, Ended> {
    let set = context.set(more);
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let started = Process::start_or_end(data, &set).await;
    started.map(|(broker, _)| broker)
}

async fn must_start(context: &Context, data: &Path, more: &[&str]) -> Process {
    match start(context, data, more).await {
        Ok(broker) => broker,
        Err(Ended { code, lines }) => panic!("it ended with {code:?}: {lines:?}"),
    }
}

/// The broker watches the free space itself, and never meets a full disk.
async fn below_the_limit(context: &Context, mount: &Mount) -> String {
    let data = mount.path().join("data");
    let limit = [FREE_LIMIT, "disk.reserve=16MiB"];
    let mut broker = must_start(context, &data, &limit).await;
    let mut publisher = broker.client().await;
    publisher.ask("SEND\ndestination:/queue/other\n\nx").await;
    let filler = ballast(mount, LEFT_FREE);
    let (kept, code) = fill(&mut publisher, 0).await;
    assert_eq!(code, "disk_low");
    let half = kept / 2;
    consume(&broker, 0..half).await;
    // Refused, not closed: the same connection goes on when there is room.
    fs::remove_file(filler).expect("ours");
    broker.log_until("there is disk space again").await;
    publisher.write(send(kept)).await;
    publisher.receipt(&kept.to_string()).await;
    broker.kill().await;
    let broker = must_start(context, &data, &limit).await;
    consume(&broker, half..kept + 1).await;
    broker.kill().await;
    format!("refused with {code} after {kept} messages")
}

/// Nobody watches, and the disk is really full.
async fn until_it_is_full(context: &Context, mount: &Mount) -> String {
    let data = mount.path().join("data");
    let mut broker = must_start(context, &data, &[]).await;
    let mut publisher = broker.client().await;
    publisher.ask("SEND\ndestination:/queue/other\n\nx").await;
    let filler = ballast(mount, LEFT_FREE);
    let (kept, code) = fill(&mut publisher, 0).await;
    assert_eq!(code, "store_failed");
    broker.log_until("stopped after a failure").await;
    assert_eq!(broker.ended().await, Some(1));

    // With the disk as full as it is, it serves or says why not.
    let again = match start(context, &data, &[]).await {
        Ok(broker) => {
            broker.kill().await;
            "serves"
        }
        Err(Ended { code, lines }) => {
            assert_eq!(code, Some(1), "{lines:?}");
            assert!(!lines.is_empty(), "refused without a word");
            "refuses"
        }
    };
    fs::remove_file(filler).expect("ours");
    let broker = must_start(context, &data, &[]).await;
    // One more may have been written than was receipted.
    consume(&broker, 0..kept).await;
    let mut peer = broker.client().await;
    peer.ask("SEND\ndestination:/queue/after\n\nx").await;
    broker.kill().await;
    format!("stopped with {code} after {kept} messages, {again} while full")
}
