//! Every ERROR of a session, and whether it closes the connection. The one place that decides.

use std::borrow::Cow;

use bytes::BytesMut;
use millpond_protocol::stomp::{ErrorFrame, Version, put_error};

use super::options::ErrorMode;
use crate::engine::access::AccessError;
use crate::engine::error::EngineError;

/// The `code` of the one error after which no connection goes on.
const STORE_FAILED: &str = "store_failed";

/// An ERROR to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StompError {
    /// The `message` header: short.
    pub(super) message: &'static str,
    /// The `code` header: stable, for programs.
    pub(super) code: &'static str,
    /// What was wrong and what would be right.
    pub(super) body: Cow<'static, str>,
    /// Whether the connection ends with it even in compatible mode.
    closes: bool,
}

impl StompError {
    /// An error after which the connection goes on (in compatible mode).
    pub(super) fn new(
        message: &'static str,
        code: &'static str,
        body: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            message,
            code,
            body: body.into(),
            closes: false,
        }
    }

    /// The same, ending the connection.
    pub(super) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The same for a SEND: the connection goes on (unless every ERROR ends it, or the store failed).
    pub(super) fn open(self) -> Self {
        Self {
            closes: self.code == STORE_FAILED,
            ..self
        }
    }

    /// Whether the connection ends with this error.
    pub(super) fn closes(&self, mode: ErrorMode) -> bool {
        self.closes || mode == ErrorMode::Strict
    }

    /// Appends the ERROR frame.
    pub(super) fn put(
        &self,
        dst: &mut BytesMut,
        version: Version,
        receipt: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) {
        let frame = ErrorFrame {
            message: self.message,
            code: self.code,
            receipt_id: receipt,
            body: &self.body,
            headers,
        };
        put_error(dst, version, &frame);
    }
}

/// A large frame did not come in within `limits.frame_timeout` and what it needs at the least pace.
pub(super) fn slow_frame() -> StompError {
    let body = "the frame came in too slowly; the room kept for it is needed by others. Send it again, faster or in smaller messages\n";
    StompError::new("Frame timeout", "frame_timeout", body).closing()
}

/// The words of the engine in the words of STOMP, `message` in RabbitMQ's spelling.
pub(super) fn from_engine(error: &EngineError) -> StompError {
    let (message, code) = match error {
        EngineError::NotFound { .. } => ("not_found", "not_found"),
        EngineError::Inequivalent(_) | EngineError::InvalidArgument { .. } => {
            ("precondition_failed", "precondition_failed")
        }
        EngineError::AccessRefused { .. } => ("access_refused", "access_refused"),
        EngineError::ResourceLocked { .. } => ("resource_locked", "resource_locked"),
        EngineError::InUse { .. } => ("access_refused", "in_use"),
        EngineError::QueueFull { .. } => ("queue_full", "queue_full"),
        EngineError::MessageTooLarge { .. } => ("message_too_large", "message_too_large"),
        EngineError::Unroutable { .. } => ("unroutable", "unroutable"),
        EngineError::NotOutstanding => ("Message not found", "message_not_found"),
        EngineError::Unsupported { .. } => ("not_implemented", "not_implemented"),
        EngineError::LimitReached { .. } => ("limit_reached", "limit_reached"),
        EngineError::Quarantined { .. } => ("internal_error", "queue_quarantined"),
        EngineError::DiskLow => ("resource_error", "disk_low"),
        EngineError::MemoryLow => ("resource_error", "memory_low"),
        EngineError::StoreFailed => ("internal_error", STORE_FAILED),
    };
    let closes = match error {
        EngineError::NotFound { .. }
        | EngineError::Inequivalent(_)
        | EngineError::InvalidArgument { .. }
        | EngineError::AccessRefused { .. }
        | EngineError::ResourceLocked { .. }
        | EngineError::InUse { .. }
        | EngineError::Unsupported { .. }
        | EngineError::Quarantined { .. }
        | EngineError::StoreFailed => true,
        EngineError::QueueFull { .. }
        | EngineError::MessageTooLarge { .. }
        | EngineError::Unroutable { .. }
        | EngineError::NotOutstanding
        | EngineError::LimitReached { .. }
        | EngineError::DiskLow
        | EngineError::MemoryLow => false,
    };
    StompError {
        message,
        code,
        body: format!("{error}\n").into(),
        closes,
    }
}

/// A refused SEND never closes the connection (unless every ERROR does).
pub(super) fn refused_send(error: &EngineError) -> StompError {
    from_engine(error).open()
}

/// A login that failed. The sentences are RabbitMQ's, which clients' tests know.
pub(super) fn from_login(error: &AccessError, login: &str) -> StompError {
    let body = match error {
        AccessError::LoopbackOnly { .. } => "non-loopback access denied\n".to_owned(),
        AccessError::Refused => format!("Access refused for user '{login}'\n"),
        AccessError::Stopping => {
            format!("The login of user '{login}' could not be checked: the broker is stopping\n")
        }
    };
    StompError::new("Bad CONNECT", "login_refused", body)
}
