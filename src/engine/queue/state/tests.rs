use super::*;
use crate::engine::fixtures::{Draft, START_MS, acknowledging, at, automatic, deliveries, ids};
use crate::engine::queue::recorder::Recorder;
use crate::storage::CommitNumber;

mod limits;
mod paging;
mod places;

const REQUEUE: Outcome = Outcome::Requeue {
    counted: true,
    delay_ms: 0,
};

/// A durable queue, its surroundings, and the time.
struct Bench {
    state: State,
    fx: Recorder,
    now: Now,
}

/// A consumer with a connection of its own.
struct Client {
    id: ConsumerId,
    outbox: Arc<Outbox>,
}

impl Client {
    fn take(&self) -> Vec<Delivery> {
        deliveries(&self.outbox)
    }

    fn take_ids(&self) -> Vec<u64> {
        ids(&self.take())
    }
}

impl Bench {
    fn new(arguments: QueueArguments) -> Self {
        let now = at(START_MS);
        Self {
            state: State::new(arguments, true, now),
            fx: Recorder::default(),
            now,
        }
    }

    fn plain() -> Self {
        Self::new(QueueArguments::default())
    }

    fn capped(max_length: u64, overflow: Overflow) -> Self {
        Self::new(QueueArguments {
            max_length: Some(max_length),
            overflow,
            ..QueueArguments::default()
        })
    }

    fn publish(&mut self, draft: &Draft) -> Result<(), Refusal> {
        let mut message = Arc::new(draft.build());
        let result = self.state.publish(self.now, &mut message, &mut self.fx);
        self.state.flush(&mut self.fx);
        result
    }

    fn publish_ids(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            assert_eq!(self.publish(&Draft::new(id)), Ok(()));
        }
    }

    /// Ends an entry as the queue around the state does.
    fn dispatch(&mut self) {
        self.state.dispatch(self.now, &mut self.fx);
        self.state.flush(&mut self.fx);
    }

    fn subscribe(&mut self, spec: ConsumerSpec) -> Client {
        self.subscribe_with_room(spec, 1 << 20)
    }

    fn subscribe_with_room(&mut self, spec: ConsumerSpec, room: usize) -> Client {
        let outbox = Arc::new(Outbox::new(room));
        let id = self
            .state
            .subscribe(self.now, spec, Arc::clone(&outbox))
            .unwrap();
        self.dispatch();
        Client { id, outbox }
    }

    fn settle(&mut self, delivery: &Delivery, outcome: Outcome) -> Result<(), NotOutstanding> {
        let result = self
            .state
            .settle(self.now, delivery.token.unwrap(), outcome, &mut self.fx);
        self.dispatch();
        result
    }

    fn cancel(&mut self, client: &Client) {
        assert!(self.state.cancel(self.now, client.id));
        self.dispatch();
    }

    fn reserve(&mut self, commit: u64, ids: impl IntoIterator<Item = u64>) {
        let messages = ids
            .into_iter()
            .map(|id| Arc::new(Draft::new(id).build()))
            .collect();
        self.state
            .reserve(Some(CommitNumber(commit)), messages, &mut self.fx);
        self.dispatch();
    }

    fn reveal(&mut self, durable: u64) {
        self.state.reveal(CommitNumber(durable));
        self.dispatch();
    }

    /// Lets time pass, and the timer run out.
    fn pass(&mut self, ms: u64) {
        self.now = at(self.now.wall_ms + ms);
        self.state.tick(self.now, &mut self.fx);
        self.state.flush(&mut self.fx);
    }

    /// The log holds this message of an earlier run.
    fn on_disk(&mut self, seq: Seq, draft: &Draft) {
        self.fx.stored.insert(seq, draft.id);
        self.fx.disk.insert((false, seq), Arc::new(draft.build()));
    }

    /// Answers one request, with up to so many messages; false if there is none.
    fn answer(&mut self, most: usize) -> bool {
        let Some(answer) = self.fx.answer(most) else {
            return false;
        };
        let read = self.state.read_back(&answer, &mut self.fx);
        assert!(read.is_ok(), "nothing was lost");
        self.dispatch();
        true
    }

    /// Everything that is ready, taken by a consumer that settles it.
    fn drain(&mut self) -> Vec<Delivery> {
        let client = self.subscribe(acknowledging(99));
        while self.answer(usize::MAX) {}
        let taken = client.take();
        for delivery in &taken {
            self.settle(delivery, Outcome::Ack).unwrap();
        }
        self.cancel(&client);
        taken
    }

    fn drain_ids(&mut self) -> Vec<u64> {
        ids(&self.drain())
    }

    /// Nothing is left of what was published: not in the log, not in memory.
    fn assert_empty(&self) {
        assert!(
            self.fx.stored.is_empty(),
            "the log still holds {:?}",
            self.fx.stored
        );
        assert_eq!(self.fx.charged, 0);
        let Depth {
            ready,
            ready_bytes,
            unacked,
            ..
        } = self.state.depth();
        assert_eq!((ready, ready_bytes, unacked), (0, 0, 0));
    }
}

