//! Dead letters: where a message goes that a queue gave up on.

use std::sync::Arc;

use bytes::Bytes;

use super::message::{Address, Death, DeathReason, Deaths, Message};
use super::queue::{LocalQueue, PublishBatch, Queue};
use super::turn::Turn;

/// A message that died, and where.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) message: Arc<Message>,
    pub(super) reason: DeathReason,
    pub(super) queue: Arc<LocalQueue>,
}

/// The history with one more death in front: one row per queue and reason, newest first.
fn with_death(message: &Message, queue: &LocalQueue, reason: DeathReason, now_ms: u64) -> Deaths {
    let mut deaths = message.deaths().cloned().unwrap_or_default();
    let name = queue.name().as_bytes();
    let known = deaths
        .rows
        .iter()
        .position(|row| row.reason == reason && row.queue == name);
    let row = match known {
        Some(at) => {
            let mut row = deaths.rows.remove(at);
            row.count += 1;
            row
        }
        None => Death {
            queue: Bytes::copy_from_slice(name),
            reason,
            count: 1,
            time_s: now_ms / 1000,
            address: message.address().as_ref().clone(),
            original_expiration_ms: message.expiration_ms(),
        },
    };
    deaths
        .first
        .get_or_insert_with(|| (row.queue.clone(), reason, row.address.exchange.clone()));
    deaths.rows.insert(0, row);
    deaths
}

/// Whether the message would come back to a queue it died in, with no consumer's reject since.
fn is_cycle(deaths: &Deaths, target: &[u8]) -> bool {
    let Some(back) = deaths.rows.iter().position(|row| row.queue == target) else {
        return false;
    };
    deaths.rows[..=back]
        .iter()
        .all(|row| row.reason != DeathReason::Rejected)
}

/// Moves one dead letter to where its queue's arguments send it; part of the turn's unit.
///
/// A queue that refuses it (full, or a cycle) loses it for that queue: there is no publisher left to
/// tell, so it is logged.
pub(super) fn forward(turn: &mut Turn<'_>, letter: Letter) {
    let Letter {
        message,
        reason,
        queue,
    } = letter;
    let (Some(vhost), Some(exchange)) = (
        queue.vhost(),
        queue.arguments().dead_letter_exchange.clone(),
    ) else {
        return;
    };
    let routing_key = queue
        .arguments()
        .dead_letter_routing_key
        .clone()
        .unwrap_or_else(|| message.address().routing_key.clone());
    let deaths = with_death(&message, &queue, reason, turn.now.wall_ms);
    let mut targets = vhost
        .targets(&exchange, &routing_key, &message)
        .unwrap_or_default();
    let dropped_at = targets.len();
    targets.retain(|target| !is_cycle(&deaths, target.name().as_bytes()));
    if targets.len() < dropped_at {
        tracing::info!(vhost = %vhost.name(), queue = %queue.name(), reason = reason.as_str(), "dead letter dropped: it would go in a circle");
    }
    if targets.is_empty() {
        tracing::debug!(vhost = %vhost.name(), queue = %queue.name(), %exchange, "dead letter dropped: no queue is bound for it");
        return;
    }
    let address = Arc::new(Address {
        exchange,
        routing_key,
    });
    let mut batch = PublishBatch::default();
    batch.push(message.dead_lettered(address, turn.now.wall_ms, deaths));
    for target in targets {
        target.publish(turn, &mut batch, &[0]);
    }
    for fate in batch.drain_fates() {
        if let super::queue::Fate::Refused(error) = fate {
            tracing::info!(vhost = %vhost.name(), queue = %queue.name(), %error, "dead letter refused");
        }
    }
}

#[cfg(test)]
mod tests;
