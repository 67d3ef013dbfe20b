//! A run from its first connection to its report: who starts when, and when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use super::Failure;
use super::clock::{self, SECOND};
use super::consumer::{self, Consumer, Ledger};
use super::input::{DELIVERIES, RECEIPTS};
use super::plan::{Length, Plan};
use super::process::Processes;
use super::producer::{self, Producer};
use super::progress::{Progress, Sample};
use super::report::{LoadReport, Results};
use super::schedule::Schedule;
use super::socket::{PATIENCE, Session};
use super::wire::Wire;
use super::worker::{Counters, Orders, consume, produce};

/// How often the threads are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The same when the end is near, which must not be missed by much.
const LOOK_CLOSELY: Duration = Duration::from_millis(2);

/// Longest wait for consumers to say goodbye.
const GOODBYE: u64 = 30 * SECOND;

/// What a thread tells the one that watches.
enum Event {
    /// Its subscriptions stand.
    Ready,
    /// Its producers are done.
    Produced,
    /// Its consumers have left.
    Consumed,
    /// It failed.
    Failed(Failure),
}

/// What a producing thread leaves: its producers, and when the last one was done.
type Produced<W> = (Vec<Producer<W>>, u64);

/// The threads of one kind that run, and what they left.
struct Crew<'scope, T> {
    threads: Vec<ScopedJoinHandle<'scope, Option<T>>>,
    /// Threads that have not ended.
    running: usize,
}

impl<T> Crew<'_, T> {
    fn none() -> Self {
        Self {
            threads: Vec::new(),
            running: 0,
        }
    }

    /// What the threads left; those that failed have said so.
    fn join(self) -> Result<Vec<T>, Failure> {
        let mut left = Vec::new();
        for thread in self.threads {
            let panicked = |_| Failure::running("a thread of the generator has panicked");
            left.extend(thread.join().map_err(panicked)?);
        }
        Ok(left)
    }
}

/// A run under way.
struct Run<'a, W: Wire> {
    plan: &'a Plan,
    wire: &'a W,
    orders: &'a Orders,
    producing: &'a [Counters],
    consuming: &'a [Counters],
    processes: &'a Processes,
}

/// Runs a plan.
///
/// # Errors
/// When the broker is not there, refuses something, or a connection fails.
pub(super) fn run<W: Wire>(plan: &Plan, wire: &W) -> Result<LoadReport, Failure> {
    let counters = |threads: usize| (0..threads).map(|_| Counters::default()).collect();
    let producing: Vec<Counters> = counters(plan.producer_threads());
    let consuming: Vec<Counters> = counters(plan.consumer_threads());
    let orders = Arc::new(Orders {
        stop_at: AtomicU64::new(u64::MAX),
        warm_until: AtomicU64::new(u64::MAX),
        leave: AtomicBool::new(false),
        abort: AtomicBool::new(false),
    });
    stop_on_interrupt(Arc::clone(&orders));
    let run = Run {
        plan,
        wire,
        orders: &orders,
        producing: &producing,
        consuming: &consuming,
        processes: &Processes::new(plan.pids.clone()),
    };
    thread::scope(|scope| {
        let (events, inbox) = channel();
        let done = run.phases(scope, &events, &inbox);
        // Whoever still runs has no reason to.
        orders.abort.store(true, Relaxed);
        done
    })
}

/// Ctrl-C ends producing, and the report is still given; a second one ends the program.
fn stop_on_interrupt(orders: Arc<Orders>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    // Without it Ctrl-C does what it always does.
    let Ok(runtime) = runtime else { return };
    thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                orders.stop_at.store(0, Relaxed);
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    });
}

