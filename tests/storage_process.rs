//! What takes a process of its own: kill -9 in the middle of the work, and flipped octets in the engines' own
//! files. A damaged database panics, also in sled's threads, and takes every other one in the process along.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use millpond::storage::{
    Change, DirectoryOptions, Engine, EngineOptions, Journal, JournalOptions, Payload, QueueId,
    RecoveredQueue, Seq, SledOptions, SledStore, StorageError, Store, Waiter, open_directory,
};

#[macro_use]
#[path = "storage/engines.rs"]
mod engines;

use engines::kept_by;

/// Set for a process that opens a data directory: which.
const OPEN: &str = "MILLPOND_TEST_OPEN";
/// Set for a process in which a thread of sled dies: where its store is.
const DEATH: &str = "MILLPOND_TEST_DEATH";
/// Which engine keeps it.
const ENGINE: &str = "MILLPOND_TEST_ENGINE";
/// Set for a process that writes until it is killed: where.
const WRITE: &str = "MILLPOND_TEST_WRITE";
/// Far more than any open takes; a hang must fail the test rather than stop it.
const PATIENCE: Duration = Duration::from_secs(120);
const KILLS: u64 = 6;
const FLIPS: u64 = 24;
const MESSAGES: u64 = 6000;
const LEN: u64 = 4000;

struct Body(Vec<u8>);

impl Payload for Body {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

struct Bell(mpsc::SyncSender<()>);

impl Waiter for Bell {
    fn commit_settled(&self) {
        let _ = self.0.try_send(());
    }
}

fn octets(seq: u64) -> Vec<u8> {
    (0..LEN)
        .map(|place| (place * seq % 251).to_le_bytes()[0])
        .collect()
}

/// Several segments of messages in commits of 100, every third settled, closed in order.
fn fill(engine: Engine, path: &Path) {
    let mut options = kept_by(engine);
    if let EngineOptions::Fjall(fjall) = &mut options.engine {
        // So that some of it is in files of its own, and some in the journal only.
        fjall.memtable_bytes = 6 << 20;
    }
    let (journal, _) = open_directory(path, options).unwrap();
    let (ring, rung) = mpsc::sync_channel(1);
    let bell: Arc<dyn Waiter> = Arc::new(Bell(ring));
    for start in (1..=MESSAGES).step_by(100) {
        let mut unit = journal.begin();
        for seq in start..start + 100 {
            unit.enqueue(QueueId(1), Seq(seq), Arc::new(Body(octets(seq))));
        }
        (start..start + 100)
            .filter(|seq| seq % 3 == 0)
            .for_each(|seq| unit.settle(QueueId(1), Seq(seq), Seq(seq)));
        unit.wait(&bell);
        drop(unit);
        rung.recv().unwrap();
    }
    journal.close().unwrap();
}

/// Opens and says what became of it.
fn open_and_tell(engine: Engine, path: &Path) -> String {
    let (journal, recovered) = match open_directory(path, kept_by(engine)) {
        Ok(opened) => opened,
        Err(error) => return format!("refused: {error}"),
    };
    let found = recovered.queues.get(&QueueId(1)).cloned();
    let (held, lost) = match read(&journal, QueueId(1), &found.unwrap_or_default()) {
        Ok(read) => read,
        Err(error) => return format!("refused: {error}"),
    };
    let wanted: Vec<u64> = (1..=MESSAGES).filter(|seq| seq % 3 != 0).collect();
    let same = held.len() == wanted.len()
        && held
            .iter()
            .zip(wanted)
            .all(|((found, payload), seq)| *found == seq && *payload == octets(seq));
    match (same, recovered.losses.first(), lost.first()) {
        (true, ..) => "whole".into(),
        (false, Some(loss), _) => format!("reported: {loss}"),
        (false, None, Some((first, last))) => format!("reported: {first} to {last} when read"),
        (false, None, None) => "SILENTLY LOST".into(),
    }
}

/// The messages of a queue with their numbers, and what is lost of it.
type Read = (Vec<(u64, Bytes)>, Vec<(Seq, Seq)>);

/// Reads back everything of a queue.
fn read(journal: &Journal, queue: QueueId, found: &RecoveredQueue) -> Result<Read, StorageError> {
    let (mut held, mut lost) = (Vec::new(), Vec::new());
    for &(first, last) in &found.live {
        let mut from = first;
        while from <= last {
            let fetched = journal.read(queue, from, last, 1 << 20)?;
            held.extend(
                fetched
                    .messages
                    .into_iter()
                    .map(|(seq, payload)| (seq.0, payload)),
            );
            lost.extend(fetched.lost);
            from = Seq(fetched.upto.0 + 1);
        }
    }
    Ok((held, lost))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), to).map(drop).unwrap()
        }
    }
}

