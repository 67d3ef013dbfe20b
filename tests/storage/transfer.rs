//! Export and import: the same contents, whichever engine keeps them, and nothing half.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use millpond::storage::{
    DirectoryOptions, Engine, Exported, StorageError, Transferred, export_directory,
    import_directory, open_directory,
};

use crate::engines::kept_by;
use crate::support::{body, commit, filled, held, q, s, seqs};

fn export(path: &Path, options: &DirectoryOptions) -> Result<(Exported, Vec<u8>), StorageError> {
    let mut out = Vec::new();
    let exported = export_directory(path, options, &mut out, &mut |_| {})?;
    Ok((exported, out))
}

fn exported(path: &Path) -> Vec<u8> {
    export(path, &DirectoryOptions::default()).unwrap().1
}

fn import(engine: Engine, path: &Path, mut stream: &[u8]) -> Result<Transferred, StorageError> {
    import_directory(path, kept_by(engine), &mut stream, &mut |_| {})
}

/// Definitions, queues with holes, returns and nothing in them, deleted ones, a fan-out, long messages.
fn filled_directory(engine: Engine, clean: bool) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open_directory(directory.path(), kept_by(engine)).unwrap();
    commit(&journal, |unit| {
        unit.define(b"queue/1".to_vec(), b"orders".to_vec());
        unit.define(b"queue/2".to_vec(), b"".to_vec());
        let shared = body(filled(99, 5000));
        (1..=4).for_each(|queue| unit.enqueue(q(queue), s(7), Arc::clone(&shared)));
        (8..=600).for_each(|seq| unit.enqueue(q(1), s(seq), body(filled(seq, 500))));
        unit.enqueue(q(2), s(8), body(filled(8, 300_000)));
        unit.enqueue(q(9), s(1), body("deleted"));
        unit.enqueue(q(2), s(9), body(""));
    });
    commit(&journal, |unit| {
        unit.settle(q(1), s(10), s(50));
        unit.settle(q(1), s(600), s(600));
        unit.settle(q(3), s(7), s(7));
        unit.returned(q(1), s(7), 3);
        unit.returned(q(2), s(8), 1);
        unit.forget(q(9));
    });
    if clean {
        journal.close().unwrap();
    }
    directory
}

#[test]
fn an_export_of_an_import_is_the_same_octet_for_octet_whichever_engines_are_between() {
    for clean in [true, false] {
        let first = filled_directory(Engine::Sled, clean);
        let stream = exported(first.path());
        assert_eq!(
            exported(filled_directory(Engine::Fjall, clean).path()),
            stream,
            "the engine does not show"
        );
        for way in [[Engine::Fjall, Engine::Sled], [Engine::Sled, Engine::Fjall]] {
            let mut last = stream.clone();
            for engine in way {
                let directory = tempfile::tempdir().unwrap();
                let total = import(engine, directory.path(), &last).unwrap();
                assert_eq!((total.definitions, total.queues), (2, 4));
                last = exported(directory.path());
                assert!(last == stream, "after {engine}, clean: {clean}");
            }
        }
    }
}

fn what_is_imported_is_what_was_exported(engine: Engine) {
    for clean in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let stream = exported(filled_directory(engine, clean).path());
        let path = directory.path().join("deeply/nested");
        import(engine, &path, &stream).unwrap();
        let (journal, recovered) = open_directory(&path, kept_by(engine)).unwrap();
        assert_eq!(recovered.clean, clean);
        assert_eq!(recovered.losses, []);
        assert_eq!(
            recovered.definitions[&b"queue/1".to_vec()].as_ref(),
            b"orders"
        );
        assert_eq!(recovered.definitions.len(), 2);
        // A queue's numbers go on where they were, and no queue gets the identity of a deleted one.
        assert_eq!(recovered.next_queue, q(10));
        let next = [1, 2, 3, 4].map(|queue| recovered.queues[&q(queue)].next_seq.0);
        assert_eq!(next, [601, 10, 8, 8]);
        assert_eq!(recovered.queues.len(), 4);
        let wanted: Vec<u64> = (7..10).chain(51..600).collect();
        assert_eq!(seqs(&journal, &recovered, q(1)), wanted);
        assert_eq!(
            held(&journal, &recovered, q(1))[0],
            (7, 3, filled(99, 5000))
        );
        assert!(held(&journal, &recovered, q(2))[1] == (8, 1, filled(8, 300_000)));
        assert_eq!(held(&journal, &recovered, q(2))[2], (9, 0, Vec::new()));
        assert_eq!(seqs(&journal, &recovered, q(3)), [0; 0]);
        assert_eq!(held(&journal, &recovered, q(4)), [(7, 0, filled(99, 5000))]);
        drop(journal);
    }
}

fn an_export_changes_nothing_and_can_be_made_again(engine: Engine) {
    for clean in [true, false] {
        let directory = filled_directory(engine, clean);
        assert_eq!(exported(directory.path()), exported(directory.path()));
        let (_journal, recovered) = open_directory(directory.path(), kept_by(engine)).unwrap();
        assert_eq!(recovered.clean, clean);
    }
}

fn a_directory_in_use_is_neither_exported_nor_imported_into(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let (_journal, _) = open_directory(directory.path(), kept_by(engine)).unwrap();
    let said = export(directory.path(), &kept_by(engine))
        .unwrap_err()
        .to_string();
    assert!(said.contains("in use by another millpond"), "{said}");
    let stream = exported(filled_directory(engine, true).path());
    let said = import(engine, directory.path(), &stream)
        .unwrap_err()
        .to_string();
    assert!(said.contains("in use by another millpond"), "{said}");
}

