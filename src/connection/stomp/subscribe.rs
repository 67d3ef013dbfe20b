//! SUBSCRIBE and UNSUBSCRIBE.

use std::sync::Arc;

use blake2::{Blake2s256, Digest};
use bytes::Bytes;
use millpond_protocol::stomp::{Frame, Headers};

use super::client::LoggedIn;
use super::deliver;
use super::destination::{Destination, binding_key};
use super::publish::missing_destination;
use super::queue_headers::{flag, number, queue_arguments};
use super::reply::{StompError, from_engine};
use super::subscription::{AckMode, Subscription, SubscriptionKey};
use crate::engine::arguments::Arguments;
use crate::engine::binding::Binding;
use crate::engine::delivery::ConsumerTag;
use crate::engine::error::EngineError;
use crate::engine::filter::TagFilter;
use crate::engine::name::{ExchangeName, QueueName};
use crate::engine::queue::{ConsumerId, ConsumerSpec, Durability, LocalQueue, Queue, QueueSpec};
use crate::engine::turn::Turn;

/// How often a SUBSCRIBE looks for a queue that is deleted under it.
const SUBSCRIBE_ATTEMPTS: u32 = 10;

/// What a SUBSCRIBE asks for, read once.
struct Wish {
    key: SubscriptionKey,
    destination: Destination,
    ack: AckMode,
    durable: Option<bool>,
    auto_delete: Option<bool>,
    exclusive: bool,
    prefetch: u32,
    priority: i32,
    filter: Option<TagFilter>,
    /// ActiveMQ's name for a durable subscription.
    subscription_name: Option<Bytes>,
    queue_name: Option<QueueName>,
    arguments: Arguments,
}

fn invalid(message: &'static str, body: String) -> StompError {
    StompError::new(message, "invalid_header", body)
}

/// A request that would be misunderstood if it were ignored: the client would get messages it did not ask for.
fn refuse_unsupported(headers: &Headers) -> Result<(), StompError> {
    let unsupported = |what: &str| {
        let body = format!(
            "{what} is not supported: use a topic pattern in the destination, or filter-tags\n"
        );
        Err(StompError::new("not_implemented", "not_implemented", body))
    };
    if headers
        .get("selector")
        .is_some_and(|selector| !selector.is_empty())
    {
        return unsupported("the 'selector' header");
    }
    for name in [
        "browser",
        "no-local",
        "activemq.noLocal",
        "activemq.retroactive",
    ] {
        if flag(headers, name) == Some(true) {
            return unsupported(&format!("'{name}:true'"));
        }
    }
    Ok(())
}

impl Wish {
    fn read(frame: &Frame, default_prefetch: u32) -> Result<Self, StompError> {
        let headers = &frame.headers;
        let destination = headers
            .get_bytes("destination")
            .ok_or_else(|| missing_destination("SUBSCRIBE"))?;
        refuse_unsupported(headers)?;
        let key = match headers.get_bytes("id") {
            Some(id) if id.starts_with(b"/temp-queue/") => {
                return Err(StompError::new(
                    "Invalid id",
                    "invalid_id",
                    "subscription ids beginning '/temp-queue/' are the broker's own\n",
                ));
            }
            Some(id) => SubscriptionKey::Id(id),
            None => SubscriptionKey::Destination(destination.clone()),
        };
        let ack = match headers.get("ack").as_deref() {
            None | Some(b"auto") => AckMode::Auto,
            Some(b"client") => AckMode::Client,
            Some(b"client-individual") => AckMode::ClientIndividual,
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                return Err(invalid(
                    "Processing error",
                    format!(
                        "header 'ack' has the value '{other}': expected auto, client or client-individual\n"
                    ),
                ));
            }
        };
        let filter = match headers.get("filter-tags") {
            Some(tags) => Some(TagFilter::parse(&tags).map_err(|error| {
                invalid("Invalid header", format!("header 'filter-tags': {error}\n"))
            })?),
            None => None,
        };
        let queue_name = match headers.get_bytes("x-queue-name") {
            Some(name) => Some(QueueName::parse(name).map_err(|error| {
                invalid(
                    "Invalid header",
                    format!("header 'x-queue-name': {error}\n"),
                )
            })?),
            None => None,
        };
        let subscription_name = headers.get_bytes("activemq.subscriptionName");
        Ok(Self {
            key,
            destination: Destination::parse(&destination)?,
            ack,
            durable: flag(headers, "durable")
                .or_else(|| flag(headers, "persistent"))
                .or(subscription_name.as_ref().map(|_| true)),
            auto_delete: flag(headers, "auto-delete"),
            exclusive: flag(headers, "exclusive")
                .or_else(|| flag(headers, "activemq.exclusive"))
                .unwrap_or(false),
            prefetch: number(headers, "prefetch-count")
                .or_else(|| number(headers, "activemq.prefetchSize"))
                .unwrap_or(default_prefetch),
            priority: number(headers, "x-priority")
                .or_else(|| number(headers, "activemq.priority"))
                .unwrap_or(0),
            filter,
            subscription_name,
            queue_name,
            arguments: queue_arguments(headers)?,
        })
    }
}

