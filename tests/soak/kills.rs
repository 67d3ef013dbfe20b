//! kill -9 under load, many times over one data directory.

use tempfile::TempDir;

use crate::support::lives::{Knowledge, Load, live};
use crate::support::process::Process;
use crate::usage;
use crate::{Context, Outcome};

const LOAD: Load = Load {
    publishers: 8,
    queues: 4,
};

/// Every third life makes checkpoints all the time.
const SETTINGS: [&[&str]; 3] = [
    &[],
    &[
        "storage.checkpoint_bytes=1MiB",
        "storage.checkpoint_commits=16",
    ],
    &["limits.outbox_bytes=64KiB"],
];

pub(crate) async fn run(context: Context) -> Outcome {
    let data = TempDir::new_in(&context.settings.directory).expect("a directory");
    let mut known = Knowledge::new(LOAD);
    for round in 0..context.settings.kills {
        let which = usize::try_from(round % 3).expect("less than three");
        let broker = start(&context, &data, SETTINGS[which]).await;
        let receipts = usize::try_from(round * 7919 % 3001).expect("small") + 1;
        known = live(broker, known, receipts, Process::kill).await;
    }
    let broker = start(&context, &data, &[]).await;
    known.check(&broker).await;
    broker.kill().await;
    let few = context.settings.kills < 10;
    assert!(few || known.tested_something(), "the check checked nothing");
    Outcome::Passed(vec![
        format!("{} kills", context.settings.kills),
        format!("{} receipts kept", known.receipts()),
        format!("{} on disk", usage::mib(usage::disk_bytes(data.path()))),
    ])
}

async fn start(context: &Context, data: &TempDir, more: &[&str]) -> Process {
    let set = context.set(more);
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    Process::start(data.path(), &set).await
}