fn an_import_that_breaks_off_leaves_nothing_and_can_be_made_again(engine: Engine) {
    let stream = exported(filled_directory(engine, true).path());
    let directory = tempfile::tempdir().unwrap();
    let mut flipped = stream.clone();
    flipped[stream.len() / 2] ^= 1;
    for broken in [
        &stream[..stream.len() - 1],
        &stream[..stream.len() / 2],
        &flipped,
        b"rubbish",
    ] {
        let said = import(engine, directory.path(), broken)
            .unwrap_err()
            .to_string();
        assert!(said.starts_with("cannot read the export: "), "{said}");
        let left = ["store", "store.new", "millpond.meta"];
        assert!(
            left.iter()
                .all(|name| !directory.path().join(name).exists())
        );
    }
    // As a process that was killed leaves it.
    fs::create_dir(directory.path().join("store.new")).unwrap();
    fs::write(directory.path().join("store.new/db"), b"half").unwrap();
    import(engine, directory.path(), &stream).unwrap();
    assert_eq!(exported(directory.path()), stream);
}

test_each_engine!(
    what_is_imported_is_what_was_exported,
    an_export_changes_nothing_and_can_be_made_again,
    a_directory_in_use_is_neither_exported_nor_imported_into,
    an_import_that_breaks_off_leaves_nothing_and_can_be_made_again,
);

#[test]
fn an_import_goes_into_an_empty_directory_only() {
    let full = filled_directory(Engine::Sled, true);
    let stream = exported(full.path());
    let said = import(Engine::Sled, full.path(), &stream)
        .unwrap_err()
        .to_string();
    assert!(said.contains("holds a store already"), "{said}");
    assert_eq!(exported(full.path()), stream);
    // A store that is gone is a loss, and no place for another one.
    fs::remove_dir_all(full.path().join("store")).unwrap();
    assert!(import(Engine::Sled, full.path(), &stream).is_err());
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.txt"), b"years of work").unwrap();
    let said = import(Engine::Sled, foreign.path(), &stream)
        .unwrap_err()
        .to_string();
    assert!(said.contains("'thesis.txt'"), "{said}");
}

#[test]
fn a_directory_without_a_store_is_not_exported_and_not_made() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("nowhere");
    let said = export(&path, &DirectoryOptions::default())
        .unwrap_err()
        .to_string();
    assert!(said.contains("is missing"), "{said}");
    assert!(!path.exists());
}

#[test]
fn a_store_that_lost_something_is_exported_only_if_that_is_accepted() {
    let directory = filled_directory(Engine::Fjall, true);
    // The old store comes back, as from a backup, after more was promised.
    let backup = tempfile::tempdir().unwrap();
    let stream = exported(directory.path());
    import(Engine::Fjall, &backup.path().join("old"), &stream).unwrap();
    let (journal, _) = open_directory(&backup.path().join("old"), kept_by(Engine::Fjall)).unwrap();
    let lose = |journal: &millpond::storage::Journal| {
        commit(journal, |unit| unit.enqueue(q(1), s(700), body("late")));
    };
    lose(&journal);
    journal.close().unwrap();
    let path = backup.path().join("old");
    let journal = fs::read_dir(path.join("store")).unwrap().flatten();
    let journal = journal.map(|entry| entry.path());
    let journal = journal.filter(|path| path.extension().is_some_and(|found| found == "jnl"));
    // The tail of the last journal is what came last.
    let last = journal.max().unwrap();
    let image = fs::read(&last).unwrap();
    let late = image
        .windows(4)
        .position(|octets| octets == b"late")
        .unwrap();
    fs::File::options()
        .write(true)
        .open(&last)
        .unwrap()
        .set_len(late as u64)
        .unwrap();
    let said = export(&path, &kept_by(Engine::Fjall))
        .unwrap_err()
        .to_string();
    assert!(said.contains("--accept-data-loss"), "{said}");
    let options = DirectoryOptions {
        accept_data_loss: true,
        ..kept_by(Engine::Fjall)
    };
    let (exported, out) = export(&path, &options).unwrap();
    assert_eq!(exported.losses.len(), 1, "{:?}", exported.losses);
    let again = tempfile::tempdir().unwrap();
    import(Engine::Sled, again.path(), &out).unwrap();
    let (_journal, recovered) = open_directory(again.path(), kept_by(Engine::Sled)).unwrap();
    assert_eq!(recovered.losses, []);
    assert!(recovered.queues.contains_key(&q(1)));
}

#[test]
fn what_cannot_be_written_or_read_is_an_error() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("the cable is out"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the cable is out"))
        }
    }
    let directory = filled_directory(Engine::Sled, true);
    let options = DirectoryOptions::default();
    let error = export_directory(directory.path(), &options, &mut Broken, &mut |_| {});
    assert!(error.unwrap_err().to_string().contains("the cable is out"));
    let stream = exported(directory.path());
    let empty = tempfile::tempdir().unwrap();
    let mut input = stream[..5000].chain(Broken);
    let error = import_directory(empty.path(), options, &mut input, &mut |_| {});
    assert!(error.unwrap_err().to_string().contains("the cable is out"));
}
