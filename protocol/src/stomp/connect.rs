//! A client's request to log in.

use std::fmt;

use bytes::Bytes;

use super::command::Command;
use super::frame::Frame;
use super::version::Version;

/// What a CONNECT or STOMP frame asks for (STOMP 1.2, "Connecting"). Values are bytes as they came.
///
/// `Debug` shows no passcode.
#[derive(Clone)]
pub struct ConnectRequest {
    /// The version agreed on.
    pub version: Version,
    /// `host`: the virtual host.
    pub host: Option<Bytes>,
    /// `login`: the user.
    pub login: Option<Bytes>,
    /// `passcode`: the user's secret.
    pub passcode: Option<Bytes>,
    /// `client-id`: the owner of durable subscriptions, as ActiveMQ has it.
    pub client_id: Option<Bytes>,
    /// `request-id`: answered by CONNECTED as `response-id`, as ActiveMQ has it.
    pub request_id: Option<Bytes>,
    /// Nobody asked: the first frame was another command, and logs in as the default user. No CONNECTED
    /// answers it; the frame itself follows once the login succeeded.
    pub implicit: bool,
    /// The whole frame, for further headers; an empty CONNECT when `implicit`.
    pub frame: Frame,
}

impl ConnectRequest {
    /// Reads the headers of a CONNECT or STOMP frame for which `version` was agreed on.
    ///
    /// For 1.0, blanks before values are dropped: they stand in the examples of its specification.
    pub(super) fn new(version: Version, mut frame: Frame) -> Self {
        if version == Version::V1_0 {
            frame.headers.trim_values();
        }
        let header = |name| frame.headers.get_bytes(name);
        Self {
            version,
            host: header("host"),
            login: header("login"),
            passcode: header("passcode"),
            client_id: header("client-id"),
            request_id: header("request-id"),
            implicit: false,
            frame,
        }
    }

    /// The request that stands for the missing CONNECT of a 1.0 session.
    pub(super) fn implicit() -> Self {
        Self {
            implicit: true,
            ..Self::new(Version::V1_0, Frame::new(Command::Connect))
        }
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("version", &self.version)
            .field("host", &self.host)
            .field("login", &self.login)
            .field("passcode", &self.passcode.as_ref().map(|_| "***"))
            .field("client_id", &self.client_id)
            .field("request_id", &self.request_id)
            .field("implicit", &self.implicit)
            .field("frame", &self.frame)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passcode_is_never_shown() {
        let frame = Frame::new(Command::Connect)
            .with_header("login", "alice")
            .with_header("passcode", "s3cret-word");
        let shown = format!("{:?}", ConnectRequest::new(Version::V1_2, frame));
        assert!(shown.contains("alice"), "{shown}");
        assert!(!shown.contains("s3cret-word"), "{shown}");
    }

    #[test]
    fn blanks_before_values_are_dropped_for_1_0_only() {
        let frame = || Frame::new(Command::Connect).with_header("login", " alice");
        let login = |version| ConnectRequest::new(version, frame()).login;
        assert_eq!(login(Version::V1_0).as_deref(), Some(&b"alice"[..]));
        assert_eq!(login(Version::V1_2).as_deref(), Some(&b" alice"[..]));
    }
}
