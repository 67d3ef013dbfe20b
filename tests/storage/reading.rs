//! Reading messages back while the log goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use millpond::storage::{
    Change, FaultyStore, Fetched, Journal, JournalOptions, MemoryStore, Seq, StorageError, Store,
    StoreRead, StoreStats, Visit,
};

use crate::support::{
    body, busy_checkpoints, commit, filled, held, open, open_memory, q, s, wait_until,
};

fn numbers(fetched: &Fetched) -> Vec<u64> {
    fetched.messages.iter().map(|(seq, _)| seq.0).collect()
}

/// A store in memory that counts how many values are read, and panics over each if it is told to.
#[derive(Clone, Default)]
struct Counting {
    store: MemoryStore,
    reads: Arc<AtomicU64>,
    dies: Arc<AtomicBool>,
}

impl Store for Counting {
    fn write(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.store.write(changes)
    }
    fn sync(&mut self) -> Result<(), StorageError> {
        self.store.sync()
    }
    fn reader(&self) -> Arc<dyn StoreRead> {
        Arc::new(self.clone())
    }
    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
    fn maintain(&mut self) -> Result<(), StorageError> {
        self.store.maintain()
    }
}

impl StoreRead for Counting {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        assert!(!self.dies.load(Ordering::Relaxed), "the store is damaged");
        self.store.get(key)
    }
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        self.store.scan(from, to, visit)
    }
}

#[test]
fn what_is_durable_and_not_settled_can_be_read_and_nothing_else() {
    let (journal, _) = open(MemoryStore::new());
    commit(&journal, |unit| {
        (1..=20).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 100))));
        unit.enqueue(q(2), s(7), body("other"));
    });
    commit(&journal, |unit| unit.settle(q(1), s(5), s(6)));
    let hold = journal.begin();
    let mut unit = journal.begin();
    unit.enqueue(q(1), s(21), body("not durable yet"));
    unit.settle(q(1), s(1), s(1));
    let fetched = journal.read(q(1), s(0), s(u64::MAX), 1 << 20).unwrap();
    drop(unit);
    drop(hold);
    let wanted: Vec<u64> = (1..=20).filter(|seq| ![5, 6].contains(seq)).collect();
    assert_eq!(numbers(&fetched), wanted);
    assert_eq!((fetched.upto, &fetched.lost[..]), (s(u64::MAX), &[][..]));
    assert!(
        fetched
            .messages
            .iter()
            .all(|(seq, payload)| *payload == filled(seq.0, 100))
    );
    let part = journal.read(q(1), s(4), s(8), 1 << 20).unwrap();
    assert_eq!((numbers(&part), part.upto), (vec![4, 7, 8], s(8)));
    let nothing = journal.read(q(3), s(1), s(8), 1 << 20).unwrap();
    assert_eq!((numbers(&nothing), nothing.upto), (vec![], s(8)));
    let backwards = journal.read(q(1), s(8), s(7), 1 << 20).unwrap();
    assert!(backwards.messages.is_empty());
}

#[test]
fn a_read_ends_near_the_bytes_asked_for_but_not_before_one_message() {
    let (journal, _) = open(MemoryStore::new());
    commit(&journal, |unit| {
        (1..=100).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 1000))));
        unit.enqueue(q(1), s(101), body(filled(101, 500_000)));
        unit.enqueue(q(1), s(102), body(filled(102, 500_000)));
    });
    let one = journal.read(q(1), s(3), s(102), 0).unwrap();
    assert_eq!((numbers(&one), one.upto), (vec![3], s(3)));
    let few = journal.read(q(1), s(1), s(102), 10_000).unwrap();
    assert_eq!((numbers(&few), few.upto), ((1..=9).collect(), s(9)));
    let before_the_long_one = journal.read(q(1), s(1), s(102), 300_000).unwrap();
    assert_eq!(numbers(&before_the_long_one).last(), Some(&100));
    assert_eq!(before_the_long_one.upto, s(100));
    let long = journal.read(q(1), s(101), s(102), 10).unwrap();
    assert_eq!(numbers(&long), [101]);
    assert!(long.messages[0].1 == filled(101, 500_000));
}

