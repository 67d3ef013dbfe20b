//! A producer: one connection that publishes as fast as it may. "May" is its count, its schedule, its window of
//! unanswered receipts, and what the socket takes.

use std::collections::VecDeque;

use super::Failure;
use super::input::Got;
use super::latency::Latency;
use super::plan::Share;
use super::schedule::Schedule;
use super::socket::{Output, Session};
use super::stamp::Stamp;
use super::wire::{GOODBYE_RECEIPT, Incoming, RECEIPT_DIGITS, Scan, Template, Wire, write_decimal};

/// Bytes encoded before they are written, unless a single message is larger.
const BATCH_BYTES: usize = 64 * 1024;

/// How receipts are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Messages that may be out without an answer.
    pub(super) messages: u64,
    /// Every how many messages a receipt is asked for.
    pub(super) every: u64,
}

/// What a producer is to do.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The run that its messages belong to.
    pub(super) run: u16,
    /// Its number in the run.
    pub(super) id: u16,
    /// Its destinations, in turn.
    pub(super) share: Share,
    /// How many messages, if there is an end.
    pub(super) limit: Option<u64>,
    /// Without, as fast as possible.
    pub(super) schedule: Option<Schedule>,
    /// Without, no receipts.
    pub(super) window: Option<Window>,
}

/// How far a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Publishing,
    /// Nothing more is to be sent; receipts are out.
    Settling,
    /// The goodbye is sent, its answer awaited.
    Leaving,
    Gone,
}

/// What a producer can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Encode more at once.
    Encode,
    /// Wait until this time (of [`super::clock`]), or for the socket.
    At(u64),
    /// Wait for the socket.
    Socket,
}

/// One producing connection.
pub(super) struct Producer<W: Wire> {
    session: Session<W>,
    task: Task,
    /// For each destination: without and with a receipt.
    templates: Vec<[Template; 2]>,
    output: Output,
    /// Messages encoded.
    sent: u64,
    /// Messages answered for: this many, from the first on.
    confirmed: u64,
    /// Receipts asked for: the count of messages each answers for, and when its message was meant to be sent.
    awaited: VecDeque<(u64, u64)>,
    phase: Phase,
    /// Delays of receipts and of the schedule count from here on.
    warm_until: u64,
    pub(super) receipts: Latency,
    pub(super) lag: Latency,
}

impl<W: Wire> Producer<W> {
    /// Takes over a session whose socket does not block. `destinations` are those of the task's share.
    pub(super) fn new(
        session: Session<W>,
        task: Task,
        destinations: &[String],
        warm_until: u64,
    ) -> Self {
        let wire = &session.wire;
        let templates = destinations
            .iter()
            .map(|destination| [false, true].map(|receipt| wire.template(destination, receipt)))
            .collect();
        Self {
            session,
            task,
            templates,
            output: Output::default(),
            sent: 0,
            confirmed: 0,
            awaited: VecDeque::new(),
            phase: Phase::Publishing,
            warm_until,
            receipts: Latency::new(),
            lag: Latency::new(),
        }
    }

    /// The socket, to poll.
    pub(super) fn stream(&self) -> &std::net::TcpStream {
        &self.session.stream
    }

    /// Its number and its share of the destinations.
    pub(super) fn task(&self) -> &Task {
        &self.task
    }

