//! `millpond export`: writes what a data directory holds to a file, while no broker uses it.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::progress::Progress;
use super::settings::SettingFlags;
use super::{Failure, wiring};
use crate::config::{Config, Sources};
use crate::storage::{self, DirectoryOptions, Exported};

const BUFFER: usize = 256 << 10;

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// The file to write; it must not exist. `-` is standard output
    #[arg(value_name = "FILE|-")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) settings: SettingFlags,
}

/// Exports the data directory that the configuration names.
///
/// # Errors
/// When the configuration is wrong; the file is there already; the data directory is in use, is not there, or has
/// lost something and that is not accepted; anything cannot be read or written.
pub(super) fn run(sources: &Sources, file: &Path) -> Result<(), Failure> {
    let config = Config::load(sources).map_err(Failure::usage)?.config;
    let (directory, options) = (&config.storage.data_dir, wiring::directory(&config));
    if file != Path::new("-") {
        return to_file(directory, &options, file);
    }
    let out = io::stdout();
    if out.is_terminal() {
        return Err(Failure::usage(
            "an export is not for a terminal; name a file, or send standard output to one",
        ));
    }
    export(
        directory,
        &options,
        &mut BufWriter::with_capacity(BUFFER, out.lock()),
    )
}

fn export(
    directory: &Path,
    options: &DirectoryOptions,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut progress = Progress::new("exported");
    let exported = storage::export_directory(directory, options, out, &mut |total| {
        progress.update(total);
    });
    let Exported { total, losses } = exported.map_err(Failure::running)?;
    for loss in losses {
        eprintln!("warning: not exported, because it is lost: {loss}");
    }
    progress.finish(&total);
    Ok(())
}

/// Writes under another name until everything is on disk, so that a file of the right name is always whole.
fn to_file(directory: &Path, options: &DirectoryOptions, path: &Path) -> Result<(), Failure> {
    refuse_existing(path)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    let unfinished = PathBuf::from(name);
    let cannot = |doing: &str, path: &Path, error: &io::Error| {
        Failure::running(format!("cannot {doing} {}: {error}", path.display()))
    };
    let file = lock_file(&unfinished).map_err(|error| cannot("write", &unfinished, &error))?;
    let mut out = BufWriter::with_capacity(BUFFER, &file);
    let written = export(directory, options, &mut out).and_then(|()| {
        drop(out);
        file.sync_all()
            .map_err(|error| cannot("sync", &unfinished, &error))?;
        refuse_existing(path)?;
        fs::rename(&unfinished, path).map_err(|error| cannot("rename", &unfinished, &error))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|error| cannot("sync", parent, &error))
    });
    if written.is_err() {
        // What failed is told; that something half may be left is not worth a second sentence.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn refuse_existing(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => Err(Failure::running(format!(
            "{} exists already; name a file that does not",
            path.display()
        ))),
        Err(_) => Ok(()),
    }
}

/// Opens the file that nobody else is writing; one that was left by an export that died is begun again.
fn lock_file(path: &Path) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::other("another export is writing it"));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    Ok(file)
}