#[test]
fn blocks_that_many_queues_share_are_read_a_few_times_not_once_for_each() {
    const QUEUES: u64 = 200;
    let store = Counting::default();
    let (journal, _) = open(store.clone());
    for seq in 1..=100 {
        commit(&journal, |unit| {
            (1..=QUEUES).for_each(|queue| unit.enqueue(q(queue), s(seq), body(filled(seq, 1000))));
        });
    }
    let blocks = journal.stats().blocks_live;
    let mut next = vec![1_u64; 1 + usize::try_from(QUEUES).unwrap()];
    // All queues side by side, each in an order of its own, as their consumers would.
    let mut round = 0;
    while next[1..].iter().any(|&next| next <= 100) {
        for turn in 0..QUEUES {
            let queue = 1 + (turn * 77 + round * 31) % QUEUES;
            let from = &mut next[usize::try_from(queue).unwrap()];
            if *from <= 100 {
                let fetched = journal.read(q(queue), s(*from), s(100), 64_000).unwrap();
                assert_eq!(numbers(&fetched)[0], *from);
                *from = fetched.upto.0 + 1;
            }
        }
        round += 1;
    }
    let reads = store.reads.load(Ordering::Relaxed);
    assert!(reads < 5 * blocks, "{reads} reads of {blocks} blocks");
}

#[test]
fn what_is_asked_of_the_reading_thread_is_answered_there_in_order() {
    let (journal, _) = open(MemoryStore::new());
    commit(&journal, |unit| {
        (1..=9).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 100))))
    });
    let (answer, answers) = mpsc::channel();
    for seq in 1..=9 {
        let answer = answer.clone();
        let done = move |result: Result<Fetched, StorageError>| {
            let thread = thread::current().name().map(str::to_owned);
            answer.send((numbers(&result.unwrap()), thread)).unwrap();
        };
        journal.fetch(q(1), s(seq), s(seq), 1000, Box::new(done));
    }
    for seq in 1..=9 {
        let wanted = (vec![seq], Some("millpond-read".to_owned()));
        assert_eq!(answers.recv().unwrap(), wanted);
    }
}

#[test]
fn after_a_close_or_a_failure_a_read_is_an_error_and_every_fetch_is_answered() {
    let (answer, answers) = mpsc::channel();
    let ask = |journal: &Journal| {
        let answer = answer.clone();
        let done = move |result: Result<Fetched, StorageError>| {
            answer.send(result.unwrap_err().to_string()).unwrap();
        };
        journal.fetch(q(1), s(1), s(1), 1000, Box::new(done));
        answers.recv().unwrap()
    };
    let (journal, _) = open(MemoryStore::new());
    commit(&journal, |unit| unit.enqueue(q(1), s(1), body("x")));
    journal.close().unwrap();
    let error = journal.read(q(1), s(1), s(1), 1000).unwrap_err();
    assert!(matches!(error, StorageError::Closed));
    assert_eq!(ask(&journal), error.to_string());

    let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
    let (journal, _) = open(store);
    faults.fail_at(faults.operations() + 1);
    commit(&journal, |unit| unit.enqueue(q(1), s(1), body("x")));
    let error = journal.read(q(1), s(1), s(1), 1000).unwrap_err();
    assert!(matches!(error, StorageError::Injected { .. }));
    assert_eq!(ask(&journal), error.to_string());
}

#[test]
fn the_last_handle_may_be_dropped_by_whoever_fetched() {
    let (journal, _) = open(MemoryStore::new());
    let (told, dropped) = mpsc::channel();
    let other = journal.clone();
    let (go, gone) = mpsc::channel();
    let done = move |result: Result<Fetched, StorageError>| {
        gone.recv().unwrap();
        drop((result, other));
        told.send(()).unwrap();
    };
    journal.fetch(q(1), s(1), s(1), 1000, Box::new(done));
    drop(journal);
    go.send(()).unwrap();
    dropped.recv().unwrap();
}

