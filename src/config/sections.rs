//! The sections of the configuration: every key with its meaning, unit, default and limits.
//!
//! The annotated file `millpond.example.toml` says the same to users; a test compares the two.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::value::{Connections, ListenOn, MemoryLimit, Secret, duration, memory_size, size};
use crate::server::address::BindAddress;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// `[listen]`: where clients find the broker. Every address is HOST:PORT, `*:PORT` for all interfaces (IPv6 and
/// IPv4), or `off`; port 0 takes a free port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Listen {
    /// STOMP over TCP. Default `*:61613`.
    pub stomp: ListenOn,
    /// AMQP 0-9-1. Default `*:5672`.
    pub amqp: ListenOn,
    /// HTTP: health. Default `*:15672`.
    pub http: ListenOn,
    /// STOMP over WebSocket, path `/ws`. Default `*:15674`.
    pub web_stomp: ListenOn,
    /// Connections the system may hold ready that the broker has not accepted yet, per listener. Default 1024,
    /// 1 to 65,535; the system may use less (Linux: `net.core.somaxconn`).
    pub backlog: u64,
    /// Sends small packets at once (TCP_NODELAY) instead of waiting to fill them. Default true.
    pub nodelay: bool,
}

impl Default for Listen {
    fn default() -> Self {
        let everywhere = |port| ListenOn::Address(BindAddress::everywhere(port));
        Self {
            stomp: everywhere(61613),
            amqp: everywhere(5672),
            http: everywhere(15672),
            web_stomp: everywhere(15674),
            backlog: 1024,
            nodelay: true,
        }
    }
}

/// `[storage]`: the data directory and how the broker writes to it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// The data directory; it is made if it does not exist. Default `./millpond-data`.
    pub data_dir: PathBuf,
    /// The storage engine, for as long as the data directory lives. Default `sled`.
    pub engine: StorageEngine,
    /// Memory for the storage engine's cache. Default 64 MiB, 1 MiB to 1 TiB.
    #[serde(with = "size")]
    pub cache: u64,
    /// fjall only: size of a memory table; there are at most four at a time. Default 16 MiB, 1 MiB to 1 GiB.
    #[serde(with = "size")]
    pub fjall_memtable: u64,
    /// fjall only: bytes of its journals above which memory tables are written out early. Default 128 MiB, 64 MiB
    /// to 64 GiB.
    #[serde(with = "size")]
    pub fjall_journals: u64,
    /// How long the writer waits, while many operations are pending, to gather a bigger commit. Default 0: it never
    /// waits. At most 1 s.
    #[serde(with = "duration")]
    pub commit_delay: Duration,
    /// Bytes of commits after which a checkpoint is written, so that a restart reads at most about that much.
    /// Default 64 MiB, 1 MiB to 64 GiB.
    #[serde(with = "size")]
    pub checkpoint_bytes: u64,
    /// Commits after which a checkpoint is written at the latest. Default 4096, 16 to 1,000,000.
    pub checkpoint_commits: u64,
    /// Bytes accepted and not yet on disk at which publishers stop being read. Default 64 MiB, 1 MiB to 16 GiB.
    #[serde(with = "memory_size")]
    pub backlog_bytes: usize,
    /// Whether a start reads and verifies every message before it serves anything. It takes time in proportion to the
    /// backlog; otherwise damage shows when the messages are read. Always on with `accept_data_loss`. Default false.
    pub verify_at_start: bool,
    /// Starts although the data directory is older than what was confirmed from it, or empty although it was not:
    /// what is missing is lost for good. For one start after a restored backup. Default false.
    pub accept_data_loss: bool,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./millpond-data"),
            engine: StorageEngine::Sled,
            cache: 64 << 20,
            fjall_memtable: 16 << 20,
            fjall_journals: 128 << 20,
            commit_delay: Duration::ZERO,
            checkpoint_bytes: 64 << 20,
            checkpoint_commits: 4096,
            backlog_bytes: 64 * MIB,
            verify_at_start: false,
            accept_data_loss: false,
        }
    }
}

/// `storage.engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageEngine {
    /// The embedded store sled.
    Sled,
    /// The embedded store fjall.
    Fjall,
}

/// `[memory]`: when waiting messages leave memory, and when publishers are stopped because it runs short.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Accounted memory at which publishers stop being read: a share of the machine's or control group's memory
    /// (1% to 95%) or a size (at least 16 MiB). Default 40%.
    pub limit: MemoryLimit,
    /// Bytes that frames over 128 KiB which are still coming in may take, all connections together; beyond it their
    /// clients are not read from until it is their turn. Default 64 MiB, 1 MiB to 1 TiB.
    #[serde(with = "memory_size")]
    pub ingest: usize,
    /// Accounted memory from which on waiting messages are kept on disk alone, less and less of each queue in memory.
    /// Default 64 MiB, 256 KiB to 1 TiB; at most a quarter of `limit` counts.
    #[serde(with = "size")]
    pub page_from: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            limit: MemoryLimit::Percent(40),
            ingest: 64 * MIB,
            page_from: 64 << 20,
        }
    }
}