/// Ten messages a unit to each of two queues; the unit before settles all but the first of its own. Says
/// after each unit how far it is durable.
fn write_until_killed(engine: Engine, path: &Path) {
    let journal = JournalOptions {
        checkpoint_commits: 7,
        ..JournalOptions::default()
    };
    let options = DirectoryOptions {
        journal,
        ..kept_by(engine)
    };
    let (journal, recovered) = open_directory(path, options).unwrap();
    let (ring, rung) = mpsc::sync_channel(1);
    let bell: Arc<dyn Waiter> = Arc::new(Bell(ring));
    let next = recovered
        .queues
        .get(&QueueId(1))
        .map_or(1, |queue| queue.next_seq.0);
    for start in (next..).step_by(10) {
        let mut unit = journal.begin();
        for queue in [QueueId(1), QueueId(2)] {
            for seq in start..start + 10 {
                unit.enqueue(queue, Seq(seq), Arc::new(Body(octets(seq))));
            }
            if start > 10 {
                unit.settle(queue, Seq(start - 9), Seq(start - 1));
            }
        }
        unit.wait(&bell);
        drop(unit);
        rung.recv().unwrap();
        println!("DURABLE {}", start + 9);
    }
}

/// Starts a process of its own.
fn start(what: &str, engine: Engine, path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "the_process_of_its_own", "--nocapture"])
        .env(what, path)
        .env(ENGINE, engine.to_string());
    child
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Writes before and after one of sled's threads has died; how the store took it.
fn write_around_a_death(path: &Path) -> String {
    let mut store = SledStore::open(path, &SledOptions::default()).unwrap();
    let change = || vec![Change::Put(b"k".to_vec(), b"v".to_vec())];
    store.write(change()).unwrap();
    let thread = thread::Builder::new().name("sled-io-for-this-test".into());
    assert!(
        thread
            .spawn(|| panic!("as a damaged segment makes it"))
            .unwrap()
            .join()
            .is_err()
    );
    let write = store.write(change()).expect_err("a write after the death");
    let sync = store.sync().expect_err("a sync after the death");
    let told = [write, sync]
        .iter()
        .all(|error| matches!(error, StorageError::Panicked { .. }));
    if told {
        "told".into()
    } else {
        "another error".into()
    }
}

/// Does something with a directory in a process of its own; what that process said.
fn in_a_process(what: &str, engine: Engine, path: &Path) -> String {
    let child = start(what, engine, path);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines()
        .find_map(|line| line.split_once("OUTCOME "))
        .map_or(said.clone(), |(_, outcome)| outcome.into())
}

/// Not a test by itself: what [`in_a_process`] runs.
#[test]
fn the_process_of_its_own() {
    let name = std::env::var(ENGINE).unwrap_or_default();
    let Some(engine) = Engine::ALL
        .into_iter()
        .find(|engine| engine.to_string() == name)
    else {
        return;
    };
    if let Some(path) = std::env::var_os(OPEN) {
        println!("OUTCOME {}", open_and_tell(engine, Path::new(&path)));
    }
    if let Some(path) = std::env::var_os(WRITE) {
        write_until_killed(engine, Path::new(&path));
    }
    if let Some(path) = std::env::var_os(DEATH) {
        println!("OUTCOME {}", write_around_a_death(Path::new(&path)));
    }
}

/// The files of a store, each with how many of its octets are in use.
fn files_of(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            files.extend(files_of(&entry.path()));
            continue;
        }
        let image = fs::read(entry.path()).unwrap();
        let used = image.iter().rposition(|&octet| octet != 0);
        files.extend(used.map(|last| (entry.path(), last as u64 + 1)));
    }
    files.sort_unstable();
    files
}

