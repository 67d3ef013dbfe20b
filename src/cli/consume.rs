//! `millpond consume`: messages from any STOMP broker to standard output.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use millpond_protocol::stomp::{Command, Frame};
use serde::Serialize;
use tokio::time::sleep;

use super::Failure;
use super::client::{self, LoginFlags, Session};

/// Our only subscription.
const SUBSCRIPTION: &str = "0";

/// Unacknowledged messages the broker may send ahead; what is not printed goes back to the queue.
const PREFETCH: u64 = 100;

/// Longest wait for the broker's answer to a login or a goodbye.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `consume`.
#[derive(Debug, Args)]
pub(super) struct ConsumeArguments {
    /// The broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:61613")]
    from: String,
    #[command(flatten)]
    login: LoginFlags,
    /// What to subscribe to, such as /queue/orders or /topic/prices.#
    #[arg(long, value_name = "DESTINATION")]
    destination: String,
    /// Stop after this many messages [default: go on until Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// When a message is gone from the queue: once printed (client, client-individual) or once sent to us (auto)
    #[arg(long, value_name = "MODE", default_value = "client-individual")]
    ack: Ack,
    /// A header of the subscription, such as durable=true; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = client::header)]
    headers: Vec<(String, String)>,
    /// Stop when no message came for this long
    #[arg(long, value_name = "DURATION", value_parser = client::duration)]
    timeout: Option<Duration>,
    /// Print each message's headers and a blank line before its body
    #[arg(long = "headers", conflicts_with = "json")]
    show_headers: bool,
    /// Print each message as a line of JSON: headers, and body (body_hex when it is not UTF-8 text)
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ack {
    Auto,
    Client,
    ClientIndividual,
}

impl Ack {
    fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Client => "client",
            Self::ClientIndividual => "client-individual",
        }
    }
}

/// Why consuming ended without an error.
#[derive(PartialEq, Eq)]
enum End {
    Counted,
    Interrupted,
    TimedOut,
    /// Nobody reads our output any more.
    OutputClosed,
}

/// Consumes until the count, the time-out or Ctrl-C.
///
/// # Errors
/// When the broker refuses, the connection is lost, or fewer messages came than were asked for.
pub(super) async fn run(arguments: &ConsumeArguments) -> Result<(), Failure> {
    let mut session = Session::open(&arguments.from, &arguments.login, PATIENCE).await?;
    session.send(&subscribe(arguments)).await?;
    let mut received: u64 = 0;
    let end = loop {
        if arguments.count == Some(received) {
            break End::Counted;
        }
        let frame = tokio::select! {
            frame = session.receive() => frame?,
            _ = tokio::signal::ctrl_c() => break End::Interrupted,
            () = sleep(arguments.timeout.unwrap_or_default()), if arguments.timeout.is_some() => break End::TimedOut,
        };
        if frame.command != Command::Message {
            return Err(session.unexpected(&frame));
        }
        match print(arguments, &frame) {
            Ok(()) => {}
            // Not printed, so not acknowledged: it goes back to the queue.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break End::OutputClosed,
            Err(error) => {
                return Err(Failure::running(format!(
                    "cannot write to standard output: {error}"
                )));
            }
        }
        received += 1;
        if arguments.ack != Ack::Auto {
            session.send(&acknowledge(&frame)).await?;
        }
    };
    session.close().await?;
    match (end, arguments.count) {
        (End::Interrupted | End::TimedOut, Some(count)) => Err(Failure::running(format!(
            "received {received} of {count} messages"
        ))),
        _ => Ok(()),
    }
}

fn subscribe(arguments: &ConsumeArguments) -> Frame {
    let mut frame =
        Frame::new(Command::Subscribe).with_header("destination", &arguments.destination);
    let given = |name: &str| arguments.headers.iter().any(|(given, _)| given == name);
    if !given("id") {
        frame = frame.with_header("id", SUBSCRIPTION);
    }
    frame = frame.with_header("ack", arguments.ack.as_str());
    if arguments.ack != Ack::Auto && !given("prefetch-count") {
        let prefetch = arguments.count.unwrap_or(PREFETCH).min(PREFETCH);
        frame = frame.with_header("prefetch-count", prefetch.to_string());
    }
    for (name, value) in &arguments.headers {
        frame = frame.with_header(name, value);
    }
    frame
}

/// ACK in any version: 1.2 names the `ack` header of the delivery, 1.0 and 1.1 the message (and subscription).
fn acknowledge(message: &Frame) -> Frame {
    let header = |name| message.header(name).unwrap_or_default();
    let frame = Frame::new(Command::Ack);
    match message.header("ack") {
        Some(id) => frame.with_header("id", id),
        None => frame
            .with_header("message-id", header("message-id"))
            .with_header("subscription", header("subscription")),
    }
}

#[derive(Serialize)]
struct JsonMessage {
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

fn print(arguments: &ConsumeArguments, message: &Frame) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &json(message))?;
    } else {
        if arguments.show_headers {
            for (name, value) in message.headers.iter() {
                writeln!(
                    out,
                    "{}: {}",
                    String::from_utf8_lossy(&name),
                    String::from_utf8_lossy(&value)
                )?;
            }
            writeln!(out)?;
        }
        out.write_all(&message.body)?;
    }
    out.write_all(b"\n")?;
    out.flush()
}

fn json(message: &Frame) -> JsonMessage {
    let mut headers = BTreeMap::new();
    for (name, value) in message.headers.iter() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // The first of repeated headers is the one that counts (STOMP 1.2, "Repeated Header Entries").
        headers.entry(text(&name)).or_insert_with(|| text(&value));
    }
    let (body, body_hex) = match std::str::from_utf8(&message.body) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (
            None,
            Some(
                message
                    .body
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            ),
        ),
    };
    JsonMessage {
        headers,
        body,
        body_hex,
    }
}
