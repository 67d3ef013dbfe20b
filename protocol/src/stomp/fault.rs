//! What the machine refuses, and what ends a connection.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::decode_error::DecodeError;
use super::error_frame::{ErrorFrame, put_error};
use super::version::Version;

/// A well-formed frame that the rules of order do not allow. It gets an ERROR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client accepts none of the versions served.
    VersionMismatch,
    /// The `heart-beat` header of CONNECT is not two numbers.
    BadHeartBeat,
    /// A command before login.
    NotLoggedIn,
    /// A second CONNECT after login.
    AlreadyLoggedIn,
    /// No command a client may send.
    BadCommand {
        /// The command as it was typed.
        command: Bytes,
    },
}

impl Refusal {
    /// A stable word for programs; the `code` header of the ERROR.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::VersionMismatch => "version_mismatch",
            Self::BadHeartBeat => "bad_heart_beat",
            Self::NotLoggedIn => "not_logged_in",
            Self::AlreadyLoggedIn => "already_logged_in",
            Self::BadCommand { .. } => "bad_command",
        }
    }

    /// The short text for the `message` header of the ERROR.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        match self {
            Self::VersionMismatch => "Version mismatch",
            Self::BadHeartBeat => "Processing error",
            Self::NotLoggedIn | Self::AlreadyLoggedIn => "Illegal command",
            Self::BadCommand { .. } => "Bad command",
        }
    }
}

/// The body of the ERROR.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VersionMismatch => writeln!(f, "Supported versions are {}", Version::LIST),
            Self::BadHeartBeat => f.write_str(
                "The heart-beat header must be two numbers of milliseconds with a comma between, such as \
                 10000,10000\n",
            ),
            Self::NotLoggedIn => f.write_str("You must log in using CONNECT first"),
            Self::AlreadyLoggedIn => f.write_str(
                "You are logged in already; open another connection to log in as somebody else\n",
            ),
            Self::BadCommand { command } => writeln!(
                f,
                "Could not interpret command \"{}\"",
                String::from_utf8_lossy(command)
            ),
        }
    }
}

/// What ends a connection. The caller writes the ERROR ([`put_fault`]), flushes it, and closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer's bytes are not STOMP.
    Decode {
        /// What is wrong with them.
        error: DecodeError,
        /// The `receipt` of the frame at fault, unescaped, when it was read before the fault.
        receipt_id: Option<Bytes>,
    },
    /// The client did not log in in time.
    LoginTimeout,
    /// Two heart-beat intervals passed without a byte from the client.
    HeartbeatMissed,
    /// Too many frames in a row had to be refused.
    TooManyRefusals {
        /// The limit.
        limit: u32,
    },
    /// A refused frame on a connection that ends with its first ERROR.
    Refused(Box<Refused>),
}

/// A refusal and the receipt it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// The `receipt` of the refused frame, unescaped.
    pub receipt_id: Option<Bytes>,
}

impl Fault {
    /// A stable word for programs; the `code` header of the ERROR.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Decode { error, .. } => error.code(),
            Self::LoginTimeout => "login_timeout",
            Self::HeartbeatMissed => "heart_beat_missed",
            Self::TooManyRefusals { .. } => "too_many_errors",
            Self::Refused(refused) => refused.refusal.code(),
        }
    }

    /// The short text for the `message` header of the ERROR.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self {
            Self::Decode { error, .. } => error.message(),
            Self::LoginTimeout => "Login timeout",
            Self::HeartbeatMissed => "Heart-beat missed",
            Self::TooManyRefusals { .. } => "Too many errors",
            Self::Refused(refused) => refused.refusal.message(),
        }
    }

    /// The `receipt-id` of the ERROR, when the culprit asked for a receipt.
    #[must_use]
    pub fn receipt_id(&self) -> Option<&[u8]> {
        match self {
            Self::Refused(refused) => refused.receipt_id.as_deref(),
            Self::Decode { receipt_id, .. } => receipt_id.as_deref(),
            Self::LoginTimeout | Self::HeartbeatMissed | Self::TooManyRefusals { .. } => None,
        }
    }
}

/// The body of the ERROR.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode { error, .. } => writeln!(f, "{error}"),
            Self::LoginTimeout => {
                writeln!(
                    f,
                    "The time to log in is over. Send CONNECT right after connecting."
                )
            }
            Self::HeartbeatMissed => writeln!(
                f,
                "Nothing came for two heart-beat intervals. Send at least a line feed in each interval the \
                 heart-beat header promised."
            ),
            Self::TooManyRefusals { limit } => {
                writeln!(f, "{limit} frames in a row were refused.")
            }
            Self::Refused(refused) => refused.refusal.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

/// Appends the ERROR frame that tells a client why its connection ends.
pub fn put_fault(dst: &mut BytesMut, version: Version, fault: &Fault) {
    let body = fault.to_string();
    let error =
        ErrorFrame::new(fault.message(), fault.code(), &body).with_receipt_id(fault.receipt_id());
    put_error(dst, version, &error);
}
