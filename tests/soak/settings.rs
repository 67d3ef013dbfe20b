//! What is to be run, and how much of it.

use std::path::PathBuf;

use crate::support::program::millpond;

/// The engines there may be; those that the program accepts are used.
const ENGINES: [&str; 2] = ["sled", "fjall"];

/// Counts and choices of a run.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) full: bool,
    pub(crate) list: bool,
    pub(crate) engines: Vec<String>,
    /// Names of checks; none means all.
    names: Vec<String>,
    /// Where data directories and images are made.
    pub(crate) directory: PathBuf,
    pub(crate) power_cuts: u64,
    pub(crate) kills: u64,
    pub(crate) flips: u64,
    pub(crate) churn: u64,
    pub(crate) backlog: u64,
    pub(crate) backlog_queues: u64,
    pub(crate) queues: u64,
    pub(crate) connections: u64,
    pub(crate) fuzz_minutes: u64,
    pub(crate) cases: u64,
}

/// The value of an environment variable, or the default for a full or a short run.
fn count(full: bool, name: &str, counts: (u64, u64)) -> Result<u64, String> {
    match std::env::var(name) {
        Ok(value) => value
            .replace('_', "")
            .parse()
            .map_err(|_| format!("{name}={value} is no number")),
        Err(_) if full => Ok(counts.0),
        Err(_) => Ok(counts.1),
    }
}

/// Whether the program can use an engine.
fn is_accepted(engine: &str) -> bool {
    let setting = format!("storage.engine={engine}");
    let output = millpond()
        .args(["check-config", "--set", &setting])
        .output();
    output.expect("the program was built").status.success()
}

impl Settings {
    /// From the command line and the environment. Flags that are not known are passed over: `cargo test` gives its
    /// flags to every test program.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub(crate) fn read() -> Result<Self, String> {
        let (mut full, mut list) = (false, false);
        let (mut engines, mut names) = (Vec::new(), Vec::new());
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--full" => full = true,
                "--list" => list = true,
                "--engine" => engines.push(arguments.next().ok_or("--engine needs a name")?),
                flag if flag.starts_with('-') => {}
                name => names.push(name.to_owned()),
            }
        }
        if engines.is_empty() {
            let accepted = ENGINES.into_iter().filter(|engine| is_accepted(engine));
            engines = accepted.map(str::to_owned).collect();
        }
        let directory = std::env::var_os("SOAK_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let count = |name: &str, in_full, in_short| count(full, name, (in_full, in_short));
        Ok(Self {
            power_cuts: count("SOAK_POWER_CUTS", 20, 1)?,
            kills: count("SOAK_KILLS", 200, 1)?,
            flips: count("SOAK_FLIPS", 200, 6)?,
            churn: count("SOAK_CHURN", 10_000_000, 4_000)?,
            backlog: count("SOAK_BACKLOG", 10_000_000, 5_000)?,
            backlog_queues: count("SOAK_BACKLOG_QUEUES", 1_000, 10)?,
            queues: count("SOAK_QUEUES", 10_000, 50)?,
            connections: count("SOAK_CONNECTIONS", 10_000, 50)?,
            fuzz_minutes: count("SOAK_FUZZ_MINUTES", 10, 0)?,
            cases: count("SOAK_CASES", 25_600, 0)?,
            full,
            list,
            engines,
            names,
            directory,
        })
    }

    /// Whether a check was asked for by its name.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.names.iter().any(|wanted| wanted == name)
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names(name)
    }
}
