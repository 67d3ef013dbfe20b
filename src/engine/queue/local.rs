//! A queue of this broker: the state behind one mutex, its log and its timer around it.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::arguments::{self, QueueArguments};
use super::state::{NotOutstanding, Refusal, State};
use super::{Capabilities, Depth, Fate, PublishBatch, Queue};
use crate::engine::arguments::Arguments;
use crate::engine::clock::Now;
use crate::engine::consumer::{Consumer, ConsumerId, ConsumerSpec};
use crate::engine::delivery::{Delivery, Outcome, Token};
use crate::engine::error::{EngineError, Kind};
use crate::engine::message::Message;
use crate::engine::name::{QueueName, VhostName};
use crate::engine::outbox::Outbox;
use crate::engine::turn::Turn;
use crate::engine::vhost::Vhost;
use crate::engine::whole::Whole;
use crate::storage::{CommitNumber, QueueId, Seq};

mod on_turn;
mod paging;

use on_turn::OnTurn;
pub(in crate::engine) use paging::Answer;
use paging::Pages;

/// Whether a queue and its persistent messages outlive the broker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// They do.
    Durable,
    /// They do not.
    Transient,
}

/// The connection that owns an exclusive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub u64);

/// What a queue is declared as.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSpec {
    /// Durable or transient.
    pub durability: Durability,
    /// Only this connection may use it; it goes with the connection.
    pub exclusive: Option<Owner>,
    /// It goes with its last consumer.
    pub auto_delete: bool,
    /// The `x-` table.
    pub arguments: Arguments,
}

impl QueueSpec {
    /// Whether the queue and its persistent messages outlive the broker's process. An exclusive queue
    /// never does: it goes with its connection, whatever it was declared as.
    pub fn lasts(&self) -> bool {
        self.durability == Durability::Durable && self.exclusive.is_none()
    }
}

/// A queue whose messages live in this process, and in its log if it is durable.
///
/// Entered by whichever thread has work. Lock order: queues in ascending id, then (leaves) outbox and
/// pending commit. Nothing is called on another queue while this one is locked.
pub struct LocalQueue {
    me: Weak<LocalQueue>,
    id: QueueId,
    name: QueueName,
    vhost: Weak<Vhost>,
    vhost_name: VhostName,
    spec: QueueSpec,
    parsed: QueueArguments,
    /// Why nothing may enter or leave, if recovery could not read all of it.
    quarantine: OnceLock<String>,
    pages: Pages,
    state: Mutex<State>,
}

/// The state, locked for a transaction.
pub(in crate::engine) struct Locked<'q> {
    queue: &'q LocalQueue,
    state: MutexGuard<'q, State>,
}

