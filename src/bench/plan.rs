//! What a run is to do, worked out from the flags: who publishes where, and who consumes what.

use std::time::Duration;

use super::Failure;
use super::consumer::Acks;
use super::producer::Window;

/// How long before a message is due its thread gets up, in nanoseconds.
const EARLY: u64 = 80_000;

/// Messages a second up to which that is worth its CPU: here a tenth of a core for each 1,250.
const EARLY_RATE_MAX: u64 = 5_000;

/// The destinations of one client, in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share(Vec<usize>);

impl Share {
    /// Deals `destinations` out to `clients`: each client has some of its own, or several clients share one.
    pub(super) fn deal(client: usize, clients: usize, destinations: usize) -> Self {
        if clients >= destinations {
            return Self(vec![client % destinations]);
        }
        Self((client..destinations).step_by(clients).collect())
    }

    /// How many destinations.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Which destinations.
    pub(super) fn destinations(&self) -> &[usize] {
        &self.0
    }

    /// Which of its destinations message `index` goes to.
    pub(super) fn place(&self, index: u64) -> usize {
        usize::try_from(index % self.0.len() as u64).unwrap_or_default()
    }

    /// How many of its first `messages` go to its destination number `place`.
    pub(super) fn count(&self, place: usize, messages: u64) -> u64 {
        let len = self.0.len() as u64;
        (messages + len - 1).saturating_sub(place as u64) / len
    }
}

/// When producing ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// After this time, warm-up included.
    Time(Duration),
    /// After this many messages of each producer.
    Count(u64),
    /// When the queues are empty.
    Open,
}

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// HOST:PORT of the broker.
    pub(super) address: String,
    /// The run's number; none to accept that of the first message (without producers).
    pub(super) run: Option<u16>,
    /// Where messages go.
    pub(super) destinations: Vec<String>,
    /// Every consumer gets every message.
    pub(super) fanout: bool,
    pub(super) producers: usize,
    pub(super) consumers: usize,
    /// Bytes of each body.
    pub(super) size: usize,
    /// Whether messages are to survive a restart of the broker; only to report it.
    pub(super) persistent: bool,
    pub(super) length: Length,
    /// Deliveries after which a consumer leaves.
    pub(super) consumer_limit: Option<u64>,
    /// Messages a second of each producer.
    pub(super) rate: Option<u64>,
    /// Deliveries a second of each consumer.
    pub(super) consumer_rate: Option<u64>,
    pub(super) window: Option<Window>,
    pub(super) acks: Option<Acks>,
    /// Consumers subscribe when the producers are done.
    pub(super) drain_later: bool,
    pub(super) warm_up: Duration,
    /// How long to wait for deliveries that do not come.
    pub(super) patience: Duration,
    /// How long to wait for deliveries after producing, even if they come.
    pub(super) drain_time: Option<Duration>,
    /// Threads for producers, and as many for consumers.
    pub(super) threads: usize,
    /// Processes to watch.
    pub(super) pids: Vec<u32>,
    /// Say how it goes, once a second.
    pub(super) progress: bool,
}

impl Plan {
    /// Streams that are checked: one for each destination, or for each subscriber of a fan-out.
    pub(super) fn streams(&self) -> usize {
        if self.fanout {
            self.consumers
        } else {
            self.destinations.len()
        }
    }

    /// The destinations of a producer.
    pub(super) fn producer_share(&self, producer: usize) -> Share {
        Share::deal(producer, self.producers, self.destinations.len())
    }

    /// The streams of a consumer.
    pub(super) fn consumer_share(&self, consumer: usize) -> Share {
        Share::deal(consumer, self.consumers, self.streams())
    }

    /// The destination of a stream.
    pub(super) fn destination_of(&self, stream: usize) -> usize {
        if self.fanout { 0 } else { stream }
    }

    /// The thread of a consumer: consumers of one stream share one, so that one ledger sees all of it.
    pub(super) fn consumer_thread(&self, consumer: usize) -> usize {
        let first = self.consumer_share(consumer).destinations()[0];
        first % self.consumer_threads()
    }

    /// Threads that have consumers.
    pub(super) fn consumer_threads(&self) -> usize {
        self.threads.min(self.consumers).min(self.streams())
    }

    /// Threads that have producers.
    pub(super) fn producer_threads(&self) -> usize {
        self.threads.min(self.producers)
    }

    /// How many nanoseconds before a message is due its thread gets up. A virtual machine that has gone to sleep takes
    /// some 50 microseconds to wake, which would be measured as the broker's. At high rates it does not sleep so deep,
    /// and getting up early would cost the broker its CPU.
    pub(super) fn early(&self) -> u64 {
        let total = self
            .rate
            .unwrap_or(u64::MAX)
            .saturating_mul(self.producers as u64);
        if total <= EARLY_RATE_MAX { EARLY } else { 0 }
    }

    /// Deliveries that `published` messages make.
    pub(super) fn deliveries(&self, published: u64) -> u64 {
        match (self.consumers, self.fanout) {
            (0, _) => 0,
            (copies, true) => published * copies as u64,
            (_, false) => published,
        }
    }

    /// Whether all that is published is meant to be consumed, so that loss can be told.
    pub(super) fn is_checked(&self) -> bool {
        self.consumers > 0 && self.consumer_limit.is_none()
    }

    /// Checks what one flag alone cannot be wrong about.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(super) fn validate(&self) -> Result<(), Failure> {
        let wrong = |sentence: &str| Err(Failure::usage(sentence));
        if self.producers == 0 && self.consumers == 0 {
            return wrong("nothing to do: give --producers or --consumers");
        }
        if let Some(window) = self.window
            && window.every > window.messages
        {
            return wrong("--receipt-every must not be larger than the window of --receipts");
        }
        if self.drain_later && (self.producers == 0 || self.consumers == 0 || self.fanout) {
            return wrong("--drain-later needs producers, consumers and queues");
        }
        let shares = self.consumers > 0 && self.consumers < self.streams();
        if shares && matches!(self.acks, Some(Acks::Cumulative(_))) {
            return wrong(
                "with --ack client an ACK answers for everything before it on the connection: \
                 give as many --consumers as --queues, or --ack client-individual",
            );
        }
        if let Length::Time(time) = self.length
            && self.producers > 0
            && self.warm_up >= time
        {
            return wrong("--warm-up must be shorter than --time");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_destination_has_a_client_and_every_client_a_destination() {
        for (clients, destinations) in [(1, 1), (1, 7), (3, 7), (7, 3), (7, 7)] {
            let shares: Vec<Share> = (0..clients)
                .map(|client| Share::deal(client, clients, destinations))
                .collect();
            let mut covered: Vec<usize> = shares.iter().flat_map(|share| share.0.clone()).collect();
            covered.sort_unstable();
            covered.dedup();
            assert_eq!(covered, (0..destinations).collect::<Vec<_>>());
            assert!(shares.iter().all(|share| share.len() > 0));
        }
    }

    #[test]
    fn counts_of_a_share_add_up_to_what_was_sent() {
        let share = Share::deal(1, 3, 11);
        assert_eq!(share.destinations(), [1, 4, 7, 10]);
        for sent in 0..50 {
            let mut counts = [0; 4];
            (0..sent).for_each(|index| counts[share.place(index)] += 1);
            for (place, count) in counts.into_iter().enumerate() {
                assert_eq!(share.count(place, sent), count, "{place} of {sent}");
            }
        }
    }
}
