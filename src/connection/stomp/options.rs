//! What the configuration decides about STOMP sessions.

use millpond_protocol::stomp;

use crate::engine::name::{ExchangeName, VhostName};
use crate::engine::vhost::Mismatch;

/// Which ERRORs end a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorMode {
    /// As the field's clients are used to: most leave it open, and a refused SEND always does.
    #[default]
    Compatible,
    /// All of them, as the specification says.
    Strict,
}

/// How STOMP sessions behave. The configuration's section `stomp`, and limits.
#[derive(Clone, Debug)]
pub struct StompOptions {
    /// Limits, time-outs and greeting of the protocol itself.
    pub machine: stomp::Config,
    /// User of a CONNECT without `login`.
    pub default_user: String,
    /// Its password.
    pub default_password: String,
    /// Vhost of a CONNECT without `host`.
    pub default_vhost: VhostName,
    /// The exchange that `/topic/` destinations mean.
    pub default_topic_exchange: ExchangeName,
    /// What a NACK without `requeue` does.
    pub default_nack_requeue: bool,
    /// Whether a SEND to a queue is persistent unless it says otherwise.
    pub default_persistent: bool,
    /// Deliveries in flight for a subscription without `prefetch-count`; 0 stands for `unsettled_max`.
    pub default_prefetch: u32,
    /// Which ERRORs close.
    pub errors: ErrorMode,
    /// What a SUBSCRIBE does that gives other arguments than the queue has.
    pub argument_mismatch: Mismatch,
    /// Bytes that wait in one connection's outbox at most.
    pub outbox_bytes: usize,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// Deliveries one subscription may leave unsettled, whatever its prefetch.
    pub unsettled_max: u32,
    /// Transactions one connection may have open.
    pub transactions_max: usize,
    /// SENDs, ACKs and NACKs in one transaction.
    pub transaction_actions_max: usize,
    /// Bytes of the SENDs in all open transactions of one connection.
    pub transaction_bytes_max: usize,
    /// Receipts one connection may wait for before it is read from again.
    pub receipts_max: usize,
}

impl Default for StompOptions {
    fn default() -> Self {
        Self {
            machine: stomp::Config::default(),
            default_user: "guest".to_owned(),
            default_password: "guest".to_owned(),
            default_vhost: VhostName::from_static("/"),
            default_topic_exchange: ExchangeName::from_static("amq.topic"),
            default_nack_requeue: true,
            default_persistent: true,
            default_prefetch: 0,
            errors: ErrorMode::Compatible,
            argument_mismatch: Mismatch::ErrorIfGiven,
            outbox_bytes: 1024 * 1024,
            subscriptions_max: 1024,
            unsettled_max: 100_000,
            transactions_max: 16,
            transaction_actions_max: 1024,
            transaction_bytes_max: 64 * 1024 * 1024,
            receipts_max: 100_000,
        }
    }
}
