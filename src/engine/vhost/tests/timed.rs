//! What happens by itself: expiry and idle queues, on a clock that stands still until it is moved.

use super::*;

fn with(name: &'static str, value: i32) -> Arguments {
    let mut arguments = none();
    arguments.insert(name, value);
    arguments
}

/// Moves the clock, and lets the vhost's task do what is due.
async fn pass(ms: u64) {
    tokio::time::advance(Duration::from_millis(ms)).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

fn started() -> TestBroker {
    let mill = TestBroker::new();
    mill.broker.start();
    mill
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_nobody_uses_for_so_long_goes() {
    let mill = started();
    let queue = mill
        .declare("q", &transient(with("x-expires", 1_000)))
        .unwrap();
    pass(900).await;
    mill.turn(|turn| mill.vhost.queue_to_read(turn, &mill.who, queue.name()))
        .unwrap();
    pass(900).await;
    assert!(is_there(&mill, "q"), "it was looked at");
    let consumer = mill.subscribe(&queue, automatic(1));
    pass(5_000).await;
    assert!(is_there(&mill, "q"), "it is consumed from");
    mill.cancel(&consumer);
    mill.publish(&[Draft::new(1)]);
    pass(999).await;
    assert!(is_there(&mill, "q"));
    pass(1).await;
    assert!(!is_there(&mill, "q"));
    assert_eq!(mill.charged(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_expired_queue_that_somebody_still_holds_keeps_no_other_from_its_timers() {
    let mill = started();
    mill.declare("q", &transient(with("x-expires", 1_000)))
        .unwrap();
    let mut publisher = Publisher::new(Arc::clone(&mill.vhost));
    let mut batch = PublishBatch::default();
    batch.push(Draft::new(1).build());
    mill.turn(|turn| publisher.publish(turn, &mut batch));
    let other = mill
        .declare("other", &transient(with("x-message-ttl", 2_000)))
        .unwrap();
    mill.publish(&[Draft::new(2).to("other")]);
    pass(1_000).await;
    assert!(!is_there(&mill, "q"));
    assert_eq!(
        mill.vhost.timers.next_ms(),
        Some(crate::engine::fixtures::START_MS + 2_000)
    );
    pass(1_000).await;
    assert_eq!(other.depth().ready, 0);
}

#[tokio::test(start_paused = true)]
async fn messages_expire_without_anybody_looking_and_go_where_the_dead_go() {
    let mill = started();
    let mut arguments = with("x-message-ttl", 500);
    arguments.insert("x-dead-letter-exchange", "");
    arguments.insert("x-dead-letter-routing-key", "dead");
    let (queue, dead) = (
        mill.declare("q", &transient(arguments)).unwrap(),
        mill.declare("dead", &transient(none())).unwrap(),
    );
    mill.publish(&[Draft::new(1)]);
    pass(250).await;
    mill.publish(&[Draft {
        entered_ms: crate::engine::fixtures::START_MS + 250,
        ..Draft::new(2)
    }]);
    pass(250).await;
    assert_eq!((queue.depth().ready, dead.depth().ready), (1, 1));
    pass(250).await;
    assert_eq!((queue.depth().ready, dead.depth().ready), (0, 2));
    assert_eq!(ids(&mill.drain(&dead)), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_return_is_delivered_when_it_is_due() {
    let mill = started();
    let queue = mill.declare("q", &transient(none())).unwrap();
    let consumer = mill.subscribe(&queue, acknowledging(1));
    mill.publish(&[Draft::new(1)]);
    let later = Outcome::Requeue {
        counted: true,
        delay_ms: 700,
    };
    mill.settle(&queue, &consumer.take(), later);
    pass(699).await;
    assert!(consumer.take().is_empty());
    pass(1).await;
    assert_eq!(consumer.take_ids(), [1]);
}

#[tokio::test(start_paused = true)]
async fn deleted_queues_leave_no_timers_behind() {
    let mill = started();
    for _ in 0..100 {
        let queue = mill
            .declare("q", &transient(with("x-expires", 1_000_000)))
            .unwrap();
        mill.turn(|turn| mill.vhost.delete_queue(turn, &mill.who, queue.name()))
            .unwrap();
    }
    assert_eq!(mill.vhost.timers.next_ms(), None);
}
