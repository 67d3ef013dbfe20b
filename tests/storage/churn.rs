//! Short-lived messages leave nothing behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use millpond::storage::{
    DirectoryOptions, Engine, Journal, JournalOptions, MemoryStore, open_directory,
};

use crate::engines::kept_by;
use crate::support::{body, commit, filled, open_memory, q, s, seqs};

/// Enqueues `count` messages in batches; each batch is settled four batches later.
fn churn(journal: &Journal, count: u64, batch: u64, len: usize) {
    for start in (1..=count).step_by(usize::try_from(batch).unwrap()) {
        commit(journal, |unit| {
            (start..start + batch)
                .for_each(|seq| unit.enqueue(q(seq % 3), s(seq), body(filled(seq, len))));
            if let Some(old) = start.checked_sub(4 * batch) {
                (0..3).for_each(|queue| unit.settle(q(queue), s(old), s(old + batch - 1)));
            }
        });
    }
    commit(journal, |unit| {
        (0..3).for_each(|queue| unit.settle(q(queue), s(1), s(count)))
    });
}

#[test]
fn a_hundred_thousand_short_lived_messages_leave_a_flat_store() {
    let store = MemoryStore::new();
    let options = JournalOptions {
        checkpoint_bytes: 1 << 20,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(Box::new(store.clone()), options).unwrap();
    churn(&journal, 10_000, 50, 100);
    let middle = journal.stats();
    let mut most = 0;
    for round in 1..10 {
        let base = round * 10_000;
        for start in (base + 1..=base + 10_000).step_by(50) {
            commit(&journal, |unit| {
                (start..start + 50)
                    .for_each(|seq| unit.enqueue(q(seq % 3), s(seq), body(filled(seq, 100))));
                (0..3).for_each(|queue| unit.settle(q(queue), s(1), s(start - 1)));
            });
            most = most.max(store.len());
        }
    }
    let end = journal.stats();
    assert!(end.messages_written >= 100_000);
    assert!(
        end.blocks_live <= middle.blocks_live + 8,
        "{} blocks",
        end.blocks_live
    );
    assert!(most < 1000, "{most} values at once");
    journal.close().unwrap();
    assert!(store.len() < 30, "{} values are left", store.len());
    let (journal, recovered) = open_memory(&store);
    assert_eq!(
        seqs(&journal, &recovered, q(0)).len()
            + seqs(&journal, &recovered, q(1)).len()
            + seqs(&journal, &recovered, q(2)).len(),
        50
    );
}

/// Bytes that the files in a directory really take.
fn occupied(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => occupied(&entry.path()),
        Ok(found) => found.blocks() * 512,
        // fjall has removed it meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}

fn a_store_on_disk_stays_flat_too(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let journal = JournalOptions {
        checkpoint_bytes: 4 << 20,
        ..JournalOptions::default()
    };
    let options = DirectoryOptions {
        journal,
        ..kept_by(engine)
    };
    let (journal, _) = open_directory(directory.path(), options).unwrap();
    // One that nobody settles, as in a queue without consumers: it pins neither the log nor its own engine.
    commit(&journal, |unit| unit.enqueue(q(2), s(1), body("stuck")));
    let mut sizes = Vec::new();
    let mut next = 1;
    for _ in 0..10 {
        for _ in 0..100 {
            commit(&journal, |unit| {
                (next..next + 64)
                    .for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 4000))));
                unit.settle(q(1), s(1), s(next - 1));
            });
            next += 64;
        }
        sizes.push(occupied(directory.path()) >> 20);
    }
    journal.close().unwrap();
    assert!(sizes[9] <= sizes[4] + 48, "it grows: {sizes:?} MiB");
    assert!(
        sizes[9] <= 200,
        "250 MiB went through, nothing is left: {sizes:?} MiB"
    );
}

/// sled keeps its file, and uses it again.
#[test]
fn a_backlog_that_is_drained_from_fjall_gives_its_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open_directory(directory.path(), kept_by(Engine::Fjall)).unwrap();
    for start in (1..=24_000).step_by(500) {
        commit(&journal, |unit| {
            (start..start + 500)
                .for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 8000))));
        });
    }
    let full = occupied(directory.path()) >> 20;
    for start in (1..=24_000).step_by(500) {
        commit(&journal, |unit| unit.settle(q(1), s(start), s(start + 499)));
    }
    // It comes back a little at a time, between commits; what is left is one journal, and what was written last.
    let mut left = (0..5000_u32).map(|tick| {
        commit(&journal, |unit| {
            unit.define(b"tick".to_vec(), tick.to_be_bytes().to_vec())
        });
        occupied(directory.path()) >> 20
    });
    assert!(full > 180, "{full} MiB");
    assert!(left.any(|left| left <= 100), "most of {full} MiB are left");
}

test_each_engine!(a_store_on_disk_stays_flat_too);
