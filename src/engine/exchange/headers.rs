//! Headers: the binding's arguments name the headers a message must have.
//!
//! `x-match` says how: `all` (the default) and `any` look at the arguments whose names do not begin with `x-`,
//! `all-with-x` and `any-with-x` at those as well. A void argument asks only that the header is there; any other must
//! have the same type and value. With nothing to look at, the `all` modes match every message and the `any` modes none.

use std::collections::HashMap;
use std::hash::Hash;

use millpond_protocol::value::Value;

use super::MessageHeaders;
use super::targets::Targets;
use crate::engine::binding::{Arguments, Binding, BindingError, FILTER_ARGUMENT};
use crate::engine::route::RouteSet;

const MATCH_ARGUMENT: &str = "x-match";

/// Bindings by their arguments: queues that ask for the same headers are matched together. The binding key plays no part
/// and the table has no index on values, so a message is compared with every different set of arguments.
#[derive(Debug)]
pub(super) struct Headers<T> {
    patterns: HashMap<Arguments, Pattern<T>>,
}

#[derive(Debug)]
struct Pattern<T> {
    mode: Mode,
    targets: Targets<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    quantifier: Quantifier,
    /// Whether arguments that begin with `x-` are looked at.
    with_x: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    All,
    Any,
}

impl Mode {
    fn of(arguments: &Arguments) -> Result<Self, BindingError> {
        let (quantifier, with_x) = match arguments.value(MATCH_ARGUMENT) {
            None => (Quantifier::All, false),
            Some(value) => match value.as_text().map(AsRef::as_ref) {
                Some(b"all") => (Quantifier::All, false),
                Some(b"any") => (Quantifier::Any, false),
                Some(b"all-with-x") => (Quantifier::All, true),
                Some(b"any-with-x") => (Quantifier::Any, true),
                _ => {
                    return Err(BindingError::Match {
                        given: value.to_string(),
                    });
                }
            },
        };
        Ok(Self { quantifier, with_x })
    }

    fn looks_at(self, name: &[u8]) -> bool {
        // Our own arguments are never headers to be matched, in any mode.
        name != MATCH_ARGUMENT.as_bytes()
            && name != FILTER_ARGUMENT.as_bytes()
            && (self.with_x || !name.starts_with(b"x-"))
    }

    fn accepts(self, arguments: &Arguments, headers: &impl MessageHeaders) -> bool {
        let mut wanted = arguments.iter().filter(|(name, _)| self.looks_at(name));
        let mut has = |(name, value): (&bytes::Bytes, &Value)| {
            headers
                .header(name)
                .is_some_and(|found| *value == Value::Void || found.as_ref() == value)
        };
        match self.quantifier {
            Quantifier::All => wanted.all(&mut has),
            Quantifier::Any => wanted.any(&mut has),
        }
    }
}

impl<T: Clone + Eq + Hash> Headers<T> {
    pub(super) fn new() -> Self {
        Self {
            patterns: HashMap::new(),
        }
    }

