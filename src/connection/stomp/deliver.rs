//! MESSAGE: from a delivery to bytes.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use millpond_protocol::stomp::{Version, put_canonical_block, put_decimal, put_header};

use super::destination::destination_of;
use crate::connection::output::Output;
use crate::engine::delivery::Delivery;
use crate::engine::message::{Address, Deaths, Message};

/// What of the last MESSAGE the next one probably repeats.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    destination: Option<(Arc<Address>, Bytes)>,
}

/// The handle of a delivery, as `message-id` and `ack` carry it.
pub(super) struct Handle<'a> {
    /// The connection's session, a dash behind it, and an `a` for deliveries that need no ACK.
    pub(super) prefix: &'a [u8],
    /// The delivery's number.
    pub(super) number: u64,
}

fn put_handle(dst: &mut BytesMut, name: &[u8], handle: &Handle<'_>) {
    dst.extend_from_slice(name);
    dst.put_u8(b':');
    dst.extend_from_slice(handle.prefix);
    // `put_decimal` writes a whole line; with an empty name only its colon has to go.
    let colon = dst.len();
    put_decimal(dst, b"", handle.number);
    dst[colon] = b'-';
}

impl Encoder {
    fn put_destination(&mut self, dst: &mut BytesMut, version: Version, address: &Arc<Address>) {
        let known = matches!(&self.destination, Some((last, _)) if Arc::ptr_eq(last, address));
        if !known {
            let mut line = BytesMut::new();
            put_header(&mut line, version, b"destination", &destination_of(address));
            self.destination = Some((Arc::clone(address), line.freeze()));
        }
        if let Some((_, line)) = &self.destination {
            dst.extend_from_slice(line);
        }
    }

    /// Appends the MESSAGE for a delivery. The broker's own headers come first, and so win over whatever
    /// the producer gave.
    pub(super) fn put_message(
        &mut self,
        out: &mut Output,
        version: Version,
        head: &[u8],
        handle: &Handle<'_>,
        delivery: &Delivery,
    ) {
        let message = &delivery.message;
        let dst = out.buffer();
        dst.reserve(head.len() + message.headers().len() + 192);
        dst.extend_from_slice(head);
        self.put_destination(dst, version, message.address());
        put_handle(dst, b"message-id", handle);
        if version == Version::V1_2 && delivery.token.is_some() {
            put_handle(dst, b"ack", handle);
        }
        dst.extend_from_slice(if delivery.redelivered {
            b"redelivered:true\n"
        } else {
            b"redelivered:false\n"
        });
        put_decimal(dst, b"x-message-id", message.meta().id.0);
        if message.meta().persistent {
            dst.extend_from_slice(b"persistent:true\n");
        }
        if delivery.returns > 0 {
            put_decimal(dst, b"x-delivery-count", u64::from(delivery.returns));
        }
        if let Some(deaths) = message.deaths() {
            put_deaths(dst, version, deaths);
        }
        let body = message.body();
        if !body.is_empty() {
            put_decimal(dst, b"content-length", body.len() as u64);
        }
        put_canonical_block(dst, version, message.headers());
        dst.put_u8(b'\n');
        out.body(message);
        out.buffer().extend_from_slice(b"\0\n");
    }
}

/// The dead-letter history in STOMP's words: `x-first-death-*` and `x-last-death-*` as RabbitMQ has them,
/// and all of it as one line of JSON in `x-death`.
fn put_deaths(dst: &mut BytesMut, version: Version, deaths: &Deaths) {
    if let Some((queue, reason, exchange)) = &deaths.first {
        put_header(dst, version, b"x-first-death-queue", queue);
        put_header(
            dst,
            version,
            b"x-first-death-reason",
            reason.as_str().as_bytes(),
        );
        put_header(dst, version, b"x-first-death-exchange", exchange.as_bytes());
    }
    if let Some(last) = deaths.rows.first() {
        put_header(dst, version, b"x-last-death-queue", &last.queue);
        put_header(
            dst,
            version,
            b"x-last-death-reason",
            last.reason.as_str().as_bytes(),
        );
        put_header(
            dst,
            version,
            b"x-last-death-exchange",
            last.address.exchange.as_bytes(),
        );
    }
    let rows: Vec<serde_json::Value> = deaths
        .rows
        .iter()
        .map(|row| {
            let mut shown = serde_json::json!({
                "count": row.count,
                "reason": row.reason.as_str(),
                "queue": String::from_utf8_lossy(&row.queue),
                "time": row.time_s,
                "exchange": row.address.exchange.to_string(),
                "routing-keys": [row.address.routing_key.to_string()],
            });
            if let Some(expiration) = row.original_expiration_ms {
                shown["original-expiration"] = expiration.to_string().into();
            }
            shown
        })
        .collect();
    put_header(
        dst,
        version,
        b"x-death",
        serde_json::Value::from(rows).to_string().as_bytes(),
    );
}

/// `MESSAGE` and its `subscription` line.
pub(super) fn head(version: Version, subscription: Option<&[u8]>) -> Bytes {
    let mut head = BytesMut::from(&b"MESSAGE\n"[..]);
    if let Some(id) = subscription {
        put_header(&mut head, version, b"subscription", id);
    }
    head.freeze()
}

/// Bytes that a message takes on the wire beside its headers and body, about.
pub(super) const FRAME_OVERHEAD: usize = 200;

/// About how many bytes the MESSAGE for this message takes.
pub(super) fn size_hint(message: &Message) -> usize {
    message.size() + FRAME_OVERHEAD
}
