//! Memory that messages take, accounted, with a limit at which publishers stop.
//!
//! Bodies, indexes, outboxes and partial frames are charged when they are kept and released when they go. The figure is the
//! engine's own sum rather than the process's size, so that releasing takes effect at once.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::sync::watch;

mod machine;

/// How much memory messages may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths (1 to 100) of what the machine or the control group has.
    Percent(u8),
}

impl MemoryLimit {
    /// The limit in bytes on this machine. A machine that cannot be asked is taken to have 1 GiB.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                machine::memory_bytes() / 100 * u64::from(percent.clamp(1, 100))
            }
        }
    }
}

impl Default for MemoryLimit {
    fn default() -> Self {
        Self::Percent(40)
    }
}

/// What a queue keeps of its messages in memory while there is little pressure to page, in bytes.
const WINDOW_MAX: u64 = 4 << 20;
/// The same when there is most.
const WINDOW_MIN: u64 = 16 << 10;

/// Bytes in use, and whether there are too many.
///
/// From [`Memory::paging_from`] on, messages that wait and are on disk anyway are kept there alone: each queue has a window
/// of messages in memory, which shrinks from 4 MiB to 16 KiB while the use doubles. From half of the limit on, transient
/// messages are written to disk too.
///
/// Pressure begins at the limit and ends at 90 % of it, so that publishers do not stop and start with every message.
/// Above the limit there is a reserve of a sixteenth for what makes room: dead-lettering, requeues and connections that
/// settle as they publish.
#[derive(Debug)]
pub struct Memory {
    /// Signed, because a charge may be released by another thread before its own addition is seen: the sum is right in
    /// the end.
    used: AtomicI64,
    limit: i64,
    relief: i64,
    reserve_end: i64,
    page_from: i64,
    /// From here on even messages that are in memory alone are written to disk.
    spill_from: i64,
    /// What `pressure_changes` holds, for a look without a lock.
    pressure: AtomicBool,
    pressure_changes: watch::Sender<bool>,
}

impl Memory {
    /// Nothing in use, under this limit.
    pub fn new(limit: MemoryLimit) -> Self {
        let limit = signed(limit.bytes()).max(1);
        Self {
            used: AtomicI64::new(0),
            limit,
            relief: limit - limit / 10,
            reserve_end: limit.saturating_add(limit / 16),
            page_from: i64::MAX,
            spill_from: i64::MAX,
            pressure: AtomicBool::new(false),
            pressure_changes: watch::Sender::new(false),
        }
    }

    /// With paging from so many bytes on, or from a quarter of the limit if that is less: what is paged must be on
    /// disk before publishers have to stop for it. Without this call nothing is paged.
    #[must_use]
    pub fn paging_from(mut self, bytes: u64) -> Self {
        self.page_from = signed(bytes).min(self.limit / 4).max(1);
        self.spill_from = (self.limit / 2).max(self.page_from);
        self
    }

    /// How much a queue should keep in memory, in bytes; `None` below the mark from which on queues are paged.
    pub(super) fn paging_window(&self) -> Option<u64> {
        (self.used.load(Ordering::Relaxed) > self.page_from).then(|| self.window())
    }

    /// How much a queue should keep in memory at most, in bytes.
    pub(super) fn window(&self) -> u64 {
        let from = self.page_from.unsigned_abs();
        let over = self.used().saturating_sub(from).min(from);
        // Both factors are below 2^63, their product may not be.
        let shrunk = u128::from(WINDOW_MAX - WINDOW_MIN) * u128::from(over) / u128::from(from);
        WINDOW_MAX - u64::try_from(shrunk).unwrap_or(0)
    }

    /// Whether memory is so short that messages which are nowhere else are written to disk too. That costs writes,
    /// so a burst of transient messages stays in memory up to half of the limit.
    pub(super) fn presses_to_spill(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.spill_from
    }

    /// Whether queues that nobody uses should be paged too.
    pub(super) fn is_pressing(&self) -> bool {
        let mark = self.page_from.saturating_add(self.page_from / 2);
        self.used.load(Ordering::Relaxed) > mark
    }

    /// Counts bytes that are kept from now on. Never refuses: who may refuse asks [`Memory::pressure`] or
    /// [`Memory::has_reserve`] first. Call it once for a batch rather than for each message.
    pub fn charge(&self, bytes: u64) {
        let bytes = signed(bytes);
        let used = self
            .used
            .fetch_add(bytes, Ordering::SeqCst)
            .saturating_add(bytes);
        if used >= self.limit && !self.pressure.load(Ordering::SeqCst) {
            self.reconsider();
        }
    }

    /// Counts bytes that are no longer kept; exactly those that were charged.
    pub fn release(&self, bytes: u64) {
        let bytes = signed(bytes);
        let used = self
            .used
            .fetch_sub(bytes, Ordering::SeqCst)
            .saturating_sub(bytes);
        if used <= self.relief && self.pressure.load(Ordering::SeqCst) {
            self.reconsider();
        }
    }

