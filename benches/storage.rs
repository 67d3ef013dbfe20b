//! How many durable messages a second the log takes on this machine.
//!
//! `cargo bench --bench storage -- [SECONDS] [sled|fjall] [deep|ceiling]`, both engines if none is named. A message is
//! one enqueue and, four batches later, its settle; each batch is one unit that is waited for, unless the line
//! says otherwise. Figures depend on the disk under the system's temporary directory. Each engine has a process
//! of its own, so that the memory it says is its own. `deep` measures a million messages that wait and are
//! drained instead; `ceiling` says how many messages of 1 KiB the log takes when nobody consumes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use millpond::storage::{
    DirectoryOptions, Engine, EngineOptions, Journal, Payload, QueueId, Recovered, RecoveredQueue,
    Seq, StorageError, Unit, Waiter, open_directory,
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

fn reopen(engine: Engine, path: &Path) -> Result<(Journal, Recovered), StorageError> {
    let options = DirectoryOptions {
        engine: EngineOptions::from(engine),
        ..DirectoryOptions::default()
    };
    open_directory(path, options)
}

fn open(engine: Engine, path: &Path) -> Result<Journal, StorageError> {
    reopen(engine, path).map(|(journal, _)| journal)
}

/// Anonymous memory of this process in MB, now and at most, where the system tells.
fn memory_mb() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or_default() / 1024
    };
    (field("RssAnon:"), field("VmHWM:"))
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
fn durable(
    engine: Engine,
    seconds: u64,
    batch: u64,
    queues: u64,
    len: usize,
) -> Result<(), StorageError> {
    let directory = tempfile::tempdir().map_err(|_| StorageError::Closed)?;
    let journal = open(engine, directory.path())?;
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

/// Bytes that the files in a directory really take.
fn walk(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                walk(&entry.path())
            } else {
                entry.metadata().map_or(0, |found| found.blocks() * 512)
            }
        })
        .sum()
}

/// Messages that are settled in the commit they came with.
fn short_lived(engine: Engine, seconds: u64) -> Result<(), StorageError> {
    let directory = tempfile::tempdir().map_err(|_| StorageError::Closed)?;
    let journal = open(engine, directory.path())?;
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
fn recovery(engine: Engine, messages: u64, len: usize) -> Result<(), StorageError> {
    let directory = tempfile::tempdir().map_err(|_| StorageError::Closed)?;
    let journal = open(engine, directory.path())?;
    let publisher = Publisher::new(&journal);
    for start in (1..=messages).step_by(1024) {
        publisher.commit(|unit| {
            (start..start + 1024).for_each(|seq| unit.enqueue(QueueId(1), Seq(seq), body(len)));
        });
    }
    drop(publisher);
    drop(journal);
    let from = Instant::now();
    let (journal, recovered) = reopen(engine, directory.path())?;
    let found: u64 = recovered.queues.values().map(RecoveredQueue::len).sum();
    println!("recovery of {found} x {len} B: {:.2?}", from.elapsed());
    journal.close()
}

/// A million messages that wait, and are drained; what is left of them on disk and in memory.
fn deep(engine: Engine) -> Result<(), StorageError> {
    const MESSAGES: u64 = 1_000_000;
    let directory = tempfile::tempdir().map_err(|_| StorageError::Closed)?;
    let journal = open(engine, directory.path())?;
    let publisher = Publisher::new(&journal);
    let say = |what: &str, from: Instant, cpu: f64| {
        let (took, cpu) = (from.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        println!(
            "{what:<32} {:>9.0} msg/s  CPU {cpu:>6.2} s/M  {} MB on disk, {} MB in memory",
            MESSAGES as f64 / took,
            walk(directory.path()) >> 20,
            memory_mb().0
        );
    };
    let (from, cpu) = (Instant::now(), cpu_seconds());
    for start in (1..=MESSAGES).step_by(1000) {
        publisher.commit(|unit| {
            (start..start + 1000).for_each(|seq| unit.enqueue(QueueId(1), Seq(seq), body(1024)));
        });
    }
    say("1,000,000 x 1024 B, filled", from, cpu);
    let (from, cpu) = (Instant::now(), cpu_seconds());
    for start in (1..=MESSAGES).step_by(1000) {
        publisher.commit(|unit| unit.settle(QueueId(1), Seq(start), Seq(start + 999)));
    }
    say("the same, drained", from, cpu);
    drop(publisher);
    journal.close()?;
    println!("closed: {} MB on disk", walk(directory.path()) >> 20);
    let from = Instant::now();
    let (journal, _) = reopen(engine, directory.path())?;
    println!("opened again: {:.2?}", from.elapsed());
    journal.close()
}

/// Publishers of [`ceiling`], which take turns: while one waits for its sync the other prepares.
const CEILING_PUBLISHERS: u64 = 2;

/// Messages of one publisher's unit; together they have 1,000 in flight.
const CEILING_BATCH: u64 = 500;

/// Messages of 1 KiB that come and stay: what a broker over this log cannot exceed.
fn ceiling(engine: Engine, seconds: u64) -> Result<(), StorageError> {
    let directory = tempfile::tempdir().map_err(|_| StorageError::Closed)?;
    let journal = open(engine, directory.path())?;
    let (from, limit) = (Instant::now(), Duration::from_secs(seconds));
    let publish = |publisher: &Publisher, queue: QueueId| {
        let mut next = 1;
        while from.elapsed() < limit {
            publisher.commit(|unit| {
                (next..next + CEILING_BATCH)
                    .for_each(|seq| unit.enqueue(queue, Seq(seq), body(1024)));
            });
            next += CEILING_BATCH;
        }
        next - 1
    };
    let messages: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=CEILING_PUBLISHERS)
            .map(|number| {
                let publisher = Publisher::new(&journal);
                scope.spawn(move || publish(&publisher, QueueId(number)))
            })
            .collect();
        let counts = threads.into_iter().filter_map(|thread| thread.join().ok());
        counts.sum()
    });
    let rate = messages as f64 / from.elapsed().as_secs_f64();
    println!("ceiling: {rate:.0} msg/s");
    journal.close()
}

fn run(engine: Engine, seconds: u64) -> Result<(), StorageError> {
    for len in [1024, 16] {
        for batch in [1, 32, 256, 2048] {
            durable(engine, seconds, batch, 1, len)?;
        }
    }
    durable(engine, seconds, 32, 1, 64 * 1024)?;
    for queues in [100, 10_000] {
        durable(engine, seconds, 2048, queues, 1024)?;
    }
    short_lived(engine, seconds)?;
    recovery(engine, 200_000, 1024)
}

/// The same for each engine, each in a process of its own.
fn run_each() -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    for engine in Engine::ALL {
        let mut child = std::process::Command::new(&program);
        child.args(std::env::args().skip(1)).arg(engine.to_string());
        let status = child.status().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("{engine} failed"));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok());
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let engine = Engine::ALL
        .into_iter()
        .find(|engine| named(&engine.to_string()));
    let result = match engine {
        None => run_each(),
        Some(engine) => {
            println!("{engine}:");
            let seconds = seconds.unwrap_or(3);
            let ran = match (named("deep"), named("ceiling")) {
                (true, _) => deep(engine),
                (_, true) => ceiling(engine, seconds),
                _ => run(engine, seconds),
            };
            println!("{} MB of memory at most\n", memory_mb().1);
            ran.map_err(|error| error.to_string())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
