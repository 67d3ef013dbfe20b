//! A queue with its surroundings, and a model of it that every command changes too.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commands::Command;
use crate::engine::clock::Now;
use crate::engine::fixtures::{Draft, START_MS, acknowledging, at};
use crate::engine::outbox::{Item, Outbox};
use crate::engine::queue::arguments::{Overflow, QueueArguments};
use crate::engine::queue::recorder::Recorder;
use crate::engine::queue::state::{NotOutstanding, Refusal, State};
use crate::engine::queue::{ConsumerId, ConsumerSpec, Delivery, Outcome};
use crate::storage::{CommitNumber, Seq};

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Sent by a transaction whose commit is not on disk.
    Reserved(u64),
    Ready,
    /// Comes back at that time.
    Delayed(u64),
    /// Handed over, to be settled.
    Held,
    /// Handed over under auto-ack: only the log still has it.
    Automatic,
    /// Rejected, or returned too often: has to die in this entry.
    Dying,
    Gone,
}

/// A message, as the model knows it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) place: Place,
    pub(super) draft: Draft,
    pub(super) level: u8,
    pub(super) seq: Option<Seq>,
    pub(super) returns: u32,
    pub(super) redelivered: bool,
}

pub(super) struct Client {
    pub(super) id: ConsumerId,
    pub(super) spec: ConsumerSpec,
    pub(super) outbox: Arc<Outbox>,
    pub(super) limit: usize,
    /// Deliveries in the outbox that the model knows of.
    pub(super) seen: usize,
    pub(super) held: Vec<Delivery>,
    pub(super) unwritten: Vec<Delivery>,
    /// In flight as the queue has to count it.
    pub(super) in_flight: u32,
}

pub(super) struct Bench {
    pub(super) state: State,
    pub(super) arguments: QueueArguments,
    pub(super) durable: bool,
    pub(super) fx: Recorder,
    pub(super) now: Now,
    /// By message id, which rises as places in the queue do.
    pub(super) model: BTreeMap<u64, Known>,
    pub(super) clients: Vec<Client>,
    /// Deliveries of consumers that left, still to be settled.
    pub(super) orphans: Vec<Delivery>,
    pub(super) commit: u64,
    /// Who had credit and room when the entry began.
    pub(super) in_line: Vec<ConsumerId>,
    /// What was written down and may be let go of: the window, and up to where.
    pub(super) spilled: Option<(u64, Seq)>,
    /// Whether anything was ever let go of.
    pub(super) paged: bool,
}

impl Bench {
    pub(super) fn new(arguments: QueueArguments, durable: bool) -> Self {
        let now = at(START_MS);
        Self {
            state: State::new(arguments.clone(), durable, now),
            arguments,
            durable,
            fx: Recorder::default(),
            now,
            model: BTreeMap::new(),
            clients: Vec::new(),
            orphans: Vec::new(),
            commit: 0,
            in_line: Vec::new(),
            spilled: None,
            paged: false,
        }
    }

    fn draft(&self, priority: Option<u8>, size: usize, persistent: bool) -> Draft {
        let id = self.model.last_key_value().map_or(1, |(id, _)| id + 1);
        Draft {
            priority,
            size,
            persistent,
            entered_ms: self.now.wall_ms,
            ..Draft::new(id)
        }
    }

    fn know(&mut self, draft: Draft, place: Place) {
        let level = draft
            .priority
            .unwrap_or(0)
            .min(self.arguments.max_priority.unwrap_or(0));
        self.model.insert(
            draft.id,
            Known {
                place,
                draft,
                level,
                seq: None,
                returns: 0,
                redelivered: false,
            },
        );
    }

    pub(super) fn known(&mut self, delivery: &Delivery) -> &mut Known {
        self.model
            .get_mut(&delivery.message.meta().id.0)
            .expect("nothing is invented")
    }

    /// Messages and bytes in places that `counts` is true for.
    pub(super) fn sum(&self, counts: impl Fn(Place) -> bool) -> (usize, u64) {
        let counted = self.model.values().filter(|known| counts(known.place));
        counted.fold((0, 0), |(len, bytes), known| {
            (len + 1, bytes + known.draft.size as u64)
        })
    }

