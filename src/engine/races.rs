//! Many threads at one broker: whatever they do to each other, every message arrives once, in order where
//! order is promised, nobody waits for ever, and nothing is left behind.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use super::arguments::Arguments;
use super::consumer::ConsumerSpec;
use super::delivery::{ConsumerTag, Delivery, Outcome, Token};
use super::fixtures::{Draft, TestBroker, acknowledging, automatic};
use super::memory::{Memory, MemoryLimit};
use super::name::{ExchangeName, QueueName};
use super::outbox::{Item, Outbox};
use super::queue::{ConsumerId, LocalQueue, Queue, QueueSpec};
use super::transaction::Transaction;
use crate::storage::MemoryStore;

/// Bytes in memory from which on queues are paged: some dozens of these messages.
const PAGE_FROM: u64 = 8 << 10;
const PUBLISHERS: u64 = 2;
const MESSAGES: u64 = 10_000;
/// Longer than anything here takes on any machine: who waits for so long was forgotten.
const FOREVER: Duration = Duration::from_secs(60);

/// What the threads share.
struct Race {
    mill: TestBroker,
    runtime: Handle,
    /// Ids in the order they arrived.
    arrived: Mutex<Vec<u64>>,
    over: CancellationToken,
    turns: AtomicUsize,
}

/// A connection with one consumer.
struct Client<'r> {
    race: &'r Race,
    queue: Arc<LocalQueue>,
    spec: ConsumerSpec,
    outbox: Arc<Outbox>,
    id: ConsumerId,
}

impl Race {
    fn new(store: &MemoryStore, runtime: Handle, page_from: Option<u64>) -> Self {
        let memory = Memory::new(MemoryLimit::Bytes(1 << 30));
        let memory = match page_from {
            Some(bytes) => memory.paging_from(bytes),
            None => memory,
        };
        let mill = TestBroker::with_memory(Box::new(store.clone()), memory);
        mill.broker.start();
        Self {
            mill,
            runtime,
            arrived: Mutex::default(),
            over: CancellationToken::new(),
            turns: AtomicUsize::new(0),
        }
    }

    fn publish(&self, publisher: u64) {
        let mut next = 0;
        while next < MESSAGES {
            let upto = (next + 1 + next % 17).min(MESSAGES);
            let drafts: Vec<Draft> = (next..upto)
                .map(|n| Draft {
                    persistent: !n.is_multiple_of(3),
                    ..Draft::new(publisher * MESSAGES + n).to("a")
                })
                .collect();
            self.mill.publish(&drafts);
            next = upto;
        }
    }

    fn client(&self, queue: &Arc<LocalQueue>, spec: ConsumerSpec, room: usize) -> Client<'_> {
        let outbox = Arc::new(Outbox::new(room));
        let consumer = self.mill.subscribe_with(queue, spec.clone(), &outbox);
        Client {
            race: self,
            queue: Arc::clone(queue),
            spec,
            id: consumer.unwrap().id,
            outbox,
        }
    }

    /// Moves messages from `a` to `b`, in transactions and without; now and then some go back first.
    fn relay(&self, a: &Arc<LocalQueue>, returns: bool) {
        let client = self.client(a, acknowledging(1), 2_000);
        while let Some(taken) = client.receive() {
            let nth = self.turns.fetch_add(1, Ordering::Relaxed);
            if returns && nth.is_multiple_of(5) {
                let back = Outcome::Requeue {
                    counted: true,
                    delay_ms: 0,
                };
                self.mill.settle(a, &taken, back);
                continue;
            }
            let moved = taken.iter().map(|delivery| {
                let meta = delivery.message.meta();
                Draft {
                    persistent: meta.persistent,
                    ..Draft::new(meta.id.0).to("b")
                }
            });
            if nth.is_multiple_of(3) {
                let drafts: Vec<Draft> = moved.collect();
                client.done(&taken);
                self.mill.publish(&drafts);
                continue;
            }
            let mut transaction = Transaction::default();
            for (draft, delivery) in moved.zip(&taken) {
                transaction.send(draft.build(), true);
                let queue: Arc<dyn Queue> = Arc::clone(a) as Arc<dyn Queue>;
                transaction.settle(queue, delivery.token.unwrap(), Outcome::Ack);
            }
            self.mill
                .turn(|turn| transaction.commit(turn, &self.mill.vhost))
                .unwrap();
        }
    }

    /// Takes messages out of `b`, leaving and coming back now and then.
    fn sink(&self, b: &Arc<LocalQueue>, spec: ConsumerSpec) {
        let mut client = self.client(b, spec, 1_000);
        while let Some(taken) = client.receive() {
            client.done(&taken);
            let mut arrived = self.arrived.lock();
            arrived.extend(taken.iter().map(|delivery| delivery.message.meta().id.0));
            let all = arrived.len() as u64 >= PUBLISHERS * MESSAGES;
            drop(arrived);
            if all {
                self.over.cancel();
            }
            let nth = self.turns.fetch_add(1, Ordering::Relaxed);
            if nth.is_multiple_of(7) {
                client = client.come_again();
            }
        }
    }

    /// Makes queues, binds them, fills them and deletes them, as fast as it can.
    fn churn(&self) {
        let exchange = ExchangeName::amq_fanout();
        let name = QueueName::from_static("short");
        let mut spec = QueueSpec {
            auto_delete: true,
            ..super::fixtures::durable(Arguments::from([("x-dead-letter-exchange", "")]))
        };
        spec.arguments.insert("x-max-length", 3);
        spec.arguments.insert("x-expires", 1);
        while !self.over.is_cancelled() {
            let queue = self.mill.declare("short", &spec).unwrap();
            let binding = super::binding::Binding::plain(super::name::BindingKey::from_static(""));
            // It may have expired already.
            let _ = self.mill.turn(|turn| {
                let who = &self.mill.who;
                self.mill.vhost.bind(turn, who, &exchange, &queue, binding)
            });
            let drafts: Vec<Draft> = (0..5)
                .map(|n| Draft::new(u64::MAX - n).through(exchange.clone(), ""))
                .collect();
            self.mill.publish(&drafts);
            self.mill.turn(|turn| queue.purge(turn));
            let deleted = self
                .mill
                .turn(|turn| self.mill.vhost.delete_queue(turn, &self.mill.who, &name));
            deleted.unwrap();
        }
    }
}