impl LocalQueue {
    /// An empty queue.
    pub(in crate::engine) fn new(
        id: QueueId,
        name: QueueName,
        (vhost, vhost_name): (Weak<Vhost>, VhostName),
        spec: QueueSpec,
        parsed: QueueArguments,
        now: Now,
    ) -> Arc<Self> {
        let state = State::new(parsed.clone(), spec.lasts(), now);
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id,
            name,
            vhost,
            vhost_name,
            spec,
            parsed,
            quarantine: OnceLock::new(),
            pages: Pages::default(),
            state: Mutex::new(state),
        })
    }

    fn strong(&self) -> Arc<Self> {
        self.me
            .upgrade()
            .expect("a queue in use is held by whoever uses it")
    }

    /// The vhost it is in, unless that is gone.
    pub(in crate::engine) fn vhost(&self) -> Option<Arc<Vhost>> {
        self.vhost.upgrade()
    }

    /// Takes the queue out of service: what it holds is kept as it is.
    pub(in crate::engine) fn quarantine(&self, why: String) {
        // The first loss found is reason enough.
        let _ = self.quarantine.set(why);
    }

    /// # Errors
    /// `Quarantined`, if the queue is out of service.
    fn in_service(&self) -> Result<(), EngineError> {
        match self.quarantine.get() {
            None => Ok(()),
            Some(why) => Err(EngineError::Quarantined {
                queue: self.name.clone(),
                why: why.clone(),
            }),
        }
    }

    /// What it was declared as.
    pub fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    /// What it acts on, out of its arguments.
    pub(in crate::engine) fn arguments(&self) -> &QueueArguments {
        &self.parsed
    }

    /// One entry: change the state, carry out the effects, and arm the timer, all inside the lock.
    fn enter<R>(
        &self,
        turn: &mut Turn<'_>,
        change: impl FnOnce(&mut State, Now, &mut OnTurn<'_, '_>) -> R,
    ) -> R {
        let _whole = Whole;
        let mut state = self.lock_state(turn);
        let now = turn.now;
        let mut fx = OnTurn::new(self, turn);
        let result = change(&mut state, now, &mut fx);
        state.flush(&mut fx);
        fx.close();
        self.watch_window(&state, turn);
        self.arm(&state);
        result
    }

    /// Locks the state. The unit is open then if anything of the queue may be on disk.
    fn lock_state(&self, turn: &mut Turn<'_>) -> MutexGuard<'_, State> {
        if self.spec.lasts() || self.pages.spills() {
            turn.open_unit();
        }
        let state = self.state.lock();
        if !self.pages.spills() || turn.has_unit() {
            return state;
        }
        // It began to spill just now; the log's gate comes before a queue's lock.
        drop(state);
        turn.open_unit();
        self.state.lock()
    }

    fn arm(&self, state: &State) {
        if let (Some(at), Some(vhost)) = (state.next_tick_ms(), self.vhost.upgrade()) {
            vhost.timers().arm(self.id, &self.me, at);
        }
    }

    /// Does what time asks for.
    pub(in crate::engine) fn tick(&self, turn: &mut Turn<'_>) {
        if self.in_service().is_err() {
            return;
        }
        let expired = self.enter(turn, |state, now, fx| {
            state.tick(now, fx);
            state.idle_expired(now)
        });
        if expired {
            turn.unused(self.strong());
        }
    }

    /// Whether nobody consumes from it, so that an auto-delete or expired queue may really go.
    pub(in crate::engine) fn is_unused(&self) -> bool {
        self.state.lock().consumer_count() == 0
    }

    /// Starts the idle time of `x-expires` anew.
    pub(in crate::engine) fn touch(&self, turn: &mut Turn<'_>) {
        self.enter(turn, |state, now, _| state.used(now));
    }

    /// Commits up to `durable` are on disk.
    pub(in crate::engine) fn reveal(&self, turn: &mut Turn<'_>, durable: CommitNumber) {
        self.enter(turn, |state, now, fx| {
            state.reveal(durable);
            state.dispatch(now, fx);
        });
    }

    /// Closes the queue and tells its consumers.
    pub(in crate::engine) fn close(&self, turn: &mut Turn<'_>) {
        let consumers = self.enter(turn, |state, _, fx| state.close(fx));
        if let Some(vhost) = self.vhost.upgrade() {
            vhost.timers().disarm(self.id);
        }
        self.dismiss(turn, consumers);
    }

    /// Hands consumers what is theirs already, and tells them that no more will come.
    fn dismiss(&self, turn: &mut Turn<'_>, consumers: Vec<Consumer>) {
        for mut consumer in consumers {
            consumer.outbox.push(&mut consumer.pending);
            consumer.outbox.cancelled(consumer.spec.tag);
            turn.wake(&consumer.outbox);
        }
    }

    /// Registers a publisher to be woken when there is room; false if it need not wait.
    pub fn hold(&self, turn: &mut Turn<'_>, outbox: &Arc<Outbox>) -> bool {
        self.enter(turn, |state, _, _| state.hold(outbox))
    }

    /// Checks a redeclaration against what is there: the properties, and the arguments given, or all of
    /// them if it is to be `complete`.
    ///
    /// # Errors
    /// `Inequivalent` for a difference.
    pub(in crate::engine) fn check_equivalent(
        &self,
        asked: &QueueSpec,
        complete: bool,
    ) -> Result<(), EngineError> {
        let differs = |argument: &str, received: bool, current: bool| {
            arguments::inequivalent(
                &self.name,
                &self.vhost_name,
                argument,
                format!("'{received}'"),
                format!("'{current}'"),
            )
        };
        if self.spec.durability != asked.durability {
            let durable = |spec: &QueueSpec| spec.durability == Durability::Durable;
            return Err(differs("durable", durable(asked), durable(&self.spec)));
        }
        if self.spec.exclusive.is_some() != asked.exclusive.is_some() {
            return Err(differs(
                "exclusive",
                asked.exclusive.is_some(),
                self.spec.exclusive.is_some(),
            ));
        }
        if self.spec.auto_delete != asked.auto_delete {
            return Err(differs(
                "auto_delete",
                asked.auto_delete,
                self.spec.auto_delete,
            ));
        }
        arguments::check_equivalent(
            &self.name,
            &self.vhost_name,
            &self.spec.arguments,
            &asked.arguments,
            complete,
        )
    }

    /// Locks the queue for a transaction, whose unit is open. Callers lock several in ascending id.
    pub(in crate::engine) fn lock(&self) -> Locked<'_> {
        Locked {
            queue: self,
            state: self.state.lock(),
        }
    }

    fn refused(&self, refusal: Refusal, message: &Message) -> EngineError {
        match refusal {
            Refusal::Full => EngineError::QueueFull {
                queue: self.name.clone(),
                vhost: self.vhost_name.clone(),
            },
            Refusal::TooLarge(limit) => EngineError::MessageTooLarge {
                queue: self.name.clone(),
                size: message.size() as u64,
                limit,
            },
            Refusal::Gone => self.gone(),
        }
    }

    fn gone(&self) -> EngineError {
        EngineError::NotFound {
            kind: Kind::Queue,
            name: self.name.to_string(),
            vhost: self.vhost_name.clone(),
        }
    }
}

