//! What a user may do in a vhost.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use regex::bytes::{Regex, RegexBuilder};

use crate::engine::name::{ExchangeName, VhostName};

/// The longest regular expression, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// The most memory one compiled expression may take, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// How many decisions a connection remembers for each operation.
const DECISIONS_MAX: usize = 64;
/// The name under which the default exchange, which has none, is checked.
const DEFAULT_EXCHANGE: &[u8] = b"amq.default";

/// The three kinds of right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Declare and delete.
    Configure,
    /// Publish to, or bind to.
    Write,
    /// Consume, or bind from.
    Read,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

/// A regular expression over names. The two that most rows have need no matching.
#[derive(Debug)]
pub(super) enum Rule {
    Nothing,
    Everything,
    Pattern(Regex),
}

impl Rule {
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!("it has more than {PATTERN_BYTES_MAX} bytes"));
        }
        match pattern {
            "" => Ok(Self::Nothing),
            ".*" => Ok(Self::Everything),
            pattern => {
                let compiled = RegexBuilder::new(pattern)
                    .size_limit(COMPILED_BYTES_MAX)
                    .dfa_size_limit(COMPILED_BYTES_MAX)
                    .build();
                compiled
                    .map(Self::Pattern)
                    .map_err(|error| error.to_string())
            }
        }
    }

    /// A rule with `{username}` and `{vhost}` in it.
    pub(super) fn parse_for(pattern: &str, user: &str, vhost: &VhostName) -> Result<Self, String> {
        let mut rule = String::with_capacity(pattern.len());
        let mut rest = pattern;
        // In one pass: what is put in is never itself searched for places to put something in.
        while let Some(open) = rest.find('{') {
            let (before, from) = rest.split_at(open);
            rule.push_str(before);
            rest = if let Some(after) = from.strip_prefix("{username}") {
                rule.push_str(&regex::escape(user));
                after
            } else if let Some(after) = from.strip_prefix("{vhost}") {
                rule.push_str(&literal(vhost.as_bytes()));
                after
            } else {
                rule.push('{');
                &from[1..]
            };
        }
        rule.push_str(rest);
        Self::parse(&rule)
    }

    fn allows(&self, name: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

/// An expression that matches these bytes and no others.
fn literal(bytes: &[u8]) -> String {
    let mut expression = String::new();
    for chunk in bytes.utf8_chunks() {
        expression.push_str(&regex::escape(chunk.valid()));
        for byte in chunk.invalid() {
            expression.push_str(&format!("(?-u:\\x{byte:02x})"));
        }
    }
    expression
}

/// One user's rights in one vhost.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) configure: Rule,
    pub(super) write: Rule,
    pub(super) read: Rule,
    pub(super) topics: HashMap<ExchangeName, TopicGrant>,
}

/// One user's rights to the keys of one exchange.
#[derive(Debug)]
pub(super) struct TopicGrant {
    pub(super) write: Rule,
    pub(super) read: Rule,
}

/// One connection's view of what its user may do in a vhost.
///
/// Names are those of queues and exchanges; the empty name is the default exchange, which is checked as `amq.default`.
/// Decisions on names are remembered, up to 64 for each operation; those on topics are not, because routing keys vary and
/// a [`RouteCache`](crate::engine::route::RouteCache) remembers what comes of them.
#[derive(Debug)]
pub struct Permissions {
    grant: Arc<Grant>,
    decisions: Mutex<Decisions>,
}

#[derive(Debug, Default)]
struct Decisions {
    configure: HashMap<Box<[u8]>, bool>,
    write: HashMap<Box<[u8]>, bool>,
    read: HashMap<Box<[u8]>, bool>,
}

impl Permissions {
    pub(super) fn new(grant: Arc<Grant>) -> Self {
        Self {
            grant,
            decisions: Mutex::default(),
        }
    }

    /// Whether the user may declare and delete this queue or exchange.
    pub fn may_configure(&self, name: impl AsRef<[u8]>) -> bool {
        self.may(Operation::Configure, name)
    }

    /// Whether the user may publish or bind to it.
    pub fn may_write(&self, name: impl AsRef<[u8]>) -> bool {
        self.may(Operation::Write, name)
    }

    /// Whether the user may consume or bind from it.
    pub fn may_read(&self, name: impl AsRef<[u8]>) -> bool {
        self.may(Operation::Read, name)
    }

    /// Whether the user may do this to the queue or exchange of this name.
    pub fn may(&self, operation: Operation, name: impl AsRef<[u8]>) -> bool {
        let name = match name.as_ref() {
            b"" => DEFAULT_EXCHANGE,
            name => name,
        };
        let rule = match operation {
            Operation::Configure => &self.grant.configure,
            Operation::Write => &self.grant.write,
            Operation::Read => &self.grant.read,
        };
        if !matches!(rule, Rule::Pattern(_)) {
            return rule.allows(name);
        }
        let mut decisions = self.decisions.lock();
        let known = match operation {
            Operation::Configure => &mut decisions.configure,
            Operation::Write => &mut decisions.write,
            Operation::Read => &mut decisions.read,
        };
        if let Some(&decision) = known.get(name) {
            return decision;
        }
        let decision = rule.allows(name);
        if known.len() == DECISIONS_MAX {
            known.clear();
        }
        known.insert(name.into(), decision);
        decision
    }

