//! What units, waiters and the journal's handle promise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use millpond::storage::{
    CommitNumber, FaultyStore, Journal, JournalOptions, MemoryStore, Payload, StorageError, Waiter,
};
use proptest::prelude::*;

use crate::support::{
    Bell, body, busy_checkpoints, commit, filled, held, open, open_memory, q, s, seqs, seqs_in,
};

#[test]
fn what_was_committed_is_there_after_reopening() {
    let store = MemoryStore::new();
    let (journal, recovered) = open_memory(&store);
    assert!(recovered.clean && recovered.queues.is_empty() && recovered.losses.is_empty());
    let number = commit(&journal, |unit| {
        unit.define(b"queue/1".to_vec(), b"orders".to_vec());
        unit.enqueue(q(1), s(1), body("one"));
        unit.enqueue(q(1), s(2), body("two"));
        unit.returned(q(1), s(2), 3);
    });
    assert_eq!(number, CommitNumber(1));
    assert!(journal.durable() >= number);
    journal.close().unwrap();

    let (journal, recovered) = open_memory(&store);
    assert!(recovered.clean);
    assert_eq!(
        recovered.definitions[&b"queue/1".to_vec()].as_ref(),
        b"orders"
    );
    assert_eq!(
        held(&journal, &recovered, q(1)),
        [(1, 0, b"one".to_vec()), (2, 3, b"two".to_vec())]
    );
    assert_eq!(recovered.queues[&q(1)].next_seq, s(3));
    assert_eq!(recovered.next_queue, q(2));
}

#[test]
fn dropping_the_last_handle_is_like_a_crash() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    commit(&journal, |unit| unit.enqueue(q(1), s(1), body("one")));
    drop(journal);
    let (journal, recovered) = open_memory(&store);
    assert!(!recovered.clean);
    assert_eq!(seqs(&journal, &recovered, q(1)), [1]);
}

#[test]
fn a_clean_close_is_clean_only_once() {
    let store = MemoryStore::new();
    open_memory(&store).0.close().unwrap();
    let (journal, recovered) = open_memory(&store);
    assert!(recovered.clean);
    drop(journal);
    assert!(!open_memory(&store).1.clean);
}

#[test]
fn a_message_that_dies_young_is_never_written_and_its_promise_is_kept() {
    let (journal, _) = open(MemoryStore::new());
    let number = commit(&journal, |unit| {
        unit.enqueue(q(1), s(1), body("short-lived"));
        unit.settle(q(1), s(1), s(1));
    });
    assert!(journal.durable() >= number);
    let stats = journal.stats();
    assert_eq!(
        (stats.commits, stats.syncs, stats.messages_written),
        (0, 0, 0)
    );
    assert_eq!((stats.empty_commits, stats.messages_annihilated), (1, 1));
    assert_eq!(journal.backlog_bytes(), 0);
}

#[test]
fn nothing_of_a_kept_unit_is_cancelled() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    commit(&journal, |unit| {
        unit.keep();
        unit.enqueue(q(1), s(1), body("transacted"));
        unit.settle(q(1), s(1), s(1));
    });
    let stats = journal.stats();
    assert_eq!((stats.messages_written, stats.messages_annihilated), (1, 0));
    drop(journal);
    assert_eq!(seqs_in(&store, q(1)), [0_u64; 0]);
}

#[test]
fn commits_of_which_nothing_is_left_leave_no_gap_on_disk() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    for seq in 1..=10 {
        commit(&journal, |unit| {
            unit.enqueue(q(1), s(seq), body("x"));
            if seq % 2 == 0 {
                unit.settle(q(1), s(seq), s(seq));
            }
        });
    }
    assert_eq!(
        (journal.stats().commits, journal.stats().last_commit),
        (5, 5)
    );
    assert_eq!(journal.durable(), CommitNumber(10));
    drop(journal);
    let (journal, recovered) = open_memory(&store);
    assert!(recovered.losses.is_empty());
    assert_eq!(seqs(&journal, &recovered, q(1)), [1, 3, 5, 7, 9]);
    assert_eq!(recovered.last_commit.0, 5);
}

