//! Transactions: sends and settlements that take effect together or not at all.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::delivery::{Outcome, Token};
use super::error::EngineError;
use super::message::Message;
use super::queue::Queue;
use super::turn::Turn;
use super::vhost::Vhost;
use crate::storage::QueueId;

/// What a client did since it began the transaction. Dropping it is the abort: deliveries stay held.
#[derive(Debug, Default)]
pub struct Transaction {
    sends: Vec<Send>,
    settlements: Vec<(Arc<dyn Queue>, Token, Outcome)>,
}

#[derive(Debug)]
struct Send {
    message: Arc<Message>,
    mandatory: bool,
}

/// One queue's part of a transaction.
struct Part {
    queue: Arc<dyn Queue>,
    messages: Vec<Arc<Message>>,
    settlements: Vec<(Token, Outcome)>,
}

impl Transaction {
    /// Adds a send. A `mandatory` one fails the transaction if no queue is bound for it.
    pub fn send(&mut self, message: Message, mandatory: bool) {
        self.sends.push(Send {
            message: Arc::new(message),
            mandatory,
        });
    }

    /// Adds the settlement of a delivery.
    pub fn settle(&mut self, queue: Arc<dyn Queue>, token: Token, outcome: Outcome) {
        self.settlements.push((queue, token, outcome));
    }

    /// Sends and settlements so far.
    pub fn len(&self) -> usize {
        self.sends.len() + self.settlements.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn parts(&mut self, vhost: &Vhost) -> Result<BTreeMap<QueueId, Part>, EngineError> {
        let mut parts: BTreeMap<QueueId, Part> = BTreeMap::new();
        let part = |parts: &mut BTreeMap<QueueId, Part>, queue: Arc<dyn Queue>| {
            parts
                .entry(queue.id())
                .or_insert_with(|| Part {
                    queue,
                    messages: Vec::new(),
                    settlements: Vec::new(),
                })
                .messages
                .len()
        };
        for send in &self.sends {
            let address = send.message.address();
            let targets = vhost.targets(&address.exchange, &address.routing_key, &send.message)?;
            if targets.is_empty() && send.mandatory {
                return Err(EngineError::Unroutable {
                    exchange: address.exchange.clone(),
                    routing_key: address.routing_key.to_string(),
                });
            }
            for target in targets {
                let id = target.id();
                part(&mut parts, target);
                if let Some(part) = parts.get_mut(&id) {
                    part.messages.push(Arc::clone(&send.message));
                }
            }
        }
        let mut settled = HashSet::with_capacity(self.settlements.len());
        for (queue, token, outcome) in self.settlements.drain(..) {
            let id = queue.id();
            if !settled.insert((id, token)) {
                return Err(EngineError::NotOutstanding);
            }
            part(&mut parts, queue);
            if let Some(part) = parts.get_mut(&id) {
                part.settlements.push((token, outcome));
            }
        }
        Ok(parts)
    }

    /// Commits: locks the queues in ascending id, checks everything, then does everything as one unit.
    ///
    /// Sends take their places now and become visible when the unit is on disk. The caller asks the
    /// turn for its promise afterwards.
    ///
    /// # Errors
    /// The first check that fails: a queue that would refuse, a delivery that is not outstanding, an
    /// unroutable mandatory send. Then nothing has happened.
    pub fn commit(mut self, turn: &mut Turn<'_>, vhost: &Arc<Vhost>) -> Result<(), EngineError> {
        let parts = self.parts(vhost)?;
        let mut queues = Vec::with_capacity(parts.len());
        for part in parts.values() {
            let Some(local) = part
                .queue
                .as_local()
                .filter(|_| part.queue.capabilities().transactions)
            else {
                return Err(EngineError::Unsupported {
                    what: format!(
                        "queue '{}' does not take part in transactions",
                        part.queue.name()
                    ),
                });
            };
            queues.push(local);
        }
        let lasts = queues.iter().any(|queue| queue.spec().lasts());
        // Also for transient queues: what they spilled is settled in it.
        turn.open_unit();
        let mut locked: Vec<_> = queues.iter().map(|queue| queue.lock()).collect();
        for (queue, part) in locked.iter().zip(parts.values()) {
            queue.check(&part.settlements, &part.messages)?;
        }
        let commit = lasts.then(|| {
            let unit = turn.unit();
            unit.keep();
            unit.number()
        });
        // The sends' own handles go, so that a message with one target can be made compact in place.
        self.sends.clear();
        let mut revealed = Vec::new();
        for (queue, part) in locked.iter_mut().zip(parts.values()) {
            queue.apply(turn, &part.settlements, part.messages.clone(), commit);
            if !part.messages.is_empty() {
                revealed.push(Arc::clone(&part.queue));
            }
        }
        drop(locked);
        if let Some(commit) = commit {
            vhost.reveal_at(turn, commit, revealed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
