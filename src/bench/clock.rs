//! The generator's clock: monotonic nanoseconds that every process of the machine agrees on, so that a consumer can tell
//! the age of what another process sent.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// Monotonic time, in nanoseconds since the machine started.
#[inline]
pub(super) fn now() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// CPU time this process has used, user and system, in nanoseconds.
pub(super) fn own_cpu() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

#[inline]
fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// A length of time as the system calls take it.
pub(super) fn timespec(nanoseconds: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(nanoseconds / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanoseconds % SECOND).unwrap_or_default(),
    }
}

/// A length of time in seconds.
pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND as f64
}

/// Lets this thread be woken within a microsecond of when it asked, rather than the usual fifty.
pub(super) fn wake_precisely() {
    // Refused, the figures are a little worse; the lag behind the schedule says how much.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}
