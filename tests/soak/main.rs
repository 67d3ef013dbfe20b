//! The long checks: power cuts, damage, full disks, kills, churn, deep backlogs, many connections and queues, fuzzing.
//!
//! `make soak` runs them at length, which takes hours. Without `--full`, as `cargo test` runs this program, each runs in
//! a version of seconds, or not at all where there is none. Arguments: `--full`, `--list`, `--engine NAME`, and names of
//! checks; counts come from the environment (`settings.rs`). At the end every check has its line: passed, failed or
//! skipped, its figures and its seconds. The exit code is 1 if one failed.
//!
//! A check that needs root and a loop device says that it was skipped where there is none.

mod backlog;
mod churn;
mod client;
mod connections;
mod disk_full;
mod flips;
mod fuzz;
mod image;
mod kills;
mod power_cut;
mod queues;
mod random;
mod settings;
mod summary;
mod usage;

#[path = "../support"]
#[expect(
    dead_code,
    reason = "shared with the tests of every day, which use all of it"
)]
mod support {
    pub(crate) mod lives;
    pub(crate) mod peer;
    pub(crate) mod process;
    pub(crate) mod program;
}

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use settings::Settings;
use summary::{Line, Verdict};

/// What a check that ended well says.
pub(crate) enum Outcome {
    /// With its figures.
    Passed(Vec<String>),
    /// With the reason.
    Skipped(String),
}

/// What a check works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    /// The storage engine that its brokers use.
    pub(crate) engine: String,
}

impl Context {
    /// The `--set` arguments of a broker with this engine and more.
    pub(crate) fn set<'a>(&self, more: &[&'a str]) -> Vec<String> {
        let engine = format!("storage.engine={}", self.engine);
        let more = more.iter().map(|setting: &&'a str| (*setting).to_owned());
        std::iter::once(engine).chain(more).collect()
    }
}

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One check.
struct Check {
    name: &'static str,
    /// Once for every engine, or once.
    every_engine: bool,
    /// Only in full.
    only_full: bool,
    /// Time after which it has failed.
    limit: Duration,
    run: fn(Context) -> Running,
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// A check of the broker over each engine.
const fn check(name: &'static str, limit: Duration, run: fn(Context) -> Running) -> Check {
    Check {
        name,
        every_engine: true,
        only_full: false,
        limit,
        run,
    }
}

/// A check over each engine that has no short version, because it needs root.
const fn rooted(name: &'static str, limit: Duration, run: fn(Context) -> Running) -> Check {
    Check {
        only_full: true,
        ..check(name, limit, run)
    }
}

/// A check that concerns no engine and has no short version.
const fn long(name: &'static str, limit: Duration, run: fn(Context) -> Running) -> Check {
    Check {
        name,
        every_engine: false,
        only_full: true,
        limit,
        run,
    }
}

const CHECKS: [Check; 11] = [
    rooted("power-cut", minutes(30), |context| {
        Box::pin(power_cut::run(context))
    }),
    check("flips", minutes(30), |context| {
        Box::pin(flips::run(context))
    }),
    rooted("disk-full", minutes(15), |context| {
        Box::pin(disk_full::run(context))
    }),
    check("kills", minutes(60), |context| {
        Box::pin(kills::run(context))
    }),
    check("churn", minutes(90), |context| {
        Box::pin(churn::run(context))
    }),
    check("backlog", minutes(60), |context| {
        Box::pin(backlog::one_queue(context))
    }),
    check("backlogs", minutes(30), |context| {
        Box::pin(backlog::many_queues(context))
    }),
    check("queues", minutes(15), |context| {
        Box::pin(queues::run(context))
    }),
    check("connections", minutes(15), |context| {
        Box::pin(connections::run(context))
    }),
    long("fuzz", minutes(240), |context| Box::pin(fuzz::run(context))),
    long("random", minutes(240), |context| {
        Box::pin(random::run(context))
    }),
];

/// Runs one check to its end, its failure or its limit.
async fn run(check: &Check, context: Context) -> Verdict {
    let mut task = tokio::spawn((check.run)(context));
    tokio::select! {
        outcome = &mut task => match outcome {
            Ok(Outcome::Passed(figures)) => Verdict::Passed(figures),
            Ok(Outcome::Skipped(reason)) => Verdict::Skipped(reason),
            Err(error) => Verdict::Failed(summary::reason(&error)),
        },
        () = tokio::time::sleep(check.limit) => {
            task.abort();
            // What it holds (processes, mounts) goes with it.
            let _ = task.await;
            Verdict::Failed(format!("not done after {} minutes", check.limit.as_secs() / 60))
        }
        signal = tokio::signal::ctrl_c() => {
            task.abort();
            let _ = task.await;
            Verdict::Interrupted(format!("interrupted: {signal:?}"))
        }
    }
}

async fn run_all(settings: &Settings) -> Vec<Line> {
    let mut lines = Vec::new();
    for check in CHECKS.iter().filter(|check| settings.wants(check.name)) {
        if check.only_full && !settings.full && !settings.names(check.name) {
            continue;
        }
        let engines = match check.every_engine {
            true => settings.engines.clone(),
            false => vec!["-".to_owned()],
        };
        for engine in engines {
            println!("== {} ({engine})", check.name);
            let start = Instant::now();
            let context = Context {
                settings: settings.clone(),
                engine: engine.clone(),
            };
            let verdict = run(check, context).await;
            let interrupted = matches!(verdict, Verdict::Interrupted(_));
            let line = Line {
                name: check.name,
                engine,
                seconds: start.elapsed().as_secs(),
                verdict,
            };
            println!("{line}");
            lines.push(line);
            if interrupted {
                return lines;
            }
        }
    }
    lines
}

fn main() -> ExitCode {
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(sentence) => {
            eprintln!("error: {sentence}");
            return ExitCode::from(2);
        }
    };
    if settings.list {
        CHECKS.iter().for_each(|check| println!("{}", check.name));
        return ExitCode::SUCCESS;
    }
    if let Some(error) = image::enter_namespace(&settings) {
        eprintln!("mounts are not in a name space of their own: {error}");
    }
    summary::remember_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the system has threads");
    let lines = runtime.block_on(run_all(&settings));
    runtime.shutdown_timeout(Duration::from_secs(5));
    summary::print(&lines)
}
