//! What must not be left half done.

/// While one of these lives, a panic ends the process.
///
/// Work on a queue, and the task of a vhost, happen wholly or not at all: a panic half-way would leave a
/// queue, its log and its consumers in disagreement, or timers that never fire. Recovery puts that right.
pub(super) struct Whole;

impl Drop for Whole {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
