//! Declaring exchanges, and binding queues to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Bound, Exchange, ExchangeSpec, Vhost};
use crate::engine::binding::Binding;
use crate::engine::definition::{self, Definition};
use crate::engine::error::{EngineError, Kind};
use crate::engine::name::{ExchangeName, QueueName, RoutingKey};
use crate::engine::principal::Principal;
use crate::engine::queue::{Durability, LocalQueue, Queue};
use crate::engine::turn::Turn;

impl Vhost {
    /// An exchange that `who` may publish to with this key.
    ///
    /// # Errors
    /// `AccessRefused` without write permission on the exchange or the topic, `NotFound`.
    pub fn check_publish(
        &self,
        who: &Principal,
        exchange: &ExchangeName,
        key: &RoutingKey,
    ) -> Result<(), EngineError> {
        who.may_write_exchange(exchange)?;
        if exchange.is_default() {
            return Ok(());
        }
        self.exchange(exchange)?;
        who.may_write_topic(exchange, key)
    }

    /// Declares an exchange: makes it, or finds the one that is there.
    ///
    /// # Errors
    /// `AccessRefused` without configure permission, or for a new name starting `amq.` or the default
    /// exchange; `Inequivalent`.
    pub fn declare_exchange(
        &self,
        turn: &mut Turn<'_>,
        who: &Principal,
        name: &ExchangeName,
        spec: &ExchangeSpec,
    ) -> Result<(), EngineError> {
        who.may_configure_exchange(name)?;
        if name.is_default() {
            return Err(EngineError::AccessRefused {
                why: "operation not permitted on the default exchange".to_owned(),
            });
        }
        turn.open_unit();
        let topology = self.topology.lock();
        if let Ok(exchange) = self.exchange(name) {
            return exchange.check_equivalent(spec, &self.name);
        }
        if name.is_reserved() {
            return Err(EngineError::AccessRefused {
                why: format!("exchange name '{name}' contains reserved prefix 'amq.*'"),
            });
        }
        if spec.durability == Durability::Durable {
            turn.define(
                definition::exchange_key(&self.name, name),
                &Definition::Exchange {
                    vhost: self.name.clone(),
                    name: name.clone(),
                    exchange_kind: spec.kind,
                    auto_delete: spec.auto_delete,
                    arguments: spec.arguments.clone(),
                },
            );
        }
        self.add_exchange(name, spec);
        drop(topology);
        Ok(())
    }

    /// Puts an exchange into the vhost; its definition is the caller's affair.
    pub(in crate::engine) fn add_exchange(&self, name: &ExchangeName, spec: &ExchangeSpec) {
        let name = name.compact();
        self.exchanges.insert(
            name.clone(),
            Arc::new(Exchange::new(
                self.core.next_exchange_id(),
                name,
                spec.clone(),
            )),
        );
        self.routes_changed();
    }

    /// Checks that `who` may bind the queue of this name, there or not, to an exchange that must be there.
    ///
    /// # Errors
    /// As [`Vhost::bind`].
    pub fn check_bind(
        &self,
        who: &Principal,
        exchange: &ExchangeName,
        queue: &QueueName,
        key: &[u8],
    ) -> Result<(), EngineError> {
        who.may_write_queue(queue)?;
        who.may_read_exchange(exchange)?;
        if exchange.is_default() {
            return Err(EngineError::AccessRefused {
                why: "operation not permitted on the default exchange".to_owned(),
            });
        }
        who.may_read_topic(exchange, key)?;
        self.exchange(exchange).map(|_| ())
    }

    /// Binds a queue to an exchange, in place of its bindings to that exchange that `replaced` names.
    ///
    /// # Errors
    /// As [`Vhost::bind`].
    pub fn bind_instead(
        &self,
        turn: &mut Turn<'_>,
        who: &Principal,
        exchange: &ExchangeName,
        queue: &Arc<LocalQueue>,
        binding: Binding,
        replaced: impl Fn(&Binding) -> bool,
    ) -> Result<(), EngineError> {
        let goes = |other: &Binding| *other != binding && replaced(other);
        let others = self.bindings(exchange, queue);
        self.bind(turn, who, exchange, queue, binding.clone())?;
        if others.iter().any(goes) {
            self.unbind(turn, who, exchange, queue, goes)?;
        }
        Ok(())
    }

