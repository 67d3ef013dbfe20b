//! Names, parsed once at the edge.
//!
//! A name is bytes: protocols promise UTF-8, clients do not keep the promise, and nothing in a broker needs it. Each
//! kind has its own type, so that a routing key cannot be taken for a queue.

use std::borrow::{Borrow, Cow};
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

mod escape;

pub(super) use escape::{escaped, unescaped};

/// The longest name of any kind, in bytes: the limit of a short string (AMQP 0-9-1, 4.2.5.3).
pub const NAME_BYTES_MAX: usize = 255;

/// Why bytes are not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// This kind of name may not be empty.
    Empty {
        /// What was to be named, for people: `queue name`.
        what: &'static str,
    },
    /// Longer than [`NAME_BYTES_MAX`].
    TooLong {
        /// What was to be named, for people: `queue name`.
        what: &'static str,
        /// Its length, in bytes.
        bytes: usize,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { what } => write!(f, "a {what} must not be empty"),
            Self::TooLong { what, bytes } => {
                write!(
                    f,
                    "a {what} may have at most {NAME_BYTES_MAX} bytes, this one has {bytes}"
                )
            }
        }
    }
}

impl std::error::Error for NameError {}

const fn checked(what: &'static str, empty_allowed: bool, bytes: usize) -> Result<(), NameError> {
    if bytes > NAME_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes });
    }
    if bytes == 0 && !empty_allowed {
        return Err(NameError::Empty { what });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, empty_allowed: $empty_allowed:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Bytes);

        impl $name {
            #[doc = concat!("Takes bytes as a ", $what, ", without copying them.")]
            ///
            /// # Errors
            /// [`NameError`] if the length is out of bounds; any byte is allowed.
            pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, NameError> {
                let bytes = bytes.into();
                checked($what, $empty_allowed, bytes.len())?;
                Ok(Self(bytes))
            }

            /// A name known when the broker is built.
            ///
            /// # Panics
            /// If the length is out of bounds; in a constant, the build fails.
            pub const fn from_static(name: &'static str) -> Self {
                assert!(checked($what, $empty_allowed, name.len()).is_ok(), "a static name has a valid length");
                Self(Bytes::from_static(name.as_bytes()))
            }

            /// The name's bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// The same name in memory of its own. A parsed name shares the buffer it was read into and would keep all
            /// of it alive; whatever outlives the frame keeps the compact form.
            pub fn compact(&self) -> Self {
                Self(Bytes::copy_from_slice(&self.0))
            }

            /// The name as text: itself where it is UTF-8, bytes that are not as `%FF`.
            ///
            /// Lossless: a `%` that would read as such an escape is written `%25`; any other stays itself.
            pub fn to_text(&self) -> Cow<'_, str> {
                escaped(&self.0)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        /// Equal names hash and order as their bytes do, so that tables can be searched without making a name.
        impl Borrow<[u8]> for $name {
            fn borrow(&self) -> &[u8] {
                &self.0
            }
        }

        /// For people: bytes that are not UTF-8 show as replacement characters.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&String::from_utf8_lossy(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        /// As a string, lossless: see [`Self::to_text`].
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_text())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(unescaped(text)).map_err(de::Error::custom)
            }
        }
    };
}

name! {
    /// The name of a virtual host: 1 to 255 bytes.
    VhostName, "vhost name", empty_allowed: false
}
name! {
    /// The name of an exchange: up to 255 bytes. The empty name is the default exchange.
    ExchangeName, "exchange name", empty_allowed: true
}
name! {
    /// The name of a queue: 1 to 255 bytes.
    QueueName, "queue name", empty_allowed: false
}
name! {
    /// The key a message is published with: up to 255 bytes, a value and never a pattern.
    RoutingKey, "routing key", empty_allowed: true
}
name! {
    /// The key a binding is made with: up to 255 bytes. On a topic exchange it is a pattern.
    BindingKey, "binding key", empty_allowed: true
}

impl VhostName {
    /// `/`, the vhost that always exists.
    pub const fn root() -> Self {
        Self::from_static("/")
    }
}

impl ExchangeName {
    /// The default exchange: every queue is bound to it by its own name.
    pub const fn default_exchange() -> Self {
        Self::from_static("")
    }

    /// `amq.direct`.
    pub const fn amq_direct() -> Self {
        Self::from_static("amq.direct")
    }

    /// `amq.fanout`.
    pub const fn amq_fanout() -> Self {
        Self::from_static("amq.fanout")
    }

    /// `amq.topic`.
    pub const fn amq_topic() -> Self {
        Self::from_static("amq.topic")
    }

    /// `amq.headers`.
    pub const fn amq_headers() -> Self {
        Self::from_static("amq.headers")
    }

    /// `amq.match`, the other name under which the specification asks for a headers exchange (AMQP 0-9-1, 3.1.3.3).
    pub const fn amq_match() -> Self {
        Self::from_static("amq.match")
    }

    /// Whether this is the default exchange.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the name is one that only the broker may create (`amq.`).
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(b"amq.")
    }
}

impl QueueName {
    /// Whether the name is one that only the broker may create (`amq.`).
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(b"amq.")
    }
}

/// A queue is reached through the default exchange by its own name.
impl From<&QueueName> for RoutingKey {
    fn from(queue: &QueueName) -> Self {
        Self(queue.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_checked_for_each_kind() {
        let longest = vec![b'a'; 255];
        let too_long = vec![b'a'; 256];
        assert_eq!(
            QueueName::parse("").unwrap_err(),
            NameError::Empty { what: "queue name" }
        );
        assert_eq!(
            VhostName::parse("").unwrap_err(),
            NameError::Empty { what: "vhost name" }
        );
        assert!(ExchangeName::parse("").unwrap().is_default());
        assert!(RoutingKey::parse("").is_ok() && BindingKey::parse("").is_ok());
        assert!(QueueName::parse(longest).is_ok());
        let error = RoutingKey::parse(too_long).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a routing key may have at most 255 bytes, this one has 256"
        );
    }

    #[test]
    fn a_table_can_be_searched_by_bytes() {
        let table = HashMap::from([(QueueName::from_static("orders"), 1)]);
        assert_eq!(table.get(b"orders".as_slice()), Some(&1));
    }

    #[test]
    fn a_compact_name_leaves_the_buffer_it_was_read_into() {
        let buffer = Bytes::from(vec![b'q'; 4096]);
        let name = QueueName::parse(buffer.slice(..10)).unwrap();
        let compact = name.compact();
        assert_eq!(name, compact);
        drop(name);
        assert!(buffer.is_unique());
    }

    #[test]
    fn reserved_names_are_known() {
        assert!(ExchangeName::amq_topic().is_reserved());
        assert!(QueueName::from_static("amq.gen-1").is_reserved());
        assert!(!QueueName::from_static("amqp").is_reserved());
    }

    #[test]
    fn a_name_is_a_string_in_json() {
        let name = QueueName::from_static("100% café%2F");
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(json, "\"100% café%2F\"");
        assert_eq!(serde_json::from_str::<QueueName>(&json).unwrap(), name);
        assert!(serde_json::from_str::<QueueName>("\"\"").is_err());
    }

    proptest! {
        #[test]
        fn any_name_survives_json(bytes in proptest::collection::vec(any::<u8>(), 1..=255)) {
            let name = QueueName::parse(bytes).unwrap();
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<QueueName>(&json).unwrap(), name);
        }
    }
}
