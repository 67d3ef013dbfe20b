//! The figures of a run, for people and for machines.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::Failure;
use super::check::Findings;
use super::clock::seconds;
use super::consumer::{Acks, Ledger};
use super::latency::{Latency, Percentiles};
use super::plan::Plan;
use super::process::Memory;
use super::producer::Producer;
use super::progress::{Sample, grouped, per};
use super::wire::Wire;

/// Prints a report on standard output.
pub(super) fn print(report: &(impl Display + Serialize), json: bool) {
    if json {
        match serde_json::to_string(report) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("error: cannot write the report: {error}"),
        }
    } else {
        print!("{report}");
    }
}

/// Messages, and how fast they went.
#[derive(Clone, Copy, Debug, Serialize)]
struct Flow {
    messages: u64,
    bytes: u64,
    seconds: f64,
    per_second: f64,
}

impl Flow {
    fn new(messages: u64, size: u64, seconds: f64) -> Self {
        Self {
            messages,
            bytes: messages * size,
            seconds,
            per_second: per(messages, seconds),
        }
    }
}

/// Delays in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Delays {
    /// From when a message was meant to be sent until it was read.
    delivery: Option<Percentiles>,
    /// From when a message was meant to be sent until its receipt was read.
    receipt: Option<Percentiles>,
    /// From when a message was meant to be sent until the generator wrote it.
    lag: Option<Percentiles>,
}

/// CPU seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct CpuSeconds {
    pub(super) seconds: f64,
    pub(super) per_million_published: Option<f64>,
    pub(super) per_million_delivered: Option<f64>,
}

impl CpuSeconds {
    fn new(seconds: f64, published: u64, delivered: u64) -> Self {
        let per_million = |count: u64| (count > 0).then(|| seconds / count as f64 * 1e6);
        Self {
            seconds,
            per_million_published: per_million(published),
            per_million_delivered: per_million(delivered),
        }
    }
}

/// What the processes watched have used.
#[derive(Clone, Copy, Debug, Serialize)]
struct Watched {
    cpu: CpuSeconds,
    memory_before: Memory,
    memory_after: Memory,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
struct Conditions {
    address: String,
    producers: usize,
    consumers: usize,
    destinations: usize,
    fanout: bool,
    size: usize,
    persistent: bool,
    rate: Option<u64>,
    receipts_window: Option<u64>,
    receipt_every: Option<u64>,
    acks: &'static str,
    ack_every: Option<u64>,
    drain_later: bool,
}

/// The outcome of a run with messages.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LoadReport {
    conditions: Conditions,
    published: Flow,
    confirmed: u64,
    delivered: Flow,
    latency_us: Delays,
    /// Whether loss could be told.
    checked: bool,
    check: Findings,
    client_cpu: CpuSeconds,
    broker: Option<Watched>,
}

/// What a run leaves to report.
pub(super) struct Results<'a, W: Wire> {
    pub(super) plan: &'a Plan,
    /// The first sample that counts.
    pub(super) begin: Sample,
    /// The last one.
    pub(super) end: Sample,
    /// Whether the run ended while deliveries were still coming.
    pub(super) is_cut: bool,
    /// When deliveries could begin.
    pub(super) consuming_since: u64,
    /// The producers of each thread, and when they were done.
    pub(super) produced: Vec<(Vec<Producer<W>>, u64)>,
    pub(super) ledgers: Vec<Ledger>,
    pub(super) memory: [Memory; 2],
}

