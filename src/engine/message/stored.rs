//! The stored form of a message: what a payload in the log holds.
//!
//! ```text
//! version u8 · flags u8 · priority u8 · encoding u8 · id u64 · entered_ms u64 · expires_ms u64 · expiration_ms u64
//! exchange: u16 length, bytes · routing key: u16 length, bytes · deaths: u32 length, JSON
//! headers: u32 length, bytes · body: the rest
//! ```
//! Integers are big-endian. A field that is absent (by its flag) is zero.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use super::{Address, Content, Death, DeathReason, Deaths, Encoding, Message, MessageId, Meta};
use crate::engine::name::{ExchangeName, RoutingKey};

const VERSION: u8 = 1;
const PERSISTENT: u8 = 1;
const HAS_PRIORITY: u8 = 2;
const HAS_EXPIRES: u8 = 4;
const HAS_EXPIRATION: u8 = 8;
const FIXED: usize = 4 + 4 * 8;

/// The history as stored: names as bytes, so that any name survives.
#[derive(Serialize, Deserialize)]
struct StoredDeaths {
    rows: Vec<StoredDeath>,
    first: Option<(Vec<u8>, String, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct StoredDeath {
    queue: Vec<u8>,
    reason: String,
    count: u64,
    time_s: u64,
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    original_expiration_ms: Option<u64>,
}

fn deaths_json(message: &Message) -> Vec<u8> {
    let Some(deaths) = message.deaths() else {
        return Vec::new();
    };
    let stored = StoredDeaths {
        rows: deaths
            .rows
            .iter()
            .map(|row| StoredDeath {
                queue: row.queue.to_vec(),
                reason: row.reason.as_str().to_owned(),
                count: row.count,
                time_s: row.time_s,
                exchange: row.address.exchange.as_bytes().to_vec(),
                routing_key: row.address.routing_key.as_bytes().to_vec(),
                original_expiration_ms: row.original_expiration_ms,
            })
            .collect(),
        first: deaths.first.as_ref().map(|(queue, reason, exchange)| {
            (
                queue.to_vec(),
                reason.as_str().to_owned(),
                exchange.as_bytes().to_vec(),
            )
        }),
    };
    serde_json::to_vec(&stored).expect("a struct of numbers and bytes is JSON")
}

fn reason(text: &str) -> Result<DeathReason, String> {
    [
        DeathReason::Rejected,
        DeathReason::Expired,
        DeathReason::MaxLength,
        DeathReason::DeliveryLimit,
    ]
    .into_iter()
    .find(|reason| reason.as_str() == text)
    .ok_or_else(|| format!("unknown dead-letter reason '{text}'"))
}

fn address(exchange: Vec<u8>, routing_key: Vec<u8>) -> Result<Address, String> {
    Ok(Address {
        exchange: ExchangeName::parse(exchange).map_err(|error| error.to_string())?,
        routing_key: RoutingKey::parse(routing_key).map_err(|error| error.to_string())?,
    })
}

fn parse_deaths(json: &[u8]) -> Result<Deaths, String> {
    let stored: StoredDeaths = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let rows = stored
        .rows
        .into_iter()
        .map(|row| {
            Ok(Death {
                queue: row.queue.into(),
                reason: reason(&row.reason)?,
                count: row.count,
                time_s: row.time_s,
                address: address(row.exchange, row.routing_key)?,
                original_expiration_ms: row.original_expiration_ms,
            })
        })
        .collect::<Result<_, String>>()?;
    let first = stored
        .first
        .map(|(queue, why, exchange)| {
            Ok::<_, String>((
                queue.into(),
                reason(&why)?,
                ExchangeName::parse(exchange).map_err(|error| error.to_string())?,
            ))
        })
        .transpose()?;
    Ok(Deaths { rows, first })
}

/// An upper bound that is exact but for the history, which is rare and measured when encoding.
pub(super) fn encoded_len(message: &Message) -> usize {
    let address = message.address();
    FIXED
        + 2
        + address.exchange.as_bytes().len()
        + 2
        + address.routing_key.as_bytes().len()
        + 4
        + deaths_json(message).len()
        + 4
        + message.size()
}

pub(super) fn encode(message: &Message, out: &mut Vec<u8>) {
    let meta = message.meta();
    let mut flags = 0;
    for (set, flag) in [
        (meta.persistent, PERSISTENT),
        (meta.priority.is_some(), HAS_PRIORITY),
        (meta.expires_ms.is_some(), HAS_EXPIRES),
        (message.expiration_ms.is_some(), HAS_EXPIRATION),
    ] {
        if set {
            flags |= flag;
        }
    }
    let encoding = match message.encoding() {
        Encoding::Stomp => 0,
    };
    out.extend_from_slice(&[VERSION, flags, meta.priority.unwrap_or(0), encoding]);
    for number in [
        meta.id.0,
        meta.entered_ms,
        meta.expires_ms.unwrap_or(0),
        message.expiration_ms.unwrap_or(0),
    ] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let address = message.address();
    for name in [address.exchange.as_bytes(), address.routing_key.as_bytes()] {
        let length = u16::try_from(name.len()).expect("names are at most 255 bytes");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(name);
    }
    for block in [deaths_json(message).as_slice(), message.headers()] {
        let length = u32::try_from(block.len()).expect("a header block is limited far below 4 GiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(message.body());
}

fn take(stored: &mut Bytes, length: usize) -> Result<Bytes, String> {
    if stored.len() < length {
        return Err("a stored message ends before its fields do".to_owned());
    }
    Ok(stored.split_to(length))
}

pub(super) fn decode(mut stored: Bytes) -> Result<Message, String> {
    let mut fixed = take(&mut stored, FIXED)?;
    let version = fixed.get_u8();
    if version != VERSION {
        return Err(format!(
            "a stored message has version {version}, this program reads {VERSION}"
        ));
    }
    let (flags, priority, encoding) = (fixed.get_u8(), fixed.get_u8(), fixed.get_u8());
    let encoding = match encoding {
        0 => Encoding::Stomp,
        other => {
            return Err(format!(
                "a stored message has header encoding {other}, this program reads 0"
            ));
        }
    };
    let (id, entered_ms, expires_ms, expiration_ms) = (
        fixed.get_u64(),
        fixed.get_u64(),
        fixed.get_u64(),
        fixed.get_u64(),
    );
    let mut names = [Vec::new(), Vec::new()];
    for name in &mut names {
        let length = take(&mut stored, 2)?.get_u16();
        *name = take(&mut stored, usize::from(length))?.to_vec();
    }
    let [exchange, routing_key] = names;
    let mut blocks = [Bytes::new(), Bytes::new()];
    for block in &mut blocks {
        let length = take(&mut stored, 4)?.get_u32() as usize;
        *block = take(&mut stored, length)?;
    }
    let [deaths, headers] = blocks;
    let deaths = if deaths.is_empty() {
        None
    } else {
        Some(Box::new(parse_deaths(&deaths)?))
    };
    let mut message = Message {
        address: Arc::new(address(exchange, routing_key)?),
        meta: Meta {
            id: MessageId(id),
            entered_ms,
            expires_ms: (flags & HAS_EXPIRES != 0).then_some(expires_ms),
            persistent: flags & PERSISTENT != 0,
            priority: (flags & HAS_PRIORITY != 0).then_some(priority),
        },
        encoding,
        content: Content::Slices {
            headers,
            body: stored,
        },
        deaths,
        expiration_ms: (flags & HAS_EXPIRATION != 0).then_some(expiration_ms),
    };
    message.compact();
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_everything_reads_back_as_it_was() {
        let here = Address {
            exchange: ExchangeName::parse("amq.topic").unwrap(),
            routing_key: RoutingKey::parse("a.b").unwrap(),
        };
        let deaths = Deaths {
            rows: vec![Death {
                queue: Bytes::from_static(b"q\xff"),
                reason: DeathReason::Expired,
                count: 3,
                time_s: 1_700_000_000,
                address: here.clone(),
                original_expiration_ms: Some(5),
            }],
            first: Some((
                Bytes::from_static(b"q\xff"),
                DeathReason::Rejected,
                here.exchange.clone(),
            )),
        };
        let mut message = Message::new(
            Arc::new(here),
            Meta {
                id: MessageId(7),
                entered_ms: 9,
                expires_ms: Some(11),
                persistent: true,
                priority: Some(4),
            },
            Encoding::Stomp,
            Bytes::from_static(b"a:1\n"),
            Bytes::from_static(b"body\0with NUL"),
        )
        .with_expiration(Some(2));
        message.deaths = Some(Box::new(deaths.clone()));
        let mut stored = Vec::new();
        encode(&message, &mut stored);
        assert_eq!(stored.len(), encoded_len(&message));
        let back = decode(stored.clone().into()).unwrap();
        assert_eq!(
            (back.meta(), back.address(), back.headers(), back.body()),
            (
                message.meta(),
                message.address(),
                message.headers(),
                message.body()
            )
        );
        assert_eq!(
            (back.deaths(), back.expiration_ms()),
            (Some(&deaths), Some(2))
        );
        for cut in 0..stored.len() - message.body().len() {
            assert!(
                decode(Bytes::copy_from_slice(&stored[..cut])).is_err(),
                "cut at {cut}"
            );
        }
    }
}
