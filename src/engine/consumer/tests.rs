use super::*;
use crate::engine::fixtures::{Draft, acknowledging, automatic};
use crate::storage::Seq;

/// Consumers and the numbers of those that wait for room.
struct Bench {
    consumers: Consumers,
    stalled: Vec<ConsumerId>,
    next: u64,
}

impl Bench {
    fn new(single_active: bool) -> Self {
        Self {
            consumers: Consumers::new(single_active),
            stalled: Vec::new(),
            next: 1,
        }
    }

    fn add(&mut self, spec: ConsumerSpec) -> ConsumerId {
        self.consumers.add(spec, Arc::new(Outbox::new(1 << 20)))
    }

    fn next(&mut self) -> Option<ConsumerId> {
        let stalled = &mut self.stalled;
        self.consumers.next(|id, outbox| {
            let full = outbox.room() == 0;
            if full {
                stalled.push(id);
            }
            full
        })
    }

    /// Hands one delivery to whoever is next; returns that consumer's tag.
    fn deliver(&mut self) -> Option<u32> {
        let id = self.next()?;
        let spec = &self.consumers.known(id).unwrap().spec;
        let (tag, seq) = (spec.tag, Seq(self.next));
        let token = spec
            .acknowledges
            .then_some(crate::engine::delivery::Token { slot: 0, seq });
        let message = Arc::new(Draft::new(self.next).build());
        self.next += 1;
        let delivery = Delivery {
            tag,
            token,
            seq,
            message,
            returns: 0,
            redelivered: false,
        };
        self.consumers.hand_over(id, delivery);
        Some(tag.0)
    }

    /// The tags of the consumers that the next `count` deliveries go to.
    fn deliver_all(&mut self, count: usize) -> Vec<u32> {
        std::iter::from_fn(|| self.deliver()).take(count).collect()
    }
}

fn credit(tag: u32, prefetch: u32) -> ConsumerSpec {
    ConsumerSpec {
        prefetch,
        ..acknowledging(tag)
    }
}

fn priority(tag: u32, priority: i32) -> ConsumerSpec {
    ConsumerSpec {
        priority,
        ..credit(tag, 2)
    }
}

#[test]
fn equals_are_served_in_turn() {
    let mut bench = Bench::new(false);
    for tag in 1..=3 {
        bench.add(automatic(tag));
    }
    assert_eq!(bench.deliver_all(7), [1, 2, 3, 1, 2, 3, 1]);
}

#[test]
fn the_turn_goes_on_where_it_was_when_somebody_comes_or_leaves() {
    let mut bench = Bench::new(false);
    let ids: Vec<ConsumerId> = (1..=3).map(|tag| bench.add(automatic(tag))).collect();
    assert_eq!(bench.deliver_all(2), [1, 2]);
    bench.add(automatic(4));
    assert!(bench.consumers.remove(ids[0]).is_some());
    assert!(bench.consumers.remove(ids[0]).is_none());
    assert_eq!(bench.deliver_all(4), [3, 2, 4, 3]);
}

#[test]
fn who_is_out_of_credit_is_passed_over_until_something_is_settled() {
    let mut bench = Bench::new(false);
    let first = bench.add(credit(1, 1));
    bench.add(credit(2, 3));
    assert_eq!(bench.deliver_all(9), [1, 2, 2, 2]);
    bench.consumers.settled(first);
    assert_eq!(bench.deliver_all(9), [1]);
}

#[test]
fn a_higher_priority_is_served_first_while_it_has_credit() {
    let mut bench = Bench::new(false);
    bench.add(priority(1, 0));
    let high = bench.add(priority(2, 10));
    bench.add(priority(3, -5));
    bench.add(priority(4, 10));
    assert_eq!(bench.deliver_all(9), [2, 4, 2, 4, 1, 1, 3, 3]);
    bench.consumers.settled(high);
    assert_eq!(bench.deliver_all(9), [2]);
}

#[test]
fn only_the_first_of_several_consumers_is_active_where_one_may_be() {
    let mut bench = Bench::new(true);
    let first = bench.add(credit(1, 2));
    bench.add(credit(2, 2));
    bench.add(credit(3, 2));
    assert_eq!(
        bench.deliver_all(9),
        [1, 1],
        "the others wait even when it has no credit"
    );
    bench.consumers.settled(first);
    assert_eq!(bench.deliver_all(9), [1]);
    bench.consumers.remove(first);
    assert_eq!(bench.deliver_all(9), [2, 2]);
}

