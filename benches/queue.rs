//! Queues: what one small message costs from publish to delivery, alone and fanned out.
//!
//! Transient messages of 16 bytes in batches of 100, on one thread, the connection's side included up to
//! the point where a protocol would encode. Divide the time of an iteration by 100 (by 1,000 deliveries
//! for the fan-out).

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millpond::engine::access::{Access, AccessConfig, PermissionConfig, UserConfig};
use millpond::engine::arguments::Arguments;
use millpond::engine::binding::Binding;
use millpond::engine::broker::Broker;
use millpond::engine::clock::Clock;
use millpond::engine::delivery::{ConsumerTag, Outcome, Token};
use millpond::engine::memory::{Memory, MemoryLimit};
use millpond::engine::message::{Address, Encoding, Message, Meta};
use millpond::engine::name::{BindingKey, ExchangeName, QueueName, RoutingKey, VhostName};
use millpond::engine::outbox::{Item, Outbox};
use millpond::engine::principal::Principal;
use millpond::engine::publisher::Publisher;
use millpond::engine::queue::{
    ConsumerSpec, Durability, LocalQueue, Owner, PublishBatch, Queue, QueueSpec,
};
use millpond::engine::turn::Turn;
use millpond::engine::vhost::{Mismatch, Vhost};
use millpond::storage::{Journal, JournalOptions, MemoryStore};

const BATCH: u64 = 100;
const BODY: &[u8] = b"sixteen bytes ok";
const OUTBOX_BYTES: usize = 1 << 20;

struct Mill {
    broker: Arc<Broker>,
    vhost: Arc<Vhost>,
    who: Principal,
    taken: Vec<Item>,
}

impl Mill {
    fn new() -> Self {
        let root = VhostName::root();
        let user = UserConfig {
            name: "bench".to_owned(),
            password: None,
            password_hash: None,
            tags: Vec::new(),
            loopback_only: false,
        };
        let everything = PermissionConfig {
            user: "bench".to_owned(),
            vhost: root.clone(),
            configure: ".*".to_owned(),
            write: ".*".to_owned(),
            read: ".*".to_owned(),
        };
        let access = Access::new(AccessConfig {
            users: vec![user],
            permissions: vec![everything],
            topic_permissions: Vec::new(),
        })
        .expect("a user with permissions");
        let user = Arc::clone(access.user("bench").expect("just declared"));
        let permissions = user.permissions(&root).expect("just given");
        let who = Principal {
            permissions: Arc::new(permissions),
            user,
            vhost: root.clone(),
            owner: Owner(1),
        };
        let (journal, recovered) =
            Journal::open(Box::new(MemoryStore::new()), JournalOptions::default())
                .expect("an empty store");
        let memory = Arc::new(Memory::new(MemoryLimit::default()));
        let (broker, _) = Broker::open(
            journal,
            recovered,
            std::slice::from_ref(&root),
            access,
            memory,
            Clock::system(),
        )
        .expect("nothing to restore");
        let vhost = broker.vhost(&root).expect("just declared");
        Self {
            broker,
            vhost,
            who,
            taken: Vec::new(),
        }
    }

    fn queue(&self, name: String) -> Arc<LocalQueue> {
        let spec = QueueSpec {
            durability: Durability::Transient,
            exclusive: None,
            auto_delete: false,
            arguments: Arguments::default(),
        };
        let name = QueueName::parse(name).expect("a short name");
        let mut turn = Turn::begin(self.broker.core());
        let declared =
            self.vhost
                .declare_queue(&mut turn, &self.who, &name, &spec, Mismatch::Error);
        turn.finish();
        declared.expect("a new queue").queue
    }

