//! What a broker uses: memory and disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

/// Anonymous memory in use, in bytes: not what of files the system keeps for speed.
///
/// # Panics
/// When there is no such process.
pub(crate) fn anonymous_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.expect("Linux says it") * 1024
}

/// Bytes that the file system gives to a directory.
pub(crate) fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        // Files come and go while the broker works.
        Err(_) => 0,
    });
    sizes.sum()
}

/// Mebibytes, for people.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Watches the most anonymous memory that a process uses.
pub(crate) struct Peak {
    most: Arc<AtomicU64>,
    pid: u32,
    watching: JoinHandle<()>,
}

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Peak {
    pub(crate) fn watch(pid: u32) -> Self {
        let most = Arc::new(AtomicU64::new(anonymous_bytes(pid)));
        let seen = Arc::clone(&most);
        let watching = tokio::spawn(async move {
            while Path::new(&format!("/proc/{pid}/status")).exists() {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status"))
                    && status.contains("RssAnon")
                {
                    seen.fetch_max(anonymous_bytes(pid), Ordering::Relaxed);
                }
            }
        });
        Self {
            most,
            pid,
            watching,
        }
    }

    /// The most since the last time this was asked, in bytes.
    pub(crate) fn take(&self) -> u64 {
        let now = anonymous_bytes(self.pid);
        self.most.swap(now, Ordering::Relaxed).max(now)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
