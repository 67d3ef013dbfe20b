//! A message: what was published, once, however many queues hold it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use millpond_protocol::stomp::canonical_lines;
use millpond_protocol::value::Value;

use super::exchange::MessageHeaders;
use super::name::{ExchangeName, RoutingKey};
use crate::storage::Payload;

mod stored;

/// Where a message was published to. Shared by all messages of one publisher and destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The exchange; empty is the default exchange.
    pub exchange: ExchangeName,
    /// The routing key.
    pub routing_key: RoutingKey,
}

/// The broker's own id of a message: the same in every queue, for life, rising with time.
///
/// The upper 42 bits are the wall clock (ms) of the broker's start, the lower bits count, so ids never
/// repeat across restarts while the clock does not run backwards and fewer than 4 million messages a
/// millisecond are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u64);

/// The fixed properties that the engine itself acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The message's own id.
    pub id: MessageId,
    /// When this message entered the broker (or was dead-lettered), wall clock, in ms since 1970.
    pub entered_ms: u64,
    /// When it expires, wall clock, in ms since 1970.
    pub expires_ms: Option<u64>,
    /// Whether durable queues keep it on disk.
    pub persistent: bool,
    /// Priority as the publisher gave it; queues without `x-max-priority` ignore it.
    pub priority: Option<u8>,
}

/// In which protocol's form [`Message::headers`] is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A canonical STOMP header block: lines ended by LF, escaped as STOMP 1.2 says.
    Stomp,
}

/// Why a message left a queue other than by an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeathReason {
    /// A consumer rejected it without requeue.
    Rejected,
    /// Its time to live ran out.
    Expired,
    /// The queue was at its length limit.
    MaxLength,
    /// It was returned more often than `x-delivery-limit` allows.
    DeliveryLimit,
}

impl DeathReason {
    /// The reason as `x-death` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// One row of a message's dead-letter history (`x-death`): one per queue and reason, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The queue it died in.
    pub queue: Bytes,
    /// Why.
    pub reason: DeathReason,
    /// How often it died there for this reason.
    pub count: u64,
    /// When it first did, in seconds since 1970.
    pub time_s: u64,
    /// Where it had been published to.
    pub address: Address,
    /// Its expiration in ms, if it carried one of its own.
    pub original_expiration_ms: Option<u64>,
}

/// A message's dead-letter history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deaths {
    /// Newest first.
    pub rows: Vec<Death>,
    /// Queue, reason and exchange of the first death, never changed later.
    pub first: Option<(Bytes, DeathReason, ExchangeName)>,
}

/// Header block and body, either as slices of the read buffer or in one allocation of their own.
#[derive(Clone, Debug)]
enum Content {
    /// Slices of a larger buffer, kept from being reused while they live.
    Slices { headers: Bytes, body: Bytes },
    /// Exactly this message's bytes: headers, then body.
    Compact {
        bytes: Box<[u8]>,
        headers_len: usize,
    },
}

/// Up to this size a message is copied on arrival: cheaper than sharing the read buffer's counter.
const COPY_ON_ARRIVAL: usize = 2 * 1024;
/// From this size on, the read buffer was grown for this one message: keeping it wastes little.
const OWN_BUFFER: usize = 64 * 1024;

/// One published message. Immutable; queues and outboxes share it behind an `Arc`.
#[derive(Clone, Debug)]
pub struct Message {
    address: Arc<Address>,
    meta: Meta,
    encoding: Encoding,
    content: Content,
    deaths: Option<Box<Deaths>>,
    expiration_ms: Option<u64>,
}

impl Message {
    /// A message with the producer's encoded headers and its body.
    pub fn new(
        address: Arc<Address>,
        meta: Meta,
        encoding: Encoding,
        headers: Bytes,
        body: Bytes,
    ) -> Self {
        let mut message = Self {
            address,
            meta,
            encoding,
            content: Content::Slices { headers, body },
            deaths: None,
            expiration_ms: None,
        };
        if message.size() <= COPY_ON_ARRIVAL {
            message.compact();
        }
        message
    }

    /// The same for one that is not handed over in this turn: it does not keep a read buffer alive.
    #[must_use]
    pub fn kept(mut self) -> Self {
        if self.size() < OWN_BUFFER {
            self.compact();
        }
        self
    }