    fn consume(&self, queue: &LocalQueue, acknowledges: bool) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::new(OUTBOX_BYTES));
        let spec = ConsumerSpec {
            tag: ConsumerTag(1),
            acknowledges,
            prefetch: 1_000,
            priority: 0,
            exclusive: false,
        };
        let mut turn = Turn::begin(self.broker.core());
        queue
            .subscribe(&mut turn, spec, Arc::clone(&outbox))
            .expect("nobody forbids it");
        turn.finish();
        outbox
    }

    fn publish(
        &self,
        publisher: &mut Publisher,
        batch: &mut PublishBatch,
        address: &Arc<Address>,
        body: &Bytes,
    ) {
        let core = self.broker.core();
        let mut turn = Turn::begin(core);
        for _ in 0..BATCH {
            let meta = Meta {
                id: core.next_message_id(),
                entered_ms: turn.now.wall_ms,
                expires_ms: None,
                persistent: false,
                priority: None,
            };
            batch.push(Message::new(
                Arc::clone(address),
                meta,
                Encoding::Stomp,
                Bytes::new(),
                body.clone(),
            ));
        }
        publisher.publish(&mut turn, batch);
        batch.drain_fates().for_each(drop);
        turn.finish();
    }

    /// Takes all that waits for a connection; returns the tokens to settle.
    fn take(&mut self, outbox: &Outbox, tokens: &mut Vec<(Token, Outcome)>) {
        let stalled = outbox.take(OUTBOX_BYTES, &mut self.taken);
        assert!(stalled.is_empty(), "a batch is far below the limit");
        assert_eq!(self.taken.len() as u64, BATCH);
        for item in self.taken.drain(..) {
            if let Item::Delivery(delivery) = black_box(item) {
                tokens.extend(delivery.token.map(|token| (token, Outcome::Ack)));
            }
        }
    }
}

fn address(exchange: ExchangeName, key: &'static str) -> Arc<Address> {
    Arc::new(Address {
        exchange,
        routing_key: RoutingKey::from_static(key),
    })
}

fn point_to_point(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(BATCH));
    for (name, acknowledges) in [("auto-ack", false), ("ack", true)] {
        let mut mill = Mill::new();
        let queue = mill.queue("q".to_owned());
        let outbox = mill.consume(&queue, acknowledges);
        let mut publisher = Publisher::new(Arc::clone(&mill.vhost));
        let (mut batch, mut tokens) = (PublishBatch::default(), Vec::new());
        let (address, body) = (
            address(ExchangeName::default_exchange(), "q"),
            Bytes::from_static(BODY),
        );
        group.bench_function(name, |b| {
            b.iter(|| {
                mill.publish(&mut publisher, &mut batch, &address, &body);
                mill.take(&outbox, &mut tokens);
                if !tokens.is_empty() {
                    let mut turn = Turn::begin(mill.broker.core());
                    assert_eq!(queue.settle(&mut turn, &tokens), 0);
                    turn.finish();
                    tokens.clear();
                }
            });
        });
    }
    group.finish();
}

fn fan_out(c: &mut Criterion) {
    const TARGETS: usize = 10;
    let mut mill = Mill::new();
    let exchange = ExchangeName::amq_fanout();
    let outboxes: Vec<Arc<Outbox>> = (0..TARGETS)
        .map(|n| {
            let queue = mill.queue(format!("q{n}"));
            let mut turn = Turn::begin(mill.broker.core());
            let binding = Binding::plain(BindingKey::from_static(""));
            mill.vhost
                .bind(&mut turn, &mill.who, &exchange, &queue, binding)
                .expect("all are there");
            turn.finish();
            mill.consume(&queue, false)
        })
        .collect();
    let mut publisher = Publisher::new(Arc::clone(&mill.vhost));
    let (mut batch, mut tokens) = (PublishBatch::default(), Vec::new());
    let (address, body) = (address(exchange, ""), Bytes::from_static(BODY));
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(BATCH * TARGETS as u64));
    group.bench_function("fan-out to 10", |b| {
        b.iter(|| {
            mill.publish(&mut publisher, &mut batch, &address, &body);
            for outbox in &outboxes {
                mill.take(outbox, &mut tokens);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, point_to_point, fan_out);
criterion_main!(benches);
