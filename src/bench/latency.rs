//! Percentiles of a delay, in a histogram whose memory does not grow and whose values are exact to one in a thousand.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest delay told apart, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Delays, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    histogram: Histogram<u64>,
    /// The last delay and how often it came in a row: what a burst shares is counted once.
    run: (u64, u64),
}

impl Latency {
    /// No delays yet.
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
        Self {
            histogram: histogram.expect("bounds that the histogram can hold"),
            run: (0, 0),
        }
    }

    /// Counts a delay.
    #[inline]
    pub(super) fn record(&mut self, nanoseconds: u64) {
        if self.run.0 == nanoseconds {
            self.run.1 += 1;
        } else {
            self.settle();
            self.run = (nanoseconds, 1);
        }
    }

    fn settle(&mut self) {
        let (value, count) = std::mem::take(&mut self.run);
        if count > 0 {
            self.histogram.saturating_record_n(value, count);
        }
    }

    /// Adds what another thread counted.
    pub(super) fn add(&mut self, mut other: Self) {
        self.settle();
        other.settle();
        self.histogram
            .add(&other.histogram)
            .expect("the same bounds");
    }

    /// The figures to report; none if nothing was counted.
    pub(super) fn percentiles(mut self) -> Option<Percentiles> {
        self.settle();
        let histogram = &self.histogram;
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let at = |percentile| us(histogram.value_at_percentile(percentile));
        (!histogram.is_empty()).then(|| Percentiles {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            min: us(histogram.min()),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: us(histogram.max()),
        })
    }
}

/// A distribution of delays, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Percentiles {
    /// How many were counted.
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) p99_99: f64,
    pub(super) max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(actual: f64, expected: f64) -> bool {
        (actual - expected).abs() <= expected / 500.0
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::new();
        for microseconds in 1..=10_000 {
            latency.record(microseconds * 1_000);
        }
        let found = latency.percentiles().expect("not empty");
        assert_eq!(found.count, 10_000);
        assert!(near(found.p50, 5_000.0) && near(found.p90, 9_000.0));
        assert!(near(found.p99, 9_900.0) && near(found.p99_9, 9_990.0));
        assert!(near(found.p99_99, 9_999.0) && near(found.max, 10_000.0));
        assert!(near(found.min, 1.0) && near(found.mean, 5_000.5));
    }

    #[test]
    fn what_comes_in_a_row_counts_as_often_as_it_came() {
        let mut latency = Latency::new();
        (0..99).for_each(|_| latency.record(1_000));
        latency.record(2_000_000);
        let found = latency.percentiles().expect("not empty");
        assert_eq!(found.count, 100);
        assert!(near(found.p99, 1.0) && near(found.max, 2_000.0));
    }

    #[test]
    fn threads_add_up_with_the_rows_they_had_not_settled() {
        let (mut one, mut other) = (Latency::new(), Latency::new());
        one.record(5_000);
        other.record(7_000);
        other.record(7_000);
        one.add(other);
        let found = one.percentiles().expect("not empty");
        assert_eq!(found.count, 3);
        assert!(near(found.max, 7.0) && near(found.min, 5.0));
    }

    #[test]
    fn a_delay_beyond_the_longest_is_counted_as_the_longest() {
        let mut latency = Latency::new();
        latency.record(LONGEST * 5);
        assert_eq!(latency.percentiles().map(|found| found.count), Some(1));
    }

    #[test]
    fn nothing_recorded_has_no_percentiles() {
        assert!(Latency::new().percentiles().is_none());
    }
}
