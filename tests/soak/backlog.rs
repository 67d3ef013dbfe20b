//! Deep backlogs: filled, killed, restarted, drained, within bounds of memory and time.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Client, number_of, numbered};
use crate::support::process::Process;
use crate::usage::{Peak, disk_bytes, mib};
use crate::{Context, Outcome};

const BODY_LEN: usize = 1 << 10;
/// Messages in flight of the publisher.
const WINDOW: u64 = 4_000;
/// Messages in each of many queues.
const PER_QUEUE: u64 = 1_000;
/// Anonymous memory that no phase may exceed.
const MEMORY_MAX: u64 = 400_000_000;
/// From the start after a kill to the first message.
const FIRST_MESSAGE_MAX: Duration = Duration::from_secs(10);
/// Bytes of disk that a message of the backlog may need, with what the engine holds besides.
const DISK_PER_MESSAGE: u64 = 3 * BODY_LEN as u64;

/// Whether the disk has room, or why the check is skipped.
fn room(directory: &Path, messages: u64) -> Result<(), Outcome> {
    let available = millpond::storage::available_bytes(directory).expect("a file system");
    let needed = messages * DISK_PER_MESSAGE;
    match available > needed {
        true => Ok(()),
        false => Err(Outcome::Skipped(format!(
            "{} has {} free, {} are needed (SOAK_DIR names another place)",
            directory.display(),
            mib(available),
            mib(needed)
        ))),
    }
}

/// A run over one data directory.
struct Backlog {
    context: Context,
    data: TempDir,
    figures: Vec<String>,
    most_memory: u64,
    /// What is out of its bounds; said at the end, with all figures.
    faults: Vec<&'static str>,
}

impl Backlog {
    fn new(context: Context) -> Self {
        let data = TempDir::new_in(&context.settings.directory).expect("a directory");
        Self {
            context,
            data,
            figures: Vec::new(),
            most_memory: 0,
            faults: Vec::new(),
        }
    }

    async fn start(&self) -> Process {
        let set = self.context.set(&[]);
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        Process::start(self.data.path(), &set).await
    }

    /// Notes how a phase went.
    fn note(&mut self, phase: &str, messages: u64, start: Instant, peak: &Peak) {
        let seconds = start.elapsed().as_secs_f64();
        let memory = peak.take();
        self.most_memory = self.most_memory.max(memory);
        let disk = mib(disk_bytes(self.data.path()));
        let rate = messages as f64 / seconds;
        let figure = format!(
            "{phase} {seconds:.1} s ({rate:.0}/s), {}, disk {disk}",
            mib(memory)
        );
        println!("   {figure}");
        self.figures.push(figure);
    }

    /// Kills a broker and starts the next; when it began to.
    async fn restart(&mut self, broker: Process) -> (Process, Instant, Peak) {
        broker.kill().await;
        let start = Instant::now();
        let broker = self.start().await;
        let peak = Peak::watch(broker.pid());
        self.note("ready after kill -9", 0, start, &peak);
        (broker, start, peak)
    }

    fn first_message(&mut self, start: Instant) {
        let took = start.elapsed();
        let figure = format!("first message after {:.2} s", took.as_secs_f64());
        println!("   {figure}");
        self.figures.push(figure);
        if took > FIRST_MESSAGE_MAX {
            self.faults.push("the first message came too late");
        }
    }

    fn done(mut self) -> Outcome {
        if self.most_memory > MEMORY_MAX {
            self.faults.push("too much memory");
        }
        let (faults, figures) = (self.faults.join(", "), self.figures.join("; "));
        assert!(faults.is_empty(), "{faults}: {figures}");
        Outcome::Passed(self.figures)
    }
}

/// All messages in one queue.
pub(crate) async fn one_queue(context: Context) -> Outcome {
    let count = context.settings.backlog;
    if let Err(skipped) = room(&context.settings.directory, count) {
        return skipped;
    }
    let mut run = Backlog::new(context);
    let broker = run.start().await;
    let (start, peak) = (Instant::now(), Peak::watch(broker.pid()));
    let mut client = Client::connect(broker.stomp()).await;
    let body = |number, octets: &mut Vec<u8>| numbered(number, BODY_LEN, octets);
    client.publish("deep", 0..count, WINDOW, body).await;
    run.note("filled", count, start, &peak);
    drop(client);

    let (broker, begun, peak) = run.restart(broker).await;
    let mut client = Client::connect(broker.stomp()).await;
    client.subscribe("deep");
    let start = Instant::now();
    let mut next = 0;
    client
        .take(count, |frame| {
            if next == 0 {
                run.first_message(begun);
            }
            assert_eq!(number_of(frame), next, "lost, doubled or out of order");
            next += 1;
        })
        .await;
    run.note("drained", count, start, &peak);
    broker.kill().await;
    run.done()
}

/// The same in many queues.
pub(crate) async fn many_queues(context: Context) -> Outcome {
    let queues = context.settings.backlog_queues;
    if let Err(skipped) = room(&context.settings.directory, queues * PER_QUEUE) {
        return skipped;
    }
    let mut run = Backlog::new(context);
    let broker = run.start().await;
    let (start, peak) = (Instant::now(), Peak::watch(broker.pid()));
    let mut client = Client::connect(broker.stomp()).await;
    let body = |number, octets: &mut Vec<u8>| numbered(number, BODY_LEN, octets);
    // In slices, so that every commit holds a little of some queues, as under many publishers.
    for slice in 0..10 {
        let numbers = slice * PER_QUEUE / 10..(slice + 1) * PER_QUEUE / 10;
        for queue in 0..queues {
            let queue = format!("deep-{queue}");
            client.publish(&queue, numbers.clone(), WINDOW, body).await;
        }
    }
    run.note("filled", queues * PER_QUEUE, start, &peak);
    drop(client);

    let (broker, begun, peak) = run.restart(broker).await;
    let mut client = Client::connect(broker.stomp()).await;
    let start = Instant::now();
    for queue in 0..queues {
        let name = format!("deep-{queue}");
        client.subscribe(&name);
        let mut next = 0;
        client
            .take(PER_QUEUE, |frame| {
                if queue == 0 && next == 0 {
                    run.first_message(begun);
                }
                assert_eq!(number_of(frame), next, "lost, doubled or out of order");
                next += 1;
            })
            .await;
        client.put(&format!("UNSUBSCRIBE\nid:{name}\n\n"), b"");
    }
    run.note("drained", queues * PER_QUEUE, start, &peak);
    broker.kill().await;
    run.done()
}
