//! Length limits, expiry and idle time.

use super::*;

#[test]
fn a_delayed_return_counts_towards_the_length_limits() {
    let limits = QueueArguments {
        max_length_bytes: Some(8),
        overflow: Overflow::RejectPublish,
        ..QueueArguments::default()
    };
    for mut bench in [
        Bench::capped(1, Overflow::RejectPublish),
        Bench::new(limits),
    ] {
        bench.publish_ids([1]);
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
        assert_eq!(bench.publish(&Draft::new(2)), Err(Refusal::Full));
        bench.pass(50);
        assert_eq!(bench.drain_ids(), [1]);
        assert_eq!(bench.publish(&Draft::new(3)), Ok(()));
    }
}

#[test]
fn a_message_expires_by_its_own_time_or_the_queues_whichever_is_earlier() {
    let mut bench = Bench::new(QueueArguments {
        message_ttl_ms: Some(100),
        ..QueueArguments::default()
    });
    bench
        .publish(&Draft::new(1).expires(START_MS + 30))
        .unwrap();
    bench
        .publish(&Draft::new(2).expires(START_MS + 500))
        .unwrap();
    assert_eq!(bench.state.next_tick_ms(), Some(START_MS + 30));
    bench.pass(30);
    assert_eq!(bench.fx.take_dead(), [(1, DeathReason::Expired)]);
    assert_eq!(bench.state.next_tick_ms(), Some(START_MS + 100));
    bench.pass(69);
    assert!(bench.fx.dead.is_empty());
    bench.pass(1);
    assert_eq!(bench.fx.take_dead(), [(2, DeathReason::Expired)]);
    bench.assert_empty();
}

#[test]
fn a_ttl_of_zero_means_at_once_or_never() {
    let mut bench = Bench::new(QueueArguments {
        message_ttl_ms: Some(0),
        ..QueueArguments::default()
    });
    bench.publish_ids([1]);
    assert_eq!(bench.fx.take_dead(), [(1, DeathReason::Expired)]);
    let client = bench.subscribe(automatic(1));
    bench.publish_ids([2]);
    assert_eq!(client.take_ids(), [2]);
    assert!(bench.fx.dead.is_empty());
}

#[test]
fn a_message_past_its_time_is_not_for_a_waiting_consumer_either() {
    let mut bench = Bench::plain();
    let client = bench.subscribe(automatic(1));
    bench.publish(&Draft::new(1).expires(START_MS - 1)).unwrap();
    assert_eq!(bench.fx.take_dead(), [(1, DeathReason::Expired)]);
    assert!(client.take_ids().is_empty());
    bench.assert_empty();
}

#[test]
fn an_expired_message_is_not_delivered_to_whoever_comes_later() {
    let mut bench = Bench::plain();
    bench
        .publish(&Draft::new(1).expires(START_MS + 10))
        .unwrap();
    bench.publish(&Draft::new(2)).unwrap();
    bench.now = at(START_MS + 10);
    assert_eq!(bench.drain_ids(), [2], "without any tick");
    assert_eq!(bench.fx.take_dead(), [(1, DeathReason::Expired)]);
}

#[test]
fn a_message_that_comes_back_expired_dies() {
    let mut bench = Bench::plain();
    bench
        .publish(&Draft::new(1).expires(START_MS + 10))
        .unwrap();
    let client = bench.subscribe(acknowledging(1));
    let taken = client.take();
    bench.pass(20);
    bench.settle(&taken[0], REQUEUE).unwrap();
    assert!(client.take().is_empty());
    assert_eq!(bench.fx.take_dead(), [(1, DeathReason::Expired)]);
    bench.assert_empty();
}

#[test]
fn a_full_queue_drops_its_oldest_message() {
    let mut bench = Bench::capped(2, Overflow::DropHead);
    bench.publish_ids(1..=4);
    assert_eq!(
        bench.fx.take_dead(),
        [(1, DeathReason::MaxLength), (2, DeathReason::MaxLength)]
    );
    assert_eq!(bench.drain_ids(), [3, 4]);
    bench.assert_empty();
}

#[test]
fn a_full_queue_drops_what_is_oldest_of_the_lowest_priority() {
    let mut bench = Bench::new(QueueArguments {
        max_length: Some(2),
        max_priority: Some(9),
        ..QueueArguments::default()
    });
    for (id, priority) in [(1, 5), (2, 0), (3, 0), (4, 9), (5, 0)] {
        bench.publish(&Draft::new(id).priority(priority)).unwrap();
    }
    let dead: Vec<u64> = bench.fx.take_dead().into_iter().map(|(id, _)| id).collect();
    assert_eq!(dead, [2, 3, 5]);
    assert_eq!(bench.drain_ids(), [4, 1]);
}

#[test]
fn a_limit_in_bytes_drops_as_many_as_it_takes() {
    let mut bench = Bench::new(QueueArguments {
        max_length_bytes: Some(100),
        ..QueueArguments::default()
    });
    for (id, size) in [(1, 40), (2, 40), (3, 90), (4, 101)] {
        bench.publish(&Draft::new(id).size(size)).unwrap();
    }
    let dead: Vec<u64> = bench.fx.take_dead().into_iter().map(|(id, _)| id).collect();
    assert_eq!(
        dead,
        [1, 2, 3, 4],
        "one that does not fit at all takes everything with it"
    );
    bench.assert_empty();
}

#[test]
fn messages_that_come_back_to_a_full_queue_push_out_its_oldest() {
    let mut bench = Bench::capped(1, Overflow::DropHead);
    bench.publish_ids([1]);
    let client = bench.subscribe(acknowledging(1));
    let taken = client.take();
    bench.cancel(&client);
    bench.publish_ids([2]);
    bench.settle(&taken[0], REQUEUE).unwrap();
    assert_eq!(bench.fx.take_dead(), [(1, DeathReason::MaxLength)]);
    assert_eq!(bench.state.depth().ready, 1);
}