    /// Messages sent, and messages the broker has answered for.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.sent, self.confirmed)
    }

    /// Whether it has said goodbye and was answered.
    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether bytes wait for the socket to take them.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Publishes no more than it has.
    pub(super) fn stop(&mut self) {
        if self.phase == Phase::Publishing {
            self.phase = Phase::Settling;
        }
    }

    /// How many messages the window and the count let it send now.
    fn room(&self) -> u64 {
        let window = self.task.window.map_or(u64::MAX, |window| {
            window.messages.saturating_sub(self.sent - self.confirmed)
        });
        let left = self.task.limit.map_or(u64::MAX, |limit| limit - self.sent);
        window.min(left)
    }

    /// What it can do next.
    pub(super) fn next(&self, now: u64) -> Next {
        if self.phase != Phase::Publishing || !self.output.is_empty() || self.room() == 0 {
            return Next::Socket;
        }
        match &self.task.schedule {
            Some(schedule) if schedule.at(self.sent) > now => Next::At(schedule.at(self.sent)),
            _ => Next::Encode,
        }
    }

    /// Encodes one batch of what may be sent at `now`, and writes.
    ///
    /// # Errors
    /// When the connection has failed.
    pub(super) fn advance(&mut self, now: u64) -> Result<(), Failure> {
        if self.output.is_empty() && self.phase == Phase::Publishing {
            self.encode(now);
            if self.task.limit == Some(self.sent) {
                self.phase = Phase::Settling;
            }
        }
        if self.phase == Phase::Settling && self.output.is_empty() && self.awaited.is_empty() {
            self.session.wire.goodbye(&mut self.output.bytes);
            self.phase = Phase::Leaving;
        }
        self.output
            .write(&self.session.stream)
            .map_err(Failure::lost)?;
        Ok(())
    }

    fn encode(&mut self, now: u64) {
        let mut count = self.room();
        if let Some(schedule) = &self.task.schedule {
            count = count.min(schedule.due(now).saturating_sub(self.sent));
        }
        let Task {
            run,
            id,
            share,
            window,
            limit,
            schedule,
        } = &self.task;
        let destinations = share.len() as u64;
        let mut seq = self.sent / destinations;
        let mut place = share.place(self.sent);
        let out = &mut self.output.bytes;
        while count > 0 {
            let asks = window.is_some_and(|window| {
                (self.sent + 1).is_multiple_of(window.every) || *limit == Some(self.sent + 1)
            });
            let template = &self.templates[place][usize::from(asks)];
            let base = out.len();
            if base > 0 && base + template.bytes.len() > BATCH_BYTES {
                break;
            }
            out.extend_from_slice(&template.bytes);
            let mut sent = now;
            if let Some(schedule) = schedule {
                sent = schedule.at(self.sent);
                if sent >= self.warm_until {
                    self.lag.record(now - sent);
                }
            }
            let stamp = Stamp {
                run: *run,
                producer: *id,
                seq,
                sent,
            };
            stamp.write(&mut out[base + template.body_at..]);
            self.sent += 1;
            if let Some(at) = template.receipt_at {
                write_decimal(&mut out[base + at..base + at + RECEIPT_DIGITS], self.sent);
                self.awaited.push_back((self.sent, sent));
            }
            place += 1;
            if place == share.len() {
                (place, seq) = (0, seq + 1);
            }
            count -= 1;
        }
    }

    /// Reads what came: receipts. `read_at` is when the socket became readable.
    ///
    /// # Errors
    /// When the broker refused a message, or the connection has failed.
    pub(super) fn receive(&mut self, read_at: u64) -> Result<(), Failure> {
        let session = &mut self.session;
        let got = session.input.fill(&session.stream).map_err(Failure::lost)?;
        while let Some((length, incoming)) = session.scanner.next(session.input.unread())? {
            match incoming {
                Incoming::Receipt(GOODBYE_RECEIPT) if self.phase == Phase::Leaving => {
                    self.confirmed = self.sent;
                    self.phase = Phase::Gone;
                }
                Incoming::Receipt(count) if count <= self.sent => {
                    self.confirmed = self.confirmed.max(count);
                    while let Some(&(_, sent)) =
                        self.awaited.front().filter(|(asked, _)| *asked <= count)
                    {
                        self.awaited.pop_front();
                        if sent >= self.warm_until {
                            self.receipts.record(read_at.saturating_sub(sent));
                        }
                    }
                }
                other => return Err(Failure::unexpected(&other)),
            }
            session.input.consume(length);
        }
        if got == Got::End && self.phase != Phase::Gone {
            return Err(Failure::closed());
        }
        Ok(())
    }
}
