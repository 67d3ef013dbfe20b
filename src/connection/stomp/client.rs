//! What a logged-in client has: its subscriptions, what it holds, what it was promised to get.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millpond_protocol::stomp::Version;

use super::batch::Batch;
use super::deliver::{Encoder, Handle};
use super::options::StompOptions;
use super::publish::Plans;
use super::reply::{StompError, from_engine};
use super::settle::Settlements;
use super::subscription::{AckMode, Subscriptions};
use super::transactions::{TransactionLimits, Transactions};
use super::unsettled::Ledger;
use crate::connection::output::Output;
use crate::engine::broker::Broker;
use crate::engine::delivery::{Delivery, Outcome};
use crate::engine::outbox::{Item, Outbox};
use crate::engine::principal::Principal;
use crate::engine::publisher::Publisher;
use crate::engine::queue::{LocalQueue, Queue};
use crate::engine::turn::Turn;
use crate::engine::vhost::Vhost;

/// A word of 16 letters and digits that nobody can guess.
pub(super) fn random_word() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// What a logged-in client has.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) broker: Arc<Broker>,
    pub(super) options: Arc<StompOptions>,
    pub(super) principal: Principal,
    pub(super) vhost: Arc<Vhost>,
    pub(super) version: Version,
    pub(super) session: String,
    pub(super) client_id: Option<Bytes>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) subscriptions: Subscriptions,
    pub(super) reply_queues: HashMap<Bytes, Arc<LocalQueue>>,
    /// Exclusive queues this connection made.
    pub(super) exclusive: Vec<Arc<LocalQueue>>,
    pub(super) plans: Plans,
    pub(super) ledger: Ledger,
    pub(super) transactions: Transactions,
    pub(super) publisher: Publisher,
    pub(super) batch: Batch,
    /// Whether it ever sent a message.
    pub(super) publishes: bool,
    pub(super) encoder: Encoder,
    /// Deliveries under auto-ack that are encoded and not wholly written, in that order.
    unwritten: VecDeque<Unwritten>,
    auto_prefix: Bytes,
    auto_number: u64,
    /// Scratch space for what is taken from the outbox.
    pub(super) taken: Vec<Item>,
}

/// A delivery under auto-ack on its way to the socket.
#[derive(Debug)]
struct Unwritten {
    /// Where its frame ends, in bytes sent since the connection began.
    end: u64,
    queue: Arc<LocalQueue>,
    delivery: Delivery,
}

impl LoggedIn {
    /// A client that just logged in.
    pub(super) fn new(
        (broker, options, outbox): (&Arc<Broker>, &Arc<StompOptions>, &Arc<Outbox>),
        (principal, vhost): (Principal, Arc<Vhost>),
        version: Version,
        session: String,
        client_id: Option<Bytes>,
    ) -> Self {
        let limits = TransactionLimits {
            open: options.transactions_max,
            actions: options.transaction_actions_max,
            bytes: options.transaction_bytes_max,
        };
        Self {
            broker: Arc::clone(broker),
            options: Arc::clone(options),
            principal,
            publisher: Publisher::new(Arc::clone(&vhost)),
            vhost,
            version,
            auto_prefix: Bytes::from(format!("{session}-auto")),
            session,
            client_id,
            outbox: Arc::clone(outbox),
            subscriptions: Subscriptions::default(),
            reply_queues: HashMap::new(),
            exclusive: Vec::new(),
            plans: Plans::default(),
            ledger: Ledger::default(),
            transactions: Transactions::new(limits, Arc::clone(&broker.core().memory)),
            batch: Batch::default(),
            publishes: false,
            encoder: Encoder::default(),
            unwritten: VecDeque::new(),
            auto_number: 0,
            taken: Vec::new(),
        }
    }

    /// COMMIT: returns the receipts of its SENDs.
    pub(super) fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        name: &[u8],
    ) -> Result<Vec<Bytes>, StompError> {
        let (transaction, settled, receipts) = self.transactions.commit(name, &mut self.ledger)?;
        match transaction.commit(turn, &self.vhost) {
            Ok(()) => {
                self.ledger.forget(&settled);
                Ok(receipts)
            }
            Err(error) => {
                self.ledger.release(&settled);
                Err(from_engine(&error))
            }
        }
    }

    /// Encodes a MESSAGE, and remembers what the client has to settle or has yet to get.
    pub(super) fn deliver(&mut self, delivery: Delivery, output: &mut Output) {
        let Some(subscription) = self.subscriptions.get(delivery.tag) else {
            return;
        };
        let handle = match delivery.token {
            Some(token) => {
                let cumulative = subscription.ack == AckMode::Client;
                let queue: Arc<dyn Queue> = Arc::clone(&subscription.queue) as Arc<dyn Queue>;
                Handle {
                    prefix: self.session.as_bytes(),
                    number: self.ledger.push(queue, token, cumulative),
                }
            }
            None => {
                self.auto_number += 1;
                Handle {
                    prefix: &self.auto_prefix,
                    number: self.auto_number,
                }
            }
        };
        self.encoder
            .put_message(output, self.version, &subscription.head, &handle, &delivery);
        if delivery.token.is_none() {
            let queue = Arc::clone(&subscription.queue);
            self.unwritten.push_back(Unwritten {
                end: output.end(),
                queue,
                delivery,
            });
        }
    }

    /// Takes out what ends at or before `end`, for the queues it came from.
    pub(super) fn take_unwritten(
        &mut self,
        end: u64,
        chosen: impl Fn(&Delivery) -> bool,
    ) -> Vec<(Arc<LocalQueue>, Vec<Delivery>)> {
        let mut queues: Vec<(Arc<LocalQueue>, Vec<Delivery>)> = Vec::new();
        let count = self
            .unwritten
            .partition_point(|unwritten| unwritten.end <= end);
        for Unwritten {
            queue, delivery, ..
        } in self.unwritten.drain(..count)
        {
            if !chosen(&delivery) {
                continue;
            }
            match queues
                .iter_mut()
                .rfind(|(known, _)| known.id() == queue.id())
            {
                Some((_, deliveries)) => deliveries.push(delivery),
                None => queues.push((queue, vec![delivery])),
            }
        }
        queues
    }

    /// The connection is gone: consumers leave, and what they hold goes back to its queues.
    pub(super) fn close(&mut self, turn: &mut Turn<'_>, counted: bool) {
        let mut unwritten = self.take_unwritten(u64::MAX, |_| true);
        for delivery in unwritten.iter_mut().flat_map(|(_, deliveries)| deliveries) {
            // Encoded, and perhaps a part of it or all is with the client.
            delivery.redelivered = true;
        }
        let ended: Vec<_> = self.subscriptions.drain().collect();
        for (_, subscription) in &ended {
            // First all of them leave, so that nothing given back comes round again.
            subscription.queue.cancel(turn, subscription.consumer);
        }
        for (tag, subscription) in &ended {
            self.end(turn, *tag, subscription);
        }
        for (queue, deliveries) in unwritten {
            queue.put_back(turn, deliveries);
        }
        let mut settlements = Settlements::default();
        for unsettled in self.ledger.drain() {
            settlements.push(
                unsettled,
                Outcome::Requeue {
                    counted,
                    delay_ms: 0,
                },
            );
        }
        for (queue, settlements) in settlements.drain() {
            queue.settle(turn, &settlements);
        }
        for queue in self.exclusive.drain(..) {
            self.vhost.delete_exclusive(turn, &queue);
        }
    }
}
