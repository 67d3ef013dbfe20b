//! Looks at the free disk space now and then: below the limit messages are refused, consumers go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::config;
use crate::engine::broker::Broker;
use crate::storage::{self, Reserve, StorageError};

/// How often the free disk space is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is watched, and what was seen last.
struct DiskWatch {
    broker: Arc<Broker>,
    directory: PathBuf,
    disk: config::Disk,
    reserve: Reserve,
    /// The last look failed somewhere: said once, until one does not.
    troubled: bool,
}

/// Watches until the program ends.
pub(super) async fn run(broker: Arc<Broker>, directory: PathBuf, disk: config::Disk) {
    let reserve = Reserve::new(&directory, disk.reserve);
    let mut watch = DiskWatch {
        broker,
        directory,
        disk,
        reserve,
        troubled: false,
    };
    loop {
        // The file system may take its time, and the reserve is many bytes to write.
        let looked = tokio::task::spawn_blocking(move || {
            watch.look();
            watch
        });
        watch = match looked.await {
            Ok(watch) => watch,
            // The runtime is going down.
            Err(_) => return,
        };
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl DiskWatch {
    fn look(&mut self) {
        let outcome =
            storage::available_bytes(&self.directory).and_then(|available| self.judge(available));
        if let Err(error) = &outcome
            && !self.troubled
        {
            warn!(%error, "cannot look after the free disk space");
        }
        self.troubled = outcome.is_err();
    }

    fn judge(&self, available: u64) -> Result<(), StorageError> {
        let limit = self.disk.free_limit;
        let low = available < limit;
        if low != self.broker.core().is_disk_low() {
            self.broker.core().set_disk_low(low);
            if low {
                error!(
                    available,
                    limit, "disk space is low: messages are refused until there is room"
                );
            } else {
                info!(available, limit, "there is disk space again");
            }
        }
        if low {
            self.reserve.release()
        } else if available >= limit.saturating_add(self.disk.reserve) {
            // Not before there is room for it: taking it must not make the disk low again.
            self.reserve.fill()
        } else {
            Ok(())
        }
    }
}
