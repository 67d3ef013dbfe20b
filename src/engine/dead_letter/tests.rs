use super::*;
use crate::engine::arguments::Arguments;
use crate::engine::delivery::{Delivery, Outcome};
use crate::engine::error::EngineError;
use crate::engine::fixtures::{Draft, START_MS, TestBroker, acknowledging, ids, transient};
use crate::engine::name::{ExchangeName, RoutingKey};
use crate::engine::queue::Fate;

fn row(queue: &'static str, reason: DeathReason) -> Death {
    let address = Address {
        exchange: ExchangeName::parse("").unwrap(),
        routing_key: RoutingKey::parse(queue).unwrap(),
    };
    Death {
        queue: queue.into(),
        reason,
        count: 1,
        time_s: 0,
        address,
        original_expiration_ms: None,
    }
}

#[test]
fn a_circle_without_a_reject_ends_and_one_with_a_reject_goes_on() {
    let history = |rows| Deaths { rows, first: None };
    let expired = history(vec![
        row("b", DeathReason::Expired),
        row("a", DeathReason::Expired),
    ]);
    assert!(is_cycle(&expired, b"a"));
    assert!(is_cycle(&expired, b"b"));
    assert!(!is_cycle(&expired, b"c"));
    let rejected = history(vec![
        row("b", DeathReason::Rejected),
        row("a", DeathReason::Expired),
    ]);
    assert!(
        !is_cycle(&rejected, b"a"),
        "somebody decided to send it round again"
    );
}

/// A queue that hands its dead on to the queue of that name.
fn to(target: &'static str) -> Arguments {
    Arguments::from([
        ("x-dead-letter-exchange", ""),
        ("x-dead-letter-routing-key", target),
    ])
}

/// Where messages die at once, and go on to that queue.
fn through(target: &'static str) -> Arguments {
    with(to(target), "x-message-ttl", 0)
}

fn with(mut arguments: Arguments, name: &'static str, value: i32) -> Arguments {
    arguments.insert(name, value);
    arguments
}

fn history(delivery: &Delivery) -> Vec<(&[u8], DeathReason, u64)> {
    let rows = &delivery.message.deaths().unwrap().rows;
    rows.iter()
        .map(|row| (row.queue.as_ref(), row.reason, row.count))
        .collect()
}

#[test]
fn a_dead_letter_remembers_where_why_and_when_it_died() {
    let mill = TestBroker::new();
    mill.queue("a", to("dead"));
    let (a, dead) = (
        mill.queue("a", to("dead")),
        mill.queue("dead", Arguments::default()),
    );
    mill.publish(&[Draft::new(1).to("a").expires(START_MS + 5_000)]);
    let consumer = mill.subscribe(&a, acknowledging(1));
    mill.settle(&a, &consumer.take(), Outcome::Reject);
    let taken = mill.drain(&dead);
    assert_eq!(ids(&taken), [1]);
    let message = &taken[0].message;
    assert_eq!(message.address().routing_key.as_bytes(), b"dead");
    assert_eq!(message.meta().expires_ms, None, "or it would die again");
    let deaths = message.deaths().unwrap();
    let row = &deaths.rows[0];
    assert_eq!(
        (row.queue.as_ref(), row.reason, row.count),
        (&b"a"[..], DeathReason::Rejected, 1)
    );
    assert_eq!(row.time_s, START_MS / 1000);
    assert_eq!(row.address.routing_key.as_bytes(), b"a");
    assert_eq!(
        deaths.first,
        Some((
            "a".into(),
            DeathReason::Rejected,
            ExchangeName::default_exchange()
        ))
    );
    assert_eq!(mill.charged(), 0);
}

