//! The command line: what was asked, where settings come from, and what the exit code says.
//!
//! Exit codes: 0 done, 1 failed (a sentence on standard error says why), 2 the command line or configuration is wrong.

mod check_config;
mod client;
mod consume;
mod disk_watch;
mod export;
mod import;
mod logging;
mod progress;
mod publish;
mod serve;
mod settings;
mod wiring;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use settings::SettingFlags;

use crate::bench::{self, BenchArguments};

/// The program's arguments.
#[derive(Debug, Parser)]
#[command(
    name = "millpond",
    version,
    about,
    disable_help_subcommand = true,
    args_override_self = true
)]
struct Arguments {
    #[command(flatten)]
    settings: SettingFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients (what happens without a command)
    Serve(SettingFlags),
    /// Check the configuration without starting anything
    CheckConfig(SettingFlags),
    /// Send messages from the shell
    Publish(publish::PublishArguments),
    /// Print messages as they come
    Consume(consume::ConsumeArguments),
    /// Write everything in a data directory to a file, while no broker uses it
    Export(export::ExportArguments),
    /// Fill an empty data directory from such a file
    Import(import::ImportArguments),
    /// Measure a broker: rates, delays, CPU, memory, and whether everything arrives
    Bench(Box<BenchArguments>),
}

/// Why a command failed: the exit code and the sentence for standard error.
#[derive(Debug)]
struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    /// Something went wrong while running.
    fn running(error: impl fmt::Display) -> Self {
        Self {
            code: 1,
            sentence: error.to_string(),
        }
    }

    /// The load generator failed, or its flags are wrong.
    fn of_bench(failure: bench::Failure) -> Self {
        if failure.usage {
            Self::usage(failure)
        } else {
            Self::running(failure)
        }
    }

    /// The command line or configuration is wrong.
    fn usage(error: impl fmt::Display) -> Self {
        Self {
            code: 2,
            sentence: error.to_string(),
        }
    }
}

/// Runs the program as its command line says, to its end.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = arguments.settings;
    let done = match arguments.command {
        None => serve::run(&settings.sources()),
        Some(Command::Serve(inner)) => serve::run(&settings.over(inner).sources()),
        Some(Command::CheckConfig(inner)) => check_config::run(&settings.over(inner).sources()),
        Some(Command::Publish(arguments)) => settings
            .refuse()
            .and_then(|()| client::run(publish::run(&arguments))),
        Some(Command::Consume(arguments)) => settings
            .refuse()
            .and_then(|()| client::run(consume::run(&arguments))),
        Some(Command::Export(arguments)) => export::run(
            &settings.over(arguments.settings).sources(),
            &arguments.file,
        ),
        Some(Command::Import(arguments)) => import::run(
            &settings.over(arguments.settings).sources(),
            &arguments.file,
        ),
        Some(Command::Bench(arguments)) => settings
            .refuse()
            .and_then(|()| bench::run(&arguments).map_err(Failure::of_bench)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.sentence);
            ExitCode::from(failure.code)
        }
    }
}
