//! What every store must do, whichever engine is behind it.

use std::ops::ControlFlow;

use std::path::Path;

use millpond::storage::{
    Change, Engine, FjallOptions, FjallStore, MemoryStore, SledOptions, SledStore, Store,
    StoreRead, VALUE_SIZE_MAX,
};

fn put(key: &[u8], value: &[u8]) -> Change {
    Change::Put(key.to_vec(), value.to_vec())
}

fn remove(key: &[u8]) -> Change {
    Change::Remove(key.to_vec())
}

fn keys(reader: &dyn StoreRead, from: &[u8], to: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    reader
        .scan(from, to, &mut |key, _| {
            keys.push(key.to_vec());
            if keys.len() == limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    keys
}

fn changes_take_effect_in_order(store: &mut dyn Store) {
    let changes = vec![
        put(b"a", b"1"),
        put(b"a", b"2"),
        put(b"b", b"1"),
        remove(b"b"),
        remove(b"c"),
        put(b"c", b"3"),
    ];
    store.write(changes).unwrap();
    let reader = store.reader();
    assert_eq!(reader.get(b"a").unwrap().unwrap(), &b"2"[..]);
    assert_eq!(reader.get(b"b").unwrap(), None);
    assert_eq!(reader.get(b"c").unwrap().unwrap(), &b"3"[..]);
}

fn a_scan_is_ordered_bounded_and_can_be_ended(store: &mut dyn Store) {
    let numbered = |number: u32| [b"n".as_slice(), &number.to_be_bytes()].concat();
    store
        .write(
            (0..1000)
                .rev()
                .map(|number| put(&numbered(number), b"x"))
                .collect(),
        )
        .unwrap();
    let reader = store.reader();
    let all = keys(reader.as_ref(), b"n", b"o", usize::MAX);
    assert_eq!(all, (0..1000).map(numbered).collect::<Vec<_>>());
    assert_eq!(
        keys(reader.as_ref(), &numbered(10), &numbered(20), usize::MAX).len(),
        10
    );
    assert_eq!(keys(reader.as_ref(), b"n", b"o", 7).len(), 7);
    assert!(keys(reader.as_ref(), b"o", b"n", usize::MAX).is_empty());
}

fn the_longest_value_and_an_empty_one_come_back(store: &mut dyn Store) {
    let long = vec![7; VALUE_SIZE_MAX];
    store
        .write(vec![put(b"long", &long), put(b"empty", b"")])
        .unwrap();
    store.sync().unwrap();
    let reader = store.reader();
    assert!(reader.get(b"long").unwrap().unwrap() == long);
    assert!(reader.get(b"empty").unwrap().unwrap().is_empty());
}

fn a_reader_sees_what_is_written_after_it_was_made(store: &mut dyn Store) {
    let reader = store.reader();
    store.write(vec![put(b"later", b"1")]).unwrap();
    let read = std::thread::spawn(move || reader.get(b"later").unwrap());
    assert_eq!(read.join().unwrap().unwrap(), &b"1"[..]);
}

fn syncs_are_counted_and_housekeeping_changes_nothing(store: &mut dyn Store) {
    let before = store.stats().syncs;
    store.write(vec![put(b"kept", b"1")]).unwrap();
    store.sync().unwrap();
    store.sync().unwrap();
    store.maintain().unwrap();
    assert_eq!(store.stats().syncs, before + 2);
    assert!(store.stats().size_on_disk_bytes > 0);
    assert_eq!(store.reader().get(b"kept").unwrap().unwrap(), &b"1"[..]);
}

fn very_many_changes_at_once_are_all_applied(store: &mut dyn Store) {
    let numbered = |number: u32| [b"m".as_slice(), &number.to_be_bytes()].concat();
    store
        .write(
            (0..5000)
                .map(|number| put(&numbered(number), &number.to_be_bytes()))
                .collect(),
        )
        .unwrap();
    store
        .write(
            (0..5000)
                .filter(|number| number % 3 > 0)
                .map(|number| remove(&numbered(number)))
                .collect(),
        )
        .unwrap();
    assert_eq!(
        keys(store.reader().as_ref(), b"m", b"n", usize::MAX).len(),
        1667
    );
}

/// The log's keys begin with 1, lie between those of everything else, grow at one end and go at the other.
fn a_log_that_moves_on_keeps_its_place_among_the_other_keys(store: &mut dyn Store) {
    let numbered = |number: u32| [b"\x01".as_slice(), &number.to_be_bytes()].concat();
    let (before, after) = (b"\x00before".to_vec(), b"\x02after".to_vec());
    store
        .write(vec![put(&before, b"1"), put(&after, b"2")])
        .unwrap();
    for round in 0..8 {
        let (first, next) = (round * 400, (round + 1) * 400);
        let blocks = (first..next).map(|number| put(&numbered(number), &[7; 2000]));
        store.write(blocks.collect()).unwrap();
        store.sync().unwrap();
        // One of the first round stays for ever, as if a slow consumer held it.
        let settled = (first..next - 10).filter(|&number| number != 350);
        store
            .write(settled.map(|number| remove(&numbered(number))).collect())
            .unwrap();
        store.sync().unwrap();
        store.maintain().unwrap();
        store.sync().unwrap();
    }
    let rounds = (0..8).flat_map(|round| round * 400 + 390..(round + 1) * 400);
    let left: Vec<_> = [350].into_iter().chain(rounds).map(numbered).collect();
    let reader = store.reader();
    let wanted = [vec![before.clone()], left.clone(), vec![after]].concat();
    assert_eq!(keys(reader.as_ref(), b"\x00b", b"\x03", usize::MAX), wanted);
    assert_eq!(keys(reader.as_ref(), b"\x01", b"\x02", usize::MAX), left);
    assert_eq!(reader.get(&numbered(349)).unwrap(), None);
    assert!(reader.get(&numbered(350)).unwrap().is_some());
    store
        .write(left.iter().map(|key| remove(key)).collect())
        .unwrap();
    store.sync().unwrap();
    store.maintain().unwrap();
    // What comes next has a higher number than anything that is there, not than anything that ever was.
    store.write(vec![put(&numbered(3199), b"again")]).unwrap();
    store.sync().unwrap();
    assert_eq!(keys(reader.as_ref(), b"\x01", b"\x02", 9), [numbered(3199)]);
}

const ALL: [fn(&mut dyn Store); 7] = [
    changes_take_effect_in_order,
    a_scan_is_ordered_bounded_and_can_be_ended,
    the_longest_value_and_an_empty_one_come_back,
    a_reader_sees_what_is_written_after_it_was_made,
    syncs_are_counted_and_housekeeping_changes_nothing,
    very_many_changes_at_once_are_all_applied,
    a_log_that_moves_on_keeps_its_place_among_the_other_keys,
];

fn open(engine: Engine, path: &Path) -> Box<dyn Store> {
    match engine {
        Engine::Sled => Box::new(SledStore::open(path, &SledOptions::default()).unwrap()),
        Engine::Fjall => Box::new(FjallStore::open(path, &FjallOptions::default()).unwrap()),
    }
}

#[test]
fn the_store_in_memory_conforms() {
    ALL.iter().for_each(|check| check(&mut MemoryStore::new()));
}

fn the_store_on_disk_conforms(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(engine, directory.path());
    ALL.iter().for_each(|check| check(store.as_mut()));
}

#[test]
fn a_fjall_store_with_the_smallest_memory_tables_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let options = FjallOptions {
        cache_bytes: 1 << 20,
        memtable_bytes: 1 << 20,
        journals_bytes: 0,
    };
    let mut store = FjallStore::open(directory.path(), &options).unwrap();
    ALL.iter().for_each(|check| check(&mut store));
}

fn a_store_on_disk_keeps_its_contents_when_reopened(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3_u8 {
        let mut store = open(engine, directory.path());
        assert_eq!(
            keys(store.reader().as_ref(), b"", b"\xff", usize::MAX).len(),
            usize::from(round)
        );
        store.write(vec![put(&[round], &[round; 100])]).unwrap();
        store.sync().unwrap();
    }
}

fn the_place_of_a_log_that_moved_on_is_kept_when_reopened(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let block = |number: u32| [b"\x01".as_slice(), &number.to_be_bytes()].concat();
    for round in 0..6 {
        let mut store = open(engine, directory.path());
        let held = keys(store.reader().as_ref(), b"", b"\xff", usize::MAX);
        let wanted = round * 1000 - round.min(1)..round * 1000;
        assert_eq!(held, wanted.map(block).collect::<Vec<_>>(), "{engine}");
        let blocks =
            (round * 1000..(round + 1) * 1000).map(|number| put(&block(number), &[1; 4000]));
        store.write(blocks.collect()).unwrap();
        store.sync().unwrap();
        let settled = (round * 1000 - round.min(1)..(round + 1) * 1000 - 1)
            .map(|number| remove(&block(number)));
        store.write(settled.collect()).unwrap();
        store.sync().unwrap();
        // Half of the times there is no chance to clean up before the end.
        if round % 2 == 0 {
            store.maintain().unwrap();
            store.sync().unwrap();
        }
    }
}

test_each_engine!(
    the_store_on_disk_conforms,
    a_store_on_disk_keeps_its_contents_when_reopened,
    the_place_of_a_log_that_moved_on_is_kept_when_reopened,
);
