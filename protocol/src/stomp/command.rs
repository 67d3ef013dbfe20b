//! The commands of a frame.

/// What a frame asks or tells; the words of all three versions (STOMP 1.2, "Client Frames" and "Server Frames").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// CONNECT: the client logs in.
    Connect,
    /// STOMP: the same as CONNECT, since 1.1.
    Stomp,
    /// SEND: a message for a destination.
    Send,
    /// SUBSCRIBE, or the legacy `SUB`: messages of a destination are wanted.
    Subscribe,
    /// UNSUBSCRIBE, or the legacy `UNSUB`: no longer.
    Unsubscribe,
    /// BEGIN: a transaction starts.
    Begin,
    /// COMMIT: a transaction takes effect.
    Commit,
    /// ABORT: a transaction is forgotten.
    Abort,
    /// ACK: a delivery is settled.
    Ack,
    /// NACK: a delivery is refused, since 1.1.
    Nack,
    /// DISCONNECT: the client leaves.
    Disconnect,
    /// CONNECTED, from the server: login succeeded.
    Connected,
    /// MESSAGE, from the server: a delivery.
    Message,
    /// RECEIPT, from the server: what was asked with a `receipt` header is done.
    Receipt,
    /// ERROR, from the server: what was asked failed.
    Error,
    /// Any other word; the frame keeps it as `command_text`.
    Unknown,
}

impl Command {
    /// Reads a command line without its line end. Commands are case-sensitive.
    ///
    /// `SUB` and `UNSUB` are what ActiveMQ's oldest clients send.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        match text {
            b"SEND" => Self::Send,
            b"ACK" => Self::Ack,
            b"MESSAGE" => Self::Message,
            b"RECEIPT" => Self::Receipt,
            b"NACK" => Self::Nack,
            b"SUBSCRIBE" | b"SUB" => Self::Subscribe,
            b"UNSUBSCRIBE" | b"UNSUB" => Self::Unsubscribe,
            b"BEGIN" => Self::Begin,
            b"COMMIT" => Self::Commit,
            b"ABORT" => Self::Abort,
            b"CONNECT" => Self::Connect,
            b"STOMP" => Self::Stomp,
            b"DISCONNECT" => Self::Disconnect,
            b"CONNECTED" => Self::Connected,
            b"ERROR" => Self::Error,
            _ => Self::Unknown,
        }
    }

    /// The word on the wire; empty for [`Command::Unknown`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Stomp => "STOMP",
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Abort => "ABORT",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Disconnect => "DISCONNECT",
            Self::Connected => "CONNECTED",
            Self::Message => "MESSAGE",
            Self::Receipt => "RECEIPT",
            Self::Error => "ERROR",
            Self::Unknown => "",
        }
    }

    /// Whether the frame may have a body, so that its `content-length` counts (STOMP 1.2, "Body").
    #[must_use]
    pub const fn may_have_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether header lines are literal in every version: the frames that settle which version is spoken
    /// (STOMP 1.2, "Value Encoding").
    #[must_use]
    pub const fn is_literal(self) -> bool {
        matches!(self, Self::Connect | Self::Stomp | Self::Connected)
    }

    /// Whether a client may send it.
    #[must_use]
    pub const fn is_from_client(self) -> bool {
        !matches!(
            self,
            Self::Connected | Self::Message | Self::Receipt | Self::Error | Self::Unknown
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_reads_back_from_its_word() {
        for word in [
            "CONNECT",
            "STOMP",
            "SEND",
            "SUBSCRIBE",
            "UNSUBSCRIBE",
            "BEGIN",
            "COMMIT",
            "ABORT",
            "ACK",
            "NACK",
            "DISCONNECT",
            "CONNECTED",
            "MESSAGE",
            "RECEIPT",
            "ERROR",
        ] {
            assert_eq!(Command::parse(word.as_bytes()).as_str(), word);
        }
    }

    #[test]
    fn commands_are_case_sensitive_and_legacy_synonyms_are_known() {
        assert_eq!(Command::parse(b"send"), Command::Unknown);
        assert_eq!(Command::parse(b"SUB"), Command::Subscribe);
        assert_eq!(Command::parse(b"UNSUB"), Command::Unsubscribe);
    }
}
