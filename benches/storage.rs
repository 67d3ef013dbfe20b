//! How many durable messages a second the log takes on this machine.
//!
//! `cargo bench --bench storage [SECONDS]`. A message is one enqueue and, four batches later, its settle;
//! each batch is one unit that is waited for, unless the line says otherwise. Figures depend on the disk
//! under the system's temporary directory.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use millpond::storage::{
    DirectoryOptions, Journal, Payload, QueueId, RecoveredQueue, Seq, StorageError, Unit, Waiter,
    open_directory,
};

/// How many batches later a message is settled.
const LAG: u64 = 4;

struct Body(Vec<u8>);

impl Payload for Body {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

struct Bell(SyncSender<()>);

impl Waiter for Bell {
    fn commit_settled(&self) {
        // Full means that it rings already.
        let _ = self.0.try_send(());
    }
}

struct Publisher {
    journal: Journal,
    bell: Arc<dyn Waiter>,
    rung: Receiver<()>,
}

impl Publisher {
    fn new(journal: &Journal) -> Self {
        let (ring, rung) = sync_channel(1);
        Self {
            journal: journal.clone(),
            bell: Arc::new(Bell(ring)),
            rung,
        }
    }

    /// Runs one unit and waits until it is settled.
    fn commit(&self, work: impl FnOnce(&mut Unit<'_>)) {
        let mut unit = self.journal.begin();
        work(&mut unit);
        unit.wait(&self.bell);
        drop(unit);
        // The writer holds the other end as long as the journal lives.
        let _ = self.rung.recv();
    }
}

fn body(len: usize) -> Arc<dyn Payload> {
    Arc::new(Body(vec![7; len]))
}

fn open(path: &Path) -> Result<Journal, StorageError> {
    open_directory(path, DirectoryOptions::default()).map(|(journal, _)| journal)
}

/// Seconds of CPU this process has used, in user and system mode, where the system tells.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the command's name in parentheses; user and system time are fields 14 and 15, in ticks of 10 ms.
    let fields = stat
        .rsplit_once(')')
        .map_or("", |(_, fields)| fields)
        .split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// One line of the table, being measured.
struct Line {
    name: String,
    len: u64,
    from: Instant,
    cpu: f64,
    batches: Vec<Duration>,
}

impl Line {
    fn begin(name: String, len: usize) -> Self {
        Self {
            name,
            len: len as u64,
            from: Instant::now(),
            cpu: cpu_seconds(),
            batches: Vec::new(),
        }
    }

    fn batch(&mut self, work: impl FnOnce()) {
        let begun = Instant::now();
        work();
        self.batches.push(begun.elapsed());
    }

    /// Messages a second, the slower percentiles of a batch, CPU, and bytes written for each byte of body.
    fn print(mut self, messages: u64, journal: &Journal, disk: u64) {
        let rate = messages as f64 / self.from.elapsed().as_secs_f64();
        let cpu = (cpu_seconds() - self.cpu) / messages as f64 * 1e6;
        self.batches.sort_unstable();
        let last = self.batches.len().saturating_sub(1);
        let at = |share: usize| {
            self.batches
                .get(last * share / 100)
                .copied()
                .unwrap_or_default()
        };
        let stats = journal.stats();
        let amplification = stats.bytes_written as f64 / (messages * self.len) as f64;
        println!(
            "{:<32} {rate:>9.0} msg/s  p50 {:>9.2?}  p99 {:>9.2?}  CPU {cpu:>6.2} s/M  log {amplification:>4.2} B/B  {} MB on disk",
            self.name,
            at(50),
            at(99),
            disk >> 20
        );
    }
}

/// Batches of one size over a number of queues.
fn durable(seconds: u64, batch: u64, queues: u64, len: usize) -> Result<(), StorageError> {
    let directory = tempfile::tempdir().map_err(|_| StorageError::Closed)?;
    let journal = open(directory.path())?;
    let publisher = Publisher::new(&journal);
    let limit = Duration::from_secs(seconds);
    let mut line = Line::begin(format!("{batch} x {len} B, {queues} queues"), len);
    let mut next = 1;
    while line.from.elapsed() < limit {
        line.batch(|| {
            publisher.commit(|unit| {
                for seq in next..next + batch {
                    unit.enqueue(QueueId(1 + seq % queues), Seq(seq), body(len));
                }
                if let Some(old) = next.checked_sub(LAG * batch) {
                    for seq in old..old + batch {
                        unit.settle(QueueId(1 + seq % queues), Seq(seq), Seq(seq));
                    }
                }
            })
        });
        next += batch;
    }
    line.print(next - 1, &journal, walk(directory.path()));
    journal.close()
}

fn walk(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                walk(&entry.path())
            } else {
                entry.metadata().map_or(0, |found| found.len())
            }
        })
        .sum()
}

/// Messages that are settled in the commit they came with.
fn short_lived(seconds: u64) -> Result<(), StorageError> {
    let directory = tempfile::tempdir().map_err(|_| StorageError::Closed)?;
    let journal = open(directory.path())?;
    let publisher = Publisher::new(&journal);
    let limit = Duration::from_secs(seconds);
    let shared = body(1024);
    let mut line = Line::begin("256 x 1024 B, dying young".into(), 1024);
    let mut next = 1;
    while line.from.elapsed() < limit {
        line.batch(|| {
            publisher.commit(|unit| {
                for seq in next..next + 256 {
                    unit.enqueue(QueueId(1), Seq(seq), Arc::clone(&shared));
                }
                for seq in next..next + 256 {
                    unit.settle(QueueId(1), Seq(seq), Seq(seq));
                }
            })
        });
        next += 256;
    }
    line.print(next - 1, &journal, walk(directory.path()));
    journal.close()
}

/// A backlog, left by a crash, being recovered.
fn recovery(messages: u64, len: usize) -> Result<(), StorageError> {
    let directory = tempfile::tempdir().map_err(|_| StorageError::Closed)?;
    let journal = open(directory.path())?;
    let publisher = Publisher::new(&journal);
    for start in (1..=messages).step_by(1024) {
        publisher.commit(|unit| {
            (start..start + 1024).for_each(|seq| unit.enqueue(QueueId(1), Seq(seq), body(len)));
        });
    }
    drop(publisher);
    drop(journal);
    let from = Instant::now();
    let (journal, recovered) = open_directory(directory.path(), DirectoryOptions::default())?;
    let found: u64 = recovered.queues.values().map(RecoveredQueue::len).sum();
    println!("recovery of {found} x {len} B: {:.2?}", from.elapsed());
    journal.close()
}

fn run(seconds: u64) -> Result<(), StorageError> {
    for batch in [1, 32, 256, 2048] {
        durable(seconds, batch, 1, 1024)?;
    }
    durable(seconds, 2048, 1, 16)?;
    durable(seconds, 32, 1, 64 * 1024)?;
    for queues in [100, 10_000] {
        durable(seconds, 2048, queues, 1024)?;
    }
    short_lived(seconds)?;
    recovery(200_000, 1024)
}

fn main() -> ExitCode {
    let seconds = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(3);
    match run(seconds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