fn no_flipped_octet_of_a_database_loses_anything_silently(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    fill(engine, &whole);
    let files = files_of(&whole.join("store"));
    let used: u64 = files.iter().map(|&(_, used)| used).sum();
    // Spread over what is used, at odd places; then one in the middle of each small file.
    let spread = (0..FLIPS).map(|flip| (used * flip / FLIPS + flip * 977 % 4096) % used);
    let mut before = 0;
    let mut small = Vec::new();
    for &(_, used) in &files {
        small.extend((used < 64 * 1024).then_some(before + used / 2));
        before += used;
    }
    let places: Vec<u64> = spread.chain(small).collect();
    let flips = places.len();
    let (say, said) = mpsc::channel();
    let base = directory.path().to_owned();
    thread::spawn(move || {
        for (flip, place) in places.into_iter().enumerate() {
            let path = base.join(format!("flip-{flip}"));
            copy(&whole, &path);
            let mut at = place;
            let (file, _) = files
                .iter()
                .find(|(_, used)| match at.checked_sub(*used) {
                    Some(rest) => {
                        at = rest;
                        false
                    }
                    None => true,
                })
                .unwrap();
            let name = file.strip_prefix(&whole).unwrap();
            let mut image = fs::read(path.join(name)).unwrap();
            image[usize::try_from(at).unwrap()] ^= 0x10;
            fs::write(path.join(name), image).unwrap();
            let outcome = in_a_process(OPEN, engine, &path);
            fs::remove_dir_all(path).unwrap();
            let _ = say.send((format!("octet {at} of {}", name.display()), outcome));
        }
    });
    let mut whole = 0;
    for _ in 0..flips {
        let (place, outcome) = said.recv_timeout(PATIENCE).expect("an open hangs");
        println!("{place}: {outcome}");
        let fair = ["whole", "refused: ", "reported: "]
            .iter()
            .any(|start| outcome.starts_with(start));
        assert!(fair, "{place}: {outcome}");
        whole += usize::from(outcome == "whole");
    }
    assert!(whole < flips, "no flip did anything");
}

#[test]
fn rule_5_a_thread_of_sled_that_dies_is_an_error_of_the_next_write_and_sync() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(in_a_process(DEATH, Engine::Sled, directory.path()), "told");
}

fn after_a_kill_everything_that_was_durable_is_there_and_nothing_else(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    for kill in 1..=KILLS {
        let mut child = start(WRITE, engine, directory.path());
        let said = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let numbers = said.filter_map(|line| line.split_once("DURABLE ")?.1.parse::<u64>().ok());
        let mut durable = 0;
        for (line, number) in (0..).zip(numbers) {
            durable = number;
            // What it says between the kill and its end counts too, so the lines are read to the last.
            if line == 13 * kill {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let (journal, recovered) = open_directory(directory.path(), kept_by(engine)).unwrap();
        assert_eq!(recovered.losses, []);
        let [one, two] = [1, 2].map(|queue| &recovered.queues[&QueueId(queue)]);
        assert_eq!(one, two, "both queues are written in one unit");
        let last = one.next_seq.0 - 1;
        assert!(
            durable > 0 && last >= durable && last % 10 == 0,
            "durable {durable}, last {last}"
        );
        // The first of every unit, and the whole of the last one.
        let wanted: Vec<u64> = (1..=last)
            .filter(|seq| seq % 10 == 1 || *seq > last - 10)
            .collect();
        for queue in [1, 2] {
            let (held, lost) = read(&journal, QueueId(queue), one).unwrap();
            assert_eq!(lost, []);
            assert!(held.iter().map(|(seq, _)| *seq).eq(wanted.iter().copied()));
            assert!(held.iter().all(|(seq, payload)| *payload == octets(*seq)));
        }
        drop(journal);
    }
}

test_each_engine!(
    no_flipped_octet_of_a_database_loses_anything_silently,
    after_a_kill_everything_that_was_durable_is_there_and_nothing_else,
);