impl LoggedIn {
    /// # Errors
    /// At the limit of subscriptions.
    pub(super) fn check_subscription_count(&self) -> Result<(), StompError> {
        let limit = self.options.subscriptions_max;
        if self.subscriptions.len() < limit {
            return Ok(());
        }
        let what = format!(
            "this connection has {limit} subscriptions, as many as limits.subscriptions allows"
        );
        Err(from_engine(&EngineError::LimitReached { what }))
    }

    /// A queue name nobody can guess.
    pub(super) fn generated_name(&mut self, prefix: &'static str) -> QueueName {
        let name = format!("{prefix}{}", super::client::random_word());
        QueueName::parse(name).expect("a prefix and a word are a short name")
    }

    /// Carries out a SUBSCRIBE: queue, binding, consumer, all in this turn.
    ///
    /// # Errors
    /// What is wrong with the frame, or what the engine refused.
    pub(super) fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        frame: &Frame,
    ) -> Result<(), StompError> {
        let wish = Wish::read(frame, self.options.default_prefetch)?;
        if self.subscriptions.contains(&wish.key) {
            let body = format!(
                "A subscription identified by '{}' already exists.\n",
                wish.key.text()
            );
            return Err(StompError::new(
                "Duplicated subscription identifier",
                "duplicate_subscription",
                body,
            )
            .closing());
        }
        self.check_subscription_count()?;
        let tag = self.subscriptions.next_tag();
        let prefetch = if wish.prefetch == 0 {
            self.options.unsettled_max
        } else {
            wish.prefetch.min(self.options.unsettled_max)
        };
        let spec = ConsumerSpec {
            tag,
            acknowledges: wish.ack != AckMode::Auto,
            prefetch,
            priority: wish.priority,
            exclusive: wish.exclusive,
        };
        let (queue, deletable, consumer) = self.consume(turn, &wish, &spec)?;
        let id = match &wish.key {
            SubscriptionKey::Id(id) => Some(id.as_ref()),
            SubscriptionKey::Destination(_) => None,
        };
        let head = deliver::head(self.version, id);
        // Ids and destinations are slices of a read buffer; a subscription outlives it.
        let key = match wish.key {
            SubscriptionKey::Id(id) => SubscriptionKey::Id(Bytes::copy_from_slice(&id)),
            SubscriptionKey::Destination(destination) => {
                SubscriptionKey::Destination(Bytes::copy_from_slice(&destination))
            }
        };
        self.subscriptions.insert(
            tag,
            Subscription {
                key,
                queue,
                consumer,
                ack: wish.ack,
                head,
                deletable,
            },
        );
        Ok(())
    }

    /// Finds or makes the queue, and consumes from it.
    fn consume(
        &mut self,
        turn: &mut Turn<'_>,
        wish: &Wish,
        spec: &ConsumerSpec,
    ) -> Result<(Arc<LocalQueue>, bool, ConsumerId), StompError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (queue, deletable) = self.queue_for(turn, wish)?;
            match queue.subscribe(turn, spec.clone(), Arc::clone(&self.outbox)) {
                Ok(consumer) => return Ok((queue, deletable, consumer)),
                // Its last consumer left between the two, and took it along: the next look finds none, or
                // makes a new one.
                Err(EngineError::NotFound { .. }) if attempts < SUBSCRIBE_ATTEMPTS => {}
                Err(error) => return Err(from_engine(&error)),
            }
        }
    }

    /// The queue to consume from, and whether UNSUBSCRIBE with `durable:true` deletes it.
    fn queue_for(
        &mut self,
        turn: &mut Turn<'_>,
        wish: &Wish,
    ) -> Result<(Arc<LocalQueue>, bool), StompError> {
        let shared = matches!(
            wish.destination,
            Destination::Queue(_) | Destination::ExistingQueue(_)
        );
        if shared && wish.filter.is_some() {
            // Ignored, it would bring messages that were not asked for.
            return Err(StompError::new(
                "Invalid header",
                "invalid_header",
                "header 'filter-tags' is for subscriptions to /topic and /exchange: a queue gives each message to one of its consumers, whatever its tags\n",
            ));
        }
        match &wish.destination {
            Destination::Queue(name) => {
                let private = wish.durable == Some(false);
                let spec = QueueSpec {
                    durability: if private {
                        Durability::Transient
                    } else {
                        Durability::Durable
                    },
                    exclusive: private.then_some(self.principal.owner),
                    auto_delete: self.auto_delete(wish, name, private),
                    arguments: wish.arguments.clone(),
                };
                let queue = self.declare(turn, name, &spec)?;
                self.principal
                    .check_read(&queue)
                    .map_err(|error| from_engine(&error))?;
                Ok((queue, false))
            }
            Destination::ExistingQueue(name) => {
                let queue = self
                    .vhost
                    .queue_to_read(turn, &self.principal, name)
                    .map_err(|error| from_engine(&error))?;
                Ok((queue, false))
            }
            Destination::Topic(key) => {
                let exchange = self.options.default_topic_exchange.clone();
                Ok((
                    self.subscription_queue(turn, wish, &exchange, key.clone())?,
                    true,
                ))
            }
            Destination::Exchange(exchange, key) => Ok((
                self.subscription_queue(turn, wish, exchange, key.clone())?,
                false,
            )),
            Destination::TempTopic(name) => {
                let exchange = self.options.default_topic_exchange.clone();
                let key = self.temp_topic_key(name);
                Ok((self.subscription_queue(turn, wish, &exchange, key)?, false))
            }
            Destination::TempQueue(_) => Err(StompError::new(
                "Invalid destination",
                "invalid_destination",
                "'/temp-queue' is not a destination to SUBSCRIBE to: name it in the 'reply-to' of a SEND, and the replies come by themselves\n",
            )),
        }
    }

    /// Whether the queue is to go with its last consumer: as asked, or else as the queue of that name has it.
    fn auto_delete(&self, wish: &Wish, name: &QueueName, otherwise: bool) -> bool {
        let known = || self.vhost.queue(name).map(|queue| queue.spec().auto_delete);
        wish.auto_delete.or_else(known).unwrap_or(otherwise)
    }

    fn declare(
        &mut self,
        turn: &mut Turn<'_>,
        name: &QueueName,
        spec: &QueueSpec,
    ) -> Result<Arc<LocalQueue>, StompError> {
        let declared = self.vhost.declare_queue(
            turn,
            &self.principal,
            name,
            spec,
            self.options.argument_mismatch,
        );
        let declared = declared.map_err(|error| from_engine(&error))?;
        if declared.created && spec.exclusive.is_some() {
            self.exclusive.push(Arc::clone(&declared.queue));
        }
        Ok(declared.queue)
    }

    /// The queue of a subscription to an exchange: private to the connection, or durable under a name
    /// made of what it subscribes to and its id.
    fn subscription_queue(
        &mut self,
        turn: &mut Turn<'_>,
        wish: &Wish,
        exchange: &ExchangeName,
        key: Bytes,
    ) -> Result<Arc<LocalQueue>, StompError> {
        let durable = wish.durable == Some(true);
        let name = match (&wish.queue_name, durable) {
            (Some(name), _) => name.clone(),
            (None, true) => self.durable_name(wish, exchange, &key)?,
            (None, false) => self.generated_name("stomp-subscription-"),
        };
        let spec = QueueSpec {
            durability: if durable {
                Durability::Durable
            } else {
                Durability::Transient
            },
            exclusive: (!durable).then_some(self.principal.owner),
            auto_delete: self.auto_delete(wish, &name, !durable),
            arguments: wish.arguments.clone(),
        };
        // Before anything is made: what may not or cannot be bound need not be declared.
        let mut binding = Binding::new(binding_key(key.clone())?.compact(), Arguments::default())
            .map_err(|error| invalid("Invalid header", format!("{error}\n")))?;
        if let Some(filter) = &wish.filter {
            binding = binding.with_filter(filter.clone());
        }
        self.vhost
            .check_bind(&self.principal, exchange, &name, &key)
            .map_err(|error| from_engine(&error))?;
        let queue = self.declare(turn, &name, &spec)?;
        self.principal
            .check_read(&queue)
            .map_err(|error| from_engine(&error))?;
        // A durable subscription means what it said last. A queue that the client named may be bound for
        // other subscriptions too: only another filter for the same key is replaced.
        let (named, bound_key) = (wish.queue_name.is_some(), binding.key().clone());
        let replaced = |other: &Binding| !named || *other.key() == bound_key;
        let bound =
            self.vhost
                .bind_instead(turn, &self.principal, exchange, &queue, binding, replaced);
        bound.map_err(|error| from_engine(&error))?;
        Ok(queue)
    }

    /// The same destination and id mean the same queue, from whichever connection.
    fn durable_name(
        &self,
        wish: &Wish,
        exchange: &ExchangeName,
        key: &[u8],
    ) -> Result<QueueName, StompError> {
        let mut hash = Blake2s256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        match (&wish.subscription_name, &self.client_id, &wish.key) {
            (Some(name), Some(client), _) => {
                add(b"client");
                add(client);
                add(name);
            }
            (Some(_), None, _) => {
                return Err(StompError::new(
                    "Missing Header",
                    "missing_header",
                    "'activemq.subscriptionName' needs a 'client-id' header on CONNECT; or use durable:true with an id\n",
                ));
            }
            (None, _, SubscriptionKey::Id(id)) => {
                add(exchange.as_bytes());
                add(key);
                add(id);
            }
            (None, _, SubscriptionKey::Destination(_)) => {
                return Err(StompError::new(
                    "Missing Header",
                    "missing_header",
                    "Header 'id' is required for durable subscriptions\n",
                ));
            }
        }
        let word: String = hash
            .finalize()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(QueueName::parse(format!("stomp-subscription-{word}"))
            .expect("a prefix and 32 digits are a short name"))
    }

    /// Carries out an UNSUBSCRIBE. Deliveries made stay the client's to settle; what was not sent yet goes
    /// back to the queue.
    ///
    /// # Errors
    /// If the subscription is not named or not known, or its queue may not be deleted.
    pub(super) fn unsubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        frame: &Frame,
    ) -> Result<ConsumerTag, StompError> {
        let headers = &frame.headers;
        let key = match (headers.get_bytes("id"), headers.get_bytes("destination")) {
            (Some(id), _) if id.starts_with(b"/temp-queue/") => {
                return Err(StompError::new(
                    "Invalid id",
                    "invalid_id",
                    "replies to a '/temp-queue' cannot be unsubscribed from: they end with the connection\n",
                ));
            }
            (Some(id), _) => SubscriptionKey::Id(id),
            (None, Some(destination)) => SubscriptionKey::Destination(destination),
            (None, None) => {
                return Err(StompError::new(
                    "Missing destination or id",
                    "missing_header",
                    "'UNSUBSCRIBE' must include the 'id' of the subscription, or its 'destination' if it has none\n",
                ));
            }
        };
        let Some((tag, subscription)) = self.subscriptions.remove_by_key(&key) else {
            let text = key.text();
            return Err(StompError::new(
                "No subscription found",
                "subscription_not_found",
                format!(
                    "'UNSUBSCRIBE' names a subscription that this connection does not have: {text}\n"
                ),
            ));
        };
        let for_good = flag(headers, "durable")
            .or_else(|| flag(headers, "persistent"))
            .unwrap_or(headers.contains("activemq.subscriptionName"));
        if for_good && subscription.deletable {
            let deleted = self
                .vhost
                .delete_queue(turn, &self.principal, subscription.queue.name());
            if let Err(error) = deleted {
                self.end(turn, tag, &subscription);
                return Err(from_engine(&error));
            }
        }
        self.end(turn, tag, &subscription);
        if subscription.queue.spec().auto_delete {
            // It is gone, or goes with its last consumer.
            self.exclusive
                .retain(|queue| queue.id() != subscription.queue.id());
        }
        Ok(tag)
    }

    /// Ends a subscription: no more deliveries, and those not sent go back.
    pub(super) fn end(&self, turn: &mut Turn<'_>, tag: ConsumerTag, subscription: &Subscription) {
        subscription.queue.cancel(turn, subscription.consumer);
        let (settled, unsettled): (Vec<_>, Vec<_>) = self
            .outbox
            .take_for(tag)
            .into_iter()
            .partition(|delivery| delivery.token.is_none());
        let released: Vec<_> = unsettled
            .into_iter()
            .filter_map(|delivery| {
                Some((delivery.token?, crate::engine::delivery::Outcome::Release))
            })
            .collect();
        if !released.is_empty() {
            subscription.queue.settle(turn, &released);
        }
        if !settled.is_empty() {
            subscription.queue.put_back(turn, settled);
        }
    }
}
