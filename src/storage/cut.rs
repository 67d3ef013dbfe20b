//! What of a pending commit must reach the disk.
//!
//! Pure: operations in, a [`Plan`] out. A message enqueued and settled in the same commit is dropped
//! (*annihilated*), for each queue of a fan-out by itself; a queue that is forgotten takes everything of it
//! along; a settle, a return or a removal that would change nothing on disk is dropped too. When the plan
//! is empty, there is nothing to write and nothing to wait for.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::commit::Operation;
use super::hash::NumberMap;
use super::{Payload, QueueId, Seq};

/// What the store holds, as far as the cut must know.
pub(super) trait Stored {
    /// Whether anything about the queue is stored.
    fn knows_queue(&self, queue: QueueId) -> bool;
    /// Whether any message of `first..=last` is stored and not settled.
    fn holds_any(&self, queue: QueueId, first: Seq, last: Seq) -> bool;
    /// Whether the definition is stored.
    fn knows_definition(&self, key: &[u8]) -> bool;
}

/// A message to write, with every place that refers to it.
pub(super) struct Message {
    pub(super) payload: Arc<dyn Payload>,
    pub(super) reference: (QueueId, Seq),
    /// The other queues of a fan-out.
    pub(super) more: Vec<(QueueId, Seq)>,
}

/// What is left of a pending commit.
#[derive(Default)]
pub(super) struct Plan {
    /// In the order they were enqueued.
    pub(super) messages: Vec<Message>,
    /// Ascending, disjoint ranges for each queue.
    pub(super) settled: Vec<(QueueId, Vec<(Seq, Seq)>)>,
    pub(super) returned: Vec<(QueueId, Seq, u32)>,
    pub(super) forgotten: Vec<QueueId>,
    /// The last word on each key; `None` removes it.
    pub(super) definitions: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// How many enqueues were cancelled.
    pub(super) annihilated: u64,
}

impl Plan {
    /// Whether nothing has to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.settled.is_empty()
            && self.returned.is_empty()
            && self.forgotten.is_empty()
            && self.definitions.is_empty()
    }
}

/// What one queue sees in the commit.
#[derive(Default)]
struct QueueCut {
    /// (sequence number, place among the operations, kept)
    enqueued: Vec<(Seq, usize, bool)>,
    /// Settles that may cancel an enqueue.
    settled: Vec<(Seq, Seq)>,
    /// Settles of kept units.
    kept: Vec<(Seq, Seq)>,
    returned: Vec<(Seq, u32)>,
    forgotten: bool,
}

/// An enqueue, until it is cancelled.
type Slot = Option<(QueueId, Seq, Arc<dyn Payload>)>;

/// Decides what to write of `operations`.
pub(super) fn plan(operations: impl IntoIterator<Item = Operation>, stored: &dyn Stored) -> Plan {
    let mut plan = Plan::default();
    let mut slots: Vec<Slot> = Vec::new();
    let mut queues = Queues::default();
    let mut definitions: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    for operation in operations {
        match operation {
            Operation::Enqueue {
                queue,
                seq,
                keep,
                payload,
            } => {
                queues.entry(queue).enqueued.push((seq, slots.len(), keep));
                slots.push(Some((queue, seq, payload)));
            }
            Operation::Settle {
                queue,
                first,
                last,
                keep,
            } if first <= last => {
                let cut = queues.entry(queue);
                let ranges = if keep {
                    &mut cut.kept
                } else {
                    &mut cut.settled
                };
                ranges.push((first, last));
            }
            Operation::Settle { .. } => {}
            Operation::Returned { queue, seq, count } => {
                queues.entry(queue).returned.push((seq, count))
            }
            Operation::Forget { queue } => queues.entry(queue).forgotten = true,
            Operation::Define { key, value } => drop(definitions.insert(key, Some(value))),
            Operation::Undefine { key } => drop(definitions.insert(key, None)),
        }
    }
    for (queue, cut) in queues.cuts {
        cut_queue(queue, cut, stored, &mut slots, &mut plan);
    }
    plan.definitions = definitions
        .into_iter()
        .filter(|(key, value)| value.is_some() || stored.knows_definition(key))
        .collect();
    plan.messages = gather(slots);
    plan
}

