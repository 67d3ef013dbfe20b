//! What the tests of this floor share: messages, consumers, and a broker on a store in memory.

use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use tokio::time::Instant;

use super::access::{Access, AccessConfig, PermissionConfig, UserConfig};
use super::arguments::Arguments;
use super::binding::Binding;
use super::broker::{Broker, Restored};
use super::clock::{Clock, Now};
use super::delivery::{ConsumerTag, Delivery, Outcome, Token};
use super::error::EngineError;
use super::memory::{Memory, MemoryLimit};
use super::message::{Address, Encoding, Message, MessageId, Meta};
use super::name::{BindingKey, ExchangeName, QueueName, RoutingKey, VhostName};
use super::outbox::{Item, Outbox};
use super::principal::Principal;
use super::publisher::Publisher;
use super::queue::{
    ConsumerId, ConsumerSpec, Durability, Fate, LocalQueue, Owner, PublishBatch, Queue, QueueSpec,
};
use super::turn::Turn;
use super::vhost::{Mismatch, Vhost};
use crate::storage::{Journal, JournalOptions, MemoryStore, Store, Waiter};

/// When the tests' clocks begin, wall clock, in ms.
pub(super) const START_MS: u64 = 1_000_000;

/// A moment of the wall clock.
pub(super) fn at(wall_ms: u64) -> Now {
    Now {
        instant: Instant::now(),
        wall_ms,
    }
}

/// A message to be: persistent, without priority or expiry, to the default exchange.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) id: u64,
    pub(super) exchange: ExchangeName,
    pub(super) key: String,
    pub(super) size: usize,
    pub(super) priority: Option<u8>,
    pub(super) entered_ms: u64,
    pub(super) expires_ms: Option<u64>,
    pub(super) persistent: bool,
}

impl Draft {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            exchange: ExchangeName::default_exchange(),
            key: "q".to_owned(),
            size: 8,
            priority: None,
            entered_ms: START_MS,
            expires_ms: None,
            persistent: true,
        }
    }

    pub(super) fn to(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    pub(super) fn through(mut self, exchange: ExchangeName, key: &str) -> Self {
        self.exchange = exchange;
        self.to(key)
    }

    pub(super) fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    pub(super) fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    pub(super) fn expires(mut self, wall_ms: u64) -> Self {
        self.expires_ms = Some(wall_ms);
        self
    }

    pub(super) fn transient(mut self) -> Self {
        self.persistent = false;
        self
    }

    pub(super) fn build(&self) -> Message {
        let address = Address {
            exchange: self.exchange.clone(),
            routing_key: RoutingKey::parse(self.key.clone()).unwrap(),
        };
        let meta = Meta {
            id: MessageId(self.id),
            entered_ms: self.entered_ms,
            expires_ms: self.expires_ms,
            persistent: self.persistent,
            priority: self.priority,
        };
        Message::new(
            Arc::new(address),
            meta,
            Encoding::Stomp,
            Bytes::new(),
            vec![b'x'; self.size].into(),
        )
    }
}

/// A consumer of messages that have to be settled, with plenty of credit.
pub(super) fn acknowledging(tag: u32) -> ConsumerSpec {
    ConsumerSpec {
        tag: ConsumerTag(tag),
        acknowledges: true,
        prefetch: 1_000,
        priority: 0,
        exclusive: false,
    }
}

/// A consumer under auto-ack.
pub(super) fn automatic(tag: u32) -> ConsumerSpec {
    ConsumerSpec {
        acknowledges: false,
        prefetch: 0,
        ..acknowledging(tag)
    }
}

/// What waits in an outbox, taken out. Stalled consumers are extended as a connection would.
pub(super) fn deliveries(outbox: &Outbox) -> Vec<Delivery> {
    let mut items = Vec::new();
    let stalled = outbox.take(usize::MAX, &mut items);
    assert!(stalled.is_empty(), "nobody was to be stalled");
    items
        .into_iter()
        .map(|item| match item {
            Item::Delivery(delivery) => delivery,
            Item::Cancelled(tag) => panic!("consumer {tag:?} was cancelled"),
        })
        .collect()
}

/// The ids of deliveries, in their order.
pub(super) fn ids(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries
        .iter()
        .map(|delivery| delivery.message.meta().id.0)
        .collect()
}

/// A waiter that a test thread can block on.
struct Latch(mpsc::Sender<()>);

impl Waiter for Latch {
    fn commit_settled(&self) {
        // The test may have given up waiting; that is its own failure.
        let _ = self.0.send(());
    }
}