    /// Binds a queue to an exchange. Binding the same again changes nothing.
    ///
    /// # Errors
    /// `AccessRefused` without write permission on the queue and read permission on exchange and
    /// topic, or for the default exchange, to which every queue is bound by its name and nothing else
    /// can be; `NotFound`; `InvalidArgument` for arguments that this kind of exchange does not take.
    pub fn bind(
        &self,
        turn: &mut Turn<'_>,
        who: &Principal,
        exchange: &ExchangeName,
        queue: &Arc<LocalQueue>,
        binding: Binding,
    ) -> Result<(), EngineError> {
        self.check_bind(who, exchange, queue.name(), binding.key().as_bytes())?;
        turn.open_unit();
        let mut topology = self.topology.lock();
        let source = self.exchange(exchange)?;
        // A queue deleted since it was looked up must not be bound again.
        if self
            .queue(queue.name())
            .is_none_or(|known| known.id() != queue.id())
        {
            return Err(EngineError::NotFound {
                kind: Kind::Queue,
                name: queue.name().to_string(),
                vhost: self.name.clone(),
            });
        }
        let known = topology.get(&queue.id()).is_some_and(|bound| {
            bound
                .iter()
                .any(|bound| bound.exchange == *exchange && bound.binding == binding)
        });
        if known {
            return Ok(());
        }
        let lasts = source.spec().durability == Durability::Durable && queue.spec().lasts();
        let record = lasts.then(|| self.core.next_binding.fetch_add(1, Ordering::Relaxed));
        source.bind(&binding, queue)?;
        if let Some(id) = record {
            turn.define(
                definition::binding_key(id),
                &Definition::Binding {
                    id,
                    exchange: exchange.clone(),
                    queue: queue.id().0,
                    key: binding.key().clone(),
                    arguments: binding.arguments().clone(),
                    filter_tags: binding.filter().map(ToString::to_string),
                },
            );
        }
        topology.entry(queue.id()).or_default().push(Bound {
            exchange: exchange.compact(),
            binding,
            record,
        });
        drop(topology);
        self.routes_changed();
        Ok(())
    }

    /// Restores a binding that recovery found.
    pub(in crate::engine) fn rebind(
        &self,
        exchange: &ExchangeName,
        queue: &Arc<LocalQueue>,
        binding: Binding,
        record: u64,
    ) -> Result<(), EngineError> {
        let mut topology = self.topology.lock();
        self.exchange(exchange)?.bind(&binding, queue)?;
        topology.entry(queue.id()).or_default().push(Bound {
            exchange: exchange.clone(),
            binding,
            record: Some(record),
        });
        drop(topology);
        self.routes_changed();
        Ok(())
    }

    /// Removes the bindings of a queue for which `chosen` is true. Missing ones are no error.
    ///
    /// # Errors
    /// `AccessRefused` without write permission on the queue and read permission on the exchange.
    pub fn unbind(
        &self,
        turn: &mut Turn<'_>,
        who: &Principal,
        exchange: &ExchangeName,
        queue: &Arc<LocalQueue>,
        chosen: impl Fn(&Binding) -> bool,
    ) -> Result<(), EngineError> {
        who.may_write_queue(queue.name())?;
        who.may_read_exchange(exchange)?;
        turn.open_unit();
        let mut topology = self.topology.lock();
        let source = self.exchange(exchange)?;
        let mut unbound = false;
        if let Some(bound) = topology.get_mut(&queue.id()) {
            bound.retain(|bound| {
                let goes = bound.exchange == *exchange && chosen(&bound.binding);
                if goes {
                    unbound = true;
                    source.unbind(&bound.binding, queue);
                    if let Some(record) = bound.record {
                        turn.undefine(definition::binding_key(record));
                    }
                }
                !goes
            });
        }
        if unbound {
            self.routes_changed();
            self.delete_exchange_if_unused(turn, exchange);
        }
        drop(topology);
        Ok(())
    }

    /// The bindings of a queue to one exchange.
    pub fn bindings(&self, exchange: &ExchangeName, queue: &LocalQueue) -> Vec<Binding> {
        let topology = self.topology.lock();
        let bound = topology
            .get(&queue.id())
            .map(Vec::as_slice)
            .unwrap_or_default();
        bound
            .iter()
            .filter(|bound| bound.exchange == *exchange)
            .map(|bound| bound.binding.clone())
            .collect()
    }

    /// Deletes an auto-delete exchange whose last binding went. The topology lock is held.
    pub(super) fn delete_exchange_if_unused(&self, turn: &mut Turn<'_>, name: &ExchangeName) {
        let Ok(exchange) = self.exchange(name) else {
            return;
        };
        if exchange.spec().auto_delete && exchange.is_unbound() {
            self.exchanges.remove(name);
            if exchange.spec().durability == Durability::Durable {
                turn.undefine(definition::exchange_key(&self.name, name));
            }
            self.routes_changed();
        }
    }
}
