//! Routes: where one message goes, and the cache that remembers it per connection.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use super::filter::TagFilter;
use super::name::RoutingKey;

/// A target of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<T> {
    /// The queue or exchange.
    pub target: T,
    /// Tag filters of the bindings that lead here, any of which lets a message through. Empty if a binding without a
    /// filter leads here. A filter on the way through another exchange cannot be expressed: bindings between exchanges
    /// have none.
    pub filters: SmallVec<[TagFilter; 1]>,
}

impl<T> Route<T> {
    /// Whether a message with this list of tags goes here.
    pub fn accepts(&self, tags: Option<&[u8]>) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| filter.matches(tags))
    }
}

/// Where all messages with one routing key go, shared.
pub type Routes<T> = Arc<[Route<T>]>;

/// Routes in the making: each target once, however many bindings lead to it.
#[derive(Debug)]
pub struct RouteSet<T> {
    routes: Vec<Route<T>>,
    /// Where each target is, once there are more than [`SCANNED_MAX`].
    index: HashMap<T, usize>,
    by_headers: bool,
}

/// Up to here, looking through the routes one by one is faster than hashing.
const SCANNED_MAX: usize = 16;

impl<T: Clone + Eq + Hash> RouteSet<T> {
    /// No routes.
    pub fn new() -> Self {
        Self {
            routes: Vec::new(),
            index: HashMap::new(),
            by_headers: false,
        }
    }

    /// Adds a target reached without a filter, or with one of these filters.
    pub fn add(&mut self, target: &T, filters: &[TagFilter]) {
        match self.position(target) {
            None => self.push(target, filters),
            Some(at) => {
                let known = &mut self.routes[at].filters;
                if filters.is_empty() {
                    known.clear();
                } else if !known.is_empty() {
                    for filter in filters {
                        if !known.contains(filter) {
                            known.push(filter.clone());
                        }
                    }
                }
            }
        }
    }

    fn position(&self, target: &T) -> Option<usize> {
        if self.routes.len() <= SCANNED_MAX {
            self.routes.iter().position(|route| route.target == *target)
        } else {
            self.index.get(target).copied()
        }
    }

    fn push(&mut self, target: &T, filters: &[TagFilter]) {
        let at = self.routes.len();
        self.routes.push(Route {
            target: target.clone(),
            filters: filters.into(),
        });
        if at == SCANNED_MAX {
            self.index.extend(
                self.routes
                    .iter()
                    .enumerate()
                    .map(|(at, route)| (route.target.clone(), at)),
            );
        } else if at > SCANNED_MAX {
            self.index.insert(target.clone(), at);
        }
    }

    /// Notes that these are the routes of one message only, because its headers were asked.
    pub fn depend_on_headers(&mut self) {
        self.by_headers = true;
    }

    /// The routes so far.
    pub fn as_slice(&self) -> &[Route<T>] {
        &self.routes
    }

    /// The routes, in the order their targets were first added.
    pub fn into_routes(self) -> Vec<Route<T>> {
        self.routes
    }
}

impl<T: Clone + Eq + Hash> Default for RouteSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts the changes to the exchanges and bindings of a vhost. Whoever changes them bumps it before letting go of the
/// lock that guards them.
#[derive(Debug, Default)]
pub struct RouteVersion(AtomicU64);

