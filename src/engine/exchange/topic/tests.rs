use proptest::prelude::*;

use super::*;
use crate::engine::name::BindingKey;

fn binding(pattern: &str) -> Binding {
    Binding::plain(BindingKey::parse(pattern.to_owned()).unwrap())
}

fn targets(topic: &Topic<usize>, key: &str) -> Vec<usize> {
    let mut routes = RouteSet::new();
    topic.matches(key.as_bytes(), &mut routes);
    let mut targets: Vec<usize> = routes
        .into_routes()
        .into_iter()
        .map(|route| route.target)
        .collect();
    targets.sort_unstable();
    targets
}

fn topic(patterns: &[&str]) -> Topic<usize> {
    let mut topic = Topic::new();
    for (target, pattern) in patterns.iter().enumerate() {
        topic.insert(&binding(pattern), &target);
    }
    topic
}

/// The rule, written down as plainly as possible.
fn matches_naively(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            matches_naively(rest, key) || (!key.is_empty() && matches_naively(pattern, &key[1..]))
        }
        (["*", rest @ ..], [_, words @ ..]) => matches_naively(rest, words),
        ([word, rest @ ..], [first, words @ ..]) => word == first && matches_naively(rest, words),
        _ => false,
    }
}

fn split(key: &str) -> Vec<&str> {
    if key.is_empty() {
        Vec::new()
    } else {
        key.split('.').collect()
    }
}

#[test]
fn patterns_match_as_the_field_expects() {
    for (pattern, yes, no) in [
        ("a.b", vec!["a.b"], vec!["a", "a.b.c", "a.c", "ab", ""]),
        ("*", vec!["a", "b"], vec!["", "a.b"]),
        ("#", vec!["", "a", "a.b", ".", "a..b"], vec![]),
        ("a.#", vec!["a", "a.b", "a.b.c", "a."], vec!["b", "ab", ""]),
        ("#.a", vec!["a", "b.a", "a.a", ".a"], vec!["", "a.b", "ba"]),
        (
            "1.#.0",
            vec!["1.0", "1.2.0", "1.2.3.0"],
            vec!["1", "0", "1.0.2"],
        ),
        ("a.*.c", vec!["a.b.c", "a..c"], vec!["a.c", "a.b.b.c"]),
        ("*.#", vec!["a", "a.b"], vec![""]),
        ("#.#", vec!["", "a", "a.b"], vec![]),
        (
            "#.*.#.b.#",
            vec!["a.b", "b.b", "a.b.c", "x.y.b.z"],
            vec!["b", "a", "b.a"],
        ),
        ("", vec![""], vec!["a", "."]),
        (".", vec!["."], vec!["", "a", ".."]),
        ("a*.#b", vec!["a*.#b"], vec!["ax.b", "a.b"]),
    ] {
        let topic = topic(&[pattern]);
        for key in yes {
            assert_eq!(targets(&topic, key), [0], "'{pattern}' and '{key}'");
        }
        for key in no {
            assert_eq!(targets(&topic, key), [0; 0], "'{pattern}' and '{key}'");
        }
    }
}

#[test]
fn a_removed_pattern_leaves_nothing_behind() {
    let patterns = ["a.b.c", "a.b", "a.*.#.c", "#", "x.#.y.#", "x.#"];
    let mut topic = topic(&patterns);
    for (target, pattern) in patterns.iter().enumerate() {
        topic.remove(&binding(pattern), &target);
    }
    assert_eq!(
        topic.nodes.len() - topic.free.len(),
        1,
        "only the root is left"
    );
    assert!(topic.edges.is_empty());
    assert_eq!(topic.words.len(), 0);
    topic.insert(&binding("a.b"), &7);
    assert_eq!(targets(&topic, "a.b"), [7]);
}

#[test]
fn removing_a_pattern_that_is_not_there_changes_nothing() {
    let mut topic = topic(&["a.b"]);
    for pattern in ["a", "a.b.c", "a.*", "#", "z"] {
        topic.remove(&binding(pattern), &0);
    }
    topic.remove(&binding("a.b"), &1);
    assert_eq!(targets(&topic, "a.b"), [0]);
}

#[test]
fn patterns_that_match_alike_share_a_node() {
    let mut topic = topic(&["#.*", "*.#", "#.*.#", "*.#.#"]);
    assert_eq!(topic.nodes.len(), 3);
    assert_eq!(targets(&topic, "a"), [0, 1, 2, 3]);
    topic.remove(&binding("#.*"), &0);
    assert_eq!(targets(&topic, "a"), [1, 2, 3]);
}

#[test]
fn many_repeating_patterns_do_not_blow_up() {
    // Every prefix of `#.a.#.a ...`, ending in a word that the key lacks: a matcher that backtracks would try each way of
    // sharing 128 words among up to 60 of them, which does not end.
    let patterns: Vec<String> = (1..60)
        .map(|depth| format!("{}b", "#.a.".repeat(depth)))
        .collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let topic = topic(&patterns);
    let key = vec!["a"; 128].join(".");
    assert_eq!(targets(&topic, &key), [0; 0]);
    assert_eq!(
        targets(&topic, &format!("{}.b", vec!["a"; 100].join("."))).len(),
        59
    );
}

proptest! {
    #[test]
    fn the_trie_agrees_with_the_plain_rule(
        patterns in proptest::collection::vec("([ab*#]|)(\\.([ab*#]|)){0,6}", 0..40),
        removed in proptest::collection::vec(any::<bool>(), 40),
        keys in proptest::collection::vec("([abc]|)(\\.([abc]|)){0,7}", 1..12),
    ) {
        let strs: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let mut topic = topic(&strs);
        let mut left = Vec::new();
        for (target, pattern) in patterns.iter().enumerate() {
            if removed[target] {
                topic.remove(&binding(pattern), &target);
            } else {
                left.push((target, pattern));
            }
        }
        for key in &keys {
            let expected: Vec<usize> =
                left.iter().filter(|(_, pattern)| matches_naively(&split(pattern), &split(key))).map(|(target, _)| *target).collect();
            prop_assert_eq!(targets(&topic, key), expected, "key '{}' with {:?}", key, left);
        }
    }
}
