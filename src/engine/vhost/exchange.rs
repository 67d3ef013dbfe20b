//! One exchange of a vhost: what it was declared as, and its bindings.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::engine::arguments::Arguments;
use crate::engine::binding::Binding;
use crate::engine::error::{EngineError, Inequivalent, Kind};
use crate::engine::exchange::{Bindings, ExchangeKind};
use crate::engine::message::Message;
use crate::engine::name::{ExchangeName, RoutingKey, VhostName};
use crate::engine::queue::{Durability, LocalQueue, Queue, Target};
use crate::engine::route::RouteSet;

/// What an exchange is declared as.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeSpec {
    /// Direct, fanout, topic or headers.
    pub kind: ExchangeKind,
    /// Durable or transient.
    pub durability: Durability,
    /// It goes when its last binding goes.
    pub auto_delete: bool,
    /// The `x-` table.
    pub arguments: Arguments,
}

impl ExchangeSpec {
    /// The spec of an `amq.` exchange: there from the start, in every vhost, so never stored.
    pub(super) fn predeclared(kind: ExchangeKind) -> Self {
        Self {
            kind,
            durability: Durability::Durable,
            auto_delete: false,
            arguments: Arguments::default(),
        }
    }
}

/// An exchange.
#[derive(Debug)]
pub(in crate::engine) struct Exchange {
    id: u64,
    name: ExchangeName,
    spec: ExchangeSpec,
    bindings: RwLock<Bindings<Target>>,
}

fn target(queue: &Arc<LocalQueue>) -> Target {
    Target(Arc::clone(queue) as Arc<dyn Queue>)
}

impl Exchange {
    pub(super) fn new(id: u64, name: ExchangeName, spec: ExchangeSpec) -> Self {
        let bindings = RwLock::new(Bindings::new(spec.kind));
        Self {
            id,
            name,
            spec,
            bindings,
        }
    }

    /// Its number, never used for another exchange while the broker runs.
    pub(in crate::engine) fn id(&self) -> u64 {
        self.id
    }

    /// Whether routes depend on nothing but the routing key.
    pub(in crate::engine) fn routes_by_key(&self) -> bool {
        self.spec.kind != ExchangeKind::Headers
    }

    pub(super) fn spec(&self) -> &ExchangeSpec {
        &self.spec
    }

    /// Adds the queues a message goes to.
    pub(in crate::engine) fn route(
        &self,
        key: &RoutingKey,
        message: &Message,
        routes: &mut RouteSet<Target>,
    ) {
        self.bindings
            .read()
            .matches(key.as_bytes(), message, routes);
    }

    pub(super) fn bind(
        &self,
        binding: &Binding,
        queue: &Arc<LocalQueue>,
    ) -> Result<(), EngineError> {
        let bound = self.bindings.write().insert(binding.clone(), target(queue));
        bound
            .map(|_| ())
            .map_err(|error| EngineError::InvalidArgument {
                argument: "x-match".to_owned(),
                why: error.to_string(),
            })
    }

    pub(super) fn unbind(&self, binding: &Binding, queue: &Arc<LocalQueue>) {
        self.bindings.write().remove(binding, &target(queue));
    }

    pub(super) fn is_unbound(&self) -> bool {
        self.bindings.read().is_empty()
    }

    /// Checks a redeclaration against what is there.
    ///
    /// # Errors
    /// `Inequivalent`.
    pub(super) fn check_equivalent(
        &self,
        asked: &ExchangeSpec,
        vhost: &VhostName,
    ) -> Result<(), EngineError> {
        let differs = |argument: &str, received: String, current: String| {
            EngineError::Inequivalent(Box::new(Inequivalent {
                kind: Kind::Exchange,
                name: self.name.to_string(),
                vhost: vhost.clone(),
                argument: argument.to_owned(),
                received: format!("'{received}'"),
                current: format!("'{current}'"),
            }))
        };
        let durable = |spec: &ExchangeSpec| (spec.durability == Durability::Durable).to_string();
        if self.spec.kind != asked.kind {
            return Err(differs(
                "type",
                asked.kind.to_string(),
                self.spec.kind.to_string(),
            ));
        }
        if self.spec.durability != asked.durability {
            return Err(differs("durable", durable(asked), durable(&self.spec)));
        }
        if self.spec.auto_delete != asked.auto_delete {
            return Err(differs(
                "auto_delete",
                asked.auto_delete.to_string(),
                self.spec.auto_delete.to_string(),
            ));
        }
        Ok(())
    }
}
