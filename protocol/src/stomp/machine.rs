//! The server's side of one connection, without a socket or a clock.
//!
//! ```text
//!                  CONNECT              logged_in
//! AwaitingLogin ------------> LoggingIn ----------> LoggedIn
//!       ^                         |
//!       +------ login_refused ----+        any of them --fault--> Failed
//! ```
//!
//! The caller pulls events out of the bytes it received, one at a time, so nothing queues up between the
//! bytes and whoever serves them. While a login is being checked no event comes.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::command::Command;
use super::connect::ConnectRequest;
use super::decode::Decoder;
use super::encode::put_frame;
use super::error_frame::{ErrorFrame, put_error};
use super::fault::{Fault, Refusal, Refused};
use super::frame::Frame;
use super::heartbeat::{HeartBeat, HeartBeats};
use super::limits::Limits;
use super::version::Version;

/// How a connection behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Limits of a frame once logged in.
    pub limits: Limits,
    /// Limits of a frame until then.
    pub limits_before_login: Limits,
    /// How long a client may take to log in, checking included. Default 10 s.
    pub login_timeout: Duration,
    /// Whether a first frame other than CONNECT logs in as the default user. Default no.
    pub implicit_connect: bool,
    /// Whether every ERROR ends the connection, as the specification has it, or only those after which the
    /// stream cannot be understood, as the field has it. Default no.
    pub strict_errors: bool,
    /// How many frames may be refused in a row, before the connection ends: each costs an ERROR many times
    /// its size. Before login nothing but a login ends the row. Default 100.
    pub refusals: u32,
    /// The `server` header of CONNECTED; empty hides it.
    pub server: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            limits_before_login: Limits::before_login(),
            login_timeout: Duration::from_secs(10),
            implicit_connect: false,
            strict_errors: false,
            refusals: 100,
            server: concat!("millpond/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// What the caller has to do next.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every event is a frame; boxing it would cost an allocation for each"
)]
pub enum Event {
    /// A client wants to log in: check it, then call [`Machine::logged_in`] or [`Machine::login_refused`].
    Connect(Box<ConnectRequest>),
    /// A frame of a logged-in client; a command that clients send, CONNECT excepted.
    Frame(Frame),
}

/// The rules of order of one connection: login, version, heart-beats.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    decoder: Decoder,
    version: Version,
    phase: Phase,
    refusals: u32,
}

#[derive(Debug)]
enum Phase {
    AwaitingLogin {
        deadline: Option<Instant>,
    },
    LoggingIn {
        deadline: Option<Instant>,
        login: Box<Login>,
    },
    LoggedIn {
        beats: HeartBeats,
        held: Option<Box<Frame>>,
    },
    Failed,
}

/// What the answer to a login needs.
#[derive(Debug)]
struct Login {
    version: Version,
    agreed: HeartBeat,
    request_id: Option<Bytes>,
    receipt_id: Option<Bytes>,
    /// The frame that logged in implicitly.
    held: Option<Box<Frame>>,
}