#[test]
fn a_message_for_a_waiting_consumer_never_waits_in_the_queue() {
    let mut bench = Bench::plain();
    let client = bench.subscribe(acknowledging(1));
    bench.publish_ids([1]);
    assert_eq!(
        bench.state.depth(),
        Depth {
            ready: 0,
            ready_bytes: 0,
            unacked: 1,
            consumers: 1
        }
    );
    let taken = client.take();
    assert_eq!(
        (ids(&taken), taken[0].redelivered, taken[0].returns),
        (vec![1], false, 0)
    );
    assert!(
        bench
            .fx
            .woken
            .iter()
            .any(|woken| Arc::ptr_eq(woken, &client.outbox))
    );
    bench.settle(&taken[0], Outcome::Ack).unwrap();
    bench.assert_empty();
}

#[test]
fn messages_are_served_by_priority_and_then_in_the_order_published() {
    let mut bench = Bench::new(QueueArguments {
        max_priority: Some(5),
        ..QueueArguments::default()
    });
    for (id, priority) in [
        (1, None),
        (2, Some(5)),
        (3, Some(9)),
        (4, Some(2)),
        (5, Some(0)),
    ] {
        let draft = Draft {
            priority,
            ..Draft::new(id)
        };
        bench.publish(&draft).unwrap();
    }
    assert_eq!(
        bench.drain_ids(),
        [2, 3, 4, 1, 5],
        "9 counts as the highest level, none as 0"
    );
    bench.assert_empty();
}

#[test]
fn a_queue_without_priorities_ignores_them() {
    let mut bench = Bench::plain();
    bench.publish(&Draft::new(1)).unwrap();
    bench.publish(&Draft::new(2).priority(9)).unwrap();
    assert_eq!(bench.drain_ids(), [1, 2]);
}

#[test]
fn a_transient_message_is_never_stored() {
    let mut bench = Bench::plain();
    bench.publish(&Draft::new(1).transient()).unwrap();
    assert!(bench.fx.stored.is_empty());
    assert_eq!(bench.drain_ids(), [1]);
    bench.assert_empty();
}

#[test]
fn all_queues_of_a_fan_out_give_the_log_one_payload() {
    let mut message = Arc::new(Draft::new(1).size(10_000).build());
    let mut payloads = Vec::new();
    for consumers in [1, 0, 1] {
        let mut bench = Bench::plain();
        for tag in 0..consumers {
            bench.subscribe(acknowledging(tag));
        }
        let result = bench.state.publish(bench.now, &mut message, &mut bench.fx);
        assert_eq!(result, Ok(()));
        payloads.extend(bench.fx.payload.take());
    }
    assert_eq!(payloads.len(), 3);
    assert!(
        payloads
            .iter()
            .all(|payload| Arc::ptr_eq(payload, &message))
    );
}

