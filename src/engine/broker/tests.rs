use super::*;
use crate::engine::arguments::Arguments;
use crate::engine::delivery::Outcome;
use crate::engine::fixtures::{
    Draft, TestBroker, acknowledging, automatic, durable, ids, transient,
};
use crate::engine::name::{ExchangeName, QueueName};
use crate::storage::{MemoryStore, Seq, SledOptions, SledStore, Store};

fn none() -> Arguments {
    Arguments::default()
}

fn is_there(mill: &TestBroker, name: &'static str) -> bool {
    mill.vhost.queue(&QueueName::from_static(name)).is_some()
}

#[test]
fn messages_come_back_in_their_order_after_a_clean_stop_as_if_nothing_had_happened() {
    let store = MemoryStore::new();
    let mill = TestBroker::on(&store);
    mill.queue("q", none());
    mill.publish(&[Draft::new(1), Draft::new(2).size(100_000), Draft::new(3)]);
    mill.close();
    let mill = TestBroker::on(&store);
    let restored = Restored {
        queues: 1,
        messages: 3,
    };
    assert_eq!(mill.restored, restored);
    let queue = mill.queue("q", none());
    let taken = mill.drain(&queue);
    assert_eq!(ids(&taken), [1, 2, 3]);
    assert!(
        taken
            .iter()
            .all(|delivery| !delivery.redelivered && delivery.returns == 0)
    );
    assert_eq!(taken[1].message.body().len(), 100_000);
    assert_eq!(mill.charged(), 0);
}

#[test]
fn after_a_crash_everything_may_have_been_delivered_and_counts_are_kept() {
    let store = MemoryStore::new();
    let mill = TestBroker::on(&store);
    let queue = mill.queue("q", none());
    mill.publish(&[Draft::new(1), Draft::new(2), Draft::new(3), Draft::new(4)]);
    let consumer = mill.subscribe(&queue, acknowledging(1));
    let taken = consumer.take();
    mill.settle(&queue, &taken[..1], Outcome::Ack);
    let again = Outcome::Requeue {
        counted: true,
        delay_ms: 0,
    };
    mill.settle(&queue, &taken[1..2], again);
    mill.settle(&queue, &consumer.take(), again);
    mill.catch_up();
    drop((consumer, queue));
    drop(mill);
    let mill = TestBroker::on(&store);
    let taken = mill.drain(&mill.queue("q", none()));
    let seen: Vec<_> = taken
        .iter()
        .map(|delivery| (delivery.message.meta().id.0, delivery.returns))
        .collect();
    assert_eq!(seen, [(2, 2), (3, 0), (4, 0)]);
    assert!(taken.iter().all(|delivery| delivery.redelivered));
}

#[test]
fn what_is_published_after_a_restart_comes_behind_what_was_there() {
    let store = MemoryStore::new();
    for round in 1..=3 {
        let mill = TestBroker::on(&store);
        let queue = mill.queue("q", none());
        mill.publish(&[Draft::new(round)]);
        if round == 3 {
            let taken = mill.drain(&queue);
            assert_eq!(ids(&taken), [1, 2, 3]);
            assert!(taken.is_sorted_by_key(|delivery| delivery.seq));
        }
        mill.close();
    }
    assert_eq!(TestBroker::on(&store).restored.messages, 0);
}

#[test]
fn only_persistent_messages_of_durable_queues_come_back() {
    let store = MemoryStore::new();
    let mill = TestBroker::on(&store);
    mill.queue("kept", none());
    mill.declare("gone", &transient(none())).unwrap();
    mill.publish(&[
        Draft::new(1).to("kept").transient(),
        Draft::new(2).to("kept"),
        Draft::new(3).to("gone"),
    ]);
    mill.close();
    let mill = TestBroker::on(&store);
    assert!(!is_there(&mill, "gone"));
    assert_eq!(ids(&mill.drain(&mill.queue("kept", none()))), [2]);
}

