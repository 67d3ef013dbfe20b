//! What a queue hands to a consumer.

use std::sync::Arc;

use super::message::Message;
use crate::storage::Seq;

/// A connection's own number for one of its consumers. Unique for the life of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerTag(pub u32);

/// A queue's handle for one unsettled delivery. Opaque to everybody but that queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    pub(super) slot: u32,
    pub(super) seq: Seq,
}

/// A message on its way to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Which of the connection's consumers it is for.
    pub tag: ConsumerTag,
    /// What settles it; `None` under auto-ack, where the queue has already let go of it.
    pub token: Option<Token>,
    /// Its place in the queue.
    pub seq: Seq,
    /// The message.
    pub message: Arc<Message>,
    /// How often it was returned to the queue before.
    pub returns: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
}

impl Delivery {
    /// What the delivery weighs in an outbox, in bytes.
    pub fn weight(&self) -> usize {
        self.message.size() + DELIVERY_OVERHEAD
    }
}

/// Bytes that each waiting delivery is counted with beside its message.
pub const DELIVERY_OVERHEAD: usize = 128;

/// How a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the message leaves the queue.
    Ack,
    /// Back to its old place in the queue.
    Requeue {
        /// Whether it counts as a failed delivery (towards `x-delivery-limit`).
        counted: bool,
        /// Not to be delivered again before so many ms have passed.
        delay_ms: u64,
    },
    /// Dead-lettered where the queue says so, dropped otherwise.
    Reject,
    /// It was never sent: back to its old place as if nothing had happened.
    Release,
}