impl LoadReport {
    /// Adds up what the threads left.
    pub(super) fn new<W: Wire>(results: Results<'_, W>) -> Self {
        let Results {
            plan, begin, end, ..
        } = results;
        let is_checked = plan.is_checked() && !results.is_cut;
        let check = findings(plan, is_checked, &results.produced, &results.ledgers);
        let confirmed = end.confirmed - begin.confirmed;
        let produced_at = results.produced.iter().map(|(_, ended)| *ended).max();
        let produced_at = produced_at.unwrap_or(begin.at);
        let (mut delivery, mut receipt, mut lag) = (Latency::new(), Latency::new(), Latency::new());
        for producer in results.produced.into_iter().flat_map(|(all, _)| all) {
            receipt.add(producer.receipts);
            lag.add(producer.lag);
        }
        results
            .ledgers
            .into_iter()
            .for_each(|ledger| delivery.add(ledger.latency));
        let (sent, delivered) = (end.sent - begin.sent, end.delivered - begin.delivered);
        let elapsed = |from: u64, to: u64| seconds(to.saturating_sub(from));
        let cpu = |nanoseconds: u64| CpuSeconds::new(seconds(nanoseconds), sent, delivered);
        let size = plan.size as u64;
        let [memory_before, memory_after] = results.memory;
        Self {
            conditions: Conditions::new(plan),
            published: Flow::new(sent, size, elapsed(begin.at, produced_at)),
            confirmed,
            delivered: Flow::new(
                delivered,
                size,
                elapsed(results.consuming_since, end.last_delivery),
            ),
            latency_us: Delays {
                delivery: delivery.percentiles(),
                receipt: receipt.percentiles(),
                lag: lag.percentiles(),
            },
            checked: is_checked && plan.producers > 0,
            check,
            client_cpu: cpu(end.cpu.own - begin.cpu.own),
            broker: (!plan.pids.is_empty()).then(|| Watched {
                cpu: cpu(end.cpu.watched.saturating_sub(begin.cpu.watched)),
                memory_before,
                memory_after,
            }),
        }
    }

    /// Whether the broker kept its word.
    ///
    /// # Errors
    /// When it confirmed a message and did not deliver it.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if self.checked && self.check.lost > 0 {
            let what = match self.check.lost {
                1 => "1 message is".to_owned(),
                lost => format!("{lost} messages are"),
            };
            return Err(Failure::running(format!(
                "{what} missing that the broker had confirmed"
            )));
        }
        Ok(())
    }
}

impl Conditions {
    fn new(plan: &Plan) -> Self {
        let (acks, ack_every) = match plan.acks {
            None => ("auto", None),
            Some(Acks::Individual) => ("client-individual", None),
            Some(Acks::Cumulative(every)) => ("client", Some(every)),
        };
        Self {
            address: plan.address.clone(),
            producers: plan.producers,
            consumers: plan.consumers,
            destinations: plan.destinations.len(),
            fanout: plan.fanout,
            size: plan.size,
            persistent: plan.persistent,
            rate: plan.rate,
            receipts_window: plan.window.map(|window| window.messages),
            receipt_every: plan.window.map(|window| window.every),
            acks,
            ack_every,
            drain_later: plan.drain_later,
        }
    }
}

/// Adds up the findings, and holds what arrived against what was sent and confirmed.
fn findings<W: Wire>(
    plan: &Plan,
    is_checked: bool,
    produced: &[(Vec<Producer<W>>, u64)],
    ledgers: &[Ledger],
) -> Findings {
    let mut findings = Findings::default();
    ledgers
        .iter()
        .for_each(|ledger| findings.add(&ledger.findings));
    if !is_checked {
        return findings;
    }
    if plan.producers == 0 {
        let streams = ledgers.iter().flat_map(|ledger| ledger.streams.iter());
        findings.missing = streams.flatten().map(|stream| stream.holes()).sum();
        return findings;
    }
    for producer in produced.iter().flat_map(|(all, _)| all) {
        let task = producer.task();
        let (sent, confirmed) = producer.progress();
        for (place, &destination) in task.share.destinations().iter().enumerate() {
            let streams =
                (0..plan.streams()).filter(|&stream| plan.destination_of(stream) == destination);
            for stream in streams {
                let expected = task.share.count(place, sent);
                let promised = task.share.count(place, confirmed);
                let seen = ledgers
                    .iter()
                    .find_map(|ledger| ledger.streams[stream].get(usize::from(task.id)));
                findings.missing += seen.map_or(expected, |seen| seen.missing_below(expected));
                findings.lost += seen.map_or(promised, |seen| seen.missing_below(promised));
            }
        }
    }
    findings
}

