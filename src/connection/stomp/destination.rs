//! Destinations: RabbitMQ's forms, and ActiveMQ's `/temp-topic/`.

use bytes::{BufMut, Bytes, BytesMut};

use super::reply::StompError;
use crate::engine::message::Address;
use crate::engine::name::{BindingKey, ExchangeName, QueueName, RoutingKey};

/// A place that a client named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// `/queue/<name>`, or a name without any slash: made when first touched.
    Queue(QueueName),
    /// `/amq/queue/<name>` and `/reply-queue/<name>`: a queue that must be there.
    ExistingQueue(QueueName),
    /// `/topic/<key>`: the default topic exchange.
    Topic(Bytes),
    /// `/exchange/<name>[/<key>]`.
    Exchange(ExchangeName, Bytes),
    /// `/temp-queue/<name>`, private to the connection.
    TempQueue(Bytes),
    /// `/temp-topic/<name>`, private to the connection.
    TempTopic(Bytes),
}

const KINDS: &str =
    "/temp-queue, /temp-topic, /exchange, /topic, /queue, /amq/queue, /reply-queue/";

fn invalid(rest: &[u8], kind: &str) -> StompError {
    let rest = String::from_utf8_lossy(rest);
    StompError::new(
        "Invalid destination",
        "invalid_destination",
        format!("'{rest}' is not a valid {kind} destination\n"),
    )
}

/// `%2F` is a slash inside a name; nothing else is decoded.
fn decode(part: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(part.len());
    let mut rest = part;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'%', b'2', b'F' | b'f', tail @ ..] => {
                out.put_u8(b'/');
                rest = tail;
            }
            _ => {
                out.put_u8(*first);
                rest = tail;
            }
        }
    }
    out.freeze()
}

/// The segments after the prefix, each non-empty; `rest` starts with a slash or is empty.
fn segments(rest: &[u8]) -> Option<Vec<&[u8]>> {
    let rest = rest.strip_prefix(b"/")?;
    let segments: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
    segments
        .iter()
        .all(|segment| !segment.is_empty())
        .then_some(segments)
}

impl Destination {
    /// Parses the value of a `destination` header.
    ///
    /// # Errors
    /// What is wrong with it, and which forms there are.
    pub(super) fn parse(text: &[u8]) -> Result<Self, StompError> {
        if text.is_empty() {
            return Err(StompError::new(
                "Invalid destination",
                "invalid_destination",
                "Destination cannot be blank\n",
            ));
        }
        if !text.contains(&b'/') {
            return QueueName::parse(Bytes::copy_from_slice(text))
                .map(Self::Queue)
                .map_err(|error| name_error(&error.to_string()));
        }
        let rest_of = |prefix: &str| {
            text.strip_prefix(prefix.as_bytes())
                .filter(|rest| rest.is_empty() || rest[0] == b'/')
        };
        if let Some(rest) = rest_of("/queue") {
            return Self::one(rest, "queue").and_then(|name| queue_name(name).map(Self::Queue));
        }
        if let Some(rest) = rest_of("/topic") {
            // One name of several levels: a/b is a.b, as clients of ActiveMQ and Spring write it.
            let segments = segments(rest).ok_or_else(|| invalid(rest, "topic"))?;
            let key: Vec<Bytes> = segments.into_iter().map(decode).collect();
            return Ok(Self::Topic(key.join(&b'.').into()));
        }
        if let Some(rest) = rest_of("/exchange") {
            return match segments(rest).as_deref() {
                Some([exchange]) => {
                    exchange_name(exchange).map(|exchange| Self::Exchange(exchange, Bytes::new()))
                }
                Some([exchange, key]) => {
                    exchange_name(exchange).map(|exchange| Self::Exchange(exchange, decode(key)))
                }
                _ => Err(invalid(rest, "exchange")),
            };
        }
        if let Some(rest) = rest_of("/amq/queue") {
            return Self::one(rest, "amqqueue")
                .and_then(|name| queue_name(name).map(Self::ExistingQueue));
        }
        if let Some(rest) = rest_of("/reply-queue") {
            // Everything behind the prefix is the name, slashes included.
            return match rest {
                [b'/', name @ ..] if !name.is_empty() => {
                    queue_name(Bytes::copy_from_slice(name)).map(Self::ExistingQueue)
                }
                _ => Err(invalid(rest, "reply_queue")),
            };
        }
        if let Some(rest) = rest_of("/temp-queue") {
            return Self::one(rest, "temp_queue").map(Self::TempQueue);
        }
        if let Some(rest) = rest_of("/temp-topic") {
            return Self::one(rest, "temp_topic").map(Self::TempTopic);
        }
        let text = String::from_utf8_lossy(text);
        Err(StompError::new(
            "Unknown destination",
            "unknown_destination",
            format!(
                "'{text}' is not a valid destination.\nValid destination types are: {KINDS}.\n"
            ),
        ))
    }

