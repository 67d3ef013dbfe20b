//! Random commands against a small model: nothing is lost, doubled or reordered, whatever happens.

mod bench;
mod checks;
mod commands;
mod pages;

use proptest::prelude::*;

use self::bench::Bench;
use self::commands::{Command, arguments, command};
use super::arguments::QueueArguments;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_reordered(
        arguments in arguments(),
        durable in any::<bool>(),
        commands in prop::collection::vec(command(), 1..120),
    ) {
        let mut bench = Bench::new(arguments, durable);
        for command in commands {
            bench.run(command);
        }
        bench.finish();
    }

    #[test]
    fn equal_consumers_get_equal_shares(consumers in 1..8_usize, messages in 0..60_usize) {
        let mut bench = Bench::new(QueueArguments::default(), false);
        for _ in 0..consumers {
            bench.run(Command::Subscribe { acknowledges: false, prefetch: 0, priority: 0, exclusive: false, room: usize::MAX });
        }
        for _ in 0..messages {
            bench.run(Command::Publish { priority: None, ttl_ms: None, size: 1, persistent: false });
        }
        for (at, client) in bench.clients.iter().enumerate() {
            let share = (messages + consumers - 1 - at) / consumers;
            prop_assert_eq!(client.seen, share);
        }
    }
}