#[test]
fn what_comes_back_for_a_waiting_consumer_is_delivered_rather_than_dropped() {
    let mut bench = Bench::capped(0, Overflow::DropHead);
    let client = bench.subscribe(acknowledging(1));
    bench.publish_ids([1]);
    bench.settle(&client.take()[0], REQUEUE).unwrap();
    assert_eq!(client.take_ids(), [1]);
    assert!(bench.fx.dead.is_empty());
}

#[test]
fn reject_publish_refuses_and_keeps_nothing() {
    let mut bench = Bench::capped(1, Overflow::RejectPublish);
    bench.publish_ids([1]);
    assert!(bench.state.is_full());
    assert_eq!(bench.publish(&Draft::new(2)), Err(Refusal::Full));
    assert!(bench.fx.dead.is_empty());
    assert_eq!(bench.drain_ids(), [1]);
    bench.assert_empty();
}

#[test]
fn reject_publish_dlx_refuses_and_dead_letters() {
    let mut bench = Bench::capped(1, Overflow::RejectPublishDlx);
    bench.publish_ids([1]);
    assert_eq!(bench.publish(&Draft::new(2)), Err(Refusal::Full));
    assert_eq!(bench.fx.take_dead(), [(2, DeathReason::MaxLength)]);
    assert_eq!(bench.drain_ids(), [1]);
    bench.assert_empty();
}

#[test]
fn a_full_queue_that_blocks_takes_the_message_and_wakes_its_publisher_when_there_is_room() {
    let mut bench = Bench::capped(2, Overflow::Block);
    let publisher = Arc::new(Outbox::new(1));
    bench.publish_ids([1]);
    assert!(!bench.state.hold(&publisher));
    bench.publish_ids([2, 3]);
    assert!(bench.state.hold(&publisher) && bench.state.hold(&publisher));
    let client = bench.subscribe(acknowledging(1));
    let woken = |bench: &Bench| {
        bench
            .fx
            .woken
            .iter()
            .filter(|woken| Arc::ptr_eq(woken, &publisher))
            .count()
    };
    assert_eq!(client.take_ids(), [1, 2, 3]);
    assert_eq!(woken(&bench), 1, "once, however often it asked");
    assert!(!bench.state.holds());
}

#[test]
fn a_purge_makes_room_for_a_held_publisher() {
    let mut bench = Bench::capped(1, Overflow::Block);
    let publisher = Arc::new(Outbox::new(1));
    bench.publish_ids([1]);
    assert!(bench.state.hold(&publisher));
    assert_eq!(bench.state.purge(&mut bench.fx), 1);
    bench.state.flush(&mut bench.fx);
    assert!(
        bench
            .fx
            .woken
            .iter()
            .any(|woken| Arc::ptr_eq(woken, &publisher))
    );
}

#[test]
fn a_message_over_the_size_limit_is_refused() {
    let mut bench = Bench::new(QueueArguments {
        max_message_size: Some(10),
        ..QueueArguments::default()
    });
    assert_eq!(bench.publish(&Draft::new(1).size(10)), Ok(()));
    assert_eq!(
        bench.publish(&Draft::new(2).size(11)),
        Err(Refusal::TooLarge(10))
    );
    let messages = [Arc::new(Draft::new(3).size(11).build())];
    assert_eq!(bench.state.admit(&messages), Err(Refusal::TooLarge(10)));
}

#[test]
fn reserved_places_count_towards_what_a_queue_admits() {
    let mut bench = Bench::capped(2, Overflow::RejectPublish);
    let two = [
        Arc::new(Draft::new(1).build()),
        Arc::new(Draft::new(2).build()),
    ];
    assert_eq!(bench.state.admit(&two), Ok(()));
    bench.reserve(7, [1, 2]);
    assert_eq!(bench.publish(&Draft::new(3)), Err(Refusal::Full));
    assert_eq!(bench.state.admit(&two[..1]), Err(Refusal::Full));
    bench.reveal(7);
    assert_eq!(bench.drain_ids(), [1, 2]);
    let mut bytes = Bench::new(QueueArguments {
        max_length_bytes: Some(10),
        overflow: Overflow::RejectPublish,
        ..QueueArguments::default()
    });
    bytes.reserve(7, [1]);
    assert_eq!(bytes.publish(&Draft::new(2)), Err(Refusal::Full));
}

#[test]
fn a_reserved_place_pushes_out_what_is_oldest_once_it_is_taken() {
    let mut bench = Bench::capped(1, Overflow::DropHead);
    bench.reserve(7, [1]);
    bench.publish_ids([2]);
    assert!(bench.fx.dead.is_empty());
    bench.reveal(7);
    assert_eq!(bench.fx.take_dead(), [(1, DeathReason::MaxLength)]);
    assert_eq!(bench.drain_ids(), [2]);
}

#[test]
fn a_queue_is_idle_while_nobody_consumes_or_declares_it() {
    let mut bench = Bench::new(QueueArguments {
        expires_ms: Some(100),
        ..QueueArguments::default()
    });
    assert_eq!(bench.state.next_tick_ms(), Some(START_MS + 100));
    bench.pass(60);
    bench.state.used(bench.now);
    bench.pass(60);
    assert!(!bench.state.idle_expired(bench.now));
    let client = bench.subscribe(acknowledging(1));
    assert_eq!(bench.state.next_tick_ms(), None);
    bench.pass(500);
    assert!(!bench.state.idle_expired(bench.now));
    bench.cancel(&client);
    bench.publish_ids([1]);
    bench.pass(100);
    assert!(bench.state.idle_expired(bench.now), "publishing is no use");
}
