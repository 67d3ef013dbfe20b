//! Power cuts: what was receipted is on the device, not only with the system.
//!
//! The data directory is on a file system of its own. Under load the broker is stopped at any moment, the device copied
//! as it is, and the next broker serves from the copy, after the file system's own recovery.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::image::{self, Mount};
use crate::support::lives::{Knowledge, Load, live};
use crate::support::process::Process;
use crate::{Context, Outcome};

const LOAD: Load = Load {
    publishers: 6,
    queues: 3,
};
const DISK_BYTES: u64 = 3 << 30;

/// Every other life makes checkpoints all the time, so that some cuts come in the middle of one.
const SETTINGS: [&[&str]; 2] = [
    &[],
    &[
        "storage.checkpoint_bytes=1MiB",
        "storage.checkpoint_commits=16",
    ],
];

pub(crate) async fn run(context: Context) -> Outcome {
    let directory = TempDir::new_in(&context.settings.directory).expect("a directory");
    let mut disk = directory.path().join("disk-0");
    if let Err(reason) = image::make(&disk, DISK_BYTES) {
        return Outcome::Skipped(reason);
    }
    let mut known = Knowledge::new(LOAD);
    for round in 0..context.settings.power_cuts {
        let mount = match Mount::new(&disk) {
            Ok(mount) => mount,
            Err(reason) if round == 0 => return Outcome::Skipped(reason),
            Err(reason) => panic!("after {round} power cuts: {reason}"),
        };
        let set = context.set(SETTINGS[usize::from(!round.is_multiple_of(2))]);
        let broker = start(&mount, &set).await;
        let next = directory.path().join(format!("disk-{}", round + 1));
        let receipts = usize::try_from(round * 7919 % 4001).expect("small") + 1;
        known = live(broker, known, receipts, async |broker: Process| {
            cut(broker, &mount, &next).await;
        })
        .await;
        drop(mount);
        fs::remove_file(&disk).expect("ours");
        disk = next;
    }
    let mount = Mount::new(&disk).expect("as the ones before");
    let broker = start(&mount, &context.set(&[])).await;
    known.check(&broker).await;
    broker.kill().await;
    Outcome::Passed(vec![
        format!("{} power cuts", context.settings.power_cuts),
        format!("{} receipts kept", known.receipts()),
    ])
}

async fn start(mount: &Mount, set: &[String]) -> Process {
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    Process::start(&mount.path().join("data"), &set).await
}

/// Cuts the power: what the device holds now is the next disk.
async fn cut(broker: Process, mount: &Mount, next: &Path) {
    broker.signal(Signal::STOP);
    mount.copy_device(next);
    // What it receipted until it was stopped is still on its way to the clients.
    broker.kill().await;
}
