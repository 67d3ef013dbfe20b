//! The only loop that reads and writes a client's socket.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;
use tokio_util::sync::CancellationToken;

use super::buffer::{BufferPool, READ_SIZE};
use super::ingest::{Ingest, Share};
use super::output::Output;
use super::session::{Flow, LoginFuture, Session, Woken};

/// Pieces a single write gathers at most.
const WRITE_PIECES: usize = 64;
/// With less room than this left, a buffer is given more before it is read into.
const READ_SIZE_MIN: usize = 4 * 1024;
/// How long a closed connection is listened to, so that the last ERROR is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// How connections are driven.
#[derive(Clone, Copy, Debug)]
pub struct DriverOptions {
    /// Bytes a single write hands to the system at most.
    pub write_bytes: usize,
    /// How long a connection that is being closed may take to fetch what is owed to it.
    pub close_timeout: Duration,
}

/// What all connections share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Read buffers.
    pub pool: Arc<BufferPool>,
    /// Memory for large frames that are coming in.
    pub ingest: Arc<Ingest>,
}

/// How connections are told to end.
#[derive(Clone, Debug)]
pub struct Stop {
    /// The broker is stopping: say so, write what is owed, end.
    pub clients: CancellationToken,
    /// End at once.
    pub abort: CancellationToken,
}

/// What woke the loop.
enum Event {
    Input(usize),
    Output(usize),
    Woken,
    Deadline,
    Login(super::session::LoginOutcome),
    /// There is room for the frame coming in.
    Room(OwnedSemaphorePermit),
    Stopping,
}

/// Drives one connection until it ends. Errors of the socket just end it.
///
/// The session has an allocation of its own: what is handed from future to future is in the task once for each of them,
/// and a broker has many connections that do nothing.
pub fn drive<T, S>(
    transport: T,
    session: S,
    stop: Stop,
    shared: Shared,
    options: DriverOptions,
) -> impl Future<Output = ()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Session,
{
    drive_boxed(transport, Box::new(session), stop, shared, options)
}

async fn drive_boxed<T, S>(
    mut transport: T,
    mut session: Box<S>,
    stop: Stop,
    shared: Shared,
    options: DriverOptions,
) where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Session,
{
    let mut driver = Driver {
        session: &mut *session,
        output: Output::default(),
        input: None,
        unread: false,
        share: Share::default(),
        login: None,
        closing: None,
        timer: None,
        stopping: false,
        options,
    };
    let ended = {
        let driving = pin!(driver.run(&mut transport, &stop, &shared));
        contained(driving).await
    };
    session.close();
    if ended.is_ok() {
        linger(&mut transport).await;
    }
}

/// A panic while driving one connection ends that connection only: what it holds still goes back.
async fn contained(mut driving: Pin<&mut impl Future<Output = io::Result<()>>>) -> io::Result<()> {
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| driving.as_mut().poll(cx)));
        // The panic hook has told what happened.
        polled.unwrap_or_else(|_| {
            Poll::Ready(Err(io::Error::other("the connection's task panicked")))
        })
    })
    .await
}

/// Closes our half, and reads the other's rest for a moment.
async fn linger<T: AsyncRead + AsyncWrite + Unpin>(transport: &mut T) {
    if transport.shutdown().await.is_err() {
        return;
    }
    let mut rest = BytesMut::with_capacity(4 * 1024);
    let drained = async {
        while let Ok(count) = poll_fn(|cx| poll_read_buf(Pin::new(transport), cx, &mut rest)).await
        {
            rest.clear();
            if count == 0 {
                break;
            }
        }
    };
    // Whatever comes of it: the connection is over.
    let _ = tokio::time::timeout(LINGER, drained).await;
}

struct Driver<'s, S> {
    session: &'s mut S,
    output: Output,
    input: Option<BytesMut>,
    /// Bytes were read that the session was not given yet.
    unread: bool,
    /// Of the memory for large frames.
    share: Share,
    login: Option<LoginFuture>,
    /// Since when the connection only wants to get rid of what is owed.
    closing: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    stopping: bool,
    options: DriverOptions,
}

