use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::engine::delivery::ConsumerTag;
use crate::engine::message::{Address, Encoding, MessageId, Meta};
use crate::engine::name::{ExchangeName, RoutingKey};
use crate::engine::outbox::Item;

/// The outside of a queue: what it was asked for.
#[derive(Default)]
struct Outside {
    stored: BTreeSet<u64>,
    dead: Vec<(u64, DeathReason)>,
    stalled: Vec<ConsumerId>,
    charged: i64,
}

impl Effects for Outside {
    fn store(&mut self, seq: Seq, _: &Arc<Message>) {
        assert!(self.stored.insert(seq.0), "a place is given once");
    }
    fn settle(&mut self, seq: Seq) {
        assert!(
            self.stored.remove(&seq.0),
            "what is settled was stored and not settled before"
        );
    }
    fn returned(&mut self, seq: Seq, _: u32) {
        assert!(self.stored.contains(&seq.0));
    }
    fn dead(&mut self, message: Arc<Message>, reason: DeathReason) {
        self.dead.push((message.meta().id.0, reason));
    }
    fn wake(&mut self, _: &Arc<Outbox>) {}
    fn stall(&mut self, consumer: ConsumerId, outbox: &Arc<Outbox>) -> bool {
        let full = outbox.room() == 0;
        if full {
            self.stalled.push(consumer);
        }
        full
    }
    fn charge(&mut self, bytes: i64) {
        self.charged += bytes;
    }
}

fn now(wall_ms: u64) -> Now {
    Now {
        instant: Instant::now(),
        wall_ms,
    }
}

fn message(id: u64) -> Arc<Message> {
    let address = Address {
        exchange: ExchangeName::default_exchange(),
        routing_key: RoutingKey::from_static("q"),
    };
    let meta = Meta {
        id: MessageId(id),
        entered_ms: 0,
        expires_ms: None,
        persistent: true,
        priority: None,
    };
    Arc::new(Message::new(
        Arc::new(address),
        meta,
        Encoding::Stomp,
        Bytes::new(),
        Bytes::from_static(b"body"),
    ))
}

fn spec(acknowledges: bool, prefetch: u32) -> ConsumerSpec {
    ConsumerSpec {
        tag: ConsumerTag(1),
        acknowledges,
        prefetch,
        priority: 0,
        exclusive: false,
    }
}

fn deliveries(outbox: &Outbox) -> Vec<Delivery> {
    let mut items = Vec::new();
    outbox.take(usize::MAX, &mut items);
    let delivery = |item| match item {
        Item::Delivery(delivery) => Some(delivery),
        Item::Cancelled(_) => None,
    };
    items.into_iter().filter_map(delivery).collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries
        .iter()
        .map(|delivery| delivery.message.meta().id.0)
        .collect()
}

fn publish(state: &mut State, fx: &mut Outside, id: u64) {
    state.publish(now(0), &mut message(id), fx).unwrap();
    state.flush(fx);
}

#[test]
fn a_closed_queue_wants_no_more_ticks() {
    let arguments = QueueArguments {
        expires_ms: Some(10),
        ..QueueArguments::default()
    };
    let mut state = State::new(arguments, true, now(0));
    assert_eq!(state.next_tick_ms(), Some(10));
    state.close(&mut Outside::default());
    assert_eq!(state.next_tick_ms(), None);
    assert!(!state.idle_expired(now(20)));
}

#[test]
fn what_follows_a_transaction_waits_for_it() {
    let (mut state, mut fx) = (
        State::new(QueueArguments::default(), true, now(0)),
        Outside::default(),
    );
    let outbox = Arc::new(Outbox::new(1 << 20));
    state
        .subscribe(now(0), spec(true, 10), Arc::clone(&outbox))
        .unwrap();
    publish(&mut state, &mut fx, 1);
    state.reserve(Some(CommitNumber(7)), vec![message(2), message(3)], &mut fx);
    publish(&mut state, &mut fx, 4);
    assert_eq!(ids(&deliveries(&outbox)), [1]);
    state.reveal(CommitNumber(7), &mut fx);
    state.dispatch(now(0), &mut fx);
    state.flush(&mut fx);
    assert_eq!(ids(&deliveries(&outbox)), [2, 3, 4]);
}

