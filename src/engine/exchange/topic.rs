//! Topic: the binding key is a pattern of words separated by points, `*` for one word and `#` for any number, also none.
//!
//! The patterns make a trie. A routing key walks it once, word by word, with the set of nodes it may be at. A node has one
//! parent and is in the set at most once, so a look-up costs at most the words of the key times the nodes of the trie and
//! never more, however many `#` follow each other; with usual patterns it costs a few table look-ups a word. Words are
//! numbered once for the whole trie, and an edge is found by its node and its word's number in one table.
//!
//! As elsewhere: an empty key has no words (only `#` matches it), an empty word counts as a word (`a..b` has three), and a
//! `*` or `#` within a word is an ordinary character.

use std::collections::HashSet;
use std::hash::Hash;

use smallvec::SmallVec;

use super::targets::Targets;
use crate::engine::binding::Binding;
use crate::engine::route::RouteSet;

mod edges;
mod words;

use edges::Edges;
use words::{WordId, Words};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct NodeId(u32);

impl NodeId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

const ROOT: NodeId = NodeId(0);

/// One word of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Word(WordId),
    /// `*`
    One,
    /// `#`
    Many,
}

#[derive(Debug)]
struct Node<T> {
    /// How this node is reached; the root is not.
    from: Option<(NodeId, Edge)>,
    /// How many nodes are reached from this one by a word.
    words: u32,
    one: Option<NodeId>,
    many: Option<NodeId>,
    /// Bindings whose pattern ends here.
    targets: Targets<T>,
}

impl<T: Clone + Eq + Hash> Node<T> {
    fn new(from: Option<(NodeId, Edge)>) -> Self {
        Self {
            from,
            words: 0,
            one: None,
            many: None,
            targets: Targets::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Topic<T> {
    nodes: Vec<Node<T>>,
    /// Nodes that were removed, to be used again.
    free: Vec<NodeId>,
    words: Words,
    edges: Edges,
}

/// The words of a key.
fn words_of(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|&byte| byte == b'.')
        .take(if key.is_empty() { 0 } else { usize::MAX })
}

/// A pattern's words in the one order all its equals share: in a run of `*` and `#` the `*` come first and one `#` is
/// enough. `#.*.#` and `*.#` match the same keys and then share a node.
fn canonical(pattern: &[u8]) -> SmallVec<[&[u8]; 16]> {
    let mut words: SmallVec<[&[u8]; 16]> = SmallVec::new();
    let mut many = false;
    for word in words_of(pattern) {
        match word {
            b"#" => many = true,
            b"*" => words.push(word),
            word => {
                if std::mem::take(&mut many) {
                    words.push(b"#");
                }
                words.push(word);
            }
        }
    }
    if many {
        words.push(b"#");
    }
    words
}

impl<T: Clone + Eq + Hash> Topic<T> {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::new(None)],
            free: Vec::new(),
            words: Words::default(),
            edges: Edges::default(),
        }
    }

    pub(super) fn insert(&mut self, binding: &Binding, target: &T) {
        let mut at = ROOT;
        for word in canonical(binding.key().as_bytes()) {
            at = match self.child(at, word) {
                Some(child) => child,
                None => self.grow(at, word),
            };
        }
        self.nodes[at.index()]
            .targets
            .insert(target, binding.filter());
    }

    pub(super) fn remove(&mut self, binding: &Binding, target: &T) {
        let mut at = ROOT;
        for word in canonical(binding.key().as_bytes()) {
            let Some(child) = self.child(at, word) else {
                return;
            };
            at = child;
        }
        self.nodes[at.index()]
            .targets
            .remove(target, binding.filter());
        self.prune(at);
    }

    fn child(&self, at: NodeId, word: &[u8]) -> Option<NodeId> {
        match word {
            b"*" => self.nodes[at.index()].one,
            b"#" => self.nodes[at.index()].many,
            word => self.edges.find(at, self.words.find(word)?),
        }
    }

    fn grow(&mut self, at: NodeId, word: &[u8]) -> NodeId {
        let edge = match word {
            b"*" => Edge::One,
            b"#" => Edge::Many,
            word => Edge::Word(self.words.take(word)),
        };
        let node = Node::new(Some((at, edge)));
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free.index()] = node;
                free
            }
            None => {
                let id = u32::try_from(self.nodes.len())
                    .expect("nodes that exceed 32 bits exceed memory first");
                self.nodes.push(node);
                NodeId(id)
            }
        };
        let parent = &mut self.nodes[at.index()];
        match edge {
            Edge::One => parent.one = Some(child),
            Edge::Many => parent.many = Some(child),
            Edge::Word(word) => {
                parent.words += 1;
                self.edges.insert(at, word, child);
            }
        }
        child
    }

    /// Removes a node that nothing needs any more, then its parent if that was all it had, and so on.
    fn prune(&mut self, mut at: NodeId) {
        while let Node {
            from: Some((parent, edge)),
            words: 0,
            one: None,
            many: None,
            targets,
        } = &self.nodes[at.index()]
            && targets.is_empty()
        {
            let (parent, edge) = (*parent, *edge);
            self.free.push(at);
            match edge {
                Edge::One => self.nodes[parent.index()].one = None,
                Edge::Many => self.nodes[parent.index()].many = None,
                Edge::Word(word) => {
                    self.nodes[parent.index()].words -= 1;
                    self.edges.remove(parent, word);
                    self.words.release(word);
                }
            }
            at = parent;
        }
    }

    pub(super) fn matches(&self, routing_key: &[u8], routes: &mut RouteSet<T>) {
        let mut walk = Walk {
            topic: self,
            here: SmallVec::new(),
            repeating: SmallVec::new(),
            repeating_index: HashSet::new(),
        };
        walk.enter(ROOT, routes);
        let mut before: SmallVec<[NodeId; 8]> = SmallVec::new();
        for word in words_of(routing_key) {
            let word = self.words.find(word);
            std::mem::swap(&mut before, &mut walk.here);
            walk.here.clear();
            // Nodes under a `#` that begin only now have consumed no word yet: they step from the next word on.
            let repeating = walk.repeating.len();
            for &at in &before {
                walk.step(at, word, routes);
            }
            for index in 0..repeating {
                walk.step(walk.repeating[index], word, routes);
            }
            if walk.here.is_empty() && walk.repeating.is_empty() {
                return;
            }
        }
        for &at in &walk.here {
            self.nodes[at.index()].targets.matches(routes);
        }
    }
}