#[test]
fn a_fan_out_is_stored_once() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    let payload = filled(7, 10_000);
    let message = body(payload.clone());
    commit(&journal, |unit| {
        (1..=100).for_each(|queue| unit.enqueue(q(queue), s(1), Arc::clone(&message)))
    });
    let stats = journal.stats();
    assert_eq!(stats.messages_written, 1);
    assert!(
        stats.bytes_written < 11_000,
        "{} bytes",
        stats.bytes_written
    );
    drop(journal);
    let (journal, recovered) = open_memory(&store);
    for queue in 1..=100 {
        assert_eq!(
            held(&journal, &recovered, q(queue)),
            [(1, 0, payload.clone())]
        );
    }
}

#[test]
fn a_fan_out_to_thousands_of_queues_is_stored_once_and_goes_with_the_last_of_them() {
    let store = MemoryStore::new();
    let (journal, _) = Journal::open(Box::new(store.clone()), busy_checkpoints()).unwrap();
    let message = body(filled(7, 1000));
    commit(&journal, |unit| {
        (1..=5000).for_each(|queue| unit.enqueue(q(queue), s(1), Arc::clone(&message)))
    });
    assert_eq!(journal.stats().messages_written, 1);
    commit(&journal, |unit| {
        (1..5000).for_each(|queue| unit.settle(q(queue), s(1), s(1)))
    });
    drop(journal);
    let (journal, recovered) = open_memory(&store);
    assert_eq!(
        held(&journal, &recovered, q(5000)),
        [(1, 0, filled(7, 1000))]
    );
    commit(&journal, |unit| unit.settle(q(5000), s(1), s(1)));
    journal.close().unwrap();
    assert_eq!(open_memory(&store).0.stats().blocks_live, 0);
}

#[test]
fn one_queue_of_a_fan_out_may_die_young_alone() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    let message = body("shared");
    commit(&journal, |unit| {
        (1..=3).for_each(|queue| unit.enqueue(q(queue), s(1), Arc::clone(&message)));
        unit.settle(q(2), s(1), s(1));
    });
    assert_eq!(journal.stats().messages_annihilated, 1);
    drop(journal);
    let (journal, recovered) = open_memory(&store);
    assert_eq!(
        [1, 2, 3].map(|queue| seqs(&journal, &recovered, q(queue)).len()),
        [1, 0, 1]
    );
}

#[test]
fn long_payloads_and_long_definitions_come_back_whole() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    let lens = [
        0,
        1,
        32_000,
        32_767,
        65_535,
        65_536,
        70_000,
        1 << 20,
        (1 << 20) + 17,
    ];
    commit(&journal, |unit| {
        for (seq, len) in (1..).zip(lens) {
            unit.enqueue(q(1), s(seq), body(filled(seq, len)));
        }
        unit.define(filled(1, 40_000), filled(2, 200_000));
    });
    drop(journal);
    let (journal, recovered) = open_memory(&store);
    let wanted: Vec<_> = (1..)
        .zip(lens)
        .map(|(seq, len)| (seq, 0, filled(seq, len)))
        .collect();
    assert!(
        held(&journal, &recovered, q(1)) == wanted,
        "payloads differ"
    );
    assert!(
        recovered.definitions[&filled(1, 40_000)] == filled(2, 200_000),
        "definition differs"
    );
    // Once more, from a checkpoint.
    journal.close().unwrap();
    let (journal, recovered) = open_memory(&store);
    assert!(
        held(&journal, &recovered, q(1)) == wanted,
        "payloads differ after a checkpoint"
    );
    assert!(
        recovered.definitions[&filled(1, 40_000)] == filled(2, 200_000),
        "definition differs"
    );
    commit(&journal, |unit| unit.settle(q(1), s(1), s(99)));
    journal.close().unwrap();
    assert_eq!(open_memory(&store).0.stats().block_bytes_live, 0);
}

