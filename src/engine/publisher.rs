//! Publishing: from a batch of messages to the queues they are routed to.

use std::collections::HashMap;
use std::sync::Arc;

use super::broker::DEFAULT_EXCHANGE_ID;
use super::error::EngineError;
use super::message::{Address, Message};
use super::queue::{Fate, PublishBatch, Queue, Target};
use super::route::{RouteCache, Routes};
use super::turn::Turn;
use super::vhost::{TAGS_HEADER, Vhost};
use crate::storage::QueueId;

/// One connection's way into the queues of a vhost: routes what it publishes, remembering routes.
#[derive(Debug)]
pub struct Publisher {
    vhost: Arc<Vhost>,
    cache: RouteCache<Target>,
    /// The routes of the message before, which mostly serve for the next one too.
    last: Option<Last>,
    groups: Groups,
}

#[derive(Debug)]
struct Last {
    address: Arc<Address>,
    version: u64,
    routes: Routes<Target>,
}

/// The messages of a batch by queue, each queue's in the order published.
#[derive(Debug, Default)]
struct Groups {
    queues: Vec<(Arc<dyn Queue>, Vec<usize>)>,
    /// Where each queue is, once there are more than [`SCANNED_MAX`].
    index: HashMap<QueueId, usize>,
    /// The queue of the message before.
    last: usize,
    /// Emptied lists, kept for their memory.
    spare: Vec<Vec<usize>>,
}

/// Up to here, looking through the queues one by one is faster than hashing.
const SCANNED_MAX: usize = 8;

impl Groups {
    fn add(&mut self, queue: &Arc<dyn Queue>, item: usize) {
        let id = queue.id();
        let known = match self.queues.get(self.last) {
            Some((last, _)) if last.id() == id => Some(self.last),
            _ if self.queues.len() <= SCANNED_MAX => {
                self.queues.iter().position(|(known, _)| known.id() == id)
            }
            _ => self.index.get(&id).copied(),
        };
        self.last = known.unwrap_or_else(|| {
            self.queues
                .push((Arc::clone(queue), self.spare.pop().unwrap_or_default()));
            if self.queues.len() == SCANNED_MAX + 1 {
                self.index.extend(
                    self.queues
                        .iter()
                        .enumerate()
                        .map(|(at, (queue, _))| (queue.id(), at)),
                );
            } else if self.queues.len() > SCANNED_MAX {
                self.index.insert(id, self.queues.len() - 1);
            }
            self.queues.len() - 1
        });
        self.queues[self.last].1.push(item);
    }

    /// Enters every queue once.
    fn publish(&mut self, turn: &mut Turn<'_>, batch: &mut PublishBatch) {
        self.index.clear();
        self.last = 0;
        for (queue, mut items) in self.queues.drain(..) {
            queue.publish(turn, batch, &items);
            items.clear();
            if self.spare.len() < SCANNED_MAX {
                self.spare.push(items);
            }
        }
    }
}

impl Publisher {
    /// A publisher into the queues of `vhost`.
    pub fn new(vhost: Arc<Vhost>) -> Self {
        Self {
            vhost,
            cache: RouteCache::default(),
            last: None,
            groups: Groups::default(),
        }
    }

    /// Routes and enqueues all messages of the batch, and notes what became of each.
    pub fn publish(&mut self, turn: &mut Turn<'_>, batch: &mut PublishBatch) {
        let Self {
            vhost,
            cache,
            last,
            groups,
        } = self;
        for (at, item) in batch.items.iter_mut().enumerate() {
            match routes(vhost, cache, last, &item.message) {
                Ok(routes) => {
                    for route in routes.iter() {
                        let admitted = route.filters.is_empty()
                            || route.accepts(item.message.header(TAGS_HEADER).as_deref());
                        if admitted {
                            groups.add(&route.target.0, at);
                        }
                    }
                }
                Err(error) => item.fate = Fate::Refused(Box::new(error)),
            }
        }
        groups.publish(turn, batch);
    }
}

fn routes<'l>(
    vhost: &Vhost,
    cache: &mut RouteCache<Target>,
    last: &'l mut Option<Last>,
    message: &Message,
) -> Result<&'l Routes<Target>, EngineError> {
    let address = message.address();
    let version = vhost.version();
    let known = last
        .as_ref()
        .is_some_and(|last| last.version == version && Arc::ptr_eq(&last.address, address));
    if known {
        return Ok(&last.as_ref().expect("just looked at").routes);
    }
    let key = &address.routing_key;
    let mut by_key = true;
    let routes = if address.exchange.is_default() {
        cache.routes(vhost.route_version(), DEFAULT_EXCHANGE_ID, key, |routes| {
            vhost.route_by_name(key, routes)
        })
    } else {
        let exchange = vhost.exchange(&address.exchange)?;
        by_key = exchange.routes_by_key();
        cache.routes(vhost.route_version(), exchange.id(), key, |routes| {
            exchange.route(key, message, routes)
        })
    };
    // A version that cannot be: what depends on headers holds for this message only.
    let version = if by_key { version } else { u64::MAX };
    Ok(&last
        .insert(Last {
            address: Arc::clone(address),
            version,
            routes: Arc::clone(routes),
        })
        .routes)
}

#[cfg(test)]
mod tests;
