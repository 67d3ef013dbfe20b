//! Whatever is damaged or missing is reported, and the rest is still there.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use millpond::storage::{
    Change, Journal, JournalOptions, Loss, MemoryStore, QueueId, Recovered, Store, StoreRead,
};

use crate::support::{self, Held, body, commit, filled, open_memory, q, s, seqs, write};

/// What a store holds, and whether anything was said to be lost.
struct Contents {
    queues: BTreeMap<u64, Vec<Held>>,
    definitions: BTreeMap<Vec<u8>, Vec<u8>>,
    losses: bool,
}

fn contents(journal: &Journal, recovered: &Recovered) -> Contents {
    let mut losses = !recovered.losses.is_empty();
    let mut queues = BTreeMap::new();
    for &queue in recovered.queues.keys() {
        let (messages, lost) = support::contents(journal, recovered, queue);
        losses |= !lost.is_empty();
        if !messages.is_empty() {
            queues.insert(queue.0, messages);
        }
    }
    let definitions = recovered.definitions.iter();
    Contents {
        queues,
        definitions: definitions
            .map(|(key, value)| (key.clone(), value.to_vec()))
            .collect(),
        losses,
    }
}

fn whole(entries: &[(Vec<u8>, Vec<u8>)]) -> Contents {
    let (journal, recovered) = open_memory(&copy_of(entries));
    contents(&journal, &recovered)
}

/// Opening that reads every message at once.
fn open_verifying(store: &MemoryStore) -> (Journal, Recovered) {
    let options = JournalOptions {
        verify: true,
        ..JournalOptions::default()
    };
    Journal::open(Box::new(store.clone()), options).unwrap()
}

