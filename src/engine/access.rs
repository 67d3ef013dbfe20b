//! Who may log in, and what they may do.
//!
//! Users, permissions and topic permissions are declared as a whole and do not change while the broker runs. Passwords are
//! kept as argon2id hashes; a login that succeeded is remembered in a form that is worthless outside this process, so that
//! a client which reconnects often costs a computation only once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::Semaphore;

use super::name::{ExchangeName, VhostName};

mod password;
mod permission;
mod user;

pub use password::{HashError, PASSWORD_BYTES_MAX, Password, PasswordHash};
pub use permission::{Operation, PATTERN_BYTES_MAX, Permissions};
pub use user::{Tag, USER_NAME_BYTES_MAX, User};

use password::ProofKey;
use permission::{Grant, Rule, TopicGrant};

/// How many password computations run at once. Each takes tens of milliseconds of a core and about 20 MiB, so a flood of
/// logins must not take all cores from those who are logged in.
const COMPUTATIONS_MAX: usize = 2;

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

/// Why a login is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// No such user, or the password is wrong. Which of the two is nobody's business.
    Refused,
    /// Right, but this user may log in from this machine only.
    LoopbackOnly {
        /// The user.
        user: String,
    },
    /// The password could not be checked because the broker is stopping.
    Stopping,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("the login or the password is wrong"),
            Self::LoopbackOnly { user } => write!(
                f,
                "the user '{user}' may log in from the broker's own machine only"
            ),
            Self::Stopping => {
                f.write_str("the login was not checked because the broker is stopping")
            }
        }
    }
}

impl std::error::Error for AccessError {}

/// The declared users and what they may do.
#[derive(Debug)]
pub struct Access {
    users: HashMap<String, Arc<User>>,
    proofs: ProofKey,
    computations: Arc<Semaphore>,
    /// Computed for logins that do not exist, so that they take the time of those that do.
    decoy: Arc<PasswordHash>,
}

impl Access {
    /// Checks and loads what was declared. Hashes every plain password, which takes tens of milliseconds for each.
    ///
    /// # Errors
    /// [`AccessConfigError`], naming the first mistake.
    pub fn new(config: AccessConfig) -> Result<Self, AccessConfigError> {
        let mut grants = grants(&config)?;
        let mut users = HashMap::new();
        for declared in config.users {
            let UserConfig {
                name,
                password,
                password_hash,
                tags,
                loopback_only,
            } = declared;
            let hash = match (password, password_hash) {
                (Some(_), Some(_)) => Err(HashError::Twice),
                (Some(password), None) => PasswordHash::of(&password).map(Some),
                (None, Some(hash)) => PasswordHash::parse(&hash).map(Some),
                (None, None) => Ok(None),
            };
            let hash = hash.map_err(|error| AccessConfigError::Password {
                user: name.clone(),
                error,
            })?;
            let grants = grants.remove(&name).unwrap_or_default();
            users.insert(
                name.clone(),
                Arc::new(User::new(
                    name,
                    tags,
                    loopback_only,
                    hash.map(Arc::new),
                    grants,
                )),
            );
        }
        let proofs = ProofKey::random().map_err(|error| AccessConfigError::Password {
            user: String::new(),
            error,
        })?;
        let computations = Arc::new(Semaphore::new(COMPUTATIONS_MAX));
        Ok(Self {
            users,
            proofs,
            computations,
            decoy: Arc::new(PasswordHash::decoy()),
        })
    }

    /// Logs a user in.
    ///
    /// The first success of a user, and every failure, costs a password computation on a blocking thread. At most two run
    /// at once and the others wait, so callers put a time limit on the whole. If the caller gives up, a computation that
    /// has begun keeps its place until it ends.
    ///
    /// # Errors
    /// [`AccessError`]. An unknown login takes as long as a wrong password.
    pub async fn verify(
        &self,
        login: &[u8],
        password: &[u8],
        peer_is_loopback: bool,
    ) -> Result<Arc<User>, AccessError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AccessError::Refused);
        }
        let user = std::str::from_utf8(login)
            .ok()
            .and_then(|login| self.users.get(login));
        let account = user.and_then(|user| Some((user, user.password_hash()?)));
        let proof = self.proofs.prove(login, password);
        if let Some((user, _)) = account
            && user.remembers(&proof)
        {
            return admit(user, peer_is_loopback);
        }

        let place = Arc::clone(&self.computations)
            .acquire_owned()
            .await
            .map_err(|_| AccessError::Stopping)?;
        // Of many connections that a client opens at once, the first to get here has done the work for all.
        if let Some((user, _)) = account
            && user.remembers(&proof)
        {
            return admit(user, peer_is_loopback);
        }
        let hash = Arc::clone(account.map_or(&self.decoy, |(_, hash)| hash));
        let password = Password::new(password);
        let computed = tokio::task::spawn_blocking(move || {
            let right = hash.verify(&password);
            drop(place);
            right
        });
        let right = computed.await.map_err(|_| AccessError::Stopping)?;
        match account {
            Some((user, _)) if right => {
                user.remember(proof);
                admit(user, peer_is_loopback)
            }
            _ => Err(AccessError::Refused),
        }
    }

    /// A declared user.
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// All users, in no particular order.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.users.values()
    }
}

fn admit(user: &Arc<User>, peer_is_loopback: bool) -> Result<Arc<User>, AccessError> {
    if user.loopback_only() && !peer_is_loopback {
        return Err(AccessError::LoopbackOnly {
            user: user.name().to_owned(),
        });
    }
    Ok(Arc::clone(user))
}

type Grants = HashMap<VhostName, Arc<Grant>>;

/// What each user may do, by name. Checks all that can be checked without computing a password hash.
fn grants(config: &AccessConfig) -> Result<HashMap<String, Grants>, AccessConfigError> {
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

#[cfg(test)]
mod tests;
