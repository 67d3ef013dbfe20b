//! SEND: from a frame to a message.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millpond_protocol::stomp::{Frame, Version, put_header};

use super::client::LoggedIn;
use super::destination::{Destination, routing_key};
use super::queue_headers::{flag, is_queue_argument, number, queue_arguments};
use super::reply::{StompError, from_engine};
use crate::engine::access::Tag;
use crate::engine::error::EngineError;
use crate::engine::filter::check_tags;
use crate::engine::message::{Address, Encoding, Message, Meta};
use crate::engine::name::{ExchangeName, RoutingKey};
use crate::engine::queue::{Durability, QueueSpec};
use crate::engine::turn::Turn;
use crate::engine::vhost::Mismatch;

/// Where SENDs to one destination go, once everything about it was checked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) address: Arc<Address>,
    /// Whether it is a queue: persistent by default.
    queue: bool,
}

/// Plans remembered by destination. Everything is forgotten when it is full: it is only a cache.
const PLANS_MAX: usize = 1024;

/// What this connection knows of the destinations it sends to.
#[derive(Debug, Default)]
pub(super) struct Plans {
    version: u64,
    last: Option<(Bytes, Plan)>,
    known: HashMap<Bytes, Plan>,
}

impl Plans {
    /// The plan for a destination, if it still holds.
    pub(super) fn find(&mut self, version: u64, destination: &[u8]) -> Option<Plan> {
        if self.version != version {
            *self = Self {
                version,
                ..Self::default()
            };
            return None;
        }
        if let Some((last, plan)) = &self.last
            && last == destination
        {
            return Some(plan.clone());
        }
        let (known, plan) = self.known.get_key_value(destination)?;
        self.last = Some((known.clone(), plan.clone()));
        Some(plan.clone())
    }

    fn remember(&mut self, version: u64, destination: &[u8], plan: &Plan) {
        if self.version != version || self.known.len() >= PLANS_MAX {
            *self = Self {
                version,
                ..Self::default()
            };
        }
        self.known
            .insert(Bytes::copy_from_slice(destination), plan.clone());
    }
}

/// Headers of SEND that are the broker's, or about the frame, and not part of the message.
fn is_part_of_message(name: &[u8]) -> bool {
    !matches!(
        name,
        b"destination"
            | b"content-length"
            | b"receipt"
            | b"transaction"
            | b"persistent"
            | b"mandatory"
            | b"subscription"
            | b"ack"
            | b"redelivered"
            | b"message-id"
    ) && !is_queue_argument(name)
        && !is_broker_header(name)
}

/// Headers that only the broker writes: a producer cannot forge them.
fn is_broker_header(name: &[u8]) -> bool {
    name.starts_with(b"x-")
        && (name.starts_with(b"x-first-death-")
            || name.starts_with(b"x-last-death-")
            || matches!(name, b"x-message-id" | b"x-delivery-count" | b"x-death"))
}

/// What a SEND asks for beside its message.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) message: Message,
    pub(super) mandatory: bool,
}

fn invalid_header(name: &str, value: &[u8], expected: &str) -> StompError {
    let value = String::from_utf8_lossy(value);
    StompError::new(
        "Invalid header",
        "invalid_header",
        format!("header '{name}' has the value '{value}': expected {expected}\n"),
    )
}

impl LoggedIn {
    /// Makes the message of a SEND, and the queue it names if it names a new one.
    ///
    /// # Errors
    /// What is wrong with the frame, or what the engine refused.
    pub(super) fn message(
        &mut self,
        turn: &mut Turn<'_>,
        frame: &Frame,
    ) -> Result<Send, StompError> {
        let headers = &frame.headers;
        if headers.contains("message-id") {
            return Err(StompError::new(
                "Invalid header",
                "invalid_header",
                "'message-id' is not allowed on 'SEND'.\n",
            ));
        }
        let destination = headers
            .get("destination")
            .ok_or_else(|| missing_destination("SEND"))?;
        let plan = match self.plans.find(self.vhost.version(), &destination) {
            Some(plan) => plan,
            None => self.plan(turn, frame, &destination)?,
        };
        if self.broker.core().is_disk_low() {
            return Err(from_engine(&EngineError::DiskLow));
        }
        if self.broker.core().is_memory_low() {
            return Err(from_engine(&EngineError::MemoryLow));
        }
        let now_ms = turn.now.wall_ms;
        let meta = Meta {
            id: self.broker.core().next_message_id(),
            entered_ms: now_ms,
            expires_ms: None,
            persistent: flag(headers, "persistent")
                .unwrap_or(plan.queue && self.options.default_persistent),
            priority: None,
        };
        let address = Arc::clone(&plan.address);
        // The common SEND has a destination and perhaps a length and a receipt: nothing to keep, nothing to look for.
        let kept = headers.retain(is_part_of_message);
        if kept.is_empty() {
            return Ok(Send {
                message: Message::new(address, meta, Encoding::Stomp, kept, frame.body.clone()),
                mandatory: flag(headers, "mandatory").unwrap_or(false),
            });
        }
        self.with_properties(turn, frame, meta, address, kept)
    }