impl Locked<'_> {
    /// Checks that every delivery is outstanding and every message would be taken.
    ///
    /// # Errors
    /// The first thing that fails.
    pub(in crate::engine) fn check(
        &self,
        settlements: &[(Token, Outcome)],
        messages: &[Arc<Message>],
    ) -> Result<(), EngineError> {
        if self.state.is_closed() {
            // Deleted since: its messages are gone and its share of the sends is unroutable, as without
            // a transaction.
            return Ok(());
        }
        if settlements
            .iter()
            .any(|(token, _)| !self.state.is_outstanding(*token))
        {
            return Err(EngineError::NotOutstanding);
        }
        if !messages.is_empty() {
            self.queue.in_service()?;
        }
        self.state.admit(messages).map_err(|refusal| {
            let largest = messages.iter().max_by_key(|message| message.size());
            largest.map_or(EngineError::NotOutstanding, |message| {
                self.queue.refused(refusal, message)
            })
        })
    }

    /// Carries out the transaction's part in this queue; sends wait for `commit`.
    pub(in crate::engine) fn apply(
        &mut self,
        turn: &mut Turn<'_>,
        settlements: &[(Token, Outcome)],
        messages: Vec<Arc<Message>>,
        commit: Option<CommitNumber>,
    ) {
        if self.state.is_closed() {
            return;
        }
        let _whole = Whole;
        let now = turn.now;
        let mut fx = OnTurn::new(self.queue, turn);
        for (token, outcome) in settlements {
            let settled = self.state.settle(now, *token, *outcome, &mut fx);
            debug_assert_eq!(settled, Ok(()), "checked under the same lock");
        }
        self.state.reserve(commit, messages, &mut fx);
        self.state.dispatch(now, &mut fx);
        self.state.flush(&mut fx);
        fx.close();
        self.queue.watch_window(&self.state, turn);
        self.queue.arm(&self.state);
    }
}

