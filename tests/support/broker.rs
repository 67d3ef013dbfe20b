//! A broker in this process: the real floors over a store that the test chooses, behind a real socket or a pipe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use millpond::connection::stomp::{StompOptions, StompSession};
use millpond::connection::{
    BufferPool, DriverOptions, Ingest, Peer as Remote, Shared, Stop, drive,
};
use millpond::engine::access::{
    Access, AccessConfig, PermissionConfig, TopicPermissionConfig, UserConfig,
};
use millpond::engine::broker::Broker;
use millpond::engine::clock::Clock;
use millpond::engine::memory::{Memory, MemoryLimit};
use millpond::engine::name::{ExchangeName, QueueName, VhostName};
use millpond::engine::queue::{Depth, Owner, Queue};
use millpond::storage::{Journal, JournalOptions, MemoryStore, StorageError, Store};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peer::Peer;

/// What a pipe holds before its writer waits: about what a loopback socket does.
const PIPE_BYTES: usize = 64 << 10;

/// What a test wants of its broker. The default is the program's.
pub(crate) struct Setup {
    pub(crate) store: Box<dyn Store>,
    pub(crate) journal: JournalOptions,
    pub(crate) stomp: StompOptions,
    pub(crate) access: AccessConfig,
    pub(crate) vhosts: Vec<VhostName>,
    pub(crate) memory: MemoryLimit,
    /// Bytes in memory from which on queues are paged; none are if it is not given.
    pub(crate) page_from: Option<u64>,
}

/// A hash that costs next to nothing to check, unlike those the broker makes: tests log in all the time.
fn cheap_hash(password: &str) -> String {
    let least = Params::new(Params::MIN_M_COST, 1, 1, None).expect("the least there is");
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, least);
    let hash = hasher.hash_password(password.as_bytes());
    hash.expect("the system has random numbers").to_string()
}

/// What is declared if nothing is, with a hash that is cheap to check.
fn guest() -> AccessConfig {
    let mut access = AccessConfig::default();
    for user in &mut access.users {
        user.password = None;
        user.password_hash = Some(cheap_hash(&user.name));
    }
    access
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            store: Box::new(MemoryStore::new()),
            journal: JournalOptions::default(),
            stomp: StompOptions::default(),
            access: guest(),
            vhosts: vec![VhostName::from_static("/")],
            memory: MemoryLimit::default(),
            page_from: None,
        }
    }
}

impl Setup {
    /// With these options of the STOMP side.
    pub(crate) fn stomp(change: impl FnOnce(&mut StompOptions)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.stomp);
        setup
    }

    /// Over this store.
    pub(crate) fn over(store: impl Store + 'static) -> Self {
        Self {
            store: Box::new(store),
            ..Self::default()
        }
    }

    /// With these users, whose passwords are their names, beside guest.
    pub(crate) fn with_users(users: &[&str]) -> Self {
        let mut setup = Self::default();
        for name in users {
            setup.access.users.push(UserConfig {
                name: (*name).to_owned(),
                password: None,
                password_hash: Some(cheap_hash(name)),
                tags: Vec::new(),
                loopback_only: false,
            });
        }
        setup
    }

    /// With one more vhost.
    pub(crate) fn vhost(mut self, name: &'static str) -> Self {
        self.vhosts.push(VhostName::from_static(name));
        self
    }

    /// Lets `user` configure, write and read in `vhost` what these expressions find.
    pub(crate) fn permit(mut self, user: &str, vhost: &'static str, rules: [&str; 3]) -> Self {
        let [configure, write, read] = rules.map(str::to_owned);
        self.access.permissions.push(PermissionConfig {
            user: user.to_owned(),
            vhost: VhostName::from_static(vhost),
            configure,
            write,
            read,
        });
        self
    }

    /// Narrows what `user` may publish to and subscribe to on `amq.topic` in `/`.
    pub(crate) fn topics(mut self, user: &str, write: &str, read: &str) -> Self {
        self.access.topic_permissions.push(TopicPermissionConfig {
            user: user.to_owned(),
            vhost: VhostName::root(),
            exchange: ExchangeName::from_static("amq.topic"),
            write: write.to_owned(),
            read: read.to_owned(),
        });
        self
    }

    /// Starts it on a free port.
    pub(crate) async fn start(self) -> TestBroker {
        let (journal, recovered) =
            Journal::open(self.store, self.journal).expect("the store opens");
        assert!(recovered.losses.is_empty(), "{:?}", recovered.losses);
        let access = Access::new(self.access).expect("the access is right");
        let memory = Memory::new(self.memory);
        let memory = Arc::new(match self.page_from {
            Some(bytes) => memory.paging_from(bytes),
            None => memory,
        });
        let opened = Broker::open(
            journal,
            recovered,
            &self.vhosts,
            access,
            memory,
            Clock::system(),
        );
        let (broker, _) = opened.expect("what is stored can be read");
        broker.start();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let patience = Duration::from_secs(60);
        let ingest = Ingest::new(64 << 20, patience, Arc::clone(&broker.core().memory));
        let floor = Arc::new(Floor {
            broker,
            options: Arc::new(self.stomp),
            shared: Shared {
                pool: Arc::new(BufferPool::new(16)),
                ingest: Arc::new(ingest),
            },
            stop: Stop {
                clients: CancellationToken::new(),
                abort: CancellationToken::new(),
            },
            tasks: TaskTracker::new(),
            accepted: AtomicU64::new(0),
        });
        let serving = Arc::clone(&floor);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, remote)) = listener.accept().await {
                stream
                    .set_nodelay(true)
                    .expect("a connection just accepted");
                serving.serve(stream, remote);
            }
        });
        TestBroker {
            floor,
            address,
            accepting,
        }
    }
}

