//! Queue arguments given as STOMP headers: a closed list. Every other `x-` header belongs to the message.

use millpond_protocol::stomp::Headers;
use millpond_protocol::value::Value;

use super::reply::StompError;
use crate::engine::arguments::Arguments;

/// How the text of a header becomes the argument's value.
#[derive(Clone, Copy)]
enum Form {
    Number,
    Text,
    Boolean,
}

const KNOWN: [(&str, Form); 12] = [
    ("x-dead-letter-exchange", Form::Text),
    ("x-dead-letter-routing-key", Form::Text),
    ("x-delivery-limit", Form::Number),
    ("x-expires", Form::Number),
    ("x-max-length", Form::Number),
    ("x-max-length-bytes", Form::Number),
    ("x-max-message-size", Form::Number),
    ("x-max-priority", Form::Number),
    ("x-message-ttl", Form::Number),
    ("x-overflow", Form::Text),
    ("x-queue-type", Form::Text),
    ("x-single-active-consumer", Form::Boolean),
];

/// Whether the header is a queue argument rather than part of the message.
pub(super) fn is_queue_argument(name: &[u8]) -> bool {
    name.starts_with(b"x-") && KNOWN.iter().any(|(known, _)| known.as_bytes() == name)
}

/// Reads the queue arguments out of a frame's headers.
///
/// # Errors
/// For a number that is none, naming the header and its value.
pub(super) fn queue_arguments(headers: &Headers) -> Result<Arguments, StompError> {
    let mut arguments = Arguments::default();
    for (name, form) in KNOWN {
        let Some(value) = headers.get(name) else {
            continue;
        };
        let text = String::from_utf8_lossy(&value).trim().to_owned();
        let value = match form {
            Form::Number => text
                .parse::<i64>()
                .map(Value::from)
                .map_err(|_| "a whole number"),
            Form::Text => Ok(Value::from(text.clone())),
            Form::Boolean => boolean(text.as_bytes())
                .map(Value::from)
                .ok_or("true or false"),
        };
        let value = value.map_err(|expected| {
            StompError::new(
                "Processing error",
                "invalid_header",
                format!("header '{name}' has the value '{text}': expected {expected}\n"),
            )
        })?;
        arguments.insert(name, value);
    }
    Ok(arguments)
}

/// `true` or `false`, as RabbitMQ spells them.
pub(super) fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"true" | b"True" => Some(true),
        b"false" | b"False" => Some(false),
        _ => None,
    }
}

/// A header that says yes or no; anything else is as if it were not there.
pub(super) fn flag(headers: &Headers, name: &str) -> Option<bool> {
    headers.get(name).and_then(|value| boolean(&value))
}

/// A header with a whole number; anything else is as if it were not there.
pub(super) fn number<N: std::str::FromStr>(headers: &Headers, name: &str) -> Option<N> {
    headers
        .get_str(name)
        .and_then(|value| value.trim().parse().ok())
}