#[test]
fn a_transaction_that_only_settles_keeps_nothing_behind_it_waiting() {
    let (mut state, mut fx) = (
        State::new(QueueArguments::default(), true, now(0)),
        Outside::default(),
    );
    let outbox = Arc::new(Outbox::new(1 << 20));
    state
        .subscribe(now(0), spec(true, 10), Arc::clone(&outbox))
        .unwrap();
    state.reserve(Some(CommitNumber(7)), Vec::new(), &mut fx);
    publish(&mut state, &mut fx, 1);
    assert_eq!(ids(&deliveries(&outbox)), [1]);
}

#[test]
fn a_consumer_without_room_is_noted_once_however_much_it_settles() {
    let (mut state, mut fx) = (
        State::new(QueueArguments::default(), true, now(0)),
        Outside::default(),
    );
    let outbox = Arc::new(Outbox::new(300));
    state
        .subscribe(now(0), spec(true, 100), Arc::clone(&outbox))
        .unwrap();
    for id in 0..20 {
        publish(&mut state, &mut fx, id);
    }
    let first = deliveries(&outbox);
    state.call_back(fx.stalled.pop().expect("it was stalled"));
    state.dispatch(now(0), &mut fx);
    state.flush(&mut fx);
    for delivery in first {
        state
            .settle(now(0), delivery.token.unwrap(), Outcome::Ack, &mut fx)
            .unwrap();
        state.dispatch(now(0), &mut fx);
        state.flush(&mut fx);
    }
    assert_eq!(fx.stalled.len(), 1);
}

#[derive(Clone, Debug)]
enum Command {
    Publish,
    Reserve(u8),
    Reveal,
    Subscribe { acknowledges: bool, prefetch: u32 },
    Cancel(prop::sample::Index),
    Fetch(prop::sample::Index),
    Settle(prop::sample::Index, u8),
    Tick(u64),
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => Just(Command::Publish),
        1 => (0_u8..4).prop_map(Command::Reserve),
        1 => Just(Command::Reveal),
        2 => (any::<bool>(), 1_u32..5).prop_map(|(acknowledges, prefetch)| Command::Subscribe { acknowledges, prefetch }),
        1 => any::<prop::sample::Index>().prop_map(Command::Cancel),
        4 => any::<prop::sample::Index>().prop_map(Command::Fetch),
        5 => (any::<prop::sample::Index>(), 0_u8..5).prop_map(|(which, how)| Command::Settle(which, how)),
        1 => (0_u64..50).prop_map(Command::Tick),
    ]
}

/// A queue with its consumers, and what must be true of it.
struct Bench {
    state: State,
    fx: Outside,
    time_ms: u64,
    commit: u64,
    consumers: Vec<(ConsumerId, Arc<Outbox>)>,
    published: u64,
    /// Delivered and not settled, by the message's id.
    held: BTreeMap<u64, Token>,
    done: BTreeSet<u64>,
}

impl Bench {
    fn new() -> Self {
        Self {
            state: State::new(QueueArguments::default(), true, now(0)),
            fx: Outside::default(),
            time_ms: 0,
            commit: 0,
            consumers: Vec::new(),
            published: 0,
            held: BTreeMap::new(),
            done: BTreeSet::new(),
        }
    }

    fn flush(&mut self) {
        self.state.dispatch(now(self.time_ms), &mut self.fx);
        self.state.flush(&mut self.fx);
    }

    fn next_message(&mut self) -> Arc<Message> {
        self.published += 1;
        message(self.published)
    }

    fn cancel(&mut self, id: ConsumerId, outbox: &Outbox) {
        self.state.cancel(now(self.time_ms), id);
        let (held, free): (Vec<_>, Vec<_>) = deliveries(outbox)
            .into_iter()
            .partition(|delivery| delivery.token.is_some());
        for delivery in held {
            self.state
                .settle(
                    now(self.time_ms),
                    delivery.token.unwrap(),
                    Outcome::Release,
                    &mut self.fx,
                )
                .unwrap();
        }
        self.state.put_back(free, &mut self.fx);
        self.flush();
    }