    pub(super) fn insert(&mut self, binding: &Binding, target: &T) -> Result<(), BindingError> {
        match self.patterns.get_mut(binding.arguments()) {
            Some(pattern) => pattern.targets.insert(target, binding.filter()),
            None => {
                let mode = Mode::of(binding.arguments())?;
                let mut targets = Targets::new();
                targets.insert(target, binding.filter());
                self.patterns
                    .insert(binding.arguments().clone(), Pattern { mode, targets });
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, binding: &Binding, target: &T) {
        if let Some(pattern) = self.patterns.get_mut(binding.arguments()) {
            pattern.targets.remove(target, binding.filter());
            if pattern.targets.is_empty() {
                self.patterns.remove(binding.arguments());
            }
        }
    }

    pub(super) fn matches(&self, headers: &impl MessageHeaders, routes: &mut RouteSet<T>) {
        for (arguments, pattern) in &self.patterns {
            if pattern.mode.accepts(arguments, headers) {
                pattern.targets.matches(routes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::name::BindingKey;

    fn accepts(
        mode: Option<&'static str>,
        wanted: &[(&'static str, Value)],
        headers: &[(&'static str, Value)],
    ) -> bool {
        let mut arguments: Arguments = wanted.iter().cloned().collect();
        if let Some(mode) = mode {
            arguments.insert(MATCH_ARGUMENT, mode);
        }
        let headers: Arguments = headers.iter().cloned().collect();
        Mode::of(&arguments).unwrap().accepts(&arguments, &headers)
    }

    #[test]
    fn each_mode_matches_as_its_name_says() {
        let both = [("a", Value::from(1)), ("b", Value::from("x"))];
        let one = [("a", Value::from(1)), ("c", Value::from("x"))];
        let neither = [("a", Value::from(2))];
        for (mode, with_both, with_one, with_neither) in [
            (None, true, false, false),
            (Some("all"), true, false, false),
            (Some("any"), true, true, false),
        ] {
            assert_eq!(accepts(mode, &both, &both), with_both, "{mode:?}");
            assert_eq!(accepts(mode, &both, &one), with_one, "{mode:?}");
            assert_eq!(accepts(mode, &both, &neither), with_neither, "{mode:?}");
        }
    }

    #[test]
    fn plain_modes_skip_arguments_that_begin_with_x() {
        let wanted = [("a", Value::from(1)), ("x-b", Value::from(2))];
        let only_a = [("a", Value::from(1))];
        let only_x = [("x-b", Value::from(2))];
        for (mode, with_a, with_x) in [
            ("all", true, false),
            ("any", true, false),
            ("all-with-x", false, false),
            ("any-with-x", true, true),
        ] {
            assert_eq!(accepts(Some(mode), &wanted, &only_a), with_a, "{mode}");
            assert_eq!(accepts(Some(mode), &wanted, &only_x), with_x, "{mode}");
        }
        assert!(accepts(Some("all-with-x"), &wanted, &wanted));
    }

    #[test]
    fn with_nothing_to_look_at_all_matches_and_any_does_not() {
        let filter = [(FILTER_ARGUMENT, Value::from("red"))];
        let skipped = [("x-b", Value::from(2))];
        for (mode, matches) in [
            (None, true),
            (Some("all"), true),
            (Some("all-with-x"), true),
            (Some("any"), false),
            (Some("any-with-x"), false),
        ] {
            assert_eq!(
                accepts(mode, &[], &[("a", Value::from(1))]),
                matches,
                "{mode:?}"
            );
            assert_eq!(accepts(mode, &filter, &[]), matches, "{mode:?}");
        }
        assert!(accepts(Some("all"), &skipped, &[]) && !accepts(Some("any"), &skipped, &skipped));
    }

    #[test]
    fn void_asks_for_presence_and_anything_else_for_type_and_value() {
        let header = [("a", Value::Int32(1))];
        for (wanted, matches) in [
            (Value::Void, true),
            (Value::Int32(1), true),
            (Value::Int32(2), false),
            (Value::Int64(1), false),
            (Value::from("1"), false),
            (Value::Bool(true), false),
        ] {
            assert_eq!(
                accepts(None, &[("a", wanted.clone())], &header),
                matches,
                "{wanted:?}"
            );
        }
        assert!(!accepts(None, &[("b", Value::Void)], &header));
        assert!(!accepts(
            None,
            &[("a", Value::Int32(1))],
            &[("a", Value::Void)]
        ));
    }

    #[test]
    fn an_unknown_mode_is_refused_with_the_four_words() {
        for given in [Value::from("some"), Value::from(1)] {
            let binding = Binding::new(
                BindingKey::from_static(""),
                Arguments::from([(MATCH_ARGUMENT, given)]),
            )
            .unwrap();
            let error = Headers::new().insert(&binding, &1).unwrap_err().to_string();
            assert!(
                error.contains("'all', 'any', 'all-with-x' or 'any-with-x'"),
                "{error}"
            );
        }
    }
}
