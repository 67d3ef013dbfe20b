//! Millpond, a message broker for STOMP and AMQP clients.
//!
//! The floors, top to bottom: `cli`, `bench` and `config`; `server` and `management`; `connection`; `engine`;
//! `storage`; and the `millpond-protocol` crate. A floor imports only from floors below it
//! (`tests/floors.rs` checks). ARCHITECTURE.md is the map.

mod bench;
pub mod cli;
pub mod config;
pub mod connection;
pub mod engine;
pub mod management;
pub mod server;
pub mod storage;
