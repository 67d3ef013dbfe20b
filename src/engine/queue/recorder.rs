//! What a queue's state asked of the outside, written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::Effects;
use crate::engine::consumer::ConsumerId;
use crate::engine::message::{DeathReason, Message};
use crate::engine::outbox::Outbox;
use crate::storage::Seq;

/// Plays the log, the dead-letter list, the memory account and the connections' wake-ups.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// What the log holds: place and message id.
    pub(super) stored: BTreeMap<Seq, u64>,
    /// The message stored last, as the log got it.
    pub(super) payload: Option<Arc<Message>>,
    /// Everything the log ever held and let go of, in order.
    pub(super) settled: Vec<Seq>,
    pub(super) returned: Vec<(Seq, u32)>,
    pub(super) dead: Vec<(u64, DeathReason)>,
    /// Who was woken, in order.
    pub(super) woken: Vec<Arc<Outbox>>,
    /// Who waits for room.
    pub(super) stalled: Vec<ConsumerId>,
    /// Bytes taken and not given back.
    pub(super) charged: i64,
}

impl Effects for Recorder {
    fn store(&mut self, seq: Seq, message: &Arc<Message>) {
        let above = self
            .stored
            .keys()
            .chain(&self.settled)
            .all(|earlier| *earlier < seq);
        assert!(above, "{seq} is not above all places before");
        self.stored.insert(seq, message.meta().id.0);
        self.payload = Some(Arc::clone(message));
    }

    fn settle(&mut self, seq: Seq) {
        assert!(
            self.stored.remove(&seq).is_some(),
            "{seq} is settled without being stored"
        );
        self.settled.push(seq);
    }

    fn returned(&mut self, seq: Seq, count: u32) {
        assert!(
            self.stored.contains_key(&seq),
            "{seq} is returned without being stored"
        );
        self.returned.push((seq, count));
    }

    fn dead(&mut self, message: Arc<Message>, reason: DeathReason) {
        self.dead.push((message.meta().id.0, reason));
    }

    fn wake(&mut self, outbox: &Arc<Outbox>) {
        self.woken.push(Arc::clone(outbox));
    }

    fn stall(&mut self, consumer: ConsumerId, outbox: &Arc<Outbox>) -> bool {
        if outbox.room() > 0 {
            return false;
        }
        assert!(
            !self.stalled.contains(&consumer),
            "a consumer that waits for room is asked again"
        );
        self.stalled.push(consumer);
        true
    }

    fn charge(&mut self, bytes: i64) {
        self.charged += bytes;
        assert!(self.charged >= 0, "more is given back than was taken");
    }
}

impl Recorder {
    /// What died since the last call.
    pub(super) fn take_dead(&mut self) -> Vec<(u64, DeathReason)> {
        std::mem::take(&mut self.dead)
    }
}
