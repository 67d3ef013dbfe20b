//! Exchanges: the kinds, and the tables that match a message against bindings.
//!
//! A table knows nothing of vhosts, locks or queues: it is plain data over any kind of target. The default exchange needs
//! none, because every queue is bound to it by its own name and the vhost looks that name up itself.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

use millpond_protocol::value::Value;
use serde::{Deserialize, Serialize};

use super::arguments::Arguments;
use super::binding::{Binding, BindingError};
use super::route::RouteSet;

mod direct;
mod fanout;
mod headers;
mod targets;
mod topic;

use direct::Direct;
use fanout::Fanout;
use headers::Headers;
use topic::Topic;

/// The kinds of exchange (AMQP 0-9-1, 3.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeKind {
    /// To the bindings whose key equals the routing key.
    Direct,
    /// To all bindings.
    Fanout,
    /// To the bindings whose key matches as a pattern of words: `*` is one word, `#` any number of words, also none.
    Topic,
    /// To the bindings whose arguments match the message's headers.
    Headers,
}

impl ExchangeKind {
    /// The name protocols use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A type of exchange that this broker does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind(String);

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is not a type of exchange; there are direct, fanout, topic and headers",
            self.0
        )
    }
}

impl std::error::Error for UnknownKind {}

impl FromStr for ExchangeKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        [Self::Direct, Self::Fanout, Self::Topic, Self::Headers]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// What a headers exchange asks of a message.
pub trait MessageHeaders {
    /// The value of a header, if the message has it. STOMP headers are text ([`Value::LongStr`]).
    fn header(&self, name: &[u8]) -> Option<Cow<'_, Value>>;
}

/// A message without headers.
impl MessageHeaders for () {
    fn header(&self, _: &[u8]) -> Option<Cow<'_, Value>> {
        None
    }
}

impl MessageHeaders for Arguments {
    fn header(&self, name: &[u8]) -> Option<Cow<'_, Value>> {
        self.value(name).map(Cow::Borrowed)
    }
}

/// All bindings of one exchange.
#[derive(Debug)]
pub struct Bindings<T> {
    table: Table<T>,
    /// What leads to each target: the list to show, and how to take a target out without a search.
    by_target: HashMap<T, TargetBindings>,
    count: usize,
}

#[derive(Debug)]
enum Table<T> {
    Direct(Direct<T>),
    Fanout(Fanout<T>),
    Topic(Topic<T>),
    Headers(Headers<T>),
}

/// The bindings to one target. Nearly always one: a set for each would cost several times the memory.
#[derive(Debug)]
enum TargetBindings {
    One(Binding),
    Many(HashSet<Binding>),
}

impl TargetBindings {
    fn iter(&self) -> impl Iterator<Item = &Binding> {
        let (one, many) = match self {
            Self::One(binding) => (Some(binding), None),
            Self::Many(bindings) => (None, Some(bindings)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn contains(&self, binding: &Binding) -> bool {
        match self {
            Self::One(known) => known == binding,
            Self::Many(known) => known.contains(binding),
        }
    }

    fn insert(&mut self, binding: Binding) {
        match self {
            Self::One(known) => *self = Self::Many(HashSet::from([known.clone(), binding])),
            Self::Many(known) => {
                known.insert(binding);
            }
        }
    }
}

impl<T: Clone + Eq + Hash> Bindings<T> {
    /// No bindings, for an exchange of this kind.
    pub fn new(kind: ExchangeKind) -> Self {
        let table = match kind {
            ExchangeKind::Direct => Table::Direct(Direct::new()),
            ExchangeKind::Fanout => Table::Fanout(Fanout::new()),
            ExchangeKind::Topic => Table::Topic(Topic::new()),
            ExchangeKind::Headers => Table::Headers(Headers::new()),
        };
        Self {
            table,
            by_target: HashMap::new(),
            count: 0,
        }
    }

    /// The kind of exchange.
    pub fn kind(&self) -> ExchangeKind {
        match &self.table {
            Table::Direct(_) => ExchangeKind::Direct,
            Table::Fanout(_) => ExchangeKind::Fanout,
            Table::Topic(_) => ExchangeKind::Topic,
            Table::Headers(_) => ExchangeKind::Headers,
        }
    }

    /// Binds a target. Says whether that was new: binding twice with the same key and arguments changes nothing.
    ///
    /// # Errors
    /// [`BindingError::Match`] if the arguments do not suit a headers exchange.
    pub fn insert(&mut self, binding: Binding, target: T) -> Result<bool, BindingError> {
        if self
            .by_target
            .get(&target)
            .is_some_and(|known| known.contains(&binding))
        {
            return Ok(false);
        }
        match &mut self.table {
            Table::Direct(table) => table.insert(&binding, &target),
            Table::Fanout(table) => table.insert(&binding, &target),
            Table::Topic(table) => table.insert(&binding, &target),
            Table::Headers(table) => table.insert(&binding, &target)?,
        }
        self.count += 1;
        match self.by_target.get_mut(&target) {
            Some(known) => known.insert(binding),
            None => {
                self.by_target.insert(target, TargetBindings::One(binding));
            }
        }
        Ok(true)
    }

    /// Takes a binding out. Says whether it was there.
    pub fn remove(&mut self, binding: &Binding, target: &T) -> bool {
        let Some(known) = self.by_target.get_mut(target) else {
            return false;
        };
        let last = match known {
            TargetBindings::One(one) if one == binding => true,
            TargetBindings::One(_) => return false,
            TargetBindings::Many(many) => {
                if !many.remove(binding) {
                    return false;
                }
                many.is_empty()
            }
        };
        if last {
            self.by_target.remove(target);
        }
        self.unlink(binding, target);
        true
    }

    /// Takes all bindings to a target out, as when a queue is deleted. Returns how many there were.
    pub fn remove_target(&mut self, target: &T) -> usize {
        let Some(known) = self.by_target.remove(target) else {
            return 0;
        };
        let before = self.count;
        for binding in known.iter() {
            self.unlink(binding, target);
        }
        before - self.count
    }

    fn unlink(&mut self, binding: &Binding, target: &T) {
        match &mut self.table {
            Table::Direct(table) => table.remove(binding, target),
            Table::Fanout(table) => table.remove(binding, target),
            Table::Topic(table) => table.remove(binding, target),
            Table::Headers(table) => table.remove(binding, target),
        }
        self.count -= 1;
    }

    /// Adds the targets of a message to `routes`, each once. `routing_key` has at most 255 bytes.
    pub fn matches(
        &self,
        routing_key: &[u8],
        headers: &impl MessageHeaders,
        routes: &mut RouteSet<T>,
    ) {
        match &self.table {
            Table::Direct(table) => table.matches(routing_key, routes),
            Table::Fanout(table) => table.matches(routes),
            Table::Topic(table) => table.matches(routing_key, routes),
            Table::Headers(table) => {
                routes.depend_on_headers();
                table.matches(headers, routes);
            }
        }
    }

    /// Whether this target is bound in this way.
    pub fn contains(&self, binding: &Binding, target: &T) -> bool {
        self.by_target
            .get(target)
            .is_some_and(|known| known.contains(binding))
    }

    /// The bindings to one target, in no particular order.
    pub fn of_target(&self, target: &T) -> impl Iterator<Item = &Binding> {
        self.by_target
            .get(target)
            .into_iter()
            .flat_map(TargetBindings::iter)
    }

    /// All bindings and their targets, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&Binding, &T)> {
        self.by_target
            .iter()
            .flat_map(|(target, known)| known.iter().map(move |binding| (binding, target)))
    }

    /// How many bindings there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests;
