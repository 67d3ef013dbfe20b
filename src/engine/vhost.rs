//! A virtual host: its queues, its exchanges, and the bindings between them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::broker::Core;
use super::error::{EngineError, Kind};
use super::exchange::ExchangeKind;
use super::message::Message;
use super::name::{ExchangeName, QueueName, RoutingKey, VhostName};
use super::queue::{LocalQueue, Queue, Target};
use super::route::{RouteSet, RouteVersion};
use super::timers::Timers;
use super::turn::Turn;
use crate::storage::{CommitNumber, QueueId, Waiter};

mod exchange;
mod exchanges;
mod keeper;
mod queues;

pub(super) use exchange::Exchange;
pub use exchange::ExchangeSpec;
pub use queues::{Declared, Mismatch};

/// The header with the tags that filters on bindings look at.
pub(super) const TAGS_HEADER: &[u8] = b"tags";

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
    version: RouteVersion,
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
            version: RouteVersion::default(),
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
            vhost.exchanges.insert(
                name.clone(),
                Arc::new(Exchange::new(
                    vhost.core.next_exchange_id(),
                    name,
                    ExchangeSpec::predeclared(kind),
                )),
            );
        }
        vhost.core.pager.watch(Weak::clone(&vhost.me));
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

    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// The version that cached routes are checked against.
    pub(super) fn route_version(&self) -> &RouteVersion {
        &self.version
    }

    /// Rises with every change of queues, exchanges and bindings.
    pub fn version(&self) -> u64 {
        self.version.current()
    }

    fn routes_changed(&self) {
        self.version.bump();
    }

    /// A queue by name, whoever may use it.
    pub fn queue(&self, name: &QueueName) -> Option<Arc<LocalQueue>> {
        self.queues.get(name).map(|entry| Arc::clone(entry.value()))
    }

    /// All queues, in no order.
    pub fn queues(&self) -> Vec<Arc<LocalQueue>> {
        self.queues
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }

    pub(super) fn exchange(&self, name: &ExchangeName) -> Result<Arc<Exchange>, EngineError> {
        self.exchanges
            .get(name)
            .map(|entry| Arc::clone(entry.value()))
            .ok_or_else(|| EngineError::NotFound {
                kind: Kind::Exchange,
                name: name.to_string(),
                vhost: self.name.clone(),
            })
    }

    /// Adds the queue that the default exchange routes a key to: the one of that name.
    pub(super) fn route_by_name(&self, key: &RoutingKey, routes: &mut RouteSet<Target>) {
        if let Some(queue) = self.queues.get(key.as_bytes()) {
            routes.add(&Target(Arc::clone(queue.value()) as Arc<dyn Queue>), &[]);
        }
    }

    /// The queues that a message goes to, each once.
    ///
    /// # Errors
    /// `NotFound` if the exchange does not exist.
    pub(super) fn targets(
        &self,
        exchange: &ExchangeName,
        key: &RoutingKey,
        message: &Message,
    ) -> Result<Vec<Arc<dyn Queue>>, EngineError> {
        let mut routes = RouteSet::new();
        if exchange.is_default() {
            self.route_by_name(key, &mut routes);
        } else {
            self.exchange(exchange)?.route(key, message, &mut routes);
        }
        let tags = message.header(TAGS_HEADER);
        let targets = routes
            .into_routes()
            .into_iter()
            .filter(|route| route.accepts(tags.as_deref()));
        Ok(targets.map(|route| route.target.0).collect())
    }

    /// Shows the sends of a transaction once `commit` is on disk.
    pub(super) fn reveal_at(
        &self,
        turn: &mut Turn<'_>,
        commit: CommitNumber,
        queues: Vec<Arc<dyn Queue>>,
    ) {
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
        f.debug_struct("Vhost")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
