//! What types cannot say: ranges, and settings that must fit each other.

use std::collections::HashSet;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::error::{ConfigError, Origin};
use super::tree::{self, Tree};
use super::value::{ListenOn, MemoryLimit};
use super::{Config, Listen, User};

/// The tags a user may have.
const TAGS: [&str; 5] = [
    "administrator",
    "monitoring",
    "policymaker",
    "management",
    "impersonator",
];

/// Longest name of a user or virtual host, in bytes.
const NAME_BYTES: usize = 255;

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
    fn fail(&self, section: &str, key: &str, message: impl Into<String>) -> ConfigError {
        let name = format!("{section}.{key}");
        match tree::find(self.tree, section, key) {
            Some(entry) => ConfigError::about(entry.origin.clone(), name, message),
            // Nobody wrote it: a default that no longer fits what was written.
            None => ConfigError::sentence(None, format!("`{name}` {}", message.into())),
        }
    }

    /// An error about key `key` of item `index` (from 0) of a list of tables.
    fn fail_item(
        &self,
        section: &str,
        index: usize,
        key: &str,
        message: impl Into<String>,
    ) -> ConfigError {
        let name = format!("{section}[{}].{key}", index + 1);
        match tree::find_item(self.tree, section, index, key) {
            Some(entry) => ConfigError::about(entry.origin.clone(), name, message),
            None => ConfigError::sentence(None, format!("`{name}` {}", message.into())),
        }
    }

    fn ranges(&self) -> Result<(), ConfigError> {
        let Config {
            listen,
            storage,
            memory,
            disk,
            limits,
            stomp,
            shutdown,
            ..
        } = self.config;
        self.number("listen", "backlog", listen.backlog, 1, 65_535)?;
        self.size("storage", "cache", storage.cache, 1 << 20, 1 << 40)?;
        self.time(
            "storage",
            "commit_delay",
            storage.commit_delay,
            Duration::ZERO,
            Duration::from_secs(1),
        )?;
        self.size(
            "storage",
            "checkpoint_bytes",
            storage.checkpoint_bytes,
            1 << 20,
            64 << 30,
        )?;
        if let MemoryLimit::Bytes(bytes) = memory.limit {
            self.size("memory", "limit", bytes, 16 << 20, u64::MAX)?;
        }
        self.size("disk", "reserve", disk.reserve, 0, 16 << 30)?;
        self.size(
            "limits",
            "message_bytes",
            limits.message_bytes as u64,
            4 << 10,
            1 << 30,
        )?;
        self.number("limits", "headers", limits.headers as u64, 16, 10_000)?;
        self.size(
            "limits",
            "header_line_bytes",
            limits.header_line_bytes as u64,
            256,
            1 << 20,
        )?;
        self.size(
            "limits",
            "login_bytes",
            limits.login_bytes as u64,
            1 << 10,
            1 << 20,
        )?;
        self.time(
            "limits",
            "login_timeout",
            limits.login_timeout,
            Duration::from_millis(100),
            Duration::from_secs(600),
        )?;
        self.number(
            "limits",
            "subscriptions",
            limits.subscriptions as u64,
            1,
            1_000_000,
        )?;
        self.number(
            "limits",
            "transactions",
            limits.transactions as u64,
            1,
            65_536,
        )?;
        self.number(
            "limits",
            "transaction_actions",
            limits.transaction_actions as u64,
            1,
            1_000_000,
        )?;
        self.size(
            "limits",
            "outbox_bytes",
            limits.outbox_bytes as u64,
            64 << 10,
            1 << 30,
        )?;
        self.size(
            "limits",
            "write_bytes",
            limits.write_bytes as u64,
            4 << 10,
            16 << 20,
        )?;
        self.number(
            "stomp",
            "default_prefetch",
            stomp.default_prefetch,
            0,
            65_535,
        )?;
        self.time(
            "shutdown",
            "drain_timeout",
            shutdown.drain_timeout,
            Duration::ZERO,
            Duration::from_secs(3600),
        )
    }

    fn number(
        &self,
        section: &str,
        key: &str,
        value: u64,
        least: u64,
        most: u64,
    ) -> Result<(), ConfigError> {
        self.range(section, key, &value, &least, &most, u64::to_string)
    }

    fn size(
        &self,
        section: &str,
        key: &str,
        value: u64,
        least: u64,
        most: u64,
    ) -> Result<(), ConfigError> {
        self.range(section, key, &value, &least, &most, |&bytes| {
            size_text(bytes)
        })
    }

    fn time(
        &self,
        section: &str,
        key: &str,
        value: Duration,
        least: Duration,
        most: Duration,
    ) -> Result<(), ConfigError> {
        self.range(section, key, &value, &least, &most, |time| {
            format!("{time:?}")
        })
    }

    fn range<T: PartialOrd>(
        &self,
        section: &str,
        key: &str,
        value: &T,
        least: &T,
        most: &T,
        show: impl Fn(&T) -> String,
    ) -> Result<(), ConfigError> {
        if value >= least && value <= most {
            return Ok(());
        }
        let message = format!(
            "must be between {} and {}, not {}",
            show(least),
            show(most),
            show(value)
        );
        Err(self.fail(section, key, message))
    }

    fn log(&self) -> Result<(), ConfigError> {
        let level = &self.config.log.level;
        match EnvFilter::builder().parse(level) {
            // The parser takes any word for a target's name and logs everything of it: "verbose" would silence all else.
            Ok(_) if level.split(',').all(|part| part.contains('=') || is_level(part)) => Ok(()),
            _ => Err(self.fail(
                "log",
                "level",
                format!("must be error, warn, info, debug, trace or a list such as \"info,millpond::storage=debug\", not \"{level}\""),
            )),
        }
    }

    fn access(&self) -> Result<(), ConfigError> {
        self.vhosts()?;
        for (index, user) in self.config.users.iter().enumerate() {
            self.user(index, user)?;
        }
        let mut rows = HashSet::new();
        for (index, row) in self.config.permissions.iter().enumerate() {
            self.known("permission", index, &row.user, &row.vhost)?;
            self.patterns(
                "permission",
                index,
                &[
                    ("configure", &row.configure),
                    ("write", &row.write),
                    ("read", &row.read),
                ],
            )?;
            if !rows.insert((&row.user, &row.vhost)) {
                let message = format!(
                    "has a second row for user `{}` in virtual host `{}`: one row holds all three expressions",
                    row.user, row.vhost
                );
                return Err(self.fail_item("permission", index, "user", message));
            }
        }
        let mut rows = HashSet::new();
        for (index, row) in self.config.topic_permissions.iter().enumerate() {
            self.known("topic_permission", index, &row.user, &row.vhost)?;
            self.patterns(
                "topic_permission",
                index,
                &[("write", &row.write), ("read", &row.read)],
            )?;
            if !rows.insert((&row.user, &row.vhost, &row.exchange)) {
                let message = format!(
                    "has a second row for user `{}`, exchange `{}` in virtual host `{}`",
                    row.user, row.exchange, row.vhost
                );
                return Err(self.fail_item("topic_permission", index, "user", message));
            }
        }
        Ok(())
    }

    fn vhosts(&self) -> Result<(), ConfigError> {
        let mut names = HashSet::new();
        for (index, vhost) in self.config.vhosts.iter().enumerate() {
            self.name("vhost", index, &vhost.name, names.insert(&vhost.name))?;
        }
        let default = &self.config.stomp.default_vhost;
        if !names.contains(default) {
            return Err(self.fail(
                "stomp",
                "default_vhost",
                format!(
                    "must be a declared virtual host, and no [[vhost]] has the name \"{default}\""
                ),
            ));
        }
        Ok(())
    }

    fn user(&self, index: usize, user: &User) -> Result<(), ConfigError> {
        let first = self.config.users[..index]
            .iter()
            .all(|earlier| earlier.name != user.name);
        self.name("user", index, &user.name, first)?;
        match (&user.password, &user.password_hash) {
            (Some(_), Some(_)) => {
                return Err(self.fail_item(
                    "user",
                    index,
                    "password_hash",
                    "and `password` exclude each other: keep one",
                ));
            }
            (None, None) => {
                return Err(self.fail_item(
                    "user",
                    index,
                    "password",
                    "or `password_hash` is needed",
                ));
            }
            (Some(password), None) if password.expose().is_empty() => {
                return Err(self.fail_item("user", index, "password", "must not be empty"));
            }
            (None, Some(hash)) if !hash.expose().starts_with("$argon2id$") => {
                return Err(self.fail_item(
                    "user",
                    index,
                    "password_hash",
                    "must be an argon2id hash in PHC form, beginning with $argon2id$",
                ));
            }
            _ => {}
        }
        match user.tags.iter().find(|tag| !TAGS.contains(&tag.as_str())) {
            Some(tag) => Err(self.fail_item(
                "user",
                index,
                "tags",
                format!("must be from {}, not \"{tag}\"", TAGS.join(", ")),
            )),
            None => Ok(()),
        }
    }

    fn name(
        &self,
        section: &str,
        index: usize,
        name: &str,
        first: bool,
    ) -> Result<(), ConfigError> {
        if name.is_empty() || name.len() > NAME_BYTES {
            return Err(self.fail_item(
                section,
                index,
                "name",
                format!("must have 1 to {NAME_BYTES} bytes, not {}", name.len()),
            ));
        }
        if !first {
            return Err(self.fail_item(
                section,
                index,
                "name",
                format!("repeats \"{name}\", which is declared further up"),
            ));
        }
        Ok(())
    }

    fn known(
        &self,
        section: &str,
        index: usize,
        user: &str,
        vhost: &str,
    ) -> Result<(), ConfigError> {
        if self.config.users.iter().all(|known| known.name != user) {
            return Err(self.fail_item(
                section,
                index,
                "user",
                format!("must be a declared user, and no [[user]] has the name \"{user}\""),
            ));
        }
        if self.config.vhosts.iter().all(|known| known.name != vhost) {
            return Err(self.fail_item(
                section,
                index,
                "vhost",
                format!(
                    "must be a declared virtual host, and no [[vhost]] has the name \"{vhost}\""
                ),
            ));
        }
        Ok(())
    }

    fn patterns(
        &self,
        section: &str,
        index: usize,
        patterns: &[(&str, &String)],
    ) -> Result<(), ConfigError> {
        for (key, pattern) in patterns {
            // The placeholders stand for literal names when the expression is used.
            let filled = pattern.replace("{username}", "x").replace("{vhost}", "x");
            if let Err(error) = regex::Regex::new(&filled) {
                let error = error.to_string();
                let reason = error
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ");
                return Err(self.fail_item(
                    section,
                    index,
                    key,
                    format!("must be a regular expression, not \"{pattern}\": {reason}"),
                ));
            }
        }
        Ok(())
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

/// Bytes with the largest unit that leaves no fraction: `64KiB`.
fn size_text(bytes: u64) -> String {
    [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|&(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || format!("{bytes} bytes"),
            |(shift, unit)| format!("{}{unit}", bytes >> shift),
        )
}