#[test]
fn a_payload_that_misjudges_its_own_length_is_stored_all_the_same() {
    struct Liar(usize);
    impl Payload for Liar {
        fn encoded_len(&self) -> usize {
            self.0
        }
        fn encode(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&filled(1, 100_000));
        }
    }
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    commit(&journal, |unit| {
        unit.enqueue(q(1), s(1), Arc::new(Liar(1)));
        unit.enqueue(q(1), s(2), Arc::new(Liar(10_000_000)));
    });
    drop(journal);
    let (journal, recovered) = open_memory(&store);
    let held = held(&journal, &recovered, q(1));
    assert!(
        held.iter()
            .all(|(_, _, payload)| *payload == filled(1, 100_000))
    );
}

#[test]
fn a_forgotten_queue_frees_its_blocks_and_stays_forgotten() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    for seq in 1..=20 {
        commit(&journal, |unit| {
            unit.enqueue(q(1), s(seq), body(filled(seq, 5000)));
            unit.enqueue(q(2), s(seq), body("other"));
        });
    }
    let before = journal.stats().block_bytes_live;
    commit(&journal, |unit| {
        unit.forget(q(1));
        unit.settle(q(2), s(1), s(19));
    });
    journal.close().unwrap();
    let (journal, recovered) = open_memory(&store);
    assert!(!recovered.queues.contains_key(&q(1)));
    assert_eq!(seqs(&journal, &recovered, q(2)), [20]);
    assert_eq!(
        recovered.next_queue,
        q(3),
        "a forgotten identity is not given again"
    );
    let after = journal.stats();
    assert_eq!(after.blocks_live, 1, "only the block of message 20 is left");
    assert!(after.block_bytes_live * 10 < before);
}

#[test]
fn settled_definitions_stay_away_through_checkpoints() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    commit(&journal, |unit| {
        ["a", "b"]
            .iter()
            .for_each(|key| unit.define((*key).into(), b"1".to_vec()))
    });
    journal.close().unwrap();
    let (journal, _) = open_memory(&store);
    commit(&journal, |unit| {
        unit.undefine(b"a".to_vec());
        unit.define(b"b".to_vec(), b"2".to_vec());
    });
    journal.close().unwrap();
    for _ in 0..3 {
        let (journal, recovered) = open_memory(&store);
        assert_eq!(recovered.definitions.len(), 1);
        assert_eq!(recovered.definitions[&b"b".to_vec()].as_ref(), b"2");
        journal.close().unwrap();
    }
}

#[test]
fn a_waiter_is_woken_once_a_commit_however_often_it_asked() {
    let (journal, _) = open(MemoryStore::new());
    let (bell, waiter) = Bell::new();
    let (other_bell, other) = Bell::new();
    let hold = journal.begin();
    for seq in 1..=10 {
        // Nested in `hold`, so all of them land in one commit.
        let mut unit = journal.begin();
        unit.enqueue(q(1), s(seq), body("x"));
        unit.wait(&waiter);
        unit.wait(&other);
    }
    drop(hold);
    bell.wait_for(1);
    other_bell.wait_for(1);
    commit(&journal, |_| {});
    assert_eq!((bell.rings(), other_bell.rings()), (1, 1));
    assert_eq!(journal.stats().commits, 1);
}

#[test]
fn a_unit_is_never_split_over_two_commits() {
    let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
    let (journal, _) = open(store);
    let writers: Vec<_> = (1..=4_u64)
        .map(|queue| {
            let journal = journal.clone();
            thread::spawn(move || {
                for seq in 1..=300 {
                    let mut unit = journal.begin();
                    unit.enqueue(q(queue), s(seq), body("left"));
                    unit.enqueue(q(queue + 100), s(seq), body("right"));
                }
            })
        })
        .collect();
    let mut looks = Vec::new();
    while writers.iter().any(|writer| !writer.is_finished()) {
        looks.push(faults.after_power_cut(faults.unsynced() / 2));
        thread::yield_now();
    }
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    journal.close().unwrap();
    looks.push(faults.after_power_cut(0));
    for disk in looks.iter().rev().step_by(looks.len() / 20 + 1) {
        let (journal, recovered) = open_memory(disk);
        for queue in 1..=4 {
            assert_eq!(
                seqs(&journal, &recovered, q(queue)),
                seqs(&journal, &recovered, q(queue + 100))
            );
        }
    }
    assert_eq!(seqs_in(looks.last().unwrap(), q(1)).len(), 300);
}

