//! Users, virtual hosts and permissions that must fit each other.

use std::collections::HashSet;

use super::Check;
use crate::config::User;
use crate::config::error::ConfigError;
use crate::config::tree;

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

impl Check<'_> {
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

    /// Names once each, permissions for what is declared, regular expressions that are some.
    ///
    /// # Errors
    /// For the first that is not.
    pub(super) fn access(&self) -> Result<(), ConfigError> {
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
                "stomp.default_vhost",
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
}
