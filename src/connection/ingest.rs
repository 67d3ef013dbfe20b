//! Memory for large frames that are still coming in, shared by all connections.
//!
//! A frame that fits a read buffer costs nothing extra. A larger one is granted room for *all* of it before more
//! than its beginning is read, so frames that have begun can always be finished: half-received ones never
//! wait for each other. Grants are given in order of asking, and a client whose frame does not come in at a
//! fair pace loses its connection rather than the others their turn.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::engine::memory::Memory;

/// Up to this size (bytes) a frame needs no grant.
const FREE_BYTES: usize = 128 * 1024;
/// Bytes that one permit of the semaphore stands for.
const UNIT: usize = 1024;
/// Bytes a second that a large frame has to come in with at the least.
const PACE: u64 = 64 * 1024;

/// The budget of large frames that are coming in.
#[derive(Debug)]
pub struct Ingest {
    free: Arc<Semaphore>,
    units: u32,
    memory: Arc<Memory>,
    patience: Duration,
}

impl Ingest {
    /// A budget of `bytes`, charged to `memory` as it is used. A frame may take `patience` and what it
    /// needs at 64 KiB a second.
    ///
    /// A frame larger than the whole budget is granted all of it.
    pub fn new(bytes: usize, patience: Duration, memory: Arc<Memory>) -> Self {
        let units = u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
            memory,
            patience,
        }
    }

    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).map_or(self.units, |units| units.min(self.units))
    }

    fn granted(&self, permit: OwnedSemaphorePermit, bytes: usize) -> Grant {
        let charged = permit.num_permits() as u64 * UNIT as u64;
        self.memory.charge(charged);
        Grant {
            _permit: permit,
            bytes,
            charged,
            memory: Arc::clone(&self.memory),
            since: Instant::now(),
            may_take: self.patience + Duration::from_secs(bytes as u64 / PACE),
        }
    }
}

/// The right to keep so many bytes of one frame; given back when it is dropped.
#[derive(Debug)]
struct Grant {
    _permit: OwnedSemaphorePermit,
    bytes: usize,
    charged: u64,
    memory: Arc<Memory>,
    since: Instant,
    may_take: Duration,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.memory.release(self.charged);
    }
}

/// What one connection has of the budget.
#[derive(Default)]
pub(super) enum Share {
    /// Nothing: the frame coming in is small.
    #[default]
    None,
    /// Nothing yet: the connection is not read from until its turn comes.
    Waiting {
        bytes: usize,
        turn: Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>,
    },
    /// Room for the frame coming in.
    Held(Box<Held>),
}

/// A grant and the budget it is from.
pub(super) struct Held(Grant);

impl Share {
    /// Asks for what a frame of `bytes` needs, unless that was asked for already; gives back what is
    /// no longer needed.
    pub(super) fn ask(&mut self, ingest: &Ingest, bytes: usize) {
        let known = match self {
            Self::None => 0,
            Self::Waiting { bytes, .. } => *bytes,
            Self::Held(held) => held.0.bytes,
        };
        if bytes <= FREE_BYTES {
            *self = Self::None;
            return;
        }
        if bytes <= known {
            return;
        }
        // What a smaller frame before was granted goes first, or two connections could wait for each other.
        *self = Self::None;
        let units = ingest.units(bytes);
        let free = Arc::clone(&ingest.free);
        *self = match Arc::clone(&free).try_acquire_many_owned(units) {
            Ok(permit) => Self::Held(Box::new(Held(ingest.granted(permit, bytes)))),
            Err(_) => Self::Waiting {
                bytes,
                // The semaphore is never closed.
                turn: Box::pin(async move { free.acquire_many_owned(units).await.ok() }),
            },
        };
    }

    /// Whether the connection may be read from.
    pub(super) fn allows_reading(&self) -> bool {
        !matches!(self, Self::Waiting { .. })
    }