fn entries(store: &MemoryStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    store
        .scan(&[], &[0xff], &mut |key, value| {
            entries.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

fn copy_of(entries: &[(Vec<u8>, Vec<u8>)]) -> MemoryStore {
    let mut store = MemoryStore::new();
    let puts = entries
        .iter()
        .map(|(key, value)| Change::Put(key.clone(), value.clone()));
    store.write(puts.collect()).unwrap();
    store
}

/// A log with a checkpoint in its middle: several queues, a fan-out, long payloads, definitions, settles.
fn busy_log() -> MemoryStore {
    let store = MemoryStore::new();
    let options = JournalOptions {
        checkpoint_commits: 6,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(Box::new(store.clone()), options).unwrap();
    for seq in 1..=10 {
        commit(&journal, |unit| {
            let shared = body(filled(seq, 300));
            (1..=3).for_each(|queue| unit.enqueue(q(queue), s(2 * seq), shared.clone()));
            unit.enqueue(q(1), s(2 * seq + 1), body(filled(seq + 100, 90_000)));
            unit.define(vec![seq.to_le_bytes()[0]], filled(seq, 40));
            unit.settle(q(2), s(1), s(seq));
            unit.returned(q(3), s(2 * seq), 2);
            if seq == 4 {
                unit.define(b"long".to_vec(), filled(4, 100_000));
                // Enough for blocks of its own.
                (1..=40)
                    .for_each(|number| unit.enqueue(q(4), s(number), body(filled(number, 2000))));
            }
        });
    }
    assert!(journal.stats().checkpoints == 1);
    drop(journal);
    store
}

/// Damage shows when the store is opened or when messages are read; with verifying, when it is opened.
fn check_flip(whole: &Contents, store: &MemoryStore, what: &str) {
    for verify in [false, true] {
        let options = JournalOptions {
            verify,
            ..JournalOptions::default()
        };
        // A store of its own each time: opening may write.
        let store = copy_of(&entries(store));
        let Ok((journal, recovered)) = Journal::open(Box::new(store), options) else {
            continue;
        };
        let found = contents(&journal, &recovered);
        if (&found.queues, &found.definitions) != (&whole.queues, &whole.definitions) {
            assert!(found.losses, "{what} is lost and nobody says so");
            assert!(
                !verify || !recovered.losses.is_empty(),
                "{what} is lost and opening does not say so"
            );
        }
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let store = busy_log();
    let entries = entries(&store);
    let whole = whole(&entries);
    assert_eq!(whole.queues.len(), 4);
    for (place, (key, value)) in entries.iter().enumerate() {
        // Every header octet, then samples.
        let bits = (0..40 * 8)
            .step_by(5)
            .chain((320..value.len() * 8).step_by(4099));
        for bit in bits.filter(|bit| bit / 8 < value.len()) {
            let mut damaged = entries.clone();
            damaged[place].1[bit / 8] ^= 1 << (bit % 8);
            check_flip(&whole, &copy_of(&damaged), &format!("bit {bit} of {key:?}"));
        }
    }
}

#[test]
fn no_missing_value_goes_unnoticed_but_the_end_of_the_last_commit() {
    let store = busy_log();
    let entries = entries(&store);
    let whole = whole(&entries);
    let last_final = entries.iter().rposition(|(key, _)| key[0] == 1).unwrap();
    for (place, (key, _)) in entries
        .iter()
        .enumerate()
        .filter(|(place, _)| *place != last_final)
    {
        let mut damaged = entries.clone();
        damaged.remove(place);
        check_flip(&whole, &copy_of(&damaged), &format!("the value of {key:?}"));
    }
    // Without its end the last commit never happened.
    let mut torn = entries.clone();
    torn.remove(last_final);
    let (_journal, recovered) = open_memory(&copy_of(&torn));
    assert_eq!(recovered.losses, []);
    assert_eq!(recovered.last_commit.0, 9);
}

#[test]
fn swapped_values_are_noticed() {
    let store = busy_log();
    let entries = entries(&store);
    let whole = whole(&entries);
    for place in 1..entries.len() {
        let mut damaged = entries.clone();
        let (value, before) = (damaged[place].1.clone(), damaged[place - 1].1.clone());
        (damaged[place].1, damaged[place - 1].1) = (before, value);
        check_flip(
            &whole,
            &copy_of(&damaged),
            &format!("{:?}", entries[place].0),
        );
    }
}

/// Damages the block that holds what `find` is looking for.
fn damage(store: &MemoryStore, find: &[u8]) -> MemoryStore {
    let mut entries = entries(store);
    let holds = |(key, value): &(Vec<u8>, Vec<u8>)| {
        key[0] == 1 && value.windows(find.len()).any(|octets| octets == find)
    };
    let place = entries.iter().position(holds).expect("a block holds it");
    *entries[place].1.last_mut().unwrap() ^= 1;
    copy_of(&entries)
}

/// What is lost of a queue, said at the opening or by reading it.
fn lost(journal: &Journal, recovered: &Recovered, queue: QueueId) -> Vec<(u64, u64)> {
    let said = recovered.losses.iter().map(|loss| match *loss {
        Loss::Messages {
            queue: of,
            first,
            last,
        } if of == queue => (first.0, last.0),
        _ => panic!("{loss}"),
    });
    let found = support::contents(journal, recovered, queue).1;
    said.chain(found).collect()
}

#[test]
fn a_damaged_block_is_reported_by_queue_and_number_after_every_start_until_it_is_settled() {
    for (close, verify) in [(true, false), (false, false), (true, true), (false, true)] {
        let store = MemoryStore::new();
        let (journal, _) = open_memory(&store);
        commit(&journal, |unit| {
            (1..=100).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 2000))));
            unit.enqueue(q(2), s(1), body("elsewhere"));
            unit.enqueue(q(2), s(2), body("elsewhere"));
        });
        commit(&journal, |unit| unit.settle(q(1), s(1), s(40)));
        if close {
            journal.close().unwrap();
        }
        drop(journal);
        let damaged = damage(&store, &filled(50, 2000));
        let open = || {
            if verify {
                open_verifying(&damaged)
            } else {
                open_memory(&damaged)
            }
        };
        let mut range = (0, 0);
        for start in 0..2 {
            let (journal, recovered) = open();
            let lost = lost(&journal, &recovered, q(1));
            let [(first, last)] = lost[..] else {
                panic!("{lost:?}")
            };
            range = (first, last);
            assert!(first > 40 && first <= 50 && last >= 50, "{first} to {last}");
            // The log behind the last checkpoint is read at the start, and what verifying is for.
            let at_start = verify || !close && start == 0;
            assert_eq!(recovered.losses.len(), usize::from(at_start));
            let rest: Vec<_> = (41..=100)
                .filter(|seq| !(first..=last).contains(seq))
                .collect();
            let (held, _) = support::contents(&journal, &recovered, q(1));
            let held: Vec<_> = held.into_iter().map(|(seq, ..)| seq).collect();
            assert_eq!(held, rest, "the other blocks are up");
            assert_eq!(seqs(&journal, &recovered, q(2)), [1, 2]);
            journal.close().unwrap();
        }
        let (journal, _) = open();
        commit(&journal, |unit| unit.settle(q(1), s(range.0), s(range.1)));
        journal.close().unwrap();
        let (journal, recovered) = open();
        assert_eq!(lost(&journal, &recovered, q(1)), []);
    }
}

#[test]
fn a_damaged_piece_of_a_long_message_loses_that_message_alone() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    commit(&journal, |unit| {
        (1..=3).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 300_000))))
    });
    drop(journal);
    let damaged = damage(&store, &filled(2, 300_000)[..1000]);
    let (journal, recovered) = open_memory(&damaged);
    let (held, lost) = support::contents(&journal, &recovered, q(1));
    let held: Vec<_> = held.into_iter().map(|(seq, ..)| seq).collect();
    assert_eq!((held, lost), (vec![1, 3], vec![(2, 2)]));
    let (journal, recovered) = open_verifying(&damaged);
    assert_eq!(
        recovered.losses,
        [Loss::Messages {
            queue: q(1),
            first: s(2),
            last: s(2)
        }]
    );
    assert_eq!(seqs(&journal, &recovered, q(1)), [1, 3]);
    assert_eq!(recovered.queues[&q(1)].live, [(s(1), s(1)), (s(3), s(3))]);
}

#[test]
fn a_hole_in_the_log_is_reported_and_what_follows_is_there() {
    let store = MemoryStore::new();
    let (journal, _) = open_memory(&store);
    (1..=5).for_each(|seq| write(&journal, |unit| unit.enqueue(q(1), s(seq), body("x"))));
    drop(journal);
    let mut entries = entries(&store);
    entries.retain(|(key, _)| !(key[0] == 1 && [2, 3].contains(&key[8])));
    let holed = copy_of(&entries);
    let (journal, recovered) = open_memory(&holed);
    let lost = millpond::storage::LogIndex;
    assert_eq!(
        recovered.losses,
        [Loss::Commits {
            first: lost(2),
            last: lost(3)
        }]
    );
    assert_eq!(seqs(&journal, &recovered, q(1)), [1, 4, 5]);
    // The log goes on.
    commit(&journal, |unit| unit.enqueue(q(1), s(6), body("x")));
    journal.close().unwrap();
    let (journal, recovered) = open_memory(&holed);
    assert_eq!(recovered.losses, []);
    assert_eq!(seqs(&journal, &recovered, q(1)), [1, 4, 5, 6]);
}