#[test]
fn a_transient_queue_stores_nothing() {
    let mut bench = Bench::plain();
    bench.state = State::new(QueueArguments::default(), false, bench.now);
    bench.publish_ids([1]);
    let client = bench.subscribe(automatic(1));
    bench.state.written(&[client.take()[0].seq], &mut bench.fx);
    assert!(bench.fx.stored.is_empty() && bench.fx.settled.is_empty());
}

#[test]
fn a_requeued_message_comes_back_to_its_place_marked_and_counted() {
    let mut bench = Bench::plain();
    bench.publish_ids(1..=3);
    let client = bench.subscribe(acknowledging(1));
    let taken = client.take();
    bench.cancel(&client);
    bench.settle(&taken[1], REQUEUE).unwrap();
    bench.settle(&taken[0], REQUEUE).unwrap();
    assert_eq!(bench.fx.returned, [(Seq(2), 1), (Seq(1), 1)]);
    bench.publish_ids([4]);
    let again = bench.drain();
    assert_eq!(ids(&again), [1, 2, 4], "3 is still held");
    assert_eq!(
        again
            .iter()
            .map(|delivery| (delivery.redelivered, delivery.returns))
            .collect::<Vec<_>>(),
        [(true, 1), (true, 1), (false, 0)]
    );
}

#[test]
fn a_return_that_is_not_counted_is_not_written_down() {
    let mut bench = Bench::plain();
    bench.publish_ids([1]);
    let client = bench.subscribe(acknowledging(1));
    let taken = client.take();
    bench.cancel(&client);
    bench
        .settle(
            &taken[0],
            Outcome::Requeue {
                counted: false,
                delay_ms: 0,
            },
        )
        .unwrap();
    assert!(bench.fx.returned.is_empty());
    let again = bench.drain();
    assert_eq!((again[0].redelivered, again[0].returns), (true, 0));
}

#[test]
fn a_released_delivery_comes_back_as_if_nothing_had_happened() {
    let mut bench = Bench::plain();
    bench.publish_ids(1..=2);
    let client = bench.subscribe(acknowledging(1));
    let taken = client.take();
    bench.cancel(&client);
    bench.settle(&taken[0], Outcome::Release).unwrap();
    bench.settle(&taken[1], Outcome::Release).unwrap();
    let again = bench.drain();
    assert_eq!(ids(&again), [1, 2]);
    assert!(
        again
            .iter()
            .all(|delivery| !delivery.redelivered && delivery.returns == 0)
    );
    assert!(bench.fx.returned.is_empty());
}

#[test]
fn a_limit_of_two_returns_means_three_deliveries() {
    let mut bench = Bench::new(QueueArguments {
        delivery_limit: Some(2),
        ..QueueArguments::default()
    });
    let client = bench.subscribe(acknowledging(1));
    bench.publish_ids([1]);
    for returns in 0..=2 {
        let taken = client.take();
        assert_eq!((ids(&taken), taken[0].returns), (vec![1], returns));
        assert!(bench.fx.dead.is_empty());
        bench.settle(&taken[0], REQUEUE).unwrap();
    }
    assert_eq!(bench.fx.take_dead(), [(1, DeathReason::DeliveryLimit)]);
    assert!(client.take().is_empty());
    bench.assert_empty();
}

#[test]
fn a_delayed_return_stays_away_until_it_is_due_and_then_takes_its_old_place() {
    let mut bench = Bench::plain();
    bench.publish_ids(1..=2);
    let client = bench.subscribe(acknowledging(1));
    let taken = client.take();
    bench.cancel(&client);
    bench
        .settle(
            &taken[0],
            Outcome::Requeue {
                counted: true,
                delay_ms: 50,
            },
        )
        .unwrap();
    bench
        .settle(
            &taken[1],
            Outcome::Requeue {
                counted: true,
                delay_ms: 100,
            },
        )
        .unwrap();
    assert_eq!(
        bench.state.depth(),
        Depth {
            ready: 2,
            ready_bytes: 16,
            unacked: 0,
            consumers: 0
        }
    );
    assert_eq!(bench.state.next_tick_ms(), Some(START_MS + 50));
    bench.pass(49);
    assert!(bench.drain().is_empty());
    bench.publish_ids([3]);
    bench.pass(51);
    assert_eq!(bench.drain_ids(), [1, 2, 3]);
    bench.assert_empty();
}