    pub(super) fn exceeds(&self, (len, bytes): (usize, u64)) -> bool {
        self.arguments
            .max_length
            .is_some_and(|limit| len as u64 > limit)
            || self
                .arguments
                .max_length_bytes
                .is_some_and(|limit| bytes > limit)
    }

    pub(super) fn can_take(&self, client: &Client) -> bool {
        let credit = !client.spec.acknowledges || client.in_flight < client.spec.prefetch;
        credit && !self.fx.stalled.contains(&client.id)
    }

    pub(super) fn run(&mut self, command: Command) {
        self.in_line = self
            .clients
            .iter()
            .filter(|client| self.can_take(client))
            .map(|client| client.id)
            .collect();
        match command {
            Command::Publish {
                priority,
                ttl_ms,
                size,
                persistent,
            } => {
                let mut draft = self.draft(priority, size, persistent);
                draft.expires_ms = ttl_ms.map(|ttl| self.now.wall_ms + ttl);
                self.publish(draft);
            }
            Command::Subscribe {
                acknowledges,
                prefetch,
                priority,
                exclusive,
                room,
            } => {
                let spec = ConsumerSpec {
                    acknowledges,
                    prefetch,
                    priority,
                    exclusive,
                    ..acknowledging(1)
                };
                self.subscribe(spec, room);
            }
            Command::Leave { nth, gone } if !self.clients.is_empty() => {
                self.leave(nth % self.clients.len(), gone)
            }
            Command::Settle { nth, outcome } => self.settle(nth, outcome),
            Command::Take { nth, bytes } if !self.clients.is_empty() => {
                self.take(nth % self.clients.len(), bytes)
            }
            Command::Written { nth, count } if !self.clients.is_empty() => {
                self.written(nth % self.clients.len(), count)
            }
            Command::Purge => {
                let waits = |place| matches!(place, Place::Ready | Place::Delayed(_));
                let expected = self.sum(waits).0;
                assert_eq!(self.state.purge(&mut self.fx), expected);
                self.model
                    .values_mut()
                    .filter(|known| waits(known.place))
                    .for_each(|known| known.place = Place::Gone);
            }
            Command::Pass { ms } => {
                self.now = at(self.now.wall_ms + ms);
                self.come_due();
                self.state.tick(self.now, &mut self.fx);
                self.end();
                assert!(
                    self.state
                        .next_tick_ms()
                        .is_none_or(|next| next > self.now.wall_ms),
                    "the timer would run out again at once"
                );
            }
            Command::Spill { window } => self.spill(window),
            Command::LetGo => self.let_go(),
            Command::Answer { most } => self.answer(most),
            Command::Reserve { count } => self.reserve(count),
            Command::Reveal { commits } => self.reveal(commits),
            Command::Leave { .. } | Command::Take { .. } | Command::Written { .. } => {}
        }
        self.end();
    }

    fn come_due(&mut self) {
        let now = self.now.wall_ms;
        let due = |place| matches!(place, Place::Delayed(due) if due <= now);
        self.model
            .values_mut()
            .filter(|known| due(known.place))
            .for_each(|known| known.place = Place::Ready);
    }

