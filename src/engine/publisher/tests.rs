use super::*;
use crate::engine::arguments::Arguments;
use crate::engine::binding::Binding;
use crate::engine::fixtures::{Draft, TestBroker, automatic, ids};
use crate::engine::name::{BindingKey, ExchangeName};

fn none() -> Arguments {
    Arguments::default()
}

fn batch(drafts: &[Draft]) -> PublishBatch {
    let mut batch = PublishBatch::default();
    for draft in drafts {
        batch.push(draft.build());
    }
    batch
}

/// Publishes through the same publisher, with its memory of routes.
fn publish(mill: &TestBroker, publisher: &mut Publisher, drafts: &[Draft]) -> Vec<Fate> {
    let mut batch = batch(drafts);
    mill.turn(|turn| publisher.publish(turn, &mut batch));
    batch.drain_fates().collect()
}

#[test]
fn each_queue_gets_its_messages_in_the_order_published() {
    let mill = TestBroker::new();
    let names: Vec<String> = (0..3 * SCANNED_MAX).map(|n| format!("q{n}")).collect();
    let queues: Vec<_> = names.iter().map(|name| mill.queue(name, none())).collect();
    let drafts: Vec<Draft> = (0..200)
        .map(|id| Draft::new(id).to(&names[usize::try_from(id * 7).unwrap() % names.len()]))
        .collect();
    let mut publisher = Publisher::new(Arc::clone(&mill.vhost));
    for _ in 0..2 {
        let fates = publish(&mill, &mut publisher, &drafts);
        assert!(fates.iter().all(|fate| *fate == Fate::Taken));
        for (name, queue) in names.iter().zip(&queues) {
            let expected: Vec<u64> = drafts
                .iter()
                .filter(|draft| draft.key == *name)
                .map(|draft| draft.id)
                .collect();
            assert_eq!(ids(&mill.drain(queue)), expected, "{name}");
        }
    }
}

#[test]
fn every_message_has_a_fate_of_its_own() {
    let mill = TestBroker::new();
    mill.queue("q", none());
    let nowhere = ExchangeName::from_static("nowhere");
    let drafts = [
        Draft::new(1),
        Draft::new(2).to("missing"),
        Draft::new(3).through(nowhere, "q"),
        Draft::new(4),
    ];
    let fates = mill.publish(&drafts);
    assert_eq!(
        (&fates[0], &fates[1], &fates[3]),
        (&Fate::Taken, &Fate::Unrouted, &Fate::Taken)
    );
    assert!(
        matches!(&fates[2], Fate::Refused(error) if error.to_string().contains("no exchange 'nowhere'"))
    );
}

#[test]
fn one_queue_that_refuses_makes_the_fate_and_the_others_take_the_message() {
    for full_first in [true, false] {
        let mill = TestBroker::new();
        let full: Arguments = [
            ("x-max-length", 0.into()),
            ("x-overflow", "reject-publish".into()),
        ]
        .into_iter()
        .map(|(name, value): (_, millpond_protocol::value::Value)| (name, value))
        .collect();
        let open = if full_first {
            mill.queue("full", full);
            mill.queue("open", none())
        } else {
            let open = mill.queue("open", none());
            mill.queue("full", full);
            open
        };
        for name in ["full", "open"] {
            let queue = mill
                .vhost
                .queue(&crate::engine::name::QueueName::from_static(name))
                .unwrap();
            mill.bind(&ExchangeName::amq_fanout(), &queue, "");
        }
        let fates = mill.publish(&[Draft::new(1).through(ExchangeName::amq_fanout(), "")]);
        assert!(matches!(fates[..], [Fate::Refused(_)]));
        assert_eq!(open.depth().ready, 1);
    }
}

#[test]
fn a_message_enters_a_queue_once_however_many_bindings_lead_there() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", none());
    let exchange = ExchangeName::amq_topic();
    mill.bind(&exchange, &queue, "a.*");
    mill.bind(&exchange, &queue, "a.#");
    mill.publish(&[Draft::new(1).through(exchange, "a.b")]);
    assert_eq!(queue.depth().ready, 1);
}