impl RouteVersion {
    /// Makes all that was cached so far stale.
    pub fn bump(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// What a cache compares with the version it was filled at.
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The default limit of a [`RouteCache`], in entries.
pub const ENTRIES_DEFAULT: usize = 1024;
/// The most routes all entries of a cache may hold together. An entry above it is only remembered as the last.
pub const ROUTES_MAX: usize = 65_536;

/// What one connection remembers of routing in one vhost: exchange and routing key to routes.
///
/// A hit is one or two table look-ups, none if exchange and key are those of the message before. A change anywhere in the
/// vhost empties it at the next use. It holds on to its targets until then, so a target that is gone must say so itself.
/// Routes that depend on headers are not remembered.
#[derive(Debug)]
pub struct RouteCache<T> {
    version: u64,
    last: Option<Last<T>>,
    young: Generation<T>,
    old: Generation<T>,
    generation_entries_max: usize,
}

/// The routes that were handed out last.
#[derive(Debug)]
struct Last<T> {
    exchange: u64,
    key: RoutingKey,
    routes: Routes<T>,
    /// Whether they hold for another message with the same key.
    by_key: bool,
}

/// Half of a cache. When the young half is full it becomes the old one, and what the old one held is forgotten: what was
/// used lately stays, at no cost per hit.
#[derive(Debug)]
struct Generation<T> {
    exchanges: HashMap<u64, HashMap<RoutingKey, Routes<T>>>,
    entries: usize,
    routes: usize,
}

impl<T> Default for Generation<T> {
    fn default() -> Self {
        Self {
            exchanges: HashMap::new(),
            entries: 0,
            routes: 0,
        }
    }
}

impl<T> Generation<T> {
    fn find(&self, exchange: u64, key: &RoutingKey) -> Option<&Routes<T>> {
        self.exchanges.get(&exchange)?.get(key)
    }

    fn insert(&mut self, exchange: u64, key: RoutingKey, routes: Routes<T>) {
        self.entries += 1;
        self.routes += routes.len();
        self.exchanges
            .entry(exchange)
            .or_default()
            .insert(key, routes);
    }
}

impl<T: Clone + Eq + Hash> Default for RouteCache<T> {
    fn default() -> Self {
        Self::new(ENTRIES_DEFAULT)
    }
}

impl<T: Clone + Eq + Hash> RouteCache<T> {
    /// An empty cache that remembers at most so many entries besides the last one, and [`ROUTES_MAX`] routes.
    pub fn new(entries_max: usize) -> Self {
        Self {
            version: 0,
            last: None,
            young: Generation::default(),
            old: Generation::default(),
            generation_entries_max: entries_max / 2,
        }
    }

    /// The routes from the exchange with this id under this key, from memory or by asking `resolve`.
    ///
    /// The id must never be used for another exchange of the vhost.
    pub fn routes(
        &mut self,
        version: &RouteVersion,
        exchange: u64,
        key: &RoutingKey,
        resolve: impl FnOnce(&mut RouteSet<T>),
    ) -> &Routes<T> {
        // Read before resolving: a change that comes while resolving makes the answer stale at the next use.
        let current = version.current();
        if current != self.version {
            self.clear();
            self.version = current;
        }
        let last = match self.last.take() {
            Some(last) if last.by_key && last.exchange == exchange && last.key == *key => last,
            _ => self.find_or_resolve(exchange, key, resolve),
        };
        &self.last.insert(last).routes
    }

    fn find_or_resolve(
        &mut self,
        exchange: u64,
        key: &RoutingKey,
        resolve: impl FnOnce(&mut RouteSet<T>),
    ) -> Last<T> {
        // A key is kept apart from the frame it came in, whose buffer it would otherwise hold on to.
        let found = |routes: &Routes<T>| Last {
            exchange,
            key: key.compact(),
            routes: Arc::clone(routes),
            by_key: true,
        };
        if let Some(routes) = self.young.find(exchange, key) {
            return found(routes);
        }
        let last = match self.old.find(exchange, key) {
            Some(routes) => found(routes),
            None => {
                let mut routes = RouteSet::new();
                resolve(&mut routes);
                let by_key = !routes.by_headers;
                Last {
                    exchange,
                    key: key.compact(),
                    routes: routes.into_routes().into(),
                    by_key,
                }
            }
        };
        if last.by_key {
            self.remember(&last);
        }
        last
    }

    fn remember(&mut self, last: &Last<T>) {
        let Last {
            exchange,
            key,
            routes,
            ..
        } = last;
        if routes.len() > ROUTES_MAX / 2 || self.generation_entries_max == 0 {
            return;
        }
        if self.young.entries >= self.generation_entries_max
            || self.young.routes + routes.len() > ROUTES_MAX / 2
        {
            self.old = std::mem::take(&mut self.young);
        }
        self.young
            .insert(*exchange, key.clone(), Arc::clone(routes));
    }

    /// Forgets everything, and with it the targets it kept alive.
    pub fn clear(&mut self) {
        self.last = None;
        self.young = Generation::default();
        self.old = Generation::default();
    }

    /// How many entries it remembers, besides the last.
    pub fn len(&self) -> usize {
        self.young.entries + self.old.entries
    }

    /// Whether it remembers nothing.
    pub fn is_empty(&self) -> bool {
        self.last.is_none() && self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(target: u32) -> impl FnOnce(&mut RouteSet<u32>) {
        move |routes| routes.add(&target, &[])
    }

    fn key(text: &str) -> RoutingKey {
        RoutingKey::parse(text.to_owned()).unwrap()
    }

    fn unasked(_: &mut RouteSet<u32>) {
        panic!("the routes should have been remembered")
    }

    fn filter(list: &[u8]) -> TagFilter {
        TagFilter::parse(list).unwrap()
    }

    #[test]
    fn a_target_is_added_once_however_many() {
        let mut set = RouteSet::new();
        for target in (0..100).chain(0..100) {
            set.add(&target, &[]);
        }
        assert!(
            set.into_routes()
                .iter()
                .map(|route| route.target)
                .eq(0..100)
        );
    }

    #[test]
    fn a_binding_without_filter_opens_the_route_for_all() {
        for (first, second) in [(vec![filter(b"a")], vec![]), (vec![], vec![filter(b"a")])] {
            let mut set = RouteSet::new();
            set.add(&1, &first);
            set.add(&1, &second);
            assert!(set.as_slice()[0].accepts(None));
        }
    }

    #[test]
    fn any_of_several_filters_lets_a_message_through() {
        let mut set = RouteSet::new();
        set.add(&1, &[filter(b"a")]);
        set.add(&1, &[filter(b"b"), filter(b"a")]);
        let routes = set.into_routes();
        assert_eq!(routes[0].filters.len(), 2);
        assert!(routes[0].accepts(Some(b"b")) && routes[0].accepts(Some(b"a,x")));
        assert!(!routes[0].accepts(Some(b"c")) && !routes[0].accepts(None));
    }

    #[test]
    fn what_was_resolved_once_is_remembered_by_exchange_and_key() {
        let (mut cache, version) = (RouteCache::default(), RouteVersion::default());
        assert_eq!(cache.routes(&version, 1, &key("a"), to(1))[0].target, 1);
        assert_eq!(cache.routes(&version, 1, &key("a"), unasked)[0].target, 1);
        assert_eq!(cache.routes(&version, 2, &key("a"), to(2))[0].target, 2);
        assert_eq!(cache.routes(&version, 1, &key("b"), to(3))[0].target, 3);
        assert_eq!(cache.routes(&version, 1, &key("a"), unasked)[0].target, 1);
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn a_change_empties_the_cache() {
        let (mut cache, version) = (RouteCache::default(), RouteVersion::default());
        cache.routes(&version, 1, &key("a"), to(1));
        version.bump();
        assert_eq!(cache.routes(&version, 1, &key("a"), to(2))[0].target, 2);
    }

    #[test]
    fn a_change_while_resolving_is_not_missed() {
        let (mut cache, version) = (RouteCache::default(), RouteVersion::default());
        let resolve = |routes: &mut RouteSet<u32>| {
            version.bump();
            routes.add(&1, &[]);
        };
        cache.routes(&version, 1, &key("a"), resolve);
        assert_eq!(cache.routes(&version, 1, &key("a"), to(2))[0].target, 2);
    }

    #[test]
    fn entries_are_bounded_and_those_in_use_stay() {
        let (mut cache, version) = (RouteCache::new(8), RouteVersion::default());
        cache.routes(&version, 1, &key("hot"), to(0));
        for n in 0..100 {
            cache.routes(&version, 1, &key(&format!("cold{n}")), to(n));
            assert_eq!(cache.routes(&version, 1, &key("hot"), unasked)[0].target, 0);
            assert!(cache.len() <= 8);
        }
    }

    #[test]
    fn routes_are_bounded_too() {
        let (mut cache, version) = (RouteCache::default(), RouteVersion::default());
        let many = |count: u32| {
            move |routes: &mut RouteSet<u32>| (0..count).for_each(|target| routes.add(&target, &[]))
        };
        for n in 0..10 {
            cache.routes(&version, 1, &key(&n.to_string()), many(20_000));
        }
        assert!(cache.young.routes + cache.old.routes <= ROUTES_MAX);
        let huge = cache.routes(&version, 1, &key("huge"), many(60_000));
        assert_eq!(huge.len(), 60_000);
        assert!(
            cache.old.find(1, &key("huge")).is_none()
                && cache.young.find(1, &key("huge")).is_none()
        );
        assert_eq!(
            cache.routes(&version, 1, &key("huge"), unasked).len(),
            60_000
        );
    }

    #[test]
    fn routes_by_headers_hold_for_one_message_only() {
        let (mut cache, version) = (RouteCache::default(), RouteVersion::default());
        for target in [1, 2] {
            let resolve = |routes: &mut RouteSet<u32>| {
                routes.add(&target, &[]);
                routes.depend_on_headers();
            };
            assert_eq!(
                cache.routes(&version, 1, &key("a"), resolve)[0].target,
                target
            );
        }
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_cleared_cache_lets_its_targets_go() {
        let (mut cache, version) = (RouteCache::default(), RouteVersion::default());
        let queue = Arc::new(());
        cache.routes(&version, 1, &key("a"), |routes| routes.add(&queue, &[]));
        cache.clear();
        assert!(cache.is_empty());
        assert_eq!(Arc::strong_count(&queue), 1);
    }
}
