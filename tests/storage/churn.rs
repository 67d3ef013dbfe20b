//! Short-lived messages leave nothing behind.

use millpond::storage::{DirectoryOptions, Journal, JournalOptions, MemoryStore, open_directory};

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

#[test]
fn the_file_of_the_sled_store_stays_flat_too() {
    let directory = tempfile::tempdir().unwrap();
    let journal = JournalOptions {
        checkpoint_bytes: 4 << 20,
        ..JournalOptions::default()
    };
    let options = DirectoryOptions {
        journal,
        ..DirectoryOptions::default()
    };
    let (journal, _) = open_directory(directory.path(), options).unwrap();
    let size = || {
        std::fs::metadata(directory.path().join("store/db"))
            .unwrap()
            .len()
    };
    let mut sizes = Vec::new();
    let mut next = 1;
    for _ in 0..6 {
        for _ in 0..100 {
            commit(&journal, |unit| {
                (next..next + 64)
                    .for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 4000))));
                unit.settle(q(1), s(1), s(next - 1));
            });
            next += 64;
        }
        sizes.push(size());
    }
    journal.close().unwrap();
    assert!(sizes[5] <= sizes[2] + (32 << 20), "it grows: {sizes:?}");
}
