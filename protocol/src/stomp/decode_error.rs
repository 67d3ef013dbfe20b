//! Why bytes are not a frame.

use std::fmt;

/// What is wrong with the bytes of a peer. The place where the next frame begins is lost with it, so the
/// connection ends after the ERROR that says so.
///
/// `Display` is a sentence for a person: what was wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A frame, or what its `content-length` announces, passes [`Limits::frame_bytes`](super::Limits::frame_bytes).
    FrameTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// More header lines than [`Limits::headers`](super::Limits::headers).
    TooManyHeaders {
        /// The limit, in lines.
        limit: usize,
    },
    /// A header line longer than [`Limits::header_line_bytes`](super::Limits::header_line_bytes).
    HeaderLineTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A first line that goes on past any command.
    CommandTooLong,
    /// A header line without a colon.
    MissingColon {
        /// The start of the line.
        line: String,
    },
    /// A header line that begins with its colon.
    EmptyHeaderName,
    /// A backslash that begins no escape sequence.
    BadEscape {
        /// The sequence.
        sequence: String,
    },
    /// A negative `content-length`.
    BadContentLength {
        /// The start of the value.
        value: String,
    },
    /// The byte after a body counted by `content-length` is not NUL.
    MissingNul,
    /// NUL (or a typed `^@`) before the empty line that ends the headers.
    MissingBlankLine,
    /// A CR without LF in or before a command.
    LoneCarriageReturn,
    /// A TLS handshake on a listener without TLS.
    TlsHello,
    /// An HTTP request.
    Http,
    /// An AMQP protocol header.
    Amqp,
}

impl DecodeError {
    /// A stable word for programs; the `code` header of the ERROR.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::FrameTooLarge { .. } => "frame_too_large",
            Self::TooManyHeaders { .. } => "too_many_headers",
            Self::HeaderLineTooLong { .. } => "header_line_too_long",
            Self::CommandTooLong => "command_too_long",
            Self::MissingColon { .. } => "missing_colon",
            Self::EmptyHeaderName => "empty_header_name",
            Self::BadEscape { .. } => "bad_escape",
            Self::BadContentLength { .. } => "bad_content_length",
            Self::MissingNul => "missing_nul",
            Self::MissingBlankLine => "missing_blank_line",
            Self::LoneCarriageReturn => "lone_carriage_return",
            Self::TlsHello => "tls_on_plain_listener",
            Self::Http => "http_on_stomp_listener",
            Self::Amqp => "amqp_on_stomp_listener",
        }
    }

    /// The short text for the `message` header of the ERROR.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        match self {
            Self::FrameTooLarge { .. } => "Frame too large",
            Self::TooManyHeaders { .. } => "Too many headers",
            Self::HeaderLineTooLong { .. } => "Header too long",
            Self::TlsHello | Self::Http | Self::Amqp => "Wrong protocol",
            Self::CommandTooLong
            | Self::MissingColon { .. }
            | Self::EmptyHeaderName
            | Self::BadEscape { .. }
            | Self::BadContentLength { .. }
            | Self::MissingNul
            | Self::MissingBlankLine
            | Self::LoneCarriageReturn => "Malformed frame",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameTooLarge { limit } => write!(
                f,
                "The frame is larger than {limit} bytes, command, headers and body together. Send smaller \
                 messages, or have the limit raised."
            ),
            Self::TooManyHeaders { limit } => write!(
                f,
                "The frame has more than {limit} header lines (each repeat of a name counts)."
            ),
            Self::HeaderLineTooLong { limit } => write!(
                f,
                "A header line is longer than {limit} bytes. Put large values into the body."
            ),
            Self::CommandTooLong => f.write_str(
                "The first line of a frame must be a command such as CONNECT, SEND or SUBSCRIBE, alone on \
                 its line.",
            ),
            Self::MissingColon { line } => write!(
                f,
                "The header line \"{line}\" has no colon. Header lines are name:value, and an empty line \
                 ends them."
            ),
            Self::EmptyHeaderName => {
                f.write_str("A header line begins with a colon. Header lines are name:value.")
            }
            Self::BadEscape { sequence } => write!(
                f,
                "\"{sequence}\" in a header is no escape sequence. Known are \\n, \\r, \\c (colon) and \\\\ \
                 (backslash)."
            ),
            Self::BadContentLength { value } => write!(
                f,
                "content-length is \"{value}\"; it must be the number of bytes in the body."
            ),
            Self::MissingNul => f.write_str(
                "The body is longer than its content-length says: a NUL byte must follow it. content-length \
                 counts bytes, not characters.",
            ),
            Self::MissingBlankLine => f.write_str(
                "The frame ended inside its headers. An empty line must follow the last header, then the \
                 body, then NUL (typed as ^@).",
            ),
            Self::LoneCarriageReturn => f.write_str(
                "A carriage return stands alone in a command line. Lines end with LF or with CR LF.",
            ),
            Self::TlsHello => f.write_str(
                "This looks like a TLS handshake, but the listener speaks plain STOMP. Use the TLS listener, \
                 or switch TLS off in the client.",
            ),
            Self::Http => f.write_str(
                "This looks like an HTTP request, but the listener speaks STOMP. Use the HTTP listener, or \
                 the WebSocket one for STOMP in a browser.",
            ),
            Self::Amqp => f.write_str(
                "This looks like an AMQP client, but the listener speaks STOMP. Use the AMQP listener.",
            ),
        }
    }
}

impl std::error::Error for DecodeError {}
