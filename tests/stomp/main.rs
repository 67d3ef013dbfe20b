//! The broker as STOMP clients meet it: a scripted peer on one side, the whole broker on the other.
//!
//! Most tests run the broker in this process, over a store in memory; those about death and exit codes run the
//! program itself.

#[path = "../support"]
mod support {
    pub(crate) mod broker;
    pub(crate) mod lives;
    pub(crate) mod peer;
    pub(crate) mod process;
    pub(crate) mod program;
}

mod access;
mod acks;
mod crash;
mod dead_letters;
mod destinations;
mod faults;
mod hostile;
mod login;
mod messages;
mod paging;
mod queues;
mod receipts;
mod replies;
mod shutdown;
mod subscriptions;
mod transactions;
