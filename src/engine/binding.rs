//! A binding: what links an exchange to a queue or to another exchange.

use std::fmt;
use std::hash::{Hash, Hasher};

use blake2::digest::consts::U8;
use blake2::{Blake2s, Digest};
use millpond_protocol::value::Value;

pub use super::arguments::Arguments;
use super::filter::{TagError, TagFilter};
use super::name::BindingKey;

/// The binding argument that carries a tag filter.
pub const FILTER_ARGUMENT: &str = "x-filter-tags";

/// The key and arguments of a binding, without its two ends.
///
/// Between the same two ends, bindings are the same when key and arguments are: binding twice changes nothing. The tag
/// filter is one of the arguments ([`FILTER_ARGUMENT`]), read once, and so part of what a binding is.
#[derive(Clone, Debug)]
pub struct Binding {
    key: BindingKey,
    arguments: Arguments,
    filter: Option<TagFilter>,
}

/// Why arguments do not make a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingError {
    /// The tag filter is not text.
    FilterType {
        /// The type that was given.
        given: &'static str,
    },
    /// The tag filter is refused.
    Filter(TagError),
    /// `x-match` of a headers binding is not one of the four words.
    Match {
        /// What was given, as text.
        given: String,
    },
}

impl fmt::Display for BindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FilterType { given } => {
                write!(
                    f,
                    "the argument '{FILTER_ARGUMENT}' takes text such as 'red,blue', not a value of type '{given}'"
                )
            }
            Self::Filter(error) => {
                write!(f, "the argument '{FILTER_ARGUMENT}' is refused: {error}")
            }
            Self::Match { given } => {
                write!(
                    f,
                    "the argument 'x-match' takes 'all', 'any', 'all-with-x' or 'any-with-x', not '{given}'"
                )
            }
        }
    }
}

impl std::error::Error for BindingError {}

impl Binding {
    /// A binding with its arguments.
    ///
    /// # Errors
    /// [`BindingError`] if the arguments hold a tag filter that is not one.
    pub fn new(key: BindingKey, arguments: Arguments) -> Result<Self, BindingError> {
        let plain = Self {
            key,
            arguments,
            filter: None,
        };
        match plain.arguments.value(FILTER_ARGUMENT) {
            None => Ok(plain),
            Some(Value::LongStr(list)) => {
                let filter = TagFilter::parse(list).map_err(BindingError::Filter)?;
                Ok(plain.with_filter(filter))
            }
            Some(other) => Err(BindingError::FilterType {
                given: other.type_name(),
            }),
        }
    }

    /// A binding by key alone.
    pub const fn plain(key: BindingKey) -> Self {
        Self {
            key,
            arguments: Arguments::new(),
            filter: None,
        }
    }

    /// The same binding with this tag filter in place of the one it had. The argument holds the filter's canonical form,
    /// so that `b,a` and `a, b` make the same binding.
    pub fn with_filter(mut self, filter: TagFilter) -> Self {
        self.arguments
            .insert(FILTER_ARGUMENT, Value::LongStr(filter.as_bytes().clone()));
        self.filter = Some(filter);
        self
    }

    /// The binding key.
    pub fn key(&self) -> &BindingKey {
        &self.key
    }

    /// The arguments, the tag filter among them.
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// The tags a message must carry, if not all messages are wanted.
    pub fn filter(&self) -> Option<&TagFilter> {
        self.filter.as_ref()
    }

    /// The name of this binding among those between the same two ends, as management tools know it: the key, `~` for an
    /// empty one, followed by `~` and a hash where there are arguments.
    ///
    /// Stable for as long as the JSON form of arguments is.
    pub fn properties_key(&self) -> String {
        let key = self.key.to_text();
        if self.arguments.is_empty() {
            return if key.is_empty() {
                "~".to_owned()
            } else {
                key.into_owned()
            };
        }
        let json = serde_json::to_vec(&self.arguments).expect("arguments always have a JSON form");
        let hash: String = Blake2s::<U8>::digest(json)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{key}~{hash}")
    }
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.arguments == other.arguments
    }
}

impl Eq for Binding {}

impl Hash for Binding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
        self.arguments.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(key: &'static str, arguments: Arguments) -> Binding {
        Binding::new(BindingKey::from_static(key), arguments).unwrap()
    }

    #[test]
    fn key_and_arguments_are_the_identity() {
        let with = |value: &'static str| binding("k", Arguments::from([("a", value)]));
        assert_eq!(with("1"), with("1"));
        assert_ne!(with("1"), with("2"));
        assert_ne!(with("1"), binding("k", Arguments::new()));
        assert_ne!(
            binding("k", Arguments::new()),
            binding("l", Arguments::new())
        );
    }

    #[test]
    fn a_filter_is_an_argument_and_an_argument_is_a_filter() {
        let by_argument = binding("k", Arguments::from([(FILTER_ARGUMENT, "b, a")]));
        let by_filter = Binding::plain(BindingKey::from_static("k"))
            .with_filter(TagFilter::parse(b"a,b").unwrap());
        assert!(by_argument.filter().unwrap().matches(Some(b"b")));
        assert_eq!(by_argument, by_filter);
    }

    #[test]
    fn wrong_filters_are_refused_by_name() {
        let refused = |value: Value| {
            let arguments = Arguments::from([(FILTER_ARGUMENT, value)]);
            Binding::new(BindingKey::from_static("k"), arguments)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(Value::Int32(1)).contains("not a value of type 'signedint'"));
        assert!(refused(Value::text(" , ")).contains("names no tag"));
    }

    #[test]
    fn management_tools_find_a_binding_by_its_properties_key() {
        assert_eq!(binding("", Arguments::new()).properties_key(), "~");
        assert_eq!(binding("a.b", Arguments::new()).properties_key(), "a.b");
        let one = binding("a.b", Arguments::from([("x-match", "any")])).properties_key();
        let other = binding("a.b", Arguments::from([("x-match", "all")])).properties_key();
        assert!(one.starts_with("a.b~") && one.len() == "a.b~".len() + 16);
        assert_ne!(one, other);
    }
}
