//! File systems of their own, in a file: what a power cut leaves, and a disk that is small.
//!
//! All of it needs root and a loop device. Mounts are made in a mount name space that this program enters at its start,
//! so that they end with it, however it ends, and the loop devices with them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::settings::Settings;

/// Set for this program in a name space of its own.
const ENTERED: &str = "SOAK_NAMESPACE";
/// Tries to copy a device while nothing is written to it.
const COPIES_MAX: u32 = 100;

/// Starts this program again with mounts of its own, if it may and has not; returns only if that is not so.
pub(crate) fn enter_namespace(settings: &Settings) -> Option<std::io::Error> {
    let needed = settings.full
        || ["power-cut", "disk-full"]
            .iter()
            .any(|name| settings.names(name));
    if !needed || !rustix::process::geteuid().is_root() || std::env::var_os(ENTERED).is_some() {
        return None;
    }
    let itself = match std::env::current_exe() {
        Ok(itself) => itself,
        Err(error) => return Some(error),
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]);
    command.arg(itself).args(std::env::args_os().skip(1));
    Some(command.env(ENTERED, "1").exec())
}

/// Runs a command of the system; what it said when it failed.
fn system(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{:?}: {}", command.get_program(), said.trim()))
}

/// Makes a file with an empty ext4 file system of so many bytes.
///
/// # Errors
/// Why that cannot be done here: a reason to skip a check.
pub(crate) fn make(file: &Path, bytes: u64) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root, to mount a file system".into());
    }
    if std::env::var_os(ENTERED).is_none() {
        return Err("needs a mount name space of its own".into());
    }
    let made = File::create(file).and_then(|file| file.set_len(bytes));
    made.map_err(|error| format!("{}: {error}", file.display()))?;
    system(
        Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(file),
    )
    .map(drop)
}

/// A mounted file. Dropping it unmounts it.
pub(crate) struct Mount {
    path: PathBuf,
    /// The file with the figures of the loop device.
    figures: PathBuf,
    file: PathBuf,
}

impl Mount {
    /// Mounts a file at a new folder beside it.
    ///
    /// # Errors
    /// Why that cannot be done here.
    pub(crate) fn new(file: &Path) -> Result<Self, String> {
        let path = file.with_extension("mounted");
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        system(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(file)
                .arg(&path),
        )?;
        let source = system(
            Command::new("findmnt")
                .args(["-n", "-o", "SOURCE", "--mountpoint"])
                .arg(&path),
        );
        let mut mount = Self {
            path,
            figures: PathBuf::new(),
            file: file.to_owned(),
        };
        // From here on dropping it unmounts.
        let source = source?;
        let device = source.strip_prefix("/dev/").ok_or("no loop device")?;
        mount.figures = Path::new("/sys/block").join(device).join("stat");
        Ok(mount)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes completed and in flight on the device, flushes too.
    fn writes(&self) -> [u64; 3] {
        let text = fs::read_to_string(&self.figures).expect("a mounted loop device");
        let figures: Vec<u64> = text
            .split_whitespace()
            .map(|figure| figure.parse().expect("a number"))
            .collect();
        [
            figures[4],
            figures[8],
            figures.get(15).copied().unwrap_or(0),
        ]
    }

    /// Copies what the device holds at one moment, which is what a power cut leaves: not what the system has yet to
    /// write. Whoever writes must have been stopped; the system itself may write on.
    ///
    /// # Panics
    /// When the device never rests.
    pub(crate) fn copy_device(&self, to: &Path) {
        for _ in 0..COPIES_MAX {
            let before = self.writes();
            let copied = system(
                Command::new("cp")
                    .arg("--sparse=always")
                    .arg(&self.file)
                    .arg(to),
            );
            copied.expect("there is room for a copy");
            // A copy into which was written is no moment.
            if before[1] == 0 && self.writes() == before {
                return;
            }
        }
        panic!("the device is written to all the time");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = system(Command::new("umount").arg(&self.path));
        if let Err(error) = unmounted {
            eprintln!("{error}; unmounting when nobody uses it any more");
            let _ = system(Command::new("umount").arg("--lazy").arg(&self.path));
        }
    }
}