    pub(super) fn publish(&mut self, draft: Draft) {
        let waiting = self
            .sum(|place| matches!(place, Place::Ready | Place::Delayed(_) | Place::Reserved(_)));
        let full = self.exceeds((waiting.0 + 1, waiting.1 + draft.size as u64));
        let result = self
            .state
            .publish(self.now, &mut Arc::new(draft.build()), &mut self.fx);
        let dlx = self.arguments.overflow == Overflow::RejectPublishDlx;
        match result {
            Ok(()) => self.know(draft, Place::Ready),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Full);
                assert!(full && (dlx || self.arguments.overflow == Overflow::RejectPublish));
                self.know(draft, if dlx { Place::Dying } else { Place::Gone });
            }
        }
    }

    fn subscribe(&mut self, spec: ConsumerSpec, limit: usize) {
        let outbox = Arc::new(Outbox::new(limit));
        let allowed = self.clients.iter().all(|client| !client.spec.exclusive)
            && (!spec.exclusive || self.clients.is_empty());
        let id = self
            .state
            .subscribe(self.now, spec.clone(), Arc::clone(&outbox));
        assert_eq!(id.is_some(), allowed);
        let Some(id) = id else { return };
        self.clients.push(Client {
            id,
            spec,
            outbox,
            limit,
            seen: 0,
            held: Vec::new(),
            unwritten: Vec::new(),
            in_flight: 0,
        });
        self.state.dispatch(self.now, &mut self.fx);
    }

    fn leave(&mut self, at: usize, gone: bool) {
        let mut client = self.clients.remove(at);
        assert!(self.state.cancel(self.now, client.id));
        self.fx.stalled.retain(|stalled| *stalled != client.id);
        let unsent = client.outbox.take_for(client.spec.tag);
        assert_eq!(client.outbox.room(), client.limit);
        let (automatic, held): (Vec<_>, Vec<_>) = unsent
            .into_iter()
            .partition(|delivery| delivery.token.is_none());
        for delivery in held {
            self.give_back(&delivery, Outcome::Release);
        }
        let mut back = automatic;
        if gone {
            // They may have reached it.
            let unwritten = client.unwritten.iter_mut();
            unwritten.for_each(|delivery| delivery.redelivered = true);
            back.append(&mut client.unwritten);
            for delivery in std::mem::take(&mut client.held) {
                self.give_back(
                    &delivery,
                    Outcome::Requeue {
                        counted: true,
                        delay_ms: 0,
                    },
                );
            }
        } else {
            // Sent for certain, as far as this test goes.
            let sent = std::mem::take(&mut client.unwritten);
            self.leave_log(&sent);
        }
        for delivery in &back {
            let known = self.known(delivery);
            (known.place, known.redelivered) = (Place::Ready, delivery.redelivered);
        }
        self.state.put_back(back);
        self.orphans.append(&mut client.held);
        self.state.dispatch(self.now, &mut self.fx);
    }

    /// Settles one delivery, in the model first.
    fn give_back(&mut self, delivery: &Delivery, outcome: Outcome) {
        let now = self.now;
        let limit = self.arguments.delivery_limit;
        let known = self.known(delivery);
        assert_eq!(known.place, Place::Held);
        known.place = match outcome {
            Outcome::Ack => Place::Gone,
            Outcome::Reject => Place::Dying,
            Outcome::Release => Place::Ready,
            Outcome::Requeue { counted, delay_ms } => {
                known.redelivered = true;
                known.returns += u32::from(counted);
                match delay_ms {
                    _ if counted && limit.is_some_and(|limit| u64::from(known.returns) > limit) => {
                        Place::Dying
                    }
                    0 => Place::Ready,
                    delay => Place::Delayed(now.wall_ms + delay),
                }
            }
        };
        let token = delivery.token.expect("held deliveries are settled");
        assert_eq!(self.state.settle(now, token, outcome, &mut self.fx), Ok(()));
        assert_eq!(
            self.state.settle(now, token, outcome, &mut self.fx),
            Err(NotOutstanding)
        );
    }

    fn settle(&mut self, nth: usize, outcome: Outcome) {
        let held: Vec<(Option<usize>, usize)> = (0..self.orphans.len())
            .map(|at| (None, at))
            .chain(
                self.clients
                    .iter()
                    .enumerate()
                    .flat_map(|(client, of)| (0..of.held.len()).map(move |at| (Some(client), at))),
            )
            .collect();
        let Some((client, at)) = held.get(nth % held.len().max(1)) else {
            return;
        };
        let delivery = match client {
            None => self.orphans.remove(*at),
            Some(client) => {
                self.clients[*client].in_flight -= 1;
                self.clients[*client].held.remove(*at)
            }
        };
        self.give_back(&delivery, outcome);
        self.state.dispatch(self.now, &mut self.fx);
    }

    fn take(&mut self, at: usize, bytes: usize) {
        let client = &mut self.clients[at];
        let mut items = Vec::new();
        client.outbox.take(bytes, &mut items);
        client.seen -= items.len();
        for item in items {
            let Item::Delivery(delivery) = item else {
                panic!("the queue stays")
            };
            if delivery.token.is_some() {
                client.held.push(delivery)
            } else {
                client.unwritten.push(delivery)
            }
        }
        // What an outbox does for those that it knows to be stalled.
        let (id, weight) = (client.id, client.limit.saturating_sub(client.outbox.room()));
        if client.outbox.room() > 0 && weight <= client.limit / 2 && self.fx.stalled.contains(&id) {
            self.fx.stalled.retain(|stalled| *stalled != id);
            self.state.call_back(id);
            self.state.dispatch(self.now, &mut self.fx);
        }
    }

    fn written(&mut self, at: usize, count: usize) {
        let client = &mut self.clients[at];
        let count = count.min(client.unwritten.len());
        let sent: Vec<Delivery> = client.unwritten.drain(..count).collect();
        self.leave_log(&sent);
    }

    fn leave_log(&mut self, sent: &[Delivery]) {
        sent.iter()
            .for_each(|delivery| self.known(delivery).place = Place::Gone);
        let seqs: Vec<Seq> = sent
            .iter()
            .filter(|delivery| delivery.message.meta().persistent)
            .map(|delivery| delivery.seq)
            .collect();
        self.state.written(&seqs, &mut self.fx);
    }

    fn reserve(&mut self, count: usize) {
        self.commit += 1;
        let mut messages = Vec::new();
        for _ in 0..count {
            let draft = self.draft(None, 10, true);
            messages.push(Arc::new(draft.build()));
            self.know(draft, Place::Reserved(self.commit));
        }
        if self.state.admit(&messages).is_err() {
            let refused = self
                .model
                .values_mut()
                .filter(|known| known.place == Place::Reserved(self.commit));
            refused.for_each(|known| known.place = Place::Gone);
            return;
        }
        self.state
            .reserve(Some(CommitNumber(self.commit)), messages, &mut self.fx);
        self.state.dispatch(self.now, &mut self.fx);
    }

    fn reveal(&mut self, commits: u64) {
        let first = self
            .model
            .values()
            .filter_map(|known| {
                if let Place::Reserved(commit) = known.place {
                    Some(commit)
                } else {
                    None
                }
            })
            .min();
        let commits = first.map_or(0, |first| first + commits);
        let kept = |place| matches!(place, Place::Reserved(commit) if commit <= commits);
        self.model
            .values_mut()
            .filter(|known| kept(known.place))
            .for_each(|known| known.place = Place::Ready);
        self.state.reveal(CommitNumber(commits));
        self.state.dispatch(self.now, &mut self.fx);
    }

    /// Everybody leaves, everything is taken and acknowledged: nothing may be left anywhere.
    pub(super) fn finish(&mut self) {
        while !self.clients.is_empty() {
            self.leave(0, true);
            self.end();
        }
        while !self.orphans.is_empty() {
            self.run(Command::Settle {
                nth: 0,
                outcome: Outcome::Requeue {
                    counted: false,
                    delay_ms: 0,
                },
            });
        }
        self.run(Command::Reveal {
            commits: self.commit,
        });
        self.run(Command::Pass { ms: 100 });
        self.run(Command::Subscribe {
            acknowledges: true,
            prefetch: u32::MAX,
            priority: 0,
            exclusive: false,
            room: usize::MAX,
        });
        loop {
            while self.fx.fetch.is_some() {
                self.run(Command::Answer { most: usize::MAX });
            }
            self.run(Command::Take {
                nth: 0,
                bytes: usize::MAX,
            });
            if self.clients[0].held.is_empty() {
                break;
            }
            while !self.clients[0].held.is_empty() {
                self.run(Command::Settle {
                    nth: 0,
                    outcome: Outcome::Ack,
                });
            }
        }
        assert!(self.model.values().all(|known| known.place == Place::Gone));
        assert_eq!(self.fx.charged, 0);
        assert!(self.fx.stored.is_empty());
        assert!(self.fx.disk.is_empty(), "the spill is as empty as the log");
    }
}
