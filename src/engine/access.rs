//! Who may log in, and what they may do.
//!
//! Users, permissions and topic permissions are declared as a whole and do not change while the broker runs. Passwords are
//! kept as argon2id hashes; a login that succeeded is remembered in a form that is worthless outside this process, so that
//! a client which reconnects often costs a computation only once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;

mod config;
mod password;
mod permission;
mod user;

pub use config::{
    AccessConfig, AccessConfigError, PermissionConfig, TopicPermissionConfig, UserConfig,
};
pub use password::{HashError, PASSWORD_BYTES_MAX, Password, PasswordHash};
pub use permission::{Operation, PATTERN_BYTES_MAX, Permissions};
pub use user::{Tag, USER_NAME_BYTES_MAX, User};

use password::ProofKey;

/// How many password computations run at once. Each takes tens of milliseconds of a core and about 20 MiB, so a flood of
/// logins must not take all cores from those who are logged in.
const COMPUTATIONS_MAX: usize = 2;

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
        let mut grants = config::grants(&config)?;
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
        let proofs = ProofKey::random().map_err(|_| AccessConfigError::Entropy)?;
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

#[cfg(test)]
mod tests;
