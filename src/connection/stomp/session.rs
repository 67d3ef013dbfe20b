//! One STOMP connection: takes frames, gathers what can be done in one turn, and answers.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millpond_protocol::stomp::{
    Command, Event, Fault, Frame, Machine, put_command, put_fault, put_header,
};
use tokio::time::Instant;

use super::batch::Sent;
use super::client::{self, LoggedIn};
use super::deliver::size_hint;
use super::login::{self, PendingLogin};
use super::options::StompOptions;
use super::publish::Send;
use super::reply::{self, StompError, from_engine, refused_send};
use super::settle::not_found;
use crate::connection::output::Output;
use crate::connection::peer::Peer;
use crate::connection::session::{Flow, LoginOutcome, Session, Woken};
use crate::engine::broker::Broker;
use crate::engine::delivery::ConsumerTag;
use crate::engine::error::EngineError;
use crate::engine::outbox::{Item, Outbox};
use crate::engine::promise::Promises;
use crate::engine::queue::{Fate, Owner, Queue};
use crate::engine::turn::Turn;
use crate::storage::{Seq, Waiter};

/// One STOMP connection.
pub struct StompSession {
    broker: Arc<Broker>,
    options: Arc<StompOptions>,
    peer: Peer,
    owner: Owner,
    machine: Machine,
    outbox: Arc<Outbox>,
    waiter: Arc<dyn Waiter>,
    login: Option<PendingLogin>,
    client: Option<LoggedIn>,
    receipts: Promises<Vec<Bytes>>,
    receipts_waiting: usize,
    /// A full queue that asks this publisher to pause.
    held_by: Option<Arc<dyn Queue>>,
    paused: bool,
    stopping: bool,
    /// The client is still to be told that the broker stops: behind its receipts, because clients take an
    /// ERROR as the end.
    farewell: bool,
}

/// Why frames are no longer taken.
struct Closing;

impl StompSession {
    /// A session for a connection just accepted.
    pub fn new(broker: Arc<Broker>, options: Arc<StompOptions>, peer: Peer, owner: Owner) -> Self {
        let outbox = Arc::new(Outbox::new(options.outbox_bytes));
        let machine = Machine::new(Instant::now().into_std(), options.machine.clone());
        Self {
            broker,
            options,
            peer,
            owner,
            machine,
            waiter: Arc::clone(&outbox) as Arc<dyn Waiter>,
            outbox,
            login: None,
            client: None,
            receipts: Promises::default(),
            receipts_waiting: 0,
            held_by: None,
            paused: false,
            stopping: false,
            farewell: false,
        }
    }

    /// Writes an ERROR; says whether the connection ends with it.
    fn fail(
        &self,
        error: &StompError,
        receipt: Option<&[u8]>,
        output: &mut Output,
    ) -> Result<(), Closing> {
        tracing::debug!(client = %self.peer.remote, code = error.code, error = %error.body.trim_end(), "ERROR sent");
        error.put(output.buffer(), self.machine.version(), receipt, &[]);
        if error.closes(self.options.errors) {
            Err(Closing)
        } else {
            Ok(())
        }
    }

    fn fault(&self, fault: &Fault, output: &mut Output) -> Flow {
        tracing::info!(client = %self.peer.remote, code = fault.code(), "connection ends: {fault}");
        put_fault(output.buffer(), self.machine.version(), fault);
        Flow::Close
    }

    fn put_receipt(&self, id: &[u8], output: &mut Output) {
        let dst = output.buffer();
        put_command(dst, Command::Receipt);
        put_header(dst, self.machine.version(), b"receipt-id", id);
        dst.extend_from_slice(b"\n\0\n");
    }

    /// Takes events until the input has no whole frame left, or the connection ends.
    fn take_events(
        &mut self,
        turn: &mut Turn<'_>,
        now: Instant,
        input: &mut BytesMut,
        output: &mut Output,
    ) -> Flow {
        loop {
            match self
                .machine
                .poll_event(now.into_std(), input, output.buffer())
            {
                Ok(None) => {
                    return self
                        .flush(turn, output)
                        .map_or(Flow::Close, |()| Flow::Continue);
                }
                Ok(Some(Event::Connect(request))) => {
                    let (pending, check) =
                        login::begin(&self.broker, &self.options, self.peer, *request);
                    self.login = Some(pending);
                    return Flow::Login(check);
                }
                Ok(Some(Event::Frame(frame))) => {
                    if self.on_frame(turn, &frame, output).is_err() {
                        // What was taken before the frame that ends it is carried out and answered.
                        let _ = self.flush(turn, output);
                        return Flow::Close;
                    }
                }
                Err(fault) => {
                    let _ = self.flush(turn, output);
                    return self.fault(&fault, output);
                }
            }
        }
    }

