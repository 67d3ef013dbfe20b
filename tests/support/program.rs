//! The program itself, as a command.

use std::process::Command;

/// The program, without settings from this process's environment.
pub(crate) fn millpond() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLPOND_") {
            command.env_remove(name);
        }
    }
    command
}
