//! The broker: its vhosts, and what they share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;

use super::access::Access;
use super::binding::Binding;
use super::clock::Clock;
use super::definition::Definition;
use super::error::{EngineError, Kind};
use super::filter::TagFilter;
use super::flow::{self, Brake};
use super::memory::Memory;
use super::message::MessageId;
use super::name::VhostName;
use super::outbox::Outbox;
use super::pager::{self, Pager};
use super::queue::{Durability, LocalQueue, Queue, QueueArguments, QueueSpec};
use super::turn::Turn;
use super::vhost::{ExchangeSpec, Vhost};
use crate::storage::{Journal, Loss, QueueId, Recovered};

/// What all vhosts share.
pub struct Core {
    /// The log.
    pub journal: Journal,
    /// The account of memory.
    pub memory: Arc<Memory>,
    /// All time comes from here.
    pub clock: Clock,
    /// Publishers held back until there is memory.
    memory_brake: Arc<Brake>,
    /// Publishers held back until the log has caught up.
    log_brake: Arc<Brake>,
    /// What moves messages between queues and the disk.
    pub(super) pager: Arc<Pager>,
    disk_low: AtomicBool,
    next_message: AtomicU64,
    next_queue: AtomicU64,
    next_exchange: AtomicU64,
    pub(super) next_binding: AtomicU64,
}

/// The number of every vhost's default exchange in the caches of routes.
pub(super) const DEFAULT_EXCHANGE_ID: u64 = 0;

/// How far the millisecond of the start is shifted in a message id.
const ID_SHIFT: u32 = 22;

impl Core {
    fn new(journal: Journal, memory: Arc<Memory>, clock: Clock) -> Arc<Self> {
        let first = clock.now().wall_ms << ID_SHIFT;
        Arc::new(Self {
            journal,
            memory,
            clock,
            memory_brake: Arc::default(),
            log_brake: Arc::default(),
            pager: Arc::default(),
            disk_low: AtomicBool::new(false),
            next_message: AtomicU64::new(first),
            next_queue: AtomicU64::new(1),
            next_exchange: AtomicU64::new(DEFAULT_EXCHANGE_ID + 1),
            next_binding: AtomicU64::new(1),
        })
    }

