//! Fanout: every binding, whatever its key.

use std::hash::Hash;

use super::targets::Targets;
use crate::engine::binding::Binding;
use crate::engine::route::RouteSet;

#[derive(Debug)]
pub(super) struct Fanout<T> {
    targets: Targets<T>,
}

impl<T: Clone + Eq + Hash> Fanout<T> {
    pub(super) fn new() -> Self {
        Self {
            targets: Targets::new(),
        }
    }

    pub(super) fn insert(&mut self, binding: &Binding, target: &T) {
        self.targets.insert(target, binding.filter());
    }

    pub(super) fn remove(&mut self, binding: &Binding, target: &T) {
        self.targets.remove(target, binding.filter());
    }

    pub(super) fn matches(&self, routes: &mut RouteSet<T>) {
        self.targets.matches(routes);
    }
}
