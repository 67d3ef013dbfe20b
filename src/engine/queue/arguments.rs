//! Queue arguments: the `x-` table given at declaration, read once.

use millpond_protocol::value::Value;

use crate::engine::arguments::Arguments;
use crate::engine::error::{EngineError, Inequivalent, Kind};
use crate::engine::name::{ExchangeName, QueueName, RoutingKey, VhostName};

/// What happens when a queue at its length limit is published to (`x-overflow`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest message goes, dead-lettered with reason `maxlen`.
    #[default]
    DropHead,
    /// The new message is refused.
    RejectPublish,
    /// The new message is refused, and dead-lettered.
    RejectPublishDlx,
    /// The new message is taken and its publisher is not read from until there is room.
    Block,
}

/// What the queue acts on, out of its arguments. Times are in ms, sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueArguments {
    /// `x-message-ttl`
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`: the queue goes after so long without use.
    pub expires_ms: Option<u64>,
    /// `x-max-length`, in waiting messages
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`, of waiting messages
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`
    pub overflow: Overflow,
    /// `x-max-message-size`, headers and body
    pub max_message_size: Option<u64>,
    /// `x-dead-letter-exchange`
    pub dead_letter_exchange: Option<ExchangeName>,
    /// `x-dead-letter-routing-key`; without it a message keeps its own
    pub dead_letter_routing_key: Option<RoutingKey>,
    /// `x-delivery-limit`: so many returns are borne
    pub delivery_limit: Option<u64>,
    /// `x-max-priority`
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`
    pub single_active_consumer: bool,
}

/// The arguments this broker knows. Others are stored and ignored.
const KNOWN: [&str; 12] = [
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-max-message-size",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-delivery-limit",
    "x-max-priority",
    "x-single-active-consumer",
    "x-queue-type",
];

/// Redelivery limit of queues declared with `x-queue-type: quorum`, unless they say otherwise.
const QUORUM_DELIVERY_LIMIT: u64 = 20;

fn invalid(argument: &str, why: impl Into<String>) -> EngineError {
    EngineError::InvalidArgument {
        argument: argument.to_owned(),
        why: why.into(),
    }
}

fn number(
    argument: &str,
    value: &Value,
    range: std::ops::RangeInclusive<i64>,
) -> Result<u64, EngineError> {
    let wrong = || {
        invalid(
            argument,
            format!(
                "expected a whole number from {} to {}, got {value}",
                range.start(),
                range.end()
            ),
        )
    };
    let number = value
        .as_integer()
        .and_then(|number| i64::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(wrong)?;
    u64::try_from(number).map_err(|_| wrong())
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        _ => None,
    }
}

fn text<'a>(argument: &str, value: &'a Value) -> Result<&'a [u8], EngineError> {
    value
        .as_text()
        .map(AsRef::as_ref)
        .ok_or_else(|| invalid(argument, format!("expected a string, got {value}")))
}

impl QueueArguments {
    /// Reads the arguments of a declaration.
    ///
    /// # Errors
    /// `InvalidArgument` for a known argument with a value it cannot have, naming both; `Unsupported`
    /// for a kind of queue that this broker does not have.
    pub fn parse(arguments: &Arguments) -> Result<Self, EngineError> {
        const MILLENNIUM_MS: i64 = 1000 * 365 * 24 * 3600 * 1000;
        let mut parsed = Self::default();
        for (name, value) in arguments.iter() {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            match name {
                "x-message-ttl" => {
                    parsed.message_ttl_ms = Some(number(name, value, 0..=MILLENNIUM_MS)?)
                }
                "x-expires" => parsed.expires_ms = Some(number(name, value, 1..=MILLENNIUM_MS)?),
                "x-max-length" => parsed.max_length = Some(number(name, value, 0..=i64::MAX)?),
                "x-max-length-bytes" => {
                    parsed.max_length_bytes = Some(number(name, value, 0..=i64::MAX)?)
                }
                "x-max-message-size" => {
                    parsed.max_message_size = Some(number(name, value, 1..=i64::MAX)?)
                }
                "x-overflow" => {
                    parsed.overflow = match text(name, value)? {
                        b"drop-head" => Overflow::DropHead,
                        b"reject-publish" => Overflow::RejectPublish,
                        b"reject-publish-dlx" => Overflow::RejectPublishDlx,
                        b"block" => Overflow::Block,
                        _ => {
                            return Err(invalid(
                                name,
                                format!(
                                    "expected drop-head, reject-publish, reject-publish-dlx or block, got {value}"
                                ),
                            ));
                        }
                    };
                }
                "x-dead-letter-exchange" => {
                    let exchange = ExchangeName::parse(text(name, value)?.to_vec())
                        .map_err(|error| invalid(name, error.to_string()))?;
                    parsed.dead_letter_exchange = Some(exchange);
                }
                "x-dead-letter-routing-key" => {
                    let key = RoutingKey::parse(text(name, value)?.to_vec())
                        .map_err(|error| invalid(name, error.to_string()))?;
                    parsed.dead_letter_routing_key = Some(key);
                }
                "x-delivery-limit" => {
                    let limit = value.as_integer().ok_or_else(|| {
                        invalid(name, format!("expected a whole number, got {value}"))
                    })?;
                    // A negative limit is RabbitMQ's way to say: none.
                    parsed.delivery_limit = u64::try_from(limit).ok();
                }
                "x-max-priority" => {
                    let highest = number(name, value, 0..=255)?;
                    parsed.max_priority = u8::try_from(highest).ok();
                }
                "x-single-active-consumer" => {
                    parsed.single_active_consumer = boolean(value).ok_or_else(|| {
                        invalid(name, format!("expected true or false, got {value}"))
                    })?;
                }
                "x-queue-type" => match text(name, value)? {
                    b"classic" => {}
                    b"quorum" => {
                        if arguments.value("x-delivery-limit").is_none() {
                            parsed.delivery_limit = Some(QUORUM_DELIVERY_LIMIT);
                        }
                    }
                    _ => {
                        return Err(EngineError::Unsupported {
                            what: format!(
                                "queue type {value} is not available: use classic or quorum (streams are not built yet)"
                            ),
                        });
                    }
                },
                _ => {}
            }
        }
        if parsed.dead_letter_routing_key.is_some() && parsed.dead_letter_exchange.is_none() {
            return Err(invalid(
                "x-dead-letter-routing-key",
                "it needs x-dead-letter-exchange too (empty for the default exchange)",
            ));
        }
        Ok(parsed)
    }
}

