//! Connections that log in and do nothing: what one costs the broker.

use std::fmt::{self, Display, Formatter};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use super::Failure;
use super::clock::{self, seconds};
use super::process::{Memory, Processes};
use super::progress::per;
use super::socket::Session;
use super::wire::Wire;

/// Bytes an idle connection reads at once: nothing comes but the answer to its login.
const READ_BYTES: usize = 1024;

/// Descriptors beside those of the connections.
const DESCRIPTORS_EXTRA: u64 = 32;

/// The outcome.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct IdleReport {
    connections: usize,
    seconds: f64,
    logins_per_second: f64,
    /// Growth of the broker's memory after the first half of them, divided by the others, in bytes; if it was watched.
    resident_per_connection: Option<f64>,
    anonymous_per_connection: Option<f64>,
    memory_before: Memory,
    memory_after: Memory,
}

/// Opens so many connections and holds them. Memory is read that long after the first half and after the last.
///
/// # Errors
/// When there are too few file descriptors, or the broker refuses one.
pub(super) fn run<W: Wire>(
    address: &str,
    wire: &W,
    connections: usize,
    hold: Duration,
    pids: Vec<u32>,
) -> Result<IdleReport, Failure> {
    allow_descriptors(connections as u64 + DESCRIPTORS_EXTRA)?;
    let processes = Processes::new(pids);
    let open = |count: usize| -> Result<Vec<Session<W>>, Failure> {
        (0..count)
            .map(|_| Session::open(address, wire, READ_BYTES, 0))
            .collect()
    };
    let start = clock::now();
    // What the first logins cost once, or needed only for a moment and left to be used again, is not the price of a
    // connection.
    let first = open(connections.div_ceil(2))?;
    let first_took = clock::now() - start;
    sleep(hold);
    let memory_before = processes.memory();
    let start = clock::now();
    let rest = open(connections - first.len())?;
    let elapsed = seconds(first_took + clock::now() - start);
    sleep(hold);
    let memory_after = processes.memory();
    let each = |before: u64, after: u64| {
        let grown = after as f64 - before as f64;
        (!processes.is_empty() && !rest.is_empty()).then(|| grown / rest.len() as f64)
    };
    Ok(IdleReport {
        connections,
        seconds: elapsed,
        logins_per_second: per(connections as u64, elapsed),
        resident_per_connection: each(memory_before.resident, memory_after.resident),
        anonymous_per_connection: each(memory_before.anonymous, memory_after.anonymous),
        memory_before,
        memory_after,
    })
}

/// Raises the limit of open files as far as this process may.
fn allow_descriptors(needed: u64) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        return Err(Failure::running(format!(
            "so many connections need {needed} open files, and this process may have {}: raise `ulimit -n`",
            limit.maximum.unwrap_or_default()
        )));
    }
    let raised = Rlimit {
        current: Some(needed),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_err(Failure::running)
}

impl Display for IdleReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} idle connections in {:.2} s: {:.0} logins/s",
            self.connections, self.seconds, self.logins_per_second
        )?;
        if let (Some(resident), Some(anonymous)) =
            (self.resident_per_connection, self.anonymous_per_connection)
        {
            writeln!(
                f,
                "each           {:.1} KiB resident, {:.1} KiB anonymous",
                resident / 1024.0,
                anonymous / 1024.0
            )?;
            writeln!(f, "broker before  {}", self.memory_before)?;
            writeln!(f, "broker after   {}", self.memory_after)?;
        }
        Ok(())
    }
}