/// What every connection of a broker shares.
struct Floor {
    broker: Arc<Broker>,
    options: Arc<StompOptions>,
    shared: Shared,
    stop: Stop,
    tasks: TaskTracker,
    accepted: AtomicU64,
}

impl Floor {
    fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        remote: SocketAddr,
    ) {
        let owner = Owner(self.accepted.fetch_add(1, Ordering::Relaxed) + 1);
        let (broker, options) = (Arc::clone(&self.broker), Arc::clone(&self.options));
        let session = StompSession::new(broker, options, Remote { remote }, owner);
        let driver = DriverOptions {
            write_bytes: 256 << 10,
            close_timeout: Duration::from_secs(10),
        };
        self.tasks.spawn(drive(
            stream,
            session,
            self.stop.clone(),
            self.shared.clone(),
            driver,
        ));
    }
}

/// A running broker. Dropping it abandons what is not on disk, as a crash does.
pub(crate) struct TestBroker {
    floor: Arc<Floor>,
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl TestBroker {
    /// The broker as everybody gets it.
    pub(crate) async fn start() -> Self {
        Setup::default().start().await
    }

    /// A connection that has said nothing yet.
    pub(crate) async fn connect(&self) -> Peer {
        let stream = TcpStream::connect(self.address)
            .await
            .expect("the broker listens");
        stream.set_nodelay(true).expect("a connection just made");
        Peer::new(stream)
    }

    /// A client of STOMP 1.2.
    pub(crate) async fn client(&self) -> Peer {
        self.login("accept-version:1.2").await
    }

    /// A client that logged in with these headers.
    pub(crate) async fn login(&self, headers: &str) -> Peer {
        let mut peer = self.connect().await;
        peer.connect(headers).await;
        peer
    }

    /// A client of STOMP 1.2 that logged in as `user`, whose password is its name.
    pub(crate) async fn user(&self, user: &str, vhost: &str) -> Peer {
        self.login(&format!(
            "accept-version:1.2\nlogin:{user}\npasscode:{user}\nhost:{vhost}"
        ))
        .await
    }

    /// A client of STOMP 1.2 over a pipe in memory, for tests that pause time: no byte of it is ever on its way
    /// through the system while the runtime looks idle.
    pub(crate) async fn client_in_memory(&self, headers: &str) -> Peer {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.floor
            .serve(theirs, SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut peer = Peer::new(ours).patient();
        peer.connect(&format!("accept-version:1.2\n{headers}"))
            .await;
        peer
    }

    /// Such a connection that has said nothing yet.
    pub(crate) fn pipe(&self) -> Peer {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.floor
            .serve(theirs, SocketAddr::from(([127, 0, 0, 1], 1)));
        Peer::new(ours).patient()
    }

    /// What a queue of vhost `/` holds; `None` if there is no such queue.
    pub(crate) fn depth(&self, queue: &str) -> Option<Depth> {
        let vhost = self
            .floor
            .broker
            .vhost(&VhostName::root())
            .expect("always there");
        let name = QueueName::parse(queue.to_owned()).expect("a name");
        vhost.queue(&name).map(|queue| queue.depth())
    }

    /// The names of the queues of vhost `/`.
    pub(crate) fn queues(&self) -> Vec<String> {
        let vhost = self
            .floor
            .broker
            .vhost(&VhostName::root())
            .expect("always there");
        vhost
            .queues()
            .iter()
            .map(|queue| queue.name().to_string())
            .collect()
    }

    /// Bytes that messages are charged with.
    pub(crate) fn charged(&self) -> u64 {
        self.engine().core().memory.used()
    }

    /// The engine behind the sockets.
    pub(crate) fn engine(&self) -> &Arc<Broker> {
        &self.floor.broker
    }

    /// Tells every client, waits for them, and closes the log, as the program does when it is stopped.
    pub(crate) async fn stop(self) -> Result<(), StorageError> {
        self.accepting.abort();
        self.floor.stop.clients.cancel();
        self.floor.tasks.close();
        self.floor.tasks.wait().await;
        let journal = self.floor.broker.core().journal.clone();
        tokio::task::spawn_blocking(move || journal.close())
            .await
            .expect("closing does not panic")
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.accepting.abort();
        self.floor.stop.abort.cancel();
    }
}
