//! One flipped bit in the files of a data directory: everything is there all the same, or somebody says what is not.
//!
//! Accepted is a start that is refused with a sentence, and one that serves: whole, or after a line of the log (WARN or
//! ERROR) about what is lost, and then what is served is right. Never accepted: a message gone, back, changed or
//! invented without a word; a broker that hangs, or dies of a signal.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use millpond_protocol::stomp::Command;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::peer::{Peer, body, header};
use crate::support::process::{Ended, Process};
use crate::{Context, Outcome};

const QUEUES: [&str; 3] = ["flips-a", "flips-b", "flips-c"];
/// Messages sent to each queue; of the first half every other one is acknowledged. With their sizes this fills several
/// of the segments that the default engine writes one after the other.
const MESSAGES: usize = 240;
/// Lets the log reach over several checkpoints.
const SETTINGS: [&str; 2] = [
    "storage.checkpoint_bytes=1MiB",
    "storage.checkpoint_commits=16",
];

/// What a broker serves, by queue; none for one that it says it cannot serve.
type Served = BTreeMap<&'static str, Option<Vec<String>>>;

/// How one flip ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Whole,
    Reported,
    Refused,
}

pub(crate) async fn run(context: Context) -> Outcome {
    let directory = TempDir::new_in(&context.settings.directory).expect("a directory");
    let mut figures = Vec::new();
    let mut silent = Vec::new();
    for killed in [false, true] {
        let whole = directory.path().join(format!("whole-{killed}"));
        let wanted = fill(&context, &whole, killed).await;
        let files = files(&whole);
        let mut verdicts: BTreeMap<Verdict, u64> = BTreeMap::new();
        for flip in 0..context.settings.flips {
            let (file, place) = choose(&files, flip, context.settings.flips);
            let mask = 1 << (flip % 8);
            let damaged = directory.path().join("damaged");
            copy(&whole, &damaged);
            let mut octets = fs::read(damaged.join(file)).expect("just copied");
            octets[place] ^= mask;
            fs::write(damaged.join(file), octets).expect("ours");
            match judge(&context, &damaged, &wanted).await {
                Ok(verdict) => *verdicts.entry(verdict).or_default() += 1,
                Err(why) => {
                    let end = if killed { "killed" } else { "stopped" };
                    let what = format!(
                        "{end}, {} octet {place} bit {mask:#04x}: {why}",
                        file.display()
                    );
                    println!("   {what}");
                    silent.push(what);
                }
            }
            fs::remove_dir_all(&damaged).expect("ours");
        }
        let end = if killed {
            "after a kill"
        } else {
            "after a stop"
        };
        figures.push(format!("{end}: {verdicts:?}"));
    }
    let figure = figures.join(", ");
    assert!(
        silent.is_empty(),
        "{} flips went wrong ({figure}), first: {}",
        silent.len(),
        silent[0]
    );
    Outcome::Passed(figures)
}

fn settings(context: &Context) -> Vec<String> {
    context.set(&SETTINGS)
}

fn text(queue: &str, number: usize) -> String {
    let short = format!("{queue} {number} ");
    let len = [16, 16, 1 << 10, 16, 8 << 10, 300 << 10][number % 6];
    short.repeat(usize::div_ceil(len, short.len()))
}

/// Makes a data directory; what a broker over it must serve.
async fn fill(context: &Context, data: &Path, killed: bool) -> Served {
    let set = settings(context);
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let broker = Process::start(data, &set).await;
    let mut peer = broker.client().await;
    for number in 0..MESSAGES {
        for queue in QUEUES {
            let text = text(queue, number);
            peer.ask(&format!("SEND\ndestination:/queue/{queue}\n\n{text}"))
                .await;
        }
    }
    for queue in QUEUES {
        peer.ask(&format!(
            "SUBSCRIBE\nid:{queue}\ndestination:/queue/{queue}\nack:client-individual"
        ))
        .await;
        for number in 0..MESSAGES {
            let message = peer.message().await;
            if number < MESSAGES / 2 && number % 2 == 0 {
                peer.settle("ACK", &message, "").await;
            }
        }
    }
    // The last thing that happens is a SEND.
    for queue in QUEUES {
        peer.ask(&format!(
            "SEND\ndestination:/queue/{queue}\n\n{}",
            text(queue, MESSAGES)
        ))
        .await;
    }
    match killed {
        true => broker.kill().await,
        false => {
            peer.leave().await;
            broker.signal(Signal::TERM);
            assert_eq!(broker.ended().await, Some(0));
        }
    }
    let left = |number: &usize| *number >= MESSAGES / 2 || number % 2 == 1;
    let texts = |queue| {
        (0..=MESSAGES)
            .filter(left)
            .map(|number| text(queue, number))
            .collect()
    };
    QUEUES
        .into_iter()
        .map(|queue| (queue, Some(texts(queue))))
        .collect()
}

