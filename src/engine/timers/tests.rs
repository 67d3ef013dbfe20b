use super::*;
use crate::engine::arguments::Arguments;
use crate::engine::fixtures::TestBroker;
use crate::engine::queue::Queue;

struct Bench {
    mill: TestBroker,
    timers: Timers,
}

impl Bench {
    fn new() -> Self {
        Self {
            mill: TestBroker::new(),
            timers: Timers::default(),
        }
    }

    fn queue(&self, name: &str) -> Arc<LocalQueue> {
        self.mill.queue(name, Arguments::default())
    }

    fn arm(&self, queue: &Arc<LocalQueue>, at_ms: u64) {
        self.timers.arm(queue.id(), &Arc::downgrade(queue), at_ms);
    }

    fn due(&self, now_ms: u64) -> Vec<String> {
        std::iter::from_fn(|| self.timers.pop_due(now_ms))
            .map(|queue| queue.name().to_string())
            .collect()
    }
}

#[test]
fn queues_come_due_in_the_order_of_their_times() {
    let bench = Bench::new();
    let (a, b) = (bench.queue("a"), bench.queue("b"));
    bench.arm(&a, 20);
    bench.arm(&b, 10);
    assert_eq!(bench.timers.next_ms(), Some(10));
    assert!(bench.due(9).is_empty());
    assert_eq!(bench.due(20), ["b", "a"]);
    assert_eq!(bench.timers.next_ms(), None);
}

#[test]
fn a_queue_has_one_entry_at_its_earliest_time() {
    let bench = Bench::new();
    let a = bench.queue("a");
    bench.arm(&a, 20);
    bench.arm(&a, 30);
    assert_eq!(bench.timers.next_ms(), Some(20));
    bench.arm(&a, 10);
    assert_eq!(bench.due(100), ["a"]);
    bench.arm(&a, 40);
    assert_eq!(
        bench.timers.next_ms(),
        Some(40),
        "armed anew after it was due"
    );
}

#[test]
fn a_queue_that_is_gone_is_passed_over() {
    let bench = Bench::new();
    let lasting = bench.queue("b");

    bench.arm(&lasting, 10);
    bench
        .timers
        .arm(crate::storage::QueueId(99), &Weak::new(), 5);

    assert_eq!(bench.due(10), ["b"]);
}

#[test]
fn a_disarmed_queue_leaves_nothing_behind() {
    let bench = Bench::new();
    let a = bench.queue("a");
    bench.arm(&a, 10);
    bench.timers.disarm(a.id());
    assert_eq!(bench.timers.next_ms(), None);
    assert!(bench.due(10).is_empty());
    bench.timers.disarm(a.id());
}

#[tokio::test]
async fn an_earlier_time_than_all_others_is_told() {
    let bench = Bench::new();
    let (a, b) = (bench.queue("a"), bench.queue("b"));
    let told = async || {
        let mut changed = std::pin::pin!(bench.timers.changed());
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(changed.as_mut().poll(context).is_ready())
        })
        .await
    };
    bench.arm(&a, 20);
    assert!(told().await);
    bench.arm(&b, 30);
    assert!(!told().await);
    bench.arm(&b, 10);
    assert!(told().await);
}
