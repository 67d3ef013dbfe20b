//! The limits of limits.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Check;
use crate::config::Config;
use crate::config::error::ConfigError;
use crate::config::value::MemoryLimit;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

impl Check<'_> {
    /// Every number, size and duration within its range.
    ///
    /// # Errors
    /// For the first that is not, with the range.
    pub(super) fn ranges(&self) -> Result<(), ConfigError> {
        let Config {
            listen,
            storage,
            memory,
            disk,
            limits,
            stomp,
            shutdown,
            ..
        } = self.config;
        for (key, value, range) in [
            ("listen.backlog", listen.backlog, 1..=65_535),
            (
                "storage.checkpoint_commits",
                storage.checkpoint_commits,
                16..=1_000_000,
            ),
            ("limits.headers", limits.headers as u64, 16..=10_000),
            (
                "limits.subscriptions",
                limits.subscriptions as u64,
                1..=1_000_000,
            ),
            ("limits.unsettled", limits.unsettled as u64, 1..=10_000_000),
            ("limits.receipts", limits.receipts as u64, 1..=10_000_000),
            (
                "limits.transactions",
                limits.transactions as u64,
                1..=65_536,
            ),
            (
                "limits.transaction_actions",
                limits.transaction_actions as u64,
                1..=1_000_000,
            ),
            ("stomp.default_prefetch", stomp.default_prefetch, 0..=65_535),
        ] {
            self.within(key, &value, &range, u64::to_string)?;
        }
        for (key, bytes, range) in [
            ("storage.cache", storage.cache, MIB..=TIB),
            ("storage.fjall_memtable", storage.fjall_memtable, MIB..=GIB),
            (
                "storage.fjall_journals",
                storage.fjall_journals,
                64 * MIB..=64 * GIB,
            ),
            (
                "storage.checkpoint_bytes",
                storage.checkpoint_bytes,
                MIB..=64 * GIB,
            ),
            (
                "storage.backlog_bytes",
                storage.backlog_bytes as u64,
                MIB..=16 * GIB,
            ),
            ("memory.page_from", memory.page_from, 256 * KIB..=TIB),
            ("disk.reserve", disk.reserve, 0..=16 * GIB),
            (
                "limits.message_bytes",
                limits.message_bytes as u64,
                4 * KIB..=GIB,
            ),
            (
                "limits.header_line_bytes",
                limits.header_line_bytes as u64,
                256..=MIB,
            ),
            ("limits.login_bytes", limits.login_bytes as u64, KIB..=MIB),
            (
                "limits.transaction_bytes",
                limits.transaction_bytes as u64,
                64 * KIB..=16 * GIB,
            ),
            (
                "limits.outbox_bytes",
                limits.outbox_bytes as u64,
                64 * KIB..=GIB,
            ),
            (
                "limits.write_bytes",
                limits.write_bytes as u64,
                4 * KIB..=16 * MIB,
            ),
        ] {
            self.within(key, &bytes, &range, |&bytes| size_text(bytes))?;
        }
        let ingest = memory.ingest as u64;
        self.within("memory.ingest", &ingest, &(MIB..=TIB), |&bytes| {
            size_text(bytes)
        })?;
        // A share of what there is has its range in its type.
        if let MemoryLimit::Bytes(bytes) = memory.limit {
            self.within("memory.limit", &bytes, &(16 * MIB..=1024 * TIB), |&bytes| {
                size_text(bytes)
            })?;
        }
        let (milliseconds, seconds) = (Duration::from_millis, Duration::from_secs);
        for (key, time, range) in [
            (
                "storage.commit_delay",
                storage.commit_delay,
                Duration::ZERO..=seconds(1),
            ),
            (
                "limits.login_timeout",
                limits.login_timeout,
                milliseconds(100)..=seconds(600),
            ),
            (
                "limits.frame_timeout",
                limits.frame_timeout,
                milliseconds(100)..=seconds(3600),
            ),
            (
                "shutdown.drain_timeout",
                shutdown.drain_timeout,
                Duration::ZERO..=seconds(3600),
            ),
        ] {
            self.within(key, &time, &range, |time| format!("{time:?}"))?;
        }
        Ok(())
    }

    fn within<T: PartialOrd>(
        &self,
        key: &str,
        value: &T,
        range: &RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Result<(), ConfigError> {
        if range.contains(value) {
            return Ok(());
        }
        let (least, most) = (show(range.start()), show(range.end()));
        Err(self.fail(
            key,
            format!("must be between {least} and {most}, not {}", show(value)),
        ))
    }
}

/// Bytes with the largest unit that leaves no fraction: `64KiB`.
fn size_text(bytes: u64) -> String {
    [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|&(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || format!("{bytes} bytes"),
            |(shift, unit)| format!("{}{unit}", bytes >> shift),
        )
}
