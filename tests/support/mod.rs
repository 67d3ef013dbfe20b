//! What several test programs share.

use std::process::{Output, Stdio};

mod program;

pub(crate) use program::millpond;

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    millpond()
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("started")
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