fn cut_queue(
    queue: QueueId,
    mut cut: QueueCut,
    stored: &dyn Stored,
    slots: &mut [Slot],
    plan: &mut Plan,
) {
    if cut.forgotten {
        for (_, place, _) in &cut.enqueued {
            slots[*place] = None;
            plan.annihilated += 1;
        }
        if stored.knows_queue(queue) {
            plan.forgotten.push(queue);
        }
        return;
    }
    // Both are sorted already unless somebody appended outside a queue's lock.
    cut.enqueued
        .sort_unstable_by_key(|&(seq, place, _)| (seq, place));
    join(&mut cut.settled);
    let mut ranges = cut.settled.iter().peekable();
    cut.enqueued.retain(|&(seq, place, keep)| {
        while ranges.next_if(|&&(_, last)| last < seq).is_some() {}
        let dies = !keep && ranges.peek().is_some_and(|&&(first, _)| first <= seq);
        if dies {
            slots[place] = None;
            plan.annihilated += 1;
        }
        !dies
    });

    let mut settled = cut.settled;
    settled.append(&mut cut.kept);
    join(&mut settled);
    let survives = |first: Seq, last: Seq| {
        let from = cut.enqueued.partition_point(|&(seq, ..)| seq < first);
        cut.enqueued.get(from).is_some_and(|&(seq, ..)| seq <= last)
    };
    let in_place = |first, last| survives(first, last) || stored.holds_any(queue, first, last);

    let mut counts: BTreeMap<Seq, u32> = cut.returned.into_iter().collect();
    counts.retain(|&seq, _| {
        let after = settled.partition_point(|&(_, last)| last < seq);
        let dies = settled.get(after).is_some_and(|&(first, _)| first <= seq);
        !dies && in_place(seq, seq)
    });
    plan.returned
        .extend(counts.into_iter().map(|(seq, count)| (queue, seq, count)));

    settled.retain(|&(first, last)| in_place(first, last));
    if !settled.is_empty() {
        plan.settled.push((queue, settled));
    }
}

/// Joins the enqueues of one payload into one message, in order of first appearance.
fn gather(slots: Vec<Slot>) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    // Addresses are unambiguous while `messages` holds every payload it has an entry for.
    let mut seen: NumberMap<usize, usize> = NumberMap::default();
    for (queue, seq, payload) in slots.into_iter().flatten() {
        match seen.entry(Arc::as_ptr(&payload).cast::<()>().addr()) {
            Entry::Occupied(place) => messages[*place.get()].more.push((queue, seq)),
            Entry::Vacant(entry) => {
                entry.insert(messages.len());
                messages.push(Message {
                    payload,
                    reference: (queue, seq),
                    more: Vec::new(),
                });
            }
        }
    }
    messages
}

/// Sorts ranges and joins those that touch or overlap.
fn join(ranges: &mut Vec<(Seq, Seq)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, joined| {
        let touches = next.0.0 <= joined.1.0.saturating_add(1);
        if touches {
            joined.1 = joined.1.max(next.1);
        }
        touches
    });
}

/// The queues of a commit in order of first appearance, with a shortcut for the one named last.
#[derive(Default)]
struct Queues {
    cuts: Vec<(QueueId, QueueCut)>,
    places: NumberMap<QueueId, usize>,
    last: usize,
}

