//! What the driver asks of a protocol.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::Instant;

use super::output::Output;
use crate::engine::access::{AccessError, User};
use crate::engine::outbox::Outbox;

/// What the driver does after a session was called.
#[derive(Default)]
pub enum Flow {
    /// Goes on.
    #[default]
    Continue,
    /// Reads no more; closes once everything owed and written is out.
    Close,
    /// Waits for a login to be checked, reading nothing meanwhile.
    Login(LoginFuture),
}

/// What a woken session did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Everything that waited is encoded.
    Done,
    /// More waits than there was room for.
    More,
    /// The connection has to end: a promise was broken, or an ERROR had to be sent that ends it.
    Close,
}

/// A login being checked (slowly, on purpose, and elsewhere).
pub type LoginFuture = Pin<Box<dyn Future<Output = LoginOutcome> + Send>>;

/// Its outcome.
pub type LoginOutcome = Result<Arc<User>, AccessError>;

/// One client's session in one protocol: bytes in, bytes out, no I/O of its own.
pub trait Session: Send {
    /// Bytes came from the client; what they say may have to wait.
    fn on_received(&mut self, now: Instant);

    /// Carries out every complete frame in `input`; what is incomplete stays there.
    fn on_bytes(&mut self, now: Instant, input: &mut BytesMut, output: &mut Output) -> Flow;

    /// How many bytes the frame that has begun to come in will have, at most; `received` of them, or more
    /// frames, are there.
    fn frame_bytes(&self, received: usize) -> usize;

    /// A large frame has not come in within its time: says so to the client.
    fn on_slow_frame(&mut self, output: &mut Output) -> Flow;

    /// A login was checked.
    fn on_login(&mut self, now: Instant, outcome: LoginOutcome, output: &mut Output) -> Flow;

    /// The outbox or a promise woke the connection: encodes what fits into about `room` bytes.
    fn on_wake(&mut self, room: usize, output: &mut Output) -> Woken;

    /// When [`Session::on_timeout`] is due; `None` if nothing is.
    fn deadline(&self) -> Option<Instant>;

    /// Time passed.
    fn on_timeout(&mut self, now: Instant, output: &mut Output) -> Flow;

    /// Bytes went to the socket, `written` since the connection began: deliveries under auto-ack that end
    /// before there are done.
    fn on_sent(&mut self, now: Instant, written: u64);

    /// Whether the client is to be read from: not while the broker holds a publisher back, and not while
    /// there is no `room` for what it says.
    fn wants_input(&mut self, now: Instant, room: bool) -> bool;

    /// Whether something is owed that has to be waited for before closing.
    fn owes(&self) -> bool;

    /// The broker is stopping: says so to the client.
    fn on_shutdown(&mut self, output: &mut Output);

    /// Where its deliveries wait.
    fn outbox(&self) -> Arc<Outbox>;

    /// The connection ends: gives back what it holds. What is owed and encoded still goes out.
    fn close(&mut self);
}
