//! The log of commits, from outside: conformance of its stores, crashes, faults, damage, churn, export and import.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[macro_use]
#[path = "storage/engines.rs"]
mod engines;
#[path = "storage/model.rs"]
mod model;
#[path = "storage/support.rs"]
mod support;

#[path = "storage/churn.rs"]
mod churn;
#[path = "storage/conformance.rs"]
mod conformance;
#[path = "storage/damage.rs"]
mod damage;
#[path = "storage/directory.rs"]
mod directory;
#[path = "storage/faults.rs"]
mod faults;
#[path = "storage/format.rs"]
mod format;
#[path = "storage/journal.rs"]
mod journal;
#[path = "storage/maintenance.rs"]
mod maintenance;
#[path = "storage/reading.rs"]
mod reading;
#[path = "storage/sparse.rs"]
mod sparse;
#[path = "storage/transfer.rs"]
mod transfer;
