//! What types cannot say: ranges, and settings that must fit each other.

mod access;
mod ranges;

use tracing_subscriber::EnvFilter;

use super::error::{ConfigError, Origin};
use super::tree::{self, Tree};
use super::value::ListenOn;
use super::{Config, Listen};

/// Checks a whole configuration; `tree` says where its settings were written.
///
/// Returns warnings, as whole sentences.
///
/// # Errors
/// For the first setting that is out of range or does not fit another.
pub(super) fn check(config: &Config, tree: &Tree) -> Result<Vec<String>, ConfigError> {
    let check = Check { config, tree };
    check.ranges()?;
    check.log()?;
    check.access()?;
    Ok(check.warnings())
}

struct Check<'a> {
    config: &'a Config,
    tree: &'a Tree,
}

impl Check<'_> {
    /// An error about `section.key`.
    fn fail(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let written = key
            .split_once('.')
            .and_then(|(section, key)| tree::find(self.tree, section, key));
        match written {
            Some(entry) => ConfigError::about(entry.origin.clone(), key, message),
            // Nobody wrote it: a default that does not fit what was written.
            None => ConfigError::sentence(None, format!("`{key}` {}", message.into())),
        }
    }

    fn log(&self) -> Result<(), ConfigError> {
        let level = &self.config.log.level;
        match EnvFilter::builder().parse(level) {
            // The parser takes any word for a target's name and logs everything of it: "verbose" would silence all else.
            Ok(_) if level.split(',').all(|part| part.contains('=') || is_level(part)) => Ok(()),
            _ => Err(self.fail(
                "log.level",
                format!("must be error, warn, info, debug, trace or a list such as \"info,millpond::storage=debug\", not \"{level}\""),
            )),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let listen = &self.config.listen;
        let mut warnings = Vec::new();
        let default = Listen::default();
        for (key, on, default, what) in [
            ("amqp", &listen.amqp, default.amqp, "AMQP"),
            (
                "web_stomp",
                &listen.web_stomp,
                default.web_stomp,
                "STOMP over WebSocket",
            ),
        ] {
            let Some(entry) = tree::find(self.tree, "listen", key) else {
                continue;
            };
            // A file copied from the annotated example asks for nothing.
            let copied = matches!(entry.origin, Origin::File { .. }) && *on == default;
            if *on != ListenOn::Off && !copied {
                warnings.push(format!(
                    "{}: `listen.{key}` is ignored: this version does not serve {what} yet",
                    entry.origin
                ));
            }
        }
        for (index, user) in self.config.users.iter().enumerate() {
            let rows = &self.config.permissions;
            if let Some(origin) = self.item_origin("user", index)
                && rows.iter().all(|row| row.user != user.name)
            {
                warnings.push(format!("{origin}: user `{}` has no [[permission]] and so cannot enter any virtual host", user.name));
            }
        }
        warnings
    }

    fn item_origin(&self, section: &str, index: usize) -> Option<&Origin> {
        tree::find_item(self.tree, section, index, "name").map(|entry| &entry.origin)
    }
}

fn is_level(text: &str) -> bool {
    matches!(
        text.trim().to_ascii_lowercase().as_str(),
        "off" | "error" | "warn" | "info" | "debug" | "trace"
    )
}