#[test]
fn without_a_key_of_its_own_a_dead_letter_keeps_the_messages() {
    let mill = TestBroker::new();
    let exchange = ExchangeName::amq_topic();
    let a = mill.queue(
        "a",
        Arguments::from([("x-dead-letter-exchange", "amq.topic")]),
    );
    let (hit, missed) = (
        mill.queue("hit", Arguments::default()),
        mill.queue("missed", Arguments::default()),
    );
    mill.bind(&exchange, &hit, "#.a");
    mill.bind(&exchange, &missed, "other");
    mill.publish(&[Draft::new(1).to("a")]);
    let consumer = mill.subscribe(&a, acknowledging(1));
    mill.settle(&a, &consumer.take(), Outcome::Reject);
    assert_eq!((hit.depth().ready, missed.depth().ready), (1, 0));
}

#[test]
fn a_cascade_through_several_queues_is_one_commit() {
    let mill = TestBroker::new();
    let queues = [
        mill.queue("a", through("b")),
        mill.queue("b", through("c")),
        mill.queue("c", through("d")),
    ];
    let last = mill.queue("d", Arguments::default());
    mill.catch_up();
    let before = mill.commits();
    assert!(mill.lasting_turn(|turn| {
        let fates = mill.publish_in(turn, &[Draft::new(1).to("a")]);
        assert_eq!(fates, [Fate::Taken]);
    }));
    assert_eq!(mill.commits(), before + 1);
    assert!(queues.iter().all(|queue| queue.depth().ready == 0));
    assert_eq!(last.depth().ready, 1);
}

#[test]
fn the_history_of_a_cascade_is_newest_first() {
    let mill = TestBroker::new();
    mill.queue("a", through("b"));
    mill.queue("b", through("c"));
    let c = mill.queue("c", Arguments::default());
    mill.publish(&[Draft::new(1).to("a")]);
    let taken = mill.drain(&c);
    assert_eq!(
        history(&taken[0]),
        [
            (&b"b"[..], DeathReason::Expired, 1),
            (b"a", DeathReason::Expired, 1)
        ]
    );
    let first = taken[0].message.deaths().unwrap().first.clone();
    assert_eq!(first.unwrap().0, "a");
}

#[test]
fn a_message_that_would_go_in_a_circle_is_dropped() {
    let mill = TestBroker::new();
    let (a, b) = (mill.queue("a", through("b")), mill.queue("b", through("a")));
    let itself = mill.queue("itself", through("itself"));
    let fates = mill.publish(&[Draft::new(1).to("a"), Draft::new(2).to("itself")]);
    assert_eq!(fates, [Fate::Taken, Fate::Taken]);
    for queue in [a, b, itself] {
        assert_eq!((queue.depth().ready, queue.depth().unacked), (0, 0));
    }
    assert_eq!(mill.charged(), 0);
}

#[test]
fn a_circle_in_which_a_consumer_rejects_goes_on_and_is_counted() {
    let mill = TestBroker::new();
    let a = mill.queue("a", to("b"));
    mill.queue("b", through("a"));
    let consumer = mill.subscribe(&a, acknowledging(1));
    mill.publish(&[Draft::new(1).to("a")]);
    for round in 1..=3 {
        let taken = consumer.take();
        assert_eq!(ids(&taken), [1], "round {round}");
        if round > 1 {
            let rounds = round - 1;
            assert_eq!(
                history(&taken[0]),
                [
                    (&b"b"[..], DeathReason::Expired, rounds),
                    (b"a", DeathReason::Rejected, rounds)
                ]
            );
        }
        mill.settle(&a, &taken, Outcome::Reject);
    }
}

#[test]
fn a_dead_letter_exchange_may_fan_out() {
    let mill = TestBroker::new();
    let a = mill.queue(
        "a",
        Arguments::from([("x-dead-letter-exchange", "amq.fanout")]),
    );
    let targets = ["x", "y", "z"].map(|name| mill.queue(name, Arguments::default()));
    for target in &targets {
        mill.bind(&ExchangeName::amq_fanout(), target, "");
    }
    mill.publish(&[Draft::new(1).to("a").size(5_000)]);
    let consumer = mill.subscribe(&a, acknowledging(1));
    mill.settle(&a, &consumer.take(), Outcome::Reject);
    let copies: Vec<_> = targets
        .iter()
        .map(|target| mill.drain(target).remove(0).message)
        .collect();
    assert!(
        copies.iter().all(|copy| Arc::ptr_eq(copy, &copies[0])),
        "one message, shared"
    );
    assert_eq!(mill.charged(), 0);
}