/// `[disk]`: when publishers are stopped because the data directory's disk runs full.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Free bytes below which publishers stop; consumers go on. Default 1 GiB; 0 never stops them.
    #[serde(with = "size")]
    pub free_limit: u64,
    /// Size of a file kept so that a full disk still leaves room to consume and to stop cleanly. Default 64 MiB;
    /// 0 keeps none, at most 16 GiB.
    #[serde(with = "size")]
    pub reserve: u64,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            free_limit: 1 << 30,
            reserve: 64 << 20,
        }
    }
}

/// `[limits]`: what one client may ask of the broker. Reaching one is a named error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Largest message or frame, in bytes, headers included. Default 16 MiB, 4 KiB to 1 GiB.
    #[serde(with = "memory_size")]
    pub message_bytes: usize,
    /// Most headers on one message. Default 100, 16 to 10,000.
    pub headers: usize,
    /// Longest header line, in bytes. Default 64 KiB, 256 B to 1 MiB.
    #[serde(with = "memory_size")]
    pub header_line_bytes: usize,
    /// Most bytes a client may send before it is logged in. Default 64 KiB, 1 KiB to 1 MiB.
    #[serde(with = "memory_size")]
    pub login_bytes: usize,
    /// Time from accepting a connection to its login. Default 10 s, 100 ms to 10 min.
    #[serde(with = "duration")]
    pub login_timeout: Duration,
    /// Time a frame over 128 KiB has to come in, beside what it needs at 64 KiB a second. Default 60 s, 100 ms to 1 h.
    #[serde(with = "duration")]
    pub frame_timeout: Duration,
    /// Client connections, all protocols together. Default `auto`: what the file descriptor limit allows (the soft
    /// limit is raised to the hard one at start).
    pub connections: Connections,
    /// Subscriptions on one connection. Default 1024, 1 to 1,000,000.
    pub subscriptions: usize,
    /// Deliveries one subscription may leave unacknowledged, whatever its prefetch. Default 100,000, 1 to 10,000,000.
    pub unsettled: usize,
    /// Receipts one connection may be waiting for before it is read from again. Default 100,000, 1 to 10,000,000.
    pub receipts: usize,
    /// Open transactions on one connection. Default 16, 1 to 65,536.
    pub transactions: usize,
    /// Sends and acknowledgements in one transaction. Default 1024, 1 to 1,000,000.
    pub transaction_actions: usize,
    /// Bytes of the sends in all open transactions of one connection. Default 64 MiB, 64 KiB to 16 GiB.
    #[serde(with = "memory_size")]
    pub transaction_bytes: usize,
    /// Bytes waiting to be written to one connection before its deliveries pause. Default 1 MiB, 64 KiB to 1 GiB.
    #[serde(with = "memory_size")]
    pub outbox_bytes: usize,
    /// Most bytes given to the system in one write. Default 256 KiB, 4 KiB to 16 MiB.
    #[serde(with = "memory_size")]
    pub write_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 16 * MIB,
            headers: 100,
            header_line_bytes: 64 * KIB,
            login_bytes: 64 * KIB,
            login_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(60),
            connections: Connections::Auto,
            subscriptions: 1024,
            unsettled: 100_000,
            receipts: 100_000,
            transactions: 16,
            transaction_actions: 1024,
            transaction_bytes: 64 * MIB,
            outbox_bytes: MIB,
            write_bytes: 256 * KIB,
        }
    }
}

/// `[stomp]`: the STOMP dialect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Stomp {
    /// The user of a CONNECT without `login`. Default `guest`; empty: a login is required.
    pub default_user: String,
    /// The password of that user. Default `guest`. Never logged.
    pub default_pass: Secret,
    /// The virtual host of a CONNECT without `host`; it must be declared. Default `/`.
    pub default_vhost: String,
    /// The exchange that `/topic/...` publishes and subscribes to. Default `amq.topic`.
    pub default_topic_exchange: String,
    /// Whether a NACK without `requeue` puts the message back (true) or dead-letters it (false). Default true.
    pub default_nack_requeue: bool,
    /// Whether a SEND without `persistent` survives a restart. Default true.
    pub default_persistent: bool,
    /// Messages a subscription without `prefetch-count` may hold unacknowledged. Default 0: as many as
    /// `limits.unsettled` allows. At most 65,535.
    pub default_prefetch: u64,
    /// Whether a first frame other than CONNECT logs the default user in, silently. Default false.
    pub implicit_connect: bool,
    /// Which ERROR frames close the connection. Default `compatible`.
    pub errors: StompErrors,
    /// What a SUBSCRIBE does that names other arguments than an existing queue has. Default `error`.
    pub argument_mismatch: ArgumentMismatch,
    /// Leaves the `server` header, which names product and version, out of CONNECTED. Default false.
    pub hide_server_info: bool,
}