    fn on_frame(
        &mut self,
        turn: &mut Turn<'_>,
        frame: &Frame,
        output: &mut Output,
    ) -> Result<(), Closing> {
        let receipt = frame.headers.get_bytes("receipt");
        let result = match frame.command {
            Command::Send => self.on_send(turn, frame, receipt.as_ref()),
            Command::Ack | Command::Nack => self.on_settle(frame, receipt.as_ref()),
            _ => {
                self.flush(turn, output)?;
                self.on_other(turn, frame, receipt.as_ref(), output)
            }
        };
        match result {
            Ok(Next::Stay) => Ok(()),
            Ok(Next::Leave) => Err(Closing),
            Err(error) => {
                self.flush(turn, output)?;
                if frame.command == Command::Send
                    && let Some(client) = &mut self.client
                    && let Some(name) = frame.headers.get("transaction")
                {
                    client.transactions.fail(&name);
                }
                self.fail(&error, receipt.as_deref(), output)
            }
        }
    }

    fn on_send(
        &mut self,
        turn: &mut Turn<'_>,
        frame: &Frame,
        receipt: Option<&Bytes>,
    ) -> Result<Next, StompError> {
        let client = self.client.as_mut().ok_or_else(not_logged_in)?;
        client.publishes = true;
        // A refused SEND leaves the connection open, whoever refused it.
        let send = client.message(turn, frame).map_err(StompError::open)?;
        let receipt = receipt.map(|id| Bytes::copy_from_slice(id));
        if let Some(name) = frame.headers.get("transaction") {
            client.transactions.send(&name, send, receipt)?;
            return Ok(Next::Stay);
        }
        let Send { message, mandatory } = send;
        client.batch.messages.push(message);
        client.batch.sends.push(Sent { receipt, mandatory });
        Ok(Next::Stay)
    }

    fn on_settle(&mut self, frame: &Frame, receipt: Option<&Bytes>) -> Result<Next, StompError> {
        let client = self.client.as_mut().ok_or_else(not_logged_in)?;
        let settle = client.read_settle(frame)?;
        let handle = || {
            frame
                .headers
                .get("id")
                .or_else(|| frame.headers.get("message-id"))
                .unwrap_or_default()
                .into_owned()
        };
        if let Some(name) = frame.headers.get("transaction") {
            client
                .transactions
                .settle(&name, &handle(), settle, &mut client.ledger)?;
        } else {
            let number = settle.number.ok_or_else(|| not_found(&handle()))?;
            if let Some(one) = client.ledger.settle_one(number) {
                client.batch.settlements.push(one, settle.outcome);
            } else {
                let all = client.ledger.settle(number);
                if all.is_empty() {
                    return Err(not_found(&handle()));
                }
                for one in all {
                    client.batch.settlements.push(one, settle.outcome);
                }
            }
        }
        client
            .batch
            .receipts
            .extend(receipt.map(|id| Bytes::copy_from_slice(id)));
        Ok(Next::Stay)
    }

