//! What can be wrong with a configuration, said to the person who wrote it.

use std::fmt;
use std::sync::Arc;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a configuration file, counted from 1.
    File {
        /// The path as it was given.
        path: Arc<str>,
        /// The line of the key, counted from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A command line flag, such as `--stomp`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A configuration that cannot be used: where, which key, and what would be right, as one sentence.
///
/// The values of keys that hold passwords are never part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    origin: Option<Origin>,
    /// The key the message speaks of (`limits.headers`, `user[2].name`); it comes before the message.
    key: Option<String>,
    message: String,
}

impl ConfigError {
    /// An error that is a whole sentence and speaks of no key.
    pub(super) fn sentence(origin: Option<Origin>, message: impl Into<String>) -> Self {
        Self {
            origin,
            key: None,
            message: message.into(),
        }
    }

    /// An error about one key: `message` goes on after the key ("must be ...").
    pub(super) fn about(
        origin: Origin,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            origin: Some(origin),
            key: Some(key.into()),
            message: message.into(),
        }
    }

    /// Names the place unless a more exact one is already named.
    pub(super) fn or_at(mut self, origin: &Origin, key: &str) -> Self {
        if self.origin.is_none() {
            self.origin = Some(origin.clone());
            self.key = Some(key.to_owned());
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "`{key}` ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// How serde's own complaints read after "`key` ".
impl serde::de::Error for ConfigError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::sentence(None, message.to_string())
    }

    fn invalid_type(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::sentence(None, format!("must be {expected}"))
    }

    fn invalid_value(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::sentence(None, format!("must be {expected}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let expected = expected
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(" or ");
        Self::sentence(None, format!("must be {expected}, not \"{variant}\""))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::sentence(None, format!("needs the key `{field}`"))
    }
}
