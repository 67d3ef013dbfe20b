//! The log of commits, from outside: conformance of its stores, crashes, faults, damage, churn.

#[path = "storage/model.rs"]
mod model;
#[path = "storage/support.rs"]
mod support;

#[path = "storage/conformance.rs"]
mod conformance;
#[path = "storage/faults.rs"]
mod faults;
#[path = "storage/journal.rs"]
mod journal;