    fn on_other(
        &mut self,
        turn: &mut Turn<'_>,
        frame: &Frame,
        receipt: Option<&Bytes>,
        output: &mut Output,
    ) -> Result<Next, StompError> {
        let client = self.client.as_mut().ok_or_else(not_logged_in)?;
        let mut receipts: Vec<Bytes> = Vec::new();
        match frame.command {
            Command::Subscribe => client.subscribe(turn, frame)?,
            Command::Unsubscribe => {
                client.unsubscribe(turn, frame)?;
            }
            Command::Begin => client
                .transactions
                .begin(Bytes::copy_from_slice(&transaction(frame)?))?,
            Command::Abort => client
                .transactions
                .abort(&transaction(frame)?, &mut client.ledger)?,
            Command::Commit => receipts = client.commit(turn, &transaction(frame)?)?,
            Command::Disconnect => {
                if let Some(id) = receipt {
                    // The client closes when it has this: everything it sent before must be safe then,
                    // and answered.
                    self.receipts_waiting += 1;
                    self.receipts
                        .push(turn.barrier(&self.waiter), vec![Bytes::copy_from_slice(id)]);
                }
                return Ok(Next::Leave);
            }
            // The machine lets only the commands of clients through, and answers CONNECT itself.
            Command::Send | Command::Ack | Command::Nack | Command::Connect | Command::Stomp => {}
            Command::Connected
            | Command::Message
            | Command::Receipt
            | Command::Error
            | Command::Unknown => {}
        }
        receipts.extend(receipt.map(|id| Bytes::copy_from_slice(id)));
        self.promise(turn, receipts, output);
        Ok(Next::Stay)
    }

    /// Owes receipts for what the turn did so far.
    fn promise(&mut self, turn: &mut Turn<'_>, receipts: Vec<Bytes>, output: &mut Output) {
        if receipts.is_empty() {
            return;
        }
        turn.settle_accounts();
        match turn.promise(&self.waiter) {
            Some(commit) => {
                self.receipts_waiting += receipts.len();
                self.receipts.push(commit, receipts);
            }
            None => {
                for id in receipts {
                    self.put_receipt(&id, output);
                }
            }
        }
    }

    /// Carries out what was gathered: every queue is entered once.
    fn flush(&mut self, turn: &mut Turn<'_>, output: &mut Output) -> Result<(), Closing> {
        let Some(client) = &mut self.client else {
            return Ok(());
        };
        let batch = &mut client.batch;
        if batch.is_empty() {
            return Ok(());
        }
        // Settlements first: what they free may be the room that a message behind them needs.
        for (queue, settlements) in batch.settlements.drain() {
            queue.settle(turn, &settlements);
        }
        client.publisher.publish(turn, &mut batch.messages);
        let mut receipts = std::mem::take(&mut batch.receipts);
        let mut refused = Vec::new();
        for (fate, sent) in batch.messages.drain_fates().zip(batch.sends.drain(..)) {
            match fate {
                Fate::Taken => receipts.extend(sent.receipt),
                Fate::Unrouted if !sent.mandatory => receipts.extend(sent.receipt),
                Fate::Unrouted => {
                    let why = "no queue is bound for the destination of this message, and it was sent with mandatory:true\n";
                    refused.push((
                        StompError::new("unroutable", "unroutable", why),
                        sent.receipt,
                    ));
                }
                Fate::Refused(error) => refused.push((refused_send(&error), sent.receipt)),
            }
        }
        if let Some(queue) = batch.messages.take_hold()
            && queue
                .as_local()
                .is_some_and(|local| local.hold(turn, &self.outbox))
        {
            self.held_by = Some(queue);
        }
        self.promise(turn, receipts, output);
        let mut result = Ok(());
        for (error, receipt) in refused {
            if self.fail(&error, receipt.as_deref(), output).is_err() {
                result = Err(Closing);
            }
        }
        result
    }

    /// Says that the broker stops, once nothing is owed any more.
    fn bid_farewell(&mut self, output: &mut Output) {
        if self.farewell && self.receipts.is_empty() {
            self.farewell = false;
            let error = StompError::new(
                "Broker is stopping",
                "shutdown",
                "the broker is stopping; what was receipted is kept, connect again later\n",
            );
            error.put(output.buffer(), self.machine.version(), None, &[]);
        }
    }

    /// One turn at the engine, whatever it is for.
    fn turn<R>(&mut self, work: impl FnOnce(&mut Self, &mut Turn<'_>) -> R) -> R {
        let core = Arc::clone(self.broker.core());
        let mut turn = Turn::begin(&core);
        let result = work(self, &mut turn);
        turn.finish();
        result
    }
}

/// What follows a frame.
enum Next {
    Stay,
    Leave,
}

fn not_logged_in() -> StompError {
    StompError::new(
        "Illegal command",
        "not_logged_in",
        "You must log in using CONNECT first",
    )
}

fn transaction(frame: &Frame) -> Result<std::borrow::Cow<'_, [u8]>, StompError> {
    frame.headers.get("transaction").ok_or_else(|| {
        let command = frame.command.as_str();
        StompError::new(
            "Missing transaction",
            "missing_transaction",
            format!("'{command}' must include a 'transaction' header\n"),
        )
    })
}

