//! Who asks: a logged-in user in one vhost, on one connection.

use std::sync::Arc;

use super::access::{Permissions, User};
use super::error::{EngineError, Kind};
use super::name::{ExchangeName, QueueName, RoutingKey, VhostName};
use super::queue::{LocalQueue, Owner, Queue};

/// A user with its permissions in one vhost.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The user.
    pub user: Arc<User>,
    /// What it may do in `vhost`.
    pub permissions: Arc<Permissions>,
    /// The vhost it logged in to.
    pub vhost: VhostName,
    /// The connection: exclusive queues belong to it.
    pub owner: Owner,
}

/// The name under which permissions speak of the default exchange.
const DEFAULT_EXCHANGE: &str = "amq.default";

impl Principal {
    fn refused(&self, verb: &str, kind: Kind, name: &str) -> EngineError {
        let (kind, vhost, user) = (kind.as_str(), &self.vhost, self.user.name());
        EngineError::AccessRefused {
            why: format!(
                "{verb} access to {kind} '{name}' in vhost '{vhost}' refused for user '{user}'"
            ),
        }
    }

    /// # Errors
    /// `AccessRefused` without configure permission on the queue.
    pub(super) fn may_configure_queue(&self, queue: &QueueName) -> Result<(), EngineError> {
        if self.permissions.may_configure(queue.as_bytes()) {
            Ok(())
        } else {
            Err(self.refused("configure", Kind::Queue, &queue.to_string()))
        }
    }

    /// # Errors
    /// `AccessRefused` without write permission on the queue.
    pub(super) fn may_write_queue(&self, queue: &QueueName) -> Result<(), EngineError> {
        if self.permissions.may_write(queue.as_bytes()) {
            Ok(())
        } else {
            Err(self.refused("write", Kind::Queue, &queue.to_string()))
        }
    }

    /// # Errors
    /// `AccessRefused` without read permission on the queue.
    pub(super) fn may_read_queue(&self, queue: &QueueName) -> Result<(), EngineError> {
        if self.permissions.may_read(queue.as_bytes()) {
            Ok(())
        } else {
            Err(self.refused("read", Kind::Queue, &queue.to_string()))
        }
    }

    /// Checks that its user may consume from a queue.
    ///
    /// # Errors
    /// `AccessRefused` without read permission on it.
    pub fn check_read(&self, queue: &LocalQueue) -> Result<(), EngineError> {
        self.may_read_queue(queue.name())
    }

    /// # Errors
    /// `AccessRefused` without configure permission on the exchange.
    pub(super) fn may_configure_exchange(
        &self,
        exchange: &ExchangeName,
    ) -> Result<(), EngineError> {
        if self.permissions.may_configure(Self::known_as(exchange)) {
            Ok(())
        } else {
            Err(self.refused("configure", Kind::Exchange, &exchange.to_string()))
        }
    }

    /// # Errors
    /// `AccessRefused` without write permission on the exchange.
    pub(super) fn may_write_exchange(&self, exchange: &ExchangeName) -> Result<(), EngineError> {
        let name = Self::known_as(exchange);
        if self.permissions.may_write(name) {
            Ok(())
        } else {
            Err(self.refused("write", Kind::Exchange, &String::from_utf8_lossy(name)))
        }
    }

    /// # Errors
    /// `AccessRefused` without read permission on the exchange.
    pub(super) fn may_read_exchange(&self, exchange: &ExchangeName) -> Result<(), EngineError> {
        let name = Self::known_as(exchange);
        if self.permissions.may_read(name) {
            Ok(())
        } else {
            Err(self.refused("read", Kind::Exchange, &String::from_utf8_lossy(name)))
        }
    }

    /// # Errors
    /// `AccessRefused` if a topic permission for the exchange forbids publishing with this key.
    pub(super) fn may_write_topic(
        &self,
        exchange: &ExchangeName,
        key: &RoutingKey,
    ) -> Result<(), EngineError> {
        if self.permissions.may_write_topic(exchange, key.as_bytes()) {
            Ok(())
        } else {
            Err(self.topic_refused("write", exchange, &key.to_string()))
        }
    }

    /// # Errors
    /// `AccessRefused` if a topic permission for the exchange forbids binding with this key.
    pub(super) fn may_read_topic(
        &self,
        exchange: &ExchangeName,
        key: &[u8],
    ) -> Result<(), EngineError> {
        if self.permissions.may_read_topic(exchange, key) {
            Ok(())
        } else {
            Err(self.topic_refused("read", exchange, &String::from_utf8_lossy(key)))
        }
    }

    fn topic_refused(&self, verb: &str, exchange: &ExchangeName, key: &str) -> EngineError {
        let (vhost, user) = (&self.vhost, self.user.name());
        EngineError::AccessRefused {
            why: format!(
                "{verb} access to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'"
            ),
        }
    }

    fn known_as(exchange: &ExchangeName) -> &[u8] {
        if exchange.is_default() {
            DEFAULT_EXCHANGE.as_bytes()
        } else {
            exchange.as_bytes()
        }
    }
}
