//! Exchanges and bindings, before and after a restart.

use super::*;
use crate::engine::filter::TagFilter;

fn spec(kind: ExchangeKind) -> ExchangeSpec {
    ExchangeSpec {
        kind,
        durability: Durability::Durable,
        auto_delete: false,
        arguments: none(),
    }
}

fn declare(
    mill: &TestBroker,
    name: &'static str,
    spec: &ExchangeSpec,
) -> Result<ExchangeName, EngineError> {
    let name = ExchangeName::from_static(name);
    mill.turn(|turn| mill.vhost.declare_exchange(turn, &mill.who, &name, spec))
        .map(|()| name)
}

fn unbind(mill: &TestBroker, exchange: &ExchangeName, queue: &Arc<LocalQueue>, key: &[u8]) {
    let chosen = |binding: &Binding| binding.key().as_bytes() == key;
    mill.turn(|turn| mill.vhost.unbind(turn, &mill.who, exchange, queue, chosen))
        .unwrap();
}

#[test]
fn declaring_an_exchange_again_finds_it_and_otherwise_is_refused() {
    let mill = TestBroker::new();
    let topic = spec(ExchangeKind::Topic);
    declare(&mill, "x", &topic).unwrap();
    declare(&mill, "x", &topic).unwrap();
    let transient = ExchangeSpec {
        durability: Durability::Transient,
        ..topic.clone()
    };
    let auto_delete = ExchangeSpec {
        auto_delete: true,
        ..topic.clone()
    };
    for (spec, differs) in [
        (spec(ExchangeKind::Fanout), "type"),
        (transient, "durable"),
        (auto_delete, "auto_delete"),
    ] {
        let error = declare(&mill, "x", &spec).unwrap_err().to_string();
        assert!(error.contains(&format!("'{differs}'")), "{error}");
    }
}

#[test]
fn reserved_names_and_the_default_exchange_are_not_for_declaring() {
    let mill = TestBroker::new();
    for name in ["", "amq.mine"] {
        let error = declare(&mill, name, &spec(ExchangeKind::Direct)).unwrap_err();
        assert!(matches!(error, EngineError::AccessRefused { .. }), "{name}");
    }
    assert!(
        declare(&mill, "amq.topic", &spec(ExchangeKind::Topic)).is_ok(),
        "it is there"
    );
    let queue = mill.queue("q", none());
    let binding = Binding::plain(BindingKey::from_static("q"));
    let default = ExchangeName::default_exchange();
    let refused = mill.turn(|turn| mill.vhost.bind(turn, &mill.who, &default, &queue, binding));
    assert!(matches!(refused, Err(EngineError::AccessRefused { .. })));
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding_and_not_before_it_had_one() {
    let mill = TestBroker::new();
    let auto_delete = ExchangeSpec {
        auto_delete: true,
        ..spec(ExchangeKind::Direct)
    };
    let exchange = declare(&mill, "x", &auto_delete).unwrap();
    let (a, b) = (mill.queue("a", none()), mill.queue("b", none()));
    unbind(&mill, &exchange, &a, b"k");
    assert!(
        mill.vhost.exchange(&exchange).is_ok(),
        "nothing was unbound"
    );
    mill.bind(&exchange, &a, "k");
    mill.bind(&exchange, &b, "k");
    unbind(&mill, &exchange, &a, b"k");
    assert!(mill.vhost.exchange(&exchange).is_ok());
    mill.turn(|turn| mill.vhost.delete_queue(turn, &mill.who, b.name()))
        .unwrap();
    assert!(mill.vhost.exchange(&exchange).is_err());
}

#[test]
fn a_deleted_queue_is_not_bound_again() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", none());
    mill.turn(|turn| mill.vhost.delete_queue(turn, &mill.who, queue.name()))
        .unwrap();
    mill.queue("q", none());
    let binding = Binding::plain(BindingKey::from_static("k"));
    let exchange = ExchangeName::amq_direct();
    let refused = mill.turn(|turn| mill.vhost.bind(turn, &mill.who, &exchange, &queue, binding));
    assert!(matches!(refused, Err(EngineError::NotFound { .. })));
}

#[test]
fn a_binding_that_takes_the_place_of_others_leaves_the_rest() {
    let mill = TestBroker::new();
    let queue = mill.queue("q", none());
    let exchange = ExchangeName::amq_topic();
    for key in ["a", "b", "c"] {
        mill.bind(&exchange, &queue, key);
    }
    let instead = Binding::plain(BindingKey::from_static("d"));
    mill.turn(|turn| {
        mill.vhost
            .bind_instead(turn, &mill.who, &exchange, &queue, instead, |other| {
                other.key().as_bytes() != b"c"
            })
    })
    .unwrap();
    let mut keys: Vec<String> = mill
        .vhost
        .bindings(&exchange, &queue)
        .iter()
        .map(|binding| binding.key().to_string())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["c", "d"]);
}

#[test]
fn exchanges_and_bindings_come_back_after_a_restart_with_their_filters() {
    let store = MemoryStore::new();
    let mill = TestBroker::on(&store);
    let exchange = declare(&mill, "x", &spec(ExchangeKind::Topic)).unwrap();
    let transient_exchange = ExchangeSpec {
        durability: Durability::Transient,
        ..spec(ExchangeKind::Topic)
    };
    let gone = declare(&mill, "gone", &transient_exchange).unwrap();
    let (plain, filtered) = (mill.queue("plain", none()), mill.queue("filtered", none()));
    mill.bind(&exchange, &plain, "a.*");
    mill.bind(&exchange, &plain, "removed");
    mill.bind(&gone, &plain, "#");
    let binding = Binding::plain(BindingKey::from_static("a.*"))
        .with_filter(TagFilter::parse(b"wanted").unwrap());
    mill.turn(|turn| {
        mill.vhost
            .bind(turn, &mill.who, &exchange, &filtered, binding)
    })
    .unwrap();
    unbind(&mill, &exchange, &plain, b"removed");
    drop((plain, filtered));
    mill.close();

    let mill = TestBroker::on(&store);
    assert!(mill.vhost.exchange(&gone).is_err());
    let queue = |name| mill.vhost.queue(&QueueName::from_static(name)).unwrap();
    let (plain, filtered) = (queue("plain"), queue("filtered"));
    let fates = mill.publish(&[
        Draft::new(1).through(exchange.clone(), "a.b"),
        Draft::new(2).through(exchange.clone(), "removed"),
    ]);
    assert_eq!(fates, [Fate::Taken, Fate::Unrouted]);
    assert_eq!(ids(&mill.drain(&plain)), [1]);
    assert!(mill.drain(&filtered).is_empty(), "it has none of the tags");
    let bound = mill.vhost.bindings(&exchange, &filtered);
    assert_eq!(
        bound[0].filter().map(ToString::to_string),
        Some("wanted".to_owned())
    );
    // What came back can be taken away for good, too.
    unbind(&mill, &exchange, &plain, b"a.*");
    drop((plain, filtered));
    mill.close();
    let mill = TestBroker::on(&store);
    let fates = mill.publish(&[Draft::new(3).through(exchange, "a.b")]);
    assert_eq!(fates, [Fate::Unrouted]);
}