impl Session for StompSession {
    fn on_received(&mut self, now: Instant) {
        self.machine.bytes_received(now.into_std());
    }

    fn on_bytes(&mut self, now: Instant, input: &mut BytesMut, output: &mut Output) -> Flow {
        self.turn(|session, turn| session.take_events(turn, now, input, output))
    }

    fn frame_bytes(&self, received: usize) -> usize {
        self.machine.frame_bytes(received)
    }

    fn on_slow_frame(&mut self, output: &mut Output) -> Flow {
        tracing::info!(client = %self.peer.remote, "connection ends: a large frame came in too slowly");
        let error = reply::slow_frame();
        error.put(output.buffer(), self.machine.version(), None, &[]);
        Flow::Close
    }

    fn on_login(&mut self, now: Instant, outcome: LoginOutcome, output: &mut Output) -> Flow {
        let Some(pending) = self.login.take() else {
            return Flow::Continue;
        };
        let entered = match outcome {
            Ok(user) => pending.enter(&self.broker, &self.options, user, self.owner),
            Err(error) => Err(reply::from_login(&error, &pending.login)),
        };
        match entered {
            Ok((principal, vhost)) => {
                // The answer says which version holds from here on, and the client's session.
                let session = client::random_word();
                self.machine.logged_in(
                    now.into_std(),
                    output.buffer(),
                    &format!("session-{session}"),
                );
                let version = self.machine.version();
                tracing::info!(client = %self.peer.remote, user = principal.user.name(), vhost = %vhost.name(), version = version.as_str(), "logged in");
                self.client = Some(LoggedIn::new(
                    (&self.broker, &self.options, &self.outbox),
                    (principal, vhost),
                    version,
                    session,
                    pending.client_id,
                ));
                Flow::Continue
            }
            Err(error) => {
                tracing::warn!(client = %self.peer.remote, user = %pending.login, error = %error.body.trim_end(), "login refused");
                let frame = millpond_protocol::stomp::ErrorFrame::new(
                    error.message,
                    error.code,
                    &error.body,
                );
                match self.machine.login_refused(output.buffer(), &frame) {
                    Ok(()) if !error.closes(self.options.errors) => Flow::Continue,
                    Ok(()) => Flow::Close,
                    Err(fault) => self.fault(&fault, output),
                }
            }
        }
    }

