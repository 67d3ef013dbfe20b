//! Idle connections cost little, and an empty store starts at once.

use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::client::Client;
use crate::support::process::Process;
use crate::usage::anonymous_bytes;
use crate::{Context, Outcome};

/// Memory of one idle connection, in bytes.
const MEMORY_MAX: u64 = 10 << 10;
/// Fewer say nothing about one.
const ENOUGH: u64 = 1_000;
/// Descriptors that this program and the broker need for other things.
const OTHERS: u64 = 300;

/// Raises the limit of open files as far as it may be, and says what it is.
fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where that is refused, fewer connections are made.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

pub(crate) async fn run(context: Context) -> Outcome {
    let wanted = context.settings.connections;
    let count = wanted.min(descriptors().saturating_sub(OTHERS));
    let data = TempDir::new_in(&context.settings.directory).expect("a directory");
    let set = context.set(&[]);
    let set: Vec<&str> = set.iter().map(String::as_str).collect();

    Process::start(data.path(), &set).await.kill().await;
    let start = Instant::now();
    let broker = Process::start(data.path(), &set).await;
    let ready = start.elapsed();

    // The first half uses up what starting and logging in left free; the second shows what one costs.
    let start = Instant::now();
    let half = count / 2;
    let mut clients = connect(&broker, half).await;
    let before = anonymous_bytes(broker.pid());
    clients.extend(connect(&broker, count - half).await);
    let seconds = start.elapsed().as_secs_f64();
    let more = anonymous_bytes(broker.pid()).saturating_sub(before);
    let each = more / (count - half).max(1);
    broker.kill().await;
    let mut figures = vec![
        format!("{each} bytes a connection with {count}"),
        format!("{:.0} logins/s", count as f64 / seconds),
        format!("ready on an empty store after {} ms", ready.as_millis()),
    ];
    if count < wanted {
        figures.push(format!("not {wanted}: the limit of open files"));
    }
    assert!(
        count < ENOUGH || each <= MEMORY_MAX,
        "{}",
        figures.join(", ")
    );
    Outcome::Passed(figures)
}

async fn connect(broker: &Process, count: u64) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::connect(broker.stomp()).await);
    }
    clients
}
