use super::*;
use crate::engine::consumer::ConsumerSpec;
use crate::engine::fixtures::{Draft, TestBroker, automatic, ids};
use crate::storage::Seq;

impl Outbox {
    /// The deliveries that wait, left where they are.
    pub(in crate::engine) fn waiting(&self) -> Vec<Delivery> {
        let inner = self.inner.lock();
        let deliveries = inner.items.iter().filter_map(|item| match item {
            Item::Delivery(delivery) => Some(delivery.clone()),
            Item::Cancelled(_) => None,
        });
        deliveries.collect()
    }
}

fn delivery(tag: u32, id: u64) -> Delivery {
    Delivery {
        tag: ConsumerTag(tag),
        token: None,
        seq: Seq(id),
        message: Arc::new(Draft::new(id).build()),
        returns: 0,
        redelivered: false,
    }
}

fn push(outbox: &Outbox, deliveries: impl IntoIterator<Item = (u32, u64)>) {
    let mut pending: Vec<Delivery> = deliveries
        .into_iter()
        .map(|(tag, id)| delivery(tag, id))
        .collect();
    pending.iter().for_each(|delivery| outbox.weigh(delivery));
    outbox.push(&mut pending);
    assert!(pending.is_empty());
}

fn take_ids(outbox: &Outbox, max: usize) -> Vec<u64> {
    let mut items = Vec::new();
    outbox.take(max, &mut items);
    items
        .iter()
        .map(|item| match item {
            Item::Delivery(delivery) => delivery.message.meta().id.0,
            Item::Cancelled(tag) => 1_000 + u64::from(tag.0),
        })
        .collect()
}

/// Whether a wake-up waits for the connection.
async fn is_woken(outbox: &Outbox) -> bool {
    let mut woken = std::pin::pin!(outbox.woken());
    std::future::poll_fn(|context| std::task::Poll::Ready(woken.as_mut().poll(context).is_ready()))
        .await
}

#[test]
fn deliveries_and_notices_leave_in_the_order_they_came() {
    let outbox = Outbox::new(1 << 20);
    push(&outbox, [(1, 1), (2, 2)]);
    outbox.cancelled(ConsumerTag(1));
    push(&outbox, [(2, 3)]);
    assert_eq!(take_ids(&outbox, usize::MAX), [1, 2, 1_001, 3]);
    assert!(outbox.is_empty());
}

#[test]
fn about_as_much_is_taken_as_was_asked_for() {
    let outbox = Outbox::new(1 << 20);
    let weight = delivery(1, 1).weight();
    push(&outbox, (1..=4).map(|id| (1, id)));
    assert!(take_ids(&outbox, 0).is_empty());
    assert_eq!(take_ids(&outbox, weight + 1), [1, 2]);
    assert_eq!(outbox.room(), (1 << 20) - 2 * weight);
    assert_eq!(take_ids(&outbox, 1), [3]);
    assert_eq!(take_ids(&outbox, usize::MAX), [4]);
    assert_eq!(outbox.room(), 1 << 20);
}

#[test]
fn what_is_going_to_be_pushed_takes_room_already() {
    let outbox = Outbox::new(1);
    let on_its_way = delivery(1, 1);
    outbox.weigh(&on_its_way);
    assert_eq!(outbox.room(), 0);
    assert!(take_ids(&outbox, usize::MAX).is_empty());
    assert_eq!(outbox.room(), 0);
    outbox.push(&mut vec![on_its_way]);
    assert_eq!(take_ids(&outbox, usize::MAX), [1]);
    assert_eq!(outbox.room(), 1);
}

#[test]
fn one_consumers_deliveries_are_taken_back_and_the_others_stay() {
    let outbox = Outbox::new(1 << 20);
    push(&outbox, [(1, 1), (2, 2), (1, 3), (2, 4)]);
    outbox.cancelled(ConsumerTag(1));
    assert_eq!(ids(&outbox.take_for(ConsumerTag(1))), [1, 3]);
    assert!(outbox.take_for(ConsumerTag(1)).is_empty());
    assert_eq!(take_ids(&outbox, usize::MAX), [2, 4, 1_001]);
    assert_eq!(outbox.room(), 1 << 20);
}

#[test]
fn the_stalled_are_told_once_half_of_the_room_is_free() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", crate::engine::arguments::Arguments::default());
    let id = mill.subscribe(&queue, automatic(1)).id;
    let queue: Arc<dyn Queue> = queue;
    let weight = delivery(1, 1).weight();
    let outbox = Outbox::new(3 * weight);
    push(&outbox, [(1, 1), (1, 2)]);
    assert!(!outbox.stall(&queue, id), "there is room");
    push(&outbox, [(1, 3)]);
    assert!(outbox.stall(&queue, id));
    let mut items = Vec::new();
    assert!(outbox.take(1, &mut items).is_empty());
    let stalled = outbox.take(1, &mut items);
    assert_eq!(stalled.len(), 1);
    assert_eq!((stalled[0].0.id(), stalled[0].1), (queue.id(), id));
    assert!(outbox.take(1, &mut items).is_empty(), "once");
}

#[test]
fn a_stalled_consumer_goes_on_when_the_connection_takes() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", crate::engine::arguments::Arguments::default());
    let outbox = Arc::new(Outbox::new(1));
    let spec = ConsumerSpec {
        prefetch: 10,
        ..crate::engine::fixtures::acknowledging(1)
    };
    mill.subscribe_with(&queue, spec, &outbox).unwrap();
    mill.publish(&[Draft::new(1), Draft::new(2), Draft::new(3)]);
    let mut seen = Vec::new();
    loop {
        let mut items = Vec::new();
        let stalled = outbox.take(usize::MAX, &mut items);
        if items.is_empty() {
            break;
        }
        assert_eq!(items.len(), 1, "no more than overshoots");
        seen.extend(items.into_iter().map(|item| match item {
            Item::Delivery(delivery) => delivery.message.meta().id.0,
            Item::Cancelled(_) => unreachable!("the queue stays"),
        }));
        mill.turn(|turn| {
            stalled
                .iter()
                .for_each(|(queue, consumer)| queue.extend(turn, *consumer))
        });
    }
    assert_eq!(seen, [1, 2, 3]);
}

#[tokio::test]
async fn a_connection_is_woken_once_until_it_rearms() {
    let outbox = Outbox::new(1);
    assert!(!is_woken(&outbox).await);
    outbox.wake();
    outbox.wake();
    assert!(is_woken(&outbox).await);
    outbox.wake();
    assert!(
        !is_woken(&outbox).await,
        "it was told and has not looked yet"
    );
    outbox.rearm();
    outbox.wake();
    assert!(is_woken(&outbox).await);
}

#[tokio::test]
async fn whoever_claims_a_wake_up_owes_it() {
    let outbox = Outbox::new(1);
    assert!(outbox.claim_wake());
    assert!(!outbox.claim_wake());
    assert!(!is_woken(&outbox).await);
    outbox.notify();
    assert!(is_woken(&outbox).await);
}

#[tokio::test]
async fn a_settled_commit_wakes_the_connection() {
    let outbox = Outbox::new(1);
    crate::storage::Waiter::commit_settled(&outbox);
    assert!(is_woken(&outbox).await);
}