    /// Brings the pressure in line with the bytes in use.
    fn reconsider(&self) {
        self.pressure_changes.send_if_modified(|pressure| {
            let before = *pressure;
            // Whoever moves the sum past a mark while this runs may read the old flag and leave the change to us, so the
            // sum is read again after each change of the flag until the two agree.
            loop {
                let used = self.used.load(Ordering::SeqCst);
                let after = if *pressure {
                    used > self.relief
                } else {
                    used >= self.limit
                };
                if after == *pressure {
                    return *pressure != before;
                }
                *pressure = after;
                self.pressure.store(after, Ordering::SeqCst);
            }
        });
    }

    /// Whether publishers must stop.
    pub fn pressure(&self) -> bool {
        self.pressure.load(Ordering::SeqCst)
    }

    /// Whether there is room, in the reserve at least, for what makes room.
    pub fn has_reserve(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.reserve_end
    }

    /// Waits until there is no pressure; at once if there is none.
    pub async fn relieved(&self) {
        let mut changes = self.pressure_changes.subscribe();
        // The sender lives in `self`, so the wait cannot end because it is gone.
        let _ = changes.wait_for(|pressure| !pressure).await;
    }

    /// Follows the pressure as it comes and goes, to tell clients that they are blocked and when they no longer are.
    pub fn pressure_changes(&self) -> watch::Receiver<bool> {
        self.pressure_changes.subscribe()
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit.unsigned_abs()
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Poll;

    use super::*;

    #[test]
    fn pressure_begins_at_the_limit_and_ends_at_nine_tenths() {
        let memory = Memory::new(MemoryLimit::Bytes(1000));
        memory.charge(999);
        assert!(!memory.pressure());
        memory.charge(1);
        assert!(memory.pressure());
        memory.release(99);
        assert!(memory.pressure());
        memory.release(1);
        assert!(!memory.pressure());
        memory.charge(99);
        assert!(!memory.pressure());
        assert_eq!(memory.used(), 999);
    }

    #[test]
    fn the_reserve_lies_above_the_limit() {
        let memory = Memory::new(MemoryLimit::Bytes(1600));
        memory.charge(1600);
        assert!(memory.pressure() && memory.has_reserve());
        memory.charge(100);
        assert!(!memory.has_reserve());
    }

    #[test]
    fn the_window_of_a_queue_shrinks_while_the_use_doubles() {
        let memory = Memory::new(MemoryLimit::Bytes(1 << 30)).paging_from(1000);
        memory.charge(1000);
        assert_eq!(memory.paging_window(), None);
        memory.charge(1);
        assert!(
            memory
                .paging_window()
                .is_some_and(|window| window > WINDOW_MAX - (8 << 10))
        );
        memory.charge(499);
        let half = memory.paging_window();
        assert_eq!(half, Some(WINDOW_MAX / 2 + WINDOW_MIN / 2));
        assert!(!memory.is_pressing());
        for more in [500, 5_000] {
            memory.charge(more);
            assert_eq!(memory.paging_window(), Some(WINDOW_MIN));
            assert!(memory.is_pressing());
        }
    }

    #[test]
    fn paging_begins_long_before_publishers_stop_and_only_if_it_is_asked_for() {
        let memory = Memory::new(MemoryLimit::Bytes(1000)).paging_from(1 << 20);
        memory.charge(251);
        assert!(memory.paging_window().is_some());
        let memory = Memory::new(MemoryLimit::Bytes(1000));
        memory.charge(999);
        assert_eq!(
            (memory.paging_window(), memory.is_pressing()),
            (None, false)
        );
        assert_eq!(memory.window(), WINDOW_MAX);
    }

    #[tokio::test]
    async fn those_who_wait_are_woken_by_relief() {
        let memory = Memory::new(MemoryLimit::Bytes(100));
        memory.relieved().await;
        memory.charge(100);
        let mut waiting = std::pin::pin!(memory.relieved());
        let mut changes = memory.pressure_changes();
        assert_eq!(poll_once(waiting.as_mut()).await, Poll::Pending);
        assert!(*changes.borrow_and_update());
        memory.release(50);
        waiting.await;
        changes.changed().await.unwrap();
        assert!(!*changes.borrow());
    }

    /// Polls once, without waiting.
    async fn poll_once<F: Future<Output = ()>>(mut future: std::pin::Pin<&mut F>) -> Poll<()> {
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }

    #[test]
    fn racing_charges_and_releases_end_without_pressure() {
        let memory = Arc::new(Memory::new(MemoryLimit::Bytes(100)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        memory.charge(60);
                        memory.release(60);
                    }
                });
            }
        });
        assert_eq!(memory.used(), 0);
        assert!(!memory.pressure());
    }

    #[test]
    fn a_relative_limit_is_a_part_of_the_machine() {
        let whole = MemoryLimit::Percent(100).bytes();
        assert!(whole > 0);
        assert_eq!(
            Memory::new(MemoryLimit::default()).limit(),
            whole / 100 * 40
        );
    }
}
