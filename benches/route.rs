//! Routing: topic look-ups over many bindings, and what the route cache saves.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use millpond::engine::binding::Binding;
use millpond::engine::exchange::{Bindings, ExchangeKind};
use millpond::engine::name::{BindingKey, RoutingKey};
use millpond::engine::route::{RouteCache, RouteSet, RouteVersion};

/// Mostly exact keys, some with `*`, few with `#`, as a plant with many devices would have them.
fn pattern(n: usize) -> String {
    match n % 20 {
        0 => format!("site{}.#", n % 500),
        1..=3 => format!("site{}.*.device{n}", n % 500),
        4 => format!("#.device{n}"),
        _ => format!("site{}.line{}.device{n}", n % 500, n % 50),
    }
}

fn bindings(count: usize) -> Bindings<usize> {
    let mut bindings = Bindings::new(ExchangeKind::Topic);
    for n in 0..count {
        let key = BindingKey::parse(pattern(n)).expect("short enough");
        bindings
            .insert(Binding::plain(key), n)
            .expect("a topic binding");
    }
    bindings
}

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("topic");
    for count in [100, 10_000, 100_000] {
        let bindings = bindings(count);
        let keys: Vec<String> = (0..1000)
            .map(|n| format!("site{}.line{}.device{}", n % 500, n % 50, n * 97 % count))
            .collect();
        let mut next = keys.iter().cycle();
        group.bench_function(BenchmarkId::new("lookup", count), |b| {
            b.iter(|| {
                let mut routes = RouteSet::new();
                let key = next.next().expect("a cycle never ends");
                bindings.matches(key.as_bytes(), &(), &mut routes);
                black_box(routes.into_routes())
            });
        });
    }
    let count = 100_000;
    group
        .sample_size(10)
        .bench_function(BenchmarkId::new("build", count), |b| {
            b.iter(|| bindings(count))
        });
    group.finish();
}

/// The worst a tenant can do with 100,000 bindings: every node of the trie is reached by every word.
fn hostile(c: &mut Criterion) {
    let mut bindings = Bindings::new(ExchangeKind::Topic);
    for n in 0..100_000_usize {
        let words: Vec<&str> = (0..17)
            .map(|bit| if n >> bit & 1 == 0 { "a" } else { "#.a" })
            .collect();
        let key = BindingKey::parse(words.join(".") + ".b").expect("short enough");
        bindings
            .insert(Binding::plain(key), n)
            .expect("a topic binding");
    }
    let key = vec!["a"; 64].join(".");
    c.benchmark_group("topic")
        .sample_size(10)
        .bench_function("hostile", |b| {
            b.iter(|| {
                let mut routes = RouteSet::new();
                bindings.matches(key.as_bytes(), &(), &mut routes);
                black_box(routes.into_routes())
            });
        });
}

fn cache(c: &mut Criterion) {
    let bindings = bindings(100_000);
    let version = RouteVersion::default();
    let resolve = |key: &RoutingKey, routes: &mut RouteSet<usize>| {
        bindings.matches(key.as_bytes(), &(), routes)
    };
    let keys: Vec<RoutingKey> = (0..100)
        .map(|n| RoutingKey::parse(format!("site{n}.line{n}.device{n}")).expect("short enough"))
        .collect();
    let mut group = c.benchmark_group("cache");
    let mut same = RouteCache::default();
    group.bench_function("same key", |b| {
        b.iter(|| {
            black_box(
                same.routes(&version, 1, &keys[0], |routes| resolve(&keys[0], routes))
                    .len(),
            )
        })
    });
    let mut many = RouteCache::default();
    let mut next = keys.iter().cycle();
    group.bench_function("100 keys", |b| {
        b.iter(|| {
            let key = next.next().expect("a cycle never ends");
            black_box(
                many.routes(&version, 1, key, |routes| resolve(key, routes))
                    .len(),
            )
        });
    });
    group.finish();
}

criterion_group!(benches, lookups, hostile, cache);
criterion_main!(benches);