    fn one(rest: &[u8], kind: &str) -> Result<Bytes, StompError> {
        match segments(rest).as_deref() {
            Some([name]) => Ok(decode(name)),
            _ => Err(invalid(rest, kind)),
        }
    }
}

fn name_error(why: &str) -> StompError {
    StompError::new(
        "Invalid destination",
        "invalid_destination",
        format!("{why}\n"),
    )
}

fn queue_name(name: Bytes) -> Result<QueueName, StompError> {
    QueueName::parse(name).map_err(|error| name_error(&error.to_string()))
}

fn exchange_name(name: &[u8]) -> Result<ExchangeName, StompError> {
    ExchangeName::parse(decode(name)).map_err(|error| name_error(&error.to_string()))
}

/// A key to publish with.
pub(super) fn routing_key(key: Bytes) -> Result<RoutingKey, StompError> {
    RoutingKey::parse(key).map_err(|error| name_error(&error.to_string()))
}

/// A key to bind with.
pub(super) fn binding_key(key: Bytes) -> Result<BindingKey, StompError> {
    BindingKey::parse(key).map_err(|error| name_error(&error.to_string()))
}

/// Appends a name as a segment of a destination: slash, percent and what is not printable ASCII are escaped.
fn put_segment(dst: &mut BytesMut, name: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in name {
        match byte {
            b'/' | b'%' | 0..32 | 127.. => dst.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
            // A colon or backslash would need an escape of the header's own; all others stand for themselves.
            _ => dst.put_u8(*byte),
        }
    }
}

/// The destination under which a message that was published to `address` is delivered.
pub(super) fn destination_of(address: &Address) -> Bytes {
    let mut text = BytesMut::with_capacity(64);
    let key = address.routing_key.as_bytes();
    match address.exchange.as_bytes() {
        b"" => text.extend_from_slice(b"/queue/"),
        b"amq.topic" => text.extend_from_slice(b"/topic/"),
        exchange => {
            text.extend_from_slice(b"/exchange/");
            put_segment(&mut text, exchange);
            if key.is_empty() {
                return text.freeze();
            }
            text.put_u8(b'/');
        }
    }
    put_segment(&mut text, key);
    text.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match Destination::parse(text.as_bytes()) {
            Ok(destination) => format!("{destination:?}"),
            Err(error) => error.body.trim_end().to_owned(),
        }
    }

    #[test]
    fn every_form_is_understood() {
        let name = |name: &'static str| QueueName::parse(name).unwrap();
        let exchange = |name: &'static str| ExchangeName::parse(name).unwrap();
        for (text, expected) in [
            ("orders", Destination::Queue(name("orders"))),
            ("/queue/orders", Destination::Queue(name("orders"))),
            ("/queue/a%2Fb%20c", Destination::Queue(name("a/b%20c"))),
            ("/topic/a.*.#", Destination::Topic("a.*.#".into())),
            ("/topic/a/b", Destination::Topic("a.b".into())),
            (
                "/exchange/logs",
                Destination::Exchange(exchange("logs"), Bytes::new()),
            ),
            (
                "/exchange/logs/a.b",
                Destination::Exchange(exchange("logs"), "a.b".into()),
            ),
            ("/amq/queue/x", Destination::ExistingQueue(name("x"))),
            ("/reply-queue/a/b", Destination::ExistingQueue(name("a/b"))),
            ("/temp-queue/r", Destination::TempQueue("r".into())),
            ("/temp-topic/r", Destination::TempTopic("r".into())),
        ] {
            assert_eq!(
                Destination::parse(text.as_bytes()).map_err(|error| error.body),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", "Destination cannot be blank"),
            ("/queue", "'' is not a valid queue destination"),
            ("/queue/", "'/' is not a valid queue destination"),
            ("/queue/a/b", "'/a/b' is not a valid queue destination"),
            ("/topic/", "'/' is not a valid topic destination"),
            (
                "/exchange//foo",
                "'//foo' is not a valid exchange destination",
            ),
            (
                "/exchange/a/b/c",
                "'/a/b/c' is not a valid exchange destination",
            ),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        assert!(parsed("/nowhere/x").contains("Valid destination types are: /temp-queue"));
        assert!(parsed("/queues/x").contains("'/queues/x' is not a valid destination"));
    }

    #[test]
    fn a_message_shows_where_it_was_published_to() {
        for (exchange, key, expected) in [
            ("", "orders", "/queue/orders"),
            ("", "a/b%\u{e9}", "/queue/a%2Fb%25%C3%A9"),
            ("amq.topic", "a.b", "/topic/a.b"),
            ("logs", "", "/exchange/logs"),
            ("lo/gs", "k", "/exchange/lo%2Fgs/k"),
        ] {
            let address = Address {
                exchange: ExchangeName::parse(exchange).unwrap(),
                routing_key: RoutingKey::parse(key).unwrap(),
            };
            assert_eq!(destination_of(&address), expected, "{exchange} {key}");
        }
    }
}
