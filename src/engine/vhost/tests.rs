use std::time::Duration;

use super::*;
use crate::engine::arguments::Arguments;
use crate::engine::binding::Binding;
use crate::engine::delivery::Outcome;
use crate::engine::fixtures::{
    Draft, TestBroker, acknowledging, automatic, durable, ids, transient,
};
use crate::engine::name::BindingKey;
use crate::engine::outbox::Item;
use crate::engine::publisher::Publisher;
use crate::engine::queue::{Durability, Fate, Owner, PublishBatch, QueueSpec};
use crate::storage::MemoryStore;

mod exchanges;
mod timed;

fn none() -> Arguments {
    Arguments::default()
}

fn is_there(mill: &TestBroker, name: &'static str) -> bool {
    mill.vhost.queue(&QueueName::from_static(name)).is_some()
}

fn exclusive(owner: Owner) -> QueueSpec {
    QueueSpec {
        exclusive: Some(owner),
        ..transient(none())
    }
}

#[test]
fn declaring_a_queue_again_finds_it() {
    let mill = TestBroker::new();
    let name = QueueName::from_static("q");
    let declare = || {
        mill.turn(|turn| {
            mill.vhost
                .declare_queue(turn, &mill.who, &name, &durable(none()), Mismatch::Error)
        })
        .unwrap()
    };
    let (first, second) = (declare(), declare());
    assert!(first.created && !second.created);
    assert_eq!(first.queue.id(), second.queue.id());
}

#[test]
fn declaring_a_queue_otherwise_is_refused_by_what_differs() {
    let mill = TestBroker::new();
    mill.queue("q", none());
    let auto_delete = QueueSpec {
        auto_delete: true,
        ..durable(none())
    };
    let mine = QueueSpec {
        exclusive: Some(mill.who.owner),
        ..durable(none())
    };
    let mut limited = durable(none());
    limited.arguments.insert("x-max-length", 1);
    for (spec, differs) in [
        (transient(none()), "durable"),
        (auto_delete, "auto_delete"),
        (mine, "exclusive"),
        (limited.clone(), "x-max-length"),
    ] {
        let error = mill.declare("q", &spec).unwrap_err();
        assert!(matches!(error, EngineError::Inequivalent(_)));
        assert!(
            error.to_string().contains(&format!("'{differs}'")),
            "{error}"
        );
    }
    let name = QueueName::from_static("q");
    let existing = mill.turn(|turn| {
        mill.vhost
            .declare_queue(turn, &mill.who, &name, &limited, Mismatch::UseExisting)
    });
    assert!(!existing.unwrap().created);
    let wrong = Arguments::from([("x-max-length", "many")]);
    assert!(matches!(
        mill.declare("other", &durable(wrong)),
        Err(EngineError::InvalidArgument { .. })
    ));
    assert!(!is_there(&mill, "other"));
}

#[test]
fn nobody_declares_deletes_binds_or_reads_without_permission() {
    let mill = TestBroker::new();
    let nobody = mill.nobody();
    let queue = mill.queue("q", none());
    let refused = |result: Result<(), EngineError>| {
        assert!(
            matches!(result, Err(EngineError::AccessRefused { .. })),
            "{result:?}"
        );
    };
    mill.turn(|turn| {
        let spec = durable(none());
        let other = QueueName::from_static("other");
        let (vhost, exchange) = (&mill.vhost, ExchangeName::amq_topic());
        refused(
            vhost
                .declare_queue(turn, &nobody, &other, &spec, Mismatch::Error)
                .map(drop),
        );
        refused(
            vhost
                .declare_queue(turn, &nobody, queue.name(), &spec, Mismatch::Error)
                .map(drop),
        );
        refused(vhost.delete_queue(turn, &nobody, queue.name()).map(drop));
        refused(vhost.queue_to_read(turn, &nobody, queue.name()).map(drop));
        let binding = Binding::plain(BindingKey::from_static("#"));
        refused(vhost.bind(turn, &nobody, &exchange, &queue, binding));
        refused(vhost.unbind(turn, &nobody, &exchange, &queue, |_| true));
        refused(vhost.check_publish(&nobody, &exchange, &RoutingKey::from_static("k")));
    });
    assert!(is_there(&mill, "q") && !is_there(&mill, "other"));
}

