//! How a run goes: samples of its counters, and a line a second for whoever watches.

use super::clock::{SECOND, seconds};
use super::process::Cpu;

/// The counters of a run at one time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) at: u64,
    pub(super) sent: u64,
    pub(super) confirmed: u64,
    /// Deliveries, whatever they are.
    pub(super) delivered: u64,
    /// Deliveries of this run, without repetitions.
    pub(super) unique: u64,
    pub(super) last_delivery: u64,
    pub(super) cpu: Cpu,
}

impl Sample {
    fn counts(&self) -> [u64; 3] {
        [self.sent, self.confirmed, self.delivered]
    }
}

/// Keeps the samples that the report is made from.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    start: u64,
    /// Where measuring begins: the first sample after the warm-up.
    begin: Sample,
    is_warm: bool,
    /// The last sample that differs from the one before: the waiting at the end costs nothing and counts for nothing.
    last: Sample,
    /// The sample of the line before.
    line: Sample,
}

impl Progress {
    /// Begins at `start` with the counters as they are; prints lines if they are to be `shown`.
    pub(super) fn new(shown: bool, start: u64, begin: Sample) -> Self {
        Self {
            shown,
            start,
            begin,
            is_warm: false,
            last: begin,
            line: begin,
        }
    }

    /// Takes a sample.
    pub(super) fn note(&mut self, sample: Sample, warm_until: u64) {
        if !self.is_warm && sample.at >= warm_until && warm_until > self.start {
            self.is_warm = true;
            self.begin = sample;
        }
        if sample.counts() != self.last.counts() {
            self.last = sample;
        }
        if sample.at >= self.line.at + SECOND {
            if self.shown {
                eprintln!("{}", line(self.start, &self.line, &sample));
            }
            self.line = sample;
        }
    }

    /// The first and the last sample that count.
    pub(super) fn finish(mut self, sample: Sample) -> (Sample, Sample) {
        if sample.counts() != self.last.counts() {
            self.last = sample;
        }
        (self.begin, self.last)
    }
}

fn line(start: u64, before: &Sample, now: &Sample) -> String {
    let elapsed = seconds(now.at - before.at);
    let rate = |before: u64, now: u64| grouped(per(now.saturating_sub(before), elapsed));
    let mut line = format!(
        "{:>5.0} s  in {:>11}/s  out {:>11}/s",
        seconds(now.at.saturating_sub(start)),
        rate(before.sent, now.sent),
        rate(before.delivered, now.delivered),
    );
    if now.confirmed > 0 {
        line += &format!(
            "  confirmed {:>11}/s",
            rate(before.confirmed, now.confirmed)
        );
    }
    line
}

/// A rate: so many in so many seconds.
pub(super) fn per(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// A number with its thousands apart: 1,234,567.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, sent: u64) -> Sample {
        Sample {
            at: at * SECOND,
            sent,
            ..Sample::default()
        }
    }

    #[test]
    fn the_warm_up_and_the_wait_at_the_end_do_not_count() {
        let mut progress = Progress::new(false, 0, sample(0, 0));
        for (at, sent) in [(1, 10), (2, 25), (3, 40), (4, 50), (5, 50), (6, 50)] {
            progress.note(sample(at, sent), 2 * SECOND);
        }
        let (begin, end) = progress.finish(sample(9, 50));
        assert_eq!((begin.sent, end.sent), (25, 50));
        assert_eq!((begin.at, end.at), (2 * SECOND, 4 * SECOND));
    }

    #[test]
    fn without_a_warm_up_everything_counts() {
        let mut progress = Progress::new(false, 0, sample(0, 0));
        progress.note(sample(1, 10), 0);
        let (begin, end) = progress.finish(sample(2, 12));
        assert_eq!((begin.sent, end.sent), (0, 12));
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, expected) in [
            (0.0, "0"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn a_line_shows_the_rates_of_its_second() {
        let before = sample(3, 1_000);
        let now = Sample {
            delivered: 4_000,
            ..sample(5, 5_000)
        };
        let line = line(0, &before, &now);
        assert!(
            line.contains("in       2,000/s  out       2,000/s"),
            "{line}"
        );
        assert!(!line.contains("confirmed"), "{line}");
    }
}
