//! `millpond publish`: messages from the shell to any STOMP broker, with their receipts awaited.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgAction, Args};
use millpond_protocol::stomp::{Command, Frame};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines, Stdin, stdin};
use tokio::time::sleep;

use super::Failure;
use super::client::{self, LoginFlags, Session};

/// Messages sent whose receipts have not come yet.
const WINDOW: usize = 256;

/// Arguments of `publish`. Without --body, --file or --lines the message is all of standard input.
#[derive(Debug, Args)]
pub(super) struct PublishArguments {
    /// The broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:61613")]
    to: String,
    #[command(flatten)]
    login: LoginFlags,
    /// Where the message goes, such as /queue/orders or /topic/prices.eur
    #[arg(long, value_name = "DESTINATION")]
    destination: String,
    /// A header of the message; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = client::header)]
    headers: Vec<(String, String)>,
    /// The message's content type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Whether the message survives a restart of the broker [default: as the broker is configured]
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    persistent: Option<bool>,
    /// Whether to wait for the broker's receipt of every message
    #[arg(long, value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, default_value_t = true,
          default_missing_value = "true", require_equals = true)]
    receipt: bool,
    /// The message's text
    #[arg(long, value_name = "TEXT", group = "source")]
    body: Option<String>,
    /// A file whose content is the message
    #[arg(long, value_name = "FILE", group = "source")]
    file: Option<PathBuf>,
    /// Every line of standard input is a message
    #[arg(long, group = "source")]
    lines: bool,
    /// Send the message this many times
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "lines")]
    count: u64,
    /// Longest wait for an answer of the broker
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = client::duration)]
    timeout: Duration,
}

/// Where the bodies come from.
enum Source {
    /// The same body, this many times more.
    Same {
        body: Bytes,
        left: u64,
    },
    Lines(Lines<BufReader<Stdin>>),
}

impl Source {
    async fn open(arguments: &PublishArguments) -> Result<Self, Failure> {
        if arguments.lines {
            return Ok(Self::Lines(BufReader::new(stdin()).lines()));
        }
        let body = match (&arguments.body, &arguments.file) {
            (Some(text), _) => Bytes::from(text.clone()),
            (None, Some(path)) => std::fs::read(path).map(Bytes::from).map_err(|error| {
                Failure::usage(format!("cannot read {}: {error}", path.display()))
            })?,
            (None, None) => {
                let mut body = Vec::new();
                stdin()
                    .read_to_end(&mut body)
                    .await
                    .map_err(Failure::running)?;
                Bytes::from(body)
            }
        };
        Ok(Self::Same {
            body,
            left: arguments.count,
        })
    }

    /// The next body; none when there are no more. Cancel safe.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Same { left: 0, .. } => Ok(None),
            Self::Same { body, left } => {
                *left -= 1;
                Ok(Some(body.clone()))
            }
            Self::Lines(lines) => Ok(lines
                .next_line()
                .await
                .map_err(Failure::running)?
                .map(Bytes::from)),
        }
    }
}

/// Publishes, and returns when the broker has confirmed everything (or taken it, without receipts).
///
/// # Errors
/// When the broker refuses a message, in its own words; the messages confirmed before stay published.
pub(super) async fn run(arguments: &PublishArguments) -> Result<(), Failure> {
    let mut source = Source::open(arguments).await?;
    let mut session = Session::open(&arguments.to, &arguments.login, arguments.timeout).await?;
    let mut sent: u64 = 0;
    let mut unconfirmed = 0_usize;
    let mut more = true;
    while more || unconfirmed > 0 {
        tokio::select! {
            biased;
            received = session.receive() => {
                let frame = received.map_err(|failure| stopped_at(sent, unconfirmed, failure))?;
                match frame.command {
                    Command::Receipt => unconfirmed = unconfirmed.saturating_sub(1),
                    _ => return Err(stopped_at(sent, unconfirmed, session.unexpected(&frame))),
                }
            }
            next = source.next(), if more && unconfirmed < WINDOW => match next? {
                Some(body) => {
                    sent += 1;
                    session.send(&frame(arguments, sent, body)).await?;
                    unconfirmed += usize::from(arguments.receipt);
                }
                None => more = false,
            },
            () = sleep(arguments.timeout), if unconfirmed > 0 => {
                let silence = Failure::running(format!("{} did not answer within {:?}", arguments.to, arguments.timeout));
                return Err(stopped_at(sent, unconfirmed, silence));
            }
        }
    }
    let address = session.address().to_owned();
    session.close().await?;
    let what = if sent == 1 { "message" } else { "messages" };
    let how = if arguments.receipt {
        "confirmed by"
    } else {
        "sent, without receipts, to"
    };
    println!("{sent} {what} {how} {address}");
    Ok(())
}

fn frame(arguments: &PublishArguments, number: u64, body: Bytes) -> Frame {
    let mut frame = Frame::new(Command::Send).with_header("destination", &arguments.destination);
    if let Some(content_type) = &arguments.content_type {
        frame = frame.with_header("content-type", content_type);
    }
    if let Some(persistent) = arguments.persistent {
        frame = frame.with_header("persistent", persistent.to_string());
    }
    for (name, value) in &arguments.headers {
        frame = frame.with_header(name, value);
    }
    if arguments.receipt {
        frame = frame.with_header("receipt", number.to_string());
    }
    frame.with_body(body)
}

/// Says how far it came; for a single message that goes without saying.
fn stopped_at(sent: u64, unconfirmed: usize, failure: Failure) -> Failure {
    if sent <= 1 {
        return failure;
    }
    let confirmed = sent.saturating_sub(unconfirmed as u64);
    Failure {
        code: failure.code,
        sentence: format!("{} ({sent} sent, {confirmed} confirmed)", failure.sentence),
    }
}