impl Display for LoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.conditions)?;
        for (name, flow) in [
            ("published", &self.published),
            ("delivered", &self.delivered),
        ] {
            if flow.messages > 0 {
                writeln!(f, "{name:<12} {flow}")?;
            }
        }
        if self.conditions.receipts_window.is_some() {
            writeln!(
                f,
                "{:<12} {:>13}",
                "confirmed",
                grouped(self.confirmed as f64)
            )?;
        }
        let delays = &self.latency_us;
        let rows = [
            ("delivery", &delays.delivery),
            ("receipt", &delays.receipt),
            ("schedule lag", &delays.lag),
        ];
        if rows.iter().any(|(_, row)| row.is_some()) {
            writeln!(
                f,
                "{:<12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
                "delay, us", "p50", "p90", "p99", "p99.9", "p99.99", "max"
            )?;
        }
        for (name, row) in rows {
            if let Some(row) = row {
                writeln!(f, "  {name:<10} {row}")?;
            }
        }
        self.fmt_check(f)?;
        writeln!(f, "{:<12} {}", "client CPU", self.client_cpu)?;
        if let Some(broker) = &self.broker {
            writeln!(f, "{:<12} {}", "broker CPU", broker.cpu)?;
            writeln!(
                f,
                "{:<12} {}; before {}",
                "broker mem.", broker.memory_after, broker.memory_before
            )?;
        }
        Ok(())
    }
}

impl LoadReport {
    fn fmt_check(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let check = &self.check;
        let mut remarks = Vec::new();
        let mut remark = |count: u64, what: &str| {
            if count > 0 {
                remarks.push(format!("{} {what}", grouped(count as f64)));
            }
        };
        remark(check.lost, "LOST although confirmed");
        remark(check.missing - check.lost, "missing");
        remark(check.duplicates, "DUPLICATES");
        remark(check.out_of_order, "OUT OF ORDER");
        remark(check.redelivered, "redelivered");
        remark(check.foreign, "of another run");
        remark(check.unknown, "behind too many holes to be checked");
        if remarks.is_empty() && self.delivered.messages > 0 {
            let verdict = if self.checked {
                "nothing lost, doubled or out of order"
            } else {
                "nothing doubled or out of order"
            };
            remarks.push(verdict.to_owned());
        }
        if remarks.is_empty() {
            return Ok(());
        }
        writeln!(f, "{:<12} {}", "checked", remarks.join(", "))
    }
}

impl Display for Conditions {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to {} over {}, {} B {}",
            counted(self.producers, "producer"),
            counted(self.consumers, "consumer"),
            counted(
                self.destinations,
                if self.fanout { "topic" } else { "queue" }
            ),
            self.size,
            if self.persistent {
                "persistent"
            } else {
                "transient"
            }
        )?;
        if let Some(rate) = self.rate {
            write!(f, ", {rate}/s each")?;
        }
        match self.receipts_window {
            None => f.write_str(", no receipts")?,
            Some(window) => write!(f, ", receipts (window {window})")?,
        }
        write!(f, ", ack:{}", self.acks)?;
        if let Some(every) = self.ack_every {
            write!(f, " every {every}")?;
        }
        if self.drain_later {
            f.write_str(", drained later")?;
        }
        write!(f, ", {}", self.address)
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

impl Display for Flow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>13} in {:.2} s: {}/s, {:.1} MB/s",
            grouped(self.messages as f64),
            self.seconds,
            grouped(self.per_second),
            per(self.bytes, self.seconds) / 1e6
        )
    }
}

impl Display for Percentiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let values = [
            self.p50,
            self.p90,
            self.p99,
            self.p99_9,
            self.p99_99,
            self.max,
        ];
        for value in values {
            write!(f, " {value:>10.1}")?;
        }
        Ok(())
    }
}

impl Display for CpuSeconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:>13.2} s", self.seconds)?;
        for (figure, what) in [
            (self.per_million_published, "published"),
            (self.per_million_delivered, "delivered"),
        ] {
            if let Some(figure) = figure {
                write!(f, ", {figure:.2} s per million {what}")?;
            }
        }
        Ok(())
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:.1} MiB resident, {:.1} anonymous, {:.1} peak",
            mib(self.resident),
            mib(self.anonymous),
            mib(self.peak)
        )
    }
}
