//! `millpond serve`: the floors are put together here, and taken down in order.

use std::future::Future;
use std::net::SocketAddr;

use bytes::BytesMut;
use millpond_protocol::stomp::{ErrorFrame, Version, put_error};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::{Failure, logging};
use crate::config::{self, Config, ListenOn, Sources};
use crate::management::health::{Readiness, State};
use crate::management::http::{self, Http};
use crate::server::limits::{self, ConnectionLimit};
use crate::server::listener::{Handler, Listener, Purpose, SocketOptions};
use crate::server::refusal::refuse;
use crate::server::shutdown::{self, Reason, Shutdown};

const STOMP: Purpose = Purpose {
    name: "stomp",
    protocol: "STOMP",
};
const HTTP: Purpose = Purpose {
    name: "http",
    protocol: "HTTP",
};

/// Serves until a signal or a failure.
///
/// # Errors
/// When the configuration is wrong, an address cannot be bound, or something failed that the broker cannot go on
/// without.
pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let loaded = Config::load(sources).map_err(Failure::usage)?;
    logging::start(&loaded.config.log);
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::running)?;
    runtime.block_on(serve(loaded.config))
}

async fn serve(config: Config) -> Result<(), Failure> {
    let shutdown = Shutdown::new();
    shutdown::follow_signals(shutdown.clone()).map_err(Failure::running)?;
    let descriptors = limits::raise_descriptor_limit();
    let connections = TaskTracker::new();
    let readiness = Readiness::new();

    // HTTP opens first and closes last, so that health can be asked while the broker starts and stops.
    let http = HttpServer::start(&config, &readiness)?;

    let limit = ConnectionLimit::new(match config.limits.connections {
        config::Connections::Auto => limits::connections_for(descriptors),
        config::Connections::Count(count) => count,
    });
    if let Some(listener) = bind(STOMP, &config.listen.stomp, &config)? {
        tokio::spawn(listener.accept(
            Stomp,
            limit.clone(),
            connections.clone(),
            shutdown.accepting(),
        ));
    }

    readiness.set(State::Ready);
    info!(stop_with = "Ctrl-C or SIGTERM", "ready");
    let reason = shutdown.requested().await;

    readiness.set(match &reason {
        Reason::Signal(_) => State::Stopping,
        Reason::Failure(sentence) => State::Failed(sentence.clone()),
    });
    let reason = shutdown
        .drain(&connections, config.shutdown.drain_timeout)
        .await;
    http.stop().await;
    match reason {
        Reason::Signal(_) => {
            info!("stopped");
            Ok(())
        }
        Reason::Failure(sentence) => {
            error!(reason = sentence, "stopped after a failure");
            Err(Failure::running(sentence))
        }
    }
}

/// Binds a listener unless it is off, and says where it listens.
fn bind(purpose: Purpose, on: &ListenOn, config: &Config) -> Result<Option<Listener>, Failure> {
    let Some(address) = on.address() else {
        return Ok(None);
    };
    let backlog = i32::try_from(config.listen.backlog).unwrap_or(i32::MAX);
    let options = SocketOptions {
        backlog,
        nodelay: config.listen.nodelay,
    };
    let listener = Listener::bind(purpose, address, options).map_err(Failure::running)?;
    info!(listener = listener.name(), address = %listener.address(), "listening");
    Ok(Some(listener))
}

/// The HTTP listener and its connections.
struct HttpServer {
    stop: CancellationToken,
    connections: TaskTracker,
}

impl HttpServer {
    fn start(config: &Config, readiness: &Readiness) -> Result<Self, Failure> {
        let stop = CancellationToken::new();
        let connections = TaskTracker::new();
        if let Some(listener) = bind(HTTP, &config.listen.http, config)? {
            let service = Http::new(readiness.clone(), stop.clone());
            let limit = ConnectionLimit::new(http::CONNECTIONS);
            tokio::spawn(listener.accept(service, limit, connections.clone(), stop.clone()));
        }
        Ok(Self { stop, connections })
    }

    async fn stop(self) {
        self.stop.cancel();
        self.connections.close();
        self.connections.wait().await;
    }
}

/// The STOMP side of accepted connections.
struct Stomp;

impl Handler for Stomp {
    fn serve(
        &self,
        stream: TcpStream,
        _peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        drop(stream);
        std::future::ready(())
    }

    fn refuse(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        let error = ErrorFrame::new(
            "Connection limit reached",
            "connection_limit",
            "The broker has as many connections as limits.connections allows; try again later.\n",
        );
        let mut reply = BytesMut::new();
        // Before a version is agreed on, 1.0 is what every client reads.
        put_error(&mut reply, Version::V1_0, &error);
        async move { refuse(stream, &reply).await }
    }
}