#[test]
fn an_exclusive_queue_leaves_nothing_behind_even_if_it_was_declared_durable() {
    let store = MemoryStore::new();
    let mill = TestBroker::on(&store);
    let mut mine = durable(none());
    mine.exclusive = Some(mill.who.owner);
    let queue = mill.declare("mine", &mine).unwrap();
    mill.bind(&ExchangeName::amq_direct(), &queue, "k");
    mill.publish(&[Draft::new(1).to("mine")]);
    assert_eq!(mill.declare("mine", &mine).unwrap().id(), queue.id());
    mill.catch_up();
    drop(queue);
    drop(mill);
    let mill = TestBroker::on(&store);
    assert_eq!(mill.restored, Restored::default());
    assert!(!is_there(&mill, "mine"));
}

#[test]
fn a_delivery_under_auto_ack_that_was_not_written_comes_back_after_a_crash() {
    let store = MemoryStore::new();
    let mill = TestBroker::on(&store);
    let queue = mill.queue("q", none());
    let consumer = mill.subscribe(&queue, automatic(1));
    mill.publish(&[Draft::new(1), Draft::new(2)]);
    let taken = consumer.take();
    assert_eq!(ids(&taken), [1, 2]);
    let written: [Seq; 1] = [taken[0].seq];
    mill.turn(|turn| queue.written(turn, &written));
    mill.catch_up();
    drop((consumer, queue));
    drop(mill);
    let mill = TestBroker::on(&store);
    assert_eq!(ids(&mill.drain(&mill.queue("q", none()))), [2]);
}

#[test]
fn a_deleted_queue_stays_deleted_and_its_name_begins_anew() {
    let store = MemoryStore::new();
    let mill = TestBroker::on(&store);
    let mut last = crate::storage::QueueId(0);
    for id in 1..=2 {
        let queue = mill.queue("q", none());
        assert!(queue.id() > last);
        last = queue.id();
        mill.publish(&[Draft::new(id)]);
        mill.catch_up();
        mill.turn(|turn| mill.vhost.delete_queue(turn, &mill.who, queue.name()))
            .unwrap();
    }
    mill.close();
    let mill = TestBroker::on(&store);
    assert_eq!(mill.restored, Restored::default());
    let queue = mill.queue("q", none());
    assert!(
        queue.id() > last,
        "the number of a queue that was on disk is never used again"
    );
    assert!(mill.drain(&queue).is_empty());
}

#[test]
fn a_queue_comes_back_with_its_arguments_and_acts_on_them() {
    let store = MemoryStore::new();
    let arguments = || {
        let mut arguments = Arguments::from([("x-overflow", "reject-publish")]);
        arguments.insert("x-max-length", 1);
        arguments
    };
    TestBroker::on(&store).queue("q", arguments());
    let mill = TestBroker::on(&store);
    mill.queue("q", arguments());
    assert!(mill.declare("q", &durable(none())).is_err());
    let fates = mill.publish(&[Draft::new(1), Draft::new(2)]);
    assert!(matches!(
        fates[..],
        [
            crate::engine::queue::Fate::Taken,
            crate::engine::queue::Fate::Refused(_)
        ]
    ));
}

#[test]
fn sled_keeps_what_memory_keeps() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let store = SledStore::open(directory.path(), &SledOptions::default()).unwrap();
        TestBroker::over(Box::new(store) as Box<dyn Store>)
    };
    let mill = open();
    mill.queue("q", none());
    let drafts: Vec<Draft> = (1..=300).map(|id| Draft::new(id).size(1_000)).collect();
    assert!(mill.lasting_turn(|turn| drop(mill.publish_in(turn, &drafts))));
    drop(mill);
    let mill = open();
    let taken = mill.drain(&mill.queue("q", none()));
    assert_eq!(ids(&taken), (1..=300).collect::<Vec<u64>>());
    assert!(taken.iter().all(|delivery| delivery.redelivered));
    mill.close();
    assert_eq!(open().restored.messages, 0);
}
