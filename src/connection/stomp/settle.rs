//! ACK and NACK.

use std::sync::Arc;

use millpond_protocol::stomp::{Command, Frame, Version};

use super::client::LoggedIn;
use super::queue_headers::{flag, number};
use super::reply::StompError;
use super::unsettled::Unsettled;
use crate::engine::delivery::{Outcome, Token};
use crate::engine::queue::Queue;

/// What is settled in one queue.
type OfQueue = (Arc<dyn Queue>, Vec<(Token, Outcome)>);

/// Settlements of one batch, by queue.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    queues: Vec<OfQueue>,
}

impl Settlements {
    pub(super) fn push(&mut self, unsettled: Unsettled, outcome: Outcome) {
        let settlement = (unsettled.token, outcome);
        match self
            .queues
            .iter_mut()
            .find(|(queue, _)| queue.id() == unsettled.queue.id())
        {
            Some((_, settlements)) => settlements.push(settlement),
            None => self.queues.push((unsettled.queue, vec![settlement])),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = OfQueue> + '_ {
        self.queues.drain(..)
    }
}

/// An ACK or NACK, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settle {
    /// The delivery's number in the ledger; `None` if the handle is another session's, or of a delivery
    /// under auto-ack.
    pub(super) number: Option<u64>,
    pub(super) outcome: Outcome,
}

/// The error for a delivery that cannot be settled.
pub(super) fn not_found(handle: &[u8]) -> StompError {
    let handle = String::from_utf8_lossy(handle);
    StompError::new(
        "Message not found",
        "message_not_found",
        format!(
            "unknown delivery '{handle}': it was not made on this connection, is settled already, or was delivered with ack:auto\n"
        ),
    )
}

impl LoggedIn {
    /// Reads an ACK or NACK: by `id` in 1.2, by `message-id` before.
    ///
    /// # Errors
    /// If the handle is missing.
    pub(super) fn read_settle(&self, frame: &Frame) -> Result<Settle, StompError> {
        let headers = &frame.headers;
        let name = if self.version == Version::V1_2 {
            "id"
        } else {
            "message-id"
        };
        let handle = headers.get(name).ok_or_else(|| {
            let command = frame.command.as_str();
            StompError::new(
                "Missing header",
                "missing_header",
                format!("'{command}' must include the '{name}' header: the value of the MESSAGE's '{}'\n", if name == "id" { "ack" } else { name }),
            )
        })?;
        let outcome = match frame.command {
            Command::Nack => {
                let requeue = flag(headers, "requeue").unwrap_or(self.options.default_nack_requeue);
                let delay_ms = number(headers, "requeue-delay").unwrap_or(0);
                if requeue {
                    Outcome::Requeue {
                        counted: true,
                        delay_ms,
                    }
                } else {
                    Outcome::Reject
                }
            }
            _ => Outcome::Ack,
        };
        Ok(Settle {
            number: self.number_of(&handle),
            outcome,
        })
    }

    /// The number in a handle `<session>-<number>`.
    fn number_of(&self, handle: &[u8]) -> Option<u64> {
        let number = handle
            .strip_prefix(self.session.as_bytes())?
            .strip_prefix(b"-")?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }
}
