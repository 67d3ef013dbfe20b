//! Opening a data directory: what is accepted, what is refused, and what the operator is told.

use std::fs;
use std::path::Path;

use millpond::storage::{
    DirectoryOptions, Engine, FjallOptions, FjallStore, Journal, Loss, Recovered, SledOptions,
    SledStore, StorageError, open_directory,
};

use crate::engines::kept_by;
use crate::support::{body, commit, filled, held, q, s, seqs, write};

fn open(engine: Engine, path: &Path) -> Result<(Journal, Recovered), StorageError> {
    open_directory(path, kept_by(engine))
}

fn open_accepting_loss(engine: Engine, path: &Path) -> (Journal, Recovered) {
    let options = DirectoryOptions {
        accept_data_loss: true,
        ..kept_by(engine)
    };
    open_directory(path, options).expect("the loss is accepted")
}

fn refusal(engine: Engine, path: &Path) -> String {
    let error = match open(engine, path) {
        Ok(_) => panic!("the directory is served"),
        Err(error) => error.to_string(),
    };
    assert!(
        error.contains(path.to_str().unwrap()),
        "it names the path: {error}"
    );
    error
}

/// A directory with messages 1 to `count` of queue 1, one a commit, closed in order.
fn filled_directory(engine: Engine, count: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(engine, directory.path()).unwrap();
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

fn a_new_directory_is_created_and_keeps_what_it_is_given(engine: Engine) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("deeply/nested");
    let (journal, recovered) = open(engine, &path).unwrap();
    assert!(recovered.clean && recovered.queues.is_empty());
    commit(&journal, |unit| {
        unit.define(b"queue".to_vec(), b"orders".to_vec());
        unit.enqueue(q(1), s(1), body("one"));
        unit.enqueue(q(1), s(2), body(filled(2, 1 << 20)));
    });
    journal.close().unwrap();
    let (journal, recovered) = open(engine, &path).unwrap();
    assert!(recovered.clean);
    assert!(
        held(&journal, &recovered, q(1)) == [(1, 0, b"one".to_vec()), (2, 0, filled(2, 1 << 20))]
    );
    // Not closed this time.
    commit(&journal, |unit| unit.settle(q(1), s(1), s(1)));
    drop(journal);
    let (journal, recovered) = open(engine, &path).unwrap();
    assert!(!recovered.clean);
    assert_eq!(seqs(&journal, &recovered, q(1)), [2]);
}

fn a_second_journal_on_the_directory_is_refused_until_the_first_is_closed(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(engine, directory.path()).unwrap();
    assert!(refusal(engine, directory.path()).contains("in use by another millpond"));
    journal.close().unwrap();
    open(engine, directory.path()).unwrap();
}

fn a_directory_full_of_something_else_is_refused_and_left_alone(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.txt"), b"years of work").unwrap();
    assert!(refusal(engine, directory.path()).contains("'thesis.txt'"));
    assert!(!directory.path().join("store").exists());
}

fn a_store_directory_without_a_database_is_refused_and_left_alone(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("store")).unwrap();
    assert!(refusal(engine, directory.path()).contains("is missing"));
    assert_eq!(
        fs::read_dir(directory.path().join("store"))
            .unwrap()
            .count(),
        0
    );
}

fn a_database_without_an_identity_is_refused(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    match engine {
        Engine::Sled => drop(SledStore::open(&store, &SledOptions::default()).unwrap()),
        Engine::Fjall => drop(FjallStore::open(&store, &FjallOptions::default()).unwrap()),
    }
    assert!(refusal(engine, directory.path()).contains("no identity"));
}

fn an_unfinished_creation_is_begun_again(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("store.new")).unwrap();
    fs::write(directory.path().join("store.new/db"), b"half").unwrap();
    open(engine, directory.path()).unwrap();
    assert!(!directory.path().join("store.new").exists());
}

fn a_store_that_is_gone_is_refused_unless_the_loss_is_accepted(engine: Engine) {
    let directory = filled_directory(engine, 3);
    fs::remove_dir_all(directory.path().join("store")).unwrap();
    assert!(refusal(engine, directory.path()).contains("is missing"));
    assert!(refusal(engine, directory.path()).contains("--accept-data-loss"));
    let (journal, recovered) = open_accepting_loss(engine, directory.path());
    assert!(recovered.queues.is_empty());
    journal.close().unwrap();
    open(engine, directory.path()).unwrap();
}

