//! Passwords: their hashes, and how a success is remembered.

use std::fmt;

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params};
use blake2::Blake2sMac256;
use blake2::digest::{KeyInit, Mac};
use serde::{Deserialize, Deserializer};

/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// The most memory a hash may ask for, in KiB: with two computations at once, half a gibibyte.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// The most passes over that memory a hash may ask for.
const PASSES_MAX: u32 = 16;
/// The most lanes a hash may ask for.
const LANES_MAX: u32 = 16;

/// A password in plain text. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// Takes a password.
    pub fn new(password: impl AsRef<[u8]>) -> Self {
        Self(password.as_ref().into())
    }

    /// The password itself, to hand it to whoever checks it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into_bytes().into()))
    }
}

/// Why a password or its hash cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashError {
    /// Both a password and a hash are given.
    Twice,
    /// The password is longer than [`PASSWORD_BYTES_MAX`].
    TooLong,
    /// Not a hash in PHC form, or one without salt or result.
    Malformed,
    /// Made by another algorithm.
    Algorithm,
    /// Asks for more memory or time than a login may cost.
    TooCostly,
    /// The system has no randomness to give.
    Entropy,
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice => f.write_str("give either 'password' or 'password_hash', not both"),
            Self::TooLong => write!(f, "the password has more than {PASSWORD_BYTES_MAX} bytes"),
            Self::Malformed => f.write_str(
                "the password hash must look like '$argon2id$v=19$m=19456,t=2,p=1$salt$hash'",
            ),
            Self::Algorithm => f.write_str("the password hash is not of the kind argon2id"),
            Self::TooCostly => write!(
                f,
                "the password hash costs more than a login may: at most m={MEMORY_KIB_MAX}, t={PASSES_MAX}, p={LANES_MAX}"
            ),
            Self::Entropy => f.write_str("the system gives no random numbers"),
        }
    }
}

impl std::error::Error for HashError {}

/// An argon2id hash (RFC 9106). Never shown.
pub struct PasswordHash(phc::PasswordHash);

/// The cost of new hashes, a well formed hash that no password has.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

impl PasswordHash {
    /// Hashes a password, with 19 MiB, 2 passes, one lane and a random salt.
    ///
    /// # Errors
    /// [`HashError::TooLong`] or [`HashError::Entropy`].
    pub fn of(password: &Password) -> Result<Self, HashError> {
        if password.as_bytes().len() > PASSWORD_BYTES_MAX {
            return Err(HashError::TooLong);
        }
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(Self)
            .map_err(|_| HashError::Entropy)
    }

    /// Reads a hash in PHC form.
    ///
    /// # Errors
    /// [`HashError`] if it is not argon2id, or asks for more than 256 MiB, 16 passes or 16 lanes.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let hash = phc::PasswordHash::new(text).map_err(|_| HashError::Malformed)?;
        if Algorithm::new(hash.algorithm.as_str()) != Ok(Algorithm::Argon2id) {
            return Err(HashError::Algorithm);
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(HashError::Malformed);
        }
        let params = Params::try_from(&hash).map_err(|_| HashError::Malformed)?;
        if params.m_cost() > MEMORY_KIB_MAX
            || params.t_cost() > PASSES_MAX
            || params.p_cost() > LANES_MAX
        {
            return Err(HashError::TooCostly);
        }
        Ok(Self(hash))
    }

    pub(super) fn decoy() -> Self {
        Self::parse(DECOY).expect("the decoy is a well formed hash")
    }

    /// Computes the hash of a password and compares. Takes tens of milliseconds: never on a thread that serves others.
    pub fn verify(&self, password: &Password) -> bool {
        Argon2::default()
            .verify_password(password.as_bytes(), &self.0)
            .is_ok()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

/// A key of this process alone, under which successes are remembered.
pub(super) struct ProofKey([u8; 32]);

/// What is remembered of a login that succeeded: says nothing to whoever lacks the key, which is written nowhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof([u8; 32]);

impl ProofKey {
    pub(super) fn random() -> Result<Self, HashError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|_| HashError::Entropy)?;
        Ok(Self(key))
    }

    /// The proof of a login and password together, so that equal passwords of two users are not seen to be equal.
    pub(super) fn prove(&self, login: &[u8], password: &[u8]) -> Proof {
        let mut mac =
            Blake2sMac256::new_from_slice(&self.0).expect("32 bytes are the length of a key");
        mac.update(&login.len().to_be_bytes());
        mac.update(login);
        mac.update(password);
        Proof(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey(***)")
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_accepts_its_password_alone() {
        let hash = PasswordHash::of(&Password::new("secret")).unwrap();
        assert!(hash.verify(&Password::new("secret")));
        assert!(!hash.verify(&Password::new("Secret")));
        assert!(!hash.verify(&Password::new("")));
    }

    #[test]
    fn a_written_hash_is_read_back() {
        let written = PasswordHash::of(&Password::new("secret"))
            .unwrap()
            .0
            .to_string();
        assert!(
            written.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{written}"
        );
        assert!(
            PasswordHash::parse(&written)
                .unwrap()
                .verify(&Password::new("secret"))
        );
    }

    #[test]
    fn hashes_of_other_kinds_or_costs_are_refused() {
        let with = |head: &str| {
            format!("{head}$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
        };
        for (text, error) in [
            (String::new(), HashError::Malformed),
            (
                "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR".to_owned(),
                HashError::Malformed,
            ),
            (
                "$argon2id$v=19$m=19456,t=2,p=1".to_owned(),
                HashError::Malformed,
            ),
            (with("$argon2id$v=19$m=many,t=2,p=1"), HashError::Malformed),
            (with("$argon2i$v=19$m=19456,t=2,p=1"), HashError::Algorithm),
            (with("$scrypt$ln=16,r=8,p=1"), HashError::Algorithm),
            (
                with("$argon2id$v=19$m=4000000,t=2,p=1"),
                HashError::TooCostly,
            ),
            (
                with("$argon2id$v=19$m=19456,t=1000,p=1"),
                HashError::TooCostly,
            ),
        ] {
            assert_eq!(PasswordHash::parse(&text).err(), Some(error), "{text}");
        }
        let long = Password::new([b'a'; PASSWORD_BYTES_MAX + 1]);
        assert_eq!(PasswordHash::of(&long).err(), Some(HashError::TooLong));
    }

    #[test]
    fn the_decoy_costs_what_new_hashes_cost() {
        let params = |hash: &PasswordHash| {
            let params = Params::try_from(&hash.0).unwrap();
            (params.m_cost(), params.t_cost(), params.p_cost())
        };
        assert_eq!(
            params(&PasswordHash::decoy()),
            params(&PasswordHash::of(&Password::new("a")).unwrap())
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!(
            "{:?} {:?}",
            Password::new("secret"),
            PasswordHash::of(&Password::new("secret")).unwrap()
        );
        assert_eq!(shown, "*** PasswordHash(***)");
    }

    #[test]
    fn proofs_tell_logins_passwords_and_processes_apart() {
        let key = ProofKey::random().unwrap();
        let proof = key.prove(b"ab", b"c");
        assert!(proof == key.prove(b"ab", b"c"));
        assert!(proof != key.prove(b"a", b"bc"));
        assert!(proof != key.prove(b"ab", b"d"));
        assert!(proof != ProofKey::random().unwrap().prove(b"ab", b"c"));
    }
}
