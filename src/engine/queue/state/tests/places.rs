//! Places in the queue that are given back, reserved, recovered, or gone with the queue.

use super::*;

#[test]
fn a_purge_takes_what_waits_and_leaves_what_is_held_or_reserved() {
    let mut bench = Bench::plain();
    bench.publish_ids(1..=2);
    let client = bench.subscribe(acknowledging(1));
    let held = client.take();
    bench.cancel(&client);
    bench
        .settle(
            &held[0],
            Outcome::Requeue {
                counted: true,
                delay_ms: 50,
            },
        )
        .unwrap();
    bench.publish_ids([3]);
    bench.reserve(7, [4]);
    assert_eq!(bench.state.purge(&mut bench.fx), 2);
    assert_eq!(bench.fx.settled, [Seq(1), Seq(3)]);
    assert_eq!(
        bench.state.depth(),
        Depth {
            ready: 0,
            ready_bytes: 0,
            unacked: 1,
            consumers: 0
        }
    );
    assert_eq!(bench.state.next_tick_ms(), None);
    bench.reveal(7);
    bench.settle(&held[1], Outcome::Ack).unwrap();
    assert_eq!(bench.drain_ids(), [4]);
    bench.assert_empty();
}

#[test]
fn a_closed_queue_gives_its_memory_back_and_takes_nothing_any_more() {
    let mut bench = Bench::new(QueueArguments {
        expires_ms: Some(10),
        max_length: Some(0),
        overflow: Overflow::Block,
        ..QueueArguments::default()
    });
    bench.publish_ids(1..=3);
    let client = bench.subscribe(ConsumerSpec {
        prefetch: 2,
        ..acknowledging(1)
    });
    let held = client.take();
    bench
        .settle(
            &held[0],
            Outcome::Requeue {
                counted: true,
                delay_ms: 50,
            },
        )
        .unwrap();
    let held = [held, client.take()].concat();
    bench.reserve(7, [4]);
    let publisher = Arc::new(Outbox::new(1));
    assert!(bench.state.hold(&publisher));
    let consumers = bench.state.close(&mut bench.fx);
    bench.state.flush(&mut bench.fx);
    assert_eq!(consumers.len(), 1);
    assert_eq!(bench.fx.charged, 0);
    assert!(
        bench
            .fx
            .woken
            .iter()
            .any(|woken| Arc::ptr_eq(woken, &publisher))
    );
    assert_eq!(bench.publish(&Draft::new(5)), Err(Refusal::Gone));
    assert!(
        held.iter()
            .all(|delivery| bench.settle(delivery, Outcome::Ack) == Err(NotOutstanding))
    );
    bench.state.put_back(held);
    bench.reveal(7);
    bench.pass(1_000);
    assert_eq!(
        (bench.state.depth(), bench.fx.charged),
        (Depth::default(), 0)
    );
    assert!(
        !bench.state.hold(&publisher) && !bench.state.is_full(),
        "nobody waits for a queue that is gone"
    );
}

#[test]
fn a_closed_queue_wants_no_more_ticks() {
    let mut bench = Bench::new(QueueArguments {
        expires_ms: Some(10),
        message_ttl_ms: Some(5),
        ..QueueArguments::default()
    });
    bench.publish_ids([1]);
    assert!(bench.state.next_tick_ms().is_some());
    bench.state.close(&mut bench.fx);
    bench.pass(100);
    assert_eq!(bench.state.next_tick_ms(), None);
    assert!(!bench.state.idle_expired(bench.now));
}

#[test]
fn a_transactions_sends_show_when_their_commit_is_on_disk_in_the_place_they_reserved() {
    let mut bench = Bench::plain();
    bench.publish_ids([1]);
    bench.reserve(7, [2, 3]);
    bench.publish_ids([4]);
    bench.reserve(8, [5]);
    assert_eq!(bench.state.depth().ready, 2);
    assert_eq!(bench.drain_ids(), [1], "4 was sent later than 2 and 3");
    bench.reveal(6);
    assert!(bench.drain().is_empty());
    bench.reveal(7);
    assert_eq!(bench.drain_ids(), [2, 3, 4]);
    bench.reveal(9);
    let last = bench.drain();
    assert_eq!((ids(&last), last[0].redelivered), (vec![5], false));
    bench.assert_empty();
}

