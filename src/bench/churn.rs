//! Connections or queues that are made and ended in a loop: what coming and going costs the broker.

use std::fmt::{self, Display, Formatter};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::Failure;
use super::clock::{self, SECOND, seconds};
use super::flags::Churn;
use super::latency::{Latency, Percentiles};
use super::plan::Length;
use super::process::Processes;
use super::progress::{grouped, per};
use super::socket::Session;
use super::wire::Wire;

/// Bytes read at once: only answers come.
const READ_BYTES: usize = 4 * 1024;

/// What to do.
#[derive(Debug)]
pub(super) struct Load {
    /// HOST:PORT of the broker.
    pub(super) address: String,
    /// What comes and goes.
    pub(super) churn: Churn,
    /// How many loops at a time.
    pub(super) clients: usize,
    /// How long, or how often each.
    pub(super) length: Length,
    /// How names of queues begin.
    pub(super) queue: String,
}

/// The outcome.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ChurnReport {
    what: &'static str,
    clients: usize,
    count: u64,
    seconds: f64,
    per_second: f64,
    /// From the first byte sent to the last answer, of one round.
    latency_us: Option<Percentiles>,
    client_cpu_seconds: f64,
    broker_cpu_seconds: Option<f64>,
}

/// Runs the loops to their end.
///
/// # Errors
/// When the broker is not there or refuses.
pub(super) fn run<W: Wire>(load: &Load, wire: &W, pids: Vec<u32>) -> Result<ChurnReport, Failure> {
    let processes = Processes::new(pids);
    let (start, before) = (clock::now(), processes.cpu());
    let (limit, stop_at) = match load.length {
        Length::Count(count) => (count, u64::MAX),
        Length::Time(time) => (u64::MAX, start.saturating_add(nanoseconds(time))),
        Length::Open => (u64::MAX, start + 10 * SECOND),
    };
    let rounds = thread::scope(|scope| {
        let threads: Vec<_> = (0..load.clients)
            .map(|client| scope.spawn(move || rounds(load, wire, client, limit, stop_at)))
            .collect();
        let panicked = |_| Failure::running("a thread of the generator has panicked");
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(panicked)?)
            .collect::<Result<Vec<Latency>, Failure>>()
    })?;
    let (elapsed, after) = (seconds(clock::now() - start), processes.cpu());
    let mut latency = Latency::new();
    rounds.into_iter().for_each(|thread| latency.add(thread));
    let latency_us = latency.percentiles();
    let count = latency_us.map_or(0, |latency| latency.count);
    Ok(ChurnReport {
        what: match load.churn {
            Churn::Connections => "connections",
            Churn::Queues => "queues",
        },
        clients: load.clients,
        count,
        seconds: elapsed,
        per_second: per(count, elapsed),
        latency_us,
        client_cpu_seconds: seconds(after.own - before.own),
        broker_cpu_seconds: (!processes.is_empty())
            .then(|| seconds(after.watched.saturating_sub(before.watched))),
    })
}

/// One loop.
fn rounds<W: Wire>(
    load: &Load,
    wire: &W,
    client: usize,
    limit: u64,
    stop_at: u64,
) -> Result<Latency, Failure> {
    let mut latency = Latency::new();
    let open = || Session::open(&load.address, wire, READ_BYTES, 0);
    let mut session = match load.churn {
        Churn::Connections => None,
        Churn::Queues => Some(open()?),
    };
    let mut from = clock::now();
    for round in 0..limit {
        if from >= stop_at {
            break;
        }
        match &mut session {
            None => open()?.ask(|wire, out| wire.goodbye(out))?,
            Some(session) => {
                let queue = format!("/queue/{}-{client}-{round}", load.queue);
                session.ask(|wire, out| wire.subscribe(0, &queue, out))?;
                session.ask(|wire, out| wire.unsubscribe(0, out))?;
            }
        }
        let now = clock::now();
        latency.record(now - from);
        from = now;
    }
    Ok(latency)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Display for ChurnReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {} in {:.2} s, {} at a time: {}/s",
            grouped(self.count as f64),
            self.what,
            self.seconds,
            self.clients,
            grouped(self.per_second)
        )?;
        if let Some(latency) = &self.latency_us {
            let Percentiles { p50, p99, max, .. } = latency;
            writeln!(f, "each, us     p50 {p50:.0}, p99 {p99:.0}, max {max:.0}")?;
        }
        write!(f, "client CPU   {:.2} s", self.client_cpu_seconds)?;
        if let Some(cpu) = self.broker_cpu_seconds {
            let each = cpu / self.count.max(1) as f64 * 1e6;
            write!(f, "\nbroker CPU   {cpu:.2} s, {each:.0} us each")?;
        }
        writeln!(f)
    }
}
