//! `millpond serve`: the floors are put together here, and taken down in order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use millpond_protocol::stomp::{ErrorFrame, Version, put_error};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::{Failure, disk_watch, logging, wiring};
use crate::config::{self, Config, ListenOn, Sources};
use crate::connection::stomp::{StompOptions, StompSession};
use crate::connection::{self, BufferPool, DriverOptions, Peer, Stop};
use crate::engine::access::Access;
use crate::engine::broker::Broker;
use crate::engine::clock::Clock;
use crate::engine::queue::Owner;
use crate::management::health::{Readiness, State};
use crate::management::http::{self, Http};
use crate::server::limits::{self, ConnectionLimit};
use crate::server::listener::{Handler, Listener, Purpose, SocketOptions};
use crate::server::refusal::refuse;
use crate::server::shutdown::{self, Reason, Shutdown};
use crate::storage;

/// Read buffers of 64 KiB that are kept for the next connection that has something to say.
const READ_BUFFERS: usize = 256;

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

    let broker = open_broker(&config, &shutdown).await?;
    let limit = ConnectionLimit::new(match config.limits.connections {
        config::Connections::Auto => limits::connections_for(descriptors),
        config::Connections::Count(count) => count,
    });
    if let Some(listener) = bind(STOMP, &config.listen.stomp, &config)? {
        let stomp = Stomp::new(&config, &broker, &shutdown)?;
        tokio::spawn(listener.accept(
            stomp,
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
    let reason = close_store(&broker, reason).await;
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

/// Opens the data directory and puts the broker together from what is in it.
async fn open_broker(config: &Config, shutdown: &Shutdown) -> Result<Arc<Broker>, Failure> {
    let (directory, options) = (config.storage.data_dir.clone(), wiring::directory(config));
    let access = wiring::access(config).map_err(Failure::usage)?;
    let vhosts = wiring::vhosts(config).map_err(Failure::usage)?;
    let memory = Arc::new(wiring::memory(config));
    let accept_data_loss = config.storage.accept_data_loss;
    let opened = tokio::task::spawn_blocking(move || {
        let (journal, mut recovered) =
            storage::open_directory(&directory, options).map_err(Failure::running)?;
        let written_off = if accept_data_loss {
            std::mem::take(&mut recovered.losses)
        } else {
            Vec::new()
        };
        for loss in &written_off {
            error!(%loss, "going on without what is lost");
        }
        let clean = recovered.clean;
        let access = Access::new(access).map_err(Failure::usage)?;
        let (broker, restored) =
            Broker::open(journal, recovered, &vhosts, access, memory, Clock::system())
                .map_err(Failure::running)?;
        broker.write_off(&written_off);
        info!(
            queues = restored.queues,
            messages = restored.messages,
            clean,
            "store opened"
        );
        Ok(broker)
    });
    let broker = opened.await.map_err(Failure::running)??;
    let failing = shutdown.clone();
    broker.core().journal.on_failure(Box::new(move |error| {
        failing.request(Reason::Failure(error.to_string()))
    }));
    broker.start();
    tokio::spawn(disk_watch::run(
        Arc::clone(&broker),
        config.storage.data_dir.clone(),
        config.disk.clone(),
    ));
    Ok(broker)
}

/// Writes what is pending, and syncs: what was promised is on disk when this returns.
async fn close_store(broker: &Arc<Broker>, reason: Reason) -> Reason {
    let journal = broker.core().journal.clone();
    match tokio::task::spawn_blocking(move || journal.close()).await {
        Ok(Ok(())) => reason,
        Ok(Err(error)) => Reason::Failure(error.to_string()),
        Err(error) => Reason::Failure(error.to_string()),
    }
}

/// The STOMP side of accepted connections.
struct Stomp {
    broker: Arc<Broker>,
    options: Arc<StompOptions>,
    driver: DriverOptions,
    shared: connection::Shared,
    stop: Stop,
    /// Connections accepted so far: their numbers.
    accepted: AtomicU64,
}

impl Stomp {
    fn new(config: &Config, broker: &Arc<Broker>, shutdown: &Shutdown) -> Result<Self, Failure> {
        Ok(Self {
            broker: Arc::clone(broker),
            options: Arc::new(wiring::stomp(config).map_err(Failure::usage)?),
            driver: wiring::driver(config),
            shared: connection::Shared {
                pool: Arc::new(BufferPool::new(READ_BUFFERS)),
                ingest: Arc::new(wiring::ingest(config, &broker.core().memory)),
            },
            stop: Stop {
                clients: shutdown.clients(),
                abort: shutdown.abort(),
            },
            accepted: AtomicU64::new(0),
        })
    }
}

impl Handler for Stomp {
    fn serve(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let owner = Owner(self.accepted.fetch_add(1, Ordering::Relaxed) + 1);
        let session = StompSession::new(
            Arc::clone(&self.broker),
            Arc::clone(&self.options),
            Peer { remote },
            owner,
        );
        connection::drive(
            stream,
            session,
            self.stop.clone(),
            self.shared.clone(),
            self.driver,
        )
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