impl Client<'_> {
    /// The next deliveries, or none when all is over.
    fn receive(&self) -> Option<Vec<Delivery>> {
        loop {
            self.outbox.rearm();
            let mut items = Vec::new();
            let stalled = self.outbox.take(700, &mut items);
            self.race.mill.turn(|turn| {
                for (queue, consumer) in &stalled {
                    queue.extend(turn, *consumer);
                }
            });
            if !items.is_empty() {
                let deliveries = items.into_iter().map(|item| match item {
                    Item::Delivery(delivery) => delivery,
                    Item::Cancelled(tag) => panic!("{tag:?} was cancelled"),
                });
                return Some(deliveries.collect());
            }
            let woken = async {
                tokio::select! {
                    () = self.race.over.cancelled() => false,
                    () = self.outbox.woken() => true,
                    () = tokio::time::sleep(FOREVER) => panic!("a consumer was forgotten: {:?}", self.queue.depth()),
                }
            };
            if !self.race.runtime.block_on(woken) {
                return None;
            }
        }
    }

    fn done(&self, taken: &[Delivery]) {
        let settlements: Vec<(Token, Outcome)> = taken
            .iter()
            .filter_map(|delivery| Some((delivery.token?, Outcome::Ack)))
            .collect();
        let written: Vec<_> = taken
            .iter()
            .filter(|delivery| delivery.token.is_none() && delivery.message.meta().persistent)
            .map(|delivery| delivery.seq)
            .collect();
        self.race.mill.turn(|turn| {
            assert_eq!(self.queue.settle(turn, &settlements), 0);
            self.queue.written(turn, &written);
        });
    }

    /// Leaves, gives back what it has not looked at, and subscribes again.
    fn come_again(self) -> Self {
        self.race.mill.turn(|turn| {
            self.queue.cancel(turn, self.id);
            let (held, automatic): (Vec<_>, Vec<_>) = self
                .outbox
                .take_for(self.spec.tag)
                .into_iter()
                .partition(|delivery| delivery.token.is_some());
            let released: Vec<(Token, Outcome)> = held
                .iter()
                .filter_map(|delivery| Some((delivery.token?, Outcome::Release)))
                .collect();
            self.queue.settle(turn, &released);
            self.queue.put_back(turn, automatic);
        });
        self.race.client(&self.queue, self.spec, 1_000)
    }
}

fn race(
    relays: usize,
    sinks: Vec<ConsumerSpec>,
    returns: bool,
    page_from: Option<u64>,
) -> Vec<u64> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let entered = runtime.enter();
    let store = MemoryStore::new();
    let race = Race::new(&store, runtime.handle().clone(), page_from);
    let a = race.mill.queue("a", Arguments::default());
    let b = race.mill.queue("b", Arguments::default());
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let race = &race;
            scope.spawn(move || race.publish(publisher));
        }
        for _ in 0..relays {
            scope.spawn(|| race.relay(&a, returns));
        }
        for spec in sinks {
            let (race, b) = (&race, &b);
            scope.spawn(move || race.sink(b, spec));
        }
        scope.spawn(|| race.churn());
    });
    for queue in [&a, &b] {
        let depth = queue.depth();
        assert_eq!((depth.ready, depth.unacked), (0, 0));
    }
    assert_eq!(race.mill.charged(), 0);
    race.mill.catch_up();
    let arrived = std::mem::take(&mut *race.arrived.lock());
    drop((a, b));
    race.mill.close();
    drop(entered);
    drop(runtime);
    let restored = TestBroker::on(&store).restored;
    assert_eq!(
        (restored.queues, restored.messages),
        (2, 0),
        "the log is as empty as the queues"
    );
    arrived
}

#[test]
fn every_message_arrives_once_whoever_leaves_returns_and_deletes_meanwhile() {
    let tag = |spec: ConsumerSpec, tag| ConsumerSpec {
        tag: ConsumerTag(tag),
        ..spec
    };
    let sinks = vec![tag(acknowledging(0), 2), tag(automatic(0), 3)];
    arrives_once(&race(2, sinks.clone(), true, None));
    arrives_once(&race(2, sinks, true, Some(PAGE_FROM)));
}

fn arrives_once(arrived: &[u64]) {
    let distinct: HashSet<u64> = arrived.iter().copied().collect();
    assert_eq!(distinct.len(), arrived.len(), "something came twice");
    assert_eq!(arrived.len() as u64, PUBLISHERS * MESSAGES);
}

#[test]
fn each_publishers_messages_arrive_in_its_order_through_transactions() {
    for spec in [acknowledging(4), automatic(4)] {
        for page_from in [None, Some(PAGE_FROM)] {
            let arrived = race(1, vec![spec.clone()], false, page_from);
            for publisher in 0..PUBLISHERS {
                let range = publisher * MESSAGES..(publisher + 1) * MESSAGES;
                let theirs: Vec<u64> = arrived
                    .iter()
                    .copied()
                    .filter(|id| range.contains(id))
                    .collect();
                assert_eq!(theirs, range.collect::<Vec<u64>>());
            }
        }
    }
}