    fn with_properties(
        &mut self,
        turn: &mut Turn<'_>,
        frame: &Frame,
        mut meta: Meta,
        address: Arc<Address>,
        kept: Bytes,
    ) -> Result<Send, StompError> {
        let headers = &frame.headers;
        meta.priority = number(headers, "priority");
        let expiration_ms = match headers.get("expiration") {
            Some(text) => Some(
                number::<u64>(headers, "expiration")
                    .ok_or_else(|| invalid_header("expiration", &text, "a whole number of ms"))?,
            ),
            None => None,
        };
        // ActiveMQ's absolute time; it sends 0 for none.
        let expires_ms = number::<u64>(headers, "expires").filter(|expires| *expires > 0);
        meta.expires_ms = match (
            expiration_ms.map(|ms| turn.now.wall_ms.saturating_add(ms)),
            expires_ms,
        ) {
            (Some(relative), Some(absolute)) => Some(relative.min(absolute)),
            (relative, absolute) => relative.or(absolute),
        };
        if let Some(tags) = headers.get("tags") {
            check_tags(&tags).map_err(|error| {
                StompError::new(
                    "Invalid header",
                    "invalid_header",
                    format!("header 'tags': {error}\n"),
                )
            })?;
        }
        if let Some(user) = headers.get("user-id")
            && user.as_ref() != self.principal.user.name().as_bytes()
            && !self.principal.user.has_tag(Tag::Impersonator)
        {
            let (claimed, user) = (
                String::from_utf8_lossy(&user).into_owned(),
                self.principal.user.name().to_owned(),
            );
            let why =
                format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
            return Err(from_engine(&EngineError::AccessRefused { why }));
        }
        let kept = match headers.get("reply-to") {
            Some(reply_to) => match self.reply_to(turn, &reply_to)? {
                Some(rewritten) => {
                    let mut block = BytesMut::from(
                        headers
                            .retain(|name| is_part_of_message(name) && name != b"reply-to")
                            .as_ref(),
                    );
                    put_header(&mut block, Version::V1_2, b"reply-to", &rewritten);
                    block.freeze()
                }
                None => kept,
            },
            None => kept,
        };
        let message = Message::new(address, meta, Encoding::Stomp, kept, frame.body.clone())
            .with_expiration(expiration_ms);
        Ok(Send {
            message,
            mandatory: flag(headers, "mandatory").unwrap_or(false),
        })
    }

    /// Checks a destination that was not sent to lately, and makes its queue if it is to be made.
    fn plan(
        &mut self,
        turn: &mut Turn<'_>,
        frame: &Frame,
        destination: &[u8],
    ) -> Result<Plan, StompError> {
        // Before the look at what is there: if that changes meanwhile, the plan is made again next time.
        let version = self.vhost.version();
        let address = |exchange: &ExchangeName, key: Bytes| {
            routing_key(key).map(|routing_key| Address {
                exchange: exchange.compact(),
                routing_key: routing_key.compact(),
            })
        };
        let default = ExchangeName::default_exchange();
        let (address, queue) = match Destination::parse(destination)? {
            Destination::Queue(name) => {
                let spec = QueueSpec {
                    durability: Durability::Durable,
                    exclusive: None,
                    auto_delete: false,
                    arguments: queue_arguments(&frame.headers)?,
                };
                // On SEND the arguments matter only to the queue it makes.
                let declared = self.vhost.declare_queue(
                    turn,
                    &self.principal,
                    &name,
                    &spec,
                    Mismatch::UseExisting,
                );
                declared.map_err(|error| from_engine(&error))?;
                (
                    Address {
                        exchange: default,
                        routing_key: RoutingKey::from(&name).compact(),
                    },
                    true,
                )
            }
            Destination::ExistingQueue(name) => (
                Address {
                    exchange: default,
                    routing_key: RoutingKey::from(&name).compact(),
                },
                true,
            ),
            Destination::Topic(key) => (address(&self.options.default_topic_exchange, key)?, false),
            Destination::Exchange(exchange, key) => (address(&exchange, key)?, false),
            Destination::TempTopic(name) => (
                address(
                    &self.options.default_topic_exchange,
                    self.temp_topic_key(&name),
                )?,
                false,
            ),
            Destination::TempQueue(_) => {
                return Err(StompError::new(
                    "Invalid destination",
                    "invalid_destination",
                    "'/temp-queue' is not a destination to SEND to: name it in a 'reply-to' header, and send to the '/reply-queue' that the other side receives there\n",
                ));
            }
        };
        self.vhost
            .check_publish(&self.principal, &address.exchange, &address.routing_key)
            .map_err(|error| from_engine(&error))?;
        let plan = Plan {
            address: Arc::new(address),
            queue,
        };
        self.plans.remember(version, destination, &plan);
        Ok(plan)
    }
}

/// The error of a frame that needs a destination and has none.
pub(super) fn missing_destination(command: &str) -> StompError {
    StompError::new(
        "Missing destination",
        "missing_destination",
        format!(
            "'{command}' must include a 'destination' header, such as destination:/queue/orders\n"
        ),
    )
}
