//! What was stored and cannot be read any more.

use std::fmt;

use super::{LogIndex, QueueId, Seq};

/// Something that was stored and cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Messages of one queue.
    Messages {
        /// The queue.
        queue: QueueId,
        /// The first lost message.
        first: Seq,
        /// The last lost message.
        last: Seq,
    },
    /// Commits of which it is not known any more what all of them held: messages and definitions may be
    /// missing, settled messages may be back.
    Commits {
        /// The first of them.
        first: LogIndex,
        /// The last of them.
        last: LogIndex,
    },
    /// What was settled of a queue: messages that were settled may be back.
    Settled {
        /// The queue.
        queue: QueueId,
    },
    /// Parts of the last checkpoint: definitions may be missing, settled messages may be back.
    Checkpoint {
        /// How many of its pages are known to be damaged; 0 if some are missing altogether.
        pages: u64,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages { queue, first, last } => {
                write!(
                    f,
                    "messages {first} to {last} of queue {queue} cannot be read"
                )
            }
            Self::Commits { first, last } => {
                write!(
                    f,
                    "commits {first} to {last} are damaged or missing; what they held is unknown"
                )
            }
            Self::Settled { queue } => {
                write!(
                    f,
                    "what was settled of queue {queue} cannot be read; settled messages may be back"
                )
            }
            Self::Checkpoint { pages } => {
                write!(
                    f,
                    "the last checkpoint is incomplete ({pages} damaged pages); definitions may be missing"
                )
            }
        }
    }
}
