//! STOMP sessions: frames become work for the engine, and the engine's answers become frames.
//!
//! | file | idea |
//! |---|---|
//! | `session` | one connection: dispatches frames, answers, and paces its client |
//! | `client` | what a logged-in client has and holds |
//! | `batch` | what is gathered before the engine is turned to |
//! | `options` | what the configuration decides |
//! | `login` | CONNECT: who, and to which vhost |
//! | `destination` | the names of places, parsed and written |
//! | `publish` | SEND: from frame to message |
//! | `subscribe`, `subscription` | SUBSCRIBE and UNSUBSCRIBE · the table of subscriptions |
//! | `reply_queue` | `/temp-queue` and `/temp-topic` |
//! | `queue_headers` | queue arguments given as headers |
//! | `unsettled` | deliveries the client still has to ACK |
//! | `settle` | ACK and NACK |
//! | `transactions` | BEGIN, COMMIT, ABORT |
//! | `deliver` | MESSAGE: from delivery to bytes |
//! | `reply` | every ERROR, and whether it closes |

mod batch;
mod client;
mod deliver;
mod destination;
mod login;
mod options;
mod publish;
mod queue_headers;
mod reply;
mod reply_queue;
mod session;
mod settle;
mod subscribe;
mod subscription;
mod transactions;
mod unsettled;

pub use options::{ErrorMode, StompOptions};
pub use session::StompSession;
