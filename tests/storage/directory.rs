//! Opening a data directory: what is accepted, what is refused, and what the operator is told.

use std::fs;
use std::path::Path;

use millpond::storage::{DirectoryOptions, Journal, Loss, Recovered, StorageError, open_directory};

use crate::support::{body, commit, filled, held, q, s, seqs, write};

fn open(path: &Path) -> Result<(Journal, Recovered), StorageError> {
    open_directory(path, DirectoryOptions::default())
}

fn open_accepting_loss(path: &Path) -> (Journal, Recovered) {
    let options = DirectoryOptions {
        accept_data_loss: true,
        ..DirectoryOptions::default()
    };
    open_directory(path, options).expect("the loss is accepted")
}

fn refusal(path: &Path) -> String {
    let error = open(path)
        .expect_err("the directory is refused")
        .to_string();
    assert!(
        error.contains(path.to_str().unwrap()),
        "it names the path: {error}"
    );
    error
}

/// A directory with messages 1 to `count` of queue 1, one a commit, closed in order.
fn filled_directory(count: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path()).unwrap();
    for seq in 1..=count {
        commit(&journal, |unit| {
            unit.enqueue(q(1), s(seq), body(filled(seq, 2000)))
        });
    }
    journal.close().unwrap();
    directory
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (
            entry.as_ref().unwrap(),
            to.join(entry.as_ref().unwrap().file_name()),
        );
        if entry.path().is_dir() {
            copy(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), to).map(drop).unwrap()
        }
    }
}

#[test]
fn a_new_directory_is_created_and_keeps_what_it_is_given() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("deeply/nested");
    let (journal, recovered) = open(&path).unwrap();
    assert!(recovered.clean && recovered.queues.is_empty());
    commit(&journal, |unit| {
        unit.define(b"queue".to_vec(), b"orders".to_vec());
        unit.enqueue(q(1), s(1), body("one"));
        unit.enqueue(q(1), s(2), body(filled(2, 1 << 20)));
    });
    journal.close().unwrap();
    let (journal, recovered) = open(&path).unwrap();
    assert!(recovered.clean);
    assert!(
        held(&journal, &recovered, q(1)) == [(1, 0, b"one".to_vec()), (2, 0, filled(2, 1 << 20))]
    );
    // Not closed this time.
    commit(&journal, |unit| unit.settle(q(1), s(1), s(1)));
    drop(journal);
    let (journal, recovered) = open(&path).unwrap();
    assert!(!recovered.clean);
    assert_eq!(seqs(&journal, &recovered, q(1)), [2]);
}

#[test]
fn a_second_journal_on_the_directory_is_refused_until_the_first_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path()).unwrap();
    assert!(refusal(directory.path()).contains("in use by another millpond"));
    journal.close().unwrap();
    open(directory.path()).unwrap();
}

#[test]
fn a_directory_full_of_something_else_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.txt"), b"years of work").unwrap();
    assert!(refusal(directory.path()).contains("'thesis.txt'"));
    assert!(!directory.path().join("store").exists());
}

#[test]
fn a_store_directory_without_a_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("store")).unwrap();
    assert!(refusal(directory.path()).contains("'db' is missing"));
    assert_eq!(
        fs::read_dir(directory.path().join("store"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_database_without_an_identity_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let database = sled::Config::new()
        .path(directory.path().join("store"))
        .segment_size(16 << 20);
    drop(database.open().unwrap());
    assert!(refusal(directory.path()).contains("no identity"));
}

#[test]
fn an_unfinished_creation_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("store.new")).unwrap();
    fs::write(directory.path().join("store.new/db"), b"half").unwrap();
    open(directory.path()).unwrap();
    assert!(!directory.path().join("store.new").exists());
}

#[test]
fn a_store_that_is_gone_is_refused_unless_the_loss_is_accepted() {
    let directory = filled_directory(3);
    fs::remove_dir_all(directory.path().join("store")).unwrap();
    assert!(refusal(directory.path()).contains("is missing"));
    assert!(refusal(directory.path()).contains("--accept-data-loss"));
    let (journal, recovered) = open_accepting_loss(directory.path());
    assert!(recovered.queues.is_empty());
    journal.close().unwrap();
    open(directory.path()).unwrap();
}

#[test]
fn an_older_store_is_refused_and_an_accepted_loss_is_listed() {
    let directory = filled_directory(3);
    let backup = tempfile::tempdir().unwrap();
    copy(
        &directory.path().join("store"),
        &backup.path().join("store"),
    );
    let (journal, _) = open(directory.path()).unwrap();
    (4..=6).for_each(|seq| write(&journal, |unit| unit.enqueue(q(1), s(seq), body("late"))));
    journal.close().unwrap();
    fs::remove_dir_all(directory.path().join("store")).unwrap();
    copy(
        &backup.path().join("store"),
        &directory.path().join("store"),
    );
    assert!(refusal(directory.path()).contains("commit 6 was durable, the store ends at commit 3"));
    let (journal, recovered) = open_accepting_loss(directory.path());
    assert_eq!(seqs(&journal, &recovered, q(1)), [1, 2, 3]);
    let lost = |number| millpond::storage::LogIndex(number);
    assert_eq!(
        recovered.losses,
        [Loss::Commits {
            first: lost(4),
            last: lost(6)
        }]
    );
    journal.close().unwrap();
    // Accepted once, it is forgotten.
    assert_eq!(open(directory.path()).unwrap().1.losses, []);
}

#[test]
fn another_directorys_store_is_refused() {
    let (one, other) = (filled_directory(3), filled_directory(9));
    fs::remove_dir_all(one.path().join("store")).unwrap();
    copy(&other.path().join("store"), &one.path().join("store"));
    assert!(refusal(one.path()).contains("belongs to store"));
}

#[test]
fn a_missing_or_damaged_marker_is_refused_unless_the_loss_is_accepted() {
    let directory = filled_directory(3);
    let marker = directory.path().join("millpond.meta");
    fs::write(&marker, b"rubbish").unwrap();
    assert!(refusal(directory.path()).contains("damaged"));
    fs::remove_file(&marker).unwrap();
    assert!(refusal(directory.path()).contains("is missing"));
    let (journal, recovered) = open_accepting_loss(directory.path());
    assert_eq!(seqs(&journal, &recovered, q(1)), [1, 2, 3]);
    journal.close().unwrap();
    open(directory.path()).unwrap();
}

#[test]
fn a_path_that_cannot_be_a_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(refusal(&file).starts_with("cannot create"));
}
