//! A user who may log in.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::password::{PasswordHash, Proof};
use super::permission::{Grant, Permissions};
use crate::engine::name::VhostName;

/// The longest login, in bytes.
pub const USER_NAME_BYTES_MAX: usize = 255;

/// What a user may do besides messaging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tag {
    /// Everything: users, vhosts and permissions included.
    Administrator,
    /// See all vhosts, connections and figures.
    Monitoring,
    /// Set policies in the vhosts the user may enter.
    Policymaker,
    /// Use the HTTP API for the vhosts the user may enter.
    Management,
    /// Publish messages in another user's name.
    Impersonator,
}

impl Tag {
    /// The name in configuration and tools.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Monitoring => "monitoring",
            Self::Policymaker => "policymaker",
            Self::Management => "management",
            Self::Impersonator => "impersonator",
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A user tag that this broker does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTag(String);

impl fmt::Display for UnknownTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = "administrator, monitoring, policymaker, management and impersonator";
        write!(f, "'{}' is not a user tag; there are {known}", self.0)
    }
}

impl std::error::Error for UnknownTag {}

impl FromStr for Tag {
    type Err = UnknownTag;

    fn from_str(name: &str) -> Result<Self, UnknownTag> {
        [
            Self::Administrator,
            Self::Monitoring,
            Self::Policymaker,
            Self::Management,
            Self::Impersonator,
        ]
        .into_iter()
        .find(|tag| tag.name() == name)
        .ok_or_else(|| UnknownTag(name.to_owned()))
    }
}

/// A user.
#[derive(Debug)]
pub struct User {
    name: String,
    tags: Vec<Tag>,
    loopback_only: bool,
    password_hash: Option<Arc<PasswordHash>>,
    /// The last login that succeeded. A user has one password, so one is enough, and it goes when the user changes,
    /// because that makes another `User`.
    remembered: Mutex<Option<Proof>>,
    grants: HashMap<VhostName, Arc<Grant>>,
}

impl User {
    pub(super) fn new(
        name: String,
        mut tags: Vec<Tag>,
        loopback_only: bool,
        password_hash: Option<Arc<PasswordHash>>,
        grants: HashMap<VhostName, Arc<Grant>>,
    ) -> Self {
        tags.sort_unstable();
        tags.dedup();
        Self {
            name,
            tags,
            loopback_only,
            password_hash,
            remembered: Mutex::new(None),
            grants,
        }
    }

    /// The login.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tags, each once.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Whether the user has this tag.
    pub fn has_tag(&self, tag: Tag) -> bool {
        self.tags.contains(&tag)
    }

    /// Whether the user may log in from this machine only.
    pub fn loopback_only(&self) -> bool {
        self.loopback_only
    }

    /// What the user may do in a vhost; `None` if the user may not enter it. Make one for each connection: it remembers
    /// decisions.
    pub fn permissions(&self, vhost: &VhostName) -> Option<Permissions> {
        self.grants
            .get(vhost)
            .map(|grant| Permissions::new(Arc::clone(grant)))
    }

    /// The vhosts the user may enter, in no particular order.
    pub fn vhosts(&self) -> impl ExactSizeIterator<Item = &VhostName> {
        self.grants.keys()
    }

    pub(super) fn password_hash(&self) -> Option<&Arc<PasswordHash>> {
        self.password_hash.as_ref()
    }

    pub(super) fn remembers(&self, proof: &Proof) -> bool {
        self.remembered.lock().as_ref() == Some(proof)
    }

    pub(super) fn remember(&self, proof: Proof) {
        *self.remembered.lock() = Some(proof);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_the_names_operators_know() {
        for tag in [
            Tag::Administrator,
            Tag::Monitoring,
            Tag::Policymaker,
            Tag::Management,
            Tag::Impersonator,
        ] {
            assert_eq!(tag.name().parse(), Ok(tag));
            assert_eq!(serde_json::to_string(&tag).unwrap(), format!("\"{tag}\""));
        }
        let error = "root".parse::<Tag>().unwrap_err().to_string();
        assert!(
            error.starts_with("'root' is not a user tag; there are administrator,"),
            "{error}"
        );
    }
}