/// A consumer of a [`TestBroker`], and the connection it is on.
#[derive(Debug)]
pub(super) struct TestConsumer {
    pub(super) queue: Arc<LocalQueue>,
    pub(super) id: ConsumerId,
    pub(super) outbox: Arc<Outbox>,
}

impl TestConsumer {
    pub(super) fn take(&self) -> Vec<Delivery> {
        deliveries(&self.outbox)
    }

    pub(super) fn take_ids(&self) -> Vec<u64> {
        ids(&self.take())
    }

    /// Waits for so many deliveries.
    pub(super) async fn receive(&self, count: usize) -> Vec<Delivery> {
        let mut received = Vec::new();
        while received.len() < count {
            self.outbox.rearm();
            let taken = self.take();
            if taken.is_empty() {
                self.outbox.woken().await;
            }
            received.extend(taken);
        }
        received
    }
}

/// A broker with one vhost on a store in memory. Dropping it is a crash.
pub(super) struct TestBroker {
    pub(super) broker: Arc<Broker>,
    pub(super) vhost: Arc<Vhost>,
    pub(super) who: Principal,
    pub(super) restored: Restored,
}

fn access() -> Access {
    let user = |name: &str| UserConfig {
        name: name.to_owned(),
        password: None,
        password_hash: None,
        tags: Vec::new(),
        loopback_only: false,
    };
    let permission = |user: &str, allowed: &str| PermissionConfig {
        user: user.to_owned(),
        vhost: VhostName::root(),
        configure: allowed.to_owned(),
        write: allowed.to_owned(),
        read: allowed.to_owned(),
    };
    Access::new(AccessConfig {
        users: vec![user("test"), user("nobody")],
        permissions: vec![permission("test", ".*"), permission("nobody", "^$")],
        topic_permissions: Vec::new(),
    })
    .unwrap()
}

impl TestBroker {
    pub(super) fn new() -> Self {
        Self::on(&MemoryStore::new())
    }

    /// A broker with what the store holds. No other may be running on it.
    pub(super) fn on(store: &MemoryStore) -> Self {
        Self::over(Box::new(store.clone()))
    }

    pub(super) fn over(store: Box<dyn Store>) -> Self {
        Self::with_memory(store, Memory::new(MemoryLimit::Bytes(1 << 30)))
    }

    pub(super) fn with_memory(store: Box<dyn Store>, memory: Memory) -> Self {
        let (journal, recovered) = Journal::open(store, JournalOptions::default()).unwrap();
        assert!(recovered.losses.is_empty());
        let memory = Arc::new(memory);
        let root = VhostName::root();
        let opened = Broker::open(
            journal,
            recovered,
            std::slice::from_ref(&root),
            access(),
            memory,
            Clock::starting_at(START_MS),
        );
        let (broker, restored) = opened.unwrap();
        let vhost = broker.vhost(&root).unwrap();
        let who = Self::principal(&broker, "test", 1);
        Self {
            broker,
            vhost,
            who,
            restored,
        }
    }

    fn principal(broker: &Broker, name: &str, owner: u64) -> Principal {
        let user = Arc::clone(broker.access().user(name).unwrap());
        let permissions = Arc::new(user.permissions(&VhostName::root()).unwrap());
        Principal {
            user,
            permissions,
            vhost: VhostName::root(),
            owner: Owner(owner),
        }
    }

    /// Somebody without any permission.
    pub(super) fn nobody(&self) -> Principal {
        Self::principal(&self.broker, "nobody", 9)
    }

    /// The same user on another connection.
    pub(super) fn other_connection(&self) -> Principal {
        Self::principal(&self.broker, "test", 2)
    }

    pub(super) fn turn<R>(&self, work: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let mut turn = Turn::begin(self.broker.core());
        let result = work(&mut turn);
        turn.finish();
        result
    }