    /// Whether the user may publish to this exchange with this routing key, given that the user may write to it.
    pub fn may_write_topic(&self, exchange: &ExchangeName, routing_key: impl AsRef<[u8]>) -> bool {
        self.grant
            .topics
            .get(exchange)
            .is_none_or(|topic| topic.write.allows(routing_key.as_ref()))
    }

    /// Whether the user may bind from this exchange with this binding key, given that the user may read from it.
    pub fn may_read_topic(&self, exchange: &ExchangeName, binding_key: impl AsRef<[u8]>) -> bool {
        self.grant
            .topics
            .get(exchange)
            .is_none_or(|topic| topic.read.allows(binding_key.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(configure: &str, write: &str, read: &str) -> Permissions {
        let rule = |pattern| Rule::parse(pattern).unwrap();
        let grant = Grant {
            configure: rule(configure),
            write: rule(write),
            read: rule(read),
            topics: HashMap::new(),
        };
        Permissions::new(Arc::new(grant))
    }

    #[test]
    fn expressions_match_anywhere_unless_anchored() {
        for (pattern, name, allowed) in [
            ("", "a", false),
            (".*", "a", true),
            ("^$", "a", false),
            ("ord", "my-orders", true),
            ("^ord", "my-orders", false),
            ("^orders$", "orders", true),
            ("^orders$", "orders2", false),
            ("^(a|b)$", "b", true),
            ("A", "a", false),
        ] {
            assert_eq!(
                permissions("", pattern, "").may_write(name),
                allowed,
                "'{pattern}' and '{name}'"
            );
        }
    }

    #[test]
    fn each_operation_has_its_own_expression() {
        let permissions = permissions("^c", "^w", "^r");
        for (name, configure, write, read) in [
            ("c1", true, false, false),
            ("w1", false, true, false),
            ("r1", false, false, true),
        ] {
            // Twice, so that remembered decisions answer as fresh ones do.
            for _ in 0..2 {
                assert_eq!(permissions.may_configure(name), configure, "{name}");
                assert_eq!(permissions.may_write(name), write, "{name}");
                assert_eq!(permissions.may_read(name), read, "{name}");
            }
        }
    }

    #[test]
    fn the_default_exchange_goes_by_the_name_amq_default() {
        assert!(permissions("", r"^amq\.default$", "").may_write(ExchangeName::default_exchange()));
        assert!(!permissions("", "^orders$", "").may_write(""));
        assert!(!permissions("", "^$", "").may_write(""));
    }

    #[test]
    fn names_that_are_not_utf8_are_matched_by_their_bytes() {
        let permissions = permissions("", "^a", "");
        assert!(permissions.may_write(b"a\xff"));
        assert!(!permissions.may_write(b"\xffa"));
    }

    #[test]
    fn remembered_decisions_are_bounded() {
        let permissions = permissions("", "^[0-4]", "");
        for round in 0..3 {
            for n in 0..200 {
                assert_eq!(
                    permissions.may_write(format!("{n}")),
                    format!("{n}").as_bytes()[0] <= b'4',
                    "{round}"
                );
                assert!(permissions.decisions.lock().write.len() <= DECISIONS_MAX);
            }
        }
    }

    #[test]
    fn expressions_that_cannot_be_used_are_refused() {
        for pattern in [
            "(",
            "[a",
            "a{2",
            "(?=a)",
            r"\1",
            &"a".repeat(5000),
            "((a{1000}){1000}){10}",
        ] {
            assert!(Rule::parse(pattern).is_err(), "'{pattern}'");
        }
    }

    #[test]
    fn placeholders_stand_for_themselves_literally() {
        let vhost = VhostName::parse(&b"v.1\xff"[..]).unwrap();
        let rule = |pattern, user| Rule::parse_for(pattern, user, &vhost).unwrap();
        assert!(rule("^{username}$", ".*").allows(b".*"));
        assert!(!rule("^{username}$", ".*").allows(b"anything"));
        assert!(rule("^{vhost}$", "u").allows(b"v.1\xff"));
        assert!(!rule("^{vhost}$", "u").allows(b"vx1\xff"));
        assert!(rule("^{username}{1,2}$", "u").allows(b"uu"));
        assert!(rule(r"^\{{username}\}$", "vhost").allows(b"{vhost}"));
        assert!(!rule("^{username}$", "{vhost}").allows(b"v.1\xff"));
    }
}
