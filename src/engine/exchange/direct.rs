//! Direct: the routing key equals the binding key.

use std::collections::HashMap;
use std::hash::Hash;

use super::targets::Targets;
use crate::engine::binding::Binding;
use crate::engine::name::BindingKey;
use crate::engine::route::RouteSet;

#[derive(Debug)]
pub(super) struct Direct<T> {
    keys: HashMap<BindingKey, Targets<T>>,
}

impl<T: Clone + Eq + Hash> Direct<T> {
    pub(super) fn new() -> Self {
        Self {
            keys: HashMap::new(),
        }
    }

    pub(super) fn insert(&mut self, binding: &Binding, target: &T) {
        match self.keys.get_mut(binding.key()) {
            Some(targets) => targets.insert(target, binding.filter()),
            None => {
                let mut targets = Targets::new();
                targets.insert(target, binding.filter());
                self.keys.insert(binding.key().clone(), targets);
            }
        }
    }

    pub(super) fn remove(&mut self, binding: &Binding, target: &T) {
        if let Some(targets) = self.keys.get_mut(binding.key()) {
            targets.remove(target, binding.filter());
            if targets.is_empty() {
                self.keys.remove(binding.key());
            }
        }
    }

    pub(super) fn matches(&self, routing_key: &[u8], routes: &mut RouteSet<T>) {
        if let Some(targets) = self.keys.get(routing_key) {
            targets.matches(routes);
        }
    }
}
