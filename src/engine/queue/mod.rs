//! Queues: where messages wait for their consumers.

use std::sync::Arc;

use super::error::EngineError;
use super::message::Message;
use super::name::QueueName;
use super::outbox::Outbox;
use super::turn::Turn;
use crate::storage::{QueueId, Seq};

mod arguments;
mod entry;
mod local;
mod paged;
mod ready;
mod state;

#[cfg(test)]
mod recorder;
#[cfg(test)]
mod state_properties;

pub use super::consumer::{ConsumerId, ConsumerSpec};
pub use super::delivery::{Delivery, Outcome, Token};
pub use arguments::{Overflow, QueueArguments};
pub(in crate::engine) use local::Answer;
pub use local::{Durability, LocalQueue, Owner, QueueSpec};

/// A queue as the target of routes: equal if it is the same queue.
#[derive(Clone, Debug)]
pub struct Target(pub Arc<dyn Queue>);

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for Target {}

impl std::hash::Hash for Target {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id().hash(state);
    }
}

/// What became of one message at its queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// No queue was there to take it.
    #[default]
    Unrouted,
    /// Every queue it was routed to took it.
    Taken,
    /// A queue refused it; others may have taken it.
    Refused(Box<EngineError>),
}

/// Messages on their way into queues: one batch of one connection.
#[derive(Debug, Default)]
pub struct PublishBatch {
    pub(super) items: Vec<PublishItem>,
    /// A queue with `x-overflow: block` that is at its limit: the publisher should wait for it.
    pub(super) hold: Option<Arc<dyn Queue>>,
}

/// One message of a batch.
#[derive(Debug)]
pub struct PublishItem {
    pub(super) message: Arc<Message>,
    pub(super) fate: Fate,
}

impl PublishBatch {
    /// Appends a message; results come back under the index returned.
    pub fn push(&mut self, message: Message) -> usize {
        self.items.push(PublishItem {
            message: Arc::new(message),
            fate: Fate::Unrouted,
        });
        self.items.len() - 1
    }

    /// Messages in the batch.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the batch has no message.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What became of each message, in the order pushed; leaves the batch empty.
    pub fn drain_fates(&mut self) -> impl Iterator<Item = Fate> + '_ {
        self.items.drain(..).map(|item| item.fate)
    }

    /// The full queue that asks the publisher to pause, if any.
    pub fn take_hold(&mut self) -> Option<Arc<dyn Queue>> {
        self.hold.take()
    }
}

/// How much is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages waiting for a consumer (delayed ones included).
    pub ready: usize,
    /// Bytes of their headers and bodies.
    pub ready_bytes: u64,
    /// Messages delivered and not settled.
    pub unacked: usize,
    /// Consumers subscribed.
    pub consumers: usize,
}

/// What a kind of queue can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Takes part in transactions over several queues.
    pub transactions: bool,
    /// Puts a returned message back to its old place.
    pub requeue_in_place: bool,
}

/// A queue, as routing, settlement and subscriptions see it.
///
/// Synchronous and batch-wise; it never waits. What completes later is a promise of the [`Turn`].
pub trait Queue: Send + Sync + std::fmt::Debug {
    /// Its number, never reused.
    fn id(&self) -> QueueId;
    /// Its name.
    fn name(&self) -> &QueueName;
    /// What this kind of queue can do.
    fn capabilities(&self) -> Capabilities;
    /// This queue as a local one, for transactions; other kinds answer `None`.
    fn as_local(&self) -> Option<&LocalQueue>;

    /// Takes the messages of `batch` that `indexes` names, in that order, and notes each one's fate.
    fn publish(&self, turn: &mut Turn<'_>, batch: &mut PublishBatch, indexes: &[usize]);

    /// Settles deliveries. Returns how many of them were not outstanding, which is never an error
    /// here: the connection's own ledger knows what it was given.
    fn settle(&self, turn: &mut Turn<'_>, settlements: &[(Token, Outcome)]) -> usize;

    /// Forgets deliveries under auto-ack whose bytes were written to the client.
    fn written(&self, turn: &mut Turn<'_>, seqs: &[Seq]);

    /// Takes deliveries under auto-ack back that were not written.
    fn put_back(&self, turn: &mut Turn<'_>, deliveries: Vec<Delivery>);

    /// Adds a consumer and starts serving it.
    ///
    /// # Errors
    /// `InUse` if somebody consumes exclusively, or this consumer wants to and others are there;
    /// `NotFound` if the queue is being deleted, `Quarantined`.
    fn subscribe(
        &self,
        turn: &mut Turn<'_>,
        spec: ConsumerSpec,
        outbox: Arc<Outbox>,
    ) -> Result<ConsumerId, EngineError>;

    /// Removes a consumer. What it has not settled stays outstanding. An auto-delete queue goes with
    /// its last consumer.
    fn cancel(&self, turn: &mut Turn<'_>, consumer: ConsumerId);

    /// The consumer's outbox has room again.
    fn extend(&self, turn: &mut Turn<'_>, consumer: ConsumerId);

    /// Removes all ready messages; returns how many.
    fn purge(&self, turn: &mut Turn<'_>) -> usize;

    /// How much is in it.
    fn depth(&self) -> Depth;

    /// Whether it is at its length limit.
    fn is_full(&self) -> bool;
}
