//! What the engine refuses, in the broker's own words. Each protocol maps these to its replies in one place.

use super::name::{ExchangeName, QueueName, VhostName};

/// What kind of object an error speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
    /// A virtual host.
    Vhost,
}

impl Kind {
    /// The noun, as error texts spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
            Self::Vhost => "vhost",
        }
    }
}

/// A declaration that asks for something else than what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inequivalent {
    /// Queue or exchange.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its vhost.
    pub vhost: VhostName,
    /// The property or argument that differs.
    pub argument: String,
    /// What was asked for, as the field's tools expect it to be written.
    pub received: String,
    /// What the object was declared with.
    pub current: String,
}

impl std::fmt::Display for Inequivalent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            name,
            vhost,
            argument,
            received,
            current,
        } = self;
        let kind = kind.as_str();
        write!(
            f,
            "inequivalent arg '{argument}' for {kind} '{name}' in vhost '{vhost}': received {received} but current is {current}"
        )
    }
}

/// A refusal: what was asked for did not happen, and nothing else changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The named object does not exist.
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The vhost that was searched.
        vhost: VhostName,
    },
    /// The object exists with another value of an argument.
    Inequivalent(Box<Inequivalent>),
    /// An argument has a value that no queue or exchange of this kind takes.
    InvalidArgument {
        /// The argument's name.
        argument: String,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// The user lacks a permission.
    AccessRefused {
        /// The whole sentence: which permission, on what, for whom.
        why: String,
    },
    /// The queue belongs to another connection.
    ResourceLocked {
        /// The queue.
        queue: QueueName,
        /// Its vhost.
        vhost: VhostName,
    },
    /// An exclusive consumer holds the queue, or the queue has consumers where none may be.
    InUse {
        /// The queue.
        queue: QueueName,
        /// Its vhost.
        vhost: VhostName,
        /// Who holds it.
        why: &'static str,
    },
    /// The queue is at its length limit and refuses new messages.
    QueueFull {
        /// The queue.
        queue: QueueName,
        /// Its vhost.
        vhost: VhostName,
    },
    /// The message is larger than the queue takes.
    MessageTooLarge {
        /// The queue.
        queue: QueueName,
        /// Size of this message, in bytes.
        size: u64,
        /// The queue's limit, in bytes.
        limit: u64,
    },
    /// No queue is bound for this key, and the publisher wanted to know.
    Unroutable {
        /// The exchange published to.
        exchange: ExchangeName,
        /// The routing key, lossily as text.
        routing_key: String,
    },
    /// The delivery was never made to this connection, or is settled already.
    NotOutstanding,
    /// Something this broker does not do.
    Unsupported {
        /// What it is, and what to use instead.
        what: String,
    },
    /// A limit of this broker is reached.
    LimitReached {
        /// Which limit, its value, and the name of its setting.
        what: String,
    },
    /// Part of what the queue held cannot be read any more: it takes and gives nothing until somebody
    /// decides what to do.
    Quarantined {
        /// The queue.
        queue: QueueName,
        /// What is lost.
        why: String,
    },
    /// Free disk space is below the configured floor: publishers are refused, consumers go on.
    DiskLow,
    /// Messages take more memory than `memory.limit` and its reserve: publishers are refused, consumers go on.
    MemoryLow,
    /// The store failed; the broker is stopping.
    StoreFailed,
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound { kind: Kind::Vhost, name, .. } => write!(f, "no vhost '{name}'"),
            Self::NotFound { kind, name, vhost } => write!(f, "no {} '{name}' in vhost '{vhost}'", kind.as_str()),
            Self::Inequivalent(difference) => difference.fmt(f),
            Self::InvalidArgument { argument, why } => write!(f, "invalid arg '{argument}': {why}"),
            Self::AccessRefused { why } => f.write_str(why),
            Self::ResourceLocked { queue, vhost } => write!(
                f,
                "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
            ),
            Self::InUse { queue, vhost, why } => write!(f, "queue '{queue}' in vhost '{vhost}' in use: {why}"),
            Self::QueueFull { queue, vhost } => {
                write!(f, "queue '{queue}' in vhost '{vhost}' is full: its length limit is reached; the message was not taken, send it again later")
            }
            Self::MessageTooLarge { queue, size, limit } => {
                write!(f, "message of {size} bytes is larger than queue '{queue}' takes (x-max-message-size {limit} bytes)")
            }
            Self::Unroutable { exchange, routing_key } => {
                write!(f, "no queue is bound to exchange '{exchange}' for routing key '{routing_key}'; the message was dropped")
            }
            Self::NotOutstanding => f.write_str("this delivery is not outstanding on this connection: it was never made, or is settled already"),
            Self::Unsupported { what } | Self::LimitReached { what } => f.write_str(what),
            Self::Quarantined { queue, why } => write!(
                f,
                "queue '{queue}' is quarantined: {why}. Restore the store from a backup, or start the broker once with --accept-data-loss to go on without what is lost"
            ),
            Self::DiskLow => f.write_str("free disk space is below disk.free_limit; messages are refused until there is room, consumers go on"),
            Self::MemoryLow => f.write_str("waiting messages take all memory that memory.limit grants; messages are refused until some are settled, consumers go on"),
            Self::StoreFailed => f.write_str("the message store failed; the broker is stopping and nothing unconfirmed is promised"),
        }
    }
}

impl std::error::Error for EngineError {}