    /// Completes when its turn has come; never if it does not wait. Cancel-safe.
    pub(super) async fn turn(&mut self) -> OwnedSemaphorePermit {
        if let Self::Waiting { turn, .. } = self
            && let Some(permit) = turn.await
        {
            return permit;
        }
        std::future::pending().await
    }

    /// Its turn has come.
    pub(super) fn take_turn(&mut self, ingest: &Ingest, permit: OwnedSemaphorePermit) {
        if let Self::Waiting { bytes, .. } = *self {
            *self = Self::Held(Box::new(Held(ingest.granted(permit, bytes))));
        }
    }

    /// When the frame must be complete; `None` for a small one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Held(held) => held.0.since.checked_add(held.0.may_take),
            Self::None | Self::Waiting { .. } => None,
        }
    }

    /// The time begins anew: it was not the client who kept the frame from coming.
    pub(super) fn excuse(&mut self, now: Instant) {
        if let Self::Held(held) = self {
            held.0.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::engine::memory::MemoryLimit;

    const MIB: usize = 1 << 20;

    fn ingest(bytes: usize) -> (Ingest, Arc<Memory>) {
        let memory = Arc::new(Memory::new(MemoryLimit::Bytes(1 << 30)));
        let ingest = Ingest::new(bytes, Duration::from_secs(60), Arc::clone(&memory));
        (ingest, memory)
    }

    /// Polls the share's turn once.
    async fn look(share: &mut Share, ingest: &Ingest) {
        let polled = {
            let mut turn = std::pin::pin!(share.turn());
            std::future::poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await
        };
        if let Poll::Ready(permit) = polled {
            share.take_turn(ingest, permit);
        }
    }

    #[tokio::test]
    async fn small_frames_cost_nothing_and_large_ones_what_they_will_be() {
        let (ingest, memory) = ingest(4 * MIB);
        let mut share = Share::default();
        share.ask(&ingest, FREE_BYTES);
        assert_eq!(memory.used(), 0);
        share.ask(&ingest, 3 * MIB);
        share.ask(&ingest, 3 * MIB);
        assert_eq!(memory.used(), 3 * MIB as u64);
        share.ask(&ingest, 10);
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn whoever_asked_first_is_served_first_and_what_began_can_be_finished() {
        let (ingest, memory) = ingest(4 * MIB);
        let mut shares: Vec<Share> = (0..3).map(|_| Share::default()).collect();
        shares[0].ask(&ingest, 3 * MIB);
        shares[1].ask(&ingest, 4 * MIB);
        look(&mut shares[1], &ingest).await;
        shares[2].ask(&ingest, MIB);
        look(&mut shares[2], &ingest).await;
        assert!(shares[0].allows_reading());
        assert!(!shares[1].allows_reading() && !shares[2].allows_reading());
        shares[0] = Share::None;
        look(&mut shares[2], &ingest).await;
        assert!(!shares[2].allows_reading(), "it came last");
        look(&mut shares[1], &ingest).await;
        assert!(shares[1].allows_reading());
        shares[1].ask(&ingest, 0);
        look(&mut shares[2], &ingest).await;
        assert!(shares[2].allows_reading());
        drop(shares);
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn a_frame_beyond_the_budget_gets_all_of_it() {
        let (ingest, memory) = ingest(MIB);
        let mut share = Share::default();
        share.ask(&ingest, 100 * MIB);
        assert!(share.allows_reading());
        assert_eq!(memory.used(), MIB as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_has_time_in_proportion_to_its_size_and_is_excused_while_the_broker_waits() {
        let (ingest, _) = ingest(4 * MIB);
        let mut share = Share::default();
        share.ask(&ingest, MIB);
        let began = Instant::now();
        let time = Duration::from_secs(60 + 16);
        assert_eq!(share.deadline(), Some(began + time));
        tokio::time::advance(Duration::from_secs(70)).await;
        share.excuse(Instant::now());
        assert_eq!(share.deadline(), Some(Instant::now() + time));
    }
}