#[test]
fn an_exclusive_queue_belongs_to_one_connection() {
    let mill = TestBroker::new();
    let (other, spec) = (mill.other_connection(), exclusive(mill.who.owner));
    let queue = mill.declare("mine", &spec).unwrap();
    mill.turn(|turn| {
        let (vhost, name) = (&mill.vhost, queue.name());
        let locked = |result: Result<(), EngineError>| {
            assert!(
                matches!(result, Err(EngineError::ResourceLocked { .. })),
                "{result:?}"
            );
        };
        let theirs = exclusive(other.owner);
        locked(
            vhost
                .declare_queue(turn, &other, name, &theirs, Mismatch::UseExisting)
                .map(drop),
        );
        locked(vhost.queue_to_read(turn, &other, name).map(drop));
        locked(vhost.delete_queue(turn, &other, name).map(drop));
        assert!(vhost.queue_to_read(turn, &mill.who, name).is_ok());
        vhost.delete_exclusive(turn, &queue);
    });
    assert!(!is_there(&mill, "mine"));
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer_and_not_before_it_had_one() {
    let mill = TestBroker::new();
    let spec = QueueSpec {
        auto_delete: true,
        ..durable(none())
    };
    let queue = mill.declare("q", &spec).unwrap();
    mill.publish(&[Draft::new(1)]);
    assert!(is_there(&mill, "q"));
    let (first, second) = (
        mill.subscribe(&queue, automatic(1)),
        mill.subscribe(&queue, automatic(2)),
    );
    mill.cancel(&first);
    mill.cancel(&first);
    assert!(is_there(&mill, "q"));
    mill.cancel(&second);
    assert!(!is_there(&mill, "q"));
    assert_eq!(mill.publish(&[Draft::new(2)]), [Fate::Unrouted]);
    assert_eq!(mill.charged(), 0);
}

#[test]
fn deleting_a_queue_tells_its_consumers_and_frees_everything() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", none());
    mill.publish(&[Draft::new(1), Draft::new(2), Draft::new(3)]);
    let consumer = mill.subscribe(
        &queue,
        crate::engine::queue::ConsumerSpec {
            prefetch: 1,
            ..acknowledging(7)
        },
    );
    let ready = mill.turn(|turn| mill.vhost.delete_queue(turn, &mill.who, queue.name()));
    assert_eq!(ready, Ok(2));
    let mut items = Vec::new();
    consumer.outbox.take(usize::MAX, &mut items);
    let [Item::Delivery(held), Item::Cancelled(tag)] = &items[..] else {
        panic!("{items:?}");
    };
    assert_eq!(tag.0, 7);
    assert_eq!(mill.charged(), 0);
    // What a connection does that has not heard of it yet.
    assert_eq!(
        mill.settle(&queue, std::slice::from_ref(held), Outcome::Ack),
        1
    );
    mill.turn(|turn| {
        queue.put_back(turn, vec![held.clone()]);
        queue.extend(turn, consumer.id);
        queue.written(turn, &[held.seq]);
        queue.cancel(turn, consumer.id);
        assert_eq!(queue.purge(turn), 0);
        let outbox = Arc::clone(&consumer.outbox);
        assert!(matches!(
            queue.subscribe(turn, automatic(8), outbox),
            Err(EngineError::NotFound { .. })
        ));
    });
    assert_eq!(mill.charged(), 0);
    let again = mill.turn(|turn| mill.vhost.delete_queue(turn, &mill.who, queue.name()));
    assert_eq!(again, Ok(0), "a queue that is missing is no error");
}

#[test]
fn a_purge_counts_what_it_removes_and_survives_a_restart() {
    let store = MemoryStore::new();
    let mill = TestBroker::on(&store);
    let queue = mill.queue("q", none());
    mill.publish(&[Draft::new(1), Draft::new(2)]);
    assert_eq!(mill.turn(|turn| queue.purge(turn)), 2);
    assert_eq!((queue.depth().ready, mill.charged()), (0, 0));
    mill.publish(&[Draft::new(3)]);
    mill.close();
    let mill = TestBroker::on(&store);
    assert_eq!(ids(&mill.drain(&mill.queue("q", none()))), [3]);
}

#[test]
fn an_exclusive_consumer_keeps_others_out() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", none());
    let spec = crate::engine::queue::ConsumerSpec {
        exclusive: true,
        ..acknowledging(1)
    };
    let first = mill.subscribe(&queue, spec);
    let outbox = Arc::clone(&first.outbox);
    let refused = mill.subscribe_with(&queue, acknowledging(2), &outbox);
    assert!(matches!(refused, Err(EngineError::InUse { .. })));
    mill.cancel(&first);
    assert!(
        mill.subscribe_with(&queue, acknowledging(2), &outbox)
            .is_ok()
    );
}