#[test]
fn a_rejected_message_dies() {
    let mut bench = Bench::plain();
    bench.publish_ids([1]);
    let client = bench.subscribe(acknowledging(1));
    bench.settle(&client.take()[0], Outcome::Reject).unwrap();
    assert_eq!(bench.fx.take_dead(), [(1, DeathReason::Rejected)]);
    bench.assert_empty();
}

#[test]
fn settling_twice_is_refused_even_when_the_slot_is_used_again() {
    let mut bench = Bench::plain();
    let client = bench.subscribe(acknowledging(1));
    bench.publish_ids([1]);
    let first = client.take().remove(0);
    bench.settle(&first, Outcome::Ack).unwrap();
    assert_eq!(bench.settle(&first, Outcome::Ack), Err(NotOutstanding));
    bench.publish_ids([2]);
    assert_eq!(bench.settle(&first, Outcome::Reject), Err(NotOutstanding));
    assert_eq!(bench.state.depth().unacked, 1);
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let exclusive = ConsumerSpec {
        exclusive: true,
        ..acknowledging(1)
    };
    let subscribe = |bench: &mut Bench, spec: &ConsumerSpec| {
        bench
            .state
            .subscribe(bench.now, spec.clone(), Arc::new(Outbox::new(1)))
    };
    let mut bench = Bench::plain();
    let first = subscribe(&mut bench, &exclusive).unwrap();
    assert_eq!(subscribe(&mut bench, &acknowledging(2)), None);
    assert!(bench.state.cancel(bench.now, first));
    assert!(subscribe(&mut bench, &acknowledging(2)).is_some());
    assert_eq!(subscribe(&mut bench, &exclusive), None);
}

#[test]
fn a_consumer_that_leaves_still_holds_what_it_was_given() {
    let mut bench = Bench::plain();
    let client = bench.subscribe(acknowledging(1));
    bench.publish_ids([1]);
    let taken = client.take();
    bench.cancel(&client);
    assert!(
        !bench.state.cancel(bench.now, client.id),
        "twice changes nothing"
    );
    assert_eq!(
        bench.state.depth(),
        Depth {
            ready: 0,
            ready_bytes: 0,
            unacked: 1,
            consumers: 0
        }
    );
    bench.settle(&taken[0], Outcome::Ack).unwrap();
    bench.assert_empty();
}

#[test]
fn a_consumer_is_never_given_more_than_its_prefetch() {
    let mut bench = Bench::plain();
    let client = bench.subscribe(ConsumerSpec {
        prefetch: 2,
        ..acknowledging(1)
    });
    bench.publish_ids(1..=5);
    let taken = client.take();
    assert_eq!(ids(&taken), [1, 2]);
    bench.settle(&taken[1], Outcome::Ack).unwrap();
    assert_eq!(client.take_ids(), [3]);
    bench.settle(&taken[0], REQUEUE).unwrap();
    assert_eq!(client.take_ids(), [1]);
}

#[test]
fn a_consumer_without_room_waits_until_it_is_called_back() {
    let mut bench = Bench::plain();
    let client = bench.subscribe_with_room(acknowledging(1), 1);
    bench.publish_ids(1..=3);
    assert_eq!(bench.fx.stalled, [client.id]);
    let taken = client.take();
    assert_eq!(ids(&taken), [1], "one may overshoot");
    bench.settle(&taken[0], Outcome::Ack).unwrap();
    assert!(
        client.take().is_empty(),
        "credit alone does not call it back"
    );
    bench.fx.stalled.clear();
    bench.state.call_back(client.id);
    bench.dispatch();
    assert_eq!(client.take_ids(), [2]);
}