    fn on_wake(&mut self, room: usize, output: &mut Output) -> Woken {
        self.outbox.rearm();
        let journal = &self.broker.core().journal;
        let start = output.len();
        let durable = journal.durable();
        let poisoned = journal.is_poisoned();
        while output.len() - start < room
            && let Some(ids) = self.receipts.pop_kept(durable)
        {
            self.receipts_waiting -= ids.len();
            for id in ids {
                self.put_receipt(&id, output);
            }
        }
        self.bid_farewell(output);
        if poisoned && !self.receipts.is_empty() {
            let error = from_engine(&EngineError::StoreFailed);
            while let Some(ids) = self.receipts.pop_broken() {
                for id in ids {
                    error.put(output.buffer(), self.machine.version(), Some(&id), &[]);
                }
            }
            self.receipts_waiting = 0;
            self.farewell = false;
            return Woken::Close;
        }
        let Some(client) = &mut self.client else {
            return Woken::Done;
        };
        let mut taken = std::mem::take(&mut client.taken);
        let room = room.saturating_sub(output.len() - start);
        let stalled = self.outbox.take(room, &mut taken);
        let mut cancelled = Vec::new();
        let mut encoded = 0;
        for item in taken.drain(..) {
            match item {
                Item::Delivery(delivery) => {
                    encoded += size_hint(&delivery.message);
                    client.deliver(delivery, output);
                }
                Item::Cancelled(tag) => cancelled.push(tag),
            }
        }
        client.taken = taken;
        let mut closes = false;
        for tag in cancelled {
            closes |= self.on_cancelled(tag, output);
        }
        if !stalled.is_empty() {
            self.turn(|_, turn| {
                for (queue, consumer) in &stalled {
                    queue.extend(turn, *consumer);
                }
            });
        }
        if closes {
            return Woken::Close;
        }
        let more = encoded >= room || !stalled.is_empty();
        if more && !self.outbox.is_empty() {
            Woken::More
        } else {
            Woken::Done
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.machine.poll_timeout().map(Instant::from_std)
    }

    fn on_timeout(&mut self, now: Instant, output: &mut Output) -> Flow {
        match self.machine.handle_timeout(now.into_std(), output.buffer()) {
            Ok(()) => Flow::Continue,
            Err(fault) => self.fault(&fault, output),
        }
    }

    fn on_sent(&mut self, now: Instant, written: u64) {
        self.machine.bytes_sent(now.into_std());
        let Some(client) = &mut self.client else {
            return;
        };
        // Transient messages are done with; only what is in the log has to be told.
        let done = client.take_unwritten(written, |delivery| delivery.message.meta().persistent);
        if done.is_empty() {
            return;
        }
        self.turn(|_, turn| {
            for (queue, deliveries) in done {
                let seqs: Vec<Seq> = deliveries.iter().map(|delivery| delivery.seq).collect();
                queue.written(turn, &seqs);
            }
        });
    }

    fn wants_input(&mut self, now: Instant, room: bool) -> bool {
        // Asked again, and registered again, with each look: others may have filled the room by now of which
        // this connection was told.
        if let Some(queue) = self.held_by.take_if(|queue| queue.is_full()) {
            let outbox = Arc::clone(&self.outbox);
            let held = self.turn(|_, turn| {
                let local = queue.as_local();
                local.is_some_and(|local| local.hold(turn, &outbox))
            });
            self.held_by = held.then_some(queue);
        } else {
            self.held_by = None;
        }
        // Only who has published is held back: whoever logs in and subscribes makes room. And not for the
        // sake of a full queue or memory while it holds unsettled deliveries, for the same reason.
        let held = self.client.as_ref().is_some_and(|client| {
            let settles = client.ledger.len() > 0;
            client.publishes
                && (self.broker.must_pause(&self.outbox, settles)
                    || (self.held_by.is_some() && !settles))
        });
        let wants = room && self.receipts_waiting < self.options.receipts_max && !held;
        if wants == self.paused {
            self.paused = !wants;
            if wants {
                self.machine.resume_receiving(now.into_std());
            } else {
                self.machine.pause_receiving(now.into_std());
            }
        }
        wants
    }

    fn owes(&self) -> bool {
        !self.receipts.is_empty() || self.farewell
    }

    fn on_shutdown(&mut self, output: &mut Output) {
        self.stopping = true;
        self.farewell = self.machine.is_logged_in();
        self.bid_farewell(output);
    }

    fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.outbox)
    }

    fn close(&mut self) {
        let Some(mut client) = self.client.take() else {
            return;
        };
        let counted = !self.stopping;
        tracing::info!(client = %self.peer.remote, user = client.principal.user.name(), "disconnected");
        self.turn(|_, turn| client.close(turn, counted));
    }
}

impl StompSession {
    /// A queue was deleted under its consumer. Says whether the connection ends with it.
    fn on_cancelled(&mut self, tag: ConsumerTag, output: &mut Output) -> bool {
        let Some(client) = &mut self.client else {
            return false;
        };
        let Some(subscription) = client.subscriptions.remove(tag) else {
            return false;
        };
        client
            .exclusive
            .retain(|queue| queue.id() != subscription.queue.id());
        client
            .reply_queues
            .retain(|_, queue| queue.id() != subscription.queue.id());
        let error = StompError::new(
            "Server cancelled subscription",
            "subscription_cancelled",
            "The server has canceled a subscription: its queue was deleted.\nNo more messages will be delivered for it.\n",
        );
        let name = match &subscription.key {
            super::subscription::SubscriptionKey::Id(name)
            | super::subscription::SubscriptionKey::Destination(name) => name.clone(),
        };
        error.put(
            output.buffer(),
            self.machine.version(),
            None,
            &[("subscription", &name)],
        );
        error.closes(self.options.errors)
    }
}
