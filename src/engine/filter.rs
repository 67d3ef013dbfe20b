//! Tag filters: a subscriber names the tags it wants, a publisher tags its messages.
//!
//! A subscription without a filter gets everything. One with a filter gets a message when the two share at least one
//! tag; a message without tags passes no filter.

use std::fmt;

use bytes::Bytes;

/// The most tags in one list.
pub const TAGS_MAX: usize = 16;
/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;

/// Why a list of tags is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagError {
    /// No tag at all: a filter that nothing can pass is a mistake.
    Empty,
    /// More than [`TAGS_MAX`].
    TooMany,
    /// A tag is longer than [`TAG_BYTES_MAX`].
    TooLong {
        /// Its length, in bytes.
        bytes: usize,
    },
}

impl fmt::Display for TagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "a list of tags names no tag; write them separated by commas, as in 'red,blue'",
            ),
            Self::TooMany => write!(f, "a list of tags may hold at most {TAGS_MAX}"),
            Self::TooLong { bytes } => write!(
                f,
                "a tag may have at most {TAG_BYTES_MAX} bytes, one has {bytes}"
            ),
        }
    }
}

impl std::error::Error for TagError {}

/// The tags of a list: separated by commas, white space around them dropped, empty ones ignored.
fn tags_in(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|tag| !tag.is_empty())
}

/// Whether a message's list of tags keeps the limits; a message without tags has an empty list.
///
/// # Errors
/// [`TagError::TooMany`] or [`TagError::TooLong`]. Publishing checks this once, so that matching is bounded.
pub fn check_tags(list: &[u8]) -> Result<(), TagError> {
    for (index, tag) in tags_in(list).enumerate() {
        if index == TAGS_MAX {
            return Err(TagError::TooMany);
        }
        if tag.len() > TAG_BYTES_MAX {
            return Err(TagError::TooLong { bytes: tag.len() });
        }
    }
    Ok(())
}

/// The tags a subscription asks for: at least one, at most [`TAGS_MAX`]. Equal filters name the same set of tags.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TagFilter {
    /// Sorted, without repetition, separated by commas: the canonical form.
    list: Bytes,
}

impl TagFilter {
    /// Reads a list such as `red, blue`.
    ///
    /// # Errors
    /// [`TagError`] if it is empty or over a limit.
    pub fn parse(list: &[u8]) -> Result<Self, TagError> {
        check_tags(list)?;
        let mut tags: Vec<&[u8]> = tags_in(list).collect();
        if tags.is_empty() {
            return Err(TagError::Empty);
        }
        tags.sort_unstable();
        tags.dedup();
        Ok(Self {
            list: tags.join(&b","[..]).into(),
        })
    }

    /// Whether a message with this list of tags passes.
    pub fn matches(&self, tags: Option<&[u8]>) -> bool {
        tags.is_some_and(|tags| tags_in(tags).any(|tag| self.tags().any(|wanted| wanted == tag)))
    }

    /// The tags, sorted.
    pub fn tags(&self) -> impl Iterator<Item = &[u8]> {
        tags_in(&self.list)
    }

    /// The canonical list: sorted, without repetition, separated by commas.
    pub fn as_bytes(&self) -> &Bytes {
        &self.list
    }
}

impl fmt::Debug for TagFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagFilter({:?})", self.list)
    }
}

impl fmt::Display for TagFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_in_common_is_enough() {
        let filter = TagFilter::parse(b"red, blue").unwrap();
        for (tags, passes) in [
            (Some(&b"red"[..]), true),
            (Some(b"green,blue"), true),
            (Some(b" green , red "), true),
            (Some(b"green"), false),
            (Some(b"re"), false),
            (Some(b"redder"), false),
            (Some(b"red blue"), false),
            (Some(b"RED"), false),
            (Some(b""), false),
            (Some(b",,"), false),
            (None, false),
        ] {
            assert_eq!(filter.matches(tags), passes, "{tags:?}");
        }
    }

    #[test]
    fn equal_sets_are_equal_filters() {
        let one = TagFilter::parse(b"b,a, a,").unwrap();
        assert_eq!(one, TagFilter::parse(b"a,b").unwrap());
        assert_eq!(one.as_bytes().as_ref(), b"a,b");
    }

    #[test]
    fn limits_are_kept_and_explained() {
        let many = |count: usize| {
            (0..count)
                .map(|n| n.to_string())
                .collect::<Vec<_>>()
                .join(",")
                .into_bytes()
        };
        assert!(TagFilter::parse(&many(16)).is_ok());
        assert_eq!(TagFilter::parse(&many(17)), Err(TagError::TooMany));
        assert!(TagFilter::parse(&[b'a'; 64]).is_ok());
        let error = TagFilter::parse(&[b'a'; 65]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a tag may have at most 64 bytes, one has 65"
        );
        assert_eq!(TagFilter::parse(b" , "), Err(TagError::Empty));
        assert_eq!(check_tags(b""), Ok(()));
    }
}
