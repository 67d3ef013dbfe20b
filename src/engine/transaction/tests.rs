use super::*;
use crate::engine::arguments::Arguments;
use crate::engine::fixtures::{
    Draft, TestBroker, acknowledging, automatic, durable, ids, transient,
};
use crate::engine::name::ExchangeName;
use crate::engine::queue::Fate;
use crate::storage::{MemoryStore, Waiter};

fn none() -> Arguments {
    Arguments::default()
}

fn full() -> Arguments {
    Arguments::from([("x-overflow", "reject-publish")])
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .chain([("x-max-length".into(), 0.into())])
        .collect()
}

fn sends(drafts: &[Draft]) -> Transaction {
    let mut transaction = Transaction::default();
    for draft in drafts {
        transaction.send(draft.build(), false);
    }
    transaction
}

fn commit(mill: &TestBroker, transaction: Transaction) -> Result<(), EngineError> {
    mill.turn(|turn| transaction.commit(turn, &mill.vhost))
}

#[tokio::test]
async fn sends_become_visible_when_the_commit_is_on_disk_in_the_place_they_took() {
    let mill = TestBroker::new();
    mill.broker.start();
    let queue = mill.queue("q", none());
    let consumer = mill.subscribe(&queue, acknowledging(1));
    mill.turn(|turn| {
        mill.publish_in(turn, &[Draft::new(1)]);
        sends(&[Draft::new(2), Draft::new(3)])
            .commit(turn, &mill.vhost)
            .unwrap();
        mill.publish_in(turn, &[Draft::new(4)]);
        assert_eq!(consumer.take_ids(), [1], "the unit is still open");
        assert_eq!(queue.depth().ready, 1, "4 waits behind the places taken");
    });
    assert_eq!(ids(&consumer.receive(3).await), [2, 3, 4]);
}

#[tokio::test]
async fn a_transaction_over_two_queues_takes_here_and_gives_there() {
    let mill = TestBroker::new();
    mill.broker.start();
    let (a, b) = (mill.queue("a", none()), mill.queue("b", none()));
    mill.publish(&[Draft::new(1).to("a")]);
    let (from, to) = (
        mill.subscribe(&a, acknowledging(1)),
        mill.subscribe(&b, acknowledging(2)),
    );
    let mut transaction = sends(&[Draft::new(2).to("b")]);
    transaction.settle(
        Arc::clone(&a) as Arc<dyn Queue>,
        from.take()[0].token.unwrap(),
        Outcome::Ack,
    );
    assert_eq!(transaction.len(), 2);
    commit(&mill, transaction).unwrap();
    assert_eq!(a.depth().unacked, 0);
    assert_eq!(ids(&to.receive(1).await), [2]);
}

#[test]
fn a_failed_check_changes_nothing() {
    let mill = TestBroker::new();
    let (a, b, c) = (
        mill.queue("a", none()),
        mill.queue("b", none()),
        mill.queue("c", full()),
    );
    mill.publish(&[Draft::new(1).to("a")]);
    let consumer = mill.subscribe(&a, acknowledging(1));
    let token = consumer.take()[0].token.unwrap();
    let ack = |transaction: &mut Transaction| {
        transaction.settle(Arc::clone(&a) as Arc<dyn Queue>, token, Outcome::Ack);
    };
    let before = (a.depth(), b.depth(), c.depth(), mill.charged());

    let mut refused = sends(&[Draft::new(2).to("b"), Draft::new(3).to("c")]);
    ack(&mut refused);
    let mut unroutable = sends(&[Draft::new(2).to("b")]);
    unroutable.send(Draft::new(3).to("nowhere").build(), true);
    ack(&mut unroutable);
    let mut misled = sends(&[Draft::new(2).to("b")]);
    misled.send(
        Draft::new(3)
            .through(ExchangeName::from_static("nowhere"), "")
            .build(),
        false,
    );
    ack(&mut misled);
    let mut twice = sends(&[Draft::new(2).to("b")]);
    ack(&mut twice);
    ack(&mut twice);
    for (transaction, expected) in [
        (refused, "is full"),
        (unroutable, "no queue is bound"),
        (misled, "no exchange 'nowhere'"),
        (twice, "not outstanding"),
    ] {
        let lasts = mill.lasting_turn(|turn| {
            let error = transaction.commit(turn, &mill.vhost).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        });
        assert!(!lasts, "nothing has to be written");
        assert_eq!((a.depth(), b.depth(), c.depth(), mill.charged()), before);
    }
}

#[test]
fn a_delivery_settled_before_fails_the_transaction() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", none());
    let consumer = mill.subscribe(&queue, acknowledging(1));
    mill.publish(&[Draft::new(1)]);
    let taken = consumer.take();
    let mut transaction = Transaction::default();
    transaction.settle(
        Arc::clone(&queue) as Arc<dyn Queue>,
        taken[0].token.unwrap(),
        Outcome::Ack,
    );
    mill.settle(&queue, &taken, Outcome::Ack);
    assert_eq!(commit(&mill, transaction), Err(EngineError::NotOutstanding));
}

