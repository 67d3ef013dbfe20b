//! The threads that drive producers and consumers, and what they share with the one that watches them.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustix::event::{PollFd, PollFlags};

use super::Failure;
use super::clock::{self, SECOND};
use super::consumer::{Consumer, Ledger};
use super::producer::{Next, Producer};
use super::socket::{is_readable, wait};
use super::wire::Wire;

/// Longest wait before a thread looks at what it was told meanwhile.
const TICK: u64 = SECOND / 20;

/// What the threads are told.
#[derive(Debug)]
pub(super) struct Orders {
    /// Producers publish nothing more from this time on.
    pub(super) stop_at: AtomicU64,
    /// Delays of what was meant to be sent earlier do not count.
    pub(super) warm_until: AtomicU64,
    /// Consumers say goodbye.
    pub(super) leave: AtomicBool,
    /// Everybody stops at once, because somebody failed.
    pub(super) abort: AtomicBool,
}

/// What one thread says about its progress. Only that thread writes it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) confirmed: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) unique: AtomicU64,
    /// When there was a delivery last.
    pub(super) last_delivery: AtomicU64,
}

fn sockets<'a>(streams: impl Iterator<Item = &'a TcpStream>) -> Result<Vec<TcpStream>, Failure> {
    streams
        .map(TcpStream::try_clone)
        .collect::<Result<_, _>>()
        .map_err(Failure::lost)
}

fn interest(writing: bool, reading: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::OUT, writing);
    flags.set(PollFlags::IN, reading);
    flags
}

/// Publishes until every producer is done and has said goodbye. Returns when that was. A thread that sleeps until the
/// next message is due gets up `early` nanoseconds before and watches the clock.
///
/// # Errors
/// When the broker refused something, or a connection failed.
pub(super) fn produce<W: Wire>(
    producers: &mut [Producer<W>],
    orders: &Orders,
    counters: &Counters,
    early: u64,
) -> Result<u64, Failure> {
    clock::wake_precisely();
    let sockets = sockets(producers.iter().map(Producer::stream))?;
    let mut fds = Vec::with_capacity(sockets.len());
    loop {
        let now = clock::now();
        let stop = now >= orders.stop_at.load(Relaxed);
        let (mut timeout, mut sent, mut confirmed, mut gone) = (TICK, 0, 0, true);
        fds.clear();
        for (producer, socket) in producers.iter_mut().zip(&sockets) {
            if !producer.is_gone() {
                if stop {
                    producer.stop();
                }
                producer.advance(now)?;
                match producer.next(now) {
                    Next::Encode => timeout = 0,
                    Next::At(due) => timeout = timeout.min((due - now).saturating_sub(early)),
                    Next::Socket => {}
                }
                gone = false;
            }
            let progress = producer.progress();
            sent += progress.0;
            confirmed += progress.1;
            let flags = interest(producer.wants_to_write(), !producer.is_gone());
            fds.push(PollFd::new(socket, flags));
        }
        counters.sent.store(sent, Relaxed);
        counters.confirmed.store(confirmed, Relaxed);
        if gone || orders.abort.load(Relaxed) {
            return Ok(now);
        }
        wait(&mut fds, timeout)?;
        if fds.iter().any(is_readable) {
            let read_at = clock::now();
            for (producer, fd) in producers.iter_mut().zip(&fds) {
                if is_readable(fd) && !producer.is_gone() {
                    producer.receive(read_at)?;
                }
            }
        }
    }
}

/// Consumes until every consumer has left. `ready` is called once, when all subscriptions stand.
///
/// # Errors
/// As [`produce`].
pub(super) fn consume<W: Wire>(
    consumers: &mut [Consumer<W>],
    ledger: &mut Ledger,
    orders: &Orders,
    counters: &Counters,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    let sockets = sockets(consumers.iter().map(Consumer::stream))?;
    let mut fds = Vec::with_capacity(sockets.len());
    let mut ready = Some(ready);
    loop {
        let now = clock::now();
        let (mut timeout, mut gone, mut more, before) = (TICK, true, false, ledger.delivered);
        let leave = orders.leave.load(Relaxed);
        ledger.warm_until = orders.warm_until.load(Relaxed);
        for (at, consumer) in consumers.iter_mut().enumerate() {
            if consumer.is_gone() {
                continue;
            }
            // At first all are tried; afterwards those that have something to read.
            let readable = fds.get(at).is_none_or(is_readable);
            more |= consumer.turn(ledger, now, readable)?;
            if leave {
                consumer.leave();
            }
            consumer.write()?;
            gone &= consumer.is_gone();
        }
        if ledger.delivered > before {
            counters.delivered.store(ledger.delivered, Relaxed);
            counters.unique.store(ledger.unique, Relaxed);
            counters.last_delivery.store(clock::now(), Relaxed);
        }
        if ready.is_some() && consumers.iter().all(Consumer::is_ready) {
            ready.take().into_iter().for_each(|ready| ready());
        }
        if gone || orders.abort.load(Relaxed) {
            return Ok(());
        }
        fds.clear();
        if more && consumers.len() == 1 {
            // Reading tells as well as polling whether there is more, and costs one call less.
            continue;
        }
        let now = clock::now();
        for (consumer, socket) in consumers.iter().zip(&sockets) {
            let paused = consumer.paused_until(now);
            if let Some(until) = paused {
                timeout = timeout.min(until - now);
            }
            let reading = paused.is_none() && !consumer.is_gone();
            fds.push(PollFd::new(
                socket,
                interest(consumer.wants_to_write(), reading),
            ));
        }
        wait(&mut fds, timeout)?;
        if fds.iter().all(|fd| fd.revents().is_empty()) && timeout == TICK {
            // Nothing more for now: what an ACK for many has left open must not wait for the next message.
            consumers.iter_mut().for_each(Consumer::acknowledge);
        }
    }
}