impl Default for Stomp {
    fn default() -> Self {
        Self {
            default_user: "guest".to_owned(),
            default_pass: Secret::from("guest"),
            default_vhost: "/".to_owned(),
            default_topic_exchange: "amq.topic".to_owned(),
            default_nack_requeue: true,
            default_persistent: true,
            default_prefetch: 0,
            implicit_connect: false,
            errors: StompErrors::Compatible,
            argument_mismatch: ArgumentMismatch::Error,
            hide_server_info: false,
        }
    }
}

/// `stomp.errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StompErrors {
    /// As clients of RabbitMQ expect: most errors leave the connection open, a refused SEND always does.
    Compatible,
    /// As the specification says: every ERROR closes the connection.
    Strict,
}

/// `stomp.argument_mismatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArgumentMismatch {
    /// The frame is refused with `precondition_failed`, naming the argument and both values.
    Error,
    /// The queue is used as it is.
    UseExisting,
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Lines for people or for programs. Default `text`.
    pub format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a list of `target=level`. Default `info`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line a person reads.
    Text,
    /// One JSON object a line: `timestamp`, `level`, `message`, and the fields beside them.
    Json,
}

/// `[shutdown]`: how the broker stops.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Shutdown {
    /// Longest wait for clients to take what waits for them, after they were told. Default 10 s, at most 1 h.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// `[[user]]`: who may log in. Without any, there is `guest` (password `guest`), administrator, from this machine only.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct User {
    /// The name, 1 to 255 bytes, given once.
    pub name: String,
    /// The password in clear text. Either this or `password_hash`. Never logged.
    pub password: Option<Secret>,
    /// The password's hash: an argon2id PHC string (`$argon2id$v=19$...`). Never logged.
    pub password_hash: Option<Secret>,
    /// Any of `administrator`, `monitoring`, `policymaker`, `management`, `impersonator`. Default none.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether the user may log in only from this machine. Default false.
    #[serde(default)]
    pub loopback_only: bool,
}

/// `[[vhost]]`: the virtual hosts. Without any, there is `/`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Vhost {
    /// The name, 1 to 255 bytes, given once.
    pub name: String,
}

/// `[[permission]]`: what a user may do in a virtual host. No row, no access. Each of the three is a regular
/// expression that is searched for in the name of a queue or exchange; an empty one allows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Permission {
    /// A declared user.
    pub user: String,
    /// A declared virtual host. Default `/`.
    #[serde(default = "root_vhost")]
    pub vhost: String,
    /// What may be declared and deleted. Default empty: nothing.
    #[serde(default)]
    pub configure: String,
    /// What may be published and bound to. Default empty: nothing.
    #[serde(default)]
    pub write: String,
    /// What may be consumed and bound from. Default empty: nothing.
    #[serde(default)]
    pub read: String,
}

/// `[[topic_permission]]`: which routing keys of a topic exchange a permitted user may use. No row: all of them.
/// `{username}` and `{vhost}` in the expressions stand for the user's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TopicPermission {
    /// A declared user.
    pub user: String,
    /// A declared virtual host. Default `/`.
    #[serde(default = "root_vhost")]
    pub vhost: String,
    /// The exchange, such as `amq.topic`.
    pub exchange: String,
    /// Routing keys that may be published. Default empty: none.
    #[serde(default)]
    pub write: String,
    /// Binding keys that may be subscribed to. Default empty: none.
    #[serde(default)]
    pub read: String,
}

fn root_vhost() -> String {
    "/".to_owned()
}

/// The user there is when none is declared.
pub(super) fn guest() -> User {
    User {
        name: "guest".to_owned(),
        password: Some(Secret::from("guest")),
        password_hash: None,
        tags: vec!["administrator".to_owned()],
        loopback_only: true,
    }
}

/// What that user may do in a virtual host: everything.
pub(super) fn guest_permission(vhost: &str) -> Permission {
    let everything = || ".*".to_owned();
    Permission {
        user: "guest".to_owned(),
        vhost: vhost.to_owned(),
        configure: everything(),
        write: everything(),
        read: everything(),
    }
}

/// The virtual host there is when none is declared.
pub(super) fn default_vhost() -> Vhost {
    Vhost { name: root_vhost() }
}
