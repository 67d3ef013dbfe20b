//! `millpond bench`: a load generator for any STOMP broker.
//!
//! A generator that needs as much CPU as the broker measures itself. So this one is no chain of tasks: one thread polls
//! the producers' sockets and one the consumers', frames are copied from templates and patched, and a delivery costs a
//! look for a few headers and an entry in a ledger, with one reading of the clock for all that came together.
//!
//! | | |
//! |---|---|
//! | `flags`, `plan` | the command line, and what is to be done |
//! | `run`, `worker` | phases, threads, and when it is over; `progress` says how it goes |
//! | `producer`, `consumer` | one connection each; `socket`, `input` are their bytes |
//! | `wire`, `stomp/` | the seam to a protocol, and STOMP behind it |
//! | `stamp`, `check` | what a body carries, and what is told from it: loss, duplicates, disorder |
//! | `clock`, `schedule`, `latency` | when messages are due, and how late they came |
//! | `churn`, `idle` | connections instead of messages |
//! | `process`, `report` | CPU and memory of the broker, and the figures |

mod check;
mod churn;
mod clock;
mod consumer;
mod flags;
mod idle;
mod input;
mod latency;
mod plan;
mod process;
mod producer;
mod progress;
mod report;
mod run;
mod schedule;
mod socket;
mod stamp;
mod stomp;
mod wire;
mod worker;

use std::fmt::{self, Debug, Display};
use std::io;

pub(crate) use flags::BenchArguments;
use flags::Job;
use wire::{Incoming, NotTheProtocol};

/// Why a run failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The flags are wrong.
    pub(crate) usage: bool,
    /// What happened.
    pub(crate) sentence: String,
}

impl Failure {
    fn running(sentence: impl Display) -> Self {
        Self {
            usage: false,
            sentence: sentence.to_string(),
        }
    }

    fn usage(sentence: impl Display) -> Self {
        Self {
            usage: true,
            sentence: sentence.to_string(),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "passed to map_err by name")]
    fn lost(error: io::Error) -> Self {
        Self::running(format!("the connection failed: {error}"))
    }

    fn closed() -> Self {
        Self::running("the broker closed a connection")
    }

    fn refused(words: &str) -> Self {
        Self::running(format!("the broker refused: {words}"))
    }

    fn unexpected(incoming: &Incoming<'_>) -> Self {
        match incoming {
            Incoming::Refused(words) => Self::refused(words),
            other => Self::running(format!("the broker sent what was not asked for: {other:?}")),
        }
    }

    fn wrong_subscription() -> Self {
        Self::running("the broker delivered to a subscription that there is not")
    }
}

impl From<NotTheProtocol> for Failure {
    fn from(error: NotTheProtocol) -> Self {
        Self::running(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Does what the flags say and prints the report.
///
/// # Errors
/// When the flags are wrong, the broker refuses or is not there, or a message is missing that it had confirmed.
pub(crate) fn run(arguments: &BenchArguments) -> Result<(), Failure> {
    let (client, json) = (arguments.client(), arguments.json());
    match arguments.job()? {
        Job::Load(plan) => {
            let report = run::run(&plan, &client)?;
            report::print(&report, json);
            report.verdict()
        }
        Job::Idle {
            address,
            connections,
            hold,
            pids,
        } => {
            let report = idle::run(&address, &client, connections, hold, pids)?;
            report::print(&report, json);
            Ok(())
        }
        Job::Churn {
            address,
            churn,
            clients,
            length,
            pids,
            queue,
        } => {
            let load = churn::Load {
                address,
                churn,
                clients,
                length,
                queue,
            };
            let report = churn::run(&load, &client, pids)?;
            report::print(&report, json);
            Ok(())
        }
    }
}
