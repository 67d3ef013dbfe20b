//! What one version wrote, every later one reads, or refuses by name.
//!
//! `format-1.txt` is the contents of a store, a key and a value in hexadecimal a line, as the first version
//! of the format left it in the middle of its work. It is never written again; a new format gets a file of
//! its own.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use millpond::storage::{
    Change, Journal, JournalOptions, MemoryStore, Recovered, Store, StoreRead,
};

use crate::support::{body, commit, filled, held, open_memory, q, s};

const FORMAT_1: &str = include_str!("format-1.txt");

/// Every kind of frame and page, on both sides of a checkpoint.
fn work() -> MemoryStore {
    let store = MemoryStore::new();
    let options = JournalOptions {
        checkpoint_commits: 2,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(Box::new(store.clone()), options).unwrap();
    commit(&journal, |unit| {
        unit.define(b"queue/1".to_vec(), b"orders".to_vec());
        unit.define(b"queue/2".to_vec(), b"gone".to_vec());
        let shared = body("shared");
        (1..=3).for_each(|queue| unit.enqueue(q(queue), s(1), Arc::clone(&shared)));
        (2..=9).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 20))));
    });
    commit(&journal, |unit| {
        unit.settle(q(1), s(2), s(3));
        unit.returned(q(1), s(5), 2);
    });
    let wide = body("wide");
    commit(&journal, |unit| {
        unit.undefine(b"queue/2".to_vec());
        unit.forget(q(2));
        unit.settle(q(1), s(7), s(7));
        (1000..1300).for_each(|queue| unit.enqueue(q(queue), s(1), Arc::clone(&wide)));
    });
    drop(journal);
    store
}

fn check(journal: &Journal, recovered: &Recovered) {
    assert_eq!(recovered.losses, []);
    assert_eq!(
        (recovered.last_commit.0, recovered.next_queue),
        (3, q(1300))
    );
    assert_eq!(recovered.definitions.len(), 1);
    assert_eq!(
        recovered.definitions[&b"queue/1".to_vec()].as_ref(),
        b"orders"
    );
    let wanted = [4, 5, 6, 8, 9].map(|seq| (seq, if seq == 5 { 2 } else { 0 }, filled(seq, 20)));
    assert_eq!(
        held(journal, recovered, q(1))[0],
        (1, 0, b"shared".to_vec())
    );
    assert_eq!(held(journal, recovered, q(1))[1..], wanted);
    assert!(!recovered.queues.contains_key(&q(2)));
    assert_eq!(held(journal, recovered, q(3)), [(1, 0, b"shared".to_vec())]);
    (1000..1300).for_each(|queue| {
        assert_eq!(
            held(journal, recovered, q(queue)),
            [(1, 0, b"wide".to_vec())]
        )
    });
}

fn dump(store: &MemoryStore) -> String {
    let hex = |octets: &[u8]| {
        octets.iter().fold(String::new(), |mut text, octet| {
            write!(text, "{octet:02x}").unwrap();
            text
        })
    };
    let mut text = String::new();
    store
        .scan(&[], &[0xff], &mut |key, value| {
            writeln!(text, "{} {}", hex(key), hex(value)).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    text
}

fn load(text: &str) -> MemoryStore {
    let octets = |hex: &str| {
        let pairs = (0..hex.len())
            .step_by(2)
            .map(|place| &hex[place..place + 2]);
        pairs
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect::<Vec<_>>()
    };
    let mut store = MemoryStore::new();
    let puts = text.lines().filter_map(|line| line.split_once(' '));
    store
        .write(
            puts.map(|(key, value)| Change::Put(octets(key), octets(value)))
                .collect(),
        )
        .unwrap();
    store
}

#[test]
fn the_work_of_format_1_is_read() {
    let store = load(FORMAT_1);
    let (journal, recovered) = open_memory(&store);
    check(&journal, &recovered);
    journal.close().unwrap();
    let (journal, recovered) = open_memory(&store);
    check(&journal, &recovered);
}

#[test]
fn the_same_work_is_still_written_in_the_same_octets() {
    let written = work();
    let (journal, recovered) = open_memory(&load(&dump(&written)));
    check(&journal, &recovered);
    // The identity differs from store to store; its line comes behind the checkpoint's.
    let without_identity = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("006964656e74697479"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        without_identity(&dump(&written)),
        without_identity(FORMAT_1),
        "the format has changed: raise its number"
    );
}
