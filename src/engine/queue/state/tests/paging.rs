use super::*;
use crate::engine::name::ExchangeName;
use crate::engine::queue::entry::{BODY_OVERHEAD, PLACE_BYTES};
use crate::engine::queue::paged::RUN_BYTES;

impl Bench {
    /// Everything beyond the window goes to disk, in both steps.
    fn page(&mut self, window: u64) {
        self.fx.window = window;
        let upto = self.state.spill(window, true, &mut self.fx);
        self.state.flush(&mut self.fx);
        while self.state.let_go(window, upto).more {}
        self.state.flush(&mut self.fx);
        self.state.verify();
    }

    fn answer_all(&mut self) {
        while self.answer(usize::MAX) {}
    }
}

fn with_dead_letters(arguments: QueueArguments) -> QueueArguments {
    QueueArguments {
        dead_letter_exchange: Some(ExchangeName::default_exchange()),
        ..arguments
    }
}

/// What one message of eight bytes in memory is charged with.
const WHOLE: i64 = (8 + BODY_OVERHEAD + PLACE_BYTES) as i64;

#[test]
fn a_backlog_costs_no_more_than_its_head_and_a_run() {
    let mut bench = Bench::plain();
    bench.publish_ids(1..=1_000);
    assert_eq!(bench.fx.charged, 1_000 * WHOLE);
    bench.page(0);
    assert_eq!(bench.fx.charged, WHOLE + RUN_BYTES as i64);
    assert_eq!(bench.state.depth().ready, 1_000);
    assert!(bench.fx.fetch.is_none(), "nobody consumes");
    assert_eq!(bench.drain_ids(), (1..=1_000).collect::<Vec<_>>());
    bench.assert_empty();
}

#[test]
fn what_is_in_memory_alone_is_written_before_it_is_let_go_of() {
    let mut bench = Bench::plain();
    for id in 1..=5 {
        bench.publish(&Draft::new(id).transient()).unwrap();
    }
    bench.fx.window = 0;
    let upto = bench.state.spill(0, true, &mut bench.fx);
    assert_eq!(bench.fx.disk.len(), 4, "the head stays");
    bench.publish(&Draft::new(6).transient()).unwrap();
    while bench.state.let_go(0, upto).more {}
    bench.state.flush(&mut bench.fx);
    let client = bench.subscribe(automatic(1));
    assert_eq!(client.take_ids(), [1]);
    bench.answer_all();
    assert_eq!(client.take_ids(), [2, 3, 4, 5, 6]);
    assert!(bench.fx.disk.is_empty(), "the spill is settled");
    bench.assert_empty();
}