impl Queues {
    fn entry(&mut self, queue: QueueId) -> &mut QueueCut {
        if self
            .cuts
            .get(self.last)
            .is_none_or(|&(last, _)| last != queue)
        {
            self.last = *self.places.entry(queue).or_insert_with(|| {
                self.cuts.push((queue, QueueCut::default()));
                self.cuts.len() - 1
            });
        }
        &mut self.cuts[self.last].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text(&'static str);
    impl Payload for Text {
        fn encoded_len(&self) -> usize {
            self.0.len()
        }
        fn encode(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0.as_bytes());
        }
    }

    /// A store that holds messages 1 to 10 of queue 1 and the definition "old".
    struct Old;
    impl Stored for Old {
        fn knows_queue(&self, queue: QueueId) -> bool {
            queue == QueueId(1)
        }
        fn holds_any(&self, queue: QueueId, first: Seq, last: Seq) -> bool {
            queue == QueueId(1) && first.0 <= 10 && last.0 >= 1
        }
        fn knows_definition(&self, key: &[u8]) -> bool {
            key == b"old"
        }
    }

    fn enqueue(queue: u64, seq: u64, payload: &Arc<dyn Payload>) -> Operation {
        Operation::Enqueue {
            queue: QueueId(queue),
            seq: Seq(seq),
            keep: false,
            payload: Arc::clone(payload),
        }
    }
    fn settle(queue: u64, first: u64, last: u64) -> Operation {
        Operation::Settle {
            queue: QueueId(queue),
            first: Seq(first),
            last: Seq(last),
            keep: false,
        }
    }
    fn text() -> Arc<dyn Payload> {
        Arc::new(Text("body"))
    }

    #[test]
    fn an_enqueue_and_its_settle_leave_nothing() {
        let plan = plan(vec![enqueue(2, 1, &text()), settle(2, 1, 1)], &Old);
        assert!(plan.is_empty());
        assert_eq!(plan.annihilated, 1);
    }

    #[test]
    fn a_settle_that_reaches_back_to_the_disk_is_kept() {
        let plan = plan(vec![enqueue(1, 11, &text()), settle(1, 9, 11)], &Old);
        assert!(plan.messages.is_empty());
        assert_eq!(plan.settled, [(QueueId(1), vec![(Seq(9), Seq(11))])]);
    }

    #[test]
    fn a_fan_out_is_one_message_and_cancels_by_reference() {
        let body = text();
        let operations = vec![
            enqueue(2, 1, &body),
            enqueue(3, 1, &body),
            enqueue(4, 1, &body),
            settle(3, 1, 1),
        ];
        let plan = plan(operations, &Old);
        assert_eq!(plan.messages.len(), 1);
        assert_eq!(plan.messages[0].reference, (QueueId(2), Seq(1)));
        assert_eq!(plan.messages[0].more, [(QueueId(4), Seq(1))]);
        assert_eq!(plan.annihilated, 1);
    }

    #[test]
    fn a_kept_enqueue_is_written_together_with_its_settle() {
        let kept = Operation::Enqueue {
            queue: QueueId(2),
            seq: Seq(1),
            keep: true,
            payload: text(),
        };
        let plan = plan(vec![kept, settle(2, 1, 1)], &Old);
        assert_eq!(plan.messages.len(), 1);
        assert_eq!(plan.settled, [(QueueId(2), vec![(Seq(1), Seq(1))])]);
    }

    #[test]
    fn a_kept_settle_cancels_nothing() {
        let kept = Operation::Settle {
            queue: QueueId(2),
            first: Seq(1),
            last: Seq(1),
            keep: true,
        };
        let plan = plan(vec![enqueue(2, 1, &text()), kept], &Old);
        assert_eq!(
            (plan.messages.len(), plan.settled.len(), plan.annihilated),
            (1, 1, 0)
        );
    }

    #[test]
    fn settles_out_of_order_become_few_ranges() {
        let operations = vec![
            settle(1, 5, 5),
            settle(1, 3, 3),
            settle(1, 4, 4),
            settle(1, 8, 9),
            settle(1, 1, 1),
        ];
        let plan = plan(operations, &Old);
        let ranges = [(1, 1), (3, 5), (8, 9)].map(|(first, last)| (Seq(first), Seq(last)));
        assert_eq!(plan.settled, [(QueueId(1), ranges.to_vec())]);
    }

    #[test]
    fn a_forgotten_queue_takes_everything_of_it_along() {
        let forget = |queue| Operation::Forget {
            queue: QueueId(queue),
        };
        let operations = vec![
            enqueue(1, 11, &text()),
            settle(1, 1, 3),
            forget(1),
            enqueue(2, 1, &text()),
            forget(2),
        ];
        let plan = plan(operations, &Old);
        assert!(plan.messages.is_empty() && plan.settled.is_empty());
        assert_eq!(plan.forgotten, [QueueId(1)], "nothing is stored of queue 2");
    }

    #[test]
    fn a_return_of_a_settled_message_is_dropped_and_the_last_count_counts() {
        let returned = |seq, count| Operation::Returned {
            queue: QueueId(1),
            seq: Seq(seq),
            count,
        };
        let operations = vec![
            returned(2, 1),
            returned(3, 1),
            returned(3, 2),
            returned(99, 1),
            settle(1, 2, 2),
        ];
        let plan = plan(operations, &Old);
        assert_eq!(plan.returned, [(QueueId(1), Seq(3), 2)]);
    }

    #[test]
    fn settles_of_what_was_never_stored_are_dropped() {
        assert!(
            plan(
                vec![settle(7, 1, 100), settle(1, 11, 20), settle(1, 9, 8)],
                &Old
            )
            .is_empty()
        );
    }

    #[test]
    fn only_the_last_word_on_a_definition_is_written() {
        let define = |key: &str| Operation::Define {
            key: key.into(),
            value: vec![1],
        };
        let undefine = |key: &str| Operation::Undefine { key: key.into() };
        let operations = vec![
            define("new"),
            undefine("new"),
            define("old"),
            undefine("old"),
        ];
        assert_eq!(
            plan(operations, &Old).definitions,
            [(b"old".to_vec(), None)]
        );
    }
}