/// One thread enqueues, settles most of it and leaves the rest strewn over blocks that are merged again and
/// again; others read everything all the time.
#[test]
fn nothing_is_lost_to_a_reader_while_blocks_are_written_anew_and_removed() {
    let options = JournalOptions {
        // So that most reads go to the store.
        read_cache_bytes: 4000,
        ..busy_checkpoints()
    };
    let (journal, _) = Journal::open(Box::new(MemoryStore::new()), options).unwrap();
    let stays = |seq: u64| seq % 10 == 1;
    let durable = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let upto = durable.load(Ordering::Acquire);
                    let mut from = 1;
                    let mut found = Vec::new();
                    while from <= upto {
                        let fetched = journal.read(q(1), s(from), s(upto), 5000).unwrap();
                        assert_eq!(fetched.lost, []);
                        for (seq, payload) in &fetched.messages {
                            assert!(*payload == filled(seq.0, 300));
                        }
                        found.extend(numbers(&fetched).into_iter().filter(|&seq| stays(seq)));
                        from = fetched.upto.0 + 1;
                    }
                    let wanted: Vec<u64> = (1..=upto).filter(|&seq| stays(seq)).collect();
                    assert_eq!(found, wanted);
                }
            });
        }
        for start in (1..=6000_u64).step_by(10) {
            commit(&journal, |unit| {
                (start..start + 10)
                    .for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 300))));
            });
            durable.store(start + 9, Ordering::Release);
            commit(&journal, |unit| {
                unit.settle(q(1), s(start + 1), s(start + 9))
            });
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(
        journal.stats().blocks_rewritten > 300,
        "{:?}",
        journal.stats()
    );
}

#[test]
fn a_recovered_queue_says_what_it_holds_without_reading_it() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    for start in (1..=1000).step_by(50) {
        commit(&journal, |unit| {
            (start..start + 50).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 1000))));
        });
    }
    commit(&journal, |unit| {
        unit.enqueue(q(1), s(1001), body(filled(1001, 200_000)));
        unit.returned(q(1), s(700), 2);
        unit.settle(q(1), s(1), s(500));
    });
    drop(journal);
    let counting = Counting {
        store,
        ..Counting::default()
    };
    let (journal, recovered) = open(counting.clone());
    let queue = &recovered.queues[&q(1)];
    assert_eq!((queue.len(), queue.is_empty()), (501, false));
    assert_eq!(queue.live, [(s(501), s(1001))]);
    assert_eq!(queue.next_seq, s(1002));
    assert_eq!(queue.returned, [(s(700), 2)].into());
    assert!((690_000..760_000).contains(&queue.bytes), "{}", queue.bytes);
    let reads = counting.reads.load(Ordering::Relaxed);
    assert!(reads < 5, "{reads} values were read");
    assert_eq!(held(&journal, &recovered, q(1)).len(), 501);
}

#[test]
fn a_purge_of_a_deep_backlog_is_swept_away_by_an_idle_writer_also_after_a_crash() {
    let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
    let options = JournalOptions {
        checkpoint_commits: 4,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(Box::new(store), options.clone()).unwrap();
    commit(&journal, |unit| {
        (1..=1500).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 33_000))));
    });
    assert!(journal.stats().blocks_live > 1500);
    commit(&journal, |unit| unit.settle(q(1), s(1), s(1499)));
    commit(&journal, |_| {});
    for seq in 1501..=1502 {
        commit(&journal, |unit| unit.enqueue(q(1), Seq(seq), body("x")));
    }
    assert_eq!(journal.stats().checkpoints, 1);
    // Whatever was removed when the power went: the rest goes after the restart.
    for surviving in [0, 100, usize::MAX] {
        let disk = faults.after_power_cut(surviving);
        let (journal, recovered) = Journal::open(Box::new(disk.clone()), options.clone()).unwrap();
        assert_eq!(recovered.losses, []);
        wait_until("an empty store", || disk.len() < 20);
        let held = held(&journal, &recovered, q(1));
        assert_eq!(
            held.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(),
            [1500, 1501, 1502]
        );
    }
}

#[test]
fn a_value_over_which_the_store_panics_is_lost_and_the_log_goes_on() {
    let store = Counting::default();
    let (journal, _) = Journal::open(Box::new(store.clone()), JournalOptions::default()).unwrap();
    commit(&journal, |unit| unit.enqueue(q(1), s(1), body(b"one")));
    store.dies.store(true, Ordering::Relaxed);
    let (answered, answer) = mpsc::channel();
    let done = move |fetched| answered.send(fetched).expect("somebody listens");
    journal.fetch(q(1), s(1), s(9), 1 << 20, Box::new(done));
    let fetched: Fetched = answer.recv().unwrap().unwrap();
    assert!(fetched.messages.is_empty());
    assert_eq!(fetched.lost, [(s(1), s(1))]);
    store.dies.store(false, Ordering::Relaxed);
    commit(&journal, |unit| unit.enqueue(q(1), s(2), body(b"two")));
    assert_eq!(
        numbers(&journal.read(q(1), s(1), s(9), 1 << 20).unwrap()),
        [1, 2]
    );
}