#[test]
fn what_is_not_on_disk_yet_stays_in_memory() {
    let mut bench = Bench::plain();
    bench.publish_ids(1..=3);
    let upto = bench.state.spill(0, true, &mut bench.fx);
    bench.publish_ids(4..=6);
    assert_eq!(bench.state.let_go(0, upto).freed.len(), 2);
    bench.state.flush(&mut bench.fx);
    bench.state.verify();
    assert_eq!(bench.drain_ids(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn nothing_overtakes_a_message_that_is_being_read() {
    let mut bench = Bench::new(QueueArguments {
        max_priority: Some(3),
        ..QueueArguments::default()
    });
    for (id, priority) in [(1, 3), (2, 3), (3, 1), (4, 3)] {
        bench.publish(&Draft::new(id).priority(priority)).unwrap();
    }
    bench.page(0);
    let client = bench.subscribe(acknowledging(1));
    assert_eq!(client.take_ids(), [1]);
    bench.publish(&Draft::new(5).priority(1)).unwrap();
    assert!(client.take().is_empty());
    assert!(bench.answer(1));
    assert_eq!(client.take_ids(), [2]);
    bench.answer_all();
    assert_eq!(client.take_ids(), [4, 3, 5]);
}

#[test]
fn messages_are_read_ahead_of_a_consumer_that_is_busy() {
    let mut bench = Bench::plain();
    for id in 1..=40 {
        bench.publish(&Draft::new(id).size(8 << 10)).unwrap();
    }
    bench.page(16 << 10);
    let client = bench.subscribe(ConsumerSpec {
        prefetch: 1,
        ..acknowledging(1)
    });
    let mut answers = 0;
    for id in 1..=40 {
        let taken = client.take();
        assert_eq!(ids(&taken), [id]);
        bench.settle(&taken[0], Outcome::Ack).unwrap();
        while bench.answer(usize::MAX) {
            answers += 1;
        }
    }
    assert!((5..10).contains(&answers), "{answers} readings of 64 KiB");
    bench.assert_empty();
}

#[test]
fn without_a_consumer_only_the_next_message_is_read() {
    let mut bench = Bench::plain();
    let found = Found {
        first: Seq(1),
        last: Seq(100),
        bytes: 500,
        level: 0,
        returns: 0,
    };
    for seq in 1..=100 {
        bench.on_disk(Seq(seq), &Draft::new(seq).expires(START_MS + seq * 10));
    }
    bench.state.recover(Seq(101), [found], true);
    bench.dispatch();
    assert_eq!(bench.fx.fetch.map(|want| want.last), Some(Seq(1)));
    bench.answer_all();
    assert_eq!(bench.state.next_tick_ms(), Some(START_MS + 10));
    // The first has expired, so that others are looked at in one go.
    bench.pass(500);
    assert!(bench.answer(usize::MAX));
    assert_eq!(bench.fx.take_dead().len(), 50);
    bench.answer_all();
    assert_eq!(bench.state.next_tick_ms(), Some(START_MS + 510));
    assert_eq!(
        bench.state.depth().ready_bytes,
        50 * 8,
        "corrected as they were read"
    );
}

#[test]
fn held_messages_are_let_go_of_and_read_again_when_they_come_back() {
    let mut bench = Bench::new(with_dead_letters(QueueArguments::default()));
    bench.publish_ids(1..=4);
    let client = bench.subscribe(acknowledging(1));
    let held = client.take();
    bench.page(0);
    assert_eq!(bench.fx.charged, 4 * PLACE_BYTES as i64);
    bench.settle(&held[0], Outcome::Ack).unwrap();
    bench.settle(&held[1], REQUEUE).unwrap();
    bench.settle(&held[2], Outcome::Reject).unwrap();
    let delayed = Outcome::Requeue {
        counted: true,
        delay_ms: 10,
    };
    bench.settle(&held[3], delayed).unwrap();
    bench.answer_all();
    let again = client.take();
    assert_eq!((ids(&again), again[0].returns), (vec![2], 1));
    assert_eq!(bench.fx.take_dead(), [(3, DeathReason::Rejected)]);
    bench.pass(10);
    bench.answer_all();
    assert_eq!(client.take_ids(), [4]);
}

#[test]
fn a_rejected_message_on_disk_needs_no_reading_if_it_goes_nowhere() {
    let mut bench = Bench::plain();
    bench.publish_ids([1]);
    let client = bench.subscribe(acknowledging(1));
    let held = client.take();
    bench.page(0);
    bench.settle(&held[0], Outcome::Reject).unwrap();
    assert!(bench.fx.fetch.is_none());
    bench.assert_empty();
}

#[test]
fn a_full_queue_drops_its_head_on_disk_and_counts_right_at_once() {
    for dead_letters in [false, true] {
        let mut arguments = QueueArguments {
            max_length_bytes: Some(100),
            ..QueueArguments::default()
        };
        if dead_letters {
            arguments = with_dead_letters(arguments);
        }
        let mut bench = Bench::new(arguments);
        for (id, size) in [(1, 20), (2, 30), (3, 10), (4, 40)] {
            bench.publish(&Draft::new(id).size(size)).unwrap();
        }
        bench.page(0);
        bench.publish(&Draft::new(5).size(60)).unwrap();
        assert_eq!(bench.state.depth().ready_bytes, 100);
        bench.answer_all();
        let dead: Vec<u64> = bench.fx.take_dead().iter().map(|(id, _)| *id).collect();
        assert_eq!(dead, if dead_letters { vec![1, 2, 3] } else { vec![1] });
        assert_eq!(bench.drain_ids(), [4, 5]);
        bench.assert_empty();
    }
}

#[test]
fn a_purge_settles_what_is_on_disk_in_ranges_and_reads_nothing() {
    let mut bench = Bench::plain();
    for id in 1..=20 {
        let draft = Draft::new(id);
        let draft = if id > 10 { draft.transient() } else { draft };
        bench.publish(&draft).unwrap();
    }
    bench.page(0);
    let client = bench.subscribe(ConsumerSpec {
        prefetch: 1,
        ..acknowledging(1)
    });
    assert!(bench.fx.fetch.is_some());
    assert_eq!(bench.state.purge(&mut bench.fx), 19);
    bench.publish_ids([21]);
    bench.answer_all();
    let held = client.take();
    assert_eq!(ids(&held), [1]);
    bench.settle(&held[0], Outcome::Ack).unwrap();
    assert_eq!(
        client.take_ids(),
        [21],
        "the answer that came late changes nothing"
    );
    assert_eq!(bench.fx.disk.len(), 1);
}

#[test]
fn transactions_that_are_shown_in_order_page_like_anything_else() {
    let mut bench = Bench::plain();
    for commit in 1..=100 {
        bench.reserve(commit, [commit]);
    }
    bench.reveal(100);
    bench.page(0);
    assert_eq!(bench.fx.charged, WHOLE + RUN_BYTES as i64);
    assert_eq!(bench.drain_ids(), (1..=100).collect::<Vec<_>>());
}

#[test]
fn what_is_lost_ends_the_service_and_says_which_it_was() {
    for said in [false, true] {
        let mut bench = Bench::plain();
        bench.publish_ids(1..=3);
        bench.page(0);
        let client = bench.subscribe(acknowledging(1));
        assert_eq!(client.take_ids(), [1]);
        bench.fx.disk.remove(&(false, Seq(3)));
        let mut answer = bench.fx.answer(usize::MAX).unwrap();
        if said {
            answer.lost.push((Seq(3), Seq(3)));
        } else {
            // It may have come to disk behind the reader's back: it is asked for once more.
            assert!(bench.state.read_back(&answer, &mut bench.fx).is_ok());
            bench.dispatch();
            answer = bench.fx.answer(usize::MAX).unwrap();
        }
        let (lost, consumers) = bench.state.read_back(&answer, &mut bench.fx).unwrap_err();
        assert_eq!((lost, consumers.len()), (Seq(3), 1));
        bench.dispatch();
        assert!(bench.fx.fetch.is_none());
        assert_eq!(bench.state.consumer_count(), 0);
    }
}

#[test]
fn a_queue_asks_to_be_paged_at_twice_its_window_and_not_again_for_what_stays() {
    let mut bench = Bench::plain();
    bench.publish_ids(1..=10);
    let held = 10 * (8 + BODY_OVERHEAD as u64);
    assert!(!bench.state.exceeds_window(held / 2, true));
    assert!(bench.state.exceeds_window(held / 2 - 1, true));
    // Nothing is on disk for certain.
    assert!(bench.state.let_go(0, Seq(0)).freed.is_empty());
    assert!(!bench.state.exceeds_window(10, true));
    bench.publish_ids([11]);
    assert!(bench.state.exceeds_window(10, true));
}

#[test]
fn transient_messages_are_spilled_when_memory_presses_or_when_they_are_few_among_others() {
    let mut bench = Bench::plain();
    for id in 1..=10 {
        bench.publish(&Draft::new(id).transient()).unwrap();
    }
    assert!(!bench.state.exceeds_window(10, false));
    assert!(bench.state.exceeds_window(10, true));
    bench.state.spill(0, false, &mut bench.fx);
    assert!(bench.fx.disk.is_empty(), "memory does not press");
    bench.publish_ids(11..=30);
    assert!(bench.state.exceeds_window(10, false));
    let logged = bench.fx.disk.len();
    bench.state.spill(0, false, &mut bench.fx);
    assert_eq!(bench.fx.disk.len() - logged, 9, "all but the head");
    bench.state.verify();
}