#[test]
fn a_full_queue_that_refuses_loses_the_dead_letter() {
    let mill = TestBroker::new();
    let a = mill.queue("a", to("full"));
    let mut limited = with(Arguments::default(), "x-max-length", 1);
    limited.insert("x-overflow", "reject-publish");
    let full = mill.queue("full", limited);
    mill.publish(&[Draft::new(1).to("full"), Draft::new(2).to("a")]);
    let consumer = mill.subscribe(&a, acknowledging(1));
    mill.settle(&a, &consumer.take(), Outcome::Reject);
    assert_eq!(ids(&mill.drain(&full)), [1]);
    assert_eq!(mill.charged(), 0);
}

#[test]
fn a_dead_letter_pushes_on_what_it_finds_in_a_full_queue() {
    let mill = TestBroker::new();
    let a = mill.queue("a", to("full"));
    let full = mill.queue("full", with(to("rest"), "x-max-length", 1));
    let rest = mill.queue("rest", Arguments::default());
    mill.publish(&[Draft::new(1).to("full"), Draft::new(2).to("a")]);
    let consumer = mill.subscribe(&a, acknowledging(1));
    mill.settle(&a, &consumer.take(), Outcome::Reject);
    assert_eq!(ids(&mill.drain(&full)), [2]);
    let pushed = mill.drain(&rest);
    assert_eq!(
        (ids(&pushed), history(&pushed[0])),
        (vec![1], vec![(&b"full"[..], DeathReason::MaxLength, 1)])
    );
}

#[test]
fn reject_publish_dlx_tells_the_publisher_and_keeps_the_message() {
    let mill = TestBroker::new();
    let mut limited = with(to("dead"), "x-max-length", 0);
    limited.insert("x-overflow", "reject-publish-dlx");
    mill.queue("a", limited);
    let dead = mill.queue("dead", Arguments::default());
    let fates = mill.publish(&[Draft::new(1).to("a")]);
    assert!(
        matches!(&fates[..], [Fate::Refused(error)] if matches!(**error, EngineError::QueueFull { .. }))
    );
    let taken = mill.drain(&dead);
    assert_eq!(history(&taken[0]), [(&b"a"[..], DeathReason::MaxLength, 1)]);
}

#[test]
fn without_an_exchange_or_a_queue_to_go_to_the_dead_are_gone() {
    let mill = TestBroker::new();
    for (name, exchange) in [("a", "nowhere"), ("b", "amq.direct")] {
        let arguments = with(
            Arguments::from([("x-dead-letter-exchange", exchange)]),
            "x-message-ttl",
            0,
        );
        let queue = mill.queue(name, arguments);
        assert_eq!(mill.publish(&[Draft::new(1).to(name)]), [Fate::Taken]);
        assert_eq!(queue.depth().ready, 0);
    }
    assert_eq!(mill.charged(), 0);
}

#[test]
fn a_cascade_that_multiplies_without_end_is_cut_off() {
    // Each queue sends its dead to all of the others: 12 queues would make more than 10^9 moves of one message.
    let mill = TestBroker::new();
    let exchange = ExchangeName::amq_fanout();
    let arguments = with(
        Arguments::from([("x-dead-letter-exchange", "amq.fanout")]),
        "x-message-ttl",
        0,
    );
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let queues = names.map(|name| mill.declare(name, &transient(arguments.clone())).unwrap());
    for queue in &queues {
        mill.bind(&exchange, queue, "");
    }
    assert_eq!(mill.publish(&[Draft::new(1).to("a")]), [Fate::Taken]);
    assert!(queues.iter().all(|queue| queue.depth().ready == 0));
    assert_eq!(mill.charged(), 0);
}