/// One routing key on its way through the trie.
struct Walk<'a, T> {
    topic: &'a Topic<T>,
    /// The nodes reached with exactly the words so far, other than those of a `#`.
    here: SmallVec<[NodeId; 8]>,
    /// The nodes of a `#` reached so far. They stay reached whatever words follow, so they are entered once for good.
    repeating: SmallVec<[NodeId; 8]>,
    /// The same, once there are more than [`SCANNED_MAX`].
    repeating_index: HashSet<NodeId>,
}

/// Up to here, looking through the nodes one by one is faster than hashing.
const SCANNED_MAX: usize = 16;

impl<T: Clone + Eq + Hash> Walk<'_, T> {
    fn step(&mut self, at: NodeId, word: Option<WordId>, routes: &mut RouteSet<T>) {
        let node = &self.topic.nodes[at.index()];
        if let Some(one) = node.one {
            self.enter(one, routes);
        }
        if let Some(word) = word
            && node.words > 0
            && let Some(child) = self.topic.edges.find(at, word)
        {
            self.enter(child, routes);
        }
    }

    /// Reaches a node, and the node of a `#` that follows it with no word at all.
    fn enter(&mut self, at: NodeId, routes: &mut RouteSet<T>) {
        let node = &self.topic.nodes[at.index()];
        self.here.push(at);
        let Some(many) = node.many else { return };
        if self.repeat(many) {
            // A `#` at the end takes all the words to come.
            self.topic.nodes[many.index()].targets.matches(routes);
        }
    }

    /// Notes that the node of a `#` is reached. Says whether that is new.
    fn repeat(&mut self, many: NodeId) -> bool {
        let reached = self.repeating.len();
        let known = if reached <= SCANNED_MAX {
            self.repeating.contains(&many)
        } else {
            self.repeating_index.contains(&many)
        };
        if known {
            return false;
        }
        self.repeating.push(many);
        if reached == SCANNED_MAX {
            self.repeating_index.extend(&self.repeating);
        } else if reached > SCANNED_MAX {
            self.repeating_index.insert(many);
        }
        true
    }
}

#[cfg(test)]
mod tests;
