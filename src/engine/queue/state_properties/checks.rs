//! What has to hold after every entry into the queue.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::bench::{Bench, Client, Place};
use crate::engine::message::DeathReason;
use crate::engine::queue::Depth;
use crate::engine::queue::arguments::Overflow;
use crate::engine::queue::entry::{BODY_OVERHEAD, PLACE_BYTES};

impl Bench {
    /// Ends an entry, and holds what happened in it against the model.
    pub(super) fn end(&mut self) {
        self.state.flush(&mut self.fx);
        for (id, reason) in self.fx.take_dead() {
            self.die(id, reason);
        }
        self.follow_deliveries();
        self.follow_dropped();
        assert!(
            self.fx.fetch.is_some() || self.sum(|place| place == Place::Dying).0 == 0,
            "what was given up on was dead-lettered, or is being read for that"
        );
        self.assert_agreement();
        self.in_line.clear();
    }

    fn die(&mut self, id: u64, reason: DeathReason) {
        let (now, ttl) = (self.now.wall_ms, self.arguments.message_ttl_ms);
        let known = self.model.get_mut(&id).expect("nothing is invented");
        assert!(
            matches!(known.place, Place::Ready | Place::Dying),
            "{id} died as {:?}",
            known.place
        );
        let expiry = ttl
            .map(|ttl| known.draft.entered_ms + ttl)
            .into_iter()
            .chain(known.draft.expires_ms)
            .min();
        match reason {
            DeathReason::Expired => assert!(expiry.is_some_and(|expiry| expiry <= now)),
            DeathReason::MaxLength => assert!(
                self.arguments.max_length.is_some() || self.arguments.max_length_bytes.is_some()
            ),
            DeathReason::Rejected | DeathReason::DeliveryLimit => {
                assert_eq!(known.place, Place::Dying)
            }
        }
        known.place = Place::Gone;
    }

    /// What was handed over is the first of what was ready, in order for each consumer, and fairly shared.
    fn follow_deliveries(&mut self) {
        let first_reserved = self
            .model
            .iter()
            .find(|(_, known)| matches!(known.place, Place::Reserved(_)))
            .map(|(id, _)| *id);
        let mut ready: Vec<(Reverse<u8>, u64)> = self
            .model
            .iter()
            .filter(|(_, known)| known.place == Place::Ready)
            .map(|(id, known)| (Reverse(known.level), *id))
            .collect();
        ready.sort_unstable();
        let mut all = Vec::new();
        let mut shares: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for at in 0..self.clients.len() {
            let fresh = self.clients[at]
                .outbox
                .waiting()
                .split_off(self.clients[at].seen);
            let mut served = Vec::new();
            for delivery in &fresh {
                let id = delivery.message.meta().id.0;
                let acknowledges = self.clients[at].spec.acknowledges;
                let known = self.known(delivery);
                assert_eq!(known.place, Place::Ready, "{id} was handed over");
                known.place = if acknowledges {
                    Place::Held
                } else {
                    Place::Automatic
                };
                assert_eq!(
                    *known.seq.get_or_insert(delivery.seq),
                    delivery.seq,
                    "a message keeps its place"
                );
                assert_eq!(
                    (delivery.returns, delivery.redelivered),
                    (known.returns, known.redelivered)
                );
                assert_eq!(delivery.token.is_some(), acknowledges);
                assert!(
                    first_reserved.is_none_or(|reserved| id < reserved),
                    "{id} overtook a transaction"
                );
                served.push((Reverse(known.level), id));
            }
            assert!(served.is_sorted(), "a consumer saw {served:?}");
            let client = &mut self.clients[at];
            client.seen += fresh.len();
            if client.spec.acknowledges {
                client.in_flight += u32::try_from(fresh.len()).unwrap();
                assert!(
                    client.in_flight <= client.spec.prefetch,
                    "more than its credit"
                );
            }
            let client = &self.clients[at];
            if self.in_line.contains(&client.id) && self.can_take(client) {
                shares
                    .entry(client.spec.priority)
                    .or_default()
                    .push(fresh.len());
            }
            all.extend(served);
        }
        all.sort_unstable();
        assert_eq!(
            all,
            ready[..all.len()],
            "the first that were ready were served"
        );
        if !self.arguments.single_active_consumer {
            for shares in shares.values() {
                assert!(
                    shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1,
                    "unfair: {shares:?}"
                );
            }
        }
        let served = |id: u64| first_reserved.is_none_or(|reserved| id < reserved);
        let read = self.fx.fetch.is_none();
        if read && ready.get(all.len()).is_some_and(|(_, id)| served(*id)) {
            let active = self.clients.iter().max_by_key(|client| {
                (
                    client.spec.priority,
                    Reverse(client_age(&self.clients, client)),
                )
            });
            let waits = |client: &Client| {
                !self.arguments.single_active_consumer
                    || active.is_some_and(|active| active.id == client.id)
            };
            let idle = self
                .clients
                .iter()
                .find(|client| waits(client) && self.can_take(client));
            assert!(
                idle.is_none(),
                "a consumer with credit and room was left waiting"
            );
        }
    }

    /// Queue, log and memory account agree with the model.
    fn assert_agreement(&self) {
        let (ready, ready_bytes) =
            self.sum(|place| matches!(place, Place::Ready | Place::Delayed(_)));
        let unacked = self.sum(|place| place == Place::Held).0;
        let depth = self.state.depth();
        let exact = !self.paged || self.arguments.max_length_bytes.is_some();
        assert_eq!(
            depth,
            Depth {
                ready,
                ready_bytes: if exact {
                    ready_bytes
                } else {
                    depth.ready_bytes
                },
                unacked,
                consumers: self.clients.len()
            }
        );
        self.state.verify();
        let (kept, kept_bytes) = self.sum(|place| {
            matches!(
                place,
                Place::Ready | Place::Delayed(_) | Place::Held | Place::Reserved(_) | Place::Dying
            )
        });
        let whole = kept_bytes + (kept * (BODY_OVERHEAD + PLACE_BYTES)) as u64;
        let charged = u64::try_from(self.fx.charged).unwrap();
        assert!(charged == whole || self.paged && charged < whole);
        let logged = self.model.iter().filter(|(_, known)| {
            self.durable && known.draft.persistent && known.place != Place::Gone
        });
        assert!(
            self.fx.stored.values().eq(logged.map(|(id, _)| id)),
            "the log holds what is not settled, and nothing else"
        );
        if self.arguments.overflow == Overflow::DropHead && self.exceeds((ready, ready_bytes)) {
            assert_eq!(
                self.sum(|place| place == Place::Ready).0,
                0,
                "over the limit with messages to drop"
            );
        }
        let due = self
            .model
            .values()
            .filter_map(|known| {
                if let Place::Delayed(due) = known.place {
                    Some(due)
                } else {
                    None
                }
            })
            .min();
        assert!(
            due.is_none_or(|due| self.state.next_tick_ms().is_some_and(|next| next <= due)),
            "nobody would bring it back"
        );
    }
}

/// How many consumers came before.
fn client_age(clients: &[Client], client: &Client) -> usize {
    clients
        .iter()
        .position(|other| other.id == client.id)
        .expect("one of them")
}
