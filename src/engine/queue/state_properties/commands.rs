//! What may happen to a queue, in any order.

use proptest::prelude::*;

use crate::engine::name::ExchangeName;
use crate::engine::queue::Outcome;
use crate::engine::queue::arguments::{Overflow, QueueArguments};

/// What may happen to a queue. `nth` chooses among what there is, if there is any.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Publish {
        priority: Option<u8>,
        ttl_ms: Option<u64>,
        size: usize,
        persistent: bool,
    },
    Subscribe {
        acknowledges: bool,
        prefetch: u32,
        priority: i32,
        exclusive: bool,
        room: usize,
    },
    /// A consumer leaves, and gives back what was not sent; if its connection is gone, all it has.
    Leave {
        nth: usize,
        gone: bool,
    },
    Settle {
        nth: usize,
        outcome: Outcome,
    },
    /// A connection takes from its outbox, and asks for more if it was full.
    Take {
        nth: usize,
        bytes: usize,
    },
    Written {
        nth: usize,
        count: usize,
    },
    Purge,
    Pass {
        ms: u64,
    },
    Reserve {
        count: usize,
    },
    Reveal {
        commits: u64,
    },
    /// Memory is short: so much may stay. What is in memory alone is written down.
    Spill {
        window: u64,
    },
    /// What was written is on disk by now.
    LetGo,
    /// The log has read up to so many messages.
    Answer {
        most: usize,
    },
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    use Command::{
        Answer, Leave, LetGo, Pass, Publish, Purge, Reserve, Reveal, Settle, Spill, Subscribe,
        Take, Written,
    };
    let outcome = prop_oneof![
        3 => Just(Outcome::Ack),
        1 => Just(Outcome::Reject),
        1 => Just(Outcome::Release),
        3 => (any::<bool>(), prop_oneof![Just(0), 0..40_u64]).prop_map(|(counted, delay_ms)| Outcome::Requeue { counted, delay_ms }),
    ];
    let publish = (
        prop::option::of(0..6_u8),
        prop::option::weighted(0.3, 0..60_u64),
        1..40_usize,
        any::<bool>(),
    );
    let subscribe = (
        any::<bool>(),
        1..4_u32,
        0..2_i32,
        prop::bool::weighted(0.1),
        1..600_usize,
    );
    prop_oneof![
        12 => publish.prop_map(|(priority, ttl_ms, size, persistent)| Publish { priority, ttl_ms, size, persistent }),
        3 => subscribe.prop_map(|(acknowledges, prefetch, priority, exclusive, room)| {
            Subscribe { acknowledges, prefetch, priority, exclusive, room }
        }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(nth, gone)| Leave { nth, gone }),
        8 => (any::<usize>(), outcome).prop_map(|(nth, outcome)| Settle { nth, outcome }),
        6 => (any::<usize>(), 1..600_usize).prop_map(|(nth, bytes)| Take { nth, bytes }),
        3 => (any::<usize>(), 1..4_usize).prop_map(|(nth, count)| Written { nth, count }),
        1 => Just(Purge),
        3 => (0..30_u64).prop_map(|ms| Pass { ms }),
        2 => (0..3_usize).prop_map(|count| Reserve { count }),
        2 => (0..3_u64).prop_map(|commits| Reveal { commits }),
        3 => (0..800_u64).prop_map(|window| Spill { window }),
        4 => Just(LetGo),
        5 => (1..6_usize).prop_map(|most| Answer { most }),
    ]
}

pub(super) fn arguments() -> impl Strategy<Value = QueueArguments> {
    let overflow = prop_oneof![
        Just(Overflow::DropHead),
        Just(Overflow::RejectPublish),
        Just(Overflow::RejectPublishDlx),
        Just(Overflow::Block)
    ];
    let limits = (
        prop::option::weighted(0.4, 0..6_u64),
        prop::option::weighted(0.3, 0..120_u64),
        overflow,
    );
    let others = (
        prop::option::of(1..4_u8),
        prop::option::weighted(0.3, 0..60_u64),
        prop::option::weighted(0.4, 0..3_u64),
        prop::bool::weighted(0.2),
    );
    (limits, others).prop_map(
        |(
            (max_length, max_length_bytes, overflow),
            (max_priority, message_ttl_ms, delivery_limit, single),
        )| QueueArguments {
            max_length,
            max_length_bytes,
            overflow,
            max_priority,
            message_ttl_ms,
            delivery_limit,
            // Without one, what dies on disk goes without a word, and the model could not follow.
            dead_letter_exchange: Some(ExchangeName::default_exchange()),
            single_active_consumer: single,
            ..QueueArguments::default()
        },
    )
}