#[test]
fn remembered_routes_follow_every_change_of_the_topology() {
    let mill = TestBroker::new();
    let mut publisher = Publisher::new(Arc::clone(&mill.vhost));
    let exchange = ExchangeName::amq_direct();
    let draft = |id| Draft::new(id).through(exchange.clone(), "k");
    assert_eq!(
        publish(&mill, &mut publisher, &[draft(1)]),
        [Fate::Unrouted]
    );
    let queue = mill.queue("q", none());
    mill.bind(&exchange, &queue, "k");
    assert_eq!(publish(&mill, &mut publisher, &[draft(2)]), [Fate::Taken]);
    mill.turn(|turn| {
        mill.vhost
            .unbind(turn, &mill.who, &exchange, &queue, |_| true)
    })
    .unwrap();
    assert_eq!(
        publish(&mill, &mut publisher, &[draft(3)]),
        [Fate::Unrouted]
    );
    assert_eq!(
        publish(&mill, &mut publisher, &[Draft::new(4)]),
        [Fate::Taken]
    );
    mill.turn(|turn| mill.vhost.delete_queue(turn, &mill.who, queue.name()))
        .unwrap();
    assert_eq!(
        publish(&mill, &mut publisher, &[Draft::new(5)]),
        [Fate::Unrouted]
    );
    let again = mill.queue("q", none());
    assert_eq!(
        publish(&mill, &mut publisher, &[Draft::new(6)]),
        [Fate::Taken]
    );
    assert_eq!(ids(&mill.drain(&again)), [6]);
}

#[test]
fn routes_of_a_headers_exchange_hold_for_one_message_only() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", none());
    let exchange = ExchangeName::amq_headers();
    let binding = Binding::new(
        BindingKey::from_static(""),
        Arguments::from([("kind", "wanted")]),
    )
    .unwrap();
    mill.turn(|turn| mill.vhost.bind(turn, &mill.who, &exchange, &queue, binding))
        .unwrap();
    let address = Arc::clone(Draft::new(0).through(exchange, "").build().address());
    let mut batch = PublishBatch::default();
    for headers in ["kind:wanted\n", "kind:other\n", "kind:wanted\n"] {
        let meta = *Draft::new(1).build().meta();
        batch.push(Message::new(
            Arc::clone(&address),
            meta,
            crate::engine::message::Encoding::Stomp,
            headers.into(),
            bytes::Bytes::new(),
        ));
    }
    let mut publisher = Publisher::new(Arc::clone(&mill.vhost));
    mill.turn(|turn| publisher.publish(turn, &mut batch));
    let fates: Vec<Fate> = batch.drain_fates().collect();
    assert_eq!(fates, [Fate::Taken, Fate::Unrouted, Fate::Taken]);
}

#[test]
fn a_batch_reaches_a_waiting_consumer_in_one_go() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", none());
    let consumer = mill.subscribe(&queue, automatic(1));
    let drafts: Vec<Draft> = (1..=50).map(Draft::new).collect();
    mill.turn(|turn| {
        mill.publish_in(turn, &drafts);
        assert_eq!(consumer.take_ids(), (1..=50).collect::<Vec<u64>>());
    });
}

#[test]
fn a_full_queue_that_blocks_asks_the_publisher_to_pause() {
    let mill = TestBroker::new();
    let mut limits = Arguments::from([("x-overflow", "block")]);
    limits.insert("x-max-length", 2);
    let queue = mill.queue("q", limits);
    let mut publisher = Publisher::new(Arc::clone(&mill.vhost));
    let mut held = |drafts: &[Draft]| {
        let mut batch = batch(drafts);
        mill.turn(|turn| publisher.publish(turn, &mut batch));
        assert!(batch.drain_fates().all(|fate| fate == Fate::Taken));
        batch.take_hold().map(|queue| queue.id())
    };
    assert_eq!(held(&[Draft::new(1)]), None);
    assert_eq!(held(&[Draft::new(2), Draft::new(3)]), Some(queue.id()));
    assert_eq!(queue.depth().ready, 3);
    mill.drain(&queue);
    assert_eq!(held(&[Draft::new(4)]), None);
}
