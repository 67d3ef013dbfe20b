//! What is declared about access, and the mistakes it may hold.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::password::{HashError, Password};
use super::permission::{Grant, Operation, Rule, TopicGrant};
use super::user::{Tag, USER_NAME_BYTES_MAX};
use crate::engine::name::{ExchangeName, VhostName};

/// Everything declared about access. The default is the field's: user `guest` with password `guest`, an administrator who
/// may do everything in vhost `/`, from this machine only.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// The users.
    pub users: Vec<UserConfig>,
    /// What they may do in each vhost. No row means no access to the vhost at all.
    #[serde(default)]
    pub permissions: Vec<PermissionConfig>,
    /// What they may publish to and bind from single exchanges. No row for an exchange means every key.
    #[serde(default)]
    pub topic_permissions: Vec<TopicPermissionConfig>,
}

/// A user.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The login: 1 to 255 bytes.
    pub name: String,
    /// The password in plain text; only one of this and the hash. With neither, no password opens this account.
    #[serde(default)]
    pub password: Option<Password>,
    /// The password's argon2id hash, as a PHC string (`$argon2id$v=19$m=...`).
    #[serde(default)]
    pub password_hash: Option<String>,
    /// What the user may do besides messaging.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// Whether the user may log in from this machine only.
    #[serde(default)]
    pub loopback_only: bool,
}

/// Without the password and its hash.
impl fmt::Debug for UserConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserConfig")
            .field("name", &self.name)
            .field("tags", &self.tags)
            .field("loopback_only", &self.loopback_only)
            .finish_non_exhaustive()
    }
}

/// What a user may do in a vhost: three regular expressions, matched anywhere in the name of a queue or exchange unless
/// anchored. An empty one matches nothing. The default exchange has the name `amq.default` here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionConfig {
    /// The user.
    pub user: String,
    /// The vhost; any vhost, another tenant's as well.
    pub vhost: VhostName,
    /// What the user may declare and delete.
    #[serde(default)]
    pub configure: String,
    /// What the user may publish to and bind to.
    #[serde(default)]
    pub write: String,
    /// What the user may consume and bind from.
    #[serde(default)]
    pub read: String,
}

/// Which keys a user may use on an exchange: two regular expressions, as in [`PermissionConfig`], in which `{username}`
/// and `{vhost}` stand for the login and the vhost, taken literally.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPermissionConfig {
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: VhostName,
    /// The exchange.
    pub exchange: ExchangeName,
    /// Routing keys the user may publish with.
    #[serde(default)]
    pub write: String,
    /// Binding keys the user may bind with.
    #[serde(default)]
    pub read: String,
}

impl Default for AccessConfig {
    fn default() -> Self {
        let guest = UserConfig {
            name: "guest".to_owned(),
            password: Some(Password::new("guest")),
            password_hash: None,
            tags: vec![Tag::Administrator],
            loopback_only: true,
        };
        let everything = PermissionConfig {
            user: "guest".to_owned(),
            vhost: VhostName::root(),
            configure: ".*".to_owned(),
            write: ".*".to_owned(),
            read: ".*".to_owned(),
        };
        Self {
            users: vec![guest],
            permissions: vec![everything],
            topic_permissions: Vec::new(),
        }
    }
}

/// Why declared access is refused. Each is a mistake in the configuration, told in a sentence.
#[derive(Debug)]
pub enum AccessConfigError {
    /// A login that is empty or too long.
    UserName {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// Two users of one name.
    DuplicateUser {
        /// The name.
        user: String,
    },
    /// A user with both a password and a hash, or a password or hash that cannot be used.
    Password {
        /// The user.
        user: String,
        /// What is wrong with it.
        error: HashError,
    },
    /// The system has no randomness to give.
    Entropy,
    /// A permission for a user that is not declared.
    UnknownUser {
        /// The user.
        user: String,
        /// Where the permission was to be.
        vhost: VhostName,
    },
    /// Two permissions for the same user, vhost and, for topic permissions, exchange.
    DuplicatePermission {
        /// The user.
        user: String,
        /// The vhost.
        vhost: VhostName,
        /// The exchange of a topic permission.
        exchange: Option<ExchangeName>,
    },
    /// A topic permission in a vhost that the user has no permission for.
    NoPermission {
        /// The user.
        user: String,
        /// The vhost.
        vhost: VhostName,
    },
    /// Not a regular expression.
    Pattern {
        /// The user.
        user: String,
        /// The vhost.
        vhost: VhostName,
        /// What it was to allow.
        operation: Operation,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for AccessConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserName { bytes } => {
                write!(
                    f,
                    "the name of a user must have 1 to {USER_NAME_BYTES_MAX} bytes, one has {bytes}"
                )
            }
            Self::DuplicateUser { user } => write!(f, "the user '{user}' is declared twice"),
            Self::Password { user, error } => {
                write!(f, "the user '{user}' cannot be declared: {error}")
            }
            Self::Entropy => f.write_str("the system gives no random numbers"),
            Self::UnknownUser { user, vhost } => {
                write!(
                    f,
                    "a permission in vhost '{vhost}' names the user '{user}', who is not declared"
                )
            }
            Self::DuplicatePermission {
                user,
                vhost,
                exchange: None,
            } => {
                write!(
                    f,
                    "the permission of user '{user}' in vhost '{vhost}' is declared twice"
                )
            }
            Self::DuplicatePermission {
                user,
                vhost,
                exchange: Some(exchange),
            } => {
                write!(
                    f,
                    "the topic permission of user '{user}' for exchange '{exchange}' in vhost '{vhost}' is declared twice"
                )
            }
            Self::NoPermission { user, vhost } => {
                write!(
                    f,
                    "the user '{user}' has a topic permission in vhost '{vhost}' but no permission there"
                )
            }
            Self::Pattern {
                user,
                vhost,
                operation,
                reason,
            } => {
                write!(
                    f,
                    "the {operation} permission of user '{user}' in vhost '{vhost}' is not a regular expression: {reason}"
                )
            }
        }
    }
}

