//! What `publish` and `consume` share: a logged-in STOMP connection and the broker's answers in words.

use std::fmt;
use std::time::Duration;

use clap::Args;
use futures_util::{SinkExt, StreamExt};
use millpond_protocol::stomp::{Codec, CodecError, Command, Frame, Limits, Version};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::Framed;

use super::Failure;
use crate::config::parse_duration;

/// The receipt of our DISCONNECT.
const GOODBYE: &str = "goodbye";

/// What a broker may send us; as large as any broker can be configured to.
const LIMITS: Limits = Limits {
    frame_bytes: (1 << 30) + (1 << 20),
    headers: 10_000,
    header_line_bytes: 1 << 20,
};

/// Who logs in, and where.
#[derive(Debug, Args)]
pub(super) struct LoginFlags {
    /// Log in as this user [default: the broker's default user]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Its password; the environment keeps it out of process listings
    #[arg(
        long,
        value_name = "TEXT",
        env = "MILLPOND_PASSWORD",
        hide_env_values = true,
        requires = "user"
    )]
    password: Option<String>,
    /// The virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    vhost: String,
}

/// Reads a `NAME=VALUE` header flag.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// Reads a duration flag.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write it with a unit, such as 10s, 500ms or 2m".to_owned())
}

/// Runs a client command to its end.
///
/// # Errors
/// Whatever the command's error is.
pub(super) fn run(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::running)?;
    let done = runtime.block_on(command);
    // Standard input is read on a thread of its own that nothing can interrupt; the command does not wait for it.
    runtime.shutdown_background();
    done
}

/// A logged-in connection.
pub(super) struct Session {
    frames: Framed<TcpStream, Codec>,
    address: String,
    patience: Duration,
}

impl Session {
    /// Connects to HOST:PORT and logs in; every later answer may take as long as `patience` too.
    ///
    /// # Errors
    /// When there is no broker, it refuses the login, or it takes too long.
    pub(super) async fn open(
        address: &str,
        login: &LoginFlags,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let stream = timeout(patience, TcpStream::connect(address))
            .await
            .map_err(|_| too_slow(address, patience))?
            .map_err(|error| {
                Failure::running(format!(
                    "cannot connect to {address}: {error}. Is the broker running there?"
                ))
            })?;
        stream.set_nodelay(true).map_err(Failure::running)?;
        let frames = Framed::new(stream, Codec::new(Version::V1_0, LIMITS));
        let mut session = Self {
            frames,
            address: address.to_owned(),
            patience,
        };
        let mut connect = Frame::new(Command::Connect)
            .with_header("accept-version", Version::LIST)
            .with_header("host", &login.vhost);
        if let Some(user) = &login.user {
            connect = connect.with_header("login", user);
            connect =
                connect.with_header("passcode", login.password.as_deref().unwrap_or_default());
        }
        session.send(&connect).await?;
        let answer = session.receive_in_time().await?;
        match answer.command {
            Command::Connected => Ok(session),
            _ => Err(session.unexpected(&answer)),
        }
    }

    /// The broker's address as it was given.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// When the connection is over; with the broker's own words if it left some.
    pub(super) async fn send(&mut self, frame: &Frame) -> Result<(), Failure> {
        match timeout(self.patience, self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.last_words(error).await),
            Err(_) => Err(too_slow(&self.address, self.patience)),
        }
    }

    /// Waits for the next frame, however long it takes. Cancel safe.
    ///
    /// # Errors
    /// When the connection is over.
    pub(super) async fn receive(&mut self) -> Result<Frame, Failure> {
        match self.frames.next().await {
            Some(Ok(frame)) => Ok(frame),
            Some(Err(error)) => Err(Failure::running(format!("{}: {error}", self.address))),
            None => Err(Failure::running(format!(
                "{} closed the connection",
                self.address
            ))),
        }
    }

    /// Waits for the next frame as long as the session is patient.
    ///
    /// # Errors
    /// When the connection is over or the broker takes too long.
    pub(super) async fn receive_in_time(&mut self) -> Result<Frame, Failure> {
        match timeout(self.patience, self.receive()).await {
            Ok(received) => received,
            Err(_) => Err(too_slow(&self.address, self.patience)),
        }
    }

    /// Disconnects once the broker has dealt with everything that was sent, ignoring deliveries still on their way.
    ///
    /// # Errors
    /// When the broker answers with an ERROR, or not at all.
    pub(super) async fn close(mut self) -> Result<(), Failure> {
        self.send(&Frame::new(Command::Disconnect).with_header("receipt", GOODBYE))
            .await?;
        loop {
            let frame = self.receive_in_time().await?;
            match frame.command {
                Command::Receipt if is_receipt(&frame, GOODBYE) => return Ok(()),
                Command::Message | Command::Receipt => {}
                _ => return Err(self.unexpected(&frame)),
            }
        }
    }

    /// The failure that a frame means which is not what was waited for.
    pub(super) fn unexpected(&self, frame: &Frame) -> Failure {
        match frame.command {
            Command::Error => Failure::running(Refused(frame)),
            command => Failure::running(format!(
                "{} sent {} where none was expected",
                self.address,
                command.as_str()
            )),
        }
    }

    /// After a failed write: the ERROR frame the broker may have sent before it closed.
    async fn last_words(&mut self, error: CodecError) -> Failure {
        while let Ok(Some(Ok(frame))) = timeout(Duration::from_secs(1), self.frames.next()).await {
            if frame.command == Command::Error {
                return self.unexpected(&frame);
            }
        }
        Failure::running(format!("{}: {error}", self.address))
    }
}

fn too_slow(address: &str, patience: Duration) -> Failure {
    Failure::running(format!("{address} did not answer within {patience:?}"))
}

/// Whether a RECEIPT is the one asked for as `id`.
pub(super) fn is_receipt(frame: &Frame, id: &str) -> bool {
    frame
        .header("receipt-id")
        .is_some_and(|value| *value == *id.as_bytes())
}

/// An ERROR frame in words: its `message`, and what its body says.
struct Refused<'a>(&'a Frame);

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.0.header("message");
        let message = message
            .as_deref()
            .map_or("no reason given".into(), String::from_utf8_lossy);
        write!(f, "the broker refused: {}", message.trim_end())?;
        match String::from_utf8_lossy(&self.0.body).trim() {
            "" => Ok(()),
            body => write!(f, "\n{body}"),
        }
    }
}