fn an_older_store_is_refused_and_an_accepted_loss_is_listed(engine: Engine) {
    let directory = filled_directory(engine, 3);
    let backup = tempfile::tempdir().unwrap();
    copy(
        &directory.path().join("store"),
        &backup.path().join("store"),
    );
    let (journal, _) = open(engine, directory.path()).unwrap();
    (4..=6).for_each(|seq| write(&journal, |unit| unit.enqueue(q(1), s(seq), body("late"))));
    journal.close().unwrap();
    fs::remove_dir_all(directory.path().join("store")).unwrap();
    copy(
        &backup.path().join("store"),
        &directory.path().join("store"),
    );
    assert!(
        refusal(engine, directory.path())
            .contains("commit 6 was durable, the store ends at commit 3")
    );
    let (journal, recovered) = open_accepting_loss(engine, directory.path());
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
    assert_eq!(open(engine, directory.path()).unwrap().1.losses, []);
}

fn another_directorys_store_is_refused(engine: Engine) {
    let (one, other) = (filled_directory(engine, 3), filled_directory(engine, 9));
    fs::remove_dir_all(one.path().join("store")).unwrap();
    copy(&other.path().join("store"), &one.path().join("store"));
    assert!(refusal(engine, one.path()).contains("belongs to store"));
}

fn a_missing_or_damaged_marker_is_refused_unless_the_loss_is_accepted(engine: Engine) {
    let directory = filled_directory(engine, 3);
    let marker = directory.path().join("millpond.meta");
    fs::write(&marker, b"rubbish").unwrap();
    assert!(refusal(engine, directory.path()).contains("damaged"));
    fs::remove_file(&marker).unwrap();
    assert!(refusal(engine, directory.path()).contains("is missing"));
    let (journal, recovered) = open_accepting_loss(engine, directory.path());
    assert_eq!(seqs(&journal, &recovered, q(1)), [1, 2, 3]);
    journal.close().unwrap();
    open(engine, directory.path()).unwrap();
}

fn a_path_that_cannot_be_a_directory_is_named(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(refusal(engine, &file).starts_with("cannot create"));
}

fn a_store_made_by_another_engine_is_refused_and_left_alone(engine: Engine) {
    let directory = filled_directory(engine, 3);
    let [other] = Engine::ALL
        .into_iter()
        .filter(|&other| other != engine)
        .collect::<Vec<_>>()[..]
    else {
        panic!("there are two engines");
    };
    let said = refusal(other, directory.path());
    assert!(
        said.contains(&format!(
            "was made by {engine}, and storage.engine says {other}"
        )),
        "{said}"
    );
    assert!(
        said.contains("millpond export") && said.contains("millpond import"),
        "{said}"
    );
    let (journal, recovered) = open(engine, directory.path()).unwrap();
    assert!(recovered.clean);
    assert_eq!(seqs(&journal, &recovered, q(1)), [1, 2, 3]);
}

test_each_engine!(
    a_new_directory_is_created_and_keeps_what_it_is_given,
    a_second_journal_on_the_directory_is_refused_until_the_first_is_closed,
    a_directory_full_of_something_else_is_refused_and_left_alone,
    a_store_directory_without_a_database_is_refused_and_left_alone,
    a_database_without_an_identity_is_refused,
    an_unfinished_creation_is_begun_again,
    a_store_that_is_gone_is_refused_unless_the_loss_is_accepted,
    an_older_store_is_refused_and_an_accepted_loss_is_listed,
    another_directorys_store_is_refused,
    a_missing_or_damaged_marker_is_refused_unless_the_loss_is_accepted,
    a_path_that_cannot_be_a_directory_is_named,
    a_store_made_by_another_engine_is_refused_and_left_alone,
);

/// Rule 2 of the fjall store.
#[test]
fn a_fjall_journal_that_is_damaged_in_its_middle_is_noticed() {
    let directory = filled_directory(Engine::Fjall, 50);
    let journal = directory.path().join("store/0.jnl");
    let mut image = fs::read(&journal).unwrap();
    let wanted = filled(30, 2000);
    let payload = image
        .windows(100)
        .position(|octets| octets == &wanted[..100]);
    let payload = payload.unwrap();
    // What stands before the message's block, down to the tag that begins fjall's record.
    image[payload - 120..payload - 40].fill(0xff);
    fs::write(&journal, image).unwrap();
    let said = refusal(Engine::Fjall, directory.path());
    assert!(
        said.contains("commit 50 was durable, the store ends at commit"),
        "{said}"
    );
}
