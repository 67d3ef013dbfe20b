//! kill -9 under load: what was receipted survives, and nothing else appears.

use tempfile::TempDir;

use crate::support::lives::{Knowledge, Load, live};
use crate::support::process::Process;

const ROUNDS: usize = 20;
/// Rounds with the other engine; the clients do the same, so it is about the store.
const ROUNDS_FJALL: usize = 10;
/// Receipts after which the process is killed, one round after the other.
const KILL_AFTER: [usize; 10] = [1, 400, 7, 150, 60, 2, 800, 25, 250, 100];
const LOAD: Load = Load {
    publishers: 3,
    queues: 2,
};

/// Rounds of load and kill -9 on one data directory kept by `engine`.
async fn live_and_die(engine: &str, rounds: usize) {
    let data = TempDir::new().expect("a temporary directory");
    let engine = ["--set", engine];
    let mut known = Knowledge::new(LOAD);
    for round in 0..rounds {
        let broker = Process::start(data.path(), &engine).await;
        let kill_after = KILL_AFTER[round % KILL_AFTER.len()];
        known = live(broker, known, kill_after, Process::kill).await;
    }
    let broker = Process::start(data.path(), &engine).await;
    known.check(&broker).await;
    let wanted: usize = KILL_AFTER.iter().sum();
    assert!(known.receipts() >= wanted, "the clients hardly worked");
    assert!(known.tested_something(), "the test tested nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_process_is_killed_what_was_receipted_is_there_and_nothing_else() {
    live_and_die("storage.engine=sled", ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_process_is_killed_fjall_has_kept_what_was_receipted_and_nothing_else() {
    live_and_die("storage.engine=fjall", ROUNDS_FJALL).await;
}