impl<S: Session> Driver<'_, S> {
    /// `Ok` if we end the connection, an error if the client or the network did.
    async fn run<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        transport: &mut T,
        stop: &Stop,
        shared: &Shared,
    ) -> io::Result<()> {
        let pool = &*shared.pool;
        let outbox = self.session.outbox();
        let mut aborted = pin!(stop.abort.cancelled());
        let mut stopped = pin!(stop.clients.cancelled());
        loop {
            if self.closing.is_some() && self.output.is_empty() && !self.session.owes() {
                return Ok(());
            }
            self.arm_timer();
            let now = Instant::now();
            // A client that does not take its answers gets no new ones: that bounds them. Some of what it
            // sends is still read, though not looked at, because its heart-beats are among it.
            let answers = self.output.len() < self.options.write_bytes;
            let idle = self.closing.is_none() && self.login.is_none();
            if self.unread && answers && idle {
                let flow = self.take_input(now, pool);
                self.follow(flow, now);
                self.make_room(&shared.ingest);
                continue;
            }
            let room = answers
                || self
                    .input
                    .as_ref()
                    .is_none_or(|input| input.len() < READ_SIZE);
            let room = room && self.share.allows_reading();
            let reads = idle && self.session.wants_input(now, room);
            if !reads {
                self.share.excuse(now);
            }
            let event = {
                let (input, output, login, timer, share) = (
                    &mut self.input,
                    &mut self.output,
                    &mut self.login,
                    &mut self.timer,
                    &mut self.share,
                );
                let write_bytes = self.options.write_bytes;
                // The socket comes last: a client that never stops sending must not keep its own receipts,
                // deliveries and heart-beats waiting. None of the others is always ready.
                tokio::select! {
                    biased;
                    () = &mut aborted => return Err(io::ErrorKind::Interrupted.into()),
                    () = &mut stopped, if !self.stopping => Event::Stopping,
                    () = outbox.woken() => Event::Woken,
                    outcome = wait_login(login) => Event::Login(outcome),
                    () = wait_timer(timer) => Event::Deadline,
                    permit = share.turn() => Event::Room(permit),
                    event = poll_fn(|cx| poll_socket(transport, input, output, reads, write_bytes, pool, cx)) => event?,
                }
            };
            self.on_event(event, shared)?;
        }
    }

    fn on_event(&mut self, event: Event, shared: &Shared) -> io::Result<()> {
        let now = Instant::now();
        let flow = match event {
            // The client has said all it will. It may only have closed its half, and wait for its answers.
            Event::Input(0) => {
                if self.unread {
                    let _ = self.take_input(now, &shared.pool);
                }
                Flow::Close
            }
            Event::Input(_) => {
                self.session.on_received(now);
                self.unread = true;
                Flow::Continue
            }
            Event::Output(count) => {
                self.output.advance(count);
                self.session.on_sent(now, self.output.written());
                if self.output.is_empty() {
                    let flow = self.wake();
                    self.output.release();
                    flow
                } else {
                    Flow::Continue
                }
            }
            Event::Woken => self.wake(),
            Event::Login(outcome) => {
                self.login = None;
                // What the client sent behind its CONNECT, or in place of one, was waiting for this.
                self.unread = true;
                self.session.on_login(now, outcome, &mut self.output)
            }
            Event::Deadline => {
                self.timer = None;
                if self
                    .closing
                    .is_some_and(|since| now >= since + self.options.close_timeout)
                {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                if self
                    .session
                    .deadline()
                    .is_some_and(|deadline| deadline <= now)
                    && self.closing.is_none()
                {
                    self.session.on_timeout(now, &mut self.output)
                } else if self
                    .share
                    .deadline()
                    .is_some_and(|deadline| deadline <= now)
                    && self.closing.is_none()
                {
                    self.session.on_slow_frame(&mut self.output)
                } else {
                    Flow::Continue
                }
            }
            Event::Room(permit) => {
                self.share.take_turn(&shared.ingest, permit);
                Flow::Continue
            }
            Event::Stopping => {
                self.stopping = true;
                self.session.on_shutdown(&mut self.output);
                Flow::Close
            }
        };
        self.follow(flow, now);
        Ok(())
    }

    fn follow(&mut self, flow: Flow, now: Instant) {
        match flow {
            Flow::Continue => {}
            Flow::Close => {
                self.closing.get_or_insert(now);
                self.share = Share::None;
                // At once, not when the socket ends: a client that was told it may go must not be given
                // what comes meanwhile, and what it holds is free for others.
                self.session.close();
            }
            Flow::Login(login) => self.login = Some(login),
        }
    }

    /// Gives the session what was read.
    fn take_input(&mut self, now: Instant, pool: &BufferPool) -> Flow {
        self.unread = false;
        let mut nothing = BytesMut::new();
        let flow = self.session.on_bytes(
            now,
            self.input.as_mut().unwrap_or(&mut nothing),
            &mut self.output,
        );
        if self.input.as_ref().is_some_and(BytesMut::is_empty)
            && let Some(input) = self.input.take()
        {
            pool.give(input);
        }
        flow
    }

    /// Sees to it that the frame which has begun to come in may be kept.
    fn make_room(&mut self, ingest: &Ingest) {
        let received = self.input.as_ref().map_or(0, BytesMut::len);
        let bytes = if received > 0 && self.closing.is_none() {
            self.session.frame_bytes(received)
        } else {
            0
        };
        self.share.ask(ingest, bytes);
    }

    /// Lets the session encode what waits, as much as one write takes. What does not fit is fetched when
    /// that is written.
    fn wake(&mut self) -> Flow {
        let room = self.options.write_bytes.saturating_sub(self.output.len());
        if room == 0 {
            return Flow::Continue;
        }
        match self.session.on_wake(room, &mut self.output) {
            Woken::Done => Flow::Continue,
            Woken::More if !self.output.is_empty() => Flow::Continue,
            // Nothing is being written that would come back here.
            Woken::More => {
                self.session.outbox().wake();
                Flow::Continue
            }
            Woken::Close => Flow::Close,
        }
    }

    /// Has the timer run out at the session's deadline or earlier; a deadline that moved back is
    /// noticed when the timer runs out, so heart-beats do not re-arm it with every frame.
    fn arm_timer(&mut self) {
        let closing = self.closing.map(|since| since + self.options.close_timeout);
        let deadline = match closing {
            Some(closing) => Some(closing),
            None => [self.session.deadline(), self.share.deadline()]
                .into_iter()
                .flatten()
                .min(),
        };
        let Some(deadline) = deadline else { return };
        match &mut self.timer {
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
            Some(timer) if timer.deadline() > deadline => timer.as_mut().reset(deadline),
            Some(_) => {}
        }
    }
}

