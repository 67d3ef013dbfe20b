//! Log lines on standard error, for people or for programs.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::config::{Log, LogFormat};

/// What the embedded databases tell of their daily work is for those who ask for it by name.
const QUIET: &str = "sled=warn,fjall=warn,lsm_tree=warn";

/// Installs the program's logger; a second call changes nothing.
///
/// A JSON line has `timestamp`, `level`, `message` and the event's fields at its top level. A text line has colours
/// when standard error is a terminal and `NO_COLOR` is unset.
pub(super) fn start(log: &Log) {
    let filter = EnvFilter::builder().parse_lossy(format!("{QUIET},{}", log.level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    let installed = match log.format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            lines.with_ansi(colours).with_timer(SystemTime).try_init()
        }
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    // Only fails when a logger is there already, which then goes on.
    let _ = installed;
    std::panic::set_hook(Box::new(log_panic));
}

/// A panic as one log line, so that whoever reads the log as JSON can read this too.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let reason = panic.payload_as_str().unwrap_or("of unknown kind");
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string);
    error!(thread = thread.name(), place, reason, "panic");
}