impl Machine {
    /// A connection just accepted; the time to log in runs from now.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        Self {
            decoder: Decoder::new(config.limits_before_login),
            version: Version::V1_0,
            phase: Phase::AwaitingLogin {
                deadline: now.checked_add(config.login_timeout),
            },
            refusals: 0,
            config,
        }
    }

    /// Takes the next event out of the bytes received so far. `None`: more bytes are needed, or the answer to
    /// a login is.
    ///
    /// What the machine answers by itself (an ERROR for a frame out of order) is appended to `dst`; it is at
    /// most [`Config::refusals`] frames in one call.
    ///
    /// # Errors
    /// A fault ends the connection: write it with [`put_fault`](super::put_fault), flush, close. No event
    /// comes afterwards.
    pub fn poll_event(
        &mut self,
        now: Instant,
        src: &mut BytesMut,
        dst: &mut BytesMut,
    ) -> Result<Option<Event>, Fault> {
        loop {
            match &mut self.phase {
                Phase::LoggedIn { held, .. } => {
                    if let Some(frame) = held.take() {
                        return Ok(Some(Event::Frame(*frame)));
                    }
                }
                Phase::AwaitingLogin { deadline } => {
                    if deadline.is_some_and(|deadline| deadline <= now) {
                        return Err(self.fail(Fault::LoginTimeout));
                    }
                }
                Phase::LoggingIn { .. } | Phase::Failed => return Ok(None),
            }
            let frame = match self.decoder.decode(src) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => {
                    let receipt_id = self.decoder.receipt(src);
                    return Err(self.fail(Fault::Decode { error, receipt_id }));
                }
            };
            if let Phase::AwaitingLogin { deadline } = self.phase {
                match self.before_login(deadline, frame) {
                    Ok(request) => return Ok(Some(Event::Connect(request))),
                    Err(refused) => self.refuse(dst, refused)?,
                }
            } else if let Some(refusal) = refusal_after_login(&frame) {
                self.refuse(dst, refused(&frame, refusal))?;
            } else {
                self.refusals = 0;
                return Ok(Some(Event::Frame(frame)));
            }
        }
    }

    /// How many bytes the frame that has begun in a buffer of `received` bytes will have at most: what its
    /// `content-length` says, or the limit if the frame has already outgrown what is usual without one.
    #[must_use]
    pub fn frame_bytes(&self, received: usize) -> usize {
        self.decoder.frame_bytes(received)
    }

    fn before_login(
        &mut self,
        deadline: Option<Instant>,
        frame: Frame,
    ) -> Result<Box<ConnectRequest>, Refused> {
        let (request, agreed, held) = match frame.command {
            Command::Connect | Command::Stomp => {
                let version = Version::negotiate(frame.header("accept-version").as_deref())
                    .ok_or_else(|| refused(&frame, Refusal::VersionMismatch))?;
                let agreed = HeartBeat::answer(frame.header("heart-beat").as_deref())
                    .map_err(|_| refused(&frame, Refusal::BadHeartBeat))?;
                (ConnectRequest::new(version, frame), agreed, None)
            }
            command if self.config.implicit_connect && command.is_from_client() => {
                let request = ConnectRequest::implicit();
                (request, HeartBeat::default(), Some(Box::new(frame)))
            }
            _ => return Err(refused(&frame, Refusal::NotLoggedIn)),
        };
        let asking = held.as_deref().unwrap_or(&request.frame);
        let login = Login {
            version: request.version,
            agreed,
            request_id: request.request_id.clone(),
            receipt_id: asking.headers.get_bytes("receipt"),
            held,
        };
        self.phase = Phase::LoggingIn {
            deadline,
            login: Box::new(login),
        };
        Ok(Box::new(request))
    }

    fn refuse(&mut self, dst: &mut BytesMut, refused: Refused) -> Result<(), Fault> {
        if self.config.strict_errors {
            return Err(self.fail(Fault::Refused(Box::new(refused))));
        }
        self.count_refusal()?;
        let body = refused.refusal.to_string();
        let error = ErrorFrame::new(refused.refusal.message(), refused.refusal.code(), &body)
            .with_receipt_id(refused.receipt_id.as_deref());
        put_error(dst, self.version, &error);
        Ok(())
    }

    fn count_refusal(&mut self) -> Result<(), Fault> {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > self.config.refusals {
            let limit = self.config.refusals;
            return Err(self.fail(Fault::TooManyRefusals { limit }));
        }
        Ok(())
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.phase = Phase::Failed;
        fault
    }

    /// The login of the last [`Event::Connect`] succeeded: writes CONNECTED (not for an implicit login), and
    /// from here on the agreed version, the larger limits and the heart-beats hold.
    ///
    /// Does nothing when no login is being checked, for instance because its time ran out meanwhile.
    pub fn logged_in(&mut self, now: Instant, dst: &mut BytesMut, session: &str) {
        let Phase::LoggingIn { login, .. } = &mut self.phase else {
            return;
        };
        let held = login.held.take();
        self.version = login.version;
        self.refusals = 0;
        self.decoder.set_version(login.version);
        self.decoder.set_limits(self.config.limits);
        if held.is_none() {
            let mut connected = Frame::new(Command::Connected)
                .with_header("version", login.version.as_str())
                .with_header("heart-beat", login.agreed.header())
                .with_header("session", session);
            if !self.config.server.is_empty() {
                connected = connected.with_header("server", &self.config.server);
            }
            if let Some(request_id) = &login.request_id {
                connected = connected.with_header("response-id", request_id);
            }
            put_frame(dst, login.version, &connected);
        }
        let beats = HeartBeats::new(now, login.agreed);
        self.phase = Phase::LoggedIn { beats, held };
    }

    /// The login of the last [`Event::Connect`] failed: writes `error`, with the `receipt-id` of what asked
    /// for the login unless `error` has one. The client may try again until its time is over.
    ///
    /// # Errors
    /// [`Fault::TooManyRefusals`] when it tried too often.
    pub fn login_refused(
        &mut self,
        dst: &mut BytesMut,
        error: &ErrorFrame<'_>,
    ) -> Result<(), Fault> {
        let Phase::LoggingIn { deadline, login } = &self.phase else {
            return Ok(());
        };
        let receipt_id = error.receipt_id.or(login.receipt_id.as_deref());
        put_error(dst, self.version, &error.with_receipt_id(receipt_id));
        self.phase = Phase::AwaitingLogin {
            deadline: *deadline,
        };
        self.count_refusal()
    }

    /// Bytes came from the client, whatever they are.
    pub fn bytes_received(&mut self, now: Instant) {
        if let Phase::LoggedIn { beats, .. } = &mut self.phase {
            beats.bytes_received(now);
        }
    }

    /// Bytes went to the client.
    pub fn bytes_sent(&mut self, now: Instant) {
        if let Phase::LoggedIn { beats, .. } = &mut self.phase {
            beats.bytes_sent(now);
        }
    }

    /// The caller stops reading on purpose: the client's silence does not count until reading goes on.
    pub fn pause_receiving(&mut self, now: Instant) {
        if let Phase::LoggedIn { beats, .. } = &mut self.phase {
            beats.pause(now);
        }
    }

    /// Reading goes on after [`Machine::pause_receiving`].
    pub fn resume_receiving(&mut self, now: Instant) {
        if let Phase::LoggedIn { beats, .. } = &mut self.phase {
            beats.resume(now);
        }
    }

    /// When [`Machine::handle_timeout`] has to be called, unless something changes before. `None`: no timer
    /// is needed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::AwaitingLogin { deadline } | Phase::LoggingIn { deadline, .. } => *deadline,
            Phase::LoggedIn { beats, .. } => match (beats.beat_at(), beats.dead_at()) {
                (Some(beat), Some(dead)) => Some(beat.min(dead)),
                (beat, dead) => beat.or(dead),
            },
            Phase::Failed => None,
        }
    }

    /// Does what is due: a beat (LF) is appended to `dst`. Calling it early does nothing.
    ///
    /// # Errors
    /// [`Fault::LoginTimeout`] and [`Fault::HeartbeatMissed`] end the connection.
    pub fn handle_timeout(&mut self, now: Instant, dst: &mut BytesMut) -> Result<(), Fault> {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        match &mut self.phase {
            Phase::AwaitingLogin { deadline } | Phase::LoggingIn { deadline, .. } => {
                if due(*deadline) {
                    return Err(self.fail(Fault::LoginTimeout));
                }
            }
            Phase::LoggedIn { beats, .. } => {
                if due(beats.dead_at()) {
                    return Err(self.fail(Fault::HeartbeatMissed));
                }
                if due(beats.beat_at()) {
                    dst.put_u8(b'\n');
                    // Counts as sent, so that a slow socket collects one beat in an interval, not a stream.
                    beats.bytes_sent(now);
                }
            }
            Phase::Failed => {}
        }
        Ok(())
    }

    /// The version spoken; 1.0 until login.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the client is logged in, and the connection sound.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        matches!(self.phase, Phase::LoggedIn { .. })
    }
}

/// Why a logged-in client may not send this frame, if so.
fn refusal_after_login(frame: &Frame) -> Option<Refusal> {
    match frame.command {
        Command::Connect | Command::Stomp => Some(Refusal::AlreadyLoggedIn),
        command if command.is_from_client() => None,
        _ => Some(Refusal::BadCommand {
            command: frame.command_text.clone(),
        }),
    }
}

fn refused(frame: &Frame, refusal: Refusal) -> Refused {
    Refused {
        refusal,
        receipt_id: frame.headers.get_bytes("receipt"),
    }
}