async fn wait_login(login: &mut Option<LoginFuture>) -> super::session::LoginOutcome {
    match login {
        Some(login) => login.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn wait_timer(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Writes if something waits, else reads if that is wanted.
fn poll_socket<T: AsyncRead + AsyncWrite + Unpin>(
    transport: &mut T,
    input: &mut Option<BytesMut>,
    output: &mut Output,
    reads: bool,
    write_bytes: usize,
    pool: &BufferPool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Event>> {
    if !output.is_empty() {
        let mut slices = [IoSlice::new(&[]); WRITE_PIECES];
        let used = output.gather(&mut slices, write_bytes);
        match Pin::new(&mut *transport).poll_write_vectored(cx, &slices[..used]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => return Poll::Ready(Ok(Event::Output(count))),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
    }
    if !reads {
        return Poll::Pending;
    }
    // Bytes of an unfinished frame stay where they are; the decoder made room for the rest.
    let mut buffer = input.take().unwrap_or_else(|| pool.take());
    if buffer.capacity() - buffer.len() < READ_SIZE_MIN {
        buffer.reserve(READ_SIZE);
    }
    let result = poll_read_buf(Pin::new(transport), cx, &mut buffer);
    if buffer.is_empty() && result.is_pending() {
        pool.give(buffer);
    } else {
        *input = Some(buffer);
    }
    match result {
        Poll::Ready(Ok(count)) => Poll::Ready(Ok(Event::Input(count))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}
