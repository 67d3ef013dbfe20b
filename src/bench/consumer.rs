//! A consumer: one connection with one or more subscriptions that takes, checks and acknowledges deliveries.

use super::Failure;
use super::check::{Findings, Seen, Stream};
use super::clock;
use super::input::Got;
use super::latency::Latency;
use super::schedule::Schedule;
use super::socket::{Output, Session};
use super::stamp::Stamp;
use super::wire::{CONTROL_RECEIPT, Delivery, GOODBYE_RECEIPT, Incoming, Scan, Wire};

/// Producers that a consumer without producers of its own run tells apart at most.
const PRODUCERS_MAX: usize = 1 << 16;

/// Bytes of one read that say that the broker is sending faster than we read.
const MUCH: usize = 16 * 1024;

/// What a consumer is to do.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The run whose messages it expects; without, the run of the first that comes.
    pub(super) run: Option<u16>,
    /// The streams that its subscriptions belong to: an index among the thread's, and the destination.
    pub(super) subscriptions: Vec<(usize, String)>,
    /// How many deliveries it takes, if there is an end.
    pub(super) limit: Option<u64>,
    /// How many deliveries it takes a second, if that is limited.
    pub(super) rate: Option<u64>,
    /// Every how many deliveries it acknowledges; none under automatic acknowledgement.
    pub(super) acks: Option<Acks>,
}

/// How deliveries are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acks {
    /// One acknowledgement for this many.
    Cumulative(u64),
    /// One for each.
    Individual,
}

/// The streams of one thread's consumers: for each stream and producer what was seen, and what was found.
#[derive(Debug)]
pub(super) struct Ledger {
    /// By stream and producer.
    pub(super) streams: Vec<Vec<Stream>>,
    pub(super) findings: Findings,
    pub(super) latency: Latency,
    /// Deliveries, of whatever run.
    pub(super) delivered: u64,
    /// Bytes of their bodies.
    pub(super) bytes: u64,
    /// Different messages of this run.
    pub(super) unique: u64,
    /// Delays of messages meant to be sent earlier than this do not count.
    pub(super) warm_until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Consuming,
    Leaving,
    Gone,
}

/// One consuming connection.
pub(super) struct Consumer<W: Wire> {
    session: Session<W>,
    task: Task,
    schedule: Option<Schedule>,
    output: Output,
    /// For each subscription and producer, the highest sequence number so far and one.
    highest: Vec<Vec<u64>>,
    taken: u64,
    unacked: u64,
    last_tag: Vec<u8>,
    /// Subscriptions that the broker has not answered for yet.
    unanswered: usize,
    phase: Phase,
}

impl<W: Wire> Consumer<W> {
    /// Takes over a session whose socket does not block, and subscribes.
    pub(super) fn new(session: Session<W>, task: Task, now: u64) -> Self {
        let mut output = Output::default();
        for (id, (_, destination)) in task.subscriptions.iter().enumerate() {
            session.wire.subscribe(id, destination, &mut output.bytes);
        }
        Self {
            session,
            schedule: task.rate.map(|rate| Schedule::new(now, rate)),
            output,
            highest: vec![Vec::new(); task.subscriptions.len()],
            taken: 0,
            unacked: 0,
            last_tag: Vec::new(),
            unanswered: task.subscriptions.len(),
            phase: Phase::Consuming,
            task,
        }
    }

    /// The socket, to poll.
    pub(super) fn stream(&self) -> &std::net::TcpStream {
        &self.session.stream
    }

    /// Whether all its subscriptions stand.
    pub(super) fn is_ready(&self) -> bool {
        self.unanswered == 0
    }

    /// Whether it has said goodbye and was answered.
    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether bytes wait for the socket to take them.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// When it may take the next delivery; none if it may now.
    pub(super) fn paused_until(&self, now: u64) -> Option<u64> {
        let due = self.schedule.as_ref()?.at(self.taken);
        (due > now && self.phase == Phase::Consuming).then_some(due)
    }

