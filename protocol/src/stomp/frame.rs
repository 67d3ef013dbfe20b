//! A frame: command, headers, body.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::command::Command;
use super::headers::Headers;

/// One STOMP frame (STOMP 1.2, "STOMP Frames").
///
/// A decoded frame owns no memory of its own: its parts are slices of the buffer it was read into, and keep
/// that buffer alive.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the frame asks or tells.
    pub command: Command,
    /// The command as it was typed, for errors about an unknown one.
    pub command_text: Bytes,
    /// The header lines.
    pub headers: Headers,
    /// The body; empty when there is none.
    pub body: Bytes,
}

impl Frame {
    /// A frame without headers and body.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self {
            command,
            command_text: Bytes::from_static(command.as_str().as_bytes()),
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    /// Adds a header line; it is escaped as the version demands when the frame is written.
    #[must_use]
    pub fn with_header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(name.as_ref(), value.as_ref());
        self
    }

    /// Sets the body. `content-length` is written by the encoder.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The value of the first header line with this name, unescaped.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.headers.get(name)
    }
}

/// Shows the command, the headers without a passcode, and the length of the body.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("command", &self.command_text.escape_ascii().to_string())
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}
