//! Blocks that hold little are merged, so that nothing pins more than itself.

use std::ops::ControlFlow;
use std::sync::Arc;

use millpond::storage::{Change, Journal, JournalOptions, MemoryStore, Store, StoreRead};

use crate::support::{
    body, busy_checkpoints, commit, contents, filled, held, open_memory, q, s, seqs, wait_until,
};

fn journal_over(store: &MemoryStore, checkpoint_commits: u64) -> Journal {
    let options = JournalOptions {
        checkpoint_commits,
        ..JournalOptions::default()
    };
    Journal::open(Box::new(store.clone()), options).unwrap().0
}

#[test]
fn a_backlog_of_one_message_a_commit_ends_in_full_blocks() {
    let store = MemoryStore::new();
    let journal = journal_over(&store, 64);
    for seq in 1..=2000 {
        commit(&journal, |unit| {
            unit.enqueue(q(1), s(seq), body(filled(seq, 1000)));
            if seq % 100 == 0 {
                unit.returned(q(1), s(seq / 2), 7);
            }
        });
    }
    wait_until("few blocks", || journal.stats().blocks_live < 250);
    let stats = journal.stats();
    assert_eq!(
        stats.messages_written, 2000,
        "what is written again does not count again"
    );
    drop(journal);
    let (journal, recovered) = open_memory(&store);
    let wanted: Vec<_> = (1..=2000)
        .map(|seq| {
            let returned = if seq % 50 == 0 && seq <= 1000 { 7 } else { 0 };
            (seq, returned, filled(seq, 1000))
        })
        .collect();
    assert!(
        held(&journal, &recovered, q(1)) == wanted,
        "it is not what it was"
    );
}

#[test]
fn a_slow_queue_among_many_busy_ones_pins_nothing() {
    let store = MemoryStore::new();
    let journal = journal_over(&store, 32);
    let mut most = 0;
    for round in 1..=3000_u64 {
        commit(&journal, |unit| {
            (1..100).for_each(|queue| unit.enqueue(q(queue), s(round), body(filled(round, 300))));
            // Nobody takes from this one; a fan-out goes to it and to a busy one.
            let shared = body(filled(round, 20));
            unit.enqueue(q(100), s(round), Arc::clone(&shared));
            unit.enqueue(q(101), s(round), shared);
            if let Some(old) = round.checked_sub(5).filter(|old| *old > 0) {
                (1..100).for_each(|queue| unit.settle(q(queue), s(old), s(old)));
                unit.settle(q(101), s(old), s(old));
            }
        });
        if round % 100 == 0 {
            most = most.max(store.len());
        }
    }
    // A commit here has 30 KiB; what is left of one is 40 octets.
    assert!(most < 300, "{most} values at once");
    let stats = journal.stats();
    assert!(stats.block_bytes_live < 3_000_000, "{stats:?}");
    drop(journal);
    let (journal, recovered) = open_memory(&store);
    let wanted: Vec<_> = (1..=3000).map(|seq| (seq, 0, filled(seq, 20))).collect();
    assert!(
        held(&journal, &recovered, q(100)) == wanted,
        "it is not what it was"
    );
    assert_eq!(seqs(&journal, &recovered, q(101)).len(), 5);
}

#[test]
fn one_stuck_message_among_many_pins_its_own_block_alone() {
    let store = MemoryStore::new();
    let journal = journal_over(&store, 16);
    for start in (1..=20_000).step_by(100) {
        commit(&journal, |unit| {
            (start..start + 100).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 500))));
            let done = start.saturating_sub(1).max(2);
            unit.settle(q(1), s(2), s(done));
        });
    }
    assert!(journal.stats().blocks_live < 40, "{:?}", journal.stats());
    journal.close().unwrap();
    let (journal, recovered) = open_memory(&store);
    let left: Vec<_> = [1].into_iter().chain(19_901..=20_000).collect();
    assert_eq!(seqs(&journal, &recovered, q(1)), left);
}

#[test]
fn a_damaged_sparse_block_is_left_for_whoever_reads_it_to_be_told() {
    let mut store = MemoryStore::new();
    let options = busy_checkpoints();
    let (journal, _) = Journal::open(Box::new(store.clone()), options.clone()).unwrap();
    // In one checkpoint interval, so that none is merged yet.
    commit(&journal, |unit| {
        unit.enqueue(q(1), s(1), body(filled(1, 100)))
    });
    commit(&journal, |unit| {
        unit.enqueue(q(1), s(2), body(filled(2, 100)))
    });
    journal.close().unwrap();
    let mut first = None;
    store
        .scan(&[1], &[2], &mut |key, value| {
            first = Some((key.to_vec(), value.to_vec()));
            ControlFlow::Break(())
        })
        .unwrap();
    let (key, mut value) = first.unwrap();
    value[50] ^= 1;
    store.write(vec![Change::Put(key, value)]).unwrap();
    let (journal, _) = Journal::open(Box::new(store.clone()), options).unwrap();
    for seq in 3..=40 {
        commit(&journal, |unit| {
            unit.enqueue(q(1), s(seq), body(filled(seq, 100)))
        });
    }
    assert!(
        journal.stats().blocks_rewritten > 10,
        "{:?}",
        journal.stats()
    );
    journal.close().unwrap();
    let (journal, recovered) = open_memory(&store);
    let (held, lost) = contents(&journal, &recovered, q(1));
    assert_eq!(lost, [(1, 1)]);
    assert_eq!(held.len(), 39);
}
