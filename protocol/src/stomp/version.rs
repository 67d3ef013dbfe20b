//! Protocol versions and their negotiation.

use std::fmt;

use super::escape::Escaping;

/// A version of the protocol. Ordered: a later version is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// STOMP 1.0: header lines are literal, no escapes.
    V1_0,
    /// STOMP 1.1: escapes, NACK, heart-beats.
    V1_1,
    /// STOMP 1.2: CR LF line ends, the `ack` header.
    V1_2,
}

impl Version {
    /// All versions served, oldest first.
    pub const ALL: [Self; 3] = [Self::V1_0, Self::V1_1, Self::V1_2];

    /// The served versions as the `version` header of an ERROR lists them.
    pub const LIST: &'static str = "1.0,1.1,1.2";

    /// The version as the `version` header says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }

    /// Reads one version, as it stands in a `version` header or in an item of `accept-version`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str().as_bytes() == text)
    }

    /// Chooses the version of a connection from the client's `accept-version` (STOMP 1.2, "Protocol
    /// Negotiation"): the highest one both sides know, in whatever order the client lists them.
    ///
    /// A client that does not say is a 1.0 client. Blanks around an item are forgiven. `None`: the client
    /// named versions, but none that is served.
    #[must_use]
    pub fn negotiate(accept_version: Option<&[u8]>) -> Option<Self> {
        let Some(list) = accept_version else {
            return Some(Self::V1_0);
        };
        list.split(|&byte| byte == b',')
            .filter_map(|item| Self::parse(item.trim_ascii()))
            .max()
    }

    /// How header lines are written in this version, CONNECT and CONNECTED excepted.
    #[must_use]
    pub const fn escaping(self) -> Escaping {
        match self {
            Self::V1_0 => Escaping::Literal,
            Self::V1_1 | Self::V1_2 => Escaping::Escaped,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_wins_in_any_order() {
        for (accept, expect) in [
            (None, Some(Version::V1_0)),
            (Some("1.0"), Some(Version::V1_0)),
            (Some("1.2,1.0,1.1"), Some(Version::V1_2)),
            (Some("1.0,1.1"), Some(Version::V1_1)),
            (Some("1.1, 1.2"), Some(Version::V1_2)),
            (Some("2.0,1.1,0.9"), Some(Version::V1_1)),
            (Some("1.3"), None),
            (Some("1"), None),
            (Some(""), None),
        ] {
            assert_eq!(
                Version::negotiate(accept.map(str::as_bytes)),
                expect,
                "{accept:?}"
            );
        }
    }

    #[test]
    fn the_list_names_every_version() {
        let all: Vec<&str> = Version::ALL.iter().map(|v| v.as_str()).collect();
        assert_eq!(all.join(","), Version::LIST);
    }
}