    /// A turn whose work is on disk when this returns. False if nothing of it had to last.
    pub(super) fn lasting_turn(&self, work: impl FnOnce(&mut Turn<'_>)) -> bool {
        let (sender, receiver) = mpsc::channel();
        let latch: Arc<dyn Waiter> = Arc::new(Latch(sender));
        let commit = self.turn(|turn| {
            work(turn);
            turn.settle_accounts();
            turn.promise(&latch)
        });
        let Some(commit) = commit else { return false };
        receiver.recv().unwrap();
        assert!(self.broker.core().journal.durable() >= commit);
        true
    }

    /// Waits until everything done so far is on disk.
    pub(super) fn catch_up(&self) {
        let (sender, receiver) = mpsc::channel();
        let latch: Arc<dyn Waiter> = Arc::new(Latch(sender));
        self.turn(|turn| turn.barrier(&latch));
        receiver.recv().unwrap();
    }

    /// Commits written to the store so far.
    pub(super) fn commits(&self) -> u64 {
        self.broker.core().journal.stats().commits
    }

    /// Bytes that messages are charged with.
    pub(super) fn charged(&self) -> u64 {
        self.broker.core().memory.used()
    }

    pub(super) fn declare(
        &self,
        name: &str,
        spec: &QueueSpec,
    ) -> Result<Arc<LocalQueue>, EngineError> {
        let name = QueueName::parse(name.to_owned()).unwrap();
        let declared = self.turn(|turn| {
            self.vhost
                .declare_queue(turn, &self.who, &name, spec, Mismatch::Error)
        });
        declared.map(|declared| declared.queue)
    }

    /// A durable queue with these arguments.
    pub(super) fn queue(&self, name: &str, arguments: Arguments) -> Arc<LocalQueue> {
        self.declare(name, &durable(arguments)).unwrap()
    }

    pub(super) fn bind(&self, exchange: &ExchangeName, queue: &Arc<LocalQueue>, key: &'static str) {
        let binding = Binding::plain(BindingKey::from_static(key));
        self.turn(|turn| self.vhost.bind(turn, &self.who, exchange, queue, binding))
            .unwrap();
    }

    pub(super) fn publish_in(&self, turn: &mut Turn<'_>, drafts: &[Draft]) -> Vec<Fate> {
        let mut batch = PublishBatch::default();
        for draft in drafts {
            batch.push(draft.build());
        }
        Publisher::new(Arc::clone(&self.vhost)).publish(turn, &mut batch);
        batch.drain_fates().collect()
    }

    pub(super) fn publish(&self, drafts: &[Draft]) -> Vec<Fate> {
        self.turn(|turn| self.publish_in(turn, drafts))
    }

    pub(super) fn subscribe(&self, queue: &Arc<LocalQueue>, spec: ConsumerSpec) -> TestConsumer {
        self.subscribe_with(queue, spec, &Arc::new(Outbox::new(1 << 20)))
            .unwrap()
    }

    pub(super) fn subscribe_with(
        &self,
        queue: &Arc<LocalQueue>,
        spec: ConsumerSpec,
        outbox: &Arc<Outbox>,
    ) -> Result<TestConsumer, EngineError> {
        let id = self.turn(|turn| queue.subscribe(turn, spec, Arc::clone(outbox)))?;
        let core = self.broker.core();
        core.pager.answer_all(core, queue);
        Ok(TestConsumer {
            queue: Arc::clone(queue),
            id,
            outbox: Arc::clone(outbox),
        })
    }

    pub(super) fn cancel(&self, consumer: &TestConsumer) {
        self.turn(|turn| consumer.queue.cancel(turn, consumer.id));
    }

    /// Settles deliveries alike; returns how many were not outstanding.
    pub(super) fn settle(
        &self,
        queue: &LocalQueue,
        deliveries: &[Delivery],
        outcome: Outcome,
    ) -> usize {
        let settlements: Vec<(Token, Outcome)> = deliveries
            .iter()
            .map(|delivery| (delivery.token.unwrap(), outcome))
            .collect();
        self.turn(|turn| queue.settle(turn, &settlements))
    }

    /// Takes all that is ready out of a queue, as a consumer of its own would see it.
    pub(super) fn drain(&self, queue: &Arc<LocalQueue>) -> Vec<Delivery> {
        let consumer = self.subscribe(queue, acknowledging(77));
        let taken = consumer.take();
        self.settle(queue, &taken, Outcome::Ack);
        self.cancel(&consumer);
        taken
    }

    /// Writes everything down and ends the broker.
    pub(super) fn close(self) {
        self.broker.core().journal.close().unwrap();
    }
}

/// A durable queue that stays.
pub(super) fn durable(arguments: Arguments) -> QueueSpec {
    QueueSpec {
        durability: Durability::Durable,
        exclusive: None,
        auto_delete: false,
        arguments,
    }
}

/// A transient queue that stays.
pub(super) fn transient(arguments: Arguments) -> QueueSpec {
    QueueSpec {
        durability: Durability::Transient,
        ..durable(arguments)
    }
}