    fn fetch(&mut self, which: usize) {
        let fetched = deliveries(&self.consumers[which].1);
        for delivery in fetched {
            let id = delivery.message.meta().id.0;
            assert!(
                !self.done.contains(&id) && !self.held.contains_key(&id),
                "message {id} was delivered twice"
            );
            match delivery.token {
                Some(token) => drop(self.held.insert(id, token)),
                None => {
                    self.done.insert(id);
                    self.state.written(&[delivery.seq], &mut self.fx);
                }
            }
        }
        for stalled in std::mem::take(&mut self.fx.stalled) {
            self.state.call_back(stalled);
        }
        self.flush();
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Publish => {
                let mut message = self.next_message();
                self.state
                    .publish(now(self.time_ms), &mut message, &mut self.fx)
                    .unwrap();
                self.state.flush(&mut self.fx);
            }
            Command::Reserve(count) => {
                self.commit += 1;
                let messages = (0..count).map(|_| self.next_message()).collect();
                self.state
                    .reserve(Some(CommitNumber(self.commit)), messages, &mut self.fx);
                self.flush();
            }
            Command::Reveal => {
                self.state.reveal(CommitNumber(self.commit), &mut self.fx);
                self.flush();
            }
            Command::Subscribe {
                acknowledges,
                prefetch,
            } => {
                let outbox = Arc::new(Outbox::new(500));
                let id = self
                    .state
                    .subscribe(
                        now(self.time_ms),
                        spec(acknowledges, prefetch),
                        Arc::clone(&outbox),
                    )
                    .unwrap();
                self.consumers.push((id, outbox));
                self.flush();
            }
            Command::Cancel(which) if !self.consumers.is_empty() => {
                let (id, outbox) = self
                    .consumers
                    .swap_remove(which.index(self.consumers.len()));
                self.cancel(id, &outbox);
            }
            Command::Fetch(which) if !self.consumers.is_empty() => {
                self.fetch(which.index(self.consumers.len()))
            }
            Command::Settle(which, how) if !self.held.is_empty() => {
                let id = *which.get(&self.held.keys().copied().collect::<Vec<_>>());
                let token = self.held.remove(&id).unwrap();
                let outcome = match how {
                    0 => Outcome::Requeue {
                        counted: true,
                        delay_ms: 0,
                    },
                    1 => Outcome::Requeue {
                        counted: true,
                        delay_ms: 30,
                    },
                    2 => Outcome::Reject,
                    3 => Outcome::Release,
                    _ => Outcome::Ack,
                };
                if matches!(outcome, Outcome::Ack | Outcome::Reject) {
                    self.done.insert(id);
                }
                self.state
                    .settle(now(self.time_ms), token, outcome, &mut self.fx)
                    .unwrap();
                assert_eq!(
                    self.state
                        .settle(now(self.time_ms), token, outcome, &mut self.fx),
                    Err(NotOutstanding)
                );
                self.flush();
            }
            Command::Tick(ms) => {
                self.time_ms += ms;
                self.state.tick(now(self.time_ms), &mut self.fx);
                self.flush();
            }
            Command::Cancel(_) | Command::Fetch(_) | Command::Settle(..) => {}
        }
    }

    /// Serves what is left to a consumer that takes everything: each message comes once, in order.
    fn drain(&mut self) {
        while let Some((id, outbox)) = self.consumers.pop() {
            self.cancel(id, &outbox);
        }
        for (_, token) in std::mem::take(&mut self.held) {
            self.state
                .settle(now(self.time_ms), token, Outcome::Release, &mut self.fx)
                .unwrap();
        }
        self.state.reveal(CommitNumber(self.commit), &mut self.fx);
        self.time_ms += 1_000;
        self.state.tick(now(self.time_ms), &mut self.fx);
        let outbox = Arc::new(Outbox::new(usize::MAX));
        let id = self
            .state
            .subscribe(now(self.time_ms), spec(true, u32::MAX), Arc::clone(&outbox))
            .unwrap();
        self.flush();
        let rest = deliveries(&outbox);
        let expected: Vec<u64> = (1..=self.published)
            .filter(|id| !self.done.contains(id))
            .collect();
        assert_eq!(
            ids(&rest),
            expected,
            "nothing lost, doubled or out of order"
        );
        for delivery in rest {
            self.state
                .settle(
                    now(self.time_ms),
                    delivery.token.unwrap(),
                    Outcome::Ack,
                    &mut self.fx,
                )
                .unwrap();
        }
        self.state.cancel(now(self.time_ms), id);
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_reordered_whatever_happens(commands in proptest::collection::vec(command(), 0..120)) {
        let mut bench = Bench::new();
        for command in commands {
            bench.carry_out(command);
            prop_assert!(bench.state.depth().unacked >= bench.held.len());
        }
        bench.drain();
        prop_assert!(bench.fx.stored.is_empty(), "the log holds {:?}", bench.fx.stored);
        prop_assert_eq!(bench.fx.charged, 0, "memory is accounted to the byte");
        let depth = bench.state.depth();
        prop_assert_eq!((depth.ready, depth.unacked, depth.ready_bytes), (0, 0, 0));
    }
}
