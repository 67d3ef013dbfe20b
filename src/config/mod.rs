//! Configuration: read once at start from four places, checked as a whole, and passed down from here.
//!
//! What a flag says wins over the environment, the environment over the file, the file over the defaults. Lower
//! floors have option structs of their own; only the command line converts.

mod deserialize;
mod error;
mod schema;
mod sections;
mod tree;
mod validate;
mod value;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use error::{ConfigError, Origin};
pub use schema::keys;
pub use sections::{
    ArgumentMismatch, Disk, Limits, Listen, Log, LogFormat, Memory, Permission, Shutdown, Stomp,
    StompErrors, Storage, StorageEngine, TopicPermission, User, Vhost,
};
pub(crate) use value::parse_duration;
pub use value::{Connections, ListenOn, MemoryLimit, Secret};

/// What the environment variables that hold settings begin with: `MILLPOND_<SECTION>__<KEY>`.
const ENVIRONMENT_PREFIX: &str = "MILLPOND_";

/// Everything that can be configured. [`Default`] is what `millpond` alone runs with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where clients find the broker.
    pub listen: Listen,
    /// The data directory.
    pub storage: Storage,
    /// When memory runs short.
    pub memory: Memory,
    /// When the disk runs full.
    pub disk: Disk,
    /// What one client may ask.
    pub limits: Limits,
    /// The STOMP dialect.
    pub stomp: Stomp,
    /// What is logged, and how.
    pub log: Log,
    /// How the broker stops.
    pub shutdown: Shutdown,
    /// Who may log in.
    #[serde(rename = "user")]
    pub users: Vec<User>,
    /// The virtual hosts.
    #[serde(rename = "vhost")]
    pub vhosts: Vec<Vhost>,
    /// What users may do.
    #[serde(rename = "permission")]
    pub permissions: Vec<Permission>,
    /// Which routing keys they may use.
    #[serde(rename = "topic_permission")]
    pub topic_permissions: Vec<TopicPermission>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            storage: Storage::default(),
            memory: Memory::default(),
            disk: Disk::default(),
            limits: Limits::default(),
            stomp: Stomp::default(),
            log: Log::default(),
            shutdown: Shutdown::default(),
            users: vec![sections::guest()],
            vhosts: vec![sections::default_vhost()],
            permissions: vec![sections::guest_permission("/")],
            topic_permissions: Vec::new(),
        }
    }
}

/// One setting of the command line.
#[derive(Clone, Debug)]
pub struct FlagSetting {
    /// The flag, for errors: `--stomp`.
    pub flag: &'static str,
    /// The key it sets: `listen.stomp`.
    pub key: String,
    /// Its value, as text of whatever type the key has.
    pub value: String,
}

/// The places a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file, if one was named.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are not `MILLPOND_<SECTION>__<KEY>` are not settings.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags; a later one wins.
    pub flags: Vec<FlagSetting>,
}

/// A configuration, and what its author should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, checked.
    pub config: Config,
    /// Whole sentences about settings that are legal and yet probably not what was meant.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads, merges and checks the configuration.
    ///
    /// # Errors
    /// For the first thing that is wrong: the file, line, variable or flag, the key, and what would be right.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut tree = match &sources.file {
            Some(path) => tree::parse(&path.display().to_string(), &read(path)?)?,
            None => tree::Tree::new(),
        };
        for (name, value) in &sources.environment {
            if let Some((name, key)) = name
                .to_str()
                .and_then(|name| Some((name, environment_key(name)?)))
            {
                let origin = Origin::Environment(name.to_owned());
                let Some(value) = value.to_str() else {
                    return Err(ConfigError::sentence(
                        Some(origin),
                        "the value is not UTF-8 text",
                    ));
                };
                tree::set(&mut tree, &key, value.to_owned(), origin)?;
            }
        }
        for flag in &sources.flags {
            tree::set(
                &mut tree,
                &flag.key,
                flag.value.clone(),
                Origin::Flag(flag.flag),
            )?;
        }
        schema::check(&tree)?;
        let mut config = Self::deserialize(deserialize::deserializer(&tree))?;
        config.fill_in_access(&tree);
        let warnings = validate::check(&config, &tree)?;
        Ok(Loaded { config, warnings })
    }

    /// Users, virtual hosts and permissions that nobody declared: `guest` is there only if no user is, and may do
    /// everything in every virtual host unless permissions are declared.
    fn fill_in_access(&mut self, tree: &tree::Tree) {
        let has_users = tree.contains_key("user");
        if !tree.contains_key("permission") {
            self.permissions = match has_users {
                true => Vec::new(),
                false => self
                    .vhosts
                    .iter()
                    .map(|vhost| sections::guest_permission(&vhost.name))
                    .collect(),
            };
        }
    }
}

/// `MILLPOND_LIMITS__HEADERS` is `limits.headers`. Without the double underscore a variable is no setting: container
/// platforms put such names there by themselves (`MILLPOND_PORT`, `MILLPOND_SERVICE_HOST` for a service "millpond").
fn environment_key(name: &str) -> Option<String> {
    let (section, key) = name.strip_prefix(ENVIRONMENT_PREFIX)?.split_once("__")?;
    Some(format!("{}.{}", section.to_lowercase(), key.to_lowercase()))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| {
        ConfigError::sentence(
            None,
            format!(
                "cannot read the configuration file {}: {error}",
                path.display()
            ),
        )
    })
}
