//! `millpond export` and `import` as a person or a script meets them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use millpond::storage::{
    DirectoryOptions, Engine, EngineOptions, Payload, QueueId, Seq, open_directory,
};
use tempfile::TempDir;

mod support;

use support::{millpond, run, text};

struct Body(u64);

impl Payload for Body {
    fn encoded_len(&self) -> usize {
        8
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

/// A data directory with 1,000 messages.
fn filled() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let (journal, _) =
        open_directory(directory.path(), DirectoryOptions::default()).expect("a new directory");
    let mut unit = journal.begin();
    (1..=1000).for_each(|seq| unit.enqueue(QueueId(1), Seq(seq), std::sync::Arc::new(Body(seq))));
    drop(unit);
    journal.close().expect("closed in order");
    directory
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn piped(arguments: &[&str], input: Stdio) -> Output {
    let mut command: Command = millpond();
    command
        .args(arguments)
        .stdin(input)
        .output()
        .expect("started")
}

#[test]
fn a_store_is_changed_from_sled_to_fjall_through_a_file_and_back_through_a_pipe() {
    let (old, new) = (filled(), TempDir::new().expect("a temporary directory"));
    let file = new.path().join("backup");
    let output = run(&["export", "--data-dir", path(old.path()), path(&file)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    let said = text(&output.stderr);
    assert!(
        said.starts_with("exported 1000 messages, 7.8 KiB in "),
        "{said}"
    );
    assert!(said.ends_with("; 0 definitions, 1 queues\n"), "{said}");

    let data = new.path().join("data");
    let fjall = ["--set", "storage.engine=fjall", "--data-dir", path(&data)];
    let output = run(&[&["import"], &fjall[..], &[path(&file)]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).starts_with("imported 1000 messages, "));
    let options = DirectoryOptions {
        engine: EngineOptions::from(Engine::Fjall),
        ..DirectoryOptions::default()
    };
    let (journal, recovered) = open_directory(&data, options).expect("fjall keeps it");
    assert_eq!(recovered.queues[&QueueId(1)].len(), 1000);
    journal.close().expect("closed in order");

    // The engine is found out; no setting names it.
    let output = run(&["export", "--data-dir", path(&data), "-"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(output.stdout, fs::read(&file).expect("written"));
    let back = new.path().join("back");
    let input = Stdio::from(fs::File::open(&file).expect("written"));
    let output = piped(&["import", "--data-dir", path(&back), "-"], input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    open_directory(&back, DirectoryOptions::default()).expect("sled keeps it");
}

#[test]
fn an_existing_file_is_not_overwritten_and_a_failed_export_leaves_none() {
    let (data, other) = (filled(), TempDir::new().expect("a temporary directory"));
    let file = other.path().join("backup");
    fs::write(&file, b"of last week").expect("written");
    let output = run(&["export", "--data-dir", path(data.path()), path(&file)]);
    assert_eq!(output.status.code(), Some(1));
    let wanted = format!(
        "error: {} exists already; name a file that does not\n",
        path(&file)
    );
    assert_eq!(text(&output.stderr), wanted);
    assert_eq!(fs::read(&file).expect("still there"), b"of last week");

    let nowhere = other.path().join("nowhere");
    let file = other.path().join("another");
    let output = run(&["export", "--data-dir", path(&nowhere), path(&file)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nowhere/store is missing"));
    let left = fs::read_dir(other.path()).expect("readable").count();
    assert_eq!(left, 1, "neither a file nor a data directory was made");
}

#[test]
fn an_export_that_died_is_begun_again() {
    let (data, other) = (filled(), TempDir::new().expect("a temporary directory"));
    let file = other.path().join("backup");
    fs::write(other.path().join("backup.unfinished"), vec![7; 1 << 20]).expect("written");
    let output = run(&["export", "--data-dir", path(data.path()), path(&file)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(fs::metadata(&file).expect("written").len() < 1 << 20);
    assert!(!other.path().join("backup.unfinished").exists());
}

#[test]
fn while_the_directory_is_in_use_neither_command_does_anything() {
    let data = filled();
    let (_journal, _) =
        open_directory(data.path(), DirectoryOptions::default()).expect("our own directory");
    let file = data.path().join("backup");
    let output = run(&["export", "--data-dir", path(data.path()), path(&file)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("in use by another millpond"));
    assert!(!file.exists());
}

#[test]
fn a_store_of_the_other_engine_is_refused_with_the_way_over() {
    let data = filled();
    let directory = path(data.path());
    let output = run(&[
        "--data-dir",
        directory,
        "--stomp",
        "off",
        "--http",
        "off",
        "--set",
        "storage.engine=fjall",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("was made by sled, and storage.engine says fjall"),
        "{said}"
    );
    assert!(
        said.contains("millpond export") && said.contains("millpond import"),
        "{said}"
    );
}

#[test]
fn what_is_no_export_and_a_directory_that_is_full_are_refused() {
    let (data, other) = (filled(), TempDir::new().expect("a temporary directory"));
    let file = other.path().join("backup");
    fs::write(&file, b"something else altogether").expect("written");
    let empty = other.path().join("empty");
    let output = run(&["import", "--data-dir", path(&empty), path(&file)]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: cannot read the export: it is not what millpond export writes\n"
    );
    assert!(!empty.exists());
    fs::remove_file(&file).expect("removed");
    run(&["export", "--data-dir", path(data.path()), path(&file)]);
    let output = run(&["import", "--data-dir", path(data.path()), path(&file)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("holds a store already"),
        "{}",
        text(&output.stderr)
    );
}