    /// With the publisher's relative expiration (ms), which dead-lettering keeps as `original-expiration`.
    #[must_use]
    pub fn with_expiration(mut self, expiration_ms: Option<u64>) -> Self {
        self.expiration_ms = expiration_ms;
        self
    }

    /// The message as it goes on after a death: new address, no expiry, history attached.
    pub(super) fn dead_lettered(
        &self,
        address: Arc<Address>,
        entered_ms: u64,
        deaths: Deaths,
    ) -> Self {
        let mut moved = self.clone();
        if self.meta.expires_ms.is_some() {
            moved.drop_headers(|name| matches!(name, b"expiration" | b"expires"));
        }
        moved.address = address;
        moved.meta.entered_ms = entered_ms;
        moved.meta.expires_ms = None;
        moved.expiration_ms = None;
        moved.deaths = Some(Box::new(deaths));
        moved
    }

    /// Where it was published to.
    pub fn address(&self) -> &Arc<Address> {
        &self.address
    }

    /// The properties the engine acts on.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The form of [`Message::headers`].
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The producer's header block.
    pub fn headers(&self) -> &[u8] {
        match &self.content {
            Content::Slices { headers, .. } => headers,
            Content::Compact { bytes, headers_len } => &bytes[..*headers_len],
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        match &self.content {
            Content::Slices { body, .. } => body,
            Content::Compact { bytes, headers_len } => &bytes[*headers_len..],
        }
    }

    /// The dead-letter history, if it ever died.
    pub fn deaths(&self) -> Option<&Deaths> {
        self.deaths.as_deref()
    }

    /// The publisher's relative expiration in ms, if it gave one.
    pub fn expiration_ms(&self) -> Option<u64> {
        self.expiration_ms
    }

    /// Bytes of headers and body.
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Slices { headers, body } => headers.len() + body.len(),
            Content::Compact { bytes, .. } => bytes.len(),
        }
    }

    /// The value of one of the producer's headers.
    pub fn header(&self, name: &[u8]) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Stomp => canonical_lines(self.headers())
                .find(|(n, _)| n.as_ref() == name)
                .map(|(_, value)| value.into_owned()),
        }
    }

    /// Takes header lines out. The names looked for must be such that need no escape.
    fn drop_headers(&mut self, drop: impl Fn(&[u8]) -> bool) {
        let Encoding::Stomp = self.encoding;
        let lines = self.headers().split_inclusive(|byte| *byte == b'\n');
        let kept =
            lines.filter(|line| !drop(line.split(|byte| *byte == b':').next().unwrap_or(line)));
        let headers: Vec<u8> = kept.flatten().copied().collect();
        self.content = match &self.content {
            Content::Slices { body, .. } => Content::Slices {
                headers: headers.into(),
                body: body.clone(),
            },
            Content::Compact { .. } => Content::Compact {
                headers_len: headers.len(),
                bytes: [headers.as_slice(), self.body()].concat().into(),
            },
        };
    }

    fn compact(&mut self) {
        if let Content::Slices { headers, body } = &self.content {
            let mut bytes = Vec::with_capacity(headers.len() + body.len());
            bytes.extend_from_slice(headers);
            bytes.extend_from_slice(body);
            self.content = Content::Compact {
                headers_len: headers.len(),
                bytes: bytes.into_boxed_slice(),
            };
        }
    }
}

/// Makes sure that keeping the message does not keep a read buffer alive with it.
///
/// Called once when a message stays in the broker (ready or unacked) rather than being handed over.
pub(super) fn settle_in(message: &mut Arc<Message>) {
    if matches!(message.content, Content::Slices { .. }) && message.size() < OWN_BUFFER {
        Arc::make_mut(message).compact();
    }
}

impl MessageHeaders for Message {
    fn header(&self, name: &[u8]) -> Option<Cow<'_, Value>> {
        Self::header(self, name).map(|value| Cow::Owned(Value::text(value)))
    }
}

impl Payload for Message {
    fn encoded_len(&self) -> usize {
        stored::encoded_len(self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        stored::encode(self, out);
    }
}

impl Message {
    /// Reads a message back from its stored form.
    ///
    /// # Errors
    /// A sentence, if the bytes are not a message of a known version.
    pub(super) fn decode(stored: Bytes) -> Result<Self, String> {
        stored::decode(stored)
    }
}
