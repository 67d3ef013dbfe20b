//! Gathers the messages of a block into runs of consecutive numbers.

use super::frame::Run;
use super::hash::NumberMap;
use super::{QueueId, Seq};

/// The runs of one block, in order of first appearance.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
    /// The last run of each queue, for blocks that several queues share.
    last: NumberMap<QueueId, usize>,
}

impl Runs {
    /// Notes one message.
    pub(super) fn add(&mut self, queue: QueueId, seq: Seq) {
        let follows =
            |run: &&mut Run| run.queue == queue && run.last.0.checked_add(1) == Some(seq.0);
        if let Some(run) = self.runs.last_mut().filter(follows) {
            run.last = seq;
            return;
        }
        let place = self.last.get(&queue).copied();
        if let Some(run) = place
            .and_then(|place| self.runs.get_mut(place))
            .filter(follows)
        {
            run.last = seq;
            return;
        }
        self.last.insert(queue, self.runs.len());
        self.runs.push(Run {
            queue,
            first: seq,
            last: seq,
        });
    }

    pub(super) fn into_vec(self) -> Vec<Run> {
        self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_queues_have_one_run_each_and_a_gap_begins_another() {
        let mut runs = Runs::default();
        for (queue, seq) in [(1, 5), (2, 1), (1, 6), (2, 2), (1, 8), (1, 9)] {
            runs.add(QueueId(queue), Seq(seq));
        }
        let run = |queue, first, last| Run {
            queue: QueueId(queue),
            first: Seq(first),
            last: Seq(last),
        };
        assert_eq!(runs.into_vec(), [run(1, 5, 6), run(2, 1, 2), run(1, 8, 9)]);
    }
}