impl Queue for LocalQueue {
    fn id(&self) -> QueueId {
        self.id
    }

    fn name(&self) -> &QueueName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transactions: true,
            requeue_in_place: true,
        }
    }

    fn as_local(&self) -> Option<&LocalQueue> {
        Some(self)
    }

    fn publish(&self, turn: &mut Turn<'_>, batch: &mut PublishBatch, indexes: &[usize]) {
        if let Err(error) = self.in_service() {
            for index in indexes {
                batch.items[*index].fate = Fate::Refused(Box::new(error.clone()));
            }
            return;
        }
        let holds = self.enter(turn, |state, now, fx| {
            for index in indexes {
                let item = &mut batch.items[*index];
                match state.publish(now, &mut item.message, fx) {
                    Ok(()) => {
                        if item.fate == Fate::Unrouted {
                            item.fate = Fate::Taken;
                        }
                    }
                    // Deleted since the route was looked up: as if it had not been bound.
                    Err(Refusal::Gone) => {}
                    Err(refusal) => {
                        item.fate = Fate::Refused(Box::new(self.refused(refusal, &item.message)))
                    }
                }
            }
            state.holds()
        });
        if holds {
            batch.hold = Some(self.strong());
        }
    }

    fn settle(&self, turn: &mut Turn<'_>, settlements: &[(Token, Outcome)]) -> usize {
        self.enter(turn, |state, now, fx| {
            let mut unknown = 0;
            for (token, outcome) in settlements {
                if state.settle(now, *token, *outcome, fx) == Err(NotOutstanding) {
                    unknown += 1;
                }
            }
            state.dispatch(now, fx);
            unknown
        })
    }

    fn written(&self, turn: &mut Turn<'_>, seqs: &[Seq]) {
        self.enter(turn, |state, _, fx| state.written(seqs, fx));
    }

    fn put_back(&self, turn: &mut Turn<'_>, deliveries: Vec<Delivery>) {
        self.enter(turn, |state, now, fx| {
            state.put_back(deliveries);
            state.dispatch(now, fx);
        });
    }

    fn subscribe(
        &self,
        turn: &mut Turn<'_>,
        spec: ConsumerSpec,
        outbox: Arc<Outbox>,
    ) -> Result<ConsumerId, EngineError> {
        self.in_service()?;
        self.enter(turn, |state, now, fx| {
            if state.is_closed() {
                return Err(self.gone());
            }
            let consumer = state.subscribe(now, spec, outbox).ok_or_else(|| EngineError::InUse {
                queue: self.name.clone(),
                vhost: self.vhost_name.clone(),
                why: "a consumer holds it exclusively, or others consume from it and exclusive use was asked for",
            })?;
            state.dispatch(now, fx);
            Ok(consumer)
        })
    }

    fn cancel(&self, turn: &mut Turn<'_>, consumer: ConsumerId) {
        let last = self.enter(turn, |state, now, fx| {
            let known = state.cancel(now, consumer);
            state.dispatch(now, fx);
            known && state.consumer_count() == 0
        });
        if last && self.spec.auto_delete {
            turn.unused(self.strong());
        }
    }

    fn extend(&self, turn: &mut Turn<'_>, consumer: ConsumerId) {
        self.enter(turn, |state, now, fx| {
            state.call_back(consumer);
            state.dispatch(now, fx);
        });
    }

    fn purge(&self, turn: &mut Turn<'_>) -> usize {
        self.enter(turn, |state, _, fx| state.purge(fx))
    }

    fn depth(&self) -> Depth {
        self.state.lock().depth()
    }

    fn is_full(&self) -> bool {
        self.state.lock().is_full()
    }
}

impl std::fmt::Debug for LocalQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalQueue")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
