//! `millpond import`: fills an empty data directory from what `millpond export` wrote.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::progress::Progress;
use super::settings::SettingFlags;
use super::{Failure, wiring};
use crate::config::{Config, Sources};
use crate::storage;

const BUFFER: usize = 256 << 10;

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The file to read. `-` is standard input
    #[arg(value_name = "FILE|-")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) settings: SettingFlags,
}

/// Imports into the data directory that the configuration names, with the engine that it names.
///
/// # Errors
/// When the configuration is wrong; the data directory is in use or holds something; the file is no export, or
/// damaged; anything cannot be read or written.
pub(super) fn run(sources: &Sources, file: &Path) -> Result<(), Failure> {
    let config = Config::load(sources).map_err(Failure::usage)?.config;
    let (directory, options) = (&config.storage.data_dir, wiring::directory(&config));
    let mut input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(|error| {
            Failure::running(format!("cannot open {}: {error}", file.display()))
        })?)
    };
    let mut input = BufReader::with_capacity(BUFFER, &mut input);
    let mut progress = Progress::new("imported");
    let total = storage::import_directory(directory, options, &mut input, &mut |total| {
        progress.update(total);
    });
    progress.finish(&total.map_err(Failure::running)?);
    Ok(())
}
