//! Any configuration file.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use millpond::config::{Config, Sources};

/// The file that every input is written to; each process has one.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("millpond-fuzz-{}.toml", std::process::id());
    std::env::temp_dir().join(name)
});

/// The input is the file.
///
/// # Panics
/// If reading it does, or a refusal says nothing.
pub fn run(input: &[u8]) {
    fs::write(&*FILE, input).expect("the directory for temporary files can be written to");
    let sources = Sources {
        file: Some(FILE.clone()),
        ..Sources::default()
    };
    match Config::load(&sources) {
        Ok(loaded) => assert!(loaded.warnings.iter().all(|warning| !warning.is_empty())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
