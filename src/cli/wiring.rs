//! From the configuration to the options of each floor.

use std::sync::Arc;
use std::time::Duration;

use millpond_protocol::stomp;

use crate::config::{self, Config};
use crate::connection::stomp::{ErrorMode, StompOptions};
use crate::connection::{DriverOptions, Ingest};
use crate::engine::access::{
    AccessConfig, Password, PermissionConfig, TopicPermissionConfig, UserConfig,
};
use crate::engine::memory::{Memory, MemoryLimit};
use crate::engine::name::{ExchangeName, VhostName};
use crate::engine::vhost::Mismatch;
use crate::storage::{DirectoryOptions, EngineOptions, FjallOptions, JournalOptions, SledOptions};

/// The least time a closing connection has to fetch what is owed to it.
const CLOSE_TIMEOUT_MIN: Duration = Duration::from_secs(5);

/// The options of the store.
pub(super) fn directory(config: &Config) -> DirectoryOptions {
    let storage = &config.storage;
    DirectoryOptions {
        journal: JournalOptions {
            commit_delay: storage.commit_delay,
            checkpoint_bytes: storage.checkpoint_bytes,
            checkpoint_commits: storage.checkpoint_commits,
            backlog_limit_bytes: storage.backlog_bytes,
            verify: storage.verify_at_start,
            ..JournalOptions::default()
        },
        engine: engine(storage),
        accept_data_loss: storage.accept_data_loss,
    }
}

/// The engine and its options.
fn engine(storage: &config::Storage) -> EngineOptions {
    let cache_bytes = storage.cache;
    match storage.engine {
        config::StorageEngine::Sled => EngineOptions::Sled(SledOptions {
            cache_bytes,
            ..SledOptions::default()
        }),
        config::StorageEngine::Fjall => EngineOptions::Fjall(FjallOptions {
            cache_bytes,
            memtable_bytes: storage.fjall_memtable,
            journals_bytes: storage.fjall_journals,
        }),
    }
}

/// The account of memory.
pub(super) fn memory(config: &Config) -> Memory {
    let limit = match config.memory.limit {
        config::MemoryLimit::Percent(percent) => MemoryLimit::Percent(percent),
        config::MemoryLimit::Bytes(bytes) => MemoryLimit::Bytes(bytes),
    };
    Memory::new(limit).paging_from(config.memory.page_from)
}

/// The vhosts declared; `/` if none is.
///
/// # Errors
/// A sentence naming the vhost that cannot be.
pub(super) fn vhosts(config: &Config) -> Result<Vec<VhostName>, String> {
    let declared = config.vhosts.iter().map(|vhost| vhost.name.as_str());
    let names: Vec<&str> = declared.collect();
    let names = if names.is_empty() { vec!["/"] } else { names };
    names.into_iter().map(vhost).collect()
}

fn vhost(name: &str) -> Result<VhostName, String> {
    VhostName::parse(name.to_owned()).map_err(|error| format!("vhost '{name}': {error}"))
}

/// Users and permissions; guest with all of them on `/` if no user is declared.
///
/// # Errors
/// A sentence naming what cannot be.
pub(super) fn access(config: &Config) -> Result<AccessConfig, String> {
    if config.users.is_empty() {
        return Ok(AccessConfig::default());
    }
    let users = config
        .users
        .iter()
        .map(|user| {
            let tags = user.tags.iter().map(|tag| {
                tag.parse()
                    .map_err(|error| format!("user '{}': {error}", user.name))
            });
            Ok(UserConfig {
                name: user.name.clone(),
                password: user
                    .password
                    .as_ref()
                    .map(|password| Password::new(password.expose())),
                password_hash: user
                    .password_hash
                    .as_ref()
                    .map(|hash| hash.expose().to_owned()),
                tags: tags.collect::<Result<_, String>>()?,
                loopback_only: user.loopback_only,
            })
        })
        .collect::<Result<_, String>>()?;
    let permissions = config
        .permissions
        .iter()
        .map(|row| {
            Ok(PermissionConfig {
                user: row.user.clone(),
                vhost: vhost(&row.vhost)?,
                configure: row.configure.clone(),
                write: row.write.clone(),
                read: row.read.clone(),
            })
        })
        .collect::<Result<_, String>>()?;
    let topic_permissions = config
        .topic_permissions
        .iter()
        .map(|row| {
            Ok(TopicPermissionConfig {
                user: row.user.clone(),
                vhost: vhost(&row.vhost)?,
                exchange: exchange(&row.exchange)?,
                write: row.write.clone(),
                read: row.read.clone(),
            })
        })
        .collect::<Result<_, String>>()?;
    Ok(AccessConfig {
        users,
        permissions,
        topic_permissions,
    })
}

