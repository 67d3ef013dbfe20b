//! Arguments of queues, exchanges, bindings and consumers: names with typed values.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use millpond_protocol::value::Value;

mod json;

/// Names with typed values, ordered by name: two lists of the same arguments are equal whatever order they came in.
///
/// Numbers and sizes are bounded by what brought them: a frame or the configuration file.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Arguments(BTreeMap<Bytes, Value>);

impl Arguments {
    /// No arguments.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets an argument; the value it had is returned.
    pub fn insert(&mut self, name: impl Into<Bytes>, value: impl Into<Value>) -> Option<Value> {
        self.0.insert(name.into(), value.into())
    }

    /// Takes an argument out.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> Option<Value> {
        self.0.remove(name.as_ref())
    }

    /// An argument's value.
    pub fn value(&self, name: impl AsRef<[u8]>) -> Option<&Value> {
        self.0.get(name.as_ref())
    }

    /// All arguments, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Value)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A name given twice keeps its last value.
impl<N: Into<Bytes>, V: Into<Value>> FromIterator<(N, V)> for Arguments {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(arguments: I) -> Self {
        Self(
            arguments
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl<N: Into<Bytes>, V: Into<Value>, const COUNT: usize> From<[(N, V); COUNT]> for Arguments {
    fn from(arguments: [(N, V); COUNT]) -> Self {
        arguments.into_iter().collect()
    }
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_arrival_does_not_matter() {
        let one = Arguments::from([("a", 1), ("b", 2)]);
        let other = Arguments::from([("b", 2), ("a", 1)]);
        assert_eq!(one, other);
        assert_eq!(
            one.iter()
                .map(|(name, _)| name.as_ref())
                .collect::<Vec<_>>(),
            [b"a", b"b"]
        );
    }

    #[test]
    fn a_name_given_twice_keeps_its_last_value() {
        let arguments = Arguments::from([("a", 1), ("a", 2)]);
        assert_eq!(arguments.value("a"), Some(&Value::Int32(2)));
        assert_eq!(arguments.len(), 1);
    }
}
