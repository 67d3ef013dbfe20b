//! Targets that share one place in a table: a key, a pattern, or a whole fanout exchange.

use std::collections::HashMap;
use std::hash::Hash;

use smallvec::SmallVec;

use crate::engine::filter::TagFilter;
use crate::engine::route::RouteSet;

/// Up to here, looking through the targets one by one is faster, and far smaller, than a table.
const SCANNED_MAX: usize = 8;

/// Targets, each with how many bindings lead to it from here.
#[derive(Debug)]
pub(super) struct Targets<T> {
    slots: Vec<Slot<T>>,
    /// Where each target is, once there are more than [`SCANNED_MAX`].
    #[expect(
        clippy::box_collection,
        reason = "a trie has one of these per node, nearly all without it: a pointer, not a table"
    )]
    index: Option<Box<HashMap<T, usize>>>,
}

#[derive(Debug)]
struct Slot<T> {
    target: T,
    /// Bindings without a filter.
    open: usize,
    /// The filter of each other binding; repeated where several bindings differ only elsewhere.
    filters: SmallVec<[TagFilter; 1]>,
}

impl<T: Clone + Eq + Hash> Targets<T> {
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            index: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn position(&self, target: &T) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(target).copied(),
            None => self.slots.iter().position(|slot| slot.target == *target),
        }
    }

    /// Counts a binding to a target.
    pub(super) fn insert(&mut self, target: &T, filter: Option<&TagFilter>) {
        let at = self.position(target).unwrap_or_else(|| {
            let at = self.slots.len();
            self.slots.push(Slot {
                target: target.clone(),
                open: 0,
                filters: SmallVec::new(),
            });
            match &mut self.index {
                Some(index) => {
                    index.insert(target.clone(), at);
                }
                None if at == SCANNED_MAX => {
                    let index = self
                        .slots
                        .iter()
                        .enumerate()
                        .map(|(at, slot)| (slot.target.clone(), at));
                    self.index = Some(Box::new(index.collect()));
                }
                None => {}
            }
            at
        });
        match filter {
            None => self.slots[at].open += 1,
            Some(filter) => self.slots[at].filters.push(filter.clone()),
        }
    }

    /// Uncounts a binding to a target that was counted with the same filter.
    pub(super) fn remove(&mut self, target: &T, filter: Option<&TagFilter>) {
        let Some(at) = self.position(target) else {
            return;
        };
        let slot = &mut self.slots[at];
        match filter {
            None => slot.open -= 1,
            Some(filter) => {
                if let Some(which) = slot.filters.iter().position(|known| known == filter) {
                    slot.filters.swap_remove(which);
                }
            }
        }
        if slot.open > 0 || !slot.filters.is_empty() {
            return;
        }
        self.slots.swap_remove(at);
        if self.slots.len() <= SCANNED_MAX / 2 {
            self.index = None;
        } else if let Some(index) = &mut self.index {
            index.remove(target);
            if let Some(moved) = self.slots.get(at) {
                index.insert(moved.target.clone(), at);
            }
        }
    }

    pub(super) fn matches(&self, routes: &mut RouteSet<T>) {
        for slot in &self.slots {
            let filters = if slot.open > 0 {
                &[]
            } else {
                slot.filters.as_slice()
            };
            routes.add(&slot.target, filters);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn targets_behave_like_a_list_of_bindings(steps in proptest::collection::vec((any::<bool>(), 0_u8..24, 0_usize..3), 0..200)) {
            let filters = [None, Some(TagFilter::parse(b"a").unwrap()), Some(TagFilter::parse(b"b").unwrap())];
            let mut targets = Targets::new();
            let mut model: Vec<(u8, usize)> = Vec::new();
            for (insert, target, filter) in steps {
                if insert {
                    targets.insert(&target, filters[filter].as_ref());
                    model.push((target, filter));
                } else if let Some(at) = model.iter().position(|known| *known == (target, filter)) {
                    targets.remove(&target, filters[filter].as_ref());
                    model.swap_remove(at);
                }
                let mut routes = RouteSet::new();
                targets.matches(&mut routes);
                prop_assert_eq!(targets.is_empty(), model.is_empty());
                for tags in [None, Some(&b"a"[..]), Some(b"b")] {
                    let mut got: Vec<u8> = routes.as_slice().iter().filter(|route| route.accepts(tags)).map(|route| route.target).collect();
                    let mut expected: Vec<u8> = model
                        .iter()
                        .filter(|(_, filter)| filters[*filter].as_ref().is_none_or(|filter| filter.matches(tags)))
                        .map(|(target, _)| *target)
                        .collect();
                    got.sort_unstable();
                    expected.sort_unstable();
                    expected.dedup();
                    prop_assert_eq!(got, expected);
                }
            }
        }
    }
}