#[test]
fn an_error_poisons_the_journal_and_everybody_learns_of_it() {
    let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
    let (journal, _) = open(store);
    let first = commit(&journal, |unit| unit.enqueue(q(1), s(1), body("safe")));
    let (told, failure) = mpsc::channel();
    journal.on_failure(Box::new(move |error| told.send(error.to_string()).unwrap()));
    faults.fail_at(faults.operations() + 2);
    let second = commit(&journal, |unit| unit.enqueue(q(1), s(2), body("lost")));
    assert!(journal.is_poisoned());
    assert!(journal.durable() >= first && journal.durable() < second);
    assert!(failure.recv().unwrap().contains("made to fail"));
    // Late work is discarded, late waiters and late listeners are told all the same.
    for _ in 0..3 {
        commit(&journal, |unit| unit.enqueue(q(1), s(3), body("late")));
    }
    assert!(journal.durable() < second);
    let (told, failure) = mpsc::channel();
    journal.on_failure(Box::new(move |error| told.send(error.to_string()).unwrap()));
    assert!(failure.recv().unwrap().contains("made to fail"));
    assert!(matches!(
        journal.close(),
        Err(StorageError::Injected { .. })
    ));
    assert_eq!(seqs_in(&faults.after_power_cut(usize::MAX), q(1)), [1, 2]);
    assert_eq!(seqs_in(&faults.after_power_cut(0), q(1)), [1]);
}

#[test]
fn a_panic_of_the_store_or_of_a_payload_is_a_failure_too() {
    struct Bomb;
    impl Payload for Bomb {
        fn encoded_len(&self) -> usize {
            1
        }
        fn encode(&self, _: &mut Vec<u8>) {
            panic!("a payload that cannot be encoded");
        }
    }
    let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
    let (journal, _) = open(store);
    faults.panic_instead();
    faults.fail_at(faults.operations() + 1);
    commit(&journal, |unit| unit.enqueue(q(1), s(1), body("x")));
    assert!(
        journal
            .failure()
            .unwrap()
            .to_string()
            .contains("panicked while writing a commit")
    );

    let (journal, _) = open(MemoryStore::new());
    let number = commit(&journal, |unit| unit.enqueue(q(1), s(1), Arc::new(Bomb)));
    assert!(journal.is_poisoned() && journal.durable() < number);
    assert!(
        journal
            .failure()
            .unwrap()
            .to_string()
            .contains("cannot be encoded")
    );
}

#[test]
fn a_waiter_that_panics_costs_no_other_its_wake() {
    struct Bomb;
    impl Waiter for Bomb {
        fn commit_settled(&self) {
            panic!("a waiter that panics");
        }
    }
    let (journal, _) = open(MemoryStore::new());
    let bomb: Arc<dyn Waiter> = Arc::new(Bomb);
    let bells: Vec<_> = (0..5).map(|_| Bell::new()).collect();
    let mut unit = journal.begin();
    bells[..3].iter().for_each(|(_, waiter)| unit.wait(waiter));
    unit.wait(&bomb);
    bells[3..].iter().for_each(|(_, waiter)| unit.wait(waiter));
    drop(unit);
    bells.iter().for_each(|(bell, _)| bell.wait_for(1));
    assert!(journal.close().is_err());
}

#[test]
fn closing_writes_what_is_pending_and_work_after_it_is_discarded() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    let (bell, waiter) = Bell::new();
    let mut unit = journal.begin();
    unit.enqueue(q(1), s(1), body("pending"));
    unit.wait(&waiter);
    let number = unit.number();
    drop(unit);
    journal.close().unwrap();
    journal.close().unwrap();
    assert_eq!(bell.rings(), 1);
    assert!(journal.durable() >= number);
    assert!(matches!(*journal.failure().unwrap(), StorageError::Closed));
    let mut unit = journal.begin();
    unit.enqueue(q(1), s(2), body("late"));
    unit.wait(&waiter);
    drop(unit);
    assert_eq!(bell.rings(), 2, "a late waiter is told too");
    assert_eq!(seqs_in(&store, q(1)), [1]);
}

