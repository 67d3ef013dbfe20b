//! How far an export or import has come, on standard error.

use std::time::{Duration, Instant};

use crate::storage::Transferred;

/// How often a line is written.
const INTERVAL: Duration = Duration::from_secs(1);
/// After how many messages the clock is looked at; a large message is looked at for itself.
const MESSAGES: u64 = 64;
const BYTES: u64 = 1 << 20;

/// Writes a line every second.
pub(super) struct Progress {
    verb: &'static str,
    from: Instant,
    last: Instant,
    /// What had been transferred when the clock was last looked at.
    looked: Transferred,
}

impl Progress {
    /// Begins now; the verb is as in "exported 5 messages".
    pub(super) fn new(verb: &'static str) -> Self {
        let now = Instant::now();
        Self {
            verb,
            from: now,
            last: now,
            looked: Transferred::default(),
        }
    }

    /// Notes how far it is, after every message.
    pub(super) fn update(&mut self, total: &Transferred) {
        if total.messages < self.looked.messages + MESSAGES
            && total.payload_bytes < self.looked.payload_bytes + BYTES
        {
            return;
        }
        self.looked = *total;
        let now = Instant::now();
        if now - self.last >= INTERVAL {
            self.last = now;
            eprintln!("{}", self.line(total, now - self.from));
        }
    }

    /// Says how much it was.
    pub(super) fn finish(&self, total: &Transferred) {
        let line = self.line(total, self.from.elapsed());
        let Transferred {
            definitions,
            queues,
            ..
        } = total;
        eprintln!("{line}; {definitions} definitions, {queues} queues");
    }

    fn line(&self, total: &Transferred, took: Duration) -> String {
        let seconds = took.as_secs_f64();
        let rate = |count: u64| count as f64 / seconds.max(1e-3);
        format!(
            "{} {} messages, {} in {seconds:.1} s ({:.0} messages/s, {}/s)",
            self.verb,
            total.messages,
            size(total.payload_bytes as f64),
            rate(total.messages),
            size(rate(total.payload_bytes)),
        )
    }
}

/// Bytes with the unit that leaves a few digits: `1.5 GiB`.
fn size(bytes: f64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units
        .into_iter()
        .find(|(_, shift)| bytes >= f64::from(1 << shift));
    match unit {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes / f64::from(1 << shift)),
        None => format!("{bytes:.0} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_how_long_and_how_fast() {
        let total = Transferred {
            messages: 3000,
            payload_bytes: 3 << 20,
            ..Transferred::default()
        };
        let line = Progress::new("exported").line(&total, Duration::from_millis(1500));
        assert_eq!(
            line,
            "exported 3000 messages, 3.0 MiB in 1.5 s (2000 messages/s, 2.0 MiB/s)"
        );
        assert_eq!(size(1023.0), "1023 bytes");
        assert_eq!(size(1024.0), "1.0 KiB");
    }
}
