//! What became of the checks, for people.

use std::fmt;
use std::process::ExitCode;

use parking_lot::Mutex;
use tokio::task::JoinError;

/// How a check ended.
pub(crate) enum Verdict {
    Passed(Vec<String>),
    Skipped(String),
    Failed(String),
    Interrupted(String),
}

/// One line of the summary.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) engine: String,
    pub(crate) seconds: u64,
    pub(crate) verdict: Verdict,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = match &self.verdict {
            Verdict::Passed(figures) => ("passed", figures.join(", ")),
            Verdict::Skipped(reason) => ("skipped", reason.clone()),
            Verdict::Failed(reason) | Verdict::Interrupted(reason) => ("FAILED", reason.clone()),
        };
        let Self {
            name,
            engine,
            seconds,
            ..
        } = self;
        write!(f, "{word:8}{name:12}{engine:6}{seconds:5} s  {text}")
    }
}

/// The first panic since it was last taken: what follows from it in other clients explains nothing.
static FIRST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Remembers panics from now on, beside showing them.
pub(crate) fn remember_panics() {
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or("a panic without words");
        FIRST_PANIC.lock().get_or_insert_with(|| text.to_owned());
        show(panic);
    }));
}

/// Why a check's task ended early.
pub(crate) fn reason(error: &JoinError) -> String {
    let text = FIRST_PANIC.lock().take();
    let text = text.unwrap_or_else(|| error.to_string());
    // The whole of it is above, where it happened.
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(600).collect()
}

/// Prints all lines again, together; the program's exit code.
pub(crate) fn print(lines: &[Line]) -> ExitCode {
    println!("\n== summary");
    lines.iter().for_each(|line| println!("{line}"));
    let is_bad =
        |line: &&Line| matches!(line.verdict, Verdict::Failed(_) | Verdict::Interrupted(_));
    match lines.iter().filter(is_bad).count() {
        0 => ExitCode::SUCCESS,
        bad => {
            println!("{bad} of {} failed", lines.len());
            ExitCode::FAILURE
        }
    }
}
