//! What is declared, as it is kept on disk: one JSON record each, opaque to the storage floor.

use serde::{Deserialize, Serialize};

use super::arguments::Arguments;
use super::exchange::ExchangeKind;
use super::name::{BindingKey, ExchangeName, QueueName, VhostName};
use crate::storage::QueueId;

/// A durable object of a vhost.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Definition {
    /// A durable queue.
    Queue {
        id: u64,
        vhost: VhostName,
        name: QueueName,
        auto_delete: bool,
        arguments: Arguments,
    },
    /// A durable exchange.
    Exchange {
        vhost: VhostName,
        name: ExchangeName,
        #[serde(rename = "type")]
        exchange_kind: ExchangeKind,
        auto_delete: bool,
        arguments: Arguments,
    },
    /// A binding from a durable exchange to a durable queue.
    Binding {
        id: u64,
        exchange: ExchangeName,
        queue: u64,
        key: BindingKey,
        arguments: Arguments,
        filter_tags: Option<String>,
    },
}

impl Definition {
    /// The record's value.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("definitions are plain data")
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// A sentence, if it is not a definition this program knows.
    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(value).map_err(|error| {
            format!(
                "the definition '{}' cannot be read: {error}",
                String::from_utf8_lossy(key)
            )
        })
    }
}

/// The key of a queue's record.
pub(super) fn queue_key(id: QueueId) -> Vec<u8> {
    format!("queue/{:020}", id.0).into_bytes()
}

/// The key of a binding's record.
pub(super) fn binding_key(id: u64) -> Vec<u8> {
    format!("binding/{id:020}").into_bytes()
}

/// The key of an exchange's record.
pub(super) fn exchange_key(vhost: &VhostName, name: &ExchangeName) -> Vec<u8> {
    let mut key = b"exchange/".to_vec();
    key.extend_from_slice(vhost.as_bytes());
    // Neither name can hold a NUL that would make two pairs look alike: the length settles it.
    key.extend_from_slice(format!("/{}/", vhost.as_bytes().len()).as_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}