    /// Acknowledges what is left and says goodbye.
    pub(super) fn leave(&mut self) {
        if matches!(self.phase, Phase::Leaving | Phase::Gone) {
            return;
        }
        self.acknowledge();
        self.session.wire.goodbye(&mut self.output.bytes);
        self.phase = Phase::Leaving;
    }

    /// Acknowledges what one acknowledgement for many has left open.
    pub(super) fn acknowledge(&mut self) {
        if self.unacked > 0 && self.phase == Phase::Consuming {
            self.unacked = 0;
            self.session
                .wire
                .ack(&self.last_tag, &mut self.output.bytes);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When the connection has failed.
    pub(super) fn write(&mut self) -> Result<(), Failure> {
        let written = self.output.write(&self.session.stream);
        written.map(drop).map_err(Failure::lost)
    }

    /// Takes what it may, reading once if the socket has something. True if so much came that there is probably more.
    ///
    /// # Errors
    /// When the broker refused something, or the connection has failed.
    pub(super) fn turn(
        &mut self,
        ledger: &mut Ledger,
        now: u64,
        readable: bool,
    ) -> Result<bool, Failure> {
        if self.schedule.is_some() {
            // What was read before it might be taken.
            self.take(ledger, now)?;
        }
        if !readable || self.paused_until(now).is_some() {
            return Ok(false);
        }
        let session = &mut self.session;
        let got = session.input.fill(&session.stream).map_err(Failure::lost)?;
        if got == Got::Nothing {
            return Ok(false);
        }
        let much = matches!(got, Got::Bytes(count) if count >= MUCH);
        // One reading of the clock for all that came together: they arrived when the read returned.
        self.take(ledger, clock::now())?;
        if got == Got::End && self.phase != Phase::Gone {
            return Err(Failure::closed());
        }
        Ok(much)
    }

    /// Takes the deliveries that were read and may be taken by now.
    ///
    /// # Errors
    /// As [`Self::turn`].
    fn take(&mut self, ledger: &mut Ledger, now: u64) -> Result<(), Failure> {
        let mut allowed = self.schedule.as_ref().map_or(u64::MAX, |schedule| {
            schedule.due(now).saturating_sub(self.taken)
        });
        while allowed > 0 || self.phase != Phase::Consuming {
            let session = &mut self.session;
            let Some((length, incoming)) = session.scanner.next(session.input.unread())? else {
                break;
            };
            match incoming {
                Incoming::Message(delivery) => {
                    // What comes behind the goodbye was never acknowledged and goes back to the queue.
                    if self.phase != Phase::Leaving {
                        let highest = self.highest.get_mut(delivery.subscription);
                        let highest = highest.ok_or_else(Failure::wrong_subscription)?;
                        let (stream, _) = self.task.subscriptions[delivery.subscription];
                        self.task.run = ledger.note(self.task.run, stream, &delivery, highest, now);
                        allowed = allowed.saturating_sub(1);
                        self.taken += 1;
                        match self.task.acks {
                            None => {}
                            Some(Acks::Individual) => {
                                session.wire.ack(delivery.tag, &mut self.output.bytes);
                            }
                            Some(Acks::Cumulative(every)) => {
                                self.unacked += 1;
                                if self.unacked >= every {
                                    self.unacked = 0;
                                    session.wire.ack(delivery.tag, &mut self.output.bytes);
                                } else {
                                    self.last_tag.clear();
                                    self.last_tag.extend_from_slice(delivery.tag);
                                }
                            }
                        }
                    }
                }
                Incoming::Receipt(CONTROL_RECEIPT) if self.unanswered > 0 => self.unanswered -= 1,
                Incoming::Receipt(GOODBYE_RECEIPT) if self.phase == Phase::Leaving => {
                    self.phase = Phase::Gone;
                }
                other => return Err(Failure::unexpected(&other)),
            }
            session.input.consume(length);
            if self.task.limit == Some(self.taken) {
                self.leave();
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// A ledger of this many streams.
    pub(super) fn new(streams: usize) -> Self {
        Self {
            streams: (0..streams).map(|_| Vec::new()).collect(),
            findings: Findings::default(),
            latency: Latency::new(),
            delivered: 0,
            bytes: 0,
            unique: 0,
            warm_until: 0,
        }
    }

    /// Notes a delivery; returns the run that is expected from now on. `highest` belongs to the subscription.
    #[inline]
    fn note(
        &mut self,
        run: Option<u16>,
        stream: usize,
        delivery: &Delivery<'_>,
        highest: &mut Vec<u64>,
        now: u64,
    ) -> Option<u16> {
        self.delivered += 1;
        self.bytes += delivery.body.len() as u64;
        let Some(stamp) = Stamp::read(delivery.body) else {
            self.findings.foreign += 1;
            return run;
        };
        if run.is_some_and(|run| run != stamp.run) {
            self.findings.foreign += 1;
            return run;
        }
        let producer = usize::from(stamp.producer);
        let streams = &mut self.streams[stream];
        if producer >= streams.len() {
            streams.resize_with((producer + 1).min(PRODUCERS_MAX), Stream::default);
        }
        if producer >= highest.len() {
            highest.resize((producer + 1).min(PRODUCERS_MAX), 0);
        }
        let seen = streams[producer].note(stamp.seq);
        let behind = stamp.seq + 1 < highest[producer];
        if seen == Seen::New && !behind && !delivery.redelivered {
            highest[producer] = stamp.seq + 1;
            self.unique += 1;
        } else {
            self.unique += u64::from(seen == Seen::New);
            self.findings.count(seen, delivery.redelivered, behind);
        }
        let age = stamp.age(now);
        // The stamp has only the lower bits of its time.
        if now - age >= self.warm_until {
            self.latency.record(age);
        }
        Some(stamp.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(run: u16, producer: u16, seq: u64, sent: u64) -> [u8; 16] {
        let mut body = [0; 16];
        let stamp = Stamp {
            run,
            producer,
            seq,
            sent,
        };
        stamp.write(&mut body);
        body
    }

    fn note(ledger: &mut Ledger, highest: &mut Vec<u64>, body: &[u8], redelivered: bool) {
        let delivery = Delivery {
            subscription: 0,
            tag: b"",
            redelivered,
            body,
        };
        ledger.note(Some(1), 0, &delivery, highest, 5_000);
    }

    #[test]
    fn a_ledger_tells_streams_duplicates_disorder_and_strangers_apart() {
        let (mut ledger, mut highest) = (Ledger::new(1), Vec::new());
        for (producer, seq, redelivered) in [
            (0, 0, false),
            (1, 0, false),
            (0, 2, false),
            (0, 1, false),
            (0, 1, false),
            (0, 2, true),
            (1, 1, true),
        ] {
            note(
                &mut ledger,
                &mut highest,
                &body(1, producer, seq, 2_000),
                redelivered,
            );
        }
        note(&mut ledger, &mut highest, &body(2, 0, 9, 2_000), false);
        note(&mut ledger, &mut highest, b"short", false);
        let expected = Findings {
            duplicates: 1,
            redelivered: 2,
            redelivered_again: 1,
            out_of_order: 2,
            foreign: 2,
            ..Findings::default()
        };
        assert_eq!(ledger.findings, expected);
        assert_eq!((ledger.delivered, ledger.unique), (9, 5));
        assert_eq!(ledger.streams[0][0].missing_below(3), 0);
        assert_eq!(ledger.streams[0][1].missing_below(4), 2);
    }

    #[test]
    fn delays_of_the_warm_up_do_not_count() {
        let (mut ledger, mut highest) = (Ledger::new(1), Vec::new());
        ledger.warm_until = 1_000;
        note(&mut ledger, &mut highest, &body(1, 0, 0, 999), false);
        note(&mut ledger, &mut highest, &body(1, 0, 1, 1_000), false);
        let found = ledger.latency.percentiles().expect("one counted");
        assert_eq!(found.count, 1);
        assert!((found.max - 4.0).abs() < 0.01, "4 us: {}", found.max);
    }
}