fn exchange(name: &str) -> Result<ExchangeName, String> {
    ExchangeName::parse(name.to_owned()).map_err(|error| format!("exchange '{name}': {error}"))
}

/// The memory for large frames that are coming in.
pub(super) fn ingest(config: &Config, memory: &Arc<Memory>) -> Ingest {
    let (bytes, patience) = (config.memory.ingest, config.limits.frame_timeout);
    Ingest::new(bytes, patience, Arc::clone(memory))
}

/// How connections are driven.
pub(super) fn driver(config: &Config) -> DriverOptions {
    // However soon the broker itself wants to be gone (it cuts connections off then), a client that leaves
    // or is told to has time to fetch what is owed to it.
    let close_timeout = config.shutdown.drain_timeout.max(CLOSE_TIMEOUT_MIN);
    DriverOptions {
        write_bytes: config.limits.write_bytes,
        close_timeout,
    }
}

/// How STOMP sessions behave.
///
/// # Errors
/// A sentence naming the vhost or exchange that cannot be.
pub(super) fn stomp(config: &Config) -> Result<StompOptions, String> {
    let (limits, dialect) = (&config.limits, &config.stomp);
    let frames = stomp::Limits {
        frame_bytes: limits.message_bytes,
        headers: limits.headers,
        header_line_bytes: limits.header_line_bytes,
    };
    let before_login = stomp::Limits {
        frame_bytes: limits.login_bytes.min(limits.message_bytes),
        header_line_bytes: limits.header_line_bytes.min(limits.login_bytes),
        ..frames
    };
    let defaults = StompOptions::default();
    let errors = match dialect.errors {
        config::StompErrors::Compatible => ErrorMode::Compatible,
        config::StompErrors::Strict => ErrorMode::Strict,
    };
    Ok(StompOptions {
        machine: stomp::Config {
            limits: frames,
            limits_before_login: before_login,
            login_timeout: limits.login_timeout,
            implicit_connect: dialect.implicit_connect,
            strict_errors: errors == ErrorMode::Strict,
            server: if dialect.hide_server_info {
                String::new()
            } else {
                defaults.machine.server.clone()
            },
            ..defaults.machine.clone()
        },
        default_user: dialect.default_user.clone(),
        default_password: dialect.default_pass.expose().to_owned(),
        default_vhost: vhost(&dialect.default_vhost)?,
        default_topic_exchange: exchange(&dialect.default_topic_exchange)?,
        default_nack_requeue: dialect.default_nack_requeue,
        default_persistent: dialect.default_persistent,
        default_prefetch: u32::try_from(dialect.default_prefetch).unwrap_or(u32::MAX),
        errors,
        argument_mismatch: match dialect.argument_mismatch {
            config::ArgumentMismatch::Error => Mismatch::ErrorIfGiven,
            config::ArgumentMismatch::UseExisting => Mismatch::UseExisting,
        },
        outbox_bytes: limits.outbox_bytes,
        subscriptions_max: limits.subscriptions,
        transactions_max: limits.transactions,
        transaction_actions_max: limits.transaction_actions,
        transaction_bytes_max: limits.transaction_bytes,
        unsettled_max: u32::try_from(limits.unsettled).unwrap_or(u32::MAX),
        receipts_max: limits.receipts,
    })
}
