use super::*;
use crate::engine::binding::FILTER_ARGUMENT;
use crate::engine::name::BindingKey;

const KINDS: [ExchangeKind; 4] = [
    ExchangeKind::Direct,
    ExchangeKind::Fanout,
    ExchangeKind::Topic,
    ExchangeKind::Headers,
];

fn plain(key: &'static str) -> Binding {
    Binding::plain(BindingKey::from_static(key))
}

fn with(key: &'static str, name: &'static str, value: &'static str) -> Binding {
    Binding::new(
        BindingKey::from_static(key),
        Arguments::from([(name, value)]),
    )
    .unwrap()
}

fn targets(bindings: &Bindings<u32>, key: &str, headers: &impl MessageHeaders) -> Vec<u32> {
    let mut routes = RouteSet::new();
    bindings.matches(key.as_bytes(), headers, &mut routes);
    let mut targets: Vec<u32> = routes.as_slice().iter().map(|route| route.target).collect();
    targets.sort_unstable();
    targets
}

#[test]
fn kinds_have_the_names_protocols_use() {
    for kind in KINDS {
        assert_eq!(kind.name().parse(), Ok(kind));
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
    let error = "x-random".parse::<ExchangeKind>().unwrap_err().to_string();
    assert!(
        error.starts_with("'x-random' is not a type of exchange"),
        "{error}"
    );
}

#[test]
fn binding_twice_changes_nothing() {
    for kind in KINDS {
        let mut bindings = Bindings::new(kind);
        assert!(bindings.insert(plain("a"), 1).unwrap());
        assert!(!bindings.insert(plain("a"), 1).unwrap(), "{kind}");
        assert_eq!(bindings.len(), 1);
        assert!(bindings.remove(&plain("a"), &1));
        assert!(!bindings.remove(&plain("a"), &1), "{kind}");
        assert!(bindings.is_empty() && bindings.iter().next().is_none());
        assert_eq!(targets(&bindings, "a", &()), [0; 0]);
    }
}

#[test]
fn a_target_bound_twice_gets_one_copy_until_both_are_gone() {
    for kind in KINDS {
        let mut bindings = Bindings::new(kind);
        bindings.insert(plain("a"), 1).unwrap();
        bindings.insert(with("a", "x-other", "b"), 1).unwrap();
        assert_eq!(bindings.len(), 2);
        assert_eq!(targets(&bindings, "a", &()), [1], "{kind}");
        bindings.remove(&plain("a"), &1);
        assert_eq!(targets(&bindings, "a", &()), [1], "{kind}");
        bindings.remove(&with("a", "x-other", "b"), &1);
        assert_eq!(targets(&bindings, "a", &()), [0; 0], "{kind}");
    }
}

#[test]
fn a_deleted_target_takes_all_its_bindings_along() {
    for kind in KINDS {
        let mut bindings = Bindings::new(kind);
        for key in ["a", "b", "c"] {
            bindings.insert(plain(key), 1).unwrap();
            bindings.insert(plain(key), 2).unwrap();
        }
        assert_eq!(bindings.remove_target(&1), 3);
        assert_eq!(bindings.remove_target(&1), 0);
        assert_eq!(bindings.len(), 3);
        assert_eq!(bindings.of_target(&1).count(), 0);
        assert_eq!(bindings.of_target(&2).count(), 3);
        assert_eq!(targets(&bindings, "a", &()), [2], "{kind}");
    }
}

#[test]
fn each_kind_reads_the_key_in_its_own_way() {
    for (kind, expected) in [
        (ExchangeKind::Direct, vec![1]),
        (ExchangeKind::Fanout, vec![1, 2, 3]),
        (ExchangeKind::Topic, vec![1, 2]),
        (ExchangeKind::Headers, vec![1, 2, 3]),
    ] {
        let mut bindings = Bindings::new(kind);
        for (target, key) in [(1, "a.b"), (2, "a.*"), (3, "c")] {
            bindings.insert(plain(key), target).unwrap();
        }
        assert_eq!(targets(&bindings, "a.b", &()), expected, "{kind}");
    }
}

#[test]
fn headers_bindings_ask_for_their_arguments() {
    let mut bindings = Bindings::new(ExchangeKind::Headers);
    bindings.insert(with("", "colour", "red"), 1).unwrap();
    bindings.insert(with("", "colour", "blue"), 2).unwrap();
    assert_eq!(
        targets(&bindings, "", &Arguments::from([("colour", "red")])),
        [1]
    );
    assert_eq!(targets(&bindings, "", &()), [0; 0]);
    assert!(bindings.insert(with("", "x-match", "most"), 3).is_err());
    assert_eq!(bindings.len(), 2);
    assert!(!bindings.contains(&with("", "x-match", "most"), &3));
}

#[test]
fn filters_travel_with_the_route() {
    for kind in KINDS {
        let mut bindings = Bindings::new(kind);
        bindings
            .insert(with("a", FILTER_ARGUMENT, "red"), 1)
            .unwrap();
        bindings
            .insert(with("a", FILTER_ARGUMENT, "blue,green"), 1)
            .unwrap();
        bindings.insert(plain("a"), 2).unwrap();
        let accepted = |bindings: &Bindings<u32>, tags: Option<&[u8]>| {
            let mut routes = RouteSet::new();
            bindings.matches(b"a", &(), &mut routes);
            let mut targets: Vec<u32> = routes
                .as_slice()
                .iter()
                .filter(|route| route.accepts(tags))
                .map(|route| route.target)
                .collect();
            targets.sort_unstable();
            targets
        };
        assert_eq!(accepted(&bindings, None), [2], "{kind}");
        assert_eq!(accepted(&bindings, Some(b"green")), [1, 2], "{kind}");
        assert_eq!(accepted(&bindings, Some(b"grey")), [2], "{kind}");
        bindings.insert(plain("a"), 1).unwrap();
        assert_eq!(accepted(&bindings, None), [1, 2], "{kind}");
        bindings.remove(&plain("a"), &1);
        assert_eq!(accepted(&bindings, Some(b"grey")), [2], "{kind}");
    }
}
