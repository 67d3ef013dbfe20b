//! A virtual host: its queues, its exchanges, and the bindings between them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::broker::Core;
use super::error::{EngineError, Kind};
use super::exchange::{Exchange, ExchangeKind, Route};
use super::message::Message;
use super::name::{ExchangeName, QueueName, RoutingKey, VhostName};
use super::queue::{LocalQueue, Queue};
use super::timers::Timers;
use super::turn::Turn;
use crate::storage::{CommitNumber, QueueId, Waiter};

mod exchanges;
mod keeper;
mod queues;

pub use exchanges::ExchangeSpec;
pub use queues::{Declared, Mismatch};

/// A binding as the topology remembers it: from where, and under which record it is stored.
#[derive(Debug)]
struct Bound {
    exchange: ExchangeName,
    binding: super::binding::Binding,
    record: Option<u64>,
}

/// A virtual host. Names in one mean nothing in another.
///
/// Declarations, bindings and deletions are serialised by one lock (`topology`), taken after the
/// turn's unit is open and before any queue's; publishing and consuming never take it.
pub struct Vhost {
    me: Weak<Vhost>,
    name: VhostName,
    core: Arc<Core>,
    queues: DashMap<QueueName, Arc<LocalQueue>>,
    exchanges: DashMap<ExchangeName, Arc<Exchange>>,
    topology: Mutex<HashMap<QueueId, Vec<Bound>>>,
    /// Raised by every change that can alter a route; cached routes of an older version are stale.
    version: AtomicU64,
    timers: Arc<Timers>,
    reveals: Arc<keeper::Reveals>,
}

impl Vhost {
    pub(super) fn new(name: VhostName, core: Arc<Core>) -> Arc<Self> {
        let vhost = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            name,
            core,
            queues: DashMap::new(),
            exchanges: DashMap::new(),
            topology: Mutex::default(),
            version: AtomicU64::new(1),
            timers: Arc::default(),
            reveals: Arc::default(),
        });
        for (name, kind) in [
            ("amq.direct", ExchangeKind::Direct),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.topic", ExchangeKind::Topic),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
        ] {
            let name = ExchangeName::from_static(name);
            vhost.exchanges.insert(name.clone(), Arc::new(Exchange::new(name, ExchangeSpec::predeclared(kind))));
        }
        vhost
    }

    /// Starts the vhost's task. Call it inside a runtime.
    pub(super) fn start(&self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(keeper::keep(Weak::clone(&self.me), Arc::clone(&self.core)))
    }

    /// Its name.
    pub fn name(&self) -> &VhostName {
        &self.name
    }

    /// The broker's shared parts.
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// The version that cached routes are checked against.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn routes_changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// A queue by name, whoever may use it.
    pub fn queue(&self, name: &QueueName) -> Option<Arc<LocalQueue>> {
        self.queues.get(name).map(|entry| Arc::clone(entry.value()))
    }

    /// All queues, in no order.
    pub fn queues(&self) -> Vec<Arc<LocalQueue>> {
        self.queues.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    pub(super) fn exchange(&self, name: &ExchangeName) -> Result<Arc<Exchange>, EngineError> {
        self.exchanges.get(name).map(|entry| Arc::clone(entry.value())).ok_or_else(|| EngineError::NotFound {
            kind: Kind::Exchange,
            name: name.to_string(),
            vhost: self.name.clone(),
        })
    }

    /// The routes for a key, before any filter; `None` if they depend on more than the key.
    ///
    /// # Errors
    /// `NotFound` if the exchange does not exist.
    pub(super) fn routes(&self, exchange: &ExchangeName, key: &RoutingKey) -> Result<Option<Arc<[Route]>>, EngineError> {
        if exchange.is_default() {
            let queue = self.queues.get(key.as_bytes()).map(|entry| Arc::clone(entry.value()));
            return Ok(Some(queue.into_iter().map(Route::unfiltered).collect()));
        }
        Ok(self.exchange(exchange)?.routes(key))
    }

    /// The queues that a message goes to, each once.
    ///
    /// # Errors
    /// `NotFound` if the exchange does not exist.
    pub(super) fn targets(&self, exchange: &ExchangeName, key: &RoutingKey, message: &Message) -> Result<Vec<Arc<dyn Queue>>, EngineError> {
        let routes = match self.routes(exchange, key)? {
            Some(routes) => routes,
            None => self.exchange(exchange)?.routes_by_headers(message),
        };
        Ok(routes.iter().filter(|route| route.admits(message)).map(Route::queue).collect())
    }

    /// Shows the sends of a transaction once `commit` is on disk.
    pub(super) fn reveal_at(&self, turn: &mut Turn<'_>, commit: CommitNumber, queues: Vec<Arc<dyn Queue>>) {
        if queues.is_empty() {
            return;
        }
        self.reveals.push(commit, queues);
        let reveals: Arc<dyn Waiter> = Arc::clone(&self.reveals) as Arc<dyn Waiter>;
        turn.unit().wait(&reveals);
    }
}

impl std::fmt::Debug for Vhost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vhost").field("name", &self.name).finish_non_exhaustive()
    }
}