impl<W: Wire> Run<'_, W> {
    fn phases<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        events: &Sender<Event>,
        inbox: &Receiver<Event>,
    ) -> Result<LoadReport, Failure> {
        let plan = self.plan;
        let producers = self.connect(plan.producers, RECEIPTS)?;
        let memory_before = self.processes.memory();
        let mut consumers = Crew::none();
        let mut start = clock::now();
        if plan.consumers > 0 && !plan.drain_later {
            let sessions = self.connect(plan.consumers, DELIVERIES)?;
            start = clock::now();
            consumers = self.start_consumers(scope, sessions, events)?;
            // Without producers the deliveries are the run, and they come at once.
            if plan.producers > 0 {
                wait_until_ready(inbox, consumers.running)?;
                start = clock::now();
            }
        }
        let warm_until = start + nanoseconds(plan.warm_up);
        self.orders.warm_until.store(warm_until, Relaxed);
        if let Length::Time(time) = plan.length {
            let end = start.saturating_add(nanoseconds(time));
            self.orders.stop_at.fetch_min(end, Relaxed);
        }
        let mut progress = Progress::new(plan.progress, start, self.sample(start));
        let producers = self.start_producers(scope, producers, start, warm_until, events)?;
        let mut crews = (producers, consumers);
        let mut produced_at = start;
        let mut consuming_since = start;
        let mut leave_by = None;
        let mut is_cut = false;
        while crews.0.running > 0 || crews.1.running > 0 {
            let closely = crews.0.running == 0 || self.is_nearly_over(clock::now());
            let look = if closely { LOOK_CLOSELY } else { LOOK };
            match inbox.recv_timeout(look) {
                Ok(Event::Failed(failure)) => return Err(failure),
                Ok(Event::Ready) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Consumed) => crews.1.running -= 1,
                Ok(Event::Produced) => {
                    crews.0.running -= 1;
                    produced_at = clock::now();
                    if crews.0.running == 0 && plan.drain_later {
                        consuming_since = produced_at;
                        let sessions = self.connect(plan.consumers, DELIVERIES)?;
                        crews.1 = self.start_consumers(scope, sessions, events)?;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let sample = self.sample(clock::now());
            progress.note(sample, warm_until);
            if leave_by.is_none() && self.is_out_of_time(&sample, crews.0.running, produced_at) {
                // Not in order: the answer to a goodbye would come behind all that waits.
                is_cut = true;
                break;
            }
            if crews.0.running > 0 {
                continue;
            }
            match leave_by {
                None if self.is_drained(&sample, produced_at) => {
                    self.orders.leave.store(true, Relaxed);
                    leave_by = Some(sample.at + GOODBYE);
                }
                Some(deadline) if sample.at > deadline => {
                    return Err(Failure::running("the broker does not answer DISCONNECT"));
                }
                _ => {}
            }
        }
        let (begin, end) = progress.finish(self.sample(clock::now()));
        self.orders.abort.store(true, Relaxed);
        Ok(LoadReport::new(Results {
            plan,
            begin,
            end,
            is_cut,
            consuming_since: consuming_since.max(begin.at),
            produced: crews.0.join()?,
            ledgers: crews.1.join()?,
            memory: [memory_before, self.processes.memory()],
        }))
    }

    /// Whether what still waits is not to be waited for. Producers may have been told to stop and not be done: what they
    /// have written fills the buffers of the sockets.
    fn is_out_of_time(&self, sample: &Sample, producing: usize, produced_at: u64) -> bool {
        let Some(limit) = self.plan.drain_time.map(nanoseconds) else {
            return false;
        };
        let stop_at = self.orders.stop_at.load(Relaxed);
        let since = if producing > 0 {
            stop_at
        } else {
            stop_at.min(produced_at)
        };
        sample.at.saturating_sub(since) > limit
    }

    /// Whether nothing more is to be waited for.
    fn is_drained(&self, sample: &Sample, produced_at: u64) -> bool {
        let plan = self.plan;
        let complete = plan.producers > 0
            && plan.consumer_limit.is_none()
            && sample.unique >= plan.deliveries(sample.sent);
        let over = plan.producers == 0 && sample.at >= self.orders.stop_at.load(Relaxed);
        let quiet_since = sample.last_delivery.max(produced_at);
        complete || over || sample.at.saturating_sub(quiet_since) > nanoseconds(plan.patience)
    }

    /// Whether the time to stop is close.
    fn is_nearly_over(&self, now: u64) -> bool {
        let stop_at = self.orders.stop_at.load(Relaxed);
        now.saturating_add(nanoseconds(LOOK)) >= stop_at
    }

    /// What the counters and the processes say.
    fn sample(&self, at: u64) -> Sample {
        let mut sample = Sample {
            at,
            cpu: self.processes.cpu(),
            ..Sample::default()
        };
        for counters in self.producing {
            sample.sent += counters.sent.load(Relaxed);
            sample.confirmed += counters.confirmed.load(Relaxed);
        }
        for counters in self.consuming {
            sample.delivered += counters.delivered.load(Relaxed);
            sample.unique += counters.unique.load(Relaxed);
            let last = counters.last_delivery.load(Relaxed);
            sample.last_delivery = sample.last_delivery.max(last);
        }
        sample
    }

    /// Logs in so many connections.
    fn connect(&self, count: usize, read_bytes: usize) -> Result<Vec<Session<W>>, Failure> {
        let plan = self.plan;
        (0..count)
            .map(|_| {
                let session = Session::open(&plan.address, self.wire, read_bytes, plan.size)?;
                session
                    .stream
                    .set_nonblocking(true)
                    .map_err(Failure::lost)?;
                Ok(session)
            })
            .collect()
    }

    fn start_consumers<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        sessions: Vec<Session<W>>,
        events: &Sender<Event>,
    ) -> Result<Crew<'scope, Ledger>, Failure> {
        let plan = self.plan;
        let now = clock::now();
        let mut threads: Vec<Vec<Consumer<W>>> = Vec::new();
        threads.resize_with(plan.consumer_threads(), Vec::new);
        for (number, session) in sessions.into_iter().enumerate() {
            let share = plan.consumer_share(number);
            let subscription = |&stream: &usize| {
                let destination = &plan.destinations[plan.destination_of(stream)];
                (stream, destination.clone())
            };
            let task = consumer::Task {
                run: plan.run,
                subscriptions: share.destinations().iter().map(subscription).collect(),
                limit: plan.consumer_limit,
                rate: plan.consumer_rate,
                acks: plan.acks,
            };
            threads[plan.consumer_thread(number)].push(Consumer::new(session, task, now));
        }
        spawn(
            scope,
            threads,
            events,
            || Event::Consumed,
            move |at, mut consumers, events| {
                let mut ledger = Ledger::new(plan.streams());
                let ready = || drop(events.send(Event::Ready));
                let counters = &self.consuming[at];
                consume(&mut consumers, &mut ledger, self.orders, counters, ready)?;
                Ok(ledger)
            },
        )
    }

    fn start_producers<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        sessions: Vec<Session<W>>,
        start: u64,
        warm_until: u64,
        events: &Sender<Event>,
    ) -> Result<Crew<'scope, Produced<W>>, Failure> {
        let plan = self.plan;
        let mut threads: Vec<Vec<Producer<W>>> = Vec::new();
        threads.resize_with(plan.producer_threads(), Vec::new);
        let count = sessions.len() as u64;
        for (number, session) in sessions.into_iter().enumerate() {
            let share = plan.producer_share(number);
            let destination = |&at: &usize| plan.destinations[at].clone();
            let destinations: Vec<String> = share.destinations().iter().map(destination).collect();
            let task = producer::Task {
                run: plan.run.unwrap_or_default(),
                id: u16::try_from(number).unwrap_or(u16::MAX),
                share,
                limit: match plan.length {
                    Length::Count(count) => Some(count),
                    Length::Time(_) | Length::Open => None,
                },
                // Spread over one interval, so that producers do not all send at the same instant.
                schedule: plan.rate.map(|rate| {
                    let offset = SECOND / rate * number as u64 / count;
                    Schedule::new(start + offset, rate)
                }),
                window: plan.window,
            };
            let producer = Producer::new(session, task, &destinations, warm_until);
            let thread = number % threads.len();
            threads[thread].push(producer);
        }
        spawn(
            scope,
            threads,
            events,
            || Event::Produced,
            move |at, mut producers, _| {
                let counters = &self.producing[at];
                let ended = produce(&mut producers, self.orders, counters, plan.early())?;
                Ok((producers, ended))
            },
        )
    }
}

