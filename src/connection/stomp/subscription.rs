//! The subscriptions of one connection.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::delivery::ConsumerTag;
use crate::engine::queue::{ConsumerId, LocalQueue};

/// How a client names a subscription: by `id`, or by its destination if it gave none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum SubscriptionKey {
    Id(Bytes),
    Destination(Bytes),
}

impl SubscriptionKey {
    /// How error texts call it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Id(id) => format!("T_{}", String::from_utf8_lossy(id)),
            Self::Destination(destination) => format!("Q_{}", String::from_utf8_lossy(destination)),
        }
    }
}

/// `ack` of SUBSCRIBE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AckMode {
    #[default]
    Auto,
    Client,
    ClientIndividual,
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) key: SubscriptionKey,
    pub(super) queue: Arc<LocalQueue>,
    pub(super) consumer: ConsumerId,
    pub(super) ack: AckMode,
    /// `MESSAGE` and the `subscription` line, ready to be copied.
    pub(super) head: Bytes,
    /// Its queue is deleted when a client unsubscribes for good (`durable:true` on a topic).
    pub(super) deletable: bool,
}

/// The subscriptions of one connection, by the client's name for them and by the engine's number.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_tag: HashMap<ConsumerTag, Subscription>,
    by_key: HashMap<SubscriptionKey, ConsumerTag>,
    next: u32,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.by_tag.len()
    }

    pub(super) fn contains(&self, key: &SubscriptionKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// A number for the next subscription.
    pub(super) fn next_tag(&mut self) -> ConsumerTag {
        self.next = self.next.wrapping_add(1);
        while self.by_tag.contains_key(&ConsumerTag(self.next)) {
            self.next = self.next.wrapping_add(1);
        }
        ConsumerTag(self.next)
    }

    pub(super) fn insert(&mut self, tag: ConsumerTag, subscription: Subscription) {
        self.by_key.insert(subscription.key.clone(), tag);
        self.by_tag.insert(tag, subscription);
    }

    pub(super) fn get(&self, tag: ConsumerTag) -> Option<&Subscription> {
        self.by_tag.get(&tag)
    }

    pub(super) fn remove(&mut self, tag: ConsumerTag) -> Option<Subscription> {
        let subscription = self.by_tag.remove(&tag)?;
        self.by_key.remove(&subscription.key);
        Some(subscription)
    }

    pub(super) fn remove_by_key(
        &mut self,
        key: &SubscriptionKey,
    ) -> Option<(ConsumerTag, Subscription)> {
        let tag = self.by_key.remove(key)?;
        self.by_tag
            .remove(&tag)
            .map(|subscription| (tag, subscription))
    }

    /// Takes out all of them.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (ConsumerTag, Subscription)> + '_ {
        self.by_key.clear();
        self.by_tag.drain()
    }
}