#[test]
fn dropping_a_transaction_leaves_its_deliveries_held() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", none());
    let consumer = mill.subscribe(&queue, acknowledging(1));
    mill.publish(&[Draft::new(1)]);
    let taken = consumer.take();
    let mut transaction = sends(&[Draft::new(2)]);
    transaction.settle(
        Arc::clone(&queue) as Arc<dyn Queue>,
        taken[0].token.unwrap(),
        Outcome::Ack,
    );
    drop(transaction);
    assert_eq!((queue.depth().ready, queue.depth().unacked), (0, 1));
    assert_eq!(mill.settle(&queue, &taken, Outcome::Ack), 0);
    assert_eq!(mill.charged(), 0);
}

#[test]
fn what_need_not_last_is_visible_at_once_and_promises_nothing() {
    let mill = TestBroker::new();
    let queue = mill.declare("q", &transient(none())).unwrap();
    let consumer = mill.subscribe(&queue, automatic(1));
    let transaction = sends(&[Draft::new(1), Draft::new(2)]);
    assert!(!mill.lasting_turn(|turn| transaction.commit(turn, &mill.vhost).unwrap()));
    assert_eq!(consumer.take_ids(), [1, 2]);
}

#[test]
fn a_reject_in_a_transaction_dead_letters_in_the_same_unit() {
    let mill = TestBroker::new();
    let to_dead = Arguments::from([
        ("x-dead-letter-exchange", ""),
        ("x-dead-letter-routing-key", "dead"),
    ]);
    let (queue, dead) = (mill.queue("q", to_dead), mill.queue("dead", none()));
    mill.lasting_turn(|turn| drop(mill.publish_in(turn, &[Draft::new(1)])));
    let consumer = mill.subscribe(&queue, acknowledging(1));
    let mut transaction = Transaction::default();
    transaction.settle(
        Arc::clone(&queue) as Arc<dyn Queue>,
        consumer.take()[0].token.unwrap(),
        Outcome::Reject,
    );
    mill.catch_up();
    let before = mill.commits();
    assert!(mill.lasting_turn(|turn| transaction.commit(turn, &mill.vhost).unwrap()));
    assert_eq!(mill.commits(), before + 1);
    assert_eq!(ids(&mill.drain(&dead)), [1]);
}

#[test]
fn a_queue_that_is_deleted_meanwhile_has_no_part_in_it() {
    let mill = TestBroker::new();
    let (gone, stays) = (mill.queue("gone", none()), mill.queue("stays", none()));
    mill.publish(&[Draft::new(1).to("gone"), Draft::new(2).to("stays")]);
    let (a, b) = (
        mill.subscribe(&gone, acknowledging(1)),
        mill.subscribe(&stays, acknowledging(2)),
    );
    let mut transaction = sends(&[Draft::new(3).to("gone")]);
    for consumer in [&a, &b] {
        let token = consumer.take()[0].token.unwrap();
        transaction.settle(
            Arc::clone(&consumer.queue) as Arc<dyn Queue>,
            token,
            Outcome::Ack,
        );
    }
    mill.turn(|turn| mill.vhost.delete_queue(turn, &mill.who, gone.name()))
        .unwrap();
    commit(&mill, transaction).unwrap();
    assert_eq!(stays.depth().unacked, 0);
    assert_eq!(mill.charged(), 0);
}

#[test]
fn after_a_crash_a_transaction_is_whole_or_absent() {
    let store = MemoryStore::new();
    let mill = TestBroker::on(&store);
    let (a, _b) = (mill.queue("a", none()), mill.queue("b", none()));
    mill.publish(&[Draft::new(1).to("a")]);
    let consumer = mill.subscribe(&a, acknowledging(1));
    let mut transaction = sends(&[Draft::new(2).to("b"), Draft::new(3).to("a")]);
    transaction.settle(
        Arc::clone(&a) as Arc<dyn Queue>,
        consumer.take()[0].token.unwrap(),
        Outcome::Ack,
    );
    let waiter: Arc<dyn Waiter> = Arc::clone(&consumer.outbox) as Arc<dyn Waiter>;
    mill.lasting_turn(|turn| {
        transaction.commit(turn, &mill.vhost).unwrap();
        assert!(turn.promise(&waiter).is_some());
    });
    drop(sends(&[Draft::new(4).to("a")]));
    drop((consumer, a, _b));
    drop(mill);
    let mill = TestBroker::on(&store);
    assert_eq!((mill.restored.queues, mill.restored.messages), (2, 2));
    let (a, b) = (mill.queue("a", none()), mill.queue("b", none()));
    assert_eq!(ids(&mill.drain(&a)), [3]);
    assert_eq!(ids(&mill.drain(&b)), [2]);
}

#[test]
fn a_transaction_cannot_fill_a_queue_beyond_its_limit() {
    let mill = TestBroker::new();
    let mut limited = durable(full());
    limited.arguments.insert("x-max-length", 2);
    let queue = mill.declare("q", &limited).unwrap();
    let three = sends(&[Draft::new(1), Draft::new(2), Draft::new(3)]);
    assert!(matches!(
        commit(&mill, three),
        Err(EngineError::QueueFull { .. })
    ));
    assert_eq!(queue.depth().ready, 0);
    commit(&mill, sends(&[Draft::new(1), Draft::new(2)])).unwrap();
    let fates = mill.publish(&[Draft::new(3)]);
    assert!(
        matches!(fates[..], [Fate::Refused(_)]),
        "the places are taken before they show"
    );
}
