//! Declaring and deleting queues.

use std::sync::Arc;

use dashmap::mapref::entry::Entry;

use super::Vhost;
use crate::engine::definition::{self, Definition};
use crate::engine::error::{EngineError, Kind};
use crate::engine::name::{ExchangeName, QueueName};
use crate::engine::principal::Principal;
use crate::engine::queue::{LocalQueue, Queue, QueueArguments, QueueSpec};
use crate::engine::turn::Turn;
use crate::storage::QueueId;

/// What to do when a queue exists with other arguments than asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mismatch {
    /// Refuse, naming the argument and both values.
    #[default]
    Error,
    /// Refuse an argument that is given and differs; what is not given is as the queue has it.
    ErrorIfGiven,
    /// Take the queue as it is.
    UseExisting,
}

/// The outcome of a declaration.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The queue.
    pub queue: Arc<LocalQueue>,
    /// Whether this declaration made it.
    pub created: bool,
}

impl Vhost {
    fn not_found(&self, name: &QueueName) -> EngineError {
        EngineError::NotFound {
            kind: Kind::Queue,
            name: name.to_string(),
            vhost: self.name.clone(),
        }
    }

    fn check_owner(&self, queue: &LocalQueue, who: &Principal) -> Result<(), EngineError> {
        match queue.spec().exclusive {
            Some(owner) if owner != who.owner => Err(EngineError::ResourceLocked {
                queue: queue.name().clone(),
                vhost: self.name.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// A queue that `who` may consume from.
    ///
    /// # Errors
    /// `AccessRefused` without read permission, `NotFound`, `ResourceLocked`.
    pub fn queue_to_read(
        &self,
        turn: &mut Turn<'_>,
        who: &Principal,
        name: &QueueName,
    ) -> Result<Arc<LocalQueue>, EngineError> {
        who.may_read_queue(name)?;
        let queue = self.queue(name).ok_or_else(|| self.not_found(name))?;
        self.check_owner(&queue, who)?;
        queue.touch(turn);
        Ok(queue)
    }

    /// Declares a queue: makes it, or finds the one that is there.
    ///
    /// # Errors
    /// `AccessRefused` without configure permission (and, for a dead-letter exchange, read on the queue
    /// and write on that exchange), `ResourceLocked`, `Inequivalent` unless `mismatch` says to use what
    /// is there, `InvalidArgument`, `Unsupported`.
    pub fn declare_queue(
        &self,
        turn: &mut Turn<'_>,
        who: &Principal,
        name: &QueueName,
        spec: &QueueSpec,
        mismatch: Mismatch,
    ) -> Result<Declared, EngineError> {
        who.may_configure_queue(name)?;
        if let Some(queue) = self.queue(name) {
            return self.redeclared(turn, who, queue, spec, mismatch);
        }
        let parsed = QueueArguments::parse(&spec.arguments)?;
        if let Some(exchange) = &parsed.dead_letter_exchange {
            who.may_read_queue(name)?;
            who.may_write_exchange(exchange)?;
        }
        turn.open_unit();
        let topology = self.topology.lock();
        // Somebody may have been faster than this lock.
        if let Some(queue) = self.queue(name) {
            drop(topology);
            return self.redeclared(turn, who, queue, spec, mismatch);
        }
        let id = self.core.next_queue_id();
        if spec.lasts() {
            turn.define(
                definition::queue_key(id),
                &Definition::Queue {
                    id: id.0,
                    vhost: self.name.clone(),
                    name: name.clone(),
                    auto_delete: spec.auto_delete,
                    arguments: spec.arguments.clone(),
                },
            );
        }
        let queue = self.add_queue(turn, id, name, spec, parsed);
        drop(topology);
        Ok(Declared {
            queue,
            created: true,
        })
    }

    fn redeclared(
        &self,
        turn: &mut Turn<'_>,
        who: &Principal,
        queue: Arc<LocalQueue>,
        spec: &QueueSpec,
        mismatch: Mismatch,
    ) -> Result<Declared, EngineError> {
        self.check_owner(&queue, who)?;
        match mismatch {
            Mismatch::Error => queue.check_equivalent(spec, true)?,
            Mismatch::ErrorIfGiven => queue.check_equivalent(spec, false)?,
            Mismatch::UseExisting => {}
        }
        queue.touch(turn);
        Ok(Declared {
            queue,
            created: false,
        })
    }

    /// Puts a queue into the vhost; its definition is the caller's affair.
    pub(in crate::engine) fn add_queue(
        &self,
        turn: &mut Turn<'_>,
        id: QueueId,
        name: &QueueName,
        spec: &QueueSpec,
        parsed: QueueArguments,
    ) -> Arc<LocalQueue> {
        let name = name.compact();
        let queue = LocalQueue::new(
            id,
            name.clone(),
            (self.me.clone(), self.name.clone()),
            spec.clone(),
            parsed,
            turn.now,
        );
        self.queues.insert(name, Arc::clone(&queue));
        // Arms the timer of x-expires.
        queue.touch(turn);
        self.routes_changed();
        queue
    }

    /// Deletes a queue with all it holds. A missing queue is no error. Returns the messages that were ready.
    ///
    /// # Errors
    /// `AccessRefused` without configure permission, `ResourceLocked`.
    pub fn delete_queue(
        &self,
        turn: &mut Turn<'_>,
        who: &Principal,
        name: &QueueName,
    ) -> Result<usize, EngineError> {
        who.may_configure_queue(name)?;
        let Some(queue) = self.queue(name) else {
            return Ok(0);
        };
        self.check_owner(&queue, who)?;
        Ok(self.remove_queue(turn, &queue))
    }

    /// Deletes an exclusive queue of a connection that closes.
    pub fn delete_exclusive(&self, turn: &mut Turn<'_>, queue: &Arc<LocalQueue>) {
        self.remove_queue(turn, queue);
    }

    /// Deletes an auto-delete or expired queue, unless a consumer came meanwhile.
    pub(in crate::engine) fn delete_unused(&self, turn: &mut Turn<'_>, queue: &Arc<LocalQueue>) {
        if queue.is_unused() {
            tracing::debug!(vhost = %self.name, queue = %queue.name(), "queue deleted: nobody uses it any more");
            self.remove_queue(turn, queue);
        }
    }

    fn remove_queue(&self, turn: &mut Turn<'_>, queue: &Arc<LocalQueue>) -> usize {
        turn.open_unit();
        let mut topology = self.topology.lock();
        match self.queues.entry(queue.name().clone()) {
            // Another queue may have taken the name since.
            Entry::Occupied(entry) if entry.get().id() == queue.id() => {
                entry.remove();
            }
            _ => return 0,
        }
        let bound = topology.remove(&queue.id()).unwrap_or_default();
        let mut sources: Vec<ExchangeName> = Vec::new();
        for bound in bound {
            if let Ok(exchange) = self.exchange(&bound.exchange) {
                exchange.unbind(&bound.binding, queue);
            }
            if let Some(record) = bound.record {
                turn.undefine(definition::binding_key(record));
            }
            if !sources.contains(&bound.exchange) {
                sources.push(bound.exchange);
            }
        }
        self.routes_changed();
        let ready = queue.depth().ready;
        queue.close(turn);
        if queue.spec().lasts() {
            turn.undefine(definition::queue_key(queue.id()));
        }
        queue.forget(turn);
        for source in sources {
            self.delete_exchange_if_unused(turn, &source);
        }
        drop(topology);
        ready
    }
}
