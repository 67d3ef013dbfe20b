//! The broker's clock: one reading gives the instant for timers and the wall time for what is stored or shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A moment, read once per batch and passed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For timers and durations; never runs backwards.
    pub instant: Instant,
    /// Milliseconds since 1970, for what is written down: expiry, timestamps, delays until a date.
    pub wall_ms: u64,
}

/// Reads the wall clock once and counts on with tokio's, so that a test which pauses tokio's time pauses both, and a step
/// of the system's clock does not expire messages. What the two drift apart by is seen only after a restart.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    origin_wall_ms: u64,
}

impl Clock {
    /// A clock set by the system's.
    pub fn system() -> Self {
        // A system clock before 1970 is a machine that was never set: counting from 1970 keeps its order.
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::starting_at(millis(wall))
    }

    /// A clock that reads this many milliseconds since 1970 now.
    pub fn starting_at(wall_ms: u64) -> Self {
        Self {
            origin: Instant::now(),
            origin_wall_ms: wall_ms,
        }
    }

    /// The time.
    pub fn now(&self) -> Now {
        let instant = Instant::now();
        Now {
            instant,
            wall_ms: self.wall_ms_at(instant),
        }
    }

    /// The wall time of an instant, in milliseconds since 1970; the clock's start for any instant before it.
    pub fn wall_ms_at(&self, instant: Instant) -> u64 {
        self.origin_wall_ms
            .saturating_add(millis(instant.saturating_duration_since(self.origin)))
    }

    /// The instant of a wall time in milliseconds since 1970; the clock's start for any time before it, which has passed
    /// either way. `None` if it is so far off that the clock cannot say: it will not come.
    pub fn instant_at(&self, wall_ms: u64) -> Option<Instant> {
        self.origin.checked_add(Duration::from_millis(
            wall_ms.saturating_sub(self.origin_wall_ms),
        ))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn both_times_move_together() {
        let clock = Clock::starting_at(1_000);
        let before = clock.now();
        assert_eq!(before.wall_ms, 1_000);
        tokio::time::advance(Duration::from_millis(250)).await;
        let after = clock.now();
        assert_eq!(after.wall_ms, 1_250);
        assert_eq!(after.instant - before.instant, Duration::from_millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn wall_times_and_instants_convert() {
        let clock = Clock::starting_at(1_000);
        let now = clock.now().instant;
        assert_eq!(
            clock.instant_at(1_500),
            Some(now + Duration::from_millis(500))
        );
        assert_eq!(clock.wall_ms_at(now + Duration::from_millis(500)), 1_500);
        assert_eq!(clock.instant_at(3), Some(now));
        assert_eq!(clock.wall_ms_at(now - Duration::from_millis(1)), 1_000);
        // The farthest wall time: either the clock can express it or it says that it cannot, but it never panics.
        assert!(clock.instant_at(u64::MAX).is_none_or(|far| far > now));
    }

    #[test]
    fn the_system_clock_is_read() {
        assert!(Clock::system().now().wall_ms > 1_600_000_000_000);
    }
}
