//! `millpond check-config`: says whether the broker would start with this configuration.

use super::Failure;
use crate::config::{Config, Sources};

/// Checks the configuration; warnings go to standard error.
///
/// # Errors
/// For the first thing that is wrong.
pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let loaded = Config::load(sources).map_err(Failure::usage)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    match &sources.file {
        Some(path) => println!("{}: the configuration is good", path.display()),
        None => println!("the configuration is good (no file given; --config FILE names one)"),
    }
    Ok(())
}