#[test]
fn the_last_handle_may_be_dropped_by_a_waiter() {
    struct Owner(parking_lot::Mutex<Option<Journal>>, mpsc::Sender<()>);
    impl Waiter for Owner {
        fn commit_settled(&self) {
            drop(self.0.lock().take());
            let _ = self.1.send(());
        }
    }
    let (journal, _) = open(MemoryStore::new());
    let (told, dropped) = mpsc::channel();
    let owner: Arc<dyn Waiter> =
        Arc::new(Owner(parking_lot::Mutex::new(Some(journal.clone())), told));
    let mut unit = journal.begin();
    unit.wait(&owner);
    drop(unit);
    drop(owner);
    drop(journal);
    dropped.recv().unwrap();
}

#[test]
fn a_unit_opened_inside_another_does_not_wait_for_the_writer() {
    let (journal, _) = open(MemoryStore::new());
    let entered = AtomicU64::new(0);
    thread::scope(|scope| {
        for queue in 1..=2 {
            let (journal, entered) = (&journal, &entered);
            scope.spawn(move || {
                for seq in 1..=2000 {
                    let mut outer = journal.begin();
                    outer.enqueue(q(queue), s(seq), body("x"));
                    let mut inner = journal.begin();
                    inner.settle(q(queue), s(seq), s(seq));
                    entered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(entered.into_inner(), 4000);
    journal.close().unwrap();
    assert_eq!(
        journal.stats().messages_annihilated,
        4000,
        "what was open together was cut together"
    );
}

#[test]
fn the_backlog_counts_what_is_not_durable_yet() {
    let (journal, _) = open(MemoryStore::new());
    let hold = journal.begin();
    let mut unit = journal.begin();
    unit.enqueue(q(1), s(1), body(filled(1, 10_000)));
    drop(unit);
    assert!(journal.backlog_bytes() >= 10_000);
    drop(hold);
    commit(&journal, |_| {});
    assert_eq!(journal.backlog_bytes(), 0);
    assert!(journal.backlog_limit_bytes() > 0);
}

#[test]
fn a_commit_delay_gathers_many_operations_into_one_commit() {
    let options = JournalOptions {
        commit_delay: std::time::Duration::from_secs(3600),
        commit_delay_operations: 2,
        ..JournalOptions::default()
    };
    let store = MemoryStore::new();
    let (journal, _) = Journal::open(Box::new(store.clone()), options).unwrap();
    // A lone operation is not delayed.
    commit(&journal, |unit| unit.enqueue(q(1), s(1), body("alone")));
    for seq in 2..=100 {
        let mut unit = journal.begin();
        unit.enqueue(q(1), s(seq), body("x"));
        unit.enqueue(q(2), s(seq), body("x"));
    }
    // Closing ends the wait.
    journal.close().unwrap();
    assert_eq!(journal.stats().commits, 2);
    assert_eq!(seqs_in(&store, q(1)).len(), 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn settles_in_any_order_leave_exactly_the_rest(
        order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(),
        count in 0..60_usize,
        per_commit in 1..20_usize,
    ) {
        let store = MemoryStore::new();
        let (journal, _) = Journal::open(Box::new(store.clone()), busy_checkpoints()).unwrap();
        commit(&journal, |unit| (1..=60).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 3000)))));
        for seqs in order[..count].chunks(per_commit) {
            commit(&journal, |unit| seqs.iter().for_each(|&seq| unit.settle(q(1), s(seq), s(seq))));
        }
        drop(journal);
        let mut left = order[count..].to_vec();
        left.sort_unstable();
        prop_assert_eq!(seqs_in(&store, q(1)), left);
    }
}