fn spawn<'scope, C: Send + 'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    shares: Vec<C>,
    events: &Sender<Event>,
    ended: fn() -> Event,
    work: impl Fn(usize, C, &Sender<Event>) -> Result<T, Failure> + Clone + Send + 'scope,
) -> Result<Crew<'scope, T>, Failure> {
    let running = shares.len();
    let mut threads = Vec::with_capacity(running);
    for (at, share) in shares.into_iter().enumerate() {
        let (work, events) = (work.clone(), events.clone());
        let body = move || {
            let (event, left) = match work(at, share, &events) {
                Ok(left) => (ended(), Some(left)),
                Err(failure) => (Event::Failed(failure), None),
            };
            // Nobody listens any more when another thread has failed before.
            let _ = events.send(event);
            left
        };
        let thread = thread::Builder::new().spawn_scoped(scope, body);
        threads.push(thread.map_err(Failure::running)?);
    }
    Ok(Crew { threads, running })
}

fn wait_until_ready(inbox: &Receiver<Event>, threads: usize) -> Result<(), Failure> {
    for _ in 0..threads {
        match inbox.recv_timeout(PATIENCE) {
            Ok(Event::Failed(failure)) => return Err(failure),
            Ok(_) => {}
            Err(_) => return Err(Failure::running("the broker does not answer SUBSCRIBE")),
        }
    }
    Ok(())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
