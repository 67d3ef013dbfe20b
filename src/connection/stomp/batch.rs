//! What a session gathers before it turns to the engine.

use bytes::Bytes;

use super::settle::Settlements;
use crate::engine::queue::PublishBatch;

/// What one turn is going to do: SENDs and ACKs in a row are carried out together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: PublishBatch,
    /// What each of the messages asks for beside being published.
    pub(super) sends: Vec<Sent>,
    pub(super) settlements: Settlements,
    /// Receipts of ACKs, NACKs and everything else that was carried out.
    pub(super) receipts: Vec<Bytes>,
}

/// A SEND of the batch.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) receipt: Option<Bytes>,
    pub(super) mandatory: bool,
}

impl Batch {
    /// Whether there is nothing to carry out and nothing to answer.
    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.settlements.is_empty() && self.receipts.is_empty()
    }
}
