//! Short-lived messages of all sizes: neither memory nor disk grows with their number.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::watch;

use crate::client::{Client, number_of, numbered};
use crate::support::process::Process;
use crate::usage::{anonymous_bytes, disk_bytes, mib};
use crate::{Context, Outcome};

/// Body length, share of all messages in ten thousand, and by how many messages the consumer stays behind.
const SIZES: [(usize, u64, u64); 5] = [
    (16, 7_000, 4_000),
    (1 << 10, 2_569, 2_000),
    (8 << 10, 400, 500),
    (64 << 10, 30, 100),
    (1 << 20, 1, 4),
];
/// Growth between the first third and the last that is no growth: a part of what there was, and so many bytes.
const TOLERANCE: (f64, u64) = (1.25, 64 << 20);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was seen at one moment.
#[derive(Clone, Copy)]
struct Sample {
    taken: u64,
    memory: u64,
    disk: u64,
}

pub(crate) async fn run(context: Context) -> Outcome {
    let data = TempDir::new_in(&context.settings.directory).expect("a directory");
    let set = context.set(&[]);
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let broker = Process::start(data.path(), &set).await;
    let start = Instant::now();
    let mut progress = Vec::new();
    let mut clients = Vec::new();
    for (len, share, lag) in SIZES {
        let count = (context.settings.churn * share).div_ceil(10_000);
        let queue = format!("churn-{len}");
        let (published, watch_published) = watch::channel(0);
        let (taken, watch_taken) = watch::channel(0);
        progress.push(watch_taken.clone());
        let publisher = Client::connect(broker.stomp()).await;
        let consumer = Client::connect(broker.stomp()).await;
        let name = queue.clone();
        clients.push(tokio::spawn(async move {
            publish(publisher, &name, count, len, lag, published, watch_taken).await;
        }));
        clients.push(tokio::spawn(async move {
            consume(consumer, &queue, count, lag, taken, watch_published).await;
        }));
    }
    let samples = watch(broker.pid(), data.path(), &progress, clients).await;
    let seconds = start.elapsed().as_secs_f64();
    let total = samples.last().expect("at least one").taken;
    broker.kill().await;

    let mut figures = vec![format!("{total} messages, {:.0}/s", total as f64 / seconds)];
    for (what, figure) in [
        ("memory", (|one| one.memory) as fn(&Sample) -> u64),
        ("disk", |one| one.disk),
    ] {
        let most = |from: u64, to: u64| {
            let third = samples
                .iter()
                .filter(|one| (from..=to).contains(&(one.taken * 3 / total)));
            third.map(figure).max().unwrap_or(0)
        };
        let (first, last) = (most(0, 0), most(2, 3));
        figures.push(format!(
            "{what} {} in the first third, {} in the last",
            mib(first),
            mib(last)
        ));
        let (part, bytes) = TOLERANCE;
        assert!(
            last as f64 <= first as f64 * part + bytes as f64,
            "{what} grows: {}",
            figures.join(", ")
        );
    }
    Outcome::Passed(figures)
}

/// Looks at memory and disk until all clients have done their work.
async fn watch(
    pid: u32,
    data: &Path,
    progress: &[watch::Receiver<u64>],
    clients: Vec<tokio::task::JoinHandle<()>>,
) -> Vec<Sample> {
    let look = || Sample {
        taken: progress.iter().map(|one| *one.borrow()).sum(),
        memory: anonymous_bytes(pid),
        disk: disk_bytes(data),
    };
    let mut samples = Vec::new();
    let mut all = std::pin::pin!(async {
        for client in clients {
            client.await.expect("the client met only what it expected");
        }
    });
    loop {
        samples.push(look());
        tokio::select! {
            () = &mut all => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    samples.push(look());
    samples
}

/// Publishes, and waits whenever the consumer is too far behind.
async fn publish(
    mut client: Client,
    queue: &str,
    count: u64,
    len: usize,
    lag: u64,
    published: watch::Sender<u64>,
    mut taken: watch::Receiver<u64>,
) {
    let mut next = 0;
    while next < count {
        let end = (next + lag.div_ceil(2)).min(count);
        let body = |number, octets: &mut Vec<u8>| numbered(number, len, octets);
        client.publish(queue, next..end, lag.min(1000), body).await;
        next = end;
        published.send_replace(next);
        let near = taken.wait_for(|taken| taken + 3 * lag >= next).await;
        near.expect("the consumer is there until all is done");
    }
}

/// Takes what is far enough behind the publisher, and in the end the rest.
async fn consume(
    mut client: Client,
    queue: &str,
    count: u64,
    lag: u64,
    taken: watch::Sender<u64>,
    mut published: watch::Receiver<u64>,
) {
    client.subscribe(queue);
    let mut next = 0;
    while next < count {
        let ready = published.wait_for(|published| *published == count || *published > next + lag);
        let ready = *ready.await.expect("the publisher says when it has done");
        let end = if ready == count { count } else { ready - lag };
        let mut expected = next;
        let look = |frame: &_| {
            assert_eq!(number_of(frame), expected, "out of order");
            expected += 1;
        };
        client.take(end - next, look).await;
        next = end;
        taken.send_replace(next);
    }
}