/// The files of a directory, by their paths in it, and up to where each holds anything but zeros.
fn files(directory: &Path) -> Vec<(PathBuf, usize)> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("ours") {
            let path = entry.expect("ours").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let octets = fs::read(&path).expect("ours");
            if let Some(last) = octets.iter().rposition(|octet| *octet != 0) {
                let path = path.strip_prefix(directory).expect("below it").to_owned();
                files.push((path, last + 1));
            }
        }
    }
    files.sort();
    files
}

/// Where the n-th flip goes: every fourth one by turns into the files, the others spread over all their octets.
fn choose(files: &[(PathBuf, usize)], flip: u64, flips: u64) -> (&Path, usize) {
    let number = usize::try_from(flip).expect("few");
    if number.is_multiple_of(4) {
        let (file, len) = &files[number / 4 % files.len()];
        return (file, number * 7919 % len);
    }
    let total: usize = files.iter().map(|(_, len)| len).sum();
    let step = total / usize::try_from(flips).expect("few");
    let mut place = (number * step + number * 977 % step.max(1)) % total;
    for (file, len) in files {
        if place < *len {
            return (file, place);
        }
        place -= len;
    }
    unreachable!("the place is below the sum")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("ours");
    for entry in fs::read_dir(from).expect("ours") {
        let entry = entry.expect("ours");
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => fs::copy(entry.path(), to).map(drop).expect("ours"),
        }
    }
}

fn is_report(line: &Value) -> bool {
    line["level"] == "WARN" || line["level"] == "ERROR"
}

/// Starts a broker over a damaged directory and looks at what it makes of it.
async fn judge(context: &Context, data: &Path, wanted: &Served) -> Result<Verdict, String> {
    let set = settings(context);
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let (broker, mut lines) = match Process::start_or_end(data, &set).await {
        Ok(started) => started,
        Err(Ended { code, lines }) => {
            let said = lines.iter().any(|line| match line {
                Value::String(text) => text.starts_with("error: "),
                line => is_report(line),
            });
            return match (code, said) {
                (Some(1), true) => Ok(Verdict::Refused),
                _ => Err(format!("it ended with {code:?}: {lines:?}")),
            };
        }
    };
    let mut served = Served::new();
    for queue in QUEUES {
        served.insert(queue, drain(&broker, queue).await);
    }
    broker.signal(Signal::TERM);
    let Ended { code, lines: last } = broker.end().await;
    lines.extend(last);
    let reported = lines.iter().any(is_report);
    if code.is_none() || (code != Some(0) && !reported) {
        return Err(format!("it ended with {code:?}: {lines:?}"));
    }
    for (queue, texts) in &served {
        let wanted = wanted[queue].as_ref().expect("all are wanted");
        for text in texts.iter().flatten() {
            if !wanted.contains(text) {
                return Err(format!("{queue} serves what it must not: {:.40}", text));
            }
        }
    }
    match (served == *wanted, reported) {
        (true, _) => Ok(Verdict::Whole),
        (false, true) => Ok(Verdict::Reported),
        (false, false) => {
            let counts: Vec<String> = served
                .iter()
                .map(|(queue, texts)| format!("{queue} {:?}", texts.as_ref().map(Vec::len)))
                .collect();
            Err(format!("silently lost: {}", counts.join(", ")))
        }
    }
}

/// Everything in a queue; none if the broker says that it cannot serve it, or stops.
async fn drain(broker: &Process, queue: &str) -> Option<Vec<String>> {
    let mut peer: Peer = broker.try_client().await?;
    peer.tell(&format!(
        "SEND\ndestination:/queue/{queue}\nreceipt:end\n\nthe end"
    ))
    .await;
    let answer = peer.read().await?;
    if answer.command == Command::Error {
        assert!(header(&answer, "code").is_some(), "{}", body(&answer));
        return None;
    }
    peer.tell(&format!("SUBSCRIBE\nid:s\ndestination:/queue/{queue}"))
        .await;
    let mut texts = Vec::new();
    loop {
        let message = peer.read().await?;
        match (message.command, body(&message)) {
            (Command::Message, text) if text == "the end" => return Some(texts),
            (Command::Message, text) => texts.push(text),
            _ => return None,
        }
    }
}
