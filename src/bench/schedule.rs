//! When messages are due. The whole schedule is fixed by its start and rate, before anything is sent: a broker that
//! stalls the sender cannot move it, so the delay it caused shows in every message that was due meanwhile.

use super::clock::SECOND;

/// Messages at a constant rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start: u64,
    per_second: u64,
}

impl Schedule {
    /// `per_second` messages a second (at least one) from `start`, in nanoseconds, on.
    pub(super) fn new(start: u64, per_second: u64) -> Self {
        Self {
            start,
            per_second: per_second.max(1),
        }
    }

    /// When message `index`, counted from 0, is due.
    #[inline]
    pub(super) fn at(&self, index: u64) -> u64 {
        let (whole, rest) = (index / self.per_second, index % self.per_second);
        self.start + whole * SECOND + rest * SECOND / self.per_second
    }

    /// How many messages are due by `now`: the index of the first that is not.
    pub(super) fn due(&self, now: u64) -> u64 {
        let Some(elapsed) = now.checked_sub(self.start) else {
            return 0;
        };
        let (whole, rest) = (elapsed / SECOND, elapsed % SECOND);
        let mut due = whole * self.per_second + rest * self.per_second / SECOND;
        // Both divisions round down, so the estimate can be one short of what `at` says.
        while self.at(due) <= now {
            due += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_is_due_at_the_start_and_none_before() {
        let schedule = Schedule::new(1_000, 10);
        assert_eq!(schedule.due(999), 0);
        assert_eq!(schedule.due(1_000), 1);
        assert_eq!(schedule.at(0), 1_000);
    }

    #[test]
    fn a_second_holds_exactly_its_rate_and_the_schedule_does_not_drift() {
        for rate in [1, 3, 7, 2_000, 999_983, 3_000_000] {
            let schedule = Schedule::new(17, rate);
            assert_eq!(schedule.at(rate), 17 + SECOND);
            assert_eq!(schedule.at(rate * 86_400), 17 + 86_400 * SECOND);
            assert_eq!(schedule.due(17 + SECOND - 1), rate, "at {rate}");
        }
    }

    #[test]
    fn what_is_due_and_when_agree() {
        for rate in [1, 3, 7, 1_000, 20_000, 333_333] {
            let schedule = Schedule::new(5, rate);
            for index in (0..3 * rate).step_by(usize::try_from(rate / 7 + 1).expect("small")) {
                let at = schedule.at(index);
                assert_eq!(schedule.due(at), index + 1, "at {rate}");
                assert!(schedule.due(at - 1) <= index, "at {rate}");
            }
        }
    }

    #[test]
    fn a_stall_makes_the_missed_messages_due_at_once_at_their_own_times() {
        let schedule = Schedule::new(0, 1_000);
        let after_a_stall = SECOND / 2;
        assert_eq!(schedule.due(after_a_stall), 501);
        assert_eq!(schedule.at(1), SECOND / 1_000);
    }
}