    /// An id for a new message.
    pub fn next_message_id(&self) -> MessageId {
        MessageId(self.next_message.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn next_exchange_id(&self) -> u64 {
        self.next_exchange.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn next_queue_id(&self) -> QueueId {
        QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether free disk space is below its floor: messages are refused, consumers go on.
    pub fn is_disk_low(&self) -> bool {
        self.disk_low.load(Ordering::Relaxed)
    }

    /// Whether even the reserve of memory is used up: messages are refused, settling goes on.
    pub fn is_memory_low(&self) -> bool {
        self.memory.pressure() && !self.memory.has_reserve()
    }

    /// Notes what a look at the disk found.
    pub fn set_disk_low(&self, low: bool) {
        self.disk_low.store(low, Ordering::Relaxed);
    }

    /// Whether more is appended to the log and not on disk than may be.
    fn is_log_behind(&self) -> bool {
        self.journal.backlog_bytes() > self.journal.backlog_limit_bytes()
    }
}

/// The broker.
pub struct Broker {
    core: Arc<Core>,
    vhosts: DashMap<VhostName, Arc<Vhost>>,
    access: Access,
}

/// What recovery put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Durable queues.
    pub queues: usize,
    /// Their messages.
    pub messages: usize,
}

impl Broker {
    /// A broker with the vhosts given, and with everything that recovery found. A queue that lost
    /// something is quarantined, the others are served.
    ///
    /// # Errors
    /// A sentence, if a definition or message on disk cannot be read, or it is not known what is lost:
    /// the broker must not start and pretend that it was never there.
    pub fn open(
        journal: Journal,
        recovered: Recovered,
        vhosts: &[VhostName],
        access: Access,
        memory: Arc<Memory>,
        clock: Clock,
    ) -> Result<(Arc<Self>, Restored), String> {
        let broker = Self {
            core: Core::new(journal, memory, clock),
            vhosts: DashMap::new(),
            access,
        };
        for name in vhosts {
            broker.add_vhost(name);
        }
        let restored = broker.restore(recovered)?;
        Ok((Arc::new(broker), restored))
    }

    fn add_vhost(&self, name: &VhostName) -> Arc<Vhost> {
        let entry = self
            .vhosts
            .entry(name.clone())
            .or_insert_with(|| Vhost::new(name.compact(), Arc::clone(&self.core)));
        Arc::clone(entry.value())
    }

    /// Goes on without what is lost: it is not looked for again.
    pub fn write_off(&self, losses: &[Loss]) {
        let mut turn = Turn::begin(&self.core);
        for loss in losses {
            if let Loss::Messages { queue, first, last } = loss {
                turn.write_off(*queue, *first, *last);
            }
        }
        turn.finish();
    }

    /// Starts the vhosts' tasks and those of all. Call it inside a runtime.
    pub fn start(&self) {
        for vhost in &self.vhosts {
            vhost.start();
        }
        let core = &self.core;
        tokio::spawn(pager::run(Arc::downgrade(core)));
        let release = |brake: &Arc<Brake>, pressed| {
            tokio::spawn(flow::release_when_relieved(
                Arc::downgrade(core),
                Arc::clone(brake),
                pressed,
            ))
        };
        release(&core.memory_brake, |core| core.memory.pressure());
        release(&core.log_brake, Core::is_log_behind);
    }

    /// What all vhosts share.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Whether a publisher with this outbox should pause; if so it is woken when it may go on.
    ///
    /// One that holds unsettled deliveries (`settles`) does not pause for memory, because settling is what
    /// makes room: it publishes out of the reserve, and is refused beyond it. It does pause for the log,
    /// which catches up by itself.
    pub fn must_pause(&self, outbox: &Arc<Outbox>, settles: bool) -> bool {
        let core = &self.core;
        let behind = core.is_log_behind();
        if behind {
            core.log_brake.hold(outbox);
        }
        let short = !settles && core.memory.pressure();
        if short {
            core.memory_brake.hold(outbox);
        }
        behind || short
    }

    /// Users and permissions.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// A vhost by name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn vhost(&self, name: &VhostName) -> Result<Arc<Vhost>, EngineError> {
        self.vhosts
            .get(name)
            .map(|entry| Arc::clone(entry.value()))
            .ok_or_else(|| EngineError::NotFound {
                kind: Kind::Vhost,
                name: name.to_string(),
                vhost: name.clone(),
            })
    }

    fn restore(&self, recovered: Recovered) -> Result<Restored, String> {
        let mut queues: BTreeMap<u64, Arc<LocalQueue>> = BTreeMap::new();
        let mut bindings = Vec::new();
        let mut turn = Turn::begin(&self.core);
        for (key, value) in &recovered.definitions {
            match Definition::decode(key, value)? {
                Definition::Queue {
                    id,
                    vhost,
                    name,
                    auto_delete,
                    arguments,
                } => {
                    let spec = QueueSpec {
                        durability: Durability::Durable,
                        exclusive: None,
                        auto_delete,
                        arguments,
                    };
                    let parsed = QueueArguments::parse(&spec.arguments)
                        .map_err(|error| format!("queue '{name}' on disk: {error}"))?;
                    queues.insert(
                        id,
                        self.vhost_of(&vhost).add_queue(
                            &mut turn,
                            QueueId(id),
                            &name,
                            &spec,
                            parsed,
                        ),
                    );
                }
                Definition::Exchange {
                    vhost,
                    name,
                    exchange_kind,
                    auto_delete,
                    arguments,
                } => {
                    let spec = ExchangeSpec {
                        kind: exchange_kind,
                        durability: Durability::Durable,
                        auto_delete,
                        arguments,
                    };
                    self.vhost_of(&vhost).add_exchange(&name, &spec);
                }
                binding @ Definition::Binding { .. } => bindings.push(binding),
            }
        }
        for definition in bindings {
            let Definition::Binding {
                id,
                exchange,
                queue,
                key,
                arguments,
                filter_tags,
            } = definition
            else {
                continue;
            };
            let Some(queue) = queues.get(&queue) else {
                continue;
            };
            let mut binding = Binding::new(key, arguments)
                .map_err(|error| format!("binding {id} on disk: {error}"))?;
            if let Some(tags) = filter_tags {
                let filter = TagFilter::parse(tags.as_bytes())
                    .map_err(|error| format!("binding {id} on disk: {error}"))?;
                binding = binding.with_filter(filter);
            }
            if let Some(vhost) = queue.vhost() {
                vhost
                    .rebind(&exchange, queue, binding, id)
                    .map_err(|error| format!("binding {id} on disk: {error}"))?;
            }
            self.core.next_binding.fetch_max(id + 1, Ordering::Relaxed);
        }
        let highest = queues
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
            .max(recovered.next_queue.0.saturating_sub(1));
        self.core
            .next_queue
            .fetch_max(highest + 1, Ordering::Relaxed);
        let mut restored = Restored {
            queues: queues.len(),
            messages: 0,
        };
        for (id, contents) in recovered.queues {
            let Some(queue) = queues.get(&id.0) else {
                // Deleted, but not to the end.
                turn.forget(id);
                continue;
            };
            restored.messages += queue.recover(&mut turn, &contents, !recovered.clean)?;
        }
        for loss in &recovered.losses {
            let queue = match loss {
                Loss::Messages { queue, .. } | Loss::Settled { queue } => queues.get(&queue.0),
                Loss::Commits { .. } | Loss::Checkpoint { .. } => {
                    return Err(format!(
                        "{loss}. Restore the data directory from a backup, or start once with --accept-data-loss to go on without what is lost"
                    ));
                }
            };
            if let Some(queue) = queue {
                tracing::error!(queue = %queue.name(), %loss, "queue quarantined: the others are served");
                queue.quarantine(loss.to_string());
            }
        }
        turn.finish();
        Ok(restored)
    }

    /// The vhost that a stored object is in. It is made if the configuration no longer names it, so
    /// that its messages are kept; nobody can log in to it until somebody may.
    fn vhost_of(&self, name: &VhostName) -> Arc<Vhost> {
        if !self.vhosts.contains_key(name) {
            tracing::warn!(vhost = %name, "the store holds queues of a vhost that the configuration does not declare; they are kept");
        }
        self.add_vhost(name)
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
