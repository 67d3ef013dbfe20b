//! What a commit changes: made when it is laid out, or when it is replayed, and applied to the index.

use super::frame::{Placement, Run};
use super::{LogIndex, QueueId, Seq};

/// A block as the index must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredBlock {
    pub(super) part: u32,
    pub(super) checksum: u32,
    pub(super) len: u32,
    /// Whether it holds more than messages and pieces.
    pub(super) control: bool,
    /// The messages whose frames are in the block.
    pub(super) runs: Vec<Run>,
    /// Those of them whose payload is in other blocks.
    pub(super) placed: Vec<(QueueId, Seq, Placement)>,
}

/// What a commit changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) commit: LogIndex,
    /// The checksum of the final part.
    pub(super) checksum: u32,
    pub(super) blocks: Vec<StoredBlock>,
    pub(super) settled: Vec<(QueueId, Vec<(Seq, Seq)>)>,
    pub(super) returned: Vec<(QueueId, Seq, u32)>,
    pub(super) forgotten: Vec<QueueId>,
    pub(super) definitions: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}