#[test]
fn what_is_sent_after_a_commit_does_not_overtake_it_to_a_waiting_consumer() {
    let mut bench = Bench::plain();
    let client = bench.subscribe(acknowledging(1));
    bench.reserve(7, [1]);
    bench.publish_ids([2]);
    assert!(client.take().is_empty());
    bench.reveal(7);
    assert_eq!(client.take_ids(), [1, 2]);
}

#[test]
fn what_comes_back_to_a_place_before_the_reserved_ones_is_served_at_once() {
    let mut bench = Bench::plain();
    let client = bench.subscribe(acknowledging(1));
    bench.publish_ids([1]);
    bench.reserve(7, [2]);
    bench.settle(&client.take()[0], REQUEUE).unwrap();
    assert_eq!(client.take_ids(), [1]);
}

#[test]
fn a_transaction_that_only_settles_reserves_nothing() {
    let mut bench = Bench::plain();
    bench.reserve(7, []);
    bench.publish_ids([1]);
    assert_eq!(bench.drain_ids(), [1]);
    assert!(bench.state.reserved.is_empty());
}

#[test]
fn sends_with_nothing_to_wait_for_are_served_at_once() {
    let mut bench = Bench::plain();
    let client = bench.subscribe(automatic(1));
    bench.state.reserve(
        None,
        vec![Arc::new(Draft::new(1).transient().build())],
        &mut bench.fx,
    );
    bench.dispatch();
    assert_eq!(client.take_ids(), [1]);
    assert_eq!(bench.fx.charged, 0);
}

#[test]
fn a_delivery_under_auto_ack_leaves_the_log_when_it_is_written() {
    let mut bench = Bench::plain();
    let client = bench.subscribe(automatic(1));
    bench.publish_ids([1]);
    let taken = client.take();
    assert_eq!(taken[0].token, None);
    assert_eq!(
        (
            bench.fx.stored.len(),
            bench.fx.charged,
            bench.state.depth().unacked
        ),
        (1, 0, 0)
    );
    bench.state.written(&[taken[0].seq], &mut bench.fx);
    bench.assert_empty();
}

#[test]
fn deliveries_put_back_keep_their_places_whatever_order_they_come_in() {
    let mut bench = Bench::plain();
    bench.publish_ids(1..=3);
    let client = bench.subscribe(automatic(1));
    let mut taken = client.take();
    bench.cancel(&client);
    bench.publish_ids([4]);
    taken[1].redelivered = true;
    taken.reverse();
    bench.state.put_back(taken);
    let again = bench.drain();
    assert_eq!(ids(&again), [1, 2, 3, 4]);
    assert_eq!(
        again
            .iter()
            .map(|delivery| delivery.redelivered)
            .collect::<Vec<_>>(),
        [false, true, false, false],
        "only what may have reached the client is marked, by whoever sent it"
    );
    bench.assert_empty();
}

#[test]
fn recovered_messages_come_first_and_are_redelivered_after_an_unclean_stop() {
    for unclean in [false, true] {
        let mut bench = Bench::plain();
        let found = [(3, 0), (5, 2)].map(|(seq, returns)| {
            bench.on_disk(Seq(seq), &Draft::new(seq));
            Found {
                first: Seq(seq),
                last: Seq(seq),
                bytes: 8,
                level: 0,
                returns,
            }
        });
        bench.state.recover(Seq(9), found, unclean);
        bench.publish_ids([3]);
        let taken = bench.drain();
        let seen: Vec<_> = taken
            .iter()
            .map(|delivery| (delivery.seq.0, delivery.returns, delivery.redelivered))
            .collect();
        assert_eq!(seen, [(3, 0, unclean), (5, 2, true), (9, 0, false)]);
        bench.assert_empty();
    }
}