/// The value as error texts and the field's tools write it.
fn described(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!("the value '{value}' of type '{}'", value.type_name()),
    }
}

/// Checks that a redeclaration asks for the queue that is there.
///
/// Only arguments this broker knows are compared, and unless the declaration is to be `complete` only those
/// it gives; whole numbers of any width are one type, and a
/// missing `x-queue-type` is classic.
///
/// # Errors
/// `Inequivalent`, naming the first argument that differs and both values.
pub(super) fn check_equivalent(
    queue: &QueueName,
    vhost: &VhostName,
    declared: &Arguments,
    received: &Arguments,
    complete: bool,
) -> Result<(), EngineError> {
    for name in KNOWN {
        let (current, asked) = (declared.value(name), received.value(name));
        let classic = |value: Option<&Value>| {
            name == "x-queue-type"
                && value.is_none_or(|value| {
                    value
                        .as_text()
                        .is_some_and(|text| text.as_ref() == b"classic")
                })
        };
        let same = match (current, asked) {
            (Some(a), Some(b)) => {
                a == b
                    || (a.as_integer().is_some() && a.as_integer() == b.as_integer())
                    || (a.as_text().is_some() && a.as_text() == b.as_text())
            }
            (None, None) => true,
            (Some(_), None) if !complete => true,
            _ => classic(current) && classic(asked),
        };
        if !same {
            return Err(inequivalent(
                queue,
                vhost,
                name,
                described(asked),
                described(current),
            ));
        }
    }
    Ok(())
}

/// The error for a property or argument that differs.
pub(super) fn inequivalent(
    queue: &QueueName,
    vhost: &VhostName,
    argument: &str,
    received: String,
    current: String,
) -> EngineError {
    EngineError::Inequivalent(Box::new(Inequivalent {
        kind: Kind::Queue,
        name: queue.to_string(),
        vhost: vhost.clone(),
        argument: argument.to_owned(),
        received,
        current,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, Value)]) -> Arguments {
        rows.iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    #[test]
    fn every_argument_is_read() {
        let parsed = QueueArguments::parse(&table(&[
            ("x-message-ttl", Value::from(0)),
            ("x-expires", Value::from(5)),
            ("x-max-length", Value::from(7)),
            ("x-overflow", Value::text("reject-publish-dlx")),
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-routing-key", Value::text("dead")),
            ("x-delivery-limit", Value::from(-1)),
            ("x-queue-type", Value::text("quorum")),
            ("x-max-priority", Value::from(9)),
            ("x-unknown", Value::from(1)),
        ]))
        .unwrap();
        assert_eq!(parsed.message_ttl_ms, Some(0));
        assert_eq!(parsed.expires_ms, Some(5));
        assert_eq!(parsed.max_length, Some(7));
        assert_eq!(parsed.overflow, Overflow::RejectPublishDlx);
        assert_eq!(
            parsed.delivery_limit, None,
            "a given limit wins over quorum's default"
        );
        assert_eq!(parsed.max_priority, Some(9));
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (name, value) in [
            ("x-message-ttl", Value::from(-1)),
            ("x-expires", Value::from(0)),
            ("x-max-length", Value::text("many")),
            ("x-overflow", Value::text("explode")),
            ("x-max-priority", Value::from(256)),
            ("x-single-active-consumer", Value::text("maybe")),
            ("x-dead-letter-routing-key", Value::text("alone")),
        ] {
            let error = QueueArguments::parse(&table(&[(name, value)])).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(matches!(
            QueueArguments::parse(&table(&[("x-queue-type", Value::text("stream"))])),
            Err(EngineError::Unsupported { .. })
        ));
    }

    #[test]
    fn a_redeclaration_must_ask_for_the_same_queue() {
        let (queue, vhost) = (
            QueueName::parse("orders").unwrap(),
            VhostName::parse("/").unwrap(),
        );
        let declared = table(&[
            ("x-message-ttl", Value::from(60_000_i64)),
            ("x-queue-type", Value::text("classic")),
        ]);
        assert_eq!(
            check_equivalent(
                &queue,
                &vhost,
                &declared,
                &table(&[
                    ("x-message-ttl", Value::from(60_000_i64)),
                    ("x-free", Value::from(1))
                ]),
                true
            ),
            Ok(())
        );
        let error = check_equivalent(
            &queue,
            &vhost,
            &declared,
            &table(&[("x-message-ttl", Value::from(30_000_i64))]),
            false,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "inequivalent arg 'x-message-ttl' for queue 'orders' in vhost '/': received the value '30000' of type 'long' but current is the value '60000' of type 'long'"
        );
        assert!(
            check_equivalent(&queue, &vhost, &declared, &table(&[]), true)
                .unwrap_err()
                .to_string()
                .contains("received none")
        );
        assert_eq!(
            check_equivalent(&queue, &vhost, &declared, &table(&[]), false),
            Ok(())
        );
    }
}