impl std::error::Error for AccessConfigError {}

pub(super) type Grants = HashMap<VhostName, Arc<Grant>>;

/// What each user may do, by name. Checks all that can be checked without computing a password hash.
pub(super) fn grants(config: &AccessConfig) -> Result<HashMap<String, Grants>, AccessConfigError> {
    let mut users: HashMap<&str, HashMap<VhostName, Grant>> = HashMap::new();
    for UserConfig { name, .. } in &config.users {
        if name.is_empty() || name.len() > USER_NAME_BYTES_MAX {
            return Err(AccessConfigError::UserName { bytes: name.len() });
        }
        if users.insert(name, HashMap::new()).is_some() {
            return Err(AccessConfigError::DuplicateUser { user: name.clone() });
        }
    }
    for PermissionConfig {
        user,
        vhost,
        configure,
        write,
        read,
    } in &config.permissions
    {
        let unknown = || AccessConfigError::UnknownUser {
            user: user.clone(),
            vhost: vhost.clone(),
        };
        let vhosts = users.get_mut(user.as_str()).ok_or_else(unknown)?;
        let rule = |operation, pattern: &str| {
            let refused = |reason| AccessConfigError::Pattern {
                user: user.clone(),
                vhost: vhost.clone(),
                operation,
                reason,
            };
            Rule::parse(pattern).map_err(refused)
        };
        let grant = Grant {
            configure: rule(Operation::Configure, configure)?,
            write: rule(Operation::Write, write)?,
            read: rule(Operation::Read, read)?,
            topics: HashMap::new(),
        };
        if vhosts.insert(vhost.clone(), grant).is_some() {
            return Err(AccessConfigError::DuplicatePermission {
                user: user.clone(),
                vhost: vhost.clone(),
                exchange: None,
            });
        }
    }
    for TopicPermissionConfig {
        user,
        vhost,
        exchange,
        write,
        read,
    } in &config.topic_permissions
    {
        let unknown = || AccessConfigError::UnknownUser {
            user: user.clone(),
            vhost: vhost.clone(),
        };
        let vhosts = users.get_mut(user.as_str()).ok_or_else(unknown)?;
        let none = || AccessConfigError::NoPermission {
            user: user.clone(),
            vhost: vhost.clone(),
        };
        let grant = vhosts.get_mut(vhost).ok_or_else(none)?;
        let rule = |operation, pattern: &str| {
            let refused = |reason| AccessConfigError::Pattern {
                user: user.clone(),
                vhost: vhost.clone(),
                operation,
                reason,
            };
            Rule::parse_for(pattern, user, vhost).map_err(refused)
        };
        let topic = TopicGrant {
            write: rule(Operation::Write, write)?,
            read: rule(Operation::Read, read)?,
        };
        if grant.topics.insert(exchange.clone(), topic).is_some() {
            let exchange = Some(exchange.clone());
            return Err(AccessConfigError::DuplicatePermission {
                user: user.clone(),
                vhost: vhost.clone(),
                exchange,
            });
        }
    }
    let shared = |vhosts: HashMap<VhostName, Grant>| {
        vhosts
            .into_iter()
            .map(|(vhost, grant)| (vhost, Arc::new(grant)))
            .collect()
    };
    Ok(users
        .into_iter()
        .map(|(user, vhosts)| (user.to_owned(), shared(vhosts)))
        .collect())
}
