//! Fuzzing, guided by coverage, on the stable compiler.
//!
//! libFuzzer needs coverage counters, which the compiler's `-C passes` puts in; the sanitizers that only a nightly one
//! has look for unsafe code going wrong, and there is none. What is found to be interesting joins the corpus, reduced
//! to what adds coverage; the tests of every day run the corpus.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{Context, Outcome};

/// Folders of fuzz crates, below the repository, and their targets.
const CRATES: [(&str, &[&str]); 2] = [
    ("protocol/fuzz", &["stomp_bytes", "stomp_frames"]),
    ("fuzz", &["storage_log", "configuration"]),
];
/// What libFuzzer needs of the compiler.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Ccodegen-units=1";
/// Memory of a target, in MiB, above which an input is a finding.
const MEMORY_MIB: u32 = 2048;
/// Seconds that one input may take.
const INPUT_SECONDS: u32 = 10;

async fn run_to_end(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    command.output().await.expect("it can be started")
}

/// The compiler's name for this machine. With it cargo builds what runs while building, such as macros, without FLAGS.
async fn host() -> String {
    let output = run_to_end(Command::new("rustc").arg("-vV")).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.expect("rustc names its host").to_owned()
}

/// Builds a crate of targets; where the programs are.
async fn build(folder: &Path, host: &str) -> Result<PathBuf, String> {
    let output = run_to_end(
        Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--target", host])
            .current_dir(folder)
            .env("RUSTFLAGS", FLAGS)
            .env("CARGO_TARGET_DIR", folder.join("target")),
    )
    .await;
    match output.status.success() {
        true => Ok(folder.join("target").join(host).join("release")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The figure of libFuzzer's statistics with this name.
fn figure(said: &str, name: &str) -> String {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix(&format!("stat::{name}:")));
    line.map_or("?", str::trim).to_owned()
}

pub(crate) async fn run(context: Context) -> Outcome {
    // libFuzzer itself is C++.
    if run_to_end_of("c++").await.is_none() {
        return Outcome::Skipped("needs a C++ compiler".into());
    }
    let host = host().await;
    let seconds = context.settings.fuzz_minutes.max(1) * 60;
    let mut figures = Vec::new();
    for (folder, targets) in CRATES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let programs = build(&folder, &host)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        for target in targets {
            let figure = fuzz(&folder, &programs.join(target), target, seconds).await;
            println!("   {figure}");
            figures.push(figure);
        }
    }
    Outcome::Passed(figures)
}

async fn run_to_end_of(program: &str) -> Option<Output> {
    let mut command = Command::new(program);
    let output = command.arg("--version").stdin(Stdio::null()).output().await;
    output.ok()
}

/// Fuzzes one target, and keeps what is new.
async fn fuzz(folder: &Path, program: &Path, target: &str, seconds: u64) -> String {
    let corpus = folder.join("corpus").join(target);
    let artifacts = folder.join("artifacts").join(target);
    fs::create_dir_all(&artifacts).expect("ours");
    let fresh = TempDir::new().expect("a directory");
    let output = run_to_end(
        Command::new(program)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-max_len=4096", "-print_final_stats=1"])
            .args([fresh.path(), corpus.as_path()]),
    )
    .await;
    let said = String::from_utf8_lossy(&output.stderr);
    let end: Vec<&str> = said.lines().rev().take(30).collect();
    assert!(
        output.status.success(),
        "{target} found something, in {}:\n{}",
        artifacts.display(),
        end.into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    let before = fs::read_dir(&corpus)
        .expect("the corpus is part of the sources")
        .count();
    let merged = run_to_end(
        Command::new(program)
            .args(["-set_cover_merge=1", "-use_counters=0", "-max_len=4096"])
            .args([corpus.as_path(), fresh.path()]),
    )
    .await;
    assert!(merged.status.success(), "{target}: {merged:?}");
    let kept = fs::read_dir(&corpus).expect("still there").count() - before;
    let executed = figure(&said, "number_of_executed_units");
    format!("{target} {executed} inputs in {seconds} s, {kept} new ones kept")
}