#[test]
fn the_single_active_consumer_is_the_first_of_the_highest_priority() {
    let mut bench = Bench::new(true);
    bench.add(priority(1, 0));
    assert_eq!(bench.deliver_all(1), [1]);
    let high = bench.add(priority(2, 5));
    bench.add(priority(3, 5));
    assert_eq!(bench.deliver_all(9), [2, 2]);
    bench.consumers.remove(high);
    assert_eq!(bench.deliver_all(9), [3, 3]);
}

#[test]
fn a_stalled_single_active_consumer_keeps_its_post() {
    let mut bench = Bench::new(true);
    let first = bench.consumers.add(automatic(1), Arc::new(Outbox::new(1)));
    bench.add(automatic(2));
    assert_eq!(bench.deliver_all(9), [1]);
    assert_eq!(bench.stalled, [first]);
    bench.consumers.remove(first);
    assert_eq!(bench.deliver_all(2), [2, 2]);
}

#[test]
fn a_full_outbox_is_asked_for_room_once() {
    let mut bench = Bench::new(false);
    let outbox = Arc::new(Outbox::new(1));
    let id = bench.consumers.add(credit(1, 10), Arc::clone(&outbox));
    assert_eq!(bench.deliver_all(9), [1]);
    bench.consumers.settled(id);
    assert_eq!(bench.deliver(), None);
    assert_eq!(bench.stalled, [id]);
    bench.consumers.flush(|_| {});
    outbox.take(usize::MAX, &mut Vec::new());
    assert_eq!(bench.deliver(), None, "nobody has called it back");
    bench.consumers.call_back(id);
    bench.consumers.call_back(id);
    assert_eq!(bench.deliver_all(9), [1]);
}

#[test]
fn room_that_appears_meanwhile_is_used() {
    let mut bench = Bench::new(false);
    bench.consumers.add(automatic(1), Arc::new(Outbox::new(0)));
    let mut asked = 0;
    let next = bench.consumers.next(|_, _| {
        asked += 1;
        false
    });
    assert_eq!((next.is_some(), asked), (true, 1));
}

#[test]
fn consumers_on_one_connection_share_its_room() {
    let mut bench = Bench::new(false);
    let outbox = Arc::new(Outbox::new(1_000));
    for tag in 1..=100 {
        bench.consumers.add(automatic(tag), Arc::clone(&outbox));
    }
    let delivered = bench.deliver_all(usize::MAX).len();
    let weight = crate::engine::delivery::DELIVERY_OVERHEAD + 8;
    assert_eq!(delivered, 1_000_usize.div_ceil(weight));
}

#[test]
fn each_connection_is_woken_once_a_turn_and_sees_deliveries_in_order() {
    let mut bench = Bench::new(false);
    let outboxes: Vec<Arc<Outbox>> = (0..2).map(|_| Arc::new(Outbox::new(1 << 20))).collect();
    for (tag, outbox) in (1..).zip(&outboxes) {
        bench.consumers.add(automatic(tag), Arc::clone(outbox));
    }
    bench.deliver_all(5);
    assert!(
        outboxes.iter().all(|outbox| outbox.is_empty()),
        "not before the end of the turn"
    );
    let mut woken = 0;
    bench.consumers.flush(|_| woken += 1);
    assert_eq!(woken, 2);
    let seen = |outbox: &Outbox| {
        crate::engine::fixtures::ids(&crate::engine::fixtures::deliveries(outbox))
    };
    assert_eq!(
        (seen(&outboxes[0]), seen(&outboxes[1])),
        (vec![1, 3, 5], vec![2, 4])
    );
    bench.consumers.flush(|_| panic!("nothing was delivered"));
}

#[test]
fn a_number_of_a_consumer_that_left_names_nobody_else() {
    let mut bench = Bench::new(false);
    let first = bench.add(credit(1, 1));
    assert_eq!(bench.deliver_all(2), [1]);
    bench.consumers.remove(first);
    bench.add(credit(2, 1));
    assert_eq!(bench.deliver_all(2), [2]);
    bench.consumers.settled(first);
    bench.consumers.call_back(first);
    assert_eq!(
        bench.deliver(),
        None,
        "the slot's new owner got no credit from it"
    );
    assert!(bench.consumers.known(first).is_none());
}
